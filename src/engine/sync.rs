//! What the threads of an engine meet on: the host's. `tests/protocol` compiles the files that use it over a model
//! checker's instead, and runs them through every order of their steps.

pub use std::sync::atomic::{AtomicBool, Ordering};
pub use std::sync::{Condvar, Mutex, MutexGuard};
