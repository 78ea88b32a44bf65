//! A guest's disk: a raw image, and what becomes of what the guest writes: a layer over the image takes it and is thrown
//! away with the machine (`overlay`) or has a name and stays (`named`), the image itself takes it (`image`), or nothing
//! does.
//!
//! All transfers go straight between file and guest RAM, may run on many threads at once, and are checked against the
//! disk's size here, whatever a device has checked before. Only regular files and block devices are images; the
//! format is raw and nothing else, so that no byte which a guest could have written is ever taken for a header.
//!
//! An image whose length is no multiple of a sector reads as zeros up to the end of its last sector; changes cannot be
//! kept in it. An image that becomes shorter while it is in use gives an error for what it has lost. What the host
//! cannot do (no room, a bad sector) is an I/O error for the guest, and told once to the person.

mod blocks;
mod error;
mod foreign;
mod image;
mod lock;
mod medium;
mod named;
mod overlay;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use hvf_sys::file::{Piece, total};
use hvf_sys::ram::Ram;

use crate::spec::{self, DiskAccess};
pub use error::OpenError;
use error::Trouble;
use image::Image;
use overlay::Overlay;

/// The unit in which disks are addressed.
pub const SECTOR: u64 = 512;

/// Where what is thrown away lies if TMPDIR says nothing. /var/tmp first: it is on a disk where /tmp is often memory, of which a
/// guest that writes much would take as much. Not beside the image: that may be a slow or a shared place, or read-only.
const USUAL_PLACES: [&str; 2] = ["/var/tmp", "/tmp"];

/// An open disk.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    image: Image,
    layer: Layer,
    /// Whether the person has been told that the host fails.
    told: AtomicBool,
}

/// Where writes go.
#[derive(Debug)]
enum Layer {
    /// In this directory.
    Overlay(Overlay, PathBuf),
    /// With this name.
    Named(Overlay, PathBuf),
    Image,
    Nowhere,
}

impl Disk {
    /// Opens a disk. What is thrown away lies meanwhile where the host keeps large temporary files.
    pub fn open(disk: &spec::Disk) -> Result<Self, OpenError> {
        let asked = std::env::var_os("TMPDIR").filter(|dir| !dir.is_empty());
        Self::open_over(disk, &place(asked.map(PathBuf::from), &USUAL_PLACES))
    }

    /// Opens a disk whose changes, if they are thrown away, lie in `dir`.
    fn open_over(disk: &spec::Disk, dir: &Path) -> Result<Self, OpenError> {
        let failed = |trouble| OpenError {
            path: disk.path.clone(),
            trouble,
        };
        let image = Image::open(&disk.path, &disk.access).map_err(failed)?;
        let layer = match &disk.access {
            DiskAccess::ThrowAway => {
                let overlay = Overlay::new(dir, image.sectors() * SECTOR);
                let unwritable = |e| failed(Trouble::NoOverlay(dir.to_owned(), e));
                Layer::Overlay(overlay.map_err(unwritable)?, dir.to_owned())
            }
            DiskAccess::Overlay(path) => {
                let opened = image.identity(&disk.path).map_err(named::Defect::Host);
                let opened = opened.and_then(|base| named::open(path, &base));
                let defect = |defect| failed(Trouble::Overlay(path.clone(), defect));
                Layer::Named(opened.map_err(defect)?, path.clone())
            }
            DiskAccess::Keep => Layer::Image,
            DiskAccess::ReadOnly => Layer::Nowhere,
        };
        Ok(Self {
            path: disk.path.clone(),
            image,
            layer,
            told: AtomicBool::new(false),
        })
    }

    /// Refuses an image that cannot be the root because its files, or the image itself, are packed in it.
    pub fn check_root(disk: &spec::Disk) -> Result<(), OpenError> {
        let trouble = match foreign_root(&disk.path) {
            Ok(None) => return Ok(()),
            Ok(Some(kind)) => Trouble::Foreign(kind),
            Err(e) => Trouble::Open(e, disk.access.clone()),
        };
        Err(OpenError {
            path: disk.path.clone(),
            trouble,
        })
    }

    /// The size in sectors.
    pub fn sectors(&self) -> u64 {
        self.image.sectors()
    }

    /// Whether writes are refused.
    pub fn read_only(&self) -> bool {
        matches!(self.layer, Layer::Nowhere)
    }

    /// Reads from byte `offset` into guest RAM.
    pub fn read(&self, offset: u64, ram: &Ram, pieces: &[Piece]) -> io::Result<()> {
        self.check(offset, total(pieces))?;
        self.tell(match &self.layer {
            Layer::Overlay(overlay, _) | Layer::Named(overlay, _) => {
                overlay.read(&self.image, offset, ram, pieces)
            }
            Layer::Image | Layer::Nowhere => self.image.read(offset, ram, pieces),
        })
    }

