//! The messages of 9P2000.L: a length (4 bytes, itself included), a kind (1), a tag (2) and fields, all little-endian;
//! a string is its length (2 bytes) and its bytes. The layouts are those of the protocol's description
//! (diod, protocol.md) and of the Plan 9 manual, section 5.
//!
//! A message that is not exactly as described here is refused: it is never an accident.

use super::errno::Errno;

/// The longest message that we agree to.
pub(super) const MSIZE_MAX: u32 = 512 * 1024;
/// The shortest that we agree to: the longest symbolic link must fit in.
pub(super) const MSIZE_MIN: u32 = 8 * 1024;
/// Length, kind and tag.
pub(super) const HEADER: usize = 7;
/// What an answer has before the bytes that were read: header and count.
pub(super) const READ_HEADER: usize = HEADER + 4;
/// The most names in one walk.
const WALK_MAX: usize = 16;

/// The kinds of requests; an answer's kind is one more.
pub(super) mod kind {
    pub(crate) const LERROR: u8 = 6;
    pub(crate) const STATFS: u8 = 8;
    pub(crate) const LOPEN: u8 = 12;
    pub(crate) const LCREATE: u8 = 14;
    pub(crate) const SYMLINK: u8 = 16;
    pub(crate) const MKNOD: u8 = 18;
    pub(crate) const RENAME: u8 = 20;
    pub(crate) const READLINK: u8 = 22;
    pub(crate) const GETATTR: u8 = 24;
    pub(crate) const SETATTR: u8 = 26;
    pub(crate) const XATTRWALK: u8 = 30;
    pub(crate) const XATTRCREATE: u8 = 32;
    pub(crate) const READDIR: u8 = 40;
    pub(crate) const FSYNC: u8 = 50;
    pub(crate) const LOCK: u8 = 52;
    pub(crate) const GETLOCK: u8 = 54;
    pub(crate) const LINK: u8 = 70;
    pub(crate) const MKDIR: u8 = 72;
    pub(crate) const RENAMEAT: u8 = 74;
    pub(crate) const UNLINKAT: u8 = 76;
    pub(crate) const VERSION: u8 = 100;
    pub(crate) const AUTH: u8 = 102;
    pub(crate) const ATTACH: u8 = 104;
    pub(crate) const FLUSH: u8 = 108;
    pub(crate) const WALK: u8 = 110;
    pub(crate) const READ: u8 = 116;
    pub(crate) const WRITE: u8 = 118;
    pub(crate) const CLUNK: u8 = 120;
    pub(crate) const REMOVE: u8 = 122;
}

