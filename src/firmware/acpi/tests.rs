//! Every table is whole, and says what the layout says. What the DSDT means is checked with iasl in tests/tables.rs.

use super::*;
use crate::layout::{irq, port};

fn machine(cpus: u32) -> Machine {
    Machine { cpus, hpet: true }
}

fn find(tables: &[Piece], signature: &[u8; 4]) -> Piece {
    let found = tables
        .iter()
        .find(|piece| piece.bytes.starts_with(signature));
    found
        .unwrap_or_else(|| panic!("no {}", String::from_utf8_lossy(signature)))
        .clone()
}

fn dword(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn qword(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, &byte| sum.wrapping_add(byte))
}

#[test]
fn every_table_has_its_length_and_sum() {
    for cpus in [1, 2, 64] {
        for piece in tables(&machine(cpus)) {
            let signature = &piece.bytes[..4];
            if signature == b"RSD " {
                assert_eq!(sum(&piece.bytes[..20]), 0);
                assert_eq!(dword(&piece.bytes, 20) as usize, piece.bytes.len());
            } else {
                assert_eq!(dword(&piece.bytes, 4) as usize, piece.bytes.len());
            }
            if signature != b"FACS" {
                assert_eq!(
                    sum(&piece.bytes),
                    0,
                    "{}",
                    String::from_utf8_lossy(signature)
                );
            }
        }
    }
}

#[test]
fn tables_lie_apart_inside_their_span() {
    for cpus in [1, 64] {
        let mut pieces = tables(&machine(cpus));
        pieces.sort_by_key(|piece| piece.at);
        let rsdp = pieces.pop().unwrap();
        assert_eq!(
            (rsdp.at, rsdp.bytes.len() as u64),
            (layout::RSDP.start, layout::RSDP.len())
        );
        for two in pieces.windows(2) {
            assert!(two[0].at + two[0].bytes.len() as u64 <= two[1].at);
        }
        let (first, last) = (&pieces[0], &pieces[pieces.len() - 1]);
        assert!(first.at >= layout::ACPI_TABLES.start);
        assert!(last.at + last.bytes.len() as u64 <= layout::ACPI_TABLES.end);
    }
}

#[test]
fn every_table_is_reached_from_the_root() {
    let all = tables(&machine(2));
    let rsdp = find(&all, b"RSD ");
    let xsdt = find(&all, b"XSDT");
    assert_eq!((rsdp.bytes[15], qword(&rsdp.bytes, 24)), (2, xsdt.at));
    let fadt = find(&all, b"FACP");
    let entries: Vec<u64> = (HEADER..xsdt.bytes.len())
        .step_by(8)
        .map(|at| qword(&xsdt.bytes, at))
        .collect();
    let expected = [b"FACP", b"APIC", b"MCFG", b"HPET"].map(|signature| find(&all, signature).at);
    assert_eq!(entries, expected);
    assert_eq!(u64::from(dword(&fadt.bytes, 36)), find(&all, b"FACS").at);
    assert_eq!(find(&all, b"FACS").at % 64, 0);
    let dsdt = find(&all, b"DSDT").at;
    assert_eq!(
        (u64::from(dword(&fadt.bytes, 40)), qword(&fadt.bytes, 140)),
        (dsdt, dsdt)
    );
}

#[test]
fn a_machine_without_hpet_describes_none() {
    let without = tables(&Machine {
        cpus: 1,
        hpet: false,
    });
    assert!(!without.iter().any(|piece| piece.bytes.starts_with(b"HPET")));
    let dsdt = find(&without, b"DSDT").bytes;
    assert!(!dsdt.windows(4).any(|four| four == b"HPET"));
}

#[test]
fn the_fadt_names_the_ports_of_the_layout() {
    let fadt = find(&tables(&machine(1)), b"FACP").bytes;
    assert_eq!((fadt.len(), fadt[8], fadt[131]), (276, 6, 3));
    let io = |at: usize| (dword(&fadt, at), qword(&fadt, at + 4));
    // Each register twice: by port, and as a generic address (space I/O, its bits, offset 0, access size).
    assert_eq!(
        (dword(&fadt, 56), fadt[88]),
        (port::PM1A_EVENT.start as u32, 4)
    );
    assert_eq!(io(148), (0x0200_2001, port::PM1A_EVENT.start));
    assert_eq!(
        (dword(&fadt, 64), fadt[89]),
        (port::PM1A_CONTROL.start as u32, 2)
    );
    assert_eq!(io(172), (0x0200_1001, port::PM1A_CONTROL.start));
    assert_eq!(
        (dword(&fadt, 76), fadt[91]),
        (port::PM_TIMER.start as u32, 4)
    );
    assert_eq!(io(208), (0x0300_2001, port::PM_TIMER.start));
    assert_eq!((io(116), fadt[128]), ((0x0100_0801, 0xcf9), 6));
    assert_eq!(dword(&fadt, 48), 0xb2);
    assert_eq!(
        (fadt[52], fadt[53]),
        (layout::ACPI_ENABLE, layout::ACPI_DISABLE)
    );
    assert_eq!((fadt[46], fadt[47]), (irq::SCI, 0));
    // No keyboard controller (bit 1), no VGA (bit 2).
    assert_eq!(fadt[109] & 6, 4);
    // The power button is fixed (bit 4 clear), hardware is not reduced (bit 20 clear).
    assert_eq!(dword(&fadt, 112) & (1 << 4 | 1 << 20), 0);
}

