//! Operands of arithmetic and comparison: a register, or a narrower float in memory, which is widened exactly but
//! still counts as the denormal or signaling NaN that it is.

use super::super::sse::{F32, F64, Format, unpack};
use super::super::unpacked::{Kind, Unpacked};
use super::F80;

/// The bits of a float of 32 bits in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct M32(pub u32);

/// The bits of a float of 64 bits in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct M64(pub u64);

/// What arithmetic takes as its second operand: [`F80`], [`M32`] or [`M64`].
pub trait Operand: Copy + sealed::Sealed {}

impl Operand for F80 {}
impl Operand for M32 {}
impl Operand for M64 {}

pub(super) mod sealed {
    use super::{F80, Unpacked};

    /// The operand as a register would hold it (a signaling NaN still signaling) and taken apart.
    pub trait Sealed {
        #[expect(private_interfaces, reason = "sealed: nobody outside calls it")]
        fn widen(self) -> (F80, Unpacked);
    }
}

#[expect(private_interfaces, reason = "sealed: nobody outside calls it")]
impl sealed::Sealed for F80 {
    fn widen(self) -> (F80, Unpacked) {
        (self, self.unpack())
    }
}

#[expect(private_interfaces, reason = "sealed: nobody outside calls it")]
impl sealed::Sealed for M32 {
    fn widen(self) -> (F80, Unpacked) {
        widen::<F32>(u64::from(self.0))
    }
}

#[expect(private_interfaces, reason = "sealed: nobody outside calls it")]
impl sealed::Sealed for M64 {
    fn widen(self) -> (F80, Unpacked) {
        widen::<F64>(self.0)
    }
}

fn widen<F: Format>(bits: u64) -> (F80, Unpacked) {
    let unpacked = unpack::<F>(bits, false);
    let negative = unpacked.negative();
    let value = match unpacked.kind {
        Kind::Zero => F80::zero(negative),
        Kind::Finite => F80::normal(negative, unpacked.number.exp, unpacked.number.sig),
        Kind::Infinity => F80::infinity(negative),
        _ => {
            let fraction = (bits & F::FRACTION_MASK) << (63 - F::FRACTION);
            F80::new(negative, super::EXPONENT_MAX, super::INTEGER | fraction)
        }
    };
    (value, unpacked)
}
