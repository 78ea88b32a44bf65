//! The machine: the board with everything on it, and the threads that bring it to life.
//!
//! `build` is the one narrative from a `MachineSpec` to a `Machine`. A machine starts at once and goes on until the
//! guest powers it off or resets it, kills it, or somebody stops it; after a reset it can be restarted in place.

mod birth;
mod board;
mod build;
mod error;
mod load;
mod pci_uart;
mod threads;
mod topology;

pub use birth::Birth;
pub use build::{Cables, build};
pub use error::BuildError;
pub use load::tables;
pub use threads::{Machine, Outcome};
pub use topology::{CLOCKS, Function, Isa, Region, Topology, Wire, isa_interrupts, topology};

#[cfg(test)]
mod tests;
