//! Saving and restoring x87, MMX and SSE state: FXSAVE, FXRSTOR, XSAVE, XRSTOR, LDMXCSR, STMXCSR, EMMS
//! (SDM volume 1, 10.5 and 13).
//!
//! x87 and SSE state count as always in use: XSAVE saves what it is asked to, and never saves less.

use hvf_sys::cpu::{Fpu, Insn, Op};

use super::super::core::{Done, Exec, Trap};
use super::Handler;
use crate::x86::control::{cr0, cr4, xcr0};
use crate::x86::vector;

/// The bits of MXCSR that can be set.
pub(super) const MXCSR_MASK: u32 = 0xffff;
const LEGACY: u64 = 512;
const HEADER: u64 = 64;

pub(super) fn select(insn: &Insn) -> Handler {
    match insn.op() {
        Op::Fxsave => fxsave,
        Op::Fxrstor => fxrstor,
        Op::Xsave | Op::Xsaveopt => xsave,
        Op::Xrstor => xrstor,
        Op::Ldmxcsr => ldmxcsr,
        Op::Stmxcsr => stmxcsr,
        _ => emms,
    }
}

impl Exec<'_> {
    /// #MF where an earlier x87 instruction left an unmasked exception.
    #[inline(always)]
    pub(super) fn check_x87_pending(&mut self) -> Done {
        const SUMMARY: u16 = 1 << 7;
        if self.state.fpu.status & SUMMARY != 0 && self.cr0(cr0::NE) {
            Err(self.raise(vector::MF))
        } else {
            Ok(())
        }
    }

    /// #NM where the registers belong to another task.
    fn check_task(&mut self) -> Done {
        if self.state.cr0 & (cr0::EM | cr0::TS) != 0 {
            Err(self.raise(vector::NM))
        } else {
            Ok(())
        }
    }

    fn check_xsave(&mut self) -> Done {
        if !self.cr4(cr4::OSXSAVE) {
            return Err(self.undefined());
        }
        if self.cr0(cr0::TS) {
            Err(self.raise(vector::NM))
        } else {
            Ok(())
        }
    }

    /// The linear address of a save area, which must be aligned.
    fn area(&mut self, insn: &Insn, len: u64, align: u64, write: bool) -> Result<u64, Trap> {
        let la = self.linear(insn, len, write)?;
        if !la.is_multiple_of(align) {
            return Err(self.general_protection(0));
        }
        if write {
            for at in [0, len - 8] {
                self.probe_write(la.wrapping_add(at), 8, insn.segment())?;
            }
        } else {
            // Even what is reserved has to be there.
            self.load_at::<u64>(la.wrapping_add(len - 8), insn.segment())?;
        }
        Ok(la)
    }

    /// The x87 part of a save area: its first 24 bytes, and 8 registers of 16 bytes. The pointers have 64 bits with REX.W,
    /// otherwise 32 and a selector, which is zero as CPUID says.
    fn x87_image(&self, wide: bool) -> ([u8; 24], [u128; 8]) {
        let fpu = &self.state.fpu;
        let mask = pointer_mask(wide);
        let mut head = [0; 24];
        head[0..2].copy_from_slice(&fpu.control.to_le_bytes());
        head[2..4].copy_from_slice(&self.x87_status().to_le_bytes());
        head[4] = fpu.valid;
        head[6..8].copy_from_slice(&(fpu.opcode & 0x7ff).to_le_bytes());
        head[8..16].copy_from_slice(&(fpu.instruction & mask).to_le_bytes());
        head[16..24].copy_from_slice(&(fpu.operand & mask).to_le_bytes());
        let registers = std::array::from_fn(|n| {
            let (significand, exponent) = fpu.registers[n + usize::from(fpu.top) & 7];
            u128::from(significand) | u128::from(exponent) << 64
        });
        (head, registers)
    }

    fn set_x87_image(&mut self, head: &[u8; 24], registers: &[u128; 8], wide: bool) {
        let word = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|n| head[at + n]));
        self.set_x87_control(word(0));
        self.set_x87_status(word(2));
        let fpu = &mut self.state.fpu;
        fpu.valid = head[4];
        fpu.opcode = word(6) & 0x7ff;
        fpu.instruction = long(8) & pointer_mask(wide);
        fpu.operand = long(16) & pointer_mask(wide);
        for (n, register) in registers.iter().enumerate() {
            let at = n + usize::from(fpu.top) & 7;
            fpu.registers[at] = (*register as u64, (register >> 64) as u16);
        }
    }

    fn store_x87(&mut self, la: u64, insn: &Insn) -> Done {
        let (head, registers) = self.x87_image(wide(insn));
        for (n, chunk) in (0..).zip(head.chunks_exact(8)) {
            let word = chunk
                .iter()
                .rev()
                .fold(0u64, |sum, b| sum << 8 | u64::from(*b));
            self.store_at(la.wrapping_add(8 * n), insn.segment(), word)?;
        }
        for (n, register) in (0..).zip(registers) {
            self.store_at(
                la.wrapping_add(32 + 16 * n),
                insn.segment(),
                register as u64,
            )?;
            self.store_at(
                la.wrapping_add(40 + 16 * n),
                insn.segment(),
                (register >> 64) as u64,
            )?;
        }
        Ok(())
    }

    fn load_x87(&mut self, la: u64, insn: &Insn) -> Result<([u8; 24], [u128; 8]), Trap> {
        let mut head = [0; 24];
        for (n, chunk) in (0..).zip(head.chunks_exact_mut(8)) {
            chunk.copy_from_slice(
                &self
                    .load_at::<u64>(la.wrapping_add(8 * n), insn.segment())?
                    .to_le_bytes(),
            );
        }
        let mut registers = [0; 8];
        for (n, register) in (0..).zip(registers.iter_mut()) {
            *register = self.load_at::<u128>(la.wrapping_add(32 + 16 * n), insn.segment())?
                & (u128::MAX >> 48);
        }
        Ok((head, registers))
    }

    fn store_mxcsr(&mut self, la: u64, insn: &Insn) -> Done {
        let mxcsr = self.state.mxcsr;
        self.store_at(la.wrapping_add(24), insn.segment(), mxcsr)?;
        self.store_at(la.wrapping_add(28), insn.segment(), MXCSR_MASK)
    }

    fn load_mxcsr(&mut self, la: u64, insn: &Insn) -> Result<u32, Trap> {
        let mxcsr: u32 = self.load_at(la.wrapping_add(24), insn.segment())?;
        if mxcsr & !MXCSR_MASK != 0 {
            Err(self.general_protection(0))
        } else {
            Ok(mxcsr)
        }
    }

    /// How many XMM registers the code sees.
    fn xmm_count(&self) -> u64 {
        if self.code64() { 16 } else { 8 }
    }

    fn store_xmm(&mut self, la: u64, insn: &Insn) -> Done {
        for n in 0..self.xmm_count() {
            let value = self.xmm(n as usize);
            self.store_at(la.wrapping_add(160 + 16 * n), insn.segment(), value)?;
        }
        Ok(())
    }

    fn load_xmm(&mut self, la: u64, insn: &Insn) -> Result<[u128; 16], Trap> {
        let mut registers = self.state.xmm;
        for n in 0..self.xmm_count() {
            registers[n as usize & 15] =
                self.load_at(la.wrapping_add(160 + 16 * n), insn.segment())?;
        }
        Ok(registers)
    }
}

