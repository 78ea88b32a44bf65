//! Protected mode: segmentation, privilege changes by gates and returns, error codes.

use hvf_sys::cpu::State;
use iced_x86::code_asm::*;

use super::*;
use crate::x86::segment;
use crate::x86::vector::{BR, DF, GP, NP, OF, SS, TS, UD};

type Program = fn(&mut CodeAssembler);

/// Loads DS with a selector whose descriptor has these rights.
fn load_ds(cpl: u8, rights: u16, rpl: u16) -> (u8, u64) {
    let mut guest = Guest::protected(cpl);
    guest.define(FREE, descriptor(0, 0xf_ffff, rights));
    guest.set_gpr(0, (FREE | rpl).into());
    guest.fault(|a| {
        a.mov(ds, eax).unwrap();
        a.ud2().unwrap();
    })
}

#[test]
fn data_segments_are_checked_when_they_are_loaded() {
    let sel = u64::from(FREE);
    assert_eq!(load_ds(0, DATA_RIGHTS, 0).0, UD);
    assert_eq!(load_ds(3, DATA_RIGHTS, 3), (GP, sel), "too privileged");
    assert_eq!(load_ds(0, DATA_RIGHTS, 3), (GP, sel), "RPL counts");
    assert_eq!(load_ds(3, DATA_RIGHTS | LEVEL3, 3).0, UD);
    assert_eq!(load_ds(0, 0x13, 0), (NP, sel));
    assert_eq!(load_ds(0, 0x99, 0), (GP, sel), "code that cannot be read");
    assert_eq!(load_ds(0, CODE_RIGHTS, 0).0, UD);
    assert_eq!(load_ds(3, 0x9f, 3).0, UD, "conforming code");
    assert_eq!(load_ds(0, 0x82, 0), (GP, sel), "an LDT");
    let mut guest = Guest::protected(0);
    guest.set_gpr(0, 0x100);
    assert_eq!(
        guest.fault(|a| a.mov(ds, eax).unwrap()),
        (GP, 0x100),
        "beyond the table"
    );
    guest = Guest::protected(0);
    guest.set_gpr(0, 0xc);
    assert_eq!(
        guest.fault(|a| a.mov(ds, eax).unwrap()),
        (GP, 0xc),
        "no LDT"
    );
}

#[test]
fn a_null_data_segment_loads_and_faults_when_used() {
    let mut guest = Guest::protected(0);
    guest.set_gpr(0, 3);
    let end = guest.run(|a| {
        a.mov(ds, eax).unwrap();
        a.mov(ebx, dword_ptr(ecx)).unwrap();
    });
    let End::Fault(frame) = end else { panic!() };
    assert_eq!((frame.vector, frame.error, frame.rip), (GP, 0, CODE + 2));
}

#[test]
fn stack_segments_are_checked_more_strictly() {
    let load = |cpl: u8, rights: u16, rpl: u16| {
        let mut guest = Guest::protected(cpl);
        guest.define(FREE, descriptor(0, 0xf_ffff, rights));
        guest.set_gpr(0, (FREE | rpl).into());
        guest.fault(|a| {
            a.mov(ss, eax).unwrap();
            a.ud2().unwrap();
        })
    };
    let sel = u64::from(FREE);
    assert_eq!(load(0, DATA_RIGHTS | BIG, 0).0, UD);
    assert_eq!(load(0, DATA_RIGHTS | BIG, 3), (GP, sel));
    assert_eq!(load(0, 0x91 | BIG, 0), (GP, sel), "read-only");
    assert_eq!(load(0, 0x13 | BIG, 0), (SS, sel), "not present");
    assert_eq!(load(0, DATA_RIGHTS | BIG | LEVEL3, 0), (GP, sel));
    let mut guest = Guest::protected(0);
    assert_eq!(guest.fault(|a| a.mov(ss, eax).unwrap()), (GP, 0), "null");
}

#[test]
fn accessed_bits_are_set_in_the_table() {
    let mut guest = Guest::protected(0);
    guest.define(FREE, descriptor(0, 0xf_ffff, 0x92));
    guest.set_gpr(0, FREE.into());
    guest.fault(|a| {
        a.mov(es, eax).unwrap();
        a.ud2().unwrap();
    });
    assert_eq!(segment::rights(guest.defined(FREE)) & 0xff, 0x93);
}

