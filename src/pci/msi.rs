//! MSI (PCI 3.0, 6.8.1): 64-bit address, up to 32 vectors, each with mask and pending bit.
//!
//! The guest's copy of the registers lies in configuration space; this is the latched one, renewed after every
//! write there, whichever register and width it had. A vector that is raised while it is masked, or while the
//! function may not write to memory, is pending and goes out when nothing holds it any longer.

use super::ConfigSpace;
use super::regs::{MsiControl, capability};
use crate::bus::Width;

/// An interrupt message: one dword written to an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Where to.
    pub address: u64,
    /// What.
    pub data: u32,
}

// Registers, from the start of the capability.
const CONTROL: u8 = 0x02;
const ADDRESS: u8 = 0x04;
const ADDRESS_HIGH: u8 = 0x08;
const DATA: u8 = 0x0c;
const MASK: u8 = 0x10;
const PENDING: u8 = 0x14;
const END: u8 = 0x18;

/// The latched registers.
pub(super) struct Msi {
    // Configuration.
    at: u8,
    vectors: u32,
    // State.
    control: u16,
    message: Message,
    mask: u32,
    pending: u32,
}

impl Msi {
    /// Adds the capability for `2^log` vectors, `log` being at most 5.
    pub(super) fn declare(space: &mut ConfigSpace, log: u16) -> Self {
        let fixed = MsiControl::ADDRESS_64 | MsiControl::MASKABLE;
        let vectors = u32::MAX >> (32 - (1_u32 << log.min(5)));
        let at = space.add_capability(capability::MSI, &[0; (END - CONTROL) as usize], &[]);
        let mut set = |register: u8, value: &[u8], writable: &[u8]| {
            space.declare(at + register, value, writable);
        };
        let control = fixed.bits() | MsiControl::capable(log.min(5));
        set(
            CONTROL,
            &control.to_le_bytes(),
            &MsiControl::GUEST_WRITABLE.to_le_bytes(),
        );
        set(ADDRESS, &[0; 4], &[0xfc, 0xff, 0xff, 0xff]);
        set(ADDRESS_HIGH, &[0; 4], &[0xff; 4]);
        set(DATA, &[0; 4], &[0xff, 0xff, 0, 0]);
        set(MASK, &[0; 4], &vectors.to_le_bytes());
        Self {
            at,
            vectors,
            control,
            message: Message::default(),
            mask: 0,
            pending: 0,
        }
    }

    /// Takes over what the guest wrote.
    pub(super) fn latch(&mut self, space: &ConfigSpace) {
        let dword = |register| space.read(self.at + register, Width::Dword);
        self.control = space.read(self.at + CONTROL, Width::Word) as u16;
        self.message = Message {
            address: u64::from(dword(ADDRESS_HIGH)) << 32 | u64::from(dword(ADDRESS)),
            data: dword(DATA),
        };
        self.mask = dword(MASK);
        if !self.enabled() {
            self.pending = 0;
        }
    }

    pub(super) fn enabled(&self) -> bool {
        self.control & MsiControl::ENABLE.bits() != 0
    }

    /// Where the pending bits are in configuration space, and what they are.
    pub(super) fn pending(&self) -> (u8, u32) {
        (self.at + PENDING, self.pending)
    }

    /// Raises `vector`. A guest may have granted fewer vectors than the function asked for; they are then shared.
    pub(super) fn raise(&mut self, vector: u16) {
        if self.enabled() {
            self.pending |= 1 << (u32::from(vector) & self.low_bits()) & self.vectors;
        }
    }

    /// The next message that may go out.
    pub(super) fn take(&mut self) -> Option<Message> {
        let ready = self.pending & !self.mask;
        if !self.enabled() || ready == 0 {
            return None;
        }
        let vector = ready.trailing_zeros();
        self.pending &= !(1 << vector);
        Some(Message {
            address: self.message.address,
            data: self.message.data & !self.low_bits() | vector & self.low_bits(),
        })
    }

    pub(super) fn reset(&mut self) {
        self.pending = 0;
    }

    /// The bits of the data that the function replaces by the vector.
    fn low_bits(&self) -> u32 {
        (1 << MsiControl::enabled_log(self.control).min(5)) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::tests::HEADER;
    use super::*;

    fn msi(log: u16) -> (ConfigSpace, Msi) {
        let mut space = ConfigSpace::new(&HEADER);
        let msi = Msi::declare(&mut space, log);
        space.write(msi.at + ADDRESS, Width::Dword, 0xfee0_1003);
        space.write(msi.at + DATA, Width::Dword, 0xabcd_4041);
        (space, msi)
    }

    fn write(space: &mut ConfigSpace, msi: &mut Msi, register: u8, width: Width, value: u32) {
        space.write(msi.at + register, width, value);
        msi.latch(space);
    }

    #[test]
    fn a_byte_write_to_the_control_word_enables() {
        let (mut space, mut msi) = msi(0);
        msi.raise(0);
        write(&mut space, &mut msi, CONTROL, Width::Byte, 1);
        assert_eq!(msi.take(), None, "raised while disabled");
        msi.raise(0);
        let sent = Message {
            address: 0xfee0_1000,
            data: 0x4041,
        };
        assert_eq!(msi.take(), Some(sent));
        assert_eq!(msi.take(), None);
    }

    #[test]
    fn a_masked_vector_waits_and_takes_the_new_address() {
        let (mut space, mut msi) = msi(0);
        write(&mut space, &mut msi, CONTROL, Width::Word, 1);
        write(&mut space, &mut msi, MASK, Width::Dword, 1);
        msi.raise(0);
        assert_eq!(msi.take(), None);
        assert_eq!(msi.pending().1, 1);
        write(&mut space, &mut msi, ADDRESS, Width::Dword, 0xfee0_2000);
        write(&mut space, &mut msi, MASK, Width::Byte, 0);
        assert_eq!(msi.take().map(|m| m.address), Some(0xfee0_2000));
    }

    /// Drivers enable first and aim later, and move the aim while it is in use.
    #[test]
    fn address_and_data_count_from_their_write_whatever_its_width() {
        for width in [Width::Byte, Width::Word, Width::Dword] {
            let (mut space, mut msi) = msi(0);
            write(&mut space, &mut msi, CONTROL, Width::Byte, 1);
            for (round, address, data) in [(1, 0xfee1_2004, 0x41), (2, 0xfee3_4000, 0x4092)] {
                let bytes = u32::from(width as u8);
                for (register, value) in [(ADDRESS, address), (ADDRESS_HIGH, round), (DATA, data)] {
                    for at in (0..4).step_by(width as usize) {
                        let piece = (value >> (8 * at)) & (u64::MAX >> (64 - 8 * bytes)) as u32;
                        write(&mut space, &mut msi, register + at, width, piece);
                    }
                }
                msi.raise(0);
                let sent = Message {
                    address: u64::from(round) << 32 | u64::from(address),
                    data,
                };
                assert_eq!(msi.take(), Some(sent), "{width:?}");
            }
        }
    }

    #[test]
    fn vectors_are_shared_where_few_are_granted() {
        let (mut space, mut msi) = msi(5);
        write(&mut space, &mut msi, CONTROL, Width::Word, 1 | 1 << 4);
        msi.raise(31);
        assert_eq!(msi.take().map(|m| m.data), Some(0x4041));
        msi.raise(30);
        assert_eq!(msi.take().map(|m| m.data), Some(0x4040));
        write(&mut space, &mut msi, CONTROL, Width::Word, 0xffff);
        msi.raise(u16::MAX);
        assert_eq!(msi.take().map(|m| m.data), Some(0x405f));
    }
}
