//! What one table says of an interrupt or an address, all others say too, and the built machine with them.

use crate::machines::{find, number, specs, tables};
use std::collections::BTreeSet;
use xlaunch::layout::{self, irq, slot};
use xlaunch::machine::topology;
use xlaunch::memory::Piece;

/// The entries of the MADT (ACPI 6.5, 5.2.12) of a type.
fn madt(tables: &[Piece], kind: u8) -> Vec<Vec<u8>> {
    let mut rest = &find(tables, "APIC").bytes[44..];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (entry, tail) = rest.split_at(rest[1].into());
        if entry[0] == kind {
            found.push(entry.to_vec());
        }
        rest = tail;
    }
    found
}

/// The entries of the MP table (MultiProcessor Specification 1.4, 4.3) of a type.
fn mp(tables: &[Piece], kind: u8) -> Vec<Vec<u8>> {
    let mut rest = &find(tables, "_MP_").bytes[16 + 44..];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (entry, tail) = rest.split_at(if rest[0] == 0 { 20 } else { 8 });
        if entry[0] == kind {
            found.push(entry.to_vec());
        }
        rest = tail;
    }
    found
}

/// The number of the bus called `name`.
fn bus(tables: &[Piece], name: &[u8; 6]) -> u8 {
    let buses = mp(tables, 1);
    buses.iter().find(|bus| bus[2..] == *name).unwrap()[1]
}

/// How an ISA interrupt arrives by the MADT: pin and flags, by an override or as on an ISA bus.
fn by_madt(tables: &[Piece], line: u8) -> (u8, u16) {
    let overrides = madt(tables, 2);
    let found = overrides.iter().find(|entry| entry[3] == line);
    found.map_or((line, 0), |it| (it[4], number(&it[8..10]) as u16))
}

#[test]
fn both_tables_tell_the_same_processors_and_controllers() {
    for spec in specs() {
        let all = tables(&spec);
        let ids: Vec<u8> = madt(&all, 0).iter().map(|entry| entry[3]).collect();
        assert_eq!(ids, (0..spec.cpus.count()).collect::<Vec<_>>());
        assert!(
            madt(&all, 0).iter().all(|entry| entry[4] == 1),
            "all enabled"
        );
        assert!(
            madt(&all, 9).is_empty(),
            "no id is too large for a short entry"
        );
        let others: Vec<u8> = mp(&all, 0).iter().map(|entry| entry[1]).collect();
        assert_eq!(ids, others);
        let firsts = mp(&all, 0).iter().filter(|entry| entry[3] & 2 != 0).count();
        assert_eq!(
            (firsts, mp(&all, 0)[0][3]),
            (1, 3),
            "the first is the first"
        );

        let [ours] = &madt(&all, 1)[..] else {
            panic!("one I/O APIC")
        };
        let [theirs] = &mp(&all, 2)[..] else {
            panic!("one I/O APIC")
        };
        assert_eq!((ours[2], &ours[4..8]), (theirs[1], &theirs[4..8]));
        assert_eq!(number(&ours[4..8]), layout::IOAPIC.start);
        assert_eq!(number(&ours[8..12]), 0, "pin 0 is global interrupt 0");
        let lapic = |name: &str, at: usize| number(&find(&all, name).bytes[at..at + 4]);
        assert_eq!(
            (lapic("APIC", 36), lapic("_MP_", 16 + 36)),
            (layout::LAPIC.start, layout::LAPIC.start)
        );
    }
}

