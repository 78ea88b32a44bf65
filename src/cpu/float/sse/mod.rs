//! Scalar and packed floating point of SSE to SSE4.1 under MXCSR (SDM 1, chapter 11).
//!
//! Scalar operations are generic over a [`Format`], [`F32`] or [`F64`], and take and return raw bits in the low
//! part of a `u64`. [`packed`] lifts them to XMM registers with MXCSR's rule for several lanes: when an exception
//! found before the computation is unmasked in one of them, no lane reports any found after it.

mod approximate;
mod arithmetic;
mod compare;
mod convert;
pub mod packed;

pub use approximate::{reciprocal, reciprocal_root};
pub use arithmetic::{add, divide, maximum, minimum, multiply, square_root, subtract};
pub use compare::{Predicate, compare, compare_quiet, compare_signaling};
pub use convert::{
    RoundControl, from_integer, narrow, round_to_integral, to_i32, to_i64, truncate_to_i32,
    truncate_to_i64, widen,
};

use super::arithmetic::Outcome;
use super::round::{Raw, Rounded, Target};
use super::unpacked::{Kind, Number, Unpacked};
use super::{Env, Flags};

/// A result in the low bits, and what it raised.
type Answer = (u64, Flags);

/// An interchange format of SSE (SDM 1, table 4-3). Values are raw bits in the low part of a `u64`.
pub trait Format {
    /// Bits of the significand, with the implied one.
    const PRECISION: u32;
    /// Bits of the exponent.
    const EXPONENT: u32;

    /// Bits of the fraction.
    const FRACTION: u32 = Self::PRECISION - 1;
    /// The sign bit.
    const SIGN: u64 = 1 << (Self::FRACTION + Self::EXPONENT);
    /// The fraction's bits.
    const FRACTION_MASK: u64 = (1 << Self::FRACTION) - 1;
    /// The largest exponent field, and so infinity's bits after a shift.
    const EXPONENT_MAX: u64 = (1 << Self::EXPONENT) - 1;
    /// What is added to an exponent to make its field.
    const BIAS: i32 = (1 << (Self::EXPONENT - 1)) - 1;
    /// Positive infinity.
    const INFINITY: u64 = Self::EXPONENT_MAX << Self::FRACTION;
    /// The bit that tells a quiet NaN from a signaling one.
    const QUIET: u64 = 1 << (Self::FRACTION - 1);
    /// The NaN that an invalid operation gives: negative and quiet, without payload (SDM 1, table 4-3).
    const DEFAULT_NAN: u64 = Self::SIGN | Self::INFINITY | Self::QUIET;
    /// The encoding of 1.
    const ONE: u64 = (Self::BIAS as u64) << Self::FRACTION;
}

/// Single precision.
#[derive(Clone, Copy, Debug)]
pub struct F32;

/// Double precision.
#[derive(Clone, Copy, Debug)]
pub struct F64;

impl Format for F32 {
    const PRECISION: u32 = 24;
    const EXPONENT: u32 = 8;
}

impl Format for F64 {
    const PRECISION: u32 = 53;
    const EXPONENT: u32 = 11;
}

/// The sign of `bits` alone: the zero of that sign.
const fn sign<F: Format>(bits: u64) -> u64 {
    bits & F::SIGN
}

/// `negative` as a sign bit.
const fn signed<F: Format>(negative: bool, magnitude: u64) -> u64 {
    if negative {
        magnitude | F::SIGN
    } else {
        magnitude
    }
}

/// Takes `bits` apart. With `daz`, a denormal is a zero of its sign.
pub(super) fn unpack<F: Format>(bits: u64, daz: bool) -> Unpacked {
    let negative = bits & F::SIGN != 0;
    let fraction = bits & F::FRACTION_MASK;
    let field = bits >> F::FRACTION & F::EXPONENT_MAX;
    if field == F::EXPONENT_MAX {
        let kind = match fraction {
            0 => Kind::Infinity,
            _ if fraction & F::QUIET != 0 => Kind::Quiet,
            _ => Kind::Signaling,
        };
        return Unpacked::special(kind, negative);
    }
    let scale = 1 - F::BIAS - F::FRACTION as i32;
    if field != 0 {
        let sig = (fraction | 1 << F::FRACTION) << (64 - F::PRECISION);
        let exp = field as i32 - F::BIAS;
        return Unpacked::finite(Some(Number { negative, exp, sig }), negative);
    }
    if daz {
        return Unpacked::special(Kind::Zero, negative);
    }
    let mut unpacked = Unpacked::finite(Number::new(negative, fraction, scale), negative);
    unpacked.denormal = fraction != 0;
    unpacked
}

/// The range of a format, for rounding.
const fn target<F: Format>() -> Target {
    Target {
        precision: F::PRECISION,
        min_exp: 1 - F::BIAS,
        max_exp: F::BIAS,
    }
}

/// Rounds to the format. C1 is among the flags, for x87 stores. The bits mean nothing after an unmasked
/// overflow or underflow, since nothing is written then.
pub(super) fn pack<F: Format>(raw: &Raw, env: &Env) -> Answer {
    let (rounded, flags) = raw.round(&target::<F>(), env);
    let drop = 64 - F::PRECISION;
    let magnitude = match rounded {
        Rounded::Normal { exp, sig } => {
            ((exp + F::BIAS) as u64) << F::FRACTION | (sig >> drop) & F::FRACTION_MASK
        }
        // The leading one of the smallest normal number lands in the exponent's field by itself.
        Rounded::Denormal { sig } => sig >> drop,
        Rounded::Largest => F::INFINITY - 1,
        Rounded::Infinity => F::INFINITY,
        Rounded::OutOfRange { .. } => 0,
    };
    (signed::<F>(raw.negative, magnitude), flags)
}

/// The quiet form of the NaN `bits`.
const fn quiet<F: Format>(bits: u64) -> u64 {
    bits | F::QUIET
}

/// Finishes an operation whose operands raised `before` (DE or nothing). An unmasked DE stops it before its result
/// exists, and so before anything else is raised.
fn finish<F: Format>(outcome: Outcome, before: Flags, env: &Env) -> Answer {
    match outcome {
        Outcome::Invalid => (F::DEFAULT_NAN, Flags::IE),
        Outcome::ByZero { negative } => (signed::<F>(negative, F::INFINITY), Flags::ZE),
        Outcome::Zero { negative } => (signed::<F>(negative, 0), before),
        Outcome::Infinity { negative } => (signed::<F>(negative, F::INFINITY), before),
        Outcome::Raw(_) if !env.unmasked(before).is_empty() => (0, before),
        Outcome::Raw(raw) => {
            let (bits, after) = pack::<F>(&raw, env);
            (bits, before | after.difference(Flags::C1))
        }
    }
}
