//! What a guest's frames mean: each goes to the part that understands it, and what that answers waits for the guest.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use guest::lan;
use hvf_sys::os::socket;

use super::dns::{self, Dns};
use super::fragments::Fragments;
use super::icmp::{self, Echoes, Trouble};
use super::outbox::Outbox;
use super::policy::{self, Goal, Policy};
use super::streams::{self, Streams, Turn};
use super::udp::{self, Sent, Udp};
use super::watch::{Token, Watches};
use super::{Config, FlowKey, Published, dhcp, stations};
use crate::backend::net::ip::{self, Header, kind, protocol};
use crate::backend::net::tcp::{InFrame, Payload, Segment};
use crate::backend::net::{Delivery, Frame, HEADER, Mac, Offloads, Receiver};

/// For how long what the host says of its own addresses is believed.
const NEWS: Duration = Duration::from_secs(1);
/// The most bytes of a datagram.
const DATAGRAM: usize = 65_536;

/// Everything that the network is made of, but for the thread that waits for its sockets.
pub(super) struct Stack {
    policy: Policy,
    /// When the host was asked for its addresses last.
    asked: Option<Instant>,
    pub(super) out: Outbox,
    pub(super) watches: Watches,
    streams: Streams,
    udp: Udp,
    dns: Dns,
    echoes: Echoes,
    fragments: Fragments,
    /// Room was wanting for datagrams when the wait began.
    held: bool,
    /// The guest has sent something.
    heard: bool,
    /// A frame that is looked at as a whole.
    scratch: Vec<u8>,
    buffer: Vec<u8>,
}

impl Stack {
    /// A network on which nobody has said anything, with published ports that are bound already.
    pub(super) fn new(
        config: &Config,
        mtu: u16,
        mac: Mac,
        tcp: Vec<Published<TcpListener>>,
        udp: Vec<Published<UdpSocket>>,
    ) -> Self {
        Self {
            policy: Policy {
                allow_host: config.allow_host,
                has_v6: config.has_v6,
                loopback: Vec::new(),
            },
            asked: None,
            out: Outbox::new(mtu, mac),
            watches: Watches::default(),
            streams: Streams::new(mtu, tcp),
            udp: Udp::new(udp),
            dns: Dns::new(config.resolvers.clone()),
            echoes: Echoes::new(),
            fragments: Fragments::default(),
            held: false,
            heard: false,
            scratch: Vec::new(),
            buffer: vec![0; DATAGRAM],
        }
    }

    /// Takes a frame of the guest's.
    pub(super) fn frame(&mut self, frame: &Frame<'_>, now: Instant) {
        let Some(ethernet) = frame.head.first_chunk::<HEADER>() else {
            return;
        };
        let (to, from) = (&ethernet[..6], &ethernet[6..12]);
        // Groups are everybody's.
        if to != lan::GATEWAY_MAC && to[0] & 1 == 0 {
            return;
        }
        if let Ok(from) = Mac::try_from(from) {
            self.out.learn(from);
        }
        if !std::mem::replace(&mut self.heard, true) && self.policy.has_v6 {
            stations::advertise(Ipv6Addr::UNSPECIFIED, &mut self.out);
        }
        let header = match ip::word(ethernet, 12) {
            kind::ARP if self.copy(frame) => {
                return stations::resolve(&self.scratch, &mut self.out);
            }
            kind::IPV4 => Header::read_v4(frame.head, frame.len()),
            kind::IPV6 => Header::read_v6(frame.head, frame.len()),
            _ => None,
        };
        match header {
            Some(header) if header.protocol == protocol::TCP && header.fragment.is_none() => {
                self.tcp(frame, &header, now);
            }
            Some(header) if self.copy(frame) => self.packet(&header, now),
            _ => {}
        }
    }

    /// Copies a frame to where the guest cannot change it.
    fn copy(&mut self, frame: &Frame<'_>) -> bool {
        self.scratch.clear();
        frame.copy_to(&mut self.scratch).is_ok()
    }

    /// A packet that lies in `scratch`.
    fn packet(&mut self, header: &Header, now: Instant) {
        let scratch = std::mem::take(&mut self.scratch);
        if let Some(data) = scratch.get(header.data..header.end) {
            let quote = header.quote(&scratch);
            match header.fragment {
                None => self.data(header, data, quote, now),
                Some(fragment) => {
                    if let Some(whole) = self.fragments.add(header, fragment, data, now) {
                        self.data(header, &whole, quote, now);
                    }
                }
            }
        }
        self.scratch = scratch;
    }

