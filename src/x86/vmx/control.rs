//! The bits of the VMCS's controls (SDM vol. 3, 25.6 to 25.8), of the guest's non-register state (25.4.2), and the
//! events that stop the guest by bitmap.

/// Pin-based VM-execution controls (table 25-5).
pub mod pin {
    /// External interrupts exit.
    pub const EXTERNAL_INTERRUPT: u32 = 1 << 0;
    /// NMIs exit.
    pub const NMI: u32 = 1 << 3;
    /// NMI blocking is the guest's own; needs `NMI`.
    pub const VIRTUAL_NMI: u32 = 1 << 5;
    /// The preemption timer counts down.
    pub const PREEMPTION_TIMER: u32 = 1 << 6;
    /// Posted interrupts are processed.
    pub const POSTED_INTERRUPTS: u32 = 1 << 7;
}

/// Primary processor-based VM-execution controls (table 25-6).
pub mod primary {
    /// Exit as soon as an interrupt could be taken.
    pub const INTERRUPT_WINDOW: u32 = 1 << 2;
    /// RDTSC, RDTSCP and RDMSR of the TSC add `TSC_OFFSET`.
    pub const TSC_OFFSETTING: u32 = 1 << 3;
    /// HLT exits.
    pub const HLT: u32 = 1 << 7;
    /// INVLPG exits.
    pub const INVLPG: u32 = 1 << 9;
    /// MWAIT exits.
    pub const MWAIT: u32 = 1 << 10;
    /// RDPMC exits.
    pub const RDPMC: u32 = 1 << 11;
    /// RDTSC and RDTSCP exit.
    pub const RDTSC: u32 = 1 << 12;
    /// MOV to CR3 exits, but for the CR3 targets.
    pub const CR3_LOAD: u32 = 1 << 15;
    /// MOV from CR3 exits.
    pub const CR3_STORE: u32 = 1 << 16;
    /// MOV to CR8 exits.
    pub const CR8_LOAD: u32 = 1 << 19;
    /// MOV from CR8 exits.
    pub const CR8_STORE: u32 = 1 << 20;
    /// CR8 lies in the virtual-APIC page.
    pub const TPR_SHADOW: u32 = 1 << 21;
    /// Exit as soon as an NMI could be taken; needs virtual NMIs.
    pub const NMI_WINDOW: u32 = 1 << 22;
    /// MOV to and from debug registers exits.
    pub const MOV_DR: u32 = 1 << 23;
    /// Every IN, OUT, INS and OUTS exits.
    pub const UNCONDITIONAL_IO: u32 = 1 << 24;
    /// IN, OUT, INS and OUTS exit as the I/O bitmaps say.
    pub const IO_BITMAPS: u32 = 1 << 25;
    /// Exit after each instruction.
    pub const MONITOR_TRAP: u32 = 1 << 27;
    /// RDMSR and WRMSR exit as the MSR bitmaps say; without, always.
    pub const MSR_BITMAPS: u32 = 1 << 28;
    /// MONITOR exits.
    pub const MONITOR: u32 = 1 << 29;
    /// PAUSE exits.
    pub const PAUSE: u32 = 1 << 30;
    /// The secondary controls count; without, they are all zero.
    pub const SECONDARY: u32 = 1 << 31;
}

/// Secondary processor-based VM-execution controls (table 25-7).
pub mod secondary {
    /// Accesses to the APIC-access page are treated specially.
    pub const VIRTUALIZE_APIC: u32 = 1 << 0;
    /// Extended page tables.
    pub const EPT: u32 = 1 << 1;
    /// LGDT, SGDT and their family exit.
    pub const DESCRIPTOR_TABLE: u32 = 1 << 2;
    /// RDTSCP exists.
    pub const RDTSCP: u32 = 1 << 3;
    /// The MSRs of the x2APIC are treated specially.
    pub const VIRTUALIZE_X2APIC: u32 = 1 << 4;
    /// Translations are tagged with the VPID.
    pub const VPID: u32 = 1 << 5;
    /// WBINVD and WBNOINVD exit.
    pub const WBINVD: u32 = 1 << 6;
    /// Real mode and unpaged protected mode are allowed; needs `EPT`.
    pub const UNRESTRICTED_GUEST: u32 = 1 << 7;
    /// Reads of APIC registers come from the virtual-APIC page.
    pub const APIC_REGISTERS: u32 = 1 << 8;
    /// Virtual interrupts are evaluated and delivered.
    pub const VIRTUAL_INTERRUPTS: u32 = 1 << 9;
    /// Loops of PAUSE exit.
    pub const PAUSE_LOOP: u32 = 1 << 10;
    /// RDRAND exits.
    pub const RDRAND: u32 = 1 << 11;
    /// INVPCID exists.
    pub const INVPCID: u32 = 1 << 12;
    /// VMFUNC exists.
    pub const VMFUNC: u32 = 1 << 13;
    /// VMREAD and VMWRITE may use a shadow VMCS.
    pub const VMCS_SHADOWING: u32 = 1 << 14;
    /// ENCLS exits as a bitmap says.
    pub const ENCLS: u32 = 1 << 15;
    /// RDSEED exits.
    pub const RDSEED: u32 = 1 << 16;
    /// Page modification logging.
    pub const PML: u32 = 1 << 17;
    /// EPT violations may be exceptions.
    pub const EPT_VIOLATION_EXCEPTION: u32 = 1 << 18;
    /// Hides VMX operation from processor tracing.
    pub const CONCEAL_VMX: u32 = 1 << 19;
    /// XSAVES and XRSTORS exist.
    pub const XSAVES: u32 = 1 << 20;
    /// EPT distinguishes execution by user and supervisor.
    pub const MODE_BASED_EXECUTE: u32 = 1 << 22;
    /// TPAUSE, UMONITOR and UMWAIT exist.
    pub const USER_WAIT: u32 = 1 << 26;
    /// The TSC is scaled.
    pub const TSC_SCALING: u32 = 1 << 25;
}

