//! The decoder: guest bytes to `Insn`, for 16-, 32- and 64-bit code (SDM volume 2, chapter 2 and appendix A).
//!
//! What exists and how it is spelled is the instruction table's business (`hvf_sys::cpu::table`); here is only how bytes
//! are read. It answers as an Intel processor without VEX: prefixes in any order, REX only right before the opcode, the
//! last of F3 and F2 counts, 66 is ignored on near branches in 64-bit mode, ES, CS, SS and DS overrides are ignored
//! there, F2 and F3 are ignored where they mean nothing, and what does not exist is `Op::Ud`, which also stands for LOCK on
//! what cannot be locked. The mode beyond the code size (real or protected, VM86, privilege) is the interpreter's.
//!
//! What the fields of an `Insn` hold for each operation: SDM operand order, `a` the destination; the x87 instructions
//! that Intel writes with one register (FCOM, FUCOM, FXCH, FLD, FST, FSTP, FFREE) have it in `a`; immediates are
//! sign-extended to 64 bits, except that shift counts, ports, selectors of lanes, vectors and ENTER's and RET's sizes are
//! zero-extended. FLDENV, FNSTENV, FRSTOR and FNSAVE have the operand size (2 or 4) as the width, FXSAVE and XSAVE 4 or
//! 8 with REX.W, LGDT and its kin 8 in 64-bit mode.

mod address;
mod bytes;
mod operands;
#[cfg(test)]
mod oracle;
#[cfg(all(test, target_arch = "x86_64"))]
mod roundtrip;
#[cfg(test)]
mod tests;

use bytes::{Bytes, Prefixes};
use hvf_sys::cpu::table::{self, Aux, Map, ROWS, Row, Width, allow, flag};
use hvf_sys::cpu::{Insn, InsnBuilder, Op, Operand, Prefix};

/// The size of the code: CS.L, CS.D.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Real mode, VM86, 16-bit code segments.
    Bits16,
    /// 32-bit code segments.
    Bits32,
    /// 64-bit mode.
    Bits64,
}

/// Why there is no instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DecodeError {
    /// It would have more than 15 bytes: #GP(0).
    TooLong,
    /// The bytes ended before it did: the next page has to be fetched, or faults.
    Truncated,
}

/// Decodes the instruction at the start of `bytes`, which are as many as could be fetched; 15 always suffice.
pub fn decode(bytes: &[u8], mode: Mode) -> Result<Insn, DecodeError> {
    let mut bytes = Bytes::new(bytes);
    let prefixes = Prefixes::read(&mut bytes, mode)?;
    let (map, opcode) = opcode(&mut bytes, prefixes.opcode)?;
    let modrm = if table::has_modrm(map, opcode) {
        Some(bytes.u8()?)
    } else {
        None
    };
    let Some(row) = find(map, opcode, modrm, &prefixes) else {
        return Ok(undefined(&bytes, mode));
    };
    let mut reading = Reading {
        bytes,
        prefixes,
        opcode,
        modrm: modrm.unwrap_or(0),
        width: width(row.width, &prefixes, modrm),
        row,
    };
    reading.instruction()
}

/// The instruction that raises #UD.
fn undefined(bytes: &Bytes<'_>, mode: Mode) -> Insn {
    InsnBuilder::new(Op::Ud, 0, mode == Mode::Bits64).build(bytes.position())
}

fn opcode(bytes: &mut Bytes<'_>, first: u8) -> Result<(Map, u8), DecodeError> {
    if first != 0x0f {
        return Ok((Map::One, first));
    }
    Ok(match bytes.u8()? {
        0x38 => (Map::Three38, bytes.u8()?),
        0x3a => (Map::Three3A, bytes.u8()?),
        second => (Map::Two, second),
    })
}

