//! 80-bit floating point under the x87's control word (SDM 1, chapter 8).
//!
//! Operations take and return [`F80`] values and know nothing of the register stack: stack faults, tags, TOP and
//! the error pointers are the caller's. The flags of an inexact result have C1 set when its magnitude was rounded
//! up. With an exception unmasked that is found before the computation, the returned value is not to be written;
//! [`Env::commits`] says so.

mod arithmetic;
mod bcd;
mod compare;
mod constant;
mod convert;
mod memory;
mod remainder;
mod scale;
mod transcendental;

pub use arithmetic::{add, divide, multiply, round_to_integral, square_root, subtract};
pub use bcd::{from_bcd, to_bcd};
pub use compare::{compare, compare_quiet, examine, test};
pub use constant::Constant;
pub use convert::{
    from_f32, from_f64, from_integer, to_f32, to_f64, to_i16, to_i32, to_i64, truncate_to_i16,
    truncate_to_i32, truncate_to_i64,
};
pub use memory::{M32, M64, Operand};
pub use remainder::{ieee_remainder, remainder};
pub use scale::{extract, scale};
pub use transcendental::{
    arctangent, cosine, exponential, logarithm, logarithm_plus_one, sine, sine_cosine, tangent,
};

use super::arithmetic::Outcome;
use super::round::{Raw, Rounded, Target};
use super::unpacked::{Kind, Number, Unpacked};
use super::{Env, Flags};

/// A value in the double extended format (SDM 1, table 4-3), as a register or ten bytes of memory hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct F80 {
    /// The significand, with its integer bit (bit 63) explicit.
    pub mantissa: u64,
    /// The sign in bit 15, the biased exponent below.
    pub sign_exponent: u16,
}

/// A result and what it raised.
type Answer = (F80, Flags);

/// The sign bit of `sign_exponent`.
const SIGN: u16 = 1 << 15;
/// The exponent of infinities and NaNs.
const EXPONENT_MAX: u16 = 0x7fff;
/// What is added to an exponent to make its field.
const BIAS: i32 = 0x3fff;
/// The integer bit.
const INTEGER: u64 = 1 << 63;
/// The bit that tells a quiet NaN from a signaling one.
const QUIET: u64 = 1 << 62;
/// The exponents of the smallest and largest normal numbers.
const MIN_EXP: i32 = 1 - BIAS;
const MAX_EXP: i32 = BIAS;
/// What an unmasked overflow or underflow moves the exponent by (SDM 1, 8.5.4 and 8.5.5).
const EXPONENT_ADJUST: i32 = 24_576;

impl F80 {
    /// Positive zero.
    pub const ZERO: Self = Self::new(false, 0, 0);
    /// One.
    pub const ONE: Self = Self::new(false, BIAS as u16, INTEGER);
    /// What an invalid operation gives: the negative quiet NaN without payload, "real indefinite".
    pub const DEFAULT_NAN: Self = Self::new(true, EXPONENT_MAX, INTEGER | QUIET);

    const fn new(negative: bool, exponent: u16, mantissa: u64) -> Self {
        Self {
            mantissa,
            sign_exponent: exponent | if negative { SIGN } else { 0 },
        }
    }

    const fn zero(negative: bool) -> Self {
        Self::new(negative, 0, 0)
    }

    const fn infinity(negative: bool) -> Self {
        Self::new(negative, EXPONENT_MAX, INTEGER)
    }

    /// The value in its ten bytes of memory.
    pub fn from_bytes(bytes: [u8; 10]) -> Self {
        let [m0, m1, m2, m3, m4, m5, m6, m7, e0, e1] = bytes;
        Self {
            mantissa: u64::from_le_bytes([m0, m1, m2, m3, m4, m5, m6, m7]),
            sign_exponent: u16::from_le_bytes([e0, e1]),
        }
    }

    /// The ten bytes of memory that hold the value.
    pub fn to_bytes(self) -> [u8; 10] {
        let [m0, m1, m2, m3, m4, m5, m6, m7] = self.mantissa.to_le_bytes();
        let [e0, e1] = self.sign_exponent.to_le_bytes();
        [m0, m1, m2, m3, m4, m5, m6, m7, e0, e1]
    }

    /// Whether the sign bit is set.
    pub const fn is_negative(self) -> bool {
        self.sign_exponent & SIGN != 0
    }

    /// FABS. It raises nothing, whatever the encoding.
    pub const fn abs(self) -> Self {
        Self {
            sign_exponent: self.sign_exponent & !SIGN,
            ..self
        }
    }

    /// FCHS. It raises nothing, whatever the encoding.
    pub const fn negated(self) -> Self {
        Self {
            sign_exponent: self.sign_exponent ^ SIGN,
            ..self
        }
    }

    const fn exponent(self) -> u16 {
        self.sign_exponent & EXPONENT_MAX
    }

    /// The quiet form of a NaN.
    const fn quieted(self) -> Self {
        Self {
            mantissa: self.mantissa | QUIET,
            ..self
        }
    }

