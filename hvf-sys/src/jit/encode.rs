//! Typed instructions as x86-64 bytes: the instruction table read backwards (SDM volume 2, chapter 2).
//!
//! An instruction is encoded by the row of its operation that takes its operands in the fewest bytes. What is not
//! encoded: instructions of other modes, addresses of 16 bits, and operations on the system or on what only the host's
//! kernel decides (`is_system`).

use crate::cpu::table::{self, Aux, Form, Map, Row, Width, allow, flag};
use crate::cpu::{Insn, Mem, Op, Operand, Reg};

/// The bytes of one encoded instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    bytes: [u8; 16],
    len: u8,
}

impl Encoded {
    const EMPTY: Self = Self {
        bytes: [0; 16],
        len: 0,
    };

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }

    fn push(&mut self, byte: u8) -> Option<()> {
        *self.bytes.get_mut(usize::from(self.len))? = byte;
        self.len += 1;
        Some(())
    }

    fn extend(&mut self, bytes: &[u8]) -> Option<()> {
        bytes.iter().try_for_each(|byte| self.push(*byte))
    }
}

/// The bytes of `insn` in 64-bit mode, where it has any. RIP-relative operands and branches keep their displacement: it
/// counts from the end of these bytes.
pub fn encode(insn: &Insn) -> Option<Encoded> {
    if insn.long() { shortest(insn) } else { None }
}

/// The bytes of `insn` in 32-bit code, where it has any. The translator has no use for them: they are for a host that is
/// asked, in its compatibility mode, what 32-bit code does.
pub fn encode_32(insn: &Insn) -> Option<Encoded> {
    if insn.long() { None } else { shortest(insn) }
}

fn shortest(insn: &Insn) -> Option<Encoded> {
    if is_system(insn.op()) {
        return None;
    }
    let mode = if insn.long() {
        allow::LONG
    } else {
        allow::LEGACY
    };
    table::rows_of_op(insn.op())
        .filter(|row| row.allow & mode != 0 && row.flags & flag::MODRM == 0)
        .filter(|row| !is_nop(row, insn))
        .filter_map(|row| Draft::of(insn, row)?.write(insn))
        .min_by_key(|encoded| encoded.len)
}

/// The accumulator with itself has no short form: 0x90 does nothing, where XCHG EAX, EAX clears the upper half of RAX.
fn is_nop(row: &Row, insn: &Insn) -> bool {
    row.op == Op::Xchg && row.opcode == 0x90 && insn.a() == insn.b()
}

/// Operations that the host's kernel, its descriptor tables or its processor's identity decide, and far or gated control flow.
pub const fn is_system(op: Op) -> bool {
    use Op::*;
    matches!(
        op,
        PushSeg
            | PopSeg
            | MovFromSeg
            | MovToSeg
            | Lds
            | Les
            | Lfs
            | Lgs
            | Lss
            | JmpFar
            | CallFar
            | RetFar
            | Int
            | Int1
            | Int3
            | Into
            | Iret
            | Cli
            | Sti
            | Clac
            | Stac
            | Hlt
            | Ins
            | Outs
            | In
            | Out
            | Cpuid
            | Rdtsc
            | Rdtscp
            | Rdpmc
            | Rdmsr
            | Wrmsr
            | Rdpid
            | MovCr
            | MovDr
            | Clts
            | Lmsw
            | Smsw
            | Invd
            | Wbinvd
            | Invlpg
            | Invpcid
            | Lgdt
            | Lidt
            | Sgdt
            | Sidt
            | Lldt
            | Ltr
            | Sldt
            | Str
            | Lar
            | Lsl
            | Verr
            | Verw
            | Arpl
            | Syscall
            | Sysret
            | Sysenter
            | Sysexit
            | Swapgs
            | Rdfsbase
            | Rdgsbase
            | Wrfsbase
            | Wrgsbase
            | Xgetbv
            | Xsetbv
            | Vmcall
            | Monitor
            | Mwait
            | Rsm
    )
}

const REX: u8 = 0x40;
const REX_W: u8 = 8;
const REX_R: u8 = 4;
const REX_X: u8 = 2;
const REX_B: u8 = 1;

/// An immediate of some size.
#[derive(Clone, Copy)]
struct Immediate {
    value: u64,
    size: u8,
}

