//! One instruction at a time, as a hardware vCPU's exits have them executed.

use hvf_sys::cpu::Op;
use hvf_sys::ram::{CodeMark, PAGE};
use iced_x86::code_asm::*;

use super::*;
use crate::cpu::emulate::{Event, Source};
use crate::x86::control::dr7;
use crate::x86::vector::{BP, DB, DE, GP, PF};

impl Guest {
    /// Puts a program at RIP and executes so many instructions of it, each fetched anew.
    fn emulate(&mut self, count: usize, program: impl FnOnce(&mut CodeAssembler)) -> Option<Stop> {
        self.put(program);
        let mut stop = None;
        for _ in 0..count {
            assert_eq!(stop, None);
            let fetched = self.cpu.fetch_one(&mut self.notes);
            stop = self.cpu.execute_one(&mut self.notes, fetched);
        }
        stop
    }

    fn put(&mut self, program: impl FnOnce(&mut CodeAssembler)) {
        let bits = match self.mode {
            Mode::Real => 16,
            Mode::Protected => 32,
            Mode::Long => 64,
        };
        let regs = self.cpu.core().regs();
        let at = if self.mode == Mode::Real {
            regs.cs.base
        } else {
            0
        } + regs.rip;
        self.ram
            .write(at, &assemble(bits, regs.rip, program))
            .unwrap();
    }

    fn rip(&self) -> u64 {
        self.cpu.core().state.rip
    }
}

#[test]
fn one_instruction_makes_its_device_access_and_no_more() {
    let mut guest = Guest::protected(0);
    guest.set_gpr(3, RAM + 0x10);
    let stop = guest.emulate(1, |a| {
        a.mov(dword_ptr(ebx), 0x1234).unwrap();
        a.mov(dword_ptr(ebx), 0x5678).unwrap();
    });
    assert_eq!(stop, None);
    assert_eq!(guest.notes.heard, [(RAM + 0x10, 0x1234)]);
    assert_eq!(guest.rip(), CODE + 6);
}

#[test]
fn code_that_has_changed_in_between_is_fetched_anew_and_watched_by_nobody() {
    let mut guest = Guest::long(0);
    for value in [5, 6] {
        guest.emulate(1, |a| {
            a.mov(eax, value).unwrap();
            a.nop().unwrap();
        });
        assert_eq!(guest.gpr(0), u64::from(value as u32));
        guest.cpu.core_mut().state.rip = CODE;
    }
    // A page that somebody may write to unseen is not made code.
    assert!(guest.cpu.core_mut().tlb.ram().code_generation(CODE) == 0);
    assert_eq!(guest.ram.mark_code(CODE, 8), CodeMark::Watched(0));
}

/// The translation that an instruction used is not used for the next one, though nobody said INVLPG.
#[test]
fn translations_are_fresh() {
    let mut guest = Guest::long(0);
    guest.ram.store_u32(DATA, 1).unwrap();
    guest.ram.store_u32(DATA + PAGE, 2).unwrap();
    guest.set_gpr(3, DATA);
    guest.emulate(1, |a| {
        a.mov(eax, dword_ptr(rbx)).unwrap();
        a.mov(ecx, dword_ptr(rbx)).unwrap();
    });
    guest
        .ram
        .store_u64(PT + 8 * (DATA >> 12), DATA + PAGE | 3)
        .unwrap();
    let fetched = guest.cpu.fetch_one(&mut guest.notes);
    assert_eq!(fetched.op(), Some(Op::Mov));
    guest.cpu.execute_one(&mut guest.notes, fetched);
    assert_eq!((guest.gpr(0), guest.gpr(1)), (1, 2));
}

#[test]
fn faults_go_to_the_guests_handler() {
    let mut guest = Guest::long(0);
    assert_eq!(guest.emulate(1, |a| a.div(cl).unwrap()), None);
    assert_eq!(guest.rip(), HANDLERS + u64::from(DE));
    guest.ram.store_u64(PT + 8 * (CODE >> 12), 0).unwrap();
    guest.cpu.core_mut().state.rip = CODE;
    let fetched = guest.cpu.fetch_one(&mut guest.notes);
    assert_eq!(fetched.op(), None);
    guest.cpu.execute_one(&mut guest.notes, fetched);
    assert_eq!(guest.rip(), HANDLERS + u64::from(PF));
    assert_eq!(guest.cpu.core().state.cr2, CODE);
}

