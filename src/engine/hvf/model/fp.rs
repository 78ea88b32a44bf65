//! x87 and SSE state as `read_fp` and `write_fp` exchange it: an XSAVE area in the standard format
//! (SDM volume 1, 10.5.1 and 13.4), of which the software CPU has the first two components.

use hvf_sys::cpu::State;

use super::super::vmx::{Error, FP_BYTES, Result};
use crate::x86::control::xcr0;

const MXCSR: usize = 24;
const MXCSR_MASK: u32 = 0xffff;
const STACK: usize = 32;
const XMM: usize = 160;
/// The header: XSTATE_BV, then XCOMP_BV, which is zero in this format.
const HEADER: usize = 512;
const HAS: u64 = xcr0::X87 | xcr0::SSE;
const TOP_SHIFT: u32 = 11;
const TOP: u16 = 7 << TOP_SHIFT;

/// Writes the state into an area.
pub fn save(state: &State, area: &mut [u8; FP_BYTES]) {
    area.fill(0);
    let fpu = &state.fpu;
    let mut put = |at: usize, bytes: &[u8]| area[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &fpu.control.to_le_bytes());
    let status = fpu.status & !TOP | u16::from(fpu.top & 7) << TOP_SHIFT;
    put(2, &status.to_le_bytes());
    put(4, &[fpu.valid]);
    put(6, &fpu.opcode.to_le_bytes());
    put(8, &fpu.instruction.to_le_bytes());
    put(16, &fpu.operand.to_le_bytes());
    put(MXCSR, &state.mxcsr.to_le_bytes());
    put(MXCSR + 4, &MXCSR_MASK.to_le_bytes());
    for n in 0..8 {
        let (significand, exponent) = fpu.registers[n + usize::from(fpu.top) & 7];
        put(STACK + 16 * n, &significand.to_le_bytes());
        put(STACK + 16 * n + 8, &exponent.to_le_bytes());
    }
    for (n, xmm) in state.xmm.iter().enumerate() {
        put(XMM + 16 * n, &xmm.to_le_bytes());
    }
    put(HEADER, &HAS.to_le_bytes());
}

/// Takes the state from an area: of a component that the header does not name, the initial one.
///
/// # Errors
/// BAD_ARGUMENT where XRSTOR would raise #GP: components that there are not, a compacted area, bits of MXCSR that
/// there are not (SDM volume 1, 13.8).
pub fn restore(state: &mut State, area: &[u8; FP_BYTES]) -> Result<()> {
    let word = |at: usize| u16::from_le_bytes([area[at], area[at + 1]]);
    let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|n| area[at + n]));
    let has = long(HEADER);
    let mxcsr = long(MXCSR) as u32;
    if has & !HAS != 0 || long(HEADER + 8) != 0 || mxcsr & !MXCSR_MASK != 0 {
        return Err(Error::BAD_ARGUMENT);
    }
    let fpu = &mut state.fpu;
    *fpu = Default::default();
    fpu.control = 0x37f;
    if has & xcr0::X87 != 0 {
        fpu.control = word(0);
        fpu.status = word(2) & !TOP;
        fpu.top = (word(2) >> TOP_SHIFT & 7) as u8;
        fpu.valid = area[4];
        fpu.opcode = word(6) & 0x7ff;
        (fpu.instruction, fpu.operand) = (long(8), long(16));
        for n in 0..8 {
            let at = n + usize::from(fpu.top) & 7;
            fpu.registers[at] = (long(STACK + 16 * n), word(STACK + 16 * n + 8));
        }
    }
    state.mxcsr = mxcsr;
    for (n, xmm) in state.xmm.iter_mut().enumerate() {
        *xmm = if has & xcr0::SSE != 0 {
            u128::from(long(XMM + 16 * n)) | u128::from(long(XMM + 16 * n + 8)) << 64
        } else {
            0
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_restored() {
        let mut state = State::default();
        state.fpu.control = 0x27f;
        (state.fpu.top, state.fpu.valid, state.fpu.status) = (3, 0x18, 0x4100);
        state.fpu.registers[3] = (1 << 63, 0x3fff);
        state.xmm[15] = 7 << 100;
        state.mxcsr = 0x1fa0;
        let mut area = [0xff; FP_BYTES];
        save(&state, &mut area);
        assert_eq!(
            area[STACK + 8..STACK + 10],
            [0xff, 0x3f],
            "ST(0) comes first"
        );
        let mut other = State::default();
        restore(&mut other, &area).unwrap();
        assert_eq!(other, state);
    }

    #[test]
    fn areas_that_xrstor_refuses_are_refused() {
        let mut area = [0; FP_BYTES];
        for (at, byte) in [(HEADER, 4), (HEADER + 15, 0x80), (MXCSR + 2, 1)] {
            area[at] = byte;
            let refused = restore(&mut State::default(), &area);
            assert_eq!(refused, Err(Error::BAD_ARGUMENT));
            area[at] = 0;
        }
        let mut state = State::default();
        state.xmm[0] = 1;
        restore(&mut state, &area).unwrap();
        assert_eq!((state.xmm[0], state.fpu.control), (0, 0x37f));
    }
}