/// The parts of an encoding, before they are put in order.
struct Draft {
    row: &'static Row,
    opcode: u8,
    operand_66: bool,
    /// The four bits, without 0x40.
    rex: u8,
    /// SPL to DIL: REX has to be there.
    rex_needed: bool,
    /// AH to BH: REX must not be there.
    rex_forbidden: bool,
    modrm: Option<u8>,
    mem: Option<Mem>,
    /// MOV with an absolute 64-bit address.
    absolute: bool,
    immediate: Option<Immediate>,
    level: Option<u8>,
}

impl Draft {
    /// The parts of `insn` by `row`, unless the row is not for it.
    fn of(insn: &Insn, row: &'static Row) -> Option<Self> {
        let register = if row.allow & allow::MEM == 0 { 0xc0 } else { 0 };
        let mut draft = Self {
            row,
            opcode: row.opcode,
            operand_66: false,
            rex: if row.allow & allow::W0 == 0 { REX_W } else { 0 },
            rex_needed: false,
            rex_forbidden: false,
            modrm: row.has_modrm().then_some(row.value | register),
            mem: None,
            absolute: false,
            immediate: None,
            level: None,
        };
        draft.size(insn)?;
        draft.small_number(insn)?;
        for (form, operand) in row.forms.iter().zip([insn.a(), insn.b(), insn.c()]) {
            draft.operand(*form, operand, insn)?;
        }
        draft.check(insn)?;
        Some(draft)
    }

    /// Chooses 66 and REX.W by the width.
    fn size(&mut self, insn: &Insn) -> Option<()> {
        let width = insn.width();
        let operand_sized = |draft: &mut Self| {
            match width {
                2 => draft.operand_66 = true,
                4 => {}
                8 => draft.rex |= REX_W,
                _ => return None,
            }
            Some(())
        };
        let fits = |fits: bool| fits.then_some(());
        match self.row.width {
            Width::B => fits(width == 1),
            Width::W => fits(width == 2),
            Width::L => fits(width == 4),
            Width::Q => fits(width == 8),
            Width::T => fits(width == 10),
            Width::X => fits(width == 16),
            Width::P | Width::PL if width == 16 => {
                self.operand_66 = true;
                Some(())
            }
            Width::P => fits(width == 8),
            Width::PL => fits(width == 4),
            Width::S if insn.a().is_mem() => fits(width == 2),
            Width::V | Width::S => operand_sized(self),
            Width::Z if width <= 4 => operand_sized(self),
            Width::Y if width != 2 => operand_sized(self),
            Width::D64 if width == 2 || !insn.long() => operand_sized(self),
            Width::F64 if !insn.long() => operand_sized(self),
            Width::N if !insn.long() => fits(width == 4),
            Width::N | Width::F64 | Width::D64 => fits(width == 8),
            Width::Z | Width::Y => None,
        }
    }

    /// Puts `aux` where the row has it.
    fn small_number(&mut self, insn: &Insn) -> Option<()> {
        let aux = insn.aux();
        let fits = match self.row.aux {
            Aux::Fixed(n) => n == aux,
            Aux::Condition => {
                self.opcode |= aux & 15;
                aux < 16
            }
            Aux::V => {
                self.operand_66 |= aux == 2;
                matches!((aux, insn.width()), (2 | 4, 4) | (8, 8))
            }
            Aux::Z => aux == insn.width().min(4),
            Aux::Y => {
                self.rex |= if aux == 8 { REX_W } else { 0 };
                matches!(aux, 4 | 8)
            }
            Aux::Level => {
                self.level = Some(aux);
                aux < 32
            }
        };
        fits.then_some(())
    }

    fn operand(&mut self, form: Form, operand: Operand, insn: &Insn) -> Option<()> {
        use Form::*;
        let wide = self.operand_66;
        match (form, operand.as_reg()) {
            (None, _) if operand.is_none() => Some(()),
            (Eb | E | M | Wx | Qq | Qv | O, _) if operand.is_mem() => self.memory(form, insn),
            (_, Option::None) if operand.is_imm() => self.immediate(form, insn),
            (Eb | Gb | Zb, Some(Reg::High(n))) => {
                self.rex_forbidden = true;
                self.register(form, n + 4)
            }
            (Eb | Gb | Zb, Some(Reg::Gpr(n))) => {
                self.rex_needed |= (4..8).contains(&n);
                self.register(form, n)
            }
            (E | R | G | Z, Some(Reg::Gpr(n)))
            | (Vx | Wx | Ux, Some(Reg::Xmm(n)))
            | (Pq | Qq | Nq, Some(Reg::Mm(n)))
            | (Sti, Some(Reg::St(n))) => self.register(form, n),
            (Pv | Qv | Nv, Some(Reg::Xmm(n))) if wide || self.only_66() => self.register(form, n),
            (Pv | Qv | Nv, Some(Reg::Mm(n))) if !wide => self.register(form, n),
            (Acc, Some(Reg::Gpr(0))) | (Cl, Some(Reg::Gpr(1))) | (Dx, Some(Reg::Gpr(2))) => {
                Some(())
            }
            (St0, Some(Reg::St(0))) => Some(()),
            _ => Option::None,
        }
    }

