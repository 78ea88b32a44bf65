//! The machine's clock as a value. Nobody below the machine owns a clock: time comes as an argument.

use std::ops::{Add, Sub};

/// Nanoseconds of guest time since the machine was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

impl Nanos {
    /// How many whole ticks of a clock of `hz` have passed at this time, exactly.
    pub const fn ticks(self, hz: u64) -> u64 {
        (self.0 as u128 * hz as u128 / 1_000_000_000) as u64
    }

    /// The first time at which a clock of `hz` has made `ticks` ticks; the end of time where that overflows.
    pub const fn at_tick(ticks: u64, hz: u64) -> Self {
        let ns = (ticks as u128 * 1_000_000_000).div_ceil(hz as u128);
        if ns > u64::MAX as u128 {
            Self(u64::MAX)
        } else {
            Self(ns as u64)
        }
    }
}

impl Add<u64> for Nanos {
    type Output = Self;
    fn add(self, ns: u64) -> Self {
        Self(self.0.saturating_add(ns))
    }
}

impl Sub for Nanos {
    type Output = u64;
    /// How long after `earlier` this is; zero where it is not.
    fn sub(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_reached_at_its_time_and_not_before() {
        for hz in [1, 32_768, 1_193_182, 3_579_545, 100_000_000, 1_000_000_000] {
            for tick in [0, 1, 2, 3, 1_000, 123_456_789] {
                let at = Nanos::at_tick(tick, hz);
                assert_eq!(at.ticks(hz).max(tick), at.ticks(hz));
                if tick > 0 {
                    assert!(Nanos(at.0 - 1).ticks(hz) < tick, "{hz} Hz, tick {tick}");
                }
            }
        }
    }
}
