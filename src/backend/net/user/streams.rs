//! The guest's TCP connections: each is a connection between the guest and us, and a stream between us and the outside.
//!
//! A connection that the guest begins is answered only once the stream stands, so that what the guest sees is what is
//! true: a refusal is a reset, and an address that cannot be reached is told with ICMP. Back-pressure is that of the two
//! buffers in between: what one side does not take, the other may not send.

use std::collections::{HashMap, VecDeque, hash_map::Entry};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hvf_sys::os::socket;
use hvf_sys::random;

use super::icmp::{self, Trouble};
use super::outbox::Outbox;
use super::watch::{Token, Watches};
use super::{FlowKey, Published, policy};
use crate::backend::net::ip::{Packet, protocol};
use crate::backend::net::tcp::{
    self, Config, Connection, Ending, Flags, Outgoing, Payload, Ports, Segment, Seq,
};
use crate::backend::net::{Offload, segment};

/// The most connections. A new one takes the place of the one that was idle for longest.
const FLOWS_MAX: usize = 4096;
/// The most that do not stand yet outside. SYNs beyond are ignored: the guest sends them again.
const CONNECTING_MAX: usize = 512;
/// How long a stream may take to stand. A guest's own patience is about as long.
const PATIENCE: Duration = Duration::from_secs(75);
/// The most that are accepted at a time at a published port.
const ACCEPTS: usize = 32;
/// How long published ports rest when there is no socket for who calls.
const REST: Duration = Duration::from_millis(200);
/// How many bytes are read from the outside at once, at first and at most.
const READ_LEAST: usize = 4 << 10;
const READ_MOST: usize = 256 << 10;
/// The most data in a segment that somebody else cuts, so that all headers fit in an IP packet of 65,535 bytes.
pub(super) const SEGMENT_MAX: usize = 65_535 - 60;

/// The outside's end.
enum Outside {
    /// It does not stand yet; others may be tried if it never does.
    Connecting {
        stream: Arc<TcpStream>,
        others: std::vec::IntoIter<SocketAddr>,
        until: Instant,
    },
    Open(Arc<TcpStream>),
    Gone,
}

struct Flow {
    connection: Connection,
    outside: Outside,
    /// How many bytes are read from the outside at once, for which the buffer has memory: the more there were, the more.
    read: usize,
    /// The outside sends no more.
    read_closed: bool,
    /// The outside was told that the guest sends no more.
    write_closed: bool,
    /// The outside is waited for: for something to read, or to be ready for more.
    wants_read: bool,
    wants_write: bool,
    /// What of that the thread knows that waits.
    watched: (bool, bool),
    /// The outside was lost: the guest gets what came before that, and then a reset.
    lost: bool,
    /// It waits in the queue of those with something to send.
    queued: bool,
    used: Instant,
}

struct Listener {
    socket: Arc<TcpListener>,
    /// The guest's port.
    guest: u16,
}

/// All connections and published ports.
pub(super) struct Streams {
    mtu: usize,
    flows: HashMap<FlowKey, Flow>,
    /// Those with something for the guest.
    queue: VecDeque<FlowKey>,
    listeners: Vec<Listener>,
    /// Until when nobody is accepted, since the host has no more sockets.
    rests: Option<Instant>,
    connecting: usize,
    /// Whether it was said that the host has no more sockets for us.
    told: bool,
}

/// What everything here needs besides: the time, and where things are told.
pub(super) struct Turn<'a> {
    pub(super) now: Instant,
    pub(super) out: &'a mut Outbox,
    pub(super) watches: &'a mut Watches,
}

impl Streams {
    /// No connections; published ports that are bound already.
    pub(super) fn new(mtu: u16, published: Vec<Published<TcpListener>>) -> Self {
        let listener = |it: Published<TcpListener>| Listener {
            socket: Arc::new(it.socket),
            guest: it.guest,
        };
        Self {
            mtu: mtu.into(),
            flows: HashMap::new(),
            queue: VecDeque::new(),
            listeners: published.into_iter().map(listener).collect(),
            rests: None,
            connecting: 0,
            told: false,
        }
    }

    /// Whether this is one of the connections.
    pub(super) fn has(&self, key: &FlowKey, segment: &Segment) -> bool {
        let flow = self.flows.get(key);
        flow.is_some_and(|flow| !flow.connection.yields_to(segment))
    }

