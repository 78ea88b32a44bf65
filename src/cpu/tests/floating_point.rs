//! What surrounds floating point arithmetic: which exception comes when, and what it leaves alone. (Results and flags are
//! compared with the host's processor, in hvf-sys/tests/oracle.)

use super::basics::{gpr, long};
use super::*;
use crate::cpu::core::Core;
use crate::x86::vector;

const DATA: u64 = 0x3_0000;
const HANDLERS: u64 = 0x6000;
const IDT: u64 = 0x5000;
const GDT: u64 = 0x3000;
const ONE: u128 = 0x3ff0_0000_0000_0000;
const THREE: u128 = 0x4008_0000_0000_0000;
const HLT: u8 = 0xf4;
const FLD1: [u8; 2] = [0xd9, 0xe8];
/// FLD1, FLDZ, FDIVP.
const DIVIDE_BY_ZERO: [u8; 6] = [0xd9, 0xe8, 0xd9, 0xee, 0xde, 0xf9];
const FNSTSW_AX: [u8; 2] = [0xdf, 0xe0];
const DIVSD_0_1: [u8; 4] = [0xf2, 0x0f, 0x5e, 0xc1];

/// Runs 64-bit code with RDI pointing to `DATA` until it halts, or meets the exception that comes back.
pub(super) fn run(code: &[&[u8]], prepare: impl FnOnce(&mut Core)) -> (Cpu, Option<u8>) {
    let mut cpu = long(&[code.concat(), vec![HLT]].concat());
    let ram = cpu.core().tlb.ram().clone();
    ram.store_u64(GDT + 8, 0x00af_9b00_0000_ffff).unwrap();
    for n in 0..32 {
        let handler = HANDLERS + 16 * n;
        ram.store_u64(IDT + 16 * n, handler | 8 << 16 | 0x8e00 << 32)
            .unwrap();
        ram.store_u8(handler, HLT).unwrap();
    }
    let mut regs = cpu.core().regs();
    (regs.gdtr.base, regs.idtr.base) = (GDT, IDT);
    (regs.gdtr.limit, regs.idtr.limit) = (0xff, 0x1ff);
    regs.cr4 |= cr4::OSXMMEXCPT;
    regs.gprs[7] = DATA;
    cpu.core_mut().set_regs(&regs);
    cpu.core_mut().state.fpu = hvf_sys::cpu::Fpu {
        control: 0x37f,
        ..Default::default()
    };
    prepare(cpu.core_mut());
    assert_eq!(cpu.run(&mut Notes::default(), None), Stop::Halt);
    let at = cpu.core().state.rip.wrapping_sub(HANDLERS);
    let vector = (at < 0x200).then_some((at / 16) as u8);
    (cpu, vector)
}

/// The address at which the exception was met.
fn interrupted(cpu: &Cpu) -> u64 {
    let core = cpu.core();
    core.tlb.ram().load_u64(core.state.gpr[4]).unwrap()
}

#[test]
fn an_unmasked_simd_exception_writes_its_flag_alone() {
    let unmasked = |core: &mut Core| {
        core.state.xmm[0] = ONE;
        core.state.mxcsr = 0x1f80 & !(1 << 9);
    };
    let (cpu, vector) = run(&[&DIVSD_0_1], unmasked);
    assert_eq!(vector, Some(vector::XM));
    assert_eq!(interrupted(&cpu), CODE);
    assert_eq!(cpu.core().state.xmm[0], ONE);
    assert_eq!(cpu.core().state.mxcsr, 0x1d84);
    let (cpu, vector) = run(&[&DIVSD_0_1], |core| {
        unmasked(core);
        core.state.cr4 &= !cr4::OSXMMEXCPT;
    });
    assert_eq!(vector, Some(vector::UD));
    assert_eq!(cpu.core().state.xmm[0], ONE);
}

#[test]
fn flags_that_the_guest_cleared_stay_clear() {
    // divsd xmm0, xmm1 (inexact); ldmxcsr [rdi]; addsd xmm1, xmm1; stmxcsr [rdi + 4]
    let code: [&[u8]; 4] = [
        &DIVSD_0_1,
        &[0x0f, 0xae, 0x17],
        &[0xf2, 0x0f, 0x58, 0xc9],
        &[0x0f, 0xae, 0x5f, 4],
    ];
    let (cpu, vector) = run(&code, |core| {
        (core.state.xmm[0], core.state.xmm[1]) = (ONE, THREE);
        core.tlb.ram().store_u32(DATA, 0x1f80).unwrap();
    });
    assert_eq!(vector, None);
    assert_eq!(cpu.core().tlb.ram().load_u32(DATA + 4), Ok(0x1f80));
    let (cpu, _) = run(&code[..1], |core| {
        (core.state.xmm[0], core.state.xmm[1]) = (ONE, THREE);
    });
    assert_eq!(cpu.core().state.mxcsr, 0x1fa0);
}

