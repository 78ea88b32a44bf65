//! The interpreter as the oracle's counterpart: a machine of one vCPU in 64-bit user mode, with the oracle's addresses.
//!
//! Behind the instructions and where taken branches go stands HLT, which is #GP in user mode; every exception is delivered
//! through an IDT whose handlers halt, on a stack of their own, so that the interrupted state can be read from there.

use crate::place::{
    BATCH, CODE, CODE_32, CODE_64, DATA, PAGE, SLOT, TAKEN, WINDOW, WINDOW_LEN, slot,
};
use crate::wire::{Case, Fault, Outcome};
use hvf_sys::ram::Ram;
use std::sync::Arc;
use xlaunch::bus::{Nanos, Width};
use xlaunch::cpu::io::Io;
use xlaunch::cpu::{Cpu, Group, Stop};
use xlaunch::x86::control::{cr0, cr4, efer, rflags};
use xlaunch::x86::cpuid::{Machine, Table};
use xlaunch::x86::regs::{Regs, Segment, TableRegister};

/// Guest-physical addresses: page tables, then the system's page, the code, the memory page.
const TABLES: u64 = 0;
const SYSTEM: u64 = 0x1_0000;
const CODE_GPA: u64 = 0x2_0000;
const PAGE_GPA: u64 = CODE_GPA + BATCH as u64 * SLOT;
const RAM_LEN: u64 = PAGE_GPA + 0x1000;

/// The linear address of the system's pages, and what is where in them.
const SYSTEM_LINEAR: u64 = 0x1300_0000;
const IDT: u64 = 0;
const GDT: u64 = 0x800;
const TSS: u64 = 0x900;
const HANDLERS: u64 = 0xa00;
const STACK_END: u64 = 0x2000;

const HLT: u8 = 0xf4;
const PRESENT: u64 = 1;
const WRITABLE: u64 = 2;
const USER: u64 = 4;
const NO_EXECUTE: u64 = 1 << 63;

/// The machine.
pub(crate) struct Software {
    cpu: Cpu,
    ram: Arc<Ram>,
    regs: Regs,
}

impl Software {
    pub(crate) fn new() -> Self {
        let ram = Ram::new(&[(0, RAM_LEN)]).expect("a little RAM");
        write_tables(&ram);
        write_system(&ram);
        let machine = Machine {
            cpus: 1,
            physical_bits: 39,
            crystal_hz: 25_000_000,
            tsc_ratio: (40, 1),
        };
        let cpuid = Arc::new(Table::new(&machine, 0));
        let mut cpu = Cpu::new(ram.clone(), &Arc::new(Group::default()), cpuid);
        let mut regs = cpu.core().regs();
        enter_user_mode(&mut regs);
        cpu.core_mut().set_regs(&regs);
        Self { cpu, ram, regs }
    }

    /// Runs a batch as the host's child does. `lens` are the lengths of each case's instructions.
    pub(crate) fn run(&mut self, cases: &[Case]) -> Vec<Outcome> {
        let mut code = vec![HLT; BATCH * SLOT as usize];
        let mut ends = vec![];
        for (n, case) in cases.iter().enumerate() {
            let mut at = n * SLOT as usize;
            for insn in &case.insns {
                let encoded = Case::encode(insn).expect("only what has an encoding is run");
                let bytes = encoded.as_bytes();
                code[at..at + bytes.len()].copy_from_slice(bytes);
                at += bytes.len();
            }
            ends.push(CODE + at as u64);
        }
        self.ram.write(CODE_GPA, &code).expect("the code is in RAM");
        let outcomes = cases.iter().zip(ends).enumerate();
        outcomes
            .map(|(n, (case, end))| self.run_one(n, case, end))
            .collect()
    }

    fn run_one(&mut self, n: usize, case: &Case, end: u64) -> Outcome {
        let window = PAGE_GPA + (WINDOW - PAGE);
        self.ram
            .write(window, &case.memory)
            .expect("the window is in RAM");
        self.regs.gprs = case.state.gpr;
        // A user's program always has interrupts on.
        self.regs.rflags = case.state.rflags | rflags::IF;
        self.regs.rip = slot(n);
        let (selector, rights) = if case.long() {
            (CODE_64, 0xa0fb)
        } else {
            (CODE_32, 0xc0fb)
        };
        self.regs.cs = flat(selector, rights);
        let core = self.cpu.core_mut();
        core.set_regs(&self.regs);
        core.state.xmm = case.state.xmm;
        core.state.mxcsr = case.state.mxcsr;
        core.state.fpu = case.state.fpu;
        let stop = self.cpu.run(&mut Nothing, None);
        assert_eq!(stop, Stop::Halt, "{:?}", case.insns);
        let mut memory = [0; WINDOW_LEN];
        self.ram
            .read(window, &mut memory)
            .expect("the window is in RAM");
        self.outcome(end, memory)
    }

