//! What a connection receives (RFC 9293, 3.10.7, with the checks of RFC 5961).

use std::time::{Duration, Instant};

use super::ring::Ring;
use super::{Config, Connection, Ending, Flags, Payload, Phase, Segment, Seq};

/// How often at most a segment without data that makes no sense is answered, so that two who disagree do not
/// answer each other for ever (RFC 5961, 7).
const CHALLENGE: Duration = Duration::from_millis(100);
/// The most acknowledgments that are owed at once: enough for the sender to know of a loss.
const OWED_MAX: u8 = 3;

/// The receiving half.
#[derive(Debug)]
pub(super) struct Inbound {
    /// What has not yet been read.
    pub(super) ring: Ring,
    pub(super) irs: Seq,
    /// The number that is expected next.
    pub(super) next: Seq,
    /// The number behind the window that the peer was told of.
    edge: Seq,
    /// By how many bits our windows are shifted, once both sides do so.
    shift: u8,
    /// What we offer.
    offer: Option<u8>,
    mss: u32,
    /// FIN has come: everything has.
    pub(super) fin: bool,
    /// Nobody will read.
    pub(super) ignored: bool,
    /// How many acknowledgments are owed.
    owed: u8,
    /// Bytes that have come since the last one.
    unacked: u32,
    /// When a senseless segment was answered last.
    challenged: Option<Instant>,
}

impl Inbound {
    pub(super) fn new(config: &Config) -> Self {
        let ring = Ring::new(config.receive);
        let most = usize::from(u16::MAX);
        let shift = (0..=14).find(|&shift| ring.limit() >> shift <= most);
        Self {
            ring,
            irs: Seq(0),
            next: Seq(0),
            edge: Seq(0),
            shift: 0,
            offer: shift.or(Some(14)),
            mss: config.mss.max(1).into(),
            fin: false,
            ignored: false,
            owed: 0,
            unacked: 0,
            challenged: None,
        }
    }

    /// A SYN's window, which is never scaled.
    pub(super) fn first_window(&self) -> u16 {
        u16::try_from(self.ring.limit()).unwrap_or(u16::MAX)
    }

    pub(super) fn offered_scale(&self) -> Option<u8> {
        self.offer
    }

    /// The largest window that can be told.
    fn span(&self) -> u32 {
        (u32::from(u16::MAX) << self.shift).min(self.ring.limit() as u32)
    }

    /// How much the peer could be told that there is room for.
    fn room(&self) -> u32 {
        self.span().min(self.ring.room() as u32)
    }

    /// The least by which a window grows (RFC 9293, 3.8.6.2.2).
    fn step(&self) -> u32 {
        self.mss.min(self.span() / 2)
    }

    /// The window's field in the next segment.
    pub(super) fn window(&self) -> u16 {
        let wanted = self.next + self.room();
        let edge = if wanted.beyond(self.edge) >= self.step() {
            wanted
        } else {
            self.edge
        };
        let field = edge.beyond(self.next) >> self.shift;
        u16::try_from(field).unwrap_or(u16::MAX)
    }

    /// Whether the window has grown by so much that the peer is told without other reason.
    pub(super) fn has_news(&self) -> bool {
        let growth = (self.next + self.room()).beyond(self.edge);
        let narrow = self.edge.beyond(self.next) < self.step();
        !self.fin && (growth >= self.span() / 2 || narrow && growth >= self.step())
    }

    pub(super) fn owes(&self) -> bool {
        self.owed > 0
    }

    /// An acknowledgment is due.
    pub(super) fn owe(&mut self) {
        self.owed = self.owed.max(1);
    }

    /// A segment is out of order: each such one is answered by itself.
    fn owe_duplicate(&mut self) {
        self.owed = (self.owed + 1).min(OWED_MAX);
    }

    /// An acknowledgment was sent.
    pub(super) fn acknowledged(&mut self, segment: &Segment) {
        let shift = if segment.flags.contains(Flags::SYN) {
            0
        } else {
            self.shift
        };
        let edge = segment.ack + (u32::from(segment.window) << shift);
        self.edge = self.edge.latest(edge);
        self.owed = self.owed.saturating_sub(1);
        self.unacked = 0;
    }