/// Accesses an offset through FS, which has this limit and these rights.
fn through_fs(limit: u64, rights: u16, offset: u64, program: Program) -> Option<(u8, u64)> {
    let mut guest = Guest::protected(0);
    guest.define(FREE, descriptor(DATA, limit, rights));
    guest.set_gpr(0, FREE.into());
    guest.set_gpr(3, offset);
    let end = guest.fault(|a| {
        a.mov(fs, eax).unwrap();
        program(a);
        a.ud2().unwrap();
    });
    (end.0 != UD).then_some(end)
}

#[test]
fn limits_and_rights_are_checked_at_every_access() {
    let read: Program = |a| a.mov(ecx, dword_ptr(ebx).fs()).unwrap();
    let write: Program = |a| a.mov(dword_ptr(ebx).fs(), ecx).unwrap();
    let fault = Some((GP, 0));
    assert_eq!(through_fs(0xfff, DATA_RIGHTS, 0xffc, read), None);
    assert_eq!(through_fs(0xfff, DATA_RIGHTS, 0xffd, read), fault);
    assert_eq!(through_fs(0xfff, DATA_RIGHTS, 0xffff_ffff, read), fault);
    assert_eq!(through_fs(0, DATA_RIGHTS | segment::G, 0xffc, write), None);
    assert_eq!(through_fs(0xfff, 0x91, 0, write), fault, "read-only");
    assert_eq!(through_fs(0xfff, CODE_RIGHTS, 0, read), None);
    assert_eq!(through_fs(0xfff, CODE_RIGHTS, 0, write), fault);
    // Expand-down: above the limit, up to 64 KiB or 4 GiB.
    assert_eq!(through_fs(0xfff, 0x97, 0xfff, read), fault);
    assert_eq!(through_fs(0xfff, 0x97, 0x1000, read), None);
    assert_eq!(through_fs(0xfff, 0x97, 0xfffc, read), None);
    assert_eq!(through_fs(0xfff, 0x97, 0xfffd, read), fault);
    assert_eq!(through_fs(0xfff, 0x97 | segment::DB, 0x1_0000, read), None);
}

#[test]
fn the_end_of_the_code_segment_comes_before_everything_else() {
    let mut guest = Guest::protected(0);
    guest.state().segments[State::CS].limit = CODE as u32 + 1;
    let end = guest.run(|a| {
        a.nop().unwrap();
        a.mov(eax, 5).unwrap();
    });
    let End::Fault(frame) = end else { panic!() };
    assert_eq!((frame.vector, frame.error, frame.rip), (GP, 0, CODE + 1));
    let mut guest = Guest::protected(0);
    guest.state().segments[State::CS].limit = CODE as u32 + 0xff;
    guest.set_gpr(0, CODE + 0x100);
    let End::Fault(frame) = guest.run(|a| a.jmp(eax).unwrap()) else {
        panic!()
    };
    assert_eq!(
        (frame.vector, frame.rip),
        (GP, CODE),
        "the jump itself faults"
    );
}

#[test]
fn interrupts_from_users_switch_to_the_stack_of_the_tss() {
    let mut guest = Guest::protected(3);
    guest.set_gate(0x80, CODE0, HANDLERS + 0x80, 0xef);
    guest.set_flags(rflags::IF);
    let End::Fault(frame) = guest.run(|a| a.int(0x80).unwrap()) else {
        panic!()
    };
    assert_eq!(
        (frame.rip, frame.cs, frame.flags & rflags::IF),
        (USER + 2, CODE3, rflags::IF)
    );
    assert_ne!(guest.flags() & rflags::IF, 0, "a trap gate");
    assert_eq!(guest.gpr(4), KERNEL_STACK - 20);
    assert_eq!(guest.ram.load_u32(KERNEL_STACK - 8), Ok(USER_STACK as u32));
    assert_eq!(guest.ram.load_u32(KERNEL_STACK - 4), Ok(DATA3.into()));
    let mut guest = Guest::protected(3);
    assert_eq!(guest.fault(|a| a.int(0x40).unwrap()), (GP, 0x202));
}

