//! Moves between registers and memory, exchanges, conditional moves, and the compare-and-exchange family.

use hvf_sys::cpu::{Insn, Op};

use super::super::core::{Done, Exec};
use super::super::int::Int;
use super::{Handler, by_width, by_word};
use crate::x86::control::rflags::ZF;

pub(super) fn select(insn: &Insn) -> Handler {
    match insn.op() {
        Op::Mov | Op::Movnti => mov(insn),
        Op::Movzx => extend(insn, false),
        Op::Movsx => extend(insn, true),
        Op::Movbe => by_word!(insn, movbe),
        Op::Lea => by_word!(insn, lea),
        Op::Cmov => by_word!(insn, cmov),
        Op::Setcc => setcc,
        Op::Cbw => cbw,
        Op::Cwd => cwd,
        Op::Xlat => xlat,
        Op::Xchg => by_width!(insn, xchg),
        Op::Xadd => by_width!(insn, xadd),
        Op::Cmpxchg => by_width!(insn, cmpxchg),
        Op::Cmpxchg8b => cmpxchg8b,
        _ => cmpxchg16b,
    }
}

fn mov(insn: &Insn) -> Handler {
    let (a, b) = (insn.a(), insn.b());
    if a.is_gpr() && b.is_gpr() {
        by_width!(insn, mov_register_register)
    } else if a.is_gpr() && b.is_imm() {
        by_width!(insn, mov_register_immediate)
    } else if a.is_gpr() && b.is_mem() {
        by_width!(insn, mov_register_memory)
    } else if a.is_mem() && b.is_gpr() {
        by_width!(insn, mov_memory_register)
    } else {
        by_width!(insn, mov_any)
    }
}

fn mov_register_register<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let value: W = x.gpr(insn.b().low_bits());
    x.set_gpr(insn.a().low_bits(), value);
    Ok(())
}

fn mov_register_immediate<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.set_gpr(insn.a().low_bits(), W::truncate(insn.immediate()));
    Ok(())
}

fn mov_register_memory<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let value: W = x.load(insn)?;
    x.set_gpr(insn.a().low_bits(), value);
    Ok(())
}

fn mov_memory_register<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let value: W = x.gpr(insn.b().low_bits());
    x.store(insn, value)
}

fn mov_any<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let value: W = x.read(insn, insn.b())?;
    x.write(insn, insn.a(), value)
}

fn extend(insn: &Insn, signed: bool) -> Handler {
    match (insn.aux(), signed) {
        (1, false) => by_word!(insn, movzx_byte),
        (1, true) => by_word!(insn, movsx_byte),
        (2, false) => by_word!(insn, movzx_word),
        (2, true) => by_word!(insn, movsx_word),
        (_, false) => by_word!(insn, movzx_dword),
        (_, true) => by_word!(insn, movsx_dword),
    }
}

macro_rules! extensions {
    ($($name:ident $source:ty, $extend:ident;)*) => {
        $(
            fn $name<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
                let value: $source = x.read(insn, insn.b())?;
                x.set_gpr(insn.a().low_bits(), W::truncate(value.$extend()));
                Ok(())
            }
        )*
    };
}

extensions! {
    movzx_byte u8, zero_extend;
    movsx_byte u8, sign_extend;
    movzx_word u16, zero_extend;
    movsx_word u16, sign_extend;
    movzx_dword u32, zero_extend;
    movsx_dword u32, sign_extend;
}

fn movbe<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let value: W = x.read(insn, insn.b())?;
    let swapped = W::truncate(value.zero_extend().swap_bytes() >> (64 - W::BITS));
    x.write(insn, insn.a(), swapped)
}

fn lea<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let offset = x.offset(insn);
    x.set_gpr(insn.a().low_bits(), W::truncate(offset));
    Ok(())
}

/// The source is read, and the upper half of a 32-bit destination cleared, whether the condition holds or not.
fn cmov<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let source: W = x.read(insn, insn.b())?;
    let value = if x.flags.condition(insn.aux()) {
        source
    } else {
        x.gpr(insn.a().low_bits())
    };
    x.set_gpr(insn.a().low_bits(), value);
    Ok(())
}

fn setcc(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let value = u8::from(x.flags.condition(insn.aux()));
    x.write(insn, insn.a(), value)
}

