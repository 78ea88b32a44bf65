//! Control transfers between privilege levels: INT, IRET, SYSCALL and SYSENTER with their returns.

use hvf_sys::cpu::{Insn, Op, Segment, State};

use super::super::core::{Done, Exec, Fault, Trap};
use super::super::int::Int;
use super::super::intercept::{Event, EventKind};
use super::super::memory::canonical;
use super::super::segments::{is_null, null_stack, selector_error};
use super::{Handler, by_word};
use crate::x86::control::{cr4, efer, rflags};
use crate::x86::{segment, vector};

/// Rights of the flat segments that SYSCALL and SYSENTER load: present, accessed, 4 GiB.
const FLAT_CODE: u16 =
    segment::P | segment::S | segment::CODE | segment::READABLE | segment::ACCESSED | segment::G;
const FLAT_DATA: u16 =
    segment::P | segment::S | segment::WRITABLE | segment::ACCESSED | segment::G | segment::DB;
const CODE64: u16 = FLAT_CODE | segment::L;
const CODE32: u16 = FLAT_CODE | segment::DB;

pub(super) fn select(insn: &Insn) -> Handler {
    match insn.op() {
        Op::Int => int,
        Op::Int1 => |x, insn| software(x, insn, vector::DB, EventKind::Privileged),
        Op::Int3 => |x, insn| software(x, insn, vector::BP, EventKind::SoftwareException),
        Op::Into => |x, insn| {
            if x.flags.overflow() {
                software(x, insn, vector::OF, EventKind::SoftwareException)
            } else {
                Ok(())
            }
        },
        Op::Iret => by_word!(insn, interrupt_return),
        Op::Syscall => syscall,
        Op::Sysret => sysret,
        Op::Sysenter => sysenter,
        _ => sysexit,
    }
}

/// An event that the instruction is. Those that are exceptions can be intercepted as such.
fn software(x: &mut Exec<'_>, insn: &Insn, vector: u8, kind: EventKind) -> Done {
    let fault = Fault {
        vector,
        ..Fault::default()
    };
    if kind != EventKind::Software {
        x.intercept_exception(kind, fault)?;
    }
    let event = Event {
        len: insn.len() as u8,
        ..fault.event(kind)
    };
    let next = x.state.rip;
    x.begin_delivery(event);
    x.deliver(vector, event.source(), None, next)?;
    x.end_delivery();
    Ok(())
}

/// INT n. In virtual-8086 mode below IOPL 3 it faults, unless CR4.VME sends it to the program's own table
/// (SDM volume 3, 20.3.3).
fn int(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let vector = insn.immediate() as u8;
    if x.vm86() {
        if x.redirects_interrupts() && !redirection_bit(x, vector)? {
            return redirected(x, vector);
        }
        if x.iopl() < 3 {
            return Err(x.general_protection(0));
        }
    }
    software(x, insn, vector, EventKind::Software)
}

/// The bit of the TSS's redirection bitmap: set where an interrupt goes through the IDT.
fn redirection_bit(x: &mut Exec<'_>, vector: u8) -> Result<bool, Trap> {
    let tss = *x.segment(State::TR);
    let map = x.load_system::<u16>(tss.base.wrapping_add(102))?;
    let at = u64::from(map)
        .wrapping_sub(32)
        .wrapping_add(u64::from(vector / 8));
    if at > u64::from(tss.limit) {
        return Err(x.general_protection(0));
    }
    let byte: u8 = x.load_system(tss.base.wrapping_add(at))?;
    Ok(byte >> (vector % 8) & 1 != 0)
}

