//! Which blocks of a disk the overlay holds: a bit each, in leaves that are made when a first bit is set.
//!
//! A bit never goes back to zero, so that readers need no lock: who sees a bit set finds the block in the overlay.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes in a block: what guests' file systems write at once, and what host file systems allocate.
pub(super) const BLOCK: u64 = 4096;

const WORDS: usize = 512;
/// Blocks in a leaf: 32,768, or 128 MiB of disk for 4 KiB of memory.
const LEAF: u64 = 64 * WORDS as u64;

type Leaf = Box<[AtomicU64]>;

/// A set of blocks that only grows.
pub(super) struct Blocks {
    leaves: Vec<OnceLock<Leaf>>,
}

impl Blocks {
    /// The empty set, for a disk of `bytes` bytes.
    pub(super) fn new(bytes: u64) -> Self {
        let leaves = bytes.div_ceil(BLOCK).div_ceil(LEAF);
        Self {
            leaves: (0..leaves).map(|_| OnceLock::new()).collect(),
        }
    }

    pub(super) fn contains(&self, block: u64) -> bool {
        let leaf = self.leaves.get((block / LEAF) as usize);
        leaf.and_then(OnceLock::get)
            .is_some_and(|leaf| word(leaf, block).load(Ordering::Acquire) >> (block % 64) & 1 != 0)
    }

    /// Adds the blocks from `first` up to `end`, whose contents are in place.
    pub(super) fn insert(&self, first: u64, end: u64) {
        for block in first..end {
            if let Some(leaf) = self.leaves.get((block / LEAF) as usize) {
                let leaf = leaf.get_or_init(|| (0..WORDS).map(|_| AtomicU64::new(0)).collect());
                word(leaf, block).fetch_or(1 << (block % 64), Ordering::Release);
            }
        }
    }

    /// The first block from `first` up to `end` whose state is not that of `first`; `end` where there is none.
    pub(super) fn run(&self, first: u64, end: u64) -> u64 {
        let state = self.contains(first);
        let mut block = first + 1;
        while block < end && self.contains(block) == state {
            block += self.stride(block, end);
        }
        block.min(end)
    }

    /// How many blocks from `block` on are known to be like it at a glance: to the leaf's end where there is no leaf.
    fn stride(&self, block: u64, end: u64) -> u64 {
        let leaf = self.leaves.get((block / LEAF) as usize);
        match leaf.and_then(OnceLock::get) {
            Some(_) => 1,
            None => (LEAF - block % LEAF).min(end - block),
        }
    }
}

fn word(leaf: &[AtomicU64], block: u64) -> &AtomicU64 {
    &leaf[(block % LEAF / 64) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_where_the_state_changes() {
        let blocks = Blocks::new(3 * LEAF * BLOCK);
        let end = 3 * LEAF;
        assert_eq!(blocks.run(5, end), end);
        blocks.insert(LEAF - 2, LEAF + 3);
        assert_eq!(blocks.run(0, end), LEAF - 2);
        assert_eq!(blocks.run(LEAF - 2, end), LEAF + 3);
        assert_eq!(blocks.run(LEAF - 1, LEAF + 1), LEAF + 1);
        assert_eq!(blocks.run(LEAF + 3, end), end);
        assert!(blocks.contains(LEAF + 2) && !blocks.contains(LEAF + 3));
        blocks.insert(end, end + 2);
        assert!(!blocks.contains(end) && !blocks.contains(u64::MAX));
    }
}
