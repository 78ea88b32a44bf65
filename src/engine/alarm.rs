//! Wakes vCPUs whose time has come, for engines whose `run` takes no deadline: one thread for each machine.
//!
//! Each vCPU has a bell. It rings once at the time that it is set to; and, for an engine whose kicks can get lost,
//! every millisecond from `insist` on until the vCPU answers with `hush`.
//!
//! A bell that is set to a later time, or to none, does not wake the thread, which then wakes once for nothing at the
//! old time: that is cheaper than telling it, since a guest moves its deadline far more often than it meets it.
//!
//! Lock rank: the mutex in here is taken with anything held, and nothing is called under it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// How often an insisting bell rings.
pub const INSISTENCE: Duration = Duration::from_millis(1);

/// What a bell does when it rings: it is called on the alarm's thread.
type Ring = Arc<dyn Fn() + Send + Sync>;

/// The alarm of one machine. Its thread ends with it.
pub struct Alarm {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    bells: Vec<Setting>,
    /// When the thread wakes by itself; `None` is never.
    wakes: Option<Instant>,
    ending: bool,
}

/// One bell as the thread sees it.
struct Setting {
    ring: Ring,
    at: Option<Instant>,
    insists: Arc<AtomicBool>,
}

impl Alarm {
    /// Starts the thread.
    pub fn start() -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let thread = Builder::new().name("alarm".to_owned()).spawn({
            let shared = shared.clone();
            move || shared.watch()
        })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// A new bell.
    pub fn bell(&self, ring: impl Fn() + Send + Sync + 'static) -> Bell {
        let insists = Arc::<AtomicBool>::default();
        let mut state = self.shared.lock();
        state.bells.push(Setting {
            ring: Arc::new(ring),
            at: None,
            insists: insists.clone(),
        });
        Bell {
            number: state.bells.len() - 1,
            shared: self.shared.clone(),
            insists,
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.shared.lock().ending = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

/// One vCPU's bell. Once the alarm is gone it rings no more.
#[derive(Clone)]
pub struct Bell {
    shared: Arc<Shared>,
    number: usize,
    insists: Arc<AtomicBool>,
}

impl Bell {
    /// Sets when it rings, in place of what it was set to; at once where that is past.
    pub fn set(&self, at: Option<Instant>) {
        let mut state = self.shared.lock();
        state.bells[self.number].at = at;
        if at.is_some_and(|at| state.wakes.is_none_or(|wakes| at < wakes)) {
            self.shared.changed.notify_all();
        }
    }

    /// Rings every millisecond, the first time a millisecond from now or sooner, until `hush`.
    pub fn insist(&self) {
        if !self.insists.swap(true, SeqCst) {
            // Under the lock, so that the thread is not between its look and its sleep.
            drop(self.shared.lock());
            self.shared.changed.notify_all();
        }
    }

    /// Ends that. Whoever wants something insists after saying what, so that nothing is missed by looking after this.
    pub fn hush(&self) {
        self.insists.store(false, SeqCst);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self) {
        let mut state = self.lock();
        while !state.ending {
            let rings = state.attend(Instant::now());
            if !rings.is_empty() {
                drop(state);
                rings.iter().for_each(|ring| ring());
                state = self.lock();
                // What was set meanwhile did not wake anybody.
                state.wakes = state.next(Instant::now());
                if state.ending {
                    break;
                }
            }
            state = match state.wakes {
                Some(at) => {
                    let time = at.saturating_duration_since(Instant::now());
                    let woken = self.changed.wait_timeout(state, time);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let woken = self.changed.wait(state);
                    woken.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }
}

impl State {
    /// Takes what rings now, and notes when something is to ring next.
    fn attend(&mut self, now: Instant) -> Vec<Ring> {
        let mut rings = Vec::new();
        for bell in &mut self.bells {
            let is_due = bell.at.take_if(|at| *at <= now).is_some();
            if is_due || bell.insists.load(SeqCst) {
                rings.push(bell.ring.clone());
            }
        }
        self.wakes = self.next(now);
        rings
    }

    fn next(&self, now: Instant) -> Option<Instant> {
        let next = |bell: &Setting| {
            let again = bell.insists.load(SeqCst).then(|| now + INSISTENCE);
            [bell.at, again].into_iter().flatten().min()
        };
        self.bells.iter().filter_map(next).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::AtomicU32;
    use std::sync::mpsc::{self, RecvTimeoutError};
    use std::thread;

    /// Far more than a ring takes, on a busy machine too.
    const LOST: Duration = Duration::from_secs(20);
    const MS: Duration = Duration::from_millis(1);

    fn bell(alarm: &Alarm) -> (Bell, mpsc::Receiver<Instant>) {
        let (send, rings) = mpsc::channel();
        let bell = alarm.bell(move || send.send(Instant::now()).unwrap_or(()));
        (bell, rings)
    }

    #[test]
    fn a_bell_rings_once_and_not_before_its_time() {
        let alarm = Alarm::start().unwrap();
        let bells = [bell(&alarm), bell(&alarm), bell(&alarm)];
        for round in 0..20 {
            let now = Instant::now();
            // The latest is set first, so that each wakes the thread; past is allowed.
            for (n, (bell, _)) in (0..).zip(&bells) {
                bell.set(Some(now + (4 - 2 * n) * MS - round % 2 * MS));
            }
            for (n, (_, rings)) in (0..).zip(&bells) {
                let rang = rings.recv_timeout(LOST).unwrap();
                assert!(rang >= now + (4 - 2 * n) * MS - round % 2 * MS);
            }
        }
        for (_, rings) in &bells {
            assert_eq!(rings.recv_timeout(3 * MS), Err(RecvTimeoutError::Timeout));
        }
    }

    #[test]
    fn a_bell_that_is_set_anew_forgets_the_old_time() {
        let alarm = Alarm::start().unwrap();
        let (bell, rings) = bell(&alarm);
        for _ in 0..20 {
            let now = Instant::now();
            bell.set(Some(now + LOST));
            bell.set(None);
            bell.set(Some(now + 10 * LOST));
            bell.set(Some(now + MS));
            rings.recv_timeout(LOST).unwrap();
        }
        bell.set(Some(Instant::now() + 300 * MS));
        bell.set(None);
        assert_eq!(rings.recv_timeout(500 * MS), Err(RecvTimeoutError::Timeout));
    }

    #[test]
    fn an_insisting_bell_rings_until_it_is_hushed() {
        let alarm = Alarm::start().unwrap();
        let (bell, rings) = bell(&alarm);
        for _ in 0..5 {
            bell.insist();
            bell.insist();
            for _ in 0..5 {
                rings.recv_timeout(LOST).unwrap();
            }
            bell.hush();
            // One may be on its way.
            while rings.recv_timeout(20 * MS).is_ok() {}
        }
    }

    /// The way of an engine whose kicks get lost: of each kick only the repetition arrives, if at all.
    #[test]
    fn a_kick_that_gets_lost_is_repeated() {
        let alarm = Alarm::start().unwrap();
        let luck = Arc::<AtomicU32>::default();
        let (send, arrived) = mpsc::channel();
        let bell = alarm.bell(move || {
            if luck.fetch_add(1, SeqCst) % 4 == 3 {
                send.send(()).unwrap_or(());
            }
        });
        let wanted = Arc::<AtomicU32>::default();
        let kicker = thread::spawn({
            let (bell, wanted) = (bell.clone(), wanted.clone());
            move || {
                for _ in 0..50 {
                    wanted.fetch_add(1, SeqCst);
                    bell.insist();
                    thread::sleep(MS / 2);
                }
            }
        });
        let mut seen = 0;
        while seen < 50 {
            arrived.recv_timeout(LOST).expect("a kick is lost");
            bell.hush();
            seen = wanted.load(SeqCst);
        }
        kicker.join().unwrap();
    }

    #[test]
    fn it_ends_with_its_bells_set_and_bells_outlive_it() {
        for _ in 0..20 {
            let alarm = Alarm::start().unwrap();
            let (bell, _rings) = bell(&alarm);
            bell.set(Some(Instant::now() + LOST));
            bell.insist();
            drop(alarm);
            bell.set(Some(Instant::now()));
            bell.insist();
        }
    }

    proptest! {
        /// With time by hand: whatever is set, each bell rings at the first look at or after its time, and only then;
        /// and the next look is never later than the next ring.
        #[test]
        fn nothing_is_rung_early_late_or_twice(
            steps in prop::collection::vec((0usize..4, prop::option::of(0u64..50), 1u64..20), 1..60)
        ) {
            let start = Instant::now();
            let at = |ms| start + Duration::from_millis(ms);
            let rung: Arc<Mutex<Vec<usize>>> = Arc::default();
            let mut state = State::default();
            for n in 0..4 {
                let rung = rung.clone();
                state.bells.push(Setting {
                    ring: Arc::new(move || rung.lock().unwrap().push(n)),
                    at: None,
                    insists: Arc::default(),
                });
            }
            let (mut now, mut expected) = (0, [None; 4]);
            for (n, ahead, passes) in steps {
                expected[n] = ahead.map(|ahead| now + ahead);
                state.bells[n].at = expected[n].map(at);
                now += passes;
                let due: Vec<usize> = (0..4)
                    .filter(|&n| expected[n].take_if(|at| *at <= now).is_some())
                    .collect();
                state.attend(at(now)).iter().for_each(|ring| ring());
                prop_assert_eq!(std::mem::take(&mut *rung.lock().unwrap()), due);
                prop_assert_eq!(state.wakes, expected.iter().flatten().min().copied().map(at));
            }
        }
    }
}