#[test]
fn both_tables_tell_the_same_isa_interrupts() {
    let all = tables(&specs()[1]);
    let isa = bus(&all, b"ISA   ");
    let wires: Vec<_> = mp(&all, 3)
        .into_iter()
        .filter(|entry| entry[4] == isa)
        .collect();
    for line in (0..16).filter(|line| *line != irq::CASCADE) {
        let [entry] = &wires
            .iter()
            .filter(|entry| entry[5] == line)
            .collect::<Vec<_>>()[..]
        else {
            panic!("IRQ {line} is not told once");
        };
        assert_eq!(
            (entry[1], entry[7]),
            (0, layout::isa_gsi(line) as u8),
            "an INT at its pin"
        );
        let (pin, flags) = by_madt(&all, line);
        assert_eq!(pin, entry[7], "IRQ {line}");
        // The MADT's flags of the timer are spelt out what the MP table leaves to the ISA bus: edge, high.
        let theirs = match number(&entry[2..4]) as u16 {
            0 if flags == layout::PIT_INTI => layout::PIT_INTI,
            flags => flags,
        };
        assert_eq!(flags, theirs, "IRQ {line}");
    }
    assert_eq!(
        wires.len(),
        15,
        "and nothing else: no pin that firmware would have to set up"
    );
    let sci = number(&find(&all, "FACP").bytes[46..48]);
    let (pin, flags) = by_madt(&all, irq::SCI);
    assert_eq!(
        (sci, flags),
        (pin.into(), layout::SCI_INTI),
        "the SCI is level-triggered"
    );
    // NMI at LINT1 of all, the 8259 pair at LINT0 of all.
    assert_eq!(madt(&all, 4), [[4, 6, 0xff, 5, 0, 1]]);
    let local: BTreeSet<_> = mp(&all, 4).iter().map(|it| (it[1], it[6], it[7])).collect();
    assert_eq!(local, BTreeSet::from([(3, 0xff, 0), (1, 0xff, 1)]));
}

/// D8. The DSDT's side is in `acpiexec`, the board's in the program's own tests.
#[test]
fn the_mp_table_tells_every_pci_pin_once_and_the_machine_agrees() {
    for spec in specs() {
        let all = tables(&spec);
        let pci = bus(&all, b"PCI   ");
        let entries = mp(&all, 3).into_iter().filter(|entry| entry[4] == pci);
        let told: Vec<(u8, u8, u32)> = entries
            .map(|entry| {
                assert_eq!(
                    (entry[1], number(&entry[2..4])),
                    (0, layout::PCI_INTI.into())
                );
                (entry[5] >> 2, entry[5] & 3, entry[7].into())
            })
            .collect();
        let pins = slot::WITH_INTX.flat_map(|slot| (0..4).map(move |pin| (slot, pin)));
        let wired: Vec<_> = pins
            .map(|(slot, pin)| (slot, pin, layout::intx_gsi(slot, pin)))
            .collect();
        assert_eq!(told, wired);
        for function in topology(&spec).unwrap().functions {
            let device = function.installed.device;
            if let Some(wire) = function.wire {
                assert!(told.contains(&(device, wire.pin, wire.gsi)), "{function:?}");
            }
        }
    }
}

#[test]
fn fixed_addresses_in_tables_are_those_of_the_machine() {
    let spec = &specs()[1];
    let (all, machine) = (tables(spec), topology(spec).unwrap());
    let mcfg = &find(&all, "MCFG").bytes;
    let hpet = &find(&all, "HPET").bytes;
    for address in [number(&mcfg[44..52]), number(&hpet[44..52])] {
        assert!(
            machine.registers.iter().any(|it| it.span.start == address),
            "{address:#x}"
        );
    }
    assert_eq!(number(&mcfg[54..56]), 0xff00, "all buses: 256 MiB");
    let fadt = &find(&all, "FACP").bytes;
    // PM1a event, PM1a control and PM timer: port and length; reset register and SMI command: port.
    for (port, length) in [
        (56, Some(88)),
        (64, Some(89)),
        (76, Some(91)),
        (120, None),
        (48, None),
    ] {
        let start = number(&fadt[port..port + 4]);
        let region = machine.ports.iter().find(|it| it.span.start == start);
        let region = region.unwrap_or_else(|| panic!("{start:#x}"));
        if let Some(at) = length {
            assert_eq!(u64::from(fadt[at]), region.span.len(), "{}", region.name);
        }
    }
}
