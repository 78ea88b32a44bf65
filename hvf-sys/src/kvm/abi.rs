//! What crosses the boundary to KVM: request numbers, capabilities, structures (Documentation/virt/kvm/api.rst).
//!
//! A request's number holds the size of what its argument points to, so that numbers are made from the types here
//! and a wrong size is refused by the kernel.

/// `_IO(KVMIO, number)`: the argument is a number or nothing.
pub(super) const fn io(number: u64) -> u64 {
    0xae << 8 | number
}

/// `_IOR`: the kernel writes a `T`.
pub(super) const fn ior<T>(number: u64) -> u64 {
    2 << 30 | (size_of::<T>() as u64) << 16 | io(number)
}

/// `_IOW`: the kernel reads a `T`.
pub(super) const fn iow<T>(number: u64) -> u64 {
    1 << 30 | (size_of::<T>() as u64) << 16 | io(number)
}

/// `_IOWR`: both.
pub(super) const fn iowr<T>(number: u64) -> u64 {
    ior::<T>(number) | iow::<T>(number)
}

pub(super) const GET_API_VERSION: u64 = io(0x00);
pub(super) const CREATE_VM: u64 = io(0x01);
pub(super) const CHECK_EXTENSION: u64 = io(0x03);
pub(super) const GET_VCPU_MMAP_SIZE: u64 = io(0x04);
pub(super) const GET_SUPPORTED_CPUID: u64 = iowr::<ListHead>(0x05);
pub(super) const CREATE_VCPU: u64 = io(0x41);
pub(super) const SET_USER_MEMORY_REGION: u64 = iow::<MemoryRegion>(0x46);
pub(super) const SET_TSS_ADDR: u64 = io(0x47);
pub(super) const SET_IDENTITY_MAP_ADDR: u64 = iow::<u64>(0x48);
pub(super) const RUN: u64 = io(0x80);
pub(super) const GET_REGS: u64 = ior::<Regs>(0x81);
pub(super) const SET_REGS: u64 = iow::<Regs>(0x82);
pub(super) const GET_SREGS: u64 = ior::<Sregs>(0x83);
pub(super) const SET_SREGS: u64 = iow::<Sregs>(0x84);
pub(super) const TRANSLATE: u64 = iowr::<Translation>(0x85);
pub(super) const INTERRUPT: u64 = iow::<u32>(0x86);
pub(super) const GET_MSRS: u64 = iowr::<ListHead>(0x88);
pub(super) const SET_MSRS: u64 = iow::<ListHead>(0x89);
pub(super) const SET_FPU: u64 = iow::<Fpu>(0x8d);
pub(super) const SET_CPUID2: u64 = iow::<ListHead>(0x90);
pub(super) const NMI: u64 = io(0x9a);
pub(super) const GET_VCPU_EVENTS: u64 = ior::<VcpuEvents>(0x9f);
pub(super) const SET_VCPU_EVENTS: u64 = iow::<VcpuEvents>(0xa0);
pub(super) const SET_DEBUGREGS: u64 = iow::<DebugRegs>(0xa2);
pub(super) const SET_TSC_KHZ: u64 = io(0xa2);
pub(super) const GET_TSC_KHZ: u64 = io(0xa3);
pub(super) const ENABLE_CAP: u64 = iow::<EnableCap>(0xa3);
pub(super) const SET_XSAVE: u64 = iow::<Xsave>(0xa5);
pub(super) const SET_XCRS: u64 = iow::<Xcrs>(0xa7);
pub(super) const SET_MSR_FILTER: u64 = iow::<MsrFilter>(0xc6);

/// What `GET_API_VERSION` has answered since 2007.
pub(super) const API_VERSION: i32 = 12;

/// What KVM may be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Capability {
    /// CPUID as the caller says.
    ExtCpuid = 7,
    /// How many vCPUs are advised.
    NrVcpus = 9,
    /// A place of its own for the page tables of real mode.
    SetIdentityMapAddr = 37,
    /// Pending events can be set.
    VcpuEvents = 41,
    /// Debug registers can be set.
    Debugregs = 50,
    /// XCR0 can be set.
    Xcrs = 56,
    /// The guest's TSC may have a rate of its own.
    TscControl = 60,
    /// The guest's TSC's rate can be asked for.
    GetTscKhz = 61,
    /// The most vCPUs.
    MaxVcpus = 66,
    /// `immediate_exit` in the shared page.
    ImmediateExit = 136,
    /// Accesses of MSRs as exits.
    UserSpaceMsr = 188,
    /// Which MSRs are exits.
    MsrFilter = 189,
}

