//! The guest's state between the VMCS and the software CPU: loaded by a VM entry (SDM volume 3, 27.3.2), saved by a VM
//! exit (28.3).

use hvf_sys::cpu::{Descriptors, Segment, State};

use super::vmcs::Vmcs;
use crate::cpu::core::Core;
use crate::x86::control::{cr0, dr7, efer, rflags};
use crate::x86::segment;
use crate::x86::vmx::Field;
use crate::x86::vmx::control::{entry, exit, interruptibility, pending_debug};

const RSP: usize = 4;

/// Loads the guest's state. It has passed the checks.
pub fn load(vmcs: &Vmcs, core: &mut Core) {
    let entry = vmcs.read_u32(Field::ENTRY_CONTROLS);
    let has = |bit| entry & bit != 0;
    let state = &mut core.state;
    state.cr0 = vmcs.read(Field::GUEST_CR0) & cr0::DEFINED | cr0::ET;
    state.cr3 = vmcs.read(Field::GUEST_CR3);
    state.cr4 = vmcs.read(Field::GUEST_CR4);
    state.gpr[RSP] = vmcs.read(Field::GUEST_RSP);
    state.rip = vmcs.read(Field::GUEST_RIP);
    // Without the control, DR7 is what the exit before has left: its reset value.
    state.dr7 = if has(entry::LOAD_DEBUG) {
        vmcs.read(Field::GUEST_DR7) & dr7::WRITABLE | dr7::FIXED
    } else {
        dr7::FIXED
    };
    state.msrs.sysenter_cs = vmcs.read(Field::GUEST_SYSENTER_CS);
    state.msrs.sysenter_esp = vmcs.read(Field::GUEST_SYSENTER_ESP);
    state.msrs.sysenter_eip = vmcs.read(Field::GUEST_SYSENTER_EIP);
    if has(entry::LOAD_PAT) {
        state.msrs.pat = vmcs.read(Field::GUEST_PAT);
    }
    state.msrs.efer = loaded_efer(vmcs, state.msrs.efer);
    for (n, register) in state.segments.iter_mut().enumerate() {
        *register = load_segment(vmcs, n);
    }
    state.gdtr = table(vmcs, Field::GUEST_GDTR_BASE, Field::GUEST_GDTR_LIMIT);
    state.idtr = table(vmcs, Field::GUEST_IDTR_BASE, Field::GUEST_IDTR_LIMIT);
    for (n, pointer) in state.pdptes.iter_mut().enumerate() {
        *pointer = vmcs.read(Field::guest_pdpte(n));
    }
    let flags = vmcs.read(Field::GUEST_RFLAGS);
    core.cpl = if flags & rflags::VM != 0 {
        3
    } else {
        ((core.segment(State::SS).rights & segment::DPL) >> segment::DPL_SHIFT) as u8
    };
    load_blocking(vmcs, core);
    core.set_rflags(flags);
}

/// EFER: from its field with the control, else only LMA and LME follow the mode (27.3.2.1).
fn loaded_efer(vmcs: &Vmcs, old: u64) -> u64 {
    let entry = vmcs.read_u32(Field::ENTRY_CONTROLS);
    if entry & entry::LOAD_EFER != 0 {
        return vmcs.read(Field::GUEST_EFER);
    }
    let long = if entry & entry::IA32E_GUEST != 0 {
        efer::LMA | efer::LME
    } else {
        0
    };
    let changed = if vmcs.read(Field::GUEST_CR0) & cr0::PG != 0 {
        efer::LMA | efer::LME
    } else {
        efer::LMA
    };
    old & !changed | long & changed
}

fn load_segment(vmcs: &Vmcs, n: usize) -> Segment {
    let rights = vmcs.read(Field::guest_access_rights(n));
    let unusable = rights & Field::UNUSABLE != 0;
    Segment {
        selector: vmcs.read(Field::guest_selector(n)) as u16,
        rights: rights as u16 & segment::RIGHTS & if unusable { !segment::P } else { u16::MAX },
        limit: vmcs.read_u32(Field::guest_limit(n)),
        base: vmcs.read(Field::guest_base(n)),
    }
}

fn table(vmcs: &Vmcs, base: Field, limit: Field) -> Descriptors {
    Descriptors {
        base: vmcs.read(base),
        limit: vmcs.read(limit) as u16,
    }
}

