//! A function's configuration space: 256 bytes, a mask of the bits that a guest can change, and what the base
//! address registers decode as a consequence.

use super::bar::{Bar, BarKind, Window};
use super::regs::{Command, Status, reg};
use crate::bus::Width;

const SIZE: usize = 256;
/// Where the first capability goes: right behind the header.
const FIRST_CAPABILITY: usize = 0x40;

/// What tells one function from another: the read-only part of the header.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Class, subclass and programming interface: 0x060000 is a host bridge.
    pub class: u32,
    /// Revision id.
    pub revision: u8,
    /// Subsystem vendor id.
    pub subsystem_vendor: u16,
    /// Subsystem id.
    pub subsystem: u16,
    /// 0 where the function has no INTx#, 1 for INTA# to 4 for INTD#.
    pub interrupt_pin: u8,
    /// The interrupt line register as firmware fills it.
    pub interrupt_line: u8,
}

/// The registers themselves. A device declares BARs, capabilities and bits of its own once, then the guest plays
/// with them inside the masks.
pub struct ConfigSpace {
    // Configuration.
    bars: [Option<Bar>; 6],
    writable: [u8; SIZE],
    power_on: [u8; SIZE],
    end: usize,
    last_capability: usize,
    // State.
    bytes: [u8; SIZE],
}

impl ConfigSpace {
    /// A header without BARs and capabilities.
    pub fn new(header: &Header) -> Self {
        let mut space = Self {
            bars: [None; 6],
            writable: [0; SIZE],
            power_on: [0; SIZE],
            end: FIRST_CAPABILITY,
            last_capability: 0,
            bytes: [0; SIZE],
        };
        let class = header.class.to_le_bytes();
        space.declare(reg::VENDOR, &header.vendor.to_le_bytes(), &[]);
        space.declare(reg::DEVICE, &header.device.to_le_bytes(), &[]);
        space.declare(
            reg::COMMAND,
            &Command::RESET.bits().to_le_bytes(),
            &Command::GUEST_WRITABLE.bits().to_le_bytes(),
        );
        space.declare(
            reg::REVISION,
            &[header.revision, class[0], class[1], class[2]],
            &[],
        );
        space.declare(reg::CACHE_LINE, &[0], &[0xff]);
        space.declare(
            reg::SUBSYSTEM_VENDOR,
            &header.subsystem_vendor.to_le_bytes(),
            &[],
        );
        space.declare(reg::SUBSYSTEM, &header.subsystem.to_le_bytes(), &[]);
        space.declare(reg::INTERRUPT_LINE, &[header.interrupt_line], &[0xff]);
        space.declare(reg::INTERRUPT_PIN, &[header.interrupt_pin], &[]);
        space
    }

    /// Declares BAR `index`, without an address yet.
    pub fn declare_bar(&mut self, index: usize, bar: Bar) {
        self.bars[index] = Some(bar);
        let registers = if bar.kind == BarKind::Memory64 { 8 } else { 4 };
        self.declare(
            bar_offset(index),
            &bar.type_bits().to_le_bytes()[..registers],
            &bar.writable().to_le_bytes()[..registers],
        );
    }

    /// Appends a capability whose bytes from the third on are `body`; bits in `writable` belong to the guest.
    /// Returns its offset.
    pub fn add_capability(&mut self, id: u8, body: &[u8], writable: &[u8]) -> u8 {
        let at = self.end;
        assert!(at + 2 + body.len() <= SIZE, "capabilities fill 192 bytes");
        if self.last_capability == 0 {
            self.declare(reg::CAPABILITIES, &[at as u8], &[]);
            self.declare(
                reg::STATUS,
                &Status::CAPABILITIES.bits().to_le_bytes(),
                &[0; 2],
            );
        } else {
            self.declare(self.last_capability as u8 + 1, &[at as u8], &[]);
        }
        self.declare(at as u8, &[id, 0], &[]);
        self.declare(at as u8 + 2, body, writable);
        self.last_capability = at;
        self.end = (at + 2 + body.len()).next_multiple_of(4);
        at as u8
    }

    /// Sets bytes from `offset` on: their value at power-on, and the bits that a guest can change.
    pub fn declare(&mut self, offset: u8, values: &[u8], writable: &[u8]) {
        let at = usize::from(offset);
        for target in [&mut self.power_on, &mut self.bytes] {
            target[at..at + values.len()].copy_from_slice(values);
        }
        self.writable[at..at + writable.len()].copy_from_slice(writable);
    }

    /// Gives BAR `index` the address that it has from power-on, as firmware would.
    pub fn assign(&mut self, index: usize, base: u64) {
        let Some(bar) = self.bars[index] else { return };
        let raw = base & bar.writable() | bar.type_bits();
        let registers = if bar.kind == BarKind::Memory64 { 8 } else { 4 };
        let at = usize::from(bar_offset(index));
        for target in [&mut self.power_on, &mut self.bytes] {
            target[at..at + registers].copy_from_slice(&raw.to_le_bytes()[..registers]);
        }
    }

    /// Reads up to four bytes; past the end all ones.
    pub fn read(&self, offset: u8, width: Width) -> u32 {
        (0..width.bytes().min(4)).fold(0, |value, i| {
            let byte = self.bytes.get(usize::from(offset) + i as usize);
            value | u32::from(*byte.unwrap_or(&0xff)) << (8 * i)
        })
    }

    /// Writes up to four bytes, as far as the guest may.
    pub fn write(&mut self, offset: u8, width: Width, value: u32) {
        for i in 0..width.bytes().min(4) {
            let at = usize::from(offset) + i as usize;
            if let (Some(byte), Some(mask)) = (self.bytes.get_mut(at), self.writable.get(at)) {
                *byte = *byte & !mask | (value >> (8 * i)) as u8 & mask;
            }
        }
    }