#[test]
fn a_16_bit_tss_and_a_16_bit_gate() {
    let mut guest = Guest::protected(3);
    guest.ram.store_u16(TSS + 2, KERNEL_STACK as u16).unwrap();
    guest.ram.store_u16(TSS + 4, DATA0).unwrap();
    guest.state().segments[State::TR].rights = 0x83;
    guest.set_gate(0x80, CODE0, HANDLERS + 0x80, 0xe6);
    guest.state().gpr[4] = 0xfff0;
    assert!(matches!(guest.run(|a| a.int(0x80).unwrap()), End::Fault(_)));
    assert_eq!(guest.gpr(4), KERNEL_STACK - 10);
    let pushed: Vec<u16> = (0..5)
        .map(|n| guest.ram.load_u16(KERNEL_STACK - 10 + 2 * n).unwrap())
        .collect();
    assert_eq!((pushed[0], pushed[1]), ((USER + 2) as u16, CODE3));
    assert_eq!((pushed[3], pushed[4]), (0xfff0, DATA3));
}

#[test]
fn a_bad_stack_in_the_tss_is_ts_or_ss() {
    let int = |change: fn(&mut Guest)| {
        let mut guest = Guest::protected(3);
        guest.set_gate(0x80, CODE0, HANDLERS + 0x80, 0xee);
        // #TS itself needs a stack: it goes to conforming code, which stays at level 3.
        guest.define(0xf0, descriptor(0, 0xf_ffff, 0x9f | BIG));
        for v in [TS, SS, NP] {
            guest.set_gate(v, 0xf0, HANDLERS + u64::from(v), 0x8e);
        }
        // HLT faults at level 3: the frame is that of the first handler.
        guest.ram.store_u32(TSS + 12, 0).unwrap();
        change(&mut guest);
        let code = assemble(32, USER, |a| a.int(0x80).unwrap());
        guest.ram.write(USER, &code).unwrap();
        let loop_forever = [0xeb, 0xfe];
        for v in [TS, SS, NP] {
            guest
                .ram
                .write(HANDLERS + 0x40 + 2 * u64::from(v), &loop_forever)
                .unwrap();
            guest.set_gate(v, 0xf0, HANDLERS + 0x40 + 2 * u64::from(v), 0x8e);
        }
        let stop = guest.cpu.run(&mut guest.notes, Some(Nanos(2)));
        assert_eq!(stop, Stop::Deadline);
        let v = (guest.state().rip - HANDLERS - 0x40) / 2;
        let top = guest.gpr(4);
        (v as u8, u64::from(guest.ram.load_u32(top).unwrap()))
    };
    assert_eq!(int(|g| g.ram.store_u16(TSS + 8, 0).unwrap()), (TS, 0));
    assert_eq!(
        int(|g| g.ram.store_u16(TSS + 8, DATA3).unwrap()),
        (TS, u64::from(DATA3 & !3))
    );
    assert_eq!(
        int(|g| g.ram.store_u16(TSS + 8, CODE0).unwrap()),
        (TS, CODE0.into())
    );
    assert_eq!(
        int(|g| g.ram.store_u16(TSS + 8, 0x100).unwrap()),
        (TS, 0x100)
    );
    assert_eq!(
        int(|g| g.state().segments[State::TR].limit = 8),
        (TS, TASK.into())
    );
    let absent = |g: &mut Guest| {
        g.define(FREE, descriptor(0, 0xf_ffff, 0x13 | BIG));
        g.ram.store_u16(TSS + 8, FREE).unwrap();
    };
    assert_eq!(int(absent), (SS, FREE.into()));
    let short = |g: &mut Guest| {
        g.define(FREE, descriptor(0, 0xfff, DATA_RIGHTS | segment::DB));
        g.ram.store_u16(TSS + 8, FREE).unwrap();
    };
    assert_eq!(int(short), (SS, FREE.into()), "pushes beyond its limit");
}

/// A far pointer in front of the user's data.
fn call_far(guest: &mut Guest, selector: u16) -> End {
    guest.ram.store_u32(USER_DATA, 0x1234_5678).unwrap();
    guest.ram.store_u16(USER_DATA + 4, selector).unwrap();
    guest.run(|a| a.call(fword_ptr(USER_DATA)).unwrap())
}

