//! The host's own SSE unit, one instruction at a time, on any x86-64 host.
//!
//! Every function runs one instruction under the rounding mode, DAZ and FTZ of the MXCSR value that it is given
//! and returns what the instruction wrote together with the exception flags that it raised (MXCSR bits 0 to 5).
//! Exceptions are always masked: a guest that unmasks one needs the reference arithmetic of `cpu::float`.
//! Changing MXCSR costs some 20 ns; [`direct`] does without it where MXCSR holds the host's own controls.
//! RCPPS and RSQRTPS differ between processors and are left out on purpose.
//!
//! Invariants. The host's MXCSR is the same after each call as before it. No bit of the given MXCSR can make
//! the call fault: reserved bits are dropped and all exceptions are masked. The assembly touches only its
//! named registers and the three words on its own stack frame. Instructions newer than the x86-64 baseline are
//! methods of [`Sse41`], whose value proves that the processor has them.

pub mod direct;
pub mod x87;

use core::arch::asm;
use core::arch::x86_64::__m128i;

/// MXCSR bits 0 to 5: the exception flags.
const FLAGS: u32 = 0x3f;
/// MXCSR bits 7 to 12: all exceptions masked.
const MASKS: u32 = 0x1f80;
/// What is taken from the caller's MXCSR: DAZ (6), rounding control (13, 14), FTZ (15).
const CONTROL: u32 = 0xe040;

/// The three MXCSR images that one call handles.
#[repr(C)]
struct Frame {
    /// Loaded before the instruction.
    guest: u32,
    /// Stored after it.
    after: u32,
    /// The host's own, restored at the end.
    host: u32,
}

impl Frame {
    fn new(mxcsr: u32) -> Self {
        Self {
            guest: mxcsr & CONTROL | MASKS,
            after: 0,
            host: 0,
        }
    }

    fn flags(&self) -> u32 {
        self.after & FLAGS
    }
}

fn vector(bits: u128) -> __m128i {
    // SAFETY: both are 16 plain bytes, and every bit pattern is valid for both.
    unsafe { core::mem::transmute(bits) }
}

fn bits(vector: __m128i) -> u128 {
    // SAFETY: as in `vector`.
    unsafe { core::mem::transmute(vector) }
}

/// Wraps one instruction in the loading and storing of MXCSR. `$p` names the frame's register in the template.
macro_rules! under_mxcsr {
    ($frame:ident, $instruction:expr, $($operands:tt)*) => {
        // SAFETY: the module's invariants: `frame` outlives the block, its three words are in bounds, the loaded
        // MXCSR has no reserved bit and no unmasked exception, and the host's is back at the end.
        unsafe {
            asm!(
                "stmxcsr [{p} + 8]",
                "ldmxcsr [{p}]",
                $instruction,
                "stmxcsr [{p} + 4]",
                "ldmxcsr [{p} + 8]",
                p = in(reg) &raw mut $frame,
                $($operands)*
                options(nostack)
            )
        }
    };
}

/// Instructions `op xmm, xmm`: the first argument is the destination's old value.
macro_rules! vector_vector {
    ($($name:ident)*) => {$(
        #[doc = concat!("`", stringify!($name), " a, b` under `mxcsr`: the new `a`, and the flags raised.")]
        #[inline]
        pub fn $name(a: u128, b: u128, mxcsr: u32) -> (u128, u32) {
            let mut frame = Frame::new(mxcsr);
            let mut x = vector(a);
            under_mxcsr!(frame, concat!(stringify!($name), " {x}, {y}"),
                x = inout(xmm_reg) x, y = in(xmm_reg) vector(b),);
            (bits(x), frame.flags())
        }
    )*};
}

/// Hands the list of the baseline's `op xmm, xmm` to a macro.
macro_rules! baseline {
    ($action:ident) => {
        $action! {
    addss addsd addps addpd subss subsd subps subpd mulss mulsd mulps mulpd divss divsd divps divpd
    minss minsd minps minpd maxss maxsd maxps maxpd sqrtss sqrtsd sqrtps sqrtpd
    cvtss2sd cvtsd2ss cvtps2pd cvtpd2ps cvtdq2ps cvtdq2pd
    cvtps2dq cvtpd2dq cvttps2dq cvttpd2dq
        }
    };
}
use baseline;

baseline!(vector_vector);

