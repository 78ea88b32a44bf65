//! Rounding: from an exact (or sticky) result of 128 bits to a significand of the destination's width.

use super::unpacked::Number;
use super::{Env, Flags, Rounding};

/// A result before rounding: `sig / 2^127 * 2^exp` with bit 127 of `sig` set. Bit 0 is sticky: it stands for
/// any part of the exact result below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Raw {
    pub(super) negative: bool,
    pub(super) exp: i32,
    pub(super) sig: u128,
}

impl Raw {
    /// The raw result with magnitude `sig / 2^127 * 2^exp`, `sig` not yet normalized; `None` for zero.
    pub(super) fn new(negative: bool, exp: i32, sig: u128) -> Option<Self> {
        let shift = sig.leading_zeros();
        (sig != 0).then(|| Self {
            negative,
            exp: exp - shift as i32,
            sig: sig << shift,
        })
    }
}

impl From<Number> for Raw {
    fn from(number: Number) -> Self {
        Self {
            negative: number.negative,
            exp: number.exp,
            sig: u128::from(number.sig) << 64,
        }
    }
}

impl Rounding {
    /// Whether to round away from zero when `rest`, the part below the last place, is cut off. `rest` is scaled so
    /// that its top bit is worth half of the last place.
    pub(super) const fn is_up(self, negative: bool, odd: bool, rest: u128) -> bool {
        const HALF: u128 = 1 << 127;
        match self {
            Self::Nearest => rest > HALF || (rest == HALF && odd),
            Self::Down => negative && rest != 0,
            Self::Up => !negative && rest != 0,
            Self::Zero => false,
        }
    }

    /// Whether a masked overflow gives infinity rather than the largest finite number (SDM 1, table 4-10).
    const fn overflows_to_infinity(self, negative: bool) -> bool {
        match self {
            Self::Nearest => true,
            Self::Down => negative,
            Self::Up => !negative,
            Self::Zero => false,
        }
    }
}

/// A significand rounded at a fixed place.
struct Cut {
    /// The significand with its first place in bit 63; 0 when the rounding carried out.
    sig: u64,
    carry: bool,
    inexact: bool,
    up: bool,
}

/// Keeps the top `precision` (24 to 64) bits of `sig`.
fn cut(sig: u128, negative: bool, precision: u32, rounding: Rounding) -> Cut {
    let kept = (sig >> 64) as u64 >> (64 - precision);
    let rest = sig << precision;
    let up = rounding.is_up(negative, kept & 1 != 0, rest);
    let (sum, carry) =
        (kept << (64 - precision)).overflowing_add(u64::from(up) << (64 - precision));
    Cut {
        sig: sum,
        carry,
        inexact: rest != 0,
        up,
    }
}

/// `sig >> places`, any one bits shifted out collected in bit 0.
pub(super) const fn shift_sticky(sig: u128, places: u32) -> u128 {
    if places >= 128 {
        return (sig != 0) as u128;
    }
    let kept = sig >> places;
    kept | (kept << places != sig) as u128
}

/// The range and width of a destination.
pub(super) struct Target {
    /// Bits of the significand.
    pub(super) precision: u32,
    /// Exponent of the smallest normal number.
    pub(super) min_exp: i32,
    /// Exponent of the largest finite number.
    pub(super) max_exp: i32,
}

/// A result that fits its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounded {
    /// `sig / 2^63 * 2^exp`, normal.
    Normal { exp: i32, sig: u64 },
    /// `sig / 2^63 * 2^min_exp`: a denormal, zero, or the smallest normal number.
    Denormal { sig: u64 },
    /// The largest finite number.
    Largest,
    /// Infinity.
    Infinity,
    /// An unmasked underflow or overflow: the number that was rounded without a bound on its exponent.
    OutOfRange { exp: i32, sig: u64 },
}

impl Raw {
    /// Rounds to `target`, and says what to raise: OE, UE, PE, and C1 when rounded away from zero. Tininess is
    /// detected after rounding, and a masked underflow is raised only with an inexact result (SDM 1, 4.9.1.5).
    pub(super) fn round(&self, target: &Target, env: &Env) -> (Rounded, Flags) {
        let cut = cut(self.sig, self.negative, target.precision, env.rounding);
        let exp = self.exp + i32::from(cut.carry);
        let sig = cut.sig | u64::from(cut.carry) << 63;
        let flags = Flags::PE.when(cut.inexact) | Flags::C1.when(cut.up);
        if exp < target.min_exp {
            if !env.masks.contains(Flags::UE) {
                return (Rounded::OutOfRange { exp, sig }, flags | Flags::UE);
            }
            return self.denormalize(target, env);
        }
        if exp > target.max_exp {
            if !env.masks.contains(Flags::OE) {
                return (Rounded::OutOfRange { exp, sig }, flags | Flags::OE);
            }
            let flags = Flags::OE | Flags::PE;
            return if env.rounding.overflows_to_infinity(self.negative) {
                (Rounded::Infinity, flags | Flags::C1)
            } else {
                (Rounded::Largest, flags)
            };
        }
        (Rounded::Normal { exp, sig }, flags)
    }

    /// The masked response to a tiny result.
    fn denormalize(&self, target: &Target, env: &Env) -> (Rounded, Flags) {
        if env.ftz {
            return (Rounded::Denormal { sig: 0 }, Flags::UE | Flags::PE);
        }
        let places = target.min_exp.saturating_sub(self.exp);
        let sig = shift_sticky(self.sig, places.unsigned_abs());
        let cut = cut(sig, self.negative, target.precision, env.rounding);
        let flags = (Flags::UE | Flags::PE).when(cut.inexact) | Flags::C1.when(cut.up);
        (Rounded::Denormal { sig: cut.sig }, flags)
    }
}

/// A number rounded to an integer.
pub(super) struct Integral {
    /// The magnitude; `None` if it is 2^64 or more.
    pub(super) magnitude: Option<u64>,
    pub(super) inexact: bool,
    pub(super) up: bool,
}

impl Number {
    /// Rounds to an integer.
    pub(super) fn to_integral(self, rounding: Rounding) -> Integral {
        let sig = u128::from(self.sig) << 64;
        // The integer part in the upper half, the fraction in the lower.
        let fixed = match self.exp {
            64.. => {
                return Integral {
                    magnitude: None,
                    inexact: false,
                    up: false,
                };
            }
            exp => shift_sticky(sig, 63_i32.saturating_sub(exp).unsigned_abs()),
        };
        let kept = (fixed >> 64) as u64;
        let rest = fixed << 64;
        let up = rounding.is_up(self.negative, kept & 1 != 0, rest);
        Integral {
            magnitude: kept.checked_add(u64::from(up)),
            inexact: rest != 0,
            up,
        }
    }
}

impl super::unpacked::Unpacked {
    /// The value as an integer, whether that is inexact, and whether it was rounded away from zero; `None` if it does
    /// not fit or is not a number.
    pub(super) fn to_i64(self, rounding: Rounding) -> Option<(i64, bool, bool)> {
        use super::unpacked::Kind;
        match self.kind {
            Kind::Zero => Some((0, false, false)),
            Kind::Finite => {
                let integral = self.number.to_integral(rounding);
                let magnitude = integral.magnitude?;
                let n = if self.negative() {
                    0_i64.checked_sub_unsigned(magnitude)?
                } else {
                    i64::try_from(magnitude).ok()?
                };
                Some((n, integral.inexact, integral.up))
            }
            _ => None,
        }
    }
}
