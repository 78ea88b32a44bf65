//! Intercept points: each stops before any effect, with what an exit has to tell; and faults that come first, do.

use hvf_sys::cpu::Op;
use iced_x86::code_asm::*;

use super::super::intercept::*;
use super::*;
use crate::x86::vector::{BP, DF, GP, NMI, PF, UD};

/// Memory with a hole, and a read-only page.
struct Stage {
    hole: u64,
    read_only: u64,
}

impl SecondStage for Stage {
    fn rights(&self, gpa: u64) -> Rights {
        match gpa >> 12 {
            page if page == self.hole >> 12 => Rights::empty(),
            page if page == self.read_only >> 12 => Rights::READ | Rights::EXECUTE,
            _ => Rights::all(),
        }
    }
}

/// A guest in non-root operation with these intercepts, `ALWAYS` among them.
fn under(mut guest: Guest, intercepts: Intercepts) -> Guest {
    let core = guest.cpu.core_mut();
    core.state.cr4 |= cr4::VMXE;
    core.non_root = Some(Box::new(NonRoot {
        intercepts: intercepts | Intercepts::ALWAYS,
        ..NonRoot::default()
    }));
    guest
}

fn non_root(guest: &mut Guest) -> &mut NonRoot {
    guest.cpu.core_mut().non_root.as_mut().unwrap()
}

/// Assembles where execution goes on and runs until the guest is left. Gives why, and where from the program's start.
fn exit(guest: &mut Guest, program: impl FnOnce(&mut CodeAssembler)) -> (Exit, u64) {
    let at = guest.code_address();
    let start = guest.cpu.core().state.rip;
    guest
        .ram
        .write(at, &assemble(guest.bits(), start, program))
        .unwrap();
    let exit = leave(guest);
    (exit, guest.cpu.core().state.rip.wrapping_sub(start))
}

fn leave(guest: &mut Guest) -> Exit {
    let stop = guest.cpu.run(&mut guest.notes, Some(Nanos(1 << 12)));
    assert_eq!(stop, Stop::Intercepted, "at {:#x}", guest.code_address());
    non_root(guest).exit.take().unwrap()
}

/// An instruction after a NOP: its exit, which must come before it and tell its length.
fn instruction(intercepts: Intercepts, bytes: &[u8]) -> Cause {
    let mut guest = under(Guest::long(0), intercepts);
    guest.with_code(&[&[0x90], bytes].concat());
    let before = guest.cpu.core().state.gpr;
    let exit = leave(&mut guest);
    assert_eq!(guest.cpu.core().state.rip, CODE + 1, "{exit:?}");
    assert_eq!(usize::from(exit.len), bytes.len(), "{exit:?}");
    assert_eq!((exit.delivering, exit.in_iret), (None, false));
    assert_eq!(guest.cpu.core().state.gpr, before);
    exit.cause
}

impl Guest {
    fn with_code(&mut self, bytes: &[u8]) {
        let at = self.code_address();
        self.ram.write(at, bytes).unwrap();
    }
}

#[test]
fn plain_instructions_are_left_before_they_do_anything() {
    let always: [(Op, &[u8]); 4] = [
        (Op::Cpuid, &[0x0f, 0xa2]),
        (Op::Invd, &[0x0f, 0x08]),
        (Op::Vmcall, &[0x0f, 0x01, 0xc1]),
        (Op::Cpuid, &[0x66, 0x0f, 0xa2]),
    ];
    for (op, bytes) in always {
        assert_eq!(
            instruction(Intercepts::empty(), bytes),
            Cause::Instruction(op)
        );
    }
    let asked: [(Intercepts, Op, &[u8]); 8] = [
        (Intercepts::HLT, Op::Hlt, &[0xf4]),
        (Intercepts::WBINVD, Op::Wbinvd, &[0x0f, 0x09]),
        (Intercepts::RDPMC, Op::Rdpmc, &[0x0f, 0x33]),
        (Intercepts::RDTSC, Op::Rdtsc, &[0x0f, 0x31]),
        (Intercepts::RDTSC, Op::Rdtscp, &[0x0f, 0x01, 0xf9]),
        (Intercepts::PAUSE, Op::Pause, &[0xf3, 0x90]),
        (Intercepts::MONITOR, Op::Monitor, &[0x0f, 0x01, 0xc8]),
        (Intercepts::MWAIT, Op::Mwait, &[0x0f, 0x01, 0xc9]),
    ];
    for (which, op, bytes) in asked {
        assert_eq!(instruction(which, bytes), Cause::Instruction(op));
        let mut guest = under(Guest::long(0), Intercepts::all() - which);
        guest.with_code(bytes);
        let next = guest.cpu.core().state.rip + bytes.len() as u64;
        guest.ram.write(next, &[0x0f, 0xa2]).unwrap();
        if which != Intercepts::HLT {
            let found = leave(&mut guest).cause;
            assert_ne!(found, Cause::Instruction(op), "not asked for");
        }
    }
}

