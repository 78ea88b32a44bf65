//! A guest's disk: a raw image that never changes, and over it a layer that takes what the guest writes and is
//! thrown away with the machine.
//!
//! All transfers go straight between file and guest RAM, may run on many threads at once, and are checked against the
//! disk's size here, whatever a device has checked before. Only regular files and block devices are images; the
//! format is raw and nothing else, so that no byte which a guest could have written is ever taken for a header.
//!
//! An image whose length is no multiple of a sector reads as zeros up to the end of its last sector. An image that
//! becomes shorter while it is in use gives an error for what it has lost.

mod blocks;
mod overlay;

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use hvf_sys::file::{self, Piece, split, total};
use hvf_sys::ram::Ram;

use overlay::Overlay;

/// The unit in which disks are addressed.
pub const SECTOR: u64 = 512;

/// The largest image: beyond it, what is kept about an image in memory would no longer be small.
const BYTES_MAX: u64 = 64 << 40;

/// What becomes of a guest's writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Writes {
    /// They go to a nameless file in this directory, which is gone when the disk is closed.
    ThrowAway(PathBuf),
    /// The disk is read-only.
    Refuse,
}

impl Writes {
    /// Throws writes away; meanwhile they lie where the host keeps large temporary files.
    pub fn throw_away() -> Self {
        let dir = std::env::var_os("TMPDIR").filter(|dir| !dir.is_empty());
        Self::ThrowAway(dir.map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from))
    }
}

/// An open disk.
#[derive(Debug)]
pub struct Disk {
    base: Base,
    overlay: Option<Overlay>,
}

impl Disk {
    /// Opens the image at `path`, for reading only.
    pub fn open(path: &Path, writes: &Writes) -> Result<Self, OpenError> {
        let failed = |trouble| OpenError {
            path: path.to_owned(),
            trouble,
        };
        let base = Base::open(path).map_err(failed)?;
        let overlay = match writes {
            Writes::Refuse => None,
            Writes::ThrowAway(dir) => {
                let unwritable = |e| failed(Trouble::NoOverlay(dir.clone(), e));
                Some(Overlay::new(dir, base.sectors() * SECTOR).map_err(unwritable)?)
            }
        };
        Ok(Self { base, overlay })
    }

    /// The size in sectors.
    pub fn sectors(&self) -> u64 {
        self.base.sectors()
    }

    /// Whether writes are refused.
    pub fn read_only(&self) -> bool {
        self.overlay.is_none()
    }

    /// Reads from byte `offset` into guest RAM.
    pub fn read(&self, offset: u64, ram: &Ram, pieces: &[Piece]) -> io::Result<()> {
        self.check(offset, total(pieces))?;
        match &self.overlay {
            Some(overlay) => overlay.read(&self.base, offset, ram, pieces),
            None => self.base.read(offset, ram, pieces),
        }
    }

    /// Writes guest RAM to byte `offset`.
    pub fn write(&self, offset: u64, ram: &Ram, pieces: &[Piece]) -> io::Result<()> {
        self.check(offset, total(pieces))?;
        self.writable()?.write(&self.base, offset, ram, pieces)
    }

    /// Makes everything written so far last: as long as the machine, which takes no effort.
    pub fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    /// The guest no longer needs `len` bytes at `offset`: what of them takes up space is given back.
    pub fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.check(offset, len)?;
        self.writable()?.discard(offset, len)
    }

    /// Makes `len` bytes at `offset` zero.
    pub fn write_zeroes(&self, offset: u64, len: u64) -> io::Result<()> {
        self.check(offset, len)?;
        self.writable()?.write_zeroes(&self.base, offset, len)
    }

    fn writable(&self) -> io::Result<&Overlay> {
        let refused = || io::ErrorKind::ReadOnlyFilesystem.into();
        self.overlay.as_ref().ok_or_else(refused)
    }

    /// Whether the range lies on the disk.
    fn check(&self, offset: u64, len: u64) -> io::Result<()> {
        let end = offset.checked_add(len);
        if end.is_some_and(|end| end <= self.sectors() * SECTOR) {
            Ok(())
        } else {
            Err(io::ErrorKind::InvalidInput.into())
        }
    }
}

/// The image itself.
#[derive(Debug)]
struct Base {
    file: File,
    bytes: u64,
}

impl Base {
    fn open(path: &Path) -> Result<Self, Trouble> {
        let mut file = file::open_image(path, false).map_err(Trouble::Open)?;
        let kind = file.metadata().map_err(Trouble::Open)?.file_type();
        if kind.is_dir() {
            return Err(Trouble::Directory);
        }
        if !kind.is_file() && !kind.is_block_device() {
            return Err(Trouble::NotAnImage);
        }
        match file::size(&mut file).map_err(Trouble::Open)? {
            0 => Err(Trouble::Empty),
            bytes if bytes > BYTES_MAX => Err(Trouble::TooLarge(bytes)),
            bytes => Ok(Self { file, bytes }),
        }
    }

    fn sectors(&self) -> u64 {
        self.bytes.div_ceil(SECTOR)
    }

    fn read(&self, offset: u64, ram: &Ram, pieces: &[Piece]) -> io::Result<()> {
        let there = self.bytes.saturating_sub(offset);
        let (data, tail) = split(pieces, there);
        if file::read_to_ram(&self.file, offset, ram, &data)? != total(&data) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        zero(ram, &tail)
    }

    /// Reads into host memory; zeros behind the end.
    fn read_bytes(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        let there = self.bytes.saturating_sub(offset).min(bytes.len() as u64);
        let (data, tail) = bytes.split_at_mut(there as usize);
        tail.fill(0);
        self.file.read_exact_at(data, offset)
    }
}

fn zero(ram: &Ram, pieces: &[Piece]) -> io::Result<()> {
    let outside = |_| io::Error::from(io::ErrorKind::InvalidInput);
    pieces
        .iter()
        .try_for_each(|piece| ram.fill(piece.gpa, piece.len, 0).map_err(outside))
}

/// Why an image cannot be opened.
#[derive(Debug)]
pub struct OpenError {
    path: PathBuf,
    trouble: Trouble,
}

#[derive(Debug)]
enum Trouble {
    Open(io::Error),
    Directory,
    NotAnImage,
    Empty,
    TooLarge(u64),
    NoOverlay(PathBuf, io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        write!(f, "cannot open disk image '{path}': ")?;
        match &self.trouble {
            Trouble::Open(e) if e.kind() == io::ErrorKind::NotFound => {
                write!(f, "there is no such file; check the path")
            }
            Trouble::Open(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                write!(f, "permission denied; make it readable for this user")
            }
            Trouble::Open(e) => write!(f, "{e}; name a raw image that can be read"),
            Trouble::Directory => write!(f, "it is a directory; name a raw image file"),
            Trouble::NotAnImage => write!(
                f,
                "it is neither a file nor a block device; name a raw image file"
            ),
            Trouble::Empty => write!(f, "it is empty; name an image with at least one sector"),
            Trouble::TooLarge(bytes) => write!(
                f,
                "it has {bytes} bytes; name an image of at most {BYTES_MAX} bytes"
            ),
            Trouble::NoOverlay(dir, e) => write!(
                f,
                "no temporary file for its changes can be made in '{}' ({e}); set TMPDIR to a directory with room",
                dir.display()
            ),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        None
    }
}

#[cfg(test)]
mod tests;
