//! Stopping a vCPU of VMX from other threads, so that no kick is lost.
//!
//! An interrupt that is sent while the vCPU is outside `run` is dropped, and nobody can know whether it is inside yet.
//! So a kick leaves a mark first. The vCPU says that it is going in, then looks at the mark; the kicker marks, then
//! looks whether the vCPU may be inside, and interrupts it if so. Where the interrupt came too early, the mark is still
//! there a millisecond later, and the alarm's thread interrupts again until it is gone.
//!
//! The alarm also ends runs whose deadline has come, on hosts that refuse deadlines.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::vmx::Vmx;
use crate::engine::Kicker;
use crate::engine::alarm::{Alarm, Bell};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::hvf::vmx::{Access, Capability, Error, Result, VmxVcpu};
    use hvf_sys::ram::Ram;
    use std::sync::atomic::AtomicU32;
    use std::thread;
    use std::time::Duration;

    /// Drops interrupts as a vCPU outside `run` does, the first few even inside.
    #[derive(Default)]
    struct Deaf {
        lost: AtomicU32,
        interrupted: AtomicBool,
        sent: AtomicU32,
    }

    impl Vmx for Deaf {
        fn capability(&self, _: Capability) -> Result<u64> {
            Err(Error::ERROR)
        }
        fn map(&self, _: &Arc<Ram>, _: u64, _: u64, _: Access) -> Result<()> {
            Err(Error::ERROR)
        }
        fn unmap(&self, _: u64, _: u64) -> Result<()> {
            Err(Error::ERROR)
        }
        fn protect(&self, _: u64, _: u64, _: Access) -> Result<()> {
            Err(Error::ERROR)
        }
        fn vcpu(&self) -> Result<Box<dyn VmxVcpu>> {
            Err(Error::NO_DEVICE)
        }
        fn interrupt(&self, vcpus: &[u32]) -> Result<()> {
            assert_eq!(vcpus, [7]);
            self.sent.fetch_add(1, SeqCst);
            let left = self.lost.load(SeqCst);
            self.lost.store(left.saturating_sub(1), SeqCst);
            if left == 0 {
                self.interrupted.store(true, SeqCst);
            }
            Ok(())
        }
        fn tsc(&self) -> u64 {
            0
        }
        fn tsc_hz(&self) -> Option<u64> {
            None
        }
    }

    /// Stays "inside" until it is interrupted. False where that takes too long.
    fn run(vmx: &Deaf) -> bool {
        let start = Instant::now();
        while !vmx.interrupted.swap(false, SeqCst) {
            if start.elapsed() > Duration::from_secs(20) {
                return false;
            }
            thread::yield_now();
        }
        true
    }

    fn mark(lost: u32) -> (Arc<Deaf>, Alarm, Arc<Mark>) {
        let vmx = Arc::new(Deaf::default());
        vmx.lost.store(lost, SeqCst);
        let alarm = Alarm::start().unwrap();
        let mark = Mark::new(7, vmx.clone(), &alarm);
        (vmx, alarm, mark)
    }

    #[test]
    fn a_kick_before_the_run_keeps_the_vcpu_out() {
        let (vmx, _alarm, mark) = mark(0);
        MarkKicker(mark.clone()).kick();
        assert!(!mark.go_in());
        assert!(mark.take() && !mark.take());
        assert!(mark.go_in());
        mark.come_out();
        assert_eq!(vmx.sent.load(SeqCst), 0, "nobody was inside");
    }

    #[test]
    fn an_interrupt_that_is_lost_is_repeated_until_the_kick_is_taken() {
        let (vmx, _alarm, mark) = mark(3);
        assert!(mark.go_in());
        MarkKicker(mark.clone()).kick();
        MarkKicker(mark.clone()).kick();
        assert!(run(&vmx), "the kick was lost");
        mark.come_out();
        assert!(mark.take());
        assert!(vmx.sent.load(SeqCst) >= 4);
        // Nothing is left that would interrupt the next run.
        thread::sleep(Duration::from_millis(5));
        let sent = vmx.sent.load(SeqCst);
        assert!(mark.go_in());
        thread::sleep(Duration::from_millis(5));
        assert_eq!(vmx.sent.load(SeqCst), sent);
    }

    #[test]
    fn a_deadline_is_a_kick() {
        let (vmx, _alarm, mark) = mark(1);
        mark.kick_at(Some(Instant::now() + Duration::from_millis(2)));
        assert!(mark.go_in());
        assert!(run(&vmx), "the deadline was missed");
        mark.come_out();
        assert!(mark.take());
    }

    #[test]
    fn no_kick_of_many_is_lost() {
        let (vmx, _alarm, mark) = mark(0);
        let kicks = Arc::new(AtomicU32::new(0));
        let sender = {
            let (mark, kicks) = (mark.clone(), kicks.clone());
            thread::spawn(move || {
                for n in 0..2_000 {
                    while kicks.load(SeqCst) < n {
                        thread::yield_now();
                    }
                    (0..n % 64).for_each(|_| std::hint::spin_loop());
                    mark.kick();
                }
            })
        };
        while kicks.load(SeqCst) < 2_000 {
            if mark.take() {
                kicks.fetch_add(1, SeqCst);
                continue;
            }
            // What came while nobody was inside is lost, as on a Mac.
            vmx.interrupted.store(false, SeqCst);
            if mark.go_in() {
                assert!(run(&vmx), "a kick was lost");
                mark.come_out();
            }
        }
        sender.join().unwrap();
    }
}
