//! The link's connections: who has which, what the guest's segments do to them, and which of theirs go out next.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Condvar};
use std::time::Instant;

use super::frames::{self, Incoming};
use crate::backend::net::ip::IPV4;
use crate::backend::net::tcp::{
    self, Config, Connection, Ending, Flags, Payload, Ports, Segment, Seq,
};
use crate::backend::net::{Delivery, Frame, Offload, Offloads, Receiver};

/// The most connections, of whatever state.
const PEERS_MAX: usize = 128;
/// The most connections to a port that nobody has accepted.
const BACKLOG: usize = 8;
/// The most answers that wait to be sent.
const REPLIES_MAX: usize = 64;
/// How many bytes a connection keeps in each direction: several of the longest segments.
const BUFFER: usize = 512 << 10;
/// The most bytes of data in a packet, and in one that anybody takes.
const DATA_MAX: usize = 65_535 - IPV4 - tcp::HEADER;
const DATA_LEAST: usize = 1460;

/// Names a connection for as long as the link lives.
pub(super) type Id = u64;

/// All of the link that the lock guards.
pub(super) struct Peers {
    round: u64,
    hung_up: bool,
    ended: bool,
    /// The ports that are listened at, with the connections that wait to be accepted.
    listeners: BTreeMap<u16, VecDeque<Id>>,
    peers: BTreeMap<Id, Peer>,
    by_ports: HashMap<Ports, Id>,
    next_id: Id,
    /// Answers that belong to no connection.
    replies: VecDeque<(Offload, Vec<u8>)>,
    /// Whose turn it is to send.
    turn: Id,
    /// The longest data that the guest's buffers have room for.
    limit: usize,
    /// The device knows that there is something to receive.
    announced: bool,
    /// When the thread that waits for what is late wakes up.
    alarm: Option<Instant>,
    news: News,
}

/// What somebody else is to be told of, once the lock is free.
#[derive(Default)]
pub(super) struct News {
    /// Connections on which somebody waits.
    pub(super) changed: Vec<Arc<Condvar>>,
    /// A connection can be accepted.
    pub(super) arrived: bool,
    /// Something becomes late earlier than the timer knows.
    pub(super) sooner: bool,
    /// There is something for the guest.
    pub(super) frames: bool,
}

/// A connection with its two ends.
struct Peer {
    tcp: Connection,
    /// Those of the guest's segments.
    ports: Ports,
    changed: Arc<Condvar>,
    /// The round is over.
    over: bool,
    /// It waits at its listener, or has been accepted.
    offered: bool,
    accepted: bool,
    reader_gone: bool,
    writer_gone: bool,
    reader_waits: bool,
    writer_waits: bool,
}

/// What has come of a read, a write, or waiting for a connection.
pub(super) enum Outcome<T> {
    /// It is over with this.
    Done(T),
    /// It is to be tried again when this says so.
    Wait(Arc<Condvar>),
}

impl Peers {
    pub(super) fn new() -> Self {
        Self {
            round: 0,
            hung_up: false,
            ended: false,
            listeners: BTreeMap::new(),
            peers: BTreeMap::new(),
            by_ports: HashMap::new(),
            next_id: 0,
            replies: VecDeque::new(),
            turn: 0,
            limit: DATA_MAX,
            announced: false,
            alarm: None,
            news: News::default(),
        }
    }

    pub(super) fn round(&self) -> u64 {
        self.round
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    pub(super) fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    pub(super) fn has_news(&self) -> bool {
        let News {
            changed,
            arrived,
            sooner: _,
            frames,
        } = &self.news;
        *arrived || *frames || !changed.is_empty()
    }

    /// Listens at a port anew.
    pub(super) fn listen(&mut self, port: u16) {
        if !self.hung_up {
            self.ignore(port, self.round);
            self.listeners.insert(port, VecDeque::new());
        }
    }

    /// Listens no more, if the round is still this one. Who waits is refused.
    pub(super) fn ignore(&mut self, port: u16, round: u64) {
        if round != self.round {
            return;
        }
        self.listeners.remove(&port);
        let waiting: Vec<Id> = self.unaccepted(port).map(|(&id, _)| id).collect();
        for id in waiting {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.tcp.abort();
            }
            self.settle(id);
        }
    }

