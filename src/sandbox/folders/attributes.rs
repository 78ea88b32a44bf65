//! Attributes of objects, and whose they are.

use super::errno::Errno;
use super::session::Session;
use super::tree::Node;
use super::wire::{Reply, SetAttributes, valid};
use hvf_sys::folder::{Kind, Stat, Time, effective_ids};
use std::ffi::CStr;

/// The attribute that keeps the owner that the guest gave a file: `UID:GID`.
pub(super) const OWNER: &CStr = c"user.xlaunch.owner";
/// The longest text that it can have.
const OWNER_LEN: usize = 2 * 10 + 1;
/// Whom the guest sees where the host's root is another than the guest's.
const NOBODY: u32 = 65_534;
/// Which fields of Rgetattr mean something: all but the time of birth, the generation and the version of the data.
const BASIC: u64 = 0x7ff;
/// The permissions that a directory of the host may have: all but set-user-id.
const DIRECTORY_MODE: u32 = 0o3777;

/// Who owns new files on the host: the guest's root and its group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    uid: u32,
    gid: u32,
}

impl Owner {
    /// Who runs us.
    pub(super) fn ours() -> Self {
        let (uid, gid) = effective_ids();
        Self { uid, gid }
    }

    /// Whose the guest takes an object for.
    fn shown(self, node: &Node, stat: &Stat) -> (u32, u32) {
        self.kept(node).unwrap_or_else(|| self.natural(stat))
    }

    /// What the host's owner is to the guest.
    fn natural(self, stat: &Stat) -> (u32, u32) {
        let map = |theirs: u32, ours: u32| match theirs {
            _ if theirs == ours => 0,
            0 => NOBODY,
            _ => theirs,
        };
        (map(stat.uid, self.uid), map(stat.gid, self.gid))
    }

    /// What the guest has said itself.
    fn kept(self, node: &Node) -> Option<(u32, u32)> {
        if !has_attributes(node) {
            return None;
        }
        let text = node.handle().ok()?.attribute(OWNER, OWNER_LEN).ok()?;
        let (uid, gid) = std::str::from_utf8(&text).ok()?.split_once(':')?;
        Some((uid.parse().ok()?, gid.parse().ok()?))
    }

    /// Keeps another owner, or forgets it where the host's own will do.
    fn keep(self, node: &Node, stat: &Stat, owner: (u32, u32)) -> Result<(), Errno> {
        if owner == self.shown(node, stat) {
            return Ok(());
        }
        if !has_attributes(node) {
            return Err(Errno::PERM);
        }
        let handle = node.handle()?;
        let kept = if owner == self.natural(stat) {
            handle.remove_attribute(OWNER)
        } else {
            let text = format!("{}:{}", owner.0, owner.1);
            handle.set_attribute(OWNER, text.as_bytes(), false, false)
        };
        kept.map_err(|_| Errno::PERM)
    }

    /// Gives an object that was just made to the guest's user who made it. Where that cannot be kept it stays the root's:
    /// that is no reason not to make it.
    pub(super) fn give(self, node: &Node, uid: u32, gid: u32) {
        if let Ok(stat) = node.stat() {
            let _ = self.keep(node, &stat, (uid, gid));
        }
    }
}

/// User attributes are for regular files and directories (xattr(7)).
fn has_attributes(node: &Node) -> bool {
    matches!(node.kind(), Kind::File | Kind::Directory)
}

impl Session {
    pub(super) fn getattr(&self, fid: u32, reply: &mut Reply) -> Result<(), Errno> {
        let fid = self.fids.find(fid)?;
        // An open file is there also after it was removed.
        let stat = match fid.file() {
            Some(opened) => Stat::of(&opened.file)?,
            None => fid.node.stat()?,
        };
        let (uid, gid) = self.owner.shown(&fid.node, &stat);
        reply.u64(BASIC);
        reply.qid(fid.node.qid(&stat));
        for word in [stat.mode, uid, gid] {
            reply.u32(word);
        }
        let device = device(stat.rdev);
        for word in [stat.nlink, device, stat.size, stat.blksize, stat.blocks] {
            reply.u64(word);
        }
        let unknown = (0, 0);
        for (sec, nsec) in [stat.atime, stat.mtime, stat.ctime, unknown] {
            reply.u64(sec.cast_unsigned());
            reply.u64(u64::from(nsec));
        }
        let (generation, data_version) = (0, 0);
        reply.u64(generation);
        reply.u64(data_version);
        Ok(())
    }

