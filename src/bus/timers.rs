//! Deadlines of all slots, and the one thread that sleeps until the least of them.
//!
//! A slot publishes its device's deadline as an atomic whenever its lock is given back. The machine's timer thread
//! sleeps until the least one and lets the due devices catch up. A deadline that moved to a later time costs one
//! early waking; one that moved to an earlier time wakes the sleeper.
//!
//! Lock rank: the lock in here is a leaf. It is taken with a slot held (to wake the sleeper), and nothing is taken
//! while it is held.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::{Device, Nanos, Slot};

/// What "no deadline" looks like in an atomic.
const NEVER: u64 = u64::MAX;

/// How long the timer thread rests after a round. A guest may program a timer to a microsecond, and a thread that
/// follows it would keep the devices' locks busy for nothing: late devices catch up.
const REST: u64 = 20_000;

/// The deadlines of a machine's slots.
#[derive(Default)]
pub struct Timers {
    entries: Mutex<Arc<Vec<Entry>>>,
    /// No later than the least deadline that anybody published since the last `advance_due`.
    earliest: AtomicU64,
    /// When `advance_due` was called last.
    advanced: AtomicU64,
    stopped: AtomicBool,
    sleep: Mutex<()>,
    wake: Condvar,
}

/// One slot as the timer thread sees it. `Weak`, since the slot holds the timers.
struct Entry {
    cell: Arc<AtomicU64>,
    slot: Weak<Slot<dyn Device>>,
}

impl Timers {
    /// Timers of a machine without slots.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            earliest: AtomicU64::new(NEVER),
            ..Self::default()
        })
    }

    /// Lets every due device catch up with `now`. Takes the due slots, one at a time.
    pub fn advance_due(&self, now: Nanos) {
        // From here on a publisher lowers `earliest` itself; what was published before is in the cells.
        self.earliest.store(NEVER, Ordering::SeqCst);
        self.advanced.store(now.0, Ordering::Relaxed);
        let entries = locked(&self.entries).clone();
        for entry in entries.iter() {
            if entry.cell.load(Ordering::SeqCst) <= now.0 {
                match entry.slot.upgrade() {
                    Some(slot) => slot.lock().advance(now),
                    None => entry.cell.store(NEVER, Ordering::SeqCst),
                }
            }
            self.earliest
                .fetch_min(entry.cell.load(Ordering::SeqCst), Ordering::SeqCst);
        }
    }

    /// The time at which `advance_due` should be called next, if at all.
    pub fn earliest(&self) -> Option<Nanos> {
        match self.earliest.load(Ordering::SeqCst) {
            NEVER => None,
            at => Some(Nanos(at)),
        }
    }

    /// Sleeps until a deadline is due by `clock`. Returns whether there is more to do: false after `stop`.
    pub fn sleep(&self, clock: impl Fn() -> Nanos) -> bool {
        let rested = Nanos(self.advanced.load(Ordering::Relaxed)) + REST;
        let mut guard = locked(&self.sleep);
        while !self.stopped.load(Ordering::SeqCst) {
            guard = match self.earliest() {
                None => self
                    .wake
                    .wait(guard)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(at) => match at.max(rested) - clock() {
                    0 => return true,
                    ns => self.wait(guard, Duration::from_nanos(ns)),
                },
            };
        }
        false
    }

    /// Ends the timer thread's sleep for good.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        drop(locked(&self.sleep));
        self.wake.notify_all();
    }

    /// Enters a slot in the list.
    pub(super) fn register(&self, cell: Arc<AtomicU64>, slot: Weak<Slot<dyn Device>>) {
        let mut entries = locked(&self.entries);
        let mut grown = Vec::with_capacity(entries.len() + 1);
        for entry in entries.iter() {
            grown.push(Entry {
                cell: entry.cell.clone(),
                slot: entry.slot.clone(),
            });
        }
        grown.push(Entry { cell, slot });
        *entries = Arc::new(grown);
    }

    /// A slot's deadline is now `deadline`.
    pub(super) fn publish(&self, cell: &AtomicU64, deadline: Option<Nanos>) {
        let at = deadline.map_or(NEVER, |at| at.0.min(NEVER - 1));
        if cell.swap(at, Ordering::SeqCst) != at
            && self.earliest.fetch_min(at, Ordering::SeqCst) > at
        {
            // With the lock once taken, the sleeper has either not looked at `earliest` yet or is asleep.
            drop(locked(&self.sleep));
            self.wake.notify_all();
        }
    }

    fn wait<'a>(&self, guard: MutexGuard<'a, ()>, timeout: Duration) -> MutexGuard<'a, ()> {
        self.wake
            .wait_timeout(guard, timeout)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }
}

