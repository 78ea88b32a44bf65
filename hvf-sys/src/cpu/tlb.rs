//! The translation look-aside buffer: from linear addresses straight to host memory.
//!
//! Invariants: an entry's `host` plus any linear address inside the entry's page lies in a page that `Ram` issued,
//! and the `Arc<Ram>` here keeps that mapping alive. Entries are private and only `fill` writes them. A page that
//! holds decoded code never gets a write tag, so every write to it is seen (see `ram::code`).

use std::sync::Arc;

use crate::ram::{PAGE, Ram, Word, copy};

/// Whose view of memory an access takes. Each has its own entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Space {
    /// The supervisor, where user pages are out of bounds (SMAP).
    Supervisor = 0,
    /// The user.
    User = 1,
    /// The supervisor, where user pages are allowed (no SMAP, or EFLAGS.AC set).
    SupervisorOnUser = 2,
    /// The user, where alignment is checked: it has no entries, so that every access is looked at.
    AlignedUser = 3,
}

impl Space {
    /// Whether accesses have the user's rights.
    pub fn is_user(self) -> bool {
        matches!(self, Self::User | Self::AlignedUser)
    }
}

/// What the page tables allow of a page in one space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Loads are allowed.
    pub read: bool,
    /// Stores are allowed, and the dirty bit is already set.
    pub write: bool,
    /// The entry outlives a write to CR3.
    pub global: bool,
    /// The guest's page is larger than ours, and how large: a power of two. INVLPG for any address in it ends all the
    /// entries that were made from it (SDM volume 3, 4.10.4.1).
    pub size: u64,
}

const SPACES: usize = 4;
const ENTRIES: usize = 1024;
/// A tag that no page has: pages are aligned.
const INVALID: u64 = 1;
const GLOBAL: u64 = 1;
/// Made from a page of 2 or 4 MiB, of 1 GiB.
const LARGE: u64 = 2;
const HUGE: u64 = 4;
const MARKS: u64 = PAGE - 1;
const LARGE_SHIFT: u32 = 22;
const HUGE_SHIFT: u32 = 30;

#[repr(C)]
#[derive(Clone, Copy)]
struct Entry {
    read: u64,
    write: u64,
    /// Host address minus linear address, modulo 2^64.
    host: u64,
    /// The guest physical page, with `GLOBAL`, `LARGE` and `HUGE`.
    page: u64,
}

const EMPTY: Entry = Entry {
    read: INVALID,
    write: INVALID,
    host: 0,
    page: 0,
};

/// One vCPU's TLB for data accesses.
#[repr(C)]
pub struct Tlb {
    entries: Box<[Entry; SPACES * ENTRIES]>,
    ram: Arc<Ram>,
    large: Regions,
    huge: Regions,
}

/// Which parts of the address space may have entries made from large pages: a part that is not in here has none.
struct Regions([u64; 16]);

impl Regions {
    fn place(part: u64) -> (usize, u64) {
        ((part / 64 % 16) as usize, 1 << (part % 64))
    }

    fn add(&mut self, part: u64) {
        let (word, bit) = Self::place(part);
        self.0[word] |= bit;
    }

    fn may_have(&self, part: u64) -> bool {
        let (word, bit) = Self::place(part);
        self.0[word] & bit != 0
    }
}

impl Tlb {
    /// An empty TLB over `ram`.
    pub fn new(ram: Arc<Ram>) -> Self {
        Self {
            entries: Box::new([EMPTY; SPACES * ENTRIES]),
            ram,
            large: Regions([0; 16]),
            huge: Regions([0; 16]),
        }
    }

    /// The memory behind it.
    pub fn ram(&self) -> &Arc<Ram> {
        &self.ram
    }

