//! The I/O APIC: 24 pins, version 0x20 (Intel 82093AA data sheet; the EOI register and its version: Intel I/O
//! Controller Hub data sheets since ICH5).
//!
//! A plain state machine. It is asked pin by pin whether it has a message (`ready`) and told what became of it
//! (`sent`): Remote IRR is only set by a message that a LAPIC took, so that a refused one is offered again.
//!
//! Not modelled: polarity is kept but means nothing, since a line carries assertion and not voltage; delivery
//! status is always idle; the arbitration id is the id. An edge at a masked pin is lost, as the data sheet says.
//! Locks: none, the hub has one.

use super::mailbox::{Delivery, Destination, Message};
use crate::layout::{IOAPIC_ID, IOAPIC_PINS, IOAPIC_VERSION};

/// A register reached through the index register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reg {
    /// IOAPICID, RW (3.2.1).
    Id,
    /// IOAPICVER, RO (3.2.2).
    Version,
    /// IOAPICARB, RO (3.2.3).
    Arbitration,
    /// Low word of a pin's redirection entry, RW (3.2.4).
    EntryLow(usize),
    /// High word of a pin's redirection entry, RW.
    EntryHigh(usize),
}

impl Reg {
    fn decode(index: u8) -> Option<Self> {
        let pin = usize::from(index.wrapping_sub(0x10) / 2);
        Some(match index {
            0 => Self::Id,
            1 => Self::Version,
            2 => Self::Arbitration,
            0x10.. if pin >= PINS => return None,
            0x10.. if index & 1 == 0 => Self::EntryLow(pin),
            0x10.. => Self::EntryHigh(pin),
            _ => return None,
        })
    }
}

/// Redirection table entry, RW (3.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry(u64);

impl Entry {
    const RESET: Self = Self(Self::MASK);
    const REMOTE_IRR: u64 = 1 << 14;
    const LEVEL: u64 = 1 << 15;
    const MASK: u64 = 1 << 16;
    /// Vector, delivery and destination mode, polarity, trigger, mask, destination.
    const GUEST_WRITABLE: u64 = 0xff << 56 | Self::MASK | Self::LEVEL | 1 << 13 | 0xfff;

    fn vector(self) -> u8 {
        self.0 as u8
    }

    fn delivery(self) -> Option<Delivery> {
        Delivery::decode((self.0 >> 8) as u32).filter(|&mode| mode != Delivery::StartUp)
    }

    fn is_masked(self) -> bool {
        self.0 & Self::MASK != 0
    }

    /// Level triggered: the other delivery modes are edges whatever the bit says.
    fn is_level(self) -> bool {
        let may_be = matches!(
            self.delivery(),
            Some(Delivery::Fixed | Delivery::LowestPriority)
        );
        may_be && self.0 & Self::LEVEL != 0
    }

    fn remote_irr(self) -> bool {
        self.0 & Self::REMOTE_IRR != 0
    }

    fn message(self) -> Option<Message> {
        Some(Message {
            to: Destination::short(self.0 >> 11 & 1 != 0, (self.0 >> 56) as u8),
            delivery: self.delivery()?,
            vector: self.vector(),
            level: self.is_level(),
        })
    }

    /// Writes the bits of `mask`. An edge has no Remote IRR: kernels clear it by a turn through edge mode.
    fn write(&mut self, value: u64, mask: u64) {
        let writable = Self::GUEST_WRITABLE & mask;
        self.0 = self.0 & !writable | value & writable;
        if !self.is_level() {
            self.0 &= !Self::REMOTE_IRR;
        }
    }
}

/// How many pins there are.
pub const PINS: usize = IOAPIC_PINS as usize;

/// The chip.
pub struct Ioapic {
    // Wires: what the drivers of the pins say. They survive reset.
    levels: [bool; PINS],
    // State.
    index: u8,
    id: u8,
    entries: [Entry; PINS],
    edges: [bool; PINS],
}

impl Default for Ioapic {
    fn default() -> Self {
        Self {
            levels: [false; PINS],
            index: 0,
            id: IOAPIC_ID,
            entries: [Entry::RESET; PINS],
            edges: [false; PINS],
        }
    }
}

