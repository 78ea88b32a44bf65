//! Reading directories, from any position that was given before.

use super::{Handle, Kind};
use std::io;

/// One entry.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The number of the object, in the file system of the directory.
    pub ino: u64,
    /// From where the entries behind this one are read.
    pub next: u64,
    /// Its kind, where the file system tells.
    pub kind: Option<Kind>,
    /// Its type as readdir(3) has it (DT_REG and so on); 0 where it is not known.
    pub dtype: u8,
    /// Its name, `.` and `..` among them.
    pub name: &'a [u8],
}

/// The kind that a DT_ value stands for.
fn kind(dtype: u8) -> Option<Kind> {
    match dtype {
        libc::DT_REG => Some(Kind::File),
        libc::DT_DIR => Some(Kind::Directory),
        libc::DT_LNK => Some(Kind::Link),
        libc::DT_UNKNOWN => None,
        _ => Some(Kind::Special),
    }
}

pub use system::Listing;

#[cfg(target_os = "linux")]
mod system {
    use super::{Entry, Handle, io, kind};
    use std::fs::File;
    use std::io::{Seek, SeekFrom};
    use std::os::fd::AsRawFd;

    /// The most bytes of entries that are read at once; the least is what the longest name takes.
    const CHUNK: std::ops::RangeInclusive<usize> = 512..=64 * 1024;
    /// Where getdents64(2) puts an entry's length, type and name.
    const LENGTH: usize = 16;
    const TYPE: usize = 18;
    const NAME: usize = 19;

    /// A directory that is being read: getdents64(2), whose positions the file system keeps true while entries come and go.
    #[derive(Debug)]
    pub struct Listing {
        directory: File,
        /// Where the kernel will read on.
        position: u64,
    }

    impl Listing {
        /// Opens a directory to be read.
        pub fn open(directory: &Handle) -> io::Result<Self> {
            Ok(Self {
                directory: directory.open_directory()?,
                position: 0,
            })
        }

        /// Gives `each` the entries from `from` (0, or an entry's `next`) on, about `room` bytes of them, until it
        /// refuses one. None means that there are none left. A position that was never given gives any entries or an error.
        pub fn read(
            &mut self,
            from: u64,
            room: usize,
            mut each: impl FnMut(Entry<'_>) -> bool,
        ) -> io::Result<()> {
            self.go_to(from)?;
            let mut chunk = vec![0_u8; room.clamp(*CHUNK.start(), *CHUNK.end())];
            // SAFETY: the descriptor is open, and the call writes at most as many bytes as the chunk has.
            let count = unsafe {
                libc::syscall(
                    libc::SYS_getdents64,
                    self.directory.as_raw_fd(),
                    chunk.as_mut_ptr(),
                    chunk.len(),
                )
            };
            let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
            let mut rest = &chunk[..count];
            let mut taken = from;
            // Where the kernel stands now, unless the last entry was taken.
            self.position = u64::MAX;
            while let Some((entry, behind)) = parse(rest) {
                if !each(entry) {
                    return self.go_to(taken);
                }
                taken = entry.next;
                rest = behind;
            }
            self.position = taken;
            Ok(())
        }

        fn go_to(&mut self, position: u64) -> io::Result<()> {
            if position != self.position {
                self.directory.seek(SeekFrom::Start(position))?;
                self.position = position;
            }
            Ok(())
        }
    }

    /// The first of the kernel's entries, and what is behind it.
    fn parse(bytes: &[u8]) -> Option<(Entry<'_>, &[u8])> {
        let word = |at: usize| Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let length = bytes.get(LENGTH..LENGTH + 2)?.try_into().ok()?;
        let length = usize::from(u16::from_ne_bytes(length));
        let name = bytes.get(NAME..length)?;
        let name = &name[..name.iter().position(|&it| it == 0)?];
        let entry = Entry {
            ino: word(0)?,
            next: word(8)?,
            kind: kind(bytes[TYPE]),
            dtype: bytes[TYPE],
            name,
        };
        Some((entry, &bytes[length..]))
    }
}

#[cfg(target_os = "macos")]
mod system {
    use super::{Entry, Handle, io, kind};
    use std::ffi::CStr;
    use std::os::fd::IntoRawFd;
    use std::ptr::NonNull;

    /// A directory that is being read. A position is the number of an entry: reading on costs nothing, going back means
    /// reading again from the start.
    #[derive(Debug)]
    pub struct Listing {
        /// Ours alone, and closed with us.
        stream: NonNull<libc::DIR>,
        /// How many entries the stream has given.
        position: u64,
        /// The last one, if it was refused.
        refused: Option<Refused>,
    }

    #[derive(Debug)]
    struct Refused {
        ino: u64,
        dtype: u8,
        name: Vec<u8>,
    }

    // SAFETY: a stream may be used by any thread, one at a time; all its uses need `&mut self`.
    unsafe impl Send for Listing {}

    impl Listing {
        /// Opens a directory to be read.
        pub fn open(directory: &Handle) -> io::Result<Self> {
            let fd = directory.open_directory()?.into_raw_fd();
            // SAFETY: the descriptor is ours; the stream takes it over.
            let stream = unsafe { libc::fdopendir(fd) };
            let stream = NonNull::new(stream).ok_or_else(io::Error::last_os_error)?;
            Ok(Self {
                stream,
                position: 0,
                refused: None,
            })
        }

        /// Gives `each` the entries from `from` (0, or an entry's `next`) on, about `room` bytes of them, until it
        /// refuses one. None means that there are none left.
        pub fn read(
            &mut self,
            from: u64,
            room: usize,
            mut each: impl FnMut(Entry<'_>) -> bool,
        ) -> io::Result<()> {
            if from != self.position || from == 0 {
                // SAFETY: the stream is open.
                unsafe { libc::rewinddir(self.stream.as_ptr()) };
                (self.position, self.refused) = (0, None);
                while self.position < from {
                    if self.next()?.is_none() {
                        return Ok(());
                    }
                    self.position += 1;
                }
            }
            let mut given = 0;
            while given < room {
                let next = match self.refused.take() {
                    Some(refused) => Some(refused),
                    None => self.next()?,
                };
                let Some(found) = next else { break };
                let entry = Entry {
                    ino: found.ino,
                    next: self.position + 1,
                    kind: kind(found.dtype),
                    dtype: found.dtype,
                    name: &found.name,
                };
                if !each(entry) {
                    self.refused = Some(found);
                    break;
                }
                given += found.name.len() + 24;
                self.position += 1;
            }
            Ok(())
        }

        fn next(&mut self) -> io::Result<Option<Refused>> {
            // SAFETY: the stream is open; errno is this thread's; the entry is valid until the next call, and
            // its name is terminated.
            unsafe {
                *libc::__error() = 0;
                let entry = libc::readdir(self.stream.as_ptr());
                if entry.is_null() {
                    let error = io::Error::last_os_error();
                    return if error.raw_os_error() == Some(0) {
                        Ok(None)
                    } else {
                        Err(error)
                    };
                }
                let name = CStr::from_ptr((&raw const (*entry).d_name).cast());
                Ok(Some(Refused {
                    ino: (*entry).d_ino,
                    dtype: (*entry).d_type,
                    name: name.to_bytes().to_vec(),
                }))
            }
        }
    }

    impl Drop for Listing {
        fn drop(&mut self) {
            // SAFETY: the stream is open, and never used again.
            unsafe { libc::closedir(self.stream.as_ptr()) };
        }
    }
}
