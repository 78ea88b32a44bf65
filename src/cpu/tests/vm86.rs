//! Virtual-8086 mode: in by IRET, out by interrupts and faults, and its virtual interrupts.

use hvf_sys::cpu::State;
use iced_x86::code_asm::*;

use super::*;
use crate::x86::vector::{GP, UD};

/// The program lies at 0x3000:0, its stack below 0x2000:0x1000.
fn enter(bits: u64, flags: u64, program: &[u8]) -> (Guest, End) {
    let mut guest = Guest::protected(0).with_cr4(bits);
    guest.ram.write(DATA, program).unwrap();
    // The redirection bitmap lies below the I/O bitmap: every interrupt is the program's.
    guest.ram.store_u16(TSS + 102, 136).unwrap();
    guest.ram.fill(TSS + 136, 0x100, 0xff).unwrap();
    let end = guest.run(|a| {
        for word in [5, 4, 3, 2, (STACK >> 4) as i32, 0x1000] {
            a.push(word).unwrap();
        }
        a.push((rflags::VM | rflags::FIXED | flags) as i32).unwrap();
        a.push((DATA >> 4) as i32).unwrap();
        a.push(0).unwrap();
        a.iretd().unwrap();
    });
    (guest, end)
}

fn frame(end: End) -> Frame {
    match end {
        End::Fault(frame) => frame,
        end => panic!("{end:?}"),
    }
}

fn program(code: impl FnOnce(&mut CodeAssembler)) -> Vec<u8> {
    assemble(16, 0, |a| {
        code(a);
        a.hlt().unwrap();
    })
}

#[test]
fn a_fault_leaves_with_all_segments_on_the_kernels_stack() {
    let (mut guest, end) = enter(0, 0, &program(|a| a.mov(ax, ds).unwrap()));
    let frame = frame(end);
    assert_eq!(
        (frame.vector, frame.error, frame.rip, frame.cs),
        (GP, 0, 2, (DATA >> 4) as u16)
    );
    assert_ne!(frame.flags & rflags::VM, 0);
    assert_eq!(guest.flags() & rflags::VM, 0);
    assert_eq!(guest.gpr(0), 3, "DS");
    assert_eq!(guest.gpr(4), KERNEL_STACK - 40);
    let pushed: Vec<u32> = (4..10)
        .map(|n| guest.ram.load_u32(KERNEL_STACK - 40 + 4 * n).unwrap())
        .collect();
    assert_eq!(pushed, [0x1000, (STACK >> 4) as u32, 2, 3, 4, 5]);
    assert_eq!(
        (guest.selector(State::DS), guest.selector(State::GS)),
        (0, 0)
    );
    assert_eq!(guest.state().segments[State::FS].rights, 0);
}

#[test]
fn what_iopl_below_3_forbids() {
    type Program = fn(&mut CodeAssembler);
    let sensitive: [Program; 6] = [
        |a| a.cli().unwrap(),
        |a| a.sti().unwrap(),
        |a| a.pushf().unwrap(),
        |a| a.popf().unwrap(),
        |a| a.int(0x21).unwrap(),
        |a| a.iret().unwrap(),
    ];
    for (n, code) in sensitive.into_iter().enumerate() {
        let told = frame(enter(0, 0, &program(code)).1);
        assert_eq!((told.vector, told.error, told.rip), (GP, 0, 0), "{n}");
    }
    let allowed = program(|a| {
        a.sti().unwrap();
        a.pushf().unwrap();
        a.pop(bx).unwrap();
    });
    let (guest, end) = enter(0, rflags::IOPL, &allowed);
    assert_eq!(frame(end).rip, 3);
    assert_eq!(guest.gpr(3) & rflags::IF, rflags::IF);
    let port = frame(enter(0, rflags::IOPL, &program(|a| a.in_(al, 0x20).unwrap())).1);
    assert_eq!(
        (port.vector, port.rip),
        (GP, 0),
        "the bitmap counts at any IOPL"
    );
    let system = frame(enter(0, 0, &program(|a| a.db(&[0x0f, 0x00, 0xc0]).unwrap())).1);
    assert_eq!(system.vector, UD, "SLDT");
}

#[test]
fn the_virtual_interrupt_flag_stands_for_the_real_one() {
    let code = program(|a| {
        a.sti().unwrap();
        a.pushf().unwrap();
        a.pop(bx).unwrap();
        a.cli().unwrap();
        a.pushf().unwrap();
        a.pop(cx).unwrap();
        a.push(0x202u32 as i32).unwrap();
        a.popf().unwrap();
    });
    let (guest, end) = enter(cr4::VME, rflags::IF, &code);
    let told = frame(end);
    assert_eq!(told.vector, GP);
    assert_eq!(
        guest.gpr(3) & (rflags::IF | rflags::IOPL),
        rflags::IF | rflags::IOPL
    );
    assert_eq!(guest.gpr(1) & rflags::IF, 0);
    assert_ne!(told.flags & rflags::VIF, 0, "POPF set it again");
    assert_ne!(told.flags & rflags::IF, 0, "never touched");
    let told = frame(enter(cr4::VME, rflags::VIP, &program(|a| a.sti().unwrap())).1);
    assert_eq!((told.vector, told.rip), (GP, 0), "an interrupt waits");
}

#[test]
fn vme_sends_interrupts_to_the_programs_own_table() {
    let code = program(|a| {
        a.int(0x21).unwrap();
        a.inc(dx).unwrap();
    });
    let run = |redirect: bool| {
        let mut guest = Guest::protected(0).with_cr4(cr4::VME);
        let own = assemble(16, 0, |a| {
            a.mov(bx, 9).unwrap();
            a.iret().unwrap();
        });
        guest.ram.write(USER, &own).unwrap();
        guest.ram.store_u32(4 * 0x21, 0xffff_0010).unwrap();
        guest.ram.write(DATA, &code).unwrap();
        guest.ram.store_u16(TSS + 102, 136).unwrap();
        if !redirect {
            guest.ram.fill(TSS + 104, 32, 0xff).unwrap();
        }
        let end = guest.run(|a| {
            for word in [0, 0, 0, 0, (STACK >> 4) as i32, 0x1000] {
                a.push(word).unwrap();
            }
            a.push((rflags::VM | rflags::FIXED) as i32).unwrap();
            a.push((DATA >> 4) as i32).unwrap();
            a.push(0).unwrap();
            a.iretd().unwrap();
        });
        (frame(end), guest.gpr(3), guest.gpr(2) & 0xffff)
    };
    let before = Guest::protected(0).gpr(2) & 0xffff;
    let (told, bx_now, dx_now) = run(true);
    assert_eq!(
        (told.vector, told.rip, bx_now),
        (GP, 3, 9),
        "HLT behind the interrupt"
    );
    assert_eq!(dx_now, before.wrapping_add(1) & 0xffff);
    let (told, ..) = run(false);
    assert_eq!((told.vector, told.error, told.rip), (GP, 0, 0));
}

#[test]
fn an_entry_beyond_64_kib_is_refused() {
    let mut guest = Guest::protected(0);
    let end = guest.fault(|a| {
        for word in [0, 0, 0, 0, 0, 0, 0x2_0002, 0, 0x1_0000] {
            a.push(word).unwrap();
        }
        a.iretd().unwrap();
    });
    assert_eq!(end, (GP, 0));
    assert_eq!(guest.bits(), 32);
}
