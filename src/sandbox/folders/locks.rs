//! Locks on parts of files, which keep out the host's programs.
//!
//! The guest's kernel decides among the guest's programs and asks us only when they agree, so what one of them holds is never
//! in the way of another here; but it may ask in another order than it decided, so owners are told apart all the same. What
//! the guest holds together is locked on the host, by one open file per file: for writing where anybody writes, else for reading.
//! What is locked as a whole is on Linux also locked as flock(2) does, since we cannot tell which of the two the guest's
//! program uses, and one of the host may use either.
//!
//! A lock that must wait is tried again until it is granted, so that no thread waits for it.

use super::errno::Errno;
use super::fids::{Fid, Opened};
use super::session::{Answer, Blocked, Session};
use super::tree::{Id, Permit, locked};
use super::wire::{LockRequest, Reply};
use hvf_sys::folder::{Access, Lock, LockKind, set_lock, test_lock};
use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io;
use std::sync::{Arc, Mutex};

/// The most locks on one file and on all of them.
const FILE_LOCKS_MAX: usize = 512;
const LOCKS_MAX: usize = 1 << 14;
/// The longest name of a client.
const CLIENT_MAX: usize = 255;
/// The flag of Tlock that allows us to wait.
const BLOCK: u32 = 1;
/// The last byte that a lock can be on.
const LAST: u64 = i64::MAX as u64;

/// What Rlock says.
pub(super) mod status {
    pub(crate) const SUCCESS: u8 = 0;
    pub(crate) const BLOCKED: u8 = 1;
}

/// A lock that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LockState {
    kind: LockKind,
    range: Range,
    /// The guest, and its process.
    owner: (Arc<[u8]>, u32),
}

/// The first byte and the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u64,
    last: u64,
}

impl Range {
    const ALL: Self = Self {
        first: 0,
        last: LAST,
    };

    fn contains(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// What of it lies before and behind another.
    fn without(self, other: Self) -> impl Iterator<Item = Self> {
        let before = other.first.checked_sub(1).map(|last| Self {
            last: last.min(self.last),
            ..self
        });
        let behind = Self {
            first: self.first.max(other.last.saturating_add(1)),
            ..self
        };
        let parts = [before, Some(behind)].into_iter().flatten();
        parts.filter(|it| it.first <= it.last)
    }

    fn lock(self, kind: LockKind) -> Lock {
        // To the last byte means to the end, however far that will be.
        let len = if self.last == LAST {
            0
        } else {
            self.last - self.first + 1
        };
        Lock {
            kind,
            start: self.first,
            len,
        }
    }
}

impl LockState {
    fn new(request: &LockRequest<'_>) -> Result<Self, Errno> {
        let kind = match request.kind {
            0 => LockKind::Read,
            1 => LockKind::Write,
            2 => LockKind::Free,
            _ => return Err(Errno::INVAL),
        };
        if request.client.len() > CLIENT_MAX || request.start > LAST {
            return Err(Errno::INVAL);
        }
        let last = match request.length {
            0 => LAST,
            length => request.start.saturating_add(length - 1).min(LAST),
        };
        Ok(Self {
            kind,
            range: Range {
                first: request.start,
                last,
            },
            owner: (request.client.into(), request.process),
        })
    }
}

/// A lock that is held.
#[derive(Clone, Debug)]
struct Held {
    lock: LockState,
    /// By which fid it came; it goes with it.
    fid: Arc<Fid>,
}

/// The locks on one file.
#[derive(Debug)]
struct Locked {
    /// What holds them on the host.
    holder: Arc<Opened>,
    held: Vec<Held>,
}

/// The locks of a connection.
#[derive(Debug)]
pub(super) struct Locks {
    read_only: bool,
    files: Mutex<HashMap<Id, Locked>>,
}

impl Locks {
    pub(super) fn new(read_only: bool) -> Self {
        Self {
            read_only,
            files: Mutex::default(),
        }
    }

    /// Locks or frees. False where somebody of the host is in the way.
    fn set(&self, fid: &Arc<Fid>, opened: &Arc<Opened>, lock: &LockState) -> Result<bool, Errno> {
        let mut files = locked(&self.files);
        let id = fid.node.id();
        if lock.kind != LockKind::Free {
            let all: usize = files.values().map(|it| it.held.len()).sum();
            if all >= LOCKS_MAX {
                return Err(Errno::NOLCK);
            }
            files.entry(id).or_insert_with(|| Locked {
                holder: self.holder(fid, opened),
                held: Vec::new(),
            });
        }
        let Some(file) = files.get_mut(&id) else {
            return Ok(true);
        };
        let set = file.change(lock.range, |held| held.set(fid, lock));
        if file.held.is_empty() {
            files.remove(&id);
        }
        set
    }