#[test]
fn addresses_and_registers_are_told() {
    // invlpg [rax + 0x1000]
    let invlpg = instruction(Intercepts::INVLPG, &[0x0f, 0x01, 0xb8, 0, 0x10, 0, 0]);
    assert_eq!(invlpg, Cause::Invlpg(0x1000));
    let control = |number, access| Cause::Control { number, access };
    // mov cr3, rbx; mov r9, cr3; mov cr8, rax; mov rsi, cr8
    let cases: [(Intercepts, &[u8], u8, ControlAccess); 4] = [
        (
            Intercepts::CR3_LOAD,
            &[0x0f, 0x22, 0xdb],
            3,
            ControlAccess::Write(3),
        ),
        (
            Intercepts::CR3_STORE,
            &[0x41, 0x0f, 0x20, 0xd9],
            3,
            ControlAccess::Read(9),
        ),
        (
            Intercepts::CR8_LOAD,
            &[0x44, 0x0f, 0x22, 0xc0],
            8,
            ControlAccess::Write(0),
        ),
        (
            Intercepts::CR8_STORE,
            &[0x44, 0x0f, 0x20, 0xc6],
            8,
            ControlAccess::Read(6),
        ),
    ];
    for (which, bytes, number, access) in cases {
        assert_eq!(instruction(which, bytes), control(number, access));
    }
    let debug = instruction(Intercepts::MOV_DR, &[0x0f, 0x23, 0xfa]);
    let expected = Cause::Debug {
        number: 7,
        is_read: false,
        gpr: 2,
    };
    assert_eq!(debug, expected);
}

#[test]
fn ports_are_left_with_all_that_an_exit_tells() {
    let port = |bytes: &[u8]| match instruction(Intercepts::IO, bytes) {
        Cause::Port(access) => access,
        other => panic!("{other:?}"),
    };
    let plain = PortAccess {
        port: 0x60,
        width: Width::Byte,
        is_in: true,
        is_immediate: true,
        string: None,
    };
    assert_eq!(port(&[0xe4, 0x60]), plain);
    let out = PortAccess {
        port: crate::x86::cpuid::SIGNATURE as u16,
        width: Width::Dword,
        is_in: false,
        is_immediate: false,
        string: None,
    };
    assert_eq!(port(&[0xef]), out);
    let mut guest = under(Guest::long(0), Intercepts::IO);
    guest.set_gpr(7, DATA + 0x10);
    guest.set_gpr(1, 5);
    let (told, _) = exit(&mut guest, |a| a.rep().insw().unwrap());
    let string = PortString {
        rep: true,
        linear: DATA + 0x10,
        segment: 0,
        address_size: 8,
    };
    let Cause::Port(access) = told.cause else {
        panic!("{told:?}");
    };
    assert_eq!((access.string, access.width), (Some(string), Width::Word));
    // Nothing to do is no access.
    let mut guest = under(Guest::long(0), Intercepts::IO);
    let (told, at) = exit(&mut guest, |a| {
        a.rep().insb().unwrap();
        a.cpuid().unwrap();
    });
    assert_eq!((told.cause, at), (Cause::Instruction(Op::Cpuid), 2));
    // From level 3, the TSS decides first.
    let mut guest = under(Guest::long(3), Intercepts::IO);
    guest.ram.fill(TSS + 104, 0x100, 0xff).unwrap();
    assert_eq!(guest.fault(|a| a.in_(al, 0x60).unwrap()), (GP, 0));
}

