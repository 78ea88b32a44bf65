//! The LAPIC's registers as types (SDM volume 3, table 11-1 and table 11-6).
//!
//! One number serves both faces: a register's offset in the page is 16 times its distance from MSR 0x800.

use super::timer;
use crate::chipset::mailbox::Delivery;
use crate::layout;

/// A register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reg {
    /// Local APIC id, RO.
    Id,
    /// Local APIC version, RO.
    Version,
    /// Task priority, RW.
    Tpr,
    /// Processor priority, RO.
    Ppr,
    /// End of interrupt, WO.
    Eoi,
    /// Logical destination, RW; RO in x2APIC mode.
    Ldr,
    /// Destination format, RW; not there in x2APIC mode.
    Dfr,
    /// Spurious interrupt vector, RW.
    Svr,
    /// In service, eight words, RO.
    Isr(u8),
    /// Trigger mode, eight words, RO.
    Tmr(u8),
    /// Interrupt request, eight words, RO.
    Irr(u8),
    /// Error status, RW.
    Esr,
    /// Interrupt command, low word, RW; the whole command in x2APIC mode.
    IcrLow,
    /// Interrupt command, high word, RW; not there in x2APIC mode.
    IcrHigh,
    /// Local vector table, RW.
    Lvt(Source),
    /// Timer's initial count, RW.
    InitialCount,
    /// Timer's current count, RO.
    CurrentCount,
    /// Timer's divide configuration, RW.
    Divide,
    /// Self-IPI, WO, in x2APIC mode only.
    SelfIpi,
}

impl Reg {
    /// The register with number `index`, which is offset / 16 and MSR - 0x800.
    pub(super) fn decode(index: u64, x2apic: bool) -> Option<Self> {
        Some(match index {
            0x02 => Self::Id,
            0x03 => Self::Version,
            0x08 => Self::Tpr,
            0x0a => Self::Ppr,
            0x0b => Self::Eoi,
            0x0d => Self::Ldr,
            0x0e if !x2apic => Self::Dfr,
            0x0f => Self::Svr,
            0x10..=0x17 => Self::Isr(index as u8 & 7),
            0x18..=0x1f => Self::Tmr(index as u8 & 7),
            0x20..=0x27 => Self::Irr(index as u8 & 7),
            0x28 => Self::Esr,
            0x30 => Self::IcrLow,
            0x31 if !x2apic => Self::IcrHigh,
            0x32 => Self::Lvt(Source::Timer),
            0x33 => Self::Lvt(Source::Thermal),
            0x34 => Self::Lvt(Source::Performance),
            0x35 => Self::Lvt(Source::Lint0),
            0x36 => Self::Lvt(Source::Lint1),
            0x37 => Self::Lvt(Source::Error),
            0x38 => Self::InitialCount,
            0x39 => Self::CurrentCount,
            0x3e => Self::Divide,
            0x3f if x2apic => Self::SelfIpi,
            _ => return None,
        })
    }

    /// Whether a guest may read it; in x2APIC mode reading the others is #GP.
    pub(super) fn is_readable(self) -> bool {
        !matches!(self, Self::Eoi | Self::SelfIpi)
    }

    /// The bits that an x2APIC lets a guest write, reserved bits being #GP. `None` where the register is read-only.
    pub(super) fn x2apic_writable(self) -> Option<u64> {
        Some(match self {
            Self::Tpr | Self::SelfIpi => 0xff,
            // Writing anything but zero to these two is #GP.
            Self::Eoi | Self::Esr => 0,
            Self::Svr => Svr::GUEST_WRITABLE.into(),
            Self::IcrLow => Icr::GUEST_WRITABLE,
            Self::Lvt(source) => (source.guest_writable() | LvtEntry::READ_ONLY).into(),
            Self::InitialCount => u32::MAX.into(),
            Self::Divide => timer::Divide::GUEST_WRITABLE.into(),
            _ => return None,
        })
    }
}

