//! The state in which the first CPU enters the kernel, and the tables in memory that this state needs.
//!
//! boot.rst, "64-bit boot protocol" and "32-bit boot protocol": __BOOT_CS is 0x10, __BOOT_DS 0x18, flat; RSI points
//! to the zero page; interrupts are off. PVH and multiboot differ from 32-bit mode only in EAX and EBX. In 64-bit mode the first 4 GiB are mapped one to one.

use super::kernel::Entry;
use super::{multiboot, pvh};
use crate::layout;
use crate::memory::Piece;
use crate::x86::regs::{RAX, RBX, RSI, RSP, Regs, Segment, TableRegister};
use crate::x86::{cr0, cr4, efer, page, segment};

const BOOT_CS: u16 = 0x10;
const BOOT_DS: u16 = 0x18;
const BOOT_TSS: u16 = 0x20;

const CODE: u16 =
    segment::P | segment::S | segment::CODE | segment::READABLE | segment::ACCESSED | segment::G;
const CODE_64: u16 = CODE | segment::L;
const CODE_32: u16 = CODE | segment::DB;
const DATA: u16 =
    segment::P | segment::S | segment::WRITABLE | segment::ACCESSED | segment::G | segment::DB;
/// A busy TSS: what VMX demands of TR even where no task exists (SDM vol. 3, 27.3.1.2).
const TSS: u16 = segment::P | segment::system::TSS32_BUSY;

const PAGE: u64 = 0x1000;
const LARGE_PAGE: u64 = 2 << 20;

/// The registers for `entry`, with the zero page's address in RSI, or that of PVH's or multiboot's information in RBX.
pub fn registers(entry: Entry) -> Regs {
    let (rip, code) = match entry {
        Entry::Long(rip) => (rip, CODE_64),
        Entry::Protected(rip) | Entry::Pvh(rip) | Entry::Multiboot(rip) => (rip, CODE_32),
    };
    let data = flat(BOOT_DS, DATA);
    let mut regs = Regs {
        rip,
        cs: flat(BOOT_CS, code),
        ss: data,
        ds: data,
        es: data,
        fs: data,
        gs: data,
        tr: Segment {
            selector: BOOT_TSS,
            base: 0,
            limit: 0x67,
            rights: TSS,
        },
        gdtr: TableRegister {
            base: layout::BOOT_GDT.start,
            limit: (size_of_val(&gdt(code)) - 1) as u16,
        },
        idtr: TableRegister { base: 0, limit: 0 },
        cr0: cr0::PE | cr0::ET | cr0::NE,
        ..Regs::power_on(0)
    };
    match entry {
        Entry::Long(_) | Entry::Protected(_) => regs.gprs[RSI] = layout::ZERO_PAGE.start,
        Entry::Pvh(_) => regs.gprs[RBX] = pvh::AT,
        Entry::Multiboot(_) => {
            regs.gprs[RAX] = multiboot::BOOTED;
            regs.gprs[RBX] = multiboot::AT;
        }
    }
    regs.gprs[RSP] = layout::BOOT_STACK.end;
    if let Entry::Long(_) = entry {
        regs.cr0 |= cr0::PG | cr0::WP;
        regs.cr3 = layout::BOOT_PAGE_TABLES.start;
        regs.cr4 = cr4::PAE;
        regs.efer = efer::LME | efer::LMA;
    }
    regs
}

/// What must lie in memory for these registers: the GDT and, for 64-bit mode, page tables.
pub fn tables(entry: Entry) -> Vec<Piece> {
    let gdt_piece = |code| Piece {
        at: layout::BOOT_GDT.start,
        bytes: bytes(&gdt(code)),
    };
    match entry {
        Entry::Long(_) => vec![gdt_piece(CODE_64), page_tables()],
        Entry::Protected(_) | Entry::Pvh(_) | Entry::Multiboot(_) => vec![gdt_piece(CODE_32)],
    }
}

