//! FPATAN: the angle of a point.

use super::super::super::Env;
use super::super::super::round::Raw;
use super::super::super::unpacked::{Kind, Unpacked};
use super::super::super::wide::{ONE, multiply_high, reciprocal};
use super::super::{Answer, F80, propagate_two};
use super::inexact;

const PI: Raw = positive(1, 0xc90f_daa2_2168_c234_c4c6_628b_80dc_1cd1);
const HALF_PI: Raw = Raw { exp: 0, ..PI };
const QUARTER_PI: Raw = Raw { exp: -1, ..PI };
const THREE_QUARTERS_PI: Raw = positive(1, 0x96cb_e3f9_990e_91a7_9394_c9e8_a0a5_159d);

/// The arctangents of 1/8, 2/8, ... 8/8.
const EIGHTHS: [Raw; 8] = [
    positive(-4, 0xfead_d4d5_617b_6e32_c897_989f_3e88_8ef8),
    positive(-3, 0xfadb_afc9_6406_eb15_6dc7_9ef5_f7a2_17e6),
    positive(-2, 0xb7b0_ca0f_26f7_8473_8aa3_2122_dcfe_4483),
    positive(-2, 0xed63_382b_0dda_7b45_6fe4_45ec_bc3a_8d03),
    positive(-1, 0x8f00_5d5e_f7f5_9f9b_5c83_5e16_65c4_3748),
    positive(-1, 0xa4bc_7d19_34f7_0924_19a8_7f2a_457d_ac9f),
    positive(-1, 0xb805_3e2b_c231_9e73_cb2d_a552_10a4_443d),
    QUARTER_PI,
];

/// The series ends where (1/16)^2n falls below 2^-128.
const TERMS: usize = 17;

/// `1 / (2n + 1)` as sums.
const COEFFICIENTS: [u128; TERMS] = {
    let mut coefficients = [ONE; TERMS];
    let mut n = 1;
    while n < TERMS {
        coefficients[n] = reciprocal(2 * n as u128 + 1) >> 1;
        n += 1;
    }
    coefficients
};

const fn positive(exp: i32, sig: u128) -> Raw {
    Raw {
        negative: false,
        exp,
        sig,
    }
}

/// FPATAN: the angle of the point whose abscissa is `a`, ST(0), and whose ordinate is `b`, ST(1) (SDM 2, table 3-30).
pub fn arctangent(a: F80, b: F80, env: &Env) -> Answer {
    let (x, y) = (a.unpack(), b.unpack());
    if let Some(answer) = propagate_two(a, b, &x, &y) {
        return answer;
    }
    let before = x.denormal() | y.denormal();
    if !env.commits(before) {
        return (b, before);
    }
    match angle(&x, &y) {
        Some(angle) => {
            let negative = y.negative();
            inexact(&Raw { negative, ..angle }, before, env)
        }
        None => (F80::zero(y.negative()), before),
    }
}

/// The magnitude of the angle; `None` for zero.
fn angle(x: &Unpacked, y: &Unpacked) -> Option<Raw> {
    let left = x.negative();
    match (x.kind, y.kind) {
        (Kind::Infinity, Kind::Infinity) if left => Some(THREE_QUARTERS_PI),
        (Kind::Infinity, Kind::Infinity) => Some(QUARTER_PI),
        (_, Kind::Zero) | (Kind::Infinity, _) => left.then_some(PI),
        (Kind::Zero, _) | (_, Kind::Infinity) => Some(HALF_PI),
        _ => finite_angle(&magnitude(x), &magnitude(y), left),
    }
}

fn magnitude(x: &Unpacked) -> Raw {
    Raw {
        negative: false,
        ..Raw::from(x.number)
    }
}

fn finite_angle(x: &Raw, y: &Raw, left: bool) -> Option<Raw> {
    if (y.exp, y.sig) > (x.exp, x.sig) {
        // Measured from the ordinate's axis.
        let rest = arctangent_of_ratio(x, y)?;
        let rest = if left { rest } else { rest.negated() };
        return HALF_PI.plus(&rest);
    }
    let angle = arctangent_of_ratio(y, x)?;
    if left {
        PI.plus(&angle.negated())
    } else {
        Some(angle)
    }
}

/// The arctangent of `y / x`, which is at most 1.
fn arctangent_of_ratio(y: &Raw, x: &Raw) -> Option<Raw> {
    let q = y.over(x);
    // The nearest eighth.
    let sixteenths = if q.exp < 0 {
        (q.fraction() >> 124) as usize
    } else {
        16
    };
    let eighths = sixteenths.div_ceil(2);
    let Some(near) = eighths.checked_sub(1).and_then(|n| EIGHTHS.get(n)) else {
        return Some(series(&q));
    };
    let mut c = Raw::integer(eighths as i32)?;
    c.exp -= 3;
    // atan q = atan c + atan((q - c) / (1 + qc))
    let denominator = Raw::integer(1)?.plus(&q.times(&c))?;
    match q.plus(&c.negated()) {
        Some(difference) => near.plus(&series(&difference.over(&denominator))),
        None => Some(*near),
    }
}

/// u (1 - u^2/3 + u^4/5 - ...) for `u` of at most 1/16 in magnitude.
fn series(u: &Raw) -> Raw {
    let square = u.squared();
    let sum = COEFFICIENTS.iter().rev().fold(0, |sum, coefficient| {
        coefficient - multiply_high(square, sum)
    });
    u.times_sum(sum)
}