/// How many entries a list of CPUID leaves or MSRs has; they follow.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct ListHead {
    pub count: u32,
    pub pad: u32,
}

/// One answer of CPUID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CpuidEntry {
    /// EAX on entry.
    pub function: u32,
    /// ECX on entry, where `flags` says that it matters.
    pub index: u32,
    /// `SIGNIFICANT_INDEX` or nothing.
    pub flags: u32,
    /// The answer.
    pub eax: u32,
    /// The answer.
    pub ebx: u32,
    /// The answer.
    pub ecx: u32,
    /// The answer.
    pub edx: u32,
    /// Zero.
    pub padding: [u32; 3],
}

impl CpuidEntry {
    /// The answer is that to one `index`, not to all.
    pub const SIGNIFICANT_INDEX: u32 = 1 << 0;
}

/// The most answers that KVM takes or gives.
pub const CPUID_MAX: usize = 256;

#[repr(C)]
pub(super) struct CpuidList {
    pub head: ListHead,
    pub entries: [CpuidEntry; CPUID_MAX],
}

/// An MSR and its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MsrEntry {
    /// Its number.
    pub index: u32,
    /// Zero.
    pub reserved: u32,
    /// Its value.
    pub value: u64,
}

/// How many MSRs go at once.
pub const MSRS_MAX: usize = 32;

#[repr(C)]
pub(super) struct MsrList {
    pub head: ListHead,
    pub entries: [MsrEntry; MSRS_MAX],
}

#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct MemoryRegion {
    pub slot: u32,
    pub flags: u32,
    pub guest_phys_addr: u64,
    pub memory_size: u64,
    pub userspace_addr: u64,
}

/// General registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Regs {
    /// RAX.
    pub rax: u64,
    /// RBX.
    pub rbx: u64,
    /// RCX.
    pub rcx: u64,
    /// RDX.
    pub rdx: u64,
    /// RSI.
    pub rsi: u64,
    /// RDI.
    pub rdi: u64,
    /// RSP.
    pub rsp: u64,
    /// RBP.
    pub rbp: u64,
    /// R8 to R15.
    pub r8_15: [u64; 8],
    /// RIP.
    pub rip: u64,
    /// RFLAGS.
    pub rflags: u64,
}

/// A segment register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Segment {
    /// Base.
    pub base: u64,
    /// Limit in bytes.
    pub limit: u32,
    /// Selector.
    pub selector: u16,
    /// Type field.
    pub kind: u8,
    /// Present.
    pub present: u8,
    /// Descriptor privilege level.
    pub dpl: u8,
    /// Default operation size.
    pub db: u8,
    /// Code or data.
    pub s: u8,
    /// 64-bit code.
    pub l: u8,
    /// Granularity.
    pub g: u8,
    /// Available.
    pub avl: u8,
    /// Loaded with a null selector.
    pub unusable: u8,
    /// Zero.
    pub padding: u8,
}

/// GDTR or IDTR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Table {
    /// Base.
    pub base: u64,
    /// Limit.
    pub limit: u16,
    /// Zero.
    pub padding: [u16; 3],
}

/// Segments and control registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Sregs {
    /// CS, DS, ES, FS, GS, SS.
    pub cs_ds_es_fs_gs_ss: [Segment; 6],
    /// TR.
    pub tr: Segment,
    /// LDTR.
    pub ldt: Segment,
    /// GDTR.
    pub gdt: Table,
    /// IDTR.
    pub idt: Table,
    /// CR0.
    pub cr0: u64,
    /// CR2.
    pub cr2: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// CR8.
    pub cr8: u64,
    /// EFER.
    pub efer: u64,
    /// IA32_APIC_BASE as KVM knows it: it shows the bit of CPUID.
    pub apic_base: u64,
    /// An interrupt that was accepted and not yet delivered, a bit each.
    pub interrupt_bitmap: [u64; 4],
}