    fn unaccepted(&self, port: u16) -> impl Iterator<Item = (&Id, &Peer)> {
        let waits = move |peer: &Peer| peer.ports.destination == port && !peer.accepted;
        self.peers.iter().filter(move |(_, peer)| waits(peer))
    }

    /// Gives the next connection to a port; none once the round is over or somebody else listens there.
    pub(super) fn accept(&mut self, port: u16, round: u64) -> Option<Option<Id>> {
        if self.hung_up || self.round != round {
            return Some(None);
        }
        let id = self.listeners.get_mut(&port)?.pop_front()?;
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.accepted = true;
        }
        Some(Some(id))
    }

    pub(super) fn hang_up(&mut self) {
        self.hung_up = true;
        self.listeners.clear();
        self.by_ports.clear();
        self.replies.clear();
        for peer in self.peers.values_mut() {
            peer.over = true;
            peer.tcp.abort();
            self.news.changed.push(peer.changed.clone());
        }
        self.peers.retain(|_, peer| !peer.is_forgotten());
        let news = self.take_news();
        news.changed.iter().for_each(|it| it.notify_all());
    }

    pub(super) fn pick_up(&mut self) {
        self.hang_up();
        self.round += 1;
        (self.hung_up, self.announced, self.limit) = (false, false, DATA_MAX);
    }

    pub(super) fn end(&mut self) {
        self.hang_up();
        self.ended = true;
    }

    /// Reads what a connection has received.
    pub(super) fn read(&mut self, id: Id, into: &mut [u8]) -> Outcome<io::Result<usize>> {
        let Some(peer) = self.peers.get_mut(&id) else {
            return Outcome::Done(Ok(0));
        };
        let count = peer.tcp.read(into);
        if count > 0 || into.is_empty() {
            self.settle(id);
            return Outcome::Done(Ok(count));
        }
        if !peer.over && matches!(peer.tcp.ending(), Some(Ending::Reset | Ending::TimedOut)) {
            return Outcome::Done(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if peer.tcp.peer_closed() {
            return Outcome::Done(Ok(0));
        }
        peer.reader_waits = true;
        Outcome::Wait(peer.changed.clone())
    }

    /// Writes what a connection is to send.
    pub(super) fn write(&mut self, id: Id, bytes: &[u8]) -> Outcome<io::Result<usize>> {
        let broken = || Outcome::Done(Err(io::ErrorKind::BrokenPipe.into()));
        let Some(peer) = self.peers.get_mut(&id) else {
            return broken();
        };
        if peer.over || peer.tcp.ending().is_some() {
            return broken();
        }
        let count = peer.tcp.write(bytes);
        if count > 0 || bytes.is_empty() {
            self.settle(id);
            return Outcome::Done(Ok(count));
        }
        peer.writer_waits = true;
        Outcome::Wait(peer.changed.clone())
    }

    /// Nobody will read any more.
    pub(super) fn drop_reader(&mut self, id: Id) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.reader_gone = true;
            peer.tcp.ignore_input();
        }
        self.settle(id);
    }

    /// Nobody will write any more.
    pub(super) fn drop_writer(&mut self, id: Id) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.writer_gone = true;
            peer.tcp.close();
        }
        self.settle(id);
    }

    /// Takes a frame of the guest's.
    pub(super) fn frame(&mut self, now: Instant, frame: &Frame<'_>) {
        if self.hung_up {
            return;
        }
        match frames::read(frame) {
            Some(Incoming::Answered(reply)) => self.reply(Offload::default(), reply),
            Some(Incoming::Segment(ports, segment, data)) => {
                self.segment(now, ports, &segment, &data);
            }
            None => {}
        }
    }

    fn reply(&mut self, offload: Offload, frame: Vec<u8>) {
        if self.replies.len() < REPLIES_MAX {
            self.replies.push_back((offload, frame));
            self.announce();
        }
    }

    fn announce(&mut self) {
        self.news.frames |= !self.announced;
        self.announced = true;
    }

    fn segment(&mut self, now: Instant, ports: Ports, segment: &Segment, data: &dyn Payload) {
        if let Some(&id) = self.by_ports.get(&ports)
            && let Some(peer) = self.peers.get_mut(&id)
            && !peer.tcp.yields_to(segment)
        {
            peer.tcp.segment(now, segment, data);
            return self.settle(id);
        }
        let first = segment.flags & (Flags::SYN | Flags::ACK | Flags::RST) == Flags::SYN;
        let port = ports.destination;
        if first && self.listeners.contains_key(&port) {
            if self.peers.len() < PEERS_MAX && self.unaccepted(port).count() < BACKLOG {
                self.open(ports, segment);
            }
        } else if let Some(reset) = segment.reset(data.len()) {
            let (head, offload) = frames::segment(ports.reversed(), &reset, 0, u16::MAX);
            self.reply(offload, head);
        }
    }

    fn open(&mut self, ports: Ports, syn: &Segment) {
        let mut number = [0; 4];
        // Without randomness the number is one that can be guessed, by the guest that the connection is with.
        let _ = hvf_sys::random::fill(&mut number);
        let config = Config {
            receive: BUFFER,
            send: BUFFER,
            ..Config::new(super::MTU - (IPV4 + tcp::HEADER) as u16)
        };
        let mut tcp = Connection::accept(config, Seq(u32::from_ne_bytes(number)), syn);
        tcp.stand();
        let id = self.next_id;
        self.next_id += 1;
        self.by_ports.insert(ports, id);
        self.peers.insert(id, Peer::new(tcp, ports));
        self.settle(id);
    }

    /// Does what follows from a change of a connection's.
    fn settle(&mut self, id: Id) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        if peer.tcp.is_established() && !std::mem::replace(&mut peer.offered, true) {
            match self.listeners.get_mut(&peer.ports.destination) {
                Some(waiting) => waiting.push_back(id),
                None => peer.tcp.abort(),
            }
            self.news.arrived = true;
        }
        if peer.is_news() {
            self.news.changed.push(peer.changed.clone());
        }
        let (wants, forgotten) = (peer.wants_to_send(), peer.is_forgotten());
        let deadline = peer.tcp.deadline();
        let sooner = deadline.is_some_and(|at| self.alarm.is_none_or(|alarm| at < alarm));
        if sooner {
            (self.alarm, self.news.sooner) = (deadline, true);
        }
        if wants {
            self.announce();
        }
        if forgotten {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: Id) {
        let Some(peer) = self.peers.remove(&id) else {
            return;
        };
        if self.by_ports.get(&peer.ports) == Some(&id) {
            self.by_ports.remove(&peer.ports);
        }
        if let Some(waiting) = self.listeners.get_mut(&peer.ports.destination) {
            waiting.retain(|&it| it != id);
        }
    }

    /// Does what is late.
    pub(super) fn tick(&mut self, now: Instant) {
        self.settle_all(|peer| peer.tcp.tick(now));
    }

    fn settle_all(&mut self, change: impl Fn(&mut Peer)) {
        let ids: Vec<Id> = self.peers.keys().copied().collect();
        for id in ids {
            if let Some(peer) = self.peers.get_mut(&id) {
                change(peer);
            }
            self.settle(id);
        }
    }

    /// When the timer is to wake up.
    pub(super) fn set_alarm(&mut self) -> Option<Instant> {
        let deadlines = self.peers.values().filter_map(|peer| peer.tcp.deadline());
        self.alarm = deadlines.min();
        self.news.sooner = false;
        self.alarm
    }

    /// Gives the guest what waits for it: answers, then a segment of each connection in turn.
    pub(super) fn receive(&mut self, now: Instant, receiver: &mut dyn Receiver) {
        // Asked again where there is no room for all, which is not to be announced.
        self.announced = true;
        let all = self.send_replies(receiver) && self.send_segments(now, receiver);
        self.announced = !all;
        self.settle_all(|_| ());
    }

    fn send_replies(&mut self, receiver: &mut dyn Receiver) -> bool {
        while let Some((offload, frame)) = self.replies.front() {
            if !receiver.deliver(*offload, frame) {
                return false;
            }
            self.replies.pop_front();
        }
        true
    }

    fn send_segments(&mut self, now: Instant, receiver: &mut dyn Receiver) -> bool {
        let cuts = (receiver.offloads()).contains(Offloads::CHECKSUM | Offloads::TCP4);
        loop {
            let mut sent = false;
            let behind = self.peers.range(self.turn..).map(|(&id, _)| id);
            let before = self.peers.range(..self.turn).map(|(&id, _)| id);
            let ids: Vec<Id> = behind.chain(before).collect();
            for id in ids {
                let Some(peer) = self.peers.get_mut(&id).filter(|peer| !peer.over) else {
                    continue;
                };
                let most = if cuts {
                    DATA_MAX
                } else {
                    peer.tcp.mss().into()
                };
                match peer.send(now, self.limit.min(most), receiver) {
                    None => {}
                    Some(Delivery::Made) => sent = true,
                    Some(Delivery::Never) => {
                        self.limit = (self.limit / 2).max(DATA_LEAST);
                        sent = true;
                    }
                    Some(Delivery::Later) => {
                        self.turn = id;
                        return false;
                    }
                }
            }
            if !sent {
                return true;
            }
        }
    }

    /// Bytes of memory that the connections' buffers have, and how many connections there are.
    #[cfg(test)]
    pub(super) fn burden(&self) -> (usize, usize) {
        let memory = self.peers.values().map(|peer| peer.tcp.memory());
        (memory.sum(), self.peers.len())
    }
}

