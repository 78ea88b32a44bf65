//! Frames on their way to the guest, in order and bounded: all but TCP's, which waits in its connections.

use std::collections::VecDeque;
use std::net::IpAddr;

use guest::lan;

use crate::backend::net::checksum::Sum;
use crate::backend::net::ip::{FRAGMENT, Fragment, IPV6, Packet, nonzero, put};
use crate::backend::net::{Checksum, HEADER, Mac, Offload, Receiver};

/// The most bytes that wait. What comes when there are more is dropped.
const CAPACITY: usize = 2 << 20;
/// What a frame counts for besides its bytes.
const FRAME: usize = 64;
/// Everybody's hardware address.
pub(super) const BROADCAST: Mac = [0xff; 6];

/// The frames that wait, and what every frame of ours begins with.
pub(super) struct Outbox {
    mtu: usize,
    /// The guest's hardware address, as far as it is known.
    guest: Mac,
    frames: VecDeque<(Offload, Vec<u8>)>,
    bytes: usize,
    dropped: u64,
    id: u32,
    news: bool,
}

impl Outbox {
    /// Nothing waits. Packets are at most `mtu` bytes long; the guest's interface has the address `guest`.
    pub(super) fn new(mtu: u16, guest: Mac) -> Self {
        Self {
            mtu: mtu.into(),
            guest,
            frames: VecDeque::new(),
            bytes: 0,
            dropped: 0,
            id: 0,
            news: false,
        }
    }

    /// The most bytes of a packet.
    pub(super) fn mtu(&self) -> usize {
        self.mtu
    }

    /// The guest's hardware address.
    pub(super) fn guest(&self) -> Mac {
        self.guest
    }

    /// The guest has said that this is its hardware address. A group's is nobody's.
    pub(super) fn learn(&mut self, guest: Mac) {
        if guest[0] & 1 == 0 && guest != lan::GATEWAY_MAC {
            self.guest = guest;
        }
    }

    /// What is pushed from now on goes to this hardware address.
    pub(super) fn address(&mut self, to: Mac) {
        self.guest = to;
    }

    /// A number for a packet that may be fragmented.
    pub(super) fn next_id(&mut self) -> u32 {
        self.id = self.id.wrapping_add(1);
        self.id
    }

    /// Begins a frame to the guest.
    pub(super) fn ethernet(&self, frame: &mut Vec<u8>, kind: u16) {
        frame.extend_from_slice(&self.guest);
        frame.extend_from_slice(&lan::GATEWAY_MAC);
        frame.extend_from_slice(&kind.to_be_bytes());
    }

    /// Begins a frame with all headers of a packet, behind which there will be `len` bytes of data.
    pub(super) fn begin(
        &mut self,
        packet: &Packet,
        len: usize,
        fragment: Option<Fragment>,
    ) -> Vec<u8> {
        let mut frame = Vec::with_capacity(HEADER + IPV6 + FRAGMENT + len);
        self.ethernet(&mut frame, packet.kind());
        let id = match fragment {
            Some(fragment) => fragment.id,
            None => self.next_id(),
        };
        packet.header(&mut frame, len, Some(id), fragment);
        frame
    }

    /// Adds a packet with its data, in as many fragments as it takes. `checksum` is what is left to be done with the
    /// data: where its checksum is in it, if that is still the pseudo header's sum. Both addresses are of one version.
    pub(super) fn send(&mut self, packet: &Packet, data: &mut [u8], checksum: Option<usize>) {
        let room = self.mtu() - packet.header_len();
        if data.len() <= room {
            return self.send_whole(packet, data, checksum);
        }
        if let Some(at) = checksum {
            let mut sum = Sum::default();
            sum.add(data);
            put(data, at, nonzero(sum.finish()));
        }
        let id = self.next_id();
        let room = match packet.source {
            IpAddr::V4(_) => room,
            IpAddr::V6(_) => room - FRAGMENT,
        } & !7;
        let parts = data.len().div_ceil(room);
        for (index, part) in data.chunks(room).enumerate() {
            let fragment = Fragment {
                id,
                offset: index * room,
                more: index + 1 < parts,
            };
            let mut frame = self.begin(packet, part.len(), Some(fragment));
            frame.extend_from_slice(part);
            self.push(Offload::default(), frame);
        }
    }

    fn send_whole(&mut self, packet: &Packet, data: &[u8], checksum: Option<usize>) {
        let mut frame = self.begin(packet, data.len(), None);
        let start = frame.len() as u16;
        let checksum = checksum.map_or(Checksum::Complete, |at| Checksum::Partial {
            start,
            offset: at as u16,
        });
        frame.extend_from_slice(data);
        let offload = Offload {
            checksum,
            segments: None,
        };
        self.push(offload, frame);
    }

    /// Whether large datagrams still fit.
    pub(super) fn has_room(&self) -> bool {
        self.bytes < CAPACITY / 2
    }

    /// Adds a frame.
    pub(super) fn push(&mut self, offload: Offload, frame: Vec<u8>) {
        let cost = frame.len() + FRAME;
        if self.bytes + cost > CAPACITY {
            self.dropped += 1;
            return;
        }
        self.bytes += cost;
        self.frames.push_back((offload, frame));
        self.news = true;
    }

    /// There is something else for the guest.
    pub(super) fn news(&mut self) {
        self.news = true;
    }

    /// Whether there is something that the guest has not been told of.
    pub(super) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// Gives the frames to the guest. False where it has no more room now.
    pub(super) fn deliver(&mut self, receiver: &mut dyn Receiver) -> bool {
        while let Some((offload, frame)) = self.frames.front() {
            if !receiver.deliver(*offload, frame) {
                return false;
            }
            self.bytes -= frame.len() + FRAME;
            self.frames.pop_front();
        }
        true
    }

    /// Takes the frames away.
    #[cfg(test)]
    pub(super) fn take(&mut self) -> Vec<(Offload, Vec<u8>)> {
        self.bytes = 0;
        self.frames.drain(..).collect()
    }

    /// How many frames were dropped since too many waited.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}