    /// PINSRW, PEXTRW and PMOVMSKB have a width that does not tell MMX from XMM: the register does.
    fn only_66(&mut self) -> bool {
        let by_register = matches!(self.row.width, Width::W);
        self.operand_66 |= by_register;
        by_register
    }

    /// Places a register's number.
    fn register(&mut self, form: Form, number: u8) -> Option<()> {
        use Form::*;
        let (low, high) = (number & 7, number >> 3 & 1);
        match form {
            Gb | G | Vx | Pq | Pv => {
                self.modrm = Some(self.modrm? | low << 3);
                self.rex |= high * REX_R;
            }
            Zb | Z => {
                self.opcode |= low;
                self.rex |= high * REX_B;
            }
            _ => {
                self.modrm = Some(self.modrm? | 0xc0 | low);
                self.rex |= high * REX_B;
            }
        }
        Some(())
    }

    fn memory(&mut self, form: Form, insn: &Insn) -> Option<()> {
        let mem = insn.mem()?;
        has_address_size(insn)?;
        if form == Form::O {
            self.absolute = true;
            let bare = mem.base.is_none() && mem.index.is_none() && !mem.rip_relative;
            (bare && mem.address_size == native_address_size(insn)).then_some(())?;
        } else {
            i32::try_from(mem.displacement).ok()?;
            self.rex |= high(mem.base) * REX_B | high(mem.index) * REX_X;
        }
        self.mem = Some(mem);
        Some(())
    }

    fn immediate(&mut self, form: Form, insn: &Insn) -> Option<()> {
        let value = insn.immediate();
        let width = insn.width();
        let extended = sign_extended(value, width);
        let (fits, size) = match form {
            Form::Ib => (sign_extended(extended, 1) == extended, 1),
            Form::Ub => (value < 0x100, 1),
            Form::Uw => (value < 0x1_0000, 2),
            Form::Iz => (
                sign_extended(extended, width.min(4)) == extended,
                width.min(4),
            ),
            Form::Iv => (true, width),
            Form::One => (value == 1, 0),
            Form::Jb => (sign_extended(value, 1) == value, 1),
            Form::Jz => (sign_extended(value, width.min(4)) == value, width.min(4)),
            _ => (false, 0),
        };
        self.immediate = Some(Immediate { value, size });
        fits.then_some(())
    }

    /// What no single part decides.
    fn check(&mut self, insn: &Insn) -> Option<()> {
        let row = self.row;
        let rex = self.rex != 0 || self.rex_needed;
        let place = if self.mem.is_some() && !self.absolute {
            allow::MEM
        } else {
            allow::REG
        };
        let context = if self.rex & REX_W != 0 {
            allow::W1
        } else {
            allow::W0
        } | if self.rex & REX_B != 0 {
            allow::B1
        } else {
            allow::B0
        } | place;
        let repeats = insn.rep() && row.flags & flag::REP == 0
            || insn.repne() && row.flags & flag::REPNE == 0;
        let locks = insn.lock() && !(row.flags & flag::LOCK != 0 && insn.a().is_mem());
        let small = row.flags & flag::IMPLIED != 0 && has_address_size(insn).is_none();
        let wrong = rex && (self.rex_forbidden || !insn.long())
            || context & !row.allow != 0
            || repeats
            || locks
            || small
            || self.needs_no_66();
        (!wrong).then_some(())
    }

    /// Whether 66 would choose another instruction.
    fn needs_no_66(&self) -> bool {
        self.operand_66 && self.row.allow & (allow::P66 | allow::PF3 | allow::PF2) == 0
    }

