//! ADD, SUB, MUL, DIV, SQRT, MIN and MAX of one lane.

use super::super::arithmetic as exact;
use super::super::arithmetic::Outcome;
use super::super::unpacked::Unpacked;
use super::super::{Env, Flags, Relation};
use super::{Answer, Format, finish, quiet, unpack};

/// The answer of an operation on NaNs, if one of the operands is a NaN: the first of them, made quiet (SDM 1,
/// table 4-7).
fn propagate<F: Format>(a: u64, b: u64, x: &Unpacked, y: &Unpacked) -> Option<Answer> {
    let bits = match (x.is_nan(), y.is_nan()) {
        (true, _) => a,
        (_, true) => b,
        _ => return None,
    };
    let flags = Flags::IE.when(x.is_invalid() || y.is_invalid());
    Some((quiet::<F>(bits), flags))
}

fn binary<F: Format>(
    a: u64,
    b: u64,
    env: &Env,
    operation: impl FnOnce(&Unpacked, &Unpacked) -> Outcome,
) -> Answer {
    let (x, y) = (unpack::<F>(a, env.daz), unpack::<F>(b, env.daz));
    propagate::<F>(a, b, &x, &y).unwrap_or_else(|| {
        let before = x.denormal() | y.denormal();
        finish::<F>(operation(&x, &y), before, env)
    })
}

/// `a + b`.
pub fn add<F: Format>(a: u64, b: u64, env: &Env) -> Answer {
    binary::<F>(a, b, env, |x, y| exact::add(x, y, env.rounding))
}

/// `a - b`.
pub fn subtract<F: Format>(a: u64, b: u64, env: &Env) -> Answer {
    binary::<F>(a, b, env, |x, y| exact::add(x, &y.negated(), env.rounding))
}

/// `a * b`.
pub fn multiply<F: Format>(a: u64, b: u64, env: &Env) -> Answer {
    binary::<F>(a, b, env, exact::multiply)
}

/// `a / b`.
pub fn divide<F: Format>(a: u64, b: u64, env: &Env) -> Answer {
    binary::<F>(a, b, env, exact::divide)
}

/// The square root of `b`.
pub fn square_root<F: Format>(b: u64, env: &Env) -> Answer {
    let y = unpack::<F>(b, env.daz);
    propagate::<F>(b, b, &y, &y)
        .unwrap_or_else(|| finish::<F>(exact::square_root(&y), y.denormal(), env))
}

/// The smaller of `a` and `b`, or `b` if they are zeros or one is a NaN.
pub fn minimum<F: Format>(a: u64, b: u64, env: &Env) -> Answer {
    choose::<F>(a, b, env, Relation::Less)
}

/// The greater of `a` and `b`, or `b` if they are zeros or one is a NaN.
pub fn maximum<F: Format>(a: u64, b: u64, env: &Env) -> Answer {
    choose::<F>(a, b, env, Relation::Greater)
}

/// `a` if it is to `b` as `wanted` says, else `b`, unchanged even if it is a signaling NaN (SDM 2, MINPS). Under
/// DAZ a chosen denormal is a zero as well.
fn choose<F: Format>(a: u64, b: u64, env: &Env, wanted: Relation) -> Answer {
    let (x, y) = (unpack::<F>(a, env.daz), unpack::<F>(b, env.daz));
    if x.is_nan() || y.is_nan() {
        return (flushed::<F>(b, &y), Flags::IE);
    }
    let before = x.denormal() | y.denormal();
    if exact::compare(&x, &y) == wanted {
        (flushed::<F>(a, &x), before)
    } else {
        (flushed::<F>(b, &y), before)
    }
}

/// `bits`, or the zero of its sign if that is what was unpacked from it.
fn flushed<F: Format>(bits: u64, unpacked: &Unpacked) -> u64 {
    if unpacked.kind == super::Kind::Zero {
        super::sign::<F>(bits)
    } else {
        bits
    }
}
