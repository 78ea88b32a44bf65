//! A directory of the host that a guest may use, and what is beneath it.
//!
//! Invariant, and the reason this module exists: every call takes an object that was reached from the directory, and at
//! most one `Name` in it. A `Name` is neither `.` nor `..` and holds no `/`, and no call follows a symbolic link, so
//! nothing that was never beneath the directory is reached, whatever the host's other programs move about meanwhile. What
//! they move out of it stays reachable to whoever had reached it before. That is also why Linux's openat2(2) is
//! not needed: RESOLVE_BENEATH adds nothing to a path of one name that is not followed.
//!
//! On Linux an object is an O_PATH descriptor: it stays what it is through renames and after it was unlinked, and opening
//! it never waits and never reaches a driver. It is opened for real through /proc/self/fd, where only regular files and
//! directories are. macOS has nothing like it: an object there is a directory's descriptor and a name in it (`moved`
//! keeps the name true).

mod entries;
#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod handle;
#[cfg(target_os = "macos")]
#[path = "macos.rs"]
mod handle;
mod listing;
mod lock;
#[cfg(test)]
mod tests;
mod xattr;

pub use handle::Handle;
pub use listing::{Entry, Listing};
pub use lock::{Lock, LockKind, set_lock, test_lock};

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// The longest name of an entry, in bytes.
pub const NAME_MAX: usize = 255;

/// The name of one entry of a directory: not empty, not `.` or `..`, without `/` and zero bytes, of at most `NAME_MAX` bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(CString);

impl Name {
    /// `None` for what names no entry, `ENAMETOOLONG` aside.
    pub fn new(name: &[u8]) -> Option<Self> {
        if matches!(name, b"" | b"." | b"..") || name.contains(&b'/') || name.len() > NAME_MAX {
            return None;
        }
        CString::new(name).ok().map(Self)
    }

    fn as_c(&self) -> &CStr {
        &self.0
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// What kind of object it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A FIFO, a socket or a device.
    Special,
}

/// What an object is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// The file system.
    pub dev: u64,
    /// The number in it.
    pub ino: u64,
    /// Type and permissions, as st_mode has them on every Unix.
    pub mode: u32,
    /// How many names it has.
    pub nlink: u64,
    /// The host's number of the owner.
    pub uid: u32,
    /// The host's number of the group.
    pub gid: u32,
    /// Which device a device node stands for: major, minor.
    pub rdev: (u32, u32),
    /// Bytes.
    pub size: u64,
    /// The preferred size of a transfer.
    pub blksize: u64,
    /// Blocks of 512 bytes that are allocated.
    pub blocks: u64,
    /// Last access: seconds and nanoseconds.
    pub atime: (i64, u32),
    /// Last change of the content.
    pub mtime: (i64, u32),
    /// Last change of the attributes.
    pub ctime: (i64, u32),
}

/// The mask of the type in a mode, and the types.
const S_IFMT: u32 = 0o170_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;

impl Stat {
    /// The kind.
    pub fn kind(&self) -> Kind {
        match self.mode & S_IFMT {
            S_IFREG => Kind::File,
            S_IFDIR => Kind::Directory,
            S_IFLNK => Kind::Link,
            _ => Kind::Special,
        }
    }

    /// What distinguishes it from everything else on this host while it exists.
    pub fn id(&self) -> (u64, u64) {
        (self.dev, self.ino)
    }

    /// What an open file is.
    pub fn of(file: &File) -> io::Result<Self> {
        Ok(Self::of_metadata(&file.metadata()?))
    }

    fn of_metadata(it: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self {
            dev: it.dev(),
            ino: it.ino(),
            mode: it.mode(),
            nlink: it.nlink(),
            uid: it.uid(),
            gid: it.gid(),
            rdev: device(it.rdev()),
            size: it.size(),
            blksize: it.blksize(),
            blocks: it.blocks(),
            atime: (it.atime(), it.atime_nsec() as u32),
            mtime: (it.mtime(), it.mtime_nsec() as u32),
            ctime: (it.ctime(), it.ctime_nsec() as u32),
        }
    }
}

/// Major and minor of a device.
fn device(rdev: u64) -> (u32, u32) {
    let rdev = rdev as libc::dev_t;
    (libc::major(rdev) as u32, libc::minor(rdev) as u32)
}

/// How a regular file is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// Cut to nothing at once.
    pub truncate: bool,
    /// Each write reaches the disk before it returns.
    pub sync: bool,
}

impl Access {
    /// The flags of open(2). Never waits, never becomes our terminal, never goes to a child.
    fn flags(self) -> libc::c_int {
        let access = match (self.read, self.write) {
            (true, true) => libc::O_RDWR,
            (false, true) => libc::O_WRONLY,
            _ => libc::O_RDONLY,
        };
        let truncate = if self.truncate { libc::O_TRUNC } else { 0 };
        let sync = if self.sync { libc::O_SYNC } else { 0 };
        access | truncate | sync | libc::O_CLOEXEC | libc::O_NOCTTY | libc::O_NONBLOCK
    }
}

/// What becomes of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// It stays.
    Keep,
    /// The host's present.
    Now,
    /// Seconds and nanoseconds.
    At(i64, u32),
}

impl Time {
    fn spec(self) -> libc::timespec {
        let (sec, nsec) = match self {
            Self::Keep => (0, libc::UTIME_OMIT),
            Self::Now => (0, libc::UTIME_NOW),
            // Out of range is the host's to refuse, but must not turn into one of the two above.
            Self::At(sec, nsec) => (sec, libc::c_long::from(nsec.min(999_999_999) as i32)),
        };
        libc::timespec {
            tv_sec: sec as libc::time_t,
            tv_nsec: nsec,
        }
    }
}

/// What a file system has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// The size of a block in bytes.
    pub block: u64,
    /// Blocks in all, free ones, and those that are free for us.
    pub blocks: [u64; 3],
    /// Files in all, and how many more there can be.
    pub files: [u64; 2],
    /// The longest name.
    pub name_max: u64,
}

impl Space {
    /// Of the file system that a file is on.
    #[allow(clippy::unnecessary_cast, reason = "the types differ between hosts")]
    fn of(fd: &impl AsRawFd) -> io::Result<Self> {
        // SAFETY: integers only, so all zeros is a value.
        let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
        // SAFETY: the descriptor is open, and the call writes one `statvfs`.
        crate::os::check(unsafe { libc::fstatvfs(fd.as_raw_fd(), &raw mut stat) })?;
        Ok(Self {
            block: stat.f_frsize as u64,
            blocks: [stat.f_blocks, stat.f_bfree, stat.f_bavail].map(|it| it as u64),
            files: [stat.f_files, stat.f_ffree].map(|it| it as u64),
            name_max: stat.f_namemax as u64,
        })
    }
}

/// Lets this process have as many descriptors as its hard limit allows, and says how many that are.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the call writes one `rlimit`.
    crate::os::check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    // macOS refuses more than OPEN_MAX without saying so in the limit.
    let most = if cfg!(target_os = "macos") {
        limit.rlim_max.min(10_240)
    } else {
        limit.rlim_max
    };
    if limit.rlim_cur < most {
        limit.rlim_cur = most;
        // SAFETY: the call reads one `rlimit`.
        crate::os::check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    }
    Ok(limit.rlim_cur)
}

/// The user and the group that new files of this process belong to.
pub fn effective_ids() -> (u32, u32) {
    // SAFETY: neither takes anything, and neither fails.
    unsafe { (libc::geteuid(), libc::getegid()) }
}
