//! A virtio device as a PCI function (4.1): BAR 0 holds the four structures, BAR 1 the MSI-X table.
//!
//! BAR 0, a page each: common configuration, interrupt status, the type's configuration, and notifications with one
//! dword for each queue. The window in configuration space (4.1.4.9) leads to the same registers.

use std::io;
use std::sync::Arc;

use hvf_sys::ram::Ram;

use super::common::{self, Common, Effect};
use super::ring::Queue;
use super::signal::Signal;
use super::workers::{Live, Workers};
use super::{Model, feature};
use crate::bus::map::Widths;
use crate::bus::{Access, Device, Width};
use crate::layout;
use crate::pci::{
    Bar, BarKind, Command, Decoding, Endpoint, Function, Header, MsixPlace, Plug, capability,
};

/// The vendor id of virtio devices, and the device id of type 0 (4.1.2).
const VENDOR: u16 = 0x1af4;
const DEVICE: u16 = 0x1040;

/// BARs, which are also the device's regions.
const REGISTERS: u8 = 0;
const MSIX: u8 = 1;

/// A structure's page in BAR 0, and where the page starts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Structure {
    Common = 0,
    Isr = 1,
    Type = 2,
    Notify = 3,
}

const PAGE: u64 = 0x1000;
const STRUCTURES: [Structure; 4] = [
    Structure::Common,
    Structure::Isr,
    Structure::Type,
    Structure::Notify,
];

/// Bytes from one queue's notification register to the next.
const NOTIFY_STRIDE: u32 = 4;

/// Types of capabilities (4.1.4).
mod kind {
    pub(super) const COMMON: u8 = 1;
    pub(super) const NOTIFY: u8 = 2;
    pub(super) const ISR: u8 = 3;
    pub(super) const DEVICE: u8 = 4;
    pub(super) const PCI: u8 = 5;
}

/// Fields of a capability, from its start.
mod cap {
    pub(super) const BAR: u8 = 4;
    pub(super) const OFFSET: u8 = 8;
    pub(super) const LENGTH: u8 = 12;
    pub(super) const DATA: u8 = 16;
    pub(super) const END: u8 = 20;
}

/// A virtio device.
pub struct VirtioPci {
    // Configuration.
    model: Arc<dyn Model>,
    window: u8,
    // Wires.
    ram: Arc<Ram>,
    signal: Arc<Signal>,
    workers: Workers,
    // State.
    endpoint: Endpoint,
    common: Common,
}

impl VirtioPci {
    /// Plugs `model` in, with so many threads to serve its requests.
    pub fn new(model: Arc<dyn Model>, threads: usize, plug: Plug) -> io::Result<Self> {
        let identity = model.identity();
        let header = Header {
            vendor: VENDOR,
            device: DEVICE + identity.kind,
            class: identity.class,
            revision: 1,
            subsystem_vendor: VENDOR,
            subsystem: DEVICE + identity.kind,
            interrupt_pin: 1,
            interrupt_line: layout::PIRQ_IRQ[layout::intx_pirq(plug.slot, 0)],
        };
        let queues = model.queues();
        let mut endpoint = Endpoint::new(&header, plug.line, plug.sink);
        let size = PAGE * STRUCTURES.len() as u64;
        endpoint.declare_bar(
            REGISTERS.into(),
            Bar::new(BarKind::Memory32, size, Widths::ALL),
        );
        endpoint.declare_bar(
            MSIX.into(),
            Bar::new(BarKind::Memory32, 2 * PAGE, Widths::ALL),
        );
        let window = add_capabilities(&mut endpoint, &*model);
        endpoint.add_msix(
            queues + 1,
            MsixPlace {
                bar: MSIX,
                table: 0,
                pending: PAGE as u32,
            },
        );
        let generic = feature::INDIRECT_DESC | feature::EVENT_IDX | feature::VERSION_1;
        let signal = Arc::new(Signal::new(
            identity.name,
            endpoint.interrupt().clone(),
            queues,
        ));
        let offered = model.features() | generic;
        let workers = Workers::start(identity.name, threads)?;
        model.plugged(workers.bell());
        Ok(Self {
            common: Common::new(offered, queues, plug.ram.clone(), signal.clone()),
            workers,
            model,
            window,
            ram: plug.ram,
            signal,
            endpoint,
        })
    }

    fn registers_read(&self, offset: u64, width: Width) -> u64 {
        let (structure, at) = locate(offset);
        match structure {
            Some(Structure::Common) => self.common.read(at, width),
            Some(Structure::Isr) if at == 0 => u64::from(self.signal.take_status()),
            Some(Structure::Type) => read_bytes(&self.model.config(), at, width),
            // Notification registers are written only.
            Some(Structure::Isr | Structure::Notify) => 0,
            None => width.ones(),
        }
    }

    fn registers_write(&mut self, offset: u64, width: Width, value: u64) {
        let (structure, at) = locate(offset);
        match structure {
            Some(Structure::Common) => match self.common.write(at, width, value) {
                Effect::None => {}
                Effect::Reset => self.reset_registers(),
                Effect::Go => self.go(),
            },
            Some(Structure::Notify) => {
                let queue = at / u64::from(NOTIFY_STRIDE);
                if queue < u64::from(self.model.queues()) {
                    self.workers.notify(queue as u16);
                }
            }
            Some(Structure::Isr | Structure::Type) | None => {}
        }
    }

