//! Basic exit reasons (SDM vol. 3, appendix C).

/// Bit 31 of the exit reason: the entry failed, the guest has not run.
pub const ENTRY_FAILURE: u32 = 1 << 31;
/// Bits 15:0 of the exit reason.
pub const BASIC: u32 = 0xffff;

macro_rules! reasons {
    ($($name:ident = $code:literal,)*) => {
        $(
            #[allow(missing_docs, reason = "the names are the SDM's")]
            pub const $name: u32 = $code;
        )*

        /// The SDM's name. `None` where the basic reason is not known here.
        pub const fn name(basic: u32) -> Option<&'static str> {
            match basic {
                $($code => Some(stringify!($name)),)*
                _ => None,
            }
        }
    };
}

reasons! {
    EXCEPTION_OR_NMI = 0,
    EXTERNAL_INTERRUPT = 1,
    TRIPLE_FAULT = 2,
    INIT = 3,
    SIPI = 4,
    IO_SMI = 5,
    OTHER_SMI = 6,
    INTERRUPT_WINDOW = 7,
    NMI_WINDOW = 8,
    TASK_SWITCH = 9,
    CPUID = 10,
    GETSEC = 11,
    HLT = 12,
    INVD = 13,
    INVLPG = 14,
    RDPMC = 15,
    RDTSC = 16,
    RSM = 17,
    VMCALL = 18,
    VMCLEAR = 19,
    VMLAUNCH = 20,
    VMPTRLD = 21,
    VMPTRST = 22,
    VMREAD = 23,
    VMRESUME = 24,
    VMWRITE = 25,
    VMXOFF = 26,
    VMXON = 27,
    CR_ACCESS = 28,
    MOV_DR = 29,
    IO_INSTRUCTION = 30,
    RDMSR = 31,
    WRMSR = 32,
    INVALID_GUEST_STATE = 33,
    MSR_LOADING = 34,
    MWAIT = 36,
    MONITOR_TRAP = 37,
    MONITOR = 39,
    PAUSE = 40,
    MACHINE_CHECK_AT_ENTRY = 41,
    TPR_BELOW_THRESHOLD = 43,
    APIC_ACCESS = 44,
    VIRTUALIZED_EOI = 45,
    GDTR_IDTR = 46,
    LDTR_TR = 47,
    EPT_VIOLATION = 48,
    EPT_MISCONFIGURATION = 49,
    INVEPT = 50,
    RDTSCP = 51,
    PREEMPTION_TIMER = 52,
    INVVPID = 53,
    WBINVD = 54,
    XSETBV = 55,
    APIC_WRITE = 56,
    RDRAND = 57,
    INVPCID = 58,
    VMFUNC = 59,
    ENCLS = 60,
    RDSEED = 61,
    PAGE_MODIFICATION_LOG_FULL = 62,
    XSAVES = 63,
    XRSTORS = 64,
    SPP_EVENT = 66,
    UMWAIT = 67,
    TPAUSE = 68,
}
