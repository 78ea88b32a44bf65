//! A tiny driver: it sets a port up as a guest would, builds commands in guest memory and issues them.

mod cd;
mod disk;
mod hostile;
mod queue;
mod registers;

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hvf_sys::ram::Ram;
use tempfile::NamedTempFile;

use super::{Controller, Drive};
use crate::backend::disk::Disk;
use crate::bus::{Access, Device, Line, LineSink, Nanos, Width};
use crate::pci::{Command, Function, MsiSink, Plug, reg};
use crate::spec::{self, DiskAccess};

pub(super) const RAM: u64 = 0x40_0000;
/// Command lists and received FISes, a page of each a port; then tables, a page a slot.
pub(super) const LIST: u64 = 0x1_0000;
pub(super) const RECEIVED: u64 = 0x2_0000;
const TABLE: u64 = 0x4_0000;
pub(super) const BUFFER: u64 = 0x10_0000;

// The HBA's registers.
pub(super) const GHC: u64 = 0x04;
pub(super) const IS: u64 = 0x08;
pub(super) const PI: u64 = 0x0c;

// A port's registers.
pub(super) const CLB: u64 = 0x00;
pub(super) const FB: u64 = 0x08;
pub(super) const PIS: u64 = 0x10;
pub(super) const PIE: u64 = 0x14;
pub(super) const CMD: u64 = 0x18;
pub(super) const TFD: u64 = 0x20;
pub(super) const SIG: u64 = 0x24;
pub(super) const SSTS: u64 = 0x28;
pub(super) const SCTL: u64 = 0x2c;
pub(super) const SERR: u64 = 0x30;
pub(super) const SACT: u64 = 0x34;
pub(super) const CI: u64 = 0x38;

pub(super) const ST: u32 = 1;
pub(super) const CLO: u32 = 1 << 3;
pub(super) const FRE: u32 = 1 << 4;
pub(super) const FR: u32 = 1 << 14;
pub(super) const CR: u32 = 1 << 15;

// Interrupt status of a port.
pub(super) const DHRS: u32 = 1;
pub(super) const PSS: u32 = 1 << 1;
pub(super) const SDBS: u32 = 1 << 3;
pub(super) const DPS: u32 = 1 << 5;
pub(super) const OFS: u32 = 1 << 24;
pub(super) const IFS: u32 = 1 << 27;
pub(super) const HBFS: u32 = 1 << 29;
pub(super) const TFES: u32 = 1 << 30;

#[derive(Default)]
pub(super) struct Sent(Mutex<u32>);

impl MsiSink for Sent {
    fn msi(&self, _address: u64, _data: u32) {
        *self.0.lock().unwrap() += 1;
    }
}

#[derive(Default)]
pub(super) struct Wire(Mutex<bool>);

impl LineSink for Wire {
    fn drive(&self, _driver: u32, level: bool) {
        *self.0.lock().unwrap() = level;
    }
}

/// A command to put into a slot.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    pub(super) code: u8,
    pub(super) features: u16,
    pub(super) lba: u64,
    pub(super) device: u8,
    pub(super) count: u16,
    pub(super) auxiliary: u32,
    pub(super) packet: Option<Vec<u8>>,
    /// Regions: address and length.
    pub(super) regions: Vec<(u64, u32)>,
}

impl Order {
    /// A command with an LBA.
    pub(super) fn new(code: u8, lba: u64, count: u16) -> Self {
        Self {
            code,
            lba,
            count,
            device: 0x40,
            ..Self::default()
        }
    }

    /// A queued command.
    pub(super) fn queued(code: u8, tag: u8, lba: u64, count: u16) -> Self {
        Self {
            features: count,
            ..Self::new(code, lba, u16::from(tag) << 3)
        }
    }

    /// With one region.
    pub(super) fn with(self, at: u64, len: u32) -> Self {
        Self {
            regions: vec![(at, len)],
            ..self
        }
    }

    pub(super) fn fis(&self) -> [u8; 20] {
        let (lba, count) = (self.lba.to_le_bytes(), self.count.to_le_bytes());
        let features = self.features.to_le_bytes();
        let mut fis = [0; 20];
        fis[..4].copy_from_slice(&[0x27, 0x80, self.code, features[0]]);
        fis[4..7].copy_from_slice(&lba[..3]);
        fis[7] = self.device;
        fis[8..11].copy_from_slice(&lba[3..6]);
        fis[11] = features[1];
        fis[12..14].copy_from_slice(&count);
        fis[16..].copy_from_slice(&self.auxiliary.to_le_bytes());
        fis
    }
}

pub(super) struct Driver {
    pub(super) device: Controller,
    pub(super) ram: Arc<Ram>,
    sent: Arc<Sent>,
    wire: Arc<Wire>,
}

impl Driver {
    /// A controller that its driver has not touched yet, but for switching on bus mastering.
    pub(super) fn new(drives: Vec<Drive>) -> Self {
        let ram = Ram::new(&[(0, RAM)]).unwrap();
        let (sent, wire) = (Arc::<Sent>::default(), Arc::<Wire>::default());
        let plug = Plug {
            slot: 5,
            line: Line::new(wire.clone(), 0),
            sink: sent.clone(),
            ram: ram.clone(),
        };
        let mut driver = Self {
            device: Controller::new(drives, plug).unwrap(),
            ram,
            sent,
            wire,
        };
        driver.command(Command::MEMORY | Command::BUS_MASTER);
        driver
    }

    /// A controller whose ports run, with interrupts.
    pub(super) fn live(drives: Vec<Drive>) -> Self {
        let mut driver = Self::new(drives);
        driver.set(GHC, 2);
        let ports = driver.get(PI);
        (0..6)
            .filter(|port| ports & 1 << port != 0)
            .for_each(|port| driver.start(port));
        driver
    }

