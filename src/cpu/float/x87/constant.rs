//! FLD1, FLDZ and the five transcendental constants, whose last place follows rounding control (SDM 2, FLD1).

use super::super::Env;
use super::super::round::Raw;
use super::{F80, pack};

/// A constant that an instruction loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Constant {
    /// FLD1.
    One,
    /// FLDL2T: the binary logarithm of 10.
    Log2Of10,
    /// FLDL2E: the binary logarithm of e.
    Log2OfE,
    /// FLDPI.
    Pi,
    /// FLDLG2: the decimal logarithm of 2.
    Log10Of2,
    /// FLDLN2: the natural logarithm of 2.
    LnOf2,
    /// FLDZ.
    Zero,
}

impl Constant {
    /// The value under `env`. Loading it raises nothing.
    pub fn load(self, env: &Env) -> F80 {
        let (exp, sig) = match self {
            Self::One => return F80::ONE,
            Self::Zero => return F80::ZERO,
            Self::Log2Of10 => (1, 0xd49a_784b_cd1b_8afe_492b_f6ff_4daf_db4c),
            Self::Log2OfE => (0, 0xb8aa_3b29_5c17_f0bb_be87_fed0_691d_3e88),
            Self::Pi => (1, 0xc90f_daa2_2168_c234_c4c6_628b_80dc_1cd1),
            Self::Log10Of2 => (-2, 0x9a20_9a84_fbcf_f798_8f89_59ac_0b7c_9178),
            Self::LnOf2 => (-1, 0xb172_17f7_d1cf_79ab_c9e3_b398_03f2_f6af),
        };
        let raw = Raw {
            negative: false,
            exp,
            sig,
        };
        pack(&raw, 64, env).0
    }
}
