//! Messages of ICMP (RFC 792, RFC 4443): their checksum, and the answer to an echo.

use std::net::IpAddr;

use super::checksum::Sum;
use super::ip::{Packet, protocol, put};

/// Bytes of an echo message's header: type, code, checksum, identifier, sequence number.
pub(super) const HEADER: usize = 8;
/// Where a message's checksum is.
const CHECKSUM: usize = 2;

/// What differs in the two versions.
#[derive(Clone, Copy)]
pub(super) struct Version {
    /// The type of an echo request.
    pub(super) request: u8,
    /// The type of its reply.
    pub(super) reply: u8,
    /// IP's number of the protocol.
    pub(super) protocol: u8,
}

/// The version that goes with an address.
pub(super) fn version(address: IpAddr) -> Version {
    match address {
        IpAddr::V4(_) => Version {
            request: 8,
            reply: 0,
            protocol: protocol::ICMP,
        },
        IpAddr::V6(_) => Version {
            request: 128,
            reply: 129,
            protocol: protocol::ICMPV6,
        },
    }
}

/// The reply to a message of `from`, if it is an echo request, but for its checksum.
pub(super) fn reply(from: IpAddr, message: &[u8]) -> Option<Vec<u8>> {
    let version = version(from);
    if message.len() < HEADER || message[..2] != [version.request, 0] {
        return None;
    }
    let mut reply = message.to_vec();
    reply[0] = version.reply;
    Some(reply)
}

/// Computes a message's checksum, of at least four bytes. `packet` will carry it: with IPv6 its addresses count.
pub(super) fn complete(packet: &Packet, message: &mut [u8]) {
    put(message, CHECKSUM, 0);
    let mut sum = match packet.source {
        IpAddr::V4(_) => Sum::default(),
        IpAddr::V6(_) => packet.pseudo(message.len()),
    };
    sum.add(message);
    put(message, CHECKSUM, sum.finish());
}
