//! A whole board without processors' threads: a test makes the accesses, and says what time it is.

use super::build;
use super::*;
use crate::bus::{Nanos, Width};
use crate::chipset::lapic::{Effect, Lapic};
use crate::engine::Platform;
use crate::layout::IOAPIC;
use crate::machine::board::Board;
use crate::spec::Drive;

/// The first LAPIC's registers.
pub(super) const PAGE: u64 = 0xfee0_0000;

/// A board with its LAPICs. Time goes where the test sets it.
pub(super) struct Bench {
    pub(super) board: Board,
    pub(super) lapics: Vec<Lapic>,
    pub(super) now: Nanos,
    _image: tempfile::NamedTempFile,
}

impl Bench {
    /// A machine of so many CPUs with a virtio and an AHCI disk, as firmware leaves it.
    pub(super) fn new(cpus: u8) -> Self {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(1 << 20).unwrap();
        let mut spec = spec(cpus, &[HALT]);
        let disk = Disk {
            path: image.path().to_owned(),
            access: DiskAccess::ThrowAway,
        };
        spec.disks = vec![disk.clone()];
        spec.drives = vec![Drive::Disk(disk)];
        Self::of(&spec, image)
    }

    /// The machine of `spec`, whose disks are `image`, as firmware leaves it.
    pub(super) fn of(spec: &MachineSpec, image: tempfile::NamedTempFile) -> Self {
        let media = build::Media::open(spec).unwrap();
        let ram = build::memory(spec.memory).unwrap();
        // Nobody listens to the serial ports: what they send is dropped.
        let board = build::board(spec, Cables::unplugged(), media, &ram).unwrap();
        let boxes = board.boxes.iter().cloned().enumerate();
        let lapics = boxes.map(|(id, mailbox)| Lapic::new(id as u8, mailbox));
        let mut bench = Self {
            lapics: lapics.collect(),
            board,
            now: Nanos(0),
            _image: image,
        };
        bench.lapics[0].set_virtual_wire();
        bench
    }

    /// `IN`.
    pub(super) fn input(&self, port: u64, width: Width) -> u64 {
        self.board.map.read(Space::Port, port, width, self.now)
    }

    /// `OUT`.
    pub(super) fn output(&self, port: u64, width: Width, value: u64) {
        let map = &self.board.map;
        map.write(Space::Port, port, width, value, self.now);
    }

    /// `OUT` of bytes to one port after another.
    pub(super) fn bytes(&self, writes: &[(u64, u8)]) {
        for &(port, byte) in writes {
            self.output(port, Width::Byte, byte.into());
        }
    }

    /// A load by CPU `cpu`: its LAPIC's page comes first.
    pub(super) fn load(&mut self, cpu: usize, address: u64, width: Width) -> u64 {
        if self.lapics[cpu].claims(address) {
            return self.lapics[cpu].mmio_read(address, width, self.now);
        }
        self.board.map.read(Space::Memory, address, width, self.now)
    }

    /// A store by CPU `cpu`.
    pub(super) fn store(&mut self, cpu: usize, address: u64, width: Width, value: u64) {
        if self.lapics[cpu].claims(address) {
            let effect = self.lapics[cpu].mmio_write(address, width, value, self.now);
            return self.apply(cpu, effect);
        }
        let map = &self.board.map;
        map.write(Space::Memory, address, width, value, self.now);
    }

    /// Writes an entry of the I/O APIC's redirection table.
    pub(super) fn entry(&mut self, pin: u64, value: u64) {
        for (index, half) in [(0x11, value >> 32), (0x10, value & 0xffff_ffff)] {
            self.store(0, IOAPIC.start, Width::Dword, index + 2 * pin);
            self.store(0, IOAPIC.start + 0x10, Width::Dword, half);
        }
    }

    /// `WRMSR` by CPU `cpu`, of an MSR that belongs to its LAPIC. False is #GP.
    pub(super) fn write_msr(&mut self, cpu: usize, msr: u32, value: u64) -> bool {
        let effect = self.lapics[cpu].msr_write(msr, value, self.now);
        let is_right = effect.is_some();
        self.apply(cpu, effect.unwrap_or(Effect::None));
        is_right
    }

    /// A dword of configuration space through ports 0xcf8 and 0xcfc.
    pub(super) fn config(&self, slot: u8, register: u8) -> u64 {
        let address = 0x8000_0000 | u64::from(slot) << 11 | u64::from(register & 0xfc);
        self.output(0xcf8, Width::Dword, address);
        self.input(0xcfc, Width::Dword)
    }

    /// Lets all of the machine arrive at `now`.
    pub(super) fn arrive(&mut self, now: Nanos) {
        self.now = now;
        self.board.timers.advance_due(now);
    }

    /// When something wants to happen next.
    pub(super) fn deadline(&self) -> Option<Nanos> {
        let lapics = self.lapics.iter().filter_map(Lapic::deadline);
        lapics.chain(self.board.timers.earliest()).min()
    }

    /// The next vector that CPU `cpu` is interrupted with, taken.
    pub(super) fn interrupt(&mut self, cpu: usize) -> Option<u8> {
        let work = self.lapics[cpu].scan(self.now);
        if !work.released.is_empty() {
            self.board.redirected(&work.released);
        }
        if work.init {
            let unserved = self.lapics[cpu].init();
            self.board.redirected(&unserved);
        }
        let vector = self.lapics[cpu].pending()?;
        self.lapics[cpu].accept(vector);
        Some(vector)
    }

    /// Resets everything, processors too.
    pub(super) fn reset(&mut self) {
        self.lapics.iter_mut().for_each(Lapic::reset);
        self.board.reset();
        self.lapics[0].set_virtual_wire();
    }

    fn apply(&self, cpu: usize, effect: Effect) {
        match effect {
            Effect::None => {}
            Effect::Send(message) => self.board.send(cpu, &message),
            Effect::Eoi(vector) => self.board.end_of_interrupt(vector),
            Effect::Redirected(unserved) => self.board.redirected(&unserved),
        }
    }
}
