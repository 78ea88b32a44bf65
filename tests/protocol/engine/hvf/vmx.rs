//! Hypervisor.framework as far as kicks know it.

use std::convert::Infallible;

use crate::engine::sync::{Condvar, Mutex};

/// As `engine::hvf::vmx::Vmx`.
pub trait Vmx: Send + Sync {
    fn interrupt(&self, vcpus: &[u32]) -> Result<(), Infallible>;
}

/// One vCPU: whether it is inside `run`, and whether it has been interrupted there.
#[derive(Default)]
pub struct Framework {
    inside: Mutex<Option<bool>>,
    changed: Condvar,
}

impl Framework {
    /// Runs the guest until it is interrupted.
    pub fn run(&self) {
        let mut inside = self.inside.lock().unwrap();
        *inside = Some(false);
        while *inside == Some(false) {
            inside = self.changed.wait(inside).unwrap();
        }
        *inside = None;
    }
}

impl Vmx for Framework {
    fn interrupt(&self, _: &[u32]) -> Result<(), Infallible> {
        let mut inside = self.inside.lock().unwrap();
        if inside.is_some() {
            *inside = Some(true);
            self.changed.notify_all();
        }
        Ok(())
    }
}
