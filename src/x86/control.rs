//! Bits of RFLAGS, the control registers, EFER, XCR0 and the debug registers.

/// RFLAGS (SDM vol. 1, 3.4.3).
pub mod rflags {
    /// Carry.
    pub const CF: u64 = 1 << 0;
    /// Always set.
    pub const FIXED: u64 = 1 << 1;
    /// Parity of the low byte.
    pub const PF: u64 = 1 << 2;
    /// Auxiliary carry.
    pub const AF: u64 = 1 << 4;
    /// Zero.
    pub const ZF: u64 = 1 << 6;
    /// Sign.
    pub const SF: u64 = 1 << 7;
    /// Single step.
    pub const TF: u64 = 1 << 8;
    /// Interrupts enabled.
    pub const IF: u64 = 1 << 9;
    /// Direction of string instructions.
    pub const DF: u64 = 1 << 10;
    /// Overflow.
    pub const OF: u64 = 1 << 11;
    /// I/O privilege level, two bits.
    pub const IOPL: u64 = 3 << 12;
    /// How far left `IOPL` stands.
    pub const IOPL_SHIFT: u32 = 12;
    /// Nested task.
    pub const NT: u64 = 1 << 14;
    /// Resume: instruction breakpoints are ignored for one instruction.
    pub const RF: u64 = 1 << 16;
    /// Virtual-8086 mode.
    pub const VM: u64 = 1 << 17;
    /// Alignment check; with SMAP, access to user pages.
    pub const AC: u64 = 1 << 18;
    /// Virtual interrupt flag.
    pub const VIF: u64 = 1 << 19;
    /// Virtual interrupt pending.
    pub const VIP: u64 = 1 << 20;
    /// CPUID is there when this bit can be changed.
    pub const ID: u64 = 1 << 21;
    /// The six flags that arithmetic writes.
    pub const ARITHMETIC: u64 = CF | PF | AF | ZF | SF | OF;
    /// Every bit that is a flag.
    pub const DEFINED: u64 = ARITHMETIC | TF | IF | DF | IOPL | NT | RF | VM | AC | VIF | VIP | ID;
}

/// CR0 (SDM vol. 3, 2.5).
pub mod cr0 {
    /// Protected mode.
    pub const PE: u64 = 1 << 0;
    /// WAIT obeys TS.
    pub const MP: u64 = 1 << 1;
    /// No x87.
    pub const EM: u64 = 1 << 2;
    /// A task switch has happened: the next x87 or SSE instruction faults.
    pub const TS: u64 = 1 << 3;
    /// Extension type: always set.
    pub const ET: u64 = 1 << 4;
    /// x87 errors as #MF rather than by the interrupt controller.
    pub const NE: u64 = 1 << 5;
    /// Supervisor writes obey read-only pages.
    pub const WP: u64 = 1 << 16;
    /// RFLAGS.AC checks alignment.
    pub const AM: u64 = 1 << 18;
    /// Not write-through.
    pub const NW: u64 = 1 << 29;
    /// Caches off.
    pub const CD: u64 = 1 << 30;
    /// Paging.
    pub const PG: u64 = 1 << 31;
    /// Every bit that has a meaning.
    pub const DEFINED: u64 = PE | MP | EM | TS | ET | NE | WP | AM | NW | CD | PG;
}

/// CR4 (SDM vol. 3, 2.5).
pub mod cr4 {
    /// Virtual-8086 extensions.
    pub const VME: u64 = 1 << 0;
    /// Protected-mode virtual interrupts.
    pub const PVI: u64 = 1 << 1;
    /// RDTSC for the supervisor only.
    pub const TSD: u64 = 1 << 2;
    /// DR4 and DR5 are undefined.
    pub const DE: u64 = 1 << 3;
    /// 4 MiB pages without PAE.
    pub const PSE: u64 = 1 << 4;
    /// Physical address extension.
    pub const PAE: u64 = 1 << 5;
    /// Machine check enable.
    pub const MCE: u64 = 1 << 6;
    /// Global pages.
    pub const PGE: u64 = 1 << 7;
    /// RDPMC for user mode.
    pub const PCE: u64 = 1 << 8;
    /// The operating system saves with FXSAVE: SSE works.
    pub const OSFXSR: u64 = 1 << 9;
    /// SIMD floating point errors as #XM.
    pub const OSXMMEXCPT: u64 = 1 << 10;
    /// User-mode instruction prevention: SGDT, SIDT, SLDT, SMSW, STR.
    pub const UMIP: u64 = 1 << 11;
    /// 57-bit linear addresses.
    pub const LA57: u64 = 1 << 12;
    /// VMX.
    pub const VMXE: u64 = 1 << 13;
    /// SMX.
    pub const SMXE: u64 = 1 << 14;
    /// RDFSBASE and its family.
    pub const FSGSBASE: u64 = 1 << 16;
    /// Process-context identifiers.
    pub const PCIDE: u64 = 1 << 17;
    /// XSAVE and XCR0.
    pub const OSXSAVE: u64 = 1 << 18;
    /// The supervisor does not execute user pages.
    pub const SMEP: u64 = 1 << 20;
    /// The supervisor touches user pages only with RFLAGS.AC.
    pub const SMAP: u64 = 1 << 21;
    /// Protection keys of user pages.
    pub const PKE: u64 = 1 << 22;
    /// All those that the software CPU offers.
    pub const SOFTWARE: u64 = VME
        | PVI
        | TSD
        | DE
        | PSE
        | PAE
        | MCE
        | PGE
        | PCE
        | OSFXSR
        | OSXMMEXCPT
        | UMIP
        | FSGSBASE
        | PCIDE
        | OSXSAVE
        | SMEP
        | SMAP;
}