    fn write(&self, insn: &Insn) -> Option<Encoded> {
        let mut out = Encoded::EMPTY;
        self.prefixes(insn, &mut out)?;
        match self.row.map {
            Map::One => {}
            Map::Two => out.push(0x0f)?,
            Map::Three38 => out.extend(&[0x0f, 0x38])?,
            Map::Three3A => out.extend(&[0x0f, 0x3a])?,
        }
        out.push(self.opcode)?;
        match (self.modrm, self.mem) {
            (Some(modrm), Some(mem)) if mem.address_size == 2 => {
                write_address_16(modrm, &mem, &mut out)?;
            }
            (Some(modrm), Some(mem)) => write_address(modrm, &mem, insn.long(), &mut out)?,
            (Some(modrm), None) => out.push(modrm)?,
            (None, Some(mem)) => {
                let bytes = mem.displacement.to_le_bytes();
                out.extend(bytes.get(..usize::from(mem.address_size))?)?;
            }
            (None, None) => {}
        }
        if let Some(immediate) = self.immediate {
            let bytes = immediate.value.to_le_bytes();
            out.extend(bytes.get(..usize::from(immediate.size))?)?;
        }
        if let Some(level) = self.level {
            out.push(level)?;
        }
        (out.len <= 15).then_some(out)
    }

    fn prefixes(&self, insn: &Insn, out: &mut Encoded) -> Option<()> {
        let implied = self.row.flags & flag::IMPLIED != 0;
        if insn.lock() {
            out.push(0xf0)?;
        }
        if self.mem.is_some() || implied {
            if let Some(prefix) = self.segment_override(insn) {
                out.push(prefix)?;
            }
            if insn.address_size() != native_address_size(insn) {
                out.push(0x67)?;
            }
        }
        let mandatory = self.row.allow & (allow::NP | allow::P66 | allow::PF3 | allow::PF2);
        if self.operand_66 || mandatory == allow::P66 {
            out.push(0x66)?;
        }
        if mandatory == allow::PF3 || insn.rep() {
            out.push(0xf3)?;
        } else if mandatory == allow::PF2 || insn.repne() {
            out.push(0xf2)?;
        }
        if self.rex != 0 || self.rex_needed {
            out.push(REX | self.rex)?;
        }
        Some(())
    }
}

impl Draft {
    /// The prefix for a segment that is not the default; in 64-bit mode only FS and GS have one.
    fn segment_override(&self, insn: &Insn) -> Option<u8> {
        const SS: usize = 2;
        const DS: usize = 3;
        let stack = self.mem.is_some_and(|mem| matches!(mem.base, Some(4 | 5)));
        match insn.segment() {
            4 => Some(0x64),
            5 => Some(0x65),
            _ if insn.long() => None,
            SS if stack => None,
            DS if !stack => None,
            segment => Some(0x26 | (segment as u8) << 3),
        }
    }
}

fn native_address_size(insn: &Insn) -> u8 {
    if insn.long() { 8 } else { 4 }
}

/// Whether the mode has the address size.
fn has_address_size(insn: &Insn) -> Option<()> {
    let native = native_address_size(insn);
    let size = insn.address_size();
    (size == native || size == native / 2).then_some(())
}

/// Bit 3 of a register's number.
fn high(register: Option<u8>) -> u8 {
    register.unwrap_or(0) >> 3 & 1
}

fn sign_extended(value: u64, width: u8) -> u64 {
    match width {
        1 => value as i8 as u64,
        2 => value as i16 as u64,
        4 => value as i32 as u64,
        _ => value,
    }
}

/// ModRM with `modrm`'s reg field, SIB and displacement.
fn write_address(modrm: u8, mem: &Mem, long: bool, out: &mut Encoded) -> Option<()> {
    const SIB: u8 = 4;
    let displacement = i32::try_from(mem.displacement).ok()?;
    let reg = modrm & 0x38;
    // Outside 64-bit mode what would be RIP-relative is absolute.
    if mem.rip_relative || !long && mem.base.is_none() && mem.index.is_none() {
        if mem.rip_relative && !long {
            return None;
        }
        out.push(reg | 5)?;
        return out.extend(&displacement.to_le_bytes());
    }
    let index = match mem.index {
        Some(4) => return None,
        Some(index) => index & 7,
        None => 4,
    };
    let sib = |base: u8| mem.scale << 6 | index << 3 | base;
    let Some(base) = mem.base.map(|base| base & 7) else {
        out.extend(&[reg | SIB, sib(5)])?;
        return out.extend(&displacement.to_le_bytes());
    };
    let place = match i8::try_from(displacement) {
        Ok(0) if base != 5 => 0,
        Ok(_) => 0x40,
        Err(_) => 0x80,
    };
    if mem.index.is_some() || base == 4 {
        out.extend(&[place | reg | SIB, sib(base)])?;
    } else {
        out.push(place | reg | base)?;
    }
    match place {
        0 => Some(()),
        0x40 => out.push(displacement as u8),
        _ => out.extend(&displacement.to_le_bytes()),
    }
}

