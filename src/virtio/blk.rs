//! Block device (virtio 1.2, 5.2): one disk behind several queues.
//!
//! A request is a header, data, and a byte for the status at the very end; how they are spread over descriptors is
//! the driver's business. What the disk cannot do gives IOERR, what is not known UNSUPP. Only where there is not even
//! room for the status does the request return empty.
//!
//! Not modelled: secure erase, zoned devices, lifetime, a switchable write cache.

use std::borrow::Cow;
use std::io;

use hvf_sys::ram::{OutsideRam, Ram};

use super::{Buffers, Chain, Identity, Model, Turn};
use crate::backend::disk::{Disk, SECTOR};

/// Feature bits (5.2.3).
mod feature {
    pub(super) const SEG_MAX: u64 = 1 << 2;
    pub(super) const RO: u64 = 1 << 5;
    pub(super) const BLK_SIZE: u64 = 1 << 6;
    pub(super) const FLUSH: u64 = 1 << 9;
    pub(super) const TOPOLOGY: u64 = 1 << 10;
    pub(super) const MQ: u64 = 1 << 12;
    pub(super) const DISCARD: u64 = 1 << 13;
    pub(super) const WRITE_ZEROES: u64 = 1 << 14;
}

/// Request types (5.2.6).
mod kind {
    pub(super) const IN: u32 = 0;
    pub(super) const OUT: u32 = 1;
    pub(super) const FLUSH: u32 = 4;
    pub(super) const GET_ID: u32 = 8;
    pub(super) const DISCARD: u32 = 11;
    pub(super) const WRITE_ZEROES: u32 = 13;
}

/// Request status (5.2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Status {
    Ok = 0,
    IoError = 1,
    Unsupported = 2,
}

/// Bytes of a request header: type, reserved, sector.
const HEADER: u64 = 16;
/// Bytes of a segment to discard or to zero: sector, number of sectors, flags.
const SEGMENT: u64 = 16;
/// Segments in a discard or write-zeroes request.
const SEGMENTS_MAX: u64 = 16;
/// Sectors in a segment to discard: 1 GiB.
const DISCARD_SECTORS_MAX: u32 = 1 << 21;
/// Sectors in a segment to zero: 64 MiB. Where the host must write the zeros, a request is not to take long.
const ZEROES_SECTORS_MAX: u32 = 1 << 17;
/// A segment's flag: the space may be given back.
const UNMAP: u32 = 1;
/// Data segments of a request: with header and status they fill the largest ring.
const SEG_MAX: u32 = super::QUEUE_SIZE as u32 - 2;
/// Bytes of a device's id string.
const ID: usize = 20;

/// The device.
pub struct Blk {
    disk: Disk,
    id: [u8; ID],
    queues: u16,
    config: [u8; 60],
}

impl Blk {
    /// A device for `disk` that answers to `id` (20 bytes of it) and has so many queues, at least one.
    pub fn new(disk: Disk, id: &str, queues: u16) -> Self {
        let queues = queues.clamp(1, 64);
        let mut padded = [0; ID];
        let len = id.len().min(ID);
        padded[..len].copy_from_slice(&id.as_bytes()[..len]);
        Self {
            id: padded,
            queues,
            config: config(disk.sectors(), queues),
            disk,
        }
    }

    /// Serves a request. Says how many bytes it has written.
    fn answer(&self, chain: &Chain, features: u64, ram: &Ram) -> u32 {
        let Some(room) = chain.writable.len().checked_sub(1) else {
            return 0;
        };
        let (data, status) = chain.writable.split(room);
        let out = chain.readable.split(HEADER).1;
        let outcome = Header::read(&chain.readable, ram)
            .and_then(|header| self.perform(&header, features, &out, &data, ram));
        let code = outcome.map_or_else(|status| status, |_| Status::Ok);
        if status.write(ram, &[code as u8]).is_err() {
            return 0;
        }
        // The status is behind the data: it counts only where everything before it was written.
        match outcome {
            Ok(written) if u64::from(written) < room => written,
            Ok(written) => written.saturating_add(1),
            Err(_) if room == 0 => 1,
            Err(_) => 0,
        }
    }

    /// Does what a request asks, but for the status. Gives the bytes written to `data`.
    fn perform(
        &self,
        header: &Header,
        features: u64,
        out: &Buffers,
        data: &Buffers,
        ram: &Ram,
    ) -> Outcome {
        let needed = match header.kind {
            kind::DISCARD => feature::DISCARD,
            kind::WRITE_ZEROES => feature::WRITE_ZEROES,
            _ => 0,
        };
        if features & needed != needed {
            return Err(Status::Unsupported);
        }
        match header.kind {
            kind::IN => self.read(header.sector, out, data, ram),
            kind::OUT => self.write(header.sector, out, data, ram, features),
            kind::FLUSH => Ok(self.disk.flush().map(|()| 0)?),
            kind::GET_ID => Ok(data.write(ram, &self.id)? as u32),
            kind::DISCARD => self.clear(header.kind, out, ram),
            kind::WRITE_ZEROES => {
                self.clear(header.kind, out, ram)?;
                self.written(features)
            }
            _ => Err(Status::Unsupported),
        }
    }

    fn read(&self, sector: u64, out: &Buffers, data: &Buffers, ram: &Ram) -> Outcome {
        let offset = one_way(sector, data, out)?;
        self.disk.read(offset, ram, data.pieces())?;
        Ok(data.len() as u32)
    }

    fn write(
        &self,
        sector: u64,
        data: &Buffers,
        back: &Buffers,
        ram: &Ram,
        features: u64,
    ) -> Outcome {
        let offset = one_way(sector, data, back)?;
        self.disk.write(offset, ram, data.pieces())?;
        self.written(features)
    }

