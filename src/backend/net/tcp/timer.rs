//! A connection's timers, and how long to wait for an acknowledgment (RFC 6298).

use std::time::{Duration, Instant};

use super::output::Kind;
use super::{Connection, Ending, Phase, Seq};

/// Before anything has been measured (RFC 6298, 2.1).
const INITIAL: Duration = Duration::from_secs(1);
/// RFC 6298, 2.4 has one second. The peer is on this machine, and delays acknowledgments by 40 ms if it is Linux.
const LEAST: Duration = Duration::from_millis(200);
/// RFC 6298, 2.5.
const MOST: Duration = Duration::from_secs(60);
/// What the clock's granularity may add (RFC 6298, G).
const GRANULARITY: Duration = Duration::from_millis(1);
/// After how many retransmissions that nothing was heard of a peer is given up: some four minutes
/// (RFC 9293, 3.8.3 wants 100 seconds and more).
const TRIES_MAX: u32 = 11;
/// The same for whoever has sent a SYN and then is silent: half a minute.
const TRIES_SYN: u32 = 4;

/// The timers.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// Retransmission, or the probe of a window that is shut.
    pub(super) resend: Option<Instant>,
    /// The acknowledgment that is delayed.
    pub(super) ack: Option<Instant>,
    /// The end of TIME-WAIT, or of patience with a peer that does not close.
    pub(super) last: Option<Instant>,
    /// Since nothing has been heard: how often the first timer has gone off.
    pub(super) tries: u32,
    /// How often the time-out has been doubled.
    pub(super) backoff: u32,
    /// When the segment was sent that ends before this number. One is measured at a time, and none that was sent twice.
    pub(super) measured: Option<(Seq, Instant)>,
    /// SRTT and RTTVAR.
    smooth: Option<(Duration, Duration)>,
}

impl Timers {
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.resend, self.ack, self.last]
            .into_iter()
            .flatten()
            .min()
    }

    /// How long to wait for an acknowledgment now.
    pub(super) fn timeout(&self) -> Duration {
        let base = self.smooth.map_or(INITIAL, |(smooth, varies)| {
            smooth + (4 * varies).max(GRANULARITY)
        });
        let doubled = base.clamp(LEAST, MOST) * 2_u32.pow(self.backoff.min(9));
        doubled.min(MOST)
    }

    /// Everything before `ack` is acknowledged.
    pub(super) fn acknowledged(&mut self, now: Instant, ack: Seq) {
        if let Some((end, sent)) = self.measured
            && !end.after(ack)
        {
            self.measured = None;
            self.sample(now.saturating_duration_since(sent).min(MOST));
        }
        (self.tries, self.backoff) = (0, 0);
    }

    /// RFC 6298, 2.2 and 2.3.
    fn sample(&mut self, time: Duration) {
        let smooth = match self.smooth {
            None => (time, time / 2),
            Some((smooth, varies)) => {
                let off = smooth.abs_diff(time);
                ((smooth * 7 + time) / 8, (varies * 3 + off) / 4)
            }
        };
        self.smooth = Some(smooth);
    }
}

impl Connection {
    /// Does what is due.
    pub(super) fn expire(&mut self, now: Instant) {
        let due = |timer: Option<Instant>| timer.is_some_and(|at| at <= now);
        if due(self.timers.ack) {
            self.timers.ack = None;
            self.inn.owe();
        }
        if due(self.timers.resend) {
            self.resend();
        }
        if due(self.timers.last) {
            self.end(Ending::Finished);
        }
    }

    /// The peer has not answered in time, or its window has been shut for long.
    fn resend(&mut self) {
        self.timers.resend = None;
        let most = if self.phase == Phase::SynReceived {
            TRIES_SYN
        } else {
            TRIES_MAX
        };
        if self.timers.tries >= most {
            self.stray = self.reset();
            return self.end(Ending::TimedOut);
        }
        self.timers.tries += 1;
        self.timers.backoff += 1;
        self.timers.measured = None;
        self.out.rewind();
    }

    /// Arms the timers that need no segment to be sent.
    pub(super) fn arm(&mut self, now: Instant) {
        let out = &self.out;
        if self.phase == Phase::Open {
            let blocked = out.end().after(out.next) && !out.is_in_flight();
            if blocked && self.timers.resend.is_none() {
                self.timers.resend = Some(now + self.timers.timeout());
            }
            let lingers = out.fin_acked && self.inn.ignored && self.timers.last.is_none();
            if lingers {
                self.timers.last = Some(now + self.config.linger);
            }
        }
    }

    /// Arms the timers for a segment that takes `space` of the sequence space up to `end`.
    pub(super) fn arm_for(&mut self, now: Instant, kind: Kind, end: Seq) {
        if self.timers.resend.is_none() {
            self.timers.resend = Some(now + self.timers.timeout());
        }
        match kind {
            Kind::Again => self.timers.measured = None,
            _ => _ = self.timers.measured.get_or_insert((end, now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_out_follows_the_round_trips() {
        let mut timers = Timers::default();
        let ms = Duration::from_millis;
        assert_eq!(timers.timeout(), ms(1000));
        timers.sample(ms(100));
        assert_eq!(timers.timeout(), ms(300));
        timers.sample(ms(900));
        // RTTVAR = 3/4 * 50 + 1/4 * 800, SRTT = 7/8 * 100 + 1/8 * 900.
        assert_eq!(
            timers.timeout(),
            ms(200) + 4 * Duration::from_micros(237_500)
        );
        for _ in 0..100 {
            timers.sample(Duration::ZERO);
        }
        assert_eq!(timers.timeout(), LEAST);
        for (backoff, expected) in [(1, ms(400)), (8, ms(51_200)), (9, MOST), (u32::MAX, MOST)] {
            timers.backoff = backoff;
            assert_eq!(timers.timeout(), expected, "{backoff}");
        }
    }

    #[test]
    fn only_what_was_sent_once_is_measured() {
        let mut timers = Timers::default();
        let now = Instant::now();
        timers.measured = Some((Seq(10), now));
        timers.acknowledged(now + LEAST, Seq(9));
        assert_eq!(timers.smooth, None);
        timers.acknowledged(now + LEAST, Seq(10));
        assert_eq!(timers.smooth, Some((LEAST, LEAST / 2)));
        assert_eq!(timers.measured, None);
    }
}
