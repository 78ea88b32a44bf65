//! Address translation: the page tables of 32-bit, PAE and 4-level paging (SDM volume 3, chapter 4).
//!
//! Physical addresses are `PHYSICAL_BITS` wide. Protection keys, shadow stacks and 5-level paging are not offered.

use hvf_sys::cpu::{Grant, Space};
use hvf_sys::ram::PAGE;

use super::core::{Exec, Fault, Trap};
use super::intercept::{Rights, Violation};
use crate::layout::PHYSICAL_BITS;
use crate::x86::control::{cr0, cr4, efer, page, pf};
use crate::x86::vector;

/// What an access wants of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// A data load.
    Read,
    /// A data store.
    Write,
    /// An instruction fetch.
    Execute,
}

/// A translation and what it allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The guest physical address of the very byte.
    pub gpa: u64,
    /// Stores are allowed in this space, and the dirty bit is set.
    pub writable: bool,
    /// It outlives a write to CR3.
    pub global: bool,
    /// The size of the page.
    pub size: u64,
}

/// The rules under which page tables are read.
struct Format {
    /// How many levels there are, 2 to 4.
    levels: u32,
    /// Bits of the address each level takes: 10 in 32-bit paging, 9 otherwise.
    index_bits: u32,
    /// Bits that must be zero in every entry.
    reserved: u64,
}

/// A leaf entry and the rights gathered on the way.
struct Leaf {
    entry: u64,
    size: u64,
    /// RW and US of all levels, and NX of any.
    rights: u64,
    /// Where the entries are that the walk went through, root first.
    path: [u64; 4],
    depth: usize,
}

enum Miss {
    NotPresent,
    Reserved,
    /// The second stage does not allow the access to an entry.
    Violation(Violation),
}

