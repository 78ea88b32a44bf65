//! How a vCPU's thread sleeps: with a token, so that waking it before it sleeps is not lost.
//!
//! `std::thread::park` has the same token, but anything else on the thread may take that one.

use std::sync::PoisonError;
use std::time::Duration;

use super::sync::{Condvar, Mutex, MutexGuard};

/// The bed of one thread.
#[derive(Default)]
pub(super) struct Parker {
    token: Mutex<bool>,
    wake: Condvar,
}

impl Parker {
    /// Wakes the sleeper, now or when it wants to sleep next.
    pub(super) fn unpark(&self) {
        *self.lock() = true;
        self.wake.notify_one();
    }

    /// Sleeps until `unpark`, or until `timeout` is over. It may also wake for no reason.
    pub(super) fn park(&self, timeout: Option<Duration>) {
        let mut token = self.lock();
        if !*token {
            token = match timeout {
                Some(timeout) => {
                    let woken = self.wake.wait_timeout(token, timeout);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let woken = self.wake.wait(token);
                    woken.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
        *token = false;
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
