//! The threads that serve a device's requests, so that no vCPU waits for a disk.
//!
//! A queue is marked when somebody has to look at it: the driver has notified, or the model has rung its `Bell`
//! because it has something for the driver. A mark wakes one thread, which gives the model a `Turn` at the queue. The
//! threads never take the device's slot: a reset holds it while it waits for them to finish what they are at. Nobody
//! else writes to guest memory, so that nothing does after a reset.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use hvf_sys::ram::Ram;

use super::Model;
use super::ring::Queue;
use super::signal::Signal;
use super::turn::Turn;

/// A device between DRIVER_OK and reset: what the workers work on.
pub(super) struct Live {
    pub(super) model: Arc<dyn Model>,
    pub(super) ram: Arc<Ram>,
    pub(super) signal: Arc<Signal>,
    /// The queues that the driver has enabled.
    pub(super) queues: Vec<Option<Queue>>,
    pub(super) features: u64,
}

/// A device's threads. Dropping them waits for their work.
pub(super) struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// Has a device's workers look at a queue, as if the driver had notified: what a model rings when it has something
/// for the driver. It may be rung by any thread at any time; while the device is not live, nobody listens.
#[derive(Clone)]
pub struct Bell(Arc<Shared>);

impl Bell {
    /// Has somebody look at a queue.
    pub fn ring(&self, queue: u16) {
        self.0.mark(queue);
    }
}

#[derive(Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    work: Condvar,
    idle: Condvar,
}

#[derive(Default)]
struct State {
    live: Option<Arc<Live>>,
    /// Queues that somebody has to look at, a bit each.
    marked: u64,
    /// The queue that has the first turn, so that none starves.
    turn: u32,
    busy: usize,
    ending: bool,
}

impl Workers {
    /// Starts `count` threads.
    pub(super) fn start(name: &str, count: usize) -> io::Result<Self> {
        let mut workers = Self {
            shared: Arc::default(),
            threads: Vec::new(),
        };
        for _ in 0..count.max(1) {
            let shared = workers.shared.clone();
            let thread = Builder::new().name(name.to_owned());
            workers.threads.push(thread.spawn(move || shared.work())?);
        }
        Ok(workers)
    }

    /// Begins to work on `live`, with every queue: a driver may have filled one before DRIVER_OK.
    pub(super) fn go(&self, live: Live) {
        let mut state = self.shared.lock();
        state.live = Some(Arc::new(live));
        state.marked = u64::MAX;
        self.shared.work.notify_one();
    }

    /// What has them look at a queue.
    pub(super) fn bell(&self) -> Bell {
        Bell(self.shared.clone())
    }

    /// Has somebody look at a queue.
    pub(super) fn notify(&self, queue: u16) {
        self.shared.mark(queue);
    }

    /// Has somebody look at every queue.
    pub(super) fn notify_all(&self) {
        self.shared.mark_all(u64::MAX);
    }

    /// Stops taking requests, and waits until those that were taken have returned.
    pub(super) fn drain(&self) {
        let mut state = self.shared.lock();
        state.live = None;
        state.marked = 0;
        while state.busy > 0 {
            let woken = self.shared.idle.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.drain();
        self.shared.lock().ending = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // A worker that has panicked has said so already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has somebody look at a queue.
    pub(super) fn mark(&self, queue: u16) {
        self.mark_all(1_u64.checked_shl(queue.into()).unwrap_or(0));
    }

    fn mark_all(&self, queues: u64) {
        let mut state = self.lock();
        if state.live.is_some() {
            state.marked |= queues;
            self.work.notify_one();
        }
    }

    /// A thread's life.
    fn work(&self) {
        while let Some((live, queue)) = self.next() {
            let _busy = Busy(self);
            self.serve(&live, queue);
        }
    }

    /// Waits for a queue to look at; none at the end.
    fn next(&self) -> Option<(Arc<Live>, u16)> {
        let mut state = self.lock();
        loop {
            if state.ending {
                return None;
            }
            if let Some(live) = state.live.clone() {
                let existing = u64::MAX >> (64 - live.queues.len().clamp(1, 64));
                state.marked &= existing;
                if let Some(queue) = state.choose() {
                    if state.marked != 0 {
                        self.work.notify_one();
                    }
                    return Some((live, queue));
                }
            }
            let woken = self.work.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn serve(&self, live: &Arc<Live>, index: u16) {
        if let Some(Some(queue)) = live.queues.get(usize::from(index)) {
            live.model.serve(&mut Turn::new(self, live, index, queue));
        }
    }

    /// Whether nobody waits for the workers to finish with `live`.
    pub(super) fn current(&self, live: &Arc<Live>) -> bool {
        let state = self.lock();
        state
            .live
            .as_ref()
            .is_some_and(|now| Arc::ptr_eq(now, live))
    }
}

impl State {
    /// Takes the mark of the next queue in turn, and counts its worker as busy.
    fn choose(&mut self) -> Option<u16> {
        if self.marked == 0 {
            return None;
        }
        let from_turn = self.marked.rotate_right(self.turn);
        let queue = (from_turn.trailing_zeros() + self.turn) % 64;
        self.marked &= !(1 << queue);
        self.turn = (queue + 1) % 64;
        self.busy += 1;
        Some(queue as u16)
    }
}

impl Live {
    /// Not after a mistake of the driver's, and not while the function may not access memory.
    pub(super) fn may_work(&self) -> bool {
        !self.signal.needs_reset() && self.signal.bus_master()
    }
}

/// Counts a worker as busy until it is dropped.
struct Busy<'a>(&'a Shared);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.busy -= 1;
        if state.busy == 0 {
            self.0.idle.notify_all();
        }
    }
}
