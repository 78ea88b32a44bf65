//! Opening, creating, reading and writing.

use super::entries::OWNER_WRITE;
use super::errno::Errno;
use super::fids::{Fid, Opened, State};
use super::session::Session;
use super::tree::{Node, Permit, locked, name};
use super::wire::{Qid, Reply};
use hvf_sys::folder::{Access, Entry, Kind, Listing, Stat};
use std::fs::{File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::sync::Arc;

/// The flags of Tlopen and Tlcreate: those of Linux on x86, of which we honour these.
mod flag {
    pub(super) const ACCESS: u32 = 0o3;
    pub(super) const WRITE_ONLY: u32 = 0o1;
    pub(super) const READ_WRITE: u32 = 0o2;
    pub(super) const EXCLUSIVE: u32 = 0o200;
    pub(super) const TRUNCATE: u32 = 0o1000;
    pub(super) const DATA_SYNC: u32 = 0o10_000;
    pub(super) const DIRECTORY: u32 = 0o200_000;
    pub(super) const SYNC: u32 = 0o4_000_000;
}

/// The permissions that a file of the host may have.
pub(super) const FILE_MODE: u32 = 0o777;

/// What the flags ask for. Appending is not among it: every write says where, and what the client has cached must not
/// land at the end.
fn access(flags: u32) -> Result<Access, Errno> {
    let (read, write) = match flags & flag::ACCESS {
        0 => (true, false),
        flag::WRITE_ONLY => (false, true),
        flag::READ_WRITE => (true, true),
        _ => return Err(Errno::INVAL),
    };
    Ok(Access {
        read,
        write,
        truncate: flags & flag::TRUNCATE != 0,
        sync: flags & (flag::SYNC | flag::DATA_SYNC) != 0,
    })
}

impl Session {
    pub(super) fn lopen(&self, fid: u32, flags: u32, reply: &mut Reply) -> Result<(), Errno> {
        let fid = self.fids.find(fid)?;
        let access = access(flags)?;
        let mut state = locked(&fid.state);
        if !matches!(*state, State::Closed) {
            return Err(Errno::BADF);
        }
        let stat = match fid.node.kind() {
            Kind::Directory if access.write || access.truncate => return Err(Errno::ISDIR),
            Kind::Directory => {
                let permit = Permit::take()?;
                *state = State::Directory {
                    listing: Listing::open(fid.node.handle()?)?,
                    _permit: permit,
                };
                fid.node.stat()?
            }
            _ if flags & flag::DIRECTORY != 0 => return Err(Errno::NOTDIR),
            Kind::File => {
                let (opened, stat) = self.open(&fid.node, access)?;
                *state = State::File(opened);
                stat
            }
            Kind::Link => return Err(Errno::LOOP),
            Kind::Special => return Err(Errno::NXIO),
        };
        opened(reply, fid.node.qid(&stat));
        Ok(())
    }

    /// Opens a regular file.
    fn open(&self, node: &Node, access: Access) -> Result<(Arc<Opened>, Stat), Errno> {
        if access.write || access.truncate {
            self.check_writable()?;
        }
        let permit = Permit::take()?;
        let file = node.handle()?.open(access)?;
        let stat = Stat::of(&file)?;
        if stat.id() != node.id() {
            return Err(Errno::STALE);
        }
        Ok((Opened::new(file, access.write, permit), stat))
    }

    pub(super) fn lcreate(
        &self,
        number: u32,
        called: &[u8],
        flags: u32,
        mode: u32,
        gid: u32,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        self.check_writable()?;
        let fid = self.fids.find(number)?;
        if !matches!(*locked(&fid.state), State::Closed) {
            return Err(Errno::BADF);
        }
        let called = name(called)?;
        let access = access(flags)?;
        let permits = (Permit::take()?, Permit::take()?);
        let made = fid
            .node
            .directory()?
            .create(&called, access, mode & FILE_MODE | OWNER_WRITE);
        let (node, open, stat) = match made {
            Ok((file, handle)) => {
                let (node, _) = fid.node.adopt(handle, &called, permits.0)?;
                self.owner.give(&node, fid.uid, gid);
                set_mode_of_new(&file, mode)?;
                let stat = Stat::of(&file)?;
                (node, Opened::new(file, access.write, permits.1), stat)
            }
            Err(error)
                if error.kind() == ErrorKind::AlreadyExists && flags & flag::EXCLUSIVE == 0 =>
            {
                let (node, _) = fid.node.child(&called)?;
                if node.kind() != Kind::File {
                    return Err(Errno::EXIST);
                }
                let (open, stat) = self.open(&node, access)?;
                (node, open, stat)
            }
            Err(error) => return Err(error.into()),
        };
        let qid = node.qid(&stat);
        let new = Fid::new(node, fid.uid, State::File(open));
        self.fids.replace(number, &fid, new)?;
        opened(reply, qid);
        Ok(())
    }

    pub(super) fn read(
        &self,
        fid: u32,
        offset: u64,
        count: u32,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let fid = self.fids.find(fid)?;
        let room = self.room(count);
        let state = locked(&fid.state);
        match &*state {
            State::File(opened) => {
                let opened = opened.clone();
                drop(state);
                reply.counted(room, |into| {
                    Ok(again(|| opened.file.read_at(into, offset))?)
                })
            }
            State::Value { value, .. } => {
                let value = value.clone();
                drop(state);
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let rest = value.get(start..).unwrap_or_default();
                let count = rest.len().min(room);
                reply.counted(count, |into| {
                    into.copy_from_slice(&rest[..count]);
                    Ok(count)
                })
            }
            State::Directory { .. } => Err(Errno::ISDIR),
            State::Closed | State::NewValue(_) => Err(Errno::BADF),
        }
    }

    pub(super) fn write(
        &self,
        fid: u32,
        offset: u64,
        data: &[u8],
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        self.check_writable()?;
        let fid = self.fids.find(fid)?;
        let mut state = locked(&fid.state);
        let count = match &mut *state {
            State::File(opened) => {
                let opened = opened.clone();
                drop(state);
                again(|| opened.file.write_at(data, offset))?
            }
            State::NewValue(value) => value.write(offset, data)?,
            _ => return Err(Errno::BADF),
        };
        reply.u32(u32::try_from(count).unwrap_or(u32::MAX));
        Ok(())
    }

    pub(super) fn fsync(&self, fid: u32, data_only: bool) -> Result<(), Errno> {
        let fid = self.fids.find(fid)?;
        match fid.file() {
            Some(opened) if data_only => again(|| opened.file.sync_data())?,
            Some(opened) => again(|| opened.file.sync_all())?,
            None if fid.node.kind() == Kind::Directory => {
                let directory = fid.node.directory()?;
                again(|| directory.sync_directory())?;
            }
            None => return Err(Errno::BADF),
        }
        Ok(())
    }

    pub(super) fn readdir(
        &self,
        fid: u32,
        offset: u64,
        count: u32,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let fid = self.fids.find(fid)?;
        let room = self.room(count);
        let mut state = locked(&fid.state);
        let State::Directory { listing, .. } = &mut *state else {
            return Err(Errno::BADF);
        };
        reply.counted_fields(|reply| {
            let mut left = room;
            let (mut any, mut refused) = (false, false);
            listing.read(offset, room, |entry| {
                let needed = ENTRY_HEADER + entry.name.len();
                if needed > left {
                    refused = true;
                    return false;
                }
                left -= needed;
                any = true;
                put_entry(&fid.node, &entry, reply);
                true
            })?;
            // An empty answer would mean that this is the end.
            if refused && !any {
                return Err(Errno::INVAL);
            }
            Ok(())
        })
    }
}

/// What an entry has besides its name: qid, position, type and the length of the name.
const ENTRY_HEADER: usize = Qid::SIZE + 8 + 1 + 2;

fn put_entry(dir: &Arc<Node>, entry: &Entry<'_>, reply: &mut Reply) {
    reply.qid(qid_of(dir, entry));
    reply.u64(entry.next);
    reply.u8(entry.dtype);
    reply.string(entry.name);
}

fn qid_of(dir: &Arc<Node>, entry: &Entry<'_>) -> Qid {
    match (entry.name, entry.kind) {
        (b".", _) => dir.entry_qid(dir.id().1, Kind::Directory),
        // Nothing is told of what is above the folder.
        (b"..", _) => dir.parent().own_qid(),
        (_, Some(kind)) => dir.entry_qid(entry.ino, kind),
        (bytes, None) => {
            let found = name(bytes).and_then(|name| dir.child(&name));
            let qid = found.map(|(node, stat)| node.qid(&stat));
            qid.unwrap_or_else(|_| dir.entry_qid(entry.ino, Kind::Special))
        }
    }
}

/// The answer to what opens; the client takes the longest message for the size of transfers.
fn opened(reply: &mut Reply, qid: Qid) {
    reply.qid(qid);
    reply.u32(0);
}

/// The guest has applied its own mask to the permissions, and ours is no business of its files.
fn set_mode_of_new(file: &File, mode: u32) -> io::Result<()> {
    let wanted = mode & FILE_MODE;
    if file.metadata()?.permissions().mode() & FILE_MODE == wanted {
        return Ok(());
    }
    file.set_permissions(Permissions::from_mode(wanted))
}

/// A signal is no reason to fail.
pub(super) fn again<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
