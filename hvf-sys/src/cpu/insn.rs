//! A decoded instruction: typed fields, checked when it is made.

use super::Op;

/// What an operand is, in one byte: a register of some file, the memory operand, the immediate, or nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Operand(u8);

/// A register of one of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reg {
    /// RAX to R15, 0 to 15, in the instruction's width (the low byte at width 1).
    Gpr(u8),
    /// AH, CH, DH, BH: 0 to 3.
    High(u8),
    /// XMM0 to XMM15.
    Xmm(u8),
    /// MM0 to MM7.
    Mm(u8),
    /// ST(0) to ST(7).
    St(u8),
    /// ES, CS, SS, DS, FS, GS: 0 to 5.
    Seg(u8),
    /// CR0 to CR15.
    Cr(u8),
    /// DR0 to DR15.
    Dr(u8),
}

impl Operand {
    /// No operand.
    pub const NONE: Self = Self(0xff);
    /// The memory operand.
    pub const MEM: Self = Self(0xf0);
    /// The immediate.
    pub const IMM: Self = Self(0xf1);

    /// A register operand. Numbers are taken modulo the size of their file.
    pub const fn reg(reg: Reg) -> Self {
        Self(match reg {
            Reg::Gpr(n) => n & 15,
            Reg::High(n) => 0x10 | n & 3,
            Reg::Xmm(n) => 0x20 | n & 15,
            Reg::Mm(n) => 0x30 | n & 7,
            Reg::St(n) => 0x38 | n & 7,
            Reg::Seg(n) => 0x40 | if n > 5 { 5 } else { n },
            Reg::Cr(n) => 0x50 | n & 15,
            Reg::Dr(n) => 0x60 | n & 15,
        })
    }

    /// The register, where the operand is one.
    pub const fn as_reg(self) -> Option<Reg> {
        Some(match self.0 {
            0x00..=0x0f => Reg::Gpr(self.0),
            0x10..=0x13 => Reg::High(self.0 & 3),
            0x20..=0x2f => Reg::Xmm(self.0 & 15),
            0x30..=0x37 => Reg::Mm(self.0 & 7),
            0x38..=0x3f => Reg::St(self.0 & 7),
            0x40..=0x45 => Reg::Seg(self.0 & 7),
            0x50..=0x5f => Reg::Cr(self.0 & 15),
            0x60..=0x6f => Reg::Dr(self.0 & 15),
            _ => return None,
        })
    }

    /// Whether this is the memory operand.
    #[inline(always)]
    pub const fn is_mem(self) -> bool {
        self.0 == Self::MEM.0
    }

    /// Whether this is the immediate.
    #[inline(always)]
    pub const fn is_imm(self) -> bool {
        self.0 == Self::IMM.0
    }

    /// Whether there is no operand.
    pub const fn is_none(self) -> bool {
        self.0 == Self::NONE.0
    }

    /// Whether this is a general register (not AH to BH).
    #[inline(always)]
    pub const fn is_gpr(self) -> bool {
        self.0 < 0x10
    }

    /// Whether this is AH, CH, DH or BH.
    #[inline(always)]
    pub const fn is_high(self) -> bool {
        self.0 & 0xf0 == 0x10
    }

    /// Whether this is an XMM register.
    #[inline(always)]
    pub const fn is_xmm(self) -> bool {
        self.0 & 0xf0 == 0x20
    }

    /// The register's number within its file, 0 to 15; meaningless for memory and immediates.
    #[inline(always)]
    pub const fn number(self) -> usize {
        (self.0 & if self.0 & 0xf0 == 0x30 { 7 } else { 15 }) as usize
    }

    /// The number as a general or XMM register's, without looking at what the operand is.
    #[inline(always)]
    pub const fn low_bits(self) -> usize {
        (self.0 & 15) as usize
    }
}

impl std::fmt::Debug for Operand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.as_reg() {
            Some(reg) => write!(f, "{reg:?}"),
            None if self.is_mem() => f.write_str("Mem"),
            None if self.is_imm() => f.write_str("Imm"),
            None => f.write_str("None"),
        }
    }
}

/// The prefixes that change what an instruction does, beyond its operand size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Prefix {
    /// LOCK.
    pub lock: bool,
    /// F3, on string instructions: REP or REPE.
    pub rep: bool,
    /// F2, on string instructions: REPNE.
    pub repne: bool,
}

/// A memory operand: segment:[base + index << scale + displacement], at an address size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mem {
    /// The segment register, 0 to 5 as in `State::segments`, with defaults and overrides already resolved.
    pub segment: u8,
    /// The base register; RIP-relative where `rip_relative`.
    pub base: Option<u8>,
    /// The index register.
    pub index: Option<u8>,
    /// The index is shifted left by 0 to 3.
    pub scale: u8,
    /// Sign-extended to the address size.
    pub displacement: i64,
    /// The address is relative to the next instruction.
    pub rip_relative: bool,
    /// 2, 4 or 8 bytes.
    pub address_size: u8,
}

