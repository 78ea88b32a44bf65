//! Whether the interpreter did what the host did, as far as that is defined.

use crate::place::{CODE, PAGE, WINDOW, WINDOW_LEN};
use crate::undefined;
use crate::wire::{Case, Fault, Outcome};
use hvf_sys::cpu::{Insn, Op, State};

/// The flags that are compared: the arithmetic ones and the direction.
const COMPARED: u64 = 0xcd5;

/// The first difference between what the host did and what the interpreter did, in words.
pub(crate) fn difference(
    case: &Case,
    target: u64,
    host: &Outcome,
    ours: &Outcome,
) -> Option<String> {
    let insn = case.insns.last()?;
    let faults = [host.fault, ours.fault].map(|fault| fault.map(|fault| visible(insn.op(), fault)));
    if faults[0] != faults[1] {
        return Some(format!("fault {:x?}, host {:x?}", faults[1], faults[0]));
    }
    let (theirs, state) = (&host.state, &ours.state);
    if state.rip != theirs.rip {
        return Some(format!("rip {:#x}, host {:#x}", state.rip, theirs.rip));
    }
    // Within a sequence nothing undefined is left.
    let single = case.insns.len() == 1;
    let undefined = if single {
        undefined::flags(insn, &case.state)
    } else {
        0
    };
    let flags = (state.rflags ^ theirs.rflags) & COMPARED & !undefined;
    if flags != 0 {
        return Some(format!(
            "flags {:#x}, host {:#x}",
            state.rflags & COMPARED,
            theirs.rflags & COMPARED
        ));
    }
    if single && undefined::result(insn, &case.state) {
        return None;
    }
    if let Some(n) = (0..16).find(|n| state.gpr[*n] != theirs.gpr[*n]) {
        return Some(format!(
            "gpr {n} {:#x}, host {:#x}",
            state.gpr[n], theirs.gpr[n]
        ));
    }
    vectors(insn, state, theirs)
        .or_else(|| x87(&case.insns, host.fault.is_some(), state, theirs))
        .or_else(|| {
            memory(
                insn,
                host.fault.is_some(),
                target,
                &ours.memory,
                &host.memory,
            )
        })
}

/// A fault as vector, error code and, of a page fault, address. Elsewhere the host has mappings of its own.
fn visible(op: Op, fault: Fault) -> (u64, u64, u64) {
    let address = if undefined::address(op) {
        0
    } else {
        fault.address
    };
    match fault.vector {
        14 if !(CODE..PAGE + 0x1_0000).contains(&fault.address) => (14, fault.error & !1, address),
        14 => (14, fault.error, address),
        vector => (vector, fault.error, 0),
    }
}

fn vectors(insn: &Insn, state: &State, theirs: &State) -> Option<String> {
    if state.mxcsr != theirs.mxcsr {
        return Some(format!(
            "mxcsr {:#x}, host {:#x}",
            state.mxcsr, theirs.mxcsr
        ));
    }
    let same = |n: usize| {
        let (ours, theirs) = (state.xmm[n], theirs.xmm[n]);
        ours == theirs || undefined::is_approximation(insn.op()) && close_singles(ours, theirs)
    };
    let n = (0..16).find(|n| !same(*n))?;
    Some(format!(
        "xmm {n} {:#034x}, host {:#034x}",
        state.xmm[n], theirs.xmm[n]
    ))
}

/// Each of the four within twice the relative error of 1.5 · 2⁻¹² that each processor is allowed. Of the least normal numbers
/// it decides itself whether they are flushed to zero (SDM volume 2, RCPPS).
fn close_singles(ours: u128, theirs: u128) -> bool {
    (0..4).all(|lane| {
        let [a, b] = [ours, theirs].map(|all| f32::from_bits((all >> (32 * lane)) as u32));
        let least = f32::MIN_POSITIVE * (1.0 + 3.0 / 4096.0);
        let flushed = a.abs() <= least && b.abs() <= least && a.signum() == b.signum();
        a.to_bits() == b.to_bits() || flushed || (a - b).abs() <= b.abs() * (3.0 / 4096.0)
    })
}

fn x87(insns: &[Insn], faulted: bool, state: &State, theirs: &State) -> Option<String> {
    let (ours, host) = (&state.fpu, &theirs.fpu);
    let transcendental = insns
        .iter()
        .any(|insn| undefined::is_transcendental(insn.op()));
    let undefined = insns
        .iter()
        .fold(0, |bits, insn| bits | undefined::status(insn.op()));
    // A result of another last bit is rounded another way.
    let rounding = if transcendental { 1 << 9 | 1 << 5 } else { 0 };
    let status = (ours.status ^ host.status) & !undefined & !rounding;
    if status != 0 {
        return Some(format!(
            "x87 status {:#x}, host {:#x}",
            ours.status, host.status
        ));
    }
    let words = |fpu: &hvf_sys::cpu::Fpu| (fpu.control, fpu.top, fpu.valid);
    let tags = !(faulted && insns.iter().any(undefined::tags_after_fault));
    if tags && words(ours) != words(host) {
        return Some(format!(
            "x87 control, top, tags {:x?}, host {:x?}",
            words(ours),
            words(host)
        ));
    }
    let same = |n: usize| {
        let (a, b) = (ours.registers[n], host.registers[n]);
        a == b || transcendental && close_extended(a, b)
    };
    let n = (0..8).find(|n| !same(*n))?;
    let [a, b] = [ours, host].map(|fpu| fpu.registers[n]);
    Some(format!(
        "x87 r{n} {:04x}:{:016x}, host {:04x}:{:016x}",
        a.1, a.0, b.1, b.0
    ))
}

/// Neighbours, at most: their encodings as one number differ by one.
fn close_extended(a: (u64, u16), b: (u64, u16)) -> bool {
    let line = |(significand, exponent): (u64, u16)| {
        i128::from(exponent & 0x7fff) << 63 | i128::from(significand & !(1 << 63))
    };
    a.1 & 0x8000 == b.1 & 0x8000 && (line(a) - line(b)).abs() <= 1
}

fn memory(
    insn: &Insn,
    faulted: bool,
    target: u64,
    ours: &[u8; WINDOW_LEN],
    theirs: &[u8; WINDOW_LEN],
) -> Option<String> {
    let ignored = undefined::bytes(insn.op(), insn.width(), faulted);
    let operand = target.wrapping_sub(WINDOW) as usize;
    let x87_status = matches!(
        insn.op(),
        Op::Fnstenv | Op::Fnsave | Op::Fxsave | Op::Fnstsw
    );
    let n = (0..WINDOW_LEN).find(|n| {
        let counts = !(insn.has_mem()
            && ignored
                .iter()
                .any(|(from, to)| (*from..*to).contains(&n.wrapping_sub(operand))));
        counts && ours[*n] != theirs[*n]
    })?;
    let hint = if x87_status {
        " (of the x87 state)"
    } else {
        ""
    };
    Some(format!(
        "memory operand+{:#x}{hint}: {:02x}, host {:02x}",
        n as i64 - operand as i64,
        ours[n],
        theirs[n]
    ))
}
