//! Paging: rights, error codes and CR2, accessed and dirty bits, page sizes, what stays in the TLB, what a fault leaves.

use hvf_sys::cpu::State;
use iced_x86::code_asm::*;

use super::*;
use crate::x86::control::page::{A, D, G, NX, P, PS, RW, US};
use crate::x86::vector::{GP, PF, UD};

type Program = fn(&mut CodeAssembler);

const READ: Program = |a| a.mov(rax, qword_ptr(rbx)).unwrap();
const WRITE: Program = |a| a.mov(qword_ptr(rbx), rax).unwrap();
const CALL: Program = |a| a.call(rbx).unwrap();

/// Accesses a page whose entry has these bits; the error code, if it faults.
fn access(cpl: u8, bits: u64, cr4_bits: u64, flags: u64, program: Program) -> Option<u64> {
    let mut guest = Guest::long(cpl).with_cr4(cr4_bits);
    let at = if cpl == 3 { USER_DATA } else { DATA };
    guest.map(at, at | bits);
    guest.ram.write(at, &[0xc3]).unwrap();
    guest.set_flags(flags);
    guest.set_gpr(3, at);
    let end = guest.fault(|a| {
        program(a);
        a.ud2().unwrap();
    });
    if end.0 == PF {
        assert_eq!(guest.state().cr2, at);
        return Some(end.1);
    }
    assert_eq!(end.0, UD);
    None
}

#[test]
fn rights_and_error_codes() {
    let kernel = |bits, program| access(0, bits, 0, 0, program);
    let user = |bits, program| access(3, bits, 0, 0, program);
    assert_eq!(kernel(P, READ), None);
    assert_eq!(kernel(0, READ), Some(0));
    assert_eq!(kernel(0, WRITE), Some(2));
    assert_eq!(kernel(P, WRITE), Some(3), "WP");
    assert_eq!(kernel(P | NX, CALL), Some(0x11));
    assert_eq!(kernel(P | RW | 1 << 51, READ), Some(9), "reserved");
    assert_eq!(kernel(P | US | RW, WRITE), None);
    assert_eq!(kernel(P | US, CALL), None);
    assert_eq!(user(P | US, READ), None);
    assert_eq!(user(P | RW, READ), Some(5));
    assert_eq!(user(P | US, WRITE), Some(7));
    assert_eq!(user(P | US | NX, CALL), Some(0x15));
    assert_eq!(user(0, CALL), Some(0x14));
    assert_eq!(user(P | US | 1 << 51, WRITE), Some(0xf));
}

#[test]
fn smep_and_smap_keep_the_kernel_off_user_pages() {
    let both = cr4::SMEP | cr4::SMAP;
    let user = P | US | RW;
    assert_eq!(access(0, user, both, 0, CALL), Some(0x11));
    assert_eq!(access(0, user, both, 0, READ), Some(1));
    assert_eq!(access(0, user, both, 0, WRITE), Some(3));
    assert_eq!(access(0, user, both, rflags::AC, READ), None);
    assert_eq!(access(0, user, both, rflags::AC, CALL), Some(0x11));
    assert_eq!(access(3, user, both, 0, READ), None);
    let mut guest = Guest::long(0).with_cr4(cr4::SMAP);
    guest.map(DATA, DATA | user);
    guest.set_gpr(3, DATA);
    let end = guest.run(|a| {
        a.stac().unwrap();
        a.mov(rax, qword_ptr(rbx)).unwrap();
        a.clac().unwrap();
        a.mov(rax, qword_ptr(rbx)).unwrap();
    });
    let End::Fault(frame) = end else { panic!() };
    assert_eq!((frame.vector, frame.error, frame.rip), (PF, 1, CODE + 9));
}

#[test]
fn the_lesser_right_counts_whatever_level_has_it() {
    for level in 0..4 {
        for (bit, program, error) in [(RW, WRITE, 7), (US, READ, 5), (NX, CALL, 0x15)] {
            let mut guest = Guest::long(3);
            let next = [TABLES + 0x4000, TABLES + 0x5000, TABLES + 0x6000, USER_DATA];
            let at = [TABLES + 8, next[0], next[1], next[2]];
            for n in 0..4 {
                let change = if n == level { bit } else { 0 };
                guest
                    .ram
                    .store_u64(at[n], next[n] | (P | RW | US) ^ change)
                    .unwrap();
            }
            guest.set_gpr(3, 1 << 39);
            assert_eq!(guest.fault(program), (PF, error), "level {level}");
        }
    }
}