/// The deadline cell of a slot without a deadline.
pub(super) fn idle_cell() -> Arc<AtomicU64> {
    Arc::new(AtomicU64::new(NEVER))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Access;
    use std::time::Instant;

    /// Rings once at `at`.
    #[derive(Default)]
    struct Alarm {
        at: Option<Nanos>,
        rung: u32,
    }

    impl Device for Alarm {
        fn read(&mut self, _: Access) -> u64 {
            0
        }
        fn write(&mut self, _: Access, value: u64) {
            self.at = Some(Nanos(value));
        }
        fn deadline(&self) -> Option<Nanos> {
            self.at
        }
        fn advance(&mut self, now: Nanos) {
            if self.at.is_some_and(|at| at <= now) {
                self.at = None;
                self.rung += 1;
            }
        }
        fn reset(&mut self) {}
    }

    #[test]
    fn only_due_slots_advance_and_the_least_deadline_remains() {
        let timers = Timers::new();
        let early = Slot::new(Alarm::default(), &timers);
        let late = Slot::new(Alarm::default(), &timers);
        assert_eq!(timers.earliest(), None);
        late.lock().at = Some(Nanos(200));
        early.lock().at = Some(Nanos(100));
        assert_eq!(timers.earliest(), Some(Nanos(100)));
        timers.advance_due(Nanos(150));
        assert_eq!((early.lock().rung, late.lock().rung), (1, 0));
        assert_eq!(timers.earliest(), Some(Nanos(200)));
        timers.advance_due(Nanos(200));
        assert_eq!((late.lock().rung, timers.earliest()), (1, None));
    }

    #[test]
    fn a_dropped_slot_is_forgotten() {
        let timers = Timers::new();
        let slot = Slot::new(Alarm::default(), &timers);
        slot.lock().at = Some(Nanos(1));
        drop(slot);
        timers.advance_due(Nanos(5));
        assert_eq!(timers.earliest(), None);
    }

    #[test]
    fn a_due_deadline_waits_for_the_rest_after_the_last_round() {
        let timers = Timers::new();
        let slot = Slot::new(Alarm::default(), &timers);
        timers.advance_due(Nanos(1_000));
        slot.lock().at = Some(Nanos(1_001));
        let asked = AtomicU64::new(0);
        let clock = || Nanos(1_001 + 15_000 * asked.fetch_add(1, Ordering::Relaxed));
        assert!(timers.sleep(clock));
        assert_eq!(asked.load(Ordering::Relaxed), 3, "at 1, 16 and 31 us");
    }

    /// Threads set deadlines, far and near, forth and back, while the timers' thread is at work: each near one rings,
    /// once.
    #[test]
    fn no_deadline_is_lost_or_doubled_between_threads() {
        const ROUNDS: u32 = 300;
        let timers = Timers::new();
        let start = Instant::now();
        let clock = move || Nanos(start.elapsed().as_nanos() as u64);
        let worker = {
            let timers = timers.clone();
            std::thread::spawn(move || {
                while timers.sleep(clock) {
                    timers.advance_due(clock());
                }
            })
        };
        let setters = [1, 2, 3, 4].map(|seed| {
            let slot = Slot::new(Alarm::default(), &timers);
            std::thread::spawn(move || {
                for round in 1..=ROUNDS {
                    if round % 3 == 0 {
                        slot.lock().at = Some(clock() + 3_600_000_000_000);
                    }
                    if round % 5 == 0 {
                        slot.lock().at = None;
                    }
                    let wait = u64::from(round * seed * 7_919 % 60_000);
                    slot.lock().at = Some(clock() + wait);
                    let limit = clock() + 30_000_000_000;
                    while slot.lock().rung < round {
                        assert!(clock() < limit, "deadline {round} was lost");
                        std::thread::yield_now();
                    }
                    assert_eq!(slot.lock().rung, round);
                }
            })
        });
        for setter in setters {
            setter.join().unwrap();
        }
        timers.stop();
        worker.join().unwrap();
    }

    #[test]
    fn an_earlier_deadline_wakes_the_sleeper() {
        let timers = Timers::new();
        let slot = Slot::new(Alarm::default(), &timers);
        let start = Instant::now();
        let clock = move || Nanos(start.elapsed().as_nanos() as u64);
        slot.lock().at = Some(Nanos(3_600_000_000_000));
        let thread = {
            let timers = timers.clone();
            std::thread::spawn(move || {
                while timers.sleep(clock) {
                    timers.advance_due(clock());
                }
            })
        };
        std::thread::sleep(Duration::from_millis(10));
        slot.lock().at = Some(clock());
        while slot.lock().rung == 0 {
            assert!(start.elapsed() < Duration::from_secs(30), "never woken");
            std::thread::yield_now();
        }
        timers.stop();
        thread.join().unwrap();
    }
}
