//! Memory operands: ModRM, SIB and displacement (SDM volume 2, tables 2-1 to 2-3).

use super::{DecodeError, Mode, Reading};
use hvf_sys::cpu::Mem;

const SS: u8 = 2;
const DS: u8 = 3;
const BX: u8 = 3;
const SP: u8 = 4;
const BP: u8 = 5;
const SI: u8 = 6;
const DI: u8 = 7;

impl Reading<'_> {
    /// Reads the memory operand that ModRM announces.
    pub(super) fn address(&mut self) -> Result<Mem, DecodeError> {
        let mut mem = Mem {
            segment: DS,
            base: None,
            index: None,
            scale: 0,
            displacement: 0,
            rip_relative: false,
            address_size: self.prefixes.address_size,
        };
        if mem.address_size == 2 {
            self.address_16(&mut mem)?;
        } else {
            self.address_32(&mut mem)?;
        }
        let stack = matches!(mem.base, Some(SP | BP));
        let default = if stack { SS } else { DS };
        mem.segment = self.prefixes.segment.unwrap_or(default);
        Ok(mem)
    }

    fn address_16(&mut self, mem: &mut Mem) -> Result<(), DecodeError> {
        let (base, index) = match self.modrm & 7 {
            0 => (Some(BX), Some(SI)),
            1 => (Some(BX), Some(DI)),
            2 => (Some(BP), Some(SI)),
            3 => (Some(BP), Some(DI)),
            4 => (Some(SI), None),
            5 => (Some(DI), None),
            6 if self.modrm < 0x40 => (None, None),
            6 => (Some(BP), None),
            _ => (Some(BX), None),
        };
        (mem.base, mem.index) = (base, index);
        mem.displacement = match self.modrm >> 6 {
            0 if base.is_some() => 0,
            1 => self.bytes.i8()?,
            _ => self.bytes.i16()?,
        };
        Ok(())
    }

    fn address_32(&mut self, mem: &mut Mem) -> Result<(), DecodeError> {
        let place = self.modrm >> 6;
        let mut low = self.modrm & 7;
        let sib = low == 4;
        if sib {
            let sib = self.bytes.u8()?;
            low = sib & 7;
            let index = sib >> 3 & 7 | self.prefixes.rex_x();
            if index != SP {
                mem.index = Some(index);
                mem.scale = sib >> 6;
            }
        }
        if place == 0 && low == 5 {
            mem.rip_relative = !sib && self.prefixes.mode == Mode::Bits64;
            mem.displacement = self.bytes.i32()?;
            return Ok(());
        }
        mem.base = Some(low | self.prefixes.rex_b());
        mem.displacement = match place {
            0 => 0,
            1 => self.bytes.i8()?,
            _ => self.bytes.i32()?,
        };
        Ok(())
    }
}
