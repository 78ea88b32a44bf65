//! F2XM1: 2^x - 1.

use super::super::super::round::Raw;
use super::super::super::unpacked::Kind;
use super::super::super::wide::{ONE, multiply_high, reciprocal};
use super::super::super::{Env, Flags};
use super::super::{Answer, F80, propagate_one};
use super::inexact;

/// The natural logarithm of 2.
const LN_2: Raw = Raw {
    negative: false,
    exp: -1,
    sig: 0xb172_17f7_d1cf_79ab_c9e3_b398_03f2_f6af,
};

const MINUS_HALF: F80 = F80 {
    mantissa: 1 << 63,
    sign_exponent: 0xbffe,
};

/// The series ends where 0.7^n / (n + 1)! falls below 2^-125.
const TERMS: usize = 30;

/// `1 / (n + 1)`, the ratio of the series' coefficients.
const RATIOS: [u128; TERMS] = {
    let mut ratios = [0; TERMS];
    let mut n = 1;
    while n < TERMS {
        ratios[n] = reciprocal(n as u128 + 1);
        n += 1;
    }
    ratios
};

/// F2XM1. The SDM defines it from -1 to 1; beyond, the operand comes back.
pub fn exponential(a: F80, env: &Env) -> Answer {
    let x = a.unpack();
    if let Some(answer) = propagate_one(a, &x) {
        return answer;
    }
    let before = x.denormal();
    match x.kind {
        Kind::Infinity if x.negative() => (F80::ONE.negated(), before),
        Kind::Zero | Kind::Infinity => (a, before),
        _ if !env.commits(before) => (a, before),
        _ if x.number.exp >= 0 => at_one_or_beyond(a),
        _ => inexact(&expm1(&Raw::from(x.number).times(&LN_2)), before, env),
    }
}

/// The results at -1 and 1 are exact, but processors call them inexact all the same.
fn at_one_or_beyond(a: F80) -> Answer {
    let value = if a == F80::ONE.negated() {
        MINUS_HALF
    } else {
        a
    };
    (value, Flags::PE)
}

/// `e^y - 1` for `y` of magnitude below 0.7: `y` times (1 + y/2 (1 + y/3 (1 + ...))).
fn expm1(y: &Raw) -> Raw {
    let fraction = y.fraction();
    let sum = RATIOS[1..].iter().rev().fold(ONE, |sum, ratio| {
        let term = multiply_high(multiply_high(fraction, sum), *ratio);
        if y.negative { ONE - term } else { ONE + term }
    });
    y.times_sum(sum)
}
