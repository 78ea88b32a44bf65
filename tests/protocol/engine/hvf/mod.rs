//! The kicks of `hvf` around a framework that drops every interrupt which does not find the vCPU inside.

#[path = "../../../../src/engine/hvf/kick.rs"]
#[allow(dead_code, missing_docs)]
mod kick;
mod vmx;

use std::sync::Arc;

use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

use super::Kicker;
use super::alarm::Alarm;
use kick::{Mark, MarkKicker};
use vmx::Framework;

/// A sender posts and kicks; the vCPU looks and goes in, as `HvfVcpu::run` does, until all messages have come. Its
/// guest never leaves by itself.
fn deliver(messages: u32, watches: bool) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let framework = Arc::new(Framework::default());
        let alarm = Alarm::default();
        let mark = Mark::new(7, framework.clone(), &alarm);
        let mailbox = loom::sync::Arc::new(AtomicU32::new(0));
        let sender = {
            let (mark, mailbox) = (mark.clone(), mailbox.clone());
            thread::spawn(move || {
                for _ in 0..messages {
                    mailbox.fetch_add(1, Ordering::AcqRel);
                    MarkKicker(mark.clone()).kick();
                }
            })
        };
        let watcher = {
            let alarm = alarm.clone();
            thread::spawn(move || watches.then(|| alarm.watch()))
        };
        let mut received = 0;
        while received < messages {
            received += mailbox.swap(0, Ordering::AcqRel);
            if received < messages && !mark.take() && mark.go_in() {
                framework.run();
                mark.come_out();
            }
        }
        alarm.end();
        sender.join().unwrap();
        watcher.join().unwrap();
    });
}

#[test]
fn no_kick_of_hvf_is_lost() {
    deliver(1, true);
    deliver(2, true);
}

/// The interrupt alone does get lost, which the repeated ones are for.
#[test]
#[should_panic]
fn without_the_alarm_one_is_lost() {
    deliver(1, false);
}
