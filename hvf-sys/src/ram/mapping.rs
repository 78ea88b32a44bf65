//! An anonymous mapping of host memory: zero until touched, given back when dropped.

use std::io;
use std::ptr::{self, NonNull};

/// A private anonymous mapping. Invariant: `start` is the page-aligned start of `len` mapped bytes.
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is plain memory that belongs to no thread; its users say how they share it.
unsafe impl Send for Mapping {}
// SAFETY: as above; `Mapping` itself only hands out addresses.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(super) fn new(len: u64) -> io::Result<Self> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_NORESERVE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, len })
    }

    /// The address `offset` bytes into the mapping.
    ///
    /// # Panics
    /// Where the offset lies outside the mapping: the caller has checked it against a guest's region.
    pub(super) fn at(&self, offset: u64) -> *mut u8 {
        assert!(offset < self.len as u64);
        // SAFETY: the offset lies inside the mapping.
        unsafe { self.start.as_ptr().add(offset as usize) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped; whoever had an address of it also held this mapping's owner.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
