//! The link's frames what the guest's say, and what the launcher's begin with.

use guest::link::{GUEST, LAUNCHER, LAUNCHER_MAC, MAC};

use crate::backend::net::ip::{Header, IPV4, Packet, kind, protocol, word};
use crate::backend::net::tcp::{self, InFrame, Ports, Segment};
use crate::backend::net::{Frame, HEADER, Offload, arp, icmp, segment};

/// The most bytes of an echo that is answered.
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
    match word(head.get(..HEADER)?, HEADER - 2) {
        kind::ARP if ours => resolve(head).map(Incoming::Answered),
        kind::IPV4 if ours => packet(frame),
        _ => None,
    }
}

fn ethernet(kind: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER + IPV4 + tcp::HEADER + 8);
    frame.extend(MAC);
    frame.extend(LAUNCHER_MAC);
    frame.extend(kind.to_be_bytes());
    frame
}

/// The reply to whoever asks for the launcher's hardware address.
fn resolve(head: &[u8]) -> Option<Vec<u8>> {
    let reply = arp::reply(head, LAUNCHER_MAC, |address| address == LAUNCHER)?;
    let mut frame = ethernet(kind::ARP);
    frame.extend(reply);
    Some(frame)
}

/// A packet from guest to launcher, whole.
fn packet<'a>(frame: &'a Frame<'_>) -> Option<Incoming<'a>> {
    let header = Header::read_v4(frame.head, frame.len())?;
    let between = (header.source, header.destination) == (GUEST.into(), LAUNCHER.into());
    if header.fragment.is_some() || !between {
        return None;
    }
    match header.protocol {
        protocol::TCP => {
            let (ports, segment, behind) = Segment::read(frame.head.get(header.data..)?)?;
            let start = header.data + behind;
            let data = InFrame {
                frame,
                start,
                len: header.end.checked_sub(start)?,
            };
            Some(Incoming::Segment(ports, segment, data))
        }
        protocol::ICMP if frame.len() <= ECHO_MAX => {
            let mut bytes = Vec::with_capacity(frame.len());
            frame.copy_to(&mut bytes).ok()?;
            echo(bytes.get(header.data..header.end)?).map(Incoming::Answered)
        }
        _ => None,
    }
}

/// The reply to an echo request.
fn echo(message: &[u8]) -> Option<Vec<u8>> {
    let mut reply = icmp::reply(GUEST.into(), message)?;
    let packet = to_guest(protocol::ICMP);
    icmp::complete(&packet, &mut reply);
    let mut frame = begin(&packet, reply.len());
    frame.extend(reply);
    Some(frame)
}

fn to_guest(protocol: u8) -> Packet {
    Packet::new(LAUNCHER.into(), GUEST.into(), protocol)
}

/// The headers of a packet with `len` bytes of data, which is never fragmented.
fn begin(packet: &Packet, len: usize) -> Vec<u8> {
    let mut frame = ethernet(packet.kind());
    packet.header(&mut frame, len, None, None);
    frame
}

/// The headers of a segment with `len` bytes of data, and what is left to be done with it. Where it has more data than
/// `mss`, it is to be cut.
pub(super) fn segment(ports: Ports, segment: &Segment, len: usize, mss: u16) -> (Vec<u8>, Offload) {
    let packet = to_guest(protocol::TCP);
    let header = segment::header(&packet, ports, segment, len);
    let mut head = begin(&packet, header.len() + len);
    let offload = segment::offload(&packet, head.len(), len, mss);
    head.extend(header);
    (head, offload)
}
