//! The log of a named overlay: which blocks the overlay holds, as commits that follow each other.

use std::fs::File;
use std::io;
use std::mem::take;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::blocks::Blocks;
use super::super::medium::Medium;
use super::format::{PAGE, Page, RUNS, Run};

/// The most pages in a commit. So many pages at the end of a log can be torn, and no more.
pub(super) const COMMIT_PAGES: u64 = 64;
/// So many runs may wait for a flush; then there is one without the guest's asking.
const PENDING_MAX: usize = 16 * 1024;

/// The log, open at its end.
pub(in crate::backend::disk) struct Log {
    id: u64,
    /// Byte of the file at which it begins.
    start: u64,
    /// The blocks that are in place but not in the log.
    pending: Mutex<Vec<Run>>,
    tail: Mutex<Tail>,
}

/// Where the next commit goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    /// Its first page.
    pub(super) page: u64,
    /// Its number.
    pub(super) commit: u64,
    /// Whether the host has failed to make data durable, so that nothing more can be called so.
    lost: bool,
}

impl Log {
    /// A log at byte `start` whose next commit goes to `tail`.
    pub(super) fn new(id: u64, start: u64, tail: Tail) -> Self {
        Self {
            id,
            start,
            pending: Mutex::default(),
            tail: Mutex::new(tail),
        }
    }

    /// Blocks have come into place. Says whether it is time for a commit.
    pub(in crate::backend::disk) fn entered(&self, (first, end): Run) -> bool {
        let mut pending = lock(&self.pending);
        match pending.last_mut() {
            Some((_, last)) if *last == first => *last = end,
            _ => pending.push((first, end)),
        }
        pending.len() >= PENDING_MAX
    }

    /// Makes everything written so far durable: first the blocks, then the log that names them. A block is in the log only
    /// after its contents are on the medium.
    pub(in crate::backend::disk) fn commit(&self, medium: &impl Medium) -> io::Result<()> {
        let mut tail = lock(&self.tail);
        if tail.lost {
            return Err(io::Error::other("an earlier flush has failed"));
        }
        let runs = merged(take(&mut *lock(&self.pending)));
        tail.flush(medium)?;
        let mut rest = &runs[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(RUNS * COMMIT_PAGES as usize));
            let written = self.append(medium, &mut tail, now);
            if let Err(error) = written {
                // Where there is room again, they can still be named.
                lock(&self.pending).extend_from_slice(rest);
                return Err(error);
            }
            rest = later;
        }
        Ok(())
    }

    fn append(&self, medium: &impl Medium, tail: &mut Tail, runs: &[Run]) -> io::Result<()> {
        let count = runs.len().div_ceil(RUNS) as u64;
        let pages: Vec<u8> = (tail.page..)
            .zip(runs.chunks(RUNS))
            .flat_map(|(number, runs)| {
                let page = Page {
                    id: self.id,
                    number,
                    commit: tail.commit,
                    last: number + 1 == tail.page + count,
                    runs: runs.to_vec(),
                };
                page.encode()
            })
            .collect();
        medium.write_bytes(self.start + tail.page * PAGE as u64, &pages)?;
        tail.flush(medium)?;
        tail.page += count;
        tail.commit += 1;
        Ok(())
    }
}

impl Tail {
    const START: Self = Self {
        page: 0,
        commit: 1,
        lost: false,
    };

    fn flush(&mut self, medium: &impl Medium) -> io::Result<()> {
        let result = medium.flush();
        self.lost |= result.is_err();
        result
    }
}

/// In order, without neighbours or overlaps.
fn merged(mut runs: Vec<Run>) -> Vec<Run> {
    runs.sort_unstable();
    let mut merged: Vec<Run> = Vec::with_capacity(runs.len());
    for (first, end) in runs {
        match merged.last_mut() {
            Some((_, last)) if *last >= first => *last = end.max(*last),
            _ => merged.push((first, end)),
        }
    }
    merged
}

/// Why a log cannot be believed.
#[derive(Debug)]
pub(super) enum LogDefect {
    /// It cannot be read.
    Unreadable(io::Error),
    /// This page is damaged, and it is not at the end.
    Damaged(u64),
    /// This page names blocks that the disk does not have, or far too many.
    Impossible(u64),
}

impl From<io::Error> for LogDefect {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}

/// Reads a log of `len` bytes at byte `start` into `blocks`, of which there are `count`. Gives its end, behind which there may
/// be the remains of a commit that was not finished.
pub(super) fn replay(
    file: &File,
    id: u64,
    (start, len): (u64, u64),
    count: u64,
    blocks: &Blocks,
) -> Result<Tail, LogDefect> {
    let total = len.div_ceil(PAGE as u64);
    let read = |number: u64| read_page(file, id, start, number);
    let mut tail = Tail::START;
    // What is named, in all: each block is, once, or again when a commit had to be repeated.
    let mut named = 0_u64;
    while tail.page < total {
        let page = read(tail.page)?.filter(|page| page.commit == tail.commit);
        let Some(page) = page else {
            check_remains(tail, total, read)?;
            break;
        };
        for &(first, end) in &page.runs {
            named = named.saturating_add(end - first);
            if first >= end || end > count || named > count.saturating_mul(4) {
                return Err(LogDefect::Impossible(tail.page));
            }
            blocks.insert(first, end);
        }
        tail.page += 1;
        tail.commit += u64::from(page.last);
    }
    Ok(tail)
}

/// Whether what is behind the last good page can be what a crash left: at most one commit's pages, and none of a later one,
/// since a commit begins when all before it is durable.
fn check_remains(
    tail: Tail,
    total: u64,
    read: impl Fn(u64) -> io::Result<Option<Page>>,
) -> Result<(), LogDefect> {
    if total - tail.page > COMMIT_PAGES {
        return Err(LogDefect::Damaged(tail.page));
    }
    for number in tail.page..total {
        if read(number)?.is_some_and(|page| page.commit > tail.commit) {
            return Err(LogDefect::Damaged(tail.page));
        }
    }
    Ok(())
}

/// A page, where it is a whole one of this log.
fn read_page(file: &File, id: u64, start: u64, number: u64) -> io::Result<Option<Page>> {
    let mut bytes = [0; PAGE];
    match file.read_exact_at(&mut bytes, start + number * PAGE as u64) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    Ok(Page::decode(&bytes).filter(|page| page.id == id && page.number == number))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
