//! The clocks: Mach time, in which deadlines are given, and the time-stamp counter.

use std::time::Duration;

use super::ffi;

/// The framework's clock: what a deadline is given in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub(super) u64);

impl Deadline {
    /// It never comes.
    pub const NEVER: Self = Self(ffi::HV_DEADLINE_FOREVER);

    /// So long from now; just below `NEVER` at most.
    pub fn after(delay: Duration) -> Self {
        // SAFETY: the call takes nothing.
        let now = unsafe { ffi::mach_absolute_time() };
        Self(
            now.saturating_add(ticks(delay, timebase()))
                .min(u64::MAX - 1),
        )
    }
}

/// The host's time-stamp counter.
pub fn tsc() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and no Mac keeps it from programs.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// How often it counts in a second. `None` where the kernel does not tell.
pub fn tsc_hz() -> Option<u64> {
    let (mut hz, mut len) = (0_u64, size_of::<u64>());
    let (name, room) = (c"machdep.tsc.frequency", (&raw mut hz).cast());
    // SAFETY: a terminated name, room for a number with its size, and nothing to set.
    let failed =
        unsafe { libc::sysctlbyname(name.as_ptr(), room, &raw mut len, std::ptr::null_mut(), 0) };
    (failed == 0 && len == size_of::<u64>() && hz > 0).then_some(hz)
}

/// How many nanoseconds so many ticks of the Mach clock take: 1 and 1 on the Intel Macs that are known.
fn timebase() -> (u32, u32) {
    let mut info = ffi::mach_timebase_info_data_t { numer: 0, denom: 0 };
    // SAFETY: the call fills the structure that it is given.
    unsafe { ffi::mach_timebase_info(&raw mut info) };
    (info.numer.max(1), info.denom.max(1))
}

/// The ticks of a time, rounded up so that a deadline is never early.
fn ticks(delay: Duration, (numer, denom): (u32, u32)) -> u64 {
    let ticks = delay
        .as_nanos()
        .saturating_mul(u128::from(denom))
        .div_ceil(u128::from(numer));
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_never_early() {
        assert_eq!(ticks(Duration::from_nanos(1000), (1, 1)), 1000);
        assert_eq!(ticks(Duration::from_nanos(125), (125, 3)), 3);
        assert_eq!(ticks(Duration::from_nanos(126), (125, 3)), 4);
        assert_eq!(ticks(Duration::MAX, (1, 3)), u64::MAX);
        assert!(Deadline::after(Duration::MAX) < Deadline::NEVER);
    }
}