impl Ioapic {
    /// Returns to the power-on state.
    pub fn reset(&mut self) {
        let Self {
            levels: _,
            index,
            id,
            entries,
            edges,
        } = self;
        (*index, *id) = (0, IOAPIC_ID);
        *entries = [Entry::RESET; PINS];
        *edges = [false; PINS];
    }

    /// A pin is now driven or not. Pins that are not there do nothing.
    pub fn set_pin(&mut self, pin: usize, level: bool) {
        if pin >= PINS || self.levels[pin] == level {
            return;
        }
        self.levels[pin] = level;
        let entry = self.entries[pin];
        if level && !entry.is_level() && !entry.is_masked() {
            self.edges[pin] = true;
        }
    }

    /// The message that a pin wants sent now.
    pub fn ready(&self, pin: usize) -> Option<Message> {
        let entry = *self.entries.get(pin)?;
        let wants = if entry.is_level() {
            self.levels[pin] && !entry.remote_irr()
        } else {
            self.edges[pin]
        };
        entry.message().filter(|_| wants && !entry.is_masked())
    }

    /// The pin's message went out, and somebody took it or not. A level is offered again, an edge is over.
    pub fn sent(&mut self, pin: usize, taken: bool) {
        let Some(entry) = self.entries.get_mut(pin) else {
            return;
        };
        if entry.is_level() && taken {
            entry.0 |= Entry::REMOTE_IRR;
        }
        self.edges[pin] = false;
    }

    /// Level-triggered interrupts with this vector have been served, or were dropped by the LAPIC that took them.
    pub fn end_of_interrupt(&mut self, vector: u8) {
        for entry in &mut self.entries {
            if entry.is_level() && entry.vector() == vector {
                entry.0 &= !Entry::REMOTE_IRR;
            }
        }
    }

    /// Reads a dword of the page.
    pub fn read(&self, offset: u64) -> u32 {
        match offset {
            SELECT => self.index.into(),
            WINDOW => self.read_indexed(),
            _ => 0,
        }
    }

    /// Writes a dword of the page. Pins may be ready afterwards.
    pub fn write(&mut self, offset: u64, value: u32) {
        match offset {
            SELECT => self.index = value as u8,
            WINDOW => self.write_indexed(value),
            EOI => self.end_of_interrupt(value as u8),
            _ => {}
        }
    }

    fn read_indexed(&self) -> u32 {
        match Reg::decode(self.index) {
            Some(Reg::Id | Reg::Arbitration) => u32::from(self.id) << 24,
            Some(Reg::Version) => VERSION,
            Some(Reg::EntryLow(pin)) => self.entries[pin].0 as u32,
            Some(Reg::EntryHigh(pin)) => (self.entries[pin].0 >> 32) as u32,
            None => 0,
        }
    }

    fn write_indexed(&mut self, value: u32) {
        let wide = u64::from(value);
        match Reg::decode(self.index) {
            Some(Reg::Id) => self.id = (value >> 24) as u8 & 0xf,
            Some(Reg::EntryLow(pin)) => {
                self.entries[pin].write(wide, 0xffff_ffff);
                if self.entries[pin].is_masked() {
                    self.edges[pin] = false;
                }
            }
            Some(Reg::EntryHigh(pin)) => self.entries[pin].write(wide << 32, 0xffff_ffff << 32),
            Some(Reg::Version | Reg::Arbitration) | None => {}
        }
    }
}

// Offsets in the page (3.1; EOI: I/O Controller Hub).
const SELECT: u64 = 0x00;
const WINDOW: u64 = 0x10;
const EOI: u64 = 0x40;

