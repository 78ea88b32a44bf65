//! The rate of a vCPU's TSC, and machine time in its ticks.

use crate::bus::Nanos;
use crate::layout;
use crate::x86::cpuid::tsc_ratio;

/// So many thousand ticks a second; never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate(u64);

impl Rate {
    pub(super) fn new(khz: u32) -> Self {
        Self(u64::from(khz.max(1)))
    }

    /// What the TSC shows at this machine time.
    pub(super) fn ticks(self, time: Nanos) -> u64 {
        (u128::from(time.0) * u128::from(self.0) / 1_000_000) as u64
    }

    /// How long so many ticks take, rounded up: what waits for them does not wake too early.
    pub(super) fn time(self, ticks: u64) -> u64 {
        let nanos = (u128::from(ticks) * 1_000_000).div_ceil(u128::from(self.0));
        nanos.try_into().unwrap_or(u64::MAX)
    }

    /// The same for CPUID: ticks, and the crystal's ticks in which they come.
    pub(super) fn ratio(self) -> (u32, u32) {
        tsc_ratio(self.0, layout::CRYSTAL_HZ)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_machines_own_rate_is_its_ratio() {
        let rate = Rate::new((layout::TSC_HZ / 1000) as u32);
        assert_eq!(rate.ratio(), (layout::TSC_RATIO as u32, 1));
        assert_eq!(
            (rate.ticks(Nanos(12_345)), rate.time(12_345)),
            (12_345, 12_345)
        );
    }

    proptest! {
        #[test]
        fn a_ratio_is_the_rate_exactly(khz in 1u32..) {
            let (ticks, per) = Rate::new(khz).ratio();
            let hz = u128::from(layout::CRYSTAL_HZ) * u128::from(ticks) / u128::from(per);
            prop_assert_eq!(hz, u128::from(khz) * 1000);
        }

        /// Who waits for a tick finds it there, and no tick more than the conversion's own.
        #[test]
        fn no_wait_is_too_short(khz in 1_000u32..6_000_000, ticks in 0u64..1 << 53) {
            let rate = Rate::new(khz);
            let waited = rate.ticks(Nanos(rate.time(ticks)));
            prop_assert!(waited >= ticks && waited <= ticks + u64::from(khz) / 1_000_000 + 1);
        }
    }
}