/// What a local vector table entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The timer.
    Timer,
    /// The thermal sensor; there is none.
    Thermal,
    /// The performance counters; there are none.
    Performance,
    /// Pin LINT0.
    Lint0,
    /// Pin LINT1.
    Lint1,
    /// An error in the error status register.
    Error,
}

/// How many local vector table entries there are. There is no entry for corrected machine checks.
pub(super) const SOURCES: usize = 6;

impl Source {
    /// The bits of its entry that a guest writes (SDM volume 3, figure 11-8).
    pub(super) fn guest_writable(self) -> u32 {
        let common = LvtEntry::VECTOR | LvtEntry::MASK;
        match self {
            Self::Timer => common | LvtEntry::TIMER_MODE,
            Self::Thermal | Self::Performance => common | LvtEntry::DELIVERY,
            Self::Lint0 | Self::Lint1 => {
                common | LvtEntry::DELIVERY | LvtEntry::ACTIVE_LOW | LvtEntry::LEVEL
            }
            Self::Error => common,
        }
    }
}

/// A local vector table entry, RW (SDM volume 3, 11.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LvtEntry(pub(super) u32);

impl LvtEntry {
    /// Masked, all else zero.
    pub(super) const RESET: Self = Self(Self::MASK);
    const VECTOR: u32 = 0xff;
    const DELIVERY: u32 = 7 << 8;
    /// Delivery status, RO: nothing is ever on its way for long enough to be seen.
    const DELIVERY_STATUS: u32 = 1 << 12;
    const ACTIVE_LOW: u32 = 1 << 13;
    const REMOTE_IRR: u32 = 1 << 14;
    const LEVEL: u32 = 1 << 15;
    const MASK: u32 = 1 << 16;
    const TIMER_MODE: u32 = 3 << 17;
    /// Bits that only the LAPIC writes.
    pub(super) const READ_ONLY: u32 = Self::DELIVERY_STATUS | Self::REMOTE_IRR;

    /// The vector.
    pub(super) fn vector(self) -> u8 {
        self.0 as u8
    }

    /// The delivery mode; `None` where the value is reserved.
    pub(super) fn delivery(self) -> Option<Delivery> {
        Delivery::decode(self.0 >> 8)
    }

    /// Whether nothing is delivered.
    pub(super) fn is_masked(self) -> bool {
        self.0 & Self::MASK != 0
    }

    /// Sets the mask bit.
    pub(super) fn mask(&mut self) {
        self.0 |= Self::MASK;
    }

    /// Whether a LINT pin is level triggered: fixed delivery only.
    pub(super) fn is_level(self) -> bool {
        self.0 & Self::LEVEL != 0 && self.delivery() == Some(Delivery::Fixed)
    }

    /// Whether a level was taken and its EOI is still to come.
    pub(super) fn remote_irr(self) -> bool {
        self.0 & Self::REMOTE_IRR != 0
    }

    /// Sets or clears Remote IRR.
    pub(super) fn set_remote_irr(&mut self, set: bool) {
        self.0 = self.0 & !Self::REMOTE_IRR | if set { Self::REMOTE_IRR } else { 0 };
    }

    /// The timer's mode.
    pub(super) fn timer_mode(self) -> timer::Mode {
        match self.0 >> 17 & 3 {
            0 => timer::Mode::OneShot,
            1 => timer::Mode::Periodic,
            2 => timer::Mode::TscDeadline,
            _ => timer::Mode::Reserved,
        }
    }
}

/// Spurious interrupt vector register, RW (SDM volume 3, 11.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Svr(pub(super) u32);

impl Svr {
    /// Software-disabled, vector 255.
    pub(super) const RESET: Self = Self(0xff);
    const ENABLE: u32 = 1 << 8;
    const SUPPRESS_EOI: u32 = 1 << 12;
    /// The vector, the switch, EOI broadcast suppression. There is no focus processor checking.
    pub(super) const GUEST_WRITABLE: u32 = 0xff | Self::ENABLE | Self::SUPPRESS_EOI;

    /// Software-enabled.
    pub(super) fn is_enabled(self) -> bool {
        self.0 & Self::ENABLE != 0
    }

