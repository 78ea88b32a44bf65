//! The first small programs: loops, devices, faults without tables.

use hvf_sys::cpu::State;

use super::super::{Cpu, Stop};
use super::{Notes, cpu};
use crate::x86::control::{cr0, cr4, efer};
use crate::x86::regs::Segment;

const CODE: u64 = 0x1_0000;
const STACK: u64 = 0x2_0000;
const TABLES: u64 = 0x8_0000;

/// A vCPU in 64-bit mode with the low GiB mapped as itself, about to execute `code`.
pub(super) fn long(code: &[u8]) -> Cpu {
    let mut cpu = cpu();
    let ram = cpu.core().tlb.ram().clone();
    ram.store_u64(TABLES, TABLES + 0x1000 | 3).unwrap();
    ram.store_u64(TABLES + 0x1000, 0x83).unwrap();
    ram.write(CODE, code).unwrap();
    let mut regs = cpu.core().regs();
    regs.cr0 = cr0::PE | cr0::PG | cr0::NE | cr0::WP;
    regs.cr3 = TABLES;
    regs.cr4 = cr4::PAE | cr4::OSFXSR;
    regs.efer = efer::LME | efer::LMA | efer::NXE;
    let flat = |rights| Segment {
        selector: 8,
        base: 0,
        limit: u32::MAX,
        rights,
    };
    regs.cs = flat(0xa09b);
    regs.ss = flat(0xc093);
    regs.rip = CODE;
    regs.gprs[4] = STACK;
    cpu.core_mut().set_regs(&regs);
    cpu
}

pub(super) fn gpr(cpu: &Cpu, n: usize) -> u64 {
    cpu.core().state.gpr[n]
}

#[test]
fn a_loop_sums() {
    // mov ecx, 1000000; xor eax, eax; l: add rax, rcx; dec ecx; jnz l; hlt
    let mut cpu = long(&[
        0xb9, 0x40, 0x42, 0x0f, 0, 0x31, 0xc0, 0x48, 0x01, 0xc8, 0xff, 0xc9, 0x75, 0xf9, 0xf4,
    ]);
    assert_eq!(cpu.run(&mut Notes::default(), None), Stop::Halt);
    assert_eq!(gpr(&cpu, 0), 1_000_000 * 1_000_001 / 2);
    assert_eq!(cpu.core().retired, 3_000_003);
    assert_eq!(cpu.core().state.rip, CODE + 15);
}

#[test]
fn input_changes_no_more_of_the_register_than_its_width() {
    for (input, expected) in [
        (&[0xec][..], 0xffff_ffff_ffff_ff9c_u64),
        (&[0x66, 0xed], 0xffff_ffff_ffff_369c),
        // A result of 32 bits clears the upper half (SDM volume 1, 3.4.1.1).
        (&[0xed], 0x369c),
    ] {
        // mov rax, -1; mov edx, 0x1234; in; hlt. The port answers with three times its number.
        let start = [
            0x48, 0xc7, 0xc0, 0xff, 0xff, 0xff, 0xff, 0xba, 0x34, 0x12, 0, 0,
        ];
        let mut cpu = long(&[&start, input, &[0xf4]].concat());
        assert_eq!(cpu.run(&mut Notes::default(), None), Stop::Halt);
        assert_eq!(gpr(&cpu, 0), expected, "{input:x?}");
    }
}

#[test]
fn stack_memory_and_devices() {
    let mut cpu = long(&[
        0x68, 0x78, 0x56, 0x34, 0x12, // push 0x12345678
        0x5b, // pop rbx
        0x48, 0xb8, 0, 0, 0, 0x30, 0, 0, 0, 0, // mov rax, 0x3000_0000
        0x89, 0x18, // mov [rax], ebx
        0x8b, 0x48, 0x04, // mov ecx, [rax + 4]
        0xe8, 0x01, 0, 0, 0,    // call +1
        0xf4, // hlt
        0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
        0xec, // in al, dx
        0xee, // out dx, al
        0xc3, // ret
    ]);
    let mut notes = Notes::default();
    assert_eq!(cpu.run(&mut notes, None), Stop::Halt);
    assert_eq!(gpr(&cpu, 3), 0x1234_5678);
    assert_eq!(
        gpr(&cpu, 1),
        0x3000_0004u64.wrapping_mul(0x0101_0101) & 0xffff_ffff
    );
    assert_eq!(
        notes.heard,
        [(0x3000_0000, 0x1234_5678), (0x3f8, 0x3f8 * 3 & 0xff)]
    );
    assert_eq!(gpr(&cpu, 4), STACK);
}

