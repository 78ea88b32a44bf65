//! Frames as tests make and judge them: written apart from the code that they test.

use super::{Checksum, Ip, Offload, Segments};

/// What tests say about a frame of TCP or UDP.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) ip: Ip,
    pub(crate) udp: bool,
    /// How many VLAN tags.
    pub(crate) tags: usize,
    /// Words of IPv4 options, or extension headers of eight bytes.
    pub(crate) extras: usize,
    /// Words of TCP options.
    pub(crate) options: usize,
    pub(crate) flags: u8,
    pub(crate) sequence: u32,
    pub(crate) id: u16,
    pub(crate) data: Vec<u8>,
}

impl Sample {
    pub(crate) fn tcp(ip: Ip, data: Vec<u8>) -> Self {
        Self {
            ip,
            udp: false,
            tags: 0,
            extras: 0,
            options: 3,
            flags: 0x18,
            sequence: 0xffff_f000,
            id: 0xfffe,
            data,
        }
    }

    pub(crate) fn udp(ip: Ip, data: Vec<u8>) -> Self {
        Self {
            udp: true,
            ..Self::tcp(ip, data)
        }
    }

    /// Where TCP or UDP begins.
    pub(crate) fn start(&self) -> usize {
        let ip = match self.ip {
            Ip::V4 => 20 + 4 * self.extras,
            Ip::V6 => 40 + 8 * self.extras,
        };
        14 + 4 * self.tags + ip
    }

    fn transport_len(&self) -> usize {
        if self.udp { 8 } else { 20 + 4 * self.options }
    }

    /// Where data begins.
    pub(crate) fn data_start(&self) -> usize {
        self.start() + self.transport_len()
    }

    /// The frame, its checksum left at the sum of the pseudo header.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut b = vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2];
        for tag in 0..self.tags {
            let kind = if tag == 0 && self.tags == 2 {
                0x88a8_u16
            } else {
                0x8100
            };
            b.extend(kind.to_be_bytes());
            b.extend([0, 7]);
        }
        let (proto, len) = (
            if self.udp { 17 } else { 6 },
            self.transport_len() + self.data.len(),
        );
        let addresses: Vec<u8> = match self.ip {
            Ip::V4 => vec![10, 0, 2, 15, 192, 168, 255, 1],
            Ip::V6 => (0..32)
                .map(|i| if i % 16 == 0 { 0xfd } else { i * 7 })
                .collect(),
        };
        match self.ip {
            Ip::V4 => {
                b.extend([8, 0, 0x45 + self.extras as u8, 0]);
                b.extend(((20 + 4 * self.extras + len) as u16).to_be_bytes());
                b.extend(self.id.to_be_bytes());
                b.extend([0x40, 0, 64, proto, 0, 0]);
                b.extend(&addresses);
                b.extend(vec![1; 4 * self.extras]);
            }
            Ip::V6 => {
                b.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                b.extend(((8 * self.extras + len) as u16).to_be_bytes());
                b.extend([if self.extras > 0 { 60 } else { proto }, 64]);
                b.extend(&addresses);
                for left in (0..self.extras).rev() {
                    b.extend([if left > 0 { 60 } else { proto }, 0, 1, 4, 0, 0, 0, 0]);
                }
            }
        }
        let pseudo = [&addresses[..], &(len as u32).to_be_bytes(), &[0, proto]].concat();
        let sum = plain_sum(&pseudo).to_be_bytes();
        b.extend([0x9c, 0x40, 0, 80]);
        if self.udp {
            b.extend((len as u16).to_be_bytes());
            b.extend(sum);
        } else {
            b.extend(self.sequence.to_be_bytes());
            b.extend([
                0,
                0,
                0,
                9,
                (5 + self.options as u8) << 4,
                self.flags,
                0x20,
                0,
            ]);
            b.extend(sum);
            b.extend([0, 0]);
            b.extend(vec![1; 4 * self.options]);
        }
        b.extend(&self.data);
        b
    }

    /// What says that the checksum is still to be computed.
    pub(crate) fn partial(&self) -> Offload {
        Offload {
            checksum: Checksum::Partial {
                start: self.start() as u16,
                offset: if self.udp { 6 } else { 16 },
            },
            segments: None,
        }
    }

    /// What says that it is to be cut.
    pub(crate) fn cut(&self, size: u16) -> Offload {
        let segments = Segments {
            ip: self.ip,
            size,
            ecn: self.flags & 0x80 != 0,
        };
        Offload {
            segments: Some(segments),
            ..self.partial()
        }
    }

    /// Judges a frame that must have come of this one: headers and both checksums right, and everything else
    /// unchanged. Gives sequence number (relative), flags, identification (relative) and data.
    pub(crate) fn judge(&self, b: &[u8]) -> (u32, u8, u16, Vec<u8>) {
        let (ip, start, data) = (14 + 4 * self.tags, self.start(), self.data_start());
        let word = |at: usize| u16::from_be_bytes([b[at], b[at + 1]]);
        let original = self.bytes();
        let mut id = 0;
        let addresses = match self.ip {
            Ip::V4 => {
                assert_eq!(usize::from(word(ip + 2)), b.len() - ip, "IPv4's length");
                if b[ip..start] != original[ip..start] {
                    assert_eq!(plain_sum(&b[ip..start]), 0xffff, "IPv4's checksum");
                }
                id = word(ip + 4).wrapping_sub(self.id);
                &b[ip + 12..ip + 20]
            }
            Ip::V6 => {
                assert_eq!(
                    usize::from(word(ip + 4)),
                    b.len() - ip - 40,
                    "IPv6's length"
                );
                &b[ip + 8..ip + 40]
            }
        };
        let transport = &b[start..];
        let proto = if self.udp { 17 } else { 6 };
        let len = (transport.len() as u32).to_be_bytes();
        let all = [addresses, &len, &[0, proto], transport].concat();
        assert_eq!(plain_sum(&all), 0xffff, "the checksum");
        // Everything but lengths, identification, checksums, sequence and flags is as it was.
        let mut same = b[..data].to_vec();
        let volatile: &[(usize, usize)] = match self.ip {
            Ip::V4 => &[(ip + 2, 4), (ip + 10, 2)],
            Ip::V6 => &[(ip + 4, 2)],
        };
        let mine = if self.udp {
            vec![(start + 6, 2)]
        } else {
            vec![(start + 4, 4), (start + 13, 1), (start + 16, 2)]
        };
        for &(at, n) in volatile.iter().chain(&mine) {
            same[at..at + n].copy_from_slice(&original[at..at + n]);
        }
        assert_eq!(same, original[..data]);
        if self.udp {
            assert_ne!(word(start + 6), 0, "zero means no checksum");
            return (0, 0, id, b[data..].to_vec());
        }
        let sequence = u32::from_be_bytes([b[start + 4], b[start + 5], b[start + 6], b[start + 7]]);
        (
            sequence.wrapping_sub(self.sequence),
            b[start + 13],
            id,
            b[data..].to_vec(),
        )
    }
}

/// RFC 1071 word by word.
pub(crate) fn plain_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
