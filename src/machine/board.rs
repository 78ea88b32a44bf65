//! The board: everything that the machine's threads share. It is the `Platform` of every vCPU's run loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::bus::map::{Map, Space};
use crate::bus::{Device, Nanos, Slot, Timers, Width};
use crate::chipset::hub::Hub;
use crate::chipset::mailbox::{Mailbox, Message, Vectors};
use crate::chipset::pm::PmPort;
use crate::chipset::power::{Power, PowerSwitch};
use crate::engine::Platform;
use crate::pci::{MsiSink, PirqSink, Root};
use crate::spec::Publish;

/// The machine's time: nanoseconds since it was built. It never stands still and never runs backwards.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(&self) -> Nanos {
        // 2^64 nanoseconds are 584 years.
        Nanos(self.0.elapsed().as_nanos() as u64)
    }
}

/// Makes all vCPUs leave their run loops.
pub(super) struct Brake {
    pulled: AtomicBool,
    boxes: Vec<Arc<Mailbox>>,
}

impl Brake {
    pub(super) fn new(boxes: Vec<Arc<Mailbox>>) -> Arc<Self> {
        Arc::new(Self {
            pulled: AtomicBool::new(false),
            boxes,
        })
    }

    /// Sets atomics and kicks, nothing else: it is called with a device's slot held.
    pub(super) fn pull(&self) {
        self.pulled.store(true, Ordering::SeqCst);
        self.boxes.iter().for_each(|mailbox| mailbox.nudge());
    }

    pub(super) fn release(&self) {
        self.pulled.store(false, Ordering::SeqCst);
    }
}

/// The board.
pub(super) struct Board {
    pub(super) clock: Clock,
    pub(super) map: Map,
    pub(super) hub: Arc<Hub>,
    pub(super) boxes: Vec<Arc<Mailbox>>,
    pub(super) brake: Arc<Brake>,
    pub(super) switch: Arc<PowerSwitch>,
    pub(super) timers: Arc<Timers>,
    pub(super) root: Arc<Root>,
    pub(super) pm: Arc<Slot<PmPort>>,
    /// Everything with a reset of its own.
    pub(super) devices: Vec<Arc<Slot<dyn Device>>>,
    /// The guest's ports that can be reached from the host, and where.
    pub(super) published: Vec<Publish>,
}

impl Board {
    /// Resets everything but the processors, which stand still meanwhile. Devices first, so that no line of theirs
    /// is left high by what they were doing.
    pub(super) fn reset(&self) {
        for device in &self.devices {
            device.lock().reset();
        }
        self.root.reset();
        self.hub.reset();
        // Whatever was asked for before the reset is done with it.
        self.switch.take();
        self.brake.release();
    }
}

impl Platform for Board {
    fn now(&self) -> Nanos {
        self.clock.now()
    }

    fn must_stop(&self) -> bool {
        self.brake.pulled.load(Ordering::SeqCst)
    }

    fn reset_machine(&self) {
        self.switch.request(Power::Reset);
    }

    fn port_read(&self, port: u16, width: Width) -> u32 {
        let now = self.now();
        self.map.read(Space::Port, port.into(), width, now) as u32
    }

    fn port_write(&self, port: u16, width: Width, value: u32) {
        let now = self.now();
        self.map
            .write(Space::Port, port.into(), width, value.into(), now);
    }

    fn mmio_read(&self, gpa: u64, width: Width) -> u64 {
        self.map.read(Space::Memory, gpa, width, self.now())
    }

    fn mmio_write(&self, gpa: u64, width: Width, value: u64) {
        self.map.write(Space::Memory, gpa, width, value, self.now());
    }

    fn send(&self, from: usize, message: &Message) {
        self.hub.send(from, message);
    }

    fn end_of_interrupt(&self, vector: u8) {
        self.hub.end_of_interrupt(vector);
    }

    fn redirected(&self, unserved: &Vectors) {
        self.hub.redirected(unserved);
    }

    fn acknowledge(&self) -> Option<u8> {
        self.hub.acknowledge()
    }
}

/// The hub as PCI knows it.
pub(super) struct Fabric(pub(super) Arc<Hub>);

impl MsiSink for Fabric {
    fn msi(&self, address: u64, data: u32) {
        self.0.msi(address, data);
    }
}

impl PirqSink for Fabric {
    fn route(&self, pirq: usize, irq: Option<u8>) {
        self.0.route_pirq(pirq, irq);
    }
}
