//! The parker and the attention word, as the software CPU uses them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::sync::Arc;
use loom::thread;

use super::park::Parker;
use crate::attention::Attention;
use crate::{AtomicU32, Ordering};

/// The steps of a sender, in an order.
type Steps = [fn(&Vcpu); 3];

/// As the mailbox and its `on_post` have them.
const RIGHT: Steps = [Vcpu::post, Vcpu::kick, Vcpu::wake];

/// One vCPU as other threads reach it.
#[derive(Default)]
struct Vcpu {
    mailbox: AtomicU32,
    attention: Attention,
    parker: Parker,
}

impl Vcpu {
    fn post(&self) {
        self.mailbox.fetch_add(1, Ordering::AcqRel);
    }

    fn kick(&self) {
        self.attention.raise(Attention::KICK);
    }

    fn wake(&self) {
        self.parker.unpark();
    }

    /// The scan of the LAPIC: how many messages have come since.
    fn receive(&self) -> u32 {
        self.mailbox.swap(0, Ordering::AcqRel)
    }

    /// The guest's code on the software CPU, which goes round for ever unless somebody wants the thread.
    fn run(&self) {
        while self.attention.pending() & Attention::KICK == 0 {
            thread::yield_now();
        }
        self.attention.clear(Attention::KICK);
    }

    fn sleep(&self) {
        self.parker.park(None);
    }
}

/// Senders, one message each, to a vCPU that does `rest` whenever it has looked and found nothing. One sender is
/// followed through all orders of steps, two through those in which threads are preempted three times at most.
fn deliver(senders: u32, steps: Steps, rest: fn(&Vcpu)) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = (senders > 1).then_some(3);
    model.check(move || {
        let vcpu = Arc::new(Vcpu::default());
        let threads: Vec<_> = (0..senders)
            .map(|_| {
                let vcpu = vcpu.clone();
                thread::spawn(move || steps.iter().for_each(|step| step(&vcpu)))
            })
            .collect();
        let mut received = 0;
        while received < senders {
            match vcpu.receive() {
                0 => rest(&vcpu),
                some => received += some,
            }
        }
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

/// Whether loom finds an order of steps in which the message does not arrive.
fn is_lost(steps: Steps, rest: fn(&Vcpu)) -> bool {
    catch_unwind(AssertUnwindSafe(|| deliver(1, steps, rest))).is_err()
}

#[test]
fn a_halted_vcpu_hears_of_every_message() {
    deliver(1, RIGHT, Vcpu::sleep);
    deliver(2, RIGHT, Vcpu::sleep);
    assert!(is_lost([Vcpu::wake, Vcpu::kick, Vcpu::post], Vcpu::sleep));
    assert!(is_lost([Vcpu::post, Vcpu::kick, |_| ()], Vcpu::sleep));
}

#[test]
fn a_running_vcpu_leaves_the_guest_for_every_message() {
    deliver(1, RIGHT, Vcpu::run);
    deliver(2, RIGHT, Vcpu::run);
    assert!(is_lost([Vcpu::kick, Vcpu::post, Vcpu::wake], Vcpu::run));
    assert!(is_lost([Vcpu::post, |_| (), Vcpu::wake], Vcpu::run));
}

/// It runs, halts at the kick's end of the block, and looks again only in its sleep: the kick's flag alone, used up
/// by the run, must not be what the sleep waits for.
#[test]
fn a_vcpu_that_halts_as_the_message_comes_wakes_up() {
    deliver(2, RIGHT, |vcpu| {
        if vcpu.attention.pending() != 0 {
            vcpu.run();
        }
        vcpu.sleep();
    });
}
