//! The host's own x87 unit, one instruction at a time: what tests compare the reference arithmetic with.
//!
//! Each run starts from FNINIT, loads up to two registers bit for bit, sets the control word, executes the
//! instruction and takes the whole state with FNSAVE. Exceptions may be unmasked: the x87 reports one only at the
//! next waiting instruction, and none is executed before FNSAVE drops it.
//!
//! Invariants. FNSAVE leaves the unit as FNINIT does: registers empty, control word 0x37f, as the ABI wants it
//! at every call. The assembly touches only `Frame`, whose fields are as large as the instructions need.

use core::arch::asm;

/// One instruction. Operands: `St0`, `St1` are what `run` loaded; `Mem` is its memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the mnemonics")]
pub enum Op {
    Add,
    Sub,
    SubR,
    Mul,
    Div,
    DivR,
    Sqrt,
    RndInt,
    Scale,
    Xtract,
    Prem,
    Prem1,
    Com,
    Ucom,
    Tst,
    Xam,
    Abs,
    Chs,
    F2xm1,
    Yl2x,
    Yl2xp1,
    Ptan,
    Patan,
    Sin,
    Cos,
    SinCos,
    Ld1,
    LdL2t,
    LdL2e,
    LdPi,
    LdLg2,
    LdLn2,
    LdZ,
    LdM32,
    LdM64,
    LdM80,
    StM32,
    StM64,
    StpM80,
    IldM16,
    IldM32,
    IldM64,
    IstM16,
    IstM32,
    IstpM64,
    IsttpM16,
    IsttpM32,
    IsttpM64,
    Bld,
    Bstp,
    AddM32,
    AddM64,
    SubM32,
    MulM64,
    DivM32,
    DivM64,
    DivRM64,
    ComM32,
    ComM64,
    IAddM16,
    IAddM32,
    IDivM32,
}

/// The unit after an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// ST(0) to ST(2), whether empty or not.
    pub st: [[u8; 10]; 3],
    /// The status word.
    pub status: u16,
    /// The tag word.
    pub tags: u16,
    /// The memory operand.
    pub memory: [u8; 10],
}

#[repr(C)]
struct Frame {
    st0: [u8; 16],
    st1: [u8; 16],
    memory: [u8; 16],
    control: u16,
    pad: [u8; 14],
    /// FNSAVE's image in its 32-bit form: seven words of environment, then eight registers.
    saved: [u8; 112],
}

const _: () = assert!(core::mem::offset_of!(Frame, saved) == 64);

macro_rules! execute {
    ($frame:ident, $op:ident, $($variant:ident $instruction:literal)*) => {
        match $op {
            $(Op::$variant => {
                // SAFETY: the module's invariants; all addresses are inside `$frame`.
                unsafe {
                    asm!(
                        "fninit",
                        "fld tbyte ptr [{p} + 16]",
                        "fld tbyte ptr [{p}]",
                        "fldcw word ptr [{p} + 48]",
                        $instruction,
                        "fnsave [{p} + 64]",
                        p = in(reg) &raw mut $frame,
                        out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                        out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
                        options(nostack)
                    )
                }
            })*
        }
    };
}

