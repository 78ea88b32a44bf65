//! A guest that is made of frames: its own addresses, ARP, UDP and TCP, driven by whoever tests.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use guest::lan;
use hvf_sys::file::Piece;
use hvf_sys::ram::Ram;

use super::super::outbox::Outbox;
use super::super::{Config, FlowKey, User, udp};
use super::MAC;
use crate::backend::net::ip::{Header, Packet, kind, protocol, word};
use crate::backend::net::tcp::{Config as TcpConfig, Connection, Segment, Seq};
use crate::backend::net::wire::plain_sum;
use crate::backend::net::{Frame, HEADER, Network, Offload, Offloads, Receiver, Room, finish};
use crate::spec::UserNet;

/// A test that waits for longer than this waits in vain.
const HANGS: Duration = Duration::from_secs(60);
const RAM: u64 = 1 << 20;
/// Where frames are received.
const IN: u64 = 0x101;
/// Where the body of one that is sent lies.
const OUT: u64 = 0x8_0003;

#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    rings: Condvar,
}

/// A connection of the guest's.
pub(super) struct Tcp {
    pub(super) connection: Connection,
    /// What has come from the other side, unless `reads` is false.
    pub(super) received: Vec<u8>,
    pub(super) reads: bool,
    /// What is still to be sent, and whether the end comes then.
    pub(super) pending: VecDeque<u8>,
    pub(super) ends: bool,
}

/// The guest.
pub(super) struct Peer {
    pub(super) net: User,
    ram: Arc<Ram>,
    does: Offloads,
    bell: Arc<Bell>,
    /// Frames that were not understood, or are for the test to look at.
    pub(super) frames: VecDeque<Vec<u8>>,
    /// Datagrams: from whom, to which port, what.
    pub(super) datagrams: VecDeque<(SocketAddr, u16, Vec<u8>)>,
    /// Messages of ICMP: from whom, and what.
    pub(super) messages: VecDeque<(IpAddr, Vec<u8>)>,
    pub(super) tcp: BTreeMap<FlowPorts, Tcp>,
    /// Ports that connections are accepted at.
    pub(super) listens: Vec<u16>,
    /// Takes nothing from the network.
    pub(super) deaf: bool,
    parts: BTreeMap<u32, (Vec<u8>, usize)>,
    port: u16,
}

/// The guest's port, and the other end.
pub(super) type FlowPorts = (u16, SocketAddr);

impl Peer {
    pub(super) fn new(config: Config, spec: &UserNet, does: Offloads) -> Self {
        let net = User::with(config, spec, MAC).unwrap();
        let bell = Arc::new(Bell::default());
        let theirs = bell.clone();
        net.attach(Box::new(move || {
            *theirs.rung.lock().unwrap() = true;
            theirs.rings.notify_all();
        }));
        Self {
            net,
            ram: Ram::new(&[(0, RAM)]).unwrap(),
            does,
            bell,
            frames: VecDeque::new(),
            datagrams: VecDeque::new(),
            messages: VecDeque::new(),
            tcp: BTreeMap::new(),
            listens: Vec::new(),
            deaf: false,
            parts: BTreeMap::new(),
            port: 40_000,
        }
    }

    /// Sends a frame as it is. All but its headers lies in memory, in pieces.
    pub(super) fn send(&self, offload: Offload, frame: &[u8]) {
        let (head, body) = frame.split_at(frame.len().min(192));
        self.ram.write(OUT, body).unwrap();
        let mut pieces = Vec::new();
        let mut gpa = OUT;
        for part in body.chunks(5000) {
            let len = part.len() as u64;
            pieces.push(Piece { gpa, len });
            gpa += len;
        }
        self.net.send(&[Frame {
            offload,
            head,
            body: &pieces,
            ram: &self.ram,
        }]);
    }

    /// Sends what `make` puts in an outbox that is turned around: from the guest to the gateway.
    pub(super) fn emit(&self, make: impl FnOnce(&mut Outbox)) {
        let mut out = Outbox::new(1500, lan::GATEWAY_MAC);
        make(&mut out);
        for (offload, mut frame) in out.take() {
            frame[6..12].copy_from_slice(&MAC);
            self.send(offload, &frame);
        }
    }

