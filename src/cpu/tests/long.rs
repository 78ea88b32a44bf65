//! 64-bit and compatibility mode: system calls, returns to users, what privilege and control registers forbid.

use hvf_sys::cpu::State;
use iced_x86::code_asm::*;

use super::*;
use crate::x86::control::dr7;
use crate::x86::msr;
use crate::x86::vector::{AC, DB, GP, NP, PF, SS, UD};

const STAR: u64 = (CODE0 as u64) << 32 | 0x13 << 48;

/// A guest whose SYSCALL goes to `CODE` and whose GDT fits SYSRET: 0x1b data, 0x23 64-bit code.
fn with_syscall(cpl: u8) -> Guest {
    let mut guest = Guest::long(cpl);
    guest.state().msrs.star = STAR;
    guest.state().msrs.lstar = CODE;
    guest.state().msrs.fmask = rflags::IF | rflags::TF;
    guest
}

#[test]
fn syscall_enters_and_sysret_leaves() {
    let mut guest = with_syscall(3);
    let entry = assemble(64, CODE, |a| {
        a.mov(rbx, rcx).unwrap();
        a.mov(rdx, r11).unwrap();
        a.sysretq().unwrap();
    });
    guest.ram.write(CODE, &entry).unwrap();
    guest.set_flags(rflags::IF | rflags::CF);
    let end = guest.run(|a| {
        a.syscall().unwrap();
        a.cli().unwrap();
    });
    let End::Fault(frame) = end else {
        panic!("{end:?}")
    };
    assert_eq!((frame.vector, frame.rip, frame.cs), (GP, USER + 2, 0x23));
    assert_eq!(guest.gpr(3), USER + 2);
    assert_eq!(guest.gpr(2), rflags::IF | rflags::CF | rflags::FIXED);
    assert_eq!(frame.flags & !rflags::RF, guest.gpr(2));
    assert_eq!(
        guest.selector(State::SS),
        0,
        "the handler's stack segment is null"
    );
}

#[test]
fn syscall_wants_efer_and_sysret_a_canonical_address() {
    let mut guest = with_syscall(0);
    guest.set_gpr(1, 1 << 47);
    assert_eq!(guest.fault(|a| a.sysretq().unwrap()), (GP, 0));
    let mut guest = with_syscall(3);
    assert_eq!(guest.fault(|a| a.sysretq().unwrap()), (GP, 0));
    let mut guest = with_syscall(3);
    guest.state().msrs.efer &= !efer::SCE;
    assert_eq!(guest.fault(|a| a.syscall().unwrap()), (UD, 0));
}

#[test]
fn a_thread_keeps_its_base_behind_a_null_selector() {
    let mut guest = Guest::long(0);
    guest.ram.store_u64(USER_DATA + 0x10, 0x77).unwrap();
    let user = assemble(64, USER, |a| {
        a.mov(rax, qword_ptr(0x10).fs()).unwrap();
        a.hlt().unwrap();
    });
    guest.ram.write(USER, &user).unwrap();
    let end = guest.run(|a| {
        a.mov(ecx, msr::FS_BASE).unwrap();
        a.mov(eax, USER_DATA as u32).unwrap();
        a.xor(edx, edx).unwrap();
        a.wrmsr().unwrap();
        a.push(i32::from(DATA3)).unwrap();
        a.push(USER_STACK as i32).unwrap();
        a.push(2).unwrap();
        a.push(i32::from(CODE3)).unwrap();
        a.push(USER as i32).unwrap();
        a.iretq().unwrap();
    });
    assert!(
        matches!(end, End::Fault(Frame { vector: GP, .. })),
        "HLT at level 3"
    );
    assert_eq!(guest.gpr(0), 0x77);
    assert_eq!(
        guest.selector(State::DS),
        0,
        "the kernel's segment is not the user's"
    );
}

#[test]
fn compatibility_mode_runs_32_bit_code_and_comes_back_by_interrupts() {
    let mut guest = Guest::long(0);
    guest.define(FREE, descriptor(0, 0xf_ffff, CODE_RIGHTS | BIG | LEVEL3));
    guest.set_gate(0x80, CODE0, CODE + 0x100, 0xee);
    let user = assemble(32, USER, |a| {
        a.mov(eax, 0xffff_ffffu32).unwrap();
        a.inc(eax).unwrap();
        a.push(0x1234).unwrap();
        a.pop(ebx).unwrap();
        a.int(0x80).unwrap();
    });
    guest.ram.write(USER, &user).unwrap();
    guest.ram.write(CODE + 0x100, &[0xf4]).unwrap();
    guest.set_gpr(3, u64::MAX);
    let end = guest.run(|a| {
        for word in [
            i32::from(DATA3),
            USER_STACK as i32,
            2,
            i32::from(FREE | 3),
            USER as i32,
        ] {
            a.push(word).unwrap();
        }
        a.iretq().unwrap();
    });
    assert_eq!(end, End::Halted);
    assert_eq!((guest.gpr(0), guest.gpr(3)), (0, 0x1234));
    assert_eq!(guest.gpr(4), KERNEL_STACK - 40);
    let frame = guest.frame(0x80);
    assert_eq!((frame.rip, frame.cs), (USER + user.len() as u64, FREE | 3));
    assert_eq!(guest.bits(), 64);
}

