//! The x87 unit (SDM volume 1, chapter 8): the register stack, tags, exceptions and error pointers around the arithmetic of
//! `cpu::float`.
//!
//! As CPUID says, FCS and FDS are always zero, and FDP (with FOP) is written only by unmasked exceptions. An unmasked
//! exception sets ES and B; the next waiting instruction raises #MF where CR0.NE is set. Without NE the error would go to
//! the interrupt controller as IRQ 13: nothing is connected there, and the instruction is executed.

mod arithmetic;
mod compare;
mod control;
mod transfer;

use hvf_sys::cpu::Insn;

use super::super::core::{Done, Exec};
use super::super::float::x87::F80;
use super::super::float::{Env, Flags};
use super::Handler;
use crate::x86::control::cr0;
use crate::x86::vector;

/// The status word's stack fault flag.
const SF: u16 = 1 << 6;
/// The summary of unmasked exceptions, and the busy flag that follows it.
const ES_B: u16 = 1 << 7 | 1 << 15;
/// Condition code 1 alone: what most instructions define.
const C1: Flags = Flags::C1;
/// What is left of the condition codes that an instruction defines when its operands are invalid.
const C1_C2: Flags = Flags::C1.union(Flags::C2);

/// The handler of an x87 instruction.
pub(super) fn select(insn: &Insn) -> Option<Handler> {
    arithmetic::select(insn)
        .or_else(|| transfer::select(insn))
        .or_else(|| compare::select(insn))
        .or_else(|| control::select(insn))
}

/// Which way the stack was left.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StackFault {
    /// An operand is empty.
    Underflow,
    /// The register that a push would fill is not empty.
    Overflow,
}

