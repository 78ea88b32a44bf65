//! MSI-X (PCI 3.0, 6.8.2): a table of messages, each with a mask, and the pending bit array, in a BAR of their own.
//!
//! Nothing is latched: a message is read from the table when it goes out, so that a change of address or data
//! counts from the moment it is written. A vector that is raised while the entry or the function is masked, or while
//! the function may not write to memory, is pending and goes out when nothing holds it any longer. Table and array
//! take aligned dwords and qwords; other writes are ignored, as the specification leaves them undefined.

use super::ConfigSpace;
use super::msi::Message;
use super::regs::{MsixControl, capability};
use crate::bus::Width;

const CONTROL: u8 = 0x02;
/// Bytes of a table entry: address, address above, data, vector control.
const ENTRY: u64 = 16;
/// Vector control: the mask bit, the only one that exists.
const MASKED: u32 = 1;

/// Where table and pending bits are.
#[derive(Clone, Copy, Debug)]
pub struct MsixPlace {
    /// The BAR that holds both.
    pub bar: u8,
    /// Offset of the table, a multiple of 8.
    pub table: u32,
    /// Offset of the pending bits, a multiple of 8.
    pub pending: u32,
}

#[derive(Clone, Copy)]
struct Entry {
    message: Message,
    control: u32,
}

impl Entry {
    const RESET: Self = Self {
        message: Message {
            address: 0,
            data: 0,
        },
        control: MASKED,
    };
}

/// The table and the latched control word.
pub(super) struct Msix {
    // Configuration.
    at: u8,
    place: MsixPlace,
    // State.
    control: MsixControl,
    entries: Vec<Entry>,
    pending: Vec<u64>,
}

impl Msix {
    /// Adds the capability for `vectors` vectors, 1 to 2048.
    pub(super) fn declare(space: &mut ConfigSpace, vectors: u16, place: MsixPlace) -> Self {
        let vectors = vectors.clamp(1, 2048);
        let mut body = [0; 10];
        body[0..2].copy_from_slice(&(vectors - 1).to_le_bytes());
        body[2..6].copy_from_slice(&(place.table | u32::from(place.bar)).to_le_bytes());
        body[6..10].copy_from_slice(&(place.pending | u32::from(place.bar)).to_le_bytes());
        let writable = MsixControl::GUEST_WRITABLE.bits().to_le_bytes();
        Self {
            at: space.add_capability(capability::MSIX, &body, &writable),
            place,
            control: MsixControl::empty(),
            entries: vec![Entry::RESET; usize::from(vectors)],
            pending: vec![0; usize::from(vectors).div_ceil(64)],
        }
    }

    /// Takes over what the guest wrote to the control word.
    pub(super) fn latch(&mut self, space: &ConfigSpace) {
        let raw = space.read(self.at + CONTROL, Width::Word) as u16;
        self.control = MsixControl::from_bits_truncate(raw);
        if !self.enabled() {
            self.pending.fill(0);
        }
    }

    pub(super) fn enabled(&self) -> bool {
        self.control.contains(MsixControl::ENABLE)
    }

    /// Raises `vector`; one that is not in the table is nothing.
    pub(super) fn raise(&mut self, vector: u16) {
        let vector = usize::from(vector);
        if self.enabled() && vector < self.entries.len() {
            self.pending[vector / 64] |= 1 << (vector % 64);
        }
    }

    /// The next message that may go out.
    pub(super) fn take(&mut self) -> Option<Message> {
        if !self.enabled() || self.control.contains(MsixControl::FUNCTION_MASK) {
            return None;
        }
        for (index, word) in self.pending.iter_mut().enumerate() {
            let mut left = *word;
            while left != 0 {
                let bit = left.trailing_zeros();
                left &= left - 1;
                let entry = &self.entries[64 * index + bit as usize];
                if entry.control & MASKED == 0 {
                    *word &= !(1 << bit);
                    return Some(entry.message);
                }
            }
        }
        None
    }

    /// Reads from the BAR: all ones where there is neither table nor pending bits.
    pub(super) fn read(&self, offset: u64, width: Width) -> u64 {
        match width {
            Width::Qword if offset.is_multiple_of(8) => {
                u64::from(self.dword(offset + 4)) << 32 | u64::from(self.dword(offset))
            }
            Width::Dword if offset.is_multiple_of(4) => u64::from(self.dword(offset)),
            Width::Byte | Width::Word if offset % 4 + width.bytes() <= 4 => {
                u64::from(self.dword(offset & !3)) >> (8 * (offset % 4)) & width.ones()
            }
            _ => width.ones(),
        }
    }

    /// Writes to the BAR.
    pub(super) fn write(&mut self, offset: u64, width: Width, value: u64) {
        match width {
            Width::Qword if offset.is_multiple_of(8) => {
                self.set_dword(offset, value as u32);
                self.set_dword(offset + 4, (value >> 32) as u32);
            }
            Width::Dword if offset.is_multiple_of(4) => self.set_dword(offset, value as u32),
            _ => {}
        }
    }

    pub(super) fn reset(&mut self) {
        let Self {
            at: _,
            place: _,
            control,
            entries,
            pending,
        } = self;
        *control = MsixControl::empty();
        entries.fill(Entry::RESET);
        pending.fill(0);
    }

    fn dword(&self, offset: u64) -> u32 {
        if let Some((index, register)) = self.entry(offset) {
            let entry = &self.entries[index];
            return match register {
                0 => entry.message.address as u32,
                4 => (entry.message.address >> 32) as u32,
                8 => entry.message.data,
                _ => entry.control,
            };
        }
        let bits = offset
            .checked_sub(u64::from(self.place.pending))
            .and_then(|at| Some((self.pending.get(usize::try_from(at / 8).ok()?)?, at % 8)));
        bits.map_or(u32::MAX, |(word, at)| (word >> (8 * at)) as u32)
    }

