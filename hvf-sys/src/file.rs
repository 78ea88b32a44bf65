//! Files that stand behind guests' disks: transfers straight between a file and guest RAM, and what the standard
//! library has no portable call for.
//!
//! Invariants: the kernel is only ever given host addresses of ranges that `Ram` has confirmed, while the `Ram` is
//! borrowed; no reference into guest memory is made. After a transfer into RAM the map of code pages is told.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use crate::ram::Ram;

/// A range of guest memory that takes part in a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The first guest physical address.
    pub gpa: u64,
    /// How many bytes.
    pub len: u64,
}

/// How many bytes the pieces have; at most `u64::MAX`.
pub fn total(pieces: &[Piece]) -> u64 {
    let add = |sum: u64, piece: &Piece| sum.saturating_add(piece.len);
    pieces.iter().fold(0, add)
}

/// The pieces up to byte `at` and those from there on.
pub fn split(pieces: &[Piece], at: u64) -> (Vec<Piece>, Vec<Piece>) {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let mut left = at;
    for &Piece { gpa, len } in pieces {
        let here = len.min(left);
        left -= here;
        if here > 0 {
            first.push(Piece { gpa, len: here });
        }
        if len > here {
            second.push(Piece {
                gpa: gpa.saturating_add(here),
                len: len - here,
            });
        }
    }
    (first, second)
}

/// Opens a file to be a disk. It does not wait, whatever the path names: a FIFO opens (and is told from a file by
/// its type), and nothing becomes our terminal. A block device is not opened for writing while the host itself has
/// it mounted, where the host can tell.
pub fn open_image(path: &Path, write: bool) -> io::Result<File> {
    let device = std::fs::metadata(path).is_ok_and(|it| it.file_type().is_block_device());
    // Without O_CREAT, which open(2) of Linux allows for block devices.
    let alone = if cfg!(target_os = "linux") && write && device {
        libc::O_EXCL
    } else {
        0
    };
    OpenOptions::new()
        .read(true)
        .write(write)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | alone)
        .open(path)
}

/// Makes a file in `dir` that has no name, so that it is gone when the last handle closes, however that happens.
pub fn create_unnamed(dir: &Path) -> io::Result<File> {
    #[cfg(target_os = "linux")]
    {
        let unnamed = OpenOptions::new()
            .read(true)
            .write(true)
            .mode(0o600)
            .custom_flags(libc::O_TMPFILE)
            .open(dir);
        if unnamed.is_ok() {
            return unnamed;
        }
    }
    create_and_unlink(dir)
}

