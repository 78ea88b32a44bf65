//! Real mode: segments, the interrupt vector table, and the way into protected mode and back.

use hvf_sys::cpu::State;
use iced_x86::code_asm::*;

use super::*;
use crate::x86::vector::{DE, GP, UD};

#[test]
fn segments_are_sixteen_times_their_selector() {
    let mut guest = Guest::real();
    guest.ram.store_u16(0x1_2345, 0xbeef).unwrap();
    let end = guest.run(|a| {
        a.mov(ax, 0x1234).unwrap();
        a.mov(es, ax).unwrap();
        a.mov(bx, word_ptr(5).es()).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!((end, guest.gpr(3)), (End::Halted, 0xbeef));
}

#[test]
fn interrupts_go_through_the_table_and_iret_comes_back() {
    let mut guest = Guest::real();
    let handler = assemble(16, 0, |a| {
        a.mov(bx, 7).unwrap();
        a.iret().unwrap();
    });
    guest.ram.write(DATA + 0x100, &handler).unwrap();
    guest
        .ram
        .store_u32(4 * 0x21, ((DATA >> 4) as u32) << 16 | 0x100)
        .unwrap();
    guest.set_flags(rflags::IF | rflags::CF);
    let end = guest.run(|a| {
        a.int(0x21).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!((end, guest.gpr(3), guest.gpr(4)), (End::Halted, 7, 0xfff0));
    assert_eq!(
        guest.flags() & (rflags::IF | rflags::CF),
        rflags::IF | rflags::CF
    );
}

#[test]
fn faults_push_no_error_code() {
    let mut guest = Guest::real();
    let End::Fault(frame) = guest.run(|a| {
        a.nop().unwrap();
        a.div(cl).unwrap();
    }) else {
        panic!()
    };
    assert_eq!((frame.vector, frame.rip, frame.cs), (DE, 1, 0x1000));
    assert_eq!(guest.gpr(4), 0xfff0 - 6);
    let mut guest = Guest::real();
    guest.set_gpr(3, 0xffff);
    let End::Fault(frame) = guest.run(|a| a.mov(ax, word_ptr(bx)).unwrap()) else {
        panic!()
    };
    assert_eq!(
        (frame.vector, frame.rip),
        (GP, 0),
        "a word across the segment's end"
    );
    let mut guest = Guest::real();
    let End::Fault(frame) = guest.run(|a| a.db(&[0x0f, 0x00, 0xc0]).unwrap()) else {
        panic!()
    };
    assert_eq!(frame.vector, UD, "SLDT needs protection");
}

#[test]
fn a_vector_beyond_the_table_ends_in_a_shutdown_or_a_fault() {
    let mut guest = Guest::real();
    guest.state().idtr.limit = 4 * 0x20 - 1;
    let End::Fault(frame) = guest.run(|a| a.int(0x20).unwrap()) else {
        panic!()
    };
    assert_eq!((frame.vector, frame.rip), (GP, 0));
    let mut guest = Guest::real();
    guest.state().idtr.limit = 3;
    assert_eq!(guest.run(|a| a.int(0x20).unwrap()), End::Shutdown);
}

#[test]
fn instructions_do_not_run_over_the_end_of_the_segment() {
    let mut guest = Guest::real();
    guest.at(0xffff);
    let End::Fault(frame) = guest.run_bytes(&[0x90, 0x90]) else {
        panic!()
    };
    assert_eq!((frame.vector, frame.rip), (GP, 0), "16 bits of 0x10000");
}

#[test]
fn unreal_mode_keeps_the_limits_of_protected_mode() {
    let mut guest = Guest::real();
    guest.define(DATA0, descriptor(0, 0xf_ffff, DATA_RIGHTS | BIG));
    guest.ram.store_u32(USER_DATA, 0x1357_9bdf).unwrap();
    guest.ram.store_u16(DATA, 0xff).unwrap();
    guest.ram.store_u32(DATA + 2, GDT as u32).unwrap();
    let end = guest.run(|a| {
        a.db(&[0x66, 0x0f, 0x01, 0x16, 0, 0]).unwrap(); // lgdt [0], 32-bit
        a.mov(eax, cr0).unwrap();
        a.or(al, 1).unwrap();
        a.mov(cr0, eax).unwrap();
        a.mov(bx, u32::from(DATA0)).unwrap();
        a.mov(fs, bx).unwrap();
        a.and(al, 0xfeu32 as i32).unwrap();
        a.mov(cr0, eax).unwrap();
        a.xor(bx, bx).unwrap();
        a.mov(fs, bx).unwrap();
        a.mov(edi, USER_DATA as u32).unwrap();
        a.mov(edx, dword_ptr(edi).fs()).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!((end, guest.gpr(2)), (End::Halted, 0x1357_9bdf));
    assert_eq!(guest.cpu.core().segment(State::FS).limit, u32::MAX);
}

#[test]
fn code_left_behind_by_protected_mode_may_be_written_through_cs() {
    let mut guest = Guest::real();
    guest.state().segments[State::CS].rights = CODE_RIGHTS;
    let end = guest.run(|a| {
        a.mov(byte_ptr(0x100).cs(), 0x5a).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!(
        (end, guest.ram.load_u8(CODE + 0x100)),
        (End::Halted, Ok(0x5a))
    );
}

#[test]
fn init_keeps_the_cache_bits_and_the_rest_starts_over() {
    let mut guest = Guest::long(0);
    guest.state().cr0 |= cr0::CD;
    guest.state().msrs.lstar = CODE;
    guest.cpu.core_mut().reset(true);
    let state = guest.state();
    assert_eq!(state.cr0, cr0::CD | cr0::ET);
    assert_eq!(
        (state.rip, state.msrs.efer, state.msrs.lstar),
        (0xfff0, 0, CODE)
    );
    guest.cpu.core_mut().reset(false);
    assert_eq!(guest.state().cr0, cr0::CD | cr0::NW | cr0::ET);
}