#[test]
fn a_kernel_without_wp_writes_to_read_only_pages() {
    let mut guest = Guest::long(0);
    guest.map(DATA, DATA | P);
    guest.set_gpr(3, DATA);
    let end = guest.fault(|a| {
        a.mov(rcx, cr0).unwrap();
        a.and(ecx, !(cr0::WP as u32) as i32).unwrap();
        a.mov(cr0, rcx).unwrap();
        a.mov(qword_ptr(rbx), rax).unwrap();
        a.or(ecx, cr0::WP as i32).unwrap();
        a.mov(cr0, rcx).unwrap();
        a.mov(qword_ptr(rbx), rax).unwrap();
    });
    assert_eq!(end, (PF, 3), "only the second store");
    assert_eq!(guest.page_entry(DATA), DATA | P | A | D);
}

#[test]
fn accessed_and_dirty_bits() {
    let mut guest = Guest::long(0);
    guest.set_gpr(3, DATA);
    guest.run(|a| {
        a.mov(rax, qword_ptr(rbx)).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!(guest.page_entry(DATA), DATA | P | RW | A);
    assert_eq!(guest.page_entry(CODE) & (A | D), A);
    assert_ne!(guest.ram.load_u64(TABLES).unwrap() & A, 0);
    guest.run(|a| {
        a.mov(qword_ptr(rbx), rax).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!(guest.page_entry(DATA), DATA | P | RW | A | D);
    let mut guest = Guest::long(3);
    guest.map(DATA, DATA | P | RW);
    guest.set_gpr(3, DATA);
    assert_eq!(guest.fault(WRITE), (PF, 7));
    assert_eq!(
        guest.page_entry(DATA),
        DATA | P | RW,
        "not for an access that was refused"
    );
}

#[test]
fn large_pages_and_their_reserved_bits() {
    for (level, address, bad) in [(2, 0x3020_0000u64, 1 << 13), (1, 0x4000_0000, 1 << 21)] {
        for reserved in [0, bad] {
            let mut guest = Guest::long(0);
            let index = if level == 2 {
                address >> 21 & 511
            } else {
                address >> 30
            };
            let at = TABLES + 0x1000 * level + 8 * index;
            guest.ram.store_u64(at, P | RW | PS | reserved).unwrap();
            guest.ram.store_u64(DATA, 0x1234).unwrap();
            guest.set_gpr(3, address | DATA);
            let end = guest.fault(|a| {
                a.mov(rax, qword_ptr(rbx)).unwrap();
                a.ud2().unwrap();
            });
            if reserved == 0 {
                assert_eq!((end.0, guest.gpr(0)), (UD, 0x1234));
            } else {
                assert_eq!(end, (PF, 9));
            }
        }
    }
    let mut guest = Guest::long(0);
    guest.ram.store_u64(TABLES + 8, P | RW | PS).unwrap();
    guest.set_gpr(3, 1 << 39);
    assert_eq!(guest.fault(READ), (PF, 9), "no pages of 512 GiB");
}

#[test]
fn invlpg_for_any_address_of_a_large_page_ends_all_of_it() {
    let mut guest = Guest::long(0);
    let entry = TABLES + 0x2000 + 8;
    guest.ram.store_u64(entry, P | RW | PS).unwrap();
    guest.ram.store_u64(DATA, 0x1234).unwrap();
    guest.set_gpr(3, 0x20_0000 | DATA);
    guest.set_gpr(1, entry);
    let end = guest.fault(|a| {
        a.mov(rax, qword_ptr(rbx)).unwrap();
        a.mov(qword_ptr(rcx), 0).unwrap();
        a.invlpg(byte_ptr(0x20_0000)).unwrap();
        a.mov(rax, qword_ptr(rbx)).unwrap();
    });
    assert_eq!(end, (PF, 0));
    assert_eq!(guest.gpr(0), 0x1234);
}

/// Reads a page, takes its entry away, does something, reads again: whether that faults.
fn forgotten(global: bool, program: impl FnOnce(&mut CodeAssembler)) -> bool {
    let mut guest = Guest::long(0).with_cr4(cr4::PCIDE);
    guest.map(DATA, DATA | P | RW | if global { G } else { 0 });
    guest.ram.store_u64(DATA + 0x1000, 0).unwrap();
    guest.ram.store_u64(DATA + 0x1008, DATA).unwrap();
    guest.set_gpr(3, DATA);
    guest.set_gpr(1, PT + 8 * (DATA >> 12));
    let end = guest.fault(|a| {
        a.mov(rax, qword_ptr(rbx)).unwrap();
        a.mov(qword_ptr(rcx), 0).unwrap();
        program(a);
        a.mov(rax, qword_ptr(rbx)).unwrap();
        a.ud2().unwrap();
    });
    end.0 == PF
}

#[test]
fn what_ends_translations() {
    let invpcid = |kind: u64| {
        move |a: &mut CodeAssembler| {
            a.mov(rdx, kind).unwrap();
            a.invpcid(rdx, xmmword_ptr(DATA + 0x1000)).unwrap();
        }
    };
    let reload = |a: &mut CodeAssembler| {
        a.mov(rdx, cr3).unwrap();
        a.mov(cr3, rdx).unwrap();
    };
    assert!(!forgotten(false, |_| {}));
    assert!(forgotten(false, |a| a.invlpg(byte_ptr(rbx)).unwrap()));
    assert!(forgotten(true, |a| a.invlpg(byte_ptr(rbx)).unwrap()));
    assert!(forgotten(false, reload));
    assert!(!forgotten(true, reload), "global");
    for kind in 0..4 {
        assert!(forgotten(false, invpcid(kind)), "{kind}");
    }
    assert!(!forgotten(true, invpcid(3)), "all but the global ones");
    assert!(forgotten(true, invpcid(2)));
    assert!(forgotten(true, |a| {
        a.mov(rdx, cr4).unwrap();
        a.xor(rdx, cr4::PGE as i32).unwrap();
        a.mov(cr4, rdx).unwrap();
    }));
}

#[test]
fn invpcid_refuses_bad_descriptors() {
    let refused = |kind: u64, pcid: u64, address: u64, bits: u64| {
        let mut guest = Guest::long(0).with_cr4(bits);
        guest.ram.store_u64(DATA, pcid).unwrap();
        guest.ram.store_u64(DATA + 8, address).unwrap();
        guest.set_gpr(0, kind);
        guest.run(|a| {
            a.invpcid(rax, xmmword_ptr(DATA)).unwrap();
            a.hlt().unwrap();
        }) != End::Halted
    };
    assert!(!refused(0, 5, 0, cr4::PCIDE));
    assert!(refused(0, 5, 0, 0));
    assert!(refused(0, 0, 1 << 47, 0));
    assert!(refused(4, 0, 0, 0));
    assert!(refused(2, 1 << 12, 0, cr4::PCIDE));
    assert!(!refused(2, 5, 1 << 47, 0));
}

#[test]
fn an_instruction_across_two_pages_faults_at_the_second_and_runs_later() {
    let mut guest = Guest::long(0);
    let start = CODE + 0xffd;
    guest.map(CODE + 0x1000, 0);
    guest.at(start);
    let code = assemble(64, start, |a| {
        a.mov(rax, 0x1122_3344_5566_7788u64).unwrap();
        a.hlt().unwrap();
    });
    guest.ram.write(start, &code).unwrap();
    let End::Fault(frame) = guest.go() else {
        panic!()
    };
    assert_eq!((frame.vector, frame.error, frame.rip), (PF, 0x10, start));
    assert_eq!((guest.state().cr2, guest.gpr(0)), (CODE + 0x1000, 0));
    guest.map(CODE + 0x1000, CODE + 0x1000 | P);
    assert_eq!(guest.at(start).go(), End::Halted);
    assert_eq!(guest.gpr(0), 0x1122_3344_5566_7788);
}

#[test]
fn a_fault_on_the_second_page_leaves_everything_as_it_was() {
    type Case = (Program, u64);
    let cases: [Case; 9] = [
        (|a| a.mov(qword_ptr(rbx), rax).unwrap(), 2),
        (|a| a.add(qword_ptr(rbx), rax).unwrap(), 2),
        (|a| a.lock().xadd(qword_ptr(rbx), rax).unwrap(), 2),
        (|a| a.xchg(qword_ptr(rbx), rax).unwrap(), 2),
        (|a| a.cmpxchg(qword_ptr(rbx), rcx).unwrap(), 2),
        (|a| a.movups(xmmword_ptr(rbx), xmm0).unwrap(), 2),
        (|a| a.pop(qword_ptr(rbx)).unwrap(), 2),
        (|a| a.movsq().unwrap(), 2),
        (|a| a.mov(rax, qword_ptr(rbx)).unwrap(), 0),
    ];
    for (n, (program, error)) in cases.into_iter().enumerate() {
        let mut guest = Guest::long(0);
        guest.map(DATA + 0x1000, 0);
        guest.ram.fill(DATA + 0xff0, 16, 0x5a).unwrap();
        let before = DATA + 0xffc;
        for (register, value) in [(0, 0x11), (1, 0x22), (3, before), (6, DATA), (7, before)] {
            guest.set_gpr(register, value);
        }
        let gprs = guest.state().gpr;
        let flags = guest.flags();
        let End::Fault(frame) = guest.run(program) else {
            panic!("{n}")
        };
        assert_eq!(
            (frame.vector, frame.error, frame.rip),
            (PF, error, CODE),
            "{n}"
        );
        assert_eq!(guest.state().cr2, DATA + 0x1000, "{n}");
        assert_eq!(
            guest.ram.load_u64(DATA + 0xff8),
            Ok(0x5a5a_5a5a_5a5a_5a5a),
            "{n}"
        );
        let now: State = guest.state().clone();
        assert_eq!(now.gpr[..4], gprs[..4], "{n}");
        assert_eq!(now.gpr[5..], gprs[5..], "{n}");
        assert_eq!(
            frame.flags & rflags::ARITHMETIC,
            flags & rflags::ARITHMETIC,
            "{n}"
        );
        let pushed = guest.ram.load_u64(guest.gpr(4) + 32).unwrap();
        assert_eq!(pushed, gprs[4], "{n}: RSP as it was");
    }
}

#[test]
fn a_string_stops_at_the_fault_and_goes_on_behind_it() {
    for backwards in [false, true] {
        let mut guest = Guest::long(0);
        guest.map(DATA + 0x2000, 0);
        guest.map(DATA, 0);
        let start = DATA + if backwards { 0x1100 } else { 0x1f00 };
        if backwards {
            guest.set_flags(rflags::DF);
        }
        for (register, value) in [(0, 0x77), (1, 0x200), (7, start)] {
            guest.set_gpr(register, value);
        }
        let end = guest.run(|a| {
            a.rep().stosb().unwrap();
            a.hlt().unwrap();
        });
        let End::Fault(frame) = end else { panic!() };
        assert_eq!((frame.vector, frame.error, frame.rip), (PF, 2, CODE));
        let (edge, left) = if backwards {
            (DATA + 0xfff, 0x200 - 0x101)
        } else {
            (DATA + 0x2000, 0x100)
        };
        assert_eq!(
            (guest.gpr(7), guest.gpr(1), guest.state().cr2),
            (edge, left, edge)
        );
        guest.map(edge, edge & !0xfff | P | RW);
        assert_eq!(guest.at(CODE).go(), End::Halted);
        assert_eq!(guest.gpr(1), 0);
        assert_eq!(guest.ram.load_u8(edge), Ok(0x77));
    }
}

#[test]
fn a_string_gives_way_after_a_batch() {
    let mut guest = Guest::long(0);
    guest.set_gpr(1, 1 << 16);
    guest.set_gpr(6, DATA);
    let code = assemble(64, CODE, |a| a.rep().lodsb().unwrap());
    guest.ram.write(CODE, &code).unwrap();
    guest.cpu.core_mut().window = true;
    guest.set_flags(rflags::IF);
    // The window is open from the start: each run stops before its first block, or the next after a kick.
    assert_eq!(guest.cpu.run(&mut guest.notes, None), Stop::WindowOpen);
    guest.cpu.core_mut().begin_shadow(false);
    assert_eq!(guest.cpu.run(&mut guest.notes, None), Stop::WindowOpen);
    assert_eq!(
        (guest.state().rip, guest.gpr(1)),
        (CODE, (1 << 16) - (1 << 12))
    );
}

/// A guest in 32-bit paging without PAE: the first 4 MiB by a table, the next by a large page.
fn paged32(pae: bool) -> Guest {
    let guest = Guest::protected(0);
    if pae {
        guest.ram.store_u64(TABLES, TABLES + 0x1000 | P).unwrap();
        guest
            .ram
            .store_u64(TABLES + 0x1000, P | RW | US | PS)
            .unwrap();
        guest.ram.store_u64(TABLES + 0x1008, P | RW | PS).unwrap();
    } else {
        guest
            .ram
            .store_u32(TABLES, (TABLES + 0x1000 | P | RW | US) as u32)
            .unwrap();
        for n in 0..512 {
            guest
                .ram
                .store_u32(TABLES + 0x1000 + 4 * n, (n << 12 | P | RW | US) as u32)
                .unwrap();
        }
        guest
            .ram
            .store_u32(TABLES + 4, (P | RW | PS) as u32)
            .unwrap();
    }
    guest
}

fn begin_paging(a: &mut CodeAssembler, format: u64) {
    a.mov(eax, TABLES as u32).unwrap();
    a.mov(cr3, eax).unwrap();
    a.mov(eax, format as u32).unwrap();
    a.mov(cr4, eax).unwrap();
    a.mov(eax, cr0).unwrap();
    a.or(eax, cr0::PG as u32 as i32).unwrap();
    a.mov(cr0, eax).unwrap();
}

#[test]
fn pages_of_4_mib_have_no_more_address_bits_than_the_processor() {
    for (bit, faults) in [(19, false), (20, true), (21, true)] {
        let mut guest = paged32(false);
        let entry = (P | RW | PS) as u32 | 1 << bit;
        guest.ram.store_u32(TABLES + 4, entry).unwrap();
        guest.ram.store_u32(DATA, 0x1234).unwrap();
        guest.set_gpr(3, 0x40_0000 | DATA);
        let end = guest.fault(|a| {
            begin_paging(a, cr4::PSE);
            a.mov(edx, dword_ptr(ebx)).unwrap();
            a.ud2().unwrap();
        });
        if faults {
            assert_eq!(end, (PF, 9), "bit {bit}");
        } else {
            // 256 GiB up, where the RAM is not.
            assert_eq!(end.0, UD, "bit {bit}");
            assert_ne!(guest.gpr(2), 0x1234);
        }
    }
}

#[test]
fn paging_of_32_bit_kernels() {
    for (pae, alias) in [(false, 0x40_0000u64), (true, 0x20_0000)] {
        let mut guest = paged32(pae);
        let bits = if pae { cr4::PAE } else { cr4::PSE };
        guest.ram.store_u32(DATA, 0xabcd).unwrap();
        guest.set_gpr(3, alias | DATA);
        let end = guest.run(|a| {
            begin_paging(a, bits);
            a.mov(edx, dword_ptr(ebx)).unwrap();
            a.mov(ebx, 0xc000_0000u32).unwrap();
            a.mov(byte_ptr(ebx), al).unwrap();
        });
        assert_eq!(guest.gpr(2), 0xabcd, "PAE {pae}");
        let End::Fault(frame) = end else { panic!() };
        assert_eq!((frame.vector, frame.error), (PF, 2));
        assert_eq!(guest.state().cr2, 0xc000_0000);
    }
}

#[test]
fn pae_refuses_reserved_bits_in_its_four_pointers() {
    let mut guest = paged32(true);
    guest.ram.store_u64(TABLES + 24, P | RW).unwrap();
    let end = guest.fault(|a| begin_paging(a, cr4::PAE));
    assert_eq!(end, (GP, 0));
    assert_eq!(guest.state().cr0 & cr0::PG, 0);
}