    pub(super) fn setattr(&self, fid: u32, change: &SetAttributes) -> Result<(), Errno> {
        self.check_writable()?;
        let fid = self.fids.find(fid)?;
        let node = &fid.node;
        let has = |bit| change.valid & bit != 0;
        if has(valid::SIZE) {
            match fid.file().filter(|it| it.write) {
                Some(opened) => opened.file.set_len(change.size)?,
                None if node.kind() == Kind::File => node.handle()?.set_len(change.size)?,
                None => return Err(Errno::INVAL),
            }
        }
        if has(valid::UID) || has(valid::GID) {
            let stat = node.stat()?;
            let (uid, gid) = self.owner.shown(node, &stat);
            let uid = if has(valid::UID) { change.uid } else { uid };
            let gid = if has(valid::GID) { change.gid } else { gid };
            self.owner.keep(node, &stat, (uid, gid))?;
        }
        if has(valid::MODE) {
            let allowed = match node.kind() {
                Kind::Link => return Err(Errno::OPNOTSUPP),
                Kind::Directory => DIRECTORY_MODE,
                Kind::File | Kind::Special => super::files::FILE_MODE,
            };
            node.handle()?.set_mode(change.mode & allowed)?;
        }
        if has(valid::ATIME) || has(valid::MTIME) {
            let access = time(has(valid::ATIME), has(valid::ATIME_SET), change.atime)?;
            let modified = time(has(valid::MTIME), has(valid::MTIME_SET), change.mtime)?;
            node.handle()?.set_times(access, modified)?;
        }
        Ok(())
    }
}

fn time(changed: bool, given: bool, (sec, nsec): (u64, u64)) -> Result<Time, Errno> {
    match (changed, given) {
        (false, _) => Ok(Time::Keep),
        (true, false) => Ok(Time::Now),
        (true, true) => {
            let nsec = u32::try_from(nsec).map_err(|_| Errno::INVAL)?;
            Ok(Time::At(sec.cast_signed(), nsec))
        }
    }
}

/// A device's number as Linux packs it: major in bits 19-8, minor around it.
fn device((major, minor): (u32, u32)) -> u64 {
    let (major, minor) = (u64::from(major & 0xfff), u64::from(minor & 0xf_ffff));
    minor & 0xff | major << 8 | (minor & !0xff) << 12
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_files_are_is_told_by_who_started_us() {
        let stat = |uid, gid| Stat {
            uid,
            gid,
            ..Stat::default()
        };
        let (root, user) = (
            Owner { uid: 0, gid: 0 },
            Owner {
                uid: 1000,
                gid: 100,
            },
        );
        for (owner, theirs, shown) in [
            (root, (0, 0), (0, 0)),
            (root, (1000, 100), (1000, 100)),
            (user, (1000, 100), (0, 0)),
            (user, (1000, 5), (0, 5)),
            (user, (0, 0), (NOBODY, NOBODY)),
            (user, (7, 100), (7, 0)),
        ] {
            let found = owner.natural(&stat(theirs.0, theirs.1));
            assert_eq!(found, shown, "{owner:?} {theirs:?}");
        }
    }

    #[test]
    fn devices_are_numbered_as_linux_packs_them() {
        for (numbers, packed) in [
            ((1, 3), 0x103),
            ((8, 0x12345), 0x1230_0845),
            ((0xfff, 0xf_ffff), 0xffff_ffff),
        ] {
            assert_eq!(device(numbers), packed);
        }
    }
}
