//! An object of the tree on Linux: an O_PATH descriptor.

use super::{Access, Name, Space, Stat, Time};
use crate::os::check;
use std::ffi::CString;
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// An object beneath the shared directory, or that directory.
#[derive(Debug)]
pub struct Handle(File);

impl Handle {
    /// The directory to share. This path is our user's own and is followed.
    pub fn root(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
            .open(path)?;
        let root = Self(file);
        std::fs::metadata(root.proc_path()).map_err(|error| {
            let text = format!("/proc/self/fd cannot be used ({error}); mount /proc");
            io::Error::new(error.kind(), text)
        })?;
        Ok(root)
    }

    /// An entry of this directory, itself also where it is a symbolic link.
    pub fn child(&self, name: &Name) -> io::Result<Self> {
        let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        open_at(self.raw(), name, flags, 0).map(Self)
    }

    /// What it is.
    pub fn stat(&self) -> io::Result<Stat> {
        Stat::of(&self.0)
    }

    /// Opens a regular file. The caller has made sure that it is one.
    pub fn open(&self, access: Access) -> io::Result<File> {
        open_path(&self.proc_path(), access.flags())
    }

    /// Opens a directory, to read it.
    pub(super) fn open_directory(&self) -> io::Result<File> {
        open_path(&self.proc_path(), libc::O_RDONLY | libc::O_DIRECTORY)
    }

    /// Makes a regular file and opens it. What has that name already is an error.
    pub fn create(&self, name: &Name, access: Access, mode: u32) -> io::Result<(File, Self)> {
        let flags = access.flags() | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
        let file = open_at(self.raw(), name, flags, mode)?;
        let made = open_path(&proc_path(file.as_raw_fd()), libc::O_PATH)?;
        Ok((file, Self(made)))
    }

    /// Sets the permissions; nothing of a symbolic link.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        std::fs::set_permissions(self.proc_path(), Permissions::from_mode(mode))
    }

    /// Sets the size of a regular file.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        let file = self.open(Access {
            write: true,
            ..Access::default()
        })?;
        file.set_len(len)
    }

    /// Sets the times of access and of change.
    pub fn set_times(&self, access: Time, change: Time) -> io::Result<()> {
        let path = self.c_path();
        let times = [access.spec(), change.spec()];
        // SAFETY: a terminated string and two times, which outlive the call.
        check(unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), 0) })?;
        Ok(())
    }

    /// Where a symbolic link points to; `ENOENT` or `EINVAL` for anything else.
    pub fn read_link(&self) -> io::Result<Vec<u8>> {
        super::entries::read_link_at(self.raw(), c"")
    }

    /// Gives it one more name, in `dir`.
    pub fn link(&self, dir: &Self, name: &Name) -> io::Result<()> {
        let path = self.c_path();
        // SAFETY: two terminated strings that outlive the call. What is followed is the entry of /proc, not what it leads to.
        check(unsafe {
            libc::linkat(
                libc::AT_FDCWD,
                path.as_ptr(),
                dir.raw(),
                name.as_c().as_ptr(),
                libc::AT_SYMLINK_FOLLOW,
            )
        })?;
        Ok(())
    }

    /// What its file system has left.
    pub fn space(&self) -> io::Result<Space> {
        Space::of(&self.0)
    }

    /// It has another name now, which the descriptor does not mind.
    pub fn moved(&self, _dir: &Self, _name: &Name) {}

    /// A directory's descriptor, for calls that take it with a name.
    pub(super) fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    fn proc_path(&self) -> String {
        proc_path(self.raw())
    }

    /// The path by which the kernel leads to the object itself.
    pub(super) fn c_path(&self) -> CString {
        CString::new(self.proc_path()).unwrap_or_default()
    }
}

fn proc_path(fd: RawFd) -> String {
    format!("/proc/self/fd/{fd}")
}

fn open_path(path: &str, flags: libc::c_int) -> io::Result<File> {
    let path = CString::new(path)?;
    // SAFETY: a terminated string that outlives the call; a descriptor that succeeds is new and ours.
    unsafe {
        let fd = check(libc::open(path.as_ptr(), flags | libc::O_CLOEXEC))?;
        Ok(File::from_raw_fd(fd))
    }
}

fn open_at(dir: RawFd, name: &Name, flags: libc::c_int, mode: u32) -> io::Result<File> {
    // SAFETY: a terminated string that outlives the call; a descriptor that succeeds is new and ours.
    unsafe {
        let fd = check(libc::openat(dir, name.as_c().as_ptr(), flags, mode))?;
        Ok(File::from_raw_fd(fd))
    }
}
