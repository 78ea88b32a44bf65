//! FYL2X, y log2(x), and FYL2XP1, y log2(x + 1).

use super::super::super::arithmetic::{self as exact, Outcome};
use super::super::super::round::Raw;
use super::super::super::unpacked::{Kind, Unpacked};
use super::super::super::wide::{multiply_high, reciprocal};
use super::super::super::{Env, Flags, Relation};
use super::super::{Answer, F80, propagate_two};
use super::{inexact, inexact_or_zero};

/// 2 / ln 2.
const TWO_OVER_LN_2: Raw = Raw {
    negative: false,
    exp: 1,
    sig: 0xb8aa_3b29_5c17_f0bb_be87_fed0_691d_3e89,
};

/// The square root of 2, in units of 2^-127.
const ROOT_2: u128 = 0xb504_f333_f9de_6484 << 64;

/// The series ends where 0.0295^n falls below 2^-125; FYL2XP1 beyond its range is less exact.
const TERMS: usize = 26;

/// `1 / (2n + 1)` as sums.
const COEFFICIENTS: [u128; TERMS] = {
    let mut coefficients = [super::super::super::wide::ONE; TERMS];
    let mut n = 1;
    while n < TERMS {
        coefficients[n] = reciprocal(2 * n as u128 + 1) >> 1;
        n += 1;
    }
    coefficients
};

/// FYL2X: `b` times the binary logarithm of `a`, where `a` is ST(0) and `b` ST(1) (SDM 2, table 3-46).
pub fn logarithm(a: F80, b: F80, env: &Env) -> Answer {
    let (x, y) = (a.unpack(), b.unpack());
    if let Some(answer) = propagate_two(a, b, &x, &y) {
        return answer;
    }
    let before = x.denormal() | y.denormal();
    let below_one = exact::compare(&x, &Unpacked::integer(1)) == Relation::Less;
    let negative = y.negative() != below_one;
    match (x.kind, y.kind) {
        (Kind::Zero, Kind::Zero) => (F80::DEFAULT_NAN, Flags::IE),
        (Kind::Zero, Kind::Infinity) => (F80::infinity(negative), before),
        (Kind::Zero, _) => (F80::infinity(negative), Flags::ZE),
        _ if x.negative() => (F80::DEFAULT_NAN, Flags::IE),
        (Kind::Infinity, Kind::Zero) => (F80::DEFAULT_NAN, Flags::IE),
        (_, Kind::Infinity) if a == F80::ONE => (F80::DEFAULT_NAN, Flags::IE),
        _ if !env.commits(before) => (b, before),
        (Kind::Infinity, _) | (_, Kind::Infinity) => (F80::infinity(negative), before),
        (_, Kind::Zero) => (F80::zero(negative), before),
        _ if x.number.sig == 1 << 63 => {
            // The logarithm of a power of 2 is an integer, and its product with `y` may be exact.
            let integer = Unpacked::integer(i64::from(x.number.exp));
            match exact::multiply(&integer, &y) {
                Outcome::Raw(product) => inexact(&product, before, env),
                _ => (F80::zero(y.negative()), before),
            }
        }
        _ => {
            let log = log2(&Raw::from(x.number));
            let product = log.map(|log| log.times(&Raw::from(y.number)));
            inexact_or_zero(product, negative, before, env)
        }
    }
}

/// FYL2XP1: `b` times the binary logarithm of `a + 1` (SDM 2, table 3-47). The SDM defines it where `a + 1` lies
/// between the roots of 1/2 and 2; processors do so for all positive `a + 1`, and else give ST(0) back.
pub fn logarithm_plus_one(a: F80, b: F80, env: &Env) -> Answer {
    let (x, y) = (a.unpack(), b.unpack());
    if let Some(answer) = propagate_two(a, b, &x, &y) {
        return answer;
    }
    let before = x.denormal() | y.denormal();
    let negative = y.negative() != x.negative();
    match (x.kind, y.kind) {
        (Kind::Infinity, _) if x.negative() => (F80::DEFAULT_NAN, Flags::IE),
        (Kind::Infinity, Kind::Zero) | (Kind::Zero, Kind::Infinity) => {
            (F80::DEFAULT_NAN, Flags::IE)
        }
        _ if !env.commits(before) => (b, before),
        (Kind::Infinity, _) | (_, Kind::Infinity) => (F80::infinity(negative), before),
        (Kind::Zero, _) | (_, Kind::Zero) => (F80::zero(negative), before),
        _ => match log2_plus_one(&Raw::from(x.number)) {
            Some(log) => inexact(&log.times(&Raw::from(y.number)), before, env),
            None => (a, before | Flags::PE),
        },
    }
}

/// `log2(x)` of a positive `x`; `None` if it is zero.
fn log2(x: &Raw) -> Option<Raw> {
    let above = i32::from(x.sig > ROOT_2);
    let mantissa = Raw { exp: -above, ..*x };
    let one = Raw::integer(1)?;
    // The difference is exact, the sum off by less than its last place.
    let fraction = mantissa.plus(&one.negated()).and_then(|difference| {
        let s = difference.over(&mantissa.plus(&one)?);
        Some(log2_series(&s))
    });
    let integer = Raw::integer(x.exp + above);
    match (integer, fraction) {
        (Some(integer), Some(fraction)) => integer.plus(&fraction),
        (integer, fraction) => integer.or(fraction),
    }
}

/// `log2(x + 1)`; `None` unless `x + 1` is positive and not 1.
fn log2_plus_one(x: &Raw) -> Option<Raw> {
    let one = Raw::integer(1)?;
    if x.exp < -1 {
        let s = x.over(&x.plus(&Raw::integer(2)?)?);
        return Some(log2_series(&s));
    }
    let sum = x.plus(&one)?;
    if sum.negative {
        return None;
    }
    log2(&sum)
}

/// `log2((1 + s) / (1 - s))`: 2/ln 2 times s (1 + s^2/3 + s^4/5 + ...).
fn log2_series(s: &Raw) -> Raw {
    let square = s.squared();
    let sum = COEFFICIENTS.iter().rev().fold(0, |sum, coefficient| {
        coefficient + multiply_high(square, sum)
    });
    s.times_sum(sum).times(&TWO_OVER_LN_2)
}
