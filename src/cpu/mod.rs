//! The software x86-64 CPU: decoder, interpreter, MMU, faults and the cache of decoded blocks.
//!
//! `run` has the loop, `core` the state, `exec` the instruction families. What the loop and the families call outside the
//! CPU is `io`. The boundary to emitted code is `hvf_sys::cpu`.

mod block;
pub mod core;
pub mod decode;
pub mod emulate;
mod exec;
mod fetch;
mod flags;
pub mod float;
mod int;
pub mod intercept;
mod interrupt;
pub mod io;
mod memory;
mod mmu;
mod msrs;
pub mod rendezvous;
mod reset;
pub mod run;
mod segments;
mod task;
#[cfg(test)]
mod tests;

pub use memory::canonical;
pub use rendezvous::Group;
pub use run::{Cpu, Stop};