    /// Takes a segment of a connection.
    pub(super) fn segment(
        &mut self,
        key: &FlowKey,
        segment: &Segment,
        data: &dyn Payload,
        turn: &mut Turn<'_>,
    ) {
        let Some(flow) = self.flows.get_mut(key) else {
            return;
        };
        flow.used = turn.now;
        flow.connection.segment(turn.now, segment, data);
        self.go_on(key, turn);
    }

    /// Begins a connection of the guest's to the first of `addresses` that takes it.
    pub(super) fn open(
        &mut self,
        key: FlowKey,
        syn: &Segment,
        addresses: Vec<SocketAddr>,
        turn: &mut Turn<'_>,
    ) {
        if self.connecting >= CONNECTING_MAX {
            return;
        }
        self.remove(&key, turn);
        let Some(iss) = initial() else {
            return;
        };
        let mut connection = Connection::accept(self.config(&key), iss, syn);
        let mut others = addresses.into_iter();
        let outside = match connect(&mut others) {
            Ok(stream) => {
                self.connecting += 1;
                Outside::Connecting {
                    stream,
                    others,
                    until: turn.now + PATIENCE,
                }
            }
            Err(error) => {
                self.fail(&key, &mut connection, &error, turn);
                Outside::Gone
            }
        };
        let mut flow = Flow::new(connection, outside, turn.now);
        flow.wants_write = matches!(flow.outside, Outside::Connecting { .. });
        self.insert(key, flow, turn);
        self.go_on(&key, turn);
    }

    fn config(&self, key: &FlowKey) -> Config {
        let headers = match key.guest {
            SocketAddr::V4(_) => 20 + tcp::HEADER,
            SocketAddr::V6(_) => 40 + tcp::HEADER,
        };
        Config {
            // Acknowledgments gather anyway, as long as the guest's frames come faster than they are dealt with.
            ack_delay: Duration::ZERO,
            receive: buffer(self.flows.len()),
            send: buffer(self.flows.len()),
            ..Config::new((self.mtu - headers) as u16)
        }
    }

    fn insert(&mut self, key: FlowKey, flow: Flow, turn: &mut Turn<'_>) {
        if self.flows.len() >= FLOWS_MAX {
            let oldest = self.flows.iter().min_by_key(|(_, flow)| flow.used);
            if let Some(key) = oldest.map(|(key, _)| *key) {
                self.remove(&key, turn);
            }
        }
        self.flows.insert(key, flow);
        turn.watches.changed();
    }

    /// Forgets a connection, and tells both sides if it was one.
    fn remove(&mut self, key: &FlowKey, turn: &mut Turn<'_>) {
        let Some(mut flow) = self.flows.remove(key) else {
            return;
        };
        self.connecting -= usize::from(flow.is_connecting());
        if flow.queued {
            // Somebody else may come in its place, again and again, while the guest takes nothing.
            self.queue.retain(|it| it != key);
        }
        if !flow.connection.is_finished() {
            flow.connection.abort();
            if let Some(outgoing) = flow.connection.next(turn.now, 0) {
                stray(key, &outgoing.segment, turn.out);
            }
        }
        flow.let_go();
        turn.watches.changed();
    }

    /// The guest is told why its connection does not stand.
    fn fail(
        &mut self,
        key: &FlowKey,
        connection: &mut Connection,
        error: &io::Error,
        turn: &mut Turn<'_>,
    ) {
        use io::ErrorKind::{AddrNotAvailable, HostUnreachable, NetworkUnreachable, TimedOut};
        match error.kind() {
            HostUnreachable | NetworkUnreachable | AddrNotAvailable | TimedOut => {
                icmp::tell_of(Trouble::Host, protocol::TCP, key, turn.out);
            }
            io::ErrorKind::ConnectionRefused | io::ErrorKind::PermissionDenied => {}
            _ => {
                if !std::mem::replace(&mut self.told, true) {
                    log::warn!(
                        "a connection of the guest's is refused: cannot connect to {}: {error}",
                        key.remote
                    );
                }
            }
        }
        connection.abort();
    }