    /// Enters the translation of a linear page to a guest physical page of RAM. False where there is no RAM, and where the
    /// space has no entries.
    pub fn fill(&mut self, space: Space, va: u64, gpa: u64, grant: Grant) -> bool {
        if space == Space::AlignedUser {
            return false;
        }
        let (va, gpa) = (va & !(PAGE - 1), gpa & !(PAGE - 1));
        let Some(host) = self.ram.host(gpa, PAGE) else {
            return false;
        };
        let write = grant.write && self.ram.may_cache_writes(gpa);
        let size = match grant.size {
            0..=PAGE => 0,
            size if size >> HUGE_SHIFT == 0 => {
                self.large.add(va >> LARGE_SHIFT);
                LARGE
            }
            _ => {
                self.huge.add(va >> HUGE_SHIFT);
                HUGE
            }
        };
        self.entries[slot(space, va)] = Entry {
            read: if grant.read { va } else { INVALID },
            write: if write { va } else { INVALID },
            host: (host.expose_provenance() as u64).wrapping_sub(va),
            page: gpa | size | if grant.global { GLOBAL } else { 0 },
        };
        true
    }

    /// Loads a word; `None` where there is no entry or the word crosses the page's end.
    #[inline(always)]
    pub fn load<W: Word>(&self, space: Space, va: u64) -> Option<W> {
        let entry = &self.entries[slot(space, va)];
        if entry.read == va & !(PAGE - 1) && inside::<W>(va) {
            // SAFETY: the entry's page is mapped (module invariant) and the word lies inside it.
            Some(unsafe { W::load(host(entry, va)) })
        } else {
            None
        }
    }

    /// Stores a word; false where there is no write entry or the word crosses the page's end.
    #[inline(always)]
    #[must_use]
    pub fn store<W: Word>(&self, space: Space, va: u64, value: W) -> bool {
        let entry = &self.entries[slot(space, va)];
        let hit = entry.write == va & !(PAGE - 1) && inside::<W>(va);
        if hit {
            // SAFETY: the entry's page is mapped and the word lies inside it.
            unsafe { W::store(host(entry, va), value) };
        }
        hit
    }

    /// Replaces an aligned word in one locked operation and gives the old one. `None` where there is no write entry
    /// or the word is not aligned; then nothing has happened.
    #[inline(always)]
    pub fn update<W: Word>(&self, space: Space, va: u64, mut new: impl FnMut(W) -> W) -> Option<W> {
        let entry = &self.entries[slot(space, va)];
        if entry.write != va & !(PAGE - 1) || !va.is_multiple_of(size_of::<W>() as u64) {
            return None;
        }
        let at = host(entry, va);
        // SAFETY: the entry's page is mapped and an aligned word lies inside it.
        let mut old = unsafe { W::load(at) };
        loop {
            // SAFETY: as above.
            let found = unsafe { W::compare_exchange(at, old, new(old)) };
            if found == old {
                return Some(old);
            }
            old = found;
        }
    }

    /// Whether a store of `len` bytes would hit, without doing it.
    #[inline(always)]
    pub fn writable(&self, space: Space, va: u64, len: u64) -> bool {
        self.entries[slot(space, va)].write == va & !(PAGE - 1) && (va & (PAGE - 1)) + len <= PAGE
    }

    /// Copies `len` bytes that lie inside one page on each side, as a forward string move does. False, and nothing
    /// done, where an entry is missing, a page's end is crossed, or the two ranges overlap.
    pub fn copy(
        &self,
        (to_space, to): (Space, u64),
        (from_space, from): (Space, u64),
        len: u64,
    ) -> bool {
        let source = &self.entries[slot(from_space, from)];
        let readable = source.read == from & !(PAGE - 1) && (from & (PAGE - 1)) + len <= PAGE;
        if !readable || !self.writable(to_space, to, len) {
            return false;
        }
        let (target, source) = (
            host(&self.entries[slot(to_space, to)], to),
            host(source, from),
        );
        if target.addr().abs_diff(source.addr()) < len as usize {
            return false;
        }
        // SAFETY: both ranges lie inside mapped pages and are apart.
        unsafe { copy(target, source, len as usize) };
        true
    }

