//! Near branches: Jcc, JMP, CALL, RET, JCXZ, LOOP.
//!
//! The target is checked before anything is written: against the code segment's limit, or to be canonical.

use hvf_sys::cpu::{Insn, Op};

use super::super::core::{Done, Exec, Trap};
use super::super::int::Int;
use super::super::memory::canonical;
use super::{Handler, by_word};

pub(super) fn select(insn: &Insn) -> Handler {
    match insn.op() {
        Op::Jcc => jcc(insn),
        Op::Jmp if insn.a().is_imm() => |x, insn| x.jump_by(insn),
        Op::Jmp => by_word!(insn, jump_to),
        Op::Call if insn.a().is_imm() => by_word!(insn, call_by),
        Op::Call => by_word!(insn, call_to),
        Op::Ret => by_word!(insn, ret),
        Op::Jcxz => |x, insn| {
            let count = x.counter(insn);
            if count == 0 { x.jump_by(insn) } else { Ok(()) }
        },
        _ => looping,
    }
}

fn jcc(insn: &Insn) -> Handler {
    macro_rules! conditions {
        ($($c:literal)*) => {
            match insn.aux() & 15 {
                $($c => |x, insn| if x.flags.condition($c) { x.jump_by(insn) } else { Ok(()) },)*
                _ => |_, _| Ok(()),
            }
        };
    }
    conditions!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
}

impl Exec<'_> {
    /// Jumps relative to the next instruction.
    #[inline(always)]
    fn jump_by(&mut self, insn: &Insn) -> Done {
        let target = self.relative(insn)?;
        self.state.rip = target;
        Ok(())
    }

    #[inline(always)]
    fn relative(&mut self, insn: &Insn) -> Result<u64, Trap> {
        let target = self.state.rip.wrapping_add(insn.immediate());
        if insn.long() && insn.width() == 8 && canonical(target) {
            Ok(target)
        } else {
            self.checked(insn.width(), target)
        }
    }

    /// A branch target at an operand size, checked against the code segment.
    pub fn checked(&mut self, width: u8, target: u64) -> Result<u64, Trap> {
        let target = match width {
            2 => target & 0xffff,
            4 => target & 0xffff_ffff,
            _ => target,
        };
        let fits = if self.code64() {
            canonical(target)
        } else {
            target <= u64::from(self.segment(1).limit)
        };
        if fits {
            Ok(target)
        } else {
            Err(self.general_protection(0))
        }
    }

    /// CX, ECX or RCX, by address size.
    fn counter(&self, insn: &Insn) -> u64 {
        match insn.address_size() {
            2 => self.state.gpr[1] & 0xffff,
            4 => self.state.gpr[1] & 0xffff_ffff,
            _ => self.state.gpr[1],
        }
    }

    /// Sets CX, ECX or RCX.
    pub(super) fn set_counter(&mut self, insn: &Insn, value: u64) {
        match insn.address_size() {
            2 => self.set_gpr(1, value as u16),
            4 => self.set_gpr(1, value as u32),
            _ => self.set_gpr(1, value),
        }
    }
}

fn jump_to<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let target: W = x.read(insn, insn.a())?;
    x.state.rip = x.checked(insn.width(), target.zero_extend())?;
    Ok(())
}

fn call_by<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let target = x.relative(insn)?;
    x.push(W::truncate(x.state.rip))?;
    x.state.rip = target;
    Ok(())
}

fn call_to<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let target: W = x.read(insn, insn.a())?;
    let target = x.checked(insn.width(), target.zero_extend())?;
    x.push(W::truncate(x.state.rip))?;
    x.state.rip = target;
    Ok(())
}

fn ret<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let pointer = x.stack_pointer();
    let target: W = x.load_stack(pointer)?;
    x.state.rip = x.checked(insn.width(), target.zero_extend())?;
    let released = if insn.a().is_imm() {
        insn.immediate() & 0xffff
    } else {
        0
    };
    x.set_stack_pointer(pointer.wrapping_add(W::BYTES).wrapping_add(released));
    Ok(())
}

fn looping(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let count = x.counter(insn).wrapping_sub(1);
    let mask = if insn.address_size() == 2 {
        0xffff
    } else {
        u64::MAX >> (64 - 8 * u32::from(insn.address_size()))
    };
    let more = count & mask != 0
        && match insn.op() {
            Op::Loope => x.flags.zero(),
            Op::Loopne => !x.flags.zero(),
            _ => true,
        };
    let target = if more { Some(x.relative(insn)?) } else { None };
    x.set_counter(insn, count);
    if let Some(target) = target {
        x.state.rip = target;
    }
    Ok(())
}