/// An interrupt through the virtual-8086 program's own table at linear address 0.
fn redirected(x: &mut Exec<'_>, vector: u8) -> Done {
    let entry: u32 = x.load_at(u64::from(vector) * 4, State::DS)?;
    let mut flags = x.rflags();
    let virtual_interrupts = x.iopl() < 3;
    if virtual_interrupts {
        flags = flags & !rflags::IF
            | rflags::IOPL
            | if flags & rflags::VIF != 0 {
                rflags::IF
            } else {
                0
            };
    }
    let (cs, ip) = (x.segment(State::CS).selector, x.state.rip as u16);
    let mut stack = x.current_stack();
    for value in [flags, u64::from(cs), u64::from(ip)] {
        stack.push(x, 2, value)?;
    }
    x.switch_stack(&stack);
    let cleared = rflags::TF
        | rflags::NT
        | if virtual_interrupts {
            rflags::VIF
        } else {
            rflags::IF
        };
    let kept = x.rflags() & !cleared;
    x.set_rflags(kept);
    x.state.segments[State::CS] = x.real_segment(State::CS, (entry >> 16) as u16);
    x.state.rip = u64::from(entry & 0xffff);
    Ok(())
}

fn interrupt_return<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let done = iret::<W>(x, insn);
    if done == Err(Trap::Intercept) {
        x.note_iret();
    }
    done
}

fn iret<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    if x.real_mode() || x.vm86() {
        return iret_real::<W>(x);
    }
    if x.state.rflags & rflags::NT != 0 {
        return if x.long_mode() {
            Err(x.general_protection(0))
        } else {
            x.return_from_task()
        };
    }
    let pointer = x.stack_pointer();
    let word = |x: &mut Exec<'_>, n: u64| {
        x.load_stack::<W>(pointer.wrapping_add(n * W::BYTES))
            .map(Int::zero_extend)
    };
    let (rip, cs, flags) = (word(x, 0)?, word(x, 1)? as u16, word(x, 2)?);
    if flags & rflags::VM != 0 && W::BITS == 32 && x.cpl == 0 && !x.long_mode() {
        return iret_to_vm86(x, rip, cs, flags);
    }
    if is_null(cs) {
        return Err(x.general_protection(0));
    }
    let rpl = (cs & 3) as u8;
    let mut code = x.descriptor(cs, vector::GP)?;
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
    let to64 = x.long_mode() && code.rights() & segment::L != 0;
    if to64 && !canonical(rip) || !to64 && rip > u64::from(segment::limit(code.bits)) {
        return Err(x.general_protection(0));
    }
    let stack = if insn.long() || rpl > x.cpl {
        let (rsp, ss) = (word(x, 3)?, word(x, 4)? as u16);
        Some((rsp, return_stack(x, ss, rpl, to64)?))
    } else {
        None
    };
    x.mark_accessed(&mut code)?;
    let outer = rpl > x.cpl;
    let new_flags = returned_flags::<W>(x, flags);
    x.unblock_nmis();
    match stack {
        Some((rsp, segment)) => {
            x.state.segments[State::SS] = segment;
            x.set_code_segment(code.loaded(), rpl);
            x.set_returned_pointer(rsp, W::BITS);
        }
        None => {
            x.set_stack_pointer(pointer.wrapping_add(3 * W::BYTES));
            x.set_code_segment(code.loaded(), rpl);
        }
    }
    x.state.rip = rip;
    x.set_rflags(new_flags);
    if outer {
        x.drop_privileged_segments();
    }
    Ok(())
}

/// The stack segment that a return to privilege level `rpl` loads. Null fits a return to 64-bit code below level 3.
pub(super) fn return_stack(
    x: &mut Exec<'_>,
    selector: u16,
    rpl: u8,
    to64: bool,
) -> Result<Segment, Trap> {
    if is_null(selector) && to64 && rpl < 3 && (selector & 3) as u8 == rpl {
        return Ok(null_stack(selector, rpl));
    }
    if is_null(selector) {
        return Err(x.general_protection(0));
    }
    x.stack_segment(selector, rpl, vector::GP)
}

