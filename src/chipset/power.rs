//! The machine's power switch as the chips see it: they ask, the machine acts after the slot is given back.

use std::sync::atomic::{AtomicU8, Ordering};

/// What a guest asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Power {
    /// Soft-off.
    Off = 1,
    /// A reset of the whole machine.
    Reset = 2,
}

/// Keeps the first request until the machine takes it.
pub struct PowerSwitch {
    request: AtomicU8,
    wake: Box<dyn Fn() + Send + Sync>,
}

const NOTHING: u8 = 0;

impl PowerSwitch {
    /// A switch that calls `wake` at the first request. A slot is held then: `wake` may only set atomics and kick.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            request: AtomicU8::new(NOTHING),
            wake: Box::new(wake),
        }
    }

    /// Asks the machine for `power`. While an earlier request waits, this one changes nothing.
    pub fn request(&self, power: Power) {
        let first = self.request.compare_exchange(
            NOTHING,
            power as u8,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        if first.is_ok() {
            (self.wake)();
        }
    }

    /// What waits, if anything, without taking it.
    pub fn pending(&self) -> Option<Power> {
        decode(self.request.load(Ordering::Acquire))
    }

    /// Takes what waits, if anything.
    pub fn take(&self) -> Option<Power> {
        decode(self.request.swap(NOTHING, Ordering::AcqRel))
    }
}

fn decode(request: u8) -> Option<Power> {
    match request {
        1 => Some(Power::Off),
        2 => Some(Power::Reset),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn the_first_request_wakes_and_wins() {
        let woken = Arc::new(AtomicU32::new(0));
        let switch = PowerSwitch::new({
            let woken = woken.clone();
            move || {
                woken.fetch_add(1, Ordering::Relaxed);
            }
        });
        assert_eq!(switch.take(), None);
        switch.request(Power::Reset);
        switch.request(Power::Off);
        assert_eq!(switch.pending(), Some(Power::Reset));
        assert_eq!(switch.take(), Some(Power::Reset));
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        switch.request(Power::Off);
        assert_eq!((switch.take(), switch.take()), (Some(Power::Off), None));
    }
}
