//! MSR numbers (SDM volume 4, table 2-2).

/// The local APIC's base address and mode.
pub const APIC_BASE: u32 = 0x1b;
/// The local APIC timer's deadline in TSC ticks.
pub const TSC_DEADLINE: u32 = 0x6e0;
/// The first of the x2APIC's registers.
pub const X2APIC_FIRST: u32 = 0x800;
/// The last MSR that the architecture reserves for the x2APIC.
pub const X2APIC_LAST: u32 = 0x8ff;
