//! The six arithmetic flags, kept as the result and the carries that they are made of.
//!
//! Instructions that set flags are far more frequent than those that read them, so each only stores two words.
//! `result` is sign-extended to 64 bits; `aux` holds the vector of carries (or borrows) out of each bit, shifted so
//! that the carry out of the operand's top bit is bit 63, with the carry out of bit 3 kept in bit 3. Two more bits
//! of `aux` invert SF and PF, so that any combination of flags can be stored (POPF, SAHF).

use crate::x86::control::rflags::{AF, ARITHMETIC, CF, OF, PF, SF, ZF};

use super::int::Int;

const CARRY: u64 = 1 << 63;
/// Differs from `CARRY` where there was an overflow.
const CARRY_IN: u64 = 1 << 62;
const HALF_CARRY: u64 = 1 << 3;
const INVERT_SIGN: u64 = 1 << 0;
const INVERT_PARITY: u64 = 1 << 1;

/// CF, PF, AF, ZF, SF and OF.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flags {
    result: u64,
    aux: u64,
}

impl Flags {
    /// The flags of a result with its vector of carries or borrows.
    #[inline(always)]
    fn of<W: Int>(result: W, carries: W) -> Self {
        let carries = carries.zero_extend();
        Self {
            result: result.sign_extend(),
            aux: carries << (64 - W::BITS) & !7 | carries & HALF_CARRY,
        }
    }

    /// AND, OR, XOR, TEST: CF and OF clear, AF clear (SDM leaves it undefined; processors clear it).
    #[inline(always)]
    pub fn logic<W: Int>(&mut self, result: W) {
        *self = Self {
            result: result.sign_extend(),
            aux: 0,
        };
    }

    /// `a + b + carry`.
    #[inline(always)]
    pub fn add<W: Int>(&mut self, a: W, b: W, carry: bool) -> W {
        let result = a.wrapping_add(b).wrapping_add(W::from_bool(carry));
        *self = Self::of(result, a & b | (a | b) & !result);
        result
    }

    /// `a - b - borrow`; also CMP.
    #[inline(always)]
    pub fn sub<W: Int>(&mut self, a: W, b: W, borrow: bool) -> W {
        let result = a.wrapping_sub(b).wrapping_sub(W::from_bool(borrow));
        *self = Self::of(result, !a & b | (!a | b) & result);
        result
    }

    /// `a + 1`, CF unchanged.
    #[inline(always)]
    pub fn inc<W: Int>(&mut self, a: W) -> W {
        let carry = self.carry();
        let result = self.add(a, W::from_bool(true), false);
        self.set_carry_keeping_overflow(carry);
        result
    }

    /// `a - 1`, CF unchanged.
    #[inline(always)]
    pub fn dec<W: Int>(&mut self, a: W) -> W {
        let carry = self.carry();
        let result = self.sub(a, W::from_bool(true), false);
        self.set_carry_keeping_overflow(carry);
        result
    }

    /// SF, ZF and PF from a result, with CF and OF as given and AF clear: shifts, multiplications.
    #[inline(always)]
    pub fn set_result<W: Int>(&mut self, result: W, carry: bool, overflow: bool) {
        let aux = if carry { CARRY } else { 0 } | if carry != overflow { CARRY_IN } else { 0 };
        *self = Self {
            result: result.sign_extend(),
            aux,
        };
    }

    /// CF.
    #[inline(always)]
    pub fn carry(self) -> bool {
        self.aux & CARRY != 0
    }

    /// OF.
    #[inline(always)]
    pub fn overflow(self) -> bool {
        (self.aux ^ self.aux << 1) & CARRY != 0
    }

    /// ZF.
    #[inline(always)]
    pub fn zero(self) -> bool {
        self.result == 0
    }

    /// SF.
    #[inline(always)]
    pub fn sign(self) -> bool {
        (self.result >> 63 ^ self.aux & INVERT_SIGN) != 0
    }

    /// PF.
    #[inline(always)]
    pub fn parity(self) -> bool {
        ((self.result as u8).count_ones() & 1 == 0) != (self.aux & INVERT_PARITY != 0)
    }

    /// AF.
    #[inline(always)]
    pub fn half_carry(self) -> bool {
        self.aux & HALF_CARRY != 0
    }

    /// Changes CF alone.
    pub fn set_carry(&mut self, carry: bool) {
        self.set_carry_keeping_overflow(carry);
    }

    #[inline(always)]
    fn set_carry_keeping_overflow(&mut self, carry: bool) {
        if self.carry() != carry {
            self.aux ^= CARRY | CARRY_IN;
        }
    }

    /// Changes CF and OF alone: rotates.
    #[inline(always)]
    pub fn set_carry_and_overflow(&mut self, carry: bool, overflow: bool) {
        let aux = if carry { CARRY } else { 0 } | if carry != overflow { CARRY_IN } else { 0 };
        self.aux = self.aux & !(CARRY | CARRY_IN) | aux;
    }