#[test]
fn sysenter_and_sysexit() {
    let mut guest = Guest::long(3);
    guest.state().msrs.sysenter_cs = CODE0.into();
    guest.state().msrs.sysenter_eip = CODE;
    guest.state().msrs.sysenter_esp = STACK;
    let kernel = assemble(64, CODE, |a| {
        a.mov(rdx, USER + 0x100).unwrap();
        a.mov(rcx, USER_STACK).unwrap();
        a.sysexitq().unwrap();
    });
    guest.ram.write(CODE, &kernel).unwrap();
    guest.ram.write(USER + 0x100, &[0xf4]).unwrap();
    let end = guest.run(|a| a.sysenter().unwrap());
    let End::Fault(frame) = end else {
        panic!("{end:?}")
    };
    assert_eq!(
        (frame.vector, frame.rip, frame.cs),
        (GP, USER + 0x100, CODE0 + 32 | 3)
    );
    guest.state().msrs.sysenter_cs = 3;
    let mut guest = Guest::long(0);
    assert_eq!(guest.fault(|a| a.sysenter().unwrap()), (GP, 0));
}

#[test]
fn an_address_that_is_not_canonical_is_gp_or_ss() {
    for (base, expected) in [(rax, GP), (rbp, SS), (rsp, SS)] {
        let mut guest = Guest::long(0);
        for n in [0, 5, 4] {
            guest.set_gpr(n, 1 << 47);
        }
        // The handler needs a stack.
        guest.set_gate(expected, CODE0, HANDLERS + u64::from(expected), 0x8e_u64);
        let at = IDT + 16 * u64::from(expected) + 4;
        guest.ram.store_u8(at, 1).unwrap();
        assert_eq!(
            guest.fault(|a| a.mov(rcx, qword_ptr(base)).unwrap()),
            (expected, 0)
        );
        assert_eq!(guest.gpr(4), IST_STACK - 48);
    }
    let mut guest = Guest::long(0);
    guest.set_gpr(0, (1 << 47) - 4);
    assert_eq!(
        guest.fault(|a| a.mov(rcx, qword_ptr(rax)).unwrap()),
        (GP, 0)
    );
    let mut guest = Guest::long(0);
    guest.set_gpr(0, 1 << 47);
    let End::Fault(frame) = guest.run(|a| a.jmp(rax).unwrap()) else {
        panic!()
    };
    assert_eq!((frame.vector, frame.error, frame.rip), (GP, 0, CODE));
}

#[test]
fn what_only_the_kernel_may_do_is_gp() {
    type Program = fn(&mut CodeAssembler);
    let programs: [Program; 14] = [
        |a| a.hlt().unwrap(),
        |a| a.cli().unwrap(),
        |a| a.mov(rax, cr0).unwrap(),
        |a| a.mov(cr3, rax).unwrap(),
        |a| a.mov(rax, dr0).unwrap(),
        |a| a.rdmsr().unwrap(),
        |a| a.wrmsr().unwrap(),
        |a| a.clts().unwrap(),
        |a| a.lgdt(ptr(rsp)).unwrap(),
        |a| a.ltr(ax).unwrap(),
        |a| a.invlpg(byte_ptr(rsp)).unwrap(),
        |a| a.swapgs().unwrap(),
        |a| a.wbinvd().unwrap(),
        |a| a.lmsw(ax).unwrap(),
    ];
    for (n, program) in programs.into_iter().enumerate() {
        assert_eq!(Guest::long(3).fault(program), (GP, 0), "{n}");
    }
}

