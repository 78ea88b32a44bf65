//! The receive queue (5.1.6.3, 5.1.6.4): frames of the network's on their way into the buffers that the driver has left.
//!
//! The network is asked for frames when it says that it has some and when the driver has left buffers. Frames for which
//! there are none wait there.

use hvf_sys::ram::Ram;

use super::header;
use super::{Net, count, feature, locked};
use crate::backend::net::{Checksum, FRAME_MAX, HEADER, Offload, Offloads, Receiver, Room};
use crate::virtio::{Buffers, Request, Turn, Used};

impl Net {
    /// Receives what waits.
    pub(super) fn receive(&self, turn: &mut Turn<'_>) {
        let _alone = locked(&self.receive);
        let features = turn.features();
        let mut inbox = Inbox {
            net: self,
            does: self.filter().offloads(features),
            mergeable: features & feature::MRG_RXBUF != 0,
            turn,
            claimed: Vec::new(),
            header: Buffers::default(),
            room: Buffers::default(),
        };
        self.network.receive(&mut inbox);
        inbox.free();
    }
}

/// The driver's buffers, as the network sees them.
struct Inbox<'a, 'turn> {
    net: &'a Net,
    does: Offloads,
    mergeable: bool,
    turn: &'a mut Turn<'turn>,
    /// Requests for the next frame.
    claimed: Vec<Request>,
    /// Where in their buffers the header goes, and the frame.
    header: Buffers,
    room: Buffers,
}

enum Claim {
    Made,
    Later,
    Never,
}

impl Inbox<'_, '_> {
    /// Claims requests with room for `len` bytes: one, or as many as it takes where frames may be spread.
    fn claim(&mut self, len: u64) -> Claim {
        let most = if self.mergeable { self.turn.size() } else { 1 };
        let mut room = 0;
        while room < len {
            if self.claimed.len() >= usize::from(most) {
                return Claim::Never;
            }
            let Some(request) = self.turn.take() else {
                return Claim::Later;
            };
            room += request.chain.writable.len();
            self.claimed.push(request);
        }
        Claim::Made
    }

    /// Settles where in the claimed buffers header and frame go. False where that is not RAM.
    fn settle(&mut self, len: u64) -> bool {
        let mut all = Buffers::default();
        for request in &self.claimed {
            all.append(&request.chain.writable);
        }
        let (header, frame) = all.split(header::LEN as u64);
        (self.header, self.room) = (header, frame.split(len).0);
        self.header.in_ram(self.ram()) && self.room.in_ram(self.ram())
    }

    /// Whether the guest wants the frame that lies in the room.
    fn wanted(&self) -> bool {
        let mut to = [0; 6];
        let read = self.room.read(self.ram(), &mut to);
        read.is_ok() && self.net.filter().wants(&to)
    }

    /// The requests that a frame with its header fills, and how far.
    fn filled(&self, len: u64) -> Vec<Used> {
        let mut left = header::LEN as u64 + len;
        let mut used = Vec::with_capacity(self.claimed.len());
        for request in &self.claimed {
            let here = left.min(request.chain.writable.len());
            used.push(request.used(here as u32));
            left -= here;
            if left == 0 {
                break;
            }
        }
        used
    }

    /// That a checksum is right is told only to those who can be told.
    fn told(&self, offload: Offload) -> Offload {
        let silent = offload.checksum == Checksum::Valid && !self.does.contains(Offloads::CHECKSUM);
        if silent { Offload::default() } else { offload }
    }

    /// Gives up what is claimed.
    fn free(&mut self) {
        self.turn.put_back(self.claimed.len() as u16);
        self.claimed.clear();
    }
}

impl Receiver for Inbox<'_, '_> {
    fn offloads(&self) -> Offloads {
        self.does
    }

    fn ram(&self) -> &Ram {
        self.turn.ram()
    }

    fn room(&mut self, len: usize) -> Room<'_> {
        self.free();
        let claim = if (HEADER..=FRAME_MAX).contains(&len) {
            self.claim((header::LEN + len) as u64)
        } else {
            Claim::Never
        };
        match claim {
            Claim::Made if self.settle(len as u64) => Room::Here {
                ram: self.turn.ram(),
                pieces: self.room.pieces(),
            },
            Claim::Later => {
                self.free();
                Room::Later
            }
            Claim::Made | Claim::Never => {
                self.free();
                count(&self.net.counters.too_long);
                Room::Never
            }
        }
    }

    fn commit(&mut self, len: usize, offload: Offload) {
        let fits = len >= HEADER && len as u64 <= self.room.len() && !self.claimed.is_empty();
        if !fits || !self.does.contains(offload.needs()) {
            return self.free();
        }
        if !self.wanted() {
            count(&self.net.counters.filtered);
            return self.free();
        }
        let used = self.filled(len as u64);
        let raw = header::write(self.told(offload), len, used.len() as u16);
        if self.header.write(self.ram(), &raw).is_err() {
            return self.free();
        }
        self.turn.put_back((self.claimed.len() - used.len()) as u16);
        self.claimed.clear();
        self.turn.give(&used);
        count(&self.net.counters.received);
    }
}
