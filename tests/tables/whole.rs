//! Every table is whole: checksums, lengths, places and pointers, whatever the machine.

use crate::machines::{find, number, specs, sum, tables};
use xlaunch::layout::{self, Span};
use xlaunch::memory::{self, Kind, Piece};

fn span(piece: &Piece) -> Span {
    Span::new(piece.at, piece.bytes.len() as u64)
}

/// How long a table says it is, and over how many bytes its checksum counts.
fn extent(piece: &Piece) -> (usize, usize) {
    let bytes = &piece.bytes;
    let at = |from: usize, len: usize| number(&bytes[from..from + len]) as usize;
    match &bytes[..4] {
        // ACPI 6.5, 5.2.5.3: 20 bytes of revision 0 have a sum of their own.
        b"RSD " => {
            assert_eq!(sum(&bytes[..20]), 0);
            (at(20, 4), bytes.len())
        }
        // 5.2.10: no checksum, since firmware and system both write to it.
        b"FACS" => (at(4, 4), 0),
        // MultiProcessor Specification 1.4, 4.1 and 4.2.
        b"_MP_" => {
            assert_eq!(
                (sum(&bytes[16..]), number(&bytes[4..8])),
                (0, piece.at + 16)
            );
            (16 + at(16 + 4, 2), 16)
        }
        // DSP0134 3.0, 5.2.2.
        b"_SM3" => (0x20 + at(12, 4), 24),
        _ => (at(4, 4), bytes.len()),
    }
}

#[test]
fn lengths_and_sums_are_right() {
    for spec in specs() {
        for piece in tables(&spec) {
            let name = String::from_utf8_lossy(&piece.bytes[..4]).into_owned();
            let (length, summed) = extent(&piece);
            assert_eq!(length, piece.bytes.len(), "{name}");
            assert_eq!(sum(&piece.bytes[..summed]), 0, "{name}");
        }
    }
}

#[test]
fn every_table_is_found_from_where_systems_look() {
    for spec in specs() {
        let all = tables(&spec);
        let place = |name: &str| find(&all, name).at;
        // ACPI 6.5, 5.2.5.1: on a boundary of 16 in the last 128 KiB below 1 MiB; MP 1.4, 4: in the last 64 KiB;
        // DSP0134 3.0, 5.2: likewise.
        for name in ["RSD ", "_MP_", "_SM3"] {
            let at = place(name);
            assert!(
                layout::FIRMWARE.contains(at) && at % 16 == 0,
                "{name} at {at:#x}"
            );
        }
        let pointer =
            |name: &str, at: usize, len: usize| number(&find(&all, name).bytes[at..at + len]);
        assert_eq!(pointer("RSD ", 24, 8), place("XSDT"));
        let entries = find(&all, "XSDT").bytes[36..].chunks(8).map(number);
        let described = ["FACP", "APIC", "MCFG", "HPET"].map(place);
        assert_eq!(entries.collect::<Vec<_>>(), described);
        assert_eq!(pointer("FACP", 36, 4), place("FACS"));
        assert_eq!(pointer("FACP", 40, 4), place("DSDT"));
        assert_eq!(pointer("FACP", 140, 8), place("DSDT"));
        assert_eq!(place("FACS") % 64, 0);
        assert_eq!(pointer("_SM3", 16, 8), place("_SM3") + 0x20);
    }
}

#[test]
fn no_table_lies_on_another_or_on_usable_memory() {
    for spec in specs() {
        let mut all = tables(&spec);
        all.sort_by_key(|piece| piece.at);
        for two in all.windows(2) {
            assert!(span(&two[0]).end <= two[1].at);
        }
        let map = memory::map(spec.memory.bytes());
        for piece in &all {
            let it = span(piece);
            let holds = |range: &&memory::Range| {
                range.kind == Kind::Reserved
                    && range.span.start <= it.start
                    && it.end <= range.span.end
            };
            assert!(map.iter().any(|range| holds(&range)), "{it:x?}");
        }
    }
}
