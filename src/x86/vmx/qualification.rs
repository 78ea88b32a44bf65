//! The exit qualification, by exit reason (SDM vol. 3, 28.2.1).

/// Task switches (table 28-2).
pub mod task_switch {
    /// The selector of the new TSS.
    pub const SELECTOR: u64 = 0xffff;
    /// Where the source stands.
    pub const SOURCE_SHIFT: u32 = 30;
    /// Source: CALL.
    pub const CALL: u64 = 0;
    /// Source: IRET.
    pub const IRET: u64 = 1;
    /// Source: JMP.
    pub const JMP: u64 = 2;
    /// Source: a task gate in the IDT.
    pub const GATE: u64 = 3;
}

/// Accesses to control registers (table 28-3).
pub mod cr {
    /// The register's number; 0 for CLTS and LMSW.
    pub const NUMBER: u64 = 0xf;
    /// Where the kind stands; it has two bits.
    pub const KIND_SHIFT: u32 = 4;
    /// MOV to it.
    pub const MOV_TO: u64 = 0;
    /// MOV from it.
    pub const MOV_FROM: u64 = 1;
    /// CLTS.
    pub const CLTS: u64 = 2;
    /// LMSW.
    pub const LMSW: u64 = 3;
    /// LMSW's operand is memory.
    pub const LMSW_MEMORY: u64 = 1 << 6;
    /// Where the general register's number stands (4 bits): RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
    pub const REGISTER_SHIFT: u32 = 8;
    /// Where LMSW's operand stands.
    pub const LMSW_SHIFT: u32 = 16;
}

/// MOV to and from debug registers (table 28-4).
pub mod dr {
    /// The register's number.
    pub const NUMBER: u64 = 7;
    /// MOV from it.
    pub const MOV_FROM: u64 = 1 << 4;
    /// Where the general register's number stands.
    pub const REGISTER_SHIFT: u32 = 8;
}

/// I/O instructions (table 28-5).
pub mod io {
    /// How many bytes, less one: 0, 1 or 3.
    pub const SIZE: u64 = 7;
    /// IN or INS.
    pub const IN: u64 = 1 << 3;
    /// INS or OUTS.
    pub const STRING: u64 = 1 << 4;
    /// REP.
    pub const REP: u64 = 1 << 5;
    /// The port is the instruction's immediate.
    pub const IMMEDIATE: u64 = 1 << 6;
    /// Where the port stands.
    pub const PORT_SHIFT: u32 = 16;
}

/// EPT violations (table 28-7).
pub mod ept {
    /// A load.
    pub const READ: u64 = 1 << 0;
    /// A store.
    pub const WRITE: u64 = 1 << 1;
    /// A fetch.
    pub const EXECUTE: u64 = 1 << 2;
    /// Loads are allowed there.
    pub const READABLE: u64 = 1 << 3;
    /// Stores are allowed there.
    pub const WRITABLE: u64 = 1 << 4;
    /// Fetches are allowed there.
    pub const EXECUTABLE: u64 = 1 << 5;
    /// The guest linear address is valid.
    pub const LINEAR_VALID: u64 = 1 << 7;
    /// The access was to what the linear address translates to, not to a page table.
    pub const TRANSLATED: u64 = 1 << 8;
    /// IRET had ended the blocking of NMIs.
    pub const NMI_UNBLOCKED: u64 = 1 << 12;
}

/// Entry failures of invalid guest state (28.7): which of them the processor tells.
pub mod invalid_guest {
    /// A PDPTE.
    pub const PDPTE: u64 = 2;
    /// An NMI is injected while MOV SS blocks it.
    pub const NMI: u64 = 3;
    /// The VMCS link pointer.
    pub const LINK_POINTER: u64 = 4;
}
