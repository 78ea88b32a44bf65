//! Exact x86 floating point in integer arithmetic: the reference for every engine, and what runs wherever the
//! host's own instructions do not give the same bits and flags.
//!
//! Documents: Intel SDM volume 1, chapters 4 (formats, NaNs, exceptions), 8 (x87) and 11 (SSE); the instruction
//! pages of volume 2. Where they leave a choice, the processors' own behaviour decides (`tests/float` compares).
//!
//! [`sse`] holds the 32- and 64-bit operations under MXCSR, [`x87`] the 80-bit ones under the control word. Every
//! operation takes an [`Env`] and returns its result with the [`Flags`] that it raised. It never looks at sticky
//! flags and never decides about faults: [`Env::commits`] and [`Env::stores`] tell the caller whether the result is
//! written when an exception is unmasked.
//!
//! RCP, RSQRT and the x87's transcendental functions have more accurate results than the
//! document demands, and so may differ in the last place from a given processor, as processors do among themselves.

mod arithmetic;
mod round;
pub mod sse;
#[cfg(test)]
mod tests;
mod unpacked;
mod wide;
pub mod x87;

use bitflags::bitflags;

bitflags! {
    /// What an operation raised, with the bits where the x87's status word has them (SDM 1, 8.1.3); the low six
    /// are MXCSR's too (SDM 1, 10.2.3).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct Flags: u16 {
        /// Invalid operation.
        const IE = 1 << 0;
        /// Denormal operand.
        const DE = 1 << 1;
        /// Division of a finite number by zero.
        const ZE = 1 << 2;
        /// Overflow.
        const OE = 1 << 3;
        /// Underflow.
        const UE = 1 << 4;
        /// Inexact result.
        const PE = 1 << 5;
        /// x87: condition code 0.
        const C0 = 1 << 8;
        /// x87: the result was rounded away from zero; for FPREM and FXAM what their pages say.
        const C1 = 1 << 9;
        /// x87: condition code 2.
        const C2 = 1 << 10;
        /// x87: condition code 3.
        const C3 = 1 << 14;
        /// All six exceptions.
        const EXCEPTIONS = 0x3f;
        /// The exceptions found before the operation is computed.
        const BEFORE = Self::IE.bits() | Self::DE.bits() | Self::ZE.bits();
        /// All four condition codes.
        const CONDITIONS = Self::C0.bits() | Self::C1.bits() | Self::C2.bits() | Self::C3.bits();
    }
}

impl Flags {
    /// `self` if `condition` holds, else nothing.
    const fn when(self, condition: bool) -> Self {
        if condition { self } else { Self::empty() }
    }
}

/// Rounding control, in the order of its encoding (SDM 1, table 4-8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To nearest, ties to even.
    Nearest,
    /// Toward minus infinity.
    Down,
    /// Toward plus infinity.
    Up,
    /// Toward zero.
    Zero,
}

impl Rounding {
    /// The mode that the low two bits of `bits` encode.
    pub const fn from_bits(bits: u32) -> Self {
        match bits & 3 {
            0 => Self::Nearest,
            1 => Self::Down,
            2 => Self::Up,
            _ => Self::Zero,
        }
    }
}

/// The x87's precision control: the width of a significand after FADD, FSUB, FMUL, FDIV and FSQRT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// 24 bits.
    Single,
    /// 53 bits.
    Double,
    /// 64 bits.
    Extended,
}

impl Precision {
    const fn bits(self) -> u32 {
        match self {
            Self::Single => 24,
            Self::Double => 53,
            Self::Extended => 64,
        }
    }
}

/// What an operation's result depends on besides its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Env {
    /// How inexact results are rounded.
    pub rounding: Rounding,
    /// x87 only: to how many bits.
    pub precision: Precision,
    /// The exceptions that are masked.
    pub masks: Flags,
    /// SSE only: denormal operands count as zeros.
    pub daz: bool,
    /// SSE only: tiny results become zeros while underflow is masked.
    pub ftz: bool,
}

impl Default for Env {
    /// Round to nearest, 64 bits, everything masked.
    fn default() -> Self {
        Self {
            rounding: Rounding::Nearest,
            precision: Precision::Extended,
            masks: Flags::EXCEPTIONS,
            daz: false,
            ftz: false,
        }
    }
}

impl Env {
    /// The environment of SSE instructions under `mxcsr` (SDM 1, figure 10-3).
    pub const fn from_mxcsr(mxcsr: u32) -> Self {
        Self {
            rounding: Rounding::from_bits(mxcsr >> 13),
            precision: Precision::Extended,
            masks: Flags::from_bits_truncate((mxcsr >> 7) as u16 & 0x3f),
            daz: mxcsr & 1 << 6 != 0,
            ftz: mxcsr & 1 << 15 != 0,
        }
    }

    /// The environment of x87 instructions under `control` (SDM 1, figure 8-6).
    pub const fn from_control_word(control: u16) -> Self {
        Self {
            rounding: Rounding::from_bits(control as u32 >> 10),
            precision: match control >> 8 & 3 {
                0 => Precision::Single,
                2 => Precision::Double,
                // 1 is reserved; processors compute as with 3.
                _ => Precision::Extended,
            },
            masks: Flags::from_bits_truncate(control & 0x3f),
            daz: false,
            ftz: false,
        }
    }

    /// The exceptions among `flags` that are unmasked here.
    pub const fn unmasked(&self, flags: Flags) -> Flags {
        flags.intersection(Flags::EXCEPTIONS).difference(self.masks)
    }

    /// Whether an x87 operation that raised `flags` writes its register result (and pushes or pops): not if an
    /// exception found before the computation is unmasked (SDM 1, 8.5).
    pub const fn commits(&self, flags: Flags) -> bool {
        !self.unmasked(flags).intersects(Flags::BEFORE)
    }

    /// Whether FLD of a narrower float pushes it: a denormal goes through even if DE is unmasked.
    pub const fn loads(&self, flags: Flags) -> bool {
        !self.unmasked(flags).intersects(Flags::IE)
    }

    /// Whether an x87 store to memory that raised `flags` writes its result (and pops). It goes through with an
    /// unmasked inexact result. (An SSE instruction that raises anything unmasked writes nothing.)
    pub const fn stores(&self, flags: Flags) -> bool {
        self.unmasked(flags).difference(Flags::PE).is_empty()
    }
}

/// The order of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// The first is less than the second.
    Less,
    /// Both are equal; zeros are, whatever their signs.
    Equal,
    /// The first is greater than the second.
    Greater,
    /// One of them is a NaN.
    Unordered,
}

impl Relation {
    /// ZF, PF and CF at their places in RFLAGS, as (U)COMISS and F(U)COMI(P) set them.
    pub const fn rflags(self) -> u64 {
        match self {
            Self::Less => 1 << 0,
            Self::Equal => 1 << 6,
            Self::Greater => 0,
            Self::Unordered => 1 << 6 | 1 << 2 | 1 << 0,
        }
    }

    /// C3, C2 and C0, as FCOM, FUCOM and FTST set them.
    pub const fn conditions(self) -> Flags {
        match self {
            Self::Less => Flags::C0,
            Self::Equal => Flags::C3,
            Self::Greater => Flags::empty(),
            Self::Unordered => Flags::C3.union(Flags::C2).union(Flags::C0),
        }
    }
}
