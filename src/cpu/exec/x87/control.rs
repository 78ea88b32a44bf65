//! Control: the control and status words, the environment and the whole state in memory, tags and TOP.

use hvf_sys::cpu::{Fpu, Insn, Op};

use super::super::super::core::{Done, Exec, Trap};
use super::super::super::float::Flags;
use super::super::Handler;
use super::{C1, ES_B};
use crate::x86::control::cr0;
use crate::x86::vector;

/// The control word's bits that can be set, and the one that always is.
const CONTROL_WRITABLE: u16 = 0x1f3f;
const CONTROL_FIXED: u16 = 0x40;
/// The control word after FNINIT.
const CONTROL_INIT: u16 = 0x37f;
/// The bits of the status word that are TOP's.
const TOP: u16 = 0x3800;
const TOP_SHIFT: u32 = 11;
/// All exception flags, SF among them.
const EXCEPTIONS: u16 = 0x7f;
/// The bits of FOP.
const OPCODE: u16 = 0x7ff;

pub(super) fn select(insn: &Insn) -> Option<Handler> {
    use Op::*;
    Some(match insn.op() {
        Fldcw => load_control,
        Fnstcw => store_control,
        Fnstsw => store_status,
        Fnclex => clear_exceptions,
        Fninit => initialize,
        Fldenv => load_environment,
        Fnstenv => store_environment,
        Frstor => restore,
        Fnsave => save,
        Fnop => |x, i| x.stack_control(i, Flags::empty(), |_, _| {}),
        Fincstp => |x, i| x.stack_control(i, C1, |x, _| x.rotate(1)),
        Fdecstp => |x, i| x.stack_control(i, C1, |x, _| x.rotate(7)),
        Ffree => |x, i| x.stack_control(i, Flags::empty(), |x, n| x.free_st(n)),
        Ffreep => |x, i| {
            x.stack_control(i, Flags::empty(), |x, n| {
                x.free_st(n);
                x.pop_st();
            })
        },
        Fwait => wait,
        _ => return None,
    })
}

impl Exec<'_> {
    /// Instructions that only touch TOP and tags.
    fn stack_control(
        &mut self,
        insn: &Insn,
        cleared: Flags,
        change: impl FnOnce(&mut Self, usize),
    ) -> Done {
        self.begin_x87()?;
        change(self, insn.a().number());
        self.settle(insn, Flags::empty(), cleared);
        Ok(())
    }

    /// The control word, as software may set it.
    pub(in super::super) fn set_x87_control(&mut self, value: u16) {
        self.state.fpu.control = value & CONTROL_WRITABLE | CONTROL_FIXED;
    }

    /// The status word with TOP in it.
    pub(in super::super) fn x87_status(&self) -> u16 {
        let fpu = &self.state.fpu;
        fpu.status & !TOP | u16::from(fpu.top & 7) << TOP_SHIFT
    }

    /// Sets the status word; ES and B follow from the control word, which is to be set before.
    pub(in super::super) fn set_x87_status(&mut self, value: u16) {
        self.state.fpu.status = value & !TOP;
        self.state.fpu.top = (value >> TOP_SHIFT & 7) as u8;
        self.summarize();
    }
}

fn wait(x: &mut Exec<'_>, _: &Insn) -> Done {
    const BOTH: u64 = cr0::MP | cr0::TS;
    if x.state.cr0 & BOTH == BOTH {
        return Err(x.raise(vector::NM));
    }
    x.check_x87_pending()
}

fn load_control(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.begin_x87()?;
    let value = x.load(insn)?;
    x.set_x87_control(value);
    x.summarize();
    Ok(())
}

fn store_control(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.check_x87()?;
    let control = x.state.fpu.control;
    x.store(insn, control)
}

fn store_status(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.check_x87()?;
    let status = x.x87_status();
    x.write(insn, insn.a(), status)
}

fn clear_exceptions(x: &mut Exec<'_>, _: &Insn) -> Done {
    x.check_x87()?;
    x.state.fpu.status &= !(EXCEPTIONS | ES_B);
    Ok(())
}

fn initialize(x: &mut Exec<'_>, _: &Insn) -> Done {
    x.check_x87()?;
    x.initialize_x87();
    Ok(())
}