/// The fallback, for file systems and hosts that cannot make a file without a name.
fn create_and_unlink(dir: &Path) -> io::Result<File> {
    let mut error = io::Error::from(io::ErrorKind::AlreadyExists);
    for _ in 0..8 {
        let mut name = [0; 8];
        crate::random::fill(&mut name)?;
        let path = dir.join(format!("xlaunch-{:016x}", u64::from_ne_bytes(name)));
        let created = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        match created {
            Ok(file) => {
                std::fs::remove_file(&path)?;
                return Ok(file);
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => error = e,
            Err(e) => return Err(e),
        }
    }
    Err(error)
}

/// How many bytes a regular file or a block device has.
pub fn size(file: &mut File) -> io::Result<u64> {
    let metadata = file.metadata()?;
    if metadata.file_type().is_block_device() {
        return device_size(file);
    }
    Ok(metadata.len())
}

#[cfg(not(target_os = "macos"))]
fn device_size(file: &mut File) -> io::Result<u64> {
    file.seek(SeekFrom::End(0))
}

/// `lseek` says nothing about a Mac's block devices.
#[cfg(target_os = "macos")]
fn device_size(file: &mut File) -> io::Result<u64> {
    // <sys/disk.h>: _IOR('d', 24, uint32_t) and _IOR('d', 25, uint64_t).
    const DKIOCGETBLOCKSIZE: libc::c_ulong = 0x4004_6418;
    const DKIOCGETBLOCKCOUNT: libc::c_ulong = 0x4008_6419;
    let (mut block, mut count) = (0_u32, 0_u64);
    file.seek(SeekFrom::Start(0))?;
    // SAFETY: each request writes an integer of the type given.
    let failed = unsafe {
        libc::ioctl(file.as_raw_fd(), DKIOCGETBLOCKSIZE, &raw mut block) != 0
            || libc::ioctl(file.as_raw_fd(), DKIOCGETBLOCKCOUNT, &raw mut count) != 0
    };
    if failed {
        return Err(io::Error::last_os_error());
    }
    Ok(count.saturating_mul(u64::from(block)))
}

/// Makes everything written so far outlive a loss of power.
#[cfg(not(target_os = "macos"))]
pub fn flush(file: &File) -> io::Result<()> {
    file.sync_data()
}

/// Makes everything written so far outlive a loss of power: the standard library asks for F_FULLFSYNC, which not every file
/// system and no device has. There the host's own cache is all that can be written out, and the device's own with it.
#[cfg(target_os = "macos")]
pub fn flush(file: &File) -> io::Result<()> {
    // <sys/disk.h>: _IO('d', 22).
    const DKIOCSYNCHRONIZECACHE: libc::c_ulong = 0x2000_6416;
    match file.sync_data().map_err(|error| error.raw_os_error()) {
        Ok(()) => return Ok(()),
        Err(Some(libc::ENOTSUP | libc::ENOTTY | libc::EINVAL | libc::ENODEV)) => {}
        Err(code) => return Err(io::Error::from_raw_os_error(code.unwrap_or(libc::EIO))),
    }
    // SAFETY: the descriptor is open, and the call takes nothing else.
    if unsafe { libc::fsync(file.as_raw_fd()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if !file.metadata()?.file_type().is_block_device() {
        return Ok(());
    }
    // SAFETY: the request takes no argument.
    if unsafe { libc::ioctl(file.as_raw_fd(), DKIOCSYNCHRONIZECACHE) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Reads from `offset` of the file into guest RAM, piece by piece. Says how many bytes were read: fewer than asked
/// only where the file ends.
pub fn read_to_ram(file: &File, offset: u64, ram: &Ram, pieces: &[Piece]) -> io::Result<u64> {
    let result = transfer(offset, ram, pieces, |vectors, count, at| {
        // SAFETY: `transfer` gives `count` vectors of writable guest memory that stays mapped.
        unsafe { libc::preadv(file.as_raw_fd(), vectors, count, at) }
    });
    // Also after an error: part of it may have been read.
    for piece in pieces {
        ram.written(piece.gpa, piece.len);
    }
    result
}

/// Writes guest RAM to `offset` of the file, piece by piece.
pub fn write_from_ram(file: &File, offset: u64, ram: &Ram, pieces: &[Piece]) -> io::Result<()> {
    let written = transfer(offset, ram, pieces, |vectors, count, at| {
        // SAFETY: `transfer` gives `count` vectors of readable guest memory that stays mapped.
        unsafe { libc::pwritev(file.as_raw_fd(), vectors, count, at) }
    })?;
    let wanted: u64 = pieces.iter().map(|piece| piece.len).sum();
    if written == wanted {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

/// Gives a part of the file back to the file system; it reads as zeros from then on.
#[cfg(target_os = "linux")]
pub fn punch_hole(file: &File, offset: u64, len: u64) -> io::Result<()> {
    fallocate(file, libc::FALLOC_FL_PUNCH_HOLE, offset, len)
}

/// Makes a part of the file read as zeros, and keeps its space.
#[cfg(target_os = "linux")]
pub fn zero_range(file: &File, offset: u64, len: u64) -> io::Result<()> {
    fallocate(file, libc::FALLOC_FL_ZERO_RANGE, offset, len)
}

/// Works on a part of a file, which keeps its length.
#[cfg(target_os = "linux")]
fn fallocate(file: &File, mode: libc::c_int, offset: u64, len: u64) -> io::Result<()> {
    let mode = mode | libc::FALLOC_FL_KEEP_SIZE;
    let (offset, len) = (position(offset)?, position(len)?);
    loop {
        // SAFETY: the call takes no pointer.
        if unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, len) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// There is no call for it: zeros must be written.
#[cfg(not(target_os = "linux"))]
pub fn zero_range(_: &File, _: u64, _: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Gives a part of the file back to the file system; it reads as zeros from then on. Offset and length must be
/// multiples of the file system's block size.
#[cfg(target_os = "macos")]
pub fn punch_hole(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let hole = libc::fpunchhole_t {
        fp_flags: 0,
        reserved: 0,
        fp_offset: position(offset)?,
        fp_length: position(len)?,
    };
    // SAFETY: F_PUNCHHOLE reads one `fpunchhole_t`.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_PUNCHHOLE, &raw const hole) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// At most so many vectors in a call; every host takes 1024.
const VECTORS: usize = 256;
/// At most so many bytes in a call: macOS refuses 2^31.
const BYTES: u64 = 1 << 30;

/// Calls `call` with the host's view of the pieces, until all bytes are moved or it moves none.
fn transfer(
    offset: u64,
    ram: &Ram,
    pieces: &[Piece],
    call: impl Fn(*const libc::iovec, libc::c_int, libc::off_t) -> libc::ssize_t,
) -> io::Result<u64> {
    let mut done = 0;
    let mut rest = Rest { pieces, skip: 0 };
    let mut vectors = Vec::with_capacity(pieces.len().min(VECTORS));
    loop {
        rest.vectors(ram, &mut vectors)?;
        if vectors.is_empty() {
            return Ok(done);
        }
        let at = position(offset.saturating_add(done))?;
        match call(vectors.as_ptr(), vectors.len() as libc::c_int, at) {
            0 => return Ok(done),
            moved if moved > 0 => {
                done += moved as u64;
                rest.advance(moved as u64);
            }
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

/// The pieces that are still to be moved.
struct Rest<'a> {
    pieces: &'a [Piece],
    /// Bytes of the first piece that are done.
    skip: u64,
}

impl Rest<'_> {
    /// Fills `vectors` with what the next call can move.
    fn vectors(&self, ram: &Ram, vectors: &mut Vec<libc::iovec>) -> io::Result<()> {
        vectors.clear();
        let mut room = BYTES;
        let mut skip = self.skip;
        for piece in self.pieces {
            let len = piece.len.saturating_sub(skip).min(room);
            if vectors.len() == VECTORS || room == 0 {
                break;
            }
            if len > 0 {
                let outside = || io::Error::from(io::ErrorKind::InvalidInput);
                let gpa = piece.gpa.checked_add(skip).ok_or_else(outside)?;
                let host = ram.host(gpa, len).ok_or_else(outside)?;
                vectors.push(libc::iovec {
                    iov_base: host.cast(),
                    iov_len: len as usize,
                });
                room -= len;
            }
            skip = 0;
        }
        Ok(())
    }

    fn advance(&mut self, moved: u64) {
        self.skip += moved;
        while let [first, rest @ ..] = self.pieces
            && self.skip >= first.len
        {
            self.skip -= first.len;
            self.pieces = rest;
        }
    }
}

fn position(offset: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn pieces(list: &[(u64, u64)]) -> Vec<Piece> {
        list.iter().map(|&(gpa, len)| Piece { gpa, len }).collect()
    }

    #[test]
    fn bytes_travel_between_file_and_ram() {
        let ram = Ram::new(&[(0, 0x4000), (0x1_0000, 0x1000)]).unwrap();
        let mut file = create_unnamed(&std::env::temp_dir()).unwrap();
        ram.write(0x10, b"abcdef").unwrap();
        let from = pieces(&[(0x13, 3), (0x10, 0), (0x10, 3)]);
        write_from_ram(&file, 2, &ram, &from).unwrap();
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "\0\0defabc");
        let to = pieces(&[(0x1_0ffe, 2), (0x3ffc, 4), (0, 0)]);
        assert_eq!(read_to_ram(&file, 1, &ram, &to).unwrap(), 6);
        let mut bytes = [0; 4];
        ram.read(0x3ffc, &mut bytes).unwrap();
        assert_eq!(&bytes, b"efab");
        assert_eq!(read_to_ram(&file, 6, &ram, &to).unwrap(), 2, "the end");
        assert_eq!(read_to_ram(&file, 60, &ram, &to).unwrap(), 0, "behind it");
    }

    #[test]
    fn ranges_outside_ram_are_errors() {
        let ram = Ram::new(&[(0, 0x1000)]).unwrap();
        let mut file = create_unnamed(&std::env::temp_dir()).unwrap();
        file.write_all(&[0; 64]).unwrap();
        for (gpa, len) in [
            (0xfff, 2),
            (0x1000, 1),
            (u64::MAX, 2),
            (u64::MAX, 1),
            (0, u64::MAX),
        ] {
            let kind = |e: io::Error| e.kind();
            let list = pieces(&[(gpa, len)]);
            let read = read_to_ram(&file, 0, &ram, &list).map_err(kind);
            assert_eq!(read, Err(io::ErrorKind::InvalidInput), "{gpa:#x}+{len:#x}");
            let written = write_from_ram(&file, 0, &ram, &list).map_err(kind);
            assert_eq!(
                written,
                Err(io::ErrorKind::InvalidInput),
                "{gpa:#x}+{len:#x}"
            );
        }
        assert!(read_to_ram(&file, u64::MAX, &ram, &pieces(&[(0, 1)])).is_err());
    }

    #[test]
    fn many_pieces_take_several_calls() {
        let ram = Ram::new(&[(0, 0x2000)]).unwrap();
        let file = create_unnamed(&std::env::temp_dir()).unwrap();
        ram.fill(0, 0x1000, 7).unwrap();
        let from: Vec<_> = (0..1000).map(|i| Piece { gpa: i, len: 3 }).collect();
        write_from_ram(&file, 0, &ram, &from).unwrap();
        let to = [Piece {
            gpa: 0x1000,
            len: 0x1000,
        }];
        assert_eq!(read_to_ram(&file, 0, &ram, &to).unwrap(), 3000);
        assert_eq!(ram.load_u8(0x1000 + 2999), Ok(7));
        assert_eq!(ram.load_u8(0x1000 + 3000), Ok(0));
    }

    #[test]
    fn a_read_ends_what_was_decoded_there() {
        let ram = Ram::new(&[(0, 0x1000)]).unwrap();
        let mut file = create_unnamed(&std::env::temp_dir()).unwrap();
        file.write_all(&[0xc3; 16]).unwrap();
        ram.mark_code(0x100, 8);
        let before = ram.code_generation(0x100);
        read_to_ram(&file, 0, &ram, &pieces(&[(0x100, 16)])).unwrap();
        assert_ne!(ram.code_generation(0x100), before);
    }

    #[test]
    fn holes_read_as_zeros_and_cost_nothing() {
        use std::os::unix::fs::{FileExt, MetadataExt};
        for file in [
            create_unnamed(&std::env::temp_dir()),
            create_and_unlink(&std::env::temp_dir()),
        ] {
            let file = file.unwrap();
            file.write_all_at(&[1; 0x4000], 0).unwrap();
            match punch_hole(&file, 0x1000, 0x2000) {
                Err(e) if e.kind() == io::ErrorKind::Unsupported => continue,
                result => result.unwrap(),
            }
            let mut bytes = [9; 0x4000];
            file.read_exact_at(&mut bytes, 0).unwrap();
            assert_eq!(bytes[0x1000..0x3000], [0; 0x2000]);
            assert_eq!((bytes[0xfff], bytes[0x3000]), (1, 1));
            assert_eq!(file.metadata().unwrap().nlink(), 0);
        }
    }
}
