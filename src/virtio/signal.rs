//! What a device tells its driver: that a queue has used buffers, that the configuration changed, and that the device
//! cannot go on. By MSI-X with a vector for each, or by INTx# and the interrupt status register (4.1.4.5).

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::ring::Broken;
use crate::pci::{Interrupt, Signalling};

/// The vector that means none (4.1.4.3.1).
pub(super) const NO_VECTOR: u16 = 0xffff;

/// Interrupt status: a queue has used buffers.
const QUEUE: u8 = 1;
/// Interrupt status: the configuration or the status changed.
const CONFIG: u8 = 2;

/// A device's interrupts, shared by its registers and its workers.
pub(super) struct Signal {
    // Configuration.
    name: &'static str,
    // Wires.
    interrupt: Arc<Interrupt>,
    // State. The status is locked while the wire changes with it.
    status: Mutex<u8>,
    config_vector: AtomicU16,
    queue_vectors: Vec<AtomicU16>,
    needs_reset: AtomicBool,
    /// Counts changes of the configuration; a reset does not touch it.
    generation: AtomicU8,
}

impl Signal {
    pub(super) fn new(name: &'static str, interrupt: Arc<Interrupt>, queues: u16) -> Self {
        Self {
            name,
            interrupt,
            status: Mutex::new(0),
            config_vector: AtomicU16::new(NO_VECTOR),
            queue_vectors: (0..queues).map(|_| AtomicU16::new(NO_VECTOR)).collect(),
            needs_reset: AtomicBool::new(false),
            generation: AtomicU8::new(0),
        }
    }

    /// Queue `queue` has used buffers.
    pub(super) fn used(&self, queue: u16) {
        self.send(self.queue_vector(queue), QUEUE);
    }

    /// The device's configuration has changed.
    pub(super) fn config_changed(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.send(self.config_vector(), CONFIG);
    }

    /// A number that differs when the configuration has changed (2.5).
    pub(super) fn generation(&self) -> u8 {
        self.generation.load(Ordering::Acquire)
    }

    /// The driver has broken a rule so that the device cannot go on.
    pub(super) fn broken(&self, what: Broken) {
        if !self.needs_reset.swap(true, Ordering::AcqRel) {
            log::debug!(
                "{}: the guest's driver made {what}; it needs a reset",
                self.name
            );
            self.send(self.config_vector(), CONFIG);
        }
    }

    pub(super) fn needs_reset(&self) -> bool {
        self.needs_reset.load(Ordering::Acquire)
    }

    /// Whether the device may access memory.
    pub(super) fn bus_master(&self) -> bool {
        self.interrupt.bus_master()
    }

    /// Reads interrupt status, which clears it and releases the wire.
    pub(super) fn take_status(&self) -> u8 {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        self.interrupt.request(false);
        std::mem::take(&mut *status)
    }

    pub(super) fn config_vector(&self) -> u16 {
        self.config_vector.load(Ordering::Relaxed)
    }

    /// Sets the vector of configuration changes; one that does not exist is none.
    pub(super) fn set_config_vector(&self, vector: u16) {
        let vector = self.existing(vector);
        self.config_vector.store(vector, Ordering::Relaxed);
    }

    pub(super) fn queue_vector(&self, queue: u16) -> u16 {
        let vector = self.queue_vectors.get(usize::from(queue));
        vector.map_or(NO_VECTOR, |vector| vector.load(Ordering::Relaxed))
    }

    /// Sets a queue's vector; one that does not exist is none.
    pub(super) fn set_queue_vector(&self, queue: u16, vector: u16) {
        if let Some(cell) = self.queue_vectors.get(usize::from(queue)) {
            cell.store(self.existing(vector), Ordering::Relaxed);
        }
    }

    /// Back to power-on, once the workers rest.
    pub(super) fn reset(&self) {
        let Self {
            name: _,
            interrupt: _,
            status: _,
            config_vector,
            queue_vectors,
            needs_reset,
            generation: _,
        } = self;
        self.take_status();
        config_vector.store(NO_VECTOR, Ordering::Relaxed);
        for vector in queue_vectors {
            vector.store(NO_VECTOR, Ordering::Relaxed);
        }
        needs_reset.store(false, Ordering::Release);
    }

    /// There is a vector for each queue and one for the configuration.
    fn existing(&self, vector: u16) -> u16 {
        if usize::from(vector) <= self.queue_vectors.len() {
            vector
        } else {
            NO_VECTOR
        }
    }

    fn send(&self, vector: u16, bit: u8) {
        if self.interrupt.signalling() != Signalling::Intx {
            return self.interrupt.raise(vector);
        }
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        *status |= bit;
        self.interrupt.request(true);
    }
}