impl Exec<'_> {
    /// What FNINIT does: the registers' contents stay, but all are empty.
    fn initialize_x87(&mut self) {
        self.state.fpu = Fpu {
            control: CONTROL_INIT,
            registers: self.state.fpu.registers,
            ..Fpu::default()
        };
    }

    /// The tag word (SDM volume 1, 8.1.7): two bits a physical register.
    fn full_tags(&self) -> u16 {
        let fpu = &self.state.fpu;
        (0..8).fold(0, |tags, n| {
            let (significand, exponent) = fpu.registers[n];
            let tag = match (exponent & 0x7fff, significand >> 63) {
                _ if fpu.valid >> n & 1 == 0 => 3,
                (0, _) if significand == 0 => 1,
                (0 | 0x7fff, _) | (_, 0) => 2,
                _ => 0,
            };
            tags | tag << (2 * n)
        })
    }

    /// Whether environments have the form of real and virtual-8086 mode.
    fn legacy_environment(&self) -> bool {
        self.real_mode() || self.vm86()
    }

    /// The environment of 32-bit operands: seven doublewords (SDM volume 1, figures 8-9 and 8-11).
    fn wide_environment(&self) -> [u8; 28] {
        const RESERVED: u32 = 0xffff_0000;
        let fpu = &self.state.fpu;
        let opcode = u32::from(fpu.opcode & OPCODE);
        let (fip, fdp) = (fpu.instruction as u32, fpu.operand as u32);
        let pointers = if self.legacy_environment() {
            [
                RESERVED | fip & 0xffff,
                (fip >> 16) << 12 | opcode,
                RESERVED | fdp & 0xffff,
                (fdp >> 16) << 12,
            ]
        } else {
            [fip, opcode << 16, fdp, RESERVED]
        };
        let [a, b, c, d] = pointers;
        let words = [
            RESERVED | u32::from(fpu.control),
            RESERVED | u32::from(self.x87_status()),
            RESERVED | u32::from(self.full_tags()),
            a,
            b,
            c,
            d,
        ];
        let mut image = [0; 28];
        for (place, word) in image.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        image
    }

    /// The environment of 16-bit operands: seven words (SDM volume 1, figures 8-10 and 8-12).
    fn narrow_environment(&self) -> [u8; 14] {
        let fpu = &self.state.fpu;
        let (fip, fdp) = (fpu.instruction, fpu.operand);
        let high = |pointer: u64| (pointer >> 16 & 15) as u16;
        let selectors = if self.legacy_environment() {
            [high(fip) << 12 | fpu.opcode & OPCODE, high(fdp) << 12]
        } else {
            [0, 0]
        };
        let words = [
            fpu.control,
            self.x87_status(),
            self.full_tags(),
            fip as u16,
            selectors[0],
            fdp as u16,
            selectors[1],
        ];
        let mut image = [0; 14];
        for (place, word) in image.chunks_exact_mut(2).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        image
    }

    /// The environment in the form that `insn` has, and how long it is.
    fn environment(&self, insn: &Insn) -> ([u8; 28], usize) {
        if insn.width() == 4 {
            return (self.wide_environment(), 28);
        }
        let mut image = [0; 28];
        image[..14].copy_from_slice(&self.narrow_environment());
        (image, 14)
    }

    /// Takes over an environment from memory.
    fn set_environment(&mut self, image: &[u8], wide: bool) {
        let legacy = self.legacy_environment();
        let size = if wide { 4 } else { 2 };
        let word = |n: usize| {
            let bytes = image.iter().skip(size * n).take(size).rev();
            bytes.fold(0, |sum, byte| sum << 8 | u32::from(*byte))
        };
        let linear = |low: usize| word(low) & 0xffff | (word(low + 1) >> 12 & 0xffff) << 16;
        let (instruction, operand) = if legacy {
            (linear(3), linear(5))
        } else {
            (word(3), word(5))
        };
        let opcode = match (legacy, wide) {
            (true, _) => word(4),
            (false, true) => word(4) >> 16,
            (false, false) => 0,
        };
        let fpu = &mut self.state.fpu;
        fpu.instruction = instruction.into();
        fpu.operand = operand.into();
        fpu.opcode = opcode as u16 & OPCODE;
        fpu.valid = (0..8).fold(0, |valid, n| {
            let empty = word(2) >> (2 * n) & 3 == 3;
            valid | u8::from(!empty) << n
        });
        self.set_x87_control(word(0) as u16);
        self.set_x87_status(word(1) as u16);
    }

    /// Loads an area of `bytes` at the memory operand.
    fn load_operand_area(&mut self, insn: &Insn, bytes: &mut [u8]) -> Result<(), Trap> {
        let la = self.linear(insn, bytes.len() as u64, false)?;
        self.load_area(la, insn.segment(), bytes)
    }

    fn store_operand_area(&mut self, insn: &Insn, bytes: &[u8]) -> Done {
        let la = self.linear(insn, bytes.len() as u64, true)?;
        self.store_area(la, insn.segment(), bytes)
    }
}

fn load_environment(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.begin_x87()?;
    let wide = insn.width() == 4;
    let mut image = [0; 28];
    let len = if wide { 28 } else { 14 };
    x.load_operand_area(insn, &mut image[..len])?;
    x.set_environment(&image, wide);
    Ok(())
}

/// FNSTENV masks all exceptions afterwards.
fn store_environment(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.check_x87()?;
    let (image, len) = x.environment(insn);
    x.store_operand_area(insn, &image[..len])?;
    x.state.fpu.control |= Flags::EXCEPTIONS.bits();
    x.summarize();
    Ok(())
}

/// Eight registers of ten bytes, ST(0) first.
const REGISTERS: usize = 80;

fn save(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.check_x87()?;
    let (environment, len) = x.environment(insn);
    let mut image = [0; 28 + REGISTERS];
    image[..len].copy_from_slice(&environment[..len]);
    for (n, place) in image[len..].chunks_exact_mut(10).take(8).enumerate() {
        place.copy_from_slice(&x.st(n).to_bytes());
    }
    x.store_operand_area(insn, &image[..len + REGISTERS])?;
    x.initialize_x87();
    Ok(())
}

fn restore(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.begin_x87()?;
    let wide = insn.width() == 4;
    let len = if wide { 28 } else { 14 };
    let mut image = [0; 28 + REGISTERS];
    x.load_operand_area(insn, &mut image[..len + REGISTERS])?;
    let (environment, registers) = image.split_at(len);
    x.set_environment(environment, wide);
    let valid = x.state.fpu.valid;
    for (n, bytes) in registers.chunks_exact(10).take(8).enumerate() {
        let mut ten = [0; 10];
        ten.copy_from_slice(bytes);
        x.set_st(n, super::super::super::float::x87::F80::from_bytes(ten));
    }
    x.state.fpu.valid = valid;
    Ok(())
}
