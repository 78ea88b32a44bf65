//! What executes a guest's CPUs, behind one trait, and the one loop that all engines share.
//!
//! An engine's vCPU lives on the thread that made it. Other threads hold its `Kicker` only. The loop (`run`) sees
//! the rest of the machine as a `Platform`. CPUID is no exit: every engine answers it from `x86::cpuid`.

pub mod alarm;
pub mod choose;
#[cfg(test)]
pub(crate) mod fake;
pub mod hvf;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod kvm;
mod park;
#[cfg(test)]
mod park_tests;
pub mod run;
pub mod soft;
mod sync;

use std::fmt;
use std::sync::Arc;

use crate::bus::{Nanos, Width};
use crate::chipset::mailbox::{Message, Vectors};
use crate::cpu::io::Io;
use crate::x86::regs::Regs;

/// Why a vCPU stopped running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The guest reads a port: do it, then `complete_read`.
    PortIn {
        /// The port.
        port: u16,
        /// Byte, word or dword.
        width: Width,
    },
    /// The guest writes a port.
    PortOut {
        /// The port.
        port: u16,
        /// Byte, word or dword.
        width: Width,
        /// What it writes.
        value: u32,
    },
    /// The guest reads memory that is not RAM: do it, then `complete_read`.
    MmioRead {
        /// The guest-physical address.
        gpa: u64,
        /// How many bytes.
        width: Width,
    },
    /// The guest writes memory that is not RAM.
    MmioWrite {
        /// The guest-physical address.
        gpa: u64,
        /// How many bytes.
        width: Width,
        /// What it writes.
        value: u64,
    },
    /// The guest reads an MSR that the engine does not know: do it, then `complete_msr`.
    MsrRead {
        /// Its number.
        msr: u32,
    },
    /// The guest writes an MSR that the engine does not know: do it, then `complete_msr`.
    MsrWrite {
        /// Its number.
        msr: u32,
        /// What it writes.
        value: u64,
    },
    /// HLT was executed.
    Halt,
    /// A window was asked for, and the vCPU can be interrupted now.
    WindowOpen,
    /// Somebody kicked.
    Kicked,
    /// The time that `run` was given has come.
    Deadline,
    /// A fault in the delivery of a double fault: the processor shuts down.
    TripleFault,
    /// The engine cannot go on.
    Fault {
        /// What happened, for the user.
        detail: String,
    },
}

/// Which reset a vCPU gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// Power-on: everything.
    PowerOn,
    /// INIT: x87, SSE, TSC, MTRRs and machine-check MSRs keep their values (SDM volume 3, table 10-1).
    Init,
}

/// What executes the CPUs of one machine.
pub trait Engine: Send + Sync {
    /// Its name, as for `--engine`.
    fn name(&self) -> &'static str;

    /// Makes CPU number `index`, as after power-on. It is called on the thread that is going to run the vCPU, once
    /// for each CPU of the machine.
    fn vcpu(&self, index: u8) -> Result<Box<dyn Vcpu>, Refusal>;
}

/// Why an engine does not serve: one sentence for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

/// One virtual CPU. All calls come from the thread that made it.
pub trait Vcpu {
    /// Runs the guest until there is an exit to handle: at the latest soon after `until`, soon after a kick, and as
    /// soon as it can be interrupted where a window was asked for. An engine whose device accesses are calls makes
    /// them on `io`; another one returns them.
    fn run(&mut self, io: &mut dyn Io, until: Option<Nanos>) -> Exit;

    /// Gives the value of the read that `run` last returned.
    fn complete_read(&mut self, value: u64);

    /// Gives the value of the MSR that `run` last returned (any value for a write). `None` makes it #GP.
    fn complete_msr(&mut self, value: Option<u64>);

    /// Whether `inject` is allowed now: interrupts enabled, no shadow of STI or MOV SS, none injected since `run`.
    fn can_inject(&self) -> bool;

    /// Interrupts the guest with `vector` when it runs next.
    fn inject(&mut self, vector: u8);

    /// Makes a non-maskable interrupt pending. It is taken before anything else as soon as none is blocked by an
    /// earlier one's missing IRET; one more waits until then, further ones merge with it.
    fn inject_nmi(&mut self);

    /// From now on, or no longer, `run` returns `WindowOpen` whenever `can_inject`.
    fn request_window(&mut self, wanted: bool);

    /// Resets the processor, and what is injected or pending in it.
    fn reset(&mut self, kind: Reset);

    /// Starts a processor that INIT has reset at real-mode page `page`.
    fn start_ap(&mut self, page: u8);

    /// The registers.
    fn regs(&mut self) -> Regs;

    /// Sets the registers.
    fn set_regs(&mut self, regs: &Regs);

    /// Sets a memory type range register, as firmware does on every CPU before it starts.
    fn set_mtrr(&mut self, msr: u32, value: u64);

    /// How many instructions it has executed, where the engine counts them.
    fn retired(&self) -> Option<u64>;

    /// What stops it from other threads.
    fn kicker(&self) -> Arc<dyn Kicker>;
}

/// Another thread's hold on a vCPU.
pub trait Kicker: Send + Sync {
    /// Makes the `run` in progress return soon, or else the next one. Never lost; several may merge.
    fn kick(&self);
}

/// The machine as the run loop sees it.
pub trait Platform: Send + Sync {
    /// Machine time.
    fn now(&self) -> Nanos;

    /// Whether the vCPUs have to leave their loops. Whoever makes it so wakes them through their mailboxes.
    fn must_stop(&self) -> bool;

    /// Asks for a reset of the whole machine: the boot processor got an INIT, whose reset vector is the firmware's.
    fn reset_machine(&self);

    /// Reads a port.
    fn port_read(&self, port: u16, width: Width) -> u32;

    /// Writes a port.
    fn port_write(&self, port: u16, width: Width, value: u32);

    /// Reads memory that is not RAM.
    fn mmio_read(&self, gpa: u64, width: Width) -> u64;

    /// Writes memory that is not RAM.
    fn mmio_write(&self, gpa: u64, width: Width, value: u64);

    /// Delivers what the LAPIC of CPU `from` sends.
    fn send(&self, from: usize, message: &Message);

    /// A level-triggered vector has been served.
    fn end_of_interrupt(&self, vector: u8);

    /// Level-triggered vectors were accepted and are not going to be served; or a LAPIC accepts what it did not.
    fn redirected(&self, unserved: &Vectors);

    /// The vector of the 8259 pair's interrupt. `None` where it has gone away again.
    fn acknowledge(&self) -> Option<u8>;
}
