//! A DHCP server (RFC 2131, RFC 2132) for a network with one guest and one address for it.
//!
//! There is nothing to remember: whoever asks is the guest, the address is always the same, and a lease that is never
//! renewed loses nothing. Options in overloaded fields are not looked at, which no client sends.

use std::net::{Ipv4Addr, SocketAddr};

use guest::lan;

use super::outbox::{BROADCAST, Outbox};
use super::udp;

/// The server's and the client's port.
pub(super) const SERVER: u16 = 67;
const CLIENT: u16 = 68;

/// Where the fields of a message are (RFC 2131, 2).
mod field {
    pub(super) const FLAGS: usize = 10;
    pub(super) const CIADDR: usize = 12;
    pub(super) const YIADDR: usize = 16;
    pub(super) const SIADDR: usize = 20;
    pub(super) const COOKIE: usize = 236;
    pub(super) const OPTIONS: usize = 240;
}

const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// How much smaller than this no message is: relays and old clients want it (RFC 1542, 2.1).
const LEAST: usize = 300;

/// Options (RFC 2132).
mod option {
    pub(super) const PAD: u8 = 0;
    pub(super) const MASK: u8 = 1;
    pub(super) const ROUTER: u8 = 3;
    pub(super) const DNS: u8 = 6;
    pub(super) const MTU: u8 = 26;
    pub(super) const REQUESTED: u8 = 50;
    pub(super) const LEASE: u8 = 51;
    pub(super) const TYPE: u8 = 53;
    pub(super) const SERVER: u8 = 54;
    pub(super) const END: u8 = 255;
}

/// Types of messages.
mod kind {
    pub(super) const DISCOVER: u8 = 1;
    pub(super) const OFFER: u8 = 2;
    pub(super) const REQUEST: u8 = 3;
    pub(super) const ACK: u8 = 5;
    pub(super) const NAK: u8 = 6;
    pub(super) const INFORM: u8 = 8;
}

/// How long a lease lasts, in seconds.
const LEASE: u32 = 86_400;

/// What a client asks.
struct Question {
    kind: u8,
    requested: Option<Ipv4Addr>,
    server: Option<Ipv4Addr>,
    current: Ipv4Addr,
}

/// Answers a client's message.
pub(super) fn answer(message: &[u8], out: &mut Outbox) {
    let Some(question) = Question::read(message) else {
        return;
    };
    // A client that takes another server's offer speaks to that one.
    if question.server.is_some_and(|server| server != lan::GATEWAY) {
        return;
    }
    match question.kind {
        kind::DISCOVER => reply(message, kind::OFFER, &question, out),
        kind::REQUEST => {
            let wanted = question.requested.unwrap_or(question.current);
            let kind = if wanted == lan::GUEST {
                kind::ACK
            } else {
                kind::NAK
            };
            reply(message, kind, &question, out);
        }
        kind::INFORM => reply(message, kind::ACK, &question, out),
        // What is declined or released is still the only address that there is.
        _ => {}
    }
}

impl Question {
    fn read(message: &[u8]) -> Option<Self> {
        let fixed: &[u8; field::OPTIONS] = message.first_chunk()?;
        // Ethernet, with addresses of six bytes.
        if fixed[..3] != [REQUEST, 1, 6] || fixed[field::COOKIE..] != COOKIE {
            return None;
        }
        let mut question = Self {
            kind: 0,
            requested: None,
            server: None,
            current: address(&fixed[field::CIADDR..])?,
        };
        let mut rest = &message[field::OPTIONS..];
        loop {
            match rest {
                [] | [option::END, ..] => break,
                [option::PAD, tail @ ..] => rest = tail,
                [code, len, tail @ ..] => {
                    let value = tail.get(..usize::from(*len))?;
                    match *code {
                        option::TYPE => question.kind = *value.first()?,
                        option::REQUESTED => question.requested = address(value),
                        option::SERVER => question.server = address(value),
                        _ => {}
                    }
                    rest = &tail[value.len()..];
                }
                [_] => break,
            }
        }
        Some(question)
    }
}

fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    bytes.first_chunk::<4>().map(|it| Ipv4Addr::from(*it))
}

fn reply(message: &[u8], kind: u8, question: &Question, out: &mut Outbox) {
    let mut reply = message[..field::OPTIONS].to_vec();
    reply[0] = REPLY;
    // Neither hops, seconds nor a relay; the server's name and file are nobody's.
    reply[3] = 0;
    reply[8..field::FLAGS].fill(0);
    reply[field::YIADDR..28].fill(0);
    reply[44..field::COOKIE].fill(0);
    let informed = question.kind == kind::INFORM;
    if kind == kind::NAK {
        reply[field::CIADDR..field::YIADDR].fill(0);
    } else if !informed {
        reply[field::YIADDR..field::SIADDR].copy_from_slice(&lan::GUEST.octets());
    }
    let mut put = |code: u8, value: &[u8]| {
        reply.extend_from_slice(&[code, value.len() as u8]);
        reply.extend_from_slice(value);
    };
    put(option::TYPE, &[kind]);
    put(option::SERVER, &lan::GATEWAY.octets());
    if kind != kind::NAK {
        let mask = u32::MAX << (32 - u32::from(lan::PREFIX));
        put(option::MASK, &mask.to_be_bytes());
        put(option::ROUTER, &lan::GATEWAY.octets());
        put(option::DNS, &lan::DNS.octets());
        put(option::MTU, &(out.mtu() as u16).to_be_bytes());
        if !informed {
            put(option::LEASE, &LEASE.to_be_bytes());
        }
    }
    reply.push(option::END);
    reply.resize(reply.len().max(LEAST), option::PAD);
    deliver(message, kind, question, &reply, out);
}

/// A client that has its address hears at it; one that has none yet hears what goes to everybody, or, where it does
/// not ask for that, what goes to its hardware address and the address that is to be its own (RFC 2131, 4.1).
fn deliver(message: &[u8], kind: u8, question: &Question, reply: &[u8], out: &mut Outbox) {
    let to_all = message[field::FLAGS] & 0x80 != 0;
    let from = SocketAddr::from((lan::GATEWAY, SERVER));
    if kind == kind::NAK || to_all && question.current.is_unspecified() {
        let guest = out.guest();
        out.address(BROADCAST);
        udp::reply(from, (Ipv4Addr::BROADCAST, CLIENT).into(), reply, out);
        return out.address(guest);
    }
    let to = if question.current.is_unspecified() {
        lan::GUEST
    } else {
        question.current
    };
    udp::reply(from, (to, CLIENT).into(), reply, out);
}
