//! The specification's features one by one, then anything a guest can do.

use proptest::prelude::*;

use super::*;

const CAPABILITIES: u64 = 0x00;
const CONFIG: u64 = 0x10;
const STATUS: u64 = 0x20;
const COUNTER: u64 = 0xf0;

const fn timer(n: u64) -> u64 {
    0x100 + 0x20 * n
}
const fn comparator(n: u64) -> u64 {
    timer(n) + 8
}
const fn message(n: u64) -> u64 {
    timer(n) + 16
}

const LEVEL: u64 = 1 << 1;
const INTERRUPT: u64 = 1 << 2;
const PERIODIC: u64 = 1 << 3;
const SET_VALUE: u64 = 1 << 6;
const FORCE_32_BITS: u64 = 1 << 8;
const MESSAGE: u64 = 1 << 14;
const fn route(pin: u64) -> u64 {
    pin << 9
}

/// Counts rising edges of six wires: legacy 0 and 1, pins 20 to 23; and notes messages.
#[derive(Default)]
struct Board {
    wires: Mutex<[(bool, u32); 6]>,
    messages: Mutex<Vec<(u64, u32)>>,
}

impl LineSink for Board {
    fn drive(&self, driver: u32, level: bool) {
        let wire = &mut self.wires.lock().unwrap()[driver as usize];
        wire.1 += u32::from(level && !wire.0);
        wire.0 = level;
    }
}

impl Board {
    fn wire(&self, n: usize) -> (bool, u32) {
        self.wires.lock().unwrap()[n]
    }
}

struct Bench {
    hpet: Hpet,
    board: Arc<Board>,
    gates: [Arc<Gate>; 2],
    now: u64,
}

impl Bench {
    fn new() -> Self {
        let board = Arc::new(Board::default());
        let line = |n| Line::new(board.clone(), n);
        let gates = [Gate::new(Line::loose()), Gate::new(Line::loose())];
        let messages = board.clone();
        let hpet = Hpet::new(HpetWires {
            legacy: [line(0), line(1)],
            gates: gates.clone(),
            pins: [line(2), line(3), line(4), line(5)],
            message: Box::new(move |address, data| {
                messages.messages.lock().unwrap().push((address, data));
            }),
        });
        Self {
            hpet,
            board,
            gates,
            now: 0,
        }
    }

    fn access(&self, offset: u64, width: Width) -> Access {
        Access {
            region: 0,
            offset,
            width,
            now: Nanos(self.now),
        }
    }

    fn read(&mut self, offset: u64) -> u64 {
        self.hpet.read(self.access(offset, Width::Qword))
    }

    fn write(&mut self, offset: u64, value: u64) {
        self.hpet.write(self.access(offset, Width::Qword), value);
    }

    /// Moves time to counter tick `tick` (10 ns each).
    fn at(&mut self, tick: u64) -> &mut Self {
        self.now = tick * 10;
        self.hpet.advance(Nanos(self.now));
        self
    }

    fn deadline(&self) -> Option<u64> {
        self.hpet.deadline().map(|at| at.0 / 10)
    }
}

#[test]
fn capabilities_tell_what_the_acpi_table_tells() {
    let mut bench = Bench::new();
    assert_eq!(bench.read(CAPABILITIES), 10_000_000 << 32 | 0x8086_a201);
    bench.write(CAPABILITIES, 0);
    assert_eq!(bench.read(CAPABILITIES) & 0xff, 1);
    let high = bench.hpet.read(bench.access(4, Width::Dword));
    assert_eq!(high & 0xffff_ffff, 10_000_000);
    assert_eq!(bench.read(timer(0)), 0x00f0_0000 << 32 | 0x8030);
    assert_eq!(bench.read(timer(3)), 0, "there are three");
}

#[test]
fn the_counter_runs_only_while_enabled_and_can_be_set() {
    let mut bench = Bench::new();
    assert_eq!(bench.at(1_000).read(COUNTER), 0);
    bench.write(COUNTER, 500);
    bench.write(CONFIG, 1);
    assert_eq!(bench.at(1_100).read(COUNTER), 600);
    bench.write(CONFIG, 0);
    assert_eq!(bench.at(9_999).read(COUNTER), 600);
    bench.write(CONFIG, 1);
    bench.write(COUNTER, u64::MAX - 9);
    assert_eq!(bench.at(10_019).read(COUNTER), 10);
    bench.now = 0;
    assert_eq!(bench.read(COUNTER), 10, "time never goes back");
}

#[test]
fn halves_of_a_register_are_written_apart() {
    let mut bench = Bench::new();
    bench.hpet.write(bench.access(COUNTER + 4, Width::Dword), 7);
    bench.hpet.write(bench.access(COUNTER, Width::Dword), 9);
    assert_eq!(bench.read(COUNTER), 7 << 32 | 9);
}

