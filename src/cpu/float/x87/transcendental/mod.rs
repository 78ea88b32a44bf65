//! F2XM1, FYL2X, FYL2XP1, FPATAN, FSIN, FCOS, FSINCOS and FPTAN, correct in all but rare last places.
//!
//! Results are computed to about 120 bits and rounded once, to 64 bits whatever precision control says. The
//! trigonometric functions divide by a pi of 66 bits, as the processors do (SDM 1, 8.3.8), and so give the same
//! results near its multiples.

mod arctangent;
mod exponential;
mod logarithm;
mod trigonometric;

pub use arctangent::arctangent;
pub use exponential::exponential;
pub use logarithm::{logarithm, logarithm_plus_one};
pub use trigonometric::{cosine, sine, sine_cosine, tangent};

use super::super::round::Raw;
use super::super::{Env, Flags};
use super::{Answer, F80, MIN_EXP, pack};

/// Rounds what has no exact result. Where a series ended on a number of 64 bits, as for the sine of a tiny angle,
/// processors give that number in every rounding mode, and still call it inexact, and tiny where it is.
fn inexact(raw: &Raw, before: Flags, env: &Env) -> Answer {
    let (value, after) = pack(raw, 64, env);
    let ended_early = raw.sig as u64 == 0;
    let tiny = Flags::UE.when(ended_early && raw.exp < MIN_EXP);
    (value, before | after | Flags::PE | tiny)
}

/// As `inexact`, for a result that may be an exact zero.
fn inexact_or_zero(raw: Option<Raw>, negative: bool, before: Flags, env: &Env) -> Answer {
    raw.map_or((F80::zero(negative), before), |raw| {
        inexact(&raw, before, env)
    })
}