#[test]
fn who_may_use_sse() {
    let with = |change: fn(&mut Core)| run(&[&DIVSD_0_1], change).1;
    assert_eq!(with(|core| core.state.cr0 |= cr0::TS), Some(vector::NM));
    assert_eq!(with(|core| core.state.cr0 |= cr0::EM), Some(vector::UD));
    assert_eq!(
        with(|core| core.state.cr4 &= !cr4::OSFXSR),
        Some(vector::UD)
    );
    assert_eq!(with(|_| {}), None);
}

#[test]
fn only_whole_registers_need_aligned_memory() {
    let askew = |core: &mut Core| core.state.gpr[7] = DATA + 4;
    assert_eq!(run(&[&[0x0f, 0x58, 0x07]], askew).1, Some(vector::GP));
    assert_eq!(run(&[&[0xf2, 0x0f, 0x58, 0x07]], askew).1, None);
}

#[test]
fn an_x87_error_waits_for_the_next_waiting_instruction() {
    let unmasked = |core: &mut Core| core.state.fpu.control = 0x37b;
    let code: [&[u8]; 3] = [&DIVIDE_BY_ZERO, &FNSTSW_AX, &FLD1];
    let (cpu, vector) = run(&code, unmasked);
    assert_eq!(vector, Some(vector::MF));
    assert_eq!(interrupted(&cpu), CODE + 8);
    // Two pushes, and no pop: ES, B and ZE with TOP 6.
    assert_eq!(gpr(&cpu, 0) & 0xffff, 0xb084);
    let fwait: [&[u8]; 2] = [&DIVIDE_BY_ZERO, &[0x9b]];
    assert_eq!(run(&fwait, unmasked).1, Some(vector::MF));
    let movq: [&[u8]; 2] = [&DIVIDE_BY_ZERO, &[0x0f, 0x6f, 0xc1]];
    assert_eq!(run(&movq, unmasked).1, Some(vector::MF));
    let fnclex: [&[u8]; 3] = [&DIVIDE_BY_ZERO, &[0xdb, 0xe2], &FLD1];
    assert_eq!(run(&fnclex, unmasked).1, None);
    let without_ne = |core: &mut Core| {
        unmasked(core);
        core.state.cr0 &= !cr0::NE;
    };
    assert_eq!(run(&code, without_ne).1, None);
    assert_eq!(run(&code, |_| {}).1, None);
}

#[test]
fn who_may_use_the_x87() {
    let with = |code: &[u8], bits: u64| run(&[code], |core| core.state.cr0 |= bits).1;
    for code in [FLD1, FNSTSW_AX] {
        assert_eq!(with(&code, cr0::TS), Some(vector::NM));
        assert_eq!(with(&code, cr0::EM), Some(vector::NM));
        assert_eq!(with(&code, cr0::MP), None);
    }
    let fwait = [0x9b];
    assert_eq!(with(&fwait, cr0::TS), None);
    assert_eq!(with(&fwait, cr0::EM), None);
    assert_eq!(with(&fwait, cr0::TS | cr0::MP), Some(vector::NM));
}

#[test]
fn a_store_that_faults_pops_nothing() {
    // fstp tbyte [rdi], whose last bytes are in a page that is not there, and whose first are a device's
    let (cpu, vector) = run(&[&FLD1, &[0xdb, 0x3f]], |core| {
        core.state.gpr[7] = 0x3fff_fffc;
    });
    assert_eq!(vector, Some(vector::PF));
    assert_eq!(cpu.core().state.cr2, 0x4000_0000);
    assert_eq!(
        (cpu.core().state.fpu.top, cpu.core().state.fpu.valid),
        (7, 0x80)
    );
}

#[test]
fn an_unmasked_error_leaves_its_pointers() {
    // fdiv dword [rdi + 8], with a prefix that is none of the opcode's
    let code: [&[u8]; 2] = [&FLD1, &[0x3e, 0xd8, 0x77, 8]];
    let (cpu, _) = run(&code, |_| {});
    let masked = cpu.core().state.fpu;
    assert_eq!(
        (masked.instruction, masked.operand, masked.opcode),
        (CODE + 2, 0, 0)
    );
    let (cpu, _) = run(&code, |core| core.state.fpu.control = 0x37b);
    let unmasked = cpu.core().state.fpu;
    assert_eq!(
        (unmasked.instruction, unmasked.operand, unmasked.opcode),
        (CODE + 2, DATA + 8, 0x077)
    );
}