/// CBW, CWDE, CDQE.
fn cbw(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let x = &mut x.core;
    match insn.width() {
        2 => x.set_gpr(0, x.gpr::<u8>(0).sign_extend() as u16),
        4 => x.set_gpr(0, x.gpr::<u16>(0).sign_extend() as u32),
        _ => x.set_gpr(0, x.gpr::<u32>(0).sign_extend()),
    }
    Ok(())
}

/// CWD, CDQ, CQO.
fn cwd(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let x = &mut x.core;
    match insn.width() {
        2 => x.set_gpr(2, if x.gpr::<u16>(0).sign() { u16::MAX } else { 0 }),
        4 => x.set_gpr(2, if x.gpr::<u32>(0).sign() { u32::MAX } else { 0 }),
        _ => x.set_gpr(2, if x.gpr::<u64>(0).sign() { u64::MAX } else { 0 }),
    }
    Ok(())
}

fn xlat(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let offset = x.state.gpr[3].wrapping_add(x.state.gpr[0] & 0xff);
    let offset = match insn.address_size() {
        2 => offset & 0xffff,
        4 => offset & 0xffff_ffff,
        _ => offset,
    };
    let la = x.linear_in(insn.segment(), offset, 1, false)?;
    let value: u8 = x.load_at(la, insn.segment())?;
    x.set_gpr(0, value);
    Ok(())
}

/// XCHG with memory is locked with or without the prefix (SDM volume 3, 8.1.2.1).
fn xchg<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let (a, b) = if insn.b().is_mem() {
        (insn.b(), insn.a())
    } else {
        (insn.a(), insn.b())
    };
    let new: W = x.read_register(b);
    let old = if a.is_mem() {
        x.update(insn, true, |_| new)?
    } else {
        let old = x.read_register(a);
        x.write_register(a, new);
        old
    };
    x.write_register(b, old);
    Ok(())
}

fn xadd<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let addend: W = x.read_register(insn.b());
    if !insn.a().is_mem() {
        // The sum is written last, so that XADD of a register with itself doubles it.
        let old = x.read_register(insn.a());
        let sum = x.flags.add(old, addend, false);
        x.write_register(insn.b(), old);
        x.write_register(insn.a(), sum);
        return Ok(());
    }
    let old: W = x.update(insn, insn.lock(), |old: W| old.wrapping_add(addend))?;
    x.flags.add(old, addend, false);
    x.write_register(insn.b(), old);
    Ok(())
}

/// The destination is written even where the comparison fails, so that it faults as a write.
fn cmpxchg<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let (expected, new): (W, W) = (x.gpr(0), x.read_register(insn.b()));
    let swapped = |old| if old == expected { new } else { old };
    let old = if insn.a().is_mem() {
        x.modify(insn, insn.a(), swapped)?
    } else {
        x.read_register(insn.a())
    };
    x.flags.sub(expected, old, false);
    if old == expected {
        // A register that is not equal is not written, so its upper half stays.
        if !insn.a().is_mem() {
            x.write_register(insn.a(), new);
        }
    } else {
        x.set_gpr(0, old);
    }
    Ok(())
}

fn cmpxchg8b(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let pair = |low: u64, high: u64| low & 0xffff_ffff | high << 32;
    let expected = pair(x.state.gpr[0], x.state.gpr[2]);
    let new = pair(x.state.gpr[3], x.state.gpr[1]);
    let old: u64 = x.update(
        insn,
        insn.lock(),
        |old| if old == expected { new } else { old },
    )?;
    if old != expected {
        x.set_gpr(0, old as u32);
        x.set_gpr(2, (old >> 32) as u32);
    }
    x.flags.assign(ZF, if old == expected { ZF } else { 0 });
    Ok(())
}

/// The operand must be aligned, LOCK or not: #GP(0).
fn cmpxchg16b(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let la = x.linear(insn, 16, true)?;
    if !la.is_multiple_of(16) {
        return Err(x.general_protection(0));
    }
    let pair = |low: u64, high: u64| u128::from(low) | u128::from(high) << 64;
    let expected = pair(x.state.gpr[0], x.state.gpr[2]);
    let new = pair(x.state.gpr[3], x.state.gpr[1]);
    let old: u128 = x.update(
        insn,
        insn.lock(),
        |old| if old == expected { new } else { old },
    )?;
    if old != expected {
        x.state.gpr[0] = old as u64;
        x.state.gpr[2] = (old >> 64) as u64;
    }
    x.flags.assign(ZF, if old == expected { ZF } else { 0 });
    Ok(())
}