/// Comparisons with a predicate of 0 to 7 in the low three bits of `predicate`.
macro_rules! compares {
    ($($name:ident)*) => {$(
        #[doc = concat!("`", stringify!($name), " a, b, predicate & 7` under `mxcsr`.")]
        #[inline]
        pub fn $name(a: u128, b: u128, predicate: u8, mxcsr: u32) -> (u128, u32) {
            let mut frame = Frame::new(mxcsr);
            let mut x = vector(a);
            let y = vector(b);
            compares!(@each $name, predicate, frame, x, y, 0 1 2 3 4 5 6 7);
            (bits(x), frame.flags())
        }
    )*};
    (@each $name:ident, $predicate:ident, $frame:ident, $x:ident, $y:ident, $($n:literal)*) => {
        match $predicate & 7 {
            $($n => under_mxcsr!($frame, concat!(stringify!($name), " {x}, {y}, ", $n),
                x = inout(xmm_reg) $x, y = in(xmm_reg) $y,),)*
            _ => {}
        }
    };
}

compares! { cmpss cmpsd cmpps cmppd }

/// Comparisons that answer in RFLAGS.
macro_rules! flag_compares {
    ($($name:ident)*) => {$(
        #[doc = concat!("`", stringify!($name), " a, b` under `mxcsr`: ZF, PF and CF at their RFLAGS places.")]
        #[inline]
        pub fn $name(a: u128, b: u128, mxcsr: u32) -> (u64, u32) {
            let mut frame = Frame::new(mxcsr);
            let (zero, parity, carry): (u8, u8, u8);
            under_mxcsr!(frame,
                concat!(stringify!($name), " {x}, {y}\nsetz {zero}\nsetp {parity}\nsetc {carry}"),
                x = in(xmm_reg) vector(a),
                y = in(xmm_reg) vector(b),
                zero = out(reg_byte) zero,
                parity = out(reg_byte) parity,
                carry = out(reg_byte) carry,
            );
            let rflags = u64::from(zero) << 6 | u64::from(parity) << 2 | u64::from(carry);
            (rflags, frame.flags())
        }
    )*};
}

flag_compares! { comiss comisd ucomiss ucomisd }

/// Integer to float: `$int` is the operand's type and `$form` its register form.
macro_rules! from_integer {
    ($($name:ident $mnemonic:ident $int:ty, $form:literal;)*) => {$(
        #[doc = concat!("`", stringify!($mnemonic), " a, n` under `mxcsr`: the new `a`, and the flags raised.")]
        #[inline]
        pub fn $name(a: u128, n: $int, mxcsr: u32) -> (u128, u32) {
            let mut frame = Frame::new(mxcsr);
            let mut x = vector(a);
            under_mxcsr!(frame, concat!(stringify!($mnemonic), " {x}, ", $form),
                x = inout(xmm_reg) x, n = in(reg) n,);
            (bits(x), frame.flags())
        }
    )*};
}

/// Hands the list of conversions from integers to a macro.
macro_rules! integer_sources {
    ($action:ident) => {
        $action! {
        cvtsi2ss_32 cvtsi2ss i32, "{n:e}";
        cvtsi2ss_64 cvtsi2ss i64, "{n:r}";
        cvtsi2sd_32 cvtsi2sd i32, "{n:e}";
        cvtsi2sd_64 cvtsi2sd i64, "{n:r}";
            }
    };
}
use integer_sources;

integer_sources!(from_integer);

/// Float to integer, the operand in the low lane of `b`.
macro_rules! to_integer {
    ($($name:ident $mnemonic:ident $int:ty, $form:literal;)*) => {$(
        #[doc = concat!("`", stringify!($mnemonic), " n, b` under `mxcsr`: the integer, and the flags raised.")]
        #[inline]
        pub fn $name(b: u128, mxcsr: u32) -> ($int, u32) {
            let mut frame = Frame::new(mxcsr);
            let n: $int;
            under_mxcsr!(frame, concat!(stringify!($mnemonic), " ", $form, ", {y}"),
                n = out(reg) n, y = in(xmm_reg) vector(b),);
            (n, frame.flags())
        }
    )*};
}

/// Hands the list of conversions to integers to a macro.
macro_rules! integer_targets {
    ($action:ident) => {
        $action! {
        cvtss2si_32 cvtss2si i32, "{n:e}";
        cvtss2si_64 cvtss2si i64, "{n:r}";
        cvtsd2si_32 cvtsd2si i32, "{n:e}";
        cvtsd2si_64 cvtsd2si i64, "{n:r}";
        cvttss2si_32 cvttss2si i32, "{n:e}";
        cvttss2si_64 cvttss2si i64, "{n:r}";
        cvttsd2si_32 cvttsd2si i32, "{n:e}";
        cvttsd2si_64 cvttsd2si i64, "{n:r}";
            }
    };
}
use integer_targets;

