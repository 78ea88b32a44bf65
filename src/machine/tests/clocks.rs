//! All clocks of the machine against each other, over a minute of the machine's time: each interrupt must come in the
//! nanosecond in which its clock makes the tick, and each counter must show what the time says, exactly.
//!
//! What is right is computed here with integers of 128 bits from the number of a tick, so that no error can add up.

use super::bench::{Bench, PAGE};
use crate::bus::{Nanos, Width};
use crate::layout::{HPET, HPET_HZ, LAPIC_TIMER_HZ, PIT_HZ, PM_TIMER_HZ, RTC_HZ, TSC_HZ};

const SECOND: u64 = 1_000_000_000;
const PIT: u8 = 0x50;
const RTC: u8 = 0x58;
const HPET_PIN: u8 = 0x60;
const HPET_MESSAGE: u8 = 0x68;
const TIMER: u8 = 0xec;
const DEADLINE: u8 = 0xed;

/// The first nanosecond in which a clock of `hz` has made `tick` ticks.
fn moment(tick: u128, hz: u64) -> u64 {
    (tick * u128::from(SECOND)).div_ceil(hz.into()) as u64
}

/// How many ticks a clock of `hz` has made at `now`.
fn ticks(now: Nanos, hz: u64) -> u128 {
    u128::from(now.0) * u128::from(hz) / u128::from(SECOND)
}

/// Interrupts that come every `period` ticks of a clock, the first at tick `start + period`.
#[derive(Clone, Copy)]
struct Train {
    hz: u64,
    start: u128,
    period: u128,
    seen: u128,
}

impl Train {
    fn new(hz: u64, start: u128, period: u128) -> Self {
        Self {
            hz,
            start,
            period,
            seen: 0,
        }
    }

    fn arrives(&mut self, now: Nanos, name: &str) {
        self.seen += 1;
        let due = moment(self.start + self.seen * self.period, self.hz);
        assert_eq!(now.0, due, "{name}: interrupt {}", self.seen);
    }

    fn is_complete(&self, now: Nanos, name: &str) {
        let due = (ticks(now, self.hz) - self.start) / self.period;
        assert_eq!(self.seen, due, "{name}: interrupts until {}", now.0);
    }
}

/// How the clocks are programmed at the moment.
struct Program {
    pit: Train,
    rtc: Train,
    hpet: Train,
    timer: Train,
    /// One-shots, each set anew from its handler: to the tick of the HPET, and of the TSC.
    message: u128,
    deadline: u128,
    /// Seconds that the RTC has told with its update interrupt, and when the first of them came.
    updates: u64,
    first_update: Option<u64>,
}

impl Bench {
    fn hpet(&mut self, offset: u64, value: u64) {
        self.store(0, HPET.start + offset, Width::Qword, value);
    }

    /// Programs counter 0 and opens its pin after that, so that the rise of OUT to its idle level is not seen.
    fn start_pit(&mut self, control: u8, count: u16) -> Train {
        let [low, high] = count.to_le_bytes();
        self.entry(2, 1 << 16);
        self.bytes(&[(0x43, control), (0x40, low), (0x40, high)]);
        // The count is loaded with the next clock.
        let start = ticks(self.now, PIT_HZ) + 1;
        self.arrive(Nanos(moment(start, PIT_HZ)));
        self.entry(2, PIT.into());
        Train::new(PIT_HZ, start, count.into())
    }

    /// Periodic and update interrupts. The periods are those of the divider, which never stops.
    fn start_rtc(&mut self, rate: u8) -> Train {
        self.bytes(&[(0x70, 0x0a), (0x71, 0x20 | rate)]);
        self.bytes(&[(0x70, 0x0b), (0x71, 0x52)]);
        self.read_rtc(0x0c);
        self.entry(8, RTC.into());
        let period = 1 << (rate - 1);
        let start = ticks(self.now, RTC_HZ) / period * period;
        Train::new(RTC_HZ, start, period)
    }

    fn read_rtc(&self, register: u8) -> u8 {
        self.bytes(&[(0x70, register)]);
        self.input(0x71, Width::Byte) as u8
    }

    /// Comparator 0, periodic, at pin 20.
    fn start_hpet(&mut self, period: u64) -> Train {
        self.entry(20, HPET_PIN.into());
        self.hpet(0x100, 20 << 9 | 0x4c);
        let start = self.load(0, HPET.start + 0xf0, Width::Qword);
        self.hpet(0x108, start + period);
        self.hpet(0x108, period);
        Train::new(HPET_HZ, start.into(), period.into())
    }

    /// Comparator 2, once, by a message to CPU 0.
    fn set_message(&mut self, tick: u128) {
        self.hpet(0x150, PAGE << 32 | u64::from(HPET_MESSAGE));
        self.hpet(0x140, 0x4004);
        self.hpet(0x148, tick as u64);
    }

    /// CPU 0's timer, periodic, dividing by 16.
    fn start_timer(&mut self, count: u32) -> Train {
        self.store(0, PAGE + 0x3e0, Width::Dword, 3);
        self.store(0, PAGE + 0x320, Width::Dword, 0x2_0000 | u64::from(TIMER));
        self.store(0, PAGE + 0x380, Width::Dword, count.into());
        // It counts from the write on, wherever in a tick of others that is.
        let tick = SECOND / LAPIC_TIMER_HZ;
        let period = 16 * u128::from(count) * u128::from(tick);
        Train::new(SECOND, self.now.0.into(), period)
    }

