//! The architectural state of a vCPU, as emitted code finds it: integers only, every bit pattern valid.

/// A segment register with its hidden part.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// The selector.
    pub selector: u16,
    /// Access rights as a VMCS holds them: type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15 (SDM volume 3,
    /// table 25-2). A segment that may not be used has P clear.
    pub rights: u16,
    /// The limit in bytes, already scaled by the granularity.
    pub limit: u32,
    /// The linear base address.
    pub base: u64,
}

/// GDTR or IDTR.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Descriptors {
    /// The linear address of the table.
    pub base: u64,
    /// The offset of its last byte.
    pub limit: u16,
}

/// The x87 unit. MMX register n is `st[n].0`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fpu {
    /// The physical registers R0 to R7: the significand (or MMX value) and sign with exponent.
    pub registers: [(u64, u16); 8],
    /// The control word.
    pub control: u16,
    /// The status word without TOP, which is `top`.
    pub status: u16,
    /// TOP: the physical number of ST(0), 0 to 7.
    pub top: u8,
    /// One bit a physical register: set where it is not empty (the abridged tag word of FXSAVE).
    pub valid: u8,
    /// The last instruction's opcode, 11 bits.
    pub opcode: u16,
    /// Its offset. (CPUID says that selectors are not kept.)
    pub instruction: u64,
    /// Its operand's offset.
    pub operand: u64,
}

/// Model-specific registers that have no other place in `State`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the SDM's")]
pub struct Msrs {
    pub efer: u64,
    pub star: u64,
    pub lstar: u64,
    pub cstar: u64,
    pub fmask: u64,
    pub kernel_gs_base: u64,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub tsc_aux: u64,
    pub tsc_adjust: u64,
    /// What is added to machine time to give the TSC.
    pub tsc_offset: u64,
    pub pat: u64,
    pub misc_enable: u64,
    pub mtrr_def_type: u64,
    pub mtrr_fixed: [u64; 11],
    /// PHYSBASEn, PHYSMASKn in turn.
    pub mtrr_variable: [u64; 16],
}

/// All that the guest can observe of one vCPU, the local APIC apart.
#[repr(C)]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
    pub gpr: [u64; 16],
    /// The address of the next instruction; of the current one's successor while one is executed.
    pub rip: u64,
    /// RFLAGS: architectural at block edges; the interpreter keeps the six arithmetic flags elsewhere meanwhile.
    pub rflags: u64,
    /// ES, CS, SS, DS, FS, GS, LDTR, TR.
    pub segments: [Segment; 8],
    /// XMM0 to XMM15.
    pub xmm: [u128; 16],
    /// The SSE control and status register.
    pub mxcsr: u32,
    /// The x87 unit and MMX.
    pub fpu: Fpu,
    /// GDTR.
    pub gdtr: Descriptors,
    /// IDTR.
    pub idtr: Descriptors,
    /// Control register 0.
    pub cr0: u64,
    /// The address of the last page fault.
    pub cr2: u64,
    /// The page tables' root, with PCID.
    pub cr3: u64,
    /// Control register 4.
    pub cr4: u64,
    /// The extended state that the operating system enabled.
    pub xcr0: u64,
    /// The four page directory pointers of PAE paging, loaded with CR3.
    pub pdptes: [u64; 4],
    /// DR0 to DR3, the breakpoints.
    pub breakpoints: [u64; 4],
    /// Debug status.
    pub dr6: u64,
    /// Debug control.
    pub dr7: u64,
    /// The others.
    pub msrs: Msrs,
}

impl State {
    /// The number of a segment register in `segments`.
    pub const ES: usize = 0;
    /// See `ES`.
    pub const CS: usize = 1;
    /// See `ES`.
    pub const SS: usize = 2;
    /// See `ES`.
    pub const DS: usize = 3;
    /// See `ES`.
    pub const FS: usize = 4;
    /// See `ES`.
    pub const GS: usize = 5;
    /// See `ES`.
    pub const LDTR: usize = 6;
    /// See `ES`.
    pub const TR: usize = 7;
}
