//! What the files under test find in their crate's `engine`.

mod alarm;
mod hvf;
#[path = "../../../src/engine/park.rs"]
#[allow(dead_code, missing_docs)]
mod park;
mod soft;

/// As `engine::sync`.
pub mod sync {
    pub use loom::sync::atomic::Ordering;
    pub use loom::sync::{Condvar, Mutex, MutexGuard};

    /// Loom takes a SeqCst load for an acquire load, which may see an old value. Here every access is SeqCst, so each
    /// is made a read-modify-write, which sees the newest one.
    pub struct AtomicBool(loom::sync::atomic::AtomicBool);

    impl AtomicBool {
        pub fn new(value: bool) -> Self {
            Self(loom::sync::atomic::AtomicBool::new(value))
        }

        pub fn load(&self, order: Ordering) -> bool {
            assert_eq!(order, Ordering::SeqCst);
            self.0.fetch_or(false, order)
        }

        pub fn store(&self, value: bool, order: Ordering) {
            self.swap(value, order);
        }

        pub fn swap(&self, value: bool, order: Ordering) -> bool {
            assert_eq!(order, Ordering::SeqCst);
            self.0.swap(value, order)
        }
    }
}

/// As `engine::Kicker`.
pub trait Kicker {
    fn kick(&self);
}
