//! The guest's state between VMX and the software CPU's `Core`: what an instruction in software needs is read from the VMCS,
//! and what it has changed is written back.
//!
//! Some of the state is not read, because the guest cannot change it without an exit: EFER, XCR0, SYSENTER's MSRs and all
//! MSRs that only exist in software. The core keeps it. x87, SSE, the debug registers and the MSRs that the guest
//! writes by itself (SYSCALL's, KERNEL_GS_BASE, TSC_AUX) are read only for an instruction that may look at them.
//!
//! CR0 and CR4 have bits of the host's, which the guest sees in the read shadows: those that VMX fixes (NE, VMXE), those that
//! it cannot have (CD, NW) and those whose change means more than the bit itself, so that a change is an exit.

use hvf_sys::cpu::{Descriptors, Segment, State};

use super::fp;
use super::hardware::{GENERAL, Hardware, Result};
use super::vmx::Register;
use crate::cpu::core::Core;
use crate::x86::control::{cr0, cr4, efer, rflags};
use crate::x86::vmx::Field;
use crate::x86::vmx::control::{entry, interruptibility, pending_debug};
use crate::x86::{msr, segment};

/// Bits of CR0 that the guest changes without an exit.
const CR0_GUEST: u64 = cr0::MP | cr0::EM | cr0::TS | cr0::WP | cr0::AM;
/// Bits of CR4 that the guest changes without an exit.
const CR4_GUEST: u64 = cr4::VME
    | cr4::PVI
    | cr4::TSD
    | cr4::DE
    | cr4::PGE
    | cr4::OSFXSR
    | cr4::OSXMMEXCPT
    | cr4::FSGSBASE;

/// MSRs that the guest reads and writes without an exit.
pub(super) const NATIVE_MSRS: [u32; 8] = [
    msr::FS_BASE,
    msr::GS_BASE,
    msr::STAR,
    msr::LSTAR,
    msr::CSTAR,
    msr::FMASK,
    msr::KERNEL_GS_BASE,
    msr::TSC_AUX,
];

const BREAKPOINTS: [Register; 4] = [Register::Dr0, Register::Dr1, Register::Dr2, Register::Dr3];

/// What was read, for comparison: only what differs is written back.
pub(super) struct Loaded {
    state: State,
    interruptibility: u32,
    /// Whether the rarely used part was read too.
    all: bool,
}

/// The read shadows, as they were last written: the guest cannot change the bits that are the host's.
#[derive(Clone, Copy, Default)]
pub(super) struct Shadows {
    cr0: u64,
    cr4: u64,
}

impl Shadows {
    /// CR0 as the guest sees it.
    pub(super) fn cr0(&self, hardware: &Hardware) -> Result<u64> {
        Ok(self.cr0 & !CR0_GUEST | hardware.read(Field::GUEST_CR0)? & CR0_GUEST)
    }

    /// CR4 as the guest sees it.
    pub(super) fn cr4(&self, hardware: &Hardware) -> Result<u64> {
        Ok(self.cr4 & !CR4_GUEST | hardware.read(Field::GUEST_CR4)? & CR4_GUEST)
    }
}

/// Writes the masks, which never change.
pub(super) fn set_masks(hardware: &mut Hardware) -> Result<()> {
    hardware.write(Field::CR0_MASK, !CR0_GUEST & 0xffff_ffff)?;
    hardware.write(Field::CR4_MASK, !CR4_GUEST & 0xffff_ffff)
}

