//! FBLD and FBSTP: eighteen decimal digits, two a byte, and a sign in the tenth byte (SDM 1, 4.7).

use super::super::{Env, Flags};
use super::{F80, convert};

/// The largest magnitude that eighteen digits hold.
const LARGEST: u64 = 999_999_999_999_999_999;
/// What an invalid FBSTP stores: "packed BCD integer indefinite" (SDM 1, table 4-4).
const INDEFINITE: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff];

/// FBLD. Digits above nine, whose result the SDM leaves open, count as what they are worth.
pub fn from_bcd(bytes: [u8; 10]) -> F80 {
    let [digits @ .., sign] = bytes;
    let magnitude = digits.iter().rev().fold(0_i64, |sum, pair| {
        sum * 100 + i64::from(pair >> 4) * 10 + i64::from(pair & 15)
    });
    let value = convert::from_integer(magnitude);
    if sign & 0x80 != 0 {
        value.negated()
    } else {
        value
    }
}

/// FBSTP: rounded to an integer by rounding control.
pub fn to_bcd(a: F80, env: &Env) -> ([u8; 10], Flags) {
    let (n, flags) = convert::to_i64(a, env);
    let mut rest = n.unsigned_abs();
    if rest > LARGEST {
        return (INDEFINITE, Flags::IE);
    }
    let mut bytes = [0; 10];
    for byte in &mut bytes[..9] {
        let pair = (rest % 100) as u8;
        *byte = ((pair / 10) << 4) | (pair % 10);
        rest /= 100;
    }
    // Zero keeps the sign of what was rounded to it.
    bytes[9] = if a.is_negative() { 0x80 } else { 0 };
    (bytes, flags)
}