/// ModRM with `modrm`'s reg field and displacement, in 16-bit addressing.
fn write_address_16(modrm: u8, mem: &Mem, out: &mut Encoded) -> Option<()> {
    const BX: u8 = 3;
    const BP: u8 = 5;
    const SI: u8 = 6;
    const DI: u8 = 7;
    let displacement = i16::try_from(mem.displacement).ok()?;
    let reg = modrm & 0x38;
    let rm = match (mem.base, mem.index) {
        (Some(BX), Some(SI)) => 0,
        (Some(BX), Some(DI)) => 1,
        (Some(BP), Some(SI)) => 2,
        (Some(BP), Some(DI)) => 3,
        (Some(SI), None) => 4,
        (Some(DI), None) => 5,
        (Some(BP), None) => 6,
        (Some(BX), None) => 7,
        (None, None) => {
            out.push(reg | 6)?;
            return out.extend(&displacement.to_le_bytes());
        }
        _ => return None,
    };
    if mem.scale != 0 {
        return None;
    }
    match i8::try_from(displacement) {
        Ok(0) if rm != 6 => out.push(reg | rm),
        Ok(small) => out.extend(&[0x40 | reg | rm, small as u8]),
        Err(_) => {
            out.push(0x80 | reg | rm)?;
            out.extend(&displacement.to_le_bytes())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::InsnBuilder;

    fn gpr(n: u8) -> Operand {
        Operand::reg(Reg::Gpr(n))
    }

    fn bytes(insn: InsnBuilder) -> Option<Vec<u8>> {
        encode(&insn.build(1)).map(|encoded| encoded.as_bytes().to_vec())
    }

    fn add(width: u8, a: Operand, b: Operand) -> InsnBuilder {
        InsnBuilder::new(Op::Add, width, true)
            .operand(0, a)
            .operand(1, b)
    }

    #[test]
    fn the_shortest_form_is_chosen() {
        let immediate = |value: i64| bytes(add(8, gpr(3), Operand::IMM).immediate(value as u64));
        assert_eq!(immediate(-1), Some(vec![0x48, 0x83, 0xc3, 0xff]));
        assert_eq!(
            immediate(0x1234),
            Some(vec![0x48, 0x81, 0xc3, 0x34, 0x12, 0, 0])
        );
        assert_eq!(immediate(0x8000_0000), None);
    }

    #[test]
    fn the_accumulator_exchanged_with_itself_is_no_nop() {
        let exchange = |a| {
            let insn = InsnBuilder::new(Op::Xchg, 4, true).operand(0, gpr(a));
            bytes(insn.operand(1, gpr(0)))
        };
        assert_eq!(exchange(1), Some(vec![0x91]));
        assert_eq!(exchange(0), Some(vec![0x87, 0xc0]));
    }

    #[test]
    fn byte_registers_and_rex_exclude_each_other() {
        let high = Operand::reg(Reg::High(0));
        assert_eq!(bytes(add(1, high, gpr(3))), Some(vec![0x00, 0xdc]));
        assert_eq!(bytes(add(1, high, gpr(6))), None);
        assert_eq!(bytes(add(1, high, gpr(8))), None);
        assert_eq!(bytes(add(1, gpr(6), gpr(3))), Some(vec![0x40, 0x00, 0xde]));
    }

    #[test]
    fn what_has_no_encoding_is_refused() {
        let builder = |op, width| InsnBuilder::new(op, width, true);
        assert_eq!(bytes(builder(Op::Hlt, 1)), None);
        assert_eq!(bytes(builder(Op::Ud, 0)), None);
        assert_eq!(bytes(add(3, gpr(0), gpr(1))), None);
        assert_eq!(bytes(add(4, gpr(0), Operand::reg(Reg::Xmm(0)))), None);
        let short = InsnBuilder::new(Op::Nop, 4, false);
        assert_eq!(bytes(short), None);
        let mem = Mem {
            segment: 3,
            base: Some(3),
            index: Some(6),
            scale: 0,
            displacement: 0,
            rip_relative: false,
            address_size: 2,
        };
        assert_eq!(bytes(add(4, gpr(0), Operand::MEM).mem(mem)), None);
        let index = Mem {
            index: Some(4),
            address_size: 8,
            ..mem
        };
        assert_eq!(bytes(add(4, gpr(0), Operand::MEM).mem(index)), None);
    }
}
