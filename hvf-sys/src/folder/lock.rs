//! Locks on parts of files, owned by the open file (F_OFD_SETLK), so that they belong to no process and end with the file.

use crate::os::check;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// What is locked, or is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// Nobody may lock it for writing. The file must be open for reading.
    Read,
    /// Nobody else may lock it. The file must be open for writing.
    Write,
    /// Not locked.
    Free,
}

/// A lock on a part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// How.
    pub kind: LockKind,
    /// The first byte.
    pub start: u64,
    /// How many bytes; 0 for all from there on.
    pub len: u64,
}

/// Locks or frees a part of the file without waiting. False where somebody else's lock is in the way.
pub fn set_lock(file: &File, lock: Lock) -> io::Result<bool> {
    let mut request = request(lock)?;
    // SAFETY: the descriptor is open, and the call reads one `flock`.
    let set = check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw mut request) });
    match set.map_err(|error| (error.raw_os_error(), error)) {
        Ok(_) => Ok(true),
        Err((Some(libc::EAGAIN | libc::EACCES), _)) => Ok(false),
        Err((_, error)) => Err(error),
    }
}

/// Somebody else's lock that is in the way of this one, if there is one.
pub fn test_lock(file: &File, lock: Lock) -> io::Result<Option<Lock>> {
    let mut request = request(lock)?;
    // SAFETY: the descriptor is open, and the call reads and writes one `flock`.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut request) })?;
    let kind = match libc::c_int::from(request.l_type) {
        it if it == libc::c_int::from(libc::F_UNLCK) => return Ok(None),
        it if it == libc::c_int::from(libc::F_RDLCK) => LockKind::Read,
        _ => LockKind::Write,
    };
    Ok(Some(Lock {
        kind,
        start: u64::try_from(request.l_start).unwrap_or(0),
        len: u64::try_from(request.l_len).unwrap_or(0),
    }))
}

#[allow(clippy::unnecessary_cast, reason = "the types differ between hosts")]
fn request(lock: Lock) -> io::Result<libc::flock> {
    let offset = |at: u64| libc::off_t::try_from(at).map_err(|_| io::ErrorKind::InvalidInput);
    // SAFETY: integers only, so all zeros is a value; l_pid must be 0.
    let mut request: libc::flock = unsafe { std::mem::zeroed() };
    request.l_type = match lock.kind {
        LockKind::Read => libc::F_RDLCK,
        LockKind::Write => libc::F_WRLCK,
        LockKind::Free => libc::F_UNLCK,
    } as libc::c_short;
    request.l_whence = libc::SEEK_SET as libc::c_short;
    request.l_start = offset(lock.start)?;
    request.l_len = offset(lock.len)?;
    Ok(request)
}