impl Exec<'_> {
    /// What every x87 instruction checks, waiting or not.
    #[inline(always)]
    fn check_x87(&mut self) -> Done {
        if self.state.cr0 & (cr0::EM | cr0::TS) == 0 {
            Ok(())
        } else {
            Err(self.raise(vector::NM))
        }
    }

    /// What a waiting x87 instruction checks.
    #[inline(always)]
    fn begin_x87(&mut self) -> Done {
        self.check_x87()?;
        self.check_x87_pending()
    }

    /// The controls under which x87 instructions compute.
    #[inline(always)]
    fn x87_env(&self) -> Env {
        Env::from_control_word(self.state.fpu.control)
    }

    /// The physical number of ST(n).
    #[inline(always)]
    fn physical(&self, n: usize) -> usize {
        n.wrapping_add(usize::from(self.state.fpu.top)) & 7
    }

    /// ST(n), empty or not.
    #[inline(always)]
    fn st(&self, n: usize) -> F80 {
        let (mantissa, sign_exponent) = self.state.fpu.registers[self.physical(n)];
        F80 {
            mantissa,
            sign_exponent,
        }
    }

    /// Whether ST(n) is empty.
    #[inline(always)]
    fn is_empty(&self, n: usize) -> bool {
        self.state.fpu.valid >> self.physical(n) & 1 == 0
    }

    /// Fills ST(n).
    #[inline(always)]
    fn set_st(&mut self, n: usize, value: F80) {
        let at = self.physical(n);
        self.state.fpu.registers[at] = (value.mantissa, value.sign_exponent);
        self.state.fpu.valid |= 1 << at;
    }

    /// Empties ST(n).
    #[inline(always)]
    fn free_st(&mut self, n: usize) {
        self.state.fpu.valid &= !(1 << self.physical(n));
    }

    /// Empties ST(0) and moves TOP up.
    #[inline(always)]
    fn pop_st(&mut self) {
        self.free_st(0);
        self.rotate(1);
    }

    /// Moves TOP by `by` modulo 8.
    #[inline(always)]
    fn rotate(&mut self, by: u8) {
        self.state.fpu.top = self.state.fpu.top.wrapping_add(by) & 7;
    }

    /// Whether invalid operations are masked.
    fn invalid_masked(&self) -> bool {
        self.state.fpu.control & Flags::IE.bits() != 0
    }

    /// Ends an instruction that raised `flags`, of whose condition codes `defined` are its to write.
    #[inline(always)]
    fn settle(&mut self, insn: &Insn, flags: Flags, defined: Flags) {
        self.settle_bits(insn, flags.bits(), defined);
    }

    #[inline(always)]
    fn settle_bits(&mut self, insn: &Insn, bits: u16, defined: Flags) {
        self.note_instruction(insn);
        let fpu = &mut self.state.fpu;
        fpu.status = fpu.status & !defined.bits() | bits;
        if bits & !fpu.control & Flags::EXCEPTIONS.bits() != 0 {
            self.note_error(insn);
        }
    }

    /// FIP: an offset in the code segment, in real and virtual-8086 mode a linear address.
    #[inline(always)]
    fn note_instruction(&mut self, insn: &Insn) {
        let at = self.state.rip.wrapping_sub(insn.len());
        self.state.fpu.instruction = if self.code64() {
            at
        } else {
            self.legacy_pointer(hvf_sys::cpu::State::CS, at)
        };
    }

    fn legacy_pointer(&self, segment: usize, offset: u64) -> u64 {
        let base = if self.real_mode() || self.vm86() {
            self.segment(segment).base
        } else {
            0
        };
        base.wrapping_add(offset) & 0xffff_ffff
    }

    /// An unmasked exception: the summary, and the pointers that only now are written.
    #[cold]
    fn note_error(&mut self, insn: &Insn) {
        self.state.fpu.status |= ES_B;
        if insn.has_mem() {
            let offset = self.offset(insn);
            self.state.fpu.operand = if self.code64() {
                offset
            } else {
                self.legacy_pointer(insn.segment(), offset)
            };
        }
        if let Some(opcode) = self.x87_opcode(insn) {
            self.state.fpu.opcode = opcode;
        }
    }

    /// FOP: the low three bits of the first opcode byte and the second byte. They are read again, since a decoded
    /// instruction does not keep them.
    fn x87_opcode(&mut self, insn: &Insn) -> Option<u16> {
        let next = self.fetch_address();
        let mut first = None;
        for n in (1..=insn.len()).rev() {
            let la = next.wrapping_sub(n);
            let la = if self.code64() { la } else { la & 0xffff_ffff };
            let byte = self.code_byte(la)?;
            match first {
                Some(first) => return Some(u16::from(first & 7) << 8 | u16::from(byte)),
                None if byte & 0xf8 == 0xd8 => first = Some(byte),
                None => {}
            }
        }
        None
    }

    /// Notes a stack fault; whether it is masked, so that default results are written. C1 says which one it was; `defined`
    /// are the condition codes that are cleared.
    #[cold]
    fn stack_fault(&mut self, insn: &Insn, fault: StackFault, defined: Flags) -> bool {
        let c1 = if fault == StackFault::Overflow {
            C1.bits()
        } else {
            0
        };
        self.settle_bits(insn, Flags::IE.bits() | SF | c1, defined);
        self.invalid_masked()
    }

    /// An operand is empty: a masked response fills ST(`to`) with the default NaN and pops `pops` times.
    #[cold]
    fn underflow(&mut self, insn: &Insn, to: usize, pops: u8, defined: Flags) -> Done {
        if self.stack_fault(insn, StackFault::Underflow, defined) {
            self.set_st(to, F80::DEFAULT_NAN);
            self.pop_times(pops);
        }
        Ok(())
    }

    #[inline(always)]
    fn pop_times(&mut self, pops: u8) {
        for _ in 0..pops {
            self.pop_st();
        }
    }

    /// Pushes a value whose making raised `flags`, unless they forbid it.
    #[inline(always)]
    fn push_st(&mut self, insn: &Insn, value: F80, flags: Flags, goes_through: bool) -> Done {
        if !self.is_empty(7) {
            return self.push_overflow(insn);
        }
        if goes_through {
            self.rotate(7);
            self.set_st(0, value);
        }
        self.settle(insn, flags, C1);
        Ok(())
    }

    #[cold]
    fn push_overflow(&mut self, insn: &Insn) -> Done {
        if self.stack_fault(insn, StackFault::Overflow, C1) {
            self.rotate(7);
            self.set_st(0, F80::DEFAULT_NAN);
        }
        Ok(())
    }

    /// ES and B as the flags and masks demand them.
    fn summarize(&mut self) {
        let fpu = &mut self.state.fpu;
        let unmasked = fpu.status & !fpu.control & Flags::EXCEPTIONS.bits() != 0;
        fpu.status = fpu.status & !ES_B | if unmasked { ES_B } else { 0 };
    }
}
