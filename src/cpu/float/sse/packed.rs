//! Whole XMM registers: lanes of one format, and the instructions that combine lanes.

use super::{Answer, F32, F64, Format, add, multiply, subtract};
use crate::cpu::float::{Env, Flags};

/// Lane `n` of `F` in `register`.
pub const fn lane<F: Format>(register: u128, n: u32) -> u64 {
    let width = F::PRECISION + F::EXPONENT;
    (register >> (n * width)) as u64 & (u64::MAX >> (64 - width))
}

/// `register` with lane `n` of `F` replaced.
pub const fn with_lane<F: Format>(register: u128, n: u32, bits: u64) -> u128 {
    let width = F::PRECISION + F::EXPONENT;
    let mask = (u64::MAX >> (64 - width)) as u128;
    register & !(mask << (n * width)) | (bits as u128 & mask) << (n * width)
}

/// The number of lanes of `F` in a register.
const fn count<F: Format>() -> u32 {
    128 / (F::PRECISION + F::EXPONENT)
}

/// What several lanes raised together: nothing found after the computation is reported if an exception found before
/// it is unmasked in any of them (SDM 1, 11.5.3).
pub fn gather(flags: Flags, env: &Env) -> Flags {
    if env.unmasked(flags).intersects(Flags::BEFORE) {
        flags & Flags::BEFORE
    } else {
        flags
    }
}

/// Applies a scalar operation to every lane of `a` and `b`.
pub fn lanes<F: Format>(
    a: u128,
    b: u128,
    env: &Env,
    operation: impl Fn(u64, u64, &Env) -> Answer,
) -> (u128, Flags) {
    let pairs = |n| (lane::<F>(a, n), lane::<F>(b, n));
    each::<F>(env, |n| {
        let (x, y) = pairs(n);
        operation(x, y, env)
    })
}

/// A register whose lane `n` is what `answer(n)` gives.
fn each<F: Format>(env: &Env, answer: impl Fn(u32) -> Answer) -> (u128, Flags) {
    let (mut register, mut flags) = (0, Flags::empty());
    for n in 0..count::<F>() {
        let (bits, raised) = answer(n);
        register = with_lane::<F>(register, n, bits);
        flags |= raised;
    }
    (register, gather(flags, env))
}

/// HADDPS, HADDPD: sums of neighbours, those of `a` in the low half and those of `b` in the high half.
pub fn horizontal_add<F: Format>(a: u128, b: u128, env: &Env) -> (u128, Flags) {
    horizontal::<F>(a, b, env, add::<F>)
}

/// HSUBPS, HSUBPD: differences of neighbours, each lower lane less the upper.
pub fn horizontal_subtract<F: Format>(a: u128, b: u128, env: &Env) -> (u128, Flags) {
    horizontal::<F>(a, b, env, subtract::<F>)
}

fn horizontal<F: Format>(
    a: u128,
    b: u128,
    env: &Env,
    operation: impl Fn(u64, u64, &Env) -> Answer,
) -> (u128, Flags) {
    let half = count::<F>() / 2;
    each::<F>(env, |n| {
        let (source, first) = if n < half {
            (a, 2 * n)
        } else {
            (b, 2 * (n - half))
        };
        operation(lane::<F>(source, first), lane::<F>(source, first + 1), env)
    })
}

/// ADDSUBPS, ADDSUBPD: even lanes subtract, odd lanes add.
pub fn add_subtract<F: Format>(a: u128, b: u128, env: &Env) -> (u128, Flags) {
    each::<F>(env, |n| {
        let (x, y) = (lane::<F>(a, n), lane::<F>(b, n));
        if n & 1 == 0 {
            subtract::<F>(x, y, env)
        } else {
            add::<F>(x, y, env)
        }
    })
}

/// DPPS: the sum of the products that bits 4 to 7 of `control` choose, in the lanes that bits 0 to 3 choose.
/// Every product and every sum is rounded and raises on its own; an unmasked exception ends it after the products,
/// or after the first sums (SDM 2, DPPS). The lanes differ only where several products are NaNs: processors add
/// neighbours, the other one's first, then the pairs, their own first.
pub fn dot_product_f32(a: u128, b: u128, control: u8, env: &Env) -> (u128, Flags) {
    let products = products::<F32>(a, b, control, env);
    let pairs = then(products, env, |products| {
        let swapped = products >> 32 & EVEN_LANES | (products & EVEN_LANES) << 32;
        lanes::<F32>(swapped, products, env, add::<F32>)
    });
    let (sums, flags) = then(pairs, env, |pairs| {
        lanes::<F32>(pairs, pairs.rotate_right(64), env, add::<F32>)
    });
    (spread::<F32>(sums, control), flags)
}

