//! What a guest puts into memory for a command: the list, a command's table, and its regions of data (AHCI 1.3.1,
//! 4.2.2 and 4.2.3). Each is read once, into owned values.

use hvf_sys::file::{Piece, total};
use hvf_sys::ram::{OutsideRam, Ram};

use super::fis::REGISTER;

/// Bytes from one header of the command list to the next.
const HEADER: u64 = 32;
/// The byte count, from the start of a header.
const PRDBC: u64 = 4;
/// The least length of a command FIS, in dwords: a register FIS.
const REGISTER_DWORDS: u8 = (REGISTER / 4) as u8;
/// The packet command and the regions, from the start of a command table.
const ACMD: u64 = 0x40;
const PRDT: u64 = 0x80;
/// Bytes of a region's descriptor.
const REGION: u64 = 16;

/// An address of the guest's where no RAM is: what PCI calls a master abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HostBus;

impl From<OutsideRam> for HostBus {
    fn from(_: OutsideRam) -> Self {
        Self
    }
}

/// A command as the HBA fetches it.
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    /// Where its header is.
    header: u64,
    /// The length of the FIS in dwords.
    dwords: u8,
    /// How many regions there are.
    regions: u32,
    /// Where its table is.
    table: u64,
    /// The start of the FIS.
    pub(super) fis: [u8; REGISTER],
    /// The packet command; none where the header does not say that there is one.
    pub(super) packet: Option<[u8; 16]>,
}

impl Fetched {
    /// Reads header `slot` of the list at `list`, and the table that it leads to.
    pub(super) fn read(ram: &Ram, list: u64, slot: u8) -> Result<Self, HostBus> {
        const ATAPI: u32 = 1 << 5;
        let header = list.checked_add(u64::from(slot) * HEADER).ok_or(HostBus)?;
        let mut raw = [0; 16];
        ram.read(header, &mut raw)?;
        let raw = u128::from_le_bytes(raw);
        let flags = raw as u32;
        let table = (raw >> 64) as u64 & !0x7f;
        let mut fis = [0; REGISTER];
        // Once this is in RAM, nothing that is added to the address leaves 64 bits.
        ram.read(table, &mut fis)?;
        let mut packet = [0; 16];
        ram.read(table + ACMD, &mut packet)?;
        Ok(Self {
            header,
            dwords: flags as u8 & 0x1f,
            regions: flags >> 16,
            table,
            fis,
            packet: (flags & ATAPI != 0).then_some(packet),
        })
    }

    /// Whether the FIS is long enough to be one.
    pub(super) fn is_whole(&self) -> bool {
        (REGISTER_DWORDS..=16).contains(&self.dwords)
    }

    /// Tells the guest how many bytes have been moved.
    pub(super) fn store_count(&self, ram: &Ram, bytes: u64) -> Result<(), HostBus> {
        let count = u32::try_from(bytes).unwrap_or(u32::MAX);
        Ok(ram.store_u32(self.header + PRDBC, count)?)
    }

    /// Its data.
    pub(super) fn data<'a>(&self, ram: &'a Ram) -> Data<'a> {
        Data {
            ram,
            next: self.table + PRDT,
            regions: self.regions,
            moved: 0,
            overflow: false,
            marked: false,
        }
    }
}

/// The guest's memory for the data of one command, and what has become of it.
pub(super) struct Data<'a> {
    ram: &'a Ram,
    next: u64,
    regions: u32,
    /// How many bytes have been moved.
    pub(super) moved: u64,
    /// Whether the device had more data than there were regions for.
    pub(super) overflow: bool,
    /// Whether a region asked for an interrupt.
    pub(super) marked: bool,
}

impl Data<'_> {
    /// Where `len` bytes go to or come from: less where the regions end before.
    pub(super) fn take(&mut self, len: u64) -> Result<Vec<Piece>, HostBus> {
        let mut pieces = Vec::new();
        let mut left = len;
        while left > 0 && self.regions > 0 {
            let piece = self.region()?;
            let len = piece.len.min(left);
            if !self.ram.contains(piece.gpa, len) {
                return Err(HostBus);
            }
            left -= len;
            pieces.push(Piece { len, ..piece });
        }
        self.overflow |= left > 0;
        self.moved += len - left;
        Ok(pieces)
    }

    /// Gives bytes to the guest, as many as it has room for.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), HostBus> {
        let mut rest = bytes;
        for piece in self.take(bytes.len() as u64)? {
            let (here, behind) = rest.split_at(rest.len().min(piece.len as usize));
            self.ram.write(piece.gpa, here)?;
            rest = behind;
        }
        Ok(())
    }

    /// Takes exactly `len` bytes from the guest; none where it has fewer.
    pub(super) fn receive(&mut self, len: usize) -> Result<Option<Vec<u8>>, HostBus> {
        let pieces = self.take(len as u64)?;
        if total(&pieces) < len as u64 {
            return Ok(None);
        }
        let mut bytes = vec![0; len];
        let mut rest = &mut bytes[..];
        for piece in pieces {
            let (here, behind) = rest.split_at_mut(piece.len as usize);
            self.ram.read(piece.gpa, here)?;
            rest = behind;
        }
        Ok(Some(bytes))
    }

    /// The guest's memory.
    pub(super) fn ram(&self) -> &Ram {
        self.ram
    }

    /// Reads the next descriptor: 1 byte to 4 MiB.
    fn region(&mut self) -> Result<Piece, HostBus> {
        const INTERRUPT: u32 = 1 << 31;
        const LEN: u32 = 0x3f_ffff;
        let mut raw = [0; REGION as usize];
        self.ram.read(self.next, &mut raw)?;
        let raw = u128::from_le_bytes(raw);
        let word = (raw >> 96) as u32;
        self.next += REGION;
        self.regions -= 1;
        self.marked |= word & INTERRUPT != 0;
        Ok(Piece {
            gpa: raw as u64 & !1,
            len: u64::from(word & LEN) + 1,
        })
    }
}