    /// The arithmetic bits of RFLAGS.
    pub fn bits(self) -> u64 {
        let bit = |set: bool, mask: u64| if set { mask } else { 0 };
        bit(self.carry(), CF)
            | bit(self.parity(), PF)
            | bit(self.half_carry(), AF)
            | bit(self.zero(), ZF)
            | bit(self.sign(), SF)
            | bit(self.overflow(), OF)
    }

    /// Takes all six from RFLAGS.
    pub fn from_bits(rflags: u64) -> Self {
        let (carry, overflow) = (rflags & CF != 0, rflags & OF != 0);
        // A result of zero has ZF, PF and no SF; one of 1 has none of the three.
        let result = u64::from(rflags & ZF == 0);
        let parity_of_result = rflags & ZF != 0;
        let mut aux = 0;
        aux |= if carry { CARRY } else { 0 } | if carry != overflow { CARRY_IN } else { 0 };
        aux |= if rflags & AF != 0 { HALF_CARRY } else { 0 };
        aux |= if rflags & SF != 0 { INVERT_SIGN } else { 0 };
        aux |= if (rflags & PF != 0) != parity_of_result {
            INVERT_PARITY
        } else {
            0
        };
        Self { result, aux }
    }

    /// Replaces the flags in `mask` (bits of RFLAGS) by those of `bits`.
    pub fn assign(&mut self, mask: u64, bits: u64) {
        *self = Self::from_bits(self.bits() & !(mask & ARITHMETIC) | bits & mask);
    }

    /// Whether a condition of Jcc, SETcc or CMOVcc holds (SDM volume 1, appendix B).
    #[inline(always)]
    pub fn condition(self, condition: u8) -> bool {
        let holds = match condition >> 1 & 7 {
            0 => self.overflow(),
            1 => self.carry(),
            2 => self.zero(),
            3 => self.carry() || self.zero(),
            4 => self.sign(),
            5 => self.parity(),
            6 => self.sign() != self.overflow(),
            _ => self.zero() || self.sign() != self.overflow(),
        };
        holds != (condition & 1 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_of_flags_survives() {
        for n in 0..64u64 {
            let spread = [CF, PF, AF, ZF, SF, OF]
                .iter()
                .enumerate()
                .filter(|(i, _)| n >> i & 1 != 0);
            let bits = spread.map(|(_, f)| f).sum::<u64>();
            assert_eq!(Flags::from_bits(bits).bits(), bits);
        }
    }

    #[test]
    fn bytes_show_every_flag_as_defined() {
        for a in 0..=255u8 {
            for b in 0..=255u8 {
                for carry in [false, true] {
                    let mut flags = Flags::default();
                    let sum = flags.add(a, b, carry);
                    let wide = u16::from(a) + u16::from(b) + u16::from(carry);
                    assert_eq!(sum, wide as u8);
                    assert_eq!(flags.carry(), wide > 0xff);
                    assert_eq!(
                        flags.half_carry(),
                        (a & 15) + (b & 15) + u8::from(carry) > 15
                    );
                    let exact = i16::from(a as i8) + i16::from(b as i8) + i16::from(carry);
                    assert_eq!(flags.overflow(), i8::try_from(exact).is_err());
                    assert_eq!(flags.zero(), sum == 0);
                    assert_eq!(flags.sign(), sum >= 0x80);
                    assert_eq!(flags.parity(), sum.count_ones() % 2 == 0);

                    let difference = flags.sub(a, b, carry);
                    let exact = i16::from(a) - i16::from(b) - i16::from(carry);
                    assert_eq!(difference, exact as u8);
                    assert_eq!(flags.carry(), exact < 0);
                    assert_eq!(
                        flags.half_carry(),
                        i16::from(a & 15) - i16::from(b & 15) - i16::from(carry) < 0
                    );
                    let exact = i16::from(a as i8) - i16::from(b as i8) - i16::from(carry);
                    assert_eq!(flags.overflow(), i8::try_from(exact).is_err());
                    let holds = |c| flags.condition(c);
                    assert_eq!(holds(0xc), (difference >= 0x80) != flags.overflow());
                }
            }
        }
    }

    #[test]
    fn inc_and_dec_keep_carry() {
        for carry in [false, true] {
            let mut flags = Flags::from_bits(if carry { CF } else { 0 });
            assert_eq!(flags.inc(0x7fff_ffffu32), 0x8000_0000);
            assert!(flags.overflow() && flags.carry() == carry);
            assert_eq!(flags.dec(0x8000_0000u32), 0x7fff_ffff);
            assert!(flags.overflow() && flags.carry() == carry);
            flags.set_carry(!carry);
            assert!(flags.overflow() && flags.carry() != carry);
        }
    }
}
