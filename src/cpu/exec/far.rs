//! Far JMP, CALL and RET: other code segments, call gates, and gates into other tasks.

use hvf_sys::cpu::{Insn, Op, State};

use super::super::core::{Done, Exec, Trap};
use super::super::int::Int;
use super::super::interrupt::NewStack;
use super::super::memory::canonical;
use super::super::segments::{Descriptor, is_null, null_stack, selector_error};
use super::super::task::Switch;
use super::{Handler, by_word};
use crate::x86::segment::{self, system};
use crate::x86::vector;

pub(super) fn select(insn: &Insn) -> Handler {
    match insn.op() {
        Op::JmpFar => by_word!(insn, jump),
        Op::CallFar => by_word!(insn, call),
        _ => by_word!(insn, ret),
    }
}

/// The selector and offset that a far branch names.
fn target<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Result<(u16, u64), Trap> {
    if insn.a().is_imm() {
        let immediate = insn.immediate();
        let offset = immediate & if W::BITS == 16 { 0xffff } else { 0xffff_ffff };
        return Ok(((immediate >> 32) as u16, offset));
    }
    let la = x.linear(insn, W::BYTES + 2, false)?;
    let offset: W = x.load_at(la, insn.segment())?;
    let selector = x.load_at(la.wrapping_add(W::BYTES), insn.segment())?;
    Ok((selector, offset.zero_extend()))
}

fn jump<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let (selector, offset) = target::<W>(x, insn)?;
    if x.real_mode() || x.vm86() {
        return real_jump(x, selector, offset);
    }
    let mut found = named(x, selector)?;
    if found.is_code() {
        check_direct(x, &found)?;
        let offset = checked_offset(x, &found, offset)?;
        x.mark_accessed(&mut found)?;
        let cpl = x.cpl;
        x.set_code_segment(found.loaded(), cpl);
        x.state.rip = offset;
        return Ok(());
    }
    match gate_kind(x, &found)? {
        Kind::CallGate(width) => {
            let (mut code, offset) = through_gate(x, &found, width)?;
            let fits = if code.is_conforming() {
                code.dpl() <= x.cpl
            } else {
                code.dpl() == x.cpl
            };
            if !fits {
                return Err(x.general_protection(selector_error(code.selector)));
            }
            let offset = checked_offset(x, &code, offset)?;
            x.mark_accessed(&mut code)?;
            let cpl = x.cpl;
            x.set_code_segment(code.loaded(), cpl);
            x.state.rip = offset;
            Ok(())
        }
        Kind::Task(tss) => {
            x.intercept_task_switch(tss.selector, 2)?;
            x.switch_task(tss, Switch::Jump, (x.state.rip, x.rflags()), None)
        }
    }
}

fn real_jump(x: &mut Exec<'_>, selector: u16, offset: u64) -> Done {
    if offset > u64::from(x.segment(State::CS).limit) {
        return Err(x.general_protection(0));
    }
    x.state.segments[State::CS] = x.real_segment(State::CS, selector);
    x.state.rip = offset;
    x.update_mode();
    Ok(())
}

fn call<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let (selector, offset) = target::<W>(x, insn)?;
    let (cs, next) = (u64::from(x.segment(State::CS).selector), x.state.rip);
    if x.real_mode() || x.vm86() {
        if offset > u64::from(x.segment(State::CS).limit) {
            return Err(x.general_protection(0));
        }
        let mut stack = x.current_stack();
        stack.push(x, insn.width(), cs)?;
        stack.push(x, insn.width(), next)?;
        x.switch_stack(&stack);
        return real_jump(x, selector, offset);
    }
    let mut found = named(x, selector)?;
    if found.is_code() {
        check_direct(x, &found)?;
        let offset = checked_offset(x, &found, offset)?;
        let mut stack = x.current_stack();
        stack.push(x, insn.width(), cs)?;
        stack.push(x, insn.width(), next)?;
        x.mark_accessed(&mut found)?;
        x.switch_stack(&stack);
        let cpl = x.cpl;
        x.set_code_segment(found.loaded(), cpl);
        x.state.rip = offset;
        return Ok(());
    }
    match gate_kind(x, &found)? {
        Kind::CallGate(width) => call_gate(x, &found, width),
        Kind::Task(tss) => {
            x.intercept_task_switch(tss.selector, 0)?;
            x.switch_task(tss, Switch::Call, (next, x.rflags()), None)
        }
    }
}

