//! What parent and child say to each other over the pipe: batches of cases and of their outcomes.

use crate::place::WINDOW_LEN;
use hvf_sys::cpu::{Fpu, Insn, State};
use hvf_sys::jit::{self, Encoded};
use std::io::{Read, Result, Write};

/// Instructions with the state in which they start.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) insns: Vec<Insn>,
    pub(crate) state: State,
    pub(crate) memory: [u8; WINDOW_LEN],
}

impl Case {
    /// Whether it is 64-bit code; 32-bit code otherwise.
    pub(crate) fn long(&self) -> bool {
        self.insns.iter().all(Insn::long)
    }

    /// The bytes of one of its instructions.
    pub(crate) fn encode(insn: &Insn) -> Option<Encoded> {
        if insn.long() {
            jit::encode(insn)
        } else {
            jit::encode_32(insn)
        }
    }
}

/// The exception that an instruction met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) vector: u64,
    pub(crate) error: u64,
    /// CR2, of a page fault.
    pub(crate) address: u64,
}

/// The state in which a case ended: after its instructions or at the one that met the fault.
#[derive(Clone)]
pub(crate) struct Outcome {
    pub(crate) state: State,
    pub(crate) memory: [u8; WINDOW_LEN],
    pub(crate) fault: Option<Fault>,
}

const INSN: usize = size_of::<Insn>();

pub(crate) fn write_case(out: &mut impl Write, case: &Case) -> Result<()> {
    out.write_all(&(case.insns.len() as u64).to_le_bytes())?;
    for insn in &case.insns {
        // SAFETY: an `Insn` has no padding: 2 + 10 × 1 bytes, then four and eight, 24 in all (asserted where it is defined).
        let bytes = unsafe { std::mem::transmute_copy::<Insn, [u8; INSN]>(insn) };
        out.write_all(&bytes)?;
    }
    write_state(out, &case.state)?;
    out.write_all(&case.memory)
}

pub(crate) fn read_case(from: &mut impl Read) -> Result<Case> {
    let count = read_u64(from)?;
    let mut insns = Vec::new();
    for _ in 0..count {
        let mut bytes = [0; INSN];
        from.read_exact(&mut bytes)?;
        // SAFETY: the writer is this same program, and wrote the bytes of an `Insn`.
        insns.push(unsafe { std::mem::transmute::<[u8; INSN], Insn>(bytes) });
    }
    Ok(Case {
        insns,
        state: read_state(from)?,
        memory: read_memory(from)?,
    })
}

pub(crate) fn write_outcome(out: &mut impl Write, outcome: &Outcome) -> Result<()> {
    let fault = outcome.fault.unwrap_or(Fault {
        vector: u64::MAX,
        ..Fault::default()
    });
    for word in [fault.vector, fault.error, fault.address] {
        out.write_all(&word.to_le_bytes())?;
    }
    write_state(out, &outcome.state)?;
    out.write_all(&outcome.memory)
}

pub(crate) fn read_outcome(from: &mut impl Read) -> Result<Outcome> {
    let fault = Fault {
        vector: read_u64(from)?,
        error: read_u64(from)?,
        address: read_u64(from)?,
    };
    Ok(Outcome {
        fault: (fault.vector != u64::MAX).then_some(fault),
        state: read_state(from)?,
        memory: read_memory(from)?,
    })
}

/// The part of the state that a user's instructions can reach.
fn write_state(out: &mut impl Write, state: &State) -> Result<()> {
    let fpu = &state.fpu;
    let mut bytes = Vec::with_capacity(600);
    for word in state.gpr.iter().chain([&state.rip, &state.rflags]) {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    for xmm in &state.xmm {
        bytes.extend_from_slice(&xmm.to_le_bytes());
    }
    for (significand, exponent) in &fpu.registers {
        bytes.extend_from_slice(&significand.to_le_bytes());
        bytes.extend_from_slice(&u64::from(*exponent).to_le_bytes());
    }
    let small = [fpu.control, fpu.status, fpu.top.into(), fpu.valid.into()];
    for word in small.map(u64::from).iter().chain([&state.mxcsr.into()]) {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    out.write_all(&bytes)
}

fn read_state(from: &mut impl Read) -> Result<State> {
    let mut state = State::default();
    for word in &mut state.gpr {
        *word = read_u64(from)?;
    }
    state.rip = read_u64(from)?;
    state.rflags = read_u64(from)?;
    for xmm in &mut state.xmm {
        *xmm = u128::from(read_u64(from)?) | u128::from(read_u64(from)?) << 64;
    }
    let mut fpu = Fpu::default();
    for register in &mut fpu.registers {
        *register = (read_u64(from)?, read_u64(from)? as u16);
    }
    fpu.control = read_u64(from)? as u16;
    fpu.status = read_u64(from)? as u16;
    fpu.top = read_u64(from)? as u8;
    fpu.valid = read_u64(from)? as u8;
    state.fpu = fpu;
    state.mxcsr = read_u64(from)? as u32;
    Ok(state)
}

fn read_memory(from: &mut impl Read) -> Result<[u8; WINDOW_LEN]> {
    let mut memory = [0; WINDOW_LEN];
    from.read_exact(&mut memory)?;
    Ok(memory)
}

pub(crate) fn read_u64(from: &mut impl Read) -> Result<u64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}
