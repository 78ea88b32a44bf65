//! Every row of the instruction table, in every mode, on the interpreter: random operands, random state, random memory,
//! garbage as descriptors. Whatever it does, it must end and leave a state that a processor can have.

use hvf_sys::cpu::State;
use hvf_sys::cpu::table::{Map, ROWS, Row, allow};
use hvf_sys::ram::Ram;
use std::sync::Arc;
use xlaunch::bus::{Nanos, Width};
use xlaunch::cpu::io::Io;
use xlaunch::cpu::{Cpu, Group};
use xlaunch::x86::control::{cr0, cr4, efer, rflags};
use xlaunch::x86::cpuid::{Machine, Table};
use xlaunch::x86::regs::{Regs, Segment};

const RAM: u64 = 1 << 20;
/// Page tables at the end of RAM: level 4, 3, 2.
const TABLES: u64 = RAM - 0x3000;
const RUNS: usize = 12;

#[derive(Clone, Copy, Debug)]
enum Mode {
    Real,
    Virtual8086,
    Protected16,
    Protected32,
    Long,
    LongUser,
}

const MODES: [Mode; 6] = [
    Mode::Real,
    Mode::Virtual8086,
    Mode::Protected16,
    Mode::Protected32,
    Mode::Long,
    Mode::LongUser,
];

/// A seeded generator: splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Often an address in RAM, or a small number.
    fn register(&mut self) -> u64 {
        let any = self.next();
        match any & 7 {
            0 => any >> 3,
            1 => any >> 3 & 0xff,
            2 => any >> 3 | 0xffff_ffff_ffff_ff00,
            _ => any >> 3 & (RAM - 1),
        }
    }
}

/// Devices that answer anything, and a clock that runs.
struct Noise(Random);

impl Io for Noise {
    fn port_read(&mut self, _: u16, _: Width) -> u32 {
        self.0.next() as u32
    }

    fn port_write(&mut self, _: u16, _: Width, _: u32) {}

    fn mmio_read(&mut self, _: u64, _: Width) -> u64 {
        self.0.next()
    }

    fn mmio_write(&mut self, _: u64, _: Width, _: u64) {}

    fn msr_read(&mut self, _: u32) -> Option<u64> {
        (self.0.next() & 1 == 0).then(|| self.0.next())
    }

    fn msr_write(&mut self, _: u32, _: u64) -> Option<()> {
        (self.0.next() & 1 == 0).then_some(())
    }

    fn cr8(&mut self) -> u64 {
        self.0.next() & 15
    }

    fn set_cr8(&mut self, _: u64) {}

    fn now(&mut self) -> Nanos {
        Nanos(self.0.next() >> 1)
    }
}

#[test]
fn every_row_ends_in_a_state_that_exists() {
    let mut random = Random(1);
    let mut io = Noise(Random(2));
    let ram = Ram::new(&[(0, RAM)]).expect("a megabyte");
    let machine = Machine {
        cpus: 1,
        physical_bits: 39,
        crystal_hz: 25_000_000,
        tsc_ratio: (40, 1),
    };
    let cpuid = Arc::new(Table::new(&machine, 0));
    let mut cpu = Cpu::new(ram.clone(), &Arc::new(Group::default()), cpuid);
    let mut noise = vec![0; RAM as usize];
    let mut retired = 0;
    for row in &ROWS {
        for mode in MODES {
            for chunk in noise.chunks_exact_mut(1 << 12) {
                chunk[..8].copy_from_slice(&random.next().to_le_bytes());
                let at = (random.next() & 0xff8) as usize;
                chunk[at..at + 8].copy_from_slice(&random.register().to_le_bytes());
            }
            ram.write(0, &noise).expect("all of RAM");
            for _ in 0..RUNS {
                run(&mut cpu, &ram, &mut io, row, mode, &mut random);
            }
        }
        assert!(
            cpu.core().retired > retired,
            "nothing was executed: {row:?}"
        );
        retired = cpu.core().retired;
    }
}

fn run(cpu: &mut Cpu, ram: &Ram, io: &mut Noise, row: &Row, mode: Mode, random: &mut Random) {
    cpu.core_mut().reset(false);
    let mut regs = cpu.core().regs();
    regs.gprs = std::array::from_fn(|_| random.register());
    regs.rip = random.next() & 0x7fff;
    enter(&mut regs, mode, random);
    let code = sample(row, mode, random);
    let start = regs.cs.base.wrapping_add(regs.rip) & (RAM - 1);
    if matches!(mode, Mode::Long | Mode::LongUser) {
        write_tables(ram);
    }
    ram.write(start.min(RAM - 16), &code)
        .expect("the code is in RAM");
    let core = cpu.core_mut();
    core.set_regs(&regs);
    core.state.xmm =
        std::array::from_fn(|_| u128::from(random.next()) << 64 | u128::from(random.next()));
    core.state.fpu.registers = std::array::from_fn(|_| (random.next(), random.next() as u16));
    core.state.fpu.top = random.next() as u8 & 7;
    core.state.fpu.valid = random.next() as u8;
    core.state.fpu.control = 0x40 | random.next() as u16 & 0xf3f;
    core.state.mxcsr = random.next() as u32 & 0xffff;
    cpu.run(io, Some(Nanos(0)));
    exists(&cpu.core().state, row, mode);
}

