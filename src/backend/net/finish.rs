//! What a receiver does not do with an unfinished frame, done in software.
//!
//! A segment of TCP that is too long is cut as RFC 9293 has its sender do it: sequence numbers go on, PSH and FIN stay
//! with the last, CWR with the first (RFC 3168, 6.1.2), and IPv4's identification counts. Every length and checksum is
//! computed anew, so that nothing of what a guest has put there is believed.

use hvf_sys::file::Piece;
use hvf_sys::ram::OutsideRam;

use super::checksum::Sum;
use super::headers::TcpHeaders;
use super::ip::IPV6;
use super::{Checksum, Frame, Ip, Offload, Offloads, Segments};

/// A frame that is not what its offload says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl From<OutsideRam> for Malformed {
    fn from(_: OutsideRam) -> Self {
        Self
    }
}

/// The least data in a segment. No sender has less: 48 bytes with room for 40 of options. Smaller ones would only
/// turn one frame into thousands.
const SEGMENT_MIN: u16 = 8;

/// TCP's flags, in the byte behind the data offset.
mod flag {
    pub(super) const FIN: u8 = 0x01;
    pub(super) const PSH: u8 = 0x08;
    pub(super) const CWR: u8 = 0x80;
}

/// Offsets in headers.
mod field {
    pub(super) const IPV4_LEN: usize = 2;
    pub(super) const IPV4_ID: usize = 4;
    pub(super) const IPV4_SUM: usize = 10;
    pub(super) const IPV4_ADDRESSES: usize = 12;
    pub(super) const IPV6_LEN: usize = 4;
    pub(super) const IPV6_ADDRESSES: usize = 8;
    pub(super) const TCP_SEQUENCE: usize = 4;
    pub(super) const TCP_FLAGS: usize = 13;
    pub(super) const TCP_SUM: usize = 16;
}

const TCP: u8 = 6;

impl Offload {
    /// Checks that a frame of `len` bytes that begins with `head` can be what this says. Whoever gets such a frame
    /// finds all its headers in `head`.
    pub fn check(&self, head: &[u8], len: usize) -> Result<(), Malformed> {
        let Checksum::Partial { start, offset } = self.checksum else {
            return self.segments.map_or(Ok(()), |_| Err(Malformed));
        };
        let (start, offset) = (usize::from(start), usize::from(offset));
        let field_end = start + offset + 2;
        if start < super::HEADER || field_end > head.len() || head.len() > len {
            return Err(Malformed);
        }
        let Some(Segments { ip, size, .. }) = self.segments else {
            return Ok(());
        };
        let headers = TcpHeaders::find(head).ok_or(Malformed)?;
        let is_there = headers.version == ip && headers.tcp == start && offset == field::TCP_SUM;
        // The length that IP gives a segment must have room for it.
        let most = headers.data - headers.ip + usize::from(size).min(len - headers.data);
        if is_there && size >= SEGMENT_MIN && most <= usize::from(u16::MAX) {
            Ok(())
        } else {
            Err(Malformed)
        }
    }
}

