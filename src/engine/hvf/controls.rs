//! The controls of a fresh VMCS (SDM volume 3, 25.6 to 25.8).
//!
//! A bit that is named here is set or cleared as far as the capability field allows; every other bit keeps the value that the
//! framework gave it, since it knows its kernel and this does not. Only what the driver cannot do without is insisted on.
//! An intercept that cannot be switched off does no harm: what exits is executed in software.

use super::hardware::{Failure, Hardware, Result};
use super::vmx::{Capability, Vmx};
use crate::x86::vector;
use crate::x86::vmx::Field;
use crate::x86::vmx::control::{entry, exit, pin, primary, secondary};

/// What is asked of one field.
struct Wish {
    capability: Capability,
    field: Field,
    /// Bits without which the driver is wrong.
    needed: u32,
    /// Bits that are set where they can be.
    wanted: u32,
    /// Bits that are cleared where they can be.
    unwanted: u32,
}

const WISHES: [Wish; 5] = [
    Wish {
        capability: Capability::PinBased,
        field: Field::PIN_BASED_CONTROLS,
        needed: pin::EXTERNAL_INTERRUPT | pin::NMI | pin::VIRTUAL_NMI,
        wanted: 0,
        // The framework's own, for deadlines.
        unwanted: 0,
    },
    Wish {
        capability: Capability::Primary,
        field: Field::PRIMARY_CONTROLS,
        needed: primary::SECONDARY
            | primary::HLT
            | primary::UNCONDITIONAL_IO
            | primary::MSR_BITMAPS
            | primary::CR8_LOAD
            | primary::CR8_STORE
            | primary::TSC_OFFSETTING,
        wanted: primary::MWAIT | primary::MONITOR | primary::RDPMC,
        unwanted: primary::INTERRUPT_WINDOW
            | primary::NMI_WINDOW
            | primary::INVLPG
            | primary::RDTSC
            | primary::CR3_LOAD
            | primary::CR3_STORE
            | primary::TPR_SHADOW
            | primary::MOV_DR
            | primary::IO_BITMAPS
            | primary::MONITOR_TRAP
            | primary::PAUSE,
    },
    Wish {
        capability: Capability::Secondary,
        field: Field::SECONDARY_CONTROLS,
        needed: secondary::EPT | secondary::UNRESTRICTED_GUEST,
        wanted: secondary::VPID | secondary::RDTSCP | secondary::INVPCID,
        unwanted: secondary::VIRTUALIZE_APIC
            | secondary::DESCRIPTOR_TABLE
            | secondary::VIRTUALIZE_X2APIC
            | secondary::WBINVD
            | secondary::APIC_REGISTERS
            | secondary::VIRTUAL_INTERRUPTS
            | secondary::PAUSE_LOOP
            | secondary::RDRAND
            | secondary::RDSEED
            | secondary::VMFUNC
            | secondary::VMCS_SHADOWING
            | secondary::EPT_VIOLATION_EXCEPTION
            | secondary::XSAVES
            | secondary::USER_WAIT
            | secondary::TSC_SCALING,
    },
    Wish {
        capability: Capability::Exit,
        field: Field::EXIT_CONTROLS,
        needed: exit::HOST_64 | exit::LOAD_EFER | exit::SAVE_DEBUG,
        wanted: 0,
        unwanted: 0,
    },
    Wish {
        capability: Capability::Entry,
        field: Field::ENTRY_CONTROLS,
        needed: entry::LOAD_EFER | entry::LOAD_DEBUG,
        wanted: 0,
        unwanted: entry::IA32E_GUEST | entry::ENTRY_TO_SMM | entry::DEACTIVATE_DUAL_MONITOR,
    },
];

/// Sets a fresh VMCS up.
pub(super) fn set_up(vmx: &dyn Vmx, hardware: &mut Hardware) -> Result<()> {
    for wish in &WISHES {
        let allowed = vmx.capability(wish.capability).map_err(|e| {
            let which = wish.capability;
            Failure(format!(
                "reading VMX's capabilities {which:?} failed with {e}"
            ))
        })?;
        let fresh = hardware.read32(wish.field)?;
        let value = adjusted(wish, fresh, allowed)?;
        hardware.write(wish.field, value.into())?;
    }
    let fields = [
        // A machine check is the host's; all other exceptions are the guest's own.
        (Field::EXCEPTION_BITMAP, 1 << vector::MC),
        (Field::PAGE_FAULT_ERROR_MASK, 0),
        (Field::PAGE_FAULT_ERROR_MATCH, 0),
        (Field::CR3_TARGET_COUNT, 0),
        (Field::ENTRY_INTERRUPTION_INFO, 0),
        (Field::GUEST_DEBUGCTL, 0),
        (Field::GUEST_ACTIVITY, 0),
        (Field::GUEST_PENDING_DEBUG, 0),
    ];
    for (field, value) in fields {
        hardware.write(field, value)?;
    }
    Ok(())
}

/// The field's value, from the fresh one and the capability: low half must be one, high half may be.
fn adjusted(wish: &Wish, fresh: u32, capability: u64) -> Result<u32> {
    let (must, may) = (capability as u32, (capability >> 32) as u32);
    let value = (fresh | wish.needed | wish.wanted) & !(wish.unwanted & !must);
    let value = value & may | must;
    let missing = wish.needed & !value;
    if missing == 0 {
        Ok(value)
    } else {
        let which = wish.capability;
        Err(Failure(format!(
            "this Mac's VMX lacks {which:?} controls {missing:#x}"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u64 = 0xffff_ffff << 32;

    #[test]
    fn bits_that_are_not_known_keep_the_frameworks_value() {
        for wish in &WISHES {
            let named = wish.needed | wish.wanted | wish.unwanted;
            for fresh in [0, u32::MAX] {
                let value = adjusted(wish, fresh, ALL).unwrap();
                assert_eq!(value & !named, fresh & !named, "{:?}", wish.capability);
                assert_eq!(value & named, wish.needed | wish.wanted);
            }
        }
    }

    #[test]
    fn capabilities_win_over_wishes_but_not_over_needs() {
        let wish = &WISHES[1];
        let forced = primary::CR3_LOAD | primary::CR3_STORE;
        let value = adjusted(wish, 0, ALL | u64::from(forced)).unwrap();
        assert_eq!(value & forced, forced, "an intercept that must be");
        let without = ALL & !(u64::from(primary::MWAIT) << 32);
        assert_eq!(adjusted(wish, 0, without).unwrap() & primary::MWAIT, 0);
        let lacking = ALL & !(u64::from(primary::HLT) << 32);
        let told = adjusted(wish, 0, lacking).unwrap_err().0;
        assert!(told.contains("Primary controls 0x80"), "{told}");
    }
}