    /// Stores `value` `count` times in a row, inside one page. False, and nothing done, where there is no write entry or
    /// the page's end is crossed.
    #[must_use]
    pub fn store_repeated(&self, space: Space, va: u64, value: u64, count: u64) -> bool {
        if count > PAGE / 8 || !self.writable(space, va, 8 * count) {
            return false;
        }
        let at = host(&self.entries[slot(space, va)], va);
        for n in 0..count as usize {
            // SAFETY: the entry's page is mapped and all the words lie inside it.
            unsafe { u64::store(at.add(8 * n), value) };
        }
        true
    }

    /// Forgets everything.
    pub fn flush(&mut self) {
        self.entries.fill(EMPTY);
        self.large = Regions([0; 16]);
        self.huge = Regions([0; 16]);
    }

    /// Forgets every entry that is not global.
    pub fn flush_local(&mut self) {
        for entry in self.entries.iter_mut().filter(|e| e.page & GLOBAL == 0) {
            *entry = EMPTY;
        }
    }

    /// Forgets a whole space.
    pub fn flush_space(&mut self, space: Space) {
        self.entries[space as usize * ENTRIES..][..ENTRIES].fill(EMPTY);
    }

    /// Forgets the page of a linear address, in every space; where it may be a large one, all of that.
    pub fn flush_page(&mut self, va: u64) {
        for space in [Space::Supervisor, Space::User, Space::SupervisorOnUser] {
            self.entries[slot(space, va)] = EMPTY;
        }
        if self.large.may_have(va >> LARGE_SHIFT) {
            self.flush_around(va, LARGE, LARGE_SHIFT);
        }
        if self.huge.may_have(va >> HUGE_SHIFT) {
            self.flush_around(va, HUGE, HUGE_SHIFT);
        }
    }

    #[cold]
    fn flush_around(&mut self, va: u64, mark: u64, shift: u32) {
        for entry in self.entries.iter_mut() {
            if entry.page & mark != 0 && (entry.read ^ va) >> shift == 0 {
                *entry = EMPTY;
            }
        }
    }

    /// Forgets every right to write: pages may have become code.
    pub fn drop_writes(&mut self) {
        for entry in self.entries.iter_mut() {
            entry.write = INVALID;
        }
    }

    /// Forgets the right to write to one guest physical page.
    pub fn drop_writes_to(&mut self, gpa: u64) {
        let page = gpa & !(PAGE - 1);
        for entry in self.entries.iter_mut().filter(|e| e.page & !MARKS == page) {
            entry.write = INVALID;
        }
    }
}

#[inline(always)]
fn slot(space: Space, va: u64) -> usize {
    (space as usize * ENTRIES | (va / PAGE) as usize % ENTRIES) % (SPACES * ENTRIES)
}

#[inline(always)]
fn inside<W>(va: u64) -> bool {
    va & (PAGE - 1) <= PAGE - size_of::<W>() as u64
}

