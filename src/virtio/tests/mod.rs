//! A tiny driver: it sets a device up through its registers as a guest would, and builds rings in guest memory.

mod blk;
mod hostile;
mod net;
mod rnd;
mod rules;
mod transport;
mod workers;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hvf_sys::ram::Ram;

use super::{Model, Status, VirtioPci, feature};
use crate::bus::{Access, Device, Line, Nanos, Width};
use crate::pci::{Command, Function, MsiSink, Plug, reg};

/// Everything a queue of the driver's needs lies in the low half of RAM, buffers in the upper one.
pub(super) const RAM: u64 = 0x20_0000;
pub(super) const BUFFERS: u64 = 0x10_0000;
const QUEUE_AREA: u64 = 0x4000;

// Common configuration.
pub(super) const STATUS: u64 = 20;
pub(super) const QUEUE_SELECT: u64 = 22;
pub(super) const QUEUE_SIZE: u64 = 24;
pub(super) const QUEUE_ENABLE: u64 = 28;
pub(super) const QUEUE_DESC: u64 = 32;
pub(super) const QUEUE_DRIVER: u64 = 40;
pub(super) const QUEUE_DEVICE: u64 = 48;

pub(super) const NEXT: u16 = 1;
pub(super) const WRITE: u16 = 2;
pub(super) const INDIRECT: u16 = 4;

#[derive(Default)]
pub(super) struct Sent(Mutex<Vec<u32>>);

impl MsiSink for Sent {
    fn msi(&self, _address: u64, data: u32) {
        self.0.lock().unwrap().push(data);
    }
}

/// A buffer: address, length, and whether the device may write it.
pub(super) type Buffer = (u64, u32, bool);

pub(super) struct Driver {
    pub(super) device: VirtioPci,
    pub(super) ram: Arc<Ram>,
    pub(super) features: u64,
    sent: Arc<Sent>,
    queues: Vec<Rings>,
}

#[derive(Clone, Copy)]
struct Rings {
    size: u16,
    next_descriptor: u16,
    available: u16,
    used: u16,
}

impl Driver {
    /// A device that its driver has not touched yet, but for switching on bus mastering and MSI-X: vector and data of
    /// a queue's message are the queue's number, those of the configuration's message the number of queues.
    pub(super) fn new(model: Arc<dyn Model>, threads: usize) -> Self {
        let ram = Ram::new(&[(0, RAM)]).unwrap();
        let sent = Arc::new(Sent::default());
        let queues = model.queues();
        let plug = Plug {
            slot: 2,
            line: Line::loose(),
            sink: sent.clone(),
            ram: ram.clone(),
        };
        let mut driver = Self {
            device: VirtioPci::new(model, threads, plug).unwrap(),
            ram,
            features: 0,
            sent,
            queues: Vec::new(),
        };
        let command = Command::MEMORY | Command::BUS_MASTER;
        driver
            .device
            .config_write(reg::COMMAND, Width::Word, command.bits().into());
        let msix = driver.capability(0x11, None);
        driver.device.config_write(msix + 2, Width::Word, 0x8000);
        for vector in 0..=u64::from(queues) {
            driver.access(1, 16 * vector + 8, Width::Dword, Some(vector));
            driver.access(1, 16 * vector + 12, Width::Dword, Some(0));
        }
        driver
    }

    /// A device that is live, with every queue of `size` entries.
    pub(super) fn live(model: Arc<dyn Model>, threads: usize, features: u64, size: u16) -> Self {
        let queues = model.queues();
        let mut driver = Self::new(model, threads);
        driver.bring_up(queues, features, size);
        driver
    }

    /// From reset to DRIVER_OK.
    pub(super) fn bring_up(&mut self, queues: u16, features: u64, size: u16) {
        self.negotiate(features | feature::VERSION_1);
        self.queues = (0..queues).map(|queue| self.set_up(queue, size)).collect();
        self.set(16, Width::Word, queues.into());
        self.set_status(Status::DRIVER_OK);
        assert!(self.status().contains(Status::DRIVER_OK));
    }

    pub(super) fn negotiate(&mut self, features: u64) {
        self.set_status(Status::ACKNOWLEDGE);
        self.set_status(Status::DRIVER);
        for half in 0..2 {
            self.set(8, Width::Dword, half);
            self.set(12, Width::Dword, features >> (32 * half) & 0xffff_ffff);
        }
        self.features = features;
        self.set_status(Status::FEATURES_OK);
    }

    fn set_up(&mut self, queue: u16, size: u16) -> Rings {
        self.set(QUEUE_SELECT, Width::Word, queue.into());
        self.set(QUEUE_SIZE, Width::Word, size.into());
        self.set(26, Width::Word, queue.into());
        let base = u64::from(queue) * QUEUE_AREA;
        self.set(QUEUE_DESC, Width::Qword, base);
        self.set(QUEUE_DRIVER, Width::Dword, base + 0x1000);
        self.set(QUEUE_DEVICE, Width::Dword, base + 0x2000);
        self.set(QUEUE_ENABLE, Width::Word, 1);
        assert_eq!(self.cfg(QUEUE_ENABLE, Width::Word), 1);
        Rings {
            size,
            next_descriptor: 0,
            available: 0,
            used: 0,
        }
    }

    pub(super) fn access(
        &mut self,
        region: u8,
        offset: u64,
        width: Width,
        write: Option<u64>,
    ) -> u64 {
        let access = Access {
            region,
            offset,
            width,
            now: Nanos(0),
        };
        match write {
            Some(value) => {
                self.device.write(access, value & width.ones());
                0
            }
            None => self.device.read(access),
        }
    }

