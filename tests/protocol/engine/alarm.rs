//! An alarm without a clock: a bell that insists rings again as soon as it can.

use std::sync::Arc;
use std::time::Instant;

use super::sync::{Condvar, Mutex};

type Ring = Arc<dyn Fn() + Send + Sync>;

/// As `engine::alarm::Alarm`. Its thread is whoever calls `watch`.
#[derive(Clone, Default)]
pub struct Alarm(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    bells: Vec<(Ring, bool)>,
    ended: bool,
}

/// As `engine::alarm::Bell`.
pub struct Bell {
    shared: Arc<Shared>,
    number: usize,
}

impl Alarm {
    pub fn bell(&self, ring: impl Fn() + Send + Sync + 'static) -> Bell {
        let mut state = self.0.state.lock().unwrap();
        state.bells.push((Arc::new(ring), false));
        Bell {
            shared: self.0.clone(),
            number: state.bells.len() - 1,
        }
    }

    /// Rings what insists until `end`.
    pub fn watch(&self) {
        let mut state = self.0.state.lock().unwrap();
        while !state.ended {
            let next = state.bells.iter().find(|(_, insists)| *insists);
            let ring = next.map(|(ring, _)| ring.clone());
            state = match ring {
                Some(ring) => {
                    drop(state);
                    ring();
                    loom::thread::yield_now();
                    self.0.state.lock().unwrap()
                }
                None => self.0.changed.wait(state).unwrap(),
            };
        }
    }

    /// Nobody waits for a bell any more.
    pub fn end(&self) {
        self.0.state.lock().unwrap().ended = true;
        self.0.changed.notify_all();
    }
}

impl Bell {
    #[allow(dead_code, reason = "the kicks at a deadline are kicks")]
    pub fn set(&self, _at: Option<Instant>) {}

    pub fn insist(&self) {
        self.shared.state.lock().unwrap().bells[self.number].1 = true;
        self.shared.changed.notify_all();
    }

    pub fn hush(&self) {
        self.shared.state.lock().unwrap().bells[self.number].1 = false;
    }
}
