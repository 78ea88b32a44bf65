//! RCPSS and RSQRTSS of one lane. The document allows a relative error of 1.5 * 2^-12 (SDM 2, RCPPS and RSQRTPS);
//! these results are of full width. Neither instruction reads MXCSR or raises anything.
//!
//! Alone in this module tree they are computed by the host: division and square root of IEEE 754 give the same
//! bits on every host, and whatever flags they raise there nobody reads.

use std::num::FpCategory;

use super::{F32, Format, quiet};

const SIGN: u32 = 1 << 31;

/// RCPSS, RCPPS: about `1 / b`; infinity for zeros and denormals, zero for a tiny result.
pub fn reciprocal(b: u32) -> u32 {
    let x = f32::from_bits(b);
    match x.classify() {
        FpCategory::Nan => made_quiet(b),
        FpCategory::Zero | FpCategory::Subnormal => infinity(b),
        FpCategory::Infinite => b & SIGN,
        FpCategory::Normal => {
            let result = 1.0 / x;
            if result.is_normal() {
                result.to_bits()
            } else {
                b & SIGN
            }
        }
    }
}

/// RSQRTSS, RSQRTPS: about `1 / sqrt(b)`; infinity of its sign for zeros and denormals, and the default NaN for
/// other negative numbers.
pub fn reciprocal_root(b: u32) -> u32 {
    let x = f32::from_bits(b);
    match x.classify() {
        FpCategory::Nan => made_quiet(b),
        FpCategory::Zero | FpCategory::Subnormal => infinity(b),
        _ if b & SIGN != 0 => F32::DEFAULT_NAN as u32,
        FpCategory::Infinite => 0,
        FpCategory::Normal => ((1.0 / f64::from(x).sqrt()) as f32).to_bits(),
    }
}

fn infinity(b: u32) -> u32 {
    b & SIGN | F32::INFINITY as u32
}

fn made_quiet(b: u32) -> u32 {
    quiet::<F32>(u64::from(b)) as u32
}