/// The descriptor of a branch target, which must not be null.
fn named(x: &mut Exec<'_>, selector: u16) -> Result<Descriptor, Trap> {
    if is_null(selector) {
        return Err(x.general_protection(0));
    }
    x.descriptor(selector, vector::GP)
}

/// A branch to a code segment without a gate keeps the privilege level.
fn check_direct(x: &mut Exec<'_>, found: &Descriptor) -> Done {
    let fits = if found.is_conforming() {
        found.dpl() <= x.cpl
    } else {
        (found.selector & 3) as u8 <= x.cpl && found.dpl() == x.cpl
    };
    let both_sizes =
        x.long_mode() && found.rights() & (segment::L | segment::DB) == segment::L | segment::DB;
    if !fits || both_sizes {
        return Err(x.general_protection(selector_error(found.selector)));
    }
    if found.present() {
        Ok(())
    } else {
        Err(x.raise_with(vector::NP, selector_error(found.selector)))
    }
}

fn checked_offset(x: &mut Exec<'_>, code: &Descriptor, offset: u64) -> Result<u64, Trap> {
    let to64 = x.long_mode() && code.rights() & segment::L != 0;
    let fits = if to64 {
        canonical(offset)
    } else {
        offset <= u64::from(segment::limit(code.bits))
    };
    if fits {
        Ok(offset)
    } else {
        Err(x.general_protection(0))
    }
}

enum Kind {
    /// A call gate whose words have this many bytes.
    CallGate(u8),
    /// The TSS to switch to.
    Task(Descriptor),
}

fn gate_kind(x: &mut Exec<'_>, found: &Descriptor) -> Result<Kind, Trap> {
    let error = selector_error(found.selector);
    let long = x.long_mode();
    let privileged = x.cpl.max((found.selector & 3) as u8) <= found.dpl();
    let known = !found.is_segment()
        && match found.system_type() {
            system::CALL_GATE32 => true,
            system::CALL_GATE16 | system::TASK_GATE | system::TSS16 | system::TSS32 => !long,
            _ => false,
        };
    if !known || !privileged {
        return Err(x.general_protection(error));
    }
    if !found.present() {
        return Err(x.raise_with(vector::NP, error));
    }
    Ok(match found.system_type() {
        system::CALL_GATE32 => Kind::CallGate(if long { 8 } else { 4 }),
        system::CALL_GATE16 => Kind::CallGate(2),
        system::TASK_GATE => {
            Kind::Task(x.task_descriptor((found.bits >> 16) as u16, vector::GP, 0)?)
        }
        _ => Kind::Task(*found),
    })
}

/// The code segment and offset behind a call gate.
fn through_gate(x: &mut Exec<'_>, gate: &Descriptor, width: u8) -> Result<(Descriptor, u64), Trap> {
    let selector = (gate.bits >> 16) as u16;
    let mut offset = gate.bits & 0xffff
        | if width > 2 {
            gate.bits >> 32 & 0xffff_0000
        } else {
            0
        };
    if width == 8 {
        x.require_wide(gate)?;
        let high: u64 = x.load_system(gate.at.wrapping_add(8))?;
        if high >> 40 & 0x1f != 0 {
            return Err(x.general_protection(selector_error(gate.selector)));
        }
        offset |= high << 32;
    }
    let code = named(x, selector)?;
    let is_64 = code.rights() & (segment::L | segment::DB) == segment::L;
    if !code.is_code() || code.dpl() > x.cpl || width == 8 && !is_64 {
        return Err(x.general_protection(selector_error(selector)));
    }
    if !code.present() {
        return Err(x.raise_with(vector::NP, selector_error(selector)));
    }
    Ok((code, offset))
}