    /// Takes the encoding apart. A pseudo-denormal counts as the denormal that it is worth (SDM 1, 8.2.2).
    fn unpack(self) -> Unpacked {
        let negative = self.is_negative();
        match self.exponent() {
            0 => {
                let number = Number::new(negative, self.mantissa, MIN_EXP - 63);
                let mut unpacked = Unpacked::finite(number, negative);
                unpacked.denormal = self.mantissa != 0;
                unpacked
            }
            _ if self.mantissa & INTEGER == 0 => Unpacked::special(Kind::Unsupported, negative),
            EXPONENT_MAX if self.mantissa == INTEGER => Unpacked::special(Kind::Infinity, negative),
            EXPONENT_MAX if self.mantissa & QUIET != 0 => Unpacked::special(Kind::Quiet, negative),
            EXPONENT_MAX => Unpacked::special(Kind::Signaling, negative),
            field => {
                let exp = i32::from(field) - BIAS;
                let sig = self.mantissa;
                Unpacked::finite(Some(Number { negative, exp, sig }), negative)
            }
        }
    }

    /// A number whose exponent is within the format's range.
    const fn normal(negative: bool, exp: i32, sig: u64) -> Self {
        Self::new(negative, (exp + BIAS) as u16, sig)
    }
}

/// Rounds to `precision` bits, with the exponent's range of the format.
fn pack(raw: &Raw, precision: u32, env: &Env) -> Answer {
    let target = Target {
        precision,
        min_exp: MIN_EXP,
        max_exp: MAX_EXP,
    };
    let (rounded, flags) = raw.round(&target, env);
    let negative = raw.negative;
    let value = match rounded {
        Rounded::Normal { exp, sig } => F80::normal(negative, exp, sig),
        Rounded::Denormal { sig } => F80::new(negative, (sig >> 63) as u16, sig),
        Rounded::Largest => F80::normal(negative, MAX_EXP, u64::MAX << (64 - precision)),
        Rounded::Infinity => F80::infinity(negative),
        Rounded::OutOfRange { exp, sig } => adjusted(negative, exp, sig),
    };
    (value, flags)
}

/// An operand that passes through unchanged: even a denormal one raises no UE, but a pseudo-denormal becomes the
/// normal number that it is worth.
fn canonical(number: &Number) -> F80 {
    pack(&Raw::from(*number), 64, &Env::default()).0
}

/// The response to an unmasked overflow or underflow. Only FSCALE makes exponents so large that even the
/// adjusted one is out of range; then infinity or zero stands for it.
fn adjusted(negative: bool, exp: i32, sig: u64) -> F80 {
    let exp = if exp > 0 {
        exp - EXPONENT_ADJUST
    } else {
        exp + EXPONENT_ADJUST
    };
    match exp {
        ..MIN_EXP => F80::zero(negative),
        MIN_EXP..=MAX_EXP => F80::normal(negative, exp, sig),
        _ => F80::infinity(negative),
    }
}

/// Finishes an operation whose operands raised `before` (DE or nothing). An unmasked DE stops it before its result
/// exists, and so before anything else is raised.
fn finish(outcome: Outcome, before: Flags, precision: u32, env: &Env) -> Answer {
    match outcome {
        Outcome::Invalid => (F80::DEFAULT_NAN, Flags::IE),
        Outcome::ByZero { negative } => (F80::infinity(negative), Flags::ZE),
        Outcome::Zero { negative } => (F80::zero(negative), before),
        Outcome::Infinity { negative } => (F80::infinity(negative), before),
        Outcome::Raw(_) if !env.unmasked(before).is_empty() => (F80::ZERO, before),
        Outcome::Raw(raw) => {
            let (value, after) = pack(&raw, precision, env);
            (value, before | after)
        }
    }
}

/// The answer of a one-operand operation on a NaN or an unsupported encoding.
fn propagate_one(a: F80, x: &Unpacked) -> Option<Answer> {
    match x.kind {
        Kind::Quiet => Some((a, Flags::empty())),
        Kind::Signaling => Some((a.quieted(), Flags::IE)),
        Kind::Unsupported => Some((F80::DEFAULT_NAN, Flags::IE)),
        _ => None,
    }
}

/// The answer of a two-operand operation if one is a NaN or an unsupported encoding (SDM 1, table 4-7): a quiet NaN
/// before a signaling one, else the larger significand, else the positive one.
fn propagate_two(a: F80, b: F80, x: &Unpacked, y: &Unpacked) -> Option<Answer> {
    if !x.is_nan() && !y.is_nan() {
        return None;
    }
    if x.kind == Kind::Unsupported || y.kind == Kind::Unsupported {
        return Some((F80::DEFAULT_NAN, Flags::IE));
    }
    let chosen = match (x.kind, y.kind) {
        (Kind::Quiet, Kind::Signaling) => a,
        (Kind::Signaling, Kind::Quiet) => b,
        (Kind::Quiet, Kind::Quiet) | (Kind::Signaling, Kind::Signaling) => larger_nan(a, b),
        (Kind::Quiet | Kind::Signaling, _) => a,
        _ => b,
    };
    let flags = Flags::IE.when(x.is_invalid() || y.is_invalid());
    Some((chosen.quieted(), flags))
}

const fn larger_nan(a: F80, b: F80) -> F80 {
    if a.mantissa > b.mantissa || (a.mantissa == b.mantissa && !a.is_negative()) {
        a
    } else {
        b
    }
}
