//! The parker on threads of the host; `tests/protocol` runs it through every order of its steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use super::park::Parker;

/// Far more than a wake-up takes, on a busy machine too.
const LOST: Duration = Duration::from_secs(20);

#[test]
fn a_wake_up_before_the_sleep_ends_it_at_once() {
    let parker = Parker::default();
    parker.unpark();
    parker.unpark();
    let start = Instant::now();
    parker.park(Some(LOST));
    assert!(start.elapsed() < LOST);
    // The token is one, not a count.
    let start = Instant::now();
    parker.park(Some(Duration::from_millis(5)));
    assert!(start.elapsed() >= Duration::from_millis(5));
}

/// Takes a moment.
fn pause(length: u32) {
    (0..length).for_each(|_| std::hint::spin_loop());
}

/// One thread looks, finds nothing and sleeps, as a vCPU does; the other is awake and wakes it at any moment
/// from before the look to well after it has fallen asleep.
#[test]
fn no_wake_up_between_look_and_sleep_is_lost() {
    const ROUNDS: u32 = 20_000;
    let ball = Arc::new(AtomicU32::new(0));
    let parker = Arc::new(Parker::default());
    let sleeper = {
        let (ball, parker) = (ball.clone(), parker.clone());
        thread::spawn(move || {
            for round in (0..ROUNDS).step_by(2) {
                let start = Instant::now();
                while ball.load(SeqCst) != round {
                    pause(round % 127);
                    parker.park(Some(LOST));
                    assert!(start.elapsed() < LOST, "round {round}");
                }
                ball.store(round + 1, SeqCst);
            }
        })
    };
    for round in (1..ROUNDS).step_by(2) {
        let mut looks = 0_u32;
        while ball.load(SeqCst) != round && !sleeper.is_finished() {
            looks += 1;
            if looks.is_multiple_of(1_000) {
                thread::yield_now();
            }
        }
        pause(round % 256);
        ball.store(round + 1, SeqCst);
        parker.unpark();
    }
    sleeper.join().unwrap();
    assert_eq!(ball.load(SeqCst), ROUNDS);
}
