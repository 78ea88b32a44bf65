//! Network device (virtio 1.2, 5.1): one pair of queues and a control queue, before a network of `backend::net`.
//!
//! Frames cross without a copy where the network can do with that. What driver and network do not both do, checksums and the
//! segmentation of TCP, is done here in software. A frame that breaks a rule is dropped and counted, and its
//! buffers return; only a ring that makes no sense stops the device.
//!
//! Lock order: `transmit`, `receive`, then `filter`. Each direction has one worker at a time, so that frames keep
//! their order.
//!
//! Not modelled: several queue pairs, VLAN filtering, UDP segmentation, hash reports, announcements. A driver
//! without the control queue gets every frame.

mod control;
mod header;
mod receive;
mod transmit;

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Bell, Identity, Model, Turn};
use crate::backend::net::{Mac, Network, Offloads};
use control::Filter;

/// Feature bits (5.1.3).
pub(super) mod feature {
    pub(in super::super) const CSUM: u64 = 1 << 0;
    pub(in super::super) const GUEST_CSUM: u64 = 1 << 1;
    pub(in super::super) const CTRL_GUEST_OFFLOADS: u64 = 1 << 2;
    pub(in super::super) const MTU: u64 = 1 << 3;
    pub(in super::super) const MAC: u64 = 1 << 5;
    pub(in super::super) const GUEST_TSO4: u64 = 1 << 7;
    pub(in super::super) const GUEST_TSO6: u64 = 1 << 8;
    pub(in super::super) const GUEST_ECN: u64 = 1 << 9;
    pub(in super::super) const HOST_TSO4: u64 = 1 << 11;
    pub(in super::super) const HOST_TSO6: u64 = 1 << 12;
    pub(in super::super) const HOST_ECN: u64 = 1 << 13;
    pub(in super::super) const MRG_RXBUF: u64 = 1 << 15;
    pub(in super::super) const STATUS: u64 = 1 << 16;
    pub(in super::super) const CTRL_VQ: u64 = 1 << 17;
    pub(in super::super) const CTRL_RX: u64 = 1 << 18;
    pub(in super::super) const CTRL_MAC_ADDR: u64 = 1 << 23;

    /// What a driver can do with frames that it receives.
    pub(super) const GUEST: u64 = GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6 | GUEST_ECN;
    /// All that the device offers.
    pub(super) const OFFERED: u64 = CSUM
        | CTRL_GUEST_OFFLOADS
        | MTU
        | MAC
        | GUEST
        | HOST_TSO4
        | HOST_TSO6
        | HOST_ECN
        | MRG_RXBUF
        | STATUS
        | CTRL_VQ
        | CTRL_RX
        | CTRL_MAC_ADDR;
}

/// The queues (5.1.2).
mod queue {
    pub(super) const RECEIVE: u16 = 0;
    pub(super) const TRANSMIT: u16 = 1;
    pub(super) const CONTROL: u16 = 2;
    pub(super) const COUNT: u16 = 3;
}

/// `status` in the configuration (5.1.4).
const LINK_UP: u16 = 1;

/// The device.
pub struct Net {
    // Configuration.
    network: Arc<dyn Network>,
    mac: Mac,
    mtu: u16,
    link_up: bool,
    // State.
    filter: Mutex<Filter>,
    transmit: Mutex<()>,
    receive: Mutex<()>,
    counters: Counters,
}

/// What has become of frames since the last reset.
#[derive(Default)]
pub(super) struct Counters {
    /// Frames that the network was given.
    pub(super) sent: AtomicU64,
    /// Frames of the guest's that break a rule.
    pub(super) malformed: AtomicU64,
    /// Frames that the guest has received.
    pub(super) received: AtomicU64,
    /// Frames for others.
    pub(super) filtered: AtomicU64,
    /// Frames for which no buffers of the guest's are large enough.
    pub(super) too_long: AtomicU64,
}

impl Net {
    /// An interface with address `mac`, plugged into `network`.
    pub fn new(network: Arc<dyn Network>, mac: Mac) -> Self {
        Self {
            mtu: network.mtu(),
            link_up: network.carrier(),
            network,
            mac,
            filter: Mutex::new(Filter::new(mac)),
            transmit: Mutex::default(),
            receive: Mutex::default(),
            counters: Counters::default(),
        }
    }

    #[cfg(test)]
    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    fn filter(&self) -> MutexGuard<'_, Filter> {
        locked(&self.filter)
    }
}

impl Model for Net {
    fn identity(&self) -> Identity {
        Identity {
            kind: 1,
            class: 0x02_0000,
            name: "virtio-net",
        }
    }

    fn features(&self) -> u64 {
        feature::OFFERED
    }

    fn queues(&self) -> u16 {
        queue::COUNT
    }

    /// Address, status, queue pairs, MTU (5.1.4).
    fn config(&self) -> Cow<'_, [u8]> {
        let mut config = self.filter().mac.to_vec();
        let status = if self.link_up { LINK_UP } else { 0 };
        for field in [status, 1, self.mtu] {
            config.extend(field.to_le_bytes());
        }
        Cow::Owned(config)
    }

    fn plugged(&self, bell: Bell) {
        self.network
            .attach(Box::new(move || bell.ring(queue::RECEIVE)));
    }

    fn serve(&self, turn: &mut Turn<'_>) {
        match turn.queue() {
            queue::RECEIVE => self.receive(turn),
            queue::TRANSMIT => self.transmit(turn),
            queue::CONTROL => self.control(turn),
            _ => {}
        }
    }

    fn reset(&self) {
        *self.filter() = Filter::new(self.mac);
        self.counters.reset();
    }
}

impl Counters {
    fn reset(&self) {
        let Self {
            sent,
            malformed,
            received,
            filtered,
            too_long,
        } = self;
        if sent.load(Ordering::Relaxed) + received.load(Ordering::Relaxed) > 0 {
            log::debug!("virtio-net: {self}");
        }
        for counter in [sent, malformed, received, filtered, too_long] {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} frames sent, {} refused; {} received, {} not for the guest, {} without room",
            self.sent.load(Ordering::Relaxed),
            self.malformed.load(Ordering::Relaxed),
            self.received.load(Ordering::Relaxed),
            self.filtered.load(Ordering::Relaxed),
            self.too_long.load(Ordering::Relaxed),
        )
    }
}

/// What the driver's features say that it does with frames it receives.
fn guest_offloads(features: u64) -> Offloads {
    offloads(
        [
            (feature::GUEST_CSUM, Offloads::CHECKSUM),
            (feature::GUEST_TSO4, Offloads::TCP4),
            (feature::GUEST_TSO6, Offloads::TCP6),
            (feature::GUEST_ECN, Offloads::ECN),
        ],
        features,
    )
}

/// What the driver's features say that it leaves to the device.
fn host_offloads(features: u64) -> Offloads {
    offloads(
        [
            (feature::CSUM, Offloads::CHECKSUM),
            (feature::HOST_TSO4, Offloads::TCP4),
            (feature::HOST_TSO6, Offloads::TCP6),
            (feature::HOST_ECN, Offloads::ECN),
        ],
        features,
    )
}

fn offloads(table: [(u64, Offloads); 4], features: u64) -> Offloads {
    let there = table.into_iter().filter(|(bit, _)| features & bit != 0);
    there.map(|(_, offload)| offload).collect()
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
