//! The image itself: a file or a block device of the host, locked for as long as it is open.
//!
//! An image keeps its length: nothing here makes it longer, and what is behind the end of an image that somebody has
//! shortened meanwhile gives an error. Once the host has failed to make data durable, every later flush fails too,
//! because the host forgets which data it has lost.
//!
//! Space is given back by punching holes. For zeros these are cut to the byte by the host's file system, or else zeros are
//! written. A discard is only a hint: it takes the whole blocks inside its range and leaves the edges as they were.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use hvf_sys::file::{self, Piece, split, total};
use hvf_sys::ram::Ram;

use super::blocks::BLOCK;
use super::error::Trouble;
use super::named::Base;
use super::{SECTOR, foreign, lock, zero};
use crate::spec::DiskAccess;

/// The largest image: beyond it, what is kept about an image in memory would no longer be small.
pub(super) const BYTES_MAX: u64 = 64 << 40;

pub(super) struct Image {
    file: File,
    bytes: u64,
    device: bool,
    /// Whether data may have been lost, so that nothing can be called durable any more.
    lost: AtomicBool,
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image({} bytes)", self.bytes)
    }
}

impl Image {
    /// Opens the image at `path`, for writing only where changes are kept.
    pub(super) fn open(path: &Path, access: &DiskAccess) -> Result<Self, Trouble> {
        let keep = *access == DiskAccess::Keep;
        let mut file =
            file::open_image(path, keep).map_err(|e| Trouble::Open(e, access.clone()))?;
        let unreadable = |e| Trouble::Open(e, access.clone());
        let kind = file.metadata().map_err(unreadable)?.file_type();
        if kind.is_dir() {
            return Err(Trouble::Directory);
        }
        if !kind.is_file() && !kind.is_block_device() {
            return Err(Trouble::NotAnImage);
        }
        lock::take(&file, path, keep)?;
        let bytes = file::size(&mut file).map_err(unreadable)?;
        if bytes == 0 {
            return Err(Trouble::Empty);
        }
        if bytes > BYTES_MAX {
            return Err(Trouble::TooLarge(bytes));
        }
        if let Some(kind) = foreign::image(&file, bytes).map_err(unreadable)? {
            return Err(Trouble::Foreign(kind));
        }
        if keep && !bytes.is_multiple_of(SECTOR) {
            return Err(Trouble::PartOfASector(bytes));
        }
        Ok(Self {
            file,
            bytes,
            device: kind.is_block_device(),
            lost: AtomicBool::new(false),
        })
    }

    /// What an overlay remembers of it, under the name that it has.
    pub(super) fn identity(&self, path: &Path) -> io::Result<Base> {
        let metadata = self.file.metadata()?;
        let modified = (metadata.mtime(), metadata.mtime_nsec() as u32);
        Ok(Base {
            path: path.as_os_str().as_bytes().to_vec(),
            bytes: self.bytes,
            modified: if self.device { (0, 0) } else { modified },
        })
    }

    pub(super) fn sectors(&self) -> u64 {
        self.bytes.div_ceil(SECTOR)
    }

    /// Reads into guest RAM; zeros behind the end.
    pub(super) fn read(&self, offset: u64, ram: &Ram, pieces: &[Piece]) -> io::Result<()> {
        let there = self.bytes.saturating_sub(offset);
        let (data, tail) = split(pieces, there);
        if file::read_to_ram(&self.file, offset, ram, &data)? != total(&data) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        zero(ram, &tail)
    }

    /// Reads into host memory; zeros behind the end.
    pub(super) fn read_bytes(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let there = self.bytes.saturating_sub(offset).min(bytes.len() as u64);
        let (data, tail) = bytes.split_at_mut(there as usize);
        tail.fill(0);
        self.file.read_exact_at(data, offset)
    }

    /// Writes guest RAM.
    pub(super) fn write(&self, offset: u64, ram: &Ram, pieces: &[Piece]) -> io::Result<()> {
        self.check_length(offset, total(pieces))?;
        file::write_from_ram(&self.file, offset, ram, pieces)
    }

    /// Makes everything written so far durable: it outlives a loss of power.
    pub(super) fn flush(&self) -> io::Result<()> {
        if self.lost.load(Ordering::Acquire) {
            return Err(io::Error::other("an earlier flush has failed"));
        }
        file::flush(&self.file).inspect_err(|_| {
            self.lost.store(true, Ordering::Release);
        })
    }

    /// Gives the whole blocks of a range back to the host, where it can take them.
    pub(super) fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        let first = offset.next_multiple_of(BLOCK);
        let behind = offset + len;
        let end = if behind == self.bytes {
            behind
        } else {
            behind / BLOCK * BLOCK
        };
        match self.clear(first, end.saturating_sub(first), file::punch_hole) {
            Err(e) if cannot(&e) => Ok(()),
            result => result,
        }
    }

    /// Zeroes a range, and with `unmap` gives its space back if possible.
    pub(super) fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        let ways = [file::punch_hole, file::zero_range];
        for way in &ways[usize::from(!unmap)..] {
            match self.clear(offset, len, way) {
                Err(e) if cannot(&e) => {}
                result => return result,
            }
        }
        self.put_zeroes(offset, len)
    }

    fn clear(
        &self,
        offset: u64,
        len: u64,
        way: impl Fn(&File, u64, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        self.check_length(offset, len)?;
        way(&self.file, offset, len)
    }

    /// Writes zeros like any other bytes.
    fn put_zeroes(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut done = 0;
        while done < len {
            let n = (len - done).min(ZEROES.len() as u64);
            self.file
                .write_all_at(&ZEROES[..n as usize], offset + done)?;
            done += n;
        }
        Ok(())
    }

    /// Whether the image still has the range. A block device cannot be made longer, and does not tell its length.
    fn check_length(&self, offset: u64, len: u64) -> io::Result<()> {
        if self.device || offset.saturating_add(len) <= self.file.metadata()?.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

/// What is written where zeros must be written.
pub(super) static ZEROES: [u8; 1 << 16] = [0; 1 << 16];

/// Whether the host says that it cannot do this here at all: not on this file system, not with these edges.
pub(super) fn cannot(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;

    #[test]
    fn a_flush_that_has_failed_once_fails_for_good() {
        // A pipe cannot be made durable.
        let (_reader, writer) = io::pipe().unwrap();
        let mut image = Image {
            file: File::from(OwnedFd::from(writer)),
            bytes: 512,
            device: false,
            lost: AtomicBool::new(false),
        };
        assert!(image.flush().is_err());
        image.file = tempfile::tempfile().unwrap();
        assert!(image.file.sync_data().is_ok());
        assert!(image.flush().is_err());
    }
}
