//! Kicks on threads of the host; `tests/protocol` runs them through every order of their steps.

use crate::engine::hvf::vmx::{Access, Capability, Error, Result, Vmx, VmxVcpu};
use hvf_sys::ram::Ram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use super::kick::{Mark, MarkKicker};
use crate::engine::Kicker;
use crate::engine::alarm::Alarm;

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
                MarkKicker(mark.clone()).kick();
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