/// x87 and SSE registers.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Fpu {
    pub fpr: [[u64; 2]; 8],
    pub fcw: u16,
    pub fsw: u16,
    /// Abridged tag word: a bit for each register that is not empty.
    pub ftwx: u8,
    pub pad1: u8,
    pub last_opcode: u16,
    pub last_ip: u64,
    pub last_dp: u64,
    pub xmm: [[u64; 2]; 16],
    pub mxcsr: u32,
    pub pad2: u32,
}

/// XSAVE's area, in the standard form. All zero is every state as initialized.
#[repr(C)]
pub(super) struct Xsave(pub [u32; 1024]);

#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct DebugRegs {
    pub db: [u64; 4],
    pub dr6: u64,
    pub dr7: u64,
    pub flags: u64,
    pub reserved: [u64; 9],
}

#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Xcr {
    pub number: u32,
    pub reserved: u32,
    pub value: u64,
}

#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Xcrs {
    pub count: u32,
    pub flags: u32,
    pub xcrs: [Xcr; 16],
    pub padding: [u64; 16],
}

/// What is pending and what is blocked. All zero is a vCPU with nothing of either.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct VcpuEvents {
    /// exception.{injected, number, has_error_code, pending}, exception.error_code
    pub exception: [u8; 8],
    /// interrupt.{injected, number, soft, shadow}
    pub interrupt: [u8; 4],
    /// nmi.{injected, pending, masked, padding}
    pub nmi: [u8; 4],
    pub sipi_vector: u32,
    pub flags: u32,
    /// smi, triple fault, reserved, exception payload
    pub rest: [u8; 40],
}

impl VcpuEvents {
    /// Nothing is pending, and nothing blocked: neither NMIs nor, by a shadow, interrupts.
    pub const NOTHING: Self = Self {
        exception: [0; 8],
        interrupt: [0; 4],
        nmi: [0; 4],
        sipi_vector: 0,
        flags: Self::VALID_NMI_PENDING | Self::VALID_SHADOW,
        rest: [0; 40],
    };
    /// Which byte of `nmi` says that they are blocked.
    pub const NMI_MASKED: usize = 2;
    const VALID_NMI_PENDING: u32 = 1 << 0;
    const VALID_SHADOW: u32 = 1 << 2;
}

#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Translation {
    pub linear_address: u64,
    pub physical_address: u64,
    pub valid: u8,
    pub writeable: u8,
    pub usermode: u8,
    pub pad: [u8; 5],
}

#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct EnableCap {
    pub cap: u32,
    pub flags: u32,
    pub args: [u64; 4],
    pub pad: [u8; 64],
}

/// Which MSR accesses arrive as exits, beside those that KVM does not know (arguments of `UserSpaceMsr`).
pub(super) const MSR_EXIT_REASONS: u64 = MSR_EXIT_INVALID | MSR_EXIT_UNKNOWN | MSR_EXIT_FILTER;
const MSR_EXIT_INVALID: u64 = 1 << 0;
const MSR_EXIT_UNKNOWN: u64 = 1 << 1;
const MSR_EXIT_FILTER: u64 = 1 << 2;

#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct MsrFilterRange {
    pub flags: u32,
    pub count: u32,
    pub base: u32,
    /// A bit for each MSR: clear is denied. The kernel copies it.
    pub bitmap: *const u8,
}

impl MsrFilterRange {
    pub const READ: u32 = 1 << 0;
    pub const WRITE: u32 = 1 << 1;
    pub const NONE: Self = Self {
        flags: 0,
        count: 0,
        base: 0,
        bitmap: std::ptr::null(),
    };
}

/// How many ranges a filter has.
pub const MSR_RANGES_MAX: usize = 16;

#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct MsrFilter {
    /// Zero: what no range names is allowed.
    pub flags: u32,
    pub ranges: [MsrFilterRange; MSR_RANGES_MAX],
}