impl Peer {
    fn new(tcp: Connection, ports: Ports) -> Self {
        Self {
            tcp,
            ports,
            changed: Arc::default(),
            over: false,
            offered: false,
            accepted: false,
            reader_gone: false,
            writer_gone: false,
            reader_waits: false,
            writer_waits: false,
        }
    }

    fn wants_to_send(&mut self) -> bool {
        !self.over && self.tcp.wants_to_send(Instant::now())
    }

    /// Whether somebody waits who need not wait any more. A writer is told when there is room for much.
    fn is_news(&mut self) -> bool {
        let ended = self.over || self.tcp.ending().is_some();
        let read = self.tcp.readable_len() > 0 || self.tcp.peer_closed() || ended;
        let write = self.tcp.writable_len() >= BUFFER / 2 || ended;
        let reader = read && std::mem::take(&mut self.reader_waits);
        let writer = write && std::mem::take(&mut self.writer_waits);
        reader || writer
    }

    /// Whether nobody here or there needs it any more.
    fn is_forgotten(&self) -> bool {
        let unused = !self.accepted || self.reader_gone && self.writer_gone;
        unused && (self.over || self.tcp.is_finished())
    }

    /// Sends the next segment. None where there is none.
    fn send(
        &mut self,
        now: Instant,
        limit: usize,
        receiver: &mut dyn Receiver,
    ) -> Option<Delivery> {
        let outgoing = self.tcp.next(now, limit)?;
        let ports = self.ports.reversed();
        let (head, offload) = frames::segment(ports, &outgoing.segment, outgoing.len, outgoing.mss);
        let [first, second] = self.tcp.data(&outgoing);
        let delivery = receiver.deliver_parts(offload, &[&head, first, second]);
        if !matches!(delivery, Delivery::Later) {
            self.tcp.sent(now, &outgoing);
        }
        Some(delivery)
    }
}
