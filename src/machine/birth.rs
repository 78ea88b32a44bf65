//! How a machine came to be: what took its CPUs, and when each step of building it was done.

use std::time::Instant;

/// An account of the building of a machine, for people who wonder where the time went.
#[derive(Clone, Debug)]
pub struct Birth {
    /// The engine that was taken, by its name for `--engine`.
    pub engine: &'static str,
    /// When the building began.
    pub begun: Instant,
    /// The steps in their order, each with its end; each begins where the one before ended.
    pub steps: Vec<(&'static str, Instant)>,
}

impl Birth {
    pub(super) fn begin() -> Self {
        Self {
            engine: "",
            begun: Instant::now(),
            steps: Vec::new(),
        }
    }

    /// The step of this name is over.
    pub(super) fn done(&mut self, step: &'static str) {
        self.steps.push((step, Instant::now()));
    }
}