#[test]
fn an_instruction_may_cross_pages_but_not_the_code_segments_limit() {
    let mut guest = Guest::real();
    guest.cpu.core_mut().state.rip = 0xffe;
    guest.emulate(1, |a| a.mov(bx, 0x1234).unwrap());
    assert_eq!((guest.gpr(3), guest.rip()), (0x1234, 0x1001));
    let core = guest.cpu.core_mut();
    core.state.segments[State::CS].limit = 0xfff;
    core.state.rip = 0xffe;
    guest.emulate(1, |a| a.mov(bx, 0x5678).unwrap());
    assert_eq!(guest.gpr(3), 0x1234);
    assert_eq!(guest.rip(), (HANDLERS + u64::from(GP)) & 15);
}

#[test]
fn halting_and_shutting_down_are_told() {
    let mut guest = Guest::long(0);
    assert_eq!(guest.emulate(1, |a| a.hlt().unwrap()), Some(Stop::Halt));
    assert_eq!(guest.rip(), CODE + 1);
    guest.cpu.core_mut().state.idtr.limit = 0;
    assert_eq!(
        guest.emulate(1, |a| a.ud2().unwrap()),
        Some(Stop::TripleFault)
    );
}

#[test]
fn a_repeated_instruction_goes_on_where_it_was_left() {
    let mut guest = Guest::long(0);
    guest.ram.write(DATA, b"abc").unwrap();
    guest.set_gpr(6, DATA);
    guest.set_gpr(1, 3);
    guest.set_gpr(2, 0x80);
    guest.emulate(1, |a| a.rep().outsb().unwrap());
    let bytes = b"abc".map(|b| (0x80, u64::from(b)));
    assert_eq!((&guest.notes.heard[..], guest.gpr(1)), (&bytes[..], 0));
    // While single-stepping, it traps after each iteration.
    guest.cpu.core_mut().state.rip = CODE;
    guest.set_gpr(6, DATA);
    guest.set_gpr(1, 3);
    guest.set_flags(rflags::TF);
    guest.emulate(1, |a| a.rep().outsb().unwrap());
    assert_eq!((guest.gpr(1), guest.rip()), (2, HANDLERS + u64::from(DB)));
}

#[test]
fn a_shadow_ends_and_a_new_one_is_left_behind() {
    let mut guest = Guest::long(0);
    guest.cpu.core_mut().begin_shadow(true);
    guest.emulate(1, |a| a.nop().unwrap());
    assert!(!guest.cpu.core().shadow && !guest.cpu.core().stack_shadow);
    guest.emulate(1, |a| a.sti().unwrap());
    assert!(guest.cpu.core().shadow && !guest.cpu.core().stack_shadow);
}

/// Hardware has looked at instruction breakpoints already; data breakpoints are looked at here.
#[test]
fn breakpoints_on_data_hit_and_those_on_the_instruction_do_not() {
    let mut guest = Guest::long(0);
    let core = guest.cpu.core_mut();
    core.state.breakpoints = [CODE, DATA, 0, 0];
    // Execution at the first, four bytes written at the second.
    core.state.dr7 = dr7::FIXED | 0xa | 0xd0_0000;
    core.update_mode();
    guest.set_gpr(3, DATA);
    guest.emulate(1, |a| a.mov(dword_ptr(rbx), 1).unwrap());
    assert_eq!(guest.rip(), HANDLERS + u64::from(DB));
    assert_eq!(guest.cpu.core().state.dr6 & 0xf, 2);
}

#[test]
fn events_that_hardware_began_to_deliver_are_delivered() {
    let event = |vector, source, error, len| Event {
        vector,
        source,
        error,
        len,
    };
    let cases = [
        (event(0x50, Source::Hardware, None, 0), CODE, None),
        (event(BP, Source::Software, None, 1), CODE + 1, None),
        (event(PF, Source::Exception, Some(2), 0), CODE, Some(2)),
    ];
    for (event, return_to, error) in cases {
        let mut guest = Guest::long(0);
        guest.cpu.core_mut().state.cr2 = 0xabc;
        let stop = guest.cpu.deliver_one(&mut guest.notes, event);
        assert_eq!(
            (stop, guest.rip()),
            (None, HANDLERS + u64::from(event.vector))
        );
        let top = guest.gpr(4);
        let pushed = |n: u64| guest.ram.load_u64(top + 8 * n).unwrap();
        let frame = match error {
            None => 0,
            Some(error) => {
                assert_eq!(pushed(0), error);
                1
            }
        };
        assert_eq!(pushed(frame), return_to);
        assert_eq!(guest.cpu.core().state.cr2, 0xabc);
    }
    let mut guest = Guest::long(0);
    guest.set_gate(PF, 0, 0, 0x8e);
    let fault = event(PF, Source::Exception, Some(0), 0);
    guest.cpu.deliver_one(&mut guest.notes, fault);
    assert_eq!(guest.rip(), HANDLERS + 8, "a double fault");
}