/// A decoded instruction.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Insn {
    op: Op,
    len: u8,
    width: u8,
    operands: [Operand; 3],
    flags: u8,
    base: u8,
    index: u8,
    place: u8,
    aux: u8,
    displacement: i32,
    immediate: u64,
}

const LOCK: u8 = 1 << 0;
const REP: u8 = 1 << 1;
const REPNE: u8 = 1 << 2;
const HAS_MEM: u8 = 1 << 3;
const RIP_RELATIVE: u8 = 1 << 4;
/// The address is `immediate`, all 64 bits of it (MOV with an absolute offset).
const ABSOLUTE: u8 = 1 << 5;
/// 64-bit addressing without FS or GS: the linear address is base + index << scale + displacement.
const PLAIN: u8 = 1 << 6;
/// Decoded in 64-bit mode.
const LONG: u8 = 1 << 7;

const NO_REG: u8 = 0xff;

impl Insn {
    /// The operation.
    #[inline(always)]
    pub const fn op(&self) -> Op {
        self.op
    }

    /// How many bytes the guest's encoding has: 1 to 15.
    #[inline(always)]
    pub const fn len(&self) -> u64 {
        self.len as u64
    }

    /// The size of the operation in bytes: the operand size of integer instructions (1, 2, 4, 8), the memory operand's
    /// size of x87 and SSE instructions, also in their register forms.
    #[inline(always)]
    pub const fn width(&self) -> u8 {
        self.width
    }

    /// The first operand: the destination where there is one.
    #[inline(always)]
    pub const fn a(&self) -> Operand {
        self.operands[0]
    }

    /// The second operand.
    #[inline(always)]
    pub const fn b(&self) -> Operand {
        self.operands[1]
    }

    /// The third operand.
    #[inline(always)]
    pub const fn c(&self) -> Operand {
        self.operands[2]
    }

    /// The immediate, sign-extended to 64 bits where the instruction extends it. Of a relative branch, the
    /// displacement from the next instruction; of a far pointer, the offset with the selector in bits 47:32.
    #[inline(always)]
    pub const fn immediate(&self) -> u64 {
        self.immediate
    }

    /// A small number that belongs to the operation: the condition of Jcc, SETcc, CMOVcc and FCMOVcc (Intel's 4-bit
    /// encoding), the source width of MOVZX, MOVSX and CRC32, the nesting level of ENTER.
    #[inline(always)]
    pub const fn aux(&self) -> u8 {
        self.aux
    }

    /// Whether LOCK was there.
    #[inline(always)]
    pub const fn lock(&self) -> bool {
        self.flags & LOCK != 0
    }

    /// Whether REP or REPE was there, on an instruction that it repeats.
    #[inline(always)]
    pub const fn rep(&self) -> bool {
        self.flags & REP != 0
    }

    /// Whether REPNE was there, on an instruction that it repeats.
    #[inline(always)]
    pub const fn repne(&self) -> bool {
        self.flags & REPNE != 0
    }

    /// Whether there is a memory operand.
    #[inline(always)]
    pub const fn has_mem(&self) -> bool {
        self.flags & HAS_MEM != 0
    }

    /// Whether the memory operand's linear address is base + index << scale + displacement in 64 bits.
    #[inline(always)]
    pub const fn is_plain(&self) -> bool {
        self.flags & PLAIN != 0
    }

    /// Whether the instruction was decoded in 64-bit mode.
    #[inline(always)]
    pub const fn long(&self) -> bool {
        self.flags & LONG != 0
    }

    /// The memory operand's base register, where there is one.
    #[inline(always)]
    pub const fn base(&self) -> Option<usize> {
        if self.base < 16 {
            Some(self.base as usize)
        } else {
            None
        }
    }

    /// The memory operand's index register, where there is one.
    #[inline(always)]
    pub const fn index(&self) -> Option<usize> {
        if self.index < 16 {
            Some(self.index as usize)
        } else {
            None
        }
    }

    /// The shift of the index, 0 to 3.
    #[inline(always)]
    pub const fn scale(&self) -> u32 {
        (self.place & 3) as u32
    }

    /// The segment register of the memory operand, 0 to 5; for string instructions that of the source.
    #[inline(always)]
    pub const fn segment(&self) -> usize {
        (self.place >> 2 & 7) as usize
    }

    /// The address size in bytes: 2, 4 or 8. String instructions, LOOP and JCXZ have one too.
    #[inline(always)]
    pub const fn address_size(&self) -> u8 {
        2 << (self.place >> 5)
    }

    /// Whether the memory operand is relative to the next instruction.
    #[inline(always)]
    pub const fn rip_relative(&self) -> bool {
        self.flags & RIP_RELATIVE != 0
    }

    /// The displacement of the memory operand; the whole address of an absolute one.
    #[inline(always)]
    pub const fn displacement(&self) -> u64 {
        if self.flags & ABSOLUTE != 0 {
            self.immediate
        } else {
            self.displacement as i64 as u64
        }
    }

