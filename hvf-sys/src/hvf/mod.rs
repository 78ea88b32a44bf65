//! Hypervisor.framework on Intel Macs: one VM for the process, and vCPUs that belong to the thread that made them.
//!
//! Invariants. A `Vm` keeps the `Ram` that it shows to the guest, and is destroyed before it lets go of it; a vCPU keeps its
//! `Vm`. The framework is only given host addresses of ranges that `Ram` has confirmed. A `Vcpu` is neither `Send` nor
//! `Sync`, so that every call that must come from the owning thread does. What the safe functions let a caller write,
//! VMCS fields above all, can make a guest fail or run wild inside of its own memory, but cannot widen that: the kernel keeps the
//! host's state, the EPT pointer and the addresses of the VMCS's areas to itself, since it trusts no process.
//!
//! No interrupt controller of the framework is used. Nothing in here has run: no Mac has been at hand.

mod error;
pub mod ffi;
mod time;
mod vcpu;
mod vm;

pub use error::Error;
pub use time::{Deadline, tsc, tsc_hz};
pub use vcpu::{FpState, Vcpu};
pub use vm::{Vm, capability};
