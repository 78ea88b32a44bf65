//! What the manual leaves undefined, as data: flags, status bits and bytes that are not compared; and what is not run.

use hvf_sys::cpu::{Insn, Op, Operand, Reg, State};
use std::sync::OnceLock;

const CF: u64 = 1 << 0;
const PF: u64 = 1 << 2;
const AF: u64 = 1 << 4;
const ZF: u64 = 1 << 6;
const SF: u64 = 1 << 7;
const OF: u64 = 1 << 11;
const ALL: u64 = CF | PF | AF | ZF | SF | OF;

/// The flags that an operation always leaves undefined (SDM volume 2, "Flags Affected").
const FLAGS: &[(&[Op], u64)] = &[
    (&[Op::And, Op::Or, Op::Xor, Op::Test], AF),
    (
        &[Op::Mul, Op::Imul, Op::ImulTwo, Op::ImulThree],
        SF | ZF | AF | PF,
    ),
    (&[Op::Div, Op::Idiv], ALL),
    (&[Op::Aaa, Op::Aas], OF | SF | ZF | PF),
    (&[Op::Daa, Op::Das], OF),
    (&[Op::Aam, Op::Aad], OF | AF | CF),
    (&[Op::Bsf, Op::Bsr], CF | OF | SF | AF | PF),
    (&[Op::Bt, Op::Bts, Op::Btr, Op::Btc], OF | SF | AF | PF),
    (&[Op::Shl, Op::Shr, Op::Sar, Op::Shld, Op::Shrd], AF),
];

/// The flags that `insn`, starting in `state`, leaves undefined.
pub(crate) fn flags(insn: &Insn, state: &State) -> u64 {
    let always = FLAGS.iter().find(|(ops, _)| ops.contains(&insn.op()));
    always.map_or(0, |(_, flags)| *flags) | by_count(insn, state)
}

/// Whether the operation leaves some flag undefined for some operands.
pub(crate) fn clouds_flags(op: Op) -> bool {
    use Op::*;
    FLAGS.iter().any(|(ops, _)| ops.contains(&op)) || matches!(op, Rol | Ror | Rcl | Rcr)
}

/// OF is defined for shifts and rotates by one only; CF not for those beyond the operand; SHLD and SHRD beyond it leave
/// nothing defined. A count of zero changes nothing.
fn by_count(insn: &Insn, state: &State) -> u64 {
    let bits = u64::from(insn.width()) * 8;
    let count = count(insn, state);
    match insn.op() {
        _ if count == 0 => 0,
        Op::Shld | Op::Shrd if count > bits => ALL,
        Op::Shld | Op::Shrd if count > 1 => OF,
        Op::Shl | Op::Shr if count >= bits => OF | CF,
        Op::Sar if count > bits => OF | CF,
        Op::Shl | Op::Shr | Op::Sar | Op::Rol | Op::Ror | Op::Rcl | Op::Rcr if count > 1 => OF,
        _ => 0,
    }
}

/// The masked shift count.
fn count(insn: &Insn, state: &State) -> u64 {
    let operand = if insn.c().is_none() {
        insn.b()
    } else {
        insn.c()
    };
    let raw = if operand.is_imm() {
        insn.immediate()
    } else {
        state.gpr[1]
    };
    raw & if insn.width() == 8 { 63 } else { 31 }
}

/// Whether the result itself is undefined: nothing but the absence of other effects is compared then.
pub(crate) fn result(insn: &Insn, state: &State) -> bool {
    matches!(insn.op(), Op::Shld | Op::Shrd) && count(insn, state) > u64::from(insn.width()) * 8
}

const C0: u16 = 1 << 8;
const C1: u16 = 1 << 9;
const C2: u16 = 1 << 10;
const C3: u16 = 1 << 14;

/// The condition bits of the x87 status that an operation leaves undefined.
pub(crate) fn status(op: Op) -> u16 {
    use Op::*;
    match op {
        // All four are the result.
        Fcom | Fcomp | Fcompp | Ficom | Ficomp | Ftst | Fucom | Fucomp | Fucompp | Fxam => 0,
        Fprem | Fprem1 | Fldenv | Frstor | Fxrstor | Fnsave | Fninit | Fxsave => 0,
        // C1 alone is said; C2 with a partial result.
        Fsin | Fcos | Fsincos | Fptan => C0 | C3,
        Fcomi | Fcomip | Fucomi | Fucomip => C0 | C2 | C3,
        Fldcw | Fnstenv | Fnstcw | Fnstsw | Fnclex | Fnop | Ffree | Ffreep => C0 | C1 | C2 | C3,
        _ => C0 | C2 | C3,
    }
}