fn load_blocking(vmcs: &Vmcs, core: &mut Core) {
    let blocking = vmcs.read_u32(Field::GUEST_INTERRUPTIBILITY);
    core.stack_shadow = blocking & interruptibility::MOV_SS != 0;
    core.shadow = core.stack_shadow || blocking & interruptibility::STI != 0;
    core.nmi_blocked = blocking & interruptibility::NMI != 0;
    core.hits = if core.stack_shadow {
        vmcs.read(Field::GUEST_PENDING_DEBUG) & pending_debug::BREAKPOINTS
    } else {
        0
    };
}

/// Saves the guest's state.
pub fn save(core: &Core, vmcs: &mut Vmcs) {
    let state = &core.state;
    let exit = vmcs.read_u32(Field::EXIT_CONTROLS);
    for (field, value) in [
        (Field::GUEST_CR0, state.cr0),
        (Field::GUEST_CR3, state.cr3),
        (Field::GUEST_CR4, state.cr4),
        (Field::GUEST_RSP, state.gpr[RSP]),
        (Field::GUEST_RIP, state.rip),
        (Field::GUEST_RFLAGS, core.rflags()),
        (Field::GUEST_SYSENTER_CS, state.msrs.sysenter_cs),
        (Field::GUEST_SYSENTER_ESP, state.msrs.sysenter_esp),
        (Field::GUEST_SYSENTER_EIP, state.msrs.sysenter_eip),
        (Field::GUEST_GDTR_BASE, state.gdtr.base),
        (Field::GUEST_GDTR_LIMIT, state.gdtr.limit.into()),
        (Field::GUEST_IDTR_BASE, state.idtr.base),
        (Field::GUEST_IDTR_LIMIT, state.idtr.limit.into()),
    ] {
        vmcs.write(field, value);
    }
    for (control, field, value) in [
        (exit::SAVE_DEBUG, Field::GUEST_DR7, state.dr7 | dr7::FIXED),
        (exit::SAVE_PAT, Field::GUEST_PAT, state.msrs.pat),
        (exit::SAVE_EFER, Field::GUEST_EFER, state.msrs.efer),
    ] {
        if exit & control != 0 {
            vmcs.write(field, value);
        }
    }
    // Every exit tells the guest's mode in the entry control (28.3.1).
    let entry = vmcs.read_u32(Field::ENTRY_CONTROLS) & !entry::IA32E_GUEST;
    let mode = if state.msrs.efer & efer::LMA != 0 {
        entry::IA32E_GUEST
    } else {
        0
    };
    vmcs.write(Field::ENTRY_CONTROLS, (entry | mode).into());
    for (n, register) in state.segments.iter().enumerate() {
        save_segment(vmcs, n, register);
    }
    let pae =
        state.cr0 & cr0::PG != 0 && state.cr4 & crate::x86::control::cr4::PAE != 0 && mode == 0;
    if pae {
        for (n, pointer) in state.pdptes.iter().enumerate() {
            vmcs.write(Field::guest_pdpte(n), *pointer);
        }
    }
    save_blocking(core, vmcs);
}

fn save_segment(vmcs: &mut Vmcs, n: usize, register: &Segment) {
    let unusable = if register.rights & segment::P == 0 {
        Field::UNUSABLE
    } else {
        0
    };
    vmcs.write(Field::guest_selector(n), register.selector.into());
    vmcs.write(Field::guest_base(n), register.base);
    vmcs.write(Field::guest_limit(n), register.limit.into());
    let rights = u64::from(register.rights) | unusable;
    vmcs.write(Field::guest_access_rights(n), rights);
}

fn save_blocking(core: &Core, vmcs: &mut Vmcs) {
    let mut blocking = match (core.shadow, core.stack_shadow) {
        (_, true) => interruptibility::MOV_SS,
        (true, _) => interruptibility::STI,
        _ => 0,
    };
    if core.nmi_blocked {
        blocking |= interruptibility::NMI;
    }
    vmcs.write(Field::GUEST_INTERRUPTIBILITY, blocking.into());
    let mut pending = 0;
    if core.stack_shadow && core.hits != 0 {
        pending |= core.hits & pending_debug::BREAKPOINTS | pending_debug::ENABLED;
    }
    if core.shadow && core.rflags() & rflags::TF != 0 {
        pending |= pending_debug::BS;
    }
    vmcs.write(Field::GUEST_PENDING_DEBUG, pending);
}