    pub(super) fn command(&mut self, command: Command) {
        let value = u32::from(command.bits());
        self.device.config_write(reg::COMMAND, Width::Word, value);
    }

    pub(super) fn start(&mut self, port: u64) {
        for (register, value) in [(CLB, LIST), (FB, RECEIVED)] {
            self.write(port, register, (value + port * 0x1000) as u32);
            self.write(port, register + 4, 0);
        }
        self.write(port, SERR, u32::MAX);
        self.write(port, PIS, u32::MAX);
        self.write(port, PIE, u32::MAX);
        self.write(port, CMD, FRE);
        self.write(port, CMD, FRE | ST);
    }

    /// Stops a port and starts it again, as after an error.
    pub(super) fn restart(&mut self, port: u64) {
        self.write(port, CMD, FRE);
        self.start(port);
    }

    pub(super) fn access(&mut self, offset: u64, width: Width, write: Option<u64>) -> u64 {
        let access = Access {
            region: 5,
            offset,
            width,
            now: Nanos(0),
        };
        match write {
            Some(value) => {
                self.device.write(access, value & width.ones());
                0
            }
            None => self.device.read(access) & width.ones(),
        }
    }

    pub(super) fn get(&mut self, offset: u64) -> u32 {
        self.access(offset, Width::Dword, None) as u32
    }

    pub(super) fn set(&mut self, offset: u64, value: u32) {
        self.access(offset, Width::Dword, Some(value.into()));
    }

    pub(super) fn read(&mut self, port: u64, register: u64) -> u32 {
        self.get(0x100 + port * 0x80 + register)
    }

    pub(super) fn write(&mut self, port: u64, register: u64, value: u32) {
        self.set(0x100 + port * 0x80 + register, value);
    }

    pub(super) fn header(port: u64, slot: u64) -> u64 {
        LIST + port * 0x1000 + slot * 32
    }

    pub(super) fn table(slot: u64) -> u64 {
        TABLE + slot * 0x1000
    }

    /// Puts a command into a slot.
    pub(super) fn put(&self, port: u64, slot: u64, order: &Order) {
        let table = Self::table(slot);
        self.ram.write(table, &order.fis()).unwrap();
        let packet = order.packet.clone().unwrap_or_default();
        self.ram.write(table + 0x40, &packet).unwrap();
        for (i, &(at, len)) in order.regions.iter().enumerate() {
            let region = table + 0x80 + 16 * i as u64;
            self.ram.store_u64(region, at).unwrap();
            self.ram.store_u32(region + 8, 0).unwrap();
            self.ram
                .store_u32(region + 12, len.wrapping_sub(1))
                .unwrap();
        }
        let atapi = u32::from(order.packet.is_some()) << 5;
        let flags = 5 | atapi | (order.regions.len() as u32) << 16;
        let header = Self::header(port, slot);
        self.ram.store_u32(header, flags).unwrap();
        self.ram.store_u32(header + 4, 0).unwrap();
        self.ram.store_u64(header + 8, table).unwrap();
    }

    /// Issues what stands in slots.
    pub(super) fn issue(&mut self, port: u64, slots: u32) {
        self.write(port, CI, slots);
    }

    /// Issues a command in slot 0 and waits for its end: the task file.
    pub(super) fn run(&mut self, port: u64, order: &Order) -> u32 {
        self.put(port, 0, order);
        self.issue(port, 1);
        self.wait(|driver| driver.read(port, CI) == 0 || driver.stopped(port));
        self.read(port, TFD)
    }

    /// Issues a command that must go well.
    pub(super) fn ok(&mut self, port: u64, order: &Order) {
        let tfd = self.run(port, order);
        assert_eq!(tfd & 0x89, 0, "{order:x?} gave {tfd:#x}");
        assert_eq!(self.read(port, CI), 0);
    }

    /// Issues a command that must fail, gives the error register, and starts the port again.
    pub(super) fn fails(&mut self, port: u64, order: &Order) -> u8 {
        let tfd = self.run(port, order);
        assert_eq!(tfd & 1, 1, "{order:x?} gave {tfd:#x}");
        assert_ne!(self.read(port, PIS) & TFES, 0);
        self.restart(port);
        (tfd >> 8) as u8
    }

    pub(super) fn stopped(&mut self, port: u64) -> bool {
        self.read(port, PIS) & (TFES | HBFS | IFS) != 0
    }

    pub(super) fn wait(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < Duration::from_secs(20), "it does not end");
            std::thread::yield_now();
        }
    }

    pub(super) fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.ram.read(at, &mut bytes).unwrap();
        bytes
    }

    /// A received FIS.
    pub(super) fn received(&self, port: u64, at: u64, len: usize) -> Vec<u8> {
        self.bytes(RECEIVED + port * 0x1000 + at, len)
    }

    pub(super) fn wire(&self) -> bool {
        *self.wire.0.lock().unwrap()
    }

    pub(super) fn messages(&self) -> u32 {
        *self.sent.0.lock().unwrap()
    }
}

/// A file of so many sectors, each of which begins with its number.
pub(super) fn image(sectors: u64) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(sectors * 512).unwrap();
    for sector in 0..sectors {
        let number = sector.to_le_bytes();
        file.as_file().write_all_at(&number, sector * 512).unwrap();
    }
    file
}

/// A disk of so many sectors.
pub(super) fn disk(sectors: u64, access: DiskAccess) -> Drive {
    Drive::Disk(open(image(sectors).path(), access), "0123".to_owned())
}

fn open(path: &Path, access: DiskAccess) -> Disk {
    let path = path.to_owned();
    Disk::open(&spec::Disk { path, access }).unwrap()
}
