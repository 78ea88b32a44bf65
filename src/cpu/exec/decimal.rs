//! Decimal adjustments: AAA, AAS, DAA, DAS, AAM, AAD. Only outside 64-bit code.

use hvf_sys::cpu::{Insn, Op};

use super::super::core::{Done, Exec};
use super::Handler;
use crate::x86::control::rflags::{AF, CF};
use crate::x86::vector;

pub(super) fn select(insn: &Insn) -> Handler {
    match insn.op() {
        Op::Aaa => |x, _| ascii(x, true),
        Op::Aas => |x, _| ascii(x, false),
        Op::Daa => |x, _| decimal(x, true),
        Op::Das => |x, _| decimal(x, false),
        Op::Aam => aam,
        _ => aad,
    }
}

/// AAA adds 0x106 to AX where the digit overflowed, AAS subtracts it (SDM volume 2).
fn ascii(x: &mut Exec<'_>, add: bool) -> Done {
    let ax: u16 = x.gpr(0);
    let adjust = ax & 15 > 9 || x.flags.half_carry();
    let adjusted = match (adjust, add) {
        (false, _) => ax,
        (true, true) => ax.wrapping_add(0x106),
        (true, false) => ax.wrapping_sub(0x106),
    };
    x.set_gpr(0, adjusted & 0xff0f);
    x.flags.set_result((adjusted & 15) as u8, adjust, false);
    x.flags.assign(AF | CF, if adjust { AF | CF } else { 0 });
    Ok(())
}

fn decimal(x: &mut Exec<'_>, add: bool) -> Done {
    let old: u8 = x.gpr(0);
    let (low, high) = (
        old & 15 > 9 || x.flags.half_carry(),
        old > 0x99 || x.flags.carry(),
    );
    let mut al = old;
    let mut carry = high;
    let step = |value: u8, by: u8| {
        if add {
            value.wrapping_add(by)
        } else {
            value.wrapping_sub(by)
        }
    };
    if low {
        carry |= !add && old < 6;
        al = step(al, 6);
    }
    if high {
        al = step(al, 0x60);
    }
    x.set_gpr(0, al);
    x.flags.set_result(al, carry, false);
    x.flags.assign(AF, if low { AF } else { 0 });
    Ok(())
}

fn aam(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let (al, base) = (x.gpr::<u8>(0), insn.immediate() as u8);
    let (Some(high), Some(low)) = (al.checked_div(base), al.checked_rem(base)) else {
        return Err(x.raise(vector::DE));
    };
    x.set_gpr(0, u16::from(high) << 8 | u16::from(low));
    x.flags.set_result(low, false, false);
    Ok(())
}

fn aad(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let ax: u16 = x.gpr(0);
    let al = (ax as u8).wrapping_add(((ax >> 8) as u8).wrapping_mul(insn.immediate() as u8));
    x.set_gpr(0, u16::from(al));
    x.flags.set_result(al, false, false);
    Ok(())
}
