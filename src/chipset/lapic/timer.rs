//! The LAPIC's timer (SDM volume 3, 11.5.4): one-shot, periodic, TSC-deadline.
//!
//! Counts are never stepped: they are computed from the time of the start, exactly. A periodic timer that is looked
//! at late has missed its interrupts (they merge into one) but not its phase. Interrupts of a periodic timer are
//! kept `MIN_GAP` apart, so that a period of nanoseconds leaves the guest able to run.

use crate::bus::Nanos;
use crate::layout::{LAPIC_TIMER_HZ, TSC_HZ};

/// The timer's mode: bits 18:17 of its LVT entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Counts down once.
    OneShot,
    /// Counts down again and again.
    Periodic,
    /// Fires when the TSC reaches a value.
    TscDeadline,
    /// The reserved value: does nothing.
    Reserved,
}

/// The timer with its count and divide registers.
#[derive(Debug)]
pub(super) struct Timer {
    mode: Mode,
    divide: Divide,
    initial: u32,
    run: Option<Run>,
    /// The armed value of IA32_TSC_DEADLINE; zero is not armed.
    tsc: u64,
}

impl Timer {
    /// The timer after reset: one-shot, stopped.
    pub(super) fn new() -> Self {
        Self {
            mode: Mode::OneShot,
            divide: Divide(0),
            initial: 0,
            run: None,
            tsc: 0,
        }
    }

    /// Switches the mode. To or from the deadline mode disarms; otherwise the count goes on.
    pub(super) fn set_mode(&mut self, mode: Mode) {
        let counts = |mode| matches!(mode, Mode::OneShot | Mode::Periodic);
        if !(mode == self.mode || counts(mode) && counts(self.mode)) {
            self.run = None;
            self.tsc = 0;
        }
        self.mode = mode;
    }

    /// The divide configuration register.
    pub(super) fn divide(&self) -> Divide {
        self.divide
    }

    /// Writes the divide configuration register: what is left of the count goes on at the new rate.
    pub(super) fn set_divide(&mut self, divide: Divide, now: Nanos) {
        let left = self.current(now);
        self.divide = divide;
        if self.run.is_some() {
            self.run = Some(Run::new(now, left.max(1)));
        }
    }

    /// The initial count register.
    pub(super) fn initial(&self) -> u32 {
        self.initial
    }

    /// Writes the initial count register, which starts the timer; zero stops it.
    pub(super) fn set_initial(&mut self, count: u32, now: Nanos) {
        if matches!(self.mode, Mode::OneShot | Mode::Periodic) {
            self.initial = count;
            self.run = (count != 0).then(|| Run::new(now, count));
        }
    }

    /// The current count register.
    pub(super) fn current(&self, now: Nanos) -> u32 {
        let Some(run) = self.run else { return 0 };
        let ticks = self.ticks(&run, now);
        let first = u64::from(run.first);
        if ticks < first {
            (first - ticks) as u32
        } else if self.mode == Mode::Periodic && self.initial != 0 {
            let initial = u64::from(self.initial);
            (initial - (ticks - first) % initial) as u32
        } else {
            0
        }
    }

    /// IA32_TSC_DEADLINE: zero once it has passed.
    pub(super) fn tsc_deadline(&self) -> u64 {
        self.tsc
    }

    /// Writes IA32_TSC_DEADLINE, which other modes ignore.
    pub(super) fn set_tsc_deadline(&mut self, tsc: u64) {
        if self.mode == Mode::TscDeadline {
            self.tsc = tsc;
        }
    }

    /// Whether the timer has reached its end since the last call.
    pub(super) fn expire(&mut self, now: Nanos) -> bool {
        match self.next() {
            Some(at) if at <= now => {}
            _ => return false,
        }
        match (self.mode, self.run) {
            (Mode::TscDeadline, _) => self.tsc = 0,
            (Mode::Periodic, Some(mut run)) if self.initial != 0 => {
                let past = self.ticks(&run, now).saturating_sub(run.first.into());
                run.fired = past / u64::from(self.initial) + 1;
                run.not_before = now + MIN_GAP;
                self.run = Some(run);
            }
            _ => self.run = None,
        }
        true
    }

    /// When the timer ends next.
    pub(super) fn next(&self) -> Option<Nanos> {
        if self.mode == Mode::TscDeadline {
            return (self.tsc != 0).then(|| Nanos::at_tick(self.tsc, TSC_HZ));
        }
        let run = self.run?;
        let periods = run.fired.saturating_mul(self.initial.into());
        let ticks = periods.saturating_add(run.first.into());
        let ticks = ticks.saturating_mul(self.divide.factor());
        let after = Nanos::at_tick(ticks, LAPIC_TIMER_HZ);
        Some((run.start + after.0).max(run.not_before))
    }

    fn ticks(&self, run: &Run, now: Nanos) -> u64 {
        Nanos(now - run.start).ticks(LAPIC_TIMER_HZ) / self.divide.factor()
    }
}

