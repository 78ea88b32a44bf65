//! What some operations need of the state to do something worth comparing: pointers into the window, counts that end,
//! return addresses, quotients that fit.

use crate::generate::Plan;
use crate::place::{TAKEN, WINDOW, WINDOW_LEN};
use crate::wire::Case;
use hvf_sys::cpu::{Insn, Op, Operand, Reg};

const RAX: usize = 0;
const RCX: usize = 1;
const RDX: usize = 2;
const RBX: usize = 3;
const RSP: usize = 4;
const RBP: usize = 5;
const RSI: usize = 6;
const RDI: usize = 7;

/// The flags that POPF may load here: no single-step, no alignment checks.
const LOADABLE: u64 = 0xcd5;

/// Registers, and the memory operand's address, before the instruction is built.
pub(crate) fn registers(plan: &mut Plan<'_>) {
    // Locked operands are aligned: hosts slow down or refuse locks that are split. Where masked stores fault is each
    // processor's own affair (SDM volume 2, MASKMOVDQU).
    let aligned = plan.prefix.lock || matches!(plan.op, Op::Xchg | Op::Maskmovq | Op::Maskmovdqu);
    plan.target = plan.somewhere(reach(plan.op, plan.width), aligned);
    match plan.op {
        Op::Movs | Op::Cmps | Op::Stos | Op::Lods | Op::Scas => string(plan),
        Op::Loop | Op::Loope | Op::Loopne | Op::Jcxz => {
            let count = plan.random.pick(&[0, 1, 2, 1 << 32, (1 << 32) + 1]);
            plan.pin(RCX, count);
        }
        Op::Xlat => {
            let table = WINDOW + plan.random.below(WINDOW_LEN as u64 - 256);
            plan.pin(RBX, table);
        }
        Op::Maskmovq | Op::Maskmovdqu => {
            let to = plan.target;
            plan.pin(RDI, to);
            plan.address_size = plan.address_size.max(4);
        }
        Op::Bt | Op::Bts | Op::Btr | Op::Btc => bit_offset(plan),
        Op::Div | Op::Idiv => quotient(plan),
        Op::Leave | Op::Enter => {
            let frame = WINDOW + 256 + plan.random.below(128);
            plan.pin(RBP, frame);
        }
        Op::Pcmpestri | Op::Pcmpestrm => {
            for register in [RAX, RDX] {
                let len = plan
                    .random
                    .pick(&[0, 1, 5, 8, 15, 16, 17, u64::MAX - 3, 1 << 40]);
                plan.pin(register, len);
            }
        }
        _ => {}
    }
}

/// How many bytes of memory the operation touches at most.
fn reach(op: Op, width: u8) -> u64 {
    match op {
        Op::Fxsave | Op::Fxrstor => 512,
        Op::Fnsave | Op::Frstor => 108,
        Op::Fnstenv | Op::Fldenv => 28,
        _ => u64::from(width).max(1),
    }
}

fn string(plan: &mut Plan<'_>) {
    let from = WINDOW + 256 + plan.random.below(64);
    let to = WINDOW + 512 + plan.random.below(64);
    plan.pin(RSI, from);
    plan.pin(RDI, to);
    let backwards = plan.state.rflags & 1 << 10 != 0;
    let far = plan.random.one_in(12) && !backwards;
    let count = if far { 600 } else { plan.random.below(9) };
    plan.pin(RCX, count);
    // Equal data, so that the comparisons go on for a while.
    if plan.random.one_in(2) {
        let value = plan.random.next() & if plan.random.one_in(2) { u64::MAX } else { 0 };
        let byte = value as u8;
        plan.memory = [byte; WINDOW_LEN];
        plan.pin(RAX, u64::from_ne_bytes([byte; 8]));
        let odd = plan.random.below(WINDOW_LEN as u64);
        plan.store(WINDOW + odd, &[byte ^ 1]);
    }
}

