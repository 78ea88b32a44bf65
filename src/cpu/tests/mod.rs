//! The whole CPU on small programs in memory, without a machine.
//!
//! `Guest` sets a mode up: tables, stacks, and for every vector a handler that is one HLT, so that a run ends in `Halted`
//! where the program said HLT, and in `Fault` with the frame that the handler found where it did not.
//! Programs are written with iced-x86's assembler.

mod basics;
mod debug;
mod emulate;
mod floating_point;
mod hostile;
mod intercepts;
mod long;
mod paging;
mod protected;
mod real;
mod save_area;
mod tasks;
mod threads;
mod vm86;

use std::sync::Arc;

use hvf_sys::cpu::State;
use hvf_sys::ram::Ram;
use iced_x86::code_asm::CodeAssembler;

use super::io::Io;
use super::{Cpu, Group, Stop};
use crate::bus::{Nanos, Width};
use crate::layout::PHYSICAL_BITS;
use crate::x86::control::{cr0, cr4, efer, rflags};
use crate::x86::cpuid::{Machine, Table};
use crate::x86::regs::Segment;
use crate::x86::{segment, vector};

/// A machine that answers with what it is told and notes what it hears. Its clock goes on at every look.
#[derive(Default)]
pub(super) struct Notes {
    heard: Vec<(u64, u64)>,
    now: u64,
}

impl Io for Notes {
    fn port_read(&mut self, port: u16, _width: Width) -> u32 {
        u32::from(port) * 3
    }
    fn port_write(&mut self, port: u16, _width: Width, value: u32) {
        self.heard.push((u64::from(port), u64::from(value)));
    }
    fn mmio_read(&mut self, gpa: u64, width: Width) -> u64 {
        gpa.wrapping_mul(0x0101_0101) & width.ones()
    }
    fn mmio_write(&mut self, gpa: u64, _width: Width, value: u64) {
        self.heard.push((gpa, value));
    }
    fn msr_read(&mut self, _msr: u32) -> Option<u64> {
        None
    }
    fn msr_write(&mut self, _msr: u32, _value: u64) -> Option<()> {
        None
    }
    fn cr8(&mut self) -> u64 {
        0
    }
    fn set_cr8(&mut self, _tpr: u64) {}
    fn now(&mut self) -> Nanos {
        self.now += 1;
        Nanos(self.now)
    }
}

const GDT: u64 = 0x1000;
const IDT: u64 = 0x2000;
const TSS: u64 = 0x3000;
const LDT: u64 = 0x4800;
const HANDLERS: u64 = 0x7000;
const KERNEL_STACK: u64 = 0x9000;
const IST_STACK: u64 = 0xa000;
const CODE: u64 = 0x1_0000;
const STACK: u64 = 0x2_0000;
const DATA: u64 = 0x3_0000;
/// Page tables: PML4, PDPT, PD, PT in long mode.
const TABLES: u64 = 0x8_0000;
const PT: u64 = TABLES + 0x3000;
/// From here on pages are the user's.
const USER: u64 = 0x10_0000;
const USER_STACK: u64 = 0x11_0000;
const USER_DATA: u64 = 0x12_0000;
const RAM: u64 = 0x20_0000;

const CODE0: u16 = 0x08;
const DATA0: u16 = 0x10;
const CODE3: u16 = 0x1b;
const DATA3: u16 = 0x23;
const CODE16: u16 = 0x28;
const DATA16: u16 = 0x30;
const TASK: u16 = 0x38;
const LOCAL: u16 = 0x48;
/// The first selector that a test may define for itself.
const FREE: u16 = 0x58;

const CODE_RIGHTS: u16 = 0x9b;
const DATA_RIGHTS: u16 = 0x93;
/// The DPL of a user's segment.
const LEVEL3: u16 = segment::DPL;
const BIG: u16 = segment::DB | segment::G;

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It said HLT.
    Halted,
    /// A handler was reached.
    Fault(Frame),
    /// The processor shut down.
    Shutdown,
}

/// What a handler found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Frame {
    vector: u8,
    error: u64,
    rip: u64,
    cs: u16,
    flags: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Real,
    /// 32-bit segments, no paging.
    Protected,
    Long,
}