    /// CPU 1's timer, at a value of the TSC.
    fn set_deadline(&mut self, tick: u128) {
        self.store(1, PAGE + 0xf0, Width::Dword, 0x1ff);
        self.store(
            1,
            PAGE + 0x320,
            Width::Dword,
            0x4_0000 | u64::from(DEADLINE),
        );
        assert!(self.write_msr(1, 0x6e0, tick as u64));
    }

    /// Counters that can be read at any time show what the time says.
    fn counters_agree(&mut self) {
        let now = self.now;
        let pm = self.input(0x408, Width::Dword);
        assert_eq!(u128::from(pm), ticks(now, PM_TIMER_HZ) & 0xffff_ffff);
        let hpet = self.load(0, HPET.start + 0xf0, Width::Qword);
        assert_eq!(u128::from(hpet), ticks(now, HPET_HZ));
    }

    fn serve(&mut self, vector: u8, program: &mut Program) {
        let now = self.now;
        match vector {
            PIT => program.pit.arrives(now, "8254"),
            HPET_PIN => program.hpet.arrives(now, "HPET by pin"),
            TIMER => program.timer.arrives(now, "LAPIC timer"),
            RTC => {
                let flags = self.read_rtc(0x0c);
                if flags & 0x40 != 0 {
                    program.rtc.arrives(now, "RTC");
                }
                if flags & 0x10 != 0 {
                    let first = *program.first_update.get_or_insert(now.0);
                    assert_eq!(now.0, first + program.updates * SECOND, "RTC's seconds");
                    program.updates += 1;
                }
            }
            HPET_MESSAGE => {
                assert_eq!(now.0, moment(program.message, HPET_HZ), "HPET by message");
                program.message += 1_234_567;
                self.set_message(program.message);
            }
            other => panic!("vector {other:#x} at {}", now.0),
        }
        self.store(0, PAGE + 0xb0, Width::Dword, 0);
    }

    fn serve_deadline(&mut self, program: &mut Program) {
        assert_eq!(self.now.0, moment(program.deadline, TSC_HZ), "TSC deadline");
        program.deadline += 7_654_321;
        self.set_deadline(program.deadline);
        self.store(1, PAGE + 0xb0, Width::Dword, 0);
    }

    fn run_until(&mut self, end: Nanos, program: &mut Program) {
        let mut rounds = 0_u64;
        while let Some(next) = self.deadline().filter(|&next| next <= end) {
            self.arrive(next);
            while let Some(vector) = self.interrupt(0) {
                self.serve(vector, program);
            }
            while self.interrupt(1).is_some() {
                self.serve_deadline(program);
            }
            rounds += 1;
            // To look is not to disturb, wherever in a period the look falls.
            if rounds.is_multiple_of(97) {
                self.counters_agree();
                self.bytes(&[(0x43, 0x00)]);
                let latched = [0; 2].map(|_| self.input(0x40, Width::Byte));
                assert!(latched[0] | latched[1] << 8 <= program.pit.period as u64);
            }
        }
        self.arrive(end);
        for (train, name) in [
            (&program.pit, "8254"),
            (&program.rtc, "RTC"),
            (&program.hpet, "HPET"),
            (&program.timer, "LAPIC timer"),
        ] {
            train.is_complete(end, name);
        }
        self.counters_agree();
    }
}

fn from_bcd(byte: u8) -> u64 {
    u64::from(byte >> 4) * 10 + u64::from(byte & 0xf)
}

/// Seconds since midnight that the RTC shows.
fn shown(bench: &Bench) -> u64 {
    let [hour, minute, second] = [4, 2, 0].map(|register| from_bcd(bench.read_rtc(register)));
    hour * 3600 + minute * 60 + second
}

#[test]
fn all_clocks_agree_to_the_tick_for_a_minute() {
    let mut bench = Bench::new(2);
    let before = shown(&bench);
    // Enabled at time zero, the HPET's counter is the number of its clock's ticks.
    bench.hpet(0x10, 1);
    let mut program = Program {
        pit: bench.start_pit(0x34, 11_932),
        rtc: bench.start_rtc(6),
        hpet: bench.start_hpet(99_991),
        timer: bench.start_timer(6_257),
        message: 1_000_003,
        deadline: 2_000_003,
        updates: 0,
        first_update: None,
    };
    bench.set_message(program.message);
    bench.set_deadline(program.deadline);
    bench.run_until(Nanos(20 * SECOND + 123_456_789), &mut program);

    // Odd counts, other modes and rates, in the middle of everybody's period.
    program.pit = bench.start_pit(0x36, 4_663);
    program.rtc = bench.start_rtc(9);
    program.hpet = bench.start_hpet(131_071);
    program.timer = bench.start_timer(8_191);
    bench.run_until(Nanos(41 * SECOND + 1), &mut program);

    program.pit = bench.start_pit(0x34, 0xffff);
    program.timer = bench.start_timer(1_250);
    bench.run_until(Nanos(60 * SECOND), &mut program);
    assert_eq!(program.updates, 60);
    assert_eq!((shown(&bench) + 86_400 - before) % 86_400, 60);
}
