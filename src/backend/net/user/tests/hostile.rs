//! Frames that no honest guest sends.

use proptest::prelude::*;

use super::*;
use crate::backend::net::ip::{Header, Packet, protocol, put};

/// Addresses that lead nowhere but to the network itself.
const ADDRESSES: [[u8; 4]; 6] = [
    [10, 0, 2, 2],
    [10, 0, 2, 3],
    [10, 0, 2, 15],
    [127, 0, 0, 1],
    [255, 255, 255, 255],
    [0, 0, 0, 0],
];

/// A frame of an EtherType with any bytes behind it, of which those that lead outside are led back.
fn frame(kind: u16, bytes: &[u8], from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
    let mut frame = guest::lan::GATEWAY_MAC.to_vec();
    frame.extend(MAC);
    frame.extend(kind.to_be_bytes());
    frame.extend(bytes);
    match kind {
        0x0800 if frame.len() >= 34 => {
            frame[26..30].copy_from_slice(&from);
            frame[30..34].copy_from_slice(&to);
        }
        // A network without IPv6 leads nowhere with it.
        0x86dd if frame.len() >= 54 && from[3] != 0 => {
            frame[22..38].copy_from_slice(&guest::lan::v6::GUEST.octets());
            frame[38..54].copy_from_slice(&guest::lan::v6::GATEWAY.octets());
        }
        _ => {}
    }
    frame
}

proptest! {
    #[test]
    fn headers_of_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), len in 0_usize..70_000) {
        let len = len.max(bytes.len());
        for header in [Header::read_v4(&bytes, len), Header::read_v6(&bytes, len)].into_iter().flatten() {
            prop_assert!(header.data <= header.end && header.end <= len);
        }
    }

    #[test]
    fn any_frames_at_all(
        frames in prop::collection::vec(
            (
                prop::sample::select(vec![0x0800_u16, 0x0800, 0x0806, 0x86dd, 0x8100]),
                prop::collection::vec(any::<u8>(), 0..200),
                prop::sample::select(ADDRESSES.to_vec()), prop::sample::select(ADDRESSES.to_vec()),
                // What makes sense of it: version and header length, protocol, fragmentation, lengths.
                (0_u8..4, prop::sample::select(vec![1_u8, 6, 17, 58, 44, 0]), any::<bool>(), any::<bool>()),
            ),
            1..40,
        ),
    ) {
        let mut guest = guest(closed());
        for (kind, mut bytes, from, to, (version, protocol, whole, fits)) in frames {
            if bytes.len() >= 40 {
                match version {
                    0 => bytes[0] = 0x45,
                    1 => bytes[0] = 0x46,
                    2 => bytes[0] = 0x60,
                    _ => {}
                }
                let (at, len) = if kind == 0x86dd { (6, bytes.len() - 40) } else { (9, bytes.len()) };
                bytes[at] = protocol;
                if fits {
                    put(&mut bytes, if kind == 0x86dd { 4 } else { 2 }, len as u16);
                }
                if whole && kind == 0x0800 {
                    put(&mut bytes, 6, 0);
                    // UDP's length.
                    put(&mut bytes, 24, (len - 20) as u16);
                }
            }
            guest.send(Offload::default(), &frame(kind, &bytes, from, to));
        }
        guest.turn();
        // It still answers.
        let packet = Packet::new(guest::lan::GUEST.into(), guest::lan::GATEWAY.into(), protocol::ICMP);
        guest.packet(&packet, &[8, 0, 0, 0, 0xab, 0xcd, 0xef, 0x01]);
        guest.until(|it| {
            let answered = it.messages.iter().any(|(_, message)| message.ends_with(&[0xab, 0xcd, 0xef, 0x01]));
            answered.then_some(())
        });
    }
}

#[test]
fn a_guest_that_takes_nothing_fills_no_memory() {
    let mut guest = guest(closed());
    guest.deaf = true;
    let packet = Packet::new(
        guest::lan::GUEST.into(),
        guest::lan::GATEWAY.into(),
        protocol::ICMP,
    );
    let message = [&[8, 0, 0, 0, 0, 1, 0, 1][..], &pattern(1400)].concat();
    for _ in 0..5000 {
        guest.packet(&packet, &message);
    }
    let dropped = guest.net.shared.inside().stack.out.dropped();
    assert!(dropped > 3000, "{dropped}");
    guest.deaf = false;
    guest.until(|it| (!it.messages.is_empty()).then_some(()));
}

#[test]
fn frames_for_others_are_nobody_s() {
    let mut guest = guest(closed());
    let request = |to: [u8; 6], from: [u8; 6], id: u8| {
        let packet = Packet::new(
            guest::lan::GUEST.into(),
            guest::lan::GATEWAY.into(),
            protocol::ICMP,
        );
        let bytes = packet.bytes(&[8, 0, 0, 0, 0, id, 0, 1]);
        [&to[..], &from, &[8, 0], &bytes].concat()
    };
    let ours = guest::lan::GATEWAY_MAC;
    // To another station; from a group's address, which is answered at the last one known.
    guest.send(Offload::default(), &request([2, 9, 9, 9, 9, 9], MAC, 1));
    guest.send(Offload::default(), &request(ours, [0xff; 6], 2));
    guest.send(Offload::default(), &request(ours, MAC, 3));
    for id in [2, 3] {
        let (_, reply) = guest.until(|it| it.messages.pop_front());
        assert_eq!(reply[4..6], [0, id]);
    }
}
