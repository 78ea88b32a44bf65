//! What each request does. One connection's state, used by several threads at a time.

use super::errno::Errno;
use super::fids::{Fid, Fids, State, Values};
use super::locks::{LockState, Locks};
use super::tree::{self, Node, locked};
use super::wire::{HEADER, MSIZE_MAX, MSIZE_MIN, READ_HEADER, Reply, Request};
use hvf_sys::folder::{Kind, Name};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The one dialect we speak.
const VERSION: &[u8] = b"9P2000.L";
/// The answer to any other.
const UNKNOWN: &[u8] = b"unknown";
/// What a file system of this kind says it is (V9FS_MAGIC).
const FILE_SYSTEM_TYPE: u32 = 0x0102_1997;

/// A lock that somebody of the host is in the way of.
#[derive(Debug)]
pub(super) struct Blocked {
    pub(super) fid: Arc<Fid>,
    pub(super) lock: LockState,
}

/// How a request was answered.
#[derive(Debug)]
pub(super) enum Answer {
    /// By what is in the reply.
    Now,
    /// Not yet: it waits for a lock.
    Later(Blocked),
}

/// One connection.
#[derive(Debug)]
pub(super) struct Session {
    root: Arc<Node>,
    pub(super) read_only: bool,
    pub(super) owner: super::attributes::Owner,
    pub(super) fids: Fids,
    pub(super) values: Values,
    pub(super) locks: Locks,
    /// The longest message that was agreed on; 0 before.
    msize: AtomicU32,
}

impl Session {
    pub(super) fn new(root: Arc<Node>, read_only: bool) -> Self {
        Self {
            root,
            read_only,
            owner: super::attributes::Owner::ours(),
            fids: Fids::default(),
            values: Values::default(),
            locks: Locks::new(read_only),
            msize: AtomicU32::new(0),
        }
    }

    /// The longest message that may come.
    pub(super) fn longest(&self) -> u32 {
        match self.msize.load(Ordering::Relaxed) {
            0 => MSIZE_MAX,
            agreed => agreed,
        }
    }

    /// Does what is asked and writes the answer.
    #[rustfmt::skip]
    pub(super) fn answer(&self, request: Request<'_>, reply: &mut Reply) -> Result<Answer, Errno> {
        if self.msize.load(Ordering::Relaxed) == 0 && !matches!(request, Request::Version { .. }) {
            return Err(Errno::PROTO);
        }
        match request {
            Request::Version { msize, version } => self.version(msize, version, reply),
            // Nobody has to prove who they are.
            Request::Auth => Err(Errno::NOENT),
            Request::Attach { fid, uid } => self.attach(fid, uid, reply),
            Request::Walk { fid, new, names } => self.walk(fid, new, &names, reply),
            Request::Clunk { fid } => self.give_back(fid),
            Request::Statfs { fid } => self.statfs(fid, reply),
            Request::Getattr { fid } => self.getattr(fid, reply),
            Request::Setattr { fid, change } => self.setattr(fid, &change),
            Request::Lopen { fid, flags } => self.lopen(fid, flags, reply),
            Request::Lcreate { fid, name, flags, mode, gid } => self.lcreate(fid, name, flags, mode, gid, reply),
            Request::Read { fid, offset, count } => self.read(fid, offset, count, reply),
            Request::Write { fid, offset, data } => self.write(fid, offset, data, reply),
            Request::Fsync { fid, data_only } => self.fsync(fid, data_only),
            Request::Readdir { fid, offset, count } => self.readdir(fid, offset, count, reply),
            Request::Mkdir { dir, name, mode, gid } => self.mkdir(dir, name, mode, gid, reply),
            Request::Symlink { dir, name, target, gid } => self.symlink(dir, name, target, gid, reply),
            Request::Mknod { dir, name, mode, gid } => self.mknod(dir, name, mode, gid, reply),
            Request::Link { dir, fid, name } => self.link(dir, fid, name),
            Request::Readlink { fid } => self.readlink(fid, reply),
            Request::Rename { fid, dir, name } => self.rename(fid, dir, name),
            Request::Renameat { dir, name, into, to } => self.renameat(dir, name, into, to),
            Request::Unlinkat { dir, name, flags } => self.unlinkat(dir, name, flags),
            Request::Remove { fid } => self.remove(fid),
            Request::Xattrwalk { fid, new, name } => self.xattrwalk(fid, new, name, reply),
            Request::Xattrcreate { fid, name, size, flags } => self.xattrcreate(fid, name, size, flags),
            Request::Getlock { fid, lock } => self.getlock(fid, &lock, reply),
            Request::Lock { fid, flags, lock } => return self.lock(fid, flags, &lock, reply),
            // The server's own.
            Request::Flush { .. } => Err(Errno::INVAL),
        }?;
        Ok(Answer::Now)
    }

