//! Registers of a type 0 configuration header and of the capabilities used here, as types.
//! PCI 3.0, chapter 6.1 (header) and 6.8 (MSI and MSI-X).

use bitflags::bitflags;

/// Offsets in a type 0 header.
pub mod reg {
    /// Vendor id, RO, 16 bits.
    pub const VENDOR: u8 = 0x00;
    /// Device id, RO, 16 bits.
    pub const DEVICE: u8 = 0x02;
    /// Command, RW, 16 bits.
    pub const COMMAND: u8 = 0x04;
    /// Status, RO and RW1C, 16 bits.
    pub const STATUS: u8 = 0x06;
    /// Revision id, RO, 8 bits, with the class code in the three bytes above it.
    pub const REVISION: u8 = 0x08;
    /// Cache line size, RW, 8 bits, without effect.
    pub const CACHE_LINE: u8 = 0x0c;
    /// The first of six base address registers, RW, 32 bits each.
    pub const BAR0: u8 = 0x10;
    /// Subsystem vendor id, RO, 16 bits.
    pub const SUBSYSTEM_VENDOR: u8 = 0x2c;
    /// Subsystem id, RO, 16 bits.
    pub const SUBSYSTEM: u8 = 0x2e;
    /// Offset of the first capability, RO, 8 bits.
    pub const CAPABILITIES: u8 = 0x34;
    /// Interrupt line, RW, 8 bits: a note for the operating system.
    pub const INTERRUPT_LINE: u8 = 0x3c;
    /// Interrupt pin, RO, 8 bits: 0 none, 1 INTA# to 4 INTD#.
    pub const INTERRUPT_PIN: u8 = 0x3d;
}

/// Capability ids (PCI 3.0, appendix H).
pub mod capability {
    /// Message-signalled interrupts.
    pub const MSI: u8 = 0x05;
    /// Vendor specific.
    pub const VENDOR: u8 = 0x09;
    /// MSI-X.
    pub const MSIX: u8 = 0x11;
}

bitflags! {
    /// Command register (6.2.2). Parity and SERR# are kept and have no effect.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Command: u16 {
        /// Answers I/O accesses.
        const IO = 1 << 0;
        /// Answers memory accesses.
        const MEMORY = 1 << 1;
        /// May access memory by itself, which includes sending messages.
        const BUS_MASTER = 1 << 2;
        /// Reports parity errors.
        const PARITY = 1 << 6;
        /// Drives SERR#.
        const SERR = 1 << 8;
        /// Does not drive INTx#.
        const INTX_DISABLE = 1 << 10;
    }

    /// Status register (6.2.3): the bits that can ever be set here. No error is ever reported, so that the
    /// write-one-to-clear bits stay zero.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Status: u16 {
        /// The function asks for its INTx#, whether or not the command register lets it.
        const INTERRUPT = 1 << 3;
        /// There is a list of capabilities.
        const CAPABILITIES = 1 << 4;
    }

    /// MSI message control (6.8.1.3), without the two 3-bit fields.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct MsiControl: u16 {
        /// Messages instead of INTx#.
        const ENABLE = 1 << 0;
        /// RO: 64-bit addresses.
        const ADDRESS_64 = 1 << 7;
        /// RO: mask and pending bits for each vector.
        const MASKABLE = 1 << 8;
    }

    /// MSI-X message control (6.8.2.3), without the table size.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct MsixControl: u16 {
        /// All vectors are masked.
        const FUNCTION_MASK = 1 << 14;
        /// MSI-X instead of INTx# and MSI.
        const ENABLE = 1 << 15;
    }
}

impl Command {
    /// What a guest can change.
    pub const GUEST_WRITABLE: Self = Self::all();
    /// What firmware leaves behind: the BARs answer, and nobody uses the function yet.
    pub const RESET: Self = Self::IO.union(Self::MEMORY);
}

impl MsiControl {
    /// Multiple message enable, RW: the logarithm of the number of vectors in use.
    pub(super) const MULTIPLE_ENABLE: u16 = 7 << 4;
    /// What a guest can change.
    pub(super) const GUEST_WRITABLE: u16 = Self::ENABLE.bits() | Self::MULTIPLE_ENABLE;

    /// Multiple message capable, RO, for `2^log` vectors.
    pub(super) const fn capable(log: u16) -> u16 {
        (log & 7) << 1
    }

    /// The logarithm in the multiple message enable field of `raw`.
    pub(super) const fn enabled_log(raw: u16) -> u16 {
        (raw & Self::MULTIPLE_ENABLE) >> 4
    }
}

impl MsixControl {
    /// What a guest can change.
    pub(super) const GUEST_WRITABLE: Self = Self::ENABLE.union(Self::FUNCTION_MASK);
}