#[test]
fn faults_of_privilege_come_before_intercepts() {
    for bytes in [
        &[0xf4][..],
        &[0x0f, 0x32],
        &[0x0f, 0x30],
        &[0x0f, 0x22, 0xd8],
        &[0x0f, 0x08],
    ] {
        let mut guest = under(Guest::long(3), Intercepts::all());
        guest.with_code(bytes);
        non_root(&mut guest).intercepts = Intercepts::all() - Intercepts::HLT;
        non_root(&mut guest).exceptions = 1 << GP;
        let told = leave(&mut guest);
        assert!(matches!(told.cause, Cause::Exception { .. }), "{told:?}");
    }
    // VMCALL and CPUID have no privilege; MOV DR is left before its own fault of privilege.
    for (bytes, expected) in [
        (&[0x0f, 0xa2][..], Cause::Instruction(Op::Cpuid)),
        (&[0x0f, 0x01, 0xc1], Cause::Instruction(Op::Vmcall)),
        (
            &[0x0f, 0x21, 0xc0],
            Cause::Debug {
                number: 0,
                is_read: true,
                gpr: 0,
            },
        ),
    ] {
        let mut guest = under(Guest::long(3), Intercepts::all());
        guest.with_code(bytes);
        assert_eq!(leave(&mut guest).cause, expected);
    }
}

#[test]
fn msrs_are_left_unless_they_are_native() {
    let mut guest = under(Guest::long(0), Intercepts::empty());
    non_root(&mut guest)
        .native_msrs
        .insert(crate::x86::msr::LSTAR);
    guest.set_gpr(0, 0x1234);
    guest.set_gpr(2, 0);
    let (told, at) = exit(&mut guest, |a| {
        a.mov(ecx, 0xc000_0082_u32).unwrap();
        a.wrmsr().unwrap();
        a.rdmsr().unwrap();
        a.mov(ecx, 0xc000_0080_u32).unwrap();
        a.wrmsr().unwrap();
    });
    assert_eq!((told.cause, at), (Cause::WriteMsr, 14));
    assert_eq!(guest.state().msrs.lstar, 0x1234);
    let (told, _) = exit(&mut guest, |a| a.rdmsr().unwrap());
    assert_eq!((told.cause, told.len), (Cause::ReadMsr, 2));
}