struct Guest {
    cpu: Cpu,
    ram: Arc<Ram>,
    notes: Notes,
    mode: Mode,
}

fn cpu() -> Cpu {
    cpu_of(Ram::new(&[(0, RAM)]).unwrap(), &Arc::new(Group::default()))
}

fn cpu_of(ram: Arc<Ram>, group: &Arc<Group>) -> Cpu {
    let machine = Machine {
        cpus: 1,
        physical_bits: PHYSICAL_BITS,
        crystal_hz: 100_000_000,
        tsc_ratio: (10, 1),
    };
    Cpu::new(ram, group, Arc::new(Table::new(&machine, 0)))
}

/// Assembles for an address.
fn assemble(bits: u32, at: u64, program: impl FnOnce(&mut CodeAssembler)) -> Vec<u8> {
    let mut a = CodeAssembler::new(bits).unwrap();
    program(&mut a);
    a.assemble(at).unwrap()
}

/// A segment descriptor. A limit with `segment::G` counts pages.
fn descriptor(base: u64, limit: u64, rights: u16) -> u64 {
    limit & 0xffff
        | (base & 0xff_ffff) << 16
        | u64::from(rights) << 40
        | (limit >> 16 & 0xf) << 48
        | (base >> 24 & 0xff) << 56
}

/// A gate of eight bytes; `kind` is the byte of type, DPL and P.
fn gate(selector: u16, offset: u64, kind: u64, parameters: u64) -> u64 {
    offset & 0xffff
        | u64::from(selector) << 16
        | parameters << 32
        | kind << 40
        | (offset >> 16 & 0xffff) << 48
}

impl Guest {
    /// In real mode, about to execute what is put at `CODE` as 0x1000:0.
    fn real() -> Self {
        let mut guest = Self::bare(cpu(), Mode::Real);
        for v in 0..256 {
            let at = HANDLERS + v;
            guest
                .ram
                .store_u32(4 * v, (at >> 4 << 16 | at & 15) as u32)
                .unwrap();
        }
        let mut regs = guest.cpu.core().regs();
        for segment in [&mut regs.ds, &mut regs.es, &mut regs.ss] {
            *segment = Segment::real((DATA >> 4) as u16);
        }
        regs.ss = Segment::real((STACK >> 4) as u16 - 0x1000);
        regs.cs = Segment::real((CODE >> 4) as u16);
        regs.gprs[4] = 0xfff0;
        regs.rip = 0;
        guest.cpu.core_mut().set_regs(&regs);
        guest
    }

    /// In protected mode with flat 32-bit segments, no paging, at a privilege level.
    fn protected(cpl: u8) -> Self {
        let mut guest = Self::bare(cpu(), Mode::Protected);
        for v in 0..256 {
            guest.set_gate(v as u8, CODE0, HANDLERS + v, 0x8e);
        }
        guest.ram.store_u32(TSS + 4, KERNEL_STACK as u32).unwrap();
        guest.ram.store_u16(TSS + 8, DATA0).unwrap();
        guest.ram.store_u16(TSS + 102, 104).unwrap();
        guest.flat(cpl, cr0::PE | cr0::NE | cr0::ET, 0, 0, CODE_RIGHTS | BIG);
        guest
    }

    /// In 64-bit mode with every page mapped as itself, at a privilege level.
    fn long(cpl: u8) -> Self {
        Self::long_on(cpu(), cpl)
    }

    fn long_on(cpu: Cpu, cpl: u8) -> Self {
        let mut guest = Self::bare(cpu, Mode::Long);
        for v in 0..256 {
            guest.set_gate(v as u8, CODE0, HANDLERS + v, 0x8e);
        }
        guest.ram.store_u64(TSS + 4, KERNEL_STACK).unwrap();
        guest.ram.store_u64(TSS + 36, IST_STACK).unwrap();
        guest.ram.store_u16(TSS + 102, 104).unwrap();
        for level in 0..3 {
            let at = TABLES + 0x1000 * level;
            guest.ram.store_u64(at, at + 0x1000 | 7).unwrap();
        }
        for page in 0..512 {
            let user = if page << 12 >= USER { 4 } else { 0 };
            guest
                .ram
                .store_u64(PT + 8 * page, page << 12 | 3 | user)
                .unwrap();
        }
        guest.flat(
            cpl,
            cr0::PE | cr0::NE | cr0::ET | cr0::PG | cr0::WP | cr0::AM,
            cr4::PAE | cr4::OSFXSR | cr4::PGE,
            efer::LME | efer::LMA | efer::NXE | efer::SCE,
            CODE_RIGHTS | segment::L | segment::G,
        );
        guest
    }

