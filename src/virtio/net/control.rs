//! The control queue (5.1.6.5), and what it controls: which frames the guest gets, and how unfinished they may be.

use hvf_sys::ram::{OutsideRam, Ram};

use super::{Net, feature, guest_offloads, locked};
use crate::backend::net::{Mac, Offloads};
use crate::virtio::{Buffers, Turn};

/// Classes and their commands.
mod class {
    pub(super) const RX: u8 = 0;
    pub(super) const MAC: u8 = 1;
    pub(super) const GUEST_OFFLOADS: u8 = 5;
}
mod rx {
    pub(super) const PROMISC: u8 = 0;
    pub(super) const ALLMULTI: u8 = 1;
}
mod mac {
    pub(super) const TABLE_SET: u8 = 0;
    pub(super) const ADDR_SET: u8 = 1;
}
const GUEST_OFFLOADS_SET: u8 = 0;

/// `ack`.
const OK: u8 = 0;
const ERR: u8 = 1;

/// Addresses in one table. A driver that has more gets everything of that kind, as 5.1.6.5.2 allows.
const ADDRESSES_MAX: usize = 64;
const BROADCAST: Mac = [0xff; 6];

/// A command that is not understood, or that asks for what was not agreed on.
struct Refused;

impl From<OutsideRam> for Refused {
    fn from(_: OutsideRam) -> Self {
        Self
    }
}

impl Net {
    /// Carries out what waits. Frames that are received afterwards know of it.
    pub(super) fn control(&self, turn: &mut Turn<'_>) {
        while let Some(request) = turn.take() {
            let _between = locked(&self.receive);
            let outcome = self.command(turn, &request.chain.readable);
            let ack = if outcome.is_ok() { OK } else { ERR };
            let written = request.chain.writable.write(turn.ram(), &[ack]);
            turn.give(&[request.used(written.unwrap_or(0) as u32)]);
        }
    }

    fn command(&self, turn: &Turn<'_>, buffers: &Buffers) -> Result<(), Refused> {
        let (ram, features) = (turn.ram(), turn.features());
        let [class, command] = read(buffers, ram)?;
        let needed = match (class, command) {
            (class::RX, _) => feature::CTRL_RX,
            (class::MAC, mac::TABLE_SET) => feature::CTRL_RX,
            (class::MAC, mac::ADDR_SET) => feature::CTRL_MAC_ADDR,
            (class::GUEST_OFFLOADS, _) => feature::CTRL_GUEST_OFFLOADS,
            _ => return Err(Refused),
        } | feature::CTRL_VQ;
        if features & needed != needed {
            return Err(Refused);
        }
        let data = buffers.split(2).1;
        match (class, command) {
            (class::RX, rx::PROMISC) => self.filter().promiscuous = switch(&data, ram)?,
            (class::RX, rx::ALLMULTI) => self.filter().all_multicast = switch(&data, ram)?,
            (class::MAC, mac::TABLE_SET) => {
                let (unicast, rest) = Table::read(&data, ram)?;
                let (multicast, _) = Table::read(&rest, ram)?;
                let mut filter = self.filter();
                (filter.unicast, filter.multicast) = (unicast, multicast);
            }
            (class::MAC, mac::ADDR_SET) => {
                self.filter().mac = read(&data, ram)?;
                turn.config_changed();
            }
            (class::GUEST_OFFLOADS, GUEST_OFFLOADS_SET) => {
                let wanted = u64::from_le_bytes(read(&data, ram)?);
                if wanted & !(features & feature::GUEST) != 0 {
                    return Err(Refused);
                }
                self.filter().offloads = Some(guest_offloads(wanted));
            }
            _ => return Err(Refused),
        }
        Ok(())
    }
}

fn read<const N: usize>(buffers: &Buffers, ram: &Ram) -> Result<[u8; N], Refused> {
    let mut bytes = [0; N];
    if buffers.read(ram, &mut bytes)? < N {
        return Err(Refused);
    }
    Ok(bytes)
}

fn switch(buffers: &Buffers, ram: &Ram) -> Result<bool, Refused> {
    match read(buffers, ram)? {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(Refused),
    }
}

/// Which frames a guest gets. Until a driver says otherwise, all of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) mac: Mac,
    promiscuous: bool,
    all_multicast: bool,
    unicast: Table,
    multicast: Table,
    /// What it does with unfinished frames, where that is not what its features say.
    offloads: Option<Offloads>,
}

impl Filter {
    pub(super) fn new(mac: Mac) -> Self {
        Self {
            mac,
            promiscuous: true,
            all_multicast: false,
            unicast: Table::default(),
            multicast: Table::default(),
            offloads: None,
        }
    }

    /// What the guest does with unfinished frames.
    pub(super) fn offloads(&self, features: u64) -> Offloads {
        let does = self.offloads.unwrap_or(guest_offloads(features));
        // Nobody can cut who does not do checksums (5.1.3.1).
        if does.contains(Offloads::CHECKSUM) {
            does
        } else {
            Offloads::empty()
        }
    }

    /// Whether the guest wants frames to this address.
    pub(super) fn wants(&self, to: &Mac) -> bool {
        let listed = if to[0] & 1 == 0 {
            *to == self.mac || self.unicast.has(to)
        } else {
            *to == BROADCAST || self.all_multicast || self.multicast.has(to)
        };
        self.promiscuous || listed
    }
}

/// Addresses that a guest listens to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Table {
    addresses: Vec<Mac>,
    /// There are more than are kept.
    all: bool,
}

impl Table {
    /// Reads a number of entries and as many addresses; gives what is behind.
    fn read(buffers: &Buffers, ram: &Ram) -> Result<(Self, Buffers), Refused> {
        let count = u32::from_le_bytes(read(buffers, ram)?);
        let mut rest = buffers.split(4).1;
        let len = u64::from(count) * size_of::<Mac>() as u64;
        if len > rest.len() {
            return Err(Refused);
        }
        let mut table = Self {
            addresses: Vec::new(),
            all: count as usize > ADDRESSES_MAX,
        };
        let behind = rest.split(len).1;
        if !table.all {
            for _ in 0..count {
                table.addresses.push(read(&rest, ram)?);
                rest = rest.split(size_of::<Mac>() as u64).1;
            }
        }
        Ok((table, behind))
    }

    fn has(&self, address: &Mac) -> bool {
        self.all || self.addresses.contains(address)
    }
}