    fn data(&mut self, header: &Header, data: &[u8], quote: &[u8], now: Instant) {
        match (header.protocol, header.source) {
            (protocol::UDP, _) => self.datagram(header, data, quote, now),
            (protocol::ICMP, IpAddr::V4(_)) => self.message(header, data, quote, now),
            (protocol::ICMPV6, IpAddr::V6(_)) => {
                let has_v6 = self.policy.has_v6;
                if !stations::neighbour(header, data, has_v6, &mut self.out) {
                    self.message(header, data, quote, now);
                }
            }
            _ => {}
        }
    }

    /// Where a packet goes. Nowhere at all, and without a word: what is no guest's, and what goes to everybody.
    fn goal(&mut self, header: &Header, now: Instant) -> Option<Goal> {
        let to_all = match header.destination {
            IpAddr::V4(it) => it.is_multicast() || it.is_broadcast() || it == lan::BROADCAST,
            IpAddr::V6(it) => it.is_multicast(),
        };
        if to_all || header.hops == 0 || !policy::is_guest(header.source) {
            return None;
        }
        if self
            .asked
            .is_none_or(|asked| now.saturating_duration_since(asked) >= NEWS)
        {
            self.asked = Some(now);
            if let Ok(loopback) = socket::loopback_networks() {
                self.policy.loopback = loopback;
            }
        }
        Some(self.policy.goal(header.destination))
    }

    /// ICMP.
    fn message(&mut self, header: &Header, data: &[u8], quote: &[u8], now: Instant) {
        let Some(goal) = self.goal(header, now) else {
            return;
        };
        // The gateway is itself, even where its ports are the host's.
        let itself = matches!(
            header.destination,
            IpAddr::V4(lan::GATEWAY) | IpAddr::V6(lan::v6::GATEWAY)
        );
        match goal {
            Goal::Outside(outside) if !itself => {
                if header.hops == 1 {
                    return icmp::tell(Trouble::Time, header.source, quote, &mut self.out);
                }
                self.echoes
                    .send(header, outside, data, now, &mut self.watches);
            }
            // No error about what may be an error (RFC 1122, 3.2.2).
            Goal::Nowhere => {}
            _ => icmp::answer(header, data, &mut self.out),
        }
    }

    fn datagram(&mut self, header: &Header, bytes: &[u8], quote: &[u8], now: Instant) {
        let Some(datagram) = udp::Datagram::read(bytes) else {
            return;
        };
        let for_us = match header.destination {
            IpAddr::V4(it) => it.is_broadcast() || it == lan::GATEWAY || it == lan::BROADCAST,
            IpAddr::V6(_) => false,
        };
        if for_us && datagram.destination == dhcp::SERVER {
            return dhcp::answer(datagram.data, &mut self.out);
        }
        let Some(goal) = self.goal(header, now) else {
            return;
        };
        let key = FlowKey {
            guest: SocketAddr::new(header.source, datagram.source),
            remote: SocketAddr::new(header.destination, datagram.destination),
        };
        if self.udp.answer(&key, datagram.data, now) {
            return;
        }
        let trouble = match goal {
            Goal::Dns if datagram.destination == dns::PORT => {
                let (watches, out) = (&mut self.watches, &mut self.out);
                return self
                    .dns
                    .ask(key.guest, key.remote, datagram.data, now, watches, out);
            }
            Goal::Outside(_) if header.hops == 1 => Trouble::Time,
            Goal::Outside(outside) => {
                let outside = SocketAddr::new(outside, datagram.destination);
                let watches = &mut self.watches;
                match self.udp.send(key, outside, datagram.data, now, watches) {
                    Sent::Gone => return,
                    Sent::Failed(trouble) => trouble,
                }
            }
            Goal::Gateway | Goal::Dns | Goal::Nowhere => Trouble::Port,
        };
        icmp::tell(trouble, header.source, quote, &mut self.out);
    }

    fn tcp(&mut self, frame: &Frame<'_>, header: &Header, now: Instant) {
        let head = &frame.head[..header.end.min(frame.head.len())];
        let Some((ports, segment, len)) = head.get(header.data..).and_then(Segment::read) else {
            return;
        };
        let Some(goal) = self.goal(header, now) else {
            return;
        };
        let key = FlowKey {
            guest: SocketAddr::new(header.source, ports.source),
            remote: SocketAddr::new(header.destination, ports.destination),
        };
        let start = header.data + len;
        let data = InFrame {
            frame,
            start,
            len: header.end.saturating_sub(start),
        };
        let Self {
            streams,
            out,
            watches,
            ..
        } = self;
        let mut turn = Turn { now, out, watches };
        if streams.has(&key, &segment) {
            return streams.segment(&key, &segment, &data, &mut turn);
        }
        let addresses = match goal {
            Goal::Outside(_) if header.hops == 1 => {
                let quote = header.quote(frame.head);
                return icmp::tell(Trouble::Time, header.source, quote, turn.out);
            }
            Goal::Outside(outside) => vec![SocketAddr::new(outside, ports.destination)],
            Goal::Dns if ports.destination == dns::PORT => self.dns.servers(),
            Goal::Gateway | Goal::Dns | Goal::Nowhere => Vec::new(),
        };
        if streams::is_syn(&segment) && !addresses.is_empty() {
            streams.open(key, &segment, addresses, &mut turn);
        } else if let Some(answer) = segment.reset(data.len()) {
            streams::stray(&key, &answer, turn.out);
        }
    }

