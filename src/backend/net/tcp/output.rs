//! What a connection sends (RFC 9293, 3.8 and 3.10.2).

use std::time::Instant;

use super::ring::Ring;
use super::{Config, Connection, Flags, Phase, Segment, Seq};

/// The least MSS that is believed: a smaller one only makes thousands of segments out of one.
const MSS_LEAST: u16 = 88;
/// The MSS of a peer that says none (RFC 9293, 3.7.1).
const MSS_UNSAID: u16 = 536;

/// The sending half.
#[derive(Debug)]
pub(super) struct Outbound {
    /// What is not yet acknowledged.
    pub(super) ring: Ring,
    iss: Seq,
    /// The first number that is not acknowledged.
    pub(super) una: Seq,
    /// The number to send next.
    pub(super) next: Seq,
    /// The first number that was never sent.
    pub(super) max: Seq,
    /// The peer's window, from `una` on, and the largest that it has had.
    window: u32,
    window_max: u32,
    /// The segment that the window is from.
    window_seq: Seq,
    window_ack: Seq,
    /// By how many bits the peer's windows are shifted.
    shift: u8,
    mss: u32,
    /// No more will be written.
    pub(super) closing: bool,
    pub(super) fin_acked: bool,
    /// Acknowledgments in a row that said nothing new.
    duplicates: u8,
    /// What was lost is being sent again, until this number is acknowledged.
    recover: Option<Seq>,
    /// The first segment is to be sent again.
    again: bool,
    /// The next segment is sent whatever the window is.
    probe: bool,
    /// How much may be in flight after a time-out.
    burst: u32,
}

impl Outbound {
    pub(super) fn new(config: &Config, iss: Seq) -> Self {
        Self {
            ring: Ring::new(config.send),
            iss,
            una: iss,
            next: iss,
            max: iss,
            window: 0,
            window_max: 0,
            window_seq: Seq(0),
            window_ack: Seq(0),
            shift: 0,
            mss: config.mss.max(MSS_LEAST).into(),
            closing: false,
            fin_acked: false,
            duplicates: 0,
            recover: None,
            again: false,
            probe: false,
            burst: u32::MAX,
        }
    }

    pub(super) fn mss(&self) -> u16 {
        self.mss as u16
    }

    /// Learns what a SYN says about its sender.
    pub(super) fn learn(&mut self, syn: &Segment) {
        let said = syn.mss.unwrap_or(MSS_UNSAID).max(MSS_LEAST);
        self.mss = self.mss.min(said.into());
        // A SYN's own window is never scaled (RFC 7323, 2.2).
        self.window = syn.window.into();
        self.window_max = self.window;
        self.window_seq = syn.seq;
        self.window_ack = self.una;
    }

    /// Windows are shifted from now on.
    pub(super) fn scale(&mut self, shift: u8) {
        self.shift = shift;
    }

    /// Whether our SYN is acknowledged.
    pub(super) fn is_synchronized(&self) -> bool {
        self.una != self.iss
    }

    /// The number of the ring's first byte.
    fn data(&self) -> Seq {
        self.una + u32::from(!self.is_synchronized())
    }

    /// The number behind the last byte.
    fn data_end(&self) -> Seq {
        self.data() + self.ring.len() as u32
    }

    /// The number behind everything that there is to send.
    pub(super) fn end(&self) -> Seq {
        self.data_end() + u32::from(self.closing && !self.fin_acked)
    }

    /// Whether anything was sent that is not acknowledged.
    pub(super) fn is_in_flight(&self) -> bool {
        self.max.after(self.una)
    }

    /// The last number that was sent, or that the peer's window has if it has shrunk since.
    pub(super) fn acceptable(&self) -> Seq {
        let edge = self.una + self.window;
        if self.max.after(edge) { edge } else { self.max }
    }

    /// Begins anew with what is not acknowledged.
    pub(super) fn rewind(&mut self) {
        self.next = self.una;
        if self.window > 0 {
            self.burst = self.mss;
        }
        self.probe = true;
        (self.again, self.recover, self.duplicates) = (false, None, 0);
    }

    /// The oldest number that an acknowledgment may have (RFC 5961, 5.2).
    pub(super) fn oldest_ack(&self) -> Seq {
        Seq(self.una.0.wrapping_sub(self.window_max))
    }

