//! Pseudo-terminals.

use super::check;
use crate::tty::Size;
use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// A new pseudo-terminal.
#[derive(Debug)]
pub struct Pty {
    /// The side that plays the terminal.
    pub terminal: File,
    /// The side that programs read and write.
    pub program: OwnedFd,
}

impl Pty {
    /// Opens a pair of this size. Both ends are closed on exec, and neither becomes anybody's controlling terminal.
    pub fn open(size: Size) -> io::Result<Self> {
        // SAFETY: takes an integer.
        let raw = check(unsafe { libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY) })?;
        // SAFETY: the descriptor was just opened and belongs to nobody else.
        let terminal = unsafe { File::from_raw_fd(raw) };
        close_on_exec(terminal.as_raw_fd())?;
        // SAFETY: takes an open descriptor.
        check(unsafe { libc::grantpt(terminal.as_raw_fd()) })?;
        // SAFETY: takes an open descriptor.
        check(unsafe { libc::unlockpt(terminal.as_raw_fd()) })?;
        let program = open_program_side(&terminal)?;
        crate::tty::set_size(&terminal, size)?;
        Ok(Self { terminal, program })
    }

    /// The name under which programs find their side, such as /dev/pts/3.
    pub fn name(&self) -> io::Result<PathBuf> {
        let name = name(&self.terminal)?;
        Ok(OsString::from_vec(name.into_bytes()).into())
    }
}

#[cfg(target_os = "linux")]
fn name(terminal: &File) -> io::Result<CString> {
    const ROOM: usize = 64;
    let mut name = [0; ROOM];
    // SAFETY: takes an open descriptor and a buffer with its length.
    match unsafe { libc::ptsname_r(terminal.as_raw_fd(), name.as_mut_ptr().cast(), ROOM) } {
        0 => CStr::from_bytes_until_nul(&name)
            .map(CStr::to_owned)
            .map_err(io::Error::other),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

#[cfg(not(target_os = "linux"))]
fn name(terminal: &File) -> io::Result<CString> {
    static NAME_BUFFER: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _guard = NAME_BUFFER
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    // SAFETY: takes an open descriptor. The static buffer that it returns is ours while we hold the lock: nothing
    // else in this program calls ptsname.
    let name = unsafe { libc::ptsname(terminal.as_raw_fd()) };
    if name.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `name` is a terminated string that lives until the next call, which the lock keeps away.
    Ok(unsafe { CStr::from_ptr(name) }.to_owned())
}

/// By ioctl where there is one, because a freshly changed root may have no /dev/pts to look the name up in.
#[cfg(target_os = "linux")]
fn open_program_side(terminal: &File) -> io::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags as an integer.
    let raw = check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGPTPEER as _, flags) })?;
    // SAFETY: the descriptor was just opened and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

#[cfg(not(target_os = "linux"))]
fn open_program_side(terminal: &File) -> io::Result<OwnedFd> {
    let name = name(terminal)?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: `name` is a terminated string.
    let raw = check(unsafe { libc::open(name.as_ptr(), flags) })?;
    // SAFETY: the descriptor was just opened and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn close_on_exec(fd: libc::c_int) -> io::Result<()> {
    // SAFETY: F_SETFD takes an integer.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tty;
    use std::io::{Read, Write};

    #[test]
    fn both_ends_are_one_terminal() {
        let size = Size {
            rows: 31,
            columns: 97,
        };
        let mut pty = Pty::open(size).unwrap();
        assert_eq!(tty::size(&pty.program).unwrap(), size);
        File::from(pty.program.try_clone().unwrap())
            .write_all(b"a\n")
            .unwrap();
        let mut got = [0; 3];
        pty.terminal.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"a\r\n");
    }

    #[test]
    fn the_name_leads_to_the_programs_side() {
        let mut pty = Pty::open(Size {
            rows: 0,
            columns: 0,
        })
        .unwrap();
        tty::make_raw(&pty.program).unwrap();
        let mut found = File::options()
            .write(true)
            .open(pty.name().unwrap())
            .unwrap();
        found.write_all(b"a").unwrap();
        let mut got = [0];
        pty.terminal.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"a");
    }
}