    /// Whether EOIs of level-triggered interrupts stay here: the guest writes them to the I/O APIC itself.
    pub(super) fn suppresses_eoi(self) -> bool {
        self.0 & Self::SUPPRESS_EOI != 0
    }
}

/// Interrupt command register, RW (SDM volume 3, 11.6.1 and 11.12.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Icr(pub(super) u64);

impl Icr {
    const STATUS: u64 = 1 << 12;
    const LOW: u64 = 0x000c_cfff;
    /// Vector, delivery, destination mode, level, trigger, shorthand, destination. Delivery status is no bit of the
    /// x2APIC's register, but a guest that carries it over from reading the xAPIC's does no harm.
    pub(super) const GUEST_WRITABLE: u64 = Self::LOW | Self::STATUS | 0xffff_ffff << 32;
    /// What is kept of a write.
    pub(super) const KEPT: u64 = Self::LOW | 0xffff_ffff << 32;

    /// The vector.
    pub(super) fn vector(self) -> u8 {
        self.0 as u8
    }

    /// The delivery mode. A command cannot ask for an ExtINT.
    pub(super) fn delivery(self) -> Option<Delivery> {
        Delivery::decode((self.0 >> 8) as u32).filter(|&mode| mode != Delivery::ExtInt)
    }

    /// Whether the destination is logical.
    pub(super) fn is_logical(self) -> bool {
        self.0 >> 11 & 1 != 0
    }

    /// A level-triggered command with the level low: the INIT de-assert of old, which does nothing.
    pub(super) fn is_deassert(self) -> bool {
        self.0 >> 14 & 3 == 0b10
    }

    /// The shorthand: 0 none, 1 self, 2 all, 3 all but self.
    pub(super) fn shorthand(self) -> u64 {
        self.0 >> 18 & 3
    }

    /// The high word.
    pub(super) fn destination(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// IA32_APIC_BASE, RW (SDM volume 3, 11.4.4 and 11.12.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ApicBase(pub(super) u64);

impl ApicBase {
    const BSP: u64 = 1 << 8;
    const X2APIC: u64 = 1 << 10;
    const ENABLE: u64 = 1 << 11;
    const PAGE: u64 = (1 << layout::PHYSICAL_BITS) - 0x1000;
    /// The address and both switches. The boot processor's flag stays as it is.
    pub(super) const GUEST_WRITABLE: u64 = Self::PAGE | Self::X2APIC | Self::ENABLE;
    /// Bits that are not #GP to write.
    pub(super) const VALID: u64 = Self::GUEST_WRITABLE | Self::BSP;

    /// Enabled as an xAPIC at its usual address.
    pub(super) fn reset(is_bsp: bool) -> Self {
        let bsp = if is_bsp { Self::BSP } else { 0 };
        Self(layout::LAPIC.start | Self::ENABLE | bsp)
    }

    /// The two switches: enabled, and x2APIC mode.
    pub(super) fn switches(self) -> (bool, bool) {
        (self.0 & Self::ENABLE != 0, self.0 & Self::X2APIC != 0)
    }

    /// Where the registers' page is.
    pub(super) fn page(self) -> u64 {
        self.0 & Self::PAGE
    }
}

/// Error status register's bits (SDM volume 3, 11.5.3).
pub(super) mod error {
    /// A vector below 16 was to be sent.
    pub(in crate::chipset::lapic) const SEND_ILLEGAL_VECTOR: u32 = 1 << 5;
    /// A vector below 16 was received or is in the local vector table.
    pub(in crate::chipset::lapic) const RECEIVE_ILLEGAL_VECTOR: u32 = 1 << 6;
    /// An access to a register that is not there.
    pub(in crate::chipset::lapic) const ILLEGAL_REGISTER: u32 = 1 << 7;
}

/// Version register: 0x15, highest LVT entry 5, EOI broadcasts can be suppressed.
pub(super) const VERSION: u32 = layout::LAPIC_VERSION as u32 | (SOURCES as u32 - 1) << 16 | 1 << 24;
