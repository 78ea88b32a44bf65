//! Calls that make, remove and rename the entries of a directory; the same on every host.

use super::{Handle, Name};
use crate::os::check;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::RawFd;

/// The longest target of a symbolic link.
const LINK_MAX: usize = 4096;

impl Handle {
    /// Makes a directory.
    pub fn make_directory(&self, name: &Name, mode: u32) -> io::Result<()> {
        // SAFETY: a terminated string that outlives the call.
        let made = unsafe { libc::mkdirat(self.raw(), name.as_c().as_ptr(), mode as libc::mode_t) };
        check(made).map(drop)
    }

    /// Makes a FIFO.
    pub fn make_fifo(&self, name: &Name, mode: u32) -> io::Result<()> {
        self.make_node(name, mode, libc::S_IFIFO)
    }

    /// Makes a socket that nobody listens at.
    pub fn make_socket(&self, name: &Name, mode: u32) -> io::Result<()> {
        self.make_node(name, mode, libc::S_IFSOCK)
    }

    #[cfg(target_os = "linux")]
    fn make_node(&self, name: &Name, mode: u32, kind: libc::mode_t) -> io::Result<()> {
        let mode = kind | (mode & 0o777) as libc::mode_t;
        // SAFETY: a terminated string that outlives the call.
        check(unsafe { libc::mknodat(self.raw(), name.as_c().as_ptr(), mode, 0) }).map(drop)
    }

    /// Macs can do this in a directory that is given by a descriptor since macOS 13 only.
    #[cfg(target_os = "macos")]
    fn make_node(&self, _name: &Name, _mode: u32, _kind: libc::mode_t) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(libc::ENOTSUP))
    }

    /// Makes a symbolic link, which may point anywhere: it is never followed here.
    pub fn make_link(&self, name: &Name, target: &[u8]) -> io::Result<()> {
        let target = CString::new(target)?;
        // SAFETY: two terminated strings that outlive the call.
        check(unsafe { libc::symlinkat(target.as_ptr(), self.raw(), name.as_c().as_ptr()) })
            .map(drop)
    }

    /// Makes the entries of this directory outlive a loss of power.
    pub fn sync_directory(&self) -> io::Result<()> {
        self.open_directory()?.sync_all()
    }

    /// Removes the entry of a directory, or of anything else.
    pub fn unlink(&self, name: &Name, directory: bool) -> io::Result<()> {
        let flags = if directory { libc::AT_REMOVEDIR } else { 0 };
        // SAFETY: a terminated string that outlives the call.
        check(unsafe { libc::unlinkat(self.raw(), name.as_c().as_ptr(), flags) }).map(drop)
    }

    /// Moves the entry `name` to `to` of the directory `into`, over what is there.
    pub fn rename(&self, name: &Name, into: &Self, to: &Name) -> io::Result<()> {
        let (name, to) = (name.as_c().as_ptr(), to.as_c().as_ptr());
        // SAFETY: two terminated strings that outlive the call.
        check(unsafe { libc::renameat(self.raw(), name, into.raw(), to) }).map(drop)
    }
}

/// Where the symbolic link `name` of a directory points to; on Linux without a name, the link that the descriptor is.
pub(super) fn read_link_at(dir: RawFd, name: &CStr) -> io::Result<Vec<u8>> {
    let mut target = vec![0; LINK_MAX];
    // SAFETY: a terminated string, and room for `LINK_MAX` bytes, which outlive the call.
    let count =
        unsafe { libc::readlinkat(dir, name.as_ptr(), target.as_mut_ptr().cast(), target.len()) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    target.truncate(count);
    Ok(target)
}