    /// The memory operand, spelled out.
    pub fn mem(&self) -> Option<Mem> {
        self.has_mem().then(|| Mem {
            segment: self.segment() as u8,
            base: self.base().map(|b| b as u8),
            index: self.index().map(|i| i as u8),
            scale: self.scale() as u8,
            displacement: self.displacement() as i64,
            rip_relative: self.rip_relative(),
            address_size: self.address_size(),
        })
    }

    /// The prefixes.
    pub const fn prefix(&self) -> Prefix {
        Prefix {
            lock: self.lock(),
            rep: self.rep(),
            repne: self.repne(),
        }
    }
}

impl std::fmt::Debug for Insn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}.{}", self.op, self.width)?;
        for operand in self.operands.iter().filter(|o| !o.is_none()) {
            write!(f, " {operand:?}")?;
        }
        if let Some(mem) = self.mem() {
            write!(f, " {mem:x?}")?;
        }
        write!(
            f,
            " imm={:#x} aux={} len={}",
            self.immediate, self.aux, self.len
        )?;
        if self.flags & (LOCK | REP | REPNE) != 0 {
            write!(f, " {:?}", self.prefix())?;
        }
        Ok(())
    }
}

/// Makes an `Insn`: the one way, and it checks.
#[derive(Clone, Copy, Debug)]
pub struct InsnBuilder {
    insn: Insn,
}

impl InsnBuilder {
    /// An instruction of `op` with an operation size of `width` bytes, decoded in 64-bit mode or not.
    pub const fn new(op: Op, width: u8, long: bool) -> Self {
        Self {
            insn: Insn {
                op,
                len: 1,
                width,
                operands: [Operand::NONE; 3],
                flags: if long { LONG } else { 0 },
                base: NO_REG,
                index: NO_REG,
                place: 0,
                aux: 0,
                displacement: 0,
                immediate: 0,
            },
        }
    }

    /// Sets operand 0, 1 or 2; a higher number is ignored.
    #[must_use]
    pub const fn operand(mut self, n: usize, operand: Operand) -> Self {
        if n < 3 {
            self.insn.operands[n] = operand;
        }
        self
    }

    /// Sets the memory operand. False displacements cannot be had: what does not fit 32 bits signed must have neither base
    /// nor index nor an immediate, and is kept as an absolute address.
    #[must_use]
    pub fn mem(mut self, mem: Mem) -> Self {
        let insn = &mut self.insn;
        insn.flags |= HAS_MEM;
        insn.base = mem.base.filter(|b| *b < 16).unwrap_or(NO_REG);
        insn.index = mem.index.filter(|i| *i < 16).unwrap_or(NO_REG);
        match i32::try_from(mem.displacement) {
            Ok(small) => insn.displacement = small,
            Err(_) => {
                insn.flags |= ABSOLUTE;
                insn.immediate = mem.displacement as u64;
            }
        }
        if mem.rip_relative {
            insn.flags |= RIP_RELATIVE;
        }
        self.place(mem.segment, mem.scale, mem.address_size)
    }

    /// Sets segment and address size without a memory operand: string instructions, LOOP, JCXZ, XLAT, MASKMOV.
    #[must_use]
    pub const fn implied_address(self, segment: u8, address_size: u8) -> Self {
        self.place(segment, 0, address_size)
    }

    const fn place(mut self, segment: u8, scale: u8, address_size: u8) -> Self {
        let segment = if segment > 5 { 3 } else { segment };
        let size = match address_size {
            2 => 0,
            4 => 1,
            _ => 2,
        };
        self.insn.place = scale & 3 | segment << 2 | size << 5;
        let plain = self.insn.flags & LONG != 0
            && size == 2
            && segment < 4
            && self.insn.flags & RIP_RELATIVE == 0;
        if plain {
            self.insn.flags |= PLAIN;
        }
        self
    }

    /// Sets the immediate.
    #[must_use]
    pub const fn immediate(mut self, immediate: u64) -> Self {
        self.insn.immediate = immediate;
        self
    }

    /// Sets the small number (see `Insn::aux`).
    #[must_use]
    pub const fn aux(mut self, aux: u8) -> Self {
        self.insn.aux = aux;
        self
    }

    /// Sets the prefixes.
    #[must_use]
    pub const fn prefix(mut self, prefix: Prefix) -> Self {
        self.insn.flags |= if prefix.lock { LOCK } else { 0 };
        self.insn.flags |= if prefix.rep { REP } else { 0 };
        self.insn.flags |= if prefix.repne { REPNE } else { 0 };
        self
    }

    /// The instruction, of `len` bytes in the guest's encoding. Lengths beyond 1 to 15 do not exist.
    pub const fn build(mut self, len: u8) -> Insn {
        self.insn.len = match len {
            0 => 1,
            1..=15 => len,
            _ => 15,
        };
        self.insn
    }
}

const _: () = assert!(size_of::<Insn>() == 24);
