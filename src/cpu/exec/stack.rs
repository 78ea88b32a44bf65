//! PUSH, POP, PUSHA, POPA, PUSHF, POPF, ENTER, LEAVE. Segment registers are pushed and popped elsewhere.

use hvf_sys::cpu::{Insn, Op};

use super::super::core::{Done, Exec};
use super::super::int::Int;
use super::{Handler, by_word};
use crate::x86::control::{cr4, rflags};

pub(super) fn select(insn: &Insn) -> Handler {
    match insn.op() {
        Op::Push if insn.a().is_gpr() => by_word!(insn, push_register),
        Op::Push => by_word!(insn, push_any),
        Op::Pop if insn.a().is_gpr() => by_word!(insn, pop_register),
        Op::Pop => by_word!(insn, pop_memory),
        Op::Pusha => by_word!(insn, push_all),
        Op::Popa => by_word!(insn, pop_all),
        Op::Pushf => by_word!(insn, push_flags),
        Op::Popf => by_word!(insn, pop_flags),
        Op::Enter => by_word!(insn, enter),
        _ => by_word!(insn, leave),
    }
}

fn push_register<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let value: W = x.gpr(insn.a().low_bits());
    x.push(value)
}

fn push_any<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let value: W = x.read(insn, insn.a())?;
    x.push(value)
}

fn pop_register<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let value: W = x.pop()?;
    x.set_gpr(insn.a().low_bits(), value);
    Ok(())
}

/// The address of the destination is computed with the stack pointer already moved (SDM volume 2, POP).
fn pop_memory<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let before = x.state.gpr[4];
    let value: W = x.pop()?;
    x.store(insn, value)
        .inspect_err(|_| x.core.state.gpr[4] = before)
}

fn push_all<W: Int>(x: &mut Exec<'_>, _insn: &Insn) -> Done {
    let before = x.state.gpr[4];
    // Both ends first, so that no fault comes after the first store.
    let lowest = x.stack_pointer().wrapping_sub(8 * W::BYTES);
    for offset in [lowest, lowest.wrapping_add(7 * W::BYTES)] {
        let la = x.linear_in(2, offset & x.stack_mask(), W::BYTES, true)?;
        x.probe_write(la, W::BYTES, 2)?;
    }
    for number in 0..8 {
        let value = if number == 4 {
            W::truncate(before)
        } else {
            x.gpr(number)
        };
        x.push(value)
            .inspect_err(|_| x.core.state.gpr[4] = before)?;
    }
    Ok(())
}

fn pop_all<W: Int>(x: &mut Exec<'_>, _insn: &Insn) -> Done {
    let pointer = x.stack_pointer();
    let mut values = [W::default(); 8];
    for (n, value) in (0..).zip(values.iter_mut()) {
        *value = x.load_stack(pointer.wrapping_add(n * W::BYTES))?;
    }
    for (number, value) in values.into_iter().rev().enumerate() {
        if number != 4 {
            x.set_gpr(number, value);
        }
    }
    x.set_stack_pointer(pointer.wrapping_add(8 * W::BYTES));
    Ok(())
}

/// In virtual-8086 mode IOPL must be 3, or the interrupt flag is virtual (SDM volume 3, 20.3.1).
fn push_flags<W: Int>(x: &mut Exec<'_>, _insn: &Insn) -> Done {
    let mut value = x.rflags() & !(rflags::VM | rflags::RF);
    if x.vm86() && x.iopl() < 3 {
        if W::BITS != 16 || !x.cr4(cr4::VME) {
            return Err(x.general_protection(0));
        }
        value = value & !rflags::IF
            | rflags::IOPL
            | if value & rflags::VIF != 0 {
                rflags::IF
            } else {
                0
            };
    }
    x.push(W::truncate(value))
}

fn pop_flags<W: Int>(x: &mut Exec<'_>, _insn: &Insn) -> Done {
    let virtual_interrupts = x.vm86() && x.iopl() < 3;
    if virtual_interrupts && (W::BITS != 16 || !x.cr4(cr4::VME)) {
        return Err(x.general_protection(0));
    }
    let pointer = x.stack_pointer();
    let value = x.load_stack::<W>(pointer)?.zero_extend();
    if virtual_interrupts {
        let waits = x.state.rflags & rflags::VIP != 0 && value & rflags::IF != 0;
        if waits || value & rflags::TF != 0 {
            return Err(x.general_protection(0));
        }
    }
    x.set_stack_pointer(pointer.wrapping_add(W::BYTES));
    let mut mask = rflags::ARITHMETIC | rflags::TF | rflags::DF | rflags::NT;
    if W::BITS > 16 {
        mask |= rflags::AC | rflags::ID;
    }
    let mut new = value;
    if virtual_interrupts {
        mask |= rflags::VIF;
        new = new & !rflags::VIF
            | if value & rflags::IF != 0 {
                rflags::VIF
            } else {
                0
            };
    } else if x.cpl <= x.iopl() {
        mask |= rflags::IF;
    }
    if x.cpl == 0 {
        mask |= rflags::IOPL;
    }
    let old = x.rflags() & !rflags::RF;
    x.set_rflags(old & !mask | new & mask);
    Ok(())
}

fn enter<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let (size, level) = (insn.immediate() & 0xffff, u64::from(insn.aux() & 31));
    let top = x.stack_pointer();
    let mut pointer = top.wrapping_sub(W::BYTES);
    let frame = pointer;
    let mut values = vec![x.gpr::<W>(5)];
    let base = x.state.gpr[5];
    for n in 1..level {
        values.push(x.load_stack(base.wrapping_sub(n * W::BYTES))?);
    }
    if level > 0 {
        values.push(W::truncate(frame));
    }
    let new_pointer = frame.wrapping_sub(level * W::BYTES).wrapping_sub(size);
    // The last byte that the new frame can push must be writable too: a fault comes before any effect.
    let la = x.linear_in(2, new_pointer & x.stack_mask(), W::BYTES, true)?;
    x.probe_write(la, W::BYTES, 2)?;
    for value in values {
        x.store_stack(pointer, value)?;
        pointer = pointer.wrapping_sub(W::BYTES);
    }
    x.set_gpr(5, W::truncate(frame));
    x.set_stack_pointer(new_pointer);
    Ok(())
}

fn leave<W: Int>(x: &mut Exec<'_>, _insn: &Insn) -> Done {
    let pointer = x.state.gpr[5];
    let value: W = x.load_stack(pointer)?;
    x.set_stack_pointer(pointer.wrapping_add(W::BYTES));
    x.set_gpr(5, value);
    Ok(())
}
