//! Comparisons: into the condition codes, or into RFLAGS.

use hvf_sys::cpu::{Insn, Op};

use super::super::super::core::{Done, Exec, Trap};
use super::super::super::flags;
use super::super::super::float::x87::{self, F80, M32, M64, Operand};
use super::super::super::float::{Flags, Relation};
use super::super::Handler;
use super::{C1, SF, StackFault};

/// A relation and what finding it raised.
type Related = (Relation, Flags);

pub(super) fn select(insn: &Insn) -> Option<Handler> {
    use Op::*;
    let (memory, width) = (insn.has_mem(), insn.width());
    Some(match insn.op() {
        Fcom if !memory => |x, i| x.relate_registers(i, i.a().number(), 0, x87::compare),
        Fcom if width == 4 => |x, i| x.relate_memory(i, 0, |x, i| x.load(i).map(M32)),
        Fcom => |x, i| x.relate_memory(i, 0, |x, i| x.load(i).map(M64)),
        Fcomp if !memory => |x, i| x.relate_registers(i, i.a().number(), 1, x87::compare),
        Fcomp if width == 4 => |x, i| x.relate_memory(i, 1, |x, i| x.load(i).map(M32)),
        Fcomp => |x, i| x.relate_memory(i, 1, |x, i| x.load(i).map(M64)),
        Fcompp => |x, i| x.relate_registers(i, 1, 2, x87::compare),
        Ficom if width == 2 => |x, i| x.relate_memory(i, 0, Exec::load_i16),
        Ficom => |x, i| x.relate_memory(i, 0, Exec::load_i32),
        Ficomp if width == 2 => |x, i| x.relate_memory(i, 1, Exec::load_i16),
        Ficomp => |x, i| x.relate_memory(i, 1, Exec::load_i32),
        Fucom => |x, i| x.relate_registers(i, i.a().number(), 0, x87::compare_quiet),
        Fucomp => |x, i| x.relate_registers(i, i.a().number(), 1, x87::compare_quiet),
        Fucompp => |x, i| x.relate_registers(i, 1, 2, x87::compare_quiet),
        Fcomi => |x, i| x.relate_in_rflags(i, 0, x87::compare),
        Fcomip => |x, i| x.relate_in_rflags(i, 1, x87::compare),
        Fucomi => |x, i| x.relate_in_rflags(i, 0, x87::compare_quiet),
        Fucomip => |x, i| x.relate_in_rflags(i, 1, x87::compare_quiet),
        Ftst => |x, i| x.relate_registers(i, 0, 0, |a, _| x87::test(a)),
        Fxam => examine,
        _ => return None,
    })
}

impl Exec<'_> {
    #[inline(always)]
    fn relate_registers(
        &mut self,
        insn: &Insn,
        other: usize,
        pops: u8,
        compare: impl FnOnce(F80, F80) -> Related,
    ) -> Done {
        self.begin_x87()?;
        if self.is_empty(0) || self.is_empty(other) {
            return self.compare_underflow(insn, pops);
        }
        let related = compare(self.st(0), self.st(other));
        self.finish_comparison(insn, pops, related);
        Ok(())
    }

    #[inline(always)]
    fn relate_memory<M: Operand>(
        &mut self,
        insn: &Insn,
        pops: u8,
        load: impl FnOnce(&mut Self, &Insn) -> Result<M, Trap>,
    ) -> Done {
        self.begin_x87()?;
        let b = load(self, insn)?;
        if self.is_empty(0) {
            return self.compare_underflow(insn, pops);
        }
        let related = x87::compare(self.st(0), b);
        self.finish_comparison(insn, pops, related);
        Ok(())
    }

    /// The answer is given even where an unmasked exception keeps the stack as it is.
    fn finish_comparison(&mut self, insn: &Insn, pops: u8, (relation, flags): Related) {
        if self.x87_env().commits(flags) {
            self.pop_times(pops);
        }
        self.settle(insn, flags | relation.conditions(), Flags::CONDITIONS);
    }

    /// What is empty is unordered.
    #[cold]
    fn compare_underflow(&mut self, insn: &Insn, pops: u8) -> Done {
        if self.invalid_masked() {
            self.pop_times(pops);
        }
        let bits = Flags::IE | Relation::Unordered.conditions();
        self.settle_bits(insn, bits.bits() | SF, Flags::CONDITIONS);
        Ok(())
    }

    /// FCOMI and its kin.
    #[inline(always)]
    fn relate_in_rflags(
        &mut self,
        insn: &Insn,
        pops: u8,
        compare: impl FnOnce(F80, F80) -> Related,
    ) -> Done {
        self.begin_x87()?;
        let other = insn.b().number();
        if self.is_empty(0) || self.is_empty(other) {
            self.flags = flags::Flags::from_bits(Relation::Unordered.rflags());
            if self.stack_fault(insn, StackFault::Underflow, C1) {
                self.pop_times(pops);
            }
            return Ok(());
        }
        let (relation, flags) = compare(self.st(0), self.st(other));
        self.flags = flags::Flags::from_bits(relation.rflags());
        if self.x87_env().commits(flags) {
            self.pop_times(pops);
        }
        self.settle(insn, flags, Flags::empty());
        Ok(())
    }
}

/// FXAM: an empty register has a class too, and its sign counts.
fn examine(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.begin_x87()?;
    let a = x.st(0);
    let class = if x.is_empty(0) {
        let sign = if a.is_negative() { C1 } else { Flags::empty() };
        Flags::C3 | Flags::C0 | sign
    } else {
        x87::examine(a)
    };
    x.settle(insn, class, Flags::CONDITIONS);
    Ok(())
}
