//! Reading the bytes, and the prefixes among them.

use super::{DecodeError, Mode};
use hvf_sys::cpu::table::allow;

/// No instruction is longer.
const LONGEST: usize = 15;

/// The bytes of one instruction and how far they are read.
#[derive(Clone, Copy)]
pub(super) struct Bytes<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bytes<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes: bytes.get(..LONGEST).unwrap_or(bytes),
            at: 0,
        }
    }

    /// How many bytes have been read.
    pub(super) fn position(&self) -> u8 {
        self.at as u8
    }

    #[inline(always)]
    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some(rest) = self.bytes.get(self.at..) else {
            return Err(DecodeError::Truncated);
        };
        let Some(taken) = rest.first_chunk::<N>() else {
            return Err(self.ended(N));
        };
        self.at += N;
        Ok(*taken)
    }

    /// With fewer than 15 bytes at hand the caller has to find more first: fetching them may fault.
    #[cold]
    fn ended(&self, wanted: usize) -> DecodeError {
        if self.bytes.len() == LONGEST && self.at + wanted > LONGEST {
            DecodeError::TooLong
        } else {
            DecodeError::Truncated
        }
    }

    #[inline(always)]
    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take::<1>()?[0])
    }

    #[inline(always)]
    pub(super) fn i8(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from(self.u8()? as i8))
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.take()?))
    }

    pub(super) fn i16(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from(self.u16()? as i16))
    }

    pub(super) fn i32(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from(i32::from_le_bytes(self.take()?)))
    }

    pub(super) fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_le_bytes(self.take()?))
    }

    /// A signed number of `size` bytes: 1, 2, 4 or 8.
    pub(super) fn signed(&mut self, size: u8) -> Result<i64, DecodeError> {
        match size {
            1 => self.i8(),
            2 => self.i16(),
            4 => self.i32(),
            _ => self.i64(),
        }
    }
}

const REX_W: u8 = 8;
const REX_R: u8 = 4;
const REX_X: u8 = 2;
const REX_B: u8 = 1;

/// What the prefixes say, and the first byte after them.
#[derive(Clone, Copy)]
pub(super) struct Prefixes {
    pub(super) mode: Mode,
    pub(super) opcode: u8,
    /// 2, 4 or 8.
    pub(super) operand_size: u8,
    /// 2, 4 or 8.
    pub(super) address_size: u8,
    /// The segment override, unless it is ignored.
    pub(super) segment: Option<u8>,
    pub(super) lock: bool,
    /// Zero without REX.
    rex: u8,
    /// The mandatory prefix: one of `allow::{NP, P66, PF3, PF2}`.
    mandatory: u16,
}

impl Prefixes {
    pub(super) fn read(bytes: &mut Bytes<'_>, mode: Mode) -> Result<Self, DecodeError> {
        let long = mode == Mode::Bits64;
        let (mut operand, mut address, mut lock) = (false, false, false);
        let (mut repeat, mut rex, mut segment) = (None, 0, None);
        let opcode = loop {
            let byte = bytes.u8()?;
            match byte {
                0x40..=0x4f if long => {
                    rex = byte;
                    continue;
                }
                0x66 => operand = true,
                0x67 => address = true,
                0xf0 => lock = true,
                0xf2 => repeat = Some(allow::PF2),
                0xf3 => repeat = Some(allow::PF3),
                // An ignored override does not undo FS or GS before it.
                0x26 | 0x2e | 0x36 | 0x3e if long => {}
                0x26 | 0x2e | 0x36 | 0x3e => segment = Some(byte >> 3 & 3),
                0x64 | 0x65 => segment = Some(byte - 0x60),
                _ => break byte,
            }
            // A REX that another prefix follows is ignored.
            rex = 0;
        };
        Ok(Self {
            mode,
            opcode,
            operand_size: match (mode, operand) {
                (Mode::Bits64, _) if rex & REX_W != 0 => 8,
                (Mode::Bits16, false) | (Mode::Bits32 | Mode::Bits64, true) => 2,
                (Mode::Bits16, true) | (Mode::Bits32 | Mode::Bits64, false) => 4,
            },
            address_size: match (mode, address) {
                (Mode::Bits64, false) => 8,
                (Mode::Bits16, false) | (Mode::Bits32, true) => 2,
                (Mode::Bits16 | Mode::Bits64, true) | (Mode::Bits32, false) => 4,
            },
            segment,
            lock,
            rex,
            mandatory: repeat.unwrap_or(if operand { allow::P66 } else { allow::NP }),
        })
    }

    /// The bits of `allow` that the prefixes decide.
    #[inline]
    pub(super) fn context(&self) -> u16 {
        let long = self.mode == Mode::Bits64;
        self.mandatory
            | if long { allow::LONG } else { allow::LEGACY }
            | if self.rex_w() { allow::W1 } else { allow::W0 }
            | if self.rex & REX_B != 0 {
                allow::B1
            } else {
                allow::B0
            }
    }

    pub(super) fn is_66(&self) -> bool {
        self.mandatory == allow::P66
    }

    pub(super) fn is_f3(&self) -> bool {
        self.mandatory == allow::PF3
    }

    pub(super) fn is_f2(&self) -> bool {
        self.mandatory == allow::PF2
    }

    pub(super) fn has_rex(&self) -> bool {
        self.rex != 0
    }

    pub(super) fn rex_w(&self) -> bool {
        self.rex & REX_W != 0
    }

    /// REX.R as bit 3 of a register's number.
    pub(super) fn rex_r(&self) -> u8 {
        (self.rex & REX_R) << 1
    }

    /// REX.X as bit 3 of a register's number.
    pub(super) fn rex_x(&self) -> u8 {
        (self.rex & REX_X) << 2
    }

    /// REX.B as bit 3 of a register's number.
    pub(super) fn rex_b(&self) -> u8 {
        (self.rex & REX_B) << 3
    }
}
