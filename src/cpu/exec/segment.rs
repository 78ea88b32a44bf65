//! Segment registers as operands, and the instructions that look at descriptors.

use hvf_sys::cpu::{Insn, Op, Segment, State};

use super::super::core::{Done, Exec};
use super::super::int::Int;
use super::super::memory::canonical;
use super::super::segments::{Descriptor, is_null, selector_error};
use super::{Handler, by_word};
use crate::x86::control::rflags::ZF;
use crate::x86::segment::{self, system};
use crate::x86::vector;

pub(super) fn select(insn: &Insn) -> Handler {
    match insn.op() {
        Op::MovFromSeg => mov_from,
        Op::MovToSeg => mov_to,
        Op::PushSeg => by_word!(insn, push),
        Op::PopSeg => by_word!(insn, pop),
        Op::Lds | Op::Les | Op::Lfs | Op::Lgs | Op::Lss => by_word!(insn, load_far_pointer),
        Op::Sldt | Op::Str => store_selector,
        Op::Lldt => lldt,
        Op::Ltr => ltr,
        Op::Lar => lar,
        Op::Lsl => lsl,
        Op::Verr | Op::Verw => verify,
        Op::Arpl => arpl,
        _ => by_word!(insn, bound),
    }
}

impl Exec<'_> {
    /// Loads a segment register as an instruction does: a load of SS holds off interrupts for one instruction.
    fn load_segment_register(&mut self, number: usize, selector: u16) -> Done {
        if number == State::CS {
            return Err(self.undefined());
        }
        self.load_segment(number, selector)?;
        if number == State::SS {
            self.begin_shadow(true);
        }
        Ok(())
    }

    /// Stores a selector to memory in 16 bits, to a register zero-extended.
    fn write_selector(&mut self, insn: &Insn, selector: u16) -> Done {
        match insn.width() {
            _ if insn.a().is_mem() => self.store(insn, selector),
            2 => self.write(insn, insn.a(), selector),
            _ => self.write(insn, insn.a(), u32::from(selector)),
        }
    }
}

fn mov_from(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let selector = x.segment(insn.b().number()).selector;
    x.write_selector(insn, selector)
}

fn mov_to(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let selector = x.read(insn, insn.b())?;
    x.load_segment_register(insn.a().number(), selector)
}

fn push<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let selector = x.segment(insn.a().number()).selector;
    x.push(W::truncate(u64::from(selector)))
}

fn pop<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let pointer = x.stack_pointer();
    let selector: u16 = x.load_stack(pointer)?;
    let moved = pointer.wrapping_add(W::BYTES);
    // The stack pointer moves at the size that the old stack segment had.
    let (before, mask) = (x.state.gpr[4], x.stack_mask());
    x.load_segment_register(insn.a().number(), selector)?;
    x.state.gpr[4] = before & !mask | moved & mask;
    Ok(())
}

fn load_far_pointer<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let la = x.linear(insn, W::BYTES + 2, false)?;
    let offset: W = x.load_at(la, insn.segment())?;
    let selector: u16 = x.load_at(la.wrapping_add(W::BYTES), insn.segment())?;
    let number = match insn.op() {
        Op::Lds => State::DS,
        Op::Les => State::ES,
        Op::Lfs => State::FS,
        Op::Lgs => State::GS,
        _ => State::SS,
    };
    x.load_segment_register(number, selector)?;
    x.set_gpr(insn.a().low_bits(), offset);
    Ok(())
}

fn require_protected(x: &mut Exec<'_>) -> Done {
    if x.real_mode() || x.vm86() {
        Err(x.undefined())
    } else {
        Ok(())
    }
}

fn store_selector(x: &mut Exec<'_>, insn: &Insn) -> Done {
    require_protected(x)?;
    x.require_visible()?;
    let number = if insn.op() == Op::Sldt {
        State::LDTR
    } else {
        State::TR
    };
    let selector = x.segment(number).selector;
    x.write_selector(insn, selector)
}

impl Exec<'_> {
    /// A system descriptor as a segment register holds it: sixteen bytes in long mode.
    fn system_segment(&mut self, found: &Descriptor) -> Result<Segment, super::super::core::Trap> {
        let mut loaded = found.loaded();
        if self.long_mode() {
            self.require_wide(found)?;
            let high: u32 = self.load_system(found.at.wrapping_add(8))?;
            loaded.base |= u64::from(high) << 32;
            if !canonical(loaded.base) {
                return Err(self.general_protection(selector_error(found.selector)));
            }
        }
        Ok(loaded)
    }
}

fn lldt(x: &mut Exec<'_>, insn: &Insn) -> Done {
    require_protected(x)?;
    x.require_kernel()?;
    let selector: u16 = x.read(insn, insn.a())?;
    if is_null(selector) {
        x.state.segments[State::LDTR] = Segment {
            selector,
            ..Segment::default()
        };
        return Ok(());
    }
    if selector & 4 != 0 {
        return Err(x.general_protection(selector_error(selector)));
    }
    let found = x.descriptor(selector, vector::GP)?;
    if found.is_segment() || found.system_type() != system::LDT {
        return Err(x.general_protection(selector_error(selector)));
    }
    if !found.present() {
        return Err(x.raise_with(vector::NP, selector_error(selector)));
    }
    x.state.segments[State::LDTR] = x.system_segment(&found)?;
    Ok(())
}

