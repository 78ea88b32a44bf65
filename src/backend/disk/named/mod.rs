//! A named overlay: a file that keeps a guest's changes to an image which itself never changes.
//!
//! # Format
//!
//! ```text
//! 0        header: which image this belongs to (fields in `format`)
//! 65536    data: block n of the disk, 4096 bytes each, at 65536 + 4096 n, for all blocks of the disk
//! behind   log: pages of 512 bytes that name the blocks which the overlay holds
//! ```
//!
//! The data are sparse: a block that was never written is a hole, and one that the guest has discarded becomes one again, so
//! that the file takes as much of the host's disk as the guest has changed. (Copy it with `cp` or `rsync -S`, which keep
//! holes. A file system without holes would give it the image's whole size.) A block stands where it stands on the disk, so
//! nothing is ever moved, and the log is the only thing that must be found again.
//!
//! # What a crash leaves
//!
//! A block enters the overlay once and never leaves it. When the guest flushes, first the data become durable, then the log
//! gets a commit that names the blocks which are new, then the log becomes durable, and then the flush has succeeded. So
//! whatever the moment of a crash, and whatever order the host's writes had:
//!
//! - what was flushed is there: its blocks are in commits that were durable before the flush returned;
//! - a block that is named has its contents, since those were durable before it was named;
//! - a block that is not named is as in the image, whatever its place in the file holds: unflushed writes are lost, as on
//!   any disk. Whoever writes to it next fills the whole block;
//! - the last commit may be torn. Each of its pages that is whole names only durable blocks; pages are taken up to the
//!   first that is not, and the rest is cut off when the overlay is opened.
//!
//! A commit has at most 64 pages and begins when all before it is durable. A damaged page with more than that behind it, or
//! with a page of a later commit, is therefore no crash but damage, and the overlay is refused rather than read with a hole in
//! it. The header's and the pages' sums find any damage there; data have none, like those of a raw image.
//!
//! The overlay names its image's size and time of modification, and is refused over any other; the image's path is
//! kept for that message alone, so both files may be moved. A device tells no time: there only the size counts.

mod format;
mod log;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hvf_sys::file::open_image;

pub(super) use self::format::Base;
use self::format::{HEADER, Header, HeaderDefect};
pub(super) use self::log::Log;
use self::log::LogDefect;
use super::SECTOR;
use super::blocks::{BLOCK, Blocks};
use super::error::Trouble;
use super::lock::{self, Holder};
use super::overlay::Overlay;

/// Where the data begin.
const DATA: u64 = 65536;

/// Why an overlay cannot be opened.
#[derive(Debug)]
pub(super) enum Defect {
    Host(io::Error),
    NotAFile,
    NotAnOverlay,
    Version(u32),
    DamagedHeader,
    /// It ends in the midst of its data.
    Cut(u64),
    /// The log is damaged from this page on.
    DamagedLog(u64),
    /// It was made for another image, or for this one as it was: path and size then, and whether the size is the same.
    OtherBase(PathBuf, u64, bool),
    InUse(Holder),
    /// Its name led elsewhere when it was locked.
    Replaced,
}

impl From<io::Error> for Defect {
    fn from(error: io::Error) -> Self {
        Self::Host(error)
    }
}

impl From<HeaderDefect> for Defect {
    fn from(defect: HeaderDefect) -> Self {
        match defect {
            HeaderDefect::Foreign => Self::NotAnOverlay,
            HeaderDefect::Version(version) => Self::Version(version),
            HeaderDefect::Damaged => Self::DamagedHeader,
        }
    }
}

impl From<LogDefect> for Defect {
    fn from(defect: LogDefect) -> Self {
        match defect {
            LogDefect::Unreadable(error) => Self::Host(error),
            LogDefect::Damaged(page) | LogDefect::Impossible(page) => Self::DamagedLog(page),
        }
    }
}

/// Opens the overlay at `path` over an image, or makes it where there is none.
pub(super) fn open(path: &Path, base: &Base) -> Result<Overlay, Defect> {
    let (file, blocks, log) = open_file(path, base)?;
    let bytes = base.bytes.next_multiple_of(SECTOR);
    Ok(Overlay::named(file, DATA, bytes, blocks, log))
}

