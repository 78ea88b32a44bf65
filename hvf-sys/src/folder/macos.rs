//! An object of the tree on macOS: a directory's descriptor, or such a descriptor and a name in it.

use super::{Access, Name, Space, Stat, Time, device};
use crate::os::check;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// An object beneath the shared directory, or that directory.
#[derive(Debug)]
pub struct Handle {
    /// The directory, if it is one.
    directory: Option<Arc<File>>,
    /// Where it was found; nothing for the shared directory itself.
    place: Option<Mutex<(Arc<File>, Name)>>,
}

impl Handle {
    /// The directory to share. This path is our user's own and is followed.
    pub fn root(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY)
            .open(path)?;
        Ok(Self {
            directory: Some(Arc::new(file)),
            place: None,
        })
    }

    /// An entry of this directory, itself also where it is a symbolic link.
    pub fn child(&self, name: &Name) -> io::Result<Self> {
        let parent = self.parent_of_others()?;
        let is_directory = stat_at(&parent, name)?.kind() == super::Kind::Directory;
        let directory = if is_directory {
            let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
            Some(Arc::new(open_at(&parent, name, flags, 0)?))
        } else {
            None
        };
        let place = Some(Mutex::new((parent, name.clone())));
        Ok(Self { directory, place })
    }

    /// What it is.
    pub fn stat(&self) -> io::Result<Stat> {
        match &self.directory {
            Some(directory) => Stat::of(directory),
            None => self.at(|dir, name| stat_at(dir, name)),
        }
    }

    /// Opens a regular file. The caller has made sure that it is one; what took its place may be a FIFO, which does not
    /// wait, or a symbolic link, which is not followed.
    pub fn open(&self, access: Access) -> io::Result<File> {
        match &self.directory {
            Some(_) => self.open_directory(),
            None => self.at(|dir, name| open_at(dir, name, access.flags() | libc::O_NOFOLLOW, 0)),
        }
    }

    /// Opens a directory, to read it.
    pub(super) fn open_directory(&self) -> io::Result<File> {
        let directory = self.parent_of_others()?;
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
        // SAFETY: a terminated string; a descriptor that succeeds is new and ours.
        unsafe {
            let fd = check(libc::openat(directory.as_raw_fd(), c".".as_ptr(), flags))?;
            Ok(File::from_raw_fd(fd))
        }
    }

    /// Makes a regular file and opens it. What has that name already is an error.
    pub fn create(&self, name: &Name, access: Access, mode: u32) -> io::Result<(File, Self)> {
        let parent = self.parent_of_others()?;
        let flags = access.flags() | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
        let file = open_at(&parent, name, flags, mode)?;
        let made = Self {
            directory: None,
            place: Some(Mutex::new((parent, name.clone()))),
        };
        Ok((file, made))
    }

    /// Sets the permissions.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        let mode = mode as libc::mode_t;
        match &self.directory {
            Some(directory) => {
                // SAFETY: the descriptor is open.
                check(unsafe { libc::fchmod(directory.as_raw_fd(), mode) }).map(drop)
            }
            None => self.at(|dir, name| {
                let flags = libc::AT_SYMLINK_NOFOLLOW;
                let name = name.as_c().as_ptr();
                // SAFETY: a terminated string that outlives the call.
                check(unsafe { libc::fchmodat(dir.as_raw_fd(), name, mode, flags) }).map(drop)
            }),
        }
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
        let times = [access.spec(), change.spec()];
        match &self.directory {
            Some(directory) => {
                // SAFETY: the descriptor is open, and the two times outlive the call.
                check(unsafe { libc::futimens(directory.as_raw_fd(), times.as_ptr()) }).map(drop)
            }
            None => self.at(|dir, name| {
                let (dir, name) = (dir.as_raw_fd(), name.as_c().as_ptr());
                let flags = libc::AT_SYMLINK_NOFOLLOW;
                // SAFETY: a terminated string and two times, which outlive the call.
                check(unsafe { libc::utimensat(dir, name, times.as_ptr(), flags) }).map(drop)
            }),
        }
    }

    /// Where a symbolic link points to; `EINVAL` for anything else.
    pub fn read_link(&self) -> io::Result<Vec<u8>> {
        self.at(|dir, name| super::entries::read_link_at(dir.as_raw_fd(), name.as_c()))
    }

    /// Gives it one more name, in `dir`.
    pub fn link(&self, dir: &Self, name: &Name) -> io::Result<()> {
        let into = dir.parent_of_others()?;
        self.at(|from, old| {
            let (old, new) = (old.as_c().as_ptr(), name.as_c().as_ptr());
            // SAFETY: two terminated strings that outlive the call.
            check(unsafe { libc::linkat(from.as_raw_fd(), old, into.as_raw_fd(), new, 0) })
                .map(drop)
        })
    }

    /// What its file system has left.
    pub fn space(&self) -> io::Result<Space> {
        match &self.directory {
            Some(directory) => Space::of(&**directory),
            None => self.at(|dir, _| Space::of(&**dir)),
        }
    }

    /// It has another name now.
    pub fn moved(&self, dir: &Self, name: &Name) {
        if let (Some(place), Some(directory)) = (&self.place, &dir.directory) {
            *place.lock().unwrap_or_else(PoisonError::into_inner) =
                (directory.clone(), name.clone());
        }
    }

    /// A directory's descriptor, for calls that take it with a name; -1, which they refuse, for anything else.
    pub(super) fn raw(&self) -> RawFd {
        self.directory.as_ref().map_or(-1, |it| it.as_raw_fd())
    }

    fn parent_of_others(&self) -> io::Result<Arc<File>> {
        let not_one = || io::Error::from_raw_os_error(libc::ENOTDIR);
        self.directory.clone().ok_or_else(not_one)
    }

    fn at<T>(&self, call: impl FnOnce(&Arc<File>, &Name) -> io::Result<T>) -> io::Result<T> {
        let no_name = || io::Error::from_raw_os_error(libc::EINVAL);
        let place = self.place.as_ref().ok_or_else(no_name)?;
        let (dir, name) = place.lock().unwrap_or_else(PoisonError::into_inner).clone();
        call(&dir, &name)
    }
}