#[test]
fn code_that_writes_over_its_next_instruction() {
    // mov byte [rip + 1], 0x42 (the immediate of the next instruction); mov al, 0; hlt
    let mut cpu = long(&[0xc6, 0x05, 0x01, 0, 0, 0, 0x42, 0xb0, 0x00, 0xf4]);
    assert_eq!(cpu.run(&mut Notes::default(), None), Stop::Halt);
    assert_eq!(gpr(&cpu, 0) & 0xff, 0x42);
}

#[test]
fn a_fault_without_a_table_shuts_down() {
    let mut cpu = long(&[0x0f, 0x0b]);
    assert_eq!(cpu.run(&mut Notes::default(), None), Stop::TripleFault);
}

#[test]
fn a_page_fault_reaches_its_handler_with_address_and_code() {
    // mov [0x4000_0000], eax with an IDT whose entry 14 points to HLT
    let mut cpu = long(&[0x89, 0x04, 0x25, 0, 0, 0, 0x40, 0xf4, 0xf4]);
    let ram = cpu.core().tlb.ram().clone();
    let handler = CODE + 8;
    let (gdt, idt) = (0x3000, 0x4000);
    ram.store_u64(gdt + 8, 0x00af_9b00_0000_ffff).unwrap();
    ram.store_u64(
        idt + 14 * 16,
        handler & 0xffff | 8 << 16 | 0x8e00 << 32 | (handler >> 16) << 48,
    )
    .unwrap();
    let mut regs = cpu.core().regs();
    regs.gdtr.base = gdt;
    regs.idtr.base = idt;
    cpu.core_mut().set_regs(&regs);
    assert_eq!(cpu.run(&mut Notes::default(), None), Stop::Halt);
    let state: &State = &cpu.core().state;
    assert_eq!(state.cr2, 0x4000_0000);
    assert_eq!(
        ram.load_u64(state.gpr[4]),
        Ok(2),
        "error code: a write, not present"
    );
    assert_eq!(
        ram.load_u64(state.gpr[4] + 8),
        Ok(CODE),
        "the instruction that faulted"
    );
    assert_eq!(state.rip, handler + 1);
}

#[test]
fn real_mode_runs_at_the_reset_vector_of_a_start_up_page() {
    // mov ax, 0x1234; add al, ah; hlt
    let mut cpu = cpu();
    cpu.core()
        .tlb
        .ram()
        .write(0x9000, &[0xb8, 0x34, 0x12, 0x00, 0xe0, 0xf4])
        .unwrap();
    cpu.core_mut().start_ap(9);
    assert_eq!(cpu.run(&mut Notes::default(), None), Stop::Halt);
    assert_eq!(gpr(&cpu, 0) & 0xffff, 0x1246);
    assert_eq!(cpu.core().state.rip, 6);
}

#[test]
fn repeated_strings_cross_pages() {
    // mov edi, 0x30f0; mov ecx, 0x1800; mov al, 0x5a; rep stosb; mov esi, 0x30f0; mov edi, 0x60f8; mov ecx, 0x1800; rep movsb; hlt
    let mut cpu = long(&[
        0xbf, 0xf0, 0x30, 0, 0, 0xb9, 0x00, 0x18, 0, 0, 0xb0, 0x5a, 0xf3, 0xaa, 0xbe, 0xf0, 0x30,
        0, 0, 0xbf, 0xf8, 0x60, 0, 0, 0xb9, 0x00, 0x18, 0, 0, 0xf3, 0xa4, 0xf4,
    ]);
    assert_eq!(cpu.run(&mut Notes::default(), None), Stop::Halt);
    let mut copied = vec![0; 0x1802];
    cpu.core().tlb.ram().read(0x60f7, &mut copied).unwrap();
    assert_eq!(copied[0], 0);
    assert!(copied[1..0x1801].iter().all(|b| *b == 0x5a));
    assert_eq!(copied[0x1801], 0);
    assert_eq!(
        (gpr(&cpu, 1), gpr(&cpu, 6), gpr(&cpu, 7)),
        (0, 0x48f0, 0x78f8)
    );
}