/// Reads what nearly every instruction may look at.
pub(super) fn load(hardware: &Hardware, shadows: &Shadows, core: &mut Core) -> Result<Loaded> {
    let state = &mut core.state;
    for (value, register) in state.gpr.iter_mut().zip(GENERAL) {
        *value = hardware.register(register)?;
    }
    state.gpr[4] = hardware.read(Field::GUEST_RSP)?;
    state.rip = hardware.read(Field::GUEST_RIP)?;
    state.rflags = hardware.read(Field::GUEST_RFLAGS)?;
    for (n, segment) in state.segments.iter_mut().enumerate() {
        *segment = load_segment(hardware, n)?;
    }
    state.gdtr = Descriptors {
        base: hardware.read(Field::GUEST_GDTR_BASE)?,
        limit: hardware.read(Field::GUEST_GDTR_LIMIT)? as u16,
    };
    state.idtr = Descriptors {
        base: hardware.read(Field::GUEST_IDTR_BASE)?,
        limit: hardware.read(Field::GUEST_IDTR_LIMIT)? as u16,
    };
    state.cr0 = shadows.cr0(hardware)?;
    state.cr2 = hardware.register(Register::Cr2)?;
    state.cr3 = hardware.read(Field::GUEST_CR3)?;
    state.cr4 = shadows.cr4(hardware)?;
    state.dr7 = hardware.read(Field::GUEST_DR7)?;
    if has_pdptes(state) {
        for (n, pointer) in state.pdptes.iter_mut().enumerate() {
            *pointer = hardware.read(Field::guest_pdpte(n))?;
        }
    }
    let blocking = hardware.read32(Field::GUEST_INTERRUPTIBILITY)?;
    core.stack_shadow = blocking & interruptibility::MOV_SS != 0;
    core.shadow = core.stack_shadow || blocking & interruptibility::STI != 0;
    core.nmi_blocked = blocking & interruptibility::NMI != 0;
    if core.stack_shadow {
        core.hits = hardware.read(Field::GUEST_PENDING_DEBUG)? & pending_debug::BREAKPOINTS;
    }
    core.adopt_state();
    Ok(Loaded {
        state: core.state.clone(),
        interruptibility: blocking,
        all: false,
    })
}

/// Reads the rest.
pub(super) fn load_rest(hardware: &Hardware, loaded: &mut Loaded, core: &mut Core) -> Result<()> {
    let state = &mut core.state;
    for (value, register) in state.breakpoints.iter_mut().zip(BREAKPOINTS) {
        *value = hardware.register(register)?;
    }
    state.dr6 = hardware.register(Register::Dr6)?;
    for (number, value) in switched_msrs(state) {
        *value = hardware.msr(number)?;
    }
    fp::load(hardware, state)?;
    loaded.state = state.clone();
    loaded.all = true;
    Ok(())
}

/// Makes the core what was read again.
pub(super) fn take_back(loaded: &Loaded, core: &mut Core) {
    core.state = loaded.state.clone();
    core.adopt_state();
}

/// Writes back what differs from `loaded`; all of it where nothing was read. True where translations that hardware
/// holds may have become wrong.
pub(super) fn store(
    hardware: &mut Hardware,
    shadows: &mut Shadows,
    loaded: Option<&Loaded>,
    core: &Core,
) -> Result<bool> {
    let new = &core.state;
    let old = loaded.map(|l| &l.state);
    store_registers(hardware, old, new)?;
    for n in 0..8 {
        if old.is_none_or(|old| old.segments[n] != new.segments[n]) {
            store_segment(hardware, n, &new.segments[n])?;
        }
    }
    let flush = store_control(hardware, shadows, old, new)?;
    store_msrs(hardware, loaded.filter(|l| l.all), old, new)?;
    store_blocking(hardware, loaded, core)?;
    Ok(flush)
}

fn store_registers(hardware: &mut Hardware, old: Option<&State>, new: &State) -> Result<()> {
    for (n, register) in GENERAL.into_iter().enumerate() {
        if n != 4 && old.is_none_or(|old| old.gpr[n] != new.gpr[n]) {
            hardware.set_register(register, new.gpr[n])?;
        }
    }
    if old.is_none_or(|old| old.cr2 != new.cr2) {
        hardware.set_register(Register::Cr2, new.cr2)?;
    }
    let fields = |s: &State| {
        [
            (Field::GUEST_RSP, s.gpr[4]),
            (Field::GUEST_RIP, s.rip),
            (
                Field::GUEST_RFLAGS,
                s.rflags & rflags::DEFINED | rflags::FIXED,
            ),
            (Field::GUEST_GDTR_BASE, s.gdtr.base),
            (Field::GUEST_GDTR_LIMIT, s.gdtr.limit.into()),
            (Field::GUEST_IDTR_BASE, s.idtr.base),
            (Field::GUEST_IDTR_LIMIT, s.idtr.limit.into()),
            (Field::GUEST_DR7, s.dr7),
            (Field::GUEST_SYSENTER_CS, s.msrs.sysenter_cs),
            (Field::GUEST_SYSENTER_ESP, s.msrs.sysenter_esp),
            (Field::GUEST_SYSENTER_EIP, s.msrs.sysenter_eip),
            (Field::TSC_OFFSET, s.msrs.tsc_offset),
        ]
    };
    write_changed(hardware, old.map(fields), fields(new))
}

