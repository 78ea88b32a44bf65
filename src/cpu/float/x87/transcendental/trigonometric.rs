//! FSIN, FCOS, FSINCOS and FPTAN.

use super::super::super::round::Raw;
use super::super::super::unpacked::{Kind, Number};
use super::super::super::wide::{ONE, multiply_high, reciprocal};
use super::super::super::{Env, Flags};
use super::super::{Answer, F80, propagate_one};
use super::inexact;

/// The processors' pi (SDM 1, 8.3.8) in units of 2^-64, and so half of it in units of 2^-65.
const PI_66: u128 = 0x3_243f_6a88_85a3_08d3;

/// The series end where (pi/4)^2n / (2n)! falls below 2^-127.
const TERMS: usize = 18;

/// `1 / (n (n + 1))` from `first` on, in steps of two: the ratios of the series' coefficients.
const fn ratios(first: u128) -> [u128; TERMS] {
    let mut ratios = [0; TERMS];
    let mut n = 0;
    while n < TERMS {
        let factor = first + 2 * n as u128;
        ratios[n] = reciprocal(factor * (factor + 1));
        n += 1;
    }
    ratios
}

const SINE: [u128; TERMS] = ratios(2);
const COSINE: [u128; TERMS] = ratios(1);

/// FSIN. C2 says that the operand is out of range, 2^63 or more, and stays.
pub fn sine(a: F80, env: &Env) -> Answer {
    match operand(a, env) {
        Operand::Settled(answer) => answer,
        Operand::Zero => (a, Flags::empty()),
        Operand::Angle(angle, before) => inexact(&angle.sine(), before, env),
    }
}

/// FCOS. C2 says that the operand is out of range, 2^63 or more, and stays.
pub fn cosine(a: F80, env: &Env) -> Answer {
    match operand(a, env) {
        Operand::Settled(answer) => answer,
        Operand::Zero => (F80::ONE, Flags::empty()),
        Operand::Angle(angle, before) => inexact(&angle.cosine(), before, env),
    }
}

/// FSINCOS: the sine, which replaces ST(0), and the cosine, which is pushed. With C2 nothing is pushed.
pub fn sine_cosine(a: F80, env: &Env) -> ((F80, F80), Flags) {
    match operand(a, env) {
        Operand::Settled((value, flags)) => ((value, value), flags),
        Operand::Zero => ((a, F80::ONE), Flags::empty()),
        Operand::Angle(angle, before) => {
            let (sine, raised_by_sine) = inexact(&angle.sine(), before, env);
            let (cosine, raised_by_cosine) = inexact(&angle.cosine(), before, env);
            ((sine, cosine), raised_by_sine | raised_by_cosine)
        }
    }
}

/// FPTAN: the tangent, which replaces ST(0), and what is pushed, 1 or the same NaN. With C2 nothing is pushed.
pub fn tangent(a: F80, env: &Env) -> ((F80, F80), Flags) {
    match operand(a, env) {
        Operand::Settled((value, flags)) => ((value, value), flags),
        Operand::Zero => ((a, F80::ONE), Flags::empty()),
        Operand::Angle(angle, before) => {
            let tangent = angle.sine().over(&angle.cosine());
            let (tangent, flags) = inexact(&tangent, before, env);
            ((tangent, F80::ONE), flags)
        }
    }
}

/// What an operand asks for.
enum Operand {
    /// The answer needs no computation.
    Settled(Answer),
    Zero,
    /// An angle, and DE if it is a denormal.
    Angle(Reduced, Flags),
}

fn operand(a: F80, env: &Env) -> Operand {
    let x = a.unpack();
    if let Some(answer) = propagate_one(a, &x) {
        return Operand::Settled(answer);
    }
    let before = x.denormal();
    match x.kind {
        Kind::Zero => Operand::Zero,
        Kind::Infinity => Operand::Settled((F80::DEFAULT_NAN, Flags::IE)),
        _ if x.number.exp >= 63 => Operand::Settled((a, Flags::C2)),
        _ if !env.commits(before) => Operand::Settled((a, before)),
        _ => Reduced::new(&x.number).map_or(Operand::Zero, |angle| Operand::Angle(angle, before)),
    }
}

/// An angle less its nearest multiple of half pi: at most a quarter pi in magnitude.
struct Reduced {
    /// The sign of the angle itself; the rest and the quadrant are those of its magnitude.
    negative: bool,
    rest: Raw,
    /// The multiple, modulo 4.
    quadrant: u128,
}

impl Reduced {
    /// Reduces an angle below 2^63. `None` would be a multiple of half pi, which no number of 64 bits is, since
    /// `PI_66` is odd and longer.
    fn new(x: &Number) -> Option<Self> {
        let negative = x.negative;
        if x.exp < -1 {
            let rest = Raw {
                negative: false,
                ..Raw::from(*x)
            };
            return Some(Self {
                negative,
                rest,
                quadrant: 0,
            });
        }
        let units = u128::from(x.sig) << (x.exp + 2);
        let (mut quadrant, mut rest) = (units / PI_66, units % PI_66);
        let beyond = 2 * rest > PI_66;
        if beyond {
            rest = PI_66 - rest;
            quadrant += 1;
        }
        Some(Self {
            negative,
            rest: Raw::new(beyond, 127 - 65, rest)?,
            quadrant: quadrant & 3,
        })
    }

    fn sine(&self) -> Raw {
        let value = if self.quadrant & 1 == 0 {
            sine_of_rest(&self.rest)
        } else {
            cosine_of_rest(&self.rest)
        };
        Raw {
            negative: value.negative ^ (self.quadrant & 2 != 0) ^ self.negative,
            ..value
        }
    }

    fn cosine(&self) -> Raw {
        let (value, negated) = if self.quadrant & 1 == 0 {
            (cosine_of_rest(&self.rest), self.quadrant == 2)
        } else {
            (sine_of_rest(&self.rest), self.quadrant == 1)
        };
        Raw {
            negative: value.negative ^ negated,
            ..value
        }
    }
}

/// x (1 - x^2/(2*3) (1 - x^2/(4*5) (1 - ...))).
fn sine_of_rest(x: &Raw) -> Raw {
    x.times_sum(series(x, &SINE))
}

/// 1 - x^2/(1*2) (1 - x^2/(3*4) (1 - ...)).
fn cosine_of_rest(x: &Raw) -> Raw {
    let sum = series(x, &COSINE);
    let shift = sum.leading_zeros();
    Raw {
        negative: false,
        exp: -(shift as i32),
        sig: sum << shift,
    }
}

fn series(x: &Raw, ratios: &[u128; TERMS]) -> u128 {
    let square = x.squared();
    ratios.iter().rev().fold(ONE, |sum, ratio| {
        ONE - multiply_high(multiply_high(square, sum), *ratio)
    })
}
