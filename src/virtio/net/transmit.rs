//! The transmit queue (5.1.6.2): frames of the guest's on their way to the network.

use std::sync::atomic::Ordering;

use hvf_sys::ram::Ram;

use super::header;
use super::{Net, count, host_offloads, locked};
use crate::backend::net::{
    Checksum, FRAME_MAX, Frame, HEADER, Malformed, Offload, Offloads, finish,
};
use crate::virtio::{Buffers, Turn};

/// How many frames go to the network with one call.
const BATCH: usize = 32;
/// How many bytes of a frame are copied: all headers of nearly all frames.
const HEAD: usize = 192;
/// What a frame may have besides the network's MTU: its header and a VLAN tag.
const OVERHEAD: usize = HEADER + 4;

/// A frame with a head of its own.
struct Packet {
    offload: Offload,
    head: Vec<u8>,
    body: Buffers,
}

impl Net {
    /// Sends what waits.
    pub(super) fn transmit(&self, turn: &mut Turn<'_>) {
        let _alone = locked(&self.transmit);
        let (ram, negotiated) = (turn.ram(), host_offloads(turn.features()));
        let mut used = Vec::with_capacity(BATCH);
        let mut outgoing = Outgoing::new(self, ram);
        loop {
            used.clear();
            while used.len() < BATCH
                && let Some(request) = turn.take()
            {
                used.push(request.used(0));
                match Packet::read(ram, &request.chain.readable, negotiated, self.mtu) {
                    Ok(packet) => outgoing.add(packet),
                    Err(Malformed) => count(&self.counters.malformed),
                }
            }
            if used.is_empty() {
                return;
            }
            outgoing.flush();
            turn.give(&used);
        }
    }
}

impl Packet {
    /// Reads header and head of what a driver sends, and checks that it makes sense.
    fn read(
        ram: &Ram,
        buffers: &Buffers,
        negotiated: Offloads,
        mtu: u16,
    ) -> Result<Self, Malformed> {
        let len = buffers.len().saturating_sub(header::LEN as u64);
        let len = usize::try_from(len).map_err(|_| Malformed)?;
        if !(HEADER..=FRAME_MAX).contains(&len) {
            return Err(Malformed);
        }
        let mut raw = [0; header::LEN];
        buffers.read(ram, &mut raw)?;
        let offload = header::read(&raw)?;
        let whole = offload.segments.is_some() || len <= usize::from(mtu) + OVERHEAD;
        if !whole || !negotiated.contains(offload.needs()) {
            return Err(Malformed);
        }
        let headers = match offload.checksum {
            Checksum::Partial { start, .. } => usize::from(start) + header::TCP_MAX,
            _ => 0,
        };
        let frame = buffers.split(header::LEN as u64).1;
        let mut head = vec![0; len.min(HEAD.max(headers))];
        frame.read(ram, &mut head)?;
        let body = frame.split(head.len() as u64).1;
        if !body.in_ram(ram) {
            return Err(Malformed);
        }
        offload.check(&head, len)?;
        Ok(Self {
            offload,
            head,
            body,
        })
    }
}

/// Frames that wait for one call.
struct Outgoing<'a> {
    net: &'a Net,
    ram: &'a Ram,
    does: Offloads,
    packets: Vec<Packet>,
}

impl<'a> Outgoing<'a> {
    fn new(net: &'a Net, ram: &'a Ram) -> Self {
        Self {
            net,
            ram,
            does: net.network.offloads(),
            packets: Vec::with_capacity(BATCH),
        }
    }

    /// Adds a frame, finished as far as the network needs it.
    fn add(&mut self, packet: Packet) {
        if self.does.contains(packet.offload.needs()) {
            return self.push(packet);
        }
        let frame = packet.frame(self.ram);
        let finished = finish(&frame, self.does, &mut |part| {
            self.push(Packet {
                offload: part.offload,
                head: part.head.to_vec(),
                body: Buffers::from(part.body),
            });
        });
        if finished.is_err() {
            count(&self.net.counters.malformed);
        }
    }

    fn push(&mut self, packet: Packet) {
        self.packets.push(packet);
        if self.packets.len() >= BATCH {
            self.flush();
        }
    }

    /// Gives them to the network.
    fn flush(&mut self) {
        if self.packets.is_empty() {
            return;
        }
        let frames: Vec<_> = self.packets.iter().map(|it| it.frame(self.ram)).collect();
        self.net.network.send(&frames);
        let sent = &self.net.counters.sent;
        sent.fetch_add(frames.len() as u64, Ordering::Relaxed);
        self.packets.clear();
    }
}

impl Packet {
    fn frame<'a>(&'a self, ram: &'a Ram) -> Frame<'a> {
        Frame {
            offload: self.offload,
            head: &self.head,
            body: self.body.pieces(),
            ram,
        }
    }
}
