//! IP packets in frames: their headers read, and written (RFC 791, RFC 8200).
//!
//! The guest's interface is memory, so that the checksums of what it sends are not looked at: nothing can have changed
//! on the way. Where its packets go, somebody computes them anew.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::HEADER;
use super::checksum::Sum;

/// EtherTypes.
pub(super) mod kind {
    pub(in crate::backend::net) const IPV4: u16 = 0x0800;
    pub(in crate::backend::net) const ARP: u16 = 0x0806;
    pub(in crate::backend::net) const IPV6: u16 = 0x86dd;
}

/// IP protocol numbers.
pub(super) mod protocol {
    pub(in crate::backend::net) const HOP_BY_HOP: u8 = 0;
    pub(in crate::backend::net) const ICMP: u8 = 1;
    pub(in crate::backend::net) const TCP: u8 = 6;
    pub(in crate::backend::net) const UDP: u8 = 17;
    pub(in crate::backend::net) const ROUTING: u8 = 43;
    pub(in crate::backend::net) const FRAGMENT: u8 = 44;
    pub(in crate::backend::net) const ICMPV6: u8 = 58;
    pub(in crate::backend::net) const DESTINATION: u8 = 60;
}

/// Bytes of the headers that we write.
pub(super) const IPV4: usize = 20;
pub(super) const IPV6: usize = 40;
/// IPv4: nobody may fragment the packet.
const DONT_FRAGMENT: u16 = 0x4000;
/// Bytes of IPv6's fragment header.
pub(super) const FRAGMENT: usize = 8;
/// What we send lives as long as that (RFC 1700).
pub(super) const HOPS: u8 = 64;
/// The most extension headers that are looked through.
pub(super) const EXTENSIONS_MAX: usize = 8;

/// A packet's header. Offsets count from the frame's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// Of what is behind all headers of IP.
    pub(super) protocol: u8,
    /// The time to live, or hop limit.
    pub(super) hops: u8,
    /// Where the data begins.
    pub(super) data: usize,
    /// Where the packet ends: not behind the frame's end.
    pub(super) end: usize,
    /// Where the packet is part of another.
    pub(super) fragment: Option<Fragment>,
}

/// Which part of a packet's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fragment {
    pub(super) id: u32,
    /// Where in the whole data, in bytes.
    pub(super) offset: usize,
    /// Whether others come behind it.
    pub(super) more: bool,
}

impl Header {
    /// Reads the header of an IPv4 packet from the beginning of a frame of `len` bytes.
    pub(super) fn read_v4(head: &[u8], len: usize) -> Option<Self> {
        let ip = head.get(HEADER..)?;
        let fixed: &[u8; IPV4] = ip.first_chunk()?;
        let header = 4 * usize::from(fixed[0] & 0xf);
        let total = usize::from(word(fixed, 2));
        let end = end(HEADER + total, len);
        if fixed[0] >> 4 != 4 || header < IPV4 || ip.len() < header || HEADER + header > end {
            return None;
        }
        let place = word(fixed, 6);
        let (offset, more) = (8 * usize::from(place & 0x1fff), place & 0x2000 != 0);
        let id = u32::from(word(fixed, 4));
        let address = |at: usize| Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]);
        Some(Self {
            source: address(12).into(),
            destination: address(16).into(),
            protocol: fixed[9],
            hops: fixed[8],
            data: HEADER + header,
            end,
            fragment: (offset > 0 || more).then_some(Fragment { id, offset, more }),
        })
        .filter(|_| total >= header || total == 0)
    }

    /// The same for IPv6.
    pub(super) fn read_v6(head: &[u8], len: usize) -> Option<Self> {
        let fixed: &[u8; IPV6] = head.get(HEADER..)?.first_chunk()?;
        if fixed[0] >> 4 != 6 {
            return None;
        }
        let address = |at: usize| {
            let mut octets = [0; 16];
            octets.copy_from_slice(&fixed[at..at + 16]);
            IpAddr::from(Ipv6Addr::from(octets))
        };
        let total = match usize::from(word(fixed, 4)) {
            0 => 0,
            payload => HEADER + IPV6 + payload,
        };
        let mut header = Self {
            source: address(8),
            destination: address(24),
            protocol: fixed[6],
            hops: fixed[7],
            data: HEADER + IPV6,
            end: end(total, len),
            fragment: None,
        };
        header.skip_extensions(head)?;
        (header.data <= header.end).then_some(header)
    }

    fn skip_extensions(&mut self, head: &[u8]) -> Option<()> {
        for _ in 0..EXTENSIONS_MAX {
            match self.protocol {
                protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION => {
                    let [next, words] = *head.get(self.data..)?.first_chunk()?;
                    self.protocol = next;
                    self.data += 8 * (1 + usize::from(words));
                }
                protocol::FRAGMENT if self.fragment.is_none() => {
                    let part: &[u8; FRAGMENT] = head.get(self.data..)?.first_chunk()?;
                    let place = word(part, 2);
                    self.protocol = part[0];
                    self.data += FRAGMENT;
                    let fragment = Fragment {
                        id: u32::from_be_bytes([part[4], part[5], part[6], part[7]]),
                        offset: usize::from(place & !7),
                        more: place & 1 != 0,
                    };
                    // One that is all of its packet is none (RFC 6946).
                    if fragment.offset > 0 || fragment.more {
                        self.fragment = Some(fragment);
                        return Some(());
                    }
                }
                _ => return Some(()),
            }
        }
        None
    }

    /// The bytes that an error about a packet quotes: its header and, where it fits, what is behind.
    pub(super) fn quote<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        frame.get(HEADER..self.end.min(frame.len())).unwrap_or(&[])
    }
}