#[test]
fn a_call_gate_copies_parameters_and_retf_goes_back() {
    for (kind, size) in [(0xecu64, 4u64), (0xe4, 2)] {
        let mut guest = Guest::protected(3);
        guest.define(FREE, gate(CODE0, CODE, kind, 2));
        if size == 2 {
            guest.define(CODE0, descriptor(0, 0xf_ffff, CODE_RIGHTS | segment::G));
            guest.define(FREE, gate(CODE0, 0x7000, kind, 2));
        }
        let entry = if size == 2 { 0x7000 } else { CODE };
        guest.state().gpr[4] = 0x8f00;
        let words: Vec<u8> = (1..=8).collect();
        guest.ram.write(0x8f00, &words).unwrap();
        guest.ram.write(entry, &[0xf4]).unwrap();
        assert!(!matches!(call_far(&mut guest, FREE | 3), End::Shutdown));
        let top = guest.gpr(4);
        assert_eq!(top, KERNEL_STACK - 6 * size);
        let mut copied = vec![0; 2 * size as usize];
        guest.ram.read(top + 2 * size, &mut copied).unwrap();
        assert_eq!(copied, words[..2 * size as usize]);
        assert_eq!(guest.ram.load_u16(top + 4 * size), Ok(0x8f00));
        assert_eq!(guest.ram.load_u16(top + 5 * size), Ok(DATA3));
        if size == 2 {
            continue;
        }
        // Back, with the parameters released on both stacks.
        let rip = guest.code_address();
        guest.ram.write(USER + 6, &[0xf4]).unwrap();
        guest.ram.write(rip, &[0xca, 8, 0]).unwrap();
        let End::Fault(frame) = guest.go() else {
            panic!()
        };
        assert_eq!((frame.vector, frame.rip, frame.cs), (GP, USER + 6, CODE3));
        assert_eq!(guest.ram.load_u32(KERNEL_STACK - 8), Ok(0x8f00 + 8));
    }
}

#[test]
fn gates_and_code_segments_of_far_calls_are_checked() {
    let fault = |change: fn(&mut Guest), selector: u16| {
        let mut guest = Guest::protected(3);
        change(&mut guest);
        match call_far(&mut guest, selector) {
            End::Fault(frame) => (frame.vector, frame.error),
            end => panic!("{end:?}"),
        }
    };
    let free = u64::from(FREE);
    assert_eq!(fault(|_| {}, 0), (GP, 0));
    assert_eq!(fault(|_| {}, CODE0), (GP, CODE0.into()), "another level");
    assert_eq!(fault(|_| {}, DATA3), (GP, u64::from(DATA3 & !3)));
    assert_eq!(
        fault(|g| g.define(FREE, gate(CODE0, CODE, 0x8c, 0)), FREE),
        (GP, free)
    );
    assert_eq!(
        fault(|g| g.define(FREE, gate(CODE0, CODE, 0x6c, 0)), FREE),
        (NP, free)
    );
    assert_eq!(
        fault(|g| g.define(FREE, gate(0, CODE, 0xec, 0)), FREE),
        (GP, 0)
    );
    assert_eq!(
        fault(|g| g.define(FREE, gate(DATA0, CODE, 0xec, 0)), FREE),
        (GP, DATA0.into())
    );
    let absent = |g: &mut Guest| {
        g.define(FREE, descriptor(0, 0xf_ffff, 0x1b | BIG | LEVEL3));
    };
    assert_eq!(fault(absent, FREE | 3), (NP, free));
}

#[test]
fn retf_and_iret_go_outwards_and_drop_the_kernels_segments() {
    let program: [Program; 2] = [|a| a.retf().unwrap(), |a| a.iretd().unwrap()];
    for (n, program) in program.into_iter().enumerate() {
        let mut guest = Guest::protected(0);
        guest.ram.write(USER, &[0xf4]).unwrap();
        let end = guest.run(|a| {
            a.push(i32::from(DATA3)).unwrap();
            a.push(USER_STACK as i32).unwrap();
            if n == 1 {
                a.push(0x3202).unwrap();
            }
            a.push(i32::from(CODE3)).unwrap();
            a.push(USER as i32).unwrap();
            program(a);
        });
        let End::Fault(frame) = end else { panic!() };
        assert_eq!((frame.vector, frame.rip, frame.cs), (GP, USER, CODE3));
        assert_eq!(guest.selector(State::DS), 0);
        if n == 1 {
            assert_eq!(frame.flags & 0x3200, 0x3200);
        }
    }
}

