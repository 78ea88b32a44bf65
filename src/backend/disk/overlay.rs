//! The layer that takes a guest's writes: a nameless sparse file in which each block stands at its own offset, so that
//! it grows only with what is written.
//!
//! A block that the overlay does not hold yet is entered under `entering`: a partial write first copies the rest of
//! the block from the image, and of two writers of one new block neither may undo the other's part. Blocks that
//! are already there need no lock. Blocks enter the set after their contents are in place.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use hvf_sys::file::{self, Piece, split, total};
use hvf_sys::ram::Ram;

use super::blocks::{BLOCK, Blocks};
use super::image::{Image, ZEROES, cannot};
use super::zero;

pub(super) struct Overlay {
    file: File,
    bytes: u64,
    blocks: Blocks,
    entering: Mutex<()>,
}

impl fmt::Debug for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Overlay({} bytes)", self.bytes)
    }
}

impl Overlay {
    /// An empty layer over an image of `bytes` bytes.
    pub(super) fn new(dir: &Path, bytes: u64) -> io::Result<Self> {
        Ok(Self {
            file: file::create_unnamed(dir)?,
            bytes,
            blocks: Blocks::new(bytes),
            entering: Mutex::new(()),
        })
    }

    pub(super) fn read(
        &self,
        image: &Image,
        offset: u64,
        ram: &Ram,
        pieces: &[Piece],
    ) -> io::Result<()> {
        let end = offset.saturating_add(total(pieces));
        let mut at = offset;
        let mut rest = pieces.to_vec();
        while at < end {
            let block = at / BLOCK;
            let run = self.blocks.run(block, end.div_ceil(BLOCK)) * BLOCK;
            let len = run.min(end) - at;
            let (here, behind) = split(&rest, len);
            if self.blocks.contains(block) {
                self.read_own(at, ram, &here)?;
            } else {
                image.read(at, ram, &here)?;
            }
            rest = behind;
            at += len;
        }
        Ok(())
    }

    /// What the file does not reach to is a hole.
    fn read_own(&self, offset: u64, ram: &Ram, pieces: &[Piece]) -> io::Result<()> {
        let there = file::read_to_ram(&self.file, offset, ram, pieces)?;
        zero(ram, &split(pieces, there).1)
    }

    pub(super) fn write(
        &self,
        image: &Image,
        offset: u64,
        ram: &Ram,
        pieces: &[Piece],
    ) -> io::Result<()> {
        self.enter(image, offset, total(pieces), || {
            file::write_from_ram(&self.file, offset, ram, pieces)
        })
    }

    /// Runs `put`, which puts `len` bytes at `offset` into the file, and enters the blocks that are new.
    fn enter(
        &self,
        image: &Image,
        offset: u64,
        len: u64,
        put: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        let end = offset + len;
        let (first, behind) = (offset / BLOCK, end.div_ceil(BLOCK));
        if self.blocks.contains(first) && self.blocks.run(first, behind) == behind {
            return put();
        }
        let _entering = self.entering.lock().unwrap_or_else(PoisonError::into_inner);
        if !offset.is_multiple_of(BLOCK) {
            self.copy_up(image, first)?;
        }
        let whole = end.is_multiple_of(BLOCK) || end == self.bytes;
        if !whole && (behind - 1 != first || offset.is_multiple_of(BLOCK)) {
            self.copy_up(image, behind - 1)?;
        }
        put()?;
        self.blocks.insert(first, behind);
        Ok(())
    }

    /// Copies a block that is not there yet from the image. It enters the set later, with what is written to it.
    fn copy_up(&self, image: &Image, block: u64) -> io::Result<()> {
        if self.blocks.contains(block) {
            return Ok(());
        }
        let mut bytes = [0; BLOCK as usize];
        image.read_bytes(block * BLOCK, &mut bytes)?;
        self.file.write_all_at(&bytes, block * BLOCK)
    }

    /// Punches holes where the overlay holds whole blocks of the range. The rest stays: a discard is a hint.
    pub(super) fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        let (mut block, end) = self.whole_blocks(offset, len);
        while block < end {
            let run = self.blocks.run(block, end);
            if self.blocks.contains(block) {
                match self.punch(block, run) {
                    Err(e) if cannot(&e) => return Ok(()),
                    result => result?,
                }
            }
            block = run;
        }
        Ok(())
    }

    pub(super) fn write_zeroes(&self, image: &Image, offset: u64, len: u64) -> io::Result<()> {
        let (first, end) = self.whole_blocks(offset, len);
        let behind = offset + len;
        if first >= end {
            return self.put_zeroes(image, offset, len);
        }
        self.put_zeroes(image, offset, first * BLOCK - offset)?;
        self.put_zeroes(image, end * BLOCK, behind.saturating_sub(end * BLOCK))?;
        {
            let _entering = self.entering.lock().unwrap_or_else(PoisonError::into_inner);
            match self.punch(first, end) {
                Ok(()) => {
                    self.blocks.insert(first, end);
                    return Ok(());
                }
                Err(e) if cannot(&e) => {}
                Err(e) => return Err(e),
            }
        }
        self.put_zeroes(image, first * BLOCK, (end - first) * BLOCK)
    }

    /// Writes zeros like any other bytes.
    fn put_zeroes(&self, image: &Image, offset: u64, len: u64) -> io::Result<()> {
        let mut done = 0;
        while done < len {
            let n = (len - done).min(ZEROES.len() as u64);
            self.enter(image, offset + done, n, || {
                self.file.write_all_at(&ZEROES[..n as usize], offset + done)
            })?;
            done += n;
        }
        Ok(())
    }

    /// The file, to see how much of the host's disk it takes.
    #[cfg(test)]
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    fn punch(&self, first: u64, end: u64) -> io::Result<()> {
        file::punch_hole(&self.file, first * BLOCK, (end - first) * BLOCK)
    }

    /// The blocks that lie wholly in the range, as first and end; the disk's last block has what the disk has.
    fn whole_blocks(&self, offset: u64, len: u64) -> (u64, u64) {
        let behind = offset + len;
        let end = if behind == self.bytes {
            behind.div_ceil(BLOCK)
        } else {
            behind / BLOCK
        };
        (offset.div_ceil(BLOCK), end)
    }
}