#[test]
fn the_madt_of_two_cpus() {
    // LAPIC address, PCAT_COMPAT; two local APICs; I/O APIC 0 at GSI 0; IRQ 0 at GSI 2 (edge, high); IRQ 9 at
    // GSI 9 (level, low); NMI at LINT1 of all.
    let expected = [
        &[0, 0, 0xe0, 0xfe, 1, 0, 0, 0][..],
        &[0, 8, 0, 0, 1, 0, 0, 0],
        &[0, 8, 1, 1, 1, 0, 0, 0],
        &[1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0],
        &[2, 10, 0, 0, 2, 0, 0, 0, 5, 0],
        &[2, 10, 0, 9, 9, 0, 0, 0, 0xf, 0],
        &[4, 6, 0xff, 5, 0, 1],
    ]
    .concat();
    assert_eq!(
        find(&tables(&machine(2)), b"APIC").bytes[HEADER..],
        expected
    );
}

#[test]
fn the_mcfg_covers_the_ecam() {
    let mcfg = find(&tables(&machine(1)), b"MCFG").bytes;
    assert_eq!(qword(&mcfg, 44), layout::ECAM.start);
    assert_eq!(mcfg[52..56], [0, 0, 0, 0xff]);
    assert_eq!(mcfg.len(), 60);
}

#[test]
fn the_hpet_is_at_its_place() {
    let hpet = find(&tables(&machine(1)), b"HPET").bytes;
    assert_eq!(dword(&hpet, 36), 0x8086_a201);
    assert_eq!(qword(&hpet, 44), layout::HPET.start);
    assert_eq!(hpet.len(), 56);
}

/// Address space descriptors (6.4.3.5): tag, length, memory, then granularity, first, last, translation and length.
#[test]
fn the_host_bridge_passes_on_the_windows_of_the_layout() {
    let dsdt = find(&tables(&machine(1)), b"DSDT").bytes;
    let window = |head: [u8; 4], width: usize| {
        let number = |at: usize, field: usize| {
            let from = at + 6 + field * width;
            let bytes = dsdt[from..from + width].iter().rev();
            bytes.fold(0, |sum, &byte| sum << 8 | u64::from(byte))
        };
        let found: Vec<usize> = (0..dsdt.len() - 46)
            .filter(|&at| dsdt[at..at + 4] == head)
            .collect();
        let [at] = found[..] else {
            panic!("not one window: {found:?}");
        };
        [0, 1, 2, 3, 4].map(|field| number(at, field))
    };
    for (head, width, span) in [
        ([0x87, 0x17, 0, 0], 4, layout::PCI_MMIO32),
        ([0x8a, 0x2b, 0, 0], 8, layout::PCI_MMIO64),
    ] {
        assert_eq!(
            window(head, width),
            [0, span.start, span.end - 1, 0, span.len()]
        );
    }
}

#[test]
fn every_cpu_is_a_device_in_the_namespace() {
    for cpus in [1, 2, 64] {
        let dsdt = find(&tables(&machine(cpus)), b"DSDT").bytes;
        let devices = dsdt.windows(8).filter(|name| name == b"ACPI0007");
        assert_eq!(devices.count() as u32, cpus);
    }
}

/// What the PM chip does not have is not promised: no general-purpose events, no sleep but soft-off, no wake-up from
/// one by the RTC.
#[test]
fn nothing_is_promised_that_the_chip_has_not() {
    let all = tables(&machine(1));
    let fadt = find(&all, b"FACP").bytes;
    // GPE0_BLK, GPE1_BLK, their lengths, and both as generic addresses.
    assert_eq!((dword(&fadt, 80), dword(&fadt, 84)), (0, 0));
    assert_eq!((fadt[92], fadt[93]), (0, 0));
    assert_eq!((qword(&fadt, 224), qword(&fadt, 236)), (0, 0));
    // RTC alarm bytes for day and month; SLP_BUTTON (bit 5) says "not there", FIX_RTC (bit 6) would; S4_RTC (bit 16).
    assert_eq!((fadt[106], fadt[107]), (0, 0));
    assert_eq!(dword(&fadt, 112) & (1 << 5 | 1 << 6 | 1 << 16), 1 << 5);
    let dsdt = find(&all, b"DSDT").bytes;
    let states = [b"_S1_", b"_S2_", b"_S3_", b"_S4_", b"_S5_"];
    let has = states.map(|name| dsdt.windows(4).any(|four| four == name));
    assert_eq!(has, [false, false, false, false, true]);
}