#[test]
fn lmsw_and_clts_change_the_low_bits_of_cr0_only() {
    let mut guest = Guest::long(0);
    // PE, MP, EM and TS come from the word, and nothing can clear PE (SDM volume 2, LMSW).
    guest.set_gpr(0, 0xffff_000e);
    let end = guest.run(|a| {
        a.mov(rbx, cr0).unwrap();
        a.lmsw(ax).unwrap();
        a.mov(rcx, cr0).unwrap();
        a.clts().unwrap();
        a.mov(rdx, cr0).unwrap();
        a.xor(eax, eax).unwrap();
        a.lmsw(ax).unwrap();
        a.mov(rsi, cr0).unwrap();
        a.hlt().unwrap();
    });
    assert!(end == End::Halted);
    let rest = guest.gpr(3) & !0xf;
    let low = [1, 2, 6].map(|n| guest.gpr(n) ^ rest);
    assert_eq!(low, [0xf, 0x7, 0x1]);
}

#[test]
fn umip_and_tsd_hide_tables_and_time() {
    type Program = fn(&mut CodeAssembler);
    let hidden: [Program; 5] = [
        |a| a.sgdt(ptr(rsp)).unwrap(),
        |a| a.sidt(ptr(rsp)).unwrap(),
        |a| a.sldt(ax).unwrap(),
        |a| a.str(ax).unwrap(),
        |a| a.smsw(ax).unwrap(),
    ];
    for program in hidden {
        let visible = Guest::long(3).fault(|a| {
            a.sub(rsp, 64).unwrap();
            program(a);
            a.ud2().unwrap();
        });
        assert_eq!(visible, (UD, 0));
        assert_eq!(Guest::long(3).with_cr4(cr4::UMIP).fault(program), (GP, 0));
    }
    let time = |guest: Guest| {
        let mut guest = guest;
        guest.fault(|a| {
            a.rdtsc().unwrap();
            a.ud2().unwrap();
        })
    };
    assert_eq!(time(Guest::long(3)), (UD, 0));
    assert_eq!(time(Guest::long(3).with_cr4(cr4::TSD)), (GP, 0));
    assert_eq!(time(Guest::long(0).with_cr4(cr4::TSD)), (UD, 0));
}

#[test]
fn control_registers_refuse_what_makes_no_sense() {
    let refused = |cr: u64, value: u64| {
        let mut guest = Guest::long(0);
        guest.set_gpr(0, value);
        let end = guest.run(|a| {
            match cr {
                0 => a.mov(cr0, rax).unwrap(),
                3 => a.mov(cr3, rax).unwrap(),
                4 => a.mov(cr4, rax).unwrap(),
                _ => a.mov(cr8, rax).unwrap(),
            }
            a.hlt().unwrap();
        });
        end != End::Halted
    };
    let now = Guest::long(0).cpu.core().state.clone();
    assert!(!refused(0, now.cr0));
    assert!(refused(0, now.cr0 | 1 << 32));
    assert!(refused(0, now.cr0 & !cr0::PE), "paging without protection");
    assert!(refused(0, now.cr0 & !cr0::PG), "paging off in 64-bit code");
    assert!(refused(0, now.cr0 | cr0::NW), "NW without CD");
    assert!(refused(3, now.cr3 | 1 << 63), "no PCIDs");
    assert!(refused(3, now.cr3 | 1 << PHYSICAL_BITS));
    assert!(!refused(4, now.cr4 | cr4::PCIDE));
    assert!(refused(4, now.cr4 & !cr4::PAE));
    assert!(refused(4, now.cr4 | cr4::VMXE));
    assert!(refused(4, now.cr4 | 1 << 40));
    assert!(refused(8, 16));
}

#[test]
fn model_specific_registers_refuse_what_makes_no_sense() {
    let refused = |number: u32, value: u64| {
        let mut guest = Guest::long(0);
        guest.set_gpr(1, number.into());
        guest.set_gpr(0, value & 0xffff_ffff);
        guest.set_gpr(2, value >> 32);
        let end = guest.run(|a| {
            a.wrmsr().unwrap();
            a.hlt().unwrap();
        });
        end != End::Halted
    };
    let efer_now = efer::LME | efer::LMA | efer::NXE | efer::SCE;
    assert!(!refused(msr::EFER, efer_now));
    assert!(
        refused(msr::EFER, efer_now & !efer::LME),
        "while paging is on"
    );
    assert!(refused(msr::EFER, efer_now | 1 << 1));
    for number in [
        msr::LSTAR,
        msr::FS_BASE,
        msr::GS_BASE,
        msr::KERNEL_GS_BASE,
        msr::SYSENTER_EIP,
    ] {
        assert!(refused(number, 1 << 47));
        assert!(!refused(number, !0 << 47));
    }
    assert!(refused(msr::PAT, 2));
    let (base, mask) = (msr::MTRR_PHYSBASE0 + 2, msr::MTRR_PHYSBASE0 + 3);
    let top = (1 << PHYSICAL_BITS) - 0x1000;
    for (number, right) in [(base, top | 6), (base, 0), (mask, top | 0x800), (mask, 0)] {
        assert!(!refused(number, right), "{number:#x} {right:#x}");
    }
    for (number, wrong) in [
        (base, 1 << PHYSICAL_BITS),
        (base, 0x100),
        (base, 2),
        (mask, 1 << PHYSICAL_BITS),
        (mask, 0x400),
        (mask, 1),
    ] {
        assert!(refused(number, wrong), "{number:#x} {wrong:#x}");
    }
    assert!(refused(0x1234_5678, 0));
}