/// IA32_EFER (SDM vol. 3, 2.2.1).
pub mod efer {
    /// SYSCALL and SYSRET.
    pub const SCE: u64 = 1 << 0;
    /// Long mode, once paging is on.
    pub const LME: u64 = 1 << 8;
    /// Long mode is active; read-only.
    pub const LMA: u64 = 1 << 10;
    /// The no-execute bit of page table entries.
    pub const NXE: u64 = 1 << 11;
    /// Every bit that has a meaning.
    pub const DEFINED: u64 = SCE | LME | LMA | NXE;
}

/// XCR0 (SDM vol. 1, 13.3).
pub mod xcr0 {
    /// x87 state: always set.
    pub const X87: u64 = 1 << 0;
    /// XMM registers and MXCSR.
    pub const SSE: u64 = 1 << 1;
    /// Upper halves of YMM registers.
    pub const AVX: u64 = 1 << 2;
    /// Mask registers of AVX-512.
    pub const OPMASK: u64 = 1 << 5;
    /// Upper halves of the first 16 ZMM registers.
    pub const ZMM_HI256: u64 = 1 << 6;
    /// ZMM16 to ZMM31.
    pub const HI16_ZMM: u64 = 1 << 7;
    /// Rights of protection keys.
    pub const PKRU: u64 = 1 << 9;
}

/// Bits of CR3 (SDM vol. 3, 4.5).
pub mod cr3 {
    /// The process-context identifier, where CR4.PCIDE is set.
    pub const PCID: u64 = 0xfff;
    /// In the value written: keep the TLB's entries for this identifier.
    pub const NO_FLUSH: u64 = 1 << 63;
}

/// DR6 (SDM vol. 3, 18.2.3).
pub mod dr6 {
    /// Conditions of DR0 to DR3.
    pub const BREAKPOINTS: u64 = 0xf;
    /// A debug register was touched while DR7.GD was set.
    pub const BD: u64 = 1 << 13;
    /// Single step.
    pub const BS: u64 = 1 << 14;
    /// Task switch to a task with the T bit.
    pub const BT: u64 = 1 << 15;
    /// Clear inside a transactional region: always set here.
    pub const RTM: u64 = 1 << 16;
    /// Bits that read as one, and the value at reset.
    pub const FIXED: u64 = 0xffff_0ff0;
}

/// DR7 (SDM vol. 3, 18.2.4).
pub mod dr7 {
    /// Local and global enables of the four breakpoints: two bits each.
    pub const ENABLES: u64 = 0xff;
    /// The local enables, LE among them: a task switch clears them.
    pub const LOCAL: u64 = 0x155;
    /// Local exact.
    pub const LE: u64 = 1 << 8;
    /// Global exact.
    pub const GE: u64 = 1 << 9;
    /// General detect: touching a debug register faults.
    pub const GD: u64 = 1 << 13;
    /// Bit 10 is always set; also the value at reset.
    pub const FIXED: u64 = 1 << 10;
    /// What a write changes: bit 11 (RTM) belongs to a feature that is not offered, bits 12, 14 and 15 are always clear.
    pub const WRITABLE: u64 = 0xffff_23ff;
    /// Where the fields of breakpoint 0 begin: R/W (two bits), LEN (two bits); four bits a breakpoint.
    pub const FIELDS_SHIFT: u32 = 16;
    /// R/W: instruction execution.
    pub const EXECUTE: u64 = 0;
    /// R/W: data writes.
    pub const WRITE: u64 = 1;
    /// R/W: port reads and writes, with CR4.DE.
    pub const PORT: u64 = 2;
    /// R/W: data reads and writes.
    pub const ACCESS: u64 = 3;
}

/// Bits of an entry of a page table, of any level (SDM vol. 3, tables 4-14 to 4-20).
pub mod page {
    /// Present.
    pub const P: u64 = 1 << 0;
    /// Writable.
    pub const RW: u64 = 1 << 1;
    /// User mode may touch it.
    pub const US: u64 = 1 << 2;
    /// Write-through.
    pub const PWT: u64 = 1 << 3;
    /// Cache disabled.
    pub const PCD: u64 = 1 << 4;
    /// Accessed.
    pub const A: u64 = 1 << 5;
    /// Dirty.
    pub const D: u64 = 1 << 6;
    /// A large page, in a page directory or a page directory pointer table.
    pub const PS: u64 = 1 << 7;
    /// Global.
    pub const G: u64 = 1 << 8;
    /// No execution.
    pub const NX: u64 = 1 << 63;
}

/// Bits of a page fault's error code (SDM vol. 3, 4.7).
pub mod pf {
    /// The page was present: a protection violation.
    pub const P: u32 = 1 << 0;
    /// A write.
    pub const W: u32 = 1 << 1;
    /// From user mode.
    pub const U: u32 = 1 << 2;
    /// A reserved bit was set in an entry.
    pub const RSVD: u32 = 1 << 3;
    /// An instruction fetch.
    pub const I: u32 = 1 << 4;
}