/// RFLAGS after IRET: which bits change depends on the privilege level that it returns from.
fn returned_flags<W: Int>(x: &Exec<'_>, popped: u64) -> u64 {
    let mut mask = rflags::ARITHMETIC | rflags::TF | rflags::DF | rflags::NT;
    if W::BITS > 16 {
        mask |= rflags::RF | rflags::AC | rflags::ID;
    }
    if x.cpl <= x.iopl() {
        mask |= rflags::IF;
    }
    if x.cpl == 0 {
        mask |= rflags::IOPL;
        if W::BITS > 16 {
            mask |= rflags::VIF | rflags::VIP;
        }
    }
    x.rflags() & !mask | popped & mask
}

fn iret_real<W: Int>(x: &mut Exec<'_>) -> Done {
    if x.vm86() && x.iopl() < 3 && !(W::BITS == 16 && x.cr4(cr4::VME)) {
        return Err(x.general_protection(0));
    }
    let pointer = x.stack_pointer();
    let word = |x: &mut Exec<'_>, n: u64| {
        x.load_stack::<W>(pointer.wrapping_add(n * W::BYTES))
            .map(Int::zero_extend)
    };
    let (rip, cs, popped) = (word(x, 0)?, word(x, 1)? as u16, word(x, 2)?);
    if rip > 0xffff {
        return Err(x.general_protection(0));
    }
    let mut mask = rflags::ARITHMETIC | rflags::TF | rflags::DF | rflags::NT;
    let mut new = popped;
    if W::BITS > 16 {
        mask |= rflags::RF | rflags::AC | rflags::ID;
    }
    if x.vm86() && x.iopl() < 3 {
        let waits = x.state.rflags & rflags::VIP != 0 && popped & rflags::IF != 0;
        if waits || popped & rflags::TF != 0 {
            return Err(x.general_protection(0));
        }
        mask |= rflags::VIF;
        new = new & !rflags::VIF
            | if popped & rflags::IF != 0 {
                rflags::VIF
            } else {
                0
            };
    } else {
        mask |= rflags::IF | if x.vm86() { 0 } else { rflags::IOPL };
    }
    x.set_stack_pointer(pointer.wrapping_add(3 * W::BYTES));
    x.state.segments[State::CS] = x.real_segment(State::CS, cs);
    x.state.rip = rip;
    x.unblock_nmis();
    let flags = x.rflags() & !mask | new & mask;
    x.set_rflags(flags);
    Ok(())
}

/// IRET from level 0 into virtual-8086 mode: nine words are popped.
fn iret_to_vm86(x: &mut Exec<'_>, rip: u64, cs: u16, flags: u64) -> Done {
    let pointer = x.stack_pointer();
    let mut words = [0u32; 6];
    for (n, word) in (3..).zip(words.iter_mut()) {
        *word = x.load_stack(pointer.wrapping_add(4 * n))?;
    }
    let [esp, ss, es, ds, fs, gs] = words;
    if rip > 0xffff {
        return Err(x.general_protection(0));
    }
    x.unblock_nmis();
    x.cpl = 3;
    x.set_rflags(flags);
    for (number, selector) in [
        (State::ES, es),
        (State::SS, ss),
        (State::DS, ds),
        (State::FS, fs),
        (State::GS, gs),
    ] {
        x.state.segments[number] = x.real_segment(number, selector as u16);
    }
    x.state.segments[State::CS] = x.real_segment(State::CS, cs);
    x.state.gpr[4] = u64::from(esp);
    x.state.rip = rip;
    x.update_mode();
    Ok(())
}

impl Exec<'_> {
    /// Sets the stack pointer that a return popped, at the size of the stack that it returns to.
    pub(super) fn set_returned_pointer(&mut self, value: u64, bits: u32) {
        if self.stack_size() == 2 || bits == 16 {
            self.set_gpr(4, value as u16);
        } else {
            self.set_gpr(4, value);
        }
    }
}

