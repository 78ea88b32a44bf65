//! Operands taken apart: what all formats have in common before an operation.

use super::Flags;

/// A finite number other than zero: `sig / 2^63 * 2^exp`, with bit 63 of `sig` set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) negative: bool,
    pub(super) exp: i32,
    pub(super) sig: u64,
}

impl Number {
    /// The number `magnitude * 2^scale`; `None` for zero.
    pub(super) fn new(negative: bool, magnitude: u64, scale: i32) -> Option<Self> {
        let shift = magnitude.leading_zeros();
        (magnitude != 0).then(|| Self {
            negative,
            exp: scale + 63 - shift as i32,
            sig: magnitude << shift,
        })
    }
}

/// What kind of value an encoding holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Zero,
    Finite,
    Infinity,
    Quiet,
    Signaling,
    /// 80 bits only: unnormals, pseudo-infinities and pseudo-NaNs (SDM 1, table 8-3).
    Unsupported,
}

/// An operand: `number` holds the sign of every kind, and the magnitude if the kind is `Finite`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unpacked {
    pub(super) kind: Kind,
    /// The encoding is a denormal, and denormals count.
    pub(super) denormal: bool,
    pub(super) number: Number,
}

impl Unpacked {
    /// A value without magnitude.
    pub(super) const fn special(kind: Kind, negative: bool) -> Self {
        Self {
            kind,
            denormal: false,
            number: Number {
                negative,
                exp: 0,
                sig: 1 << 63,
            },
        }
    }

    /// A finite value, or zero if there is no number.
    pub(super) fn finite(number: Option<Number>, negative: bool) -> Self {
        number.map_or(Self::special(Kind::Zero, negative), |number| Self {
            kind: Kind::Finite,
            denormal: false,
            number,
        })
    }

    /// The integer `n`.
    pub(super) fn integer(n: i64) -> Self {
        Self::finite(Number::new(n < 0, n.unsigned_abs(), 0), false)
    }

    pub(super) const fn negative(&self) -> bool {
        self.number.negative
    }

    pub(super) const fn is_nan(&self) -> bool {
        matches!(self.kind, Kind::Quiet | Kind::Signaling | Kind::Unsupported)
    }

    /// Whether the operand alone makes any arithmetic on it invalid.
    pub(super) const fn is_invalid(&self) -> bool {
        matches!(self.kind, Kind::Signaling | Kind::Unsupported)
    }

    /// DE if this is a denormal.
    pub(super) const fn denormal(&self) -> Flags {
        Flags::DE.when(self.denormal)
    }

    /// The same value with the other sign.
    pub(super) const fn negated(mut self) -> Self {
        self.number.negative = !self.number.negative;
        self
    }
}
