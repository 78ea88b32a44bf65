//! FXSAVE, FXRSTOR, XSAVE and XRSTOR: images (SDM volume 1, tables 10-2 and 13-1), and what they refuse.

use super::floating_point::run;
use super::*;
use crate::cpu::core::Core;
use crate::x86::vector;

const DATA: u64 = 0x3_0000;
const FXSAVE: [u8; 3] = [0x0f, 0xae, 0x07];
const FXSAVE64: [u8; 4] = [0x48, 0x0f, 0xae, 0x07];
const FXRSTOR64: [u8; 4] = [0x48, 0x0f, 0xae, 0x0f];
const XSAVE64: [u8; 4] = [0x48, 0x0f, 0xae, 0x27];
const XRSTOR64: [u8; 4] = [0x48, 0x0f, 0xae, 0x2f];

fn fill(core: &mut Core) {
    let fpu = &mut core.state.fpu;
    (fpu.control, fpu.status, fpu.top) = (0x27f, 0x4521, 3);
    (fpu.valid, fpu.opcode) = (0x48, 0x5aa);
    (fpu.instruction, fpu.operand) = (0x1122_3344_5566, 0x7788_99aa_bbcc);
    for n in 0..8_u8 {
        fpu.registers[usize::from(n)] = (u64::from(n) + 1, 0x4000 + u16::from(n));
    }
    for n in 0..16 {
        core.state.xmm[n] = u128::from(n as u64 + 1) << 64 | 7;
    }
    core.state.mxcsr = 0x5fa1;
    core.state.cr4 |= cr4::OSXSAVE;
    core.state.xcr0 = 3;
    (core.state.gpr[0], core.state.gpr[2]) = (u64::MAX, u64::MAX);
    core.tlb.ram().write(DATA, &[0xcc; 0x300]).unwrap();
}

