//! What is told where VMX cannot go on: the exit and the state that an entry checks.

use super::hardware::Hardware;
use crate::x86::vmx::{Field, reason};

const FIELDS: [Field; 39] = [
    Field::INSTRUCTION_ERROR,
    Field::EXIT_REASON,
    Field::EXIT_QUALIFICATION,
    Field::EXIT_INTERRUPTION_INFO,
    Field::IDT_VECTORING_INFO,
    Field::ENTRY_INTERRUPTION_INFO,
    Field::PIN_BASED_CONTROLS,
    Field::PRIMARY_CONTROLS,
    Field::SECONDARY_CONTROLS,
    Field::ENTRY_CONTROLS,
    Field::EXIT_CONTROLS,
    Field::GUEST_RIP,
    Field::GUEST_RSP,
    Field::GUEST_RFLAGS,
    Field::GUEST_CR0,
    Field::CR0_SHADOW,
    Field::GUEST_CR3,
    Field::GUEST_CR4,
    Field::CR4_SHADOW,
    Field::GUEST_EFER,
    Field::GUEST_DR7,
    Field::GUEST_CS_SELECTOR,
    Field::GUEST_CS_BASE,
    Field::GUEST_CS_LIMIT,
    Field::GUEST_CS_ACCESS_RIGHTS,
    Field::GUEST_SS_SELECTOR,
    Field::GUEST_SS_ACCESS_RIGHTS,
    Field::GUEST_DS_ACCESS_RIGHTS,
    Field::GUEST_ES_ACCESS_RIGHTS,
    Field::GUEST_FS_ACCESS_RIGHTS,
    Field::GUEST_GS_ACCESS_RIGHTS,
    Field::GUEST_LDTR_ACCESS_RIGHTS,
    Field::GUEST_TR_SELECTOR,
    Field::GUEST_TR_LIMIT,
    Field::GUEST_TR_ACCESS_RIGHTS,
    Field::GUEST_INTERRUPTIBILITY,
    Field::GUEST_ACTIVITY,
    Field::GUEST_PENDING_DEBUG,
    Field::VMCS_LINK_POINTER,
];

/// The exit's name, and whether the entry failed.
pub(super) fn exit_name(reason_field: u32) -> String {
    let basic = reason_field & reason::BASIC;
    let name = reason::name(basic).unwrap_or("unknown");
    match reason_field & reason::ENTRY_FAILURE {
        0 => format!("VMX exit {basic} ({name})"),
        _ => format!("VMX entry failure {basic} ({name})"),
    }
}

/// The fields that say why; those that cannot be read are left out.
pub(super) fn registers(hardware: &Hardware) -> String {
    let known = FIELDS.iter().filter_map(|&field| {
        let value = hardware.read(field).ok()?;
        Some(format!("{} {value:#x}", field.name()?))
    });
    known.collect::<Vec<_>>().join(", ")
}
