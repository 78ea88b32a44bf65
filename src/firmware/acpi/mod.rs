//! The ACPI tables (ACPI 6.5), from the layout and the number of CPUs to bytes at addresses.
//!
//! RSDP -> XSDT -> FADT -> (FACS, DSDT), MADT, MCFG and, where the machine has one, HPET. There is no RSDT: every
//! system since 2000 reads the XSDT.

mod dsdt;
mod fadt;
mod madt;

use crate::layout;
use crate::memory::Piece;

/// What the tables say of the machine beyond the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// How many CPUs; the APIC id of each is its index.
    pub cpus: u32,
    /// Whether there is an HPET.
    pub hpet: bool,
}

/// All tables: the root pointer at `layout::RSDP`, the rest in `layout::ACPI_TABLES`.
pub fn tables(machine: &Machine) -> Vec<Piece> {
    let mut next = layout::ACPI_TABLES.start;
    let mut place = |bytes: Vec<u8>| {
        // 64 is what a FACS needs (ACPI 6.5, 5.2.10), and good for reading the others in a dump.
        let at = next;
        next += (bytes.len() as u64).next_multiple_of(64);
        Piece { at, bytes }
    };
    let facs = place(fadt::facs());
    let dsdt = place(dsdt::dsdt(machine));
    let mut described = vec![
        place(fadt::fadt(facs.at, dsdt.at)),
        place(madt::madt(machine.cpus)),
        place(mcfg()),
    ];
    if machine.hpet {
        described.push(place(hpet()));
    }
    let entries: Vec<u8> = described
        .iter()
        .flat_map(|piece| piece.at.to_le_bytes())
        .collect();
    let xsdt = place(table(b"XSDT", 1, &entries));
    let rsdp = Piece {
        at: layout::RSDP.start,
        bytes: rsdp(xsdt.at),
    };
    [vec![rsdp, xsdt], described, vec![facs, dsdt]].concat()
}

const OEM_ID: &[u8; 6] = b"XLNCH ";
const OEM_TABLE_ID: &[u8; 8] = b"XLAUNCH ";
const OEM_REVISION: u32 = 1;
const CREATOR_ID: &[u8; 4] = b"XLNC";
const CREATOR_REVISION: u32 = 1;
const HEADER: usize = 36;
/// Where the checksum stands in a header.
const CHECKSUM: usize = 9;

/// A table: the header of ACPI 6.5, 5.2.6, and a body.
fn table(signature: &[u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let length = (HEADER + body.len()) as u32;
    let mut bytes = [
        &signature[..],
        &length.to_le_bytes(),
        &[revision, 0],
        OEM_ID,
        OEM_TABLE_ID,
        &OEM_REVISION.to_le_bytes(),
        CREATOR_ID,
        &CREATOR_REVISION.to_le_bytes(),
        body,
    ]
    .concat();
    bytes[CHECKSUM] = checksum(&bytes);
    bytes
}

/// What makes the sum of all bytes zero.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0_u8, |sum, &byte| sum.wrapping_sub(byte))
}

/// The root pointer, of revision 2 (ACPI 6.5, 5.2.5.3). The first checksum covers the 20 bytes of revision 0.
fn rsdp(xsdt: u64) -> Vec<u8> {
    const FIRST_PART: usize = 20;
    const EXTENDED_CHECKSUM: usize = 32;
    let (revision, rsdt) = (2, 0_u32);
    let mut bytes = [
        &b"RSD PTR "[..],
        &[0],
        OEM_ID,
        &[revision],
        &rsdt.to_le_bytes(),
        &(layout::RSDP.len() as u32).to_le_bytes(),
        &xsdt.to_le_bytes(),
        &[0; 4],
    ]
    .concat();
    bytes[8] = checksum(&bytes[..FIRST_PART]);
    bytes[EXTENDED_CHECKSUM] = checksum(&bytes);
    bytes
}

/// The ECAM of segment 0, all buses (PCI Firmware 3.3, 4.1.2).
fn mcfg() -> Vec<u8> {
    let (segment, first_bus, last_bus) = (0_u16, 0, (layout::ECAM.len() >> 20) - 1);
    let body = [
        &[0; 8][..],
        &layout::ECAM.start.to_le_bytes(),
        &segment.to_le_bytes(),
        &[first_bus, last_bus as u8],
        &[0; 4],
    ]
    .concat();
    table(b"MCFG", 1, &body)
}

/// The HPET (IA-PC HPET 1.0a, 3.2.4): three 64-bit comparators, legacy replacement, page protection of 4 KiB.
fn hpet() -> Vec<u8> {
    const HARDWARE_REVISION: u32 = 1;
    const COMPARATORS: u32 = 3;
    let id = HARDWARE_REVISION | (COMPARATORS - 1) << 8 | 1 << 13 | 1 << 15 | 0x8086 << 16;
    let (number, minimum_tick, page_protection) = (0, 0x80_u16, 1);
    let body = [
        &id.to_le_bytes()[..],
        &gas(Space::Memory, 64, AccessSize::Undefined, layout::HPET.start),
        &[number],
        &minimum_tick.to_le_bytes(),
        &[page_protection],
    ]
    .concat();
    table(b"HPET", 1, &body)
}

/// Address spaces of a generic address.
#[derive(Clone, Copy)]
enum Space {
    Memory = 0,
    Io = 1,
}

/// Access sizes of a generic address.
#[derive(Clone, Copy)]
enum AccessSize {
    Undefined = 0,
    Byte = 1,
    Word = 2,
    Dword = 3,
}

/// A generic address structure (ACPI 6.5, 5.2.3.2).
fn gas(space: Space, bits: u8, access: AccessSize, address: u64) -> [u8; 12] {
    let mut bytes = [0; 12];
    let offset = 0;
    bytes[..4].copy_from_slice(&[space as u8, bits, offset, access as u8]);
    bytes[4..].copy_from_slice(&address.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests;