    /// Writes guest RAM to byte `offset`.
    pub fn write(&self, offset: u64, ram: &Ram, pieces: &[Piece]) -> io::Result<()> {
        self.check(offset, total(pieces))?;
        self.tell(match &self.layer {
            Layer::Overlay(overlay, _) | Layer::Named(overlay, _) => {
                overlay.write(&self.image, offset, ram, pieces)
            }
            Layer::Image => self.image.write(offset, ram, pieces),
            Layer::Nowhere => refused(),
        })
    }

    /// Makes everything written so far last: what is kept outlives a loss of power. What is thrown away needs no
    /// effort.
    pub fn flush(&self) -> io::Result<()> {
        match &self.layer {
            Layer::Image => self.tell(self.image.flush()),
            Layer::Overlay(overlay, _) | Layer::Named(overlay, _) => self.tell(overlay.flush()),
            Layer::Nowhere => Ok(()),
        }
    }

    /// The guest no longer needs `len` bytes at `offset`: what of them takes up space is given back. They have their
    /// old contents afterwards, or zeros.
    pub fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.check(offset, len)?;
        self.tell(match &self.layer {
            Layer::Overlay(overlay, _) | Layer::Named(overlay, _) => overlay.discard(offset, len),
            Layer::Image => self.image.discard(offset, len),
            Layer::Nowhere => refused(),
        })
    }

    /// Makes `len` bytes at `offset` zero; with `unmap` their space may be given back.
    pub fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        self.check(offset, len)?;
        self.tell(match &self.layer {
            Layer::Overlay(overlay, _) | Layer::Named(overlay, _) => {
                overlay.write_zeroes(&self.image, offset, len)
            }
            Layer::Image => self.image.write_zeroes(offset, len, unmap),
            Layer::Nowhere => refused(),
        })
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

    /// Tells the first failure of the host's. What a guest asked wrongly is none.
    fn tell(&self, result: io::Result<()>) -> io::Result<()> {
        use io::ErrorKind::{InvalidInput, ReadOnlyFilesystem};
        result.inspect_err(|e| {
            let asked_wrongly = matches!(e.kind(), InvalidInput | ReadOnlyFilesystem);
            if !asked_wrongly && !self.told.swap(true, Ordering::Relaxed) {
                log::error!("{}", self.failure(e));
            }
        })
    }

    /// The sentence about a failure of the host's.
    fn failure(&self, error: &io::Error) -> String {
        let path = self.path.display();
        let full = matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        );
        match (&self.layer, error.kind()) {
            (Layer::Overlay(_, dir), _) if full => format!(
                "no room in '{}' for the guest's changes to disk image '{path}' ({error}): the guest sees an I/O error; \
                 set TMPDIR to a directory with room",
                dir.display()
            ),
            (Layer::Named(_, overlay), _) if full => format!(
                "no room for overlay '{}' of disk image '{path}' ({error}): the guest sees an I/O error; make room on the file \
                 system that holds it",
                overlay.display()
            ),
            (_, _) if full => format!(
                "no room for disk image '{path}' ({error}): the guest sees an I/O error; make room on the file system that \
                 holds it"
            ),
            (_, io::ErrorKind::UnexpectedEof) => format!(
                "disk image '{path}' has become shorter: the guest sees an I/O error; leave the image alone while it is in use"
            ),
            _ => format!(
                "disk image '{path}' cannot be used ({error}): the guest sees an I/O error; check the host's disk"
            ),
        }
    }
}

/// The directory for what is thrown away: the one asked for, whatever it is, or else the first usual one that is there.
fn place(asked: Option<PathBuf>, usual: &[&str]) -> PathBuf {
    let there = || usual.iter().find(|dir| Path::new(dir).is_dir());
    let usual = || there().or(usual.first()).map(PathBuf::from);
    asked.or_else(usual).unwrap_or_default()
}

fn foreign_root(path: &Path) -> io::Result<Option<&'static foreign::Kind>> {
    let file = hvf_sys::file::open_image(path, false)?;
    let metadata = file.metadata()?;
    if metadata.is_file() {
        foreign::packed(&file, metadata.len())
    } else {
        Ok(None)
    }
}

fn refused() -> io::Result<()> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

fn zero(ram: &Ram, pieces: &[Piece]) -> io::Result<()> {
    let outside = |_| io::Error::from(io::ErrorKind::InvalidInput);
    pieces
        .iter()
        .try_for_each(|piece| ram.fill(piece.gpa, piece.len, 0).map_err(outside))
}

#[cfg(test)]
mod tests;
