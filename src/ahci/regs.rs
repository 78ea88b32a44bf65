//! Registers of the HBA and of its ports (AHCI 1.3.1, chapter 3), in the order of the datasheet.

use bitflags::bitflags;

/// How many ports there are.
pub(super) const PORTS: usize = 6;
/// How many command slots a port has.
pub(super) const SLOTS: u32 = 32;

/// Offsets of the HBA's registers (3.1).
pub(super) mod hba {
    /// Host capabilities, RO.
    pub const CAP: u64 = 0x00;
    /// Global control.
    pub const GHC: u64 = 0x04;
    /// Interrupt status, RWC: a bit a port.
    pub const IS: u64 = 0x08;
    /// Ports implemented, RO.
    pub const PI: u64 = 0x0c;
    /// Version, RO.
    pub const VS: u64 = 0x10;
    /// Where the ports' registers start, and how far it is from one port's to the next (3.3).
    pub const PORTS: u64 = 0x100;
    pub const PORT_STRIDE: u64 = 0x80;
}

/// AHCI 1.3.1.
pub(super) const VERSION: u32 = 0x0001_0301;

bitflags! {
    /// Host capabilities (3.1.1), without its fields.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Cap: u32 {
        /// PIO transfers may have several DRQ blocks.
        const PMD = 1 << 15;
        /// There is no other interface than AHCI's.
        const SAM = 1 << 18;
        /// Command list override.
        const SCLO = 1 << 24;
        /// Native command queuing.
        const SNCQ = 1 << 30;
        /// 64-bit addresses.
        const S64A = 1 << 31;
    }

    /// Global HBA control (3.1.2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Ghc: u32 {
        /// RW1: reset everything; reads as zero once that is done.
        const HR = 1 << 0;
        /// RW: interrupts reach the PCI function.
        const IE = 1 << 1;
        /// RO: AHCI is enabled, for ever where there is nothing else.
        const AE = 1 << 31;
    }

    /// Port interrupt status and enable (3.3.5, 3.3.6).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Events: u32 {
        /// A register FIS with its interrupt bit.
        const DHRS = 1 << 0;
        /// A PIO setup FIS with its interrupt bit.
        const PSS = 1 << 1;
        /// A DMA setup FIS with its interrupt bit.
        const DSS = 1 << 2;
        /// A set device bits FIS with its interrupt bit.
        const SDBS = 1 << 3;
        /// RO: an unknown FIS; shows SERR.DIAG.F.
        const UFS = 1 << 4;
        /// A region that asks for it has been processed.
        const DPS = 1 << 5;
        /// RO: a device has been connected; shows SERR.DIAG.X.
        const PCS = 1 << 6;
        /// RO: the link has come or gone; shows SERR.DIAG.N.
        const PRCS = 1 << 22;
        /// A FIS came from the wrong port of a multiplier.
        const IPMS = 1 << 23;
        /// More data than the regions hold.
        const OFS = 1 << 24;
        /// A transient error on the link.
        const INFS = 1 << 26;
        /// An error on the link, which stops the port.
        const IFS = 1 << 27;
        /// An error in data from memory.
        const HBDS = 1 << 28;
        /// An address where nothing is.
        const HBFS = 1 << 29;
        /// The device has set ERR in its status.
        const TFES = 1 << 30;
    }

    /// Port command and status (3.3.7), without CCS and ICC.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Cmd: u32 {
        /// RW: process the command list.
        const ST = 1 << 0;
        /// RO one, since nothing spins up by command.
        const SUD = 1 << 1;
        /// RO one, since power cannot be switched.
        const POD = 1 << 2;
        /// RW1: clear BSY and DRQ, so that the port can start.
        const CLO = 1 << 3;
        /// RW: post received FISes to memory.
        const FRE = 1 << 4;
        /// RO: FISes are being posted.
        const FR = 1 << 14;
        /// RO: the command list is being processed.
        const CR = 1 << 15;
        /// RW, without effect: the light is for an ATAPI device.
        const ATAPI = 1 << 24;
        /// RW, without effect: the light is on for ATAPI devices too.
        const DLAE = 1 << 25;
    }

    /// Port SATA error (3.3.12), RWC: what can happen here.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Serr: u32 {
        /// Protocol error.
        const ERR_P = 1 << 10;
        /// The link has come or gone.
        const DIAG_N = 1 << 16;
        /// An unknown FIS.
        const DIAG_F = 1 << 25;
        /// A device has been connected.
        const DIAG_X = 1 << 26;
    }
}