    /// `ack` acknowledges more than before: `una < ack <= max`.
    pub(super) fn acknowledged(&mut self, ack: Seq) {
        let end = self.end();
        let data = ack.beyond(self.data()) as usize;
        self.fin_acked |= self.closing && ack == end;
        self.ring.consume(data);
        let count = ack.since(self.una);
        self.una = ack;
        self.next = self.next.latest(ack);
        self.duplicates = 0;
        self.burst = if self.is_in_flight() {
            self.burst.saturating_add(count)
        } else {
            u32::MAX
        };
        match self.recover {
            // More than one was lost (RFC 6582, 3.2).
            Some(recover) if ack.before(recover) => self.again = true,
            _ => (self.recover, self.again) = (None, false),
        }
    }

    /// An acknowledgment says nothing new. The third in a row means that a segment was lost (RFC 5681, 3.2).
    pub(super) fn duplicate(&mut self) {
        self.duplicates = self.duplicates.saturating_add(1);
        if self.duplicates == 3 && self.recover.is_none() {
            self.recover = Some(self.max);
            self.again = true;
        }
    }

    /// Whether a segment with this window says nothing new about it.
    pub(super) fn same_window(&self, segment: &Segment) -> bool {
        self.window > 0 && self.window == self.scaled(segment)
    }

    fn scaled(&self, segment: &Segment) -> u32 {
        u32::from(segment.window) << self.shift
    }

    /// Takes the window of an acknowledgment, unless it is older than the last (RFC 9293, 3.10.7.4). Says whether
    /// it has opened.
    pub(super) fn update_window(&mut self, segment: &Segment) -> bool {
        let newer = self.window_seq.before(segment.seq)
            || self.window_seq == segment.seq && !segment.ack.before(self.window_ack);
        if !newer {
            return false;
        }
        let shut = self.window == 0;
        self.window = self.scaled(segment);
        self.window_max = self.window_max.max(self.window);
        self.window_seq = segment.seq;
        self.window_ack = segment.ack;
        shut && self.window > 0
    }

    pub(super) fn is_shut(&self) -> bool {
        self.window == 0
    }

    /// Whether a segment is better sent later, together with more. So much is in flight that an acknowledgment is sure
    /// to come at once, not only after a delay.
    fn gathers(&self, count: u32, limit: u32) -> bool {
        let flight = self.next.beyond(self.una);
        let little = count < limit.min(self.ring.limit() as u32 / 4);
        little && flight >= limit.max(2 * self.mss) && !self.again && !self.probe
    }

    /// The segment of data that is to be sent now, of up to `limit` bytes: its number, its data, and whether FIN is
    /// behind it.
    fn plan(&self, limit: u32) -> Option<(Seq, u32, bool)> {
        let (at, limit) = if self.again {
            (self.una, limit.min(self.mss))
        } else {
            (self.next, limit)
        };
        let edge = self.una + self.window.min(self.burst);
        let left = self.end().beyond(at);
        let mut count = left.min(edge.beyond(at)).min(limit);
        if self.probe {
            count = count.max(left.min(1));
        } else if count < left && count < limit.min(self.mss) && count < self.window_max / 2 {
            // Not a silly window's worth (RFC 9293, 3.8.6.2.1).
            return None;
        }
        if count == 0 || self.gathers(count, limit) {
            return None;
        }
        if count > self.mss && count < left {
            count -= count % self.mss;
        }
        let data = count.min(self.data_end().beyond(at));
        Some((at, data, count > data))
    }
}

/// A segment to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing {
    /// Its header.
    pub segment: Segment,
    /// How many bytes of data it has.
    pub len: usize,
    /// The most bytes of data that the peer takes in one segment: whoever has longer ones cuts them.
    pub mss: u16,
    /// Where in the ring its data begins.
    offset: usize,
    kind: Kind,
}

/// What sending a segment means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing.
    Stray,
    /// Something that takes no sequence numbers.
    Ack,
    /// Something never sent before.
    New,
    /// Something sent before, or before the window had room for it.
    Again,
}

impl Connection {
    /// The segment that is to be sent now, with at most `limit` bytes of data.
    pub fn next(&mut self, now: Instant, limit: usize) -> Option<Outgoing> {
        self.limit = limit;
        self.expire(now);
        let planned = self.plan(limit);
        if planned.is_none() {
            self.arm(now);
        }
        planned
    }