#[inline(always)]
fn host(entry: &Entry, va: u64) -> *mut u8 {
    std::ptr::with_exposed_provenance_mut(entry.host.wrapping_add(va) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tlb() -> Tlb {
        Tlb::new(Ram::new(&[(0, 0x4000)]).unwrap())
    }

    const ALL: Grant = Grant {
        read: true,
        write: true,
        global: false,
        size: PAGE,
    };

    #[test]
    fn an_entry_serves_its_page_and_space_only() {
        let mut tlb = tlb();
        assert!(tlb.fill(Space::User, 0x7fff_1234_5678, 0x2000, ALL));
        assert!(tlb.store(Space::User, 0x7fff_1234_5ff8, 7u64));
        assert_eq!(tlb.ram().load_u64(0x2ff8), Ok(7));
        assert_eq!(tlb.load::<u64>(Space::User, 0x7fff_1234_5ff8), Some(7));
        assert_eq!(
            tlb.load::<u64>(Space::User, 0x7fff_1234_5ff9),
            None,
            "crosses the page"
        );
        assert_eq!(tlb.load::<u8>(Space::Supervisor, 0x7fff_1234_5ff8), None);
        assert_eq!(
            tlb.load::<u8>(Space::User, 0xffff_7fff_1234_5ff8),
            None,
            "not canonical"
        );
        assert!(!tlb.fill(Space::User, 0, 0x4000, ALL), "no RAM");
    }

    #[test]
    fn flushes_take_what_they_say() {
        let mut tlb = tlb();
        tlb.fill(Space::User, 0x1000, 0x1000, ALL);
        tlb.fill(
            Space::User,
            0x2000,
            0x2000,
            Grant {
                global: true,
                ..ALL
            },
        );
        tlb.flush_local();
        assert_eq!(tlb.load::<u8>(Space::User, 0x1000), None);
        assert_eq!(tlb.load::<u8>(Space::User, 0x2000), Some(0));
        tlb.drop_writes_to(0x2fff);
        assert!(!tlb.store(Space::User, 0x2000, 1u8));
        assert_eq!(tlb.load::<u8>(Space::User, 0x2000), Some(0));
        tlb.flush_page(0x2abc);
        assert_eq!(tlb.load::<u8>(Space::User, 0x2000), None);
    }

    #[test]
    fn a_large_page_is_forgotten_as_a_whole() {
        let mut tlb = tlb();
        for size in [2 << 20, 4 << 20, 1 << 30] {
            let grant = Grant { size, ..ALL };
            let base = 0x7f00_4000_0000;
            tlb.fill(Space::User, base + 0x1000, 0x1000, grant);
            tlb.fill(Space::User, base + 0x2000, 0x2000, ALL);
            tlb.fill(Space::User, base + (1 << 30) + 0x3000, 0x3000, grant);
            tlb.flush_page(base + 0x1f_f000);
            assert_eq!(tlb.load::<u8>(Space::User, base + 0x1000), None);
            assert_eq!(tlb.load::<u8>(Space::User, base + 0x2000), Some(0));
            let next = base + (1 << 30) + 0x3000;
            assert_eq!(tlb.load::<u8>(Space::User, next), Some(0));
        }
    }

    #[test]
    fn code_pages_have_no_fast_writes() {
        let mut tlb = tlb();
        tlb.ram().mark_code(0x1000, 1);
        tlb.fill(Space::Supervisor, 0x1000, 0x1000, ALL);
        assert!(!tlb.store(Space::Supervisor, 0x1000, 1u8));
        assert_eq!(tlb.load::<u8>(Space::Supervisor, 0x1000), Some(0));
    }

    #[test]
    fn updates_are_locked_and_aligned() {
        let mut tlb = tlb();
        tlb.fill(Space::Supervisor, 0x1000, 0x1000, ALL);
        assert_eq!(
            tlb.update(Space::Supervisor, 0x1008, |v: u64| v + 5),
            Some(0)
        );
        assert_eq!(
            tlb.update(Space::Supervisor, 0x1000, |v: u128| v | 1),
            Some(5 << 64)
        );
        assert_eq!(tlb.update(Space::Supervisor, 0x1004, |v: u64| v), None);
    }

    #[test]
    fn copies_are_refused_where_they_would_differ_from_a_string_move() {
        let mut tlb = tlb();
        tlb.fill(Space::User, 0x1000, 0x1000, ALL);
        tlb.fill(Space::User, 0x2000, 0x2000, ALL);
        tlb.ram().write(0x1000, b"hello").unwrap();
        let at = |va| (Space::User, va);
        assert!(tlb.copy(at(0x2ffb), at(0x1000), 5));
        let mut out = [0; 5];
        tlb.ram().read(0x2ffb, &mut out).unwrap();
        assert_eq!(&out, b"hello");
        assert!(!tlb.copy(at(0x2ffc), at(0x1000), 5));
        assert!(!tlb.copy(at(0x1001), at(0x1000), 5));
    }
}
