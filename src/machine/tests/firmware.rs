//! What firmware's tables and the topology say, against the board as it is built (the wires of the routing tables: `wiring`).

use std::ops::Range;

use super::bench::{Bench, PAGE};
use super::*;
use crate::bus::Width;
use crate::layout;

/// The machine with all that one can have.
fn largest() -> (MachineSpec, tempfile::NamedTempFile) {
    let disk = tempfile::NamedTempFile::new().unwrap();
    disk.as_file().set_len(1 << 20).unwrap();
    let mut spec = spec(2, &[HALT]);
    spec.pci_uart = true;
    spec.disks = vec![
        Disk {
            path: disk.path().to_owned(),
            access: Default::default(),
        };
        build::DISKS
    ];
    (spec, disk)
}

fn number(bytes: &[u8]) -> u64 {
    let bytes = bytes.iter().rev();
    bytes.fold(0, |n, &byte| n << 8 | u64::from(byte))
}

fn table(signature: &[u8; 4]) -> Vec<u8> {
    let machine = acpi::Machine {
        cpus: 2,
        hpet: true,
    };
    let tables = acpi::tables(&machine);
    let found = tables
        .iter()
        .find(|piece| piece.bytes.starts_with(signature));
    found.unwrap().bytes.clone()
}

/// The ports and the memory that the tables describe: I/O port and fixed memory descriptors of the DSDT (ACPI 6.5,
/// 6.4.2.5 and 6.4.3.4), and the interrupt controllers of the MADT (5.2.12).
fn described() -> (Vec<Range<u64>>, Vec<Range<u64>>) {
    let dsdt = table(b"DSDT");
    let (mut ports, mut memory) = (Vec::new(), Vec::new());
    for d in dsdt.windows(12) {
        let start = number(&d[2..4]);
        if d[..2] == [0x47, 1] && d[2..4] == d[4..6] {
            ports.push(start..start + u64::from(d[7]));
        }
        if d[..3] == [0x86, 9, 0] {
            let start = number(&d[4..8]);
            memory.push(start..start + number(&d[8..12]));
        }
    }
    let madt = table(b"APIC");
    let ioapic = madt.windows(12).find(|entry| entry[..2] == [1, 12]);
    let start = number(&ioapic.unwrap()[4..8]);
    memory.push(start..start + layout::IOAPIC.len());
    (ports, memory)
}

/// How often `ranges` have each address of `range`: counted where a count can change.
fn counts(ranges: &[Range<u64>], range: &Range<u64>) -> Vec<usize> {
    let edges = ranges.iter().flat_map(|r| [r.start, r.end]);
    let addresses = edges.filter(|edge| range.contains(edge));
    let times = |address| ranges.iter().filter(|r| r.contains(&address)).count();
    addresses.chain([range.start]).map(times).collect()
}

#[test]
fn every_region_of_the_board_is_described_once_and_every_described_region_answers() {
    let (spec, disk) = largest();
    let board = Bench::of(&spec, disk).board;
    let (ports, memory) = described();
    for (space, described) in [(Space::Port, ports), (Space::Memory, memory)] {
        let on_board = board.map.fixed(space);
        for range in &on_board {
            let once = counts(&described, range).iter().all(|&count| count == 1);
            assert!(once, "{space:?} {range:#x?}");
        }
        for range in &described {
            let answers = counts(&on_board, range).iter().all(|&count| count >= 1);
            assert!(answers, "{space:?} {range:#x?}");
        }
    }
}

#[test]
fn the_hpet_table_says_what_the_hpet_says() {
    let mut bench = Bench::new(1);
    let capabilities = bench.load(0, layout::HPET.start, Width::Dword);
    assert_eq!(number(&table(b"HPET")[36..40]), capabilities);
}

#[test]
fn the_topology_has_a_name_for_everything_on_the_board() {
    let (spec, _disk) = largest();
    let machine = topology(&spec).unwrap();
    let regions = machine.registers.iter().chain(&machine.ports);
    let names = regions.map(|region| region.name);
    let names = names.chain(machine.functions.iter().map(|function| function.name));
    assert!(names.clone().all(|name| name != "unnamed"));
    assert!(names.count() > 40);
}

/// The wiring of the hub is checked beside; this is that each function holds the end of the right wire.
#[test]
fn each_functions_wire_leads_where_the_topology_says() {
    let (spec, disk) = largest();
    let functions = topology(&spec).unwrap().functions;
    let mut bench = Bench::of(&spec, disk);
    for pin in 0..layout::IOAPIC_PINS.into() {
        bench.entry(pin, 0xa040 + pin);
    }
    let mut seen = 0;
    for Function {
        installed, wire, ..
    } in &functions
    {
        let Some(wire) = wire else { continue };
        let function = bench.board.root.function(installed.device).unwrap();
        let interrupt = function.lock().endpoint().interrupt().clone();
        assert_eq!(bench.interrupt(0), None);
        interrupt.request(true);
        let gsi = bench.interrupt(0).map(|vector| u32::from(vector) - 0x40);
        assert_eq!(gsi, Some(wire.gsi), "{installed:?}");
        interrupt.request(false);
        bench.store(0, PAGE + 0xb0, Width::Dword, 0);
        // The note that firmware leaves for systems without tables.
        let line = bench.config(installed.device, 0x3c) & 0xff;
        assert_eq!(line, wire.irq.into(), "{installed:?}");
        seen += 1;
    }
    assert!(seen > build::DISKS, "disks, random numbers, serial port");
}
