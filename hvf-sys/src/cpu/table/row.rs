//! What a row of the instruction table says, and the few words in which the table says it.

use crate::cpu::Op;

/// The four opcode maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Map {
    /// One byte.
    One,
    /// 0F and one byte.
    Two,
    /// 0F 38 and one byte.
    Three38,
    /// 0F 3A and one byte.
    Three3A,
}

/// How the operation's width in bytes comes about. O is the operand size: 2, 4 or 8 by mode, 66 and REX.W.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// 1.
    B,
    /// 2.
    W,
    /// 4.
    L,
    /// 8.
    Q,
    /// 10.
    T,
    /// 16.
    X,
    /// 8, or 16 with prefix 66: MMX and XMM in one row.
    P,
    /// 4, or 16 with prefix 66: the low unpacking instructions, whose MMX form reads 4 bytes of memory.
    PL,
    /// O.
    V,
    /// O, at most 4.
    Z,
    /// 4, or 8 with REX.W; prefix 66 does not matter.
    Y,
    /// 8 in 64-bit mode, else 4.
    N,
    /// O, but in 64-bit mode never 4: what would be 4 is 8.
    D64,
    /// O, but always 8 in 64-bit mode.
    F64,
    /// O in the register form, 2 in the memory form.
    S,
}

/// Where one operand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[rustfmt::skip]
pub enum Form {
    /// None.
    None,
    /// ModRM.rm: memory or general register, the latter a byte register.
    Eb,
    /// ModRM.rm: memory or general register.
    E,
    /// ModRM.rm: memory only.
    M,
    /// ModRM.rm: general register only.
    R,
    /// ModRM.reg: byte register.
    Gb,
    /// ModRM.reg: general register.
    G,
    /// The opcode's low three bits: byte register.
    Zb,
    /// The opcode's low three bits: general register.
    Z,
    /// AL, AX, EAX or RAX.
    Acc,
    /// CL.
    Cl,
    /// DX.
    Dx,
    /// ModRM.reg: segment register.
    Sw,
    /// A segment register.
    Es, /// A segment register.
    Cs, /// A segment register.
    Ss, /// A segment register.
    Ds, /// A segment register.
    Fs, /// A segment register.
    Gs,
    /// ModRM.reg: control register.
    Cr,
    /// ModRM.reg: debug register.
    Dr,
    /// Immediate byte, sign-extended.
    Ib,
    /// Immediate byte, zero-extended.
    Ub,
    /// Immediate word, zero-extended.
    Uw,
    /// Immediate of the width, at most 4 bytes, sign-extended.
    Iz,
    /// Immediate of the width, up to 8 bytes, sign-extended.
    Iv,
    /// The immediate 1, without a byte.
    One,
    /// Displacement of a relative branch, one byte.
    Jb,
    /// Displacement of a relative branch of the width, at most 4 bytes.
    Jz,
    /// Far pointer: offset of the width, then selector.
    Ap,
    /// Memory at an absolute address of the address size.
    O,
    /// ModRM.reg: XMM register.
    Vx,
    /// ModRM.rm: memory or XMM register.
    Wx,
    /// ModRM.rm: XMM register only.
    Ux,
    /// ModRM.reg: MMX register.
    Pq,
    /// ModRM.rm: memory or MMX register.
    Qq,
    /// ModRM.rm: MMX register only.
    Nq,
    /// ModRM.reg: MMX register, or XMM register with prefix 66.
    Pv,
    /// ModRM.rm: memory or MMX register, or XMM register with prefix 66.
    Qv,
    /// ModRM.rm: MMX register only, or XMM register with prefix 66.
    Nv,
    /// ST(0).
    St0,
    /// ST(ModRM.rm).
    Sti,
}

/// Where `Insn::aux` comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Aux {
    /// Always this.
    Fixed(u8),
    /// The opcode's low four bits: the condition.
    Condition,
    /// The operand size: the width of a source.
    V,
    /// The operand size, at most 4: the width of a source.
    Z,
    /// 4, or 8 with REX.W: the width of lengths in registers.
    Y,
    /// An immediate byte after the others, modulo 32: the level of ENTER.
    Level,
}

