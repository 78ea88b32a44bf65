//! MSR numbers (SDM vol. 4, table 2-2), and the bits and fixed values of those that have any.

/// Machine check address of the Pentium.
pub const P5_MC_ADDR: u32 = 0x0;
/// Machine check type of the Pentium.
pub const P5_MC_TYPE: u32 = 0x1;
/// The time-stamp counter.
pub const TSC: u32 = 0x10;
/// Which socket a microcode update must fit.
pub const PLATFORM_ID: u32 = 0x17;
/// The local APIC's base address and mode.
pub const APIC_BASE: u32 = 0x1b;
/// What VMX and SGX are locked to.
pub const FEATURE_CONTROL: u32 = 0x3a;
/// What software has added to the time-stamp counter.
pub const TSC_ADJUST: u32 = 0x3b;
/// Speculation control.
pub const SPEC_CTRL: u32 = 0x48;
/// Prediction barrier command.
pub const PRED_CMD: u32 = 0x49;
/// Starts a microcode update.
pub const BIOS_UPDT_TRIG: u32 = 0x79;
/// The microcode's revision, in the upper half.
pub const BIOS_SIGN_ID: u32 = 0x8b;
/// Platform information: ratios.
pub const PLATFORM_INFO: u32 = 0xce;
/// What the MTRRs can do.
pub const MTRR_CAP: u32 = 0xfe;
/// Speculation facts.
pub const ARCH_CAPABILITIES: u32 = 0x10a;
/// SYSENTER's code segment.
pub const SYSENTER_CS: u32 = 0x174;
/// SYSENTER's stack pointer.
pub const SYSENTER_ESP: u32 = 0x175;
/// SYSENTER's instruction pointer.
pub const SYSENTER_EIP: u32 = 0x176;
/// Machine check capabilities: the number of banks and more.
pub const MCG_CAP: u32 = 0x179;
/// Machine check status.
pub const MCG_STATUS: u32 = 0x17a;
/// Machine check control.
pub const MCG_CTL: u32 = 0x17b;
/// Miscellaneous features.
pub const MISC_ENABLE: u32 = 0x1a0;
/// Debug control: last branch recording.
pub const DEBUGCTL: u32 = 0x1d9;
/// The first of the variable MTRRs: base and mask alternate.
pub const MTRR_PHYSBASE0: u32 = 0x200;
/// The mask of the first variable MTRR.
pub const MTRR_PHYSMASK0: u32 = 0x201;
/// Memory types of the first 512 KiB, 64 KiB each.
pub const MTRR_FIX64K_00000: u32 = 0x250;
/// Memory types of 0x8_0000 to 0x9_ffff, 16 KiB each.
pub const MTRR_FIX16K_80000: u32 = 0x258;
/// Memory types of 0xa_0000 to 0xb_ffff, 16 KiB each.
pub const MTRR_FIX16K_A0000: u32 = 0x259;
/// Memory types of 0xc_0000 to 0xc_7fff, 4 KiB each; seven more follow, to 0x26f.
pub const MTRR_FIX4K_C0000: u32 = 0x268;
/// The last of the fixed MTRRs.
pub const MTRR_FIX4K_F8000: u32 = 0x26f;
/// Page attribute table.
pub const PAT: u32 = 0x277;
/// Default memory type, and whether the MTRRs are on.
pub const MTRR_DEF_TYPE: u32 = 0x2ff;
/// Control of the first machine check bank.
pub const MC0_CTL: u32 = 0x400;
/// The local APIC timer's deadline in TSC ticks.
pub const TSC_DEADLINE: u32 = 0x6e0;
/// The first of the x2APIC's registers.
pub const X2APIC_FIRST: u32 = 0x800;
/// The last MSR that the architecture reserves for the x2APIC.
pub const X2APIC_LAST: u32 = 0x8ff;
/// Supervisor state that XSAVES saves.
pub const XSS: u32 = 0xda0;
/// Extended features: long mode, SYSCALL, NX.
pub const EFER: u32 = 0xc000_0080;
/// Segments of SYSCALL and SYSRET.
pub const STAR: u32 = 0xc000_0081;
/// Where SYSCALL goes from 64-bit code.
pub const LSTAR: u32 = 0xc000_0082;
/// Where SYSCALL would go from compatibility mode.
pub const CSTAR: u32 = 0xc000_0083;
/// Flags that SYSCALL clears.
pub const FMASK: u32 = 0xc000_0084;
/// Base of FS.
pub const FS_BASE: u32 = 0xc000_0100;
/// Base of GS.
pub const GS_BASE: u32 = 0xc000_0101;
/// What SWAPGS exchanges with the base of GS.
pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
/// What RDTSCP gives in ECX.
pub const TSC_AUX: u32 = 0xc000_0103;

