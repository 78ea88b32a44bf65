//! Descriptor chains (2.7.5): each descriptor is read from guest memory once, and what comes out is owned.

use hvf_sys::file::{Piece, split, total};
use hvf_sys::ram::{OutsideRam, Ram};

use super::ring::{Broken, Layout};

/// Bytes of a descriptor: address, length, flags, next.
pub(super) const DESCRIPTOR: u64 = 16;

/// Descriptor flags (2.7.5).
mod flag {
    pub(super) const NEXT: u16 = 1;
    pub(super) const WRITE: u16 = 2;
    pub(super) const INDIRECT: u16 = 4;
}

/// The buffers of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// What the device may read.
    pub readable: Buffers,
    /// What the device may write.
    pub writable: Buffers,
}

/// Ranges that a guest says are its memory, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buffers(Vec<Piece>);

impl Buffers {
    /// How many bytes: less than 2^32 in a chain.
    pub fn len(&self) -> u64 {
        total(&self.0)
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The ranges.
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// Adds the ranges of `other` behind these.
    pub fn append(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// Whether all of it is RAM.
    pub fn in_ram(&self, ram: &Ram) -> bool {
        self.0
            .iter()
            .all(|piece| ram.contains(piece.gpa, piece.len))
    }

    /// The first `at` bytes, and the others.
    pub fn split(&self, at: u64) -> (Self, Self) {
        let (first, second) = split(&self.0, at);
        (Self(first), Self(second))
    }

    /// Copies the first bytes out, and says how many: as many as fit and are there.
    pub fn read(&self, ram: &Ram, into: &mut [u8]) -> Result<usize, OutsideRam> {
        let mut done = 0;
        for piece in &self.0 {
            let n = piece.len.min((into.len() - done) as u64) as usize;
            ram.read(piece.gpa, &mut into[done..done + n])?;
            done += n;
        }
        Ok(done)
    }

    /// Copies to the first bytes, and says how many: as many as there are on both sides.
    pub fn write(&self, ram: &Ram, from: &[u8]) -> Result<usize, OutsideRam> {
        let mut done = 0;
        for piece in &self.0 {
            let n = piece.len.min((from.len() - done) as u64) as usize;
            ram.write(piece.gpa, &from[done..done + n])?;
            done += n;
        }
        Ok(done)
    }
}

impl From<&[Piece]> for Buffers {
    fn from(pieces: &[Piece]) -> Self {
        Self(pieces.to_vec())
    }
}

struct Descriptor {
    address: u64,
    len: u32,
    flags: u16,
    next: u16,
}

impl Descriptor {
    fn read(ram: &Ram, table: u64, index: u16) -> Result<Self, Broken> {
        let at = table.checked_add(DESCRIPTOR * u64::from(index));
        let mut raw = [0; DESCRIPTOR as usize];
        ram.read(at.ok_or(Broken::TableOutsideRam)?, &mut raw)
            .map_err(|_| Broken::TableOutsideRam)?;
        let raw = u128::from_le_bytes(raw);
        Ok(Self {
            address: raw as u64,
            len: (raw >> 64) as u32,
            flags: (raw >> 96) as u16,
            next: (raw >> 112) as u16,
        })
    }

    fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// A descriptor table: the ring's own, or one that a descriptor leads to.
struct Table {
    base: u64,
    entries: u32,
    /// The longest chain in it.
    limit: u16,
    indirect: bool,
}

impl Chain {
    /// Follows the chain that starts with descriptor `head`.
    pub(super) fn collect(ram: &Ram, layout: &Layout, head: u16) -> Result<Self, Broken> {
        let mut table = Table {
            base: layout.descriptors,
            entries: u32::from(layout.size),
            limit: layout.size,
            indirect: false,
        };
        let mut chain = Self::default();
        let mut index = head;
        let mut bytes = 0_u64;
        for seen in 0_u16.. {
            if u32::from(index) >= table.entries {
                return Err(Broken::BadIndex(index));
            }
            if seen >= table.limit {
                return Err(Broken::Endless);
            }
            let descriptor = Descriptor::read(ram, table.base, index)?;
            if descriptor.has(flag::INDIRECT) {
                table = table.follow(&descriptor, layout)?;
                index = 0;
                continue;
            }
            bytes += u64::from(descriptor.len);
            if bytes > u64::from(u32::MAX) {
                return Err(Broken::TooLong);
            }
            chain.append(&descriptor)?;
            if !descriptor.has(flag::NEXT) {
                break;
            }
            index = descriptor.next;
        }
        Ok(chain)
    }

    /// Readable buffers come before writable ones (2.7.4.2).
    fn append(&mut self, descriptor: &Descriptor) -> Result<(), Broken> {
        let side = if descriptor.has(flag::WRITE) {
            &mut self.writable
        } else if self.writable.0.is_empty() {
            &mut self.readable
        } else {
            return Err(Broken::Order);
        };
        side.0.push(Piece {
            gpa: descriptor.address,
            len: u64::from(descriptor.len),
        });
        Ok(())
    }
}

impl Table {
    /// The table that an indirect descriptor leads to. One that follows another, or that has a successor itself, is
    /// against 2.7.5.3.1.
    fn follow(&self, descriptor: &Descriptor, layout: &Layout) -> Result<Self, Broken> {
        let len = u64::from(descriptor.len);
        let fits = len > 0 && len.is_multiple_of(DESCRIPTOR);
        if self.indirect || !layout.indirect || descriptor.has(flag::NEXT) || !fits {
            return Err(Broken::BadIndirect);
        }
        Ok(Self {
            base: descriptor.address,
            entries: (len / DESCRIPTOR) as u32,
            // A driver that shrinks the ring may still use the device's segment limit in a table of its own.
            limit: super::QUEUE_SIZE + layout.size,
            indirect: true,
        })
    }
}