/// Bits of `Row::flags`.
pub mod flag {
    /// LOCK is allowed where the first operand is memory.
    pub const LOCK: u8 = 1 << 0;
    /// F3 repeats it; so does F2, which means the same unless `REPNE`.
    pub const REP: u8 = 1 << 1;
    /// F2 repeats it while not equal.
    pub const REPNE: u8 = 1 << 2;
    /// It has an address size, and a segment that can be overridden, without a memory operand.
    pub const IMPLIED: u8 = 1 << 3;
    /// ModRM is there although no operand comes of it.
    pub const MODRM: u8 = 1 << 4;
    /// ModRM.mod is ignored: ModRM.rm is a register.
    pub const NO_MOD: u8 = 1 << 5;
}

/// Bits of `Row::allow`. Each group has exactly one bit set for given bytes; a row fits where it allows all of them.
pub mod allow {
    /// No mandatory prefix.
    pub const NP: u16 = 1 << 0;
    /// 66, and neither F3 nor F2.
    pub const P66: u16 = 1 << 1;
    /// F3, the last of F3 and F2.
    pub const PF3: u16 = 1 << 2;
    /// F2, the last of F3 and F2.
    pub const PF2: u16 = 1 << 3;
    /// 64-bit mode.
    pub const LONG: u16 = 1 << 4;
    /// Not 64-bit mode.
    pub const LEGACY: u16 = 1 << 5;
    /// REX.W = 1.
    pub const W1: u16 = 1 << 6;
    /// REX.W = 0.
    pub const W0: u16 = 1 << 7;
    /// REX.B = 1.
    pub const B1: u16 = 1 << 8;
    /// REX.B = 0.
    pub const B0: u16 = 1 << 9;
    /// ModRM.mod is not 3.
    pub const MEM: u16 = 1 << 10;
    /// ModRM.mod is 3, or there is no ModRM.
    pub const REG: u16 = 1 << 11;
}

/// One encoding of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The opcode map.
    pub map: Map,
    /// The first opcode byte.
    pub opcode: u8,
    /// How many opcodes, this one and the next, the row covers.
    pub span: u8,
    /// The contexts in which it is meant: bits of `allow`.
    pub allow: u16,
    /// Which bits of ModRM are part of the opcode,
    pub mask: u8,
    /// and their values.
    pub value: u8,
    /// The operation.
    pub op: Op,
    /// Its width.
    pub width: Width,
    /// Its operands.
    pub forms: [Form; 3],
    /// Where `Insn::aux` comes from.
    pub aux: Aux,
    /// Bits of `flag`.
    pub flags: u8,
}

/// A condition on a row or a property of it: the table's vocabulary.
#[derive(Clone, Copy)]
pub(crate) enum Note {
    /// ModRM.reg.
    D(u8),
    /// The whole ModRM byte.
    X(u8),
    /// The ModRM byte without its low three bits.
    I(u8),
    /// The contexts of one group.
    Only(u16),
    /// So many opcodes in a row.
    Span(u8),
    /// `Aux`.
    Has(Aux),
    /// Bits of `flag`.
    Flag(u8),
}

pub(super) mod word {
    //! The words of the table's last column.
    use super::Note::{self, Flag, Has, Only};
    pub(crate) use super::Note::{D, I, Span, X};
    use super::{Aux, allow, flag};

    pub(crate) const NP: Note = Only(allow::NP);
    pub(crate) const P66: Note = Only(allow::P66);
    pub(crate) const PF3: Note = Only(allow::PF3);
    pub(crate) const PF2: Note = Only(allow::PF2);
    pub(crate) const NP66: Note = Only(allow::NP | allow::P66);
    pub(crate) const M64: Note = Only(allow::LONG);
    pub(crate) const M32: Note = Only(allow::LEGACY);
    pub(crate) const W0: Note = Only(allow::W0);
    pub(crate) const W1: Note = Only(allow::W1);
    pub(crate) const B0: Note = Only(allow::B0);
    pub(crate) const REG: Note = Only(allow::REG);
    pub(crate) const CC: Note = Has(Aux::Condition);
    pub(crate) const LEVEL: Note = Has(Aux::Level);
    pub(crate) const AUXV: Note = Has(Aux::V);
    pub(crate) const AUXZ: Note = Has(Aux::Z);
    pub(crate) const AUXY: Note = Has(Aux::Y);
    pub(crate) const LOCK: Note = Flag(flag::LOCK);
    pub(crate) const REP: Note = Flag(flag::REP | flag::IMPLIED);
    pub(crate) const REPNE: Note = Flag(flag::REP | flag::REPNE | flag::IMPLIED);
    pub(crate) const ADDR: Note = Flag(flag::IMPLIED);
    pub(crate) const MODRM: Note = Flag(flag::MODRM);
    pub(crate) const NOMOD: Note = Flag(flag::NO_MOD);
    #[allow(non_snake_case, reason = "a word of the table")]
    pub(crate) const fn AUX(n: u8) -> Note {
        Has(Aux::Fixed(n))
    }
}

