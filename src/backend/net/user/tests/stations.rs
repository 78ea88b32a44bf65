//! The network's own stations: ARP, discovery, echo and DHCP.

use std::net::{IpAddr, Ipv6Addr};

use guest::lan;

use super::super::udp;
use super::*;
use crate::backend::net::ip::{Packet, protocol, put, word};

fn arp(target: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(MAC);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(MAC);
    frame.extend(lan::GUEST.octets());
    frame.extend([0; 6]);
    frame.extend(target);
    frame
}

#[test]
fn our_addresses_are_resolved_and_no_others() {
    let mut guest = guest(closed());
    for other in [[10, 0, 2, 15], [10, 0, 2, 4], [192, 168, 0, 1]] {
        guest.send(Offload::default(), &arp(other));
    }
    for ours in [[10, 0, 2, 2], [10, 0, 2, 3]] {
        guest.send(Offload::default(), &arp(ours));
        let reply = guest.until(|it| it.frames.pop_front());
        assert_eq!(reply[..6], MAC);
        let mut expected = lan::GATEWAY_MAC.to_vec();
        expected.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
        expected.extend(lan::GATEWAY_MAC);
        expected.extend(ours);
        expected.extend(MAC);
        expected.extend(lan::GUEST.octets());
        assert_eq!(reply[6..], expected);
    }
    assert!(guest.frames.is_empty());
}

fn echo(kind: u8, len: usize) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0x12, 0x34, 0, 1], &pattern(len)[..]].concat()
}

#[test]
fn the_stations_answer_echoes_short_and_long() {
    let mut guest = guest(open());
    let stations: [(IpAddr, u8, u8); 4] = [
        (lan::GATEWAY.into(), protocol::ICMP, 8),
        (lan::DNS.into(), protocol::ICMP, 8),
        (lan::v6::GATEWAY.into(), protocol::ICMPV6, 128),
        (lan::v6::DNS.into(), protocol::ICMPV6, 128),
    ];
    for (station, protocol, kind) in stations {
        for len in [0, 56, 1400, 9000, 60_000] {
            let packet = Packet::new(guest.address(station), station, protocol);
            guest.packet(&packet, &echo(kind, len));
            let (from, reply) = guest.until(|it| it.messages.pop_front());
            assert_eq!(from, station);
            assert_eq!(reply[4..], echo(kind, len)[4..], "{station} {len}");
            assert_eq!(reply[0], if kind == 8 { 0 } else { 129 });
        }
    }
}

fn solicitation(kind: u8, target: Option<Ipv6Addr>) -> Vec<u8> {
    let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.into_iter().flat_map(|it| it.octets()));
    message.extend([1, 1]);
    message.extend(MAC);
    message
}

#[test]
fn neighbours_are_told_of_each_other() {
    let mut guest = guest(closed());
    let group: IpAddr = "ff02::1:ff00:2".parse().unwrap();
    let ask = |guest: &Peer, target: Ipv6Addr, hops: u8, from: IpAddr| {
        let packet = Packet {
            hops,
            ..Packet::new(from, group, protocol::ICMPV6)
        };
        guest.packet(&packet, &solicitation(135, Some(target)));
    };
    let me: IpAddr = lan::v6::GUEST.into();
    // Nobody's, and from another network.
    ask(&guest, lan::v6::GUEST, 255, me);
    ask(&guest, lan::v6::GATEWAY, 254, me);
    for target in [lan::v6::GATEWAY, lan::v6::DNS, lan::v6::ROUTER] {
        ask(&guest, target, 255, me);
        let (from, answer) = guest.until(|it| it.messages.pop_front());
        assert_eq!(from, IpAddr::from(target));
        assert_eq!(answer[..2], [136, 0]);
        assert_eq!(answer[4], 0xe0, "a router that was asked");
        assert_eq!(answer[8..24], target.octets());
        assert_eq!(answer[24..], [&[2, 1][..], &lan::GATEWAY_MAC].concat());
    }
}

#[test]
fn routers_are_there_where_the_host_has_ipv6() {
    let group: IpAddr = "ff02::2".parse().unwrap();
    let me: IpAddr = "fe80::15".parse().unwrap();
    let packet = Packet {
        hops: 255,
        ..Packet::new(me, group, protocol::ICMPV6)
    };
    let mut without = guest(closed());
    without.packet(&packet, &solicitation(133, None));
    without.send(Offload::default(), &arp(lan::GATEWAY.octets()));
    without.until(|it| it.frames.pop_front());
    assert!(without.messages.is_empty());

    let mut with = guest(Config {
        has_v6: true,
        ..closed()
    });
    with.packet(&packet, &solicitation(133, None));
    // One that is told to everybody at the first sign of life, and the answer.
    for _ in 0..2 {
        let (from, answer) = with.until(|it| it.messages.pop_front());
        assert_eq!(from, IpAddr::from(lan::v6::ROUTER));
        assert_eq!(answer[..2], [134, 0]);
        assert_eq!(answer[16..18], [1, 1], "our address");
        assert_eq!(answer[24..32], [5, 1, 0, 0, 0, 0, 0x05, 0xdc], "the MTU");
        assert_eq!(answer[32..36], [3, 4, 64, 0xc0], "the prefix");
        assert_eq!(answer[48..64], lan::v6::NETWORK.octets());
        assert_eq!(answer[64..66], [25, 3], "the name server");
        assert_eq!(answer[72..], lan::v6::DNS.octets());
    }
}

