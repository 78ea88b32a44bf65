//! The way out of a terminal that belongs to the guest: `Ctrl-]` three times within a second.

use std::time::{Duration, Instant};

const CTRL_BRACKET: u8 = 0x1d;
const TIMES: usize = 3;
const WITHIN: Duration = Duration::from_secs(1);

/// Watches what is typed. Any other byte starts the count afresh, and nothing is swallowed.
#[derive(Debug, Default)]
pub(super) struct Escape {
    presses: Vec<Instant>,
}

impl Escape {
    /// Looks at bytes typed at `now`. True when they complete the way out.
    pub(super) fn typed(&mut self, bytes: &[u8], now: Instant) -> bool {
        bytes.iter().any(|&byte| {
            if byte != CTRL_BRACKET {
                self.presses.clear();
                return false;
            }
            self.presses.push(now);
            self.presses
                .retain(|press| now.saturating_duration_since(*press) <= WITHIN);
            self.presses.len() >= TIMES
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn three_within_a_second_lead_out() {
        let start = Instant::now();
        let mut escape = Escape::default();
        assert!(!escape.typed(b"\x1d", start));
        assert!(!escape.typed(b"\x1d", at(start, 500)));
        assert!(escape.typed(b"\x1d", at(start, 1000)));
        assert!(Escape::default().typed(b"ls\x1d\x1d\x1d", start));
    }

    #[test]
    fn slow_or_interrupted_presses_do_not() {
        let start = Instant::now();
        let mut escape = Escape::default();
        assert!(!escape.typed(b"\x1d", start));
        assert!(!escape.typed(b"\x1d", at(start, 900)));
        assert!(!escape.typed(b"\x1d", at(start, 1001)));
        assert!(escape.typed(b"\x1d", at(start, 1002)));
        assert!(!Escape::default().typed(b"\x1d\x1da\x1d", start));
    }
}