/// The bits of an instruction or operand pointer that an image holds.
fn pointer_mask(wide: bool) -> u64 {
    if wide { u64::MAX } else { 0xffff_ffff }
}

/// Whether REX.W makes the instruction pointers 64 bits wide.
fn wide(insn: &Insn) -> bool {
    insn.width() == 8
}

fn fxsave(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.check_task()?;
    let la = x.area(insn, LEGACY, 16, true)?;
    x.store_x87(la, insn)?;
    x.store_mxcsr(la, insn)?;
    if x.cr4(cr4::OSFXSR) {
        x.store_xmm(la, insn)
    } else {
        Ok(())
    }
}

fn fxrstor(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.check_task()?;
    let la = x.area(insn, LEGACY, 16, false)?;
    let (head, registers) = x.load_x87(la, insn)?;
    if x.cr4(cr4::OSFXSR) {
        let mxcsr = x.load_mxcsr(la, insn)?;
        x.state.xmm = x.load_xmm(la, insn)?;
        x.state.mxcsr = mxcsr;
    }
    x.set_x87_image(&head, &registers, wide(insn));
    Ok(())
}

/// The components that an XSAVE or XRSTOR names and the system has enabled.
fn requested(x: &Exec<'_>) -> u64 {
    let mask = x.state.gpr[0] & 0xffff_ffff | x.state.gpr[2] << 32;
    mask & x.state.xcr0
}

