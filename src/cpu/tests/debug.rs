//! Debug registers, single-step, the shadows of STI and MOV SS, RF.

use iced_x86::code_asm::*;

use super::*;
use crate::x86::control::{dr6, dr7};
use crate::x86::vector::{DB, GP};

/// Arms breakpoint 0 with R/W and LEN fields.
fn watch(guest: &mut Guest, at: u64, kind: u64, len: u64) {
    guest.state().breakpoints[0] = at;
    guest.state().dr7 = dr7::FIXED | 1 | (kind | len << 2) << dr7::FIELDS_SHIFT;
    let core = guest.cpu.core_mut();
    core.flush_all();
    core.update_mode();
}

/// The debug exception that a program ends in: the address that it tells, and DR6 without its fixed bits.
fn trap(guest: &mut Guest, program: impl FnOnce(&mut CodeAssembler)) -> (u64, u64) {
    match guest.run(program) {
        End::Fault(frame) if frame.vector == DB => (frame.rip, guest.state().dr6 & !dr6::FIXED),
        end => panic!("{end:?}"),
    }
}

#[test]
fn single_step_traps_after_each_instruction() {
    let mut guest = Guest::long(0);
    guest.set_flags(rflags::TF);
    let told = trap(&mut guest, |a| {
        a.nop().unwrap();
        a.nop().unwrap();
    });
    assert_eq!(told, (CODE + 1, dr6::BS));
    assert_eq!(guest.flags() & rflags::TF, 0, "handlers are not stepped");
    // POPF that sets TF is not itself stepped; what follows is.
    let mut guest = Guest::long(0);
    let told = trap(&mut guest, |a| {
        a.push(0x102).unwrap();
        a.popfq().unwrap();
        a.nop().unwrap();
        a.nop().unwrap();
    });
    assert_eq!(told.0, CODE + 7);
}

#[test]
fn single_step_sees_every_iteration_of_a_string() {
    let mut guest = Guest::long(0);
    guest.set_flags(rflags::TF);
    guest.set_gpr(1, 3);
    guest.set_gpr(6, DATA);
    guest.set_gpr(7, DATA + 0x100);
    let told = trap(&mut guest, |a| {
        a.rep().movsb().unwrap();
        a.nop().unwrap();
    });
    assert_eq!((told.0, guest.gpr(1)), (CODE, 2));
    let frame = guest.frame(DB);
    assert_ne!(frame.flags & rflags::RF, 0, "more iterations are to come");
}

#[test]
fn single_step_of_system_calls_is_decided_by_the_mask() {
    for (mask, expected) in [(rflags::TF, None), (0, Some(CODE))] {
        let mut guest = Guest::long(3);
        guest.state().msrs.star = u64::from(CODE0) << 32;
        guest.state().msrs.lstar = CODE;
        guest.state().msrs.fmask = mask;
        guest.ram.write(CODE, &[0xf4]).unwrap();
        guest.set_flags(rflags::TF);
        let told = match guest.run(|a| a.syscall().unwrap()) {
            End::Fault(frame) => Some(frame.rip),
            _ => None,
        };
        assert_eq!(told, expected);
    }
    // Software interrupts clear TF before there is a trap.
    let mut guest = Guest::long(0);
    guest.set_flags(rflags::TF);
    let end = guest.run(|a| a.int(0x40).unwrap());
    assert!(matches!(end, End::Fault(Frame { vector: 0x40, .. })));
    assert_ne!(guest.frame(0x40).flags & rflags::TF, 0);
}

#[test]
fn a_stepped_halt_wakes_at_once() {
    let mut guest = Guest::long(0);
    guest.set_flags(rflags::TF);
    assert_eq!(trap(&mut guest, |a| a.hlt().unwrap()), (CODE + 1, dr6::BS));
}

