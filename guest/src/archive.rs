//! The initrd archive: cpio in its "newc" form, written by us so that the same input gives the same bytes.
//!
//! Format: Linux, Documentation/driver-api/early-userspace/buffer-format.rst. Each member is a header of ASCII
//! hexadecimal fields, a name ending in NUL, padding to four bytes, the data, padding to four bytes.
//!
//! Whatever differs between two machines is fixed: members are sorted by name, times are zero, owner and group are
//! root, inode numbers count up from one, and hard links do not exist. Parent directories that nobody named
//! are added, because the kernel creates nothing by itself.
//!
//! Not modelled: the checksummed form ("crc"), sockets and FIFOs, and files of 4 GiB and more (refused).

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};

/// What an archive holds, by its path inside the guest.
#[derive(Debug, Default)]
pub struct Archive {
    members: BTreeMap<String, Member>,
}

/// One thing in the guest's root directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Member {
    /// A directory with its permission bits.
    Directory {
        /// Permission bits, at most 0o7777.
        mode: u32,
    },
    /// A file with its permission bits and its bytes.
    File {
        /// Permission bits, at most 0o7777.
        mode: u32,
        /// What the file holds.
        data: Vec<u8>,
    },
    /// A symbolic link and where it points.
    Link {
        /// The link's text, unchecked by anybody until it is followed.
        target: String,
    },
    /// A device node.
    Node {
        /// Permission bits, at most 0o7777.
        mode: u32,
        /// Character or block.
        kind: NodeKind,
        /// Major device number.
        major: u32,
        /// Minor device number.
        minor: u32,
    },
}

/// The two kinds of device nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A character device.
    Character,
    /// A block device.
    Block,
}

/// Why a member cannot be in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The path is empty, too long, or has an empty, `.` or `..` component.
    Path(String),
    /// Two different members have one path.
    Twice(String),
    /// The path leads through something that is no directory.
    NotADirectory(String),
    /// The permission bits are more than 0o7777.
    Mode(String),
    /// The file is 4 GiB or more, which the format cannot say.
    TooLarge(String),
    /// The link's target is empty or longer than the kernel takes.
    Target(String),
}

impl Archive {
    /// An archive with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a member at `path`, which is taken from the guest's root with or without its leading slash.
    /// A directory may be named again: the last mode holds.
    pub fn add(&mut self, path: &str, member: Member) -> Result<(), Refused> {
        let path = normal(path)?;
        member.check(&path)?;
        self.add_parents(&path)?;
        match self.members.get(&path) {
            // A directory that so far was only somebody's parent, or that two lists name.
            Some(Member::Directory { .. }) if matches!(member, Member::Directory { .. }) => {}
            Some(_) => return Err(Refused::Twice(path)),
            None => {}
        }
        self.members.insert(path, member);
        Ok(())
    }

    fn add_parents(&mut self, path: &str) -> Result<(), Refused> {
        for (end, _) in path.match_indices('/') {
            let parent = self
                .members
                .entry(path[..end].to_owned())
                .or_insert(Member::Directory { mode: 0o755 });
            if !matches!(parent, Member::Directory { .. }) {
                return Err(Refused::NotADirectory(path[..end].to_owned()));
            }
        }
        Ok(())
    }

    /// The members in the order in which they are written: a directory precedes what it holds.
    pub fn members(&self) -> impl Iterator<Item = (&str, &Member)> {
        self.members.iter().map(|(path, m)| (path.as_str(), m))
    }

    /// Writes the whole archive, its end marker included.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut out = Counted { out, written: 0 };
        for (inode, (path, member)) in (1..).zip(self.members()) {
            write_member(&mut out, path, &member.header(inode), member.data())?;
        }
        let end = Header {
            links: 1,
            ..Header::default()
        };
        write_member(&mut out, END_NAME, &end, &[])?;
        out.pad_to(TAIL_ALIGN)
    }
}

impl Member {
    fn check(&self, path: &str) -> Result<(), Refused> {
        match self {
            Self::Directory { mode } | Self::File { mode, .. } | Self::Node { mode, .. }
                if *mode > MODE_MAX =>
            {
                Err(Refused::Mode(path.to_owned()))
            }
            Self::File { data, .. } if u32::try_from(data.len()).is_err() => {
                Err(Refused::TooLarge(path.to_owned()))
            }
            Self::Link { target } if target.is_empty() || target.len() > PATH_MAX => {
                Err(Refused::Target(path.to_owned()))
            }
            _ => Ok(()),
        }
    }

