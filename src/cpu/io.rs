//! What the software CPU calls while it is in the middle of an instruction: ports, device memory, the interrupt
//! controller's registers and time.
//!
//! A device access is a call and never a replay: each method runs exactly once for each access that the guest made,
//! after every fault of the instruction has been ruled out. Engines that leave the guest for a device access
//! (KVM, Hypervisor.framework) make the same calls from the run loop, so that all engines see one machine.

use crate::bus::{Nanos, Width};

/// The machine as one vCPU reaches it.
pub trait Io {
    /// `IN` from `port`. Bits above the width are ignored by the caller.
    fn port_read(&mut self, port: u16, width: Width) -> u32;

    /// `OUT` to `port`. Bits of `value` above the width are zero.
    fn port_write(&mut self, port: u16, width: Width, value: u32);

    /// A load from a guest-physical address that is not RAM.
    fn mmio_read(&mut self, gpa: u64, width: Width) -> u64;

    /// A store to a guest-physical address that is not RAM. Bits of `value` above the width are zero.
    fn mmio_write(&mut self, gpa: u64, width: Width, value: u64);

    /// Reads an MSR that belongs to the interrupt controller: IA32_APIC_BASE, the x2APIC's 0x800 to 0x8FF and
    /// IA32_TSC_DEADLINE. `None` is #GP. The deadline is in machine time: the caller adds its TSC offset.
    fn msr_read(&mut self, msr: u32) -> Option<u64>;

    /// Writes such an MSR. `None` is #GP. The caller has taken its TSC offset off a deadline that is not zero.
    fn msr_write(&mut self, msr: u32, value: u64) -> Option<()>;

    /// CR8: the upper four bits of the task priority.
    fn cr8(&mut self) -> u64;

    /// Writes CR8. The caller has checked that only the low four bits are set.
    fn set_cr8(&mut self, tpr: u64);

    /// Machine time now, in nanoseconds.
    fn now(&mut self) -> Nanos;
}