    fn version(&self, msize: u32, version: &[u8], reply: &mut Reply) -> Result<(), Errno> {
        if msize < MSIZE_MIN {
            return Err(Errno::INVAL);
        }
        let agreed = msize.min(MSIZE_MAX);
        self.forget();
        self.msize.store(agreed, Ordering::Relaxed);
        reply.u32(agreed);
        // A dialect may have more behind a dot.
        reply.string(if version == VERSION { VERSION } else { UNKNOWN });
        Ok(())
    }

    /// Forgets everything that the client knows.
    pub(super) fn forget(&self) {
        self.fids.clear();
        self.locks.clear();
    }

    fn attach(&self, fid: u32, uid: u32, reply: &mut Reply) -> Result<(), Errno> {
        let stat = self.root.stat()?;
        // Who has no number is nobody special.
        let uid = if uid == u32::MAX { 0 } else { uid };
        self.fids
            .add(fid, Fid::new(self.root.clone(), uid, State::Closed))?;
        reply.qid(self.root.qid(&stat));
        Ok(())
    }

    fn walk(&self, fid: u32, new: u32, names: &[&[u8]], reply: &mut Reply) -> Result<(), Errno> {
        let from = self.fids.find(fid)?;
        let mut node = from.node.clone();
        let mut qids = Vec::new();
        for name in names {
            match step(&node, name) {
                Ok((next, qid)) => {
                    node = next;
                    qids.push(qid);
                }
                Err(error) if qids.is_empty() => return Err(error),
                // The client sees by their number that not all names were found.
                Err(_) => break,
            }
        }
        if qids.len() == names.len() {
            let found = Fid::new(node, from.uid, State::Closed);
            if new == fid {
                self.fids.replace(fid, &from, found)?;
            } else {
                self.fids.add(new, found)?;
            }
        }
        reply.u16(u16::try_from(qids.len()).unwrap_or(u16::MAX));
        qids.into_iter().for_each(|qid| reply.qid(qid));
        Ok(())
    }

    /// Gives a fid back, with what was held by it.
    pub(super) fn give_back(&self, fid: u32) -> Result<(), Errno> {
        let gone = self.fids.remove(fid)?;
        // First closed, then released: a lock that is being granted sees either.
        let state = std::mem::replace(&mut *locked(&gone.state), State::Closed);
        self.locks.release(&gone);
        match state {
            State::NewValue(value) => self.commit(&gone.node, &value),
            _ => Ok(()),
        }
    }

    fn statfs(&self, fid: u32, reply: &mut Reply) -> Result<(), Errno> {
        let space = self.fids.find(fid)?.node.handle()?.space()?;
        reply.u32(FILE_SYSTEM_TYPE);
        reply.u32(u32::try_from(space.block).unwrap_or(u32::MAX));
        space.blocks.iter().for_each(|&it| reply.u64(it));
        space.files.iter().for_each(|&it| reply.u64(it));
        // No number of the file system: it would be the host's.
        reply.u64(0);
        reply.u32(u32::try_from(space.name_max).unwrap_or(u32::MAX));
        Ok(())
    }

    /// How many bytes the answer to a read may carry.
    pub(super) fn room(&self, count: u32) -> usize {
        (count.min(self.longest()) as usize).min(self.longest() as usize - READ_HEADER)
    }

    /// Refuses what would change a folder that is shared for reading.
    pub(super) fn check_writable(&self) -> Result<(), Errno> {
        if self.read_only {
            return Err(Errno::ROFS);
        }
        Ok(())
    }
}

const _: () = assert!(MSIZE_MIN as usize > READ_HEADER && READ_HEADER > HEADER);

/// One step of a walk.
fn step(node: &Arc<Node>, name: &[u8]) -> Result<(Arc<Node>, super::wire::Qid), Errno> {
    let (next, stat) = match name {
        b"." | b".." if node.kind() != Kind::Directory => return Err(Errno::NOTDIR),
        b".." => {
            let parent = node.parent();
            let stat = parent.stat()?;
            (parent, stat)
        }
        b"." => (node.clone(), node.stat()?),
        _ => {
            let name: Name = tree::name(name)?;
            node.child(&name)?
        }
    };
    let qid = next.qid(&stat);
    Ok((next, qid))
}
