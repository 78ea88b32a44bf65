//! The threads that do what the devices are told, so that no vCPU waits for a disk.
//!
//! They share the HBA's registers with the controller, which a vCPU accesses with its slot locked. They never take
//! that slot: a reset holds it while it waits for them to end what they are at.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use hvf_sys::ram::Ram;

use super::hba::Hba;
use super::port::Job;
use crate::pci::Interrupt;

/// What controller and workers share.
pub(super) struct Shared {
    // Wires.
    pub(super) ram: Arc<Ram>,
    interrupt: Arc<Interrupt>,
    // State.
    state: Mutex<State>,
    work: Condvar,
    settled: Condvar,
}

pub(super) struct State {
    pub(super) hba: Hba,
    ending: bool,
}

impl Shared {
    pub(super) fn new(hba: Hba, ram: Arc<Ram>, interrupt: Arc<Interrupt>) -> Self {
        Self {
            ram,
            interrupt,
            state: Mutex::new(State { hba, ending: false }),
            work: Condvar::new(),
            settled: Condvar::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the registers, waits until nobody is at a command that was given up by that, and lets the rest work.
    pub(super) fn change(&self, change: impl FnOnce(&mut Hba)) {
        let mut state = self.lock();
        change(&mut state.hba);
        while state.hba.is_settling() {
            let woken = self.settled.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
        self.signal(&mut state.hba);
        self.work.notify_one();
    }

    /// Tells the PCI function what the registers ask for.
    fn signal(&self, hba: &mut Hba) {
        let (wire, message) = hba.take_interrupt();
        self.interrupt.request(wire);
        if message {
            self.interrupt.raise(0);
        }
    }

    /// A thread's life.
    fn work(&self) {
        while let Some(job) = self.next() {
            let answer = job.1.perform(&self.ram);
            let mut state = self.lock();
            state.hba.finish(&self.ram, &job, answer);
            self.signal(&mut state.hba);
            if !state.hba.is_settling() {
                self.settled.notify_all();
            }
        }
    }

    /// Waits for a command to work on; none at the end.
    fn next(&self) -> Option<(usize, Job)> {
        let mut state = self.lock();
        loop {
            if state.ending {
                return None;
            }
            // Without bus mastering not even the list can be read.
            if self.interrupt.bus_master() {
                let job = state.hba.take(&self.ram);
                self.signal(&mut state.hba);
                if job.is_some() {
                    // There may be more of them.
                    self.work.notify_one();
                    return job;
                }
            }
            let woken = self.work.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The threads. Dropping them waits for their work.
pub(super) struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts `count` threads.
    pub(super) fn start(shared: &Arc<Shared>, count: usize) -> io::Result<Self> {
        let mut workers = Self {
            shared: shared.clone(),
            threads: Vec::new(),
        };
        for _ in 0..count {
            let shared = shared.clone();
            let thread = Builder::new().name("ahci".to_owned());
            workers.threads.push(thread.spawn(move || shared.work())?);
        }
        Ok(workers)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.lock().ending = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // A worker that has panicked has said so already.
            let _ = thread.join();
        }
    }
}
