//! Virtio 1.2 devices on PCI (OASIS Virtual I/O Device Version 1.2; "4.1" and the like are its sections).
//!
//! `VirtioPci` is the transport: capabilities, registers and interrupts of a modern device, the same for every type. A
//! `Model` is what makes a type: its configuration and how it serves a request. Requests are served by a pool of
//! threads that belongs to the device (`workers`); a notification only wakes them, and a reset waits for them.
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
mod ring;
mod rnd;
mod signal;
mod transport;
mod workers;

#[cfg(test)]
mod tests;

pub use blk::Blk;
pub use chain::{Buffers, Chain};
pub use rnd::Rnd;
pub use transport::VirtioPci;

use bitflags::bitflags;
use hvf_sys::ram::Ram;

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

/// A request that a driver has put into a ring.
pub struct Request<'a> {
    /// Which queue.
    pub queue: u16,
    /// Its buffers.
    pub chain: Chain,
    /// Where they are.
    pub ram: &'a Ram,
    /// The features that driver and device agreed on.
    pub features: u64,
}

/// A type of device. Called by several workers at once.
pub trait Model: Send + Sync {
    /// What it is.
    fn identity(&self) -> Identity;

    /// The feature bits of its type that it offers.
    fn features(&self) -> u64;

    /// How many queues it has: 1 to 64.
    fn queues(&self) -> u16;

    /// Its configuration, read-only.
    fn config(&self) -> &[u8];

    /// Serves a request. Says how many bytes it has written to the start of the writable buffers.
    fn serve(&self, request: Request<'_>) -> u32;
}
