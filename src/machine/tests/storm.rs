//! Anything that a guest can do to the board: every port and every address, each width, aligned or not, configuration
//! space by both ways, its LAPIC's registers, time that passes, resets in between. Nothing panics or hangs or eats
//! memory, and afterwards the machine is still one.

use std::env;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::bench::{Bench, PAGE};
use super::*;
use crate::backend::again;
use crate::bus::{Nanos, Width};
use crate::layout::{self, PM_TIMER_HZ, slot};

/// What a step is made of.
type Words = [u64; 3];

/// Slots with something in them, and one without.
const SLOTS: [u8; 6] = [
    slot::HOST_BRIDGE,
    slot::ROOT_DISK,
    slot::RND,
    slot::AHCI,
    slot::LPC,
    slot::LINK,
];
const SECOND: u64 = 1_000_000_000;

/// A board in a storm.
struct Storm {
    bench: Bench,
    /// The ends of everything that answers: the interesting addresses.
    ports: Vec<u64>,
    memory: Vec<u64>,
    /// What configuration space shows at power-on.
    header: Vec<u64>,
}

impl Storm {
    fn new() -> Self {
        let bench = Bench::new(2);
        let ends = |space| {
            let ranges = bench.board.map.fixed(space).into_iter();
            ranges.flat_map(|r| [r.start, r.end])
        };
        let mut ports: Vec<u64> = ends(Space::Port).collect();
        let mut memory: Vec<u64> = ends(Space::Memory).collect();
        ports.extend([0, port::PCI_IO.start, 0xffff]);
        memory.extend([PAGE, layout::MSI.end, 0, u64::MAX]);
        for span in [layout::PCI_MMIO32, layout::PCI_MMIO64] {
            memory.extend((0..8).map(|page| span.start + 0x1000 * page));
        }
        let header = header(&bench);
        Self {
            bench,
            ports,
            memory,
            header,
        }
    }

    fn step(&mut self, [kind, place, value]: Words) {
        let width = Width::from_bytes(1 << (kind >> 8 & 3)).unwrap();
        let cpu = (kind >> 16 & 1) as usize;
        let bench = &mut self.bench;
        match kind & 15 {
            0 | 1 => {
                bench.input(near(&self.ports, place) & 0xffff, width);
            }
            2 | 3 => bench.output(near(&self.ports, place) & 0xffff, width, value),
            4 | 5 => {
                bench.load(cpu, near(&self.memory, place), width);
            }
            6 | 7 => bench.store(cpu, near(&self.memory, place), width, value),
            8 | 9 => {
                let slot = SLOTS[(place >> 8) as usize % SLOTS.len()];
                let address = 0x8000_0000 | u64::from(slot) << 11 | place & 0xfc;
                bench.output(0xcf8, Width::Dword, address);
                bench.output(0xcfc + (place >> 16 & 3), width, often_small(value));
            }
            10 => {
                let slot = SLOTS[(place >> 12) as usize % SLOTS.len()];
                let register = u64::from(slot) << 15 | place & 0xfff;
                bench.store(
                    cpu,
                    layout::ECAM.start + register,
                    width,
                    often_small(value),
                );
            }
            11 => bench.store(
                cpu,
                PAGE + (place & 0xff0),
                Width::Dword,
                value & 0xffff_ffff,
            ),
            12 => {
                let msr = [0x1b, 0x6e0, 0x800 + (place >> 8 & 0x1ff) as u32];
                bench.write_msr(cpu, msr[place as usize % 3], often_small(value));
            }
            13 => {
                bench.interrupt(cpu);
            }
            14 => self.pass(place, value),
            _ if value.is_multiple_of(8) => bench.reset(),
            _ => self.pass(place, value),
        }
        self.obey();
    }

    /// Resets where the guest has asked for that, or to be switched off.
    fn obey(&mut self) {
        if self.bench.board.switch.pending().is_some() {
            self.bench.reset();
        }
    }

    /// Time goes on: as a rule a little. Afterwards nothing is due any more, or the timers' thread would spin.
    fn pass(&mut self, place: u64, value: u64) {
        let by = match place & 15 {
            0 => value >> 6,
            1 => value % (1 << 40),
            _ => value % (1 << 22),
        };
        let now = Nanos(self.bench.now.0.saturating_add(by).min(1 << 62));
        self.bench.arrive(now);
        let next = self.bench.board.timers.earliest();
        assert!(next.is_none_or(|next| next > now), "{next:?} at {now:?}");
    }

    /// Several CPUs in the storm at once, with the timers' thread among them: nobody waits for ever.
    fn crowd(&mut self) {
        let storm = &*self;
        let clock = AtomicU64::new(storm.bench.now.0);
        let busy = AtomicU32::new(3);
        thread::scope(|scope| {
            for seed in 1..=3 {
                let (clock, busy) = (&clock, &busy);
                scope.spawn(move || {
                    let mut random = Random(seed);
                    for _ in 0..STEPS / 4 {
                        let words = [random.next(), random.next(), random.next()];
                        let passed = clock.fetch_add(words[2] & 0xfff, Ordering::Relaxed);
                        storm.access(words, Nanos(passed));
                    }
                    busy.fetch_sub(1, Ordering::Relaxed);
                });
            }
            scope.spawn(|| {
                while busy.load(Ordering::Relaxed) > 0 {
                    let now = Nanos(clock.load(Ordering::Relaxed));
                    storm.bench.board.timers.advance_due(now);
                    thread::yield_now();
                }
            });
        });
        self.bench.now = Nanos(clock.into_inner());
    }