#[test]
fn an_instruction_breakpoint_faults_once_and_rf_lets_it_through() {
    let mut guest = Guest::long(0);
    watch(&mut guest, CODE + 1, dr7::EXECUTE, 0);
    let told = trap(&mut guest, |a| {
        a.nop().unwrap();
        a.inc(rax).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!(told, (CODE + 1, 1));
    assert_eq!(guest.gpr(0), 0, "before the instruction");
    assert_eq!(guest.frame(DB).flags & rflags::RF, 0);
    guest.at(CODE + 1).set_flags(rflags::RF);
    assert_eq!(guest.go(), End::Halted);
    assert_eq!((guest.gpr(0), guest.flags() & rflags::RF), (1, 0));
}

#[test]
fn a_breakpoint_at_a_string_instruction_hits_once() {
    let mut guest = Guest::long(0);
    guest.set_gpr(1, 5);
    guest.set_gpr(7, DATA);
    watch(&mut guest, CODE, dr7::EXECUTE, 0);
    assert_eq!(
        trap(&mut guest, |a| {
            a.rep().stosb().unwrap();
            a.hlt().unwrap();
        }),
        (CODE, 1)
    );
    guest.at(CODE).set_flags(rflags::RF);
    assert_eq!(guest.go(), End::Halted);
    assert_eq!(guest.gpr(1), 0);
}

#[test]
fn data_breakpoints_trap_after_the_access() {
    type Program = fn(&mut CodeAssembler);
    let store: Program = |a| a.mov(byte_ptr(DATA + 3), al).unwrap();
    let load: Program = |a| a.mov(al, byte_ptr(DATA + 3)).unwrap();
    let beside: Program = |a| a.mov(byte_ptr(DATA + 4), al).unwrap();
    let across: Program = |a| a.mov(dword_ptr(DATA - 3), eax).unwrap();
    for (kind, program, hits) in [
        (dr7::WRITE, store, true),
        (dr7::WRITE, load, false),
        (dr7::WRITE, across, true),
        (dr7::ACCESS, load, true),
        (dr7::ACCESS, store, true),
        (dr7::ACCESS, beside, false),
    ] {
        let mut guest = Guest::long(0);
        watch(&mut guest, DATA, kind, 3);
        let end = guest.run(|a| {
            program(a);
            a.hlt().unwrap();
        });
        let trapped = matches!(end, End::Fault(Frame { vector: DB, .. }));
        assert_eq!(trapped, hits, "{kind}");
        assert_eq!(guest.state().dr6 & 15, u64::from(hits));
    }
}

#[test]
fn port_breakpoints_need_cr4_de() {
    for (bits, hits) in [(cr4::DE, 1), (0, 0)] {
        let mut guest = Guest::long(0).with_cr4(bits);
        watch(&mut guest, 0x80, dr7::PORT, 0);
        guest.run(|a| {
            a.out(0x80, al).unwrap();
            a.hlt().unwrap();
        });
        assert_eq!(guest.state().dr6 & 15, hits);
        assert_eq!(guest.notes.heard.len(), 1);
    }
}

#[test]
fn a_load_of_ss_holds_debug_exceptions_until_the_next_instruction_is_done() {
    let mut guest = Guest::long(0);
    guest.ram.store_u16(DATA, DATA0).unwrap();
    watch(&mut guest, DATA, dr7::ACCESS, 1);
    let told = trap(&mut guest, |a| {
        a.mov(ss, word_ptr(DATA)).unwrap();
        a.nop().unwrap();
        a.nop().unwrap();
    });
    assert_eq!(told, (CODE + 8, 1));
    let mut guest = Guest::long(0);
    guest.set_gpr(0, DATA0.into());
    guest.set_flags(rflags::TF);
    let told = trap(&mut guest, |a| {
        a.mov(ss, eax).unwrap();
        a.nop().unwrap();
        a.nop().unwrap();
    });
    assert_eq!(told, (CODE + 3, dr6::BS));
}

#[test]
fn sti_does_not_hold_a_single_step() {
    let mut guest = Guest::long(0);
    guest.set_flags(rflags::TF);
    assert_eq!(trap(&mut guest, |a| a.sti().unwrap()), (CODE + 1, dr6::BS));
}

#[test]
fn an_interrupt_waits_for_the_instruction_after_sti() {
    let mut guest = Guest::long(0);
    let code = assemble(64, CODE, |a| {
        a.sti().unwrap();
        a.nop().unwrap();
        a.nop().unwrap();
        a.hlt().unwrap();
    });
    guest.ram.write(CODE, &code).unwrap();
    guest.cpu.core_mut().window = true;
    let stop = guest.cpu.run(&mut guest.notes, None);
    assert_eq!((stop, guest.state().rip), (Stop::WindowOpen, CODE + 2));
    // STI where interrupts are enabled already has no shadow.
    guest.at(CODE).set_flags(rflags::IF);
    guest.cpu.core_mut().window = false;
    assert_eq!(guest.go(), End::Halted);
    assert!(guest.cpu.core().interruptible());
}

#[test]
fn an_nmi_waits_behind_a_load_of_ss_and_blocks_others_until_iret() {
    let mut guest = Guest::long(0);
    guest.set_gpr(0, DATA0.into());
    let code = assemble(64, CODE, |a| {
        a.nop().unwrap();
        a.nop().unwrap();
        a.hlt().unwrap();
    });
    guest.ram.write(CODE, &code).unwrap();
    let core = guest.cpu.core_mut();
    core.begin_shadow(true);
    core.nmi_pending = true;
    let End::Fault(frame) = guest.go() else {
        panic!()
    };
    assert_eq!((frame.vector, frame.rip), (vector::NMI, CODE + 1));
    // The second one comes only after IRET, and then at once.
    guest.cpu.core_mut().nmi_pending = true;
    guest
        .ram
        .write(
            HANDLERS + 3,
            &assemble(64, HANDLERS + 3, |a| {
                a.iretq().unwrap();
            }),
        )
        .unwrap();
    let stop = guest.cpu.run(&mut guest.notes, None);
    assert_eq!(stop, Stop::Kicked);
    assert_eq!(guest.state().rip, CODE + 1);
    let stop = guest.cpu.run(&mut guest.notes, None);
    assert_eq!((stop, guest.state().rip), (Stop::Halt, HANDLERS + 3));
}

#[test]
fn a_stepped_instruction_that_faults_is_not_trapped_too() {
    let mut guest = Guest::long(3);
    guest.set_flags(rflags::TF);
    let End::Fault(frame) = guest.run(|a| a.cli().unwrap()) else {
        panic!()
    };
    assert_eq!((frame.vector, frame.rip), (GP, USER));
}