/// A bit in memory lies relative to the operand: keep it in the window.
fn bit_offset(plan: &mut Plan<'_>) {
    if let (true, Some(Reg::Gpr(register))) = (plan.operands[0].is_mem(), plan.operands[1].as_reg())
    {
        if usize::from(register) == RSP {
            plan.operands[1] = Operand::reg(Reg::Gpr(RBP as u8));
        }
        let register = plan.operands[1].number();
        let bit = plan.random.below(1024).wrapping_sub(512);
        plan.pin(register, bit);
        plan.target = WINDOW + WINDOW_LEN as u64 / 2 + plan.random.below(8) * 8;
    }
}

/// Half of the time a dividend of one operand's width, so that the quotient fits.
fn quotient(plan: &mut Plan<'_>) {
    if plan.random.one_in(4) {
        return;
    }
    let low = plan.random.integer();
    let sign = if plan.op == Op::Idiv {
        (low as i64 >> 63) as u64
    } else {
        0
    };
    let (low, high) = match plan.width {
        1 if plan.op == Op::Idiv => (low as i8 as u64, plan.state.gpr[RDX]),
        1 => (low & 0xff, plan.state.gpr[RDX]),
        2 if plan.op == Op::Idiv => (low, (low as i16 >> 15) as u64),
        4 if plan.op == Op::Idiv => (low, (low as i32 >> 31) as u64),
        8 => (low, sign),
        _ => (low, 0),
    };
    plan.pin(RAX, low);
    plan.pin(RDX, high);
}

/// Memory and the registers that depend on where the instruction ends, after it was built.
pub(crate) fn memory(plan: &mut Plan<'_>, insn: &Insn) {
    let len = Case::encode(insn).map_or(0, |encoded| encoded.as_bytes().len()) as u64;
    let taken = plan.slot + len + TAKEN;
    let (stack, target) = (plan.state.gpr[RSP], plan.target);
    match plan.op {
        Op::Ret if !plan.random.one_in(8) => plan.store(stack, &taken.to_le_bytes()),
        Op::Popf => {
            let flags = plan.random.next() & LOADABLE;
            plan.store(stack, &flags.to_le_bytes());
        }
        Op::Call | Op::Jmp if insn.a().is_mem() => plan.store(target, &taken.to_le_bytes()),
        Op::Call | Op::Jmp if insn.a().is_gpr() && insn.a().number() != RSP => {
            plan.state.gpr[insn.a().number()] = taken;
        }
        Op::Cmpxchg if plan.random.one_in(2) => equal_operands(plan, insn),
        Op::Cmpxchg8b | Op::Cmpxchg16b if plan.random.one_in(2) => {
            let half = usize::from(plan.width) / 2;
            let (low, high) = (plan.state.gpr[RAX], plan.state.gpr[RDX]);
            plan.store(target, &low.to_le_bytes()[..half]);
            plan.store(target + half as u64, &high.to_le_bytes()[..half]);
        }
        Op::Ldmxcsr if !plan.random.one_in(8) => {
            let value = plan.random.next() as u16;
            plan.store(target, &u32::from(value).to_le_bytes());
        }
        Op::Fxrstor if !plan.random.one_in(8) => {
            let value = plan.random.next() as u16;
            plan.store(target + 24, &u32::from(value).to_le_bytes());
        }
        Op::Fbld => decimal(plan),
        _ => {}
    }
}

/// CMPXCHG's destination equal to the accumulator.
fn equal_operands(plan: &mut Plan<'_>, insn: &Insn) {
    let accumulator = plan.state.gpr[RAX];
    match insn.a().as_reg() {
        Some(Reg::Gpr(n)) if plan.pinned >> n & 1 == 0 => {
            plan.state.gpr[usize::from(n)] = accumulator
        }
        Some(_) => {}
        None => {
            let target = plan.target;
            let bytes = accumulator.to_le_bytes();
            plan.store(target, &bytes[..usize::from(plan.width.min(8))]);
        }
    }
}

/// Digits, which FBLD wants.
fn decimal(plan: &mut Plan<'_>) {
    let mut bytes = [0; 10];
    for byte in &mut bytes {
        *byte = (plan.random.below(10) << 4 | plan.random.below(10)) as u8;
    }
    bytes[9] = plan.random.pick(&[0, 0x80]);
    let target = plan.target;
    plan.store(target, &bytes);
}
