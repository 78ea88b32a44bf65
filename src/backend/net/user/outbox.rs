//! Frames on their way to the guest, in order and bounded: all but TCP's, which waits in its connections.

use std::collections::VecDeque;

use guest::lan;

use crate::backend::net::{Mac, Offload, Receiver};

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