    fn header(&self, inode: u32) -> Header {
        let plain = Header {
            inode,
            links: 1,
            ..Header::default()
        };
        match self {
            Self::Directory { mode } => Header {
                mode: S_IFDIR | mode,
                links: 2,
                ..plain
            },
            Self::File { mode, .. } => Header {
                mode: S_IFREG | mode,
                ..plain
            },
            Self::Link { .. } => Header {
                mode: S_IFLNK | 0o777,
                ..plain
            },
            Self::Node {
                mode,
                kind,
                major,
                minor,
            } => Header {
                mode: kind.file_type() | mode,
                device: (*major, *minor),
                ..plain
            },
        }
    }

    fn data(&self) -> &[u8] {
        match self {
            Self::File { data, .. } => data,
            Self::Link { target } => target.as_bytes(),
            Self::Directory { .. } | Self::Node { .. } => &[],
        }
    }
}

impl NodeKind {
    fn file_type(self) -> u32 {
        match self {
            Self::Character => S_IFCHR,
            Self::Block => S_IFBLK,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(p) => write!(
                f,
                "\"{p}\" is no path inside the guest: it must have names only, none of them \".\" or \"..\""
            ),
            Self::Twice(p) => write!(f, "/{p} is there twice: name it once"),
            Self::NotADirectory(p) => write!(f, "/{p} holds other members and is no directory"),
            Self::Mode(p) => write!(f, "the mode of /{p} is above 7777"),
            Self::TooLarge(p) => {
                write!(f, "/{p} is 4 GiB or more, which an initrd cannot hold")
            }
            Self::Target(p) => write!(
                f,
                "the link /{p} must point to 1 to {PATH_MAX} bytes of path"
            ),
        }
    }
}

impl std::error::Error for Refused {}

/// The path without slashes at its ends; only names may be between the others.
fn normal(path: &str) -> Result<String, Refused> {
    let inner = path.trim_matches('/');
    let named = |name: &str| !matches!(name, "" | "." | "..") && !name.contains('\0');
    if inner.len() > PATH_MAX || inner == END_NAME || !inner.split('/').all(named) {
        return Err(Refused::Path(path.to_owned()));
    }
    Ok(inner.to_owned())
}

/// The fields of a header that we vary; all others are zero or follow from name and data.
#[derive(Clone, Copy, Default)]
struct Header {
    inode: u32,
    mode: u32,
    links: u32,
    device: (u32, u32),
}

fn write_member(
    out: &mut Counted<impl Write>,
    name: &str,
    header: &Header,
    data: &[u8],
) -> io::Result<()> {
    let size = |n: usize| u32::try_from(n).map_err(io::Error::other);
    let fields = [
        header.inode,
        header.mode,
        0, // owner
        0, // group
        header.links,
        0, // time of modification
        size(data.len())?,
        0, // major and minor of the device that held it
        0,
        header.device.0,
        header.device.1,
        size(name.len() + 1)?,
        0, // checksum, only in the other form
    ];
    out.write_all(MAGIC)?;
    for field in fields {
        write!(out, "{field:08x}")?;
    }
    out.write_all(name.as_bytes())?;
    out.write_all(&[0])?;
    out.pad_to(MEMBER_ALIGN)?;
    out.write_all(data)?;
    out.pad_to(MEMBER_ALIGN)
}

/// Counts what went through, because padding depends on the place in the archive.
struct Counted<W> {
    out: W,
    written: usize,
}

impl<W: Write> Counted<W> {
    fn pad_to(&mut self, align: usize) -> io::Result<()> {
        let missing = self.written.next_multiple_of(align) - self.written;
        self.write_all(&[0; TAIL_ALIGN][..missing])
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.written += n;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

const MAGIC: &[u8] = b"070701";
const END_NAME: &str = "TRAILER!!!";
const MEMBER_ALIGN: usize = 4;
/// cpio programs read blocks of this size and complain about a shorter last one.
const TAIL_ALIGN: usize = 512;
/// The kernel skips names and link targets that are longer (init/initramfs.c: PATH_MAX with its NUL).
const PATH_MAX: usize = 4095;
const MODE_MAX: u32 = 0o7777;

// stat(2), "The file type and mode".
const S_IFCHR: u32 = 0o020_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFBLK: u32 = 0o060_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