    /// Whether there is something to be sent now, but for what is late. Segments are as long as they were last. Where
    /// there is not, the deadline is that of `next`: a window that is shut is probed even if `next` is not asked.
    pub fn wants_to_send(&mut self, now: Instant) -> bool {
        let wants = self.plan(self.limit).is_some();
        if !wants {
            self.arm(now);
        }
        wants
    }

    /// Does what is late, so that no deadline is behind `now` any more.
    pub fn tick(&mut self, now: Instant) {
        self.expire(now);
    }

    /// A segment's data.
    pub fn data(&self, outgoing: &Outgoing) -> [&[u8]; 2] {
        self.out.ring.slices(outgoing.offset, outgoing.len)
    }

    fn plan(&self, limit: usize) -> Option<Outgoing> {
        if let Some(segment) = self.stray {
            return Some(self.outgoing(segment, Kind::Stray));
        }
        match self.phase {
            Phase::Held | Phase::Closed => None,
            Phase::SynSent | Phase::SynReceived => self.plan_syn(),
            Phase::Open => self.plan_data(limit).or_else(|| self.plan_ack()),
            Phase::TimeWait => self.plan_ack(),
        }
    }

    fn outgoing(&self, segment: Segment, kind: Kind) -> Outgoing {
        Outgoing {
            segment,
            len: 0,
            mss: self.out.mss as u16,
            offset: 0,
            kind,
        }
    }

    fn plan_syn(&self) -> Option<Outgoing> {
        if self.out.next != self.out.iss {
            return None;
        }
        let mut segment = Segment {
            seq: self.out.iss,
            flags: Flags::SYN,
            window: self.inn.first_window(),
            mss: Some(self.config.mss),
            scale: self.inn.offered_scale(),
            ..Segment::default()
        };
        if self.phase == Phase::SynReceived {
            segment.flags |= Flags::ACK;
            segment.ack = self.inn.next;
        }
        let kind = if self.out.max == self.out.iss {
            Kind::New
        } else {
            Kind::Again
        };
        Some(self.outgoing(segment, kind))
    }

    fn plan_data(&self, limit: usize) -> Option<Outgoing> {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX).max(1);
        let (seq, len, fin) = self.out.plan(limit)?;
        let mut flags = Flags::ACK;
        flags.set(Flags::FIN, fin);
        let last = seq + len == self.out.data_end();
        flags.set(Flags::PSH, len > 0 && last);
        let kind = if self.out.probe || self.out.max.after(seq) {
            Kind::Again
        } else {
            Kind::New
        };
        Some(Outgoing {
            len: len as usize,
            offset: seq.since(self.out.data()) as usize,
            ..self.outgoing(self.acknowledging(seq, flags), kind)
        })
    }

    fn plan_ack(&self) -> Option<Outgoing> {
        let due = self.inn.owes() || self.inn.has_news();
        // What is being sent again has old numbers. A peer drops a segment with such, and with it the acknowledgment.
        let seq = self.out.acceptable();
        due.then(|| self.outgoing(self.acknowledging(seq, Flags::ACK), Kind::Ack))
    }

    fn acknowledging(&self, seq: Seq, flags: Flags) -> Segment {
        Segment {
            seq,
            ack: self.inn.next,
            flags,
            window: self.inn.window(),
            ..Segment::default()
        }
    }

    /// A segment that `next` gave last was sent.
    pub fn sent(&mut self, now: Instant, outgoing: &Outgoing) {
        let Outgoing {
            segment, len, kind, ..
        } = outgoing;
        if *kind == Kind::Stray {
            self.stray = None;
            return;
        }
        if segment.flags.contains(Flags::ACK) {
            self.inn.acknowledged(segment);
            self.timers.ack = None;
        }
        let space = segment.space(*len as u32);
        if space == 0 {
            return;
        }
        let end = segment.seq + space;
        let out = &mut self.out;
        out.max = out.max.latest(end);
        // What was sent without room for it is sent again when there is room.
        let edge = out.una + out.window;
        if !out.is_synchronized() || !end.after(edge) {
            out.next = out.next.latest(end);
        }
        (out.again, out.probe) = (false, false);
        self.arm_for(now, *kind, end);
    }
}
