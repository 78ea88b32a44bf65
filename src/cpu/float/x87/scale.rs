//! FSCALE and FXTRACT.

use super::super::round::Raw;
use super::super::unpacked::{Kind, Unpacked};
use super::super::{Env, Flags, Rounding};
use super::{Answer, F80, canonical, convert, pack, propagate_one, propagate_two};

/// FSCALE: `a * 2^b`, `b` truncated to an integer.
pub fn scale(a: F80, b: F80, env: &Env) -> Answer {
    let (x, y) = (a.unpack(), b.unpack());
    if let Some(answer) = propagate_two(a, b, &x, &y) {
        return answer;
    }
    let before = x.denormal() | y.denormal();
    let negative = x.negative();
    match (x.kind, y.kind) {
        (Kind::Zero, Kind::Infinity) if !y.negative() => (F80::DEFAULT_NAN, Flags::IE),
        (Kind::Infinity, Kind::Infinity) if y.negative() => (F80::DEFAULT_NAN, Flags::IE),
        _ if !env.unmasked(before).is_empty() => (a, before),
        (Kind::Zero | Kind::Infinity, _) => (a, before),
        (_, Kind::Zero) => (canonical(&x.number), before),
        (_, Kind::Infinity) if y.negative() => (F80::zero(negative), before),
        (_, Kind::Infinity) => (F80::infinity(negative), before),
        _ => {
            let mut raw = Raw::from(x.number);
            raw.exp += places(&y);
            let (value, mut after) = pack(&raw, 64, env);
            // Too far away even for the adjusted exponent of an unmasked response.
            after |= match value.unpack().kind {
                Kind::Infinity => Flags::PE | Flags::C1,
                Kind::Zero => Flags::PE,
                _ => Flags::empty(),
            };
            (value, before | after)
        }
    }
}

/// The integer part of a scale factor, bounded far outside the range of exponents.
fn places(y: &Unpacked) -> i32 {
    const BOUND: i64 = 1 << 20;
    let beyond = if y.negative() { -BOUND } else { BOUND };
    let n = y.to_i64(Rounding::Zero).map_or(beyond, |(n, ..)| n);
    n.clamp(-BOUND, BOUND) as i32
}

/// FXTRACT: the exponent, which replaces ST(0), and the significand, which is pushed.
pub fn extract(a: F80, env: &Env) -> ((F80, F80), Flags) {
    let x = a.unpack();
    if let Some((nan, flags)) = propagate_one(a, &x) {
        return ((nan, nan), flags);
    }
    let negative = x.negative();
    match x.kind {
        Kind::Zero => ((F80::infinity(true), a), Flags::ZE),
        Kind::Infinity => ((F80::infinity(false), a), Flags::empty()),
        _ if !env.commits(x.denormal()) => ((a, a), x.denormal()),
        _ => {
            let exponent = convert::from_integer(i64::from(x.number.exp));
            let significand = F80::normal(negative, 0, x.number.sig);
            ((exponent, significand), x.denormal())
        }
    }
}