    /// Puts data behind what is there, as far as the window has room; says how much.
    fn take(&mut self, payload: &dyn Payload, from: usize) -> usize {
        let room = self.edge.beyond(self.next).min(self.room()) as usize;
        let count = payload.len().saturating_sub(from).min(room);
        if !self.ignored && self.store(payload, from, count).is_err() {
            return 0;
        }
        self.next = self.next + count as u32;
        self.unacked = self.unacked.saturating_add(count as u32);
        count
    }

    fn store(
        &mut self,
        payload: &dyn Payload,
        from: usize,
        count: usize,
    ) -> Result<(), hvf_sys::ram::OutsideRam> {
        let mut at = from;
        for part in self.ring.vacant(count) {
            payload.copy(at, part)?;
            at += part.len();
        }
        self.ring.filled(count);
        Ok(())
    }
}

impl Connection {
    /// Takes a segment with its data.
    pub fn segment(&mut self, now: Instant, segment: &Segment, payload: &dyn Payload) {
        match self.phase {
            Phase::Closed => {}
            Phase::Held => self.while_held(segment),
            Phase::SynSent => self.while_syn_sent(segment, payload.len()),
            Phase::SynReceived | Phase::Open | Phase::TimeWait => {
                self.synchronized(now, segment, payload);
            }
        }
    }

    /// Learns all that a SYN says.
    pub(super) fn learn(&mut self, syn: &Segment) {
        self.out.learn(syn);
        let inn = &mut self.inn;
        inn.irs = syn.seq;
        inn.next = syn.seq + 1;
        inn.edge = inn.next + u32::from(inn.first_window());
        match (syn.scale, inn.offer) {
            (Some(theirs), Some(ours)) => {
                self.out.scale(theirs);
                inn.shift = ours;
            }
            // Neither scales where one does not (RFC 7323, 2.2).
            _ => inn.offer = None,
        }
    }

    /// Whoever sent the SYN may give up, or send it again.
    fn while_held(&mut self, segment: &Segment) {
        if segment.flags.contains(Flags::RST) && segment.seq == self.inn.next {
            self.end(Ending::Reset);
        }
    }

    /// RFC 9293, 3.10.7.3.
    fn while_syn_sent(&mut self, segment: &Segment, len: usize) {
        let acks = segment.flags.contains(Flags::ACK);
        let ours = segment.ack.after(self.out.una) && !segment.ack.after(self.out.max);
        if acks && !ours {
            self.stray = segment.reset(len);
            return;
        }
        if segment.flags.contains(Flags::RST) {
            if acks {
                self.end(Ending::Refused);
            }
            return;
        }
        if !segment.flags.contains(Flags::SYN) {
            return;
        }
        self.learn(segment);
        if acks {
            self.open(segment.ack);
        } else {
            // Both have connected at once: our SYN is sent again, with an acknowledgment.
            self.out.rewind();
            self.phase = Phase::SynReceived;
        }
    }

    /// RFC 9293, 3.10.7.4.
    fn synchronized(&mut self, now: Instant, segment: &Segment, payload: &dyn Payload) {
        if !self.is_acceptable(segment, payload.len()) {
            return self.unacceptable(now, segment, payload.len());
        }
        if segment.flags.contains(Flags::RST) {
            if self.phase == Phase::TimeWait {
                // It changes nothing, least of all for a new connection in this one's place (RFC 1337).
            } else if segment.seq == self.inn.next {
                let refused = self.phase == Phase::SynReceived;
                self.end(if refused {
                    Ending::Refused
                } else {
                    Ending::Reset
                });
            } else {
                self.challenge(now);
            }
            return;
        }
        if segment.flags.contains(Flags::SYN) {
            return self.challenge(now);
        }
        if segment.flags.contains(Flags::ACK) && self.acknowledgment(now, segment, payload.len()) {
            self.take_data(now, segment, payload);
            self.settle(now);
        }
    }

    /// Whether a segment is in the window. One that begins where it should is, if only for its acknowledgment
    /// (RFC 9293, 3.10.7.4).
    fn is_acceptable(&self, segment: &Segment, len: usize) -> bool {
        let inn = &self.inn;
        let (seq, space) = (segment.seq, segment.space(len as u32));
        let inside = |seq: Seq| !seq.before(inn.next) && seq.before(inn.edge);
        seq == inn.next || inside(seq) || space > 0 && inside(seq + (space - 1))
    }

