//! KVM on x86-64 Linux: owning wrappers around its file descriptors. Every error keeps the kernel's number.
//!
//! Invariants. A `Vm` keeps the guest's RAM alive, whose host addresses the kernel has, and so does every `Vcpu`
//! of it: no guest runs without one. The guest writes RAM as other CPUs do, which RAM expects (see `ram`). A `Vcpu`
//! stays on the thread that made it; the page that it shares with the kernel is touched by that thread alone, outside
//! of `run`, except for one byte, `immediate_exit`, which any thread that holds a `Kick` sets atomically. Structures
//! go to the kernel by requests whose numbers are made from their sizes.
//!
//! No guest state can break this process: the kernel keeps the guest inside its memory slots.

mod abi;
mod page;
mod system;
mod vcpu;
mod vm;

pub use abi::{
    CPUID_MAX, Capability, CpuidEntry, MSR_RANGES_MAX, MSRS_MAX, Regs, Segment, Sregs, Table,
};
pub use page::Kick;
pub use system::System;
pub use vcpu::{Exit, Vcpu};
pub use vm::Vm;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::os::check;

/// A request whose argument is a number.
///
/// # Safety
/// The request must be one that takes a number or nothing.
unsafe fn request(fd: &OwnedFd, request: u64, argument: u64) -> io::Result<i32> {
    // SAFETY: the descriptor is open; the kernel touches none of our memory for such a request.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request as _, argument) })
}

/// A request whose argument points to a structure, which the kernel reads or writes.
///
/// # Safety
/// The request must be one for a `T`, or for a list whose head says how many entries a `T` has room for. What a `T`
/// points to, if anything, must be valid for what the request does with it.
unsafe fn request_with<T>(fd: &OwnedFd, request: u64, argument: &mut T) -> io::Result<i32> {
    // SAFETY: the descriptor is open, the argument exclusively ours, and of the size that the request names.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request as _, std::ptr::from_mut(argument)) })
}
