//! The lock on an image: one who writes, or any number who read.
//!
//! It is `flock`, on every host. Such a lock belongs to the open file, not to the process: closing another handle of the
//! image does not drop it (which undoes locks of `fcntl`), it is gone when the process is, however that ends, and
//! an image that is named twice in one machine meets itself. It is also what udev and others respect on block devices,
//! and what `flock(1)` takes. Its price: it does not exclude programs that take locks of `fcntl` only.
//!
//! Who has it is not known to `flock`. Linux lists the holders in /proc/locks, those that are not of our kind too; where that
//! tells nothing, and on other hosts, the holder's signature does (`hvf_sys::record_lock`), which each leaves beside its lock.
//! Nothing is written anywhere, so nothing is left behind. A host that keeps both kinds of locks in one list may refuse the
//! signature beside a lock of its own; then it tells who has the lock itself, or nobody.
//!
//! A file system without locks is used without them.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::process;

use hvf_sys::record_lock;

use super::error::Trouble;

/// Who stands in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// This machine itself.
    Ourselves,
    /// Another process; its id where the host tells.
    Other(Option<u32>),
}

/// Locks an image until it is closed: for itself alone to write, with others to read.
pub(super) fn take(file: &File, path: &Path, write: bool) -> Result<(), Trouble> {
    let taken = if write {
        file.try_lock()
    } else {
        file.try_lock_shared()
    };
    match taken {
        Ok(()) => {
            // It is only a name: without it others are refused all the same.
            let _ = record_lock::sign(file, write);
            Ok(())
        }
        Err(TryLockError::WouldBlock) => Err(Trouble::InUse(holder(file, write), write)),
        Err(TryLockError::Error(e)) => {
            log::warn!(
                "cannot lock disk image '{}': {e}; nothing keeps others from writing to it",
                path.display()
            );
            Ok(())
        }
    }
}

fn holder(file: &File, write: bool) -> Holder {
    match listed(file) {
        Some(pid) if pid == process::id() => Holder::Ourselves,
        Some(pid) => Holder::Other(Some(pid)),
        None => Holder::Other(record_lock::signer(file, write)),
    }
}

/// The process that holds a lock on the file, by the kernel's list.
#[cfg(target_os = "linux")]
fn listed(file: &File) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    let metadata = file.metadata().ok()?;
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    find(&locks, metadata.dev(), metadata.ino())
}

#[cfg(not(target_os = "linux"))]
fn listed(_: &File) -> Option<u32> {
    None
}

/// Looks a file up in the text of /proc/locks (proc(5)): `1: FLOCK ADVISORY WRITE 1234 fd:00:5678 0 EOF`.
#[cfg(target_os = "linux")]
fn find(locks: &str, device: u64, inode: u64) -> Option<u32> {
    // As the kernel packs a device number for user space: 12 bits of the major and 8 of the minor lie below.
    let (major, minor) = (
        device >> 8 & 0xfff | device >> 32 & !0xfff,
        device & 0xff | device >> 12 & !0xff & 0xffff_ffff,
    );
    let place = format!("{major:02x}:{minor:02x}:{inode}");
    let holds = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let here = words.get(1) == Some(&"FLOCK") && words.get(5) == Some(&place.as_str());
        here.then(|| words[4].parse().ok()).flatten()
    };
    // A process of another container is listed as 0.
    locks.lines().find_map(holds).filter(|pid| *pid > 0)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_found_by_device_and_inode() {
        let locks = "1: POSIX  ADVISORY  WRITE 1 08:02:77 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 22 08:02:777 0 EOF\n\
                     3: FLOCK  ADVISORY  READ 0 103:10001:5 0 EOF\n\
                     4: FLOCK  ADVISORY  READ 44 08:02:77 0 EOF\n\
                     4: -> FLOCK  ADVISORY  WRITE 55 08:02:78 0 EOF\n";
        assert_eq!(find(locks, 0x802, 77), Some(44));
        assert_eq!(find(locks, 0x802, 777), Some(22));
        assert_eq!(find(locks, 0x802, 78), None);
        assert_eq!(find(locks, 0x803, 77), None);
        assert_eq!(find(locks, 0x1010_0301, 5), None);
        assert_eq!(find("nonsense\n1: FLOCK", 0x802, 77), None);
    }
}
