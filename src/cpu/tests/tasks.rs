//! Hardware task switches: by jumps, calls, returns and gates, with 32-bit and 16-bit TSS.

use hvf_sys::cpu::State;
use iced_x86::code_asm::*;

use super::*;
use crate::x86::segment;
use crate::x86::vector::{DB, GP, NP, TS, UD};

const TSS2: u64 = 0x5000;
/// The selector of the other task, of a task gate to it.
const OTHER: u16 = FREE;
const GATE: u16 = FREE + 8;
const ENTRY: u64 = CODE + 0x800;
const STACK2: u64 = 0xb000;

/// A guest with a second task, of 32 bits or 16, that begins at `ENTRY` with these bytes.
fn guest(wide: bool, code: &[u8]) -> Guest {
    let guest = Guest::protected(0);
    guest.ram.write(ENTRY, code).unwrap();
    let word = |n: u64, value: u64| {
        if wide {
            guest
                .ram
                .store_u32(TSS2 + 28 + 4 * n, value as u32)
                .unwrap();
        } else if n > 0 {
            guest
                .ram
                .store_u16(TSS2 + 12 + 2 * n, value as u16)
                .unwrap();
        }
    };
    let entry = if wide { ENTRY } else { ENTRY & 0xffff };
    word(1, entry);
    word(2, rflags::FIXED | rflags::CF);
    for register in 0..8 {
        word(3 + register, 0x100 + register);
    }
    word(7, STACK2);
    let code_segment = if wide { CODE0 } else { CODE16 };
    for (n, selector) in [DATA0, code_segment, DATA0, DATA0].into_iter().enumerate() {
        word(11 + n as u64, selector.into());
    }
    let (kind, limit) = if wide { (0x89, 103) } else { (0x81, 43) };
    guest.define(OTHER, descriptor(TSS2, limit, kind));
    guest.define(GATE, u64::from(OTHER) << 16 | 0x85 << 40);
    guest
}

fn far(guest: &Guest, selector: u16) {
    guest.ram.store_u16(DATA + 4, selector).unwrap();
}

/// The type of a task's descriptor: 2 is added where it is busy.
fn kind(guest: &Guest, selector: u16) -> u16 {
    segment::rights(guest.ram.load_u64(GDT + u64::from(selector)).unwrap()) & 15
}

#[test]
fn a_jump_leaves_the_old_task_available() {
    for (wide, selector) in [(true, OTHER), (false, OTHER), (true, GATE)] {
        let mut guest = guest(wide, &[0xf4]);
        far(&guest, selector);
        guest.set_gpr(3, 0xabcd);
        assert_eq!(guest.run(|a| a.jmp(fword_ptr(DATA)).unwrap()), End::Halted);
        assert_eq!((kind(&guest, TASK), kind(&guest, OTHER) & 7), (9, 3));
        assert_eq!(guest.selector(State::TR), OTHER);
        assert_eq!(guest.gpr(3) & 0xffff, 0x103);
        assert_eq!(guest.flags() & (rflags::NT | rflags::CF), rflags::CF);
        assert_ne!(guest.state().cr0 & cr0::TS, 0);
        assert_eq!(
            guest.ram.load_u32(TSS + 32),
            Ok(CODE as u32 + 6),
            "where the old task goes on"
        );
        assert_eq!(guest.ram.load_u32(TSS + 52), Ok(0xabcd));
        assert_eq!(guest.ram.load_u16(TSS + 76), Ok(CODE0));
    }
}

#[test]
fn a_call_nests_and_iret_returns() {
    for wide in [true, false] {
        // IRET; HLT: when called again the task goes on behind its IRET.
        let mut guest = guest(wide, &[0xcf, 0xf4]);
        far(&guest, OTHER);
        let end = guest.run(|a| {
            a.mov(ebx, 0x77).unwrap();
            a.call(fword_ptr(DATA)).unwrap();
            a.hlt().unwrap();
        });
        assert_eq!((end, guest.gpr(3)), (End::Halted, 0x77));
        assert_eq!(guest.selector(State::TR), TASK);
        assert_eq!((kind(&guest, TASK), kind(&guest, OTHER) & 7), (11, 1));
        assert_eq!(guest.ram.load_u16(TSS2), Ok(TASK), "the back link");
        assert_eq!(guest.flags() & rflags::NT, 0);
        let saved = guest
            .ram
            .load_u16(TSS2 + if wide { 36 } else { 16 })
            .unwrap();
        assert_eq!(u64::from(saved) & rflags::NT, 0, "IRET saves NT clear");
    }
}

#[test]
fn an_exception_through_a_task_gate_pushes_its_error_code_there() {
    let mut guest = guest(true, &[0xf4]);
    guest.set_gate(GP, OTHER, 0, 0x85);
    guest.set_gpr(0, 0x100);
    let end = guest.run(|a| a.mov(ds, eax).unwrap());
    assert_eq!(end, End::Halted);
    assert_eq!(guest.gpr(4), STACK2 - 4);
    assert_eq!(guest.ram.load_u32(STACK2 - 4), Ok(0x100));
    assert_ne!(guest.flags() & rflags::NT, 0);
    assert_eq!(
        guest.ram.load_u32(TSS + 32),
        Ok(CODE as u32),
        "the instruction that faulted"
    );
    let saved = u64::from(guest.ram.load_u32(TSS + 36).unwrap());
    assert_ne!(saved & rflags::RF, 0);
}

#[test]
fn tasks_that_cannot_be_switched_to() {
    let fault = |change: fn(&Guest)| {
        let mut guest = guest(true, &[0xf4]);
        far(&guest, OTHER);
        change(&guest);
        let End::Fault(frame) = guest.run(|a| a.jmp(fword_ptr(DATA)).unwrap()) else {
            panic!()
        };
        assert_eq!(
            (frame.rip, guest.selector(State::TR)),
            (CODE, TASK),
            "in the old task"
        );
        (frame.vector, frame.error)
    };
    let other = u64::from(OTHER);
    assert_eq!(
        fault(|g| g.define(OTHER, descriptor(TSS2, 103, 0x8b))),
        (GP, other),
        "busy"
    );
    assert_eq!(
        fault(|g| g.define(OTHER, descriptor(TSS2, 103, 0x09))),
        (NP, other)
    );
    assert_eq!(
        fault(|g| g.define(OTHER, descriptor(TSS2, 102, 0x89))),
        (TS, other)
    );
}

#[test]
fn a_bad_task_faults_in_its_own_context() {
    let fault = |change: fn(&Guest)| {
        let mut guest = guest(true, &[0x0f, 0x0b]);
        far(&guest, OTHER);
        change(&guest);
        let End::Fault(frame) = guest.run(|a| a.jmp(fword_ptr(DATA)).unwrap()) else {
            panic!()
        };
        assert_eq!((frame.rip, guest.selector(State::TR)), (ENTRY, OTHER));
        (frame.vector, frame.error)
    };
    assert_eq!(fault(|_| {}), (UD, 0));
    let data = |g: &Guest| g.ram.store_u16(TSS2 + 84, 0x100).unwrap();
    assert_eq!(fault(data), (TS, 0x100), "DS");
    let trap = |g: &Guest| g.ram.store_u16(TSS2 + 100, 1).unwrap();
    assert_eq!(fault(trap), (DB, 0), "the T bit");
}
