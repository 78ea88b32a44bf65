//! RCPSS and RSQRTSS of one lane. The document allows a relative error of 1.5 * 2^-12 (SDM 2, RCPPS and RSQRTPS);
//! these results are correctly truncated ones of full width. Neither instruction reads MXCSR or raises anything.

use super::super::arithmetic::{self as exact, Outcome};
use super::super::unpacked::{Kind, Unpacked};
use super::super::{Env, Rounding};
use super::{F32, Format, pack, quiet, sign, signed, unpack};

/// Truncates, and flushes tiny results; denormal operands are zeros.
const ENV: Env = Env {
    rounding: Rounding::Zero,
    daz: true,
    ftz: true,
    precision: super::super::Precision::Extended,
    masks: super::super::Flags::EXCEPTIONS,
};

fn one() -> Unpacked {
    Unpacked::integer(1)
}

/// RCPSS, RCPPS: about `1 / b`; infinity for zeros and denormals, zero for a tiny result.
pub fn reciprocal(b: u32) -> u32 {
    let x = unpack::<F32>(u64::from(b), true);
    answer(b, &x, exact::divide(&one(), &x))
}

/// RSQRTSS, RSQRTPS: about `1 / sqrt(b)`; infinity of its sign for zeros and denormals, and the default NaN for
/// other negative numbers.
pub fn reciprocal_root(b: u32) -> u32 {
    let x = unpack::<F32>(u64::from(b), true);
    let outcome = match exact::square_root(&x) {
        Outcome::Raw(root) => {
            let wide = pack::<super::F64>(&root, &ENV).0;
            exact::divide(&one(), &unpack::<super::F64>(wide, true))
        }
        Outcome::Infinity { .. } => Outcome::Zero { negative: false },
        Outcome::Zero { negative } => Outcome::ByZero { negative },
        other => other,
    };
    answer(b, &x, outcome)
}

fn answer(b: u32, x: &Unpacked, outcome: Outcome) -> u32 {
    let bits = match outcome {
        _ if matches!(x.kind, Kind::Quiet | Kind::Signaling) => quiet::<F32>(u64::from(b)),
        Outcome::Invalid => F32::DEFAULT_NAN,
        Outcome::Zero { negative } => signed::<F32>(negative, 0),
        Outcome::Infinity { negative } | Outcome::ByZero { negative } => {
            signed::<F32>(negative, F32::INFINITY)
        }
        Outcome::Raw(raw) => {
            let bits = pack::<F32>(&raw, &ENV).0;
            if bits & !F32::SIGN < F32::FRACTION_MASK + 1 {
                sign::<F32>(bits)
            } else {
                bits
            }
        }
    };
    bits as u32
}