    /// The guest's address in the version of another.
    pub(super) fn address(&self, other: IpAddr) -> IpAddr {
        match other {
            IpAddr::V4(_) => lan::GUEST.into(),
            IpAddr::V6(_) => lan::v6::GUEST.into(),
        }
    }

    /// Sends a datagram.
    pub(super) fn datagram(&self, port: u16, to: SocketAddr, data: &[u8]) {
        let from = SocketAddr::new(self.address(to.ip()), port);
        self.emit(|out| udp::reply(from, to, data, out));
    }

    /// Sends a packet with data whose checksum needs no care.
    pub(super) fn packet(&self, packet: &Packet, data: &[u8]) {
        let mut data = data.to_vec();
        self.emit(|out| out.send(packet, &mut data, None));
    }

    /// Waits until `done` says so, doing what a guest does meanwhile.
    pub(super) fn until<T>(&mut self, mut done: impl FnMut(&mut Self) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            self.turn();
            if let Some(done) = done(self) {
                return done;
            }
            assert!(start.elapsed() < HANGS, "waits in vain");
            let deadlines = self.tcp.values().filter_map(|it| it.connection.deadline());
            let now = Instant::now();
            let wait = deadlines.map(|it| it.saturating_duration_since(now)).min();
            // The test's own sockets ring nobody.
            let wait = wait.map_or(Duration::from_millis(2), |it| {
                it.min(Duration::from_millis(2))
            });
            let rung = self.bell.rung.lock().unwrap();
            let (mut rung, _) = self
                .bell
                .rings
                .wait_timeout_while(rung, wait, |it| !*it)
                .unwrap();
            *rung = false;
        }
    }

    /// Does what is to be done now.
    pub(super) fn turn(&mut self) {
        if !self.deaf {
            let mut inbox = Inbox::new(self.ram.clone(), self.does);
            self.net.receive(&mut inbox);
            for (offload, frame) in inbox.frames {
                check(offload, &frame, self.does);
                self.take(offload, frame);
            }
        }
        let keys: Vec<FlowPorts> = self.tcp.keys().copied().collect();
        keys.iter().for_each(|key| self.pump(key));
    }

    fn take(&mut self, offload: Offload, frame: Vec<u8>) {
        let header = match word(&frame, 12) {
            kind::ARP => self.arp(&frame),
            kind::IPV4 => Header::read_v4(&frame, frame.len()),
            kind::IPV6 => Header::read_v6(&frame, frame.len()),
            _ => None,
        };
        let Some(header) = header else {
            return self.frames.push_back(frame);
        };
        let data = frame[header.data..header.end].to_vec();
        let Some(data) = self.whole(&header, data) else {
            return;
        };
        match header.protocol {
            protocol::UDP => {
                let datagram = udp::Datagram::read(&data).unwrap();
                let from = SocketAddr::new(header.source, datagram.source);
                let data = datagram.data.to_vec();
                self.datagrams.push_back((from, datagram.destination, data));
            }
            protocol::TCP => self.segment(&header, &data, offload),
            _ => self.messages.push_back((header.source, data)),
        }
    }

    /// Puts fragments together, which come in order.
    fn whole(&mut self, header: &Header, data: Vec<u8>) -> Option<Vec<u8>> {
        let Some(fragment) = header.fragment else {
            return Some(data);
        };
        let (sofar, _) = self.parts.entry(fragment.id).or_default();
        assert_eq!(sofar.len(), fragment.offset, "fragments come in order");
        sofar.extend(data);
        if fragment.more {
            return None;
        }
        let whole = self.parts.remove(&fragment.id).unwrap().0;
        // A fragment's checksum is never left to somebody else.
        check_sum(header, &whole);
        Some(whole)
    }

    /// Answers ARP requests for the guest's address.
    fn arp(&mut self, frame: &[u8]) -> Option<Header> {
        if word(frame, 20) == 1 && frame[38..42] == lan::GUEST.octets() {
            let mut reply = lan::GATEWAY_MAC.to_vec();
            reply.extend(MAC);
            reply.extend(&frame[12..20]);
            reply.extend([0, 2]);
            reply.extend(MAC);
            reply.extend(&frame[38..42]);
            reply.extend(&frame[22..32]);
            self.send(Offload::default(), &reply);
        }
        None
    }

    /// A port that was not used before.
    pub(super) fn port(&mut self) -> u16 {
        self.port += 1;
        self.port
    }

    /// Begins a connection.
    pub(super) fn connect(&mut self, to: SocketAddr) -> FlowPorts {
        let key = (self.port(), to);
        let connection = Connection::connect(TcpConfig::new(1460), Seq(u32::from(key.0) << 16));
        self.tcp.insert(key, Tcp::new(connection));
        self.turn();
        key
    }

    fn segment(&mut self, header: &Header, data: &[u8], offload: Offload) {
        let (ports, segment, len) = Segment::read(data).unwrap();
        if let Some(segments) = offload.segments {
            assert!(data.len() - len > usize::from(segments.size), "{offload:?}");
        } else {
            assert!(data.len() <= 1500, "longer than the interface takes");
        }
        let key = (
            ports.destination,
            SocketAddr::new(header.source, ports.source),
        );
        let now = Instant::now();
        if let Some(tcp) = self.tcp.get_mut(&key) {
            return tcp.connection.segment(now, &segment, &&data[len..]);
        }
        if self.listens.contains(&key.0) && super::super::streams::is_syn(&segment) {
            let mut connection = Connection::accept(TcpConfig::new(1460), Seq(7), &segment);
            connection.stand();
            self.tcp.insert(key, Tcp::new(connection));
        } else if let Some(answer) = segment.reset(data.len() - len) {
            self.transmit(&key, &answer, [&[], &[]], None);
        }
    }

    fn pump(&mut self, key: &FlowPorts) {
        let now = Instant::now();
        let tcp = self.tcp.get_mut(key).unwrap();
        if tcp.reads {
            let parts = tcp.connection.readable().concat();
            tcp.connection.consume(parts.len());
            tcp.received.extend(parts);
        }
        let (front, _) = tcp.pending.as_slices();
        let done = tcp.connection.write(front);
        tcp.pending.drain(..done);
        if tcp.pending.is_empty() && tcp.ends {
            tcp.connection.close();
        }
        let limit = if self.does.is_empty() { 1460 } else { 60_000 };
        while let Some(outgoing) = self
            .tcp
            .get_mut(key)
            .and_then(|it| it.connection.next(now, limit))
        {
            let data = self.tcp[key].connection.data(&outgoing).map(<[u8]>::to_vec);
            let mss = (outgoing.len > 1460).then_some(1460);
            self.transmit(key, &outgoing.segment, [&data[0], &data[1]], mss);
            self.tcp
                .get_mut(key)
                .unwrap()
                .connection
                .sent(now, &outgoing);
        }
    }

    /// Sends a segment from the guest.
    pub(super) fn transmit(
        &self,
        key: &FlowPorts,
        segment: &Segment,
        data: [&[u8]; 2],
        mss: Option<u16>,
    ) {
        let data = data.concat();
        // The names are the network's: seen from there, the guest is the remote end.
        let flow = FlowKey {
            guest: key.1,
            remote: SocketAddr::new(self.address(key.1.ip()), key.0),
        };
        let mut out = Outbox::new(1500, lan::GATEWAY_MAC);
        let sizes = (data.len(), mss.unwrap_or(u16::MAX));
        let (mut frame, offload) = super::super::streams::begin(&flow, segment, sizes, &mut out);
        frame[6..12].copy_from_slice(&MAC);
        frame.extend(data);
        self.send(offload, &frame);
    }

    /// Waits until a connection's other side has said everything, and takes it.
    pub(super) fn read_to_end(&mut self, key: &FlowPorts) -> Vec<u8> {
        self.until(|it| it.tcp[key].connection.is_read_out().then_some(()));
        self.turn();
        std::mem::take(&mut self.tcp.get_mut(key).unwrap().received)
    }

    /// Waits until a connection stands.
    pub(super) fn stands(&mut self, key: &FlowPorts) {
        self.until(|it| it.tcp[key].connection.is_established().then_some(()));
    }

    /// Lets a connection send something, and perhaps the end.
    pub(super) fn write(&mut self, key: &FlowPorts, bytes: &[u8], ends: bool) {
        let tcp = self.tcp.get_mut(key).unwrap();
        tcp.pending.extend(bytes);
        tcp.ends |= ends;
        self.turn();
    }
}

