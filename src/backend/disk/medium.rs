//! What an overlay stands on: a file, or in tests one that forgets what was not flushed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use hvf_sys::file::{self, Piece};
use hvf_sys::ram::Ram;

/// Offsets and lengths are in bytes from the start of the medium. All of it may run on many threads at once.
pub(super) trait Medium {
    /// Reads into guest RAM; gives the bytes that were there.
    fn read_to_ram(&self, offset: u64, ram: &Ram, pieces: &[Piece]) -> io::Result<u64>;
    /// Writes guest RAM.
    fn write_from_ram(&self, offset: u64, ram: &Ram, pieces: &[Piece]) -> io::Result<()>;
    /// Writes host memory.
    fn write_bytes(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Gives a range back to the host; it reads as zeros from then on.
    fn punch_hole(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Makes everything that was written before the call outlive a loss of power.
    fn flush(&self) -> io::Result<()>;
}

impl Medium for File {
    fn read_to_ram(&self, offset: u64, ram: &Ram, pieces: &[Piece]) -> io::Result<u64> {
        file::read_to_ram(self, offset, ram, pieces)
    }

    fn write_from_ram(&self, offset: u64, ram: &Ram, pieces: &[Piece]) -> io::Result<()> {
        file::write_from_ram(self, offset, ram, pieces)
    }

    fn write_bytes(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn punch_hole(&self, offset: u64, len: u64) -> io::Result<()> {
        file::punch_hole(self, offset, len)
    }

    fn flush(&self) -> io::Result<()> {
        file::flush(self)
    }
}
