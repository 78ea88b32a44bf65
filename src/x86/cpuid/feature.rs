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
    /// AVX-512: foundation.
    pub const AVX512F: u32 = 1 << 16;
    /// AVX-512: dwords and qwords.
    pub const AVX512DQ: u32 = 1 << 17;
    /// RDSEED.
    pub const RDSEED: u32 = 1 << 18;
    /// ADCX and ADOX.
    pub const ADX: u32 = 1 << 19;
    /// Supervisor-mode access prevention.
    pub const SMAP: u32 = 1 << 20;
    /// AVX-512: 52-bit multiply and add.
    pub const AVX512_IFMA: u32 = 1 << 21;
    /// CLFLUSHOPT.
    pub const CLFLUSHOPT: u32 = 1 << 23;
    /// CLWB.
    pub const CLWB: u32 = 1 << 24;
    /// AVX-512: conflict detection.
    pub const AVX512CD: u32 = 1 << 28;
    /// SHA instructions.
    pub const SHA: u32 = 1 << 29;
    /// AVX-512: bytes and words.
    pub const AVX512BW: u32 = 1 << 30;
    /// AVX-512: shorter vectors.
    pub const AVX512VL: u32 = 1 << 31;
}

/// Leaf 7, subleaf 0, ECX.
pub mod leaf7_ecx {
    /// AVX-512: permutation of bytes.
    pub const AVX512_VBMI: u32 = 1 << 1;
    /// User-mode instruction prevention.
    pub const UMIP: u32 = 1 << 2;
    /// Protection keys of user pages.
    pub const PKU: u32 = 1 << 3;
    /// CR4.PKE is set.
    pub const OSPKE: u32 = 1 << 4;
    /// AVX-512: compression of bytes.
    pub const AVX512_VBMI2: u32 = 1 << 6;
    /// Galois fields.
    pub const GFNI: u32 = 1 << 8;
    /// AES on longer vectors.
    pub const VAES: u32 = 1 << 9;
    /// PCLMULQDQ on longer vectors.
    pub const VPCLMULQDQ: u32 = 1 << 10;
    /// AVX-512: neural networks.
    pub const AVX512_VNNI: u32 = 1 << 11;
    /// AVX-512: bit algorithms.
    pub const AVX512_BITALG: u32 = 1 << 12;
    /// AVX-512: population counts.
    pub const AVX512_VPOPCNTDQ: u32 = 1 << 14;
    /// RDPID.
    pub const RDPID: u32 = 1 << 22;
}

/// Leaf 7, subleaf 0, EDX.
pub mod leaf7_edx {
    /// Fast short REP MOVSB.
    pub const FSRM: u32 = 1 << 4;
    /// VERW clears buffers.
    pub const MD_CLEAR: u32 = 1 << 10;
    /// SERIALIZE.
    pub const SERIALIZE: u32 = 1 << 14;
    /// IA32_SPEC_CTRL with IBRS, and IA32_PRED_CMD.
    pub const SPEC_CTRL: u32 = 1 << 26;
    /// IA32_SPEC_CTRL has STIBP.
    pub const STIBP: u32 = 1 << 27;
    /// IA32_FLUSH_CMD.
    pub const L1D_FLUSH: u32 = 1 << 28;
    /// IA32_ARCH_CAPABILITIES.
    pub const ARCH_CAPABILITIES: u32 = 1 << 29;
    /// IA32_SPEC_CTRL has SSBD.
    pub const SSBD: u32 = 1 << 31;
}

/// Leaf 7, subleaf 1, EAX.
pub mod leaf7_1_eax {
    /// Neural networks in AVX.
    pub const AVX_VNNI: u32 = 1 << 4;
    /// AVX-512: short floats.
    pub const AVX512_BF16: u32 = 1 << 5;
    /// Fast REP MOVSB of no bytes.
    pub const FZRM: u32 = 1 << 10;
    /// Fast short REP STOSB.
    pub const FSRS: u32 = 1 << 11;
    /// Fast short REP CMPSB and SCASB.
    pub const FSRC: u32 = 1 << 12;
    /// 52-bit multiply and add in AVX.
    pub const AVX_IFMA: u32 = 1 << 23;
}

/// Leaf 7, subleaf 2, EDX: further bits of IA32_SPEC_CTRL.
pub mod leaf7_2_edx {
    /// No fast store forwarding predictor.
    pub const PSFD: u32 = 1 << 0;
    /// Indirect predictor control.
    pub const IPRED_CTRL: u32 = 1 << 1;
    /// Return stack alternates control.
    pub const RRSBA_CTRL: u32 = 1 << 2;
    /// Branch history injection control.
    pub const BHI_CTRL: u32 = 1 << 4;
    /// No timing that depends on MXCSR.
    pub const MCDT_NO: u32 = 1 << 5;
}

