//! Why a disk cannot be opened: the sentences.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::foreign::{Kind, Remedy};
use super::image::BYTES_MAX;
use super::lock::Holder;
use super::named::Defect;
use crate::spec::DiskAccess;

/// Why an image cannot be opened.
#[derive(Debug)]
pub struct OpenError {
    pub(super) path: PathBuf,
    pub(super) trouble: Trouble,
}

#[derive(Debug)]
pub(super) enum Trouble {
    Open(io::Error, DiskAccess),
    Directory,
    NotAnImage,
    Empty,
    /// It is of another format.
    Foreign(&'static Kind),
    TooLarge(u64),
    /// Changes are to be kept in an image whose last sector is not whole.
    PartOfASector(u64),
    /// Somebody uses it, and whether it was to be written.
    InUse(Holder, bool),
    NoOverlay(PathBuf, io::Error),
    /// The named overlay, and what is wrong with it.
    Overlay(PathBuf, Defect),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Trouble::Overlay(path, defect) = &self.trouble {
            write!(f, "cannot open overlay '{}': ", path.display())?;
            return overlay(&self.path, defect, f);
        }
        write!(f, "cannot open disk image '{}': ", self.path.display())?;
        match &self.trouble {
            Trouble::Foreign(kind) => foreign(&self.path, kind, f),
            trouble => trouble.fmt(f),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(e, access) => open(e, access, f),
            Self::Directory => write!(f, "it is a directory; name a raw image file"),
            Self::NotAnImage => write!(
                f,
                "it is neither a file nor a block device; name a raw image file"
            ),
            Self::Empty => write!(f, "it is empty; name an image with at least one sector"),
            Self::Foreign(kind) => write!(f, "it is {}", kind.name),
            Self::TooLarge(bytes) => write!(
                f,
                "it has {bytes} bytes; name an image of at most {BYTES_MAX} bytes"
            ),
            Self::PartOfASector(bytes) => write!(
                f,
                "it has {bytes} bytes, which is no multiple of 512, so that changes cannot be kept in its last sector; \
                 lengthen it with truncate -s %512, or leave --keep out"
            ),
            Self::InUse(holder, write) => in_use(*holder, *write, f),
            Self::Overlay(path, _) => write!(f, "its overlay '{}' is wrong", path.display()),
            Self::NoOverlay(dir, e) => write!(
                f,
                "no temporary file for its changes can be made in '{}' ({e}); set TMPDIR to a directory with room",
                dir.display()
            ),
        }
    }
}

fn open(error: &io::Error, access: &DiskAccess, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    use io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem, ResourceBusy};
    match (error.kind(), access) {
        (NotFound, _) => write!(f, "there is no such file; check the path"),
        (PermissionDenied | ReadOnlyFilesystem, DiskAccess::Keep) => write!(
            f,
            "{error}; make it writable for this user, or leave --keep out"
        ),
        (PermissionDenied, _) => write!(f, "permission denied; make it readable for this user"),
        (ResourceBusy, DiskAccess::Keep) => write!(
            f,
            "the host uses this device; unmount it, or leave --keep out"
        ),
        _ => write!(f, "{error}; name a raw image that can be read"),
    }
}

/// What is wrong with the overlay of an image.
fn overlay(image: &Path, defect: &Defect, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let image = image.display();
    match defect {
        Defect::Host(e) => write!(f, "{e}; name a file that can be made or written"),
        Defect::NotAFile => write!(f, "it is not a file; name a new file"),
        Defect::NotAnOverlay => write!(
            f,
            "it is no overlay that xlaunch has made; name a new file, which becomes one"
        ),
        Defect::Version(version) => write!(
            f,
            "it has version {version} of the format, and this xlaunch knows only 1; use the xlaunch that made it"
        ),
        Defect::DamagedHeader => write!(f, "its header is damaged; use a copy, or a new file"),
        Defect::Cut(bytes) => write!(
            f,
            "it ends after {bytes} bytes, in the midst of its data; use a whole copy, or a new file"
        ),
        Defect::DamagedLog(page) => write!(
            f,
            "its log is damaged from page {page} on, so that changes would be missing; use a copy, or a new file"
        ),
        Defect::OtherBase(path, bytes, false) => write!(
            f,
            "it was made over '{}' with {bytes} bytes, and '{image}' has another size; give the image that it was made \
             over, or name a new file",
            path.display()
        ),
        Defect::OtherBase(path, _, true) => write!(
            f,
            "it was made over '{}', and '{image}' was written at another time; give that image as it was, or name a new \
             file",
            path.display()
        ),
        Defect::InUse(Holder::Ourselves) => write!(
            f,
            "this machine has it as another disk or overlay already; name each file once"
        ),
        Defect::InUse(Holder::Other(pid)) => {
            match pid {
                Some(pid) => write!(f, "process {pid} uses it")?,
                None => write!(f, "another process uses it")?,
            }
            write!(f, "; wait until that ends, or name another file")
        }
        Defect::Replaced => write!(
            f,
            "another process has removed or replaced it just now; try again"
        ),
    }
}

/// What it is, and the command that makes a raw image of it.
fn foreign(path: &Path, kind: &Kind, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (from, raw) = (quoted(path), quoted(&raw_name(path)));
    write!(f, "it is {}; ", kind.name)?;
    match kind.remedy {
        Remedy::Convert(format) => write!(
            f,
            "convert it with qemu-img convert -f {format} -O raw {from} {raw}"
        ),
        Remedy::Unpack(program) => write!(f, "unpack it with {program} {from} > {raw}"),
        Remedy::Hdiutil => write!(
            f,
            "convert it on a Mac with hdiutil convert {from} -format UDTO -o {raw}"
        ),
        Remedy::MakeFileSystem => write!(
            f,
            "unpack its files into a directory DIR and make an image with mke2fs -t ext4 -d DIR {raw} 2G"
        ),
        Remedy::Kernel => write!(
            f,
            "boot a kernel with --kernel {from}, and name a disk image"
        ),
    }
}

/// `disk.qcow2` and `disk.img.gz` become `disk.img`; what would become itself gets an ending more.
fn raw_name(path: &Path) -> PathBuf {
    let stem = path.with_extension("");
    let raw = if stem
        .extension()
        .is_some_and(|it| it == "img" || it == "raw")
    {
        stem
    } else {
        path.with_extension("img")
    };
    if raw == path {
        path.with_added_extension("raw")
    } else {
        raw
    }
}

/// A name as a shell takes it.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

fn in_use(holder: Holder, write: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let uses = if write { "uses it" } else { "writes to it" };
    match holder {
        Holder::Ourselves => {
            return write!(
                f,
                "this machine has it as another disk already; name each image once"
            );
        }
        Holder::Other(Some(pid)) => write!(f, "process {pid} {uses}")?,
        Holder::Other(None) => write!(f, "another process {uses}")?,
    }
    if write {
        write!(f, "; wait until that ends, or leave --keep out")
    } else {
        write!(f, "; wait until that ends, or name a copy")
    }
}

impl std::error::Error for OpenError {}
