//! Base address registers (PCI 3.0, 6.2.5). Sizing needs no code of its own: the bits of a BAR below its size
//! are not writable, so that writing all ones and reading back gives the size.

use crate::bus::map::Widths;

/// What kind of addresses a BAR holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarKind {
    /// Ports.
    Io,
    /// Memory below 4 GiB.
    Memory32,
    /// Memory anywhere; takes the next register too.
    Memory64,
}

/// A base address register as the device declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Ports or memory.
    pub kind: BarKind,
    /// How many bytes it decodes: a power of two, at least 4 for ports and 16 for memory.
    pub size: u64,
    /// Which accesses the device takes there.
    pub widths: Widths,
}

/// A range that a BAR decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Whether these are ports.
    pub io: bool,
    /// The first address.
    pub base: u64,
    /// How many bytes.
    pub size: u64,
}

impl Bar {
    /// A BAR of `size` bytes of `kind`. Panics on a size that the register cannot express: a mistake in the device.
    pub const fn new(kind: BarKind, size: u64, widths: Widths) -> Self {
        let bar = Self { kind, size, widths };
        assert!(size.is_power_of_two() && size > bar.type_mask() && size <= bar.limit() / 2);
        bar
    }

    /// The read-only type bits.
    pub(super) const fn type_bits(self) -> u64 {
        match self.kind {
            BarKind::Io => 0b01,
            BarKind::Memory32 => 0b000,
            BarKind::Memory64 => 0b100,
        }
    }

    /// The address bits that a guest can change.
    pub(super) const fn writable(self) -> u64 {
        let mask = !(self.size - 1);
        match self.kind {
            // Port numbers have 16 bits, but the register's upper half sizes like the rest.
            BarKind::Io | BarKind::Memory32 => mask & 0xffff_ffff,
            BarKind::Memory64 => mask,
        }
    }

    /// The window for register contents `raw`; none where it has no address (zero, or past the end of the space).
    pub(super) fn window(self, raw: u64) -> Option<Window> {
        let base = raw & self.writable();
        let end = base.checked_add(self.size)?;
        (base != 0 && end <= self.limit()).then_some(Window {
            io: self.kind == BarKind::Io,
            base,
            size: self.size,
        })
    }

    /// The bits that are not address bits.
    const fn type_mask(self) -> u64 {
        match self.kind {
            BarKind::Io => 0x3,
            BarKind::Memory32 | BarKind::Memory64 => 0xf,
        }
    }

    /// The end of the address space.
    const fn limit(self) -> u64 {
        match self.kind {
            BarKind::Io => 1 << 16,
            BarKind::Memory32 => 1 << 32,
            BarKind::Memory64 => 1 << 63,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_must_lie_inside_its_space() {
        let ports = Bar::new(BarKind::Io, 0x20, Widths::ALL);
        assert_eq!(ports.window(0x2021).map(|w| w.base), Some(0x2020));
        assert_eq!(ports.window(0xffff_ffe1), None);
        assert_eq!(ports.window(1), None);
        let memory = Bar::new(BarKind::Memory32, 0x1000, Widths::ALL);
        assert_eq!(
            memory.window(0xffff_f000).map(|w| w.base),
            Some(0xffff_f000)
        );
        let wide = Bar::new(BarKind::Memory64, 0x1000, Widths::ALL);
        assert_eq!(wide.window(u64::MAX), None);
        assert_eq!(wide.window(1 << 40).map(|w| w.base), Some(1 << 40));
    }
}
