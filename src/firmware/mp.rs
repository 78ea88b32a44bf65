//! The MP table (Intel MultiProcessor Specification 1.4, chapter 4), for systems that use several CPUs or the
//! I/O APIC without ACPI.
//!
//! The I/O APIC's id is also the first CPU's: ids of I/O APICs mean nothing since the APIC bus is gone.
//!
//! Every pin of every wired slot is told, whatever is plugged in, as in the DSDT. The 8259 pair's way to the I/O APIC's pin 0
//! is not, as in the MADT: a system takes an ExtINT entry to say that firmware has set that pin up, and ours leaves the
//! pair's interrupts to LINT0.

use crate::layout::{self, irq, slot};
use crate::memory::Piece;
use crate::x86::cpuid::{self, feature};

const SPECIFICATION: u8 = 4;
const PCI_BUS: u8 = 0;
const ISA_BUS: u8 = 1;
/// Every local APIC, as a destination.
const ALL: u8 = 0xff;
/// Flags of an interrupt whose polarity and trigger are its bus's.
const CONFORMS: u16 = 0;

/// Interrupt types (table 4-11).
#[derive(Clone, Copy)]
enum Kind {
    Int = 0,
    Nmi = 1,
    ExtInt = 3,
}

/// The pins of a local APIC.
const LINT0: u8 = 0;
const LINT1: u8 = 1;

/// The floating pointer and, right behind it, the table of a machine with so many CPUs.
pub fn table(cpus: u32) -> Piece {
    const POINTER: usize = 16;
    let at = layout::MP_TABLE.start;
    let mut bytes = floating_pointer((at + POINTER as u64) as u32);
    bytes.extend(configuration(&entries(cpus)));
    Piece { at, bytes }
}

/// `_MP_` (4.1): where the table is, and that there is one.
fn floating_pointer(table: u32) -> Vec<u8> {
    const CHECKSUM: usize = 10;
    let paragraphs = 1;
    let mut bytes = [
        &b"_MP_"[..],
        &table.to_le_bytes(),
        &[paragraphs, SPECIFICATION],
        &[0; 6],
    ]
    .concat();
    bytes[CHECKSUM] = checksum(&bytes);
    bytes
}

/// The header (4.2) and the entries.
fn configuration(entries: &[Vec<u8>]) -> Vec<u8> {
    const HEADER: usize = 44;
    const CHECKSUM: usize = 7;
    let body = entries.concat();
    let (no_oem_table, no_extension) = ([0; 6], [0; 4]);
    let mut bytes = [
        &b"PCMP"[..],
        &((HEADER + body.len()) as u16).to_le_bytes(),
        &[SPECIFICATION, 0],
        b"XLAUNCH xlaunch PC  ",
        &no_oem_table,
        &(entries.len() as u16).to_le_bytes(),
        &(layout::LAPIC.start as u32).to_le_bytes(),
        &no_extension,
        &body,
    ]
    .concat();
    bytes[CHECKSUM] = checksum(&bytes);
    bytes
}

/// The entries, in the order of their types, as 4.3 demands.
fn entries(cpus: u32) -> Vec<Vec<u8>> {
    let mut entries: Vec<Vec<u8>> = (0..cpus.min(layout::CPUS_MAX as u32) as u8)
        .map(processor)
        .collect();
    entries.push(bus(PCI_BUS, b"PCI   "));
    entries.push(bus(ISA_BUS, b"ISA   "));
    entries.push(ioapic());
    entries
        .extend(slot::WITH_INTX.flat_map(|slot| (0..4).map(move |pin| pci_interrupt(slot, pin))));
    let isa = (0..16).filter(|&line| line != irq::CASCADE);
    entries.extend(isa.map(isa_interrupt));
    entries.push(local_interrupt(Kind::ExtInt, LINT0));
    entries.push(local_interrupt(Kind::Nmi, LINT1));
    entries
}

/// 4.3.1.
fn processor(id: u8) -> Vec<u8> {
    const ENABLED: u8 = 1;
    const FIRST: u8 = 2;
    let flags = ENABLED | if id == 0 { FIRST } else { 0 };
    let features = cpuid::LEAF1_EDX | feature::leaf1_edx::APIC;
    [
        &[0, id, layout::LAPIC_VERSION, flags][..],
        &(cpuid::SIGNATURE & 0xfff).to_le_bytes(),
        &features.to_le_bytes(),
        &[0; 8],
    ]
    .concat()
}

/// 4.3.2.
fn bus(id: u8, name: &[u8; 6]) -> Vec<u8> {
    [&[1, id], &name[..]].concat()
}

