//! PCI 3.0 as one bus of conventional functions with type 0 headers (PCI Local Bus Specification 3.0).
//!
//! `ConfigSpace` is a function's register file, `Interrupt` its way to signal (INTx, MSI, MSI-X), `Endpoint` the two
//! together: what a device embeds. `Root` leads configuration accesses (ports 0xcf8 and 0xcfc, ECAM) to the
//! addressed function, and nothing but that function's slot is locked for them.
//!
//! Not modelled: other buses (all ones), extended capabilities (the space from 0x100 reads zero), expansion ROMs,
//! power management, parity and system errors.
//!
//! Lock order: a function's slot, then its `Interrupt`, then the chipset hub behind `Line` and `MsiSink`.

mod bar;
mod config;
mod endpoint;
mod host;
mod interrupt;
mod lpc;
mod msi;
mod msix;
mod regs;
mod root;
mod survey;

pub use bar::{Bar, BarKind, Window};
pub use config::{ConfigSpace, Header};
pub use endpoint::{Decoding, Endpoint};
pub use host::HostBridge;
pub use interrupt::{Interrupt, Signalling};
pub use lpc::{LpcBridge, PirqSink};
pub use msi::Message;
pub use msix::MsixPlace;
pub use regs::{Command, capability, reg};
pub use root::{Builder, NoRoom, Root};
pub use survey::{Decoded, Installed};

use std::sync::Arc;

use hvf_sys::ram::Ram;

use crate::bus::{Device, Line, Width};

/// Where message-signalled interrupts go: the chipset hub. Called with the function's `Interrupt` locked, so that
/// a guest that has masked a vector sees no message of it afterwards; it must not call back into PCI.
pub trait MsiSink: Send + Sync {
    /// A function has written `data` to `address`.
    fn msi(&self, address: u64, data: u32);
}

/// Where a function is plugged in: what it needs of the machine.
pub struct Plug {
    /// The device number on the bus.
    pub slot: u8,
    /// INTA# of that slot.
    pub line: Line,
    /// Where its messages go.
    pub sink: Arc<dyn MsiSink>,
    /// The guest's memory.
    pub ram: Arc<Ram>,
}

/// A PCI function: a device whose BARs are its regions 0 to 5, and which has a configuration space.
pub trait Function: Device {
    /// The function's configuration space and interrupts.
    fn endpoint(&mut self) -> &mut Endpoint;

    /// Reads configuration space.
    fn config_read(&mut self, offset: u8, width: Width) -> u32 {
        self.endpoint().config_read(offset, width)
    }

    /// Writes configuration space. Where the BARs now decode something else, says what: the caller applies it once
    /// the slot is released.
    fn config_write(&mut self, offset: u8, width: Width, value: u32) -> Option<Decoding> {
        self.endpoint().config_write(offset, width, value)
    }
}
