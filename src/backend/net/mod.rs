//! A guest's network: where its Ethernet frames go and come from.
//!
//! A device sends many frames with one call (`Network::send`), and asks for those that wait (`Network::receive`) when
//! it has been woken. Both calls come from the device's threads only. So whoever implements `Network` never touches
//! guest memory of its own accord, and a guest that takes no frames costs it no more than it wants to keep: frames that
//! it cannot keep it drops, as every Ethernet does.
//!
//! Frames lie where they are: one that a guest sends in guest memory, but for a copy of its headers that the guest can no
//! longer change; one that it receives is built in guest memory (`Receiver::room`). What sender and receiver agree on
//! may be left to be done (`Offload`): checksums, and the segmentation of TCP. `finish` does it in software where
//! the other side does not.

mod arp;
mod checksum;
mod finish;
mod headers;
mod icmp;
mod ip;
pub mod link;
mod loopback;
mod null;
mod segment;
#[cfg(target_os = "linux")]
pub mod tap;
mod tcp;
pub mod user;
// Elsewhere its tests compile it: only what calls the system needs a Mac.
#[cfg(any(all(target_os = "macos", feature = "vmnet"), test))]
pub mod vmnet;
pub mod vnet;

pub use finish::{Malformed, finish};
pub use loopback::Loop;
pub use null::Null;

use bitflags::bitflags;
use hvf_sys::file::{Piece, total};
use hvf_sys::ram::{OutsideRam, Ram};

/// Bytes of an Ethernet header: destination, source, type.
pub const HEADER: usize = 14;
/// The largest frame: an IP packet of 65,535 bytes, the header, and two VLAN tags.
pub const FRAME_MAX: usize = HEADER + 8 + 65_535;
/// What an interface sends at most behind the header, unless its network says otherwise (IEEE 802.3, 3.2.7).
pub const MTU: u16 = 1500;

/// A hardware address.
pub type Mac = [u8; 6];

bitflags! {
    /// What somebody does with a frame that was left unfinished.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Offloads: u8 {
        /// Completes the checksum of TCP or UDP.
        const CHECKSUM = 1;
        /// Cuts TCP over IPv4 into segments. Nothing without `CHECKSUM`.
        const TCP4 = 2;
        /// Cuts TCP over IPv6 into segments. Nothing without `CHECKSUM`.
        const TCP6 = 4;
        /// Does so when the sender tells of congestion (RFC 3168): only the first segment has CWR.
        const ECN = 8;
    }
}

/// What is left to be done with a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Its checksum.
    pub checksum: Checksum,
    /// Its segmentation. The checksum is `Partial` then.
    pub segments: Option<Segments>,
}

/// The checksum of a frame's TCP or UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// As the frame has it.
    #[default]
    Complete,
    /// As the frame has it, and found right.
    Valid,
    /// To be computed over everything from byte `start` on, and put `offset` bytes behind `start`, where the sum of the
    /// pseudo header is.
    Partial {
        /// Where TCP or UDP begins.
        start: u16,
        /// Where in it the checksum is.
        offset: u16,
    },
}

/// A TCP segment that is to be cut into smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    /// The version of IP.
    pub ip: Ip,
    /// Bytes of data in each.
    pub size: u16,
    /// CWR is set, and only the first is to keep it.
    pub ecn: bool,
}

/// A version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ip {
    /// RFC 791.
    V4,
    /// RFC 8200.
    V6,
}

impl Offload {
    /// What a receiver must do.
    pub fn needs(&self) -> Offloads {
        let mut needs = Offloads::empty();
        if let Checksum::Partial { .. } = self.checksum {
            needs |= Offloads::CHECKSUM;
        }
        if let Some(segments) = self.segments {
            needs |= match segments.ip {
                Ip::V4 => Offloads::TCP4,
                Ip::V6 => Offloads::TCP6,
            };
            needs.set(Offloads::ECN, segments.ecn);
        }
        needs
    }
}

/// A frame from its destination address on, without the check sequence: `head`, then `body`.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    /// What is left to be done with it.
    pub offload: Offload,
    /// Its first bytes: at least its Ethernet header, and all headers that the offload speaks of.
    pub head: &'a [u8],
    /// The others, all in RAM. The guest may change them at any time.
    pub body: &'a [Piece],
    /// The guest's memory.
    pub ram: &'a Ram,
}

impl Frame<'_> {
    /// How many bytes.
    pub fn len(&self) -> usize {
        self.head.len() + total(self.body) as usize
    }

    /// Copies bytes of the frame from the one at `from` on, as many as `into` has and the frame goes on.
    pub fn copy_part(&self, from: usize, into: &mut [u8]) -> Result<(), OutsideRam> {
        let here = self.head.get(from..).unwrap_or_default();
        let (first, mut rest) = into.split_at_mut(here.len().min(into.len()));
        first.copy_from_slice(&here[..first.len()]);
        let mut skip = from.saturating_sub(self.head.len()) as u64;
        for &Piece { gpa, len } in self.body {
            let here = len.saturating_sub(skip).min(rest.len() as u64);
            let part;
            (part, rest) = rest.split_at_mut(here as usize);
            if here > 0 {
                self.ram.read(gpa + skip, part)?;
            }
            skip = skip.saturating_sub(len);
        }
        Ok(())
    }

    /// Appends the frame to `to`.
    pub fn copy_to(&self, to: &mut Vec<u8>) -> Result<(), OutsideRam> {
        to.extend_from_slice(self.head);
        for piece in self.body {
            let start = to.len();
            to.resize(start + piece.len as usize, 0);
            self.ram.read(piece.gpa, &mut to[start..])?;
        }
        Ok(())
    }
}

