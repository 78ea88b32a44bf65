//! The bytes of a kernel or initrd, with the name that the user knows them by.
//!
//! A file is copied, not mapped: somebody may truncate it while it is used, and a mapping would then kill us.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use super::error::{Error, Problem};
use crate::spec;

/// What an image is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The kernel.
    Kernel,
    /// The initial RAM disk.
    Initrd,
    /// A module of a multiboot kernel.
    Module,
}

impl Role {
    fn noun(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::Module => "module",
        }
    }
}

/// A kernel or initrd in memory.
#[derive(Clone, Debug)]
pub struct Image {
    name: String,
    bytes: Cow<'static, [u8]>,
}

impl Image {
    /// Reads the image that a spec names. None may be larger than the machine's `memory`, which also keeps a wrong
    /// name (a disk of terabytes) from filling the host's memory.
    pub fn read(role: Role, image: &spec::Image, memory: u64) -> Result<Self, Error> {
        match image {
            spec::Image::Bundled(bytes) => Ok(Self::bundled(role, bytes)),
            spec::Image::File(path) => {
                let name = format!("{} {}", role.noun(), path.display());
                match read_file(path, memory) {
                    Ok(bytes) => Ok(Self {
                        name,
                        bytes: bytes.into(),
                    }),
                    Err(problem) => Err(problem.of(&name)),
                }
            }
        }
    }

    /// An image that is part of this program.
    pub fn bundled(role: Role, bytes: &'static [u8]) -> Self {
        Self {
            name: format!("the built-in {}", role.noun()),
            bytes: bytes.into(),
        }
    }

    /// An image made of these bytes, under a name for messages.
    pub fn made(name: &str, bytes: Vec<u8>) -> Self {
        Self {
            name: name.to_owned(),
            bytes: bytes.into(),
        }
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is part of this program.
    pub fn is_built_in(&self) -> bool {
        matches!(self.bytes, Cow::Borrowed(_))
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn read_file(path: &Path, memory: u64) -> Result<Vec<u8>, Problem> {
    // Asked before opening, because opening a FIFO waits for its writer.
    check_kind(&fs::metadata(path).map_err(io_problem)?, memory)?;
    let file = File::open(path).map_err(io_problem)?;
    let metadata = file.metadata().map_err(io_problem)?;
    check_kind(&metadata, memory)?;
    let mut bytes = Vec::new();
    // One byte more than allowed: the file may have grown.
    let taken = file.take(memory.saturating_add(1)).read_to_end(&mut bytes);
    let taken = taken.map_err(io_problem)? as u64;
    if taken == 0 {
        return Err(Problem::Empty);
    }
    check_size(taken, memory)?;
    Ok(bytes)
}

fn check_kind(metadata: &fs::Metadata, memory: u64) -> Result<(), Problem> {
    if metadata.is_dir() {
        Err(Problem::Directory)
    } else if !metadata.is_file() {
        Err(Problem::NotAFile)
    } else {
        check_size(metadata.len(), memory)
    }
}

fn check_size(bytes: u64, memory: u64) -> Result<(), Problem> {
    if bytes > memory {
        Err(Problem::LargerThanMemory { bytes, memory })
    } else {
        Ok(())
    }
}

fn io_problem(error: io::Error) -> Problem {
    match error.kind() {
        io::ErrorKind::NotFound => Problem::Missing,
        io::ErrorKind::IsADirectory => Problem::Directory,
        _ => Problem::Unreadable(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &Path, memory: u64) -> String {
        let image = spec::Image::File(path.to_owned());
        Image::read(Role::Kernel, &image, memory)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn each_wrong_file_is_named_in_one_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("kernel");
        let name = format!("kernel {}", file.display());
        assert_eq!(
            refusal(&file, 1 << 20),
            format!("cannot read {name}: there is no such file")
        );
        fs::write(&file, b"").unwrap();
        assert_eq!(
            refusal(&file, 1 << 20),
            format!("cannot use {name}: the file is empty")
        );
        fs::write(&file, [0; 100]).unwrap();
        assert!(refusal(&file, 99).contains("its 100 bytes are more than the machine's 99 bytes"));
        assert!(refusal(dir.path(), 1 << 20).contains("it is a directory"));
        assert!(refusal(Path::new("/dev/null"), 1 << 20).contains("FIFO, socket or device"));
    }

    #[test]
    fn a_file_and_a_built_in_image_give_their_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("initrd");
        fs::write(&file, b"abc").unwrap();
        let read = Image::read(Role::Initrd, &spec::Image::File(file), 3).unwrap();
        assert_eq!(read.bytes(), b"abc");
        let built_in = Image::read(Role::Initrd, &spec::Image::Bundled(b"xyz"), 0).unwrap();
        assert_eq!(
            (built_in.name(), built_in.bytes()),
            ("the built-in initrd", &b"xyz"[..])
        );
    }
}
