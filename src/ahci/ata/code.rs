//! Commands of an ATA disk (ACS-3, chapter 7, by code), and how they address and move data.

/// How a command's data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Dma,
    /// A block is a sector.
    Pio,
    /// A block has as many sectors as SET MULTIPLE MODE says.
    Multiple,
    Queued,
}

/// How many bits a command's address has; the count has 8 or 16 accordingly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Lba28,
    Lba48,
}

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Read(Reach, Protocol),
    /// With whether the data must be on the medium at the end.
    Write(Reach, Protocol, bool),
    Verify(Reach),
    SendQueued,
    DataSetManagement,
    ReadNativeMax(Reach),
    ReadLog(Protocol),
    Flush,
    Diagnose,
    Smart,
    SetMultiple,
    SetFeatures,
    Identify,
    Power(Power),
    CheckPower,
}

/// Power modes (ACS-3, Power Management feature set). Nothing but CHECK POWER MODE tells them apart, except for sleep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Power {
    /// Active, or idle.
    #[default]
    Active,
    Standby,
    /// Only a reset ends it.
    Sleep,
}

impl Operation {
    /// The meaning of a command code. What is none of these is aborted, and so is NOP, which does nothing else.
    pub(super) fn decode(code: u8) -> Option<Self> {
        use Protocol::{Dma, Multiple, Pio, Queued};
        use Reach::{Lba28, Lba48};
        Some(match code {
            0x06 => Self::DataSetManagement,
            0x20 => Self::Read(Lba28, Pio),
            0x24 => Self::Read(Lba48, Pio),
            0x25 => Self::Read(Lba48, Dma),
            0x27 => Self::ReadNativeMax(Lba48),
            0x29 => Self::Read(Lba48, Multiple),
            0x2f => Self::ReadLog(Pio),
            0x30 => Self::Write(Lba28, Pio, false),
            0x34 => Self::Write(Lba48, Pio, false),
            0x35 => Self::Write(Lba48, Dma, false),
            0x39 => Self::Write(Lba48, Multiple, false),
            0x3d => Self::Write(Lba48, Dma, true),
            0x40 => Self::Verify(Lba28),
            0x42 => Self::Verify(Lba48),
            0x47 => Self::ReadLog(Dma),
            0x60 => Self::Read(Lba48, Queued),
            0x61 => Self::Write(Lba48, Queued, false),
            0x64 => Self::SendQueued,
            0x90 => Self::Diagnose,
            0xb0 => Self::Smart,
            0xc4 => Self::Read(Lba28, Multiple),
            0xc5 => Self::Write(Lba28, Multiple, false),
            0xc6 => Self::SetMultiple,
            0xc8 => Self::Read(Lba28, Dma),
            0xca => Self::Write(Lba28, Dma, false),
            0xce => Self::Write(Lba48, Multiple, true),
            0xe0 | 0xe2 => Self::Power(Power::Standby),
            0xe1 | 0xe3 => Self::Power(Power::Active),
            0xe5 => Self::CheckPower,
            0xe6 => Self::Power(Power::Sleep),
            0xe7 | 0xea => Self::Flush,
            0xec => Self::Identify,
            0xef => Self::SetFeatures,
            0xf8 => Self::ReadNativeMax(Lba28),
            _ => return None,
        })
    }
}

/// The error register (ACS-3, Error field).
pub(in crate::ahci) mod error {
    /// The device cannot do that.
    pub(in crate::ahci) const ABRT: u8 = 0x04;
    /// There is no such address.
    pub(in crate::ahci) const IDNF: u8 = 0x10;
    /// The data cannot be had.
    pub(in crate::ahci) const UNC: u8 = 0x40;
}

/// The device register (ACS-3, Device field): the address is an LBA.
pub(super) const DEVICE_LBA: u8 = 0x40;
/// The device register of a queued write: the data must be on the medium at the end.
pub(super) const DEVICE_FUA: u8 = 0x80;
