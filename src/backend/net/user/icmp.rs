//! ICMP (RFC 792, RFC 4443): echo, answered by us or sent on where the host lets an unprivileged process do so, and the
//! errors that a guest is told of.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use guest::lan;
use hvf_sys::os::socket;

use super::outbox::Outbox;
use super::watch::{Token, Watches};
use crate::backend::net::icmp::{HEADER, complete, reply, version};
use crate::backend::net::ip::{self, Header, Packet, put, word};

/// The most programs that send echoes at a time: sockets of ours.
const ECHOES_MAX: usize = 64;
/// How long one waits for answers.
const PATIENCE: Duration = Duration::from_secs(20);
/// The most answers that are received at a time.
const BATCH: usize = 16;
/// What an error quotes of the packet that it is about: enough for every header, and no more than the least MTU takes.
const QUOTE_MAX: usize = 512;

/// What a guest is told about a packet of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nobody has the address, or there is no way to it.
    Host,
    /// Nobody listens at the port, or it is refused.
    Port,
    /// It has been under way for too long.
    Time,
}

impl Trouble {
    /// Type and code in both versions.
    fn codes(self, address: IpAddr) -> [u8; 2] {
        match (self, address) {
            (Self::Host, IpAddr::V4(_)) => [3, 1],
            (Self::Port, IpAddr::V4(_)) => [3, 3],
            (Self::Time, IpAddr::V4(_)) => [11, 0],
            (Self::Host, IpAddr::V6(_)) => [1, 0],
            (Self::Port, IpAddr::V6(_)) => [1, 4],
            (Self::Time, IpAddr::V6(_)) => [3, 0],
        }
    }
}

/// Tells the guest at `to` of trouble with the packet that begins with `quote`.
pub(super) fn tell(trouble: Trouble, to: IpAddr, quote: &[u8], out: &mut Outbox) {
    let from = match to {
        IpAddr::V4(_) => lan::GATEWAY.into(),
        IpAddr::V6(_) => lan::v6::GATEWAY.into(),
    };
    let mut message = trouble.codes(to).to_vec();
    message.extend_from_slice(&[0; 6]);
    message.extend_from_slice(&quote[..quote.len().min(QUOTE_MAX)]);
    send(from, to, message, out);
}

/// Tells the guest of trouble with a packet of ports whose bytes are gone: its headers are made again.
pub(super) fn tell_of(trouble: Trouble, protocol: u8, key: &super::FlowKey, out: &mut Outbox) {
    let packet = Packet::new(key.guest.ip(), key.remote.ip(), protocol);
    let mut ports = key.guest.port().to_be_bytes().to_vec();
    ports.extend_from_slice(&key.remote.port().to_be_bytes());
    ports.extend_from_slice(&[0, 8, 0, 0]);
    let quote = packet.bytes(&ports);
    tell(trouble, key.guest.ip(), &quote, out);
}

/// Completes a message and sends it.
fn send(from: IpAddr, to: IpAddr, mut message: Vec<u8>, out: &mut Outbox) {
    let packet = Packet::new(from, to, version(to).protocol);
    complete(&packet, &mut message);
    out.send(&packet, &mut message, None);
}

/// Answers an echo request to us. Other messages are ignored.
pub(super) fn answer(header: &Header, message: &[u8], out: &mut Outbox) {
    if let Some(reply) = reply(header.source, message) {
        send(header.destination, header.source, reply, out);
    }
}

/// Who sends echoes to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct EchoKey {
    guest: IpAddr,
    remote: IpAddr,
    id: u16,
}

/// The echoes that are under way.
pub(super) struct Echoes {
    sockets: HashMap<EchoKey, Echo>,
    /// Whether it was said that the host lets us send none.
    told: bool,
}

struct Echo {
    socket: Arc<UdpSocket>,
    used: Instant,
}

impl Echoes {
    /// None yet.
    pub(super) fn new() -> Self {
        Self {
            sockets: HashMap::new(),
            told: false,
        }
    }

    /// Sends a request of the guest's on to `outside`. What the host does not let us send has no answer.
    pub(super) fn send(
        &mut self,
        header: &Header,
        outside: IpAddr,
        message: &[u8],
        now: Instant,
        watches: &mut Watches,
    ) {
        if message.len() < HEADER || message[0] != version(header.source).request {
            return;
        }
        let key = EchoKey {
            guest: header.source,
            remote: header.destination,
            id: word(message, 4),
        };
        if !self.sockets.contains_key(&key) {
            match self.open(outside) {
                Ok(socket) => {
                    let socket = Arc::new(socket);
                    self.sockets.insert(key, Echo { socket, used: now });
                    watches.changed();
                }
                Err(error) => return self.refused(&error),
            }
        }
        if let Some(echo) = self.sockets.get_mut(&key) {
            echo.used = now;
            // What cannot be sent is lost, as everywhere.
            let _ = echo.socket.send(message);
        }
    }

    fn open(&mut self, outside: IpAddr) -> io::Result<UdpSocket> {
        if self.sockets.len() >= ECHOES_MAX {
            let oldest = self.sockets.iter().min_by_key(|(_, echo)| echo.used);
            if let Some(key) = oldest.map(|(key, _)| *key) {
                self.sockets.remove(&key);
            }
        }
        socket::echo(outside)
    }

    fn refused(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.told, true) {
            log::warn!(
                "the guest's pings to the outside have no answer: cannot open an ICMP socket: {error}; on Linux, let this group in net.ipv4.ping_group_range"
            );
        }
    }

    /// What is waited for. Echoes that nobody answers end here.
    pub(super) fn watch(&mut self, now: Instant, room: bool, watches: &mut Watches) {
        self.sockets
            .retain(|_, echo| now.saturating_duration_since(echo.used) < PATIENCE);
        for (key, echo) in &self.sockets {
            watches.socket(Token::Echo(*key), &echo.socket, room, false);
            watches.until(echo.used + PATIENCE);
        }
    }

    /// Receives answers.
    pub(super) fn ready(&mut self, key: &EchoKey, buffer: &mut [u8], out: &mut Outbox) {
        let Some(echo) = self.sockets.get(key) else {
            return;
        };
        for _ in 0..BATCH {
            let Ok(len) = echo.socket.recv(buffer) else {
                return;
            };
            let message = behind_ip(&buffer[..len], key.remote);
            if message.len() >= HEADER && message[0] == version(key.remote).reply {
                let mut reply = message.to_vec();
                put(&mut reply, 4, key.id);
                send(key.remote, key.guest, reply, out);
            }
        }
    }
}

/// macOS gives the header of IPv4 as well.
fn behind_ip(datagram: &[u8], from: IpAddr) -> &[u8] {
    if !cfg!(target_vendor = "apple") || from.is_ipv6() {
        return datagram;
    }
    let words = datagram.first().map_or(0, |first| first & 0xf);
    let header = (4 * usize::from(words)).max(ip::IPV4);
    datagram.get(header..).unwrap_or(&[])
}