/// Does with a frame what a receiver that does no more than `does` leaves undone, and gives the outcome to `emit`: one
/// frame, or several segments.
pub fn finish(
    frame: &Frame<'_>,
    does: Offloads,
    emit: &mut dyn FnMut(&Frame<'_>),
) -> Result<(), Malformed> {
    if does.contains(frame.offload.needs()) {
        emit(frame);
        return Ok(());
    }
    frame.offload.check(frame.head, frame.len())?;
    match (frame.offload.segments, frame.offload.checksum) {
        (Some(segments), _) => cut(frame, segments, emit),
        (None, Checksum::Partial { start, offset }) => {
            complete(frame, start.into(), offset.into(), emit)
        }
        (None, _) => Err(Malformed),
    }
}

/// Completes a checksum. The sum that comes out as zero is written as its other form, since zero means none in UDP.
fn complete(
    frame: &Frame<'_>,
    start: usize,
    offset: usize,
    emit: &mut dyn FnMut(&Frame<'_>),
) -> Result<(), Malformed> {
    let mut head = frame.head.to_vec();
    let mut sum = Sum::default();
    sum.add(&head[start..]);
    sum.add_ram(frame.ram, frame.body)?;
    put(&mut head, start + offset, nonzero(sum.finish()));
    emit(&Frame {
        offload: Offload::default(),
        head: &head,
        ..*frame
    });
    Ok(())
}

/// Cuts a segment of TCP.
fn cut(
    frame: &Frame<'_>,
    segments: Segments,
    emit: &mut dyn FnMut(&Frame<'_>),
) -> Result<(), Malformed> {
    let headers = TcpHeaders::find(frame.head).ok_or(Malformed)?;
    let (template, data) = frame.head.split_at(headers.data);
    let mut rest = Data {
        bytes: data,
        pieces: frame.body.iter(),
        piece: Piece { gpa: 0, len: 0 },
    };
    let total = frame.len() - headers.data;
    let size = usize::from(segments.size);
    let count = total.div_ceil(size).max(1);
    let (mut head, mut body) = (Vec::new(), Vec::new());
    for index in 0..count {
        let done = index * size;
        let len = size.min(total - done);
        head.clear();
        head.extend_from_slice(template);
        body.clear();
        rest.take(len, &mut head, &mut body);
        let place = Place {
            index,
            done,
            last: index + 1 == count,
        };
        headers.renew(&mut head, len, place);
        let mut sum = headers.pseudo(&head, len);
        sum.add(&head[headers.tcp..]);
        sum.add_ram(frame.ram, &body)?;
        put(
            &mut head,
            headers.tcp + field::TCP_SUM,
            nonzero(sum.finish()),
        );
        emit(&Frame {
            offload: Offload::default(),
            head: &head,
            body: &body,
            ram: frame.ram,
        });
    }
    Ok(())
}

/// Which segment of a frame's.
struct Place {
    index: usize,
    /// Bytes of data before it.
    done: usize,
    last: bool,
}

impl TcpHeaders {
    /// Makes the headers those of a segment with `len` bytes of data; TCP's checksum is zero.
    fn renew(&self, head: &mut [u8], len: usize, place: Place) {
        let (ip, tcp) = (self.ip, self.tcp);
        let ip_len = self.data - ip + len;
        match self.version {
            Ip::V4 => {
                put(head, ip + field::IPV4_LEN, ip_len as u16);
                let id = get(head, ip + field::IPV4_ID);
                put(
                    head,
                    ip + field::IPV4_ID,
                    id.wrapping_add(place.index as u16),
                );
                put(head, ip + field::IPV4_SUM, 0);
                let mut sum = Sum::default();
                sum.add(&head[ip..tcp]);
                put(head, ip + field::IPV4_SUM, sum.finish());
            }
            Ip::V6 => put(head, ip + field::IPV6_LEN, (ip_len - IPV6) as u16),
        }
        let at = tcp + field::TCP_SEQUENCE;
        let sequence = u32::from(get(head, at)) << 16 | u32::from(get(head, at + 2));
        let sequence = sequence.wrapping_add(place.done as u32);
        head[at..at + 4].copy_from_slice(&sequence.to_be_bytes());
        if !place.last {
            head[tcp + field::TCP_FLAGS] &= !(flag::FIN | flag::PSH);
        }
        if place.index > 0 {
            head[tcp + field::TCP_FLAGS] &= !flag::CWR;
        }
        put(head, tcp + field::TCP_SUM, 0);
    }

    /// The sum of the pseudo header (RFC 9293, 3.1; RFC 8200, 8.1).
    fn pseudo(&self, head: &[u8], len: usize) -> Sum {
        let (at, size) = match self.version {
            Ip::V4 => (self.ip + field::IPV4_ADDRESSES, 8),
            Ip::V6 => (self.ip + field::IPV6_ADDRESSES, 32),
        };
        let mut sum = Sum::default();
        sum.add(&head[at..at + size]);
        sum.add(&((self.data - self.tcp + len) as u32).to_be_bytes());
        sum.add(&[0, TCP]);
        sum
    }
}

/// Data that is being handed out: some bytes, then guest memory.
struct Data<'a> {
    bytes: &'a [u8],
    pieces: std::slice::Iter<'a, Piece>,
    piece: Piece,
}

impl Data<'_> {
    /// Moves the next `len` bytes, of which there are as many, to the end of `head` and to `body`.
    fn take(&mut self, len: usize, head: &mut Vec<u8>, body: &mut Vec<Piece>) {
        let here;
        (here, self.bytes) = self.bytes.split_at(len.min(self.bytes.len()));
        head.extend_from_slice(here);
        let mut left = (len - here.len()) as u64;
        while left > 0 {
            if self.piece.len == 0 {
                match self.pieces.next() {
                    Some(piece) => self.piece = *piece,
                    None => return,
                }
            }
            let len = left.min(self.piece.len);
            let gpa = self.piece.gpa;
            if len > 0 {
                body.push(Piece { gpa, len });
            }
            self.piece = Piece {
                gpa: gpa + len,
                len: self.piece.len - len,
            };
            left -= len;
        }
    }
}

fn nonzero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

fn get(head: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([head[at], head[at + 1]])
}

fn put(head: &mut [u8], at: usize, value: u16) {
    head[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
