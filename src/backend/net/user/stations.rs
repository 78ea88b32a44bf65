//! Address resolution: ARP (RFC 826), and neighbour and router discovery (RFC 4861), for the network's two stations.
//!
//! Nobody is asked for the guest's address: every frame of its own tells it. Only who has sent nothing yet, and has a
//! published port, is asked.

use std::net::{IpAddr, Ipv6Addr};

use guest::lan;

use super::outbox::{BROADCAST, Outbox};
use crate::backend::net::ip::{self, Header, Packet, kind, protocol};
use crate::backend::net::{HEADER, Offload, arp, icmp};

/// Answers a request for one of our addresses.
pub(super) fn resolve(frame: &[u8], out: &mut Outbox) {
    let is_ours = |address| matches!(address, lan::GATEWAY | lan::DNS);
    if let Some(reply) = arp::reply(frame, lan::GATEWAY_MAC, is_ours) {
        let mut frame = Vec::with_capacity(HEADER + arp::LEN);
        out.ethernet(&mut frame, kind::ARP);
        frame.extend_from_slice(&reply);
        out.push(Offload::default(), frame);
    }
}

/// Asks the guest for its hardware address.
pub(super) fn ask(out: &mut Outbox) {
    let mut frame = Vec::with_capacity(HEADER + arp::LEN);
    frame.extend_from_slice(&BROADCAST);
    frame.extend_from_slice(&lan::GATEWAY_MAC);
    frame.extend_from_slice(&kind::ARP.to_be_bytes());
    frame.extend_from_slice(&arp::request(lan::GATEWAY_MAC, lan::GATEWAY, lan::GUEST));
    out.push(Offload::default(), frame);
}

/// Types of ICMPv6 (RFC 4861, 4).
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// Options (RFC 4861, 4.6; RFC 8106, 5.1).
mod option {
    pub(super) const SOURCE: u8 = 1;
    pub(super) const TARGET: u8 = 2;
    pub(super) const PREFIX: u8 = 3;
    pub(super) const MTU: u8 = 5;
    pub(super) const DNS: u8 = 25;
}

/// What whoever does discovery has as hop limit: it comes from the same link.
const LOCAL: u8 = 255;
/// Everybody on the link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// How long a router is one, in seconds, and for how long its prefix and name server are good.
const ROUTER_LIFETIME: u16 = 9000;
const LIFETIME: u32 = 86_400;

/// Answers a message of ICMPv6 that is about discovery. Whether it was one.
pub(super) fn neighbour(header: &Header, message: &[u8], has_v6: bool, out: &mut Outbox) -> bool {
    let IpAddr::V6(source) = header.source else {
        return false;
    };
    match message.first() {
        Some(&ROUTER_SOLICITATION) if has_v6 && header.hops == LOCAL => advertise(source, out),
        Some(&NEIGHBOUR_SOLICITATION) if header.hops == LOCAL => solicited(source, message, out),
        Some(&(ROUTER_SOLICITATION..=NEIGHBOUR_ADVERTISEMENT)) => {}
        _ => return false,
    }
    true
}

/// Tells who has an address, if we have it.
fn solicited(source: Ipv6Addr, message: &[u8], out: &mut Outbox) {
    let Some(target) = message.get(8..24).and_then(|it| it.first_chunk::<16>()) else {
        return;
    };
    let target = Ipv6Addr::from(*target);
    if !matches!(target, lan::v6::GATEWAY | lan::v6::DNS | lan::v6::ROUTER) {
        return;
    }
    // Who asks without an address of its own is about to take one, and is answered with everybody (7.2.4).
    let (to, flags) = if source.is_unspecified() {
        (ALL_NODES, 0xa0)
    } else {
        (source, 0xe0)
    };
    let mut answer = vec![NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0];
    answer.extend_from_slice(&target.octets());
    answer.extend_from_slice(&[option::TARGET, 1]);
    answer.extend_from_slice(&lan::GATEWAY_MAC);
    send(target, to, &mut answer, out);
}

/// Tells of ourselves as a router, of the prefix and the name server.
pub(super) fn advertise(source: Ipv6Addr, out: &mut Outbox) {
    let to = if source.is_unspecified() {
        ALL_NODES
    } else {
        source
    };
    let mut answer = vec![ROUTER_ADVERTISEMENT, 0, 0, 0, ip::HOPS, 0];
    answer.extend_from_slice(&ROUTER_LIFETIME.to_be_bytes());
    // Neither reachable time nor retransmission timer is ours to say.
    answer.extend_from_slice(&[0; 8]);
    answer.extend_from_slice(&[option::SOURCE, 1]);
    answer.extend_from_slice(&lan::GATEWAY_MAC);
    answer.extend_from_slice(&[option::MTU, 1, 0, 0]);
    answer.extend_from_slice(&(out.mtu() as u32).to_be_bytes());
    // On this link, and good for addresses of one's own making.
    answer.extend_from_slice(&[option::PREFIX, 4, lan::v6::PREFIX, 0xc0]);
    answer.extend_from_slice(&LIFETIME.to_be_bytes());
    answer.extend_from_slice(&LIFETIME.to_be_bytes());
    answer.extend_from_slice(&[0; 4]);
    answer.extend_from_slice(&lan::v6::NETWORK.octets());
    answer.extend_from_slice(&[option::DNS, 3, 0, 0]);
    answer.extend_from_slice(&LIFETIME.to_be_bytes());
    answer.extend_from_slice(&lan::v6::DNS.octets());
    send(lan::v6::ROUTER, to, &mut answer, out);
}

fn send(from: Ipv6Addr, to: Ipv6Addr, message: &mut [u8], out: &mut Outbox) {
    let packet = Packet {
        hops: LOCAL,
        ..Packet::new(from.into(), to.into(), protocol::ICMPV6)
    };
    icmp::complete(&packet, message);
    out.send(&packet, message, None);
}