    pub(super) fn cfg(&mut self, offset: u64, width: Width) -> u64 {
        self.access(0, offset, width, None)
    }

    pub(super) fn set(&mut self, offset: u64, width: Width, value: u64) {
        self.access(0, offset, width, Some(value));
    }

    pub(super) fn status(&mut self) -> Status {
        Status::from_bits_retain(self.cfg(STATUS, Width::Byte) as u8)
    }

    pub(super) fn set_status(&mut self, add: Status) {
        let status = self.status() | add;
        self.set(STATUS, Width::Byte, status.bits().into());
    }

    /// The offset of the capability with this id and, for vendor capabilities, type.
    pub(super) fn capability(&mut self, id: u8, kind: Option<u8>) -> u8 {
        let mut at = self.device.config_read(reg::CAPABILITIES, Width::Byte) as u8;
        while at != 0 {
            let head = self.device.config_read(at, Width::Dword).to_le_bytes();
            if head[0] == id && kind.is_none_or(|kind| kind == head[3]) {
                return at;
            }
            at = head[1];
        }
        panic!("no capability {id:#x} {kind:?}");
    }

    /// Writes a descriptor of a queue's table.
    pub(super) fn describe(
        &self,
        queue: u16,
        index: u16,
        buffer: (u64, u32),
        flags: u16,
        next: u16,
    ) {
        let at = u64::from(queue) * QUEUE_AREA + 16 * u64::from(index);
        self.describe_at(at, buffer, flags, next);
    }

    pub(super) fn describe_at(&self, at: u64, buffer: (u64, u32), flags: u16, next: u16) {
        self.ram.store_u64(at, buffer.0).unwrap();
        self.ram.store_u32(at + 8, buffer.1).unwrap();
        self.ram.store_u16(at + 12, flags).unwrap();
        self.ram.store_u16(at + 14, next).unwrap();
    }

    /// Makes `head` available without telling the device.
    pub(super) fn offer(&mut self, queue: u16, head: u16) {
        let rings = &mut self.queues[usize::from(queue)];
        let ring = u64::from(queue) * QUEUE_AREA + 0x1000;
        let entry = ring + 4 + 2 * u64::from(rings.available % rings.size);
        rings.available = rings.available.wrapping_add(1);
        self.ram.store_u16(entry, head).unwrap();
        self.ram.store_u16(ring + 2, rings.available).unwrap();
        self.ram.fence();
    }

    pub(super) fn notify(&mut self, queue: u16) {
        self.set(0x3000 + 4 * u64::from(queue), Width::Word, queue.into());
    }

    /// Offers a chain of buffers, in the ring's own table or by an indirect one at `table`; gives its head.
    pub(super) fn submit(&mut self, queue: u16, buffers: &[Buffer], table: Option<u64>) -> u16 {
        let rings = &mut self.queues[usize::from(queue)];
        let count = if table.is_some() {
            1
        } else {
            buffers.len() as u16
        };
        if rings.next_descriptor + count > rings.size {
            rings.next_descriptor = 0;
        }
        let head = rings.next_descriptor;
        rings.next_descriptor += count;
        for (i, &(gpa, len, write)) in buffers.iter().enumerate() {
            let last = i + 1 == buffers.len();
            let flags = if write { WRITE } else { 0 } | if last { 0 } else { NEXT };
            let index = i as u16 + if table.is_some() { 0 } else { head };
            match table {
                Some(table) => {
                    self.describe_at(table + 16 * u64::from(index), (gpa, len), flags, index + 1)
                }
                None => self.describe(queue, index, (gpa, len), flags, index + 1),
            }
        }
        if let Some(table) = table {
            self.describe(queue, head, (table, 16 * buffers.len() as u32), INDIRECT, 0);
        }
        self.offer(queue, head);
        self.notify(queue);
        head
    }

    /// The next used element, if the device has returned one.
    pub(super) fn used(&mut self, queue: u16) -> Option<(u32, u32)> {
        let rings = &mut self.queues[usize::from(queue)];
        let ring = u64::from(queue) * QUEUE_AREA + 0x2000;
        if self.ram.load_u16(ring + 2).unwrap() == rings.used {
            return None;
        }
        let entry = ring + 4 + 8 * u64::from(rings.used % rings.size);
        rings.used = rings.used.wrapping_add(1);
        Some((
            self.ram.load_u32(entry).unwrap(),
            self.ram.load_u32(entry + 4).unwrap(),
        ))
    }

    /// Waits for the next used element.
    pub(super) fn wait(&mut self, queue: u16) -> (u32, u32) {
        wait_for(|| self.used(queue))
    }

    /// Waits until the device says that it cannot go on.
    pub(super) fn wait_broken(&mut self) {
        wait_for(|| self.status().contains(Status::NEEDS_RESET).then_some(()));
    }

    /// The data of the messages so far.
    pub(super) fn messages(&self) -> Vec<u32> {
        self.sent.0.lock().unwrap().clone()
    }

    pub(super) fn reset(&mut self) {
        self.set(STATUS, Width::Byte, 0);
    }

    pub(super) fn ring(&self, queue: u16) -> u64 {
        u64::from(queue) * QUEUE_AREA
    }
}

/// Polls until there is something, for ten seconds.
pub(super) fn wait_for<T>(mut poll: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = poll() {
            return found;
        }
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "nothing happened"
        );
        std::thread::sleep(Duration::from_micros(50));
    }
}