    fn unacceptable(&mut self, now: Instant, segment: &Segment, len: usize) {
        if segment.flags.contains(Flags::RST) {
            return;
        }
        let first = segment.flags.contains(Flags::SYN) && segment.seq == self.inn.irs;
        if self.phase == Phase::SynReceived && first {
            self.syn_again(segment);
        } else if segment.space(len as u32) > 0 {
            self.inn.owe_duplicate();
            if self.phase == Phase::TimeWait {
                self.timers.last = Some(now + self.config.time_wait);
            }
        } else {
            self.challenge(now);
        }
    }

    /// The peer's SYN again: either our answer was lost, or both have connected at once and this acknowledges our SYN.
    fn syn_again(&mut self, segment: &Segment) {
        let acks = segment.flags.contains(Flags::ACK) && segment.ack == self.out.max;
        if acks && self.out.is_in_flight() {
            self.open(segment.ack);
        } else {
            self.out.rewind();
        }
    }

    /// Our SYN is acknowledged, by another.
    fn open(&mut self, ack: Seq) {
        self.out.acknowledged(ack);
        self.timers.resend = None;
        (self.timers.tries, self.timers.backoff) = (0, 0);
        self.phase = Phase::Open;
        self.inn.owe();
    }

    /// Tells the peer where we are, but not often.
    fn challenge(&mut self, now: Instant) {
        let recent = |at: Instant| now.saturating_duration_since(at) < CHALLENGE;
        if !self.inn.challenged.is_some_and(recent) {
            self.inn.challenged = Some(now);
            self.inn.owe();
        }
    }

    /// Takes the acknowledgment. False where the segment is to be dropped.
    fn acknowledgment(&mut self, now: Instant, segment: &Segment, len: usize) -> bool {
        let ack = segment.ack;
        let news = ack.after(self.out.una);
        if self.phase == Phase::SynReceived {
            if !news || ack.after(self.out.max) {
                self.stray = segment.reset(len);
                return false;
            }
            self.phase = Phase::Open;
        }
        if ack.after(self.out.max) || ack.before(self.out.oldest_ack()) {
            self.challenge(now);
            return false;
        }
        if news {
            self.out.acknowledged(ack);
            self.timers.acknowledged(now, ack);
            let flight = self.out.is_in_flight();
            self.timers.resend = flight.then(|| now + self.timers.timeout());
        } else if ack == self.out.una
            && self.out.is_in_flight()
            && segment.space(len as u32) == 0
            && self.out.same_window(segment)
        {
            self.out.duplicate();
        }
        if !ack.before(self.out.una) && self.out.update_window(segment) {
            self.timers.backoff = 0;
            let flight = self.out.is_in_flight();
            self.timers.resend = flight.then(|| now + self.timers.timeout());
        }
        if self.out.is_shut() {
            // It is there, though it takes nothing.
            self.timers.tries = 0;
        }
        true
    }

    /// Takes data and FIN.
    fn take_data(&mut self, now: Instant, segment: &Segment, payload: &dyn Payload) {
        let fin = segment.flags.contains(Flags::FIN);
        let len = payload.len();
        if len == 0 && !fin {
            return;
        }
        let inn = &mut self.inn;
        if inn.fin || segment.seq.after(inn.next) {
            return inn.owe_duplicate();
        }
        if inn.ignored && self.out.fin_acked && len > 0 {
            // Nobody here will ever answer (RFC 9293, 3.6.1).
            return self.abort();
        }
        let old = inn.next.beyond(segment.seq) as usize;
        let taken = inn.take(payload, old);
        let whole = old + taken >= len;
        if fin && whole {
            inn.next = inn.next + 1;
            inn.fin = true;
            self.passive = !self.out.closing;
        }
        let enough = (2 * inn.mss).min(inn.span() / 4);
        if fin || !whole || old > 0 || inn.unacked >= enough {
            inn.owe();
        } else {
            let delayed = now + self.config.ack_delay;
            self.timers.ack.get_or_insert(delayed);
        }
    }

    /// Ends what both sides have closed.
    fn settle(&mut self, now: Instant) {
        if self.phase != Phase::Open || !self.out.fin_acked || !self.inn.fin {
            return;
        }
        if self.passive {
            return self.end(Ending::Finished);
        }
        self.phase = Phase::TimeWait;
        self.out.ring.clear();
        self.timers.resend = None;
        self.timers.last = Some(now + self.config.time_wait);
    }
}