impl Tcp {
    fn new(connection: Connection) -> Self {
        Self {
            connection,
            received: Vec::new(),
            reads: true,
            pending: VecDeque::new(),
            ends: false,
        }
    }
}

/// A finished frame's checksums are right, and an unfinished one can be finished.
fn check(offload: Offload, frame: &[u8], does: Offloads) {
    assert!(does.contains(offload.needs()), "{offload:?}");
    let ram = Ram::new(&[(0, 0x1000)]).unwrap();
    let whole = Frame {
        offload,
        head: frame,
        body: &[],
        ram: &ram,
    };
    finish(&whole, Offloads::empty(), &mut |part| {
        check_finished(part.head)
    })
    .unwrap();
}

fn check_finished(frame: &[u8]) {
    assert!(frame.len() <= HEADER + 1500, "{}", frame.len());
    assert!(frame[..6] == MAC || frame[0] & 1 == 1);
    assert_eq!(frame[6..12], lan::GATEWAY_MAC);
    let header = match word(frame, 12) {
        kind::IPV4 => Header::read_v4(frame, frame.len()),
        kind::IPV6 => Header::read_v6(frame, frame.len()),
        _ => return,
    };
    let header = header.unwrap();
    assert_eq!(header.end, frame.len());
    if header.source.is_ipv4() {
        assert_eq!(
            plain_sum(&frame[HEADER..header.data]),
            0xffff,
            "IPv4's checksum"
        );
    }
    if header.fragment.is_some() {
        return;
    }
    let data = &frame[header.data..];
    check_sum(&header, data);
}

