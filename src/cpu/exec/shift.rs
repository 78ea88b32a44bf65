//! Shifts and rotates. Flags that the SDM leaves undefined get what Intel's processors give where that is simple.

use hvf_sys::cpu::{Insn, Op};

use super::super::core::{Done, Exec};
use super::super::flags::Flags;
use super::super::int::Int;
use super::{Handler, by_width, by_word};

/// A shift by a count that is already masked and not zero.
trait Shift {
    fn apply<W: Int>(flags: &mut Flags, a: W, count: u32) -> W;
}

macro_rules! shifts {
    ($($name:ident |$flags:ident, $a:ident, $count:ident| $body:block)*) => {
        $(
            struct $name;
            impl Shift for $name {
                #[inline(always)]
                fn apply<W: Int>($flags: &mut Flags, $a: W, $count: u32) -> W $body
            }
        )*
    };
}

shifts! {
    Shl |flags, a, count| {
        let wide = u128::from(a.zero_extend()) << count;
        let result = W::truncate(wide as u64);
        let carry = wide >> W::BITS & 1 != 0;
        flags.set_result(result, carry, result.sign() != carry);
        result
    }
    Shr |flags, a, count| {
        let wide = u128::from(a.zero_extend()) << 64 >> count;
        let result = W::truncate((wide >> 64) as u64);
        flags.set_result(result, wide >> 63 & 1 != 0, a.sign());
        result
    }
    Sar |flags, a, count| {
        let wide = (i128::from(a.sign_extend() as i64) << 64) >> count;
        let result = W::truncate((wide >> 64) as u64);
        flags.set_result(result, wide >> 63 & 1 != 0, false);
        result
    }
    Rol |flags, a, count| {
        let result = rotate_left(a, count);
        let carry = result.zero_extend() & 1 != 0;
        flags.set_carry_and_overflow(carry, result.sign() != carry);
        result
    }
    Ror |flags, a, count| {
        let result = rotate_left(a, W::BITS - count % W::BITS);
        let below = (result << 1).sign();
        flags.set_carry_and_overflow(result.sign(), result.sign() != below);
        result
    }
    Rcl |flags, a, count| {
        let (result, carry) = rotate_through_carry(a, flags.carry(), count % (W::BITS + 1));
        flags.set_carry_and_overflow(carry, result.sign() != carry);
        result
    }
    Rcr |flags, a, count| {
        let (result, carry) = rotate_through_carry(a, flags.carry(), (W::BITS + 1 - count % (W::BITS + 1)) % (W::BITS + 1));
        flags.set_carry_and_overflow(carry, result.sign() != (result << 1).sign());
        result
    }
}

#[inline(always)]
fn rotate_left<W: Int>(a: W, count: u32) -> W {
    let count = count % W::BITS;
    if count == 0 {
        a
    } else {
        a << count | a >> (W::BITS - count)
    }
}

/// Rotates the operand with the carry above it left by `count`, at most the operand's size.
fn rotate_through_carry<W: Int>(a: W, carry: bool, count: u32) -> (W, bool) {
    let bits = W::BITS + 1;
    let joined = u128::from(a.zero_extend()) | u128::from(carry) << W::BITS;
    let rotated = if count == 0 {
        joined
    } else {
        joined << count | joined >> (bits - count)
    };
    (W::truncate(rotated as u64), rotated >> W::BITS & 1 != 0)
}

pub(super) fn select(insn: &Insn) -> Handler {
    match insn.op() {
        Op::Rol => shift::<Rol>(insn),
        Op::Ror => shift::<Ror>(insn),
        Op::Rcl => shift::<Rcl>(insn),
        Op::Rcr => shift::<Rcr>(insn),
        Op::Shl => shift::<Shl>(insn),
        Op::Shr => shift::<Shr>(insn),
        Op::Sar => shift::<Sar>(insn),
        Op::Shld => by_word!(insn, shld),
        _ => by_word!(insn, shrd),
    }
}

fn shift<S: Shift>(insn: &Insn) -> Handler {
    if insn.a().is_gpr() && insn.b().is_imm() {
        by_width!(insn, register_immediate, S)
    } else {
        by_width!(insn, any_any, S)
    }
}

fn count<W: Int>(x: &Exec<'_>, insn: &Insn, immediate: bool) -> u32 {
    let raw = if immediate {
        insn.immediate() as u32
    } else {
        x.state.gpr[1] as u32
    };
    raw & if W::BITS == 64 { 63 } else { 31 }
}

fn register_immediate<S: Shift, W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let count = count::<W>(x, insn, true);
    let a: W = x.gpr(insn.a().low_bits());
    let result = if count == 0 {
        a
    } else {
        S::apply(&mut x.flags, a, count)
    };
    x.set_gpr(insn.a().low_bits(), result);
    Ok(())
}

fn any_any<S: Shift, W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let count = count::<W>(x, insn, insn.b().is_imm());
    let before = x.flags;
    let mut after = before;
    x.modify::<W>(insn, insn.a(), |a| {
        after = before;
        if count == 0 {
            a
        } else {
            S::apply(&mut after, a, count)
        }
    })?;
    x.flags = after;
    Ok(())
}

fn shld<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    double(x, insn, |flags, a: W, b: W, count| {
        // Bits from the second operand come in below; with 16 bits and more than 16 places, the first operand again.
        let bits = W::BITS;
        let joined = u128::from(a.zero_extend()) << bits | u128::from(b.zero_extend());
        let shifted = if bits == 16 {
            joined << 16 | u128::from(a.zero_extend())
        } else {
            joined
        };
        let top = if bits == 16 { 32 } else { bits };
        let result = W::truncate((shifted << count >> top) as u64);
        let carry = shifted >> (top + bits - count) & 1 != 0;
        flags.set_result(result, carry, result.sign() != a.sign());
        result
    })
}

fn shrd<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    double(x, insn, |flags, a: W, b: W, count| {
        let bits = W::BITS;
        let joined = u128::from(b.zero_extend()) << bits | u128::from(a.zero_extend());
        let shifted = if bits == 16 {
            u128::from(a.zero_extend()) << 32 | joined
        } else {
            joined
        };
        let result = W::truncate((shifted >> count) as u64);
        let carry = shifted >> (count - 1) & 1 != 0;
        flags.set_result(result, carry, result.sign() != a.sign());
        result
    })
}

#[inline(always)]
fn double<W: Int>(
    x: &mut Exec<'_>,
    insn: &Insn,
    apply: impl Fn(&mut Flags, W, W, u32) -> W,
) -> Done {
    let count = count::<W>(x, insn, insn.c().is_imm());
    let b: W = x.read_register(insn.b());
    let before = x.flags;
    let mut after = before;
    x.modify::<W>(insn, insn.a(), |a| {
        after = before;
        if count == 0 {
            a
        } else {
            apply(&mut after, a, b, count)
        }
    })?;
    x.flags = after;
    Ok(())
}
