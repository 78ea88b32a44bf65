//! The host's clock, for the guest.
//!
//! The guest's clock starts with the machine's RTC, which knows whole seconds, and goes on with counters that stand still
//! while the host sleeps. So init is told the time when it greets, and again whenever our two clocks, the one that people set and
//! the one that only counts, have moved against each other: after a sleep, and after somebody set the first.

use super::session::Event;
use std::sync::mpsc::SyncSender;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often the clocks are compared.
const PERIOD: Duration = Duration::from_secs(2);
/// A smaller move is a slow adjustment, or the time between two looks.
const TOLERANCE: Duration = Duration::from_millis(100);

/// Nanoseconds since 1970 began; zero before.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |time| time.as_nanos().try_into().unwrap_or(u64::MAX))
}

/// Says when the clock has moved, as long as anybody hears it.
pub(super) fn watch(events: &SyncSender<Event>) {
    let mut watch = Watch::new(Instant::now(), SystemTime::now());
    loop {
        sleep(PERIOD);
        if watch.has_moved(Instant::now(), SystemTime::now())
            && events.send(Event::ClockMoved).is_err()
        {
            return;
        }
    }
}

/// Both clocks at one moment.
struct Watch {
    counted: Instant,
    told: SystemTime,
}

impl Watch {
    fn new(counted: Instant, told: SystemTime) -> Self {
        Self { counted, told }
    }

    /// Whether the clocks have moved against each other since they last did.
    fn has_moved(&mut self, counted: Instant, told: SystemTime) -> bool {
        let expected = self.told + counted.saturating_duration_since(self.counted);
        let by = match told.duration_since(expected) {
            Ok(forward) => forward,
            Err(backward) => backward.duration(),
        };
        let moved = by > TOLERANCE;
        if moved {
            *self = Self::new(counted, told);
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_only_goes_on_has_not_moved() {
        let (counted, told) = (Instant::now(), SystemTime::now());
        let mut watch = Watch::new(counted, told);
        for seconds in [0, 1, 1000, 100_000] {
            let later = Duration::from_secs(seconds);
            assert!(!watch.has_moved(counted + later, told + later));
        }
    }

    #[test]
    fn a_sleep_and_a_set_clock_are_noticed_once() {
        let (counted, told) = (Instant::now(), SystemTime::now());
        let mut watch = Watch::new(counted, told);
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
        assert!(watch.has_moved(counted + second, told + hour));
        assert!(!watch.has_moved(counted + 2 * second, told + hour + second));
        assert!(watch.has_moved(counted + 3 * second, told));
        assert!(!watch.has_moved(counted + 3 * second, told + TOLERANCE));
    }

    #[test]
    fn it_is_this_century() {
        assert!(now() > 50 * 365 * 24 * 3600 * 1_000_000_000);
    }
}