/// A request, with names and data in the message's own bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[rustfmt::skip]
pub(super) enum Request<'a> {
    Statfs { fid: u32 },
    Lopen { fid: u32, flags: u32 },
    Lcreate { fid: u32, name: &'a [u8], flags: u32, mode: u32, gid: u32 },
    Symlink { dir: u32, name: &'a [u8], target: &'a [u8], gid: u32 },
    Mknod { dir: u32, name: &'a [u8], mode: u32, gid: u32 },
    Rename { fid: u32, dir: u32, name: &'a [u8] },
    Readlink { fid: u32 },
    Getattr { fid: u32 },
    Setattr { fid: u32, change: SetAttributes },
    Xattrwalk { fid: u32, new: u32, name: &'a [u8] },
    Xattrcreate { fid: u32, name: &'a [u8], size: u64, flags: u32 },
    Readdir { fid: u32, offset: u64, count: u32 },
    Fsync { fid: u32, data_only: bool },
    Lock { fid: u32, flags: u32, lock: LockRequest<'a> },
    Getlock { fid: u32, lock: LockRequest<'a> },
    Link { dir: u32, fid: u32, name: &'a [u8] },
    Mkdir { dir: u32, name: &'a [u8], mode: u32, gid: u32 },
    Renameat { dir: u32, name: &'a [u8], into: u32, to: &'a [u8] },
    Unlinkat { dir: u32, name: &'a [u8], flags: u32 },
    Version { msize: u32, version: &'a [u8] },
    Auth,
    Attach { fid: u32, uid: u32 },
    Flush { old: u16 },
    Walk { fid: u32, new: u32, names: Vec<&'a [u8]> },
    Read { fid: u32, offset: u64, count: u32 },
    Write { fid: u32, offset: u64, data: &'a [u8] },
    Clunk { fid: u32 },
    Remove { fid: u32 },
}

/// What Tsetattr changes; which of it, `valid` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SetAttributes {
    pub(super) valid: u32,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    pub(super) atime: (u64, u64),
    pub(super) mtime: (u64, u64),
}

/// The bits of `SetAttributes::valid`.
pub(super) mod valid {
    pub(crate) const MODE: u32 = 0x1;
    pub(crate) const UID: u32 = 0x2;
    pub(crate) const GID: u32 = 0x4;
    pub(crate) const SIZE: u32 = 0x8;
    pub(crate) const ATIME: u32 = 0x10;
    pub(crate) const MTIME: u32 = 0x20;
    pub(crate) const ATIME_SET: u32 = 0x80;
    pub(crate) const MTIME_SET: u32 = 0x100;
}

/// A lock on a part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LockRequest<'a> {
    /// 0 for reading, 1 for writing, 2 for none.
    pub(super) kind: u8,
    pub(super) start: u64,
    /// 0 for all there is.
    pub(super) length: u64,
    /// The guest's process, and the guest.
    pub(super) process: u32,
    pub(super) client: &'a [u8],
}

/// Takes a message's fields apart.
pub(super) fn decode(kind: u8, body: &[u8]) -> Result<Request<'_>, Errno> {
    let mut fields = Fields(body);
    let request = fields.request(kind)?;
    if fields.0.is_empty() {
        Ok(request)
    } else {
        Err(Errno::INVAL)
    }
}

/// What is left of a message.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    #[rustfmt::skip]
    fn request(&mut self, kind: u8) -> Result<Request<'a>, Errno> {
        // Fields are evaluated in the order in which they are written here: that of the message.
        Ok(match kind {
            kind::STATFS => Request::Statfs { fid: self.u32()? },
            kind::LOPEN => Request::Lopen { fid: self.u32()?, flags: self.u32()? },
            kind::LCREATE => Request::Lcreate {
                fid: self.u32()?, name: self.string()?, flags: self.u32()?, mode: self.u32()?, gid: self.u32()?,
            },
            kind::SYMLINK => Request::Symlink {
                dir: self.u32()?, name: self.string()?, target: self.string()?, gid: self.u32()?,
            },
            kind::MKNOD => {
                let (dir, name, mode) = (self.u32()?, self.string()?, self.u32()?);
                let (_major, _minor) = (self.u32()?, self.u32()?);
                Request::Mknod { dir, name, mode, gid: self.u32()? }
            }
            kind::RENAME => Request::Rename { fid: self.u32()?, dir: self.u32()?, name: self.string()? },
            kind::READLINK => Request::Readlink { fid: self.u32()? },
            kind::GETATTR => {
                let (fid, _mask) = (self.u32()?, self.u64()?);
                Request::Getattr { fid }
            }
            kind::SETATTR => Request::Setattr { fid: self.u32()?, change: self.attributes()? },
            kind::XATTRWALK => Request::Xattrwalk { fid: self.u32()?, new: self.u32()?, name: self.string()? },
            kind::XATTRCREATE => Request::Xattrcreate {
                fid: self.u32()?, name: self.string()?, size: self.u64()?, flags: self.u32()?,
            },
            kind::READDIR => Request::Readdir { fid: self.u32()?, offset: self.u64()?, count: self.u32()? },
            kind::FSYNC => self.fsync()?,
            kind::LOCK => {
                let (fid, kind, flags) = (self.u32()?, self.u8()?, self.u32()?);
                Request::Lock { fid, flags, lock: self.lock(kind)? }
            }
            kind::GETLOCK => {
                let (fid, kind) = (self.u32()?, self.u8()?);
                Request::Getlock { fid, lock: self.lock(kind)? }
            }
            kind::LINK => Request::Link { dir: self.u32()?, fid: self.u32()?, name: self.string()? },
            kind::MKDIR => Request::Mkdir {
                dir: self.u32()?, name: self.string()?, mode: self.u32()?, gid: self.u32()?,
            },
            kind::RENAMEAT => Request::Renameat {
                dir: self.u32()?, name: self.string()?, into: self.u32()?, to: self.string()?,
            },
            kind::UNLINKAT => Request::Unlinkat { dir: self.u32()?, name: self.string()?, flags: self.u32()? },
            kind::VERSION => Request::Version { msize: self.u32()?, version: self.string()? },
            kind::AUTH => {
                self.0 = &[];
                Request::Auth
            }
            kind::ATTACH => {
                let (fid, _afid) = (self.u32()?, self.u32()?);
                let (_user, _tree) = (self.string()?, self.string()?);
                Request::Attach { fid, uid: self.u32()? }
            }
            kind::FLUSH => Request::Flush { old: self.u16()? },
            kind::WALK => Request::Walk { fid: self.u32()?, new: self.u32()?, names: self.names()? },
            kind::READ => Request::Read { fid: self.u32()?, offset: self.u64()?, count: self.u32()? },
            kind::WRITE => Request::Write { fid: self.u32()?, offset: self.u64()?, data: self.data()? },
            kind::CLUNK => Request::Clunk { fid: self.u32()? },
            kind::REMOVE => Request::Remove { fid: self.u32()? },
            _ => return Err(Errno::OPNOTSUPP),
        })
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Errno> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Errno::INVAL)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Errno> {
        self.take(N)?.try_into().map_err(|_| Errno::INVAL)
    }

    fn u8(&mut self) -> Result<u8, Errno> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, Errno> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Errno> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Errno> {
        self.array().map(u64::from_le_bytes)
    }

    fn string(&mut self) -> Result<&'a [u8], Errno> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    fn data(&mut self) -> Result<&'a [u8], Errno> {
        let length = self.u32()?;
        self.take(usize::try_from(length).map_err(|_| Errno::INVAL)?)
    }

    fn names(&mut self) -> Result<Vec<&'a [u8]>, Errno> {
        let count = usize::from(self.u16()?);
        if count > WALK_MAX {
            return Err(Errno::INVAL);
        }
        (0..count).map(|_| self.string()).collect()
    }

    /// The flag came later than the message.
    fn fsync(&mut self) -> Result<Request<'a>, Errno> {
        let fid = self.u32()?;
        let data_only = !self.0.is_empty() && self.u32()? != 0;
        Ok(Request::Fsync { fid, data_only })
    }

    fn lock(&mut self, kind: u8) -> Result<LockRequest<'a>, Errno> {
        Ok(LockRequest {
            kind,
            start: self.u64()?,
            length: self.u64()?,
            process: self.u32()?,
            client: self.string()?,
        })
    }

    fn attributes(&mut self) -> Result<SetAttributes, Errno> {
        Ok(SetAttributes {
            valid: self.u32()?,
            mode: self.u32()?,
            uid: self.u32()?,
            gid: self.u32()?,
            size: self.u64()?,
            atime: (self.u64()?, self.u64()?),
            mtime: (self.u64()?, self.u64()?),
        })
    }
}

/// What identifies a file to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Qid {
    pub(super) kind: u8,
    pub(super) version: u32,
    pub(super) path: u64,
}

impl Qid {
    pub(super) const DIRECTORY: u8 = 0x80;
    pub(super) const LINK: u8 = 0x02;
    pub(super) const FILE: u8 = 0x00;
    /// Its bytes on the wire.
    pub(super) const SIZE: usize = 13;
}

/// An answer that is being written. Its memory is kept for the next one.
#[derive(Debug, Default)]
pub(super) struct Reply {
    /// At least `len` bytes.
    bytes: Vec<u8>,
    len: usize,
}

impl Reply {
    /// Begins afresh.
    pub(super) fn clear(&mut self) {
        self.len = 0;
        self.room(HEADER);
    }

    /// Completes the answer to a request of this kind: a whole message.
    pub(super) fn finish(&mut self, kind: u8, tag: u16, result: Result<(), Errno>) -> &[u8] {
        let mut answer = kind.wrapping_add(1);
        if let Err(Errno(code)) = result {
            self.clear();
            self.u32(code);
            answer = kind::LERROR + 1;
        }
        let length = u32::try_from(self.len).unwrap_or(u32::MAX);
        self.bytes[..4].copy_from_slice(&length.to_le_bytes());
        self.bytes[4] = answer;
        self.bytes[5..HEADER].copy_from_slice(&tag.to_le_bytes());
        &self.bytes[..self.len]
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.room(1)[0] = value;
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    /// A string, cut where its length could not be told.
    pub(super) fn string(&mut self, text: &[u8]) {
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        self.u16(length);
        self.put(&text[..usize::from(length)]);
    }

    pub(super) fn qid(&mut self, qid: Qid) {
        self.u8(qid.kind);
        self.u32(qid.version);
        self.u64(qid.path);
    }

    /// A count and so many bytes, which `fill` puts into the room it is given, saying how many.
    pub(super) fn counted(
        &mut self,
        room: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, Errno>,
    ) -> Result<(), Errno> {
        self.u32(0);
        let start = self.len;
        let count = fill(self.room(room))?.min(room);
        self.close_count(start, count);
        Ok(())
    }

    /// A count and what `fill` writes.
    pub(super) fn counted_fields(
        &mut self,
        fill: impl FnOnce(&mut Self) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        self.u32(0);
        let start = self.len;
        fill(self)?;
        self.close_count(start, self.len - start);
        Ok(())
    }

    fn close_count(&mut self, start: usize, count: usize) {
        let value = u32::try_from(count).unwrap_or(u32::MAX);
        self.bytes[start - 4..start].copy_from_slice(&value.to_le_bytes());
        self.len = start + count;
    }

    fn put(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
    }

    /// The next so many bytes.
    fn room(&mut self, count: usize) -> &mut [u8] {
        let start = self.len;
        self.len += count;
        if self.bytes.len() < self.len {
            self.bytes.resize(self.len, 0);
        }
        &mut self.bytes[start..self.len]
    }
}
