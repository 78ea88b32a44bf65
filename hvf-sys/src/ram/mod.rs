//! Guest RAM: a raw mapping outside Rust's memory model.
//!
//! Guests race on their memory with accesses of mixed sizes, so no reference and no `Atomic*` into it ever exists:
//! every access goes through the inline assembly of `access`. A guest address range is an allegation until
//! `Ram` has confirmed that it lies wholly inside one region.
//!
//! Invariants: a region's mapping is readable and writable, page-aligned, and lives as long as the `Ram`; whoever
//! keeps a host address of it (a TLB) also keeps the `Arc<Ram>`.
//!
//! `Ram` also owns the map of pages that hold decoded code (`code`), which every writer consults.

mod access;
mod code;
mod mapping;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

pub use access::Word;
pub(crate) use access::copy;
pub use code::CodeMark;
use code::PageState;
use mapping::Mapping;

/// The size of a guest page in bytes.
pub const PAGE: u64 = 4096;

/// A guest physical range is not wholly inside RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutsideRam {
    /// The first guest physical address of the range.
    pub gpa: u64,
    /// Its length in bytes.
    pub len: u64,
}

impl fmt::Display for OutsideRam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "guest range {:#x}+{:#x} is outside RAM",
            self.gpa, self.len
        )
    }
}

impl std::error::Error for OutsideRam {}

struct Region {
    gpa: u64,
    len: u64,
    memory: Mapping,
    states: Mapping,
}

/// The guest's RAM: one or more regions of guest physical memory, committed by the host as they are touched.
pub struct Ram {
    regions: Vec<Region>,
    code_epoch: AtomicU64,
}

impl Ram {
    /// Maps regions of (guest physical address, length in bytes), each a multiple of the page size and apart from
    /// the others. Memory reads as zero and costs the host nothing until it is touched.
    pub fn new(regions: &[(u64, u64)]) -> io::Result<Arc<Self>> {
        let mut made: Vec<Region> = Vec::with_capacity(regions.len());
        for &(gpa, len) in regions {
            let aligned = gpa.is_multiple_of(PAGE) && len.is_multiple_of(PAGE) && len > 0;
            let end = gpa.checked_add(len).filter(|_| aligned);
            let apart = |end: u64| made.iter().all(|r| end <= r.gpa || gpa >= r.gpa + r.len);
            if !end.is_some_and(apart) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "RAM regions must be whole pages, apart",
                ));
            }
            let states = len / PAGE * size_of::<PageState>() as u64;
            made.push(Region {
                gpa,
                len,
                memory: Mapping::new(len)?,
                states: Mapping::new(states.next_multiple_of(PAGE))?,
            });
        }
        Ok(Arc::new(Self {
            regions: made,
            code_epoch: AtomicU64::new(0),
        }))
    }

    /// The regions as (guest physical address, length in bytes).
    pub fn regions(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.regions.iter().map(|r| (r.gpa, r.len))
    }

    /// Whether the whole range lies inside one region of RAM.
    pub fn contains(&self, gpa: u64, len: u64) -> bool {
        self.host(gpa, len).is_some()
    }

    /// Copies guest memory out.
    pub fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), OutsideRam> {
        let host = self.host_or_err(gpa, into.len() as u64)?;
        // SAFETY: the source is a confirmed range of a live mapping, the target a slice of the same length; they
        // cannot overlap, because no reference into guest memory exists.
        unsafe { copy(into.as_mut_ptr(), host, into.len()) };
        Ok(())
    }

    /// Copies into guest memory.
    pub fn write(&self, gpa: u64, from: &[u8]) -> Result<(), OutsideRam> {
        let host = self.host_or_err(gpa, from.len() as u64)?;
        // SAFETY: as in `read`, the other way round.
        unsafe { copy(host, from.as_ptr(), from.len()) };
        self.written(gpa, from.len() as u64);
        Ok(())
    }

    /// Sets a range of guest memory to one byte.
    pub fn fill(&self, gpa: u64, len: u64, byte: u8) -> Result<(), OutsideRam> {
        let chunk = [byte; PAGE as usize];
        self.host_or_err(gpa, len)?;
        let mut done = 0;
        while done < len {
            let n = (len - done).min(PAGE);
            self.write(gpa + done, &chunk[..n as usize])?;
            done += n;
        }
        Ok(())
    }

    /// Orders all earlier accesses of this thread to guest memory before all later ones, as MFENCE does.
    pub fn fence(&self) {
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }

    fn load<W: Word>(&self, gpa: u64) -> Result<W, OutsideRam> {
        let host = self.host_or_err(gpa, size_of::<W>() as u64)?;
        // SAFETY: a confirmed range of a live mapping.
        Ok(unsafe { W::load(host) })
    }

    fn store<W: Word>(&self, gpa: u64, value: W) -> Result<(), OutsideRam> {
        let host = self.host_or_err(gpa, size_of::<W>() as u64)?;
        // SAFETY: a confirmed range of a live mapping.
        unsafe { W::store(host, value) };
        self.written(gpa, size_of::<W>() as u64);
        Ok(())
    }

    /// Compares and swaps an aligned 32-bit word; the old value is returned either way.
    pub fn compare_exchange_u32(&self, gpa: u64, old: u32, new: u32) -> Result<u32, OutsideRam> {
        self.compare_exchange(gpa, old, new)
    }

    /// Compares and swaps an aligned 64-bit word; the old value is returned either way.
    pub fn compare_exchange_u64(&self, gpa: u64, old: u64, new: u64) -> Result<u64, OutsideRam> {
        self.compare_exchange(gpa, old, new)
    }

    fn compare_exchange<W: Word>(&self, gpa: u64, old: W, new: W) -> Result<W, OutsideRam> {
        let len = size_of::<W>() as u64;
        let host = self.host_or_err(gpa, len)?;
        if !gpa.is_multiple_of(len) {
            return Err(OutsideRam { gpa, len });
        }
        // SAFETY: a confirmed, aligned range of a live mapping.
        let found = unsafe { W::compare_exchange(host, old, new) };
        if found == old {
            self.written(gpa, len);
        }
        Ok(found)
    }

    fn host_or_err(&self, gpa: u64, len: u64) -> Result<*mut u8, OutsideRam> {
        self.host(gpa, len).ok_or(OutsideRam { gpa, len })
    }

    /// The host address of a range that lies wholly inside one region.
    pub(crate) fn host(&self, gpa: u64, len: u64) -> Option<*mut u8> {
        let (region, offset) = self.region(gpa)?;
        (len <= region.len - offset).then(|| region.memory.at(offset))
    }

    fn region(&self, gpa: u64) -> Option<(&Region, u64)> {
        self.regions.iter().find_map(|region| {
            let offset = gpa.wrapping_sub(region.gpa);
            (offset < region.len).then_some((region, offset))
        })
    }
}