/// The checksum of what is behind all headers of IP.
fn check_sum(header: &Header, data: &[u8]) {
    let sum = if header.protocol == protocol::ICMP {
        plain_sum(data)
    } else {
        let packet = Packet::new(header.source, header.destination, header.protocol);
        let mut sum = packet.pseudo(data.len());
        sum.add(data);
        !sum.finish()
    };
    assert_eq!(sum, 0xffff, "the checksum of protocol {}", header.protocol);
}

/// Takes frames to pieces of memory, as a driver's buffers are.
struct Inbox {
    ram: Arc<Ram>,
    does: Offloads,
    pieces: Vec<Piece>,
    frames: Vec<(Offload, Vec<u8>)>,
}

impl Inbox {
    fn new(ram: Arc<Ram>, does: Offloads) -> Self {
        Self {
            ram,
            does,
            pieces: Vec::new(),
            frames: Vec::new(),
        }
    }
}

impl Receiver for Inbox {
    fn offloads(&self) -> Offloads {
        self.does
    }

    fn ram(&self) -> &Ram {
        &self.ram
    }

    fn room(&mut self, len: usize) -> Room<'_> {
        // Not for ever, so that the guest answers in between.
        if self.frames.len() >= 64 {
            return Room::Later;
        }
        let len = len as u64;
        let first = len.min(1000);
        self.pieces = vec![
            Piece {
                gpa: IN,
                len: first,
            },
            Piece {
                gpa: IN + 2 * first,
                len: len - first,
            },
        ];
        Room::Here {
            ram: &self.ram,
            pieces: &self.pieces,
        }
    }

    fn commit(&mut self, len: usize, offload: Offload) {
        let mut frame = Vec::new();
        for piece in &self.pieces {
            let start = frame.len();
            frame.resize(start + piece.len as usize, 0);
            self.ram.read(piece.gpa, &mut frame[start..]).unwrap();
        }
        assert_eq!(frame.len(), len);
        self.frames.push((offload, frame));
    }
}
