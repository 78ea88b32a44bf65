//! The encodings of the VMCS's fields (SDM vol. 3, appendix B), as VMREAD and VMWRITE take them.

/// A field of the VMCS. Bits 14:13 of the encoding are its width (0: 16 bits, 1: 64, 2: 32, 3: natural), bits 11:10 its kind
/// (0: control, 1: read-only data about an exit, 2: guest state, 3: host state).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Field(pub u32);

macro_rules! fields {
    ($($name:ident = $code:literal,)*) => {
        #[allow(missing_docs, reason = "the names are the SDM's")]
        impl Field {
            $(pub const $name: Self = Self($code);)*

            /// The SDM's name. `None` where this is no field that is known here.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some(stringify!($name)),)*
                    _ => None,
                }
            }

            /// All fields that are known here.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

impl Field {
    /// The selector of segment register `n`: ES, CS, SS, DS, FS, GS, LDTR, TR.
    pub const fn guest_selector(n: usize) -> Self {
        Self(Self::GUEST_ES_SELECTOR.0 + 2 * (n as u32 & 7))
    }

    /// The limit of segment register `n`, in bytes.
    pub const fn guest_limit(n: usize) -> Self {
        Self(Self::GUEST_ES_LIMIT.0 + 2 * (n as u32 & 7))
    }

    /// The access rights of segment register `n` (`UNUSABLE`, else as in a descriptor).
    pub const fn guest_access_rights(n: usize) -> Self {
        Self(Self::GUEST_ES_ACCESS_RIGHTS.0 + 2 * (n as u32 & 7))
    }

    /// The base of segment register `n`.
    pub const fn guest_base(n: usize) -> Self {
        Self(Self::GUEST_ES_BASE.0 + 2 * (n as u32 & 7))
    }

    /// Page directory pointer `n` of four.
    pub const fn guest_pdpte(n: usize) -> Self {
        Self(Self::GUEST_PDPTE0.0 + 2 * (n as u32 & 3))
    }

    /// Bit 16 of access rights: the segment register cannot be used (SDM vol. 3, table 25-2).
    pub const UNUSABLE: u64 = 1 << 16;

    /// How many bits the field has; natural width counts as 64.
    pub const fn bits(self) -> u32 {
        match self.0 >> 13 & 3 {
            0 => 16,
            2 => 32,
            _ => 64,
        }
    }

    /// Whether only the processor writes it: what it tells of an exit.
    pub const fn is_read_only(self) -> bool {
        self.0 >> 10 & 3 == 1
    }

    /// Whether it is the host's state, which is none of the guest's business.
    pub const fn is_host(self) -> bool {
        self.0 >> 10 & 3 == 3
    }
}

fields! {
    // 16 bits (B.1).
    VPID = 0x0000,
    POSTED_INTERRUPT_VECTOR = 0x0002,
    EPTP_INDEX = 0x0004,
    GUEST_ES_SELECTOR = 0x0800,
    GUEST_CS_SELECTOR = 0x0802,
    GUEST_SS_SELECTOR = 0x0804,
    GUEST_DS_SELECTOR = 0x0806,
    GUEST_FS_SELECTOR = 0x0808,
    GUEST_GS_SELECTOR = 0x080a,
    GUEST_LDTR_SELECTOR = 0x080c,
    GUEST_TR_SELECTOR = 0x080e,
    GUEST_INTERRUPT_STATUS = 0x0810,
    PML_INDEX = 0x0812,
    HOST_ES_SELECTOR = 0x0c00,
    HOST_CS_SELECTOR = 0x0c02,
    HOST_SS_SELECTOR = 0x0c04,
    HOST_DS_SELECTOR = 0x0c06,
    HOST_FS_SELECTOR = 0x0c08,
    HOST_GS_SELECTOR = 0x0c0a,
    HOST_TR_SELECTOR = 0x0c0c,
    // 64 bits (B.2).
    IO_BITMAP_A = 0x2000,
    IO_BITMAP_B = 0x2002,
    MSR_BITMAP = 0x2004,
    EXIT_MSR_STORE_ADDRESS = 0x2006,
    EXIT_MSR_LOAD_ADDRESS = 0x2008,
    ENTRY_MSR_LOAD_ADDRESS = 0x200a,
    EXECUTIVE_VMCS = 0x200c,
    PML_ADDRESS = 0x200e,
    TSC_OFFSET = 0x2010,
    VIRTUAL_APIC_ADDRESS = 0x2012,
    APIC_ACCESS_ADDRESS = 0x2014,
    POSTED_INTERRUPT_DESCRIPTOR = 0x2016,
    VM_FUNCTION_CONTROLS = 0x2018,
    EPT_POINTER = 0x201a,
    EOI_EXIT0 = 0x201c,
    EOI_EXIT1 = 0x201e,
    EOI_EXIT2 = 0x2020,
    EOI_EXIT3 = 0x2022,
    EPTP_LIST_ADDRESS = 0x2024,
    VMREAD_BITMAP = 0x2026,
    VMWRITE_BITMAP = 0x2028,
    VIRTUALIZATION_EXCEPTION_ADDRESS = 0x202a,
    XSS_EXITING_BITMAP = 0x202c,
    ENCLS_EXITING_BITMAP = 0x202e,
    SUB_PAGE_PERMISSION_TABLE = 0x2030,
    TSC_MULTIPLIER = 0x2032,
    GUEST_PHYSICAL_ADDRESS = 0x2400,
    VMCS_LINK_POINTER = 0x2800,
    GUEST_DEBUGCTL = 0x2802,
    GUEST_PAT = 0x2804,
    GUEST_EFER = 0x2806,
    GUEST_PERF_GLOBAL_CTRL = 0x2808,
    GUEST_PDPTE0 = 0x280a,
    GUEST_PDPTE1 = 0x280c,
    GUEST_PDPTE2 = 0x280e,
    GUEST_PDPTE3 = 0x2810,
    GUEST_BNDCFGS = 0x2812,
    HOST_PAT = 0x2c00,
    HOST_EFER = 0x2c02,
    HOST_PERF_GLOBAL_CTRL = 0x2c04,
    // 32 bits (B.3).
    PIN_BASED_CONTROLS = 0x4000,
    PRIMARY_CONTROLS = 0x4002,
    EXCEPTION_BITMAP = 0x4004,
    PAGE_FAULT_ERROR_MASK = 0x4006,
    PAGE_FAULT_ERROR_MATCH = 0x4008,
    CR3_TARGET_COUNT = 0x400a,
    EXIT_CONTROLS = 0x400c,
    EXIT_MSR_STORE_COUNT = 0x400e,
    EXIT_MSR_LOAD_COUNT = 0x4010,
    ENTRY_CONTROLS = 0x4012,
    ENTRY_MSR_LOAD_COUNT = 0x4014,
    ENTRY_INTERRUPTION_INFO = 0x4016,
    ENTRY_EXCEPTION_ERROR = 0x4018,
    ENTRY_INSTRUCTION_LENGTH = 0x401a,
    TPR_THRESHOLD = 0x401c,
    SECONDARY_CONTROLS = 0x401e,
    PLE_GAP = 0x4020,
    PLE_WINDOW = 0x4022,
    INSTRUCTION_ERROR = 0x4400,
    EXIT_REASON = 0x4402,
    EXIT_INTERRUPTION_INFO = 0x4404,
    EXIT_INTERRUPTION_ERROR = 0x4406,
    IDT_VECTORING_INFO = 0x4408,
    IDT_VECTORING_ERROR = 0x440a,
    EXIT_INSTRUCTION_LENGTH = 0x440c,
    EXIT_INSTRUCTION_INFO = 0x440e,
    GUEST_ES_LIMIT = 0x4800,
    GUEST_CS_LIMIT = 0x4802,
    GUEST_SS_LIMIT = 0x4804,
    GUEST_DS_LIMIT = 0x4806,
    GUEST_FS_LIMIT = 0x4808,
    GUEST_GS_LIMIT = 0x480a,
    GUEST_LDTR_LIMIT = 0x480c,
    GUEST_TR_LIMIT = 0x480e,
    GUEST_GDTR_LIMIT = 0x4810,
    GUEST_IDTR_LIMIT = 0x4812,
    GUEST_ES_ACCESS_RIGHTS = 0x4814,
    GUEST_CS_ACCESS_RIGHTS = 0x4816,
    GUEST_SS_ACCESS_RIGHTS = 0x4818,
    GUEST_DS_ACCESS_RIGHTS = 0x481a,
    GUEST_FS_ACCESS_RIGHTS = 0x481c,
    GUEST_GS_ACCESS_RIGHTS = 0x481e,
    GUEST_LDTR_ACCESS_RIGHTS = 0x4820,
    GUEST_TR_ACCESS_RIGHTS = 0x4822,
    GUEST_INTERRUPTIBILITY = 0x4824,
    GUEST_ACTIVITY = 0x4826,
    GUEST_SMBASE = 0x4828,
    GUEST_SYSENTER_CS = 0x482a,
    PREEMPTION_TIMER = 0x482e,
    HOST_SYSENTER_CS = 0x4c00,
    // Natural width (B.4).
    CR0_MASK = 0x6000,
    CR4_MASK = 0x6002,
    CR0_SHADOW = 0x6004,
    CR4_SHADOW = 0x6006,
    CR3_TARGET0 = 0x6008,
    CR3_TARGET1 = 0x600a,
    CR3_TARGET2 = 0x600c,
    CR3_TARGET3 = 0x600e,
    EXIT_QUALIFICATION = 0x6400,
    IO_RCX = 0x6402,
    IO_RSI = 0x6404,
    IO_RDI = 0x6406,
    IO_RIP = 0x6408,
    GUEST_LINEAR_ADDRESS = 0x640a,
    GUEST_CR0 = 0x6800,
    GUEST_CR3 = 0x6802,
    GUEST_CR4 = 0x6804,
    GUEST_ES_BASE = 0x6806,
    GUEST_CS_BASE = 0x6808,
    GUEST_SS_BASE = 0x680a,
    GUEST_DS_BASE = 0x680c,
    GUEST_FS_BASE = 0x680e,
    GUEST_GS_BASE = 0x6810,
    GUEST_LDTR_BASE = 0x6812,
    GUEST_TR_BASE = 0x6814,
    GUEST_GDTR_BASE = 0x6816,
    GUEST_IDTR_BASE = 0x6818,
    GUEST_DR7 = 0x681a,
    GUEST_RSP = 0x681c,
    GUEST_RIP = 0x681e,
    GUEST_RFLAGS = 0x6820,
    GUEST_PENDING_DEBUG = 0x6822,
    GUEST_SYSENTER_ESP = 0x6824,
    GUEST_SYSENTER_EIP = 0x6826,
    HOST_CR0 = 0x6c00,
    HOST_CR3 = 0x6c02,
    HOST_CR4 = 0x6c04,
    HOST_FS_BASE = 0x6c06,
    HOST_GS_BASE = 0x6c08,
    HOST_TR_BASE = 0x6c0a,
    HOST_GDTR_BASE = 0x6c0c,
    HOST_IDTR_BASE = 0x6c0e,
    HOST_SYSENTER_ESP = 0x6c10,
    HOST_SYSENTER_EIP = 0x6c12,
    HOST_RSP = 0x6c14,
    HOST_RIP = 0x6c16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segment_fields_stand_in_the_order_of_the_registers() {
        assert_eq!(Field::guest_selector(7), Field::GUEST_TR_SELECTOR);
        assert_eq!(Field::guest_limit(6), Field::GUEST_LDTR_LIMIT);
        assert_eq!(Field::guest_access_rights(2), Field::GUEST_SS_ACCESS_RIGHTS);
        assert_eq!(Field::guest_base(1), Field::GUEST_CS_BASE);
        assert_eq!(Field::guest_pdpte(3), Field::GUEST_PDPTE3);
    }

    /// Every name of a kind has that kind in its encoding, and no encoding occurs twice.
    #[test]
    fn encodings_say_what_the_names_say() {
        for (n, field) in Field::ALL.iter().enumerate() {
            let name = field.name().unwrap();
            assert_eq!(name.starts_with("HOST_"), field.is_host(), "{name}");
            let is_guest = field.0 >> 10 & 3 == 2;
            let names_guest = name.starts_with("GUEST_")
                && !["GUEST_PHYSICAL_ADDRESS", "GUEST_LINEAR_ADDRESS"].contains(&name)
                || ["VMCS_LINK_POINTER", "PML_INDEX", "PREEMPTION_TIMER"].contains(&name);
            assert_eq!(names_guest, is_guest, "{name}");
            assert_eq!(
                name.ends_with("_SELECTOR"),
                field.bits() == 16 && field.0 >= 0x800 && field.0 & 0x3ff < 0x10,
                "{name}"
            );
            assert!(!Field::ALL[n + 1..].contains(field), "{name}");
        }
    }
}
