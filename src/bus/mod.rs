//! What a device sees of the machine: accesses that are always valid, wires, and time as an argument.
//!
//! The map of the machine (`map`) is frozen once it is built. It normalises what a guest does: a device is only
//! ever given an access that lies wholly inside a region it claimed, of a width it accepts. Reads that nobody
//! claims give all ones, such writes vanish.
//!
//! Lock order: a device's slot, then the chipset hub (behind `Line::set`), then atomics.

mod line;
pub mod map;
mod serial;
mod slot;
mod time;
mod timers;

pub use line::{Line, LineSink};
pub use serial::SerialEnd;
pub use slot::{Slot, SlotGuard};
pub use time::Nanos;
pub use timers::Timers;

/// How many bytes an access moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Width {
    /// 8 bits.
    Byte = 1,
    /// 16 bits.
    Word = 2,
    /// 32 bits.
    Dword = 4,
    /// 64 bits.
    Qword = 8,
}

impl Width {
    /// The size in bytes: 1, 2, 4 or 8.
    pub const fn bytes(self) -> u64 {
        self as u64
    }

    /// The width of `bytes` bytes, where there is one.
    pub const fn from_bytes(bytes: u64) -> Option<Self> {
        match bytes {
            1 => Some(Self::Byte),
            2 => Some(Self::Word),
            4 => Some(Self::Dword),
            8 => Some(Self::Qword),
            _ => None,
        }
    }

    /// The value with every bit of this width set: what an unclaimed read gives.
    pub const fn ones(self) -> u64 {
        u64::MAX >> (64 - 8 * self as u32)
    }
}

/// One read or write of a device's region, already checked against the region's length and widths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Which of the device's regions, as the device numbered them when it claimed them.
    pub region: u8,
    /// Bytes from the start of the region.
    pub offset: u64,
    /// How many bytes.
    pub width: Width,
    /// The machine's time when the access happened.
    pub now: Nanos,
}

/// A device on the bus. Calls come one at a time, under the lock of the device's slot.
pub trait Device: Send {
    /// Reads a register. Bits above the access's width are ignored.
    fn read(&mut self, access: Access) -> u64;

    /// Writes a register. Bits of `value` above the access's width are zero.
    fn write(&mut self, access: Access, value: u64);

    /// When `advance` wants to be called next, asked after every access and every `advance`.
    fn deadline(&self) -> Option<Nanos> {
        None
    }

    /// Lets time-driven state catch up with `now`. Time may also stand still or be late.
    fn advance(&mut self, _now: Nanos) {}

    /// Returns to the power-on state. Back-ends and wires are kept; in-flight work is drained.
    fn reset(&mut self);
}
