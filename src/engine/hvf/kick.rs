//! Stopping a vCPU of VMX from other threads, so that no kick is lost.
//!
//! An interrupt that is sent while the vCPU is outside `run` is dropped, and nobody can know whether it is inside yet.
//! So a kick leaves a mark first. The vCPU says that it is going in, then looks at the mark; the kicker marks, then
//! looks whether the vCPU may be inside, and interrupts it if so. Where the interrupt came too early, the mark is still
//! there a millisecond later, and the alarm's thread interrupts again until it is gone.
//!
//! The alarm also ends runs whose deadline has come, on hosts that refuse deadlines.

use std::sync::{Arc, Weak};
use std::time::Instant;

use super::vmx::Vmx;
use crate::engine::Kicker;
use crate::engine::alarm::{Alarm, Bell};
use crate::engine::sync::{AtomicBool, Ordering::SeqCst};

/// What other threads know of a vCPU.
pub(super) struct Mark {
    id: u32,
    vmx: Arc<dyn Vmx>,
    /// Somebody wants `run` to return.
    wanted: AtomicBool,
    /// The vCPU is inside `run`, or about to go in.
    inside: AtomicBool,
    /// Rings while an interrupt may have been lost.
    again: Bell,
    /// Rings when the deadline has come.
    deadline: Bell,
}

impl Mark {
    /// For the vCPU with this number.
    pub(super) fn new(id: u32, vmx: Arc<dyn Vmx>, alarm: &Alarm) -> Arc<Self> {
        Arc::new_cyclic(|this: &Weak<Self>| {
            let bell = |ring: fn(&Self)| {
                let this = this.clone();
                alarm.bell(move || {
                    if let Some(mark) = this.upgrade() {
                        ring(&mark);
                    }
                })
            };
            Self {
                id,
                vmx,
                wanted: AtomicBool::new(false),
                inside: AtomicBool::new(false),
                again: bell(Self::repeat),
                deadline: bell(Self::kick),
            }
        })
    }

    /// Takes a kick, if there was one.
    pub(super) fn take(&self) -> bool {
        let was_wanted = self.wanted.swap(false, SeqCst);
        if was_wanted {
            // Who wants something from here on finds the vCPU outside, and does not insist.
            self.again.hush();
        }
        was_wanted
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
    pub(super) fn kick_at(&self, at: Option<Instant>) {
        self.deadline.set(at);
    }

    fn kick(&self) {
        // Of several kicks the first one interrupts.
        if !self.wanted.swap(true, SeqCst) {
            self.interrupt();
        }
    }

    fn repeat(&self) {
        self.again.hush();
        if self.wanted.load(SeqCst) {
            self.interrupt();
        }
    }

    fn interrupt(&self) {
        if !self.inside.load(SeqCst) {
            return;
        }
        if let Err(error) = self.vmx.interrupt(&[self.id]) {
            log::warn!("interrupting a vCPU failed with {error}");
        }
        self.again.insist();
    }
}

/// A kicker of one vCPU.
pub(super) struct MarkKicker(pub Arc<Mark>);

impl Kicker for MarkKicker {
    fn kick(&self) {
        self.0.kick();
    }
}