    fn bare(cpu: Cpu, mode: Mode) -> Self {
        let ram = cpu.core().tlb.ram().clone();
        ram.fill(HANDLERS, 256, 0xf4).unwrap();
        Self {
            cpu,
            ram,
            notes: Notes::default(),
            mode,
        }
    }

    /// Fills the GDT and enters a mode with segments loaded from it.
    fn flat(&mut self, cpl: u8, cr0: u64, cr4: u64, efer: u64, code: u16) {
        let user = segment::DPL;
        self.define(CODE0, descriptor(0, 0xf_ffff, code));
        self.define(DATA0, descriptor(0, 0xf_ffff, DATA_RIGHTS | BIG));
        self.define(CODE3, descriptor(0, 0xf_ffff, code | user));
        self.define(DATA3, descriptor(0, 0xf_ffff, DATA_RIGHTS | BIG | user));
        self.define(CODE16, descriptor(CODE, 0xffff, CODE_RIGHTS));
        self.define(DATA16, descriptor(DATA, 0xffff, DATA_RIGHTS));
        self.define(TASK, descriptor(TSS, 0xfff, 0x8b));
        self.define(LOCAL, descriptor(LDT, 0xff, 0x82));
        let (code, data) = if cpl == 3 {
            (CODE3, DATA3)
        } else {
            (CODE0, DATA0)
        };
        let mut regs = self.cpu.core().regs();
        regs.cr0 = cr0;
        regs.cr3 = TABLES;
        regs.cr4 = cr4;
        regs.efer = efer;
        regs.gdtr.base = GDT;
        regs.gdtr.limit = 0xff;
        regs.idtr.base = IDT;
        regs.idtr.limit = 0xfff;
        regs.cs = self.loaded(code);
        for segment in [&mut regs.ss, &mut regs.ds, &mut regs.es] {
            *segment = self.loaded(data);
        }
        regs.fs = Segment {
            selector: 0,
            base: 0,
            limit: 0,
            rights: 0,
        };
        regs.gs = regs.fs;
        regs.tr = self.loaded(TASK);
        (regs.rip, regs.gprs[4]) = if cpl == 3 {
            (USER, USER_STACK)
        } else {
            (CODE, STACK)
        };
        self.cpu.core_mut().set_regs(&regs);
    }

    /// What a segment register holds after it was loaded with a selector of the GDT.
    fn loaded(&self, selector: u16) -> Segment {
        let bits = self.ram.load_u64(GDT + u64::from(selector & !7)).unwrap();
        Segment {
            selector,
            base: segment::base(bits).into(),
            limit: segment::limit(bits),
            rights: segment::rights(bits),
        }
    }

    /// Puts a descriptor into the GDT.
    fn define(&self, selector: u16, bits: u64) {
        self.ram
            .store_u64(GDT + u64::from(selector & !7), bits)
            .unwrap();
    }

    fn defined(&self, selector: u16) -> u64 {
        self.ram.load_u64(GDT + u64::from(selector & !7)).unwrap()
    }

    /// Puts a gate into the IDT.
    fn set_gate(&self, vector: u8, selector: u16, offset: u64, kind: u64) {
        let bits = gate(selector, offset, kind, 0);
        let size = if self.mode == Mode::Long { 16 } else { 8 };
        let at = IDT + size * u64::from(vector);
        self.ram.store_u64(at, bits).unwrap();
        if self.mode == Mode::Long {
            self.ram.store_u64(at + 8, offset >> 32).unwrap();
        }
    }

    /// Makes everything that is at a linear address of the low 2 MiB a page with these bits.
    fn map(&self, va: u64, entry: u64) {
        self.ram.store_u64(PT + 8 * (va >> 12), entry).unwrap();
    }