/// Leaf 0xD, subleaf 1, EAX.
pub mod leafd_1_eax {
    /// XSAVEOPT.
    pub const XSAVEOPT: u32 = 1 << 0;
    /// XSAVEC and the compact form.
    pub const XSAVEC: u32 = 1 << 1;
    /// XGETBV with ECX = 1.
    pub const XGETBV_1: u32 = 1 << 2;
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
    /// CR8 by MOV CR0 with LOCK (AMD).
    pub const CR8_LEGACY: u32 = 1 << 4;
    /// LZCNT.
    pub const LZCNT: u32 = 1 << 5;
    /// SSE4A (AMD).
    pub const SSE4A: u32 = 1 << 6;
    /// Misaligned operands of SSE (AMD).
    pub const MISALIGNSSE: u32 = 1 << 7;
    /// PREFETCHW.
    pub const PREFETCHW: u32 = 1 << 8;
    /// Leaves 0x8000_001D and 0x8000_001E (AMD).
    pub const TOPOEXT: u32 = 1 << 22;
}

/// Leaf 0x8000_0001, EDX.
pub mod extended1_edx {
    /// SYSCALL and SYSRET.
    pub const SYSCALL: u32 = 1 << 11;
    /// No-execute pages.
    pub const NX: u32 = 1 << 20;
    /// AMD's additions to MMX.
    pub const MMXEXT: u32 = 1 << 22;
    /// FXSAVE without XMM registers in kernel mode (AMD).
    pub const FFXSR: u32 = 1 << 25;
    /// 1 GiB pages.
    pub const PAGE1GB: u32 = 1 << 26;
    /// RDTSCP and IA32_TSC_AUX.
    pub const RDTSCP: u32 = 1 << 27;
    /// Long mode.
    pub const LM: u32 = 1 << 29;
    /// The bits that AMD's processors repeat from leaf 1, EDX; but for APIC, which changes there.
    pub const OF_LEAF1: u32 = 0x0183_f1ff;
}

/// Leaf 0x8000_0007, EDX.
pub mod extended7_edx {
    /// The TSC runs at one rate whatever the processor does.
    pub const INVARIANT_TSC: u32 = 1 << 8;
}

/// Leaf 0x8000_0008, EBX (AMD).
pub mod extended8_ebx {
    /// CLZERO.
    pub const CLZERO: u32 = 1 << 0;
    /// XSAVE always saves error pointers.
    pub const XSAVEERPTR: u32 = 1 << 2;
    /// WBNOINVD.
    pub const WBNOINVD: u32 = 1 << 9;
    /// Indirect branch prediction barrier.
    pub const IBPB: u32 = 1 << 12;
    /// Indirect branch restricted speculation.
    pub const IBRS: u32 = 1 << 14;
    /// Single-thread indirect branch prediction.
    pub const STIBP: u32 = 1 << 15;
    /// IBRS may stay on.
    pub const IBRS_ALWAYS_ON: u32 = 1 << 16;
    /// STIBP may stay on.
    pub const STIBP_ALWAYS_ON: u32 = 1 << 17;
    /// IBRS is better than software's ways.
    pub const IBRS_PREFERRED: u32 = 1 << 18;
    /// Speculative store bypass can be switched off.
    pub const SSBD: u32 = 1 << 24;
    /// The same by another MSR, in a guest.
    pub const VIRT_SSBD: u32 = 1 << 25;
    /// No speculative store bypass.
    pub const SSB_NO: u32 = 1 << 26;
    /// No branch type confusion.
    pub const BTC_NO: u32 = 1 << 29;
    /// The barrier clears return predictions too.
    pub const IBPB_RET: u32 = 1 << 30;
}

/// Leaf 0x8000_0021, EAX (AMD).
pub mod extended21_eax {
    /// LFENCE serializes.
    pub const LFENCE_SERIALIZING: u32 = 1 << 2;
    /// VERW clears buffers.
    pub const VERW_CLEAR: u32 = 1 << 5;
    /// A null selector clears its base.
    pub const NULL_SELECT_CLEARS_BASE: u32 = 1 << 6;
    /// IBRS that goes with the privilege level.
    pub const AUTOMATIC_IBRS: u32 = 1 << 8;
    /// Selective branch predictor barrier.
    pub const SBPB: u32 = 1 << 27;
    /// The barrier clears branch types.
    pub const IBPB_BRTYPE: u32 = 1 << 28;
    /// No speculative return stack overflow.
    pub const SRSO_NO: u32 = 1 << 29;
}
