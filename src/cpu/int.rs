//! The operand sizes of integer instructions as types.

use std::fmt::Debug;
use std::ops::{BitAnd, BitOr, BitXor, Not, Shl, Shr};

use hvf_sys::ram::Word;

/// `u8`, `u16`, `u32` or `u64`: an operand of that size.
pub trait Int:
    Word
    + Debug
    + Default
    + PartialOrd
    + BitAnd<Output = Self>
    + BitOr<Output = Self>
    + BitXor<Output = Self>
    + Not<Output = Self>
    + Shl<u32, Output = Self>
    + Shr<u32, Output = Self>
{
    /// How many bits.
    const BITS: u32;
    /// How many bytes.
    const BYTES: u64;
    /// The low bits of a register.
    fn truncate(value: u64) -> Self;
    /// To 64 bits with zeros.
    fn zero_extend(self) -> u64;
    /// To 64 bits with the sign.
    fn sign_extend(self) -> u64;
    /// 0 or 1.
    fn from_bool(value: bool) -> Self;
    /// The sum modulo 2^BITS.
    fn wrapping_add(self, other: Self) -> Self;
    /// The difference modulo 2^BITS.
    fn wrapping_sub(self, other: Self) -> Self;
    /// The top bit.
    fn sign(self) -> bool;
    /// What a general register holds after this has been written to it: 32 bits clear the upper half, 8 and 16
    /// keep the rest (SDM volume 1, 3.4.1.1).
    fn merge(self, old: u64) -> u64;
}

macro_rules! int {
    ($unsigned:ty, $signed:ty, |$value:ident, $old:ident| $merge:expr) => {
        impl Int for $unsigned {
            const BITS: u32 = <$unsigned>::BITS;
            const BYTES: u64 = size_of::<$unsigned>() as u64;

            #[inline(always)]
            fn truncate(value: u64) -> Self {
                value as Self
            }

            #[inline(always)]
            fn zero_extend(self) -> u64 {
                u64::from(self)
            }

            #[inline(always)]
            fn sign_extend(self) -> u64 {
                self as $signed as i64 as u64
            }

            #[inline(always)]
            fn from_bool(value: bool) -> Self {
                Self::from(value)
            }

            #[inline(always)]
            fn wrapping_add(self, other: Self) -> Self {
                Self::wrapping_add(self, other)
            }

            #[inline(always)]
            fn wrapping_sub(self, other: Self) -> Self {
                Self::wrapping_sub(self, other)
            }

            #[inline(always)]
            fn sign(self) -> bool {
                (self as $signed) < 0
            }

            #[inline(always)]
            fn merge(self, old: u64) -> u64 {
                let ($value, $old) = (u64::from(self), old);
                $merge
            }
        }
    };
}

int!(u8, i8, |value, old| old & !0xff | value);
int!(u16, i16, |value, old| old & !0xffff | value);
int!(u32, i32, |value, _old| value);
int!(u64, i64, |value, _old| value);
