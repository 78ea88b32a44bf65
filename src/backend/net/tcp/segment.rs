//! Segments as they are on the wire: TCP's header (RFC 9293, 3.1) and its options (RFC 9293, 3.2; RFC 7323, 2.2).

use bitflags::bitflags;

use super::Seq;

/// Bytes of the header without options.
pub const HEADER: usize = 20;

/// Where in the header the checksum is.
pub const CHECKSUM: usize = 16;

/// The largest shift of a window that means anything (RFC 7323, 2.3).
const SCALE_MAX: u8 = 14;

/// Kinds of options.
mod kind {
    pub(super) const END: u8 = 0;
    pub(super) const NOTHING: u8 = 1;
    pub(super) const MSS: u8 = 2;
    pub(super) const SCALE: u8 = 3;
}

bitflags! {
    /// The control bits. The others (URG and those of RFC 3168) mean nothing here.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Flags: u8 {
        /// No more from the sender.
        const FIN = 0x01;
        /// Synchronizes sequence numbers.
        const SYN = 0x02;
        /// The connection is gone.
        const RST = 0x04;
        /// The sender has nothing more at hand.
        const PSH = 0x08;
        /// The acknowledgment means something.
        const ACK = 0x10;
    }
}

/// The ports of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ports {
    /// The sender's.
    pub source: u16,
    /// The receiver's.
    pub destination: u16,
}

impl Ports {
    /// Those of a segment the other way.
    pub fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
        }
    }
}

/// A segment but for its ports and data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// The number of the first byte of data, or of the SYN.
    pub seq: Seq,
    /// What the sender expects next, if `flags` has ACK.
    pub ack: Seq,
    /// The control bits.
    pub flags: Flags,
    /// The window, not scaled.
    pub window: u16,
    /// How many bytes the sender takes in one segment.
    pub mss: Option<u16>,
    /// By how many bits the sender's windows are shifted.
    pub scale: Option<u8>,
}

impl Segment {
    /// Reads the header at the beginning of `bytes`, which has all of it; gives its length as well. None where there
    /// is no whole header. Of the options those that make no sense are passed over.
    pub fn read(bytes: &[u8]) -> Option<(Ports, Self, usize)> {
        let fixed: &[u8; HEADER] = bytes.first_chunk()?;
        let len = 4 * usize::from(fixed[12] >> 4);
        let options = bytes.get(HEADER..len)?;
        let word = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
        let double = |at: usize| Seq(u32::from(word(at)) << 16 | u32::from(word(at + 2)));
        let mut segment = Self {
            seq: double(4),
            ack: double(8),
            flags: Flags::from_bits_truncate(fixed[13]),
            window: word(14),
            mss: None,
            scale: None,
        };
        segment.read_options(options);
        let ports = Ports {
            source: word(0),
            destination: word(2),
        };
        Some((ports, segment, len))
    }

    fn read_options(&mut self, options: &[u8]) {
        let mut rest = options;
        loop {
            let skip = match rest {
                [] | [kind::END, ..] => return,
                [kind::NOTHING, ..] => 1,
                [kind, len, ..] => {
                    let len = usize::from(*len);
                    match (kind, rest.get(2..len)) {
                        // Shorter than itself, or longer than the header.
                        (_, None) => return,
                        (&kind::MSS, Some(&[high, low])) => {
                            self.mss = Some(u16::from_be_bytes([high, low]));
                        }
                        (&kind::SCALE, Some(&[shift])) => self.scale = Some(shift.min(SCALE_MAX)),
                        _ => {}
                    }
                    len
                }
                [_] => return,
            };
            rest = &rest[skip..];
        }
    }

    /// Appends the header, its checksum zero.
    pub fn write(&self, ports: Ports, to: &mut Vec<u8>) {
        let start = to.len();
        to.extend(ports.source.to_be_bytes());
        to.extend(ports.destination.to_be_bytes());
        to.extend(self.seq.0.to_be_bytes());
        to.extend(self.ack.0.to_be_bytes());
        to.extend([0, self.flags.bits()]);
        to.extend(self.window.to_be_bytes());
        to.extend([0; 4]);
        if let Some(mss) = self.mss {
            to.extend([kind::MSS, 4]);
            to.extend(mss.to_be_bytes());
        }
        if let Some(shift) = self.scale {
            to.extend([kind::NOTHING, kind::SCALE, 3, shift]);
        }
        let words = (to.len() - start) / 4;
        to[start + 12] = (words as u8) << 4;
    }

