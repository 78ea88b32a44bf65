//! Conversions between the formats and to and from integers; ROUNDSS and ROUNDSD.

use super::super::round::Raw;
use super::super::unpacked::{Kind, Number, Unpacked};
use super::super::{Env, Flags, Rounding};
use super::{Answer, F32, F64, Format, Outcome, finish, quiet, sign, signed, unpack};

/// CVTSS2SD of one lane: exact but for NaNs made quiet.
pub fn widen(bits: u64, env: &Env) -> Answer {
    convert::<F32, F64>(bits, env)
}

/// CVTSD2SS of one lane.
pub fn narrow(bits: u64, env: &Env) -> Answer {
    convert::<F64, F32>(bits, env)
}

fn convert<From: Format, To: Format>(bits: u64, env: &Env) -> Answer {
    let x = unpack::<From>(bits, env.daz);
    let negative = x.negative();
    if x.is_nan() {
        return (
            quiet::<To>(carry_nan::<From, To>(bits)),
            Flags::IE.when(x.is_invalid()),
        );
    }
    let outcome = match x.kind {
        Kind::Zero => Outcome::Zero { negative },
        Kind::Finite => Outcome::Raw(x.number.into()),
        _ => Outcome::Infinity { negative },
    };
    finish::<To>(outcome, x.denormal(), env)
}

/// The NaN `bits` in another format: its top fraction bits stay at the top (SDM 1, 4.8.3.5).
fn carry_nan<From: Format, To: Format>(bits: u64) -> u64 {
    let top = (bits & From::FRACTION_MASK) << (64 - From::FRACTION);
    let fraction = top >> (64 - To::FRACTION);
    signed::<To>(bits & From::SIGN != 0, To::INFINITY | fraction)
}

/// CVTSI2SS, CVTSI2SD, CVTDQ2PS and CVTDQ2PD of one lane.
pub fn from_integer<F: Format>(n: i64, env: &Env) -> Answer {
    let x = Unpacked::integer(n);
    let outcome = match x.kind {
        Kind::Finite => Outcome::Raw(x.number.into()),
        _ => Outcome::Zero { negative: false },
    };
    finish::<F>(outcome, Flags::empty(), env)
}

/// CVTSS2SI and CVTSD2SI to 32 bits.
pub fn to_i32<F: Format>(bits: u64, env: &Env) -> (i32, Flags) {
    to_i32_rounded::<F>(bits, env, env.rounding)
}

/// CVTTSS2SI and CVTTSD2SI to 32 bits.
pub fn truncate_to_i32<F: Format>(bits: u64, env: &Env) -> (i32, Flags) {
    to_i32_rounded::<F>(bits, env, Rounding::Zero)
}

/// CVTSS2SI and CVTSD2SI to 64 bits.
pub fn to_i64<F: Format>(bits: u64, env: &Env) -> (i64, Flags) {
    to_i64_rounded::<F>(bits, env, env.rounding)
}

/// CVTTSS2SI and CVTTSD2SI to 64 bits.
pub fn truncate_to_i64<F: Format>(bits: u64, env: &Env) -> (i64, Flags) {
    to_i64_rounded::<F>(bits, env, Rounding::Zero)
}

fn to_i32_rounded<F: Format>(bits: u64, env: &Env, rounding: Rounding) -> (i32, Flags) {
    let (wide, flags) = to_i64_rounded::<F>(bits, env, rounding);
    // The 64-bit indefinite does not fit either.
    i32::try_from(wide).map_or((i32::MIN, Flags::IE), |n| (n, flags))
}

/// The integer, or the integer indefinite (SDM 1, 4.2.2) and IE if it does not fit.
fn to_i64_rounded<F: Format>(bits: u64, env: &Env, rounding: Rounding) -> (i64, Flags) {
    match unpack::<F>(bits, env.daz).to_i64(rounding) {
        Some((n, inexact, _)) => (n, Flags::PE.when(inexact)),
        None => (i64::MIN, Flags::IE),
    }
}

/// The immediate of ROUNDSS and its kin (SDM 2, ROUNDPD, figure 4-24).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundControl(pub u8);

impl RoundControl {
    fn rounding(self, env: &Env) -> Rounding {
        const USE_MXCSR: u8 = 1 << 2;
        if self.0 & USE_MXCSR != 0 {
            env.rounding
        } else {
            Rounding::from_bits(u32::from(self.0))
        }
    }

    /// PE if the immediate does not suppress it.
    const fn inexact(self) -> Flags {
        const SUPPRESS: u8 = 1 << 3;
        Flags::PE.when(self.0 & SUPPRESS == 0)
    }
}

/// ROUNDSS, ROUNDSD: `bits` rounded to an integer, of the same sign.
pub fn round_to_integral<F: Format>(bits: u64, control: RoundControl, env: &Env) -> Answer {
    let x = unpack::<F>(bits, env.daz);
    let flags = match x.kind {
        Kind::Finite => {
            let (rounded, inexact) = integral::<F>(&x.number, control.rounding(env));
            let magnitude = rounded.unwrap_or(bits & !F::SIGN);
            let flags = control.inexact().when(inexact);
            return (signed::<F>(x.negative(), magnitude), flags);
        }
        Kind::Zero => return (sign::<F>(bits), Flags::empty()),
        Kind::Infinity => return (bits, Flags::empty()),
        _ => Flags::IE.when(x.is_invalid()),
    };
    (quiet::<F>(bits), flags)
}

/// The magnitude of a rounded number, unless it was an integer beyond 64 bits before, and whether it is inexact.
fn integral<F: Format>(number: &Number, rounding: Rounding) -> (Option<u64>, bool) {
    let integral = number.to_integral(rounding);
    let magnitude = integral.magnitude.map(|magnitude| {
        Number::new(false, magnitude, 0).map_or(0, |number| {
            // An integer rounded from F's precision fits F, so that this is exact.
            super::pack::<F>(&Raw::from(number), &Env::default()).0
        })
    });
    (magnitude, integral.inexact)
}
