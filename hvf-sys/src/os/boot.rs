//! What only the first process of a Linux system does: mounts, roots and the end of the machine.

use super::check;
use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// How a file system is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// A new file system, read and written.
    New,
    /// A new file system, read only.
    NewReadOnly,
    /// An existing mount, moved to another place.
    Move,
    /// What is already somewhere, a file or a directory, seen at another place too.
    Bind,
    /// An existing mount, from now on read only: everything is written out, and the file system is clean.
    RemountReadOnly,
}

/// Mounts `source` of type `fstype` at `target` with the file system's own `options`.
pub fn mount(
    source: &Path,
    target: &Path,
    fstype: &str,
    kind: MountKind,
    options: &str,
) -> io::Result<()> {
    let flags = match kind {
        MountKind::New => 0,
        MountKind::NewReadOnly => libc::MS_RDONLY,
        MountKind::Move => libc::MS_MOVE,
        MountKind::Bind => libc::MS_BIND,
        MountKind::RemountReadOnly => libc::MS_REMOUNT | libc::MS_RDONLY,
    };
    let source = c_path(source)?;
    let target = c_path(target)?;
    let fstype = CString::new(fstype)?;
    let options = CString::new(options)?;
    // SAFETY: four terminated strings that outlive the call.
    let result = unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            fstype.as_ptr(),
            flags,
            options.as_ptr().cast(),
        )
    };
    check(result).map(|_| ())
}

/// Takes away what is mounted at `target`.
pub fn unmount(target: &Path) -> io::Result<()> {
    let target = c_path(target)?;
    // SAFETY: a terminated string that outlives the call.
    check(unsafe { libc::umount2(target.as_ptr(), 0) }).map(|_| ())
}

/// Makes a mounted file system the root of this process and of what it starts: the mount moves over the old root,
/// as an initial RAM disk's root cannot be pivoted away from (Linux, filesystems/ramfs-rootfs-initramfs.rst).
pub fn switch_root(new_root: &Path) -> io::Result<()> {
    std::env::set_current_dir(new_root)?;
    mount(Path::new("."), Path::new("/"), "", MountKind::Move, "")?;
    change_root(c".")?;
    std::env::set_current_dir("/")
}

fn change_root(path: &CStr) -> io::Result<()> {
    // SAFETY: a terminated string that outlives the call.
    check(unsafe { libc::chroot(path.as_ptr()) }).map(|_| ())
}

/// How long the kernel has run, by its own clock.
pub fn uptime() -> Duration {
    // SAFETY: an all-zero timespec is a valid value of integers.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: fills the timespec that it is given.
    let told = check(unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) });
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    told.map_or(Duration::ZERO, |_| Duration::new(seconds, nanoseconds))
}

/// Writes all file systems out.
pub fn sync() {
    // SAFETY: takes nothing.
    unsafe { libc::sync() };
}

/// Powers the machine off. Only process 1 may: anybody else would pull the plug of a working system.
pub fn power_off() -> io::Error {
    end_system(libc::RB_POWER_OFF)
}

/// Starts the machine again, as process 1 only.
pub fn restart() -> io::Error {
    end_system(libc::RB_AUTOBOOT)
}

fn end_system(how: libc::c_int) -> io::Error {
    if std::process::id() != 1 {
        return io::ErrorKind::PermissionDenied.into();
    }
    // SAFETY: takes an integer; it returns only when it fails.
    match check(unsafe { libc::reboot(how) }) {
        Err(error) => error,
        Ok(_) => io::Error::other("the machine goes on"),
    }
}

/// Sets the system's clock, in nanoseconds since 1970 began in UTC. Only process 1 may: anybody else's clock is not ours.
pub fn set_clock(nanoseconds: u64) -> io::Result<()> {
    if std::process::id() != 1 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    const SECOND: u64 = 1_000_000_000;
    let out_of_range = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let time = libc::timespec {
        tv_sec: (nanoseconds / SECOND).try_into().map_err(out_of_range)?,
        tv_nsec: (nanoseconds % SECOND) as libc::c_long,
    };
    // SAFETY: the time is read during the call only.
    check(unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &time) }).map(|_| ())
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_working_system_is_left_alone() {
        for error in [power_off(), restart(), set_clock(0).unwrap_err()] {
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        }
    }

    #[test]
    fn a_kernel_has_run_longer_each_time() {
        let before = uptime();
        assert!(before > Duration::ZERO && uptime() >= before);
    }

    #[test]
    fn a_path_with_a_zero_is_refused() {
        let wrong = Path::new("a\0b");
        let error = mount(wrong, wrong, "tmpfs", MountKind::New, "").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let error = unmount(wrong).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
