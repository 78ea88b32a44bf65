//! Guest-physical memory as the program has mapped it: the second stage of translation.
//!
//! The framework maps RAM when it is first touched: the guest leaves once for each page, or for none, as the host says.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use hvf_sys::ram::PAGE;

use super::super::vmx::{Access, Error, Result};
use crate::cpu::intercept::{Rights, SecondStage};

/// The map of one VM.
#[derive(Default)]
pub struct Memory {
    ranges: RwLock<Vec<Range>>,
    /// Pages that have been touched, where first touches exit.
    touched: Option<Mutex<BTreeSet<u64>>>,
    changes: AtomicU64,
}

#[derive(Clone, Copy)]
struct Range {
    gpa: u64,
    len: u64,
    rights: Rights,
}

impl Memory {
    /// An empty map.
    pub fn new(first_touch: bool) -> Self {
        Self {
            touched: first_touch.then(Mutex::default),
            ..Self::default()
        }
    }

    /// How often it has changed.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Maps a range that nothing is mapped in.
    pub fn map(&self, gpa: u64, len: u64, access: Access) -> Result<()> {
        let end = pages(gpa, len)?;
        self.change(|ranges| {
            if ranges.iter().any(|r| r.gpa < end && gpa < r.gpa + r.len) {
                return Err(Error::BAD_ARGUMENT);
            }
            ranges.push(Range {
                gpa,
                len,
                rights: rights(access),
            });
            Ok(())
        })
    }

    /// Unmaps a range, all of which is mapped.
    pub fn unmap(&self, gpa: u64, len: u64) -> Result<()> {
        self.replace(gpa, len, None)
    }

    /// Changes the rights of a range, all of which is mapped.
    pub fn protect(&self, gpa: u64, len: u64, access: Access) -> Result<()> {
        self.replace(gpa, len, Some(rights(access)))
    }

    fn replace(&self, gpa: u64, len: u64, new: Option<Rights>) -> Result<()> {
        let end = pages(gpa, len)?;
        self.change(|ranges| {
            let inside = |r: &&Range| r.gpa <= gpa && end <= r.gpa + r.len;
            let Some(found) = ranges.iter().find(inside).copied() else {
                return Err(Error::BAD_ARGUMENT);
            };
            ranges.retain(|r| r.gpa != found.gpa);
            let piece = |gpa: u64, end: u64, rights| Range {
                gpa,
                len: end - gpa,
                rights,
            };
            ranges.push(piece(found.gpa, gpa, found.rights));
            ranges.extend(new.map(|rights| piece(gpa, end, rights)));
            ranges.push(piece(end, found.gpa + found.len, found.rights));
            ranges.retain(|r| r.len > 0);
            Ok(())
        })
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Range>) -> Result<()>) -> Result<()> {
        let mut ranges = self.ranges.write().unwrap_or_else(PoisonError::into_inner);
        let done = change(&mut ranges);
        self.changes.fetch_add(1, Ordering::AcqRel);
        done
    }

    fn mapped(&self, gpa: u64) -> Rights {
        let ranges = self.ranges.read().unwrap_or_else(PoisonError::into_inner);
        let found = ranges.iter().find(|r| gpa.wrapping_sub(r.gpa) < r.len);
        found.map_or(Rights::empty(), |range| range.rights)
    }
}

impl SecondStage for Memory {
    fn rights(&self, gpa: u64) -> Rights {
        let rights = self.mapped(gpa);
        match &self.touched {
            Some(touched) if !rights.is_empty() && lock(touched).insert(gpa / PAGE) => {
                Rights::empty()
            }
            _ => rights,
        }
    }
}

fn lock(touched: &Mutex<BTreeSet<u64>>) -> MutexGuard<'_, BTreeSet<u64>> {
    touched.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The end of a range of whole pages.
fn pages(gpa: u64, len: u64) -> Result<u64> {
    let whole = gpa.is_multiple_of(PAGE) && len.is_multiple_of(PAGE) && len > 0;
    gpa.checked_add(len)
        .filter(|_| whole)
        .ok_or(Error::BAD_ARGUMENT)
}

fn rights(access: Access) -> Rights {
    Rights::from_bits_truncate(access.0 as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_where_their_rights_change() {
        let memory = Memory::new(false);
        memory.map(0x1000, 0x4000, Access::ALL).unwrap();
        let read_only = Access::READ | Access::EXECUTE;
        memory.protect(0x2000, 0x1000, read_only).unwrap();
        memory.unmap(0x4000, 0x1000).unwrap();
        let found: Vec<u8> = (0..6).map(|n| memory.rights(n * PAGE).bits()).collect();
        assert_eq!(found, [0, 7, 5, 7, 0, 0]);
    }

    #[test]
    fn what_is_not_whole_pages_or_mapped_twice_is_refused() {
        let memory = Memory::new(false);
        memory.map(0x1000, 0x2000, Access::ALL).unwrap();
        for (gpa, len) in [
            (0x2000, 0x1000),
            (0x8001, 0x1000),
            (0x8000, 0x10),
            (0x8000, 0),
            (!0xfff, 0x2000),
        ] {
            let refused = memory.map(gpa, len, Access::ALL);
            assert_eq!(refused, Err(Error::BAD_ARGUMENT), "{gpa:#x}+{len:#x}");
        }
        assert_eq!(memory.unmap(0x2000, 0x2000), Err(Error::BAD_ARGUMENT));
    }

    #[test]
    fn only_the_first_touch_of_a_page_exits() {
        let memory = Memory::new(true);
        memory.map(0, 0x2000, Access::ALL).unwrap();
        let touches = [0x10, 0x20, 0x1000, 0x1000].map(|gpa| memory.rights(gpa).bits());
        assert_eq!(touches, [0, 7, 0, 7]);
    }
}