    /// Does all that can be done for a connection now.
    fn go_on(&mut self, key: &FlowKey, turn: &mut Turn<'_>) {
        let Some(flow) = self.flows.get_mut(key) else {
            return;
        };
        let (connecting, outside) = (flow.is_connecting(), flow.stream().is_some());
        flow.pump();
        if outside && flow.stream().is_none() {
            // Whoever waits for the stream keeps it open.
            turn.watches.changed();
        }
        self.connecting -= usize::from(connecting && !flow.is_connecting());
        if flow.is_over() {
            return self.remove(key, turn);
        }
        let (read, write) = flow.watched;
        if flow.wants_read && !read || flow.wants_write && !write {
            turn.watches.changed();
        }
        let wants = flow.connection.wants_to_send(turn.now);
        let deadline = flow.connection.deadline();
        let late = deadline.is_some_and(|it| it <= turn.now);
        if late || wants {
            if !std::mem::replace(&mut flow.queued, true) {
                self.queue.push_back(*key);
            }
            turn.out.news();
        } else if let Some(deadline) = deadline {
            turn.watches.sooner(deadline);
        }
    }

    /// What is waited for, after what is late has been done.
    pub(super) fn watch(&mut self, turn: &mut Turn<'_>) {
        let late = |flow: &Flow| flow.deadline().is_some_and(|it| it <= turn.now) && !flow.queued;
        let due: Vec<FlowKey> = self
            .flows
            .iter()
            .filter(|(_, flow)| late(flow))
            .map(|(key, _)| *key)
            .collect();
        for key in &due {
            self.connect_late(key, turn);
            self.go_on(key, turn);
        }
        for (key, flow) in &mut self.flows {
            flow.watched = (flow.wants_read, flow.wants_write);
            if let Some(stream) = flow.stream() {
                let token = Token::Tcp(*key);
                if flow.write_closed {
                    turn.watches
                        .socket(token, stream, flow.wants_read, flow.wants_write);
                } else {
                    turn.watches
                        .errors(token, stream, flow.wants_read, flow.wants_write);
                }
            }
            if let Some(deadline) = flow.deadline().filter(|_| !flow.queued) {
                turn.watches.until(deadline);
            }
        }
        self.rests = self.rests.filter(|until| *until > turn.now);
        if let Some(until) = self.rests {
            return turn.watches.until(until);
        }
        for (index, listener) in self.listeners.iter().enumerate() {
            turn.watches
                .socket(Token::Listener(index), &listener.socket, true, false);
        }
    }

    /// A stream that does not stand in time is given up.
    fn connect_late(&mut self, key: &FlowKey, turn: &mut Turn<'_>) {
        let flow = self.flows.get(key);
        if flow.is_some_and(|flow| flow.is_connecting()) {
            self.try_next(key, &io::ErrorKind::TimedOut.into(), turn);
        }
    }

    /// The outside of a connection is ready.
    pub(super) fn ready(
        &mut self,
        key: &FlowKey,
        readable: bool,
        writable: bool,
        turn: &mut Turn<'_>,
    ) {
        let Some(flow) = self.flows.get_mut(key) else {
            return;
        };
        match &flow.outside {
            Outside::Connecting { stream, .. } => {
                if let Some(error) = outcome(stream) {
                    self.try_next(key, &error, turn);
                } else if writable {
                    self.connecting -= 1;
                    flow.stand();
                }
            }
            Outside::Open(stream) => {
                let idle = !flow.wants_read && !flow.wants_write;
                if idle && let Some(error) = outcome(stream) {
                    flow.lose(&error);
                }
                flow.wants_read &= !readable;
                flow.wants_write &= !writable;
            }
            Outside::Gone => {}
        }
        self.go_on(key, turn);
    }

    /// A stream will never stand: the next address is tried, if there is one.
    fn try_next(&mut self, key: &FlowKey, error: &io::Error, turn: &mut Turn<'_>) {
        let Some(mut flow) = self.flows.remove(key) else {
            return;
        };
        if let Outside::Connecting {
            stream,
            others,
            until,
        } = &mut flow.outside
        {
            match connect(others) {
                Ok(next) => (*stream, *until) = (next, turn.now + PATIENCE),
                Err(last) => {
                    let error = if last.kind() == io::ErrorKind::NotFound {
                        error
                    } else {
                        &last
                    };
                    self.connecting -= 1;
                    flow.outside = Outside::Gone;
                    self.fail(key, &mut flow.connection, error, turn);
                }
            }
            flow.watched = (false, false);
            turn.watches.changed();
        }
        self.flows.insert(*key, flow);
    }

