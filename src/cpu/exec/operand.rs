//! Operands of any kind, for the forms that have no handler of their own.

use hvf_sys::cpu::{Insn, Operand};

use super::super::core::{Done, Exec, Trap};
use super::super::int::Int;

impl Exec<'_> {
    /// Reads a general register, high byte, memory or immediate operand.
    #[inline(always)]
    pub fn read<W: Int>(&mut self, insn: &Insn, operand: Operand) -> Result<W, Trap> {
        if operand.is_mem() {
            self.load(insn)
        } else if operand.is_imm() {
            Ok(W::truncate(insn.immediate()))
        } else {
            Ok(self.read_register(operand))
        }
    }

    /// Writes a general register, high byte or memory operand.
    #[inline(always)]
    pub fn write<W: Int>(&mut self, insn: &Insn, operand: Operand, value: W) -> Done {
        if operand.is_mem() {
            return self.store(insn, value);
        }
        self.write_register(operand, value);
        Ok(())
    }

    /// Reads a general register or high byte.
    #[inline(always)]
    pub fn read_register<W: Int>(&self, operand: Operand) -> W {
        if operand.is_high() {
            W::truncate(self.state.gpr[operand.number() & 3] >> 8)
        } else {
            self.gpr(operand.low_bits())
        }
    }

    /// Writes a general register or high byte.
    #[inline(always)]
    pub fn write_register<W: Int>(&mut self, operand: Operand, value: W) {
        if operand.is_high() {
            let old = &mut self.state.gpr[operand.number() & 3];
            *old = *old & !0xff00 | (value.zero_extend() & 0xff) << 8;
        } else {
            self.set_gpr(operand.low_bits(), value);
        }
    }

    /// Replaces a register or memory operand by what `new` makes of it and gives the old value. Memory is locked
    /// where the instruction says so; `new` may be called more than once.
    #[inline(always)]
    pub fn modify<W: Int>(
        &mut self,
        insn: &Insn,
        operand: Operand,
        mut new: impl FnMut(W) -> W,
    ) -> Result<W, Trap> {
        if operand.is_mem() {
            return self.update(insn, insn.lock(), new);
        }
        let old = self.read_register(operand);
        self.write_register(operand, new(old));
        Ok(old)
    }
}
