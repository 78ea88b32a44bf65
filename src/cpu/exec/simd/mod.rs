//! MMX and SSE: the checks and operand forms that all of them share, and the integer families.
//!
//! An operation on packed integers is written once, on 128 bits, with the width that counts (64 for MMX) as an argument.
//! Results above that width are dropped.

mod compare;
mod integer;
mod moves;
mod shift;
mod shuffle;
mod text;

use hvf_sys::cpu::Insn;
use hvf_sys::ram::Word;

use super::super::core::{Done, Exec, Trap};
use super::Handler;
use crate::x86::control::{cr0, cr4};
use crate::x86::vector;

/// An operation on packed integers: destination, source, and how many bits count.
trait Packed {
    fn apply(a: u128, b: u128, bits: u32) -> u128;
}

/// The same with an immediate.
trait PackedImmediate {
    fn apply(a: u128, b: u128, immediate: u8, bits: u32) -> u128;
}

/// Defines operations, each as a type of its own.
macro_rules! packed {
    ($($name:ident |$a:ident, $b:ident, $bits:pat_param| $body:expr;)*) => {
        $(
            struct $name;
            impl super::Packed for $name {
                #[inline(always)]
                fn apply($a: u128, $b: u128, $bits: u32) -> u128 {
                    $body
                }
            }
        )*
    };
}
use packed;

/// The handler of an MMX or SSE instruction on integers, or one that only moves.
pub(super) fn select(insn: &Insn) -> Option<Handler> {
    integer::select(insn)
        .or_else(|| shift::select(insn))
        .or_else(|| shuffle::select(insn))
        .or_else(|| compare::select(insn))
        .or_else(|| text::select(insn))
        .or_else(|| moves::select(insn))
}

impl Exec<'_> {
    /// Whether SSE may be used: #UD where it is off, #NM where its registers belong to another task.
    #[inline(always)]
    pub(in super::super) fn check_sse(&mut self) -> Done {
        let ready = self.state.cr0 & (cr0::EM | cr0::TS) == 0 && self.state.cr4 & cr4::OSFXSR != 0;
        if ready { Ok(()) } else { Err(self.sse_fault()) }
    }

    #[cold]
    fn sse_fault(&mut self) -> Trap {
        if self.cr0(cr0::EM) || !self.cr4(cr4::OSFXSR) {
            self.undefined()
        } else {
            self.raise(vector::NM)
        }
    }

    /// Whether MMX may be used, and makes its registers valid: TOP is 0 and no register is empty afterwards.
    #[inline(always)]
    pub(in super::super) fn begin_mmx(&mut self) -> Done {
        if self.cr0(cr0::EM) {
            return Err(self.undefined());
        }
        if self.cr0(cr0::TS) {
            return Err(self.raise(vector::NM));
        }
        self.check_x87_pending()
    }

    /// To be called when an MMX instruction has had no fault.
    #[inline(always)]
    pub(in super::super) fn commit_mmx(&mut self) {
        self.state.fpu.top = 0;
        self.state.fpu.valid = 0xff;
    }

    /// An MMX register.
    #[inline(always)]
    pub(in super::super) fn mm(&self, number: usize) -> u64 {
        self.state.fpu.registers[number & 7].0
    }

    /// Writes an MMX register; sign and exponent become all ones.
    #[inline(always)]
    pub(in super::super) fn set_mm(&mut self, number: usize, value: u64) {
        self.state.fpu.registers[number & 7] = (value, 0xffff);
    }

    /// An XMM register.
    #[inline(always)]
    pub(in super::super) fn xmm(&self, number: usize) -> u128 {
        self.state.xmm[number & 15]
    }

    /// Writes an XMM register.
    #[inline(always)]
    pub(in super::super) fn set_xmm(&mut self, number: usize, value: u128) {
        self.state.xmm[number & 15] = value;
    }

    /// Loads sixteen bytes that must be aligned: #GP(0) where they are not.
    #[inline(always)]
    pub(in super::super) fn load_aligned(&mut self, insn: &Insn) -> Result<u128, Trap> {
        let la = self.linear(insn, 16, false)?;
        if la % 16 != 0 {
            return Err(self.general_protection(0));
        }
        self.load_at(la, insn.segment())
    }

    /// Stores sixteen bytes that must be aligned: #GP(0) where they are not.
    #[inline(always)]
    pub(in super::super) fn store_aligned(&mut self, insn: &Insn, value: u128) -> Done {
        let la = self.linear(insn, 16, true)?;
        if la % 16 != 0 {
            return Err(self.general_protection(0));
        }
        self.store_at(la, insn.segment(), value)
    }

    /// The second operand of an SSE instruction on whole registers.
    #[inline(always)]
    pub(in super::super) fn xmm_source(&mut self, insn: &Insn) -> Result<u128, Trap> {
        if insn.b().is_mem() {
            self.load_aligned(insn)
        } else {
            Ok(self.xmm(insn.b().low_bits()))
        }
    }

    /// The second operand of an SSE instruction that takes only the low part of a register, or a small memory operand
    /// that need not be aligned.
    #[inline(always)]
    pub(in super::super) fn xmm_part<W: Word>(&mut self, insn: &Insn) -> Result<W, Trap> {
        if insn.b().is_mem() {
            self.load(insn)
        } else {
            Ok(W::from_u128(self.xmm(insn.b().low_bits())))
        }
    }

    /// The second operand of an MMX instruction.
    #[inline(always)]
    pub(in super::super) fn mm_source(&mut self, insn: &Insn) -> Result<u64, Trap> {
        if insn.b().is_mem() {
            self.load(insn)
        } else {
            Ok(self.mm(insn.b().number()))
        }
    }
}

