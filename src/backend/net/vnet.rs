//! The header that says what is left to be done with a frame: `virtio_net_hdr` (virtio 1.2, 5.1.6), which guests'
//! drivers and Linux's TAP interfaces share. All fields are little-endian.

use super::{Checksum, Ip, Malformed, Offload, Segments};

/// Bytes of the header.
pub const LEN: usize = 10;

/// The most bytes of TCP's header.
pub const TCP_MAX: usize = 60;

/// `flags`.
const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;

/// `gso_type`.
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_ECN: u8 = 0x80;

/// What a header leaves to be done. `hdr_len` is not believed, as 5.1.6.2.2 says.
pub fn read(raw: &[u8; LEN]) -> Result<Offload, Malformed> {
    let word = |at: usize| u16::from_le_bytes([raw[at], raw[at + 1]]);
    let (flags, kind) = (raw[0], raw[1]);
    let checksum = if flags & NEEDS_CSUM != 0 {
        Checksum::Partial {
            start: word(6),
            offset: word(8),
        }
    } else {
        Checksum::Complete
    };
    let ip = match kind & !GSO_ECN {
        GSO_NONE => None,
        GSO_TCPV4 => Some(Ip::V4),
        GSO_TCPV6 => Some(Ip::V6),
        _ => return Err(Malformed),
    };
    let segments = ip.map(|ip| Segments {
        ip,
        size: word(4),
        ecn: kind & GSO_ECN != 0,
    });
    Ok(Offload { checksum, segments })
}

/// The header of a frame of `len` bytes.
pub fn write(offload: Offload, len: usize) -> [u8; LEN] {
    let mut raw = [0; LEN];
    let mut put = |at: usize, value: u16| raw[at..at + 2].copy_from_slice(&value.to_le_bytes());
    let flags = match offload.checksum {
        Checksum::Complete => 0,
        Checksum::Valid => DATA_VALID,
        Checksum::Partial { start, offset } => {
            put(6, start);
            put(8, offset);
            NEEDS_CSUM
        }
    };
    let mut kind = GSO_NONE;
    if let Some(segments) = offload.segments
        && let Checksum::Partial { start, .. } = offload.checksum
    {
        // `hdr_len`: not less than the headers (5.1.6.4.1).
        put(2, (usize::from(start) + TCP_MAX).min(len) as u16);
        put(4, segments.size);
        kind = match segments.ip {
            Ip::V4 => GSO_TCPV4,
            Ip::V6 => GSO_TCPV6,
        };
        kind |= if segments.ecn { GSO_ECN } else { 0 };
    }
    raw[..2].copy_from_slice(&[flags, kind]);
    raw
}
