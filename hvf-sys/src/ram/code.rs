//! The map of pages that hold decoded code.
//!
//! Each page has a set of 64-byte lines from which some vCPU has decoded instructions, a generation, and a
//! mark that some vCPU may hold a write-fast TLB entry for it. Who writes, stores first and consults the lines
//! afterwards; a hit clears them and moves the generation on, which ends every block that was made from the
//! page at its next entry. Who decodes, sets the lines first and reads the bytes afterwards. So one of the
//! two always sees the other (both sides use sequentially consistent operations).

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, SeqCst},
    fence,
};

use super::{PAGE, Ram};

const LINE: u64 = 64;

/// What `Ram` knows of one page. All zero, as a fresh mapping has it, is the state of a page without code.
#[repr(C)]
pub(super) struct PageState {
    lines: AtomicU64,
    generation: AtomicU32,
    write_cached: AtomicU32,
}

/// What marking a range as code found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeMark {
    /// The page is watched: decode now, under this generation.
    Watched(u32),
    /// vCPUs may hold write-fast entries for the page: make them all drop those and acknowledge, then call
    /// `Ram::code_settled` and mark again.
    DropWrites,
    /// No RAM is there.
    NotRam,
}

impl Ram {
    /// Announces that `len` bytes at `gpa`, all inside one page, are about to be decoded.
    pub fn mark_code(&self, gpa: u64, len: u64) -> CodeMark {
        let Some(state) = self.state(gpa) else {
            return CodeMark::NotRam;
        };
        if state.lines.load(SeqCst) == 0 && state.write_cached.load(SeqCst) != 0 {
            return CodeMark::DropWrites;
        }
        let before = state.lines.fetch_or(lines(gpa % PAGE, len), SeqCst);
        if before == 0 && state.write_cached.load(SeqCst) != 0 {
            // Somebody got a write entry between the two looks.
            return CodeMark::DropWrites;
        }
        CodeMark::Watched(state.generation.load(SeqCst))
    }

    /// Ends what `CodeMark::DropWrites` began. To be called while every other vCPU stands still and will drop its write
    /// entries for the page before it goes on. What others have decoded from the page in the meantime becomes stale.
    pub fn code_settled(&self, gpa: u64, len: u64) {
        let Some(state) = self.state(gpa) else { return };
        if state.lines.load(SeqCst) != 0 {
            self.stale(state);
        }
        state.write_cached.store(0, SeqCst);
        state.lines.fetch_or(lines(gpa % PAGE, len), SeqCst);
    }

    fn stale(&self, state: &PageState) {
        state.generation.fetch_add(1, SeqCst);
        self.code_epoch.fetch_add(1, SeqCst);
    }

    /// A number that moves on whenever any page's generation does: while it stands, no block has become stale.
    #[inline(always)]
    pub fn code_epoch(&self) -> u64 {
        self.code_epoch.load(Acquire)
    }

    /// Whether a block decoded from these bytes under `generation` may be entered into a cache: its lines are still
    /// watched and nobody has written since.
    pub fn code_unchanged(&self, gpa: u64, len: u64, generation: u32) -> bool {
        let wanted = lines(gpa % PAGE, len);
        self.state(gpa).is_some_and(|s| {
            s.lines.load(SeqCst) & wanted == wanted && s.generation.load(SeqCst) == generation
        })
    }

    /// The page's generation: it moves on whenever decoded code of the page may have changed.
    #[inline]
    pub fn code_generation(&self, gpa: u64) -> u32 {
        self.state(gpa).map_or(0, |s| s.generation.load(SeqCst))
    }

    /// To be called after every write to guest memory: ends the blocks made from the range. True where there
    /// was code, so that a vCPU that wrote leaves its block.
    #[inline]
    pub fn written(&self, gpa: u64, len: u64) -> bool {
        if len == 0 {
            return false;
        }
        fence(SeqCst);
        let (first, last) = (gpa / PAGE, (gpa.saturating_add(len - 1)) / PAGE);
        let mut hit = false;
        for page in first..=last {
            let from = if page == first { gpa % PAGE } else { 0 };
            let to = if page == last {
                gpa.wrapping_add(len - 1) % PAGE
            } else {
                PAGE - 1
            };
            let Some(state) = self.state(page * PAGE) else {
                return hit;
            };
            if state.lines.load(SeqCst) & lines(from, to - from + 1) != 0 {
                state.lines.store(0, SeqCst);
                self.stale(state);
                hit = true;
            }
        }
        hit
    }

    /// Asks for a write-fast TLB entry: false where the page holds code, and writes must stay slow.
    pub(crate) fn may_cache_writes(&self, gpa: u64) -> bool {
        self.state(gpa).is_some_and(|state| {
            state.write_cached.store(1, SeqCst);
            state.lines.load(SeqCst) == 0
        })
    }

    fn state(&self, gpa: u64) -> Option<&PageState> {
        let (region, offset) = self.region(gpa)?;
        let at = region
            .states
            .at(offset / PAGE * size_of::<PageState>() as u64);
        // SAFETY: the state mapping has an entry for each page of the region, is aligned, lives as long as
        // `self`, is never guest memory, and every bit pattern of its atomics is valid.
        Some(unsafe { &*at.cast::<PageState>() })
    }
}

/// The set of lines that `len` bytes from `offset` in a page touch; the part beyond the page is left out.
fn lines(offset: u64, len: u64) -> u64 {
    let first = offset / LINE;
    let last = (offset.saturating_add(len.max(1) - 1)).min(PAGE - 1) / LINE;
    (u64::MAX >> (63 - (last - first))) << first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_to_decoded_bytes_moves_the_generation() {
        let ram = Ram::new(&[(0, 0x3000)]).unwrap();
        let CodeMark::Watched(g) = ram.mark_code(0x1010, 16) else {
            panic!("nothing was cached")
        };
        assert!(ram.code_unchanged(0x1010, 16, g));
        ram.store_u8(0x1080, 1).unwrap();
        assert!(ram.code_unchanged(0x1010, 16, g), "another line");
        ram.store_u8(0x1001, 1).unwrap();
        assert!(!ram.code_unchanged(0x1010, 16, g), "the same line");
        assert_ne!(ram.code_generation(0x1fff), g);
    }

    #[test]
    fn a_write_over_several_pages_reaches_each() {
        let ram = Ram::new(&[(0, 0x3000)]).unwrap();
        let marks = [0xfc0, 0x1800, 0x2000].map(|at| (at, ram.mark_code(at, 1)));
        ram.write(0xfff, &[0; 0x1002]).unwrap();
        for (at, mark) in marks {
            assert_ne!(CodeMark::Watched(ram.code_generation(at)), mark, "{at:#x}");
        }
    }

    #[test]
    fn cached_writes_are_dropped_before_a_page_becomes_code() {
        let ram = Ram::new(&[(0, 0x1000)]).unwrap();
        assert!(ram.may_cache_writes(0));
        assert_eq!(ram.mark_code(0, 8), CodeMark::DropWrites);
        ram.code_settled(0, 8);
        assert_eq!(ram.mark_code(0, 8), CodeMark::Watched(0));
        assert!(!ram.may_cache_writes(0));
        assert_eq!(ram.mark_code(0x5000, 8), CodeMark::NotRam);
    }

    #[test]
    fn line_sets() {
        assert_eq!(lines(0, 1), 1);
        assert_eq!(lines(63, 2), 3);
        assert_eq!(lines(0, 4096), u64::MAX);
        assert_eq!(lines(4095, 100), 1 << 63);
    }
}
