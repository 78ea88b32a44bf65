//! Single flags, and instructions that do nothing that can be seen.

use hvf_sys::cpu::{Insn, Op};

use super::super::core::{Done, Exec};
use super::super::intercept::Intercepts;
use super::Handler;
use crate::x86::control::rflags::{AF, CF, DF, FIXED, PF, SF, ZF};

const AH: u64 = SF | ZF | AF | PF | CF;

pub(super) fn select(insn: &Insn) -> Handler {
    match insn.op() {
        Op::Clc => |x, _| set_carry(x, false),
        Op::Stc => |x, _| set_carry(x, true),
        Op::Cmc => |x, _| {
            let carry = x.flags.carry();
            set_carry(x, !carry)
        },
        Op::Cld => |x, _| {
            x.state.rflags &= !DF;
            Ok(())
        },
        Op::Std => |x, _| {
            x.state.rflags |= DF;
            Ok(())
        },
        Op::Lahf => lahf,
        Op::Sahf => sahf,
        Op::Lfence | Op::Mfence | Op::Sfence => |x, _| {
            x.tlb.ram().fence();
            Ok(())
        },
        Op::Pause => |x, _| x.intercept_plain(Intercepts::PAUSE, Op::Pause),
        _ => |_, _| Ok(()),
    }
}

fn set_carry(x: &mut Exec<'_>, carry: bool) -> Done {
    x.flags.set_carry(carry);
    Ok(())
}

fn lahf(x: &mut Exec<'_>, _insn: &Insn) -> Done {
    let ah = x.flags.bits() & AH | FIXED;
    x.state.gpr[0] = x.state.gpr[0] & !0xff00 | ah << 8;
    Ok(())
}

fn sahf(x: &mut Exec<'_>, _insn: &Insn) -> Done {
    let ah = x.state.gpr[0] >> 8 & 0xff;
    x.flags.assign(AH, ah);
    Ok(())
}
