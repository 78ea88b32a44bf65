//! UDP (RFC 768): each flow of a guest's, from one port of it to one outside, has a socket of its own here, and so has
//! each published port.
//!
//! A flow's socket is connected, so that nobody but the one whom the guest has spoken to can answer, and refusals come
//! back. The price: nobody outside sees two flows come from one port, which programs that dig through other people's
//! NATs would like.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::icmp::{self, Trouble};
use super::outbox::Outbox;
use super::policy;
use super::watch::{Token, Watches, any_for};
use super::{FlowKey, Published};
use crate::backend::net::ip::{Packet, protocol, word};

/// Bytes of the header: ports, length, checksum.
pub(super) const HEADER: usize = 8;
/// Where in it the checksum is.
const CHECKSUM: usize = 6;
/// The most data in a datagram.
pub(super) const DATA_MAX: usize = 65_535 - 20 - HEADER;
/// The most flows. A new one takes the place of the one that was silent for longest.
const FLOWS_MAX: usize = 1024;
/// How long a flow may be silent.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most datagrams that are received from one socket at a time.
const BATCH: usize = 64;

/// A datagram of the guest's.
pub(super) struct Datagram<'a> {
    pub(super) source: u16,
    pub(super) destination: u16,
    pub(super) data: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Reads one behind its IP header. None where it is shorter than it says.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let header: &[u8; HEADER] = bytes.first_chunk()?;
        let len = usize::from(word(header, 4));
        Some(Self {
            source: word(header, 0),
            destination: word(header, 2),
            data: bytes.get(HEADER..len)?,
        })
    }
}

/// Sends a datagram to the guest.
pub(super) fn reply(from: SocketAddr, to: SocketAddr, data: &[u8], out: &mut Outbox) {
    let len = HEADER + data.len();
    if data.len() > DATA_MAX {
        return;
    }
    let packet = Packet::new(from.ip(), to.ip(), protocol::UDP);
    let mut bytes = Vec::with_capacity(len);
    bytes.extend_from_slice(&from.port().to_be_bytes());
    bytes.extend_from_slice(&to.port().to_be_bytes());
    bytes.extend_from_slice(&(len as u16).to_be_bytes());
    // The pseudo header's sum, as whoever completes the checksum wants it.
    bytes.extend_from_slice(&(!packet.pseudo(len).finish()).to_be_bytes());
    bytes.extend_from_slice(data);
    out.send(&packet, &mut bytes, Some(CHECKSUM));
}

/// What became of a guest's datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It is gone, and may arrive.
    Gone,
    /// The guest is to be told why not.
    Failed(Trouble),
}

struct Flow {
    socket: Arc<UdpSocket>,
    used: Instant,
}

/// A published port.
struct Port {
    socket: Arc<UdpSocket>,
    /// The guest's port.
    guest: u16,
}

/// A conversation through a published port.
struct Caller {
    /// Which port, and who calls.
    port: usize,
    peer: SocketAddr,
    used: Instant,
}

/// All flows and published ports.
pub(super) struct Udp {
    flows: HashMap<FlowKey, Flow>,
    ports: Vec<Port>,
    /// By what the guest sees.
    callers: HashMap<FlowKey, Caller>,
}

impl Udp {
    /// No flows; published ports that are bound already.
    pub(super) fn new(published: Vec<Published<UdpSocket>>) -> Self {
        let port = |it: Published<UdpSocket>| Port {
            socket: Arc::new(it.socket),
            guest: it.guest,
        };
        Self {
            flows: HashMap::new(),
            ports: published.into_iter().map(port).collect(),
            callers: HashMap::new(),
        }
    }

    /// Sends an answer of the guest's to who called a published port. False where nobody did.
    pub(super) fn answer(&mut self, key: &FlowKey, data: &[u8], now: Instant) -> bool {
        let Some(caller) = self.callers.get_mut(key) else {
            return false;
        };
        caller.used = now;
        if let Some(port) = self.ports.get(caller.port) {
            // What cannot be sent is lost, as everywhere.
            let _ = port.socket.send_to(data, caller.peer);
        }
        true
    }

    /// Sends a datagram of the guest's to `outside`.
    pub(super) fn send(
        &mut self,
        key: FlowKey,
        outside: SocketAddr,
        data: &[u8],
        now: Instant,
        watches: &mut Watches,
    ) -> Sent {
        if !self.flows.contains_key(&key) {
            match self.open(outside) {
                Ok(socket) => {
                    let socket = Arc::new(socket);
                    self.flows.insert(key, Flow { socket, used: now });
                    watches.changed();
                }
                Err(error) => return failed(&error),
            }
        }
        let Some(flow) = self.flows.get_mut(&key) else {
            return Sent::Gone;
        };
        flow.used = now;
        match flow.socket.send(data) {
            Ok(_) => Sent::Gone,
            Err(error) => failed(&error),
        }
    }

