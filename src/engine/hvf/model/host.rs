//! The Macs that the model can be: what their processors and their framework offer (SDM volume 3, appendix A).

use super::super::vmx::Capability;
use crate::spec::ModelHost;
use crate::x86::control::cr4;
use crate::x86::vmx::control::{entry, exit, pin, primary, secondary};

/// A Mac, and how it behaves where that is left to it.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// The words that `capability` gives: in the low half what must be one, in the high half what may.
    pub pin: Word,
    /// Primary controls.
    pub primary: Word,
    /// Secondary controls.
    pub secondary: Word,
    /// VM-entry controls.
    pub entry: Word,
    /// VM-exit controls.
    pub exit: Word,
    /// The time-stamp counter's rate in Hz.
    pub tsc_hz: u64,
    /// `run` takes deadlines.
    pub deadlines: bool,
    /// Of so many entries, one comes back at once with an external interrupt of the host's own; 0 is none.
    pub spurious: u32,
    /// The first touch of each mapped page of RAM exits.
    pub first_touch: bool,
    /// Where the random numbers start.
    pub seed: u64,
}

/// One word of capabilities, with what the framework sets in a fresh VMCS for itself.
#[derive(Clone, Copy, Debug)]
pub struct Word {
    /// Bits that must be one.
    pub required: u32,
    /// Bits that may be one.
    pub allowed: u32,
    /// Bits that the framework has set for itself and that must stay.
    pub own: u32,
}

impl Word {
    /// As `capability` gives it. The framework does not tell which bits are its own.
    pub fn capability(self) -> u64 {
        u64::from(self.allowed) << 32 | u64::from(self.required)
    }

    /// What a fresh VMCS holds.
    pub fn fresh(self) -> u32 {
        self.required | self.own
    }
}

/// Bits that are always one (default1 class, SDM volume 3, A.3 to A.5), those that the TRUE capabilities free left out.
const PIN_ONES: u32 = 0x16;
const PRIMARY_ONES: u32 = 0x0400_6172;
const EXIT_ONES: u32 = 0x0003_6dfb;
const ENTRY_ONES: u32 = 0x0000_11fb;
/// Conceal VMX operation from processor tracing, where entries and exits have it.
const CONCEAL_EXIT: u32 = 1 << 24;
const CONCEAL_ENTRY: u32 = 1 << 17;

impl From<ModelHost> for Host {
    fn from(host: ModelHost) -> Self {
        match host {
            ModelHost::Haswell => Self::HASWELL,
            ModelHost::CoffeeLake => Self::COFFEE_LAKE,
        }
    }
}

impl Host {
    /// A processor of 2013 under a framework that touches no more than it must.
    pub const HASWELL: Self = Self {
        pin: Word {
            required: PIN_ONES,
            allowed: PIN_ONES | pin::EXTERNAL_INTERRUPT | pin::NMI | pin::VIRTUAL_NMI,
            own: 0,
        },
        primary: Word {
            required: PRIMARY_ONES | primary::MSR_BITMAPS | primary::SECONDARY,
            allowed: 0xfff9_fffe & !primary::IO_BITMAPS,
            own: 0,
        },
        secondary: Word {
            required: 0,
            allowed: secondary::VIRTUALIZE_APIC
                | secondary::EPT
                | secondary::DESCRIPTOR_TABLE
                | secondary::RDTSCP
                | secondary::VIRTUALIZE_X2APIC
                | secondary::VPID
                | secondary::WBINVD
                | secondary::UNRESTRICTED_GUEST
                | secondary::PAUSE_LOOP
                | secondary::RDRAND
                | secondary::INVPCID,
            own: 0,
        },
        entry: Word {
            required: ENTRY_ONES,
            allowed: ENTRY_ONES
                | entry::LOAD_DEBUG
                | entry::IA32E_GUEST
                | entry::LOAD_PERF_GLOBAL_CTRL
                | entry::LOAD_PAT
                | entry::LOAD_EFER,
            own: 0,
        },
        exit: Word {
            required: EXIT_ONES | exit::HOST_64,
            allowed: 0x007f_ffff,
            own: 0,
        },
        tsc_hz: 2_400_000_000,
        deadlines: true,
        spurious: 0,
        first_touch: false,
        seed: 1,
    };

    /// A processor of 2019 under a framework that has set bits for itself, refuses deadlines, and shows whatever a host may.
    pub const COFFEE_LAKE: Self = Self {
        secondary: Word {
            required: 0,
            allowed: Self::HASWELL.secondary.allowed
                | secondary::VMFUNC
                | secondary::ENCLS
                | secondary::RDSEED
                | secondary::PML
                | secondary::CONCEAL_VMX
                | secondary::XSAVES
                | secondary::MODE_BASED_EXECUTE,
            own: secondary::CONCEAL_VMX,
        },
        entry: Word {
            required: ENTRY_ONES,
            allowed: Self::HASWELL.entry.allowed | entry::LOAD_BNDCFGS | CONCEAL_ENTRY,
            own: CONCEAL_ENTRY,
        },
        exit: Word {
            required: Self::HASWELL.exit.required,
            allowed: Self::HASWELL.exit.allowed | CONCEAL_EXIT,
            own: CONCEAL_EXIT,
        },
        tsc_hz: 3_600_000_000,
        deadlines: false,
        spurious: 64,
        first_touch: true,
        ..Self::HASWELL
    };

    /// A word of capabilities.
    pub fn word(&self, which: Capability) -> Word {
        match which {
            Capability::PinBased => self.pin,
            Capability::Primary => self.primary,
            Capability::Secondary => self.secondary,
            Capability::Entry => self.entry,
            Capability::Exit => self.exit,
        }
    }
}

/// Bits of CR4 that may be one in VMX operation, IA32_VMX_CR4_FIXED1: those that the software CPU has.
pub const CR4_MAY_BE_ONE: u64 = cr4::SOFTWARE | cr4::VMXE;

/// Controls that the model simulates. Others that a host offers are refused aloud, not ignored.
pub mod simulated {
    use super::*;

    /// Pin-based.
    pub const PIN: u32 = PIN_ONES | pin::EXTERNAL_INTERRUPT | pin::NMI | pin::VIRTUAL_NMI;
    /// Primary.
    pub const PRIMARY: u32 = PRIMARY_ONES
        | primary::INTERRUPT_WINDOW
        | primary::TSC_OFFSETTING
        | primary::HLT
        | primary::INVLPG
        | primary::MWAIT
        | primary::RDPMC
        | primary::RDTSC
        | primary::CR3_LOAD
        | primary::CR3_STORE
        | primary::CR8_LOAD
        | primary::CR8_STORE
        | primary::TPR_SHADOW
        | primary::NMI_WINDOW
        | primary::MOV_DR
        | primary::UNCONDITIONAL_IO
        | primary::MSR_BITMAPS
        | primary::MONITOR
        | primary::PAUSE
        | primary::SECONDARY;
    /// Secondary. What hides VMX changes nothing that a guest sees; XSAVES needs what CPUID does not offer.
    pub const SECONDARY: u32 = secondary::EPT
        | secondary::RDTSCP
        | secondary::VPID
        | secondary::WBINVD
        | secondary::UNRESTRICTED_GUEST
        | secondary::INVPCID
        | secondary::CONCEAL_VMX
        | secondary::XSAVES;
}
