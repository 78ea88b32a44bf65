//! What the host's (and the guest's) operating system offers that the standard library lacks.
//!
//! Everything takes and gives owned or borrowed descriptors, so no call here can touch a descriptor that it was not
//! given. `poll`, `process`, `pty`, `signal`, `socket` and `thread` are the same on macOS and Linux; `boot`
//! and `network` are what only a Linux init needs, `tap` is Linux's alone, `names` and `vmnet` are macOS's.

#[cfg(target_os = "linux")]
pub mod boot;
#[cfg(target_os = "macos")]
pub mod names;
#[cfg(target_os = "linux")]
pub mod network;
pub mod poll;
pub mod process;
pub mod pty;
pub mod signal;
pub mod socket;
#[cfg(target_os = "linux")]
pub mod tap;
pub mod thread;
// Elsewhere only its tests are compiled: of what needs no Mac.
#[cfg(any(all(target_os = "macos", feature = "vmnet"), test))]
pub mod vmnet;

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Makes reads and writes of this open file return at once. The open file may be shared with other
/// processes, so this is never for a terminal or an inherited stream.
pub fn make_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the descriptor is borrowed, hence open, and F_GETFL takes no pointer.
    let flags = check(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    // SAFETY: as above; F_SETFL takes an integer.
    check(unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
    Ok(())
}

/// How much memory the host has, in bytes.
pub fn memory_bytes() -> Option<u64> {
    // SAFETY: takes an integer.
    let ask = |name| u64::try_from(unsafe { libc::sysconf(name) }).ok();
    ask(libc::_SC_PHYS_PAGES)?.checked_mul(ask(libc::_SC_PAGESIZE)?)
}

/// Turns the -1 of a system call into the error it stands for.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_has_memory() {
        assert!(memory_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }
}