fn flat(selector: u16, rights: u16, cpl: u8) -> Segment {
    Segment {
        selector,
        rights: rights | u16::from(cpl) << segment::DPL_SHIFT,
        limit: u32::MAX,
        base: 0,
    }
}

fn syscall(x: &mut Exec<'_>, _insn: &Insn) -> Done {
    if x.state.msrs.efer & efer::SCE == 0 || !x.code64() {
        return Err(x.undefined());
    }
    let flags = x.rflags();
    x.state.gpr[1] = x.state.rip;
    x.state.gpr[11] = flags & !rflags::RF;
    x.state.rip = x.state.msrs.lstar;
    let selector = (x.state.msrs.star >> 32) as u16 & !3;
    x.state.segments[State::SS] = flat(selector.wrapping_add(8), FLAT_DATA, 0);
    let kept = flags & !(x.state.msrs.fmask | rflags::RF);
    x.set_code_segment(flat(selector, CODE64, 0), 0);
    x.set_rflags(kept);
    Ok(())
}

/// To 64-bit code with an operand size of 8, to compatibility mode otherwise.
fn sysret(x: &mut Exec<'_>, insn: &Insn) -> Done {
    if x.state.msrs.efer & efer::SCE == 0 || !x.code64() {
        return Err(x.undefined());
    }
    let to64 = insn.width() == 8;
    let target = if to64 {
        x.state.gpr[1]
    } else {
        x.state.gpr[1] & 0xffff_ffff
    };
    if x.cpl != 0 || !canonical(target) {
        return Err(x.general_protection(0));
    }
    let base = (x.state.msrs.star >> 48) as u16 | 3;
    let (code, rights) = if to64 {
        (base.wrapping_add(16), CODE64)
    } else {
        (base, CODE32)
    };
    x.state.rip = target;
    x.state.segments[State::SS] = flat(base.wrapping_add(8) | 3, FLAT_DATA, 3);
    x.set_code_segment(flat(code, rights, 3), 3);
    let flags = x.state.gpr[11] & !(rflags::RF | rflags::VM);
    x.set_rflags(flags);
    Ok(())
}

fn sysenter(x: &mut Exec<'_>, _insn: &Insn) -> Done {
    let selector = x.state.msrs.sysenter_cs as u16 & !3;
    if x.real_mode() || is_null(selector) {
        return Err(x.general_protection(0));
    }
    let long = x.long_mode();
    let narrow = |value: u64| if long { value } else { value & 0xffff_ffff };
    x.state.rip = narrow(x.state.msrs.sysenter_eip);
    x.state.gpr[4] = narrow(x.state.msrs.sysenter_esp);
    x.state.segments[State::SS] = flat(selector.wrapping_add(8), FLAT_DATA, 0);
    let flags = x.rflags() & !(rflags::VM | rflags::IF | rflags::RF);
    x.cpl = 0;
    x.set_rflags(flags);
    x.set_code_segment(flat(selector, if long { CODE64 } else { CODE32 }, 0), 0);
    Ok(())
}

fn sysexit(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let selector = x.state.msrs.sysenter_cs as u16 & !3;
    let to64 = insn.width() == 8;
    let narrow = |value: u64| if to64 { value } else { value & 0xffff_ffff };
    let (rip, rsp) = (narrow(x.state.gpr[2]), narrow(x.state.gpr[1]));
    let fits =
        !x.real_mode() && x.cpl == 0 && !is_null(selector) && canonical(rip) && canonical(rsp);
    if !fits {
        return Err(x.general_protection(0));
    }
    let (code, rights) = if to64 {
        (selector.wrapping_add(32), CODE64)
    } else {
        (selector.wrapping_add(16), CODE32)
    };
    x.state.rip = rip;
    x.state.gpr[4] = rsp;
    x.state.segments[State::SS] = flat(code.wrapping_add(8) | 3, FLAT_DATA, 3);
    x.set_code_segment(flat(code, rights, 3), 3);
    Ok(())
}