    /// What is waited for. What is late is done before.
    pub(super) fn watch(&mut self, now: Instant) {
        let room = self.out.has_room();
        self.held = !room;
        let Self { out, watches, .. } = self;
        self.udp.watch(now, room, watches);
        self.echoes.watch(now, room, watches);
        self.dns.watch(now, room, watches, out);
        self.streams.watch(&mut Turn { now, out, watches });
    }

    /// A socket is ready.
    pub(super) fn ready(&mut self, token: Token, readable: bool, writable: bool, now: Instant) {
        let Self {
            out,
            watches,
            buffer,
            ..
        } = self;
        match token {
            Token::Udp(key) => self.udp.ready(&key, buffer, now, out),
            Token::UdpPort(index) => {
                self.ask();
                let Self {
                    udp, out, buffer, ..
                } = self;
                udp.ready_port(index, lan::GUEST.into(), buffer, now, out);
            }
            Token::Echo(key) => self.echoes.ready(&key, buffer, out),
            Token::Dns(number, index) => self.dns.ready(number, index, buffer, now, out),
            Token::Tcp(key) => {
                let turn = &mut Turn { now, out, watches };
                self.streams.ready(&key, readable, writable, turn);
            }
            Token::Listener(index) => {
                self.ask();
                let Self {
                    streams,
                    out,
                    watches,
                    ..
                } = self;
                streams.accept(index, lan::GUEST.into(), &mut Turn { now, out, watches });
            }
        }
    }

    /// Asks for the guest's hardware address, if it has sent nothing yet.
    fn ask(&mut self) {
        if !self.heard {
            stations::ask(&mut self.out);
        }
    }

    /// Gives what waits to the guest, until it wants no more.
    pub(super) fn receive(&mut self, receiver: &mut dyn Receiver, now: Instant) {
        if self.out.deliver(receiver) {
            self.receive_streams(receiver, now);
            // What that has given rise to.
            self.out.deliver(receiver);
        }
        if self.held && self.out.has_room() {
            self.held = false;
            self.watches.changed();
        }
    }

    fn receive_streams(&mut self, receiver: &mut dyn Receiver, now: Instant) {
        let does = receiver.offloads();
        let Self {
            streams,
            out,
            watches,
            ..
        } = self;
        let mut turn = Turn { now, out, watches };
        while let Some((key, outgoing)) = streams.next(&mut turn, limit(does, streams::SEGMENT_MAX))
        {
            let data = streams.data(&key, &outgoing);
            let sizes = (outgoing.len, outgoing.mss);
            let (header, offload) = streams::begin(&key, &outgoing.segment, sizes, turn.out);
            let parts = [&header[..], data[0], data[1]];
            if receiver.deliver_parts(offload, &parts) == Delivery::Later {
                return;
            }
            streams.sent(&key, &outgoing, now);
        }
    }

    /// Sends an echo on without asking where it may go.
    #[cfg(test)]
    pub(super) fn ping(&mut self, header: &Header, outside: IpAddr, message: &[u8]) {
        self.echoes
            .send(header, outside, message, Instant::now(), &mut self.watches);
    }

    /// How many connections there are, and how many bytes their buffers have.
    #[cfg(test)]
    pub(super) fn connections(&self) -> (usize, usize) {
        (self.streams.len(), self.streams.memory())
    }

    /// How many flows of datagrams and questions there are.
    #[cfg(test)]
    pub(super) fn datagrams(&self) -> (usize, usize) {
        (self.udp.flows(), self.dns.questions())
    }
}

/// How much data a segment may have for a guest that does as much as it says. One that cuts nothing gets what its
/// interface takes.
fn limit(does: Offloads, most: usize) -> usize {
    let cuts = Offloads::CHECKSUM | Offloads::TCP4;
    if does.contains(cuts) { most } else { 1 << 14 }
}
