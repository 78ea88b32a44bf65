//! A segment of TCP in its packet: its header, and what whoever finishes the frame has to do.

use std::net::IpAddr;

use super::ip::{Packet, put};
use super::tcp::{self, Ports, Segment};
use super::{Checksum, Ip, Offload, Segments};

/// A segment's header, behind which there will be `len` bytes of data. Its checksum is the pseudo header's sum, which one
/// that is left to others begins with.
pub(super) fn header(packet: &Packet, ports: Ports, segment: &Segment, len: usize) -> Vec<u8> {
    let mut header = Vec::with_capacity(tcp::HEADER + 8);
    segment.write(ports, &mut header);
    let sum = !packet.pseudo(header.len() + len).finish();
    put(&mut header, tcp::CHECKSUM, sum);
    header
}

/// What is left to be done with a segment of `len` bytes of data that begins at byte `start` of its frame. One with more
/// than `mss` is to be cut.
pub(super) fn offload(packet: &Packet, start: usize, len: usize, mss: u16) -> Offload {
    let ip = match packet.source {
        IpAddr::V4(_) => Ip::V4,
        IpAddr::V6(_) => Ip::V6,
    };
    Offload {
        checksum: Checksum::Partial {
            start: start as u16,
            offset: tcp::CHECKSUM as u16,
        },
        segments: (len > usize::from(mss)).then_some(Segments {
            ip,
            size: mss,
            ecn: false,
        }),
    }
}