/// The head of the page that a vCPU shares with the kernel; what an exit tells begins behind it.
#[repr(C)]
pub(super) struct Run {
    pub request_interrupt_window: u8,
    pub immediate_exit: u8,
    pub padding: [u8; 6],
    pub exit_reason: u32,
    pub ready_for_interrupt_injection: u8,
    pub if_flag: u8,
    pub flags: u16,
    pub cr8: u64,
    pub apic_base: u64,
    pub exit: ExitInfo,
}

/// The largest member of the union in the kernel's structure.
#[repr(C, align(8))]
pub(super) struct ExitInfo(pub [u8; 256]);

/// Why `RUN` came back.
pub(super) mod reason {
    pub const IO: u32 = 2;
    pub const HLT: u32 = 5;
    pub const MMIO: u32 = 6;
    pub const IRQ_WINDOW_OPEN: u32 = 7;
    pub const SHUTDOWN: u32 = 8;
    pub const FAIL_ENTRY: u32 = 9;
    pub const INTR: u32 = 10;
    pub const SET_TPR: u32 = 11;
    pub const INTERNAL_ERROR: u32 = 17;
    pub const RDMSR: u32 = 29;
    pub const WRMSR: u32 = 30;
}

/// Accesses of ports, the data lying `data_offset` bytes into the page.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct IoExit {
    pub direction: u8,
    pub size: u8,
    pub port: u16,
    pub count: u32,
    pub data_offset: u64,
}

/// An access of memory that is in no slot.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct MmioExit {
    pub phys_addr: u64,
    pub data: [u8; 8],
    pub len: u32,
    pub is_write: u8,
}

/// An access of an MSR.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct MsrExit {
    pub error: u8,
    pub pad: [u8; 7],
    pub reason: u32,
    pub index: u32,
    pub data: u64,
}

/// The processor refused to enter the guest.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct FailEntryExit {
    pub hardware_entry_failure_reason: u64,
    pub cpu: u32,
}

/// KVM cannot go on.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct InternalErrorExit {
    pub suberror: u32,
    pub ndata: u32,
    /// For `EMULATION`, where `ndata` is 3 or more: flags; the instruction's length and its bytes.
    pub flags: u64,
    pub insn_size: u8,
    pub insn_bytes: [u8; 15],
}

impl InternalErrorExit {
    pub const EMULATION: u32 = 1;
    pub const HAS_BYTES: u64 = 1 << 0;
}

// The sizes that api.rst's structures have on x86-64, as the kernel's own header counts them.
const _: () = assert!(size_of::<ListHead>() == 8);
const _: () = assert!(size_of::<CpuidEntry>() == 40);
const _: () = assert!(size_of::<CpuidList>() == 8 + 40 * CPUID_MAX);
const _: () = assert!(size_of::<MsrEntry>() == 16);
const _: () = assert!(size_of::<MsrList>() == 8 + 16 * MSRS_MAX);
const _: () = assert!(size_of::<MemoryRegion>() == 32);
const _: () = assert!(size_of::<Regs>() == 144);
const _: () = assert!(size_of::<Segment>() == 24);
const _: () = assert!(size_of::<Table>() == 16);
const _: () = assert!(size_of::<Sregs>() == 312);
const _: () = assert!(size_of::<Fpu>() == 416);
const _: () = assert!(size_of::<Xsave>() == 4096);
const _: () = assert!(size_of::<DebugRegs>() == 128);
const _: () = assert!(size_of::<Xcrs>() == 392);
const _: () = assert!(size_of::<VcpuEvents>() == 64);
const _: () = assert!(size_of::<Translation>() == 24);
const _: () = assert!(size_of::<EnableCap>() == 104);
const _: () = assert!(size_of::<MsrFilterRange>() == 24);
const _: () = assert!(size_of::<MsrFilter>() == 392);
const _: () = assert!(std::mem::offset_of!(Run, cr8) == 16);
const _: () = assert!(std::mem::offset_of!(Run, exit) == 32);
const _: () = assert!(size_of::<Run>() == 288);
const _: () = assert!(std::mem::offset_of!(IoExit, data_offset) == 8);
const _: () = assert!(std::mem::offset_of!(MmioExit, is_write) == 20);
const _: () = assert!(std::mem::offset_of!(MsrExit, data) == 16);
const _: () = assert!(std::mem::offset_of!(InternalErrorExit, insn_bytes) == 17);
