//! Feature bits of CPUID, named as in SDM vol. 2A, "CPUID". Only those that the table offers, or that an engine
//! must find in its host, have a name.

/// Leaf 1, ECX.
pub mod leaf1_ecx {
    /// SSE3.
    pub const SSE3: u32 = 1 << 0;
    /// PCLMULQDQ.
    pub const PCLMULQDQ: u32 = 1 << 1;
    /// MONITOR and MWAIT.
    pub const MONITOR: u32 = 1 << 3;
    /// VMX.
    pub const VMX: u32 = 1 << 5;
    /// SSSE3.
    pub const SSSE3: u32 = 1 << 9;
    /// FMA.
    pub const FMA: u32 = 1 << 12;
    /// CMPXCHG16B.
    pub const CMPXCHG16B: u32 = 1 << 13;
    /// Process-context identifiers.
    pub const PCID: u32 = 1 << 17;
    /// SSE4.1.
    pub const SSE4_1: u32 = 1 << 19;
    /// SSE4.2.
    pub const SSE4_2: u32 = 1 << 20;
    /// x2APIC.
    pub const X2APIC: u32 = 1 << 21;
    /// MOVBE.
    pub const MOVBE: u32 = 1 << 22;
    /// POPCNT.
    pub const POPCNT: u32 = 1 << 23;
    /// The local APIC timer counts down to a TSC value.
    pub const TSC_DEADLINE: u32 = 1 << 24;
    /// AES instructions.
    pub const AESNI: u32 = 1 << 25;
    /// XSAVE and its family.
    pub const XSAVE: u32 = 1 << 26;
    /// CR4.OSXSAVE is set.
    pub const OSXSAVE: u32 = 1 << 27;
    /// AVX.
    pub const AVX: u32 = 1 << 28;
    /// Half-precision conversion.
    pub const F16C: u32 = 1 << 29;
    /// RDRAND.
    pub const RDRAND: u32 = 1 << 30;
    /// A hypervisor is present; never set by a real processor.
    pub const HYPERVISOR: u32 = 1 << 31;
}

/// Leaf 1, EDX.
pub mod leaf1_edx {
    /// x87.
    pub const FPU: u32 = 1 << 0;
    /// Virtual-8086 extensions.
    pub const VME: u32 = 1 << 1;
    /// Debugging extensions: breakpoints on ports.
    pub const DE: u32 = 1 << 2;
    /// 4 MiB pages.
    pub const PSE: u32 = 1 << 3;
    /// RDTSC.
    pub const TSC: u32 = 1 << 4;
    /// RDMSR and WRMSR.
    pub const MSR: u32 = 1 << 5;
    /// Physical address extension.
    pub const PAE: u32 = 1 << 6;
    /// Machine check exception.
    pub const MCE: u32 = 1 << 7;
    /// CMPXCHG8B.
    pub const CX8: u32 = 1 << 8;
    /// A local APIC, where it is not switched off.
    pub const APIC: u32 = 1 << 9;
    /// SYSENTER and SYSEXIT.
    pub const SEP: u32 = 1 << 11;
    /// Memory type range registers.
    pub const MTRR: u32 = 1 << 12;
    /// Global pages.
    pub const PGE: u32 = 1 << 13;
    /// Machine check architecture.
    pub const MCA: u32 = 1 << 14;
    /// CMOV, FCMOV and FCOMI.
    pub const CMOV: u32 = 1 << 15;
    /// Page attribute table.
    pub const PAT: u32 = 1 << 16;
    /// 4 MiB pages above 4 GiB.
    pub const PSE36: u32 = 1 << 17;
    /// CLFLUSH.
    pub const CLFSH: u32 = 1 << 19;
    /// MMX.
    pub const MMX: u32 = 1 << 23;
    /// FXSAVE and FXRSTOR.
    pub const FXSR: u32 = 1 << 24;
    /// SSE.
    pub const SSE: u32 = 1 << 25;
    /// SSE2.
    pub const SSE2: u32 = 1 << 26;
    /// Self-snooping caches.
    pub const SS: u32 = 1 << 27;
    /// More than one logical processor in a package.
    pub const HTT: u32 = 1 << 28;
}

/// Leaf 7, subleaf 0, EBX.
pub mod leaf7_ebx {
    /// RDFSBASE and its family.
    pub const FSGSBASE: u32 = 1 << 0;
    /// IA32_TSC_ADJUST.
    pub const TSC_ADJUST: u32 = 1 << 1;
    /// First group of bit manipulation.
    pub const BMI1: u32 = 1 << 3;
    /// AVX2.
    pub const AVX2: u32 = 1 << 5;
    /// FDP is updated only by x87 exceptions.
    pub const FDP_EXCPTN_ONLY: u32 = 1 << 6;
    /// Supervisor-mode execution prevention.
    pub const SMEP: u32 = 1 << 7;
    /// Second group of bit manipulation.
    pub const BMI2: u32 = 1 << 8;
    /// Fast REP MOVSB and STOSB.
    pub const ERMS: u32 = 1 << 9;
    /// INVPCID.
    pub const INVPCID: u32 = 1 << 10;
    /// FCS and FDS are not saved.
    pub const FPU_CS_DS_DEPRECATED: u32 = 1 << 13;
    /// RDSEED.
    pub const RDSEED: u32 = 1 << 18;
    /// ADCX and ADOX.
    pub const ADX: u32 = 1 << 19;
    /// Supervisor-mode access prevention.
    pub const SMAP: u32 = 1 << 20;
    /// CLFLUSHOPT.
    pub const CLFLUSHOPT: u32 = 1 << 23;
    /// SHA instructions.
    pub const SHA: u32 = 1 << 29;
}

/// Leaf 7, subleaf 0, ECX.
pub mod leaf7_ecx {
    /// User-mode instruction prevention.
    pub const UMIP: u32 = 1 << 2;
}

/// Leaf 7, subleaf 0, EDX.
pub mod leaf7_edx {
    /// Fast short REP MOVSB.
    pub const FSRM: u32 = 1 << 4;
    /// IA32_ARCH_CAPABILITIES.
    pub const ARCH_CAPABILITIES: u32 = 1 << 29;
}

/// Leaf 6, EAX.
pub mod leaf6_eax {
    /// The local APIC timer always runs.
    pub const ARAT: u32 = 1 << 2;
}

/// Leaf 0x8000_0001, ECX.
pub mod extended1_ecx {
    /// LAHF and SAHF in 64-bit mode.
    pub const LAHF: u32 = 1 << 0;
    /// LZCNT.
    pub const LZCNT: u32 = 1 << 5;
}

/// Leaf 0x8000_0001, EDX.
pub mod extended1_edx {
    /// SYSCALL and SYSRET.
    pub const SYSCALL: u32 = 1 << 11;
    /// No-execute pages.
    pub const NX: u32 = 1 << 20;
    /// 1 GiB pages.
    pub const PAGE1GB: u32 = 1 << 26;
    /// RDTSCP and IA32_TSC_AUX.
    pub const RDTSCP: u32 = 1 << 27;
    /// Long mode.
    pub const LM: u32 = 1 << 29;
}

/// Leaf 0x8000_0007, EDX.
pub mod extended7_edx {
    /// The TSC runs at one rate whatever the processor does.
    pub const INVARIANT_TSC: u32 = 1 << 8;
}