/// A client's message with these options behind its type.
fn dhcp(kind: u8, current: [u8; 4], options: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 240];
    message[..4].copy_from_slice(&[1, 1, 6, 0]);
    message[4..8].copy_from_slice(&[9, 8, 7, 6]);
    message[12..16].copy_from_slice(&current);
    message[28..34].copy_from_slice(&MAC);
    message[236..].copy_from_slice(&[99, 130, 83, 99]);
    message.extend([0, 53, 1, kind]);
    message.extend(options);
    message.push(255);
    message
}

fn send_dhcp(guest: &Peer, message: &[u8]) {
    let from = SocketAddr::from(([0, 0, 0, 0], 68));
    guest.emit(|out| udp::reply(from, ([255; 4], 67).into(), message, out));
}

/// The reply: the guest's address, and the options.
fn reply(guest: &mut Peer) -> ([u8; 4], Vec<(u8, Vec<u8>)>) {
    let (from, port, reply) = guest.until(|it| it.datagrams.pop_front());
    assert_eq!((from, port), ((lan::GATEWAY, 67).into(), 68));
    assert_eq!(reply[..8], [2, 1, 6, 0, 9, 8, 7, 6]);
    assert_eq!(reply[28..34], MAC);
    assert!(reply.len() >= 300);
    let mut options = Vec::new();
    let mut rest = &reply[240..];
    while let [code, len, tail @ ..] = rest
        && *code != 255
    {
        let (value, next) = tail.split_at(usize::from(*len));
        options.push((*code, value.to_vec()));
        rest = next;
    }
    (reply[16..20].try_into().unwrap(), options)
}

fn lease(kind: u8) -> Vec<(u8, Vec<u8>)> {
    let mut options = vec![
        (53, vec![kind]),
        (54, vec![10, 0, 2, 2]),
        (1, vec![255, 255, 255, 0]),
        (3, vec![10, 0, 2, 2]),
        (6, vec![10, 0, 2, 3]),
        (26, vec![0x05, 0xdc]),
    ];
    options.push((51, 86_400_u32.to_be_bytes().to_vec()));
    options
}

const NOBODY: [u8; 4] = [0; 4];
const GUEST: [u8; 4] = [10, 0, 2, 15];

#[test]
fn a_client_gets_its_address_and_keeps_it() {
    let mut guest = guest(closed());
    send_dhcp(&guest, &dhcp(1, NOBODY, &[]));
    assert_eq!(reply(&mut guest), (GUEST, lease(2)));
    let wanted = [50, 4, 10, 0, 2, 15, 54, 4, 10, 0, 2, 2];
    send_dhcp(&guest, &dhcp(3, NOBODY, &wanted));
    assert_eq!(reply(&mut guest), (GUEST, lease(5)));
    // Renewed, without a server's or an address's option.
    send_dhcp(&guest, &dhcp(3, GUEST, &[]));
    assert_eq!(reply(&mut guest), (GUEST, lease(5)));
    // Who has an address already wants the rest.
    send_dhcp(&guest, &dhcp(8, GUEST, &[]));
    assert_eq!(reply(&mut guest), (NOBODY, lease(5)[..6].to_vec()));
}

#[test]
fn clients_that_want_something_else_are_told_no() {
    let mut guest = guest(closed());
    let no = (NOBODY, lease(6)[..2].to_vec());
    for wanted in [[192, 168, 0, 7], [10, 0, 2, 16], [10, 0, 2, 2]] {
        let option = [&[50, 4][..], &wanted].concat();
        send_dhcp(&guest, &dhcp(3, NOBODY, &option));
        assert_eq!(reply(&mut guest), no, "{wanted:?}");
        send_dhcp(&guest, &dhcp(3, wanted, &[]));
        assert_eq!(reply(&mut guest), no, "{wanted:?}");
    }
}

#[test]
fn what_no_client_sends_is_not_answered() {
    let mut guest = guest(closed());
    let other = [50, 4, 10, 0, 2, 15, 54, 4, 10, 0, 2, 4];
    let mut wrong = vec![
        dhcp(3, NOBODY, &other),
        dhcp(4, NOBODY, &[]),
        dhcp(7, GUEST, &[]),
        dhcp(0, NOBODY, &[]),
        dhcp(1, NOBODY, &[12, 200, 1]),
        dhcp(1, NOBODY, &[])[..239].to_vec(),
        Vec::new(),
    ];
    for (at, value) in [(0, 2), (1, 6), (2, 16), (236, 0)] {
        let mut message = dhcp(1, NOBODY, &[]);
        message[at] = value;
        wrong.push(message);
    }
    wrong.iter().for_each(|message| send_dhcp(&guest, message));
    send_dhcp(&guest, &dhcp(1, NOBODY, &[]));
    assert_eq!(reply(&mut guest).1[0], (53, vec![2]));
    assert!(guest.datagrams.is_empty());
}

#[test]
fn broadcasts_are_answered_to_everybody_where_that_is_asked_for() {
    let mut guest = guest(closed());
    let mut message = dhcp(1, NOBODY, &[]);
    put(&mut message, 10, 0x8000);
    send_dhcp(&guest, &message);
    assert_eq!(reply(&mut guest), (GUEST, lease(2)));
    // The network still knows whom it speaks with.
    guest.send(Offload::default(), &arp(lan::GATEWAY.octets()));
    let answer = guest.until(|it| it.frames.pop_front());
    assert_eq!((&answer[..6], word(&answer, 12)), (&MAC[..], 0x0806));
}
