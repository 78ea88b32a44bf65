//! The map of physical memory as firmware tells it to an operating system: what the e820 map of the zero page and
//! multiboot's memory map are written from.
//!
//! The ECAM is named here as well as in the DSDT (PNP0C02): Linux uses it without complaint only where both agree.

use crate::layout::{self, Span};

/// What a range of memory is for. The numbers are those of ACPI 6.5, table 15.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// RAM that the operating system may use.
    Usable = 1,
    /// Not to be used: firmware's tables, or registers.
    Reserved = 2,
}

/// A range of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Where it lies.
    pub span: Span,
    /// What it is for.
    pub kind: Kind,
}

/// Bytes that go to an address of guest memory before it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where.
    pub at: u64,
    /// What.
    pub bytes: Vec<u8>,
}

/// The map of a machine with `ram` bytes of memory, in ascending order.
pub fn map(ram: u64) -> Vec<Range> {
    let usable = |span| Range {
        span,
        kind: Kind::Usable,
    };
    let reserved = |span| Range {
        span,
        kind: Kind::Reserved,
    };
    let low = layout::low_ram(ram);
    let tables = Span {
        start: layout::ACPI_TABLES.start,
        end: layout::FIRMWARE.end,
    };
    let main = Span {
        start: layout::KERNEL_MIN,
        end: low.end.max(layout::KERNEL_MIN),
    };
    let mut map = vec![
        usable(layout::CONVENTIONAL),
        reserved(layout::EBDA),
        reserved(tables),
        usable(main),
        reserved(layout::ECAM),
        usable(layout::high_ram(ram)),
    ];
    map.retain(|range| !range.span.is_empty());
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_ascend_and_never_touch_what_is_not_ram() {
        for ram in [16 << 20, 1 << 30, 3 << 30, 4 << 30, 256 << 30] {
            let map = map(ram);
            assert!(
                map.windows(2)
                    .all(|two| two[0].span.end <= two[1].span.start)
            );
            for range in map.iter().filter(|range| range.kind == Kind::Usable) {
                let inside =
                    |outer: Span| outer.start <= range.span.start && range.span.end <= outer.end;
                assert!(inside(layout::low_ram(ram)) || inside(layout::high_ram(ram)));
            }
            assert!(
                map.iter()
                    .any(|range| range.span == layout::ECAM && range.kind == Kind::Reserved)
            );
        }
    }

    #[test]
    fn all_memory_is_told_but_the_holes_of_the_first_mebibyte() {
        let total = |ram| -> u64 {
            map(ram)
                .iter()
                .filter(|range| range.kind == Kind::Usable)
                .map(|range| range.span.len())
                .sum()
        };
        let hole = layout::KERNEL_MIN - layout::CONVENTIONAL.len();
        for ram in [16 << 20, 3 << 30, 5 << 30] {
            assert_eq!(total(ram), ram - hole);
        }
    }
}