#[test]
fn debug_registers_refuse_upper_halves_and_keep_their_fixed_bits() {
    let mut guest = Guest::long(0);
    guest.set_gpr(0, 1 << 32);
    assert_eq!(guest.fault(|a| a.mov(dr7, rax).unwrap()), (GP, 0));
    let mut guest = Guest::long(0);
    guest.set_gpr(0, 0xffff_ffff & !dr7::ENABLES & !dr7::GD);
    guest.run(|a| {
        a.mov(dr7, rax).unwrap();
        a.mov(rbx, dr7).unwrap();
        a.mov(dr6, rax).unwrap();
        a.mov(rcx, dr6).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!(guest.gpr(3), 0xffff_0700);
    assert_eq!(guest.gpr(1) & 0x1000, 0, "bit 12 of DR6 is always clear");
    let mut guest = Guest::long(0).with_cr4(cr4::DE);
    assert_eq!(
        guest.fault(|a| a.db(&[0x0f, 0x21, 0xe0]).unwrap()),
        (UD, 0),
        "DR4"
    );
    let mut guest = Guest::long(0);
    guest.state().dr7 |= dr7::GD;
    assert_eq!(guest.fault(|a| a.mov(rax, dr0).unwrap()), (DB, 0));
    assert_eq!(guest.state().dr7 & dr7::GD, 0);
    assert_eq!(guest.state().dr6 & 1 << 13, 1 << 13);
}

#[test]
fn ports_obey_iopl_and_the_bitmap() {
    let write = |level: u64, bit: Option<u64>| {
        let mut guest = Guest::long(3);
        guest.ram.fill(TSS + 104, 0x200, 0xff).unwrap();
        if let Some(port) = bit {
            let at = TSS + 104 + port / 8;
            let old = guest.ram.load_u8(at).unwrap();
            guest.ram.store_u8(at, old & !(1 << (port % 8))).unwrap();
        }
        guest.set_flags(level << rflags::IOPL_SHIFT);
        guest.set_gpr(2, 0x3ff);
        let end = guest.fault(|a| {
            a.out(dx, al).unwrap();
            a.ud2().unwrap();
        });
        (end, guest.notes.heard.len())
    };
    assert_eq!(write(0, None), ((GP, 0), 0));
    assert_eq!(write(3, None), ((UD, 0), 1));
    assert_eq!(write(0, Some(0x3ff)), ((UD, 0), 1));
    let mut guest = Guest::long(3);
    guest.set_gpr(2, 0x3ff);
    guest.ram.fill(TSS + 104, 0x200, 0xff).unwrap();
    guest.ram.store_u8(TSS + 104 + 0x7f, 0).unwrap();
    assert_eq!(
        guest.fault(|a| a.in_(ax, dx).unwrap()),
        (GP, 0),
        "the second port is forbidden"
    );
}

#[test]
fn alignment_is_checked_for_users_who_ask_for_it() {
    let read = |cpl: u8, flag: u64, address: u64| {
        let mut guest = Guest::long(cpl);
        guest.set_flags(flag);
        guest.set_gpr(0, address);
        guest.fault(|a| {
            a.mov(rbx, qword_ptr(rax)).unwrap();
            a.ud2().unwrap();
        })
    };
    assert_eq!(read(3, rflags::AC, USER_DATA + 4), (AC, 0));
    assert_eq!(read(3, rflags::AC, USER_DATA + 8), (UD, 0));
    assert_eq!(read(3, 0, USER_DATA + 4), (UD, 0));
    assert_eq!(read(0, rflags::AC, DATA + 4), (UD, 0));
    // Also where the page was used before.
    let mut guest = Guest::long(3);
    guest.set_gpr(0, USER_DATA + 1);
    let end = guest.fault(|a| {
        a.mov(rbx, qword_ptr(rax)).unwrap();
        a.pushfq().unwrap();
        a.or(dword_ptr(rsp), rflags::AC as i32).unwrap();
        a.popfq().unwrap();
        a.mov(rbx, qword_ptr(rax)).unwrap();
        a.ud2().unwrap();
    });
    assert_eq!(end, (AC, 0));
}

#[test]
fn gates_of_long_mode_are_checked() {
    let int = |change: fn(&mut Guest)| {
        let mut guest = Guest::long(3);
        change(&mut guest);
        guest.fault(|a| a.int(0x40).unwrap())
    };
    assert_eq!(int(|_| {}), (GP, 0x202), "a gate of level 0");
    assert_eq!(
        int(|g| g.set_gate(0x40, CODE0, HANDLERS + 0x40, 0xee)),
        (0x40, 0)
    );
    assert_eq!(
        int(|g| g.set_gate(0x40, CODE0, HANDLERS + 0x40, 0x6e)),
        (NP, 0x202)
    );
    assert_eq!(
        int(|g| g.set_gate(0x40, CODE0, HANDLERS + 0x40, 0xe6)),
        (GP, 0x202)
    );
    assert_eq!(int(|g| g.set_gate(0x40, 0, HANDLERS + 0x40, 0xee)), (GP, 0));
    assert_eq!(
        int(|g| g.set_gate(0x40, CODE16, HANDLERS + 0x40, 0xee)),
        (GP, CODE16.into())
    );
    assert_eq!(
        int(|g| g.set_gate(0x40, DATA0, HANDLERS + 0x40, 0xee)),
        (GP, DATA0.into())
    );
    assert_eq!(int(|g| g.set_gate(0x40, CODE0, 1 << 50, 0xee)), (GP, 0));
    assert_eq!(
        int(|g| g.state().idtr.limit = 0x40f),
        (GP, 0x202),
        "cut off"
    );
}

#[test]
fn double_faults_take_their_own_stack_or_shut_down() {
    let mut guest = Guest::long(0);
    guest.map(DATA, 0);
    guest.set_gpr(4, DATA + 0x800);
    guest.ram.store_u8(IDT + 8 * 16 + 4, 1).unwrap();
    let End::Fault(frame) = guest.run(|a| a.push(rax).unwrap()) else {
        panic!()
    };
    assert_eq!(
        (frame.vector, frame.error, frame.rip),
        (vector::DF, 0, CODE)
    );
    assert_eq!(
        guest.state().cr2,
        (DATA + 0x800 & !15) - 8,
        "of the second fault"
    );
    let mut guest = Guest::long(0);
    guest.map(DATA, 0);
    guest.set_gpr(4, DATA + 0x800);
    assert_eq!(guest.run(|a| a.push(rax).unwrap()), End::Shutdown);
    // #UD is benign: the page fault of its delivery is delivered by itself.
    let mut guest = Guest::long(0);
    guest.map(DATA, 0);
    guest.set_gpr(4, DATA + 0x800);
    guest.ram.store_u8(IDT + 14 * 16 + 4, 1).unwrap();
    assert_eq!(guest.fault(|a| a.ud2().unwrap()), (PF, 2));
}

#[test]
fn an_iret_to_64_bit_code_with_nt_is_gp() {
    let mut guest = Guest::long(0);
    guest.set_flags(rflags::NT);
    assert_eq!(guest.fault(|a| a.iretq().unwrap()), (GP, 0));
}

#[test]
fn a_call_gate_of_long_mode_switches_stacks() {
    let mut guest = Guest::long(3);
    guest.define(FREE, gate(CODE0, CODE, 0xec, 0));
    guest.define(FREE + 8, 0);
    guest.ram.write(CODE, &[0xf4]).unwrap();
    guest
        .ram
        .store_u64(USER_DATA, u64::from(FREE | 3) << 32)
        .unwrap();
    guest.set_gpr(0, USER_DATA);
    assert_eq!(guest.run(|a| a.call(fword_ptr(rax)).unwrap()), End::Halted);
    let top = guest.gpr(4);
    assert_eq!(top, KERNEL_STACK - 32);
    let pushed: Vec<u64> = (0..4)
        .map(|n| guest.ram.load_u64(top + 8 * n).unwrap())
        .collect();
    assert_eq!(pushed, [USER + 2, CODE3.into(), USER_STACK, DATA3.into()]);
    // Cut off by the table's end.
    let mut guest = Guest::long(3);
    guest.define(0xf8, gate(CODE0, CODE, 0xec, 0));
    guest.ram.store_u64(USER_DATA, 0xfb << 32).unwrap();
    guest.set_gpr(0, USER_DATA);
    assert_eq!(guest.fault(|a| a.call(fword_ptr(rax)).unwrap()), (GP, 0xf8));
}
