//! The same instructions under MXCSR as it is: round to nearest, no DAZ, no FTZ, all exceptions masked, which is what
//! nearly every guest runs with too, and what Rust's ABI guarantees for the host.
//!
//! The flags that an operation returns are *sticky*: everything raised on this thread since [`clear`], by whomever.
//! An interpreter calls `clear` when it enters its guest and whenever the guest clears flags, does no floating
//! point of its own in between, and merges what each operation returns into the guest's MXCSR.
//!
//! Invariants. MXCSR's control bits are never changed, and its flags mean nothing to Rust. The assembly touches only
//! its named registers and one word on its own stack frame.

use core::arch::asm;

use super::{FLAGS, MASKS, Sse41, baseline, bits, integer_sources, integer_targets, vector};

/// Clears the sticky flags of this thread.
pub fn clear() {
    let mxcsr = MASKS;
    // SAFETY: this is the MXCSR that the ABI demands, without flags; the word outlives the block.
    unsafe { asm!("ldmxcsr [{p}]", p = in(reg) &raw const mxcsr, options(nostack, readonly)) }
}

/// Wraps one instruction: afterwards `$flags` holds MXCSR. `{p}` names its address in the template.
macro_rules! then_flags {
    ($flags:ident, $instruction:expr, $($operands:tt)*) => {
        // SAFETY: the module's invariants: `$flags` is a `u32` that outlives the block.
        unsafe {
            asm!(
                $instruction,
                "stmxcsr [{p}]",
                p = in(reg) &raw mut $flags,
                $($operands)*
                options(nostack)
            )
        }
    };
}

macro_rules! vector_vector {
    ($($name:ident)*) => {$(
        #[doc = concat!("`", stringify!($name), " a, b`: the new `a`, and the sticky flags.")]
        #[inline]
        pub fn $name(a: u128, b: u128) -> (u128, u32) {
            let (mut x, mut flags) = (vector(a), 0_u32);
            then_flags!(flags, concat!(stringify!($name), " {x}, {y}"),
                x = inout(xmm_reg) x, y = in(xmm_reg) vector(b),);
            (bits(x), flags & FLAGS)
        }
    )*};
}

baseline!(vector_vector);

macro_rules! compares {
    ($($name:ident)*) => {$(
        #[doc = concat!("`", stringify!($name), " a, b, predicate & 7`: the new `a`, and the sticky flags.")]
        #[inline]
        pub fn $name(a: u128, b: u128, predicate: u8) -> (u128, u32) {
            let (mut x, y, mut flags) = (vector(a), vector(b), 0_u32);
            compares!(@each $name, predicate, flags, x, y, 0 1 2 3 4 5 6 7);
            (bits(x), flags & FLAGS)
        }
    )*};
    (@each $name:ident, $predicate:ident, $flags:ident, $x:ident, $y:ident, $($n:literal)*) => {
        match $predicate & 7 {
            $($n => then_flags!($flags, concat!(stringify!($name), " {x}, {y}, ", $n),
                x = inout(xmm_reg) $x, y = in(xmm_reg) $y,),)*
            _ => {}
        }
    };
}

compares! { cmpss cmpsd cmpps cmppd }

macro_rules! flag_compares {
    ($($name:ident)*) => {$(
        #[doc = concat!("`", stringify!($name), " a, b`: ZF, PF and CF at their RFLAGS places, and the sticky flags.")]
        #[inline]
        pub fn $name(a: u128, b: u128) -> (u64, u32) {
            let (zero, parity, carry): (u8, u8, u8);
            let mut flags = 0_u32;
            then_flags!(flags,
                concat!(stringify!($name), " {x}, {y}\nsetz {zero}\nsetp {parity}\nsetc {carry}"),
                x = in(xmm_reg) vector(a),
                y = in(xmm_reg) vector(b),
                zero = out(reg_byte) zero,
                parity = out(reg_byte) parity,
                carry = out(reg_byte) carry,
            );
            let rflags = u64::from(zero) << 6 | u64::from(parity) << 2 | u64::from(carry);
            (rflags, flags & FLAGS)
        }
    )*};
}

flag_compares! { comiss comisd ucomiss ucomisd }

macro_rules! from_integer {
    ($($name:ident $mnemonic:ident $int:ty, $form:literal;)*) => {$(
        #[doc = concat!("`", stringify!($mnemonic), " a, n`: the new `a`, and the sticky flags.")]
        #[inline]
        pub fn $name(a: u128, n: $int) -> (u128, u32) {
            let (mut x, mut flags) = (vector(a), 0_u32);
            then_flags!(flags, concat!(stringify!($mnemonic), " {x}, ", $form),
                x = inout(xmm_reg) x, n = in(reg) n,);
            (bits(x), flags & FLAGS)
        }
    )*};
}

integer_sources!(from_integer);

macro_rules! to_integer {
    ($($name:ident $mnemonic:ident $int:ty, $form:literal;)*) => {$(
        #[doc = concat!("`", stringify!($mnemonic), " n, b`: the integer, and the sticky flags.")]
        #[inline]
        pub fn $name(b: u128) -> ($int, u32) {
            let n: $int;
            let mut flags = 0_u32;
            then_flags!(flags, concat!(stringify!($mnemonic), " ", $form, ", {y}"),
                n = out(reg) n, y = in(xmm_reg) vector(b),);
            (n, flags & FLAGS)
        }
    )*};
}

integer_targets!(to_integer);

macro_rules! roundings {
    ($($name:ident)*) => {$(
        #[doc = concat!("`", stringify!($name), " a, b, control & 15`: the new `a`, and the sticky flags.")]
        #[inline]
        pub fn $name(_: Sse41, a: u128, b: u128, control: u8) -> (u128, u32) {
            let (mut x, y, mut flags) = (vector(a), vector(b), 0_u32);
            roundings!(@each $name, control, flags, x, y, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
            (bits(x), flags & FLAGS)
        }
    )*};
    (@each $name:ident, $control:ident, $flags:ident, $x:ident, $y:ident, $($n:literal)*) => {
        match $control & 15 {
            $($n => then_flags!($flags, concat!(stringify!($name), " {x}, {y}, ", $n),
                x = inout(xmm_reg) $x, y = in(xmm_reg) $y,),)*
            _ => {}
        }
    };
}

roundings! { roundss roundsd roundps roundpd }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_stick_until_cleared() {
        let (one, three) = (u128::from(1f64.to_bits()), u128::from(3f64.to_bits()));
        clear();
        assert_eq!(addsd(one, three), (u128::from(4f64.to_bits()), 0));
        assert_eq!(divsd(one, three).1, 0x20);
        assert_eq!(divsd(one, 0), (u128::from(f64::INFINITY.to_bits()), 0x24));
        assert_eq!(ucomisd(one, three), (1, 0x24));
        clear();
        assert_eq!(ucomisd(three, three), (0x40, 0));
    }
}
