//! How a function signals: INTx#, MSI or MSI-X, whichever the guest has switched on.
//!
//! An `Interrupt` is shared by the function, whose slot is locked while a guest accesses it, and its workers, which
//! must never wait for that slot (a reset that drains them holds it). So it has a lock of its own, below the slot's.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::msi::Msi;
use super::msix::Msix;
use super::regs::Command;
use super::{ConfigSpace, MsiSink};
use crate::bus::{Line, Width};

/// What the guest has switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signalling {
    /// The wire.
    Intx,
    /// Messages from the capability.
    Msi,
    /// Messages from the table.
    Msix,
}

/// A function's interrupts.
pub struct Interrupt {
    // Wires.
    sink: Arc<dyn MsiSink>,
    state: Mutex<State>,
}

pub(super) struct State {
    // Wires.
    line: Line,
    // State.
    command: Command,
    request: bool,
    pub(super) msi: Option<Msi>,
    pub(super) msix: Option<Msix>,
}

impl Interrupt {
    pub(super) fn new(line: Line, sink: Arc<dyn MsiSink>) -> Self {
        Self {
            sink,
            state: Mutex::new(State {
                line,
                command: Command::RESET,
                request: false,
                msi: None,
                msix: None,
            }),
        }
    }

    /// What the guest has switched on.
    pub fn signalling(&self) -> Signalling {
        self.lock().signalling()
    }

    /// Whether the function may access memory.
    pub fn bus_master(&self) -> bool {
        self.lock().command.contains(Command::BUS_MASTER)
    }

    /// Sends the message of `vector`, or keeps it pending while it is masked. Nothing where messages are off.
    pub fn raise(&self, vector: u16) {
        let mut state = self.lock();
        match state.signalling() {
            Signalling::Intx => {}
            Signalling::Msi => state.msi.iter_mut().for_each(|msi| msi.raise(vector)),
            Signalling::Msix => state.msix.iter_mut().for_each(|msix| msix.raise(vector)),
        }
        self.sync(&mut state);
    }

    /// Asks for the wire, or no longer. What is asked while messages are on reaches the wire when they go off.
    pub fn request(&self, level: bool) {
        let mut state = self.lock();
        state.request = level;
        self.sync(&mut state);
    }

    /// Whether the status register shows the wire as asked for.
    pub(super) fn requested(&self) -> bool {
        let state = self.lock();
        state.request && state.signalling() == Signalling::Intx
    }

    /// Where MSI's pending bits are in configuration space, and what they are.
    pub(super) fn msi_pending(&self) -> Option<(u8, u32)> {
        self.lock().msi.as_ref().map(Msi::pending)
    }

    /// Takes over what a guest wrote to configuration space.
    pub(super) fn latch(&self, space: &ConfigSpace) {
        let mut state = self.lock();
        state.command = space.command();
        state.msi.iter_mut().for_each(|msi| msi.latch(space));
        state.msix.iter_mut().for_each(|msix| msix.latch(space));
        self.sync(&mut state);
    }

    /// Reads the BAR with the MSI-X table.
    pub(super) fn msix_read(&self, offset: u64, width: Width) -> u64 {
        let state = self.lock();
        let read = state.msix.as_ref().map(|msix| msix.read(offset, width));
        read.unwrap_or(width.ones())
    }

    /// Writes the BAR with the MSI-X table.
    pub(super) fn msix_write(&self, offset: u64, width: Width, value: u64) {
        let mut state = self.lock();
        if let Some(msix) = &mut state.msix {
            msix.write(offset, width, value);
        }
        self.sync(&mut state);
    }

    pub(super) fn reset(&self, space: &ConfigSpace) {
        {
            let mut state = self.lock();
            let State {
                line: _,
                command: _,
                request,
                msi,
                msix,
            } = &mut *state;
            *request = false;
            msi.iter_mut().for_each(Msi::reset);
            msix.iter_mut().for_each(Msix::reset);
        }
        self.latch(space);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what may go out and drives the wire as the state says. A message is a write to memory.
    fn sync(&self, state: &mut State) {
        if state.command.contains(Command::BUS_MASTER) {
            while let Some(message) = state.take() {
                self.sink.msi(message.address, message.data);
            }
        }
        let wired = state.signalling() == Signalling::Intx
            && !state.command.contains(Command::INTX_DISABLE);
        state.line.set(wired && state.request);
    }
}

impl State {
    /// MSI-X goes before MSI: a guest must not switch both on (6.8.3.1).
    fn signalling(&self) -> Signalling {
        if self.msix.as_ref().is_some_and(Msix::enabled) {
            Signalling::Msix
        } else if self.msi.as_ref().is_some_and(Msi::enabled) {
            Signalling::Msi
        } else {
            Signalling::Intx
        }
    }

    fn take(&mut self) -> Option<super::Message> {
        match self.signalling() {
            Signalling::Intx => None,
            Signalling::Msi => self.msi.as_mut()?.take(),
            Signalling::Msix => self.msix.as_mut()?.take(),
        }
    }
}