integer_targets!(to_integer);

/// Proof that the processor has SSE3 and SSE4.1. Only [`Sse41::detect`] makes one.
#[derive(Clone, Copy, Debug)]
pub struct Sse41(());

/// SSE3's horizontal and alternating forms, as methods of the proof.
macro_rules! proven_vector_vector {
    ($($name:ident)*) => {$(
        #[doc = concat!("`", stringify!($name), " a, b` under `mxcsr`: the new `a`, and the flags raised.")]
        #[inline]
        pub fn $name(self, a: u128, b: u128, mxcsr: u32) -> (u128, u32) {
            let mut frame = Frame::new(mxcsr);
            let mut x = vector(a);
            under_mxcsr!(frame, concat!(stringify!($name), " {x}, {y}"),
                x = inout(xmm_reg) x, y = in(xmm_reg) vector(b),);
            (bits(x), frame.flags())
        }
    )*};
}

/// SSE4.1's roundings, with their four immediate bits.
macro_rules! roundings {
    ($($name:ident)*) => {$(
        #[doc = concat!("`", stringify!($name), " a, b, control & 15` under `mxcsr`.")]
        #[inline]
        pub fn $name(self, a: u128, b: u128, control: u8, mxcsr: u32) -> (u128, u32) {
            let mut frame = Frame::new(mxcsr);
            let mut x = vector(a);
            let y = vector(b);
            roundings!(@each $name, control, frame, x, y, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
            (bits(x), frame.flags())
        }
    )*};
    (@each $name:ident, $control:ident, $frame:ident, $x:ident, $y:ident, $($n:literal)*) => {
        match $control & 15 {
            $($n => under_mxcsr!($frame, concat!(stringify!($name), " {x}, {y}, ", $n),
                x = inout(xmm_reg) $x, y = in(xmm_reg) $y,),)*
            _ => {}
        }
    };
}

/// SSE4.1's dot products. Their immediate has too many values for a table of instructions: it is a constant.
macro_rules! dot_products {
    ($($name:ident)*) => {$(
        #[doc = concat!("`", stringify!($name), " a, b, CONTROL` under `mxcsr`.")]
        #[inline]
        pub fn $name<const CONTROL: u8>(self, a: u128, b: u128, mxcsr: u32) -> (u128, u32) {
            let mut frame = Frame::new(mxcsr);
            let mut x = vector(a);
            under_mxcsr!(frame, concat!(stringify!($name), " {x}, {y}, {n}"),
                x = inout(xmm_reg) x, y = in(xmm_reg) vector(b), n = const CONTROL,);
            (bits(x), frame.flags())
        }
    )*};
}

impl Sse41 {
    /// The proof, if this processor has SSE3 and SSE4.1.
    pub fn detect() -> Option<Self> {
        (is_x86_feature_detected!("sse3") && is_x86_feature_detected!("sse4.1")).then_some(Self(()))
    }

    proven_vector_vector! { haddps haddpd hsubps hsubpd addsubps addsubpd }
    roundings! { roundss roundsd roundps roundpd }
    dot_products! { dpps dppd }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_control_and_flags_are_those_of_the_call() {
        let (one, three) = (u128::from(1f64.to_bits()), u128::from(3f64.to_bits()));
        let (down, flags) = divsd(one, three, 0x3f80);
        let (up, _) = divsd(one, three, 0x5f80);
        assert_eq!(up - down, 1);
        assert_eq!(flags, 0x20);
        assert_eq!(mulsd(three, three, 0x1f80), (u128::from(9f64.to_bits()), 0));
    }

    #[test]
    fn no_mxcsr_faults_and_the_hosts_is_restored() {
        let zero = u128::from(0f64.to_bits());
        let (_, flags) = divsd(u128::from(1f64.to_bits()), zero, u32::MAX);
        assert_eq!(flags, 4);
        assert_eq!(divsd(zero, zero, 0).1, 1);
        // Rounding to nearest still holds for Rust's own arithmetic.
        assert_eq!((1.0 / 3.0_f64).to_bits(), 0x3fd5_5555_5555_5555);
    }
}
