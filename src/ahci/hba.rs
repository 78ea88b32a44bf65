//! The HBA's own registers and its ports (AHCI 1.3.1, 3.1).
//!
//! IS is a latch: a bit sets when its port asks for an interrupt, and a write clears it; where the port still asks, it
//! sets again at once. Each setting is an edge, which a message tells; the wire shows whether any bit is set
//! (10.7.2).

use std::sync::Arc;

use hvf_sys::ram::Ram;

use super::command::HostBus;
use super::port::{Answer, Job, Port};
use super::regs::{Cap, Ghc, PORTS, PortReg, VERSION, hba};
use super::unit::Unit;

/// The registers.
pub(super) struct Hba {
    // State.
    ports: [Port; PORTS],
    control: Ghc,
    latched: u32,
    edge: bool,
    /// The port that has the first turn, so that none starves.
    turn: usize,
}

impl Hba {
    /// An HBA with these devices on its ports.
    pub(super) fn new(units: [Option<Arc<dyn Unit>>; PORTS]) -> Self {
        Self {
            ports: units.map(Port::new),
            control: Ghc::AE,
            latched: 0,
            edge: false,
            turn: 0,
        }
    }

    /// Reads the dword at `offset`, a multiple of 4.
    pub(super) fn read(&self, offset: u64) -> u32 {
        if let Some((port, register)) = locate(offset) {
            return register.map_or(0, |register| self.ports[port].read(register));
        }
        match offset {
            hba::CAP => Cap::VALUE | self.highest(),
            hba::GHC => self.control.bits(),
            hba::IS => self.latched,
            hba::PI => self.populated(),
            hba::VS => VERSION,
            _ => 0,
        }
    }

    /// Writes the bits of `mask` of the dword at `offset`, a multiple of 4. The caller then waits until it has settled.
    pub(super) fn write(&mut self, offset: u64, value: u32, mask: u32, ram: &Ram) {
        if let Some((port, register)) = locate(offset) {
            if let Some(register) = register {
                self.ports[port].write(register, value, mask, ram);
            }
        } else if offset == hba::GHC {
            self.write_control(Ghc::from_bits_truncate(
                self.control.bits() & !mask | value & mask,
            ));
        } else if offset == hba::IS {
            self.latched &= !(value & mask);
        }
        self.latch();
    }

    fn write_control(&mut self, value: Ghc) {
        if value.contains(Ghc::HR) {
            return self.reset();
        }
        self.edge |= (value - self.control).contains(Ghc::IE) && self.latched != 0;
        self.control = value & Ghc::IE | Ghc::AE;
    }

    /// Back to power-on, but for work in progress, which the caller waits for.
    pub(super) fn reset(&mut self) {
        let Self {
            ports,
            control,
            latched,
            edge,
            turn: _,
        } = self;
        ports.iter_mut().for_each(Port::reset);
        *control = Ghc::AE;
        *latched = 0;
        *edge = false;
    }

    /// Whether workers are at commands that have been given up.
    pub(super) fn is_settling(&self) -> bool {
        self.ports.iter().any(Port::is_settling)
    }

    /// The next command to work on, and its port.
    pub(super) fn take(&mut self, ram: &Ram) -> Option<(usize, Job)> {
        for distance in 0..PORTS {
            let port = (self.turn + distance) % PORTS;
            let job = self.ports[port].take(ram);
            // It may have stopped with an error.
            self.latch();
            if let Some(job) = job {
                self.turn = (port + 1) % PORTS;
                return Some((port, job));
            }
        }
        None
    }

    /// A worker has finished a job.
    pub(super) fn finish(
        &mut self,
        ram: &Ram,
        (port, job): &(usize, Job),
        answer: Result<Answer, HostBus>,
    ) {
        self.ports[*port].finish(ram, job, answer);
        self.latch();
    }

    /// Whether the wire is asked for, and whether a message is due. The message counts as sent.
    pub(super) fn take_interrupt(&mut self) -> (bool, bool) {
        let enabled = self.control.contains(Ghc::IE);
        let edge = std::mem::take(&mut self.edge);
        (enabled && self.latched != 0, enabled && edge)
    }

    fn latch(&mut self) {
        let asking = self.bits(Port::interrupts);
        self.edge |= asking & !self.latched != 0;
        self.latched |= asking;
    }

    /// PI (3.1.4): the ports with a device. A driver looks at no others, so that they cost it no time.
    fn populated(&self) -> u32 {
        self.bits(Port::populated)
    }

    /// CAP.NP (3.1.1): the highest port with a device, so that drivers prepare for no more than there are.
    fn highest(&self) -> u32 {
        self.populated().checked_ilog2().unwrap_or(0)
    }

    fn bits(&self, has: impl Fn(&Port) -> bool) -> u32 {
        let ports = self.ports.iter().enumerate();
        ports.fold(0, |bits, (n, port)| bits | u32::from(has(port)) << n)
    }
}

/// The port that an offset belongs to, and the register there.
fn locate(offset: u64) -> Option<(usize, Option<PortReg>)> {
    let from_ports = offset.checked_sub(hba::PORTS)?;
    let port = from_ports / hba::PORT_STRIDE;
    let register = PortReg::decode(from_ports % hba::PORT_STRIDE);
    (port < PORTS as u64).then_some((port as usize, register))
}