    /// Reads the interrupted state from the exception's stack.
    fn outcome(&self, end: u64, memory: [u8; WINDOW_LEN]) -> Outcome {
        let core = self.cpu.core();
        let mut state = core.state.clone();
        let vector = (state.rip - SYSTEM_LINEAR - HANDLERS) / 16;
        let has_error = matches!(vector, 8 | 10..=14 | 17);
        let top = SYSTEM + STACK_END;
        let word = |n: u64| self.ram.load_u64(top - 8 * n).expect("the stack is in RAM");
        let error = if has_error { word(6) } else { 0 };
        state.rip = word(5);
        state.rflags = word(3);
        state.gpr[4] = word(2);
        let done = vector == 13 && error == 0 && (state.rip == end || state.rip == end + TAKEN);
        let address = state.cr2;
        let fault = (!done).then_some(Fault {
            vector,
            error,
            address,
        });
        Outcome {
            state,
            memory,
            fault,
        }
    }
}

fn flat(selector: u16, rights: u16) -> Segment {
    Segment {
        selector,
        base: 0,
        limit: u32::MAX,
        rights,
    }
}

fn enter_user_mode(regs: &mut Regs) {
    regs.cs = flat(CODE_64, 0xa0fb);
    for data in [
        &mut regs.ss,
        &mut regs.ds,
        &mut regs.es,
        &mut regs.fs,
        &mut regs.gs,
    ] {
        *data = flat(DATA, 0xc0f3);
    }
    regs.tr = Segment {
        selector: 0x40,
        base: SYSTEM_LINEAR + TSS,
        limit: 0x67,
        rights: 0x8b,
    };
    let table = |offset, limit| TableRegister {
        base: SYSTEM_LINEAR + offset,
        limit,
    };
    (regs.idtr, regs.gdtr) = (table(IDT, 0x1ff), table(GDT, 0x7f));
    regs.cr0 = cr0::PE | cr0::MP | cr0::ET | cr0::NE | cr0::WP | cr0::PG;
    regs.cr3 = TABLES;
    regs.cr4 = cr4::PAE | cr4::OSFXSR | cr4::OSXMMEXCPT;
    regs.efer = efer::LME | efer::LMA | efer::SCE | efer::NXE;
}

fn store(ram: &Ram, gpa: u64, value: u64) {
    ram.write(gpa, &value.to_le_bytes())
        .expect("the tables are in RAM");
}

/// Four levels, one page table for each 2 MiB in use.
fn write_tables(ram: &Ram) {
    let level = |n: u64| TABLES + n * 0x1000;
    store(ram, level(0), level(1) | PRESENT | WRITABLE | USER);
    store(ram, level(1), level(2) | PRESENT | WRITABLE | USER);
    let areas = [
        (CODE, CODE_GPA, BATCH as u64 * SLOT, PRESENT | USER),
        (
            PAGE,
            PAGE_GPA,
            0x1000,
            PRESENT | USER | WRITABLE | NO_EXECUTE,
        ),
        (SYSTEM_LINEAR, SYSTEM, STACK_END, PRESENT | WRITABLE),
    ];
    for (n, (linear, gpa, len, bits)) in areas.into_iter().enumerate() {
        let table = level(3 + n as u64);
        store(
            ram,
            level(2) + (linear >> 21 & 511) * 8,
            table | PRESENT | WRITABLE | USER,
        );
        for page in 0..len / 0x1000 {
            let entry = (linear >> 12 & 511) + page;
            store(ram, table + entry * 8, (gpa + page * 0x1000) | bits);
        }
    }
}

/// GDT with the kernel's code segment, a TSS with IST1, an IDT of 32 interrupt gates, and handlers that halt.
fn write_system(ram: &Ram) {
    store(ram, SYSTEM + GDT + 8, 0x00af_9b00_0000_ffff);
    store(ram, SYSTEM + TSS + 36, SYSTEM_LINEAR + STACK_END);
    for vector in 0..32 {
        let handler = SYSTEM_LINEAR + HANDLERS + vector * 16;
        let gate =
            handler & 0xffff | 8 << 16 | 1 << 32 | 0x8e << 40 | (handler >> 16 & 0xffff) << 48;
        store(ram, SYSTEM + IDT + vector * 16, gate);
        store(ram, SYSTEM + IDT + vector * 16 + 8, handler >> 32);
        store(ram, SYSTEM + HANDLERS + vector * 16, u64::from(HLT));
    }
}

/// A machine without devices.
struct Nothing;

impl Io for Nothing {
    fn port_read(&mut self, _: u16, _: Width) -> u32 {
        u32::MAX
    }

    fn port_write(&mut self, _: u16, _: Width, _: u32) {}

    fn mmio_read(&mut self, _: u64, _: Width) -> u64 {
        u64::MAX
    }

    fn mmio_write(&mut self, _: u64, _: Width, _: u64) {}

    fn msr_read(&mut self, _: u32) -> Option<u64> {
        None
    }

    fn msr_write(&mut self, _: u32, _: u64) -> Option<()> {
        None
    }

    fn cr8(&mut self) -> u64 {
        0
    }

    fn set_cr8(&mut self, _: u64) {}

    fn now(&mut self) -> Nanos {
        Nanos(0)
    }
}
