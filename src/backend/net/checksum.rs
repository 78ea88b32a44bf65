//! The Internet checksum (RFC 1071): the ones' complement of the ones' complement sum of 16-bit words.

use hvf_sys::file::Piece;
use hvf_sys::ram::{OutsideRam, Ram};

/// Bytes of guest memory that are summed at a time: a multiple of four.
const CHUNK: usize = 2048;

/// A sum in the making. 2^32 bytes and more do not overflow it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    total: u64,
    /// Whether an odd number of bytes has been added, so that the next one is the low half of its word.
    odd: bool,
}

impl Sum {
    /// Adds bytes.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        if self.odd {
            let [first, rest @ ..] = bytes else {
                return;
            };
            self.total += u64::from(*first);
            bytes = rest;
        }
        // A sum of 32-bit words folds to the same as one of 16-bit words, since 2^16 is 1 modulo 2^16 - 1.
        let words = bytes.chunks_exact(4);
        let rest = words.remainder();
        let word = |b: &[u8]| u64::from(u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        self.total += words.map(word).sum::<u64>();
        self.odd = rest.len() % 2 == 1;
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        self.total += u64::from(u32::from_be_bytes(last));
    }

    /// Adds guest memory.
    pub(super) fn add_ram(&mut self, ram: &Ram, pieces: &[Piece]) -> Result<(), OutsideRam> {
        let mut chunk = [0; CHUNK];
        for &Piece { gpa, len } in pieces {
            let mut done = 0;
            while done < len {
                let here = &mut chunk[..(len - done).min(CHUNK as u64) as usize];
                ram.read(gpa + done, here)?;
                self.add(here);
                done += here.len() as u64;
            }
        }
        Ok(())
    }

    /// The checksum: the complement of the sum.
    pub(super) fn finish(&self) -> u16 {
        let mut sum = self.total;
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        !(sum as u16)
    }
}