    /// Sets read-only bytes that the function itself changes.
    pub(super) fn show(&mut self, offset: u8, values: &[u8]) {
        let at = usize::from(offset);
        if let Some(bytes) = self.bytes.get_mut(at..at + values.len()) {
            bytes.copy_from_slice(values);
        }
    }

    /// Back to power-on.
    pub fn reset(&mut self) {
        let Self {
            bars: _,
            writable: _,
            power_on,
            end: _,
            last_capability: _,
            bytes,
        } = self;
        *bytes = *power_on;
    }

    /// The command register.
    pub fn command(&self) -> Command {
        Command::from_bits_truncate(self.read(reg::COMMAND, Width::Word) as u16)
    }

    /// The BARs as declared.
    pub fn bars(&self) -> &[Option<Bar>; 6] {
        &self.bars
    }

    /// What the BARs decode now.
    pub fn windows(&self) -> [Option<Window>; 6] {
        std::array::from_fn(|index| self.window(index))
    }

    fn window(&self, index: usize) -> Option<Window> {
        let bar = self.bars[index]?;
        let at = bar_offset(index);
        let enable = match bar.kind {
            BarKind::Io => Command::IO,
            BarKind::Memory32 | BarKind::Memory64 => Command::MEMORY,
        };
        let mut raw = u64::from(self.read(at, Width::Dword));
        if bar.kind == BarKind::Memory64 {
            raw |= u64::from(self.read(at + 4, Width::Dword)) << 32;
        }
        if self.command().contains(enable) {
            bar.window(raw)
        } else {
            None
        }
    }
}

/// The configuration register of BAR `index`.
fn bar_offset(index: usize) -> u8 {
    reg::BAR0 + 4 * index as u8
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::bus::map::Widths;
    use proptest::prelude::*;

    pub(in crate::pci) const HEADER: Header = Header {
        vendor: 0x1234,
        device: 0x5678,
        class: 0x01_8000,
        revision: 1,
        subsystem_vendor: 0x1af4,
        subsystem: 0x40,
        interrupt_pin: 1,
        interrupt_line: 11,
    };

    fn space() -> ConfigSpace {
        let mut space = ConfigSpace::new(&HEADER);
        space.declare_bar(0, Bar::new(BarKind::Memory64, 0x4000, Widths::ALL));
        space.declare_bar(2, Bar::new(BarKind::Memory32, 0x1000, Widths::ALL));
        space.declare_bar(5, Bar::new(BarKind::Io, 0x40, Widths::ALL));
        space.add_capability(9, &[0x11, 0x22], &[0, 0xf0]);
        space.add_capability(5, &[0; 12], &[0xff; 12]);
        space
    }

    #[test]
    fn the_header_is_where_the_specification_has_it() {
        let space = space();
        assert_eq!(space.read(0x00, Width::Dword), 0x5678_1234);
        assert_eq!(space.read(0x08, Width::Dword), 0x0180_0001);
        assert_eq!(space.read(0x2c, Width::Dword), 0x0040_1af4);
        assert_eq!(space.read(0x3c, Width::Word), 0x010b);
        assert_eq!(space.read(0x06, Width::Word), 0x0010);
    }

    #[test]
    fn capabilities_form_a_list() {
        let space = space();
        assert_eq!(space.read(0x34, Width::Byte), 0x40);
        assert_eq!(space.read(0x40, Width::Dword), 0x2211_4409);
        assert_eq!(space.read(0x44, Width::Word), 0x0005);
    }

    #[test]
    fn sizing_tells_size_and_type() {
        let mut space = space();
        for (offset, sized) in [
            (0x10, 0xffff_c004),
            (0x14, 0xffff_ffff),
            (0x18, 0xffff_f000),
            (0x1c, 0),
            (0x20, 0),
            (0x24, 0xffff_ffc1),
            (0x30, 0),
        ] {
            space.write(offset, Width::Dword, u32::MAX);
            assert_eq!(space.read(offset, Width::Dword), sized, "{offset:#x}");
        }
    }

    #[test]
    fn a_bar_decodes_while_the_command_register_lets_it() {
        let mut space = space();
        space.assign(0, 0x70_0000_0000);
        space.assign(5, 0x2040);
        let bases = |s: &ConfigSpace| s.windows().map(|w| w.map(|w| w.base));
        assert_eq!(
            bases(&space),
            [Some(0x70_0000_0000), None, None, None, None, Some(0x2040)]
        );
        space.write(reg::COMMAND, Width::Word, u32::from(Command::MEMORY.bits()));
        assert_eq!(bases(&space)[5], None);
        space.write(reg::COMMAND, Width::Byte, 0);
        assert_eq!(bases(&space), [None; 6]);
        space.write(0x24, Width::Byte, 0x80);
        space.reset();
        assert_eq!(bases(&space)[5], Some(0x2040));
    }

    proptest! {
        #[test]
        fn no_write_changes_a_read_only_bit(
            writes in prop::collection::vec((any::<u8>(), 0_u64..4, any::<u32>()), 0..64)
        ) {
            let mut space = space();
            let (before, mask) = (space.bytes, space.writable);
            for (offset, width, value) in writes {
                let width = Width::from_bytes(1 << width).unwrap();
                space.write(offset, width, value);
                space.read(offset, width);
                for window in space.windows().into_iter().flatten() {
                    prop_assert_eq!(window.base % window.size, 0);
                }
            }
            for at in 0..SIZE {
                prop_assert_eq!(space.bytes[at] & !mask[at], before[at] & !mask[at]);
            }
        }
    }
}