    /// An access that any CPU can make without its LAPIC.
    fn access(&self, [kind, place, value]: Words, now: Nanos) {
        let map = &self.bench.board.map;
        let width = Width::from_bytes(1 << (kind >> 8 & 3)).unwrap();
        let port = near(&self.ports, place) & 0xffff;
        let memory = near(&self.memory, place);
        let slot = SLOTS[(kind >> 16) as usize % SLOTS.len()];
        let register = layout::ECAM.start + (u64::from(slot) << 15) + (place & 0xff);
        match kind & 7 {
            0 | 1 => map.write(Space::Port, port, width, value, now),
            2 | 3 => map.write(Space::Memory, memory, width, value, now),
            4 => map.write(Space::Memory, register, width, often_small(value), now),
            5 => _ = map.read(Space::Port, port, width, now),
            _ => _ = map.read(Space::Memory, memory, width, now),
        }
    }

    /// After a reset it is the machine that it was, and its time goes on.
    fn still_answers(mut self) {
        self.bench.reset();
        assert_eq!(header(&self.bench), self.header);
        let timer = |bench: &Bench| bench.input(port::PM_TIMER.start, Width::Dword);
        for _ in 0..2 {
            let before = timer(&self.bench);
            let now = self.bench.now;
            self.bench.arrive(now + SECOND);
            let passed = self.bench.now.ticks(PM_TIMER_HZ) - now.ticks(PM_TIMER_HZ);
            let counted = timer(&self.bench).wrapping_sub(before) & 0xffff_ffff;
            assert_eq!(counted, passed);
        }
        let version = self.bench.load(0, PAGE + 0x30, Width::Dword);
        assert_eq!(version & 0xff, u64::from(layout::LAPIC_VERSION));
    }
}

/// Ids, command and base addresses of every function.
fn header(bench: &Bench) -> Vec<u64> {
    let registers = (0..0x40).step_by(4);
    SLOTS
        .iter()
        .flat_map(|&slot| registers.clone().map(move |register| (slot, register)))
        .map(|(slot, register)| bench.config(slot, register))
        .collect()
}

/// An address close to an interesting one, or any.
fn near(places: &[u64], word: u64) -> u64 {
    let close = places[(word >> 8) as usize % places.len()];
    match word & 7 {
        0 => word >> 3,
        1 => close.wrapping_add(word >> 48),
        _ => close.wrapping_add(word >> 58).wrapping_sub(8),
    }
}

/// Registers have their meanings in a few low bits, and the rest makes values invalid.
fn often_small(value: u64) -> u64 {
    match value & 3 {
        0 => value >> 2,
        1 => value >> 2 & 0xffff,
        2 => layout::PCI_MMIO32.start | value & 0x0fff_f000,
        _ => value >> 2 & 0xff,
    }
}

#[test]
fn every_port_takes_every_width() {
    let mut storm = Storm::new();
    for port in 0..=0xffff {
        for width in [Width::Byte, Width::Word, Width::Dword, Width::Qword] {
            storm.bench.input(port, width);
            for value in [0, u64::MAX] {
                storm.bench.output(port, width, value);
                storm.obey();
            }
        }
    }
    storm.still_answers();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn anything_leaves_a_machine_that_answers(steps in prop::collection::vec(any::<Words>(), 0..300)) {
        let mut storm = Storm::new();
        for words in steps {
            storm.step(words);
        }
        storm.still_answers();
    }
}

/// In a process of its own, so that memory and time are the storm's.
const CHILD: &str = "XLAUNCH_TEST_STORM";
const PATIENCE: Duration = Duration::from_secs(180);
const STEPS: u32 = 300_000;
/// What may be taken after a first round: 28 bytes a step would be too much.
const GROWTH: u64 = 8 << 20;

#[test]
fn a_long_storm_ends_and_takes_no_memory() {
    if env::var_os(CHILD).is_some() {
        return long_storm();
    }
    let module = module_path!().split_once("::").unwrap().1;
    let name = format!("{module}::a_long_storm_ends_and_takes_no_memory");
    let program = again::words();
    let mut child = Command::new(&program[0])
        .args(&program[1..])
        .args(["--exact", &name, "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the storm does not end");
        }
        thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success(), "{status}");
}

fn long_storm() {
    let mut storm = Storm::new();
    let mut random = Random(0);
    let mut run = |steps: u32| {
        for _ in 0..steps {
            storm.step([random.next(), random.next(), random.next()]);
        }
    };
    run(STEPS / 8);
    let before = resident();
    run(STEPS);
    let grown = resident().saturating_sub(before);
    assert!(grown < GROWTH, "{grown} bytes more");
    storm.crowd();
    storm.still_answers();
}

/// splitmix64
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

/// Memory in use, where the host tells: the second number counts pages.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0) * 4096
}
