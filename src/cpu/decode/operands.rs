//! One operand after the other, by its form.

use super::{DecodeError, Reading};
use hvf_sys::cpu::table::Form;
use hvf_sys::cpu::{InsnBuilder, Mem, Operand, Reg};

const CS: u8 = 1;

impl Reading<'_> {
    /// Reads the operand of `form`. `None`: such an operand does not exist, the instruction is #UD.
    pub(super) fn operand(
        &mut self,
        form: Form,
        mem: Option<Mem>,
        insn: InsnBuilder,
    ) -> Result<Option<(Operand, InsnBuilder)>, DecodeError> {
        let rm = self.modrm & 7 | self.prefixes.rex_b();
        let reg = self.modrm >> 3 & 7 | self.prefixes.rex_r();
        let low = self.opcode & 7 | self.prefixes.rex_b();
        let wide = self.prefixes.is_66();
        let register = match form {
            Form::Eb | Form::E | Form::M | Form::Wx | Form::Qq | Form::Qv if mem.is_some() => {
                return Ok(mem.map(|mem| (Operand::MEM, insn.mem(mem))));
            }
            Form::O => {
                let mem = self.absolute()?;
                return Ok(Some((Operand::MEM, insn.mem(mem))));
            }
            Form::Eb => self.byte_register(rm),
            Form::Gb => self.byte_register(reg),
            Form::Zb => self.byte_register(low),
            Form::E | Form::R => Reg::Gpr(rm),
            Form::G => Reg::Gpr(reg),
            Form::Z => Reg::Gpr(low),
            Form::Acc => Reg::Gpr(0),
            Form::Cl => Reg::Gpr(1),
            Form::Dx => Reg::Gpr(2),
            Form::Vx => Reg::Xmm(reg),
            Form::Wx | Form::Ux => Reg::Xmm(rm),
            Form::Pq => Reg::Mm(reg),
            Form::Qq | Form::Nq => Reg::Mm(rm),
            Form::Pv if wide => Reg::Xmm(reg),
            Form::Pv => Reg::Mm(reg),
            Form::Qv | Form::Nv if wide => Reg::Xmm(rm),
            Form::Qv | Form::Nv => Reg::Mm(rm),
            Form::St0 => Reg::St(0),
            Form::Sti => Reg::St(rm),
            Form::Es => Reg::Seg(0),
            Form::Cs => Reg::Seg(CS),
            Form::Ss => Reg::Seg(2),
            Form::Ds => Reg::Seg(3),
            Form::Fs => Reg::Seg(4),
            Form::Gs => Reg::Seg(5),
            Form::Sw => match self.segment_register() {
                Some(segment) => Reg::Seg(segment),
                None => return Ok(None),
            },
            Form::Cr if !matches!(reg, 0 | 2..=4 | 8) => return Ok(None),
            Form::Cr => Reg::Cr(reg),
            Form::Dr if reg > 7 => return Ok(None),
            Form::Dr => Reg::Dr(reg),
            Form::None | Form::M => return Ok(None),
            _ => {
                let immediate = self.immediate(form)?;
                return Ok(Some((Operand::IMM, insn.immediate(immediate))));
            }
        };
        Ok(Some((Operand::reg(register), insn)))
    }

    fn immediate(&mut self, form: Form) -> Result<u64, DecodeError> {
        Ok(match form {
            Form::Ub => u64::from(self.bytes.u8()?),
            Form::Uw => u64::from(self.bytes.u16()?),
            Form::Iz | Form::Jz => self.bytes.signed(self.width.min(4))? as u64,
            Form::Iv => self.bytes.signed(self.width)? as u64,
            Form::One => 1,
            Form::Ap if self.width == 2 => {
                let offset = u64::from(self.bytes.u16()?);
                offset | u64::from(self.bytes.u16()?) << 32
            }
            Form::Ap => {
                let offset = self.bytes.i32()? as u64 & 0xffff_ffff;
                offset | u64::from(self.bytes.u16()?) << 32
            }
            _ => self.bytes.i8()? as u64,
        })
    }

    /// A byte register: without REX, 4 to 7 are AH to BH.
    fn byte_register(&self, number: u8) -> Reg {
        if (4..8).contains(&number) && !self.prefixes.has_rex() {
            Reg::High(number - 4)
        } else {
            Reg::Gpr(number)
        }
    }

    /// The segment register in ModRM.reg; REX.R is ignored. CS cannot be loaded.
    fn segment_register(&self) -> Option<u8> {
        let number = self.modrm >> 3 & 7;
        let destination = self.row.forms[0] == Form::Sw;
        (number < 6 && !(destination && number == CS)).then_some(number)
    }

    fn absolute(&mut self) -> Result<Mem, DecodeError> {
        let address_size = self.prefixes.address_size;
        Ok(Mem {
            segment: self.prefixes.segment.unwrap_or(3),
            base: None,
            index: None,
            scale: 0,
            displacement: self.bytes.signed(address_size)?,
            rip_relative: false,
            address_size,
        })
    }
}