/// Two entries that are not used, code, data, and a TSS of 16 bytes.
fn gdt(code: u16) -> [u64; 6] {
    let tss = u64::from(TSS & !0x2) << 40 | 0x67;
    [
        0,
        0,
        segment::flat_descriptor(code),
        segment::flat_descriptor(DATA),
        tss,
        0,
    ]
}

/// A PML4, a page directory pointer table and four page directories of 2 MiB pages, one behind the other.
fn page_tables() -> Piece {
    const ENTRIES: usize = 512;
    let table = |index: u64| layout::BOOT_PAGE_TABLES.start + index * PAGE | page::P | page::RW;
    let mut entries = vec![0; 2 * ENTRIES];
    entries[0] = table(1);
    for gib in 0..4 {
        entries[ENTRIES + gib] = table(2 + gib as u64);
    }
    let pages = (layout::HIGH_RAM.start / LARGE_PAGE) as usize;
    entries.extend((0..pages as u64).map(|i| i * LARGE_PAGE | page::P | page::RW | page::PS));
    Piece {
        at: layout::BOOT_PAGE_TABLES.start,
        bytes: bytes(&entries),
    }
}

fn flat(selector: u16, rights: u16) -> Segment {
    Segment {
        selector,
        base: 0,
        limit: u32::MAX,
        rights,
    }
}

fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks the page tables in `piece` as a processor would.
    fn translate(piece: &Piece, cr3: u64, linear: u64) -> u64 {
        let entry = |table: u64, index: u64| {
            let at = (table - piece.at + index * 8) as usize;
            u64::from_le_bytes(piece.bytes[at..at + 8].try_into().unwrap())
        };
        let mut table = cr3;
        for shift in [39, 30, 21] {
            let found = entry(table, linear >> shift & 0x1ff);
            assert_eq!(found & (page::P | page::RW), page::P | page::RW);
            table = found & 0x000f_ffff_ffff_f000;
        }
        table + (linear & (LARGE_PAGE - 1))
    }

    #[test]
    fn the_first_four_gib_are_mapped_one_to_one() {
        let tables = tables(Entry::Long(0x100_0200));
        let regs = registers(Entry::Long(0x100_0200));
        assert!(tables[1].bytes.len() as u64 <= layout::BOOT_PAGE_TABLES.len());
        for linear in [
            0,
            0x2000,
            0x100_0200,
            0x3fff_ffff,
            0x8000_0123,
            0xfee0_0000,
            0xffff_ffff,
        ] {
            assert_eq!(translate(&tables[1], regs.cr3, linear), linear);
        }
    }

    #[test]
    fn segment_registers_hold_what_the_table_in_memory_says() {
        for entry in [Entry::Long(0x100_0200), Entry::Protected(0x10_0000)] {
            let regs = registers(entry);
            let table = &tables(entry)[0];
            assert_eq!(table.at, regs.gdtr.base);
            assert_eq!(table.bytes.len(), usize::from(regs.gdtr.limit) + 1);
            for register in [regs.cs, regs.ss, regs.ds, regs.es, regs.fs, regs.gs] {
                let at = usize::from(register.selector);
                let descriptor = u64::from_le_bytes(table.bytes[at..at + 8].try_into().unwrap());
                assert_eq!(segment::rights(descriptor), register.rights);
                assert_eq!(segment::limit(descriptor), register.limit);
                assert_eq!(u64::from(segment::base(descriptor)), register.base);
            }
        }
    }

    #[test]
    fn long_mode_is_whole_and_protected_mode_has_no_paging() {
        let long = registers(Entry::Long(0x100_0200));
        assert_eq!(long.rflags, 2, "interrupts off");
        assert_eq!(long.gprs[RSI], layout::ZERO_PAGE.start);
        assert_eq!(long.cs.rights & (segment::L | segment::DB), segment::L);
        let protected = registers(Entry::Protected(0x10_0000));
        assert_eq!(protected.cr0 & cr0::PG, 0);
        assert_eq!((protected.cr4, protected.efer), (0, 0));
        assert_eq!(
            protected.cs.rights & (segment::L | segment::DB),
            segment::DB
        );
    }
}