    fn page_entry(&self, va: u64) -> u64 {
        self.ram.load_u64(PT + 8 * (va >> 12)).unwrap()
    }

    /// The size of the code that it is about to execute.
    fn bits(&self) -> u32 {
        match self.cpu.core().code_size {
            super::core::CodeSize::Bits16 => 16,
            super::core::CodeSize::Bits32 => 32,
            super::core::CodeSize::Bits64 => 64,
        }
    }

    fn code_address(&self) -> u64 {
        let core = self.cpu.core();
        let base = if self.bits() == 64 {
            0
        } else {
            core.state.segments[State::CS].base
        };
        base + core.state.rip
    }

    /// Assembles a program where execution goes on, and runs it to its end.
    fn run(&mut self, program: impl FnOnce(&mut CodeAssembler)) -> End {
        let at = self.code_address();
        let offset = self.cpu.core().state.rip;
        let code = assemble(self.bits(), offset, program);
        self.ram.write(at, &code).unwrap();
        self.go()
    }

    /// The same for bytes.
    fn run_bytes(&mut self, code: &[u8]) -> End {
        let at = self.code_address();
        self.ram.write(at, code).unwrap();
        self.go()
    }

    /// Runs to the next HLT.
    fn go(&mut self) -> End {
        let stop = self.cpu.run(&mut self.notes, Some(Nanos(1 << 12)));
        if stop == Stop::TripleFault {
            return End::Shutdown;
        }
        assert_eq!(stop, Stop::Halt, "at {:#x}", self.code_address());
        let at = self.code_address().wrapping_sub(1);
        if !(HANDLERS..HANDLERS + 256).contains(&at) {
            return End::Halted;
        }
        End::Fault(self.frame((at - HANDLERS) as u8))
    }

    fn frame(&self, vector: u8) -> Frame {
        let core = self.cpu.core();
        let mask = u64::MAX >> (64 - 8 * u32::from(core.stack_size()));
        let base = if self.bits() == 64 {
            0
        } else {
            core.state.segments[State::SS].base
        };
        let size = u64::from(self.bits() / 8);
        let word = |n: u64| {
            let at = base + (core.state.gpr[4].wrapping_add(n * size) & mask);
            let word = self.ram.load_u64(at).unwrap();
            word & u64::MAX >> (64 - 8 * size)
        };
        let with_error = self.mode != Mode::Real && vector::has_error_code(vector);
        let first = u64::from(with_error);
        Frame {
            vector,
            error: if with_error { word(0) } else { 0 },
            rip: word(first),
            cs: word(first + 1) as u16,
            flags: word(first + 2),
        }
    }

    /// Runs a program that must end in an exception, and gives its vector and error code.
    fn fault(&mut self, program: impl FnOnce(&mut CodeAssembler)) -> (u8, u64) {
        match self.run(program) {
            End::Fault(frame) => (frame.vector, frame.error),
            end => panic!("{end:?} at {:#x}", self.code_address()),
        }
    }

    fn gpr(&self, n: usize) -> u64 {
        self.cpu.core().state.gpr[n]
    }

    fn set_gpr(&mut self, n: usize, value: u64) {
        self.cpu.core_mut().state.gpr[n] = value;
    }

    fn set_flags(&mut self, set: u64) {
        let core = self.cpu.core_mut();
        let flags = core.rflags() | set;
        core.set_rflags(flags);
    }

    fn flags(&self) -> u64 {
        self.cpu.core().rflags()
    }

    fn selector(&self, segment: usize) -> u16 {
        self.cpu.core().segment(segment).selector
    }

    fn state(&mut self) -> &mut State {
        &mut self.cpu.core_mut().state
    }

    /// Goes to an address as it is, with the interrupt flag clear.
    fn at(&mut self, rip: u64) -> &mut Self {
        self.state().rip = rip;
        let flags = self.flags() & !rflags::IF;
        self.cpu.core_mut().set_rflags(flags);
        self
    }

    /// Sets bits of CR4.
    fn with_cr4(mut self, bits: u64) -> Self {
        self.state().cr4 |= bits;
        self.cpu.core_mut().update_mode();
        self
    }
}