#[test]
fn masks_and_shadows_of_control_registers() {
    let mut guest = under(Guest::long(0), Intercepts::HLT);
    non_root(&mut guest).cr0 = Owned {
        mask: cr0::NE | cr0::TS | cr0::PE,
        shadow: cr0::TS,
    };
    let real = guest.state().cr0;
    assert_ne!(real & cr0::NE, 0);
    // What it sees may be written back, with bits that are its own changed; what the host owns stays.
    let (told, _) = exit(&mut guest, |a| {
        a.mov(rax, cr0).unwrap();
        a.btc(rax, 18).unwrap();
        a.mov(cr0, rax).unwrap();
        a.mov(rcx, cr0).unwrap();
        a.smsw(edx).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!(told.cause, Cause::Instruction(Op::Hlt));
    assert_eq!(guest.state().cr0, real ^ cr0::AM);
    let seen = (real ^ cr0::AM) & !(cr0::NE | cr0::PE) | cr0::TS;
    assert_eq!((guest.gpr(1), guest.gpr(2)), (seen, seen));
    // Another value of a bit that the host owns is left.
    guest.set_gpr(3, seen | cr0::NE);
    guest.state().rip = CODE;
    let (told, _) = exit(&mut guest, |a| a.mov(cr0, rbx).unwrap());
    let access = ControlAccess::Write(3);
    assert_eq!(told.cause, Cause::Control { number: 0, access });
    // CLTS: shadow and mask set.
    let (told, _) = exit(&mut guest, |a| a.clts().unwrap());
    let access = ControlAccess::Clts;
    assert_eq!(told.cause, Cause::Control { number: 0, access });
    // Mask set, shadow clear: nothing happens.
    guest.state().cr0 |= cr0::TS;
    non_root(&mut guest).cr0.shadow = 0;
    let (told, _) = exit(&mut guest, |a| {
        a.clts().unwrap();
        a.hlt().unwrap();
    });
    assert_eq!(told.cause, Cause::Instruction(Op::Hlt));
    assert_ne!(guest.state().cr0 & cr0::TS, 0);
    // LMSW from memory that would set PE.
    guest.ram.store_u16(DATA, 0x0001).unwrap();
    let (told, _) = exit(&mut guest, |a| {
        a.mov(rax, DATA).unwrap();
        a.lmsw(word_ptr(rax)).unwrap();
    });
    let access = ControlAccess::Lmsw(1, Some(DATA));
    assert_eq!(told.cause, Cause::Control { number: 0, access });
}

#[test]
fn bits_that_vmx_fixes_cannot_be_changed() {
    let mut guest = under(Guest::long(0), Intercepts::empty());
    let seen = guest.state().cr4;
    assert_eq!(
        guest.fault(|a| {
            a.mov(rax, seen & !cr4::VMXE).unwrap();
            a.mov(cr4, rax).unwrap();
        }),
        (GP, 0)
    );
    let mut guest = under(Guest::long(0), Intercepts::empty());
    let without = guest.state().cr0 & !cr0::NE;
    assert_eq!(
        guest.fault(|a| {
            a.mov(rax, without).unwrap();
            a.mov(cr0, rax).unwrap();
        }),
        (GP, 0)
    );
    // With VMXE the host's, the guest neither sees nor clears it.
    let mut guest = under(Guest::long(0), Intercepts::HLT);
    non_root(&mut guest).cr4 = Owned {
        mask: cr4::VMXE,
        shadow: 0,
    };
    let (told, _) = exit(&mut guest, |a| {
        a.mov(rax, cr4).unwrap();
        a.mov(cr4, rax).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!(told.cause, Cause::Instruction(Op::Hlt));
    assert_eq!(guest.gpr(0) & cr4::VMXE, 0);
    assert_ne!(guest.state().cr4 & cr4::VMXE, 0);
}

#[test]
fn exceptions_are_left_by_the_bitmap() {
    let mut guest = under(Guest::long(0), Intercepts::empty());
    non_root(&mut guest).exceptions = 1 << UD | 1 << BP;
    let (told, at) = exit(&mut guest, |a| {
        a.nop().unwrap();
        a.ud2().unwrap();
    });
    let event = Event {
        vector: UD,
        kind: EventKind::Hardware,
        error: None,
        len: 0,
    };
    assert_eq!((told.cause, at), (Cause::Exception { event, detail: 0 }, 1));
    let (told, at) = exit(&mut guest, |a| a.int3().unwrap());
    let event = Event {
        vector: BP,
        kind: EventKind::SoftwareException,
        ..event
    };
    assert_eq!((told.cause, at), (Cause::Exception { event, detail: 0 }, 0));
    assert_eq!(told.len, 1);
    // INT 6 is no exception.
    match guest.run(|a| a.int(6).unwrap()) {
        End::Fault(frame) => assert_eq!(frame.vector, UD),
        other => panic!("{other:?}"),
    }
}

#[test]
fn page_faults_are_left_by_mask_and_match_and_cr2_stays() {
    let program = |a: &mut CodeAssembler| {
        a.mov(rax, USER_DATA).unwrap();
        a.mov(dword_ptr(rax), 0).unwrap();
    };
    let mut guest = under(Guest::long(3), Intercepts::empty());
    guest.map(USER_DATA, 0);
    guest.state().cr2 = 7;
    // Only writes.
    let rules = non_root(&mut guest);
    rules.exceptions = 1 << PF;
    (rules.page_fault_mask, rules.page_fault_match) = (2, 2);
    let (told, _) = exit(&mut guest, program);
    let Cause::Exception { event, detail } = told.cause else {
        panic!("{told:?}");
    };
    assert_eq!((event.vector, event.error), (PF, Some(6)));
    assert_eq!((detail, guest.state().cr2), (USER_DATA, 7));
    // Everything but writes.
    non_root(&mut guest).exceptions = 0;
    (
        non_root(&mut guest).page_fault_mask,
        non_root(&mut guest).page_fault_match,
    ) = (2, 2);
    guest.state().rip = USER;
    assert_eq!(guest.fault(program), (PF, 6));
}

#[test]
fn a_second_exception_is_left_with_the_first_one_told() {
    // #GP for the IDT's limit while #UD is delivered.
    let mut guest = under(Guest::long(0), Intercepts::empty());
    guest.state().idtr.limit = 0;
    non_root(&mut guest).exceptions = 1 << GP;
    let (told, at) = exit(&mut guest, |a| a.ud2().unwrap());
    let Cause::Exception { event, .. } = told.cause else {
        panic!("{told:?}");
    };
    assert_eq!((event.vector, event.error), (GP, Some(6 << 3 | 3)));
    assert_eq!((told.delivering.map(|it| it.vector), at), (Some(UD), 0));
    // What becomes a double fault does not count as one during a delivery.
    non_root(&mut guest).exceptions = 1 << DF;
    let (told, _) = exit(&mut guest, |a| {
        a.int(3).unwrap();
    });
    let Cause::Exception { event, .. } = told.cause else {
        panic!("{told:?}");
    };
    assert_eq!((event.vector, told.delivering), (DF, None));
}

#[test]
fn the_second_stage_is_asked_for_data_code_and_tables() {
    let stage = |guest: &mut Guest, hole, read_only| {
        non_root(guest).second_stage = Some(Arc::new(Stage { hole, read_only }));
        guest.cpu.core_mut().flush_all();
    };
    let load = |a: &mut CodeAssembler| {
        a.mov(rax, DATA + 8).unwrap();
        a.mov(rbx, qword_ptr(rax)).unwrap();
    };
    let violation = |told: Exit| match told.cause {
        Cause::Violation(it) => it,
        other => panic!("{other:?}"),
    };
    let mut guest = under(Guest::long(0), Intercepts::empty());
    stage(&mut guest, DATA, 0);
    let (told, at) = exit(&mut guest, load);
    let expected = Violation {
        gpa: DATA + 8,
        wanted: Rights::READ,
        allowed: Rights::empty(),
        linear: Some(DATA + 8),
        in_walk: false,
    };
    assert_eq!((violation(told), told.len), (expected, 3));
    assert_eq!(at, if told.len == 3 { at } else { 0 });
    // A store to a read-only page, after a load from it has entered the TLB.
    stage(&mut guest, 0, DATA);
    guest.state().rip = CODE;
    let (told, _) = exit(&mut guest, |a| {
        load(a);
        a.mov(qword_ptr(rax), rbx).unwrap();
    });
    let expected = Violation {
        wanted: Rights::WRITE,
        allowed: Rights::READ | Rights::EXECUTE,
        ..expected
    };
    assert_eq!(violation(told), expected);
    // A page table.
    stage(&mut guest, PT, 0);
    let told = violation(leave(&mut guest));
    assert!(told.in_walk && told.gpa >> 12 == PT >> 12, "{told:?}");
    // Its accessed bits cannot be set.
    stage(&mut guest, 0, PT);
    let page = guest.page_entry(CODE) & !0x60;
    guest.map(CODE, page);
    let told = violation(leave(&mut guest));
    assert!(told.in_walk && told.wanted.contains(Rights::WRITE));
    // Code.
    stage(&mut guest, CODE, 0);
    let told = leave(&mut guest);
    assert_eq!(
        (violation(told).wanted, told.len),
        (Rights::EXECUTE, 0),
        "no instruction was there"
    );
}

#[test]
fn a_violation_in_a_delivery_tells_the_event() {
    let mut guest = under(Guest::long(0), Intercepts::empty());
    non_root(&mut guest).second_stage = Some(Arc::new(Stage {
        hole: IDT,
        read_only: 0,
    }));
    let (told, at) = exit(&mut guest, |a| {
        a.int(0x80).unwrap();
    });
    let event = Event {
        vector: 0x80,
        kind: EventKind::Software,
        error: None,
        len: 2,
    };
    assert_eq!((told.delivering, told.len, at), (Some(event), 2, 0));
    // An injected NMI, which blocks further ones.
    let nmi = Event {
        vector: NMI,
        kind: EventKind::Nmi,
        error: None,
        len: 0,
    };
    non_root(&mut guest).inject = Some(nmi);
    assert_eq!(leave(&mut guest).delivering, Some(nmi));
    assert!(guest.cpu.core().nmi_blocked);
    // The stack that IRET reads.
    non_root(&mut guest).second_stage = Some(Arc::new(Stage {
        hole: STACK,
        read_only: 0,
    }));
    guest.cpu.core_mut().flush_all();
    let (told, _) = exit(&mut guest, |a| a.iretq().unwrap());
    assert!(told.in_iret, "{told:?}");
}

#[test]
fn injected_events_push_what_they_should() {
    let inject = |kind, vector, error, len| {
        let mut guest = under(Guest::long(0), Intercepts::empty());
        non_root(&mut guest).inject = Some(Event {
            vector,
            kind,
            error,
            len,
        });
        guest.cpu.core_mut().begin_shadow(true);
        let end = guest.go();
        assert!(!guest.cpu.core().shadow);
        match end {
            End::Fault(frame) => (frame.vector, frame.rip - CODE, frame.error),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(inject(EventKind::External, 0x41, None, 0), (0x41, 0, 0));
    assert_eq!(inject(EventKind::Hardware, GP, Some(5), 0), (GP, 0, 5));
    assert_eq!(inject(EventKind::Software, 0x80, None, 2), (0x80, 2, 0));
    assert_eq!(
        inject(EventKind::SoftwareException, BP, None, 1),
        (BP, 1, 0)
    );
    assert_eq!(inject(EventKind::Privileged, 1, None, 1), (1, 1, 0));
}

#[test]
fn task_switches_are_left_before_the_other_task_is_looked_at() {
    let mut guest = under(Guest::protected(0), Intercepts::empty());
    guest.define(FREE, descriptor(0x5000, 103, 0x89));
    guest.define(FREE + 8, u64::from(FREE) << 16 | 0x85 << 40);
    guest.with_code(&[0xea, 0, 0, 0, 0, FREE as u8, 0]);
    let told = leave(&mut guest);
    let switch = |source| Cause::TaskSwitch {
        selector: FREE,
        source,
    };
    assert_eq!((told.cause, told.len), (switch(2), 7));
    guest.with_code(&[0x9a, 0, 0, 0, 0, (FREE + 8) as u8, 0]);
    assert_eq!(leave(&mut guest).cause, switch(0));
    guest.set_gate(0x30, FREE, 0, 0x85);
    let (told, _) = exit(&mut guest, |a| {
        a.int(0x30).unwrap();
    });
    assert_eq!(told.cause, switch(3));
    assert_eq!(told.delivering.map(|it| it.vector), Some(0x30));
    // Back to a busy task.
    guest.define(FREE, descriptor(0x5000, 103, 0x8b));
    guest.ram.store_u16(TSS, FREE).unwrap();
    guest.set_flags(rflags::NT);
    let (told, _) = exit(&mut guest, |a| a.iretd().unwrap());
    assert_eq!(told.cause, switch(1));
}

#[test]
fn windows_open_after_the_shadow_and_for_nmis_first() {
    let mut guest = under(Guest::long(0), Intercepts::HLT);
    guest.cpu.core_mut().window = true;
    non_root(&mut guest).interrupt_window = true;
    let (told, at) = exit(&mut guest, |a| {
        a.sti().unwrap();
        a.nop().unwrap();
        a.nop().unwrap();
    });
    assert_eq!((told.cause, at), (Cause::InterruptWindow, 2));
    assert_eq!(told.len, 0);
    non_root(&mut guest).nmi_window = true;
    assert_eq!(leave(&mut guest).cause, Cause::NmiWindow);
    guest.cpu.core_mut().nmi_blocked = true;
    assert_eq!(leave(&mut guest).cause, Cause::InterruptWindow);
    // An intercepted instruction in the shadow of STI is still in it when it is left.
    let mut guest = under(Guest::long(0), Intercepts::HLT);
    let (told, at) = exit(&mut guest, |a| {
        a.sti().unwrap();
        a.hlt().unwrap();
    });
    assert_eq!((told.cause, at), (Cause::Instruction(Op::Hlt), 1));
    assert!(guest.cpu.core().shadow);
}

#[test]
fn a_task_priority_below_its_threshold_is_told_after_the_instruction() {
    let mut guest = under(Guest::long(0), Intercepts::HLT);
    non_root(&mut guest).task_priority = Some(TaskPriority {
        cr8: 9,
        threshold: 4,
    });
    guest.set_gpr(1, 3);
    let (told, at) = exit(&mut guest, |a| {
        a.mov(rax, cr8).unwrap();
        a.mov(cr8, rax).unwrap();
        a.mov(cr8, rcx).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!((told.cause, at), (Cause::TaskPriority, 12));
    assert_eq!(guest.gpr(0), 9);
    assert_eq!(guest.cpu.core().shadowed_cr8(), Some(3));
}

#[test]
fn instructions_that_a_control_takes_away_are_undefined() {
    let mut guest = under(Guest::long(0), Intercepts::NO_RDTSCP);
    assert_eq!(guest.fault(|a| a.rdtscp().unwrap()), (UD, 0));
    let mut guest = under(Guest::long(0), Intercepts::NO_INVPCID);
    guest.set_gpr(0, DATA);
    let undefined = guest.fault(|a| a.invpcid(rcx, xmmword_ptr(rax)).unwrap());
    assert_eq!(undefined, (UD, 0));
}
