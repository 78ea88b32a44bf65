//! The link's frames (RFC 826, RFC 791, RFC 792): what the guest's say, and what the launcher's begin with.

use guest::link::{GUEST, LAUNCHER, LAUNCHER_MAC, MAC};

use crate::backend::net::checksum::Sum;
use crate::backend::net::user::tcp::{self, InFrame, Ports, Segment};
use crate::backend::net::{Checksum, Frame, HEADER, Ip, Offload, Segments};

/// EtherTypes.
const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;

/// ARP over Ethernet for IPv4, a request and a reply.
const ARP_REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
const ARP_REPLY: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 2];
/// Bytes of such a packet.
const ARP_LEN: usize = 28;

/// Bytes of IPv4's header as we write it.
pub(super) const IP: usize = 20;
/// Protocols of IPv4.
const ICMP: u8 = 1;
const TCP: u8 = 6;
/// IPv4: not to be fragmented.
const DF: u8 = 0x40;
/// How long a packet lives.
const TTL: u8 = 64;

/// The types of an echo request and its reply, and the most bytes of one that is answered.
const ECHO: u8 = 8;
const ECHO_REPLY: u8 = 0;
const ECHO_MAX: usize = 9000;

/// What a frame of the guest's is.
pub(super) enum Incoming<'a> {
    /// Something that is answered with this frame.
    Answered(Vec<u8>),
    /// A segment for a port.
    Segment(Ports, Segment, InFrame<'a>),
}

/// Reads a frame. None where it is nothing to us.
pub(super) fn read<'a>(frame: &'a Frame<'_>) -> Option<Incoming<'a>> {
    let head = frame.head;
    let ours = head.starts_with(&LAUNCHER_MAC) || head.starts_with(&[0xff; 6]);
    match word(head, 12)? {
        ARP if ours => arp(head).map(Incoming::Answered),
        IPV4 if ours => ip(frame),
        _ => None,
    }
}

fn ethernet(kind: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER + IP + tcp::HEADER + 8);
    frame.extend(MAC);
    frame.extend(LAUNCHER_MAC);
    frame.extend(kind.to_be_bytes());
    frame
}

/// The reply to whoever asks for the launcher's hardware address.
fn arp(head: &[u8]) -> Option<Vec<u8>> {
    let packet = head.get(HEADER..HEADER + ARP_LEN)?;
    if packet[..8] != ARP_REQUEST || packet[24..28] != LAUNCHER.octets() {
        return None;
    }
    let mut reply = ethernet(ARP);
    reply.extend(ARP_REPLY);
    reply.extend(LAUNCHER_MAC);
    reply.extend(LAUNCHER.octets());
    reply.extend(&packet[8..18]);
    Some(reply)
}

/// A packet from guest to launcher, whole, and no longer than its frame.
fn ip<'a>(frame: &'a Frame<'_>) -> Option<Incoming<'a>> {
    let packet = frame.head.get(HEADER..)?;
    let fixed: &[u8; IP] = packet.first_chunk()?;
    let header = 4 * usize::from(fixed[0] & 0xf);
    let len = usize::from(word(fixed, 2)?);
    let fragment = word(fixed, 6)? & 0x3fff != 0;
    let between = fixed[12..16] == GUEST.octets() && fixed[16..] == LAUNCHER.octets();
    let fits = header >= IP && header <= len && HEADER + len <= frame.len();
    if fixed[0] >> 4 != 4 || fragment || !between || !fits {
        return None;
    }
    match fixed[9] {
        TCP => {
            let (ports, segment, behind) = Segment::read(packet.get(header..)?)?;
            let data = InFrame {
                frame,
                start: HEADER + header + behind,
                len: len.checked_sub(header + behind)?,
            };
            Some(Incoming::Segment(ports, segment, data))
        }
        ICMP if frame.len() <= ECHO_MAX => {
            let mut bytes = Vec::with_capacity(frame.len());
            frame.copy_to(&mut bytes).ok()?;
            echo(bytes.get(HEADER + header..HEADER + len)?).map(Incoming::Answered)
        }
        _ => None,
    }
}

/// The reply to an echo request.
fn echo(message: &[u8]) -> Option<Vec<u8>> {
    if message.len() < 8 || message[..2] != [ECHO, 0] {
        return None;
    }
    let mut reply = packet(ICMP, message.len());
    let start = reply.len();
    reply.extend([ECHO_REPLY, 0, 0, 0]);
    reply.extend(&message[4..]);
    let mut sum = Sum::default();
    sum.add(&reply[start..]);
    reply[start + 2..start + 4].copy_from_slice(&sum.finish().to_be_bytes());
    Some(reply)
}

/// The headers of a packet with `len` bytes of data. It is never fragmented, so that it needs no number (RFC 6864, 4.1).
fn packet(protocol: u8, len: usize) -> Vec<u8> {
    let mut frame = ethernet(IPV4);
    frame.extend([0x45, 0]);
    frame.extend(((IP + len) as u16).to_be_bytes());
    frame.extend([0, 0, DF, 0, TTL, protocol, 0, 0]);
    frame.extend(LAUNCHER.octets());
    frame.extend(GUEST.octets());
    let mut sum = Sum::default();
    sum.add(&frame[HEADER..]);
    frame[HEADER + 10..HEADER + 12].copy_from_slice(&sum.finish().to_be_bytes());
    frame
}

/// The headers of a segment with `len` bytes of data, and what is left to be done with it. Where it has more data than
/// `mss`, it is to be cut.
pub(super) fn segment(ports: Ports, segment: &Segment, len: usize, mss: u16) -> (Vec<u8>, Offload) {
    let options = 4 * usize::from(segment.mss.is_some()) + 4 * usize::from(segment.scale.is_some());
    let behind = tcp::HEADER + options + len;
    let mut head = packet(TCP, behind);
    let start = head.len();
    segment.write(ports, &mut head);
    let mut sum = Sum::default();
    sum.add(&LAUNCHER.octets());
    sum.add(&GUEST.octets());
    sum.add(&(behind as u32).to_be_bytes());
    sum.add(&[0, TCP]);
    // The sum of the pseudo header, not its complement, is what a checksum that is left to others begins with.
    let at = start + tcp::CHECKSUM;
    head[at..at + 2].copy_from_slice(&(!sum.finish()).to_be_bytes());
    let offload = Offload {
        checksum: Checksum::Partial {
            start: start as u16,
            offset: tcp::CHECKSUM as u16,
        },
        segments: (len > usize::from(mss)).then_some(Segments {
            ip: Ip::V4,
            size: mss,
            ecn: false,
        }),
    };
    (head, offload)
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}