    fn go(&mut self) {
        let queue = |layout| Queue::new(layout, self.ram.clone());
        let queues = self.common.layouts().into_iter().map(|l| l.map(queue));
        self.workers.go(Live {
            model: self.model.clone(),
            ram: self.ram.clone(),
            signal: self.signal.clone(),
            queues: queues.collect(),
            features: self.common.features(),
        });
    }

    /// A reset as the driver asks for it: PCI state stays. When it returns, no request is in flight.
    fn reset_registers(&mut self) {
        self.workers.drain();
        self.model.reset();
        self.common.reset();
        self.signal.reset();
    }

    /// The access that the window in configuration space means: 1, 2 or 4 bytes of BAR 0, aligned.
    fn windowed(&mut self) -> Option<(u64, Width)> {
        let mut field = |at| self.endpoint.config_read(self.window + at, Width::Dword);
        let bar = field(cap::BAR) as u8;
        let (offset, len) = (u64::from(field(cap::OFFSET)), u64::from(field(cap::LENGTH)));
        let width = Width::from_bytes(len).filter(|width| *width <= Width::Dword)?;
        let inside = bar == REGISTERS && offset < PAGE * STRUCTURES.len() as u64;
        (inside && offset.is_multiple_of(len)).then_some((offset, width))
    }

    /// Whether an access to configuration space touches the window's data.
    fn touches_window(&self, offset: u8, width: Width) -> bool {
        let (start, end) = (u64::from(offset), u64::from(offset) + width.bytes());
        start < u64::from(self.window + cap::END) && end > u64::from(self.window + cap::DATA)
    }
}

/// The structure that an offset in BAR 0 lies in, and the offset there.
fn locate(offset: u64) -> (Option<Structure>, u64) {
    let structure = usize::try_from(offset / PAGE).ok();
    let structure = structure.and_then(|index| STRUCTURES.get(index).copied());
    (structure, offset % PAGE)
}

/// Reads little-endian bytes; all ones behind the end.
fn read_bytes(bytes: &[u8], offset: u64, width: Width) -> u64 {
    (0..width.bytes()).fold(0, |value, i| {
        let at = usize::try_from(offset + i).unwrap_or(usize::MAX);
        value | u64::from(*bytes.get(at).unwrap_or(&0xff)) << (8 * i)
    })
}

/// Describes the structures (4.1.4); returns where the window's capability is.
fn add_capabilities(endpoint: &mut Endpoint, model: &dyn Model) -> u8 {
    let notify = NOTIFY_STRIDE * u32::from(model.queues());
    let config = model.config().len() as u32;
    let mut add = |kind, structure: Structure, length, more: &[u8], writable: &[u8]| {
        let mut body = vec![cap::DATA + more.len() as u8, kind, REGISTERS, 0, 0, 0];
        body.extend((structure as u32 * PAGE as u32).to_le_bytes());
        body.extend(u32::to_le_bytes(length));
        body.extend(more);
        endpoint.add_capability(capability::VENDOR, &body, writable)
    };
    add(
        kind::COMMON,
        Structure::Common,
        common::LEN as u32,
        &[],
        &[],
    );
    add(
        kind::NOTIFY,
        Structure::Notify,
        notify,
        &NOTIFY_STRIDE.to_le_bytes(),
        &[],
    );
    add(kind::ISR, Structure::Isr, 1, &[], &[]);
    if config > 0 {
        add(kind::DEVICE, Structure::Type, config, &[], &[]);
    }
    // From the third byte on: length and type are fixed, then BAR, padding, offset, length and data.
    let mut writable = [0xff; 18];
    writable[..2].fill(0);
    writable[3..6].fill(0);
    add(kind::PCI, Structure::Common, 0, &[0; 4], &writable)
}

impl Device for VirtioPci {
    fn read(&mut self, access: Access) -> u64 {
        match access.region {
            REGISTERS => self.registers_read(access.offset, access.width),
            _ => self.endpoint.msix_read(access.offset, access.width),
        }
    }

    fn write(&mut self, access: Access, value: u64) {
        match access.region {
            REGISTERS => self.registers_write(access.offset, access.width, value),
            _ => self.endpoint.msix_write(access.offset, access.width, value),
        }
    }

    fn reset(&mut self) {
        self.reset_registers();
        self.endpoint.reset();
    }
}

impl Function for VirtioPci {
    fn endpoint(&mut self) -> &mut Endpoint {
        &mut self.endpoint
    }

    fn config_read(&mut self, offset: u8, width: Width) -> u32 {
        if self.touches_window(offset, width)
            && let Some((at, width)) = self.windowed()
        {
            let value = self.registers_read(at, width) as u32;
            self.endpoint
                .show(self.window + cap::DATA, &value.to_le_bytes());
        }
        self.endpoint.config_read(offset, width)
    }

    fn config_write(&mut self, offset: u8, width: Width, value: u32) -> Option<Decoding> {
        let before = self.endpoint.command();
        let moved = self.endpoint.config_write(offset, width, value);
        if self.touches_window(offset, width)
            && let Some((at, width)) = self.windowed()
        {
            let data = self
                .endpoint
                .config_read(self.window + cap::DATA, Width::Dword);
            self.registers_write(at, width, u64::from(data) & width.ones());
        }
        if (self.endpoint.command() - before).contains(Command::BUS_MASTER) {
            self.workers.notify_all();
        }
        moved
    }
}
