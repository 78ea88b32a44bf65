//! High precision event timer ("IA-PC HPET Specification", revision 1.0a; section numbers are its own): a 64-bit counter
//! at 100 MHz and three comparators, each one-shot or periodic, edge or level triggered, by pin or by message.
//!
//! Where reality is kinder than the specification: a comparator that is set to a value just passed (by an eighth of a
//! round at most) matches at once, where the chip would let a whole round of the counter go by. Where time is late by several periods, the
//! missed matches give one interrupt. Only accesses of 32 and 64 bits are for this chip.
//!
//! Legacy replacement cuts the 8254 and the RTC off their interrupts: each of them drives a `Gate`, which this chip
//! closes.
//!
//! Lock rank: a gate's lock comes after the slots and before the hub.

mod timers;

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use timers::{PINS, TIMERS, Timers};

use crate::bus::{Access, Device, Line, LineSink, Nanos, Width};

/// A place where a wire can be cut: what drives it goes on to `line` while it is open.
pub struct Gate {
    line: Line,
    state: Mutex<GateState>,
}

struct GateState {
    level: bool,
    open: bool,
}

impl Gate {
    /// An open gate before `line`. `Line::new(gate, 0)` is its input.
    pub fn new(line: Line) -> Arc<Self> {
        Arc::new(Self {
            line,
            state: Mutex::new(GateState {
                level: false,
                open: true,
            }),
        })
    }

    /// Opens or closes it.
    pub fn set_open(&self, open: bool) {
        self.change(|state| state.open = open);
    }

    fn change(&self, change: impl FnOnce(&mut GateState)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        self.line.set(state.level && state.open);
    }
}

impl LineSink for Gate {
    fn drive(&self, _driver: u32, level: bool) {
        self.change(|state| state.level = level);
    }
}

/// Where an HPET's interrupts go.
pub struct HpetWires {
    /// ISA interrupts 0 and 8, driven by comparators 0 and 1 in legacy replacement.
    pub legacy: [Line; 2],
    /// The gates of the 8254 and of the RTC.
    pub gates: [Arc<Gate>; 2],
    /// The I/O APIC's pins 20 to 23.
    pub pins: [Line; 4],
    /// Sends a message-signalled interrupt: address and data.
    pub message: Box<dyn Fn(u64, u32) + Send>,
}

/// The chip on the bus: one region of 1 KiB, accesses of 32 and 64 bits.
pub struct Hpet {
    wires: HpetWires,
    timers: Timers,
}

impl Hpet {
    /// The I/O APIC pins behind `HpetWires::pins`.
    pub const PINS: Range<u8> = PINS;

    /// A timer with these wires, as after power-on.
    pub fn new(wires: HpetWires) -> Self {
        let timers = Timers::new();
        Self { wires, timers }
    }

    fn sync(&mut self) {
        let fired = self.timers.take_fired();
        let legacy = self.timers.replaces_legacy();
        for gate in &self.wires.gates {
            gate.set_open(!legacy);
        }
        for n in 0..TIMERS {
            let fired = fired & 1 << n != 0 && self.timers.interrupts(n);
            if legacy && n < 2 {
                self.drive_legacy(n, fired);
            } else if fired && !self.timers.is_level(n) {
                self.pulse(n);
            }
        }
        if !legacy {
            self.wires.legacy.iter().for_each(|line| line.set(false));
        }
        for pin in PINS {
            self.pin(pin).set(self.level(pin));
        }
    }

    /// Comparators 0 and 1 in legacy replacement. An edge stays on the wire until the next, since the 8259 wants its
    /// request held until it is acknowledged.
    fn drive_legacy(&self, n: usize, fired: bool) {
        let line = &self.wires.legacy[n];
        if self.timers.is_level(n) {
            line.set(self.timers.asserted(n));
        } else if !self.timers.interrupts(n) {
            line.set(false);
        } else if fired {
            line.set(false);
            line.set(true);
        }
    }

    /// An edge-triggered interrupt: a message, or a pulse on a pin.
    fn pulse(&self, n: usize) {
        if let Some((address, data)) = self.timers.message(n) {
            (self.wires.message)(address, data);
        } else if PINS.contains(&self.timers.route(n)) {
            self.pin(self.timers.route(n)).set(true);
        }
    }

    /// Whether a level-triggered comparator holds `pin`.
    fn level(&self, pin: u8) -> bool {
        (0..TIMERS).any(|n| {
            let replaced = self.timers.replaces_legacy() && n < 2;
            let by_pin = !replaced && self.timers.message(n).is_none();
            by_pin && self.timers.route(n) == pin && self.timers.asserted(n)
        })
    }

    fn pin(&self, pin: u8) -> &Line {
        let pins = &self.wires.pins;
        &pins[usize::from(pin.wrapping_sub(PINS.start)) % pins.len()]
    }
}

impl Device for Hpet {
    fn read(&mut self, access: Access) -> u64 {
        self.timers.advance(access.now);
        self.sync();
        let register = self.timers.read(access.offset);
        register >> (8 * (access.offset & 7))
    }

    fn write(&mut self, access: Access, value: u64) {
        self.timers.advance(access.now);
        let shift = 8 * (access.offset & 7);
        let width = match access.width {
            Width::Qword => Width::Qword,
            _ => Width::Dword,
        };
        let mask = width.ones() << shift;
        self.timers.write(access.offset, value << shift, mask);
        // A comparator that was set to now, or just missed, matches in the same breath.
        self.timers.advance(access.now);
        self.sync();
    }

    fn deadline(&self) -> Option<Nanos> {
        self.timers.deadline()
    }

    fn advance(&mut self, now: Nanos) {
        self.timers.advance(now);
        self.sync();
    }

    fn reset(&mut self) {
        self.timers.reset();
        self.sync();
    }
}

#[cfg(test)]
mod tests;
