//! Checks on the guest's control registers, debug registers and MSRs (SDM volume 3, 27.3.1.1).

use super::super::host::CR4_MAY_BE_ONE;
use super::{Check, Guest, canonical, require};
use crate::layout::PHYSICAL_BITS;
use crate::x86::control::{cr0, cr4, efer};
use crate::x86::vmx::Field;
use crate::x86::vmx::control::entry;

const SECTION: &str = "27.3.1.1";

pub fn check(guest: &Guest) -> Check {
    check_control(guest)?;
    check_debug(guest)?;
    check_msrs(guest)
}

fn check_control(guest: &Guest) -> Check {
    let cr4 = guest.read(Field::GUEST_CR4);
    let must = if guest.unrestricted {
        cr0::NE
    } else {
        cr0::NE | cr0::PE | cr0::PG
    };
    let rules = [
        (
            guest.read(Field::GUEST_CR0) & must == must,
            "a bit of CR0 is zero that VMX fixes to one",
        ),
        (
            guest.read(Field::GUEST_CR0) >> 32 == 0,
            "bits 63:32 of CR0 are set",
        ),
        (
            !guest.cr0(cr0::PG) || guest.protected,
            "CR0.PG is set without CR0.PE",
        ),
        (cr4 & cr4::VMXE != 0, "CR4.VMXE is zero"),
        (
            cr4 & !CR4_MAY_BE_ONE == 0,
            "a bit of CR4 is set that this processor does not have",
        ),
        (
            !guest.ia32e || guest.cr0(cr0::PG),
            "an IA-32e mode guest has CR0.PG clear",
        ),
        (
            !guest.ia32e || cr4 & cr4::PAE != 0,
            "an IA-32e mode guest has CR4.PAE clear",
        ),
        (
            guest.ia32e || cr4 & cr4::PCIDE == 0,
            "CR4.PCIDE is set outside IA-32e mode",
        ),
        (
            guest.read(Field::GUEST_CR3) >> PHYSICAL_BITS == 0,
            "CR3 has bits beyond the physical address",
        ),
    ];
    for (holds, what) in rules {
        require(holds, SECTION, what)?;
    }
    Ok(())
}

fn check_debug(guest: &Guest) -> Check {
    /// LBR, BTF, and bits 15:6 as far as performance monitoring has them: none here.
    const DEBUGCTL: u64 = 3;
    if !guest.controls(Field::ENTRY_CONTROLS, entry::LOAD_DEBUG) {
        return Ok(());
    }
    require(
        guest.read(Field::GUEST_DEBUGCTL) & !DEBUGCTL == 0,
        SECTION,
        "reserved bits of IA32_DEBUGCTL are set",
    )?;
    require(
        guest.read(Field::GUEST_DR7) >> 32 == 0,
        SECTION,
        "bits 63:32 of DR7 are set",
    )
}

fn check_msrs(guest: &Guest) -> Check {
    for pointer in [Field::GUEST_SYSENTER_ESP, Field::GUEST_SYSENTER_EIP] {
        require(
            canonical(guest.read(pointer)),
            SECTION,
            "IA32_SYSENTER_ESP or EIP is not canonical",
        )?;
    }
    if guest.controls(Field::ENTRY_CONTROLS, entry::LOAD_PERF_GLOBAL_CTRL) {
        require(
            guest.read(Field::GUEST_PERF_GLOBAL_CTRL) == 0,
            SECTION,
            "reserved bits of IA32_PERF_GLOBAL_CTRL are set",
        )?;
    }
    if guest.controls(Field::ENTRY_CONTROLS, entry::LOAD_PAT) {
        let types = guest.read(Field::GUEST_PAT).to_le_bytes();
        require(
            types.iter().all(|kind| matches!(kind, 0 | 1 | 4..=7)),
            SECTION,
            "IA32_PAT has a memory type that does not exist",
        )?;
    }
    if guest.controls(Field::ENTRY_CONTROLS, entry::LOAD_BNDCFGS) {
        require(
            guest.read(Field::GUEST_BNDCFGS) == 0,
            SECTION,
            "reserved bits of IA32_BNDCFGS are set",
        )?;
    }
    check_efer(guest)
}

fn check_efer(guest: &Guest) -> Check {
    if !guest.controls(Field::ENTRY_CONTROLS, entry::LOAD_EFER) {
        return Ok(());
    }
    let efer = guest.read(Field::GUEST_EFER);
    let (lma, lme) = (efer & efer::LMA != 0, efer & efer::LME != 0);
    require(
        efer & !efer::DEFINED == 0,
        SECTION,
        "reserved bits of IA32_EFER are set",
    )?;
    require(
        lma == guest.ia32e,
        SECTION,
        "EFER.LMA is not what the control \"IA-32e mode guest\" says",
    )?;
    require(
        !guest.cr0(cr0::PG) || lma == lme,
        SECTION,
        "EFER.LMA and EFER.LME differ with paging on",
    )
}