/// Where a packet ends. One that is longer than its length field can say has none there: it waits to be segmented.
fn end(said: usize, len: usize) -> usize {
    if said <= HEADER { len } else { said.min(len) }
}

/// A packet to write: everything but its data.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) protocol: u8,
    pub(super) hops: u8,
}

impl Packet {
    /// One that lives as long as usual.
    pub(super) fn new(source: IpAddr, destination: IpAddr, protocol: u8) -> Self {
        Self {
            source,
            destination,
            protocol,
            hops: HOPS,
        }
    }

    /// Bytes of its header.
    pub(super) fn header_len(&self) -> usize {
        match self.source {
            IpAddr::V4(_) => IPV4,
            IpAddr::V6(_) => IPV6,
        }
    }

    /// The sum of the pseudo header for `len` bytes of data (RFC 768; RFC 8200, 8.1).
    pub(super) fn pseudo(&self, len: usize) -> Sum {
        let mut sum = Sum::default();
        for address in [self.source, self.destination] {
            match address {
                IpAddr::V4(it) => sum.add(&it.octets()),
                IpAddr::V6(it) => sum.add(&it.octets()),
            }
        }
        sum.add(&(len as u32).to_be_bytes());
        sum.add(&[0, self.protocol]);
        sum
    }

    /// The packet without a frame, for those who quote it.
    pub(super) fn bytes(&self, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(IPV6 + data.len());
        self.header(&mut bytes, data.len(), None, None);
        bytes.extend_from_slice(data);
        bytes
    }

    /// Its EtherType.
    pub(super) fn kind(&self) -> u16 {
        match self.source {
            IpAddr::V4(_) => kind::IPV4,
            IpAddr::V6(_) => kind::IPV6,
        }
    }

    /// Appends its headers for `len` bytes of data. A packet that nobody is to fragment needs no number (RFC 6864, 4.1).
    pub(super) fn header(
        &self,
        frame: &mut Vec<u8>,
        len: usize,
        id: Option<u32>,
        fragment: Option<Fragment>,
    ) {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.header_v4(frame, [source, destination], len, id, fragment);
            }
            (source, destination) => self.header_v6(frame, [source, destination], len, fragment),
        }
    }

    fn header_v4(
        &self,
        frame: &mut Vec<u8>,
        addresses: [Ipv4Addr; 2],
        len: usize,
        id: Option<u32>,
        fragment: Option<Fragment>,
    ) {
        let start = frame.len();
        let place = match fragment {
            Some(it) => (it.offset / 8) as u16 | u16::from(it.more) << 13,
            None if id.is_none() => DONT_FRAGMENT,
            None => 0,
        };
        let id = id.unwrap_or(0) as u16;
        frame.extend_from_slice(&[0x45, 0]);
        frame.extend_from_slice(&((IPV4 + len) as u16).to_be_bytes());
        frame.extend_from_slice(&id.to_be_bytes());
        frame.extend_from_slice(&place.to_be_bytes());
        frame.extend_from_slice(&[self.hops, self.protocol, 0, 0]);
        for address in addresses {
            frame.extend_from_slice(&address.octets());
        }
        let mut sum = Sum::default();
        sum.add(&frame[start..]);
        put(frame, start + 10, sum.finish());
    }

    fn header_v6(
        &self,
        frame: &mut Vec<u8>,
        addresses: [IpAddr; 2],
        len: usize,
        fragment: Option<Fragment>,
    ) {
        let (extra, next) = match fragment {
            Some(_) => (FRAGMENT, protocol::FRAGMENT),
            None => (0, self.protocol),
        };
        frame.extend_from_slice(&[0x60, 0, 0, 0]);
        frame.extend_from_slice(&((extra + len) as u16).to_be_bytes());
        frame.extend_from_slice(&[next, self.hops]);
        for address in addresses {
            let octets = match address {
                IpAddr::V6(it) => it,
                IpAddr::V4(it) => it.to_ipv6_mapped(),
            };
            frame.extend_from_slice(&octets.octets());
        }
        if let Some(Fragment { id, offset, more }) = fragment {
            frame.extend_from_slice(&[self.protocol, 0]);
            frame.extend_from_slice(&(offset as u16 | u16::from(more)).to_be_bytes());
            frame.extend_from_slice(&id.to_be_bytes());
        }
    }
}

/// Zero means "no checksum" in UDP, so that the sum's other zero is written.
pub(super) fn nonzero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

/// A big-endian word of a range that is long enough.
pub(super) fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Writes a big-endian word into a range that is long enough.
pub(super) fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