    fn set_dword(&mut self, offset: u64, value: u32) {
        let Some((index, register)) = self.entry(offset) else {
            return;
        };
        let entry = &mut self.entries[index];
        let address = &mut entry.message.address;
        match register {
            0 => *address = *address & !0xffff_ffff | u64::from(value & !3),
            4 => *address = *address & 0xffff_ffff | u64::from(value) << 32,
            8 => entry.message.data = value,
            _ => entry.control = value & MASKED,
        }
    }

    /// The entry at `offset`, and the register in it.
    fn entry(&self, offset: u64) -> Option<(usize, u64)> {
        let at = offset.checked_sub(u64::from(self.place.table))?;
        let index = usize::try_from(at / ENTRY).ok()?;
        (index < self.entries.len()).then_some((index, at % ENTRY))
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::tests::HEADER;
    use super::*;
    use proptest::prelude::*;

    const PLACE: MsixPlace = MsixPlace {
        bar: 1,
        table: 0,
        pending: 0x800,
    };

    fn msix(vectors: u16) -> (ConfigSpace, Msix) {
        let mut space = ConfigSpace::new(&HEADER);
        let msix = Msix::declare(&mut space, vectors, PLACE);
        (space, msix)
    }

    fn control(space: &mut ConfigSpace, msix: &mut Msix, bits: MsixControl) {
        // The byte that holds both bits: drivers may write it alone.
        space.write(msix.at + 3, Width::Byte, u32::from(bits.bits() >> 8));
        msix.latch(space);
    }

    #[test]
    fn the_capability_tells_table_and_pending_bits() {
        let (space, msix) = msix(3);
        assert_eq!(space.read(msix.at + 2, Width::Word), 2);
        assert_eq!(space.read(msix.at + 4, Width::Dword), 1);
        assert_eq!(space.read(msix.at + 8, Width::Dword), 0x801);
    }

    #[test]
    fn what_is_masked_stays_pending_and_goes_out_later() {
        let (mut space, mut msix) = msix(3);
        control(&mut space, &mut msix, MsixControl::ENABLE);
        msix.raise(2);
        assert_eq!(msix.take(), None);
        assert_eq!(msix.read(0x800, Width::Qword), 4);
        assert_eq!(msix.read(0x804, Width::Dword), 0);
        msix.write(0x20, Width::Qword, 0xfee0_3000);
        msix.write(0x28, Width::Dword, 0x55);
        msix.write(0x2c, Width::Dword, 0);
        control(&mut space, &mut msix, MsixControl::all());
        assert_eq!(msix.take(), None, "function mask");
        control(&mut space, &mut msix, MsixControl::ENABLE);
        let sent = Message {
            address: 0xfee0_3000,
            data: 0x55,
        };
        assert_eq!(msix.take(), Some(sent));
        assert_eq!(msix.read(0x800, Width::Qword), 0);
        assert_eq!(msix.take(), None);
    }

    #[test]
    fn an_entry_counts_from_its_write_by_dwords_and_by_qwords() {
        let (mut space, mut msix) = msix(2);
        control(&mut space, &mut msix, MsixControl::ENABLE);
        for (round, width) in [(1, Width::Dword), (2, Width::Qword), (3, Width::Dword)] {
            let words = [0xfee0_1000 + (round << 12), 0, 0x40 + round, 0];
            for at in (0..4).step_by(width as usize / 4) {
                let value = match width {
                    Width::Qword => words[at + 1] << 32 | words[at],
                    _ => words[at],
                };
                msix.write(0x10 + 4 * at as u64, width, value);
            }
            msix.raise(1);
            let sent = Message {
                address: words[0],
                data: words[2] as u32,
            };
            assert_eq!(msix.take(), Some(sent), "{width:?}");
        }
        // Raised while masked, aimed elsewhere meanwhile: it goes to the new place.
        msix.write(0x1c, Width::Dword, 1);
        msix.raise(1);
        msix.raise(1);
        assert_eq!(msix.take(), None);
        msix.write(0x10, Width::Dword, 0xfee0_9000);
        msix.write(0x1c, Width::Dword, 0);
        assert_eq!(msix.take().map(|sent| sent.address), Some(0xfee0_9000));
        assert_eq!(msix.take(), None);
    }

    #[test]
    fn masked_entries_do_not_hold_back_others() {
        let (mut space, mut msix) = msix(70);
        control(&mut space, &mut msix, MsixControl::ENABLE);
        msix.write(69 * 16 + 12, Width::Dword, 0);
        msix.write(69 * 16 + 8, Width::Dword, 69);
        for vector in [0, 63, 64, 69, 70, u16::MAX] {
            msix.raise(vector);
        }
        assert_eq!(msix.take().map(|m| m.data), Some(69));
        assert_eq!(msix.take(), None);
        assert_eq!(msix.read(0x800, Width::Qword), 1 | 1 << 63);
        assert_eq!(msix.read(0x808, Width::Dword), 1);
    }

    proptest! {
        #[test]
        fn any_access_is_harmless(
            accesses in prop::collection::vec((any::<u64>(), 0_u64..0x1100, 0_u32..4), 0..64)
        ) {
            let (mut space, mut msix) = msix(9);
            control(&mut space, &mut msix, MsixControl::ENABLE);
            for (value, offset, width) in accesses {
                let width = Width::from_bytes(1 << width).unwrap();
                msix.write(offset, width, value);
                msix.raise(value as u16);
                prop_assert!(msix.read(offset, width) <= width.ones());
                msix.take();
            }
        }
    }
}
