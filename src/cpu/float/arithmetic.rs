//! Addition, multiplication, division, square root and order, for all formats: from operands that are not NaNs
//! to a result that is not yet rounded. The tables of results are those of the FADD, FMUL, FDIV and FSQRT
//! pages of SDM volume 2, which the SSE instructions share.

use super::round::{Raw, shift_sticky};
use super::unpacked::{Kind, Number, Unpacked};
use super::{Relation, Rounding};

/// A result before rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Zero {
        negative: bool,
    },
    Infinity {
        negative: bool,
    },
    Raw(Raw),
    /// Invalid operation: the default NaN.
    Invalid,
    /// Infinity from a division by zero.
    ByZero {
        negative: bool,
    },
}

/// `x + y`.
pub(super) fn add(x: &Unpacked, y: &Unpacked, rounding: Rounding) -> Outcome {
    let same = x.negative() == y.negative();
    match (x.kind, y.kind) {
        (Kind::Finite, Kind::Finite) => sum(&x.number, &y.number).map_or(
            Outcome::Zero {
                negative: rounding == Rounding::Down,
            },
            Outcome::Raw,
        ),
        (Kind::Zero, Kind::Zero) => Outcome::Zero {
            negative: if same {
                x.negative()
            } else {
                rounding == Rounding::Down
            },
        },
        (Kind::Infinity, Kind::Infinity) if !same => Outcome::Invalid,
        (Kind::Infinity, _) => Outcome::Infinity {
            negative: x.negative(),
        },
        (_, Kind::Infinity) => Outcome::Infinity {
            negative: y.negative(),
        },
        (Kind::Zero, _) => Outcome::Raw(y.number.into()),
        _ => Outcome::Raw(x.number.into()),
    }
}

/// The sum of two numbers; `None` for an exact zero.
fn sum(x: &Number, y: &Number) -> Option<Raw> {
    let (big, small) = if (x.exp, x.sig) >= (y.exp, y.sig) {
        (x, y)
    } else {
        (y, x)
    };
    // One bit above for the carry, 63 below: a bit gets lost only where the difference loses at most one place.
    let distance = big.exp.wrapping_sub(small.exp).unsigned_abs();
    let a = u128::from(big.sig) << 63;
    let b = shift_sticky(u128::from(small.sig) << 63, distance);
    let sig = if big.negative == small.negative {
        a + b
    } else {
        a - b
    };
    Raw::new(big.negative, big.exp + 1, sig)
}

/// `x * y`.
pub(super) fn multiply(x: &Unpacked, y: &Unpacked) -> Outcome {
    let negative = x.negative() != y.negative();
    match (x.kind, y.kind) {
        (Kind::Finite, Kind::Finite) => Outcome::Raw(product(&x.number, &y.number)),
        (Kind::Infinity, Kind::Zero) | (Kind::Zero, Kind::Infinity) => Outcome::Invalid,
        (Kind::Infinity, _) | (_, Kind::Infinity) => Outcome::Infinity { negative },
        _ => Outcome::Zero { negative },
    }
}

fn product(x: &Number, y: &Number) -> Raw {
    let sig = u128::from(x.sig) * u128::from(y.sig);
    // Both have bit 63 set, so that the product has bit 127 or 126 set.
    let shift = (sig >> 127) as u32 ^ 1;
    Raw {
        negative: x.negative != y.negative,
        exp: x.exp + y.exp + 1 - shift as i32,
        sig: sig << shift,
    }
}

/// `x / y`.
pub(super) fn divide(x: &Unpacked, y: &Unpacked) -> Outcome {
    let negative = x.negative() != y.negative();
    match (x.kind, y.kind) {
        (Kind::Finite, Kind::Finite) => Outcome::Raw(quotient(&x.number, &y.number)),
        (Kind::Infinity, Kind::Infinity) | (Kind::Zero, Kind::Zero) => Outcome::Invalid,
        (Kind::Infinity, _) => Outcome::Infinity { negative },
        (_, Kind::Infinity) | (Kind::Zero, _) => Outcome::Zero { negative },
        _ => Outcome::ByZero { negative },
    }
}

fn quotient(x: &Number, y: &Number) -> Raw {
    // Scaled so that the quotient has exactly 64 bits.
    let less = u32::from(x.sig < y.sig);
    let dividend = u128::from(x.sig) << (63 + less);
    let divisor = u128::from(y.sig);
    let (quotient, rest) = (dividend / divisor, dividend % divisor);
    Raw {
        negative: x.negative != y.negative,
        exp: x.exp - y.exp - less as i32,
        sig: quotient << 64 | below_last_place(rest, (2 * rest).cmp(&divisor)),
    }
}

/// The lower half of a significand whose upper half left `rest`, given how `rest` compares with half of its place.
fn below_last_place(rest: u128, against_half: core::cmp::Ordering) -> u128 {
    const HALF: u128 = 1 << 63;
    match against_half {
        core::cmp::Ordering::Less => u128::from(rest != 0),
        core::cmp::Ordering::Equal => HALF,
        core::cmp::Ordering::Greater => HALF | 1,
    }
}

/// The square root of `x`.
pub(super) fn square_root(x: &Unpacked) -> Outcome {
    let negative = x.negative();
    match x.kind {
        Kind::Zero => Outcome::Zero { negative },
        _ if negative => Outcome::Invalid,
        Kind::Infinity => Outcome::Infinity { negative },
        _ => Outcome::Raw(root(&x.number)),
    }
}

fn root(x: &Number) -> Raw {
    let odd = x.exp & 1;
    let radicand = u128::from(x.sig) << (63 + odd);
    let root = radicand.isqrt();
    let rest = radicand - root * root;
    // (root + 1/2)^2 = root^2 + root + 1/4: an integer rest is above half if it exceeds root, and never equal.
    let against_half = if rest > root {
        core::cmp::Ordering::Greater
    } else {
        core::cmp::Ordering::Less
    };
    Raw {
        negative: false,
        exp: (x.exp - odd) / 2,
        sig: root << 64 | below_last_place(rest, against_half),
    }
}

/// The order of `x` and `y`, which may be NaNs.
pub(super) fn compare(x: &Unpacked, y: &Unpacked) -> Relation {
    if x.is_nan() || y.is_nan() {
        return Relation::Unordered;
    }
    match signed_rank(x).cmp(&signed_rank(y)) {
        core::cmp::Ordering::Less => Relation::Less,
        core::cmp::Ordering::Equal => Relation::Equal,
        core::cmp::Ordering::Greater => Relation::Greater,
    }
}

/// An integer that is ordered as the values are.
fn signed_rank(x: &Unpacked) -> i128 {
    /// Above the exponent of any number, after the offset.
    const INFINITE: i128 = 1 << 100;
    /// Makes all exponents positive.
    const OFFSET: i128 = 0x8000;
    let magnitude = match x.kind {
        Kind::Zero => 0,
        Kind::Finite => (i128::from(x.number.exp) + OFFSET) << 64 | i128::from(x.number.sig),
        _ => INFINITE,
    };
    if x.negative() { -magnitude } else { magnitude }
}