/// Bits of IA32_APIC_BASE (SDM vol. 3, 11.4.4 and 11.12.1).
pub mod apic_base {
    /// This is the processor that starts first.
    pub const BSP: u64 = 1 << 8;
    /// x2APIC mode.
    pub const X2APIC: u64 = 1 << 10;
    /// The local APIC is on.
    pub const ENABLE: u64 = 1 << 11;
}

/// Bits of IA32_MISC_ENABLE.
pub mod misc_enable {
    /// Fast string instructions. Linux gives up ERMS where this is clear.
    pub const FAST_STRING: u64 = 1 << 0;
    /// There is no branch trace store.
    pub const BTS_UNAVAILABLE: u64 = 1 << 11;
    /// There is no event-based sampling.
    pub const PEBS_UNAVAILABLE: u64 = 1 << 12;
    /// CPUID shows leaves 0 to 3 only.
    pub const LIMIT_CPUID: u64 = 1 << 22;
    /// The value at reset.
    pub const RESET: u64 = FAST_STRING | BTS_UNAVAILABLE | PEBS_UNAVAILABLE;
}

/// Bits of IA32_ARCH_CAPABILITIES.
pub mod arch_capabilities {
    /// No rogue data cache load (Meltdown, L1TF).
    pub const RDCL_NO: u64 = 1 << 0;
    /// The first-level cache need not be flushed before entering a guest.
    pub const SKIP_L1DFL_VMENTRY: u64 = 1 << 3;
    /// No speculative store bypass.
    pub const SSB_NO: u64 = 1 << 4;
    /// No microarchitectural data sampling.
    pub const MDS_NO: u64 = 1 << 5;
    /// No machine check on page size change.
    pub const IF_PSCHANGE_MC_NO: u64 = 1 << 6;
    /// No transactional asynchronous abort.
    pub const TAA_NO: u64 = 1 << 8;
    /// No shared buffer data read.
    pub const SBDR_SSDP_NO: u64 = 1 << 13;
    /// No fill buffer stale data propagation.
    pub const FBSDP_NO: u64 = 1 << 14;
    /// No primary stale data propagation.
    pub const PSDP_NO: u64 = 1 << 15;
    /// No branch history injection.
    pub const BHI_NO: u64 = 1 << 20;
    /// No return stack buffer prediction behind a barrier.
    pub const PBRSB_NO: u64 = 1 << 24;
    /// No gather data sampling.
    pub const GDS_NO: u64 = 1 << 26;
    /// No register file data sampling.
    pub const RFDS_NO: u64 = 1 << 27;
    /// No indirect target selection.
    pub const ITS_NO: u64 = 1 << 62;
    /// What holds of a processor that never speculates: all of it.
    pub const IN_ORDER: u64 = RDCL_NO
        | SKIP_L1DFL_VMENTRY
        | SSB_NO
        | MDS_NO
        | IF_PSCHANGE_MC_NO
        | TAA_NO
        | SBDR_SSDP_NO
        | FBSDP_NO
        | PSDP_NO
        | BHI_NO
        | PBRSB_NO
        | GDS_NO
        | RFDS_NO
        | ITS_NO;
}

/// IA32_MTRRCAP, IA32_MTRR_DEF_TYPE and the variable MTRRs' masks (SDM vol. 3, 12.11).
pub mod mtrr {
    /// How many variable MTRRs there are, the low byte of IA32_MTRRCAP.
    pub const VARIABLE: u64 = 8;
    /// The capabilities: `VARIABLE` ranges, fixed ranges (bit 8), write combining (bit 10).
    pub const CAP: u64 = VARIABLE | 1 << 8 | 1 << 10;
    /// In the default type: the fixed ranges are on.
    pub const FIXED_ENABLE: u64 = 1 << 10;
    /// In the default type: the MTRRs are on.
    pub const ENABLE: u64 = 1 << 11;
    /// In a mask: this range is on.
    pub const MASK_VALID: u64 = 1 << 11;
    /// Memory type: uncached.
    pub const UNCACHED: u64 = 0;
    /// Memory type: write combining.
    pub const WRITE_COMBINING: u64 = 1;
    /// Memory type: write through.
    pub const WRITE_THROUGH: u64 = 4;
    /// Memory type: write protected.
    pub const WRITE_PROTECTED: u64 = 5;
    /// Memory type: write back.
    pub const WRITE_BACK: u64 = 6;
}

/// IA32_PAT at reset (SDM vol. 3, 12.12.4).
pub const PAT_RESET: u64 = 0x0007_0406_0007_0406;