/// Version 0x20, the number of the last pin in bits 23:16.
const VERSION: u32 = IOAPIC_VERSION as u32 | (IOAPIC_PINS - 1) << 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(ioapic: &mut Ioapic, pin: u32, value: u64) {
        set(ioapic, 0x11 + 2 * pin, (value >> 32) as u32);
        set(ioapic, 0x10 + 2 * pin, value as u32);
    }

    fn set(ioapic: &mut Ioapic, index: u32, value: u32) {
        ioapic.write(SELECT, index);
        ioapic.write(WINDOW, value);
    }

    fn get(ioapic: &mut Ioapic, index: u32) -> u32 {
        ioapic.write(SELECT, index);
        ioapic.read(WINDOW)
    }

    #[test]
    fn it_says_what_it_is() {
        let mut ioapic = Ioapic::default();
        assert_eq!(get(&mut ioapic, 1), 0x0017_0020);
        set(&mut ioapic, 0, 0xff00_0000);
        assert_eq!(get(&mut ioapic, 0), 0x0f00_0000);
        assert_eq!(get(&mut ioapic, 2), 0x0f00_0000);
        for none in [3, 0xf, 0x40, 0xff] {
            set(&mut ioapic, none, u32::MAX);
            assert_eq!(get(&mut ioapic, none), 0, "{none:#x}");
        }
        assert_eq!(get(&mut ioapic, 0x3e), 1 << 16);
    }

    #[test]
    fn an_edge_is_one_message() {
        let mut ioapic = Ioapic::default();
        entry(&mut ioapic, 4, 0x0300_0000_0000_0834);
        ioapic.set_pin(4, true);
        let expected = Message {
            to: Destination::Logical(3),
            delivery: Delivery::Fixed,
            vector: 0x34,
            level: false,
        };
        assert_eq!(ioapic.ready(4), Some(expected));
        ioapic.sent(4, false);
        assert_eq!(ioapic.ready(4), None);
        ioapic.set_pin(4, true);
        assert_eq!(ioapic.ready(4), None);
        ioapic.set_pin(4, false);
        ioapic.set_pin(4, true);
        assert!(ioapic.ready(4).is_some());
    }

    #[test]
    fn an_edge_at_a_masked_pin_is_lost() {
        let mut ioapic = Ioapic::default();
        ioapic.set_pin(4, true);
        entry(&mut ioapic, 4, 0x34);
        assert_eq!(ioapic.ready(4), None);
    }

    #[test]
    fn a_level_comes_again_after_its_end() {
        let mut ioapic = Ioapic::default();
        ioapic.set_pin(17, true);
        entry(&mut ioapic, 17, 0x8071);
        assert!(ioapic.ready(17).unwrap().level);
        ioapic.sent(17, true);
        assert_eq!(ioapic.ready(17), None);
        assert_eq!(get(&mut ioapic, 0x10 + 34), 0xc071);
        ioapic.end_of_interrupt(0x72);
        assert_eq!(ioapic.ready(17), None);
        ioapic.write(EOI, 0x71);
        assert!(ioapic.ready(17).is_some());
        ioapic.set_pin(17, false);
        assert_eq!(ioapic.ready(17), None);
    }

    #[test]
    fn a_refused_level_stays_ready() {
        let mut ioapic = Ioapic::default();
        ioapic.set_pin(17, true);
        entry(&mut ioapic, 17, 0x8071);
        ioapic.sent(17, false);
        assert!(ioapic.ready(17).is_some());
    }

    #[test]
    fn a_turn_through_edge_mode_clears_remote_irr() {
        let mut ioapic = Ioapic::default();
        ioapic.set_pin(17, true);
        entry(&mut ioapic, 17, 0x8071);
        ioapic.sent(17, true);
        entry(&mut ioapic, 17, 0x1_0071);
        entry(&mut ioapic, 17, 0x8071);
        assert!(ioapic.ready(17).is_some());
    }

    #[test]
    fn reserved_deliveries_say_nothing_and_nmi_is_an_edge() {
        let mut ioapic = Ioapic::default();
        for mode in [3, 6] {
            entry(&mut ioapic, 5, 0x8071 | mode << 8);
            ioapic.set_pin(5, false);
            ioapic.set_pin(5, true);
            assert_eq!(ioapic.ready(5), None);
        }
        entry(&mut ioapic, 5, 0x8400);
        ioapic.set_pin(5, false);
        ioapic.set_pin(5, true);
        assert_eq!(ioapic.ready(5).unwrap().delivery, Delivery::Nmi);
        ioapic.sent(5, true);
        assert_eq!(ioapic.ready(5), None);
    }

    #[test]
    fn reset_keeps_the_wires() {
        let mut ioapic = Ioapic::default();
        ioapic.set_pin(17, true);
        entry(&mut ioapic, 17, 0x8071);
        ioapic.reset();
        assert_eq!(ioapic.ready(17), None);
        entry(&mut ioapic, 17, 0x8071);
        assert!(ioapic.ready(17).is_some());
    }
}
