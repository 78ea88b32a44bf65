//! Serial ATA AHCI 1.3.1 host bus adapter with six ports, ATA disks (ACS-3) and ATAPI CD drives (MMC-6) behind it.
//!
//! `Hba` and `Port` are the registers and the state machine, without threads. `Controller` is the PCI function around
//! them, `workers` the threads that do what commands say. A `Unit` is a device at a port.
//!
//! A port without a drive is not in PI, so that no driver waits for a link there, and NP ends with the last drive, so
//! that none prepares for more. With no drive at all PI is zero, which 3.1.4 does not foresee; drivers then find no
//! port.
//!
//! Not modelled: command completion coalescing, enclosure management, port multipliers, FIS-based switching, hot plug,
//! link and device power states (the link is always active), the legacy IDE interface, the power management
//! capability of the PCI function. Their capability bits are clear and their registers read zero.
//!
//! Lock order: slot, then the shared state of controller and workers, then the PCI function's `Interrupt`, or a
//! unit's own state.

mod ata;
mod cd;
mod command;
mod controller;
mod drive;
mod fis;
mod hba;
mod port;
mod regs;
mod unit;
mod workers;

#[cfg(test)]
mod tests;

pub use controller::Controller;
pub use drive::Drive;

/// How many drives a controller has room for.
pub const PORTS: usize = regs::PORTS;
const _: () = assert!(PORTS == crate::spec::DRIVES_MAX);