fn image(cpu: &Cpu) -> Vec<u8> {
    let mut bytes = vec![0; 0x300];
    cpu.core().tlb.ram().read(DATA, &mut bytes).unwrap();
    bytes
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

#[test]
fn fxsave_writes_the_image_and_nothing_else() {
    let (cpu, _) = run(&[&FXSAVE64], fill);
    let bytes = image(&cpu);
    // FCW, FSW with TOP 3, abridged tags, FOP; then FIP, FDP, MXCSR, its mask.
    assert_eq!(bytes[..8], [0x7f, 0x02, 0x21, 0x5d, 0x48, 0, 0xaa, 0x05]);
    assert_eq!(u64_at(&bytes, 8), 0x1122_3344_5566);
    assert_eq!(u64_at(&bytes, 16), 0x7788_99aa_bbcc);
    assert_eq!(u64_at(&bytes, 24), 0xffff_0000_5fa1);
    for n in 0..8 {
        let physical = (n + 3) % 8;
        let at = 32 + 16 * n;
        assert_eq!(u64_at(&bytes, at), physical as u64 + 1);
        assert_eq!(u64_at(&bytes, at + 8), 0x4000 + physical as u64);
    }
    for n in 0..16 {
        let at = 160 + 16 * n;
        assert_eq!(u64_at(&bytes, at), 7);
        assert_eq!(u64_at(&bytes, at + 8), n as u64 + 1);
    }
    assert!(bytes[416..].iter().all(|byte| *byte == 0xcc));
}

#[test]
fn without_rex_w_pointers_are_short_and_selectors_zero() {
    let (cpu, _) = run(&[&FXSAVE], fill);
    let bytes = image(&cpu);
    assert_eq!(u64_at(&bytes, 8), 0x3344_5566);
    assert_eq!(u64_at(&bytes, 16), 0x99aa_bbcc);
}

#[test]
fn fxrstor_brings_back_what_fxsave_wrote() {
    let (full, _) = run(&[&FXSAVE64], fill);
    let bytes = image(&full);
    let (cpu, vector) = run(&[&FXRSTOR64], |core| {
        core.tlb.ram().write(DATA, &bytes).unwrap();
    });
    assert_eq!(vector, None);
    let (restored, saved) = (&cpu.core().state, &full.core().state);
    assert_eq!(restored.fpu, saved.fpu);
    assert_eq!(restored.xmm, saved.xmm);
    assert_eq!(restored.mxcsr, saved.mxcsr);
}

#[test]
fn a_restored_status_word_summarizes_by_the_control_word() {
    let restore = |control: u16, status: u16| {
        let (cpu, _) = run(&[&FXRSTOR64], |core| {
            let ram = core.tlb.ram();
            ram.store_u16(DATA, control).unwrap();
            ram.store_u16(DATA + 2, status).unwrap();
            ram.store_u32(DATA + 24, 0x1f80).unwrap();
        });
        (cpu.core().state.fpu.control, cpu.core().state.fpu.status)
    };
    assert_eq!(restore(0xffff, 0xffff), (0x1f7f, 0x477f));
    assert_eq!(restore(0, 0x0001), (0x40, 0x8081));
    assert_eq!(restore(0x37f, 0x8080), (0x37f, 0));
}

#[test]
fn reserved_bits_of_mxcsr_and_askew_areas_are_refused() {
    let (cpu, vector) = run(&[&FXRSTOR64], |core| {
        core.state.xmm[0] = 5;
        core.tlb.ram().store_u32(DATA + 24, 0x1_1f80).unwrap();
    });
    assert_eq!(vector, Some(vector::GP));
    assert_eq!(cpu.core().state.xmm[0], 5);
    let askew = |core: &mut Core| {
        fill(core);
        core.state.gpr[7] = DATA + 16;
    };
    assert_eq!(run(&[&FXSAVE64], askew).1, None);
    assert_eq!(run(&[&XSAVE64], askew).1, Some(vector::GP));
    let more_askew = |core: &mut Core| core.state.gpr[7] = DATA + 8;
    assert_eq!(run(&[&FXSAVE64], more_askew).1, Some(vector::GP));
}

#[test]
fn xsave_writes_what_it_is_asked_for() {
    let only = |mask: u64| {
        let (cpu, _) = run(&[&XSAVE64], |core| {
            fill(core);
            (core.state.gpr[0], core.state.gpr[2]) = (mask, 0);
            core.tlb.ram().store_u64(DATA + 512, 4).unwrap();
        });
        image(&cpu)
    };
    let untouched = [0xcc; 16];
    let x87 = only(1);
    assert_eq!(x87[..2], [0x7f, 0x02]);
    assert_eq!(x87[160..176], untouched);
    assert_eq!(x87[24..32], untouched[..8]);
    // What was not asked for keeps its bit in XSTATE_BV.
    assert_eq!(u64_at(&x87, 512), 5);
    let sse = only(2);
    assert_eq!(sse[..16], untouched);
    assert_eq!(sse[32..48], untouched);
    assert_eq!(u64_at(&sse, 24), 0xffff_0000_5fa1);
    assert_eq!(u64_at(&sse, 160), 7);
    assert_eq!(u64_at(&sse, 512), 6);
}

/// Restores from an area whose header has `present` and `compaction`.
fn restored(present: u64, compaction: u64) -> (Cpu, Option<u8>) {
    let (full, _) = run(&[&XSAVE64], fill);
    let bytes = image(&full);
    run(&[&XRSTOR64], |core| {
        fill(core);
        core.state.mxcsr = 0x1f80;
        let ram = core.tlb.ram();
        ram.write(DATA, &bytes).unwrap();
        ram.write(DATA + 512, &[0; 64]).unwrap();
        ram.store_u64(DATA + 512, present).unwrap();
        ram.store_u64(DATA + 520, compaction).unwrap();
        core.state.xmm[0] = 99;
        core.state.fpu.top = 6;
    })
}

#[test]
fn xrstor_initializes_what_is_not_present() {
    let (cpu, vector) = restored(3, 0);
    assert_eq!(vector, None);
    let state = &cpu.core().state;
    assert_eq!((state.xmm[0], state.fpu.top), (1 << 64 | 7, 3));
    let (cpu, vector) = restored(0, 0);
    assert_eq!(vector, None);
    let state = &cpu.core().state;
    assert_eq!(state.xmm[0], 0);
    assert_eq!((state.fpu.control, state.fpu.valid), (0x37f, 0));
    // MXCSR is loaded whenever SSE is asked for.
    assert_eq!(state.mxcsr, 0x5fa1);
}

#[test]
fn xrstor_refuses_components_and_forms_that_are_not_there() {
    assert_eq!(restored(4, 0).1, Some(vector::GP));
    assert_eq!(restored(3, 1 << 63 | 3).1, Some(vector::GP));
}