#[test]
fn one_shot_by_pin_pulses_once() {
    let mut bench = Bench::new();
    bench.write(CONFIG, 1);
    bench.write(timer(0), INTERRUPT | route(21));
    bench.write(comparator(0), 100);
    assert_eq!(bench.deadline(), Some(100));
    assert_eq!(bench.at(99).board.wire(3), (false, 0));
    assert_eq!(bench.at(100).board.wire(3), (false, 1));
    assert_eq!((bench.read(STATUS), bench.deadline()), (0, None));
}

#[test]
fn a_value_just_passed_matches_at_once() {
    for bits in [0, FORCE_32_BITS] {
        let mut bench = Bench::new();
        bench.write(CONFIG, 1);
        bench.write(timer(0), INTERRUPT | route(20) | bits);
        bench.at(1_000).write(comparator(0), 999);
        assert_eq!(bench.board.wire(2).1, 1);
        bench.write(comparator(0), 1_000);
        assert_eq!(bench.board.wire(2).1, 2);
    }
}

#[test]
fn a_value_far_ahead_in_32_bits_is_not_one_just_passed() {
    let mut bench = Bench::new();
    bench.write(CONFIG, 1);
    bench.write(timer(0), INTERRUPT | route(20) | FORCE_32_BITS);
    // 35 seconds of the 43 of a round.
    bench.at(1_000).write(comparator(0), 3_500_001_000);
    assert_eq!(
        (bench.board.wire(2).1, bench.deadline()),
        (0, Some(3_500_001_000))
    );
}

#[test]
fn a_route_that_is_not_possible_does_not_stick() {
    let mut bench = Bench::new();
    bench.write(timer(0), INTERRUPT | route(22));
    for wrong in [0, 2, 19, 24, 31] {
        bench.write(timer(0), INTERRUPT | route(wrong));
        assert_eq!(bench.read(timer(0)) & route(31), route(22), "{wrong}");
    }
    bench.write(timer(0), INTERRUPT | route(23));
    assert_eq!(bench.read(timer(0)) & route(31), route(23));
}

#[test]
fn thirty_two_bits_match_in_each_round() {
    let mut bench = Bench::new();
    bench.write(CONFIG, 1);
    bench.write(timer(2), INTERRUPT | route(20) | FORCE_32_BITS);
    bench.write(comparator(2), 7 << 32 | 50);
    assert_eq!(bench.read(comparator(2)), 50);
    bench.at(50);
    assert_eq!(bench.deadline(), Some((1 << 32) + 50));
    assert_eq!(bench.at((1 << 32) + 50).board.wire(2).1, 2);
}

#[test]
fn enabling_does_not_match_the_reset_value() {
    let mut bench = Bench::new();
    bench.write(timer(0), INTERRUPT | route(20) | FORCE_32_BITS);
    bench.write(CONFIG, 1);
    assert_eq!(bench.board.wire(2).1, 0);
    assert_eq!(bench.deadline(), Some(0xffff_ffff));
}

#[test]
fn level_holds_its_pin_until_the_status_is_cleared() {
    let mut bench = Bench::new();
    bench.write(CONFIG, 1);
    bench.write(timer(1), INTERRUPT | LEVEL | route(23));
    bench.write(comparator(1), 100);
    bench.at(150);
    assert_eq!((bench.read(STATUS), bench.board.wire(5)), (2, (true, 1)));
    bench.write(STATUS, 5);
    assert!(bench.board.wire(5).0);
    bench.write(STATUS, 2);
    assert_eq!((bench.read(STATUS), bench.board.wire(5).0), (0, false));
}

#[test]
fn periodic_as_linux_programs_it() {
    let mut bench = Bench::new();
    bench.write(CONFIG, 1);
    bench.at(1_000);
    bench.write(
        timer(0),
        INTERRUPT | PERIODIC | SET_VALUE | FORCE_32_BITS | route(20),
    );
    bench.write(comparator(0), 1_500);
    bench.write(comparator(0), 400);
    for expected in [1_500, 1_900, 2_300] {
        assert_eq!(bench.deadline(), Some(expected));
        bench.at(expected);
    }
    assert_eq!(bench.read(comparator(0)), 2_700);
    assert_eq!(bench.board.wire(2).1, 3);
    bench.at(2_700 + 400 * 10);
    assert_eq!(bench.board.wire(2).1, 4, "late: one for all");
    assert_eq!(bench.read(comparator(0)), 2_700 + 400 * 11);
}

#[test]
fn periodic_as_the_specification_programs_it() {
    let mut bench = Bench::new();
    bench.write(timer(0), INTERRUPT | PERIODIC | SET_VALUE | route(20));
    bench.write(comparator(0), 100);
    assert_eq!(bench.read(timer(0)) & SET_VALUE, 0);
    bench.write(CONFIG, 1);
    assert_eq!(bench.at(100).board.wire(2).1, 1);
    assert_eq!(bench.at(200).board.wire(2).1, 2);
}