fn write_changed<const N: usize>(
    hardware: &mut Hardware,
    old: Option<[(Field, u64); N]>,
    new: [(Field, u64); N],
) -> Result<()> {
    for (n, (field, value)) in new.into_iter().enumerate() {
        if old.is_none_or(|old| old[n].1 != value) {
            hardware.write(field, value)?;
        }
    }
    Ok(())
}

/// Control registers and EFER with all that hangs on them. A VMWRITE forgets no translation.
fn store_control(
    hardware: &mut Hardware,
    shadows: &mut Shadows,
    old: Option<&State>,
    new: &State,
) -> Result<bool> {
    let mut flush = false;
    if old.is_none_or(|old| old.cr0 != new.cr0) {
        let real = new.cr0 & !(cr0::CD | cr0::NW) | cr0::NE | cr0::ET;
        hardware.write(Field::GUEST_CR0, real)?;
        hardware.write(Field::CR0_SHADOW, new.cr0)?;
        shadows.cr0 = new.cr0;
        flush = true;
    }
    if old.is_none_or(|old| old.cr4 != new.cr4) {
        hardware.write(Field::GUEST_CR4, new.cr4 | cr4::VMXE)?;
        hardware.write(Field::CR4_SHADOW, new.cr4)?;
        shadows.cr4 = new.cr4;
        flush = true;
    }
    if old.is_none_or(|old| old.cr3 != new.cr3) {
        hardware.write(Field::GUEST_CR3, new.cr3)?;
        flush = true;
    }
    if old.is_none_or(|old| old.msrs.efer != new.msrs.efer) {
        hardware.write(Field::GUEST_EFER, new.msrs.efer)?;
        let controls = hardware.read32(Field::ENTRY_CONTROLS)? & !entry::IA32E_GUEST;
        let long = match new.msrs.efer & efer::LMA {
            0 => 0,
            _ => entry::IA32E_GUEST,
        };
        hardware.write(Field::ENTRY_CONTROLS, (controls | long).into())?;
        flush = true;
    }
    if has_pdptes(new) && old.is_none_or(|old| !has_pdptes(old) || old.pdptes != new.pdptes) {
        for (n, &pointer) in new.pdptes.iter().enumerate() {
            hardware.write(Field::guest_pdpte(n), pointer)?;
        }
        flush = true;
    }
    Ok(flush)
}

fn store_msrs(
    hardware: &mut Hardware,
    all: Option<&Loaded>,
    old: Option<&State>,
    new: &State,
) -> Result<()> {
    if old.is_none_or(|old| old.xcr0 != new.xcr0) {
        hardware.set_register(Register::Xcr0, new.xcr0)?;
    }
    if old.is_some() && all.is_none() {
        return Ok(());
    }
    for (n, register) in BREAKPOINTS.into_iter().enumerate() {
        if old.is_none_or(|old| old.breakpoints[n] != new.breakpoints[n]) {
            hardware.set_register(register, new.breakpoints[n])?;
        }
    }
    if old.is_none_or(|old| old.dr6 != new.dr6) {
        hardware.set_register(Register::Dr6, new.dr6)?;
    }
    let mut new = new.clone();
    let mut before = old.cloned();
    let old_msrs = before
        .as_mut()
        .map(|state| switched_msrs(state).map(|(_, value)| *value));
    for (n, (number, value)) in switched_msrs(&mut new).into_iter().enumerate() {
        if old_msrs.is_none_or(|old| old[n] != *value) {
            hardware.set_msr(number, *value)?;
        }
    }
    let same = |old: &State| (old.fpu, old.xmm, old.mxcsr) == (new.fpu, new.xmm, new.mxcsr);
    if !old.is_some_and(same) {
        fp::store(hardware, &new)?;
    }
    Ok(())
}