const PREFIXES: u16 = allow::NP | allow::P66 | allow::PF3 | allow::PF2;
const MODES: u16 = allow::LONG | allow::LEGACY;
const REX_W: u16 = allow::W0 | allow::W1;
const REX_B: u16 = allow::B0 | allow::B1;
const PLACES: u16 = allow::MEM | allow::REG;

impl Row {
    pub(super) const fn new(map: Map, opcode: u8, op: Op, width: Width, forms: &[Form]) -> Self {
        let mut row = Self {
            map,
            opcode,
            span: 1,
            allow: PREFIXES | MODES | REX_W | REX_B | PLACES,
            mask: 0,
            value: 0,
            op,
            width,
            forms: [Form::None; 3],
            aux: Aux::Fixed(0),
            flags: 0,
        };
        let mut n = 0;
        while n < forms.len() {
            row.forms[n] = forms[n];
            match forms[n] {
                Form::M => row = row.only(allow::MEM),
                Form::Ux | Form::Nq | Form::Nv => row = row.only(allow::REG),
                _ => {}
            }
            n += 1;
        }
        row
    }

    /// Narrows the groups of contexts that `bits` belong to.
    const fn only(mut self, bits: u16) -> Self {
        let groups = [PREFIXES, MODES, REX_W, REX_B, PLACES];
        let mut n = 0;
        while n < groups.len() {
            if bits & groups[n] != 0 {
                self.allow &= bits | !groups[n];
            }
            n += 1;
        }
        self
    }

    pub(super) const fn note(mut self, note: Note) -> Self {
        match note {
            Note::D(digit) => (self.mask, self.value) = (0x38, digit << 3),
            Note::X(modrm) => (self.mask, self.value) = (0xff, modrm),
            Note::I(modrm) => (self.mask, self.value) = (0xf8, modrm),
            Note::Only(bits) => self = self.only(bits),
            Note::Span(span) => self.span = span,
            Note::Has(aux) => self.aux = aux,
            Note::Flag(bits) => self.flags |= bits,
        }
        self
    }

    pub(super) const fn first_slot(&self) -> usize {
        self.map as usize * 256 + self.opcode as usize
    }

    /// Whether a ModRM byte follows the opcode.
    pub const fn has_modrm(&self) -> bool {
        self.mask != 0
            || self.flags & flag::MODRM != 0
            || self.forms[0].in_modrm()
            || self.forms[1].in_modrm()
            || self.forms[2].in_modrm()
    }
}

impl Form {
    /// Whether the operand is found through ModRM.
    pub const fn in_modrm(self) -> bool {
        use Form::*;
        matches!(
            self,
            Eb | E
                | M
                | R
                | Gb
                | G
                | Sw
                | Cr
                | Dr
                | Vx
                | Wx
                | Ux
                | Pq
                | Qq
                | Nq
                | Pv
                | Qv
                | Nv
                | Sti
        )
    }
}

/// Writes a list of rows: opcode, operation, width, operands, notes.
macro_rules! rows {
    ($map:ident; $($code:literal $op:ident $width:ident [$($form:ident)*] $($note:expr),*;)*) => {
        &[$(
            Row::new(Map::$map, $code, Op::$op, Width::$width, &[$(Form::$form),*])$(.note($note))*
        ),*]
    };
}
pub(super) use rows;