macro_rules! word_accessors {
    ($($load:ident $store:ident $word:ty;)*) => {
        impl Ram {
            $(
                /// Loads a word, in one access when it is aligned, ordered as a load-acquire.
                pub fn $load(&self, gpa: u64) -> Result<$word, OutsideRam> {
                    self.load(gpa)
                }

                /// Stores a word, in one access when it is aligned, ordered as a store-release.
                pub fn $store(&self, gpa: u64, value: $word) -> Result<(), OutsideRam> {
                    self.store(gpa, value)
                }
            )*
        }
    };
}

word_accessors! {
    load_u8 store_u8 u8;
    load_u16 store_u16 u16;
    load_u32 store_u32 u32;
    load_u64 store_u64 u64;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_confirmed_to_the_last_byte() {
        let ram = Ram::new(&[(0, 0x4000), (0x1_0000_0000, 0x2000)]).unwrap();
        assert!(ram.contains(0, 0x4000));
        assert!(!ram.contains(0, 0x4001));
        assert!(!ram.contains(0x3fff, 2));
        assert!(ram.contains(0x1_0000_1fff, 1));
        assert!(!ram.contains(u64::MAX, 2));
        assert!(!ram.contains(0x1000, u64::MAX));
    }

    #[test]
    fn bytes_words_and_swaps_agree() {
        let ram = Ram::new(&[(0, 0x2000)]).unwrap();
        ram.write(0xffe, &[1, 2, 3, 4]).unwrap();
        assert_eq!(ram.load_u32(0xffe), Ok(0x0403_0201));
        ram.store_u64(8, 0x1122_3344_5566_7788).unwrap();
        assert_eq!(ram.load_u16(9), Ok(0x6677));
        assert_eq!(ram.compare_exchange_u64(8, 1, 2), Ok(0x1122_3344_5566_7788));
        assert_eq!(
            ram.compare_exchange_u64(8, 0x1122_3344_5566_7788, 2),
            Ok(0x1122_3344_5566_7788)
        );
        assert_eq!(ram.load_u64(8), Ok(2));
        assert!(ram.compare_exchange_u32(2, 0, 0).is_err(), "misaligned");
        assert!(ram.load_u32(0x1ffe).is_err());
        ram.fill(0x10, 0x1800, 0xa5).unwrap();
        assert_eq!(ram.load_u8(0x180f), Ok(0xa5));
        assert_eq!(ram.load_u8(0x1810), Ok(0));
    }

    #[test]
    fn regions_that_touch_no_page_or_each_other_are_refused() {
        assert!(Ram::new(&[(0, 0x800)]).is_err());
        assert!(Ram::new(&[(0, 0x2000), (0x1000, 0x1000)]).is_err());
        assert!(Ram::new(&[(u64::MAX - 0xfff, 0x1000)]).is_err());
    }
}