/// 4.3.3.
fn ioapic() -> Vec<u8> {
    const ENABLED: u8 = 1;
    let address = (layout::IOAPIC.start as u32).to_le_bytes();
    [
        &[2, layout::IOAPIC_ID, layout::IOAPIC_VERSION, ENABLED],
        &address[..],
    ]
    .concat()
}

/// The slot in bits 6:2, the pin in bits 1:0 (appendix D.3).
fn pci_interrupt(slot: u8, pin: u8) -> Vec<u8> {
    let source = (slot & 31) << 2 | pin & 3;
    let gsi = layout::intx_gsi(slot, pin) as u8;
    interrupt(Kind::Int, layout::PCI_INTI, (PCI_BUS, source), gsi)
}

fn isa_interrupt(line: u8) -> Vec<u8> {
    let flags = match line {
        irq::SCI => layout::SCI_INTI,
        _ => CONFORMS,
    };
    interrupt(
        Kind::Int,
        flags,
        (ISA_BUS, line),
        layout::isa_gsi(line) as u8,
    )
}

/// 4.3.4.
fn interrupt(kind: Kind, flags: u16, (bus, source): (u8, u8), pin: u8) -> Vec<u8> {
    let [low, high] = flags.to_le_bytes();
    vec![
        3,
        kind as u8,
        low,
        high,
        bus,
        source,
        layout::IOAPIC_ID,
        pin,
    ]
}

/// 4.3.5.
fn local_interrupt(kind: Kind, pin: u8) -> Vec<u8> {
    let [low, high] = CONFORMS.to_le_bytes();
    let source = 0;
    vec![4, kind as u8, low, high, ISA_BUS, source, ALL, pin]
}

fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0_u8, |sum, &byte| sum.wrapping_sub(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(bytes: &[u8], at: usize) -> usize {
        usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
    }

    /// The entries of a table, told apart as a reader does: 20 bytes for a processor, 8 for all others.
    fn read(piece: &Piece) -> Vec<Vec<u8>> {
        let table = &piece.bytes[16..];
        let mut rest = &table[44..];
        let mut entries = Vec::new();
        while let Some(kind) = rest.first() {
            let (entry, tail) = rest.split_at(if *kind == 0 { 20 } else { 8 });
            entries.push(entry.to_vec());
            rest = tail;
        }
        assert_eq!(entries.len(), word(table, 34), "the count in the header");
        entries
    }

    #[test]
    fn lengths_and_sums_are_right_and_the_table_fits() {
        for cpus in [1, 2, 64] {
            let piece = table(cpus);
            assert!(piece.bytes.len() as u64 <= layout::MP_TABLE.len());
            let sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, b| sum.wrapping_add(*b));
            assert_eq!((sum(&piece.bytes[..16]), sum(&piece.bytes[16..])), (0, 0));
            assert_eq!(piece.bytes[4..8], (piece.at as u32 + 16).to_le_bytes());
            assert_eq!(word(&piece.bytes, 16 + 4), piece.bytes.len() - 16);
            assert_eq!(
                read(&piece).iter().filter(|entry| entry[0] == 0).count() as u32,
                cpus
            );
        }
    }

    #[test]
    fn types_ascend_and_the_first_cpu_is_the_first() {
        let entries = read(&table(3));
        assert!(entries.is_sorted_by_key(|entry| entry[0]));
        let flags: Vec<u8> = entries
            .iter()
            .filter(|entry| entry[0] == 0)
            .map(|entry| entry[3])
            .collect();
        assert_eq!(flags, [3, 1, 1]);
    }

    #[test]
    fn interrupts_are_those_of_the_layout() {
        let entries = read(&table(1));
        let has = |bytes: [u8; 8]| entries.iter().any(|entry| *entry == bytes);
        let ext_int = entries
            .iter()
            .filter(|entry| entry[0] == 3 && entry[1] == 3);
        assert_eq!(ext_int.count(), 0, "a pin that firmware has not set up");
        assert!(has([3, 0, 0, 0, 1, 0, 0, 2]), "the timer at pin 2");
        assert!(has([3, 0, 0, 0, 1, 4, 0, 4]), "COM1");
        assert!(has([3, 0, 0xf, 0, 1, 9, 0, 9]), "the SCI: level, low");
        for slot in slot::WITH_INTX {
            for pin in 0..4 {
                let gsi = layout::intx_gsi(slot, pin) as u8;
                assert!(has([3, 0, 0xf, 0, 0, slot << 2 | pin, 0, gsi]));
            }
        }
        assert!(has([4, 3, 0, 0, 1, 0, 0xff, 0]) && has([4, 1, 0, 0, 1, 0, 0xff, 1]));
        assert!(
            !entries
                .iter()
                .any(|entry| entry[0] == 3 && entry[4] == 1 && entry[5] == 2)
        );
    }
}