fn open_at(dir: &File, name: &Name, flags: libc::c_int, mode: u32) -> io::Result<File> {
    let flags = flags | libc::O_CLOEXEC;
    // SAFETY: a terminated string that outlives the call; a descriptor that succeeds is new and ours.
    unsafe {
        let fd = check(libc::openat(
            dir.as_raw_fd(),
            name.as_c().as_ptr(),
            flags,
            mode,
        ))?;
        Ok(File::from_raw_fd(fd))
    }
}

fn stat_at(dir: &File, name: &Name) -> io::Result<Stat> {
    // SAFETY: integers only, so all zeros is a value.
    let mut it: libc::stat = unsafe { std::mem::zeroed() };
    let name = name.as_c().as_ptr();
    // SAFETY: a terminated string that outlives the call, which writes one `stat`.
    check(unsafe {
        libc::fstatat(
            dir.as_raw_fd(),
            name,
            &raw mut it,
            libc::AT_SYMLINK_NOFOLLOW,
        )
    })?;
    Ok(Stat {
        dev: it.st_dev as u64,
        ino: it.st_ino,
        mode: u32::from(it.st_mode),
        nlink: u64::from(it.st_nlink),
        uid: it.st_uid,
        gid: it.st_gid,
        rdev: device(it.st_rdev as u64),
        size: it.st_size as u64,
        blksize: it.st_blksize as u64,
        blocks: it.st_blocks as u64,
        atime: (it.st_atime, it.st_atime_nsec as u32),
        mtime: (it.st_mtime, it.st_mtime_nsec as u32),
        ctime: (it.st_ctime, it.st_ctime_nsec as u32),
    })
}
