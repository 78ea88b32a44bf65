//! TCP (RFC 9293) for an Ethernet of two, as a state machine: segments and time go in, segments and a deadline come
//! out. It knows no addresses, sockets, clocks or threads.
//!
//! Whoever owns a [`Connection`] does this, in any order and as often as there is reason to:
//! - gives it each segment that comes ([`Connection::segment`]);
//! - reads ([`Connection::readable`], [`Connection::consume`]) and writes ([`Connection::vacant`],
//!   [`Connection::filled`]), closes or aborts;
//! - afterwards, and when [`Connection::deadline`] has passed, asks [`Connection::next`] for segments until there are no
//!   more, and says of each that it was sent ([`Connection::sent`]). One that could not be sent is forgotten: it will
//!   be asked for again, and may be longer then. Nothing is retransmitted, and nobody is given up, that has not been sent;
//! - forgets it once it is finished ([`Connection::is_finished`]).
//!
//! Back-pressure both ways is the window: what is not read is not acknowledged with new room, and what the peer has no
//! room for stays in a buffer that takes no more than `Config::send` bytes. Buffers have memory only as far as needed.
//!
//! Where the link makes it simpler than elsewhere: it does not reorder and seldom loses, so segments behind a gap are dropped
//! and sent again; there is no congestion but the peer's own, so the peer's window alone limits, except after a loss.
//! Segments may be as long as IP allows whatever the MSS is, if the owner says so: somebody cuts them. Not there: urgent
//! data (taken as any other), selective acknowledgments, timestamps, Nagle's algorithm (the owner's writes gather while
//! there is no room for segments), keep-alive.

mod input;
mod output;
mod ring;
mod segment;
mod seq;
mod timer;

pub use output::Outgoing;
pub use segment::{CHECKSUM, Flags, HEADER, Ports, Segment};
pub use seq::Seq;

use std::time::{Duration, Instant};

use hvf_sys::ram::OutsideRam;

use crate::backend::net::Frame;
use input::Inbound;
use output::Outbound;
use timer::Timers;

/// What a connection is made with.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The most bytes of data in a segment, either way: what a packet may have without IP's and TCP's headers.
    pub mss: u16,
    /// How many received bytes wait to be read at most; a power of two.
    pub receive: usize,
    /// How many bytes wait to be sent or acknowledged at most; a power of two.
    pub send: usize,
    /// How long an acknowledgment may wait for data to go with it.
    pub ack_delay: Duration,
    /// How long TIME-WAIT lasts. Nothing strays on a link of two, so it has to outlast a retransmission only.
    pub time_wait: Duration,
    /// How long a peer may take to end a connection that nobody here reads or writes any more.
    pub linger: Duration,
}

impl Config {
    /// For segments of up to `mss` bytes.
    pub fn new(mss: u16) -> Self {
        Self {
            mss,
            receive: 256 << 10,
            send: 256 << 10,
            ack_delay: Duration::from_millis(5),
            time_wait: Duration::from_secs(1),
            linger: Duration::from_secs(60),
        }
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Both sides have closed, and all was acknowledged.
    Finished,
    /// The peer does not want it.
    Refused,
    /// The peer has reset it.
    Reset,
    /// We have reset it.
    Aborted,
    /// The peer no longer answers.
    TimedOut,
}

/// A segment's data, wherever it lies.
pub trait Payload {
    /// How many bytes.
    fn len(&self) -> usize;

    /// Copies bytes from the one at `from` on, as many as `into` has; `len` has told that they are there.
    fn copy(&self, from: usize, into: &mut [u8]) -> Result<(), OutsideRam>;
}

/// Data that lie in a frame of the guest's.
pub struct InFrame<'a> {
    /// The frame.
    pub frame: &'a Frame<'a>,
    /// Where in it they begin.
    pub start: usize,
    /// How many bytes.
    pub len: usize,
}

impl Payload for InFrame<'_> {
    fn len(&self) -> usize {
        self.len
    }

    fn copy(&self, from: usize, into: &mut [u8]) -> Result<(), OutsideRam> {
        self.frame.copy_part(self.start + from, into)
    }
}

impl Payload for &[u8] {
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }

    fn copy(&self, from: usize, into: &mut [u8]) -> Result<(), OutsideRam> {
        let rest = self.get(from..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(())
    }
}

/// What a connection does. Which side has closed is kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Held,
    SynSent,
    SynReceived,
    Open,
    TimeWait,
    Closed,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    config: Config,
    phase: Phase,
    out: Outbound,
    inn: Inbound,
    timers: Timers,
    /// The most bytes of data that a segment had last.
    limit: usize,
    /// A segment that is sent as it is: a reset.
    stray: Option<Segment>,
    /// The peer has closed before us, so that it is the one to wait.
    passive: bool,
    ending: Option<Ending>,
}

impl Connection {
    /// Answers a SYN, but not yet: `stand` does. `iss` is the initial sequence number, which strangers should not guess.
    pub fn accept(config: Config, iss: Seq, syn: &Segment) -> Self {
        let mut it = Self::new(config, iss, Phase::Held);
        it.learn(syn);
        it
    }

    /// Connects to a peer.
    pub fn connect(config: Config, iss: Seq) -> Self {
        Self::new(config, iss, Phase::SynSent)
    }