/// Loads the task register and marks the TSS busy.
fn ltr(x: &mut Exec<'_>, insn: &Insn) -> Done {
    require_protected(x)?;
    x.require_kernel()?;
    let selector: u16 = x.read(insn, insn.a())?;
    if is_null(selector) || selector & 4 != 0 {
        return Err(x.general_protection(selector_error(selector)));
    }
    let found = x.descriptor(selector, vector::GP)?;
    let available = found.system_type() == system::TSS32
        || found.system_type() == system::TSS16 && !x.long_mode();
    if found.is_segment() || !available {
        return Err(x.general_protection(selector_error(selector)));
    }
    if !found.present() {
        return Err(x.raise_with(vector::NP, selector_error(selector)));
    }
    let mut loaded = x.system_segment(&found)?;
    x.store_system(found.at.wrapping_add(5), (found.bits >> 40) as u8 | 2)?;
    loaded.rights |= 2;
    x.state.segments[State::TR] = loaded;
    Ok(())
}

/// The descriptor that LAR, LSL, VERR and VERW may look at, where there is one.
fn visible(
    x: &mut Exec<'_>,
    selector: u16,
) -> Result<Option<Descriptor>, super::super::core::Trap> {
    if is_null(selector) {
        return Ok(None);
    }
    let limit = if selector & 4 == 0 {
        u32::from(x.state.gdtr.limit)
    } else if x.segment(State::LDTR).rights & segment::P != 0 {
        x.segment(State::LDTR).limit
    } else {
        return Ok(None);
    };
    if u32::from(selector | 7) > limit {
        return Ok(None);
    }
    let found = x.descriptor(selector, vector::GP)?;
    let privileged = found.is_conforming() || x.cpl.max((selector & 3) as u8) <= found.dpl();
    Ok(privileged.then_some(found))
}

fn set_zero(x: &mut Exec<'_>, zero: bool) {
    x.flags.assign(ZF, if zero { ZF } else { 0 });
}

fn lar(x: &mut Exec<'_>, insn: &Insn) -> Done {
    require_protected(x)?;
    let selector: u16 = x.read(insn, insn.b())?;
    let long = x.long_mode();
    let shown = visible(x, selector)?.filter(|found| {
        found.is_segment()
            || match found.system_type() {
                system::LDT | system::TSS32 | system::TSS32_BUSY | system::CALL_GATE32 => true,
                system::TSS16 | system::TSS16_BUSY | system::CALL_GATE16 | system::TASK_GATE => {
                    !long
                }
                _ => false,
            }
    });
    set_zero(x, shown.is_some());
    if let Some(found) = shown {
        let rights = (found.bits >> 32) as u32 & 0x00ff_ff00;
        write_result(x, insn, rights);
    }
    Ok(())
}

fn lsl(x: &mut Exec<'_>, insn: &Insn) -> Done {
    require_protected(x)?;
    let selector: u16 = x.read(insn, insn.b())?;
    let long = x.long_mode();
    let shown = visible(x, selector)?.filter(|found| {
        found.is_segment()
            || match found.system_type() {
                system::LDT | system::TSS32 | system::TSS32_BUSY => true,
                system::TSS16 | system::TSS16_BUSY => !long,
                _ => false,
            }
    });
    set_zero(x, shown.is_some());
    if let Some(found) = shown {
        write_result(x, insn, segment::limit(found.bits));
    }
    Ok(())
}

fn write_result(x: &mut Exec<'_>, insn: &Insn, value: u32) {
    if insn.width() == 2 {
        x.set_gpr(insn.a().low_bits(), value as u16);
    } else {
        x.set_gpr(insn.a().low_bits(), value);
    }
}

fn verify(x: &mut Exec<'_>, insn: &Insn) -> Done {
    require_protected(x)?;
    let selector: u16 = x.read(insn, insn.a())?;
    let good = visible(x, selector)?.is_some_and(|found| {
        if insn.op() == Op::Verw {
            found.is_writable_data()
        } else {
            found.is_segment() && (!found.is_code() || found.rights() & segment::READABLE != 0)
        }
    });
    set_zero(x, good);
    Ok(())
}

fn arpl(x: &mut Exec<'_>, insn: &Insn) -> Done {
    require_protected(x)?;
    let rpl = x.read_register::<u16>(insn.b()) & 3;
    let old = x.modify::<u16>(insn, insn.a(), |old| {
        if old & 3 < rpl { old & !3 | rpl } else { old }
    })?;
    set_zero(x, old & 3 < rpl);
    Ok(())
}

fn bound<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let la = x.linear(insn, 2 * W::BYTES, false)?;
    let low: W = x.load_at(la, insn.segment())?;
    let high: W = x.load_at(la.wrapping_add(W::BYTES), insn.segment())?;
    let index = x.gpr::<W>(insn.a().low_bits()).sign_extend() as i64;
    if index < low.sign_extend() as i64 || index > high.sign_extend() as i64 {
        return Err(x.raise(vector::BR));
    }
    Ok(())
}