fn open_file(path: &Path, base: &Base) -> Result<(File, Blocks, Log), Defect> {
    // What a guest writes is its owner's alone.
    let mut options = OpenOptions::new();
    let made = options.read(true).write(true).create_new(true).mode(0o600);
    let (file, new) = match made.open(path) {
        Ok(file) => (file, true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            (open_image(path, true)?, false)
        }
        Err(error) => return Err(error.into()),
    };
    let opened = open_locked(&file, path, base);
    // Nothing is in it, unless another process was faster.
    if new
        && matches!(&opened, Err(defect) if !matches!(defect, Defect::InUse(_) | Defect::Replaced))
    {
        let _ = fs::remove_file(path);
    }
    let (blocks, log) = opened?;
    Ok((file, blocks, log))
}

fn open_locked(file: &File, path: &Path, base: &Base) -> Result<(Blocks, Log), Defect> {
    if !file.metadata()?.is_file() {
        return Err(Defect::NotAFile);
    }
    if let Err(Trouble::InUse(holder, _)) = lock::take(file, path, true) {
        return Err(Defect::InUse(holder));
    }
    // Whoever made it may have failed and removed it meanwhile: what were written to it would be lost.
    if !leads_to(path, file)? {
        return Err(Defect::Replaced);
    }
    let header = match read_header(file)? {
        Some(header) => header,
        None => begin(file, path, base)?,
    };
    check_base(&header.base, base)?;
    let count = base.bytes.div_ceil(BLOCK);
    let blocks = Blocks::new(base.bytes);
    let start = DATA + count * BLOCK;
    let len = file.metadata()?.len();
    if len == HEADER as u64 {
        // A crash came between the header and what follows it.
        file.set_len(start)?;
    } else if len < start {
        return Err(Defect::Cut(len));
    }
    let log = (start, len.saturating_sub(start));
    let tail = log::replay(file, header.id, log, count, &blocks)?;
    let end = start + tail.page * format::PAGE as u64;
    if len > end {
        file.set_len(end)?;
        hvf_sys::file::flush(file)?;
    }
    Ok((blocks, Log::new(header.id, start, tail)))
}

/// Whether a name still is this file's.
fn leads_to(path: &Path, file: &File) -> io::Result<bool> {
    let file = file.metadata()?;
    match fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (file.dev(), file.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The header; `None` where the file is new, or as a crash leaves one that was: empty, or with nothing but zeros where
/// only the header would be.
fn read_header(file: &File) -> Result<Option<Header>, Defect> {
    let len = file.metadata()?.len();
    let mut bytes = vec![0; len.min(HEADER as u64) as usize];
    file.read_exact_at(&mut bytes, 0)?;
    if len <= HEADER as u64 && bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    Ok(Some(Header::decode(&bytes)?))
}

/// Begins a new overlay: durable, with its name, before anything is in it.
fn begin(file: &File, path: &Path, base: &Base) -> Result<Header, Defect> {
    let mut id = [0; 8];
    hvf_sys::random::fill(&mut id)?;
    let header = Header {
        id: u64::from_le_bytes(id),
        base: base.clone(),
    };
    file.write_all_at(&header.encode(), 0)?;
    file.sync_all()?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    // A directory that cannot be opened for reading, or made durable, may still be one that files are made in.
    if let Ok(dir) = File::open(dir.unwrap_or(Path::new("."))) {
        let _ = dir.sync_all();
    }
    Ok(header)
}

fn check_base(made_for: &Base, base: &Base) -> Result<(), Defect> {
    if made_for.bytes == base.bytes && made_for.modified == base.modified {
        return Ok(());
    }
    use std::os::unix::ffi::OsStrExt;
    let path = PathBuf::from(std::ffi::OsStr::from_bytes(&made_for.path));
    let same_size = made_for.bytes == base.bytes;
    Err(Defect::OtherBase(path, made_for.bytes, same_size))
}

#[cfg(test)]
mod tests;