/// Bytes of the memory operand, from and up to, that are not compared: pointers to the last x87 instruction and its operand (each processor
/// has its own habit of saving them), what FXSAVE leaves alone, and MXCSR_MASK, which says what the processor has. Hosts may
/// have stored the significand of ten bytes before they find that the rest faults.
pub(crate) fn bytes(op: Op, width: u8, faulted: bool) -> &'static [(usize, usize)] {
    match (op, width) {
        (Op::Fstp | Op::Fbstp, 10) if faulted => &[(0, 10)],
        (Op::Fnstenv | Op::Fnsave, 2) => &[(6, 14)],
        (Op::Fnstenv | Op::Fnsave, _) => &[(12, 28)],
        (Op::Fxsave, _) => &[(6, 24), (28, 32), (416, 512)],
        _ => &[],
    }
}

/// Whether a page fault's address is not compared: of areas that are accessed in pieces, and of two operands, processors
/// touch what they like first.
pub(crate) fn address(op: Op) -> bool {
    use Op::*;
    matches!(
        op,
        Fxsave | Fxrstor | Fnsave | Frstor | Fnstenv | Fldenv | Maskmovq | Maskmovdqu | Cmps
    )
}

/// Whether TOP and tags are not compared after a fault: hosts may turn the x87 registers into MMX's before the memory operand
/// of an instruction that uses MMX registers is found to fault.
pub(crate) fn tags_after_fault(insn: &Insn) -> bool {
    let mmx = |operand: Operand| matches!(operand.as_reg(), Some(Reg::Mm(_)));
    mmx(insn.a()) || mmx(insn.b())
}

/// Operations of users that are not run on the host, with the reason.
const SKIPPED: &[(&[Op], &str)] = &[
    (&[Op::Rdrand, Op::Rdseed], "the result is random"),
    (
        &[Op::Xsave, Op::Xsaveopt, Op::Xrstor],
        "the host's XCR0 is not ours",
    ),
];

/// Operations in which processors of other makers than Intel, whose manual the software processor follows, differ from
/// it: flags of a string comparison that a page fault stops, whether an unmasked exception or a page fault comes
/// first at a store of the x87, which of several NaNs a dot product gives, and exceptions of inexact functions.
const OTHER_MAKERS: &[Op] = &[
    Op::Cmps,
    Op::Scas,
    Op::Fist,
    Op::Fistp,
    Op::Fisttp,
    Op::Fst,
    Op::Fstp,
    Op::Fbstp,
    Op::Dpps,
    Op::Dppd,
    Op::Fscale,
    Op::Fprem,
    Op::Fprem1,
    Op::F2xm1,
    Op::Fyl2x,
    Op::Fyl2xp1,
    Op::Fptan,
    Op::Fpatan,
    Op::Fsin,
    Op::Fcos,
    Op::Fsincos,
];

/// Whether the host's processor is Intel's. A host that does not tell in this way is a Mac, whose x86 processors all are.
fn by_intel() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        std::fs::read_to_string("/proc/cpuinfo").map_or(true, |it| it.contains("GenuineIntel"))
    })
}

/// Whether the operation is not run on the host.
pub(crate) fn is_skipped(op: Op) -> bool {
    SKIPPED.iter().any(|(ops, _)| ops.contains(&op)) || !by_intel() && OTHER_MAKERS.contains(&op)
}

/// Whether this instruction is not: its operation, or BSWAP of 16 bits, whose result is undefined.
pub(crate) fn skipped(insn: &Insn) -> bool {
    is_skipped(insn.op()) || insn.op() == Op::Bswap && insn.width() == 2
}

/// What is not run, and why.
pub(crate) fn print_skipped() {
    for (ops, reason) in SKIPPED {
        println!("oracle: not run on the host: {ops:?}: {reason}");
    }
    if !by_intel() {
        println!(
            "skipped: the oracle's {OTHER_MAKERS:?}: this host's processor is not Intel's, and they differ"
        );
    }
}

/// x87 functions whose last bit processors round as they like.
pub(crate) fn is_transcendental(op: Op) -> bool {
    use Op::*;
    matches!(
        op,
        F2xm1 | Fyl2x | Fyl2xp1 | Fptan | Fpatan | Fsin | Fcos | Fsincos
    )
}

/// Approximations of 12 bits.
pub(crate) fn is_approximation(op: Op) -> bool {
    matches!(op, Op::Rcpps | Op::Rcpss | Op::Rsqrtps | Op::Rsqrtss)
}
