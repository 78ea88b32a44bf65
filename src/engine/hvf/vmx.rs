//! VMX as Hypervisor.framework gives it to a process: one VM, whose vCPUs each belong to the thread that made them.
//!
//! The contract is Apple's (`Hypervisor/hv.h`, `hv_vmx.h`, macOS 10.15 to 12), with what is not written there:
//! - `run` returns at every exit, also at ones that mean nothing: EXTERNAL_INTERRUPT when the host took the processor,
//!   EPT_VIOLATION at the first touch of mapped RAM. The instruction is then entered again.
//! - `interrupt` reaches a vCPU only while that is inside `run`; otherwise nobody will ever hear of it.
//! - `run` may refuse a finite deadline with `Error::UNSUPPORTED`.
//! - The controls of a fresh VMCS hold what the framework wants for itself. A bit that one does not know keeps its value.
//! - Host state, the EPT pointer, the MSR bitmap and the VPID are the framework's own. MSRs exit unless
//!   `enable_native_msr` says otherwise; those that are the guest's own are switched by the framework.

use std::fmt;
use std::ops::BitOr;
use std::sync::Arc;
use std::time::Duration;

use hvf_sys::ram::Ram;

use crate::x86::cpuid::Answer;
use crate::x86::vmx::Field;

/// What a call gave that failed: `hv_return_t`, kept as it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Error(pub u32);