/// VM-exit controls (table 25-13).
pub mod exit {
    /// DR7 and IA32_DEBUGCTL are saved.
    pub const SAVE_DEBUG: u32 = 1 << 2;
    /// The host is in 64-bit mode.
    pub const HOST_64: u32 = 1 << 9;
    /// IA32_PERF_GLOBAL_CTRL is loaded.
    pub const LOAD_PERF_GLOBAL_CTRL: u32 = 1 << 12;
    /// External interrupts are acknowledged, and their vectors told.
    pub const ACKNOWLEDGE_INTERRUPT: u32 = 1 << 15;
    /// IA32_PAT is saved.
    pub const SAVE_PAT: u32 = 1 << 18;
    /// IA32_PAT is loaded.
    pub const LOAD_PAT: u32 = 1 << 19;
    /// IA32_EFER is saved.
    pub const SAVE_EFER: u32 = 1 << 20;
    /// IA32_EFER is loaded.
    pub const LOAD_EFER: u32 = 1 << 21;
    /// What the preemption timer has left is saved.
    pub const SAVE_PREEMPTION_TIMER: u32 = 1 << 22;
}

/// VM-entry controls (table 25-15).
pub mod entry {
    /// DR7 and IA32_DEBUGCTL are loaded.
    pub const LOAD_DEBUG: u32 = 1 << 2;
    /// The guest is in IA-32e mode: equals its EFER.LMA.
    pub const IA32E_GUEST: u32 = 1 << 9;
    /// Enters system management mode.
    pub const ENTRY_TO_SMM: u32 = 1 << 10;
    /// Ends the dual-monitor treatment.
    pub const DEACTIVATE_DUAL_MONITOR: u32 = 1 << 11;
    /// IA32_PERF_GLOBAL_CTRL is loaded.
    pub const LOAD_PERF_GLOBAL_CTRL: u32 = 1 << 13;
    /// IA32_PAT is loaded.
    pub const LOAD_PAT: u32 = 1 << 14;
    /// IA32_EFER is loaded.
    pub const LOAD_EFER: u32 = 1 << 15;
    /// IA32_BNDCFGS is loaded.
    pub const LOAD_BNDCFGS: u32 = 1 << 16;
}

/// The guest's interruptibility state (table 25-3).
pub mod interruptibility {
    /// The shadow of STI.
    pub const STI: u32 = 1 << 0;
    /// The shadow of MOV SS or POP SS.
    pub const MOV_SS: u32 = 1 << 1;
    /// SMIs are blocked.
    pub const SMI: u32 = 1 << 2;
    /// NMIs are blocked: the guest's own ones, where NMIs are virtual.
    pub const NMI: u32 = 1 << 3;
    /// Every bit that has a meaning.
    pub const DEFINED: u32 = 0x1f;
}

/// The guest's activity state (25.4.2).
pub mod activity {
    /// Executes instructions.
    pub const ACTIVE: u32 = 0;
    /// Waits after HLT.
    pub const HLT: u32 = 1;
    /// Has shut down after a triple fault.
    pub const SHUTDOWN: u32 = 2;
    /// Waits for a start-up message.
    pub const WAIT_FOR_SIPI: u32 = 3;
}

/// The guest's pending debug exceptions (table 25-4).
pub mod pending_debug {
    /// Conditions of DR0 to DR3.
    pub const BREAKPOINTS: u64 = 0xf;
    /// One of them is enabled in DR7.
    pub const ENABLED: u64 = 1 << 12;
    /// Single step.
    pub const BS: u64 = 1 << 14;
    /// Inside a transactional region.
    pub const RTM: u64 = 1 << 16;
}
