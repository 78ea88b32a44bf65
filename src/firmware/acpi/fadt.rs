//! FADT: where the fixed registers are (ACPI 6.5, 5.2.9). And FACS (5.2.10), which firmware and operating system
//! share: nobody sleeps here, so that all of it is zero.

use super::{AccessSize, HEADER, Space, gas, table};
use crate::layout::{self, irq, port};

/// Revision 6.3, the latest that every iasl in use knows.
const MAJOR: u8 = 6;
const MINOR: u8 = 3;
const LENGTH: usize = 276;

/// IAPC_BOOT_ARCH (table 5.11).
mod boot_arch {
    /// There are devices on the ISA bus.
    pub(super) const LEGACY_DEVICES: u16 = 1 << 0;
    /// Do not look for VGA. Bit 1, which is clear: there is a keyboard controller.
    pub(super) const VGA_NOT_PRESENT: u16 = 1 << 2;
}

/// The feature flags (table 5.10).
mod flags {
    /// WBINVD works.
    pub(super) const WBINVD: u32 = 1 << 0;
    /// C1 works on all processors.
    pub(super) const PROC_C1: u32 = 1 << 2;
    /// There is no fixed sleep button. Bit 4, which is clear: the power button is fixed hardware.
    pub(super) const SLP_BUTTON: u32 = 1 << 5;
    /// The PM timer has 32 bits.
    pub(super) const TMR_VAL_EXT: u32 = 1 << 8;
    /// The reset register works.
    pub(super) const RESET_REG_SUP: u32 = 1 << 10;
    /// No screen, no keyboard.
    pub(super) const HEADLESS: u32 = 1 << 12;
    /// Address local APICs physically.
    pub(super) const APIC_PHYSICAL: u32 = 1 << 19;
}

const FLAGS: u32 = flags::WBINVD
    | flags::PROC_C1
    | flags::SLP_BUTTON
    | flags::TMR_VAL_EXT
    | flags::RESET_REG_SUP
    | flags::HEADLESS
    | flags::APIC_PHYSICAL;

/// Slower than any system would use: there are no C2 and C3.
const NO_C2: u16 = 0xfff;
const NO_C3: u16 = 0xfff;

/// Offsets of the fields that are not zero, from the start of the table (table 5.9).
mod at {
    pub(super) const FIRMWARE_CTRL: usize = 36;
    pub(super) const DSDT: usize = 40;
    pub(super) const SCI_INT: usize = 46;
    pub(super) const SMI_CMD: usize = 48;
    pub(super) const ACPI_ENABLE: usize = 52;
    pub(super) const ACPI_DISABLE: usize = 53;
    pub(super) const PM1A_EVT_BLK: usize = 56;
    pub(super) const PM1A_CNT_BLK: usize = 64;
    pub(super) const PM_TMR_BLK: usize = 76;
    pub(super) const PM1_EVT_LEN: usize = 88;
    pub(super) const PM1_CNT_LEN: usize = 89;
    pub(super) const PM_TMR_LEN: usize = 91;
    pub(super) const P_LVL2_LAT: usize = 96;
    pub(super) const P_LVL3_LAT: usize = 98;
    pub(super) const CENTURY: usize = 108;
    pub(super) const IAPC_BOOT_ARCH: usize = 109;
    pub(super) const FLAGS: usize = 112;
    pub(super) const RESET_REG: usize = 116;
    pub(super) const RESET_VALUE: usize = 128;
    pub(super) const MINOR: usize = 131;
    pub(super) const X_DSDT: usize = 140;
    pub(super) const X_PM1A_EVT_BLK: usize = 148;
    pub(super) const X_PM1A_CNT_BLK: usize = 172;
    pub(super) const X_PM_TMR_BLK: usize = 208;
    pub(super) const HYPERVISOR: usize = 268;
}

/// The FADT, which points to FACS and DSDT.
pub(super) fn fadt(facs: u64, dsdt: u64) -> Vec<u8> {
    let mut body = vec![0; LENGTH - HEADER];
    let mut put = |at: usize, bytes: &[u8]| {
        body[at - HEADER..at - HEADER + bytes.len()].copy_from_slice(bytes);
    };
    put(at::FIRMWARE_CTRL, &(facs as u32).to_le_bytes());
    put(at::DSDT, &(dsdt as u32).to_le_bytes());
    put(at::X_DSDT, &dsdt.to_le_bytes());
    put(
        at::SCI_INT,
        &(layout::isa_gsi(irq::SCI) as u16).to_le_bytes(),
    );
    put(at::SMI_CMD, &(port::SMI_COMMAND.start as u32).to_le_bytes());
    put(at::ACPI_ENABLE, &[layout::ACPI_ENABLE]);
    put(at::ACPI_DISABLE, &[layout::ACPI_DISABLE]);
    let registers = [
        (
            at::PM1A_EVT_BLK,
            at::PM1_EVT_LEN,
            at::X_PM1A_EVT_BLK,
            port::PM1A_EVENT,
            AccessSize::Word,
        ),
        (
            at::PM1A_CNT_BLK,
            at::PM1_CNT_LEN,
            at::X_PM1A_CNT_BLK,
            port::PM1A_CONTROL,
            AccessSize::Word,
        ),
        (
            at::PM_TMR_BLK,
            at::PM_TMR_LEN,
            at::X_PM_TMR_BLK,
            port::PM_TIMER,
            AccessSize::Dword,
        ),
    ];
    for (old, length, new, ports, access) in registers {
        put(old, &(ports.start as u32).to_le_bytes());
        put(length, &[ports.len() as u8]);
        put(
            new,
            &gas(Space::Io, ports.len() as u8 * 8, access, ports.start),
        );
    }
    put(at::P_LVL2_LAT, &NO_C2.to_le_bytes());
    put(at::P_LVL3_LAT, &NO_C3.to_le_bytes());
    put(at::CENTURY, &[layout::RTC_CENTURY]);
    let boot_arch = boot_arch::LEGACY_DEVICES | boot_arch::VGA_NOT_PRESENT;
    put(at::IAPC_BOOT_ARCH, &boot_arch.to_le_bytes());
    put(at::FLAGS, &FLAGS.to_le_bytes());
    let reset = gas(Space::Io, 8, AccessSize::Byte, port::RESET_CONTROL.start);
    put(at::RESET_REG, &reset);
    put(at::RESET_VALUE, &[layout::RESET_VALUE]);
    put(at::MINOR, &[MINOR]);
    put(at::HYPERVISOR, b"XLAUNCH ");
    table(b"FACP", MAJOR, &body)
}

/// The FACS: no header of the usual kind, no checksum.
pub(super) fn facs() -> Vec<u8> {
    const LENGTH: usize = 64;
    const VERSION: usize = 32;
    let mut bytes = vec![0; LENGTH];
    bytes[..4].copy_from_slice(b"FACS");
    bytes[4..8].copy_from_slice(&(LENGTH as u32).to_le_bytes());
    bytes[VERSION] = 2;
    bytes
}
