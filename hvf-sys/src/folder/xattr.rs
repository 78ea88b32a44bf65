//! Extended attributes of objects. A value or a list that is longer than the caller allows is `ERANGE`.

use super::Handle;
use std::ffi::CStr;
use std::io;

impl Handle {
    /// The value of an attribute.
    pub fn attribute(&self, name: &CStr, most: usize) -> io::Result<Vec<u8>> {
        filled(most, |bytes| system::get(self, name, bytes))
    }

    /// The names of all attributes, each with a zero byte behind it.
    pub fn attributes(&self, most: usize) -> io::Result<Vec<u8>> {
        filled(most, |bytes| system::list(self, bytes))
    }

    /// Sets an attribute: one that must not be there yet with `create`, one that must be there with `replace`.
    pub fn set_attribute(
        &self,
        name: &CStr,
        value: &[u8],
        create: bool,
        replace: bool,
    ) -> io::Result<()> {
        let create = if create { libc::XATTR_CREATE } else { 0 };
        let replace = if replace { libc::XATTR_REPLACE } else { 0 };
        done(system::set(self, name, value, create | replace)?)
    }

    /// Removes an attribute.
    pub fn remove_attribute(&self, name: &CStr) -> io::Result<()> {
        done(system::remove(self, name)?)
    }
}

/// What a call writes into a buffer that grows as needed, up to `most` bytes.
fn filled(
    most: usize,
    call: impl Fn(&mut [u8]) -> io::Result<libc::ssize_t>,
) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; most.min(256)];
    loop {
        let count = call(&mut bytes)?;
        if let Ok(count) = usize::try_from(count) {
            bytes.truncate(count);
            return Ok(bytes);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || bytes.len() == most {
            return Err(error);
        }
        bytes = vec![0; most.min(bytes.len() * 16)];
    }
}

fn done(result: libc::c_int) -> io::Result<()> {
    crate::os::check(result).map(drop)
}

#[cfg(target_os = "linux")]
mod system {
    use super::{CStr, Handle, io};

    pub(super) fn get(it: &Handle, name: &CStr, into: &mut [u8]) -> io::Result<libc::ssize_t> {
        let (path, room) = (it.c_path(), into.len());
        // SAFETY: two terminated strings and room for `room` bytes, which outlive the call.
        Ok(unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), into.as_mut_ptr().cast(), room) })
    }

    pub(super) fn list(it: &Handle, into: &mut [u8]) -> io::Result<libc::ssize_t> {
        let (path, room) = (it.c_path(), into.len());
        // SAFETY: a terminated string and room for `room` bytes, which outlive the call.
        Ok(unsafe { libc::listxattr(path.as_ptr(), into.as_mut_ptr().cast(), room) })
    }

    pub(super) fn set(
        it: &Handle,
        name: &CStr,
        value: &[u8],
        flags: libc::c_int,
    ) -> io::Result<libc::c_int> {
        let (path, len) = (it.c_path(), value.len());
        // SAFETY: two terminated strings and `len` bytes, which outlive the call.
        Ok(unsafe {
            libc::setxattr(
                path.as_ptr(),
                name.as_ptr(),
                value.as_ptr().cast(),
                len,
                flags,
            )
        })
    }

    pub(super) fn remove(it: &Handle, name: &CStr) -> io::Result<libc::c_int> {
        let path = it.c_path();
        // SAFETY: two terminated strings, which outlive the call.
        Ok(unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) })
    }
}

/// macOS has these calls for open files only, and what cannot be opened for reading has no attributes here.
#[cfg(target_os = "macos")]
mod system {
    use super::{CStr, Handle, io};
    use crate::folder::Access;
    use std::fs::File;
    use std::os::fd::AsRawFd;

    fn opened(it: &Handle) -> io::Result<File> {
        it.open(Access {
            read: true,
            ..Access::default()
        })
    }

    pub(super) fn get(it: &Handle, name: &CStr, into: &mut [u8]) -> io::Result<libc::ssize_t> {
        let (file, room) = (opened(it)?, into.len());
        let into = into.as_mut_ptr().cast();
        // SAFETY: a terminated string and room for `room` bytes, which outlive the call.
        Ok(unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), into, room, 0, 0) })
    }

    pub(super) fn list(it: &Handle, into: &mut [u8]) -> io::Result<libc::ssize_t> {
        let (file, room) = (opened(it)?, into.len());
        let into = into.as_mut_ptr().cast();
        // SAFETY: room for `room` bytes, which outlives the call.
        Ok(unsafe { libc::flistxattr(file.as_raw_fd(), into, room, 0) })
    }

    pub(super) fn set(
        it: &Handle,
        name: &CStr,
        value: &[u8],
        flags: libc::c_int,
    ) -> io::Result<libc::c_int> {
        let (file, len) = (opened(it)?, value.len());
        let value = value.as_ptr().cast();
        // SAFETY: a terminated string and `len` bytes, which outlive the call.
        Ok(unsafe { libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), value, len, 0, flags) })
    }

    pub(super) fn remove(it: &Handle, name: &CStr) -> io::Result<libc::c_int> {
        let file = opened(it)?;
        // SAFETY: a terminated string, which outlives the call.
        Ok(unsafe { libc::fremovexattr(file.as_raw_fd(), name.as_ptr(), 0) })
    }
}
