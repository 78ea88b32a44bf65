//! An interrupt wire as its driver holds it: a device has a `Line`, not a pin number.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where a line ends: the chipset hub, which combines several drivers of one pin (wired OR).
pub trait LineSink: Send + Sync {
    /// Driver number `driver` of this sink now drives `level`.
    fn drive(&self, driver: u32, level: bool);
}

/// One driver's end of an interrupt wire. It remembers its level, so that only changes travel.
/// Not `Clone`: a second driver of the same pin is a second handle from the hub.
pub struct Line {
    sink: Option<Arc<dyn LineSink>>,
    driver: u32,
    level: AtomicBool,
}

impl Line {
    /// A wire to `sink`, as its driver number `driver`, low at first.
    pub fn new(sink: Arc<dyn LineSink>, driver: u32) -> Self {
        Self {
            sink: Some(sink),
            driver,
            level: AtomicBool::new(false),
        }
    }

    /// A wire that ends nowhere and only remembers its level.
    pub fn loose() -> Self {
        Self {
            sink: None,
            driver: 0,
            level: AtomicBool::new(false),
        }
    }

    /// Drives the wire. Setting the level that it already has does nothing.
    pub fn set(&self, level: bool) {
        if self.level.swap(level, Ordering::Relaxed) != level
            && let Some(sink) = &self.sink
        {
            sink.drive(self.driver, level);
        }
    }

    /// The level last driven.
    pub fn level(&self) -> bool {
        self.level.load(Ordering::Relaxed)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.set(false);
    }
}
