//! FPREM and FPREM1 (SDM 2, their pages): exact remainders, at most 63 places of the quotient at a time.

use super::super::round::Raw;
use super::super::unpacked::{Kind, Number};
use super::super::{Env, Flags};
use super::{Answer, F80, canonical, pack, propagate_two};

/// How the last step's quotient is rounded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotient {
    Truncated,
    Nearest,
}

/// FPREM: `a - b * q`, the quotient truncated.
pub fn remainder(a: F80, b: F80, env: &Env) -> Answer {
    operate(a, b, env, Quotient::Truncated)
}

/// FPREM1: `a - b * q`, the quotient rounded to nearest, as IEEE 754 has it.
pub fn ieee_remainder(a: F80, b: F80, env: &Env) -> Answer {
    operate(a, b, env, Quotient::Nearest)
}

fn operate(a: F80, b: F80, env: &Env, last: Quotient) -> Answer {
    let (x, y) = (a.unpack(), b.unpack());
    if let Some(answer) = propagate_two(a, b, &x, &y) {
        return answer;
    }
    let before = x.denormal() | y.denormal();
    match (x.kind, y.kind) {
        (Kind::Infinity, _) | (_, Kind::Zero) => (F80::DEFAULT_NAN, Flags::IE),
        _ if !env.unmasked(before).is_empty() => (a, before),
        (Kind::Zero, _) => (a, before),
        (_, Kind::Infinity) => (canonical(&x.number), before),
        _ => {
            let (value, after) = reduce(&x.number, &y.number, env, last);
            (value, before | after)
        }
    }
}

fn reduce(x: &Number, y: &Number, env: &Env, last: Quotient) -> Answer {
    let distance = x.exp - y.exp;
    if distance < 64 {
        return complete(x, y, env, last);
    }
    // A step takes between 32 and 63 places off the distance; processors choose this number.
    let places = 32 + distance % 32;
    let dividend = u128::from(x.sig) << places;
    let rest = dividend % u128::from(y.sig);
    let (value, flags) = exact(x.negative, rest, y.exp + distance - places, env);
    (value, flags | Flags::C2)
}

/// The last step, which gives the quotient's low bits in C0, C3 and C1.
fn complete(x: &Number, y: &Number, env: &Env, last: Quotient) -> Answer {
    let distance = x.exp - y.exp;
    let divisor = u128::from(y.sig);
    let (mut quotient, mut rest, mut negative) = (0, u128::from(x.sig), x.negative);
    let mut exp = x.exp;
    if distance >= 0 {
        let dividend = rest << distance;
        (quotient, rest) = (dividend / divisor, dividend % divisor);
        exp = y.exp;
    }
    if last == Quotient::Nearest && distance >= -1 {
        // In units of the rest's last place: the divisor counts double when the rest kept the lower exponent.
        let divisor = divisor << i32::from(distance < 0);
        if 2 * rest > divisor || (2 * rest == divisor && quotient & 1 != 0) {
            rest = divisor - rest;
            quotient += 1;
            negative = !negative;
        }
    }
    let bits = Flags::C0.when(quotient & 4 != 0)
        | Flags::C3.when(quotient & 2 != 0)
        | Flags::C1.when(quotient & 1 != 0);
    if rest == 0 {
        return (F80::zero(x.negative), bits);
    }
    let (value, flags) = exact(negative, rest, exp, env);
    (value, flags | bits)
}

/// The remainder `rest / 2^63 * 2^exp`, which always fits 64 bits.
fn exact(negative: bool, rest: u128, exp: i32, env: &Env) -> Answer {
    Raw::new(negative, exp + 64, rest).map_or((F80::zero(negative), Flags::empty()), |raw| {
        pack(&raw, 64, env)
    })
}