    /// What it and `data` bytes take of the sequence space.
    pub(super) fn space(&self, data: u32) -> u32 {
        let control = |flag| u32::from(self.flags.contains(flag));
        data + control(Flags::SYN) + control(Flags::FIN)
    }

    /// The answer to a segment with `data` bytes that belongs to no connection (RFC 9293, 3.10.7.1); none to a reset.
    pub fn reset(&self, data: usize) -> Option<Self> {
        if self.flags.contains(Flags::RST) {
            return None;
        }
        let answer = if self.flags.contains(Flags::ACK) {
            Self {
                seq: self.ack,
                flags: Flags::RST,
                ..Self::default()
            }
        } else {
            Self {
                ack: self.seq + self.space(data as u32),
                flags: Flags::RST | Flags::ACK,
                ..Self::default()
            }
        };
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PORTS: Ports = Ports {
        source: 0x1234,
        destination: 80,
    };

    /// The fixed header, of so many words, and options.
    fn header(words: u8, options: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34, 0, 80, 1, 2, 3, 4, 5, 6, 7, 8, words << 4, 0x12];
        bytes.extend([0xab, 0xcd, 9, 9, 9, 9]);
        bytes.extend(options);
        bytes
    }

    #[test]
    fn a_header_is_read_as_the_rfc_draws_it() {
        let bytes = header(7, &[2, 4, 0x05, 0xb4, 1, 3, 3, 7, 0xff]);
        let (ports, segment, len) = Segment::read(&bytes).unwrap();
        assert_eq!((ports, len), (PORTS, 28));
        assert_eq!(
            segment,
            Segment {
                seq: Seq(0x0102_0304),
                ack: Seq(0x0506_0708),
                flags: Flags::SYN | Flags::ACK,
                window: 0xabcd,
                mss: Some(1460),
                scale: Some(7),
            }
        );
    }

    #[test]
    fn options_that_make_no_sense_are_passed_over() {
        for (options, mss, scale) in [
            (&[][..], None, None),
            (&[0, 2, 4, 1], None, None),
            (&[1, 1, 1, 1, 2, 4, 1, 0], Some(256), None),
            // Lengths of nothing, of itself, beyond the header, of another kind.
            (&[2, 0, 1, 1], None, None),
            (&[2, 1, 1, 1], None, None),
            (&[2, 5, 1, 1], None, None),
            (&[2, 3, 1, 3, 4, 2, 2, 0], None, None),
            (&[1, 1, 1, 2], None, None),
            (&[3, 3, 200, 0], None, Some(14)),
            (&[8, 4, 9, 9, 3, 3, 2, 0], None, Some(2)),
        ] {
            let bytes = header(5 + options.len() as u8 / 4, options);
            let (_, segment, _) = Segment::read(&bytes).unwrap();
            assert_eq!((segment.mss, segment.scale), (mss, scale), "{options:?}");
        }
        for words in [0, 4, 6, 15] {
            assert_eq!(Segment::read(&header(words, &[])), None, "{words}");
        }
        assert_eq!(Segment::read(&header(5, &[])[..19]), None);
    }

    #[test]
    fn what_belongs_to_nothing_is_reset() {
        let mut segment = Segment {
            seq: Seq(u32::MAX),
            ack: Seq(7),
            flags: Flags::SYN,
            ..Segment::default()
        };
        let answer = segment.reset(3).unwrap();
        assert_eq!(answer.flags, Flags::RST | Flags::ACK);
        assert_eq!((answer.seq, answer.ack), (Seq(0), Seq(3)));
        segment.flags = Flags::ACK | Flags::FIN;
        let answer = segment.reset(3).unwrap();
        assert_eq!((answer.flags, answer.seq), (Flags::RST, Seq(7)));
        segment.flags |= Flags::RST;
        assert_eq!(segment.reset(0), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            seq: u32, ack: u32, flags in 0_u8..32, window: u16, mss: Option<u16>, scale in prop::option::of(0_u8..15),
        ) {
            let segment = Segment {
                seq: Seq(seq), ack: Seq(ack), flags: Flags::from_bits_truncate(flags), window, mss, scale,
            };
            let mut bytes = vec![7; 3];
            segment.write(PORTS, &mut bytes);
            prop_assert_eq!(Segment::read(&bytes[3..]), Some((PORTS, segment, bytes.len() - 3)));
        }

        #[test]
        fn any_bytes_at_all(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some((_, _, len)) = Segment::read(&bytes) {
                prop_assert!((HEADER..=bytes.len()).contains(&len));
            }
        }
    }
}
