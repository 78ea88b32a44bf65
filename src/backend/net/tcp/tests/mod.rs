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

/// The states of RFC 9293, 3.3.2. LISTEN is the owner's; `Held` is between LISTEN and SYN-RECEIVED.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// A SYN has come that is answered by `Connection::stand` or `Connection::abort`.
    Held,
    /// SYN-SENT.
    SynSent,
    /// SYN-RECEIVED.
    SynReceived,
    /// ESTABLISHED.
    Established,
    /// FIN-WAIT-1: we have closed.
    FinWait1,
    /// FIN-WAIT-2: and the peer knows.
    FinWait2,
    /// CLOSE-WAIT: the peer has closed.
    CloseWait,
    /// CLOSING: both have closed at once.
    Closing,
    /// LAST-ACK: we have closed after the peer.
    LastAck,
    /// TIME-WAIT.
    TimeWait,
    /// CLOSED.
    Closed,
}

impl Connection {
    /// The state, in RFC 9293's words.
    pub(super) fn state(&self) -> State {
        match self.phase {
            Phase::Held => State::Held,
            Phase::SynSent => State::SynSent,
            Phase::SynReceived => State::SynReceived,
            Phase::TimeWait => State::TimeWait,
            Phase::Closed => State::Closed,
            Phase::Open => match (self.out.closing, self.out.fin_acked, self.inn.fin) {
                (false, _, false) => State::Established,
                (false, _, true) => State::CloseWait,
                (true, false, false) => State::FinWait1,
                (true, true, false) => State::FinWait2,
                (true, _, true) if self.passive => State::LastAck,
                (true, _, true) => State::Closing,
            },
        }
    }
}
