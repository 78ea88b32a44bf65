//! Checks on RIP, RFLAGS, the guest's non-register state and its page directory pointers
//! (SDM volume 3, 27.3.1.4 to 27.3.1.6).

use hvf_sys::cpu::State;

use super::{Check, Guest, canonical, require, require_or};
use crate::layout::PHYSICAL_BITS;
use crate::x86::control::{page, rflags};
use crate::x86::vmx::control::{activity, interruptibility, pending_debug, pin};
use crate::x86::vmx::qualification::invalid_guest;
use crate::x86::vmx::{Field, event};
use crate::x86::{segment, vector};

pub fn check(guest: &Guest) -> Check {
    check_flags(guest)?;
    check_activity(guest)?;
    check_interruptibility(guest)?;
    check_pending_debug(guest)?;
    require_or(
        guest.read(Field::VMCS_LINK_POINTER) == u64::MAX,
        "27.3.1.5",
        "the VMCS link pointer points to something",
        invalid_guest::LINK_POINTER,
    )?;
    check_pdptes(guest)
}

fn check_flags(guest: &Guest) -> Check {
    const SECTION: &str = "27.3.1.4";
    let rip = guest.read(Field::GUEST_RIP);
    let code64 = guest.ia32e
        && guest.read(Field::guest_access_rights(State::CS)) & u64::from(segment::L) != 0;
    let flags = guest.read(Field::GUEST_RFLAGS);
    let rules = [
        (
            code64 || rip >> 32 == 0,
            "bits 63:32 of RIP are set outside 64-bit mode",
        ),
        (!code64 || canonical(rip), "RIP is not canonical"),
        (
            flags & !(rflags::DEFINED | rflags::FIXED) == 0,
            "reserved bits of RFLAGS are set",
        ),
        (flags & rflags::FIXED != 0, "bit 1 of RFLAGS is zero"),
        (
            flags & rflags::VM == 0 || !guest.ia32e && guest.protected,
            "RFLAGS.VM is set in IA-32e mode or real mode",
        ),
        (
            flags & rflags::IF != 0 || !guest.injects(event::kind::EXTERNAL),
            "an interrupt is injected with RFLAGS.IF clear",
        ),
    ];
    for (holds, what) in rules {
        require(holds, SECTION, what)?;
    }
    Ok(())
}

fn check_activity(guest: &Guest) -> Check {
    const SECTION: &str = "27.3.1.5";
    let state = guest.read(Field::GUEST_ACTIVITY) as u32;
    let shadows = interruptibility::STI | interruptibility::MOV_SS;
    let shadowed = guest.read(Field::GUEST_INTERRUPTIBILITY) as u32 & shadows != 0;
    let dpl = guest.read(Field::guest_access_rights(State::SS)) >> segment::DPL_SHIFT & 3;
    let wakes = guest.event.is_none_or(|info| {
        let (kind, vector) = (info & event::KIND, (info & event::VECTOR) as u8);
        let is = |v| kind == event::kind::HARDWARE && vector == v;
        match state {
            activity::ACTIVE => true,
            activity::HLT => {
                matches!(kind, event::kind::EXTERNAL | event::kind::NMI)
                    || is(vector::DB)
                    || is(vector::MC)
            }
            activity::SHUTDOWN => kind == event::kind::NMI || is(vector::MC),
            _ => false,
        }
    });
    let rules = [
        (
            state <= activity::WAIT_FOR_SIPI,
            "there is no such activity state",
        ),
        (
            state != activity::HLT || dpl == 0,
            "the activity state is HLT with SS.DPL above zero",
        ),
        (
            state == activity::ACTIVE || !shadowed,
            "the guest is not active in the shadow of STI or MOV SS",
        ),
        (
            wakes,
            "the injected event cannot come in this activity state",
        ),
    ];
    for (holds, what) in rules {
        require(holds, SECTION, what)?;
    }
    Ok(())
}

fn check_interruptibility(guest: &Guest) -> Check {
    const SECTION: &str = "27.3.1.5";
    let state = guest.read(Field::GUEST_INTERRUPTIBILITY) as u32;
    let has = |bit| state & bit != 0;
    let (sti, mov_ss) = (has(interruptibility::STI), has(interruptibility::MOV_SS));
    let enabled = guest.read(Field::GUEST_RFLAGS) & rflags::IF != 0;
    let virtual_nmis = guest.controls(Field::PIN_BASED_CONTROLS, pin::VIRTUAL_NMI);
    let interrupt = guest.injects(event::kind::EXTERNAL);
    let nmi = guest.injects(event::kind::NMI);
    // Bit 4, an enclave's interruption, needs SGX.
    let known = interruptibility::DEFINED & !(1 << 4);
    let rules = [
        (
            state & !known == 0,
            "reserved bits of the interruptibility state are set",
        ),
        (!(sti && mov_ss), "both STI and MOV SS block"),
        (!sti || enabled, "STI blocks with RFLAGS.IF clear"),
        (
            !interrupt || !sti && !mov_ss,
            "an interrupt is injected in the shadow of STI or MOV SS",
        ),
        (!has(interruptibility::SMI), "SMIs are blocked outside SMM"),
        (
            !(nmi && virtual_nmis && has(interruptibility::NMI)),
            "an NMI is injected while NMIs are blocked",
        ),
    ];
    for (holds, what) in rules {
        require(holds, SECTION, what)?;
    }
    require_or(
        !(nmi && mov_ss),
        SECTION,
        "an NMI is injected in the shadow of MOV SS",
        invalid_guest::NMI,
    )
}

fn check_pending_debug(guest: &Guest) -> Check {
    const SECTION: &str = "27.3.1.5";
    const KNOWN: u64 = pending_debug::BREAKPOINTS | pending_debug::ENABLED | pending_debug::BS;
    const BTF: u64 = 1 << 1;
    let pending = guest.read(Field::GUEST_PENDING_DEBUG);
    require(
        pending & !KNOWN == 0,
        SECTION,
        "reserved bits of the pending debug exceptions are set",
    )?;
    let shadows = interruptibility::STI | interruptibility::MOV_SS;
    let held = guest.read(Field::GUEST_INTERRUPTIBILITY) as u32 & shadows != 0
        || guest.read(Field::GUEST_ACTIVITY) as u32 == activity::HLT;
    let steps = guest.read(Field::GUEST_RFLAGS) & rflags::TF != 0
        && guest.read(Field::GUEST_DEBUGCTL) & BTF == 0;
    require(
        !held || (pending & pending_debug::BS != 0) == steps,
        SECTION,
        "a pending single step does not fit RFLAGS.TF",
    )
}

fn check_pdptes(guest: &Guest) -> Check {
    const RESERVED: u64 = !0 << PHYSICAL_BITS | 0x1e6;
    if !guest.pae_paging() {
        return Ok(());
    }
    let fits = (0..4)
        .map(|n| guest.read(Field::guest_pdpte(n)))
        .all(|pointer| pointer & page::P == 0 || pointer & RESERVED == 0);
    require_or(
        fits,
        "27.3.1.6",
        "a page directory pointer has reserved bits set",
        invalid_guest::PDPTE,
    )
}