impl Cap {
    /// Everything that CAP says but NP: the bits, the highest slot, and 6 Gb/s in ISS.
    pub(super) const VALUE: u32 = Self::all().bits() | (SLOTS - 1) << 8 | 3 << 20;
}

impl Cmd {
    /// What a guest can change.
    pub(super) const GUEST_WRITABLE: Self = Self::ST
        .union(Self::FRE)
        .union(Self::ATAPI)
        .union(Self::DLAE);
    /// Where the current slot is.
    pub(super) const CCS_SHIFT: u32 = 8;
}

impl Serr {
    /// What the port's interrupt status shows of it.
    pub(super) fn events(self) -> Events {
        let mut events = Events::empty();
        events.set(Events::UFS, self.contains(Self::DIAG_F));
        events.set(Events::PCS, self.contains(Self::DIAG_X));
        events.set(Events::PRCS, self.contains(Self::DIAG_N));
        events
    }
}

/// A port's registers (3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PortReg {
    /// Command list base.
    Clb,
    /// Its upper half.
    Clbu,
    /// Received FIS base.
    Fb,
    /// Its upper half.
    Fbu,
    /// Interrupt status.
    Is,
    /// Interrupt enable.
    Ie,
    /// Command and status.
    Cmd,
    /// Task file data.
    Tfd,
    /// Signature.
    Sig,
    /// SATA status.
    Ssts,
    /// SATA control.
    Sctl,
    /// SATA error.
    Serr,
    /// SATA active.
    Sact,
    /// Command issue.
    Ci,
}

impl PortReg {
    /// The register at an offset from the start of the port's; none where it is reserved, or belongs to what this
    /// HBA has not: notifications, FIS-based switching, device sleep.
    pub(super) fn decode(offset: u64) -> Option<Self> {
        Some(match offset {
            0x00 => Self::Clb,
            0x04 => Self::Clbu,
            0x08 => Self::Fb,
            0x0c => Self::Fbu,
            0x10 => Self::Is,
            0x14 => Self::Ie,
            0x18 => Self::Cmd,
            0x20 => Self::Tfd,
            0x24 => Self::Sig,
            0x28 => Self::Ssts,
            0x2c => Self::Sctl,
            0x30 => Self::Serr,
            0x34 => Self::Sact,
            0x38 => Self::Ci,
            _ => return None,
        })
    }
}

/// DET of PxSCTL (3.3.11).
pub(super) mod det {
    /// The field.
    pub const MASK: u32 = 0xf;
    /// Reset the link and, with it, the device.
    pub const RESET: u32 = 1;
    /// The link is off. Also DET of PxSSTS then.
    pub const OFFLINE: u32 = 4;
    /// DET of PxSSTS (3.3.10): a device is there, and the link works.
    pub const ESTABLISHED: u32 = 3;
}

/// The status register of a device (ACS-3, Status field), as PxTFD and FISes show it.
pub(super) mod status {
    /// An error; or for packet commands a check condition.
    pub const ERR: u8 = 0x01;
    /// Data is asked for.
    pub const DRQ: u8 = 0x08;
    /// Seek complete, in the days of seeks; drives still set it.
    pub const DSC: u8 = 0x10;
    /// Ready.
    pub const DRDY: u8 = 0x40;
    /// Busy.
    pub const BSY: u8 = 0x80;
    /// What a port shows without a device.
    pub const NONE: u8 = 0x7f;
    /// What a disk shows between commands.
    pub const IDLE: u8 = DRDY | DSC;
}