/// What a call gives.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// HV_ERROR: anything else.
    pub const ERROR: Self = Self(0xfae9_4001);
    /// HV_BUSY: it is in use.
    pub const BUSY: Self = Self(0xfae9_4002);
    /// HV_BAD_ARGUMENT: no such field, register or address; also a call from a thread that does not own the vCPU.
    pub const BAD_ARGUMENT: Self = Self(0xfae9_4003);
    /// HV_NO_RESOURCES: the host has no more.
    pub const NO_RESOURCES: Self = Self(0xfae9_4005);
    /// HV_NO_DEVICE: no such VM or vCPU, or no VMX.
    pub const NO_DEVICE: Self = Self(0xfae9_4006);
    /// HV_DENIED: the process lacks the entitlement.
    pub const DENIED: Self = Self(0xfae9_4007);
    /// HV_UNSUPPORTED: this host cannot.
    pub const UNSUPPORTED: Self = Self(0xfae9_400f);

    /// Apple's name.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::ERROR => "HV_ERROR",
            Self::BUSY => "HV_BUSY",
            Self::BAD_ARGUMENT => "HV_BAD_ARGUMENT",
            Self::NO_RESOURCES => "HV_NO_RESOURCES",
            Self::NO_DEVICE => "HV_NO_DEVICE",
            Self::DENIED => "HV_DENIED",
            Self::UNSUPPORTED => "HV_UNSUPPORTED",
            _ => return None,
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({:#x})", self.0),
            None => write!(f, "{:#x}", self.0),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

/// A field of VMX's capability MSRs: `hv_vmx_capability_t`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Pin-based controls.
    PinBased = 0,
    /// Primary processor-based controls.
    Primary = 1,
    /// Secondary processor-based controls.
    Secondary = 2,
    /// VM-entry controls.
    Entry = 3,
    /// VM-exit controls.
    Exit = 4,
}

/// A register: `hv_x86_reg_t`. Segments, control registers but CR2, DR7, RIP, RSP and RFLAGS are also fields of the VMCS;
/// the two views are one.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the SDM's")]
pub enum Register {
    Rip,
    Rflags,
    Rax,
    Rcx,
    Rdx,
    Rbx,
    Rsi,
    Rdi,
    Rsp,
    Rbp,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
    Cs,
    Ss,
    Ds,
    Es,
    Fs,
    Gs,
    IdtBase,
    IdtLimit,
    GdtBase,
    GdtLimit,
    Ldtr,
    LdtBase,
    LdtLimit,
    LdtAr,
    Tr,
    TssBase,
    TssLimit,
    TssAr,
    Cr0,
    Cr1,
    Cr2,
    Cr3,
    Cr4,
    Dr0,
    Dr1,
    Dr2,
    Dr3,
    Dr4,
    Dr5,
    Dr6,
    Dr7,
    Tpr,
    Xcr0,
}

/// What a guest may do with memory: `hv_memory_flags_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access(pub u64);

impl Access {
    /// Loads.
    pub const READ: Self = Self(1);
    /// Stores.
    pub const WRITE: Self = Self(2);
    /// Fetches.
    pub const EXECUTE: Self = Self(4);
    /// All of it.
    pub const ALL: Self = Self(7);
}

impl BitOr for Access {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// How many bytes `read_fp` and `write_fp` take: an XSAVE area in the standard format (SDM volume 1, 13.4), of which the
/// header says what is there.
pub const FP_BYTES: usize = 4096;

/// The VM of this process.
pub trait Vmx: Send + Sync {
    /// A capability: the low 32 bits are those that must be one, the high 32 bits those that may be.
    fn capability(&self, which: Capability) -> Result<u64>;

    /// Lets the guest reach `len` bytes of RAM from `gpa` on at the same guest-physical address; whole pages.
    fn map(&self, ram: &Arc<Ram>, gpa: u64, len: u64, access: Access) -> Result<()>;

    /// Ends that.
    fn unmap(&self, gpa: u64, len: u64) -> Result<()>;

    /// Changes what the guest may do with a mapped range.
    fn protect(&self, gpa: u64, len: u64, access: Access) -> Result<()>;

    /// Makes a vCPU that belongs to the calling thread.
    fn vcpu(&self) -> Result<Box<dyn VmxVcpu>>;

    /// Makes `run` return on these vCPUs if they are inside it; lost on the others. From any thread.
    fn interrupt(&self, vcpus: &[u32]) -> Result<()>;

    /// The host's time-stamp counter, to which `TSC_OFFSET` is added.
    fn tsc(&self) -> u64;

    /// How fast it counts. `None` where the host does not tell.
    fn tsc_hz(&self) -> Option<u64>;

    /// What the host's processor answers to CPUID. `None` where it is not the guest's processor too.
    fn cpuid(&self, _leaf: u32, _subleaf: u32) -> Option<Answer> {
        None
    }
}

/// A vCPU. It never leaves its thread: implementations are not `Send`.
pub trait VmxVcpu {
    /// Its number, for `Vmx::interrupt`.
    fn id(&self) -> u32;

    /// VMREAD.
    fn vmcs(&self, field: Field) -> Result<u64>;

    /// VMWRITE.
    fn set_vmcs(&mut self, field: Field, value: u64) -> Result<()>;

    /// A register.
    fn register(&self, register: Register) -> Result<u64>;

    /// Sets a register.
    fn set_register(&mut self, register: Register, value: u64) -> Result<()>;

    /// Lets the guest read and write an MSR without an exit, or no longer.
    fn enable_native_msr(&mut self, msr: u32, enable: bool) -> Result<()>;

    /// The guest's value of an MSR that was enabled.
    fn msr(&self, msr: u32) -> Result<u64>;

    /// Sets it.
    fn set_msr(&mut self, msr: u32, value: u64) -> Result<()>;

    /// x87, SSE and further state.
    fn read_fp(&self, area: &mut [u8; FP_BYTES]) -> Result<()>;

    /// Sets it.
    fn write_fp(&mut self, area: &[u8; FP_BYTES]) -> Result<()>;

    /// Forgets all translations of this vCPU.
    fn invalidate_tlb(&mut self) -> Result<()>;

    /// Writes what the framework still holds of registers and the VMCS to where the processor finds it.
    fn flush(&mut self) -> Result<()>;

    /// Runs the guest until the next exit, whose reason is in `EXIT_REASON`: PREEMPTION_TIMER after `within`, where that
    /// is not refused; no limit is `HV_DEADLINE_FOREVER`.
    fn run(&mut self, within: Option<Duration>) -> Result<()>;
}