/// Executes `op` with ST(0) = `st0` and ST(1) = `st1` under the control word `control`.
pub fn run(op: Op, control: u16, st0: [u8; 10], st1: [u8; 10], memory: [u8; 10]) -> Outcome {
    let mut frame = Frame {
        st0: [0; 16],
        st1: [0; 16],
        memory: [0; 16],
        control,
        pad: [0; 14],
        saved: [0; 112],
    };
    frame.st0[..10].copy_from_slice(&st0);
    frame.st1[..10].copy_from_slice(&st1);
    frame.memory[..10].copy_from_slice(&memory);
    execute! { frame, op,
        Add "fadd st(0), st(1)"
        Sub "fsub st(0), st(1)"
        SubR "fsubr st(0), st(1)"
        Mul "fmul st(0), st(1)"
        Div "fdiv st(0), st(1)"
        DivR "fdivr st(0), st(1)"
        Sqrt "fsqrt"
        RndInt "frndint"
        Scale "fscale"
        Xtract "fxtract"
        Prem "fprem"
        Prem1 "fprem1"
        Com "fcom st(1)"
        Ucom "fucom st(1)"
        Tst "ftst"
        Xam "fxam"
        Abs "fabs"
        Chs "fchs"
        F2xm1 "f2xm1"
        Yl2x "fyl2x"
        Yl2xp1 "fyl2xp1"
        Ptan "fptan"
        Patan "fpatan"
        Sin "fsin"
        Cos "fcos"
        SinCos "fsincos"
        Ld1 "fld1"
        LdL2t "fldl2t"
        LdL2e "fldl2e"
        LdPi "fldpi"
        LdLg2 "fldlg2"
        LdLn2 "fldln2"
        LdZ "fldz"
        LdM32 "fld dword ptr [{p} + 32]"
        LdM64 "fld qword ptr [{p} + 32]"
        LdM80 "fld tbyte ptr [{p} + 32]"
        StM32 "fst dword ptr [{p} + 32]"
        StM64 "fst qword ptr [{p} + 32]"
        StpM80 "fstp tbyte ptr [{p} + 32]"
        IldM16 "fild word ptr [{p} + 32]"
        IldM32 "fild dword ptr [{p} + 32]"
        IldM64 "fild qword ptr [{p} + 32]"
        IstM16 "fist word ptr [{p} + 32]"
        IstM32 "fist dword ptr [{p} + 32]"
        IstpM64 "fistp qword ptr [{p} + 32]"
        IsttpM16 "fisttp word ptr [{p} + 32]"
        IsttpM32 "fisttp dword ptr [{p} + 32]"
        IsttpM64 "fisttp qword ptr [{p} + 32]"
        Bld "fbld tbyte ptr [{p} + 32]"
        Bstp "fbstp tbyte ptr [{p} + 32]"
        AddM32 "fadd dword ptr [{p} + 32]"
        AddM64 "fadd qword ptr [{p} + 32]"
        SubM32 "fsub dword ptr [{p} + 32]"
        MulM64 "fmul qword ptr [{p} + 32]"
        DivM32 "fdiv dword ptr [{p} + 32]"
        DivM64 "fdiv qword ptr [{p} + 32]"
        DivRM64 "fdivr qword ptr [{p} + 32]"
        ComM32 "fcom dword ptr [{p} + 32]"
        ComM64 "fcom qword ptr [{p} + 32]"
        IAddM16 "fiadd word ptr [{p} + 32]"
        IAddM32 "fiadd dword ptr [{p} + 32]"
        IDivM32 "fidiv dword ptr [{p} + 32]"
    }
    outcome(&frame)
}

fn outcome(frame: &Frame) -> Outcome {
    let word = |at: usize| u16::from_le_bytes([frame.saved[at], frame.saved[at + 1]]);
    let register = |n: usize| core::array::from_fn(|byte| frame.saved[28 + n * 10 + byte]);
    Outcome {
        st: [register(0), register(1), register(2)],
        status: word(4),
        tags: word(8),
        memory: core::array::from_fn(|byte| frame.memory[byte]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f];
    const TWO: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 0x80, 0x00, 0x40];

    #[test]
    fn adds_one_and_one() {
        let after = run(Op::Add, 0x37f, ONE, ONE, [0; 10]);
        assert_eq!(after.st[0], TWO);
        assert_eq!(after.st[1], ONE);
        assert_eq!(after.status & 0x3f, 0);
    }

    #[test]
    fn an_unmasked_exception_is_reported_and_dropped() {
        let after = run(Op::Div, 0x340, ONE, [0; 10], [0; 10]);
        assert_eq!(after.status & 0x84, 0x84);
        assert_eq!(after.st[0], ONE);
        assert_eq!(run(Op::Abs, 0x340, ONE, ONE, [0; 10]).status & 0xff, 0);
    }
}