/// Real-mode code at 1F00:0000 with DS at 0x2_0000.
fn real(code: &[u8]) -> Cpu {
    let mut cpu = cpu();
    cpu.core().tlb.ram().write(0x1_f000, code).unwrap();
    cpu.core_mut().start_ap(0x1f);
    let core = cpu.core_mut();
    core.state.segments[State::DS].base = 0x2_0000;
    core.state.fpu = hvf_sys::cpu::Fpu {
        control: 0x37b,
        ..Default::default()
    };
    assert_eq!(cpu.run(&mut Notes::default(), None), Stop::Halt);
    cpu
}

#[test]
fn environments_of_real_mode_hold_linear_addresses() {
    // fld1; fdiv dword [0x200]; fnstenv [0x100] in both sizes, the second one after all exceptions were masked
    let cpu = real(&[
        0xd9, 0xe8, 0xd8, 0x36, 0x00, 0x02, 0xd9, 0x36, 0x00, 0x01, 0x66, 0xd9, 0x36, 0x40, 0x01,
        0xf4,
    ]);
    let ram = cpu.core().tlb.ram();
    let mut narrow = [0; 14];
    ram.read(0x2_0100, &mut narrow).unwrap();
    let words: Vec<u16> = narrow
        .chunks(2)
        .map(|w| u16::from_le_bytes([w[0], w[1]]))
        .collect();
    assert_eq!(
        words,
        [0x37b, 0xb884, 0x3fff, 0xf002, 0x1036, 0x0200, 0x2000]
    );
    let wide: Vec<u32> = (0..7)
        .map(|n| ram.load_u32(0x2_0140 + 4 * n).unwrap())
        .collect();
    assert_eq!(
        wide,
        [
            0xffff_037f,
            0xffff_3804,
            0xffff_3fff,
            0xffff_f002,
            0x0000_1036,
            0xffff_0200,
            0x0000_2000
        ]
    );
}

#[test]
fn environments_come_back() {
    for prefix in [&[][..], &[0x66]] {
        // fld1; fdiv dword [0x200]; fnstenv [0x100]; fninit; fldenv [0x100]; hlt
        let code = [
            &[0xd9, 0xe8, 0xd8, 0x36, 0x00, 0x02],
            prefix,
            &[0xd9, 0x36, 0x00, 0x01, 0xdb, 0xe3],
            prefix,
            &[0xd9, 0x26, 0x00, 0x01, 0xf4],
        ]
        .concat();
        let cpu = real(&code);
        let fpu = cpu.core().state.fpu;
        assert_eq!((fpu.control, fpu.status, fpu.top), (0x37b, 0x8084, 7));
        assert_eq!(fpu.valid, 0x80);
        assert_eq!(
            (fpu.instruction, fpu.operand, fpu.opcode),
            (0x1_f002, 0x2_0200, 0x036)
        );
    }
}

#[test]
fn saving_initializes_and_restoring_brings_it_back() {
    // fld1; fldpi; fnsave [rdi]; frstor [rdi]; fnsave [rdi + 0x80]
    let code: [&[u8]; 4] = [
        &[0xd9, 0xe8, 0xd9, 0xeb],
        &[0xdd, 0x37],
        &[0xdd, 0x27],
        &[0xdd, 0xb7, 0x80, 0, 0, 0],
    ];
    let (cpu, _) = run(&code, |_| {});
    let ram = cpu.core().tlb.ram();
    let (mut first, mut second) = ([0; 108], [0; 108]);
    ram.read(DATA, &mut first).unwrap();
    ram.read(DATA + 0x80, &mut second).unwrap();
    assert_eq!(first, second);
    assert_eq!(
        first[28..38],
        [0x35, 0xc2, 0x68, 0x21, 0xa2, 0xda, 0x0f, 0xc9, 0, 0x40]
    );
    assert_eq!(first[38..48], [0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f]);
    assert_eq!(first[4..6], [0, 0x30], "TOP is 6");
    assert_eq!(first[8..10], [0xff, 0x0f]);
    let fpu = cpu.core().state.fpu;
    assert_eq!((fpu.control, fpu.status, fpu.top), (0x37f, 0, 0));
    assert_eq!((fpu.valid, fpu.instruction), (0, 0));
}