fn store_blocking(hardware: &mut Hardware, loaded: Option<&Loaded>, core: &Core) -> Result<()> {
    let bit = |on: bool, bit: u32| if on { bit } else { 0 };
    let old = loaded.map(|l| l.interruptibility);
    let new = old.unwrap_or(0)
        & !(interruptibility::STI | interruptibility::MOV_SS | interruptibility::NMI)
        | bit(core.shadow && !core.stack_shadow, interruptibility::STI)
        | bit(core.stack_shadow, interruptibility::MOV_SS)
        | bit(core.nmi_blocked, interruptibility::NMI);
    if old != Some(new) {
        hardware.write(Field::GUEST_INTERRUPTIBILITY, new.into())?;
    }
    // An entry into a shadow while single-stepping needs the step to be pending (SDM volume 3, 27.3.1.5).
    let step = core.shadow && core.state.rflags & rflags::TF != 0;
    let hits = if core.stack_shadow { core.hits } else { 0 };
    let enabled = hits & pending_debug::BREAKPOINTS != 0;
    let pending = hits & pending_debug::BREAKPOINTS
        | if enabled { pending_debug::ENABLED } else { 0 }
        | if step { pending_debug::BS } else { 0 };
    hardware.write(Field::GUEST_PENDING_DEBUG, pending)
}

/// The MSRs that have no field, with the place where the core keeps them.
fn switched_msrs(state: &mut State) -> [(u32, &mut u64); 6] {
    let msrs = &mut state.msrs;
    [
        (msr::STAR, &mut msrs.star),
        (msr::LSTAR, &mut msrs.lstar),
        (msr::CSTAR, &mut msrs.cstar),
        (msr::FMASK, &mut msrs.fmask),
        (msr::KERNEL_GS_BASE, &mut msrs.kernel_gs_base),
        (msr::TSC_AUX, &mut msrs.tsc_aux),
    ]
}

/// Whether PAE paging is on, whose directory pointers are in the VMCS.
fn has_pdptes(state: &State) -> bool {
    state.cr0 & cr0::PG != 0 && state.cr4 & cr4::PAE != 0 && state.msrs.efer & efer::LMA == 0
}

fn load_segment(hardware: &Hardware, n: usize) -> Result<Segment> {
    let rights = hardware.read(Field::guest_access_rights(n))?;
    let usable = if rights & Field::UNUSABLE == 0 {
        segment::RIGHTS
    } else {
        segment::RIGHTS & !segment::P
    };
    Ok(Segment {
        selector: hardware.read(Field::guest_selector(n))? as u16,
        rights: rights as u16 & usable,
        limit: hardware.read32(Field::guest_limit(n))?,
        base: hardware.read(Field::guest_base(n))?,
    })
}

fn store_segment(hardware: &mut Hardware, n: usize, segment: &Segment) -> Result<()> {
    hardware.write(Field::guest_selector(n), segment.selector.into())?;
    hardware.write(Field::guest_base(n), segment.base)?;
    hardware.write(Field::guest_limit(n), segment.limit.into())?;
    hardware.write(Field::guest_access_rights(n), access_rights(n, segment))
}

/// Access rights as an entry wants them (SDM volume 3, 27.3.1.2): unusable where nothing is present, and otherwise accessed,
/// the TSS busy, and the granularity such that the limit could have come from a descriptor.
fn access_rights(n: usize, segment: &Segment) -> u64 {
    let mut rights = segment.rights & segment::RIGHTS;
    if rights & segment::P == 0 {
        return u64::from(rights) | Field::UNUSABLE;
    }
    if n == State::TR {
        rights |= 2;
    } else if n != State::LDTR {
        rights |= segment::S | segment::ACCESSED;
    }
    if segment.limit & 0xfff != 0xfff {
        rights &= !segment::G;
    } else if segment.limit >> 20 != 0 {
        rights |= segment::G;
    }
    rights.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_rights_are_such_as_an_entry_takes() {
        let segment = |rights, limit| Segment {
            rights,
            limit,
            ..Segment::default()
        };
        assert_eq!(access_rights(State::DS, &segment(0, 0)), 0x1_0000);
        // A stack segment that is null has a privilege level nevertheless.
        assert_eq!(access_rights(State::SS, &segment(0x60, 0)), 0x1_0060);
        assert_eq!(access_rights(State::CS, &segment(0x9a, 0xffff)), 0x9b);
        assert_eq!(access_rights(State::CS, &segment(0x409b, u32::MAX)), 0xc09b);
        assert_eq!(access_rights(State::DS, &segment(0x8093, 0x1234)), 0x93);
        assert_eq!(access_rights(State::TR, &segment(0x89, 0x67)), 0x8b);
        assert_eq!(access_rights(State::LDTR, &segment(0x82, 0x67)), 0x82);
    }
}