fn exists(state: &State, row: &Row, mode: Mode) {
    let flags = state.rflags;
    assert_eq!(flags & rflags::FIXED, rflags::FIXED, "{row:?} {mode:?}");
    assert_eq!(
        flags & !(rflags::DEFINED | rflags::FIXED),
        0,
        "{row:?} {mode:?}"
    );
    assert!(state.mxcsr <= 0xffff, "{row:?} {mode:?}");
    assert!(state.fpu.top < 8, "{row:?} {mode:?}");
    assert_eq!(
        state.fpu.status & 0x3800,
        0,
        "TOP is apart: {row:?} {mode:?}"
    );
    let protected = state.cr0 & cr0::PE != 0;
    assert!(protected || state.cr0 & cr0::PG == 0, "{row:?} {mode:?}");
    let long = state.msrs.efer & efer::LMA != 0;
    assert_eq!(
        long,
        state.msrs.efer & efer::LME != 0 && state.cr0 & cr0::PG != 0,
        "{row:?} {mode:?}"
    );
    assert!(
        long || state.rip <= 0xffff_ffff,
        "{row:?} {mode:?} {:#x}",
        state.rip
    );
}

fn flat(selector: u16, rights: u16) -> Segment {
    Segment {
        selector,
        base: 0,
        limit: u32::MAX,
        rights,
    }
}

/// Sets what the mode consists of; descriptor tables are somewhere in the noise.
fn enter(regs: &mut Regs, mode: Mode, random: &mut Random) {
    regs.rflags = rflags::FIXED
        | random.next() & (rflags::ARITHMETIC | rflags::DF | rflags::IOPL | rflags::AC);
    regs.idtr.base = random.next() & 0xf_fff8;
    regs.gdtr.base = random.next() & 0xf_fff8;
    regs.cr4 = cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::OSXSAVE | cr4::FSGSBASE;
    regs.cr0 = cr0::ET | cr0::NE;
    let segments = |regs: &mut Regs, code: Segment, data: Segment| {
        regs.cs = code;
        (regs.ss, regs.ds, regs.es, regs.fs, regs.gs) = (data, data, data, data, data);
    };
    match mode {
        Mode::Real => segments(regs, Segment::real(0x1000), Segment::real(0x2000)),
        Mode::Virtual8086 => {
            regs.cr0 |= cr0::PE;
            regs.rflags |= rflags::VM;
            let segment = |selector| Segment {
                rights: 0xf3,
                ..Segment::real(selector)
            };
            segments(regs, segment(0x1000), segment(0x2000));
        }
        Mode::Protected16 => {
            regs.cr0 |= cr0::PE;
            segments(regs, flat(0x08, 0x809b), flat(0x10, 0x8093));
        }
        Mode::Protected32 => {
            regs.cr0 |= cr0::PE;
            segments(regs, flat(0x08, 0xc09b), flat(0x10, 0xc093));
        }
        Mode::Long | Mode::LongUser => {
            regs.cr0 |= cr0::PE | cr0::PG | cr0::WP;
            regs.cr3 = TABLES;
            regs.cr4 |= cr4::PAE;
            regs.efer = efer::LME | efer::LMA | efer::SCE | efer::NXE;
            if matches!(mode, Mode::Long) {
                segments(regs, flat(0x08, 0xa09b), flat(0x10, 0xc093));
            } else {
                segments(regs, flat(0x33, 0xa0fb), flat(0x2b, 0xc0f3));
            }
        }
    }
}

/// One page of 2 MiB, for everybody.
fn write_tables(ram: &Ram) {
    for (table, entry) in [(0, TABLES + 0x1007), (1, TABLES + 0x2007), (2, 0x87)] {
        ram.write(TABLES + 0x1000 * table, &u64::to_le_bytes(entry))
            .expect("the tables are in RAM");
    }
}

/// Bytes that the row stands for, with anything in what it leaves open.
fn sample(row: &Row, mode: Mode, random: &mut Random) -> [u8; 16] {
    let mut bytes = vec![];
    let prefixes = [
        (allow::NP, None),
        (allow::P66, Some(0x66)),
        (allow::PF3, Some(0xf3)),
        (allow::PF2, Some(0xf2)),
    ];
    let fitting: Vec<_> = prefixes
        .iter()
        .filter(|(bit, _)| row.allow & bit != 0)
        .collect();
    bytes.extend(fitting[random.next() as usize % fitting.len()].1);
    match random.next() & 15 {
        0 => bytes.push(0xf0),
        1 => bytes.push(0x67),
        2 => bytes.push(0x64),
        3 => bytes.push(0x66),
        _ => {}
    }
    if matches!(mode, Mode::Long | Mode::LongUser)
        && (row.allow & allow::W0 == 0 || random.next() & 3 == 0)
    {
        bytes.push(0x48 | random.next() as u8 & 7);
    }
    bytes.extend_from_slice(match row.map {
        Map::One => &[],
        Map::Two => &[0x0f],
        Map::Three38 => &[0x0f, 0x38],
        Map::Three3A => &[0x0f, 0x3a],
    });
    bytes.push(row.opcode + (random.next() % u64::from(row.span)) as u8);
    if row.has_modrm() {
        let register = row.allow & allow::MEM == 0 || row.value >= 0xc0;
        let free = random.next() as u8 | if register { 0xc0 } else { 0 };
        bytes.push(free & !row.mask | row.value);
    }
    let mut all = [0; 16];
    all[..8].copy_from_slice(&random.next().to_le_bytes());
    all[8..].copy_from_slice(&random.next().to_le_bytes());
    all[..bytes.len()].copy_from_slice(&bytes);
    all
}