/// The first row that fits.
#[inline]
fn find(map: Map, opcode: u8, modrm: Option<u8>, prefixes: &Prefixes) -> Option<&'static Row> {
    let modrm = modrm.unwrap_or(0xc0);
    let context = prefixes.context()
        | if modrm >= 0xc0 {
            allow::REG
        } else {
            allow::MEM
        };
    table::rows_of(map, opcode)
        .iter()
        .filter_map(|number| ROWS.get(usize::from(*number)))
        .find(|row| context & !row.allow == 0 && modrm & row.mask == row.value)
}

fn width(rule: Width, prefixes: &Prefixes, modrm: Option<u8>) -> u8 {
    let size = prefixes.operand_size;
    let (long, rex_w) = (prefixes.mode == Mode::Bits64, prefixes.rex_w());
    match rule {
        Width::B => 1,
        Width::W => 2,
        Width::L => 4,
        Width::Q => 8,
        Width::T => 10,
        Width::X => 16,
        Width::P if prefixes.is_66() => 16,
        Width::P => 8,
        Width::PL if prefixes.is_66() => 16,
        Width::PL => 4,
        Width::V => size,
        Width::Z => size.min(4),
        Width::Y if rex_w => 8,
        Width::Y => 4,
        Width::N if long => 8,
        Width::N => 4,
        Width::D64 if long && size == 4 => 8,
        Width::D64 => size,
        Width::F64 if long => 8,
        Width::F64 => size,
        Width::S if modrm.is_some_and(|m| m < 0xc0) => 2,
        Width::S => size,
    }
}

/// An instruction whose row is known and whose operands are being read.
struct Reading<'a> {
    bytes: Bytes<'a>,
    prefixes: Prefixes,
    opcode: u8,
    modrm: u8,
    width: u8,
    row: &'static Row,
}

impl Reading<'_> {
    fn instruction(&mut self) -> Result<Insn, DecodeError> {
        let row = self.row;
        let mode = self.prefixes.mode;
        let mut insn = InsnBuilder::new(row.op, self.width, mode == Mode::Bits64);
        // The address comes before every immediate, whatever the order of the operands.
        let mem = if row.has_modrm() && self.modrm < 0xc0 && row.flags & flag::NO_MOD == 0 {
            Some(self.address()?)
        } else {
            None
        };
        let mut first = Operand::NONE;
        for (n, form) in row.forms.iter().enumerate() {
            if *form == table::Form::None {
                break;
            }
            let Some((operand, with)) = self.operand(*form, mem, insn)? else {
                return Ok(undefined(&self.bytes, mode));
            };
            insn = with.operand(n, operand);
            if n == 0 {
                first = operand;
            }
        }
        insn = insn.aux(self.aux()?);
        if row.flags & flag::IMPLIED != 0 {
            let segment = self.prefixes.segment.unwrap_or(3);
            insn = insn.implied_address(segment, self.prefixes.address_size);
        }
        if self.prefixes.lock && !(row.flags & flag::LOCK != 0 && first.is_mem()) {
            return Ok(undefined(&self.bytes, mode));
        }
        insn = insn.prefix(self.prefix());
        Ok(insn.build(self.bytes.position()))
    }

    fn aux(&mut self) -> Result<u8, DecodeError> {
        Ok(match self.row.aux {
            Aux::Fixed(n) => n,
            Aux::Condition => self.opcode & 15,
            Aux::V => self.prefixes.operand_size,
            Aux::Z => self.prefixes.operand_size.min(4),
            Aux::Y if self.prefixes.rex_w() => 8,
            Aux::Y => 4,
            Aux::Level => self.bytes.u8()? & 31,
        })
    }

    fn prefix(&self) -> Prefix {
        let repeat = self.row.flags & flag::REP != 0;
        let f2 = repeat && self.prefixes.is_f2();
        let while_not_equal = f2 && self.row.flags & flag::REPNE != 0;
        Prefix {
            lock: self.prefixes.lock,
            rep: repeat && self.prefixes.is_f3() || f2 && !while_not_equal,
            repne: while_not_equal,
        }
    }
}