    /// Frees what came by a fid.
    pub(super) fn release(&self, fid: &Arc<Fid>) {
        let mut files = locked(&self.files);
        let id = fid.node.id();
        let Some(file) = files.get_mut(&id) else {
            return;
        };
        file.release(fid);
        if file.held.is_empty() {
            files.remove(&id);
        }
    }

    pub(super) fn clear(&self) {
        locked(&self.files).clear();
    }

    /// An open file of our own, since a lock must outlive the fid that it came by where another holds it too.
    fn holder(&self, fid: &Fid, opened: &Arc<Opened>) -> Arc<Opened> {
        let open = |write| {
            let access = Access {
                read: true,
                write,
                ..Access::default()
            };
            let permit = Permit::take()?;
            let file = fid.node.handle()?.open(access)?;
            Ok::<_, Errno>(Opened::new(file, write, permit))
        };
        let best = if self.read_only {
            open(false)
        } else {
            open(true).or_else(|_| open(false))
        };
        best.unwrap_or_else(|_| opened.clone())
    }

    /// Somebody of the host who is in the way of a lock.
    fn test(&self, fid: &Fid, opened: &Opened, lock: &LockState) -> Result<Option<Lock>, Errno> {
        let files = locked(&self.files);
        let holder = files.get(&fid.node.id()).map(|it| it.holder.clone());
        let file = holder.as_ref().map_or(&opened.file, |it| &it.file);
        Ok(test_lock(file, lock.range.lock(lock.kind))?)
    }
}

/// What can be done to the locks that are held on a file.
trait Change {
    fn set(&mut self, fid: &Arc<Fid>, lock: &LockState) -> Result<(), Errno>;
}

impl Change for Vec<Held> {
    /// A process has one lock on each byte: the last one that it asked for.
    fn set(&mut self, fid: &Arc<Fid>, lock: &LockState) -> Result<(), Errno> {
        let mut kept = Vec::with_capacity(self.len() + 2);
        for held in self.drain(..) {
            if held.lock.owner != lock.owner {
                kept.push(held);
                continue;
            }
            for range in held.lock.range.without(lock.range) {
                let mut part = held.clone();
                part.lock.range = range;
                kept.push(part);
            }
        }
        if lock.kind != LockKind::Free {
            kept.push(Held {
                lock: lock.clone(),
                fid: fid.clone(),
            });
        }
        *self = kept;
        // Freeing the middle of a lock also makes one more, but must not fail.
        if lock.kind != LockKind::Free && self.len() > FILE_LOCKS_MAX {
            return Err(Errno::NOLCK);
        }
        Ok(())
    }
}

impl Locked {
    /// Changes what is held within a range, here and on the host; both or neither.
    fn change(
        &mut self,
        range: Range,
        change: impl FnOnce(&mut Vec<Held>) -> Result<(), Errno>,
    ) -> Result<bool, Errno> {
        let before = self.held.clone();
        let changed = change(&mut self.held).and_then(|()| self.tell_host(range));
        if !matches!(changed, Ok(true)) {
            self.held = before;
            // What was granted once is granted again, unless somebody was faster: then the guest goes on without.
            let _ = self.tell_host(range);
        }
        changed
    }

    /// Gives up what came by a fid. Nobody can ask for that again, so it is gone here even where the host fails; there it
    /// goes with the holder at the latest.
    fn release(&mut self, fid: &Arc<Fid>) {
        self.held.retain(|it| !Arc::ptr_eq(&it.fid, fid));
        for (range, kind) in together(&self.held, Range::ALL) {
            let _ = self.tell_part(range.lock(kind));
        }
        self.tell_whole();
    }

    /// Makes the host's locks within a range what the guest holds together.
    fn tell_host(&self, range: Range) -> Result<bool, Errno> {
        for (range, kind) in together(&self.held, range) {
            if !self.tell_part(range.lock(kind))? {
                return Ok(false);
            }
        }
        Ok(self.tell_whole())
    }

    fn tell_whole(&self) -> bool {
        let whole = |it: &&Held| it.lock.range.contains(Range::ALL);
        let whole = strongest(self.held.iter().filter(whole));
        lock_whole(&self.holder.file, whole)
    }

    fn tell_part(&self, lock: Lock) -> Result<bool, Errno> {
        // flock(2) locks for writing what is open for reading; here that keeps out those who write.
        let kind = match lock.kind {
            LockKind::Write if !self.holder.write => LockKind::Read,
            kind => kind,
        };
        match set_lock(&self.holder.file, Lock { kind, ..lock }) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(true),
            result => Ok(result?),
        }
    }
}

