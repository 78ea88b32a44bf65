//! x87, MMX and SSE state: the XSAVE area of VMX's calls, and the software CPU's registers.
//!
//! The area is in the standard format (SDM volume 1, 13.4): the legacy region as FXSAVE64 writes it (table 10-2), then a
//! header whose first word says which parts hold anything. A part that does not is in its initial state. What lies
//! behind (upper halves of YMM registers and more) the software CPU has no use for, and it stays as it is.

use hvf_sys::cpu::{Fpu, State};

use super::hardware::{Hardware, Result};
use super::vmx::FP_BYTES;
use crate::x86::control::xcr0;

/// TOP in the status word.
const TOP_SHIFT: u32 = 11;
const MXCSR: usize = 24;
const ST0: usize = 32;
const XMM0: usize = 160;
/// Where XSTATE_BV is.
const HEADER: usize = 512;
/// After FNINIT, and MXCSR after power-on.
const CONTROL_INITIAL: u16 = 0x37f;
const MXCSR_INITIAL: u32 = 0x1f80;

/// Reads it into a state.
pub(super) fn load(hardware: &Hardware, state: &mut State) -> Result<()> {
    let mut area = [0; FP_BYTES];
    hardware.read_fp(&mut area)?;
    decode(&area, state);
    Ok(())
}

/// Sets it from a state.
pub(super) fn store(hardware: &mut Hardware, state: &State) -> Result<()> {
    let mut area = [0; FP_BYTES];
    hardware.read_fp(&mut area)?;
    encode(state, &mut area);
    hardware.write_fp(&area)
}

fn word<const N: usize>(area: &[u8; FP_BYTES], at: usize) -> [u8; N] {
    std::array::from_fn(|n| area[at + n])
}

fn put(area: &mut [u8; FP_BYTES], at: usize, bytes: &[u8]) {
    area[at..at + bytes.len()].copy_from_slice(bytes);
}

fn decode(area: &[u8; FP_BYTES], state: &mut State) {
    let present = u64::from_le_bytes(word(area, HEADER));
    state.mxcsr = u32::from_le_bytes(word(area, MXCSR));
    if present & xcr0::X87 != 0 {
        let status = u16::from_le_bytes(word(area, 2));
        let top = (status >> TOP_SHIFT & 7) as u8;
        state.fpu = Fpu {
            control: u16::from_le_bytes(word(area, 0)),
            status: status & !(7 << TOP_SHIFT),
            top,
            valid: area[4],
            opcode: u16::from_le_bytes(word(area, 6)) & 0x7ff,
            instruction: u64::from_le_bytes(word(area, 8)),
            operand: u64::from_le_bytes(word(area, 16)),
            ..Fpu::default()
        };
        for n in 0..8 {
            let at = ST0 + 16 * n;
            let register = (
                u64::from_le_bytes(word(area, at)),
                u16::from_le_bytes(word(area, at + 8)),
            );
            state.fpu.registers[n + usize::from(top) & 7] = register;
        }
    } else {
        state.fpu = Fpu {
            control: CONTROL_INITIAL,
            ..Fpu::default()
        };
    }
    for (n, register) in state.xmm.iter_mut().enumerate() {
        *register = match present & xcr0::SSE {
            0 => 0,
            _ => u128::from_le_bytes(word(area, XMM0 + 16 * n)),
        };
    }
    if state.mxcsr == 0 && present & (xcr0::SSE | xcr0::AVX) == 0 {
        // A header without SSE says nothing about MXCSR where the area was never saved to.
        state.mxcsr = MXCSR_INITIAL;
    }
}

fn encode(state: &State, area: &mut [u8; FP_BYTES]) {
    let fpu = &state.fpu;
    let status = fpu.status & !(7 << TOP_SHIFT) | u16::from(fpu.top & 7) << TOP_SHIFT;
    put(area, 0, &fpu.control.to_le_bytes());
    put(area, 2, &status.to_le_bytes());
    put(area, 4, &[fpu.valid, 0]);
    put(area, 6, &fpu.opcode.to_le_bytes());
    put(area, 8, &fpu.instruction.to_le_bytes());
    put(area, 16, &fpu.operand.to_le_bytes());
    put(area, MXCSR, &state.mxcsr.to_le_bytes());
    for n in 0..8 {
        let (significand, exponent) = fpu.registers[n + usize::from(fpu.top) & 7];
        let bits = u128::from(significand) | u128::from(exponent) << 64;
        put(area, ST0 + 16 * n, &bits.to_le_bytes());
    }
    for (n, register) in state.xmm.iter().enumerate() {
        put(area, XMM0 + 16 * n, &register.to_le_bytes());
    }
    let present = u64::from_le_bytes(word(area, HEADER)) | xcr0::X87 | xcr0::SSE;
    put(area, HEADER, &present.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let mut state = State {
            mxcsr: 0x1fa0,
            ..State::default()
        };
        state.fpu = Fpu {
            registers: std::array::from_fn(|n| (n as u64 + 1 << 60, 0x3fff + n as u16)),
            control: 0x27f,
            status: 0x4100,
            top: 5,
            valid: 0xe0,
            opcode: 0x7ab,
            instruction: 0x1234,
            operand: 0x5678,
        };
        state.xmm = std::array::from_fn(|n| (n as u128 + 1) << 100 | n as u128);
        state
    }

    #[test]
    fn what_is_written_is_read_back_and_what_lies_behind_stays() {
        let mut area = [0; FP_BYTES];
        area[576] = 0xa5;
        area[HEADER] = xcr0::AVX as u8;
        encode(&state(), &mut area);
        assert_eq!(area[576], 0xa5);
        assert_eq!(area[HEADER], 7);
        // ST(0) is R5 here, and stands first.
        assert_eq!(area[ST0 + 7], 0x60);
        assert_eq!(area[3] >> 3 & 7, 5, "TOP");
        let mut back = State::default();
        decode(&area, &mut back);
        assert_eq!(back, state());
    }

    #[test]
    fn parts_that_are_absent_are_in_their_initial_state() {
        let mut back = state();
        decode(&[0; FP_BYTES], &mut back);
        assert_eq!(back.fpu.control, 0x37f);
        assert_eq!((back.fpu.valid, back.mxcsr), (0, 0x1f80));
        assert_eq!(back.xmm, [0; 16]);
    }
}
