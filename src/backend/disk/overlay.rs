//! The layer that takes a guest's writes: a sparse file in which each block stands at its own offset, so that it grows only
//! with what is written. What is thrown away is in a nameless file and is never flushed; a named one has a log too, which
//! says after a crash what it holds (`named`).
//!
//! A block that the overlay does not hold yet is entered under `entering`: a partial write first copies the rest of
//! the block from the image, and of two writers of one new block neither may undo the other's part. Blocks that
//! are already there need no lock. Blocks enter the set after their contents are in place.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use hvf_sys::file::{self, Piece, split, total};
use hvf_sys::ram::Ram;

use super::blocks::{BLOCK, Blocks};
use super::image::{Image, ZEROES, cannot};
use super::medium::Medium;
use super::named::Log;
use super::zero;

pub(super) struct Overlay<M = File> {
    medium: M,
    /// Byte of the medium at which the disk's first block is.
    start: u64,
    /// The size of the disk.
    bytes: u64,
    blocks: Blocks,
    entering: Mutex<()>,
    log: Option<Log>,
}

impl<M> fmt::Debug for Overlay<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Overlay({} bytes)", self.bytes)
    }
}

impl Overlay {
    /// An empty layer over an image of `bytes` bytes.
    pub(super) fn new(dir: &Path, bytes: u64) -> io::Result<Self> {
        Ok(Self {
            medium: file::create_unnamed(dir)?,
            start: 0,
            bytes,
            blocks: Blocks::new(bytes),
            entering: Mutex::new(()),
            log: None,
        })
    }
}

impl<M: Medium> Overlay<M> {
    /// A layer over an image of `bytes` bytes that already holds `blocks`, which stand from `start` on, and enters new ones
    /// in `log`.
    pub(super) fn named(medium: M, start: u64, bytes: u64, blocks: Blocks, log: Log) -> Self {
        Self {
            medium,
            start,
            bytes,
            blocks,
            entering: Mutex::new(()),
            log: Some(log),
        }
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
        let there = self.medium.read_to_ram(self.start + offset, ram, pieces)?;
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
            self.medium.write_from_ram(self.start + offset, ram, pieces)
        })
    }

    /// Makes everything written so far durable. What is thrown away needs no effort.
    pub(super) fn flush(&self) -> io::Result<()> {
        let log = self.log.as_ref();
        log.map_or(Ok(()), |log| log.commit(&self.medium))
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
        let entering = self.entering.lock().unwrap_or_else(PoisonError::into_inner);
        if !offset.is_multiple_of(BLOCK) {
            self.copy_up(image, first)?;
        }
        let whole = end.is_multiple_of(BLOCK) || end == self.bytes;
        if !whole && (behind - 1 != first || offset.is_multiple_of(BLOCK)) {
            self.copy_up(image, behind - 1)?;
        }
        put()?;
        let full = self.insert(first, behind);
        drop(entering);
        if full { self.flush() } else { Ok(()) }
    }

    /// Adds blocks whose contents are in place. Says whether the log has enough of them for a flush of its own. Only for who
    /// holds `entering`.
    fn insert(&self, first: u64, end: u64) -> bool {
        let mut full = false;
        if let Some(log) = &self.log {
            let mut block = first;
            while block < end {
                let run = self.blocks.run(block, end);
                if !self.blocks.contains(block) {
                    full |= log.entered((block, run));
                }
                block = run;
            }
        }
        self.blocks.insert(first, end);
        full
    }

    /// Copies a block that is not there yet from the image. It enters the set later, with what is written to it.
    fn copy_up(&self, image: &Image, block: u64) -> io::Result<()> {
        if self.blocks.contains(block) {
            return Ok(());
        }
        let mut bytes = [0; BLOCK as usize];
        image.read_bytes(block * BLOCK, &mut bytes)?;
        self.medium.write_bytes(self.start + block * BLOCK, &bytes)
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
        let entering = self.entering.lock().unwrap_or_else(PoisonError::into_inner);
        match self.punch(first, end) {
            Ok(()) => {
                let full = self.insert(first, end);
                drop(entering);
                return if full { self.flush() } else { Ok(()) };
            }
            Err(e) if cannot(&e) => {}
            Err(e) => return Err(e),
        }
        drop(entering);
        self.put_zeroes(image, first * BLOCK, (end - first) * BLOCK)
    }

    /// Writes zeros like any other bytes.
    fn put_zeroes(&self, image: &Image, offset: u64, len: u64) -> io::Result<()> {
        let mut done = 0;
        while done < len {
            let n = (len - done).min(ZEROES.len() as u64);
            self.enter(image, offset + done, n, || {
                self.medium
                    .write_bytes(self.start + offset + done, &ZEROES[..n as usize])
            })?;
            done += n;
        }
        Ok(())
    }

    /// What it stands on, to see how much of the host's disk that takes.
    #[cfg(test)]
    pub(super) fn medium(&self) -> &M {
        &self.medium
    }

    fn punch(&self, first: u64, end: u64) -> io::Result<()> {
        self.medium
            .punch_hole(self.start + first * BLOCK, (end - first) * BLOCK)
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
