//! FLD and FST of 32 and 64 bits, FILD, FIST and FISTTP. (FLD and FSTP of 80 bits move any encoding unchanged.)

use super::super::round::Raw;
use super::super::sse::{self, F32, F64, Format};
use super::super::unpacked::{Kind, Unpacked};
use super::super::{Env, Flags, Rounding};
use super::memory::sealed::Sealed;
use super::{Answer, F80, INTEGER, M32, M64};

/// FLD m32. Of its exceptions only IE keeps the value from being pushed; a denormal is pushed even with DE unmasked.
pub fn from_f32(bits: u32) -> Answer {
    loaded(M32(bits).widen())
}

/// FLD m64. Of its exceptions only IE keeps the value from being pushed; a denormal is pushed even with DE unmasked.
pub fn from_f64(bits: u64) -> Answer {
    loaded(M64(bits).widen())
}

fn loaded((value, unpacked): (F80, Unpacked)) -> Answer {
    if unpacked.is_invalid() {
        (value.quieted(), Flags::IE)
    } else {
        (value, unpacked.denormal())
    }
}

/// FST m32. The bits mean nothing when [`Env::stores`] says that they are not stored.
pub fn to_f32(a: F80, env: &Env) -> (u32, Flags) {
    let (bits, flags) = narrow::<F32>(a, env);
    (bits as u32, flags)
}

/// FST m64. The bits mean nothing when [`Env::stores`] says that they are not stored.
pub fn to_f64(a: F80, env: &Env) -> (u64, Flags) {
    narrow::<F64>(a, env)
}

/// A denormal operand raises no DE here: it underflows instead.
fn narrow<F: Format>(a: F80, env: &Env) -> (u64, Flags) {
    let x = a.unpack();
    let sign = if a.is_negative() { F::SIGN } else { 0 };
    match x.kind {
        Kind::Zero => (sign, Flags::empty()),
        Kind::Infinity => (sign | F::INFINITY, Flags::empty()),
        Kind::Finite => {
            let (bits, flags) = sse::pack::<F>(&Raw::from(x.number), env);
            // What is not stored is not inexact either.
            let stopped = env.unmasked(flags) & (Flags::OE | Flags::UE);
            (bits, if stopped.is_empty() { flags } else { stopped })
        }
        Kind::Unsupported => (F::DEFAULT_NAN, Flags::IE),
        Kind::Quiet | Kind::Signaling => {
            let fraction = (a.mantissa & !INTEGER) >> (63 - F::FRACTION);
            let bits = sign | F::INFINITY | F::QUIET | fraction;
            (bits, Flags::IE.when(x.is_invalid()))
        }
    }
}

/// FILD: exact for every integer.
pub fn from_integer(n: i64) -> F80 {
    let x = Unpacked::integer(n);
    match x.kind {
        Kind::Finite => F80::normal(x.negative(), x.number.exp, x.number.sig),
        _ => F80::ZERO,
    }
}

/// FIST m16.
pub fn to_i16(a: F80, env: &Env) -> (i16, Flags) {
    integer(a, env.rounding, i16::MIN)
}

/// FIST m32.
pub fn to_i32(a: F80, env: &Env) -> (i32, Flags) {
    integer(a, env.rounding, i32::MIN)
}

/// FISTP m64.
pub fn to_i64(a: F80, env: &Env) -> (i64, Flags) {
    integer(a, env.rounding, i64::MIN)
}

/// FISTTP m16.
pub fn truncate_to_i16(a: F80) -> (i16, Flags) {
    integer(a, Rounding::Zero, i16::MIN)
}

/// FISTTP m32.
pub fn truncate_to_i32(a: F80) -> (i32, Flags) {
    integer(a, Rounding::Zero, i32::MIN)
}

/// FISTTP m64.
pub fn truncate_to_i64(a: F80) -> (i64, Flags) {
    integer(a, Rounding::Zero, i64::MIN)
}

/// The integer, or `indefinite` (SDM 1, 4.2.2) and IE if it does not fit.
fn integer<I: TryFrom<i64>>(a: F80, rounding: Rounding, indefinite: I) -> (I, Flags) {
    let rounded = a.unpack().to_i64(rounding);
    let fitting = rounded.and_then(|(n, inexact, up)| {
        let flags = Flags::PE.when(inexact) | Flags::C1.when(up);
        Some((I::try_from(n).ok()?, flags))
    });
    fitting.unwrap_or((indefinite, Flags::IE))
}