#[test]
fn messages_go_instead_of_pins() {
    let mut bench = Bench::new();
    bench.write(CONFIG, 1);
    bench.write(timer(0), INTERRUPT | MESSAGE | route(20));
    bench.write(message(0), 0xfee0_1000 << 32 | 0x4041);
    bench.write(comparator(0), 10);
    bench.at(10);
    assert_eq!(
        *bench.board.messages.lock().unwrap(),
        [(0xfee0_1000, 0x4041)]
    );
    assert_eq!(bench.board.wire(2), (false, 0));
}

#[test]
fn legacy_replacement_takes_the_wires_of_8254_and_rtc() {
    let mut bench = Bench::new();
    let pit = Line::new(bench.gates[0].clone(), 0);
    pit.set(true);
    assert!(bench.gates[0].line.level());
    bench.write(CONFIG, 3);
    assert!(!bench.gates[0].line.level(), "the gate has closed");
    bench.write(timer(0), INTERRUPT | PERIODIC | SET_VALUE | route(20));
    bench.write(comparator(0), 100);
    bench.at(100).at(200);
    assert_eq!(bench.board.wire(0), (true, 2));
    assert_eq!(bench.board.wire(2), (false, 0));
    bench.write(timer(1), INTERRUPT | LEVEL);
    bench.write(comparator(1), 210);
    bench.at(210);
    assert_eq!(bench.board.wire(1), (true, 1));
    bench.write(CONFIG, 1);
    assert_eq!(
        (bench.board.wire(0).0, bench.board.wire(1).0),
        (false, false)
    );
    assert!(bench.gates[0].line.level(), "and opened again");
}

#[test]
fn a_disabled_interrupt_is_silent_and_has_no_deadline() {
    let mut bench = Bench::new();
    bench.write(CONFIG, 1);
    bench.write(timer(0), LEVEL | route(20));
    bench.write(comparator(0), 100);
    assert_eq!(bench.deadline(), None);
    bench.at(200);
    assert_eq!((bench.read(STATUS), bench.board.wire(2).1), (1, 0));
}

#[test]
fn reset_lowers_everything_and_opens_the_gates() {
    let mut bench = Bench::new();
    bench.write(CONFIG, 3);
    bench.write(timer(0), INTERRUPT);
    bench.write(comparator(0), 10);
    bench.at(20).hpet.reset();
    assert_eq!((bench.board.wire(0).0, bench.read(CONFIG)), (false, 0));
    assert_eq!(bench.read(comparator(0)), u64::MAX);
    let pit = Line::new(bench.gates[0].clone(), 0);
    pit.set(true);
    assert!(bench.gates[0].line.level());
    drop(pit);
    assert!(!bench.gates[0].line.level(), "a dropped driver lets go");
}

proptest! {
    /// Nothing panics; deadlines lie ahead, so that nobody spins.
    #[test]
    fn any_sequence_is_harmless(
        ops in prop::collection::vec(
            (any::<bool>(), 0u64..0x100, any::<bool>(), prop_oneof![0u64..2_000, any::<u64>()], 0u64..1 << 40), 0..100),
    ) {
        let mut bench = Bench::new();
        let mut latest = 0;
        for (write, dword, wide, value, now) in ops {
            bench.now = now;
            latest = latest.max(now);
            let wide = wide && dword & 1 == 0;
            let width = if wide { Width::Qword } else { Width::Dword };
            let access = bench.access(dword * 4, width);
            if write {
                bench.hpet.write(access, value & width.ones());
            } else {
                bench.hpet.read(access);
            }
            if let Some(at) = bench.hpet.deadline() {
                prop_assert!(at.0 > latest);
            }
        }
    }

    /// Many small looks and one late look leave the same registers.
    #[test]
    fn looking_often_changes_nothing(
        steps in prop::collection::vec(0u64..5_000, 1..50),
        config in any::<u16>(),
        first in 0u64..10_000,
        period in 1u64..10_000,
    ) {
        let mut ends = Vec::new();
        for often in [true, false] {
            let mut bench = Bench::new();
            bench.write(CONFIG, 1);
            bench.write(timer(0), u64::from(config) | SET_VALUE);
            bench.write(comparator(0), first);
            bench.write(comparator(0), period);
            let mut tick = 0;
            for step in &steps {
                tick += step;
                if often {
                    bench.at(tick);
                }
            }
            bench.at(tick);
            ends.push((bench.read(comparator(0)), bench.read(STATUS), bench.deadline()));
        }
        prop_assert_eq!(ends[0], ends[1]);
    }
}
