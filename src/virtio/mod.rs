//! Virtio 1.2 devices on PCI (OASIS Virtual I/O Device Version 1.2; "4.1" and the like are its sections).
//!
//! `VirtioPci` is the transport: capabilities, registers and interrupts of a modern device, the same for every type. A
//! `Model` is what makes a type: its configuration and how it serves its queues. Queues are served by a pool of threads
//! that belongs to the device (`workers`); a notification only wakes them, and a reset waits for them.
//!
//! Rings are read with suspicion (`ring`, `chain`): each descriptor once, into an owned value. A ring that makes no
//! sense sets DEVICE_NEEDS_RESET and is not looked at again.
//!
//! Not modelled: legacy and transitional interfaces, packed rings, per-queue reset, shared memory regions.
//!
//! Lock order: slot, then `workers`, ring positions or interrupt status (none while another of them is held), then
//! the PCI function's `Interrupt`.

mod blk;
mod chain;
mod common;
mod net;
mod ring;
mod rnd;
mod signal;
mod transport;
mod turn;
mod workers;

#[cfg(test)]
mod tests;

pub use blk::Blk;
pub use chain::{Buffers, Chain};
pub use net::Net;
pub use ring::{Request, Used};
pub use rnd::Rnd;
pub use transport::VirtioPci;
pub use turn::Turn;
pub use workers::Bell;

use std::borrow::Cow;

use bitflags::bitflags;

/// The largest ring that a queue may have.
pub const QUEUE_SIZE: u16 = 256;

/// Feature bits that do not depend on the device's type (chapter 6).
pub mod feature {
    /// A descriptor may lead to a table of descriptors.
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// Notifications are suppressed by position, in both directions.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// Version 1 or later: not the legacy interface.
    pub const VERSION_1: u64 = 1 << 32;
}

bitflags! {
    /// Device status (2.1).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Status: u8 {
        /// The guest has seen the device.
        const ACKNOWLEDGE = 1;
        /// The guest has a driver for it.
        const DRIVER = 2;
        /// The driver is set up and the device live.
        const DRIVER_OK = 4;
        /// The features are settled.
        const FEATURES_OK = 8;
        /// Set by the device: it cannot go on before a reset.
        const NEEDS_RESET = 64;
        /// The driver has given up.
        const FAILED = 128;
    }
}

/// What tells one type of device from another.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The device type (chapter 5).
    pub kind: u16,
    /// PCI class, subclass and programming interface.
    pub class: u32,
    /// What log messages call it.
    pub name: &'static str,
}

/// A type of device. Called by several workers at once.
pub trait Model: Send + Sync {
    /// What it is.
    fn identity(&self) -> Identity;

    /// The feature bits of its type that it offers.
    fn features(&self) -> u64;

    /// How many queues it has: 1 to 64.
    fn queues(&self) -> u16;

    /// Its configuration, read-only, always of the same length.
    fn config(&self) -> Cow<'_, [u8]>;

    /// It has been plugged in: `bell` gets it a turn at a queue when it has something for the driver.
    fn plugged(&self, _bell: Bell) {}

    /// Serves a queue, of which the driver has notified the device or for which it has rung its bell.
    fn serve(&self, turn: &mut Turn<'_>);

    /// The device has been reset, and no worker is at work.
    fn reset(&self) {}
}
