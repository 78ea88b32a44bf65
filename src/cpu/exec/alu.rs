//! ADD, OR, ADC, SBB, AND, SUB, XOR, CMP, TEST, INC, DEC, NEG, NOT.

use hvf_sys::cpu::{Insn, Op};

use super::super::core::{Done, Exec};
use super::super::flags::Flags;
use super::super::int::Int;
use super::{Handler, by_width};

/// An operation on two operands that sets the flags.
trait Binary {
    /// Whether the result goes to the first operand.
    const WRITES: bool = true;
    fn apply<W: Int>(flags: &mut Flags, a: W, b: W) -> W;
}

macro_rules! binary {
    ($($name:ident $writes:literal |$flags:ident, $a:ident, $b:ident| $body:expr;)*) => {
        $(
            struct $name;
            impl Binary for $name {
                const WRITES: bool = $writes;
                #[inline(always)]
                fn apply<W: Int>($flags: &mut Flags, $a: W, $b: W) -> W {
                    $body
                }
            }
        )*
    };
}

binary! {
    Add true |flags, a, b| flags.add(a, b, false);
    Adc true |flags, a, b| { let carry = flags.carry(); flags.add(a, b, carry) };
    Sub true |flags, a, b| flags.sub(a, b, false);
    Sbb true |flags, a, b| { let borrow = flags.carry(); flags.sub(a, b, borrow) };
    Cmp false |flags, a, b| flags.sub(a, b, false);
    And true |flags, a, b| { flags.logic(a & b); a & b };
    Or true |flags, a, b| { flags.logic(a | b); a | b };
    Xor true |flags, a, b| { flags.logic(a ^ b); a ^ b };
    Test false |flags, a, b| { flags.logic(a & b); a & b };
}

/// An operation on one operand.
trait Unary {
    fn apply<W: Int>(flags: &mut Flags, a: W) -> W;
}

macro_rules! unary {
    ($($name:ident |$flags:ident, $a:ident| $body:expr;)*) => {
        $(
            struct $name;
            impl Unary for $name {
                #[inline(always)]
                fn apply<W: Int>($flags: &mut Flags, $a: W) -> W {
                    $body
                }
            }
        )*
    };
}

unary! {
    Inc |flags, a| flags.inc(a);
    Dec |flags, a| flags.dec(a);
    Neg |flags, a| flags.sub(W::default(), a, false);
    Not |_flags, a| !a;
}

pub(super) fn select(insn: &Insn) -> Handler {
    match insn.op() {
        Op::Add => binary::<Add>(insn),
        Op::Or => binary::<Or>(insn),
        Op::Adc => binary::<Adc>(insn),
        Op::Sbb => binary::<Sbb>(insn),
        Op::And => binary::<And>(insn),
        Op::Sub => binary::<Sub>(insn),
        Op::Xor => binary::<Xor>(insn),
        Op::Cmp => binary::<Cmp>(insn),
        Op::Test => binary::<Test>(insn),
        Op::Inc => unary::<Inc>(insn),
        Op::Dec => unary::<Dec>(insn),
        Op::Neg => unary::<Neg>(insn),
        _ => unary::<Not>(insn),
    }
}

fn binary<B: Binary>(insn: &Insn) -> Handler {
    let (a, b) = (insn.a(), insn.b());
    if a.is_gpr() && b.is_gpr() {
        by_width!(insn, register_register, B)
    } else if a.is_gpr() && b.is_imm() {
        by_width!(insn, register_immediate, B)
    } else if a.is_gpr() && b.is_mem() {
        by_width!(insn, register_memory, B)
    } else if a.is_mem() && B::WRITES {
        by_width!(insn, memory_any, B)
    } else {
        by_width!(insn, any_any, B)
    }
}

fn register_register<B: Binary, W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let (a, b) = (x.gpr(insn.a().low_bits()), x.gpr(insn.b().low_bits()));
    let result: W = B::apply(&mut x.flags, a, b);
    if B::WRITES {
        x.set_gpr(insn.a().low_bits(), result);
    }
    Ok(())
}

fn register_immediate<B: Binary, W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let a = x.gpr(insn.a().low_bits());
    let result: W = B::apply(&mut x.flags, a, W::truncate(insn.immediate()));
    if B::WRITES {
        x.set_gpr(insn.a().low_bits(), result);
    }
    Ok(())
}

fn register_memory<B: Binary, W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let b = x.load(insn)?;
    let a = x.gpr(insn.a().low_bits());
    let result: W = B::apply(&mut x.flags, a, b);
    if B::WRITES {
        x.set_gpr(insn.a().low_bits(), result);
    }
    Ok(())
}

fn memory_any<B: Binary, W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let b = if insn.b().is_imm() {
        W::truncate(insn.immediate())
    } else {
        x.read_register(insn.b())
    };
    let before = x.flags;
    let mut after = before;
    x.update(insn, insn.lock(), |a| {
        after = before;
        B::apply(&mut after, a, b)
    })?;
    x.flags = after;
    Ok(())
}

fn any_any<B: Binary, W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let a: W = x.read(insn, insn.a())?;
    let b = x.read(insn, insn.b())?;
    let result = B::apply(&mut x.flags, a, b);
    if B::WRITES {
        x.write_register(insn.a(), result);
    }
    Ok(())
}

fn unary<U: Unary>(insn: &Insn) -> Handler {
    if insn.a().is_gpr() {
        by_width!(insn, unary_register, U)
    } else {
        by_width!(insn, unary_any, U)
    }
}

fn unary_register<U: Unary, W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let a = x.gpr(insn.a().low_bits());
    let result: W = U::apply(&mut x.flags, a);
    x.set_gpr(insn.a().low_bits(), result);
    Ok(())
}

fn unary_any<U: Unary, W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let before = x.flags;
    let mut after = before;
    x.modify::<W>(insn, insn.a(), |a| {
        after = before;
        U::apply(&mut after, a)
    })?;
    x.flags = after;
    Ok(())
}