/// Lanes 0 and 2 of four.
const EVEN_LANES: u128 = 0xffff_ffff_0000_0000_ffff_ffff;

/// DPPD: as DPPS, with two lanes.
pub fn dot_product_f64(a: u128, b: u128, control: u8, env: &Env) -> (u128, Flags) {
    let products = products::<F64>(a, b, control, env);
    let (sums, flags) = then(products, env, |products| {
        lanes::<F64>(products, products.rotate_right(64), env, add::<F64>)
    });
    (spread::<F64>(sums, control), flags)
}

/// The next step on what a step gave, unless that raised an unmasked exception.
fn then(
    (register, raised): (u128, Flags),
    env: &Env,
    step: impl FnOnce(u128) -> (u128, Flags),
) -> (u128, Flags) {
    if !env.unmasked(raised).is_empty() {
        return (register, raised);
    }
    let (register, flags) = step(register);
    (register, raised | flags)
}

fn products<F: Format>(a: u128, b: u128, control: u8, env: &Env) -> (u128, Flags) {
    each::<F>(env, |n| {
        if control & 0x10 << n == 0 {
            return (0, Flags::empty());
        }
        multiply::<F>(lane::<F>(a, n), lane::<F>(b, n), env)
    })
}

/// Zero in the lanes that the low bits of `control` do not choose.
fn spread<F: Format>(sums: u128, control: u8) -> u128 {
    (0..count::<F>())
        .filter(|n| control & 1 << n != 0)
        .fold(0, |register, n| {
            with_lane::<F>(register, n, lane::<F>(sums, n))
        })
}

/// CVTPS2PD: the two low lanes.
pub fn widen(b: u128, env: &Env) -> (u128, Flags) {
    each::<F64>(env, |n| super::widen(lane::<F32>(b, n), env))
}

/// CVTPD2PS: into the two low lanes, the high ones zero.
pub fn narrow(b: u128, env: &Env) -> (u128, Flags) {
    low_half(env, |n| super::narrow(lane::<F64>(b, n), env))
}

/// CVTDQ2PS.
pub fn from_i32_f32(b: u128, env: &Env) -> (u128, Flags) {
    each::<F32>(env, |n| super::from_integer::<F32>(integer(b, n), env))
}

/// CVTDQ2PD: the two low lanes.
pub fn from_i32_f64(b: u128, env: &Env) -> (u128, Flags) {
    each::<F64>(env, |n| super::from_integer::<F64>(integer(b, n), env))
}

/// CVTPS2DQ.
pub fn to_i32_f32(b: u128, env: &Env) -> (u128, Flags) {
    each::<F32>(env, |n| {
        encoded(super::to_i32::<F32>(lane::<F32>(b, n), env))
    })
}

/// CVTTPS2DQ.
pub fn truncate_to_i32_f32(b: u128, env: &Env) -> (u128, Flags) {
    each::<F32>(env, |n| {
        encoded(super::truncate_to_i32::<F32>(lane::<F32>(b, n), env))
    })
}

/// CVTPD2DQ: into the two low lanes, the high ones zero.
pub fn to_i32_f64(b: u128, env: &Env) -> (u128, Flags) {
    low_half(env, |n| {
        encoded(super::to_i32::<F64>(lane::<F64>(b, n), env))
    })
}

/// CVTTPD2DQ: into the two low lanes, the high ones zero.
pub fn truncate_to_i32_f64(b: u128, env: &Env) -> (u128, Flags) {
    low_half(env, |n| {
        encoded(super::truncate_to_i32::<F64>(lane::<F64>(b, n), env))
    })
}

/// The signed integer in 32-bit lane `n`.
const fn integer(register: u128, n: u32) -> i64 {
    lane::<F32>(register, n) as i32 as i64
}

/// An integer as a lane's bits.
fn encoded((n, flags): (i32, Flags)) -> Answer {
    (u64::from(n.cast_unsigned()), flags)
}

/// As `each`, for two lanes of 32 bits.
fn low_half(env: &Env, answer: impl Fn(u32) -> Answer) -> (u128, Flags) {
    each::<F32>(env, |n| {
        if n < 2 {
            answer(n)
        } else {
            (0, Flags::empty())
        }
    })
}
