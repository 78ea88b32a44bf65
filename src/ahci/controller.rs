//! The HBA as a PCI function (AHCI 1.3.1, chapter 2): BAR 5 holds its registers.

use std::io;
use std::sync::Arc;

use super::drive::Drive;
use super::hba::Hba;
use super::regs::PORTS;
use super::workers::{Shared, Workers};
use crate::bus::map::Widths;
use crate::bus::{Access, Device, Width};
use crate::layout;
use crate::pci::{Bar, BarKind, Command, Decoding, Endpoint, Function, Header, Plug};

/// ABAR: the registers of the HBA and its ports take 1 KiB, a page keeps others away from them.
const ABAR: usize = 5;
const SIZE: u64 = 0x1000;

/// How many threads serve the drives, where there are any.
const THREADS: usize = 4;

/// An ICH9 with its SATA controller in AHCI mode.
const HEADER: Header = Header {
    vendor: 0x8086,
    device: 0x2922,
    class: 0x01_0601,
    revision: 2,
    subsystem_vendor: 0x1af4,
    subsystem: 0x1100,
    interrupt_pin: 1,
    interrupt_line: 0,
};

/// ICH9's own configuration registers (Intel 316972, 15.1.29 and 15.1.30): the mode, and which ports are switched on.
/// Drivers that know the chip look at them.
const MAP: u8 = 0x90;
const MAP_AHCI: u8 = 1 << 6;
const PCS: u8 = 0x92;
const PCS_PORTS: u8 = (1 << PORTS) - 1;

/// The controller.
pub struct Controller {
    // Wires.
    shared: Arc<Shared>,
    _workers: Workers,
    // State.
    endpoint: Endpoint,
}

impl Controller {
    /// Plugs in a controller with these drives, of which those behind the last port are left out.
    pub fn new(drives: Vec<Drive>, plug: Plug) -> io::Result<Self> {
        let header = Header {
            interrupt_line: layout::PIRQ_IRQ[layout::intx_pirq(plug.slot, 0)],
            ..HEADER
        };
        let threads = if drives.is_empty() { 0 } else { THREADS };
        let mut drives = drives.into_iter();
        let units = std::array::from_fn(|_| drives.next().map(Drive::into_unit));
        let mut endpoint = Endpoint::new(&header, plug.line, plug.sink);
        endpoint.declare_bar(ABAR, Bar::new(BarKind::Memory32, SIZE, Widths::ALL));
        endpoint.declare(MAP, &[MAP_AHCI], &[]);
        let present = (0..PORTS).filter(|&port| Option::is_some(&units[port]));
        let present = present.fold(0, |bits, port| bits | 1 << port);
        endpoint.declare(PCS, &[PCS_PORTS, present], &[PCS_PORTS]);
        endpoint.add_msi(0);
        let interrupt = endpoint.interrupt().clone();
        let shared = Arc::new(Shared::new(Hba::new(units), plug.ram, interrupt));
        Ok(Self {
            _workers: Workers::start(&shared, threads)?,
            shared,
            endpoint,
        })
    }
}

impl Device for Controller {
    fn read(&mut self, access: Access) -> u64 {
        let state = self.shared.lock();
        let dword = |at| u64::from(state.hba.read(at));
        let at = access.offset & !3;
        match access.width {
            Width::Qword => dword(at) | dword(at + 4) << 32,
            _ => dword(at) >> (8 * (access.offset - at)),
        }
    }

    fn write(&mut self, access: Access, value: u64) {
        let ram = self.shared.ram.clone();
        let at = access.offset & !3;
        let shift = 8 * (access.offset - at);
        let (value, mask) = (value << shift, access.width.ones() << shift);
        self.shared.change(|hba| {
            for (at, half) in [(at, 0), (at + 4, 32)] {
                let (value, mask) = ((value >> half) as u32, (mask >> half) as u32);
                if mask != 0 {
                    hba.write(at, value, mask, &ram);
                }
            }
        });
    }

    fn reset(&mut self) {
        self.endpoint.reset();
        self.shared.change(Hba::reset);
    }
}

impl Function for Controller {
    fn endpoint(&mut self) -> &mut Endpoint {
        &mut self.endpoint
    }

    fn config_write(&mut self, offset: u8, width: Width, value: u32) -> Option<Decoding> {
        let before = self.endpoint.command();
        let moved = self.endpoint.config_write(offset, width, value);
        if (self.endpoint.command() - before).contains(Command::BUS_MASTER) {
            // Commands may wait for it.
            self.shared.change(|_| {});
        }
        moved
    }
}