impl Exec<'_> {
    /// Translates a linear address. A page fault is raised where it cannot be; accessed and dirty bits are set
    /// where it can.
    pub fn translate(&mut self, space: Space, va: u64, want: Want) -> Result<Translation, Trap> {
        if !self.cr0(cr0::PG) {
            let gpa = va & 0xffff_ffff;
            let rights = self.check_stage(gpa, va, want)?;
            return Ok(Translation {
                gpa,
                writable: rights.contains(Rights::WRITE),
                global: false,
                size: PAGE,
            });
        }
        let format = self.format();
        loop {
            let leaf = match self.walk(va, &format) {
                Ok(leaf) => leaf,
                Err(Miss::NotPresent) => return Err(self.page_fault(space, va, want, 0)),
                Err(Miss::Reserved) => {
                    return Err(self.page_fault(space, va, want, pf::P | pf::RSVD));
                }
                Err(Miss::Violation(found)) => return Err(self.violate(found)),
            };
            if !self.allowed(space, &leaf, want) {
                return Err(self.page_fault(space, va, want, pf::P));
            }
            match self.mark(va, &leaf, want, &format) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(found) => return Err(self.violate(found)),
            }
            let gpa = leaf.address(va, &format);
            let rights = self.check_stage(gpa, va, want)?;
            let dirty = want == Want::Write || leaf.entry & page::D != 0;
            return Ok(Translation {
                gpa,
                writable: dirty
                    && rights.contains(Rights::WRITE)
                    && self.allowed(space, &leaf, Want::Write),
                global: leaf.entry & page::G != 0 && self.cr4(cr4::PGE),
                size: leaf.size,
            });
        }
    }

    /// Translates for data and enters the result into the TLB where RAM is behind it.
    pub fn translate_data(&mut self, space: Space, va: u64, write: bool) -> Result<u64, Trap> {
        let found = self.translate(space, va, if write { Want::Write } else { Want::Read })?;
        if !self.watched(va) {
            let grant = Grant {
                read: true,
                write: found.writable,
                global: found.global,
                size: found.size,
            };
            self.tlb.fill(space, va, found.gpa, grant);
        }
        Ok(found.gpa)
    }

    /// Whether PAE paging is in use, with its four page directory pointers inside the processor.
    pub fn pae_paging(&self) -> bool {
        self.cr0(cr0::PG) && self.cr4(cr4::PAE) && !self.long_mode()
    }

    fn format(&self) -> Format {
        let nx = if self.state.msrs.efer & efer::NXE == 0 {
            page::NX
        } else {
            0
        };
        let high = !0 << PHYSICAL_BITS & !page::NX;
        if self.long_mode() {
            // Bits 62:52 belong to software.
            Format {
                levels: 4,
                index_bits: 9,
                reserved: high & !(0x7ff << 52) | nx,
            }
        } else if self.cr4(cr4::PAE) {
            Format {
                levels: 2,
                index_bits: 9,
                reserved: high | nx,
            }
        } else {
            Format {
                levels: 2,
                index_bits: 10,
                reserved: 0,
            }
        }
    }

    fn walk(&self, va: u64, format: &Format) -> Result<Leaf, Miss> {
        let mut table = self.root(va, format)?;
        let mut leaf = Leaf {
            entry: 0,
            size: 0,
            rights: page::RW | page::US,
            path: [0; 4],
            depth: 0,
        };
        for level in (0..format.levels).rev() {
            let shift = 12 + level * format.index_bits;
            let index = va >> shift & ((1 << format.index_bits) - 1);
            let at = table + index * format.entry_bytes();
            self.entry_allowed(at, Some(va), Rights::READ)
                .map_err(Miss::Violation)?;
            let entry = self.entry(at, format);
            if entry & page::P == 0 {
                return Err(Miss::NotPresent);
            }
            let large = level > 0 && entry & page::PS != 0 && self.large_allowed(level, format);
            if entry & format.reserved_at(level, large) != 0 || level == 3 && entry & page::PS != 0
            {
                return Err(Miss::Reserved);
            }
            leaf.rights =
                leaf.rights & (entry | page::NX) & !(page::NX) | (leaf.rights | entry) & page::NX;
            leaf.path[leaf.depth & 3] = at;
            leaf.depth += 1;
            if large || level == 0 {
                leaf.entry = entry;
                leaf.size = 1 << shift;
                return Ok(leaf);
            }
            table = entry & format.address_mask();
        }
        Err(Miss::NotPresent)
    }

    /// The first table. In PAE paging, that of the page directory pointer that was loaded with CR3.
    fn root(&self, va: u64, format: &Format) -> Result<u64, Miss> {
        match (format.levels, format.index_bits) {
            (4, _) => Ok(self.state.cr3 & format.address_mask()),
            (_, 9) => {
                let pointer = self.state.pdptes[(va >> 30 & 3) as usize];
                if pointer & page::P == 0 {
                    Err(Miss::NotPresent)
                } else {
                    Ok(pointer & format.address_mask())
                }
            }
            _ => Ok(self.state.cr3 & 0xffff_f000),
        }
    }

    fn large_allowed(&self, level: u32, format: &Format) -> bool {
        match level {
            1 => format.index_bits == 9 || self.cr4(cr4::PSE),
            2 => format.levels == 4,
            _ => false,
        }
    }

    /// Reads an entry; where there is no RAM, all ones.
    fn entry(&self, at: u64, format: &Format) -> u64 {
        let ram = self.tlb.ram();
        if format.index_bits == 9 {
            ram.load_u64(at).unwrap_or(u64::MAX)
        } else {
            ram.load_u32(at).map_or(u64::from(u32::MAX), u64::from)
        }
    }

    fn allowed(&self, space: Space, leaf: &Leaf, want: Want) -> bool {
        let (user_page, write_page) = (leaf.rights & page::US != 0, leaf.rights & page::RW != 0);
        let no_execute = leaf.rights & page::NX != 0 && self.state.msrs.efer & efer::NXE != 0;
        if space.is_user() {
            let fits = match want {
                Want::Read => true,
                Want::Write => write_page,
                Want::Execute => !no_execute,
            };
            return user_page && fits;
        }
        match want {
            Want::Execute => !(no_execute || user_page && self.cr4(cr4::SMEP)),
            _ if user_page && space == Space::Supervisor => false,
            Want::Read => true,
            Want::Write => write_page || !self.cr0(cr0::WP),
        }
    }

    /// Whether the second stage allows an access to an entry.
    #[inline(always)]
    fn entry_allowed(
        &self,
        gpa: u64,
        linear: Option<u64>,
        wanted: Rights,
    ) -> Result<(), Violation> {
        if self.non_root.is_none() {
            return Ok(());
        }
        let allowed = self.stage_rights(gpa);
        if allowed.contains(wanted) {
            return Ok(());
        }
        Err(Violation {
            gpa,
            wanted,
            allowed,
            linear,
            in_walk: true,
        })
    }

    /// Sets accessed and dirty bits. False where an entry has changed meanwhile: the walk starts again.
    fn mark(&self, va: u64, leaf: &Leaf, want: Want, format: &Format) -> Result<bool, Violation> {
        let last = leaf.depth - 1;
        for (depth, &at) in leaf.path.iter().enumerate().take(leaf.depth) {
            let dirty = if depth == last && want == Want::Write {
                page::D
            } else {
                0
            };
            if !self.set_bits(va, at, page::A | dirty, format)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sets bits of a present entry, in one locked operation.
    fn set_bits(&self, va: u64, at: u64, bits: u64, format: &Format) -> Result<bool, Violation> {
        let ram = self.tlb.ram();
        let old = self.entry(at, format);
        if old & page::P == 0 {
            return Ok(false);
        }
        if old & bits == bits {
            return Ok(true);
        }
        self.entry_allowed(at, Some(va), Rights::READ | Rights::WRITE)?;
        let swapped = if format.index_bits == 9 {
            ram.compare_exchange_u64(at, old, old | bits)
                .map(|found| found == old)
        } else {
            ram.compare_exchange_u32(at, old as u32, (old | bits) as u32)
                .map(|found| u64::from(found) == old)
        };
        // An entry outside RAM reads as all ones, and has its bits set already.
        Ok(swapped.unwrap_or(true))
    }

    #[cold]
    fn page_fault(&mut self, space: Space, va: u64, want: Want, found: u32) -> Trap {
        let mut error = found;
        error |= if want == Want::Write { pf::W } else { 0 };
        error |= if space.is_user() { pf::U } else { 0 };
        let tells_fetches =
            self.state.msrs.efer & efer::NXE != 0 && (self.cr4(cr4::PAE)) || self.cr4(cr4::SMEP);
        error |= if want == Want::Execute && tells_fetches {
            pf::I
        } else {
            0
        };
        self.fault = Fault {
            vector: vector::PF,
            error: Some(error),
            detail: va,
        };
        Trap::Fault
    }

    /// Loads the four page directory pointers of PAE paging from where CR3 points (SDM volume 3, 4.4.1). #GP, and nothing
    /// loaded, where a present one has a reserved bit set.
    pub fn load_pdptes(&mut self, cr3: u64) -> Result<(), Trap> {
        let reserved = !0 << PHYSICAL_BITS | 0x1e6;
        let mut loaded = [0; 4];
        for (n, pointer) in loaded.iter_mut().enumerate() {
            let at = (cr3 & 0xffff_ffe0) + 8 * n as u64;
            if let Err(found) = self.entry_allowed(at, None, Rights::READ) {
                return Err(self.violate(found));
            }
            *pointer = self.tlb.ram().load_u64(at).unwrap_or(u64::MAX);
            if *pointer & page::P != 0 && *pointer & reserved != 0 {
                return Err(self.general_protection(0));
            }
        }
        self.state.pdptes = loaded;
        Ok(())
    }
}

impl Format {
    fn entry_bytes(&self) -> u64 {
        if self.index_bits == 9 { 8 } else { 4 }
    }

    fn address_mask(&self) -> u64 {
        if self.index_bits == 9 {
            (1 << PHYSICAL_BITS) - PAGE
        } else {
            0xffff_f000
        }
    }

    /// The bits that must be zero in an entry at a level (0 = page table), large page or not.
    fn reserved_at(&self, level: u32, large: bool) -> u64 {
        let low = match (level, large, self.index_bits) {
            (1, true, 9) => 0x1f_e000,
            (2, true, 9) => 0x3fff_e000,
            // PSE-36: from bit 13 on stand the address bits from 32 on that there are; the rest up to bit 21 must be zero
            // (SDM volume 3, table 4-4).
            (1, true, _) => (1 << 22) - (1 << (PHYSICAL_BITS - 32 + 13)),
            _ => 0,
        };
        self.reserved | low
    }
}

impl Leaf {
    /// The physical address of `va` in this page.
    fn address(&self, va: u64, format: &Format) -> u64 {
        let mut base = self.entry & format.address_mask() & !(self.size - 1);
        if format.index_bits == 10 && self.size > PAGE {
            base |= (self.entry >> 13 & 0xff) << 32;
        }
        base | va & (self.size - 1)
    }
}
