//! When init came to life, by the guest's own clock.

use hvf_sys::os::boot::uptime;
use std::sync::OnceLock;
use std::time::Duration;

static BEGUN: OnceLock<Duration> = OnceLock::new();

/// Notes that init begins: the first thing that it does.
pub fn begin() {
    BEGUN.get_or_init(uptime);
}

/// How long the kernel had run when init began, and how long it has by now, in microseconds.
pub(crate) fn marks() -> (u64, u64) {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let now = uptime();
    (micros(*BEGUN.get_or_init(|| now)), micros(now))
}
