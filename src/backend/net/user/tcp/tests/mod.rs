//! Two connections on a channel of the test's, and one connection against segments written by hand.

mod channel;
mod table;

use std::time::Duration;

use super::*;

pub(super) fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A configuration with small buffers.
pub(super) fn small() -> Config {
    Config {
        receive: 8192,
        send: 8192,
        ..Config::new(1000)
    }
}