/// The two handlers of a packed operation.
fn handler<P: Packed>(insn: &Insn) -> Handler {
    if insn.a().is_xmm() {
        xmm_packed::<P>
    } else {
        mm_packed::<P>
    }
}

fn xmm_packed<P: Packed>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.check_sse()?;
    let b = x.xmm_source(insn)?;
    let n = insn.a().low_bits();
    let result = P::apply(x.xmm(n), b, 128);
    x.set_xmm(n, result);
    Ok(())
}

fn mm_packed<P: Packed>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.begin_mmx()?;
    let b = x.mm_source(insn)?;
    x.commit_mmx();
    let n = insn.a().number();
    let result = P::apply(u128::from(x.mm(n)), u128::from(b), 64);
    x.set_mm(n, result as u64);
    Ok(())
}

fn packed_immediate<P: PackedImmediate>(insn: &Insn) -> Handler {
    if insn.a().is_xmm() {
        xmm_packed_immediate::<P>
    } else {
        mm_packed_immediate::<P>
    }
}

fn xmm_packed_immediate<P: PackedImmediate>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.check_sse()?;
    let b = x.xmm_source(insn)?;
    let n = insn.a().low_bits();
    let result = P::apply(x.xmm(n), b, insn.immediate() as u8, 128);
    x.set_xmm(n, result);
    Ok(())
}

fn mm_packed_immediate<P: PackedImmediate>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.begin_mmx()?;
    let b = x.mm_source(insn)?;
    x.commit_mmx();
    let n = insn.a().number();
    let result = P::apply(
        u128::from(x.mm(n)),
        u128::from(b),
        insn.immediate() as u8,
        64,
    );
    x.set_mm(n, result as u64);
    Ok(())
}

/// Applies `f` to each pair of bytes.
#[inline(always)]
fn bytes(a: u128, b: u128, f: impl Fn(u8, u8) -> u8) -> u128 {
    let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
    u128::from_le_bytes(std::array::from_fn(|n| f(a[n], b[n])))
}

/// The eight words of a register.
#[inline(always)]
fn to_words(a: u128) -> [u16; 8] {
    std::array::from_fn(|n| (a >> (16 * n)) as u16)
}

/// A register of eight words.
#[inline(always)]
fn from_words(words: [u16; 8]) -> u128 {
    words
        .into_iter()
        .rev()
        .fold(0, |sum, w| sum << 16 | u128::from(w))
}

/// The four doublewords of a register.
#[inline(always)]
fn to_dwords(a: u128) -> [u32; 4] {
    std::array::from_fn(|n| (a >> (32 * n)) as u32)
}

/// A register of four doublewords.
#[inline(always)]
fn from_dwords(dwords: [u32; 4]) -> u128 {
    dwords
        .into_iter()
        .rev()
        .fold(0, |sum, d| sum << 32 | u128::from(d))
}

/// A register of two quadwords.
#[inline(always)]
fn from_qwords(low: u64, high: u64) -> u128 {
    u128::from(low) | u128::from(high) << 64
}

/// Applies `f` to each pair of words.
#[inline(always)]
fn words(a: u128, b: u128, f: impl Fn(u16, u16) -> u16) -> u128 {
    let (a, b) = (to_words(a), to_words(b));
    from_words(std::array::from_fn(|n| f(a[n], b[n])))
}

/// Applies `f` to each pair of doublewords.
#[inline(always)]
fn dwords(a: u128, b: u128, f: impl Fn(u32, u32) -> u32) -> u128 {
    let (a, b) = (to_dwords(a), to_dwords(b));
    from_dwords(std::array::from_fn(|n| f(a[n], b[n])))
}

/// Applies `f` to each pair of quadwords.
#[inline(always)]
fn qwords(a: u128, b: u128, f: impl Fn(u64, u64) -> u64) -> u128 {
    from_qwords(f(a as u64, b as u64), f((a >> 64) as u64, (b >> 64) as u64))
}