/// A count on its way: `first` ticks from `start`, then, where it is periodic, the initial count again and again.
#[derive(Clone, Copy, Debug)]
struct Run {
    start: Nanos,
    first: u32,
    /// How many ends are over, the missed ones with them.
    fired: u64,
    not_before: Nanos,
}

impl Run {
    fn new(start: Nanos, first: u32) -> Self {
        Self {
            start,
            first,
            fired: 0,
            not_before: start,
        }
    }
}

/// Divide configuration register, RW (SDM volume 3, figure 11-10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Divide(pub(super) u32);

impl Divide {
    /// Bits 0, 1 and 3.
    pub(super) const GUEST_WRITABLE: u32 = 0b1011;

    /// By how much the clock is divided: 2, 4, 8, 16, 32, 64, 128 or 1.
    pub(super) fn factor(self) -> u64 {
        let code = self.0 & 0b11 | (self.0 & 0b1000) >> 1;
        1 << ((code + 1) & 7)
    }
}

/// The least distance between two interrupts of a periodic timer: 20 µs.
const MIN_GAP: u64 = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    const NS_PER_TICK: u64 = 1_000_000_000 / LAPIC_TIMER_HZ;

    fn started(mode: Mode, divide: u32, count: u32) -> Timer {
        let mut timer = Timer::new();
        timer.set_mode(mode);
        timer.set_divide(Divide(divide), Nanos(0));
        timer.set_initial(count, Nanos(0));
        timer
    }

    #[test]
    fn the_divider_has_eight_values() {
        let codes = [0, 1, 2, 3, 8, 9, 10, 11];
        assert_eq!(
            codes.map(|c| Divide(c).factor()),
            [2, 4, 8, 16, 32, 64, 128, 1]
        );
    }

    #[test]
    fn one_shot_ends_once_at_its_time() {
        let mut timer = started(Mode::OneShot, 3, 1000);
        let end = Nanos(1000 * 16 * NS_PER_TICK);
        assert_eq!(timer.next(), Some(end));
        assert_eq!(timer.current(Nanos(end.0 / 2)), 500);
        assert!(!timer.expire(Nanos(end.0 - 1)));
        assert_eq!(timer.current(Nanos(end.0 - 1)), 1);
        assert!(timer.expire(end) && !timer.expire(end + 1_000_000));
        assert_eq!((timer.current(end), timer.next()), (0, None));
    }

    #[test]
    fn periodic_keeps_its_phase_when_late() {
        let period = 10_000 * NS_PER_TICK;
        let mut timer = started(Mode::Periodic, 11, 10_000);
        assert!(timer.expire(Nanos(7 * period + period / 2)));
        assert!(!timer.expire(Nanos(7 * period + period / 2)));
        assert_eq!(timer.next(), Some(Nanos(8 * period)));
        assert_eq!(timer.current(Nanos(8 * period - NS_PER_TICK)), 1);
        assert_eq!(timer.current(Nanos(8 * period)), 10_000);
    }

    #[test]
    fn periodic_ends_do_not_drift() {
        let mut timer = started(Mode::Periodic, 0, 99_991);
        for n in 1..=10_000 {
            let at = timer.next().unwrap();
            assert_eq!(at, Nanos(n * 99_991 * 2 * NS_PER_TICK));
            assert!(timer.expire(at));
        }
    }

    #[test]
    fn a_period_of_nanoseconds_leaves_gaps() {
        let mut timer = started(Mode::Periodic, 11, 1);
        assert!(timer.expire(Nanos(100)));
        assert_eq!(timer.next(), Some(Nanos(100 + MIN_GAP)));
    }

    #[test]
    fn a_new_divider_keeps_what_is_left() {
        let mut timer = started(Mode::OneShot, 11, 1000);
        timer.set_divide(Divide(0), Nanos(400 * NS_PER_TICK));
        assert_eq!(timer.next(), Some(Nanos((400 + 600 * 2) * NS_PER_TICK)));
    }

    #[test]
    fn the_deadline_is_disarmed_by_its_end_by_zero_and_by_a_mode() {
        let mut timer = Timer::new();
        timer.set_tsc_deadline(5);
        assert_eq!(timer.tsc_deadline(), 0);
        timer.set_mode(Mode::TscDeadline);
        timer.set_initial(5, Nanos(0));
        assert_eq!(timer.next(), None);
        timer.set_tsc_deadline(500);
        assert!(!timer.expire(Nanos(499)) && timer.expire(Nanos(500)));
        assert_eq!((timer.tsc_deadline(), timer.next()), (0, None));
        timer.set_tsc_deadline(u64::MAX);
        timer.set_mode(Mode::OneShot);
        assert_eq!(timer.next(), None);
    }

    #[test]
    fn no_value_overflows() {
        for count in [1, u32::MAX] {
            let mut timer = started(Mode::Periodic, 10, count);
            for now in [0, 1, u64::MAX / 2, u64::MAX] {
                timer.expire(Nanos(now));
                timer.current(Nanos(now));
                timer.next();
                timer.set_divide(Divide(3), Nanos(now));
            }
            // Time may stand still or run backwards.
            timer.current(Nanos(0));
        }
    }
}