    fn open(&mut self, outside: SocketAddr) -> io::Result<UdpSocket> {
        if self.flows.len() >= FLOWS_MAX {
            let oldest = self.flows.iter().min_by_key(|(_, flow)| flow.used);
            if let Some(key) = oldest.map(|(key, _)| *key) {
                self.flows.remove(&key);
            }
        }
        let socket = UdpSocket::bind(any_for(outside))?;
        socket.set_nonblocking(true)?;
        socket.connect(outside)?;
        Ok(socket)
    }

    /// What is waited for. Flows that have been silent for too long end here.
    pub(super) fn watch(&mut self, now: Instant, room: bool, watches: &mut Watches) {
        let lives = |used: Instant| now.saturating_duration_since(used) < PATIENCE;
        self.flows.retain(|_, flow| lives(flow.used));
        self.callers.retain(|_, caller| lives(caller.used));
        for (key, flow) in &self.flows {
            watches.socket(Token::Udp(*key), &flow.socket, room, false);
            watches.until(flow.used + PATIENCE);
        }
        for (index, port) in self.ports.iter().enumerate() {
            watches.socket(Token::UdpPort(index), &port.socket, room, false);
        }
    }

    /// Receives what has come for a flow.
    pub(super) fn ready(
        &mut self,
        key: &FlowKey,
        buffer: &mut [u8],
        now: Instant,
        out: &mut Outbox,
    ) {
        let Some(flow) = self.flows.get_mut(key) else {
            return;
        };
        for _ in 0..BATCH {
            if !out.has_room() {
                return;
            }
            match flow.socket.recv(buffer) {
                Ok(len) => {
                    flow.used = now;
                    reply(key.remote, key.guest, &buffer[..len], out);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    // Somebody has refused what was sent before.
                    if let Sent::Failed(trouble) = failed(&error) {
                        icmp::tell_of(trouble, protocol::UDP, key, out);
                    }
                }
            }
        }
    }

    /// Receives what has come for a published port.
    pub(super) fn ready_port(
        &mut self,
        index: usize,
        guest: std::net::IpAddr,
        buffer: &mut [u8],
        now: Instant,
        out: &mut Outbox,
    ) {
        for _ in 0..BATCH {
            let Some(port) = self.ports.get(index).filter(|_| out.has_room()) else {
                return;
            };
            match port.socket.recv_from(buffer) {
                Ok((len, peer)) => {
                    let to = SocketAddr::new(guest, port.guest);
                    if let Some(key) = self.caller(index, peer, to, now) {
                        reply(key.remote, key.guest, &buffer[..len], out);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Somebody has refused an answer, which is nothing to the guest.
                Err(_) => {}
            }
        }
    }

    /// As whom the guest sees `peer`, who calls a published port. Those who share an address have different ports.
    fn caller(
        &mut self,
        port: usize,
        peer: SocketAddr,
        guest: SocketAddr,
        now: Instant,
    ) -> Option<FlowKey> {
        let address = policy::seen_as(peer);
        let others = (0..FLOWS_MAX as u16).map(|n| u16::MAX - n);
        for number in std::iter::once(peer.port()).chain(others) {
            let key = FlowKey {
                guest,
                remote: SocketAddr::new(address, number),
            };
            let free = !self.callers.contains_key(&key) && !self.flows.contains_key(&key);
            if free && self.callers.len() >= FLOWS_MAX {
                self.forget_oldest_caller();
            }
            let caller = self.callers.entry(key);
            match caller {
                std::collections::hash_map::Entry::Vacant(place) if free => {
                    place.insert(Caller {
                        port,
                        peer,
                        used: now,
                    });
                    return Some(key);
                }
                std::collections::hash_map::Entry::Occupied(mut it)
                    if it.get().port == port && it.get().peer == peer =>
                {
                    it.get_mut().used = now;
                    return Some(key);
                }
                _ => {}
            }
        }
        None
    }

    fn forget_oldest_caller(&mut self) {
        let oldest = self.callers.iter().min_by_key(|(_, it)| it.used);
        if let Some(key) = oldest.map(|(key, _)| *key) {
            self.callers.remove(&key);
        }
    }

    #[cfg(test)]
    pub(super) fn flows(&self) -> usize {
        self.flows.len()
    }
}

/// What a failure to send means to the guest. What is lost for want of room is just lost.
fn failed(error: &io::Error) -> Sent {
    use io::ErrorKind::{
        AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable, PermissionDenied,
    };
    match error.kind() {
        ConnectionRefused => Sent::Failed(Trouble::Port),
        // A firewall, or a broadcast address.
        PermissionDenied | AddrNotAvailable | HostUnreachable | NetworkUnreachable => {
            Sent::Failed(Trouble::Host)
        }
        _ => Sent::Gone,
    }
}