    /// Somebody calls at a published port.
    pub(super) fn accept(&mut self, index: usize, guest: IpAddr, turn: &mut Turn<'_>) {
        for _ in 0..ACCEPTS {
            let Some(listener) = self.listeners.get(index) else {
                return;
            };
            let (stream, peer) = match listener.socket.accept() {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Nobody is left, or somebody has gone away again. With anything else a caller stays where it is,
                    // and would end each wait at once.
                    use io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
                    let passes = [WouldBlock, ConnectionAborted, Interrupted];
                    if !passes.contains(&error.kind()) {
                        log::debug!("cannot accept at a published port: {error}");
                        self.rests = Some(turn.now + REST);
                    }
                    return;
                }
            };
            let guest = SocketAddr::new(guest, listener.guest);
            let prepared = stream.set_nonblocking(true).and(stream.set_nodelay(true));
            let (Some(key), Some(iss), Ok(())) = (self.caller(peer, guest), initial(), prepared)
            else {
                continue;
            };
            let connection = Connection::connect(self.config(&key), iss);
            let flow = Flow::new(connection, Outside::Open(Arc::new(stream)), turn.now);
            self.insert(key, flow, turn);
            self.go_on(&key, turn);
        }
    }

    /// As whom the guest sees `peer`: nobody else has that port at that address.
    fn caller(&self, peer: SocketAddr, guest: SocketAddr) -> Option<FlowKey> {
        let address = policy::seen_as(peer);
        let others = (0..=FLOWS_MAX as u16).map(|n| u16::MAX - n);
        std::iter::once(peer.port())
            .chain(others)
            .map(|port| FlowKey {
                guest,
                remote: SocketAddr::new(address, port),
            })
            .find(|key| !self.flows.contains_key(key))
    }

    /// The connection whose turn it is to send something, if there is one.
    pub(super) fn next(
        &mut self,
        turn: &mut Turn<'_>,
        limit: usize,
    ) -> Option<(FlowKey, Outgoing)> {
        while let Some(key) = self.queue.front().copied() {
            if let Entry::Occupied(mut entry) = self.flows.entry(key)
                && let Some(outgoing) = entry.get_mut().connection.next(turn.now, limit)
            {
                return Some((key, outgoing));
            }
            self.queue.pop_front();
            if let Some(flow) = self.flows.get_mut(&key) {
                flow.queued = false;
                self.settle(&key, turn);
            }
        }
        None
    }

    /// After its last segment, a connection may be over, or wait for its next deadline.
    fn settle(&mut self, key: &FlowKey, turn: &mut Turn<'_>) {
        let Some(flow) = self.flows.get_mut(key) else {
            return;
        };
        if flow.connection.ending().is_some() {
            return self.go_on(key, turn);
        }
        if let Some(deadline) = flow.connection.deadline() {
            turn.watches.sooner(deadline);
        }
    }

    /// A segment's data.
    pub(super) fn data(&self, key: &FlowKey, outgoing: &Outgoing) -> [&[u8]; 2] {
        let flow = self.flows.get(key);
        flow.map_or([&[], &[]], |flow| flow.connection.data(outgoing))
    }

    /// The segment that `next` gave is with the guest: it is the next connection's turn.
    pub(super) fn sent(&mut self, key: &FlowKey, outgoing: &Outgoing, now: Instant) {
        if let Some(flow) = self.flows.get_mut(key) {
            flow.connection.sent(now, outgoing);
        }
        if self.queue.len() > 1 && self.queue.front() == Some(key) {
            self.queue.rotate_left(1);
        }
    }

    /// How many connections there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    /// Bytes that all buffers have.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.flows.values().map(|it| it.connection.memory()).sum()
    }
}

impl Flow {
    fn new(connection: Connection, outside: Outside, now: Instant) -> Self {
        Self {
            connection,
            outside,
            read: READ_LEAST,
            read_closed: false,
            write_closed: false,
            wants_read: false,
            wants_write: false,
            watched: (false, false),
            lost: false,
            queued: false,
            used: now,
        }
    }

    fn is_connecting(&self) -> bool {
        matches!(self.outside, Outside::Connecting { .. })
    }

