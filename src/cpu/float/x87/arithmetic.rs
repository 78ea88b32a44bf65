//! FADD, FSUB, FMUL, FDIV, FSQRT (which precision control rounds) and FRNDINT.

use super::super::arithmetic::{self as exact, Outcome};
use super::super::unpacked::{Kind, Number, Unpacked};
use super::super::{Env, Flags};
use super::{Answer, F80, Operand, finish, propagate_one, propagate_two};

fn binary(
    a: impl Operand,
    b: impl Operand,
    env: &Env,
    operation: impl FnOnce(&Unpacked, &Unpacked) -> Outcome,
) -> Answer {
    let ((a, x), (b, y)) = (a.widen(), b.widen());
    propagate_two(a, b, &x, &y).unwrap_or_else(|| {
        let before = x.denormal() | y.denormal();
        finish(operation(&x, &y), before, env.precision.bits(), env)
    })
}

/// FADD: `a + b`.
pub fn add(a: impl Operand, b: impl Operand, env: &Env) -> Answer {
    binary(a, b, env, |x, y| exact::add(x, y, env.rounding))
}

/// FSUB, FSUBR: `a - b`.
pub fn subtract(a: impl Operand, b: impl Operand, env: &Env) -> Answer {
    binary(a, b, env, |x, y| exact::add(x, &y.negated(), env.rounding))
}

/// FMUL: `a * b`.
pub fn multiply(a: impl Operand, b: impl Operand, env: &Env) -> Answer {
    binary(a, b, env, exact::multiply)
}

/// FDIV, FDIVR: `a / b`.
pub fn divide(a: impl Operand, b: impl Operand, env: &Env) -> Answer {
    binary(a, b, env, exact::divide)
}

/// FSQRT.
pub fn square_root(a: F80, env: &Env) -> Answer {
    let x = a.unpack();
    propagate_one(a, &x).unwrap_or_else(|| {
        let outcome = exact::square_root(&x);
        finish(outcome, x.denormal(), env.precision.bits(), env)
    })
}

/// FRNDINT: `a` rounded to an integer by rounding control.
pub fn round_to_integral(a: F80, env: &Env) -> Answer {
    let x = a.unpack();
    if let Some(answer) = propagate_one(a, &x) {
        return answer;
    }
    let before = x.denormal();
    if x.kind != Kind::Finite || x.number.exp >= 63 || !env.unmasked(before).is_empty() {
        return (a, before);
    }
    let integral = x.number.to_integral(env.rounding);
    let value = integral
        .magnitude
        .and_then(|magnitude| Number::new(x.negative(), magnitude, 0))
        .map_or(F80::zero(x.negative()), |number| {
            F80::normal(number.negative, number.exp, number.sig)
        });
    let after = Flags::PE.when(integral.inexact) | Flags::C1.when(integral.up);
    (value, before | after)
}
