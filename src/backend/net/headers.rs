//! Where the headers of a TCP segment are in a frame (IEEE 802.1Q, RFC 791, RFC 8200, RFC 9293).

use super::ip::{EXTENSIONS_MAX, IPV4, IPV6, kind, protocol};
use super::{HEADER, Ip};

/// The EtherTypes of VLAN tags.
const VLAN: [u16; 2] = [0x8100, 0x88a8];
/// Bytes of TCP's header without options.
const TCP: usize = 20;

/// Offsets from a frame's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TcpHeaders {
    pub(super) version: Ip,
    /// Where IP begins.
    pub(super) ip: usize,
    /// Where TCP begins.
    pub(super) tcp: usize,
    /// Where data begins.
    pub(super) data: usize,
}

impl TcpHeaders {
    /// Finds the headers of a segment that `head` holds all of.
    pub(super) fn find(head: &[u8]) -> Option<Self> {
        let mut ip = HEADER;
        let mut kind = word(head, HEADER - 2)?;
        for _ in 0..2 {
            if VLAN.contains(&kind) {
                kind = word(head, ip + 2)?;
                ip += 4;
            }
        }
        let (version, tcp) = match kind {
            kind::IPV4 => (Ip::V4, behind_ipv4(head, ip)?),
            kind::IPV6 => (Ip::V6, behind_ipv6(head, ip)?),
            _ => return None,
        };
        let words = usize::from(head.get(tcp + 12)? >> 4);
        let data = tcp + 4 * words;
        let whole = 4 * words >= TCP && data <= head.len();
        whole.then_some(Self {
            version,
            ip,
            tcp,
            data,
        })
    }
}

/// Where TCP begins behind an IPv4 header that is no fragment's.
fn behind_ipv4(head: &[u8], ip: usize) -> Option<usize> {
    let first = head.get(ip)?;
    let len = 4 * usize::from(first & 0xf);
    let fragment = word(head, ip + 6)? & 0x3fff != 0;
    let tcp = *head.get(ip + 9)? == protocol::TCP;
    (first >> 4 == 4 && len >= IPV4 && tcp && !fragment).then_some(ip + len)
}

/// Where TCP begins behind an IPv6 header and extensions that leave the packet whole.
fn behind_ipv6(head: &[u8], ip: usize) -> Option<usize> {
    if head.get(ip)? >> 4 != 6 {
        return None;
    }
    let (mut next, mut at) = (*head.get(ip + 6)?, ip + IPV6);
    for _ in 0..EXTENSIONS_MAX {
        match next {
            protocol::TCP => return Some(at),
            protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION => {
                next = *head.get(at)?;
                at += 8 * (1 + usize::from(*head.get(at + 1)?));
            }
            _ => return None,
        }
    }
    None
}

fn word(head: &[u8], at: usize) -> Option<u16> {
    let bytes = head.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}