#[test]
fn returns_are_checked() {
    let fault = |words: [u16; 2], sp_words: [u32; 2]| {
        let mut guest = Guest::protected(0);
        guest.fault(|a| {
            a.push(sp_words[1] as i32).unwrap();
            a.push(sp_words[0] as i32).unwrap();
            a.push(i32::from(words[1])).unwrap();
            a.push(i32::from(words[0])).unwrap();
            a.retf().unwrap();
        })
    };
    assert_eq!(fault([0, 0], [0, 0]), (GP, 0));
    assert_eq!(fault([0, DATA0], [0, 0]), (GP, DATA0.into()));
    assert_eq!(
        fault([0, CODE0 | 3], [0, 0]),
        (GP, CODE0.into()),
        "RPL is not DPL"
    );
    assert_eq!(fault([0, CODE3], [0, 0]), (GP, 0), "a null stack");
    assert_eq!(fault([0, CODE3], [0, DATA0.into()]), (GP, DATA0.into()));
    let mut guest = Guest::protected(3);
    let inwards = guest.fault(|a| {
        a.push(i32::from(CODE0)).unwrap();
        a.push(CODE as i32).unwrap();
        a.retf().unwrap();
    });
    assert_eq!(inwards, (GP, CODE0.into()));
}

#[test]
fn conforming_code_keeps_the_level_of_its_caller() {
    let mut guest = Guest::protected(3);
    guest.define(FREE, descriptor(0, 0xf_ffff, 0x9f | BIG));
    guest
        .ram
        .write(0x1234_5678 & 0xffff | 0x10_0000, &[0xf4])
        .unwrap();
    guest.ram.store_u32(USER_DATA, 0x10_5678).unwrap();
    guest.ram.store_u16(USER_DATA + 4, FREE).unwrap();
    let end = guest.run(|a| a.jmp(fword_ptr(USER_DATA)).unwrap());
    let End::Fault(frame) = end else { panic!() };
    assert_eq!(
        (frame.vector, frame.rip, frame.cs),
        (GP, 0x10_5678, FREE | 3),
        "HLT at level 3"
    );
}

#[test]
fn software_exceptions() {
    let mut guest = Guest::protected(0);
    guest.set_flags(rflags::OF);
    let End::Fault(frame) = guest.run(|a| a.into().unwrap()) else {
        panic!()
    };
    assert_eq!((frame.vector, frame.rip), (OF, CODE + 1));
    let mut guest = Guest::protected(0);
    guest.set_gpr(3, DATA);
    guest.ram.store_u64(DATA, 5 | 9 << 32).unwrap();
    guest.set_gpr(0, 10);
    let End::Fault(frame) = guest.run(|a| a.bound(eax, qword_ptr(ebx)).unwrap()) else {
        panic!()
    };
    assert_eq!((frame.vector, frame.rip), (BR, CODE));
}

#[test]
fn a_missing_handler_is_a_double_fault() {
    let mut guest = Guest::protected(0);
    guest.set_gate(GP, 0, 0, 0);
    guest.set_gate(UD, CODE0, 0, 0x0e);
    // #NP for the gate, whose delivery is fine.
    assert_eq!(
        guest.fault(|a| a.ud2().unwrap()),
        (NP, u64::from(UD) << 3 | 3)
    );
    let mut guest = Guest::protected(0);
    guest.set_gate(GP, 0, 0, 0);
    guest.set_gpr(0, 0x100);
    assert_eq!(guest.fault(|a| a.mov(ds, eax).unwrap()), (DF, 0));
}

#[test]
fn local_descriptors() {
    let mut guest = Guest::protected(0);
    guest
        .ram
        .store_u64(LDT + 8, descriptor(DATA, 0xff, DATA_RIGHTS))
        .unwrap();
    guest.ram.store_u32(DATA + 4, 0x99).unwrap();
    let end = guest.run(|a| {
        a.mov(eax, u32::from(LOCAL)).unwrap();
        a.lldt(ax).unwrap();
        a.mov(eax, 0xc).unwrap();
        a.mov(gs, eax).unwrap();
        a.mov(ebx, dword_ptr(4).gs()).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!((end, guest.gpr(3)), (End::Halted, 0x99));
}