    fn new(config: Config, iss: Seq, phase: Phase) -> Self {
        Self {
            out: Outbound::new(&config, iss),
            inn: Inbound::new(&config),
            timers: Timers::default(),
            limit: config.mss.into(),
            config,
            phase,
            stray: None,
            passive: false,
            ending: None,
        }
    }

    /// Answers the SYN that is held.
    pub fn stand(&mut self) {
        if self.phase == Phase::Held {
            self.phase = Phase::SynReceived;
        }
    }

    /// Whether both sides have agreed on the connection. It stays so when it ends.
    pub fn is_established(&self) -> bool {
        self.out.is_synchronized()
    }

    /// The most bytes of data that the peer takes in one segment.
    pub fn mss(&self) -> u16 {
        self.out.mss()
    }

    /// How it ended, if it has.
    pub fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// Whether nothing more will be sent or expected. What has been received may still be read.
    pub fn is_finished(&self) -> bool {
        self.phase == Phase::Closed && self.stray.is_none()
    }

    /// Whether a SYN may begin a new connection in this one's place (RFC 9293, 3.6.1).
    pub fn yields_to(&self, syn: &Segment) -> bool {
        let old = matches!(self.phase, Phase::TimeWait | Phase::Closed);
        let only = syn.flags & (Flags::SYN | Flags::ACK | Flags::RST) == Flags::SYN;
        old && only && (self.phase == Phase::Closed || syn.seq.after(self.inn.next))
    }

    /// What has been received and not yet consumed, in order.
    pub fn readable(&self) -> [&[u8]; 2] {
        self.inn.ring.slices(0, usize::MAX)
    }

    /// How many bytes that are.
    pub fn readable_len(&self) -> usize {
        self.inn.ring.len()
    }

    /// Takes away the first `len` bytes of what has been received.
    pub fn consume(&mut self, len: usize) {
        self.inn.ring.consume(len);
    }

    /// Copies what has been received to `into`, and consumes it. Says how many bytes.
    pub fn read(&mut self, into: &mut [u8]) -> usize {
        let mut done = 0;
        for part in self.inn.ring.slices(0, into.len()) {
            into[done..done + part.len()].copy_from_slice(part);
            done += part.len();
        }
        self.consume(done);
        done
    }

    /// Whether everything that the peer will ever send has been consumed: after its FIN, or whatever else ended it.
    pub fn is_read_out(&self) -> bool {
        self.readable_len() == 0 && self.peer_closed()
    }

    /// Whether no more will come from the peer.
    pub fn peer_closed(&self) -> bool {
        self.inn.fin || self.phase == Phase::Closed
    }

    /// Receives no more: what has come and what comes is thrown away, though acknowledged. Data that comes when
    /// there is nothing more to send either resets the connection.
    pub fn ignore_input(&mut self) {
        self.inn.ignored = true;
        self.inn.ring.clear();
    }

    /// How many bytes can be written.
    pub fn writable_len(&self) -> usize {
        if self.out.closing || self.phase == Phase::Closed {
            0
        } else {
            self.out.ring.room()
        }
    }

    /// Room for up to `want` bytes of what can be written. What is put there counts when `filled` says so.
    pub fn vacant(&mut self, want: usize) -> [&mut [u8]; 2] {
        let want = want.min(self.writable_len());
        self.out.ring.vacant(want)
    }

    /// The first `len` bytes of the room that `vacant` gave last are to be sent.
    pub fn filled(&mut self, len: usize) {
        self.out.ring.filled(len.min(self.writable_len()));
    }

    /// Writes bytes, and says how many.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        for part in self.vacant(bytes.len()) {
            let here;
            (here, rest) = rest.split_at(part.len());
            part.copy_from_slice(here);
        }
        let done = bytes.len() - rest.len();
        self.filled(done);
        done
    }

    /// How many bytes have been written that the peer has not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.out.ring.len()
    }

    /// Sends a FIN behind everything that was written. The peer's data is received all the same.
    pub fn close(&mut self) {
        self.out.closing = true;
    }

    /// Resets the connection, or refuses the one that is held.
    pub fn abort(&mut self) {
        self.stray = self.reset();
        let over = self.phase == Phase::TimeWait;
        self.end(if over {
            Ending::Finished
        } else {
            Ending::Aborted
        });
    }

    /// The reset that tells the peer that the connection is gone (RFC 9293, 3.10.5).
    fn reset(&self) -> Option<Segment> {
        let mut segment = Segment {
            seq: self.out.next,
            ack: self.inn.next,
            flags: Flags::RST | Flags::ACK,
            ..Segment::default()
        };
        match self.phase {
            Phase::Closed | Phase::TimeWait | Phase::SynSent => return self.stray,
            // As if there had been no connection.
            Phase::Held => segment.seq = Seq(0),
            // What is in flight may be more than the peer has: it takes a reset only where it expects it.
            _ => segment.seq = self.out.acceptable(),
        }
        Some(segment)
    }

    fn end(&mut self, ending: Ending) {
        if self.phase == Phase::Closed {
            return;
        }
        self.phase = Phase::Closed;
        self.ending = Some(ending);
        self.timers = Timers::default();
        self.out.ring.clear();
    }

    /// Bytes of memory that its buffers have.
    #[cfg(test)]
    pub fn memory(&self) -> usize {
        self.out.ring.memory() + self.inn.ring.memory()
    }

    /// When `next` is to be called even if nothing else happens.
    pub fn deadline(&self) -> Option<Instant> {
        self.timers.deadline()
    }
}

#[cfg(test)]
mod tests;