    fn stream(&self) -> Option<&Arc<TcpStream>> {
        match &self.outside {
            Outside::Connecting { stream, .. } | Outside::Open(stream) => Some(stream),
            Outside::Gone => None,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let connection = self.connection.deadline();
        match self.outside {
            Outside::Connecting { until, .. } => Some(connection.map_or(until, |it| it.min(until))),
            _ => connection,
        }
    }

    /// The stream stands: the guest's SYN is answered.
    fn stand(&mut self) {
        if let Outside::Connecting { stream, .. } = &self.outside {
            // The guest has gathered what it sends as it likes.
            let _ = stream.set_nodelay(true);
            self.outside = Outside::Open(stream.clone());
            self.connection.stand();
            self.wants_write = false;
        }
    }

    /// Moves bytes both ways for as long as there are some and there is room for them.
    fn pump(&mut self) {
        if !matches!(self.connection.ending(), None | Some(Ending::Finished)) {
            return self.let_go();
        }
        if self.lost && self.connection.unacknowledged() == 0 {
            self.connection.abort();
        }
        let Outside::Open(stream) = &self.outside else {
            return;
        };
        let stream = stream.clone();
        let done = self.pass_out(&stream).and_then(|()| self.pass_in(&stream));
        if let Err(error) = done {
            self.lose(&error);
        } else if self.read_closed && self.write_closed {
            self.outside = Outside::Gone;
        }
    }

    fn pass_out(&mut self, mut stream: &TcpStream) -> io::Result<()> {
        while !self.wants_write && self.connection.readable_len() > 0 {
            let parts = self.connection.readable().map(IoSlice::new);
            match stream.write_vectored(&parts) {
                Ok(done) => self.connection.consume(done),
                Err(error) => self.wants_write = is_wait(error)?,
            }
        }
        if self.connection.is_read_out() && !self.write_closed {
            stream.shutdown(Shutdown::Write)?;
            self.write_closed = true;
        }
        Ok(())
    }

    /// Nothing is read for a guest that may never answer, so that a flood of SYNs costs no buffers.
    fn pass_in(&mut self, mut stream: &TcpStream) -> io::Result<()> {
        let established = self.connection.is_established();
        while established
            && !self.wants_read
            && !self.read_closed
            && self.connection.writable_len() > 0
        {
            let mut parts = self.connection.vacant(self.read).map(IoSliceMut::new);
            let room = parts.iter().map(|part| part.len()).sum();
            match stream.read_vectored(&mut parts) {
                Ok(0) => {
                    self.read_closed = true;
                    self.connection.close();
                }
                Ok(done) => {
                    self.connection.filled(done);
                    if done == room {
                        self.read = (2 * self.read).min(READ_MOST);
                    }
                }
                Err(error) => self.wants_read = is_wait(error)?,
            }
        }
        Ok(())
    }

    /// The outside has failed: the guest sees a reset.
    fn lose(&mut self, error: &io::Error) {
        log::debug!("a connection to the outside was lost: {error}");
        if self.connection.unacknowledged() > 0 {
            self.lost = true;
            self.connection.ignore_input();
        } else {
            self.connection.abort();
        }
        self.let_go();
    }

    /// Closes the outside: with a reset, unless all was said.
    fn let_go(&mut self) {
        if let Outside::Open(stream) = &self.outside
            && !(self.read_closed && self.write_closed)
        {
            // One that is already gone needs none.
            let _ = socket::reset_on_close(stream);
        }
        self.outside = Outside::Gone;
        (self.wants_read, self.wants_write) = (false, false);
    }

    fn is_over(&self) -> bool {
        self.connection.is_finished() && matches!(self.outside, Outside::Gone)
    }
}

/// How many bytes each of the two buffers of one more connection takes at most: the more there are, the less, so that
/// all that a guest can fill stays within some hundreds of megabytes.
fn buffer(flows: usize) -> usize {
    match flows {
        0..256 => 256 << 10,
        256..1024 => 64 << 10,
        _ => 16 << 10,
    }
}

/// Whether an error only says that it is not yet time.
fn is_wait(error: io::Error) -> io::Result<bool> {
    match error.kind() {
        io::ErrorKind::WouldBlock => Ok(true),
        io::ErrorKind::Interrupted => Ok(false),
        _ => Err(error),
    }
}

/// What has become of a stream, if that is nothing good.
fn outcome(stream: &TcpStream) -> Option<io::Error> {
    match stream.take_error() {
        Ok(error) => error,
        Err(error) => Some(error),
    }
}

/// Begins to connect to the first address that takes it. `NotFound`: there was none.
fn connect(addresses: &mut impl Iterator<Item = SocketAddr>) -> io::Result<Arc<TcpStream>> {
    let mut error = io::ErrorKind::NotFound.into();
    for address in addresses {
        match socket::connect(address) {
            Ok(stream) => return Ok(Arc::new(stream)),
            Err(other) => error = other,
        }
    }
    Err(error)
}

/// A sequence number to begin with that strangers do not guess (RFC 6528).
fn initial() -> Option<Seq> {
    let mut bytes = [0; 4];
    random::fill(&mut bytes).ok()?;
    Some(Seq(u32::from_ne_bytes(bytes)))
}

/// A segment to the guest, but for its `len` bytes of data, and what is left to be done with it. Where it has more data
/// than `mss`, it is to be cut.
pub(super) fn begin(
    key: &FlowKey,
    segment: &Segment,
    (len, mss): (usize, u16),
    out: &mut Outbox,
) -> (Vec<u8>, Offload) {
    let packet = Packet::new(key.remote.ip(), key.guest.ip(), protocol::TCP);
    let ports = Ports {
        source: key.remote.port(),
        destination: key.guest.port(),
    };
    let header = segment::header(&packet, ports, segment, len);
    let mut frame = out.begin(&packet, header.len() + len, None);
    let offload = segment::offload(&packet, frame.len(), len, mss);
    frame.extend_from_slice(&header);
    (frame, offload)
}

/// Sends a segment that belongs to no connection.
pub(super) fn stray(key: &FlowKey, segment: &Segment, out: &mut Outbox) {
    let (frame, offload) = begin(key, segment, (0, u16::MAX), out);
    out.push(offload, frame);
}

/// Whether a segment begins a connection.
pub(super) fn is_syn(segment: &Segment) -> bool {
    segment.flags & (Flags::SYN | Flags::ACK | Flags::RST | Flags::FIN) == Flags::SYN
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest::lan;
    use std::net::SocketAddrV4;

    const KEY: FlowKey = FlowKey {
        guest: SocketAddr::V4(SocketAddrV4::new(lan::GUEST, 40_000)),
        remote: SocketAddr::V4(SocketAddrV4::new(lan::GATEWAY, 80)),
    };

    fn told(flags: Flags, seq: Seq) -> Segment {
        Segment {
            seq,
            flags,
            ..Segment::default()
        }
    }

    /// Does something with connections to a guest that takes nothing.
    fn with(mut act: impl FnMut(&mut Streams, &mut Turn<'_>)) -> Streams {
        let mut streams = Streams::new(1500, Vec::new());
        let mut turn = Turn {
            now: Instant::now(),
            out: &mut Outbox::new(1500, [2; 6]),
            watches: &mut Watches::default(),
        };
        act(&mut streams, &mut turn);
        streams
    }

    #[test]
    fn who_tries_again_and_takes_no_answers_waits_once() {
        let streams = with(|streams, turn| {
            for seq in 0..100 {
                let syn = told(Flags::SYN, Seq(seq << 20));
                assert!(!streams.has(&KEY, &syn));
                // Nobody is there.
                streams.open(KEY, &syn, Vec::new(), turn);
            }
        });
        assert_eq!((streams.flows.len(), streams.queue.len()), (1, 1));
    }

    #[test]
    fn who_gives_up_before_the_stream_stands_is_no_longer_connecting() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let streams = with(|streams, turn| {
            let outside = vec![listener.local_addr().unwrap()];
            streams.open(KEY, &told(Flags::SYN, Seq(7)), outside, turn);
            assert_eq!(streams.connecting, 1);
            streams.segment(&KEY, &told(Flags::RST, Seq(8)), &&[][..], turn);
        });
        assert_eq!((streams.flows.len(), streams.connecting), (0, 0));
    }

    #[test]
    fn all_buffers_together_are_bounded() {
        // Whoever got a large buffer came when there were few, so that there are never more of them than that.
        let most: usize = (0..FLOWS_MAX).map(|flows| 2 * buffer(flows)).sum();
        assert!(most <= 320 << 20, "{most}");
        assert!(buffer(0) >= buffer(256) && buffer(1023) >= buffer(1024));
    }
}