fn call_gate(x: &mut Exec<'_>, gate: &Descriptor, width: u8) -> Done {
    let (mut code, offset) = through_gate(x, gate, width)?;
    let offset = checked_offset(x, &code, offset)?;
    let (cs, next) = (u64::from(x.segment(State::CS).selector), x.state.rip);
    let inner = !code.is_conforming() && code.dpl() < x.cpl;
    let cpl = if inner { code.dpl() } else { x.cpl };
    let mut stack = if !inner {
        x.current_stack()
    } else if width == 8 {
        let pointer = x.stack_of_level(cpl)?;
        NewStack::long(null_stack(u16::from(cpl), cpl), pointer, x.system_space())
    } else {
        x.inner_stack(cpl, 0)?
    };
    if inner {
        push_outer_stack(x, &mut stack, gate, width)?;
    }
    stack.push(x, width, cs)?;
    stack.push(x, width, next)?;
    x.mark_accessed(&mut code)?;
    x.switch_stack(&stack);
    x.set_code_segment(code.loaded(), cpl);
    x.state.rip = offset;
    Ok(())
}

/// Pushes the caller's stack and, through a legacy gate, copies as many of its words as the gate says.
fn push_outer_stack(x: &mut Exec<'_>, stack: &mut NewStack, gate: &Descriptor, width: u8) -> Done {
    let (ss, sp) = (u64::from(x.segment(State::SS).selector), x.state.gpr[4]);
    stack.push(x, width, ss)?;
    stack.push(x, width, sp)?;
    let parameters = if width == 8 {
        0
    } else {
        gate.bits >> 32 & 0x1f
    };
    for n in (0..parameters).rev() {
        let at = x.stack_pointer().wrapping_add(n * u64::from(width));
        let word = if width == 2 {
            u64::from(x.load_stack::<u16>(at)?)
        } else {
            u64::from(x.load_stack::<u32>(at)?)
        };
        stack.push(x, width, word)?;
    }
    Ok(())
}

fn ret<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let released = if insn.a().is_imm() {
        insn.immediate() & 0xffff
    } else {
        0
    };
    let pointer = x.stack_pointer();
    let word = |x: &mut Exec<'_>, n: u64, skip: u64| {
        x.load_stack::<W>(pointer.wrapping_add(n * W::BYTES).wrapping_add(skip))
            .map(Int::zero_extend)
    };
    let (rip, cs) = (word(x, 0, 0)?, word(x, 1, 0)? as u16);
    let after = pointer.wrapping_add(2 * W::BYTES).wrapping_add(released);
    if x.real_mode() || x.vm86() {
        real_jump(x, cs, rip)?;
        x.set_stack_pointer(after);
        return Ok(());
    }
    let rpl = (cs & 3) as u8;
    let mut code = named(x, cs)?;
    let level_fits = if code.is_conforming() {
        code.dpl() <= rpl
    } else {
        code.dpl() == rpl
    };
    if !code.is_code() || rpl < x.cpl || !level_fits {
        return Err(x.general_protection(selector_error(cs)));
    }
    if !code.present() {
        return Err(x.raise_with(vector::NP, selector_error(cs)));
    }
    let rip = checked_offset(x, &code, rip)?;
    if rpl == x.cpl {
        x.mark_accessed(&mut code)?;
        x.set_stack_pointer(after);
        x.set_code_segment(code.loaded(), rpl);
        x.state.rip = rip;
        return Ok(());
    }
    let (sp, ss) = (word(x, 2, released)?, word(x, 3, released)? as u16);
    let to64 = x.long_mode() && code.rights() & segment::L != 0;
    let stack = super::transfer::return_stack(x, ss, rpl, to64)?;
    x.mark_accessed(&mut code)?;
    x.state.segments[State::SS] = stack;
    x.set_code_segment(code.loaded(), rpl);
    x.set_returned_pointer(sp, W::BITS);
    let moved = x.stack_pointer().wrapping_add(released);
    x.set_stack_pointer(moved);
    x.state.rip = rip;
    x.drop_privileged_segments();
    Ok(())
}