/// Locks the file as flock(2) does. A file system that cannot has nobody who could be kept out.
fn lock_whole(file: &File, kind: LockKind) -> bool {
    if !cfg!(target_os = "linux") {
        // There it would be in the way of the lock that this very file has.
        return true;
    }
    let result = match kind {
        LockKind::Read => file.try_lock_shared(),
        LockKind::Write => file.try_lock(),
        LockKind::Free => file.unlock().map_err(TryLockError::Error),
    };
    !matches!(result, Err(TryLockError::WouldBlock))
}

/// The strongest of some locks.
fn strongest<'a>(held: impl Iterator<Item = &'a Held>) -> LockKind {
    held.fold(LockKind::Free, |so_far, it| match (so_far, it.lock.kind) {
        (LockKind::Write, _) | (_, LockKind::Write) => LockKind::Write,
        (LockKind::Read, _) | (_, LockKind::Read) => LockKind::Read,
        _ => LockKind::Free,
    })
}

/// What is held together within a range, part by part.
fn together(held: &[Held], range: Range) -> Vec<(Range, LockKind)> {
    let edges = held
        .iter()
        .flat_map(|it| [it.lock.range.first, it.lock.range.last.saturating_add(1)]);
    let mut firsts: Vec<u64> = edges
        .filter(|&it| range.first < it && it <= range.last)
        .chain([range.first])
        .collect();
    firsts.sort_unstable();
    firsts.dedup();
    let ends = firsts[1..].iter().map(|it| it - 1).chain([range.last]);
    firsts
        .iter()
        .zip(ends)
        .map(|(&first, last)| {
            let part = Range { first, last };
            let over = held.iter().filter(|it| it.lock.range.contains(part));
            (part, strongest(over))
        })
        .collect()
}

impl Session {
    pub(super) fn lock(
        &self,
        fid: u32,
        flags: u32,
        request: &LockRequest<'_>,
        reply: &mut Reply,
    ) -> Result<Answer, Errno> {
        let fid = self.fids.find(fid)?;
        let lock = LockState::new(request)?;
        let blocked = Blocked { fid, lock };
        if self.try_again(&blocked)? {
            reply.u8(status::SUCCESS);
        } else if flags & BLOCK != 0 {
            return Ok(Answer::Later(blocked));
        } else {
            reply.u8(status::BLOCKED);
        }
        Ok(Answer::Now)
    }

    /// Whether the lock is granted now.
    pub(super) fn try_again(&self, blocked: &Blocked) -> Result<bool, Errno> {
        let Blocked { fid, lock } = blocked;
        let opened = fid.file().ok_or(Errno::BADF)?;
        let granted = self.locks.set(fid, &opened, lock)?;
        // Given back meanwhile, when it had no lock yet.
        if fid.file().is_none() {
            self.locks.release(fid);
            return Err(Errno::BADF);
        }
        Ok(granted)
    }

    pub(super) fn getlock(
        &self,
        fid: u32,
        request: &LockRequest<'_>,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let fid = self.fids.find(fid)?;
        let opened = fid.file().ok_or(Errno::BADF)?;
        let lock = LockState::new(request)?;
        let found = match lock.kind {
            LockKind::Free => None,
            _ => self.locks.test(&fid, &opened, &lock)?,
        };
        let (kind, start, length, process) = match found {
            None => (2, request.start, request.length, request.process),
            // A process of the host is none of the guest's.
            Some(lock) => (
                u8::from(lock.kind == LockKind::Write),
                lock.start,
                lock.len,
                0,
            ),
        };
        reply.u8(kind);
        reply.u64(start);
        reply.u64(length);
        reply.u32(process);
        reply.string(request.client);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fids::State;
    use super::super::tree;
    use super::*;

    fn lock(kind: LockKind, process: u32) -> LockState {
        let range = Range { first: 0, last: 9 };
        let owner = (Arc::from(&b"guest"[..]), process);
        LockState { kind, range, owner }
    }

    #[test]
    fn what_a_fid_held_goes_with_it_even_where_the_host_fails() {
        let dir = tempfile::tempdir().unwrap();
        let node = tree::root(dir.path()).unwrap();
        let fid = || Fid::new(node.clone(), 0, State::Closed);
        let (writes, reads) = (fid(), fid());
        // Without reading it cannot be locked for reading, which is what is left in the end.
        let file = File::create(dir.path().join("file")).unwrap();
        let mut file = Locked {
            holder: Opened::new(file, true, Permit::take().unwrap()),
            held: Vec::new(),
        };
        for (fid, lock) in [
            (&writes, lock(LockKind::Write, 1)),
            (&reads, lock(LockKind::Read, 2)),
        ] {
            let set = file.change(lock.range, |held| held.set(fid, &lock));
            assert_eq!(set, Ok(true));
        }
        file.release(&writes);
        assert_eq!(file.held.len(), 1);
        file.release(&reads);
        assert!(file.held.is_empty());
    }
}
