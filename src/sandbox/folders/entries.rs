//! Making, removing, renaming and linking entries of directories.

use super::errno::Errno;
use super::fids::Fid;
use super::session::Session;
use super::tree::{self, Node, name};
use super::wire::Reply;
use hvf_sys::folder::{Access, Handle, Kind, Name, Stat};
use std::io;
use std::sync::Arc;

/// The mask of the type in a mode, and the types (stat(2) of Linux).
const TYPE: u32 = 0o170_000;
const FIFO: u32 = 0o010_000;
const REGULAR: u32 = 0o100_000;
const SOCKET: u32 = 0o140_000;
/// The flag of Tunlinkat that means a directory.
const REMOVE_DIRECTORY: u32 = 0x200;
/// The permissions that a new object may have.
const MODE: u32 = 0o777;
/// Inherited by a directory: what is made in it has its group.
const SET_GROUP_ID: u32 = 0o2000;
/// Whoever may write a file may keep its owner in an attribute, so this is taken away last.
pub(super) const OWNER_WRITE: u32 = 0o200;

impl Session {
    pub(super) fn mkdir(
        &self,
        dir: u32,
        called: &[u8],
        mode: u32,
        gid: u32,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let mode = mode & MODE;
        self.make(dir, called, gid, Some(mode), reply, |dir, name| {
            dir.make_directory(name, mode | OWNER_WRITE)
        })
    }

    pub(super) fn symlink(
        &self,
        dir: u32,
        called: &[u8],
        target: &[u8],
        gid: u32,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        self.make(dir, called, gid, None, reply, |dir, name| {
            dir.make_link(name, target)
        })
    }

    pub(super) fn mknod(
        &self,
        dir: u32,
        called: &[u8],
        mode: u32,
        gid: u32,
        reply: &mut Reply,
    ) -> Result<(), Errno> {
        let kind = mode & TYPE;
        if !matches!(kind, 0 | REGULAR | FIFO | SOCKET) {
            return Err(Errno::PERM);
        }
        let mode = mode & MODE;
        self.make(dir, called, gid, Some(mode), reply, |dir, name| {
            let mode = mode | OWNER_WRITE;
            match kind {
                FIFO => dir.make_fifo(name, mode),
                SOCKET => dir.make_socket(name, mode),
                _ => dir.create(name, Access::default(), mode).map(drop),
            }
        })
    }

    /// Makes an entry with `make`, gives it to who asked, with these permissions, and tells what it is.
    fn make(
        &self,
        dir: u32,
        called: &[u8],
        gid: u32,
        mode: Option<u32>,
        reply: &mut Reply,
        make: impl FnOnce(&Handle, &Name) -> io::Result<()>,
    ) -> Result<(), Errno> {
        self.check_writable()?;
        let dir: Arc<Fid> = self.fids.find(dir)?;
        let called = name(called)?;
        make(dir.node.directory()?, &called)?;
        let (node, stat) = dir.node.child(&called)?;
        self.owner.give(&node, dir.uid, gid);
        if let Some(mode) = mode {
            set_mode(&node, &stat, mode)?;
        }
        reply.qid(node.qid(&stat));
        Ok(())
    }

    pub(super) fn link(&self, dir: u32, fid: u32, called: &[u8]) -> Result<(), Errno> {
        self.check_writable()?;
        let (dir, fid) = (self.fids.find(dir)?, self.fids.find(fid)?);
        if fid.node.kind() == Kind::Directory {
            return Err(Errno::PERM);
        }
        let called = name(called)?;
        fid.node.handle()?.link(dir.node.directory()?, &called)?;
        Ok(())
    }

    pub(super) fn readlink(&self, fid: u32, reply: &mut Reply) -> Result<(), Errno> {
        let fid = self.fids.find(fid)?;
        if fid.node.kind() != Kind::Link {
            return Err(Errno::INVAL);
        }
        reply.string(&fid.node.handle()?.read_link()?);
        Ok(())
    }

    pub(super) fn rename(&self, fid: u32, into: u32, to: &[u8]) -> Result<(), Errno> {
        self.check_writable()?;
        let (fid, into) = (self.fids.find(fid)?, self.fids.find(into)?);
        let (dir, called) = fid.node.place()?;
        tree::rename(&dir, &called, &into.node, &name(to)?)
    }

    pub(super) fn renameat(
        &self,
        dir: u32,
        called: &[u8],
        into: u32,
        to: &[u8],
    ) -> Result<(), Errno> {
        self.check_writable()?;
        let (dir, into) = (self.fids.find(dir)?, self.fids.find(into)?);
        tree::rename(&dir.node, &name(called)?, &into.node, &name(to)?)
    }

    pub(super) fn unlinkat(&self, dir: u32, called: &[u8], flags: u32) -> Result<(), Errno> {
        self.check_writable()?;
        let dir = self.fids.find(dir)?;
        let called = name(called)?;
        if flags & !REMOVE_DIRECTORY != 0 {
            return Err(Errno::INVAL);
        }
        let directory = flags & REMOVE_DIRECTORY != 0;
        dir.node.directory()?.unlink(&called, directory)?;
        Ok(())
    }

    /// Gives the fid back whether or not the object could be removed.
    pub(super) fn remove(&self, number: u32) -> Result<(), Errno> {
        let fid = self.fids.find(number)?;
        let removed = self.check_writable().and_then(|()| unlink(&fid.node));
        self.give_back(number)?;
        removed
    }
}

fn unlink(node: &Node) -> Result<(), Errno> {
    let (dir, called) = node.place()?;
    dir.directory()?
        .unlink(&called, node.kind() == Kind::Directory)?;
    Ok(())
}

/// The guest has applied its own mask to the permissions, and ours is no business of its files.
fn set_mode(node: &Node, stat: &Stat, mode: u32) -> Result<(), Errno> {
    let inherited = match node.kind() {
        Kind::Directory => stat.mode & SET_GROUP_ID,
        _ => 0,
    };
    if stat.mode & MODE != mode {
        node.handle()?.set_mode(mode | inherited)?;
    }
    Ok(())
}
