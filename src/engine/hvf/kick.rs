//! Stopping a vCPU of VMX from other threads, so that no kick is lost.
//!
//! An interrupt that is sent while the vCPU is outside `run` is dropped, and nobody can know whether it is inside yet.
//! So a kick leaves a mark first. The vCPU says that it is going in, then looks at the mark; the kicker marks, then
//! looks whether the vCPU may be inside, and interrupts it if so. Where the interrupt came too early, the mark is still
//! there a millisecond later, and one thread for all vCPUs interrupts again until it is gone.
//!
//! The same thread ends runs whose deadline has come, on hosts that refuse deadlines.
//!
//! Lock rank: this mutex is taken with no other held; the framework is called with nothing held.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::Builder;
use std::time::{Duration, Instant};

use super::super::Kicker;
use super::vmx::Vmx;

/// How long an interrupt that was lost goes unnoticed.
const AGAIN: Duration = Duration::from_millis(1);

/// What other threads know of a vCPU.
pub(super) struct Mark {
    id: u32,
    /// Somebody wants `run` to return.
    wanted: AtomicBool,
    /// The vCPU is inside `run`, or about to go in.
    inside: AtomicBool,
    repeater: Arc<Repeater>,
}

impl Mark {
    /// For the vCPU with this number.
    pub(super) fn new(id: u32, repeater: Arc<Repeater>) -> Arc<Self> {
        Arc::new(Self {
            id,
            wanted: AtomicBool::new(false),
            inside: AtomicBool::new(false),
            repeater,
        })
    }

    /// Takes a kick, if there was one.
    pub(super) fn take(&self) -> bool {
        self.wanted.swap(false, SeqCst)
    }

    /// Announces that the vCPU goes in. False where it must not, since it was kicked.
    pub(super) fn go_in(&self) -> bool {
        self.inside.store(true, SeqCst);
        let go = !self.wanted.load(SeqCst);
        if !go {
            self.come_out();
        }
        go
    }

    /// Announces that it has come out.
    pub(super) fn come_out(&self) {
        self.inside.store(false, SeqCst);
    }

    /// Has the vCPU kicked at `at`, in place of what was asked before.
    pub(super) fn kick_at(self: &Arc<Self>, at: Option<Instant>) {
        self.repeater.lock().deadline(self, at);
        self.repeater.changed.notify_all();
    }

    /// Whether an interrupt is still owed.
    fn owes(&self) -> bool {
        self.wanted.load(SeqCst) && self.inside.load(SeqCst)
    }
}

/// A kicker of one vCPU.
pub(super) struct MarkKicker(pub Arc<Mark>);

impl Kicker for MarkKicker {
    fn kick(&self) {
        let mark = &self.0;
        let is_first = !mark.wanted.swap(true, SeqCst);
        if is_first && mark.inside.load(SeqCst) {
            mark.repeater.interrupt(&[mark.id]);
            mark.repeater.lock().owed.push(mark.clone());
            mark.repeater.changed.notify_all();
        }
    }
}

/// The thread that interrupts again.
pub(super) struct Repeater {
    vmx: Arc<dyn Vmx>,
    state: Mutex<Owed>,
    changed: Condvar,
}

#[derive(Default)]
struct Owed {
    owed: Vec<Arc<Mark>>,
    deadlines: Vec<(Instant, Arc<Mark>)>,
}

impl Repeater {
    /// Starts it. It ends when the last vCPU is gone.
    pub(super) fn start(vmx: Arc<dyn Vmx>) -> std::io::Result<Arc<Self>> {
        let repeater = Arc::new(Self {
            vmx,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let weak = Arc::downgrade(&repeater);
        Builder::new()
            .name("kicks".to_owned())
            .spawn(move || repeat(&weak))?;
        Ok(repeater)
    }

    fn lock(&self) -> MutexGuard<'_, Owed> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn interrupt(&self, ids: &[u32]) {
        if let Err(error) = self.vmx.interrupt(ids) {
            log::warn!("interrupting vCPUs {ids:?} failed with {error}");
        }
    }

    /// Waits for something to do, a second at most, then does it.
    fn turn(&self) {
        let state = self.lock();
        let pause = state.pause(Instant::now());
        let waited = self.changed.wait_timeout(state, pause);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let due = state.due(Instant::now());
        let ids: Vec<u32> = state.owed.iter().map(|mark| mark.id).collect();
        drop(state);
        for mark in due {
            MarkKicker(mark).kick();
        }
        if !ids.is_empty() {
            std::thread::sleep(AGAIN);
            let mut state = self.lock();
            state.owed.retain(|mark| mark.owes());
            let ids: Vec<u32> = state.owed.iter().map(|mark| mark.id).collect();
            drop(state);
            if !ids.is_empty() {
                self.interrupt(&ids);
            }
        }
    }
}

fn repeat(repeater: &Weak<Repeater>) {
    while let Some(repeater) = repeater.upgrade() {
        repeater.turn();
    }
}

impl Owed {
    fn deadline(&mut self, mark: &Arc<Mark>, at: Option<Instant>) {
        self.deadlines
            .retain(|(_, other)| !Arc::ptr_eq(other, mark));
        if let Some(at) = at {
            self.deadlines.push((at, mark.clone()));
        }
    }

    fn pause(&self, now: Instant) -> Duration {
        if !self.owed.is_empty() {
            return Duration::ZERO;
        }
        let first = self.deadlines.iter().map(|&(at, _)| at).min();
        let pause = first.map(|at| at.saturating_duration_since(now));
        pause.unwrap_or(Duration::MAX).min(Duration::from_secs(1))
    }

    fn due(&mut self, now: Instant) -> Vec<Arc<Mark>> {
        let is_due = |(at, _): &mut (Instant, Arc<Mark>)| *at <= now;
        let due = self.deadlines.extract_if(.., is_due);
        due.map(|(_, mark)| mark).collect()
    }
}
