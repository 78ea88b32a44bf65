//! The threads of a device, with a device that serves when it is told to.

use std::borrow::Cow;
use std::sync::Condvar;

use super::super::{Identity, Turn};
use super::*;

/// Holds every request until the gate opens.
#[derive(Default)]
struct Gate {
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gate {
    /// Waits until so many requests are being held.
    fn wait_held(&self, count: usize) {
        wait_for(|| (self.state.lock().unwrap().0 >= count).then_some(()));
    }

    fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
}

impl Model for Gate {
    fn identity(&self) -> Identity {
        Identity {
            kind: 4,
            class: 0x00_ff00,
            name: "gate",
        }
    }

    fn features(&self) -> u64 {
        0
    }

    fn queues(&self) -> u16 {
        2
    }

    fn config(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&[])
    }

    fn serve(&self, turn: &mut Turn<'_>) {
        turn.each(|_| self.hold());
    }
}

impl Gate {
    fn hold(&self) -> u32 {
        let mut state = self.state.lock().unwrap();
        state.0 += 1;
        // Not for ever, so that a test that fails ends.
        let most = Duration::from_secs(15);
        let waited = self
            .changed
            .wait_timeout_while(state, most, |state| !state.1);
        drop(waited.unwrap());
        0
    }
}

#[test]
fn one_notification_puts_as_many_threads_to_work_as_there_are_requests() {
    let gate = Arc::new(Gate::default());
    let mut driver = Driver::live(gate.clone(), 3, 0, 8);
    for head in 0..3 {
        driver.describe(1, head, (BUFFERS, 1), WRITE, 0);
        driver.offer(1, head);
    }
    driver.notify(1);
    gate.wait_held(3);
    gate.open();
    let mut heads = [(); 3].map(|()| driver.wait(1).0);
    heads.sort_unstable();
    assert_eq!(heads, [0, 1, 2]);
}

#[test]
fn a_reset_ends_when_the_last_request_has_returned() {
    let gate = Arc::new(Gate::default());
    let mut driver = Driver::live(gate.clone(), 2, 0, 8);
    driver.submit(0, &[(BUFFERS, 1, true)], None);
    driver.submit(1, &[(BUFFERS, 1, true)], None);
    gate.wait_held(2);
    let mut early = true;
    std::thread::scope(|scope| {
        let reset = scope.spawn(|| driver.reset());
        std::thread::sleep(Duration::from_millis(30));
        early = reset.is_finished();
        gate.open();
    });
    assert!(!early);
    assert!(driver.used(0).is_some() && driver.used(1).is_some());
}

#[test]
fn a_device_that_goes_away_takes_its_threads_along() {
    let gate = Arc::new(Gate::default());
    let driver = Driver::live(gate.clone(), 4, 0, 8);
    drop(driver);
    assert_eq!(Arc::strong_count(&gate), 1);
}