    /// Something has been written. A driver that knows no flushes gets it made durable at once (5.2.6.2).
    fn written(&self, features: u64) -> Outcome {
        if features & feature::FLUSH == 0 {
            self.disk.flush()?;
        }
        Ok(0)
    }

    /// Discards or zeroes segments. All are checked before the first is touched.
    fn clear(&self, kind: u32, list: &Buffers, ram: &Ram) -> Outcome {
        let segments = self.segments(kind, list, ram)?;
        for Segment { offset, len, unmap } in segments {
            if kind == kind::DISCARD {
                self.disk.discard(offset, len)?;
            } else {
                self.disk.write_zeroes(offset, len, unmap)?;
            }
        }
        Ok(0)
    }

    /// The segments of a request (5.2.6.2).
    fn segments(&self, kind: u32, list: &Buffers, ram: &Ram) -> Result<Vec<Segment>, Status> {
        let len = list.len();
        if len == 0 || !len.is_multiple_of(SEGMENT) || len / SEGMENT > SEGMENTS_MAX {
            return Err(Status::IoError);
        }
        let mut raw = [0; (SEGMENT * SEGMENTS_MAX) as usize];
        let raw_len = list.read(ram, &mut raw)?;
        let (allowed, most) = match kind {
            kind::DISCARD => (0, DISCARD_SECTORS_MAX),
            _ => (UNMAP, ZEROES_SECTORS_MAX),
        };
        let one = |raw: &[u8]| {
            let raw = raw
                .iter()
                .rev()
                .fold(0_u128, |n, &byte| n << 8 | u128::from(byte));
            let (sector, count, flags) = (raw as u64, (raw >> 64) as u32, (raw >> 96) as u32);
            if flags & !allowed != 0 {
                return Err(Status::Unsupported);
            }
            let end = sector.checked_add(count.into()).ok_or(Status::IoError)?;
            if count > most || end > self.disk.sectors() {
                return Err(Status::IoError);
            }
            Ok(Segment {
                offset: sector * SECTOR,
                len: u64::from(count) * SECTOR,
                unmap: flags & UNMAP != 0,
            })
        };
        raw[..raw_len].chunks(SEGMENT as usize).map(one).collect()
    }
}

/// Bytes written, or what is wrong.
type Outcome = Result<u32, Status>;

impl From<OutsideRam> for Status {
    fn from(_: OutsideRam) -> Self {
        Self::IoError
    }
}

/// What the host cannot do, and has been told where it tells.
impl From<io::Error> for Status {
    fn from(_: io::Error) -> Self {
        Self::IoError
    }
}

/// A part of the disk to discard or to zero, in bytes.
struct Segment {
    offset: u64,
    len: u64,
    /// Whether the space may be given back.
    unmap: bool,
}

struct Header {
    kind: u32,
    sector: u64,
}

impl Header {
    fn read(buffers: &Buffers, ram: &Ram) -> Result<Self, Status> {
        let mut raw = [0; HEADER as usize];
        if buffers.read(ram, &mut raw)? < raw.len() {
            return Err(Status::IoError);
        }
        let raw = u128::from_le_bytes(raw);
        Ok(Self {
            kind: raw as u32,
            sector: (raw >> 64) as u64,
        })
    }
}

/// The byte offset of a transfer, where it is of whole sectors, does not leave 64 bits, and has no buffer of the wrong
/// direction, whose data would be lost without a word.
fn one_way(sector: u64, data: &Buffers, wrong: &Buffers) -> Result<u64, Status> {
    let offset = sector.checked_mul(SECTOR).ok_or(Status::IoError)?;
    if data.len().is_multiple_of(SECTOR) && wrong.is_empty() {
        Ok(offset)
    } else {
        Err(Status::IoError)
    }
}

/// The device's configuration (5.2.4).
fn config(sectors: u64, queues: u16) -> [u8; 60] {
    let mut config = [0; 60];
    let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &sectors.to_le_bytes());
    put(12, &SEG_MAX.to_le_bytes());
    put(20, &(SECTOR as u32).to_le_bytes());
    // Blocks of 4 KiB are what the disk keeps: 2^3 sectors, the first at 0, transfers of at least one.
    put(24, &[3, 0, 8, 0]);
    put(34, &queues.to_le_bytes());
    put(36, &DISCARD_SECTORS_MAX.to_le_bytes());
    put(40, &(SEGMENTS_MAX as u32).to_le_bytes());
    put(44, &8_u32.to_le_bytes());
    put(48, &ZEROES_SECTORS_MAX.to_le_bytes());
    put(52, &(SEGMENTS_MAX as u32).to_le_bytes());
    put(56, &[1]);
    config
}

impl Model for Blk {
    fn identity(&self) -> Identity {
        Identity {
            kind: 2,
            class: 0x01_0000,
            name: "virtio-blk",
        }
    }

    fn features(&self) -> u64 {
        let writable = feature::DISCARD | feature::WRITE_ZEROES;
        let shape = feature::SEG_MAX | feature::BLK_SIZE | feature::TOPOLOGY;
        let changes = if self.disk.read_only() {
            feature::RO
        } else {
            writable
        };
        shape | feature::FLUSH | feature::MQ | changes
    }

    fn queues(&self) -> u16 {
        self.queues
    }

    fn config(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.config)
    }

    fn serve(&self, turn: &mut Turn<'_>) {
        let (ram, features) = (turn.ram(), turn.features());
        turn.each(|chain| self.answer(chain, features, ram));
    }
}