fn xsave(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.check_xsave()?;
    let la = x.area(insn, LEGACY + HEADER, 64, true)?;
    let wanted = requested(x);
    if wanted & xcr0::X87 != 0 {
        x.store_x87(la, insn)?;
    }
    if wanted & xcr0::SSE != 0 {
        x.store_mxcsr(la, insn)?;
        x.store_xmm(la, insn)?;
    }
    let old: u64 = x.load_at(la.wrapping_add(LEGACY), insn.segment())?;
    x.store_at(
        la.wrapping_add(LEGACY),
        insn.segment(),
        old & !wanted | wanted,
    )
}

fn xrstor(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.check_xsave()?;
    let la = x.area(insn, LEGACY + HEADER, 64, false)?;
    let wanted = requested(x);
    let mut header = [0u64; 3];
    for (n, word) in (0..).zip(header.iter_mut()) {
        *word = x.load_at(la.wrapping_add(LEGACY + 8 * n), insn.segment())?;
    }
    // Only the standard form is offered: the next two words must be zero.
    let [present, compacted, reserved] = header;
    if present & !x.state.xcr0 != 0 || compacted != 0 || reserved != 0 {
        return Err(x.general_protection(0));
    }
    let x87 = if wanted & present & xcr0::X87 != 0 {
        Some(x.load_x87(la, insn)?)
    } else {
        None
    };
    if wanted & xcr0::SSE != 0 {
        let mxcsr = x.load_mxcsr(la, insn)?;
        x.state.xmm = if present & xcr0::SSE != 0 {
            x.load_xmm(la, insn)?
        } else {
            x.cleared_xmm()
        };
        x.state.mxcsr = mxcsr;
    }
    if wanted & xcr0::X87 != 0 {
        match x87 {
            Some((head, registers)) => x.set_x87_image(&head, &registers, wide(insn)),
            None => {
                x.state.fpu = Fpu {
                    control: 0x37f,
                    ..Fpu::default()
                }
            }
        }
    }
    Ok(())
}

impl Exec<'_> {
    fn cleared_xmm(&self) -> [u128; 16] {
        let mut registers = self.state.xmm;
        registers[..self.xmm_count() as usize].fill(0);
        registers
    }
}

fn ldmxcsr(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.check_sse()?;
    let mxcsr: u32 = x.load(insn)?;
    if mxcsr & !MXCSR_MASK != 0 {
        return Err(x.general_protection(0));
    }
    x.state.mxcsr = mxcsr;
    Ok(())
}

fn stmxcsr(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.check_sse()?;
    let mxcsr = x.state.mxcsr;
    x.store(insn, mxcsr)
}

/// Marks every x87 register empty.
fn emms(x: &mut Exec<'_>, _insn: &Insn) -> Done {
    x.begin_mmx()?;
    x.state.fpu.top = 0;
    x.state.fpu.valid = 0;
    Ok(())
}
