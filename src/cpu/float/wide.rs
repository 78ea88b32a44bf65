//! Arithmetic on [`Raw`] numbers of 128 bits, for what has no exact result: each operation errs by at most a few
//! units in the last place, 2^-125 of the result, far below the half unit of 64 bits where a rounding decides.
//!
//! Power series are summed in fixed point: a *fraction* is a `u128` in units of 2^-128, and a *sum* one in units of
//! 2^-127, so that it holds values up to 2.

use super::round::{Raw, shift_sticky};

/// 1 as a sum.
pub(super) const ONE: u128 = 1 << 127;

/// The upper 128 bits of a product of 256.
pub(super) const fn multiply_high(a: u128, b: u128) -> u128 {
    const LOW: u128 = u64::MAX as u128;
    let (a1, a0, b1, b0) = (a >> 64, a & LOW, b >> 64, b & LOW);
    let middle = a1 * b0 + (a0 * b0 >> 64);
    let carry = a0 * b1 + (middle & LOW);
    a1 * b1 + (middle >> 64) + (carry >> 64)
}

/// `1 / n` as a fraction, for `n` of 2 and more.
pub(super) const fn reciprocal(n: u128) -> u128 {
    u128::MAX / n
}

/// `r * 2^64 / d`, for `r` less than `d` and `d` with its top bit set: the quotient and the rest.
const fn divide_digit(r: u128, d: u128) -> (u64, u128) {
    let high = d >> 64;
    let mut quotient = r / high;
    if quotient > u64::MAX as u128 {
        quotient = u64::MAX as u128;
    }
    // The estimate from the upper half alone is at most two too large (Knuth, volume 2, 4.3.1, theorem B).
    while multiply_high(quotient << 64, d) > r
        || (multiply_high(quotient << 64, d) == r && (quotient << 64).wrapping_mul(d) != 0)
    {
        quotient -= 1;
    }
    (
        quotient as u64,
        (r << 64).wrapping_sub(quotient.wrapping_mul(d)),
    )
}

impl Raw {
    /// The product.
    pub(super) fn times(&self, other: &Self) -> Self {
        let high = multiply_high(self.sig, other.sig);
        let inexact = self.sig.wrapping_mul(other.sig) != 0;
        let shift = (high >> 127) as u32 ^ 1;
        Self {
            negative: self.negative != other.negative,
            exp: self.exp + other.exp + 1 - shift as i32,
            sig: high << shift | u128::from(inexact),
        }
    }

    /// The quotient.
    pub(super) fn over(&self, other: &Self) -> Self {
        let less = self.sig < other.sig;
        // Scaled below the divisor, the quotient is a fraction of at least one half.
        let scaled = if less { self.sig } else { self.sig >> 1 };
        let (high, rest) = divide_digit(scaled, other.sig);
        let (low, rest) = divide_digit(rest, other.sig);
        let sig = u128::from(high) << 64 | u128::from(low);
        let inexact = rest != 0 || (!less && self.sig & 1 != 0);
        // The bit that scaling cut off may have cost the top bit of a quotient of 1.
        let shift = (sig >> 127) as u32 ^ 1;
        Self {
            negative: self.negative != other.negative,
            exp: self.exp - other.exp - i32::from(less) - shift as i32,
            sig: sig << shift | u128::from(inexact),
        }
    }

    /// The sum; `None` if it is zero.
    pub(super) fn plus(&self, other: &Self) -> Option<Self> {
        let (big, small) = if (self.exp, self.sig) >= (other.exp, other.sig) {
            (self, other)
        } else {
            (other, self)
        };
        let distance = big.exp.wrapping_sub(small.exp).unsigned_abs();
        let a = big.sig >> 1;
        let b = shift_sticky(small.sig, distance.saturating_add(1));
        let sig = if big.negative == small.negative {
            a + b
        } else {
            a.saturating_sub(b)
        };
        Self::new(big.negative, big.exp + 1, sig)
    }

    /// The number with the other sign.
    pub(super) fn negated(&self) -> Self {
        Self {
            negative: !self.negative,
            ..*self
        }
    }

    /// The magnitude as a fraction; the number must be less than 1 in magnitude.
    pub(super) fn fraction(&self) -> u128 {
        let places = (-1_i32).saturating_sub(self.exp);
        self.sig.checked_shr(places.unsigned_abs()).unwrap_or(0)
    }

    /// The square of a number less than 1, as a fraction.
    pub(super) fn squared(&self) -> u128 {
        self.times(self).fraction()
    }

    /// The number times a sum other than zero; by 1 it stays exact.
    pub(super) fn times_sum(&self, sum: u128) -> Self {
        match Self::new(false, 0, sum) {
            Some(factor) if sum != ONE => self.times(&factor),
            _ => *self,
        }
    }

    /// The integer `n`; `None` for zero.
    pub(super) fn integer(n: i32) -> Option<Self> {
        Self::new(n < 0, 127, u128::from(n.unsigned_abs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(x: f64) -> Raw {
        let bits = x.to_bits();
        Raw {
            negative: x < 0.0,
            exp: (bits >> 52 & 0x7ff) as i32 - 1023,
            sig: (1 << 127) | u128::from(bits << 12) << 63,
        }
    }

    #[test]
    fn the_upper_half_of_a_product() {
        assert_eq!(multiply_high(u128::MAX, u128::MAX), u128::MAX - 1);
        assert_eq!(multiply_high(1 << 127, 6), 3);
        assert_eq!(multiply_high(u128::MAX, 1), 0);
    }

    #[test]
    fn quotients_undo_products() {
        for (a, b) in [
            (3.0, 7.0),
            (1.0, 1.0),
            (-5.5, 3.25),
            (1e10, -3e-9),
            (1.999, 1.001),
        ] {
            let (a, b) = (number(a), number(b));
            let back = a.over(&b).times(&b);
            let error = back.plus(&a.negated());
            assert!(
                error.is_none_or(|error| error.exp < a.exp - 120),
                "{a:?} {b:?} {error:?}"
            );
        }
    }

    #[test]
    fn sums_cancel_exactly() {
        assert_eq!(number(1.5).plus(&number(-1.5)), None);
        assert_eq!(number(1.5).plus(&number(-1.25)), Some(number(0.25)));
        assert_eq!(number(1.5).plus(&number(0.75)), Some(number(2.25)));
        assert_eq!(Raw::integer(-3), Some(number(-3.0)));
    }

    #[test]
    fn fractions_are_shifted_into_place() {
        assert_eq!(number(0.5).fraction(), 1 << 127);
        assert_eq!(number(0.25).squared(), 1 << 124);
        assert_eq!(number(1e-300).fraction(), 0);
    }
}