/// What is done when there are frames to receive.
pub type Wake = Box<dyn Fn() + Send + Sync>;

/// A network, or what passes for one.
pub trait Network: Send + Sync {
    /// What it does with a guest's unfinished frames.
    fn offloads(&self) -> Offloads;

    /// The most bytes behind an Ethernet header, where segmentation is not left to the other side.
    fn mtu(&self) -> u16 {
        MTU
    }

    /// Whether a cable is plugged in.
    fn carrier(&self) -> bool {
        true
    }

    /// Says who is to be woken when there are frames to receive. The call is made with no lock held that `send` or
    /// `receive` takes.
    fn attach(&self, wake: Wake);

    /// Takes a guest's frames. What it cannot take it drops; it never waits.
    fn send(&self, frames: &[Frame<'_>]);

    /// Gives the frames that wait to `receiver`, until there are none or it wants no more now. Those that are left
    /// it is asked for again.
    fn receive(&self, receiver: &mut dyn Receiver);
}

/// Room for a frame.
pub enum Room<'a> {
    /// As many bytes as were asked for.
    Here {
        /// The guest's memory.
        ram: &'a Ram,
        /// Where in it.
        pieces: &'a [Piece],
    },
    /// None now. The network will be asked again.
    Later,
    /// None ever: the frame is to be dropped.
    Never,
}

/// A guest's interface that receives frames.
pub trait Receiver {
    /// What the guest does with unfinished frames.
    fn offloads(&self) -> Offloads;

    /// The guest's memory.
    fn ram(&self) -> &Ram;

    /// Gives room for a frame of up to `len` bytes, at least an Ethernet header. It is free until `commit`.
    fn room(&mut self, len: usize) -> Room<'_>;

    /// A frame of `len` bytes lies in the room that was given last, and needs no more than `offloads` says.
    fn commit(&mut self, len: usize, offload: Offload);
}

impl dyn Receiver + '_ {
    /// Gives a frame that is somewhere else, finished as far as the guest needs it. False where it does not fit now.
    pub fn deliver(&mut self, offload: Offload, bytes: &[u8]) -> bool {
        let does = self.offloads();
        if does.contains(offload.needs()) {
            return self.deliver_as_is(offload, bytes);
        }
        let mut parts = Vec::new();
        let ram = self.ram();
        let frame = Frame {
            offload,
            head: bytes,
            body: &[],
            ram,
        };
        // What makes no sense is dropped.
        let _ = finish(&frame, does, &mut |part| {
            parts.push((part.offload, part.head.to_vec()))
        });
        for (index, (offload, bytes)) in parts.iter().enumerate() {
            if !self.deliver_as_is(*offload, bytes) {
                // Never a part twice: the others are dropped.
                return index > 0;
            }
        }
        true
    }

    fn deliver_as_is(&mut self, offload: Offload, bytes: &[u8]) -> bool {
        !matches!(self.put(offload, &[bytes]), Delivery::Later)
    }

    /// The same for a frame that lies in several parts.
    pub fn deliver_parts(&mut self, offload: Offload, parts: &[&[u8]]) -> Delivery {
        if self.offloads().contains(offload.needs()) {
            return self.put(offload, parts);
        }
        match self.deliver(offload, &parts.concat()) {
            true => Delivery::Made,
            false => Delivery::Later,
        }
    }

    fn put(&mut self, offload: Offload, parts: &[&[u8]]) -> Delivery {
        let len = parts.iter().map(|part| part.len()).sum();
        match self.room(len) {
            Room::Here { ram, pieces } => {
                if put(ram, pieces, parts).is_ok() {
                    self.commit(len, offload);
                }
                Delivery::Made
            }
            Room::Later => Delivery::Later,
            Room::Never => Delivery::Never,
        }
    }
}

/// What has become of a frame for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The guest has it, or it made no sense.
    Made,
    /// There is no room now.
    Later,
    /// The guest has no buffers for frames of that length.
    Never,
}

/// Copies parts, one behind the other, to guest memory, as far as there is room.
fn put(ram: &Ram, pieces: &[Piece], parts: &[&[u8]]) -> Result<(), OutsideRam> {
    let mut pieces = pieces.iter();
    let mut here = Piece { gpa: 0, len: 0 };
    for &part in parts {
        let mut part = part;
        while !part.is_empty() {
            while here.len == 0 {
                match pieces.next() {
                    Some(piece) => here = *piece,
                    None => return Ok(()),
                }
            }
            let count = here.len.min(part.len() as u64);
            let (first, rest) = part.split_at(count as usize);
            ram.write(here.gpa, first)?;
            part = rest;
            here = Piece {
                gpa: here.gpa + count,
                len: here.len - count,
            };
        }
    }
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
pub(crate) mod cable;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod wire;
