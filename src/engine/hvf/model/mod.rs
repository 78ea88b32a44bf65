//! A model of Hypervisor.framework on Intel processors, on top of the software CPU: the trait `Vmx` where no Mac is.
//!
//! It is written from SDM volume 3 and Apple's headers, never from the driver. It refuses what VMX refuses, and is as
//! inconvenient as a Mac may be: see `Host`. It serves tests only; no release has it.
//!
//! Not modelled: what `host::simulated` does not list, MSR lists, PCIDs in the TLB, the host's own state, and
//! machine checks. An instruction is atomic, so that no exit comes in the middle of one.

mod entry;
mod exit;
mod fp;
mod guest;
pub mod host;
mod memory;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod valid;
mod vcpu;
mod vmcs;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use hvf_sys::cpu::Attention;
use hvf_sys::ram::Ram;

use super::vmx::{Access, Capability, Error, Result, Vmx, VmxVcpu};
use crate::cpu::Group;
use crate::cpu::rendezvous::Member;
pub use host::Host;
use memory::Memory;
use vcpu::ModelVcpu;

/// The VM of a modelled Mac.
pub struct Model {
    host: Host,
    ram: Arc<Ram>,
    memory: Arc<Memory>,
    group: Arc<Group>,
    bells: Mutex<Vec<(u32, Arc<Bell>)>>,
    next: AtomicU32,
    booted: Instant,
}

/// What the counter showed when the machine was made: the host has been running for a while.
const TSC_START: u64 = 0x0123_4567_89ab;
/// Numbers of vCPUs mean nothing to who uses them.
const FIRST_ID: u32 = 0x40;

impl Model {
    /// A VM on such a host, that can map `ram` and no other.
    #[expect(clippy::new_ret_no_self, reason = "its vCPUs share it from the start")]
    pub fn new(host: Host, ram: Arc<Ram>) -> Arc<dyn Vmx> {
        Arc::new(Handle(Self::make(host, ram)))
    }

    fn make(host: Host, ram: Arc<Ram>) -> Arc<Self> {
        Arc::new(Self {
            host,
            ram,
            memory: Arc::new(Memory::new(host.first_touch)),
            group: Arc::default(),
            bells: Mutex::default(),
            next: AtomicU32::new(FIRST_ID),
            booted: Instant::now(),
        })
    }

    fn tsc(&self) -> u64 {
        let elapsed = self.booted.elapsed().as_nanos();
        let ticks = elapsed * u128::from(self.host.tsc_hz) / 1_000_000_000;
        TSC_START.wrapping_add(ticks as u64)
    }

    fn bells(&self) -> MutexGuard<'_, Vec<(u32, Arc<Bell>)>> {
        self.bells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes every vCPU look at the map again.
    fn shoot_down(&self) {
        for (_, bell) in self.bells().iter() {
            bell.member.attention.raise(Attention::KICK);
        }
    }
}

/// What the program holds.
struct Handle(Arc<Model>);

impl Vmx for Handle {
    fn capability(&self, which: Capability) -> Result<u64> {
        Ok(self.0.host.word(which).capability())
    }

    fn map(&self, ram: &Arc<Ram>, gpa: u64, len: u64, access: Access) -> Result<()> {
        if !Arc::ptr_eq(ram, &self.0.ram) || !ram.contains(gpa, len) {
            return Err(Error::BAD_ARGUMENT);
        }
        self.0.memory.map(gpa, len, access)
    }

    fn unmap(&self, gpa: u64, len: u64) -> Result<()> {
        let done = self.0.memory.unmap(gpa, len);
        self.0.shoot_down();
        done
    }

    fn protect(&self, gpa: u64, len: u64, access: Access) -> Result<()> {
        let done = self.0.memory.protect(gpa, len, access);
        self.0.shoot_down();
        done
    }

    fn vcpu(&self) -> Result<Box<dyn VmxVcpu>> {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let vcpu = ModelVcpu::new(self.0.clone(), id);
        Ok(Box::new(vcpu))
    }

    fn interrupt(&self, vcpus: &[u32]) -> Result<()> {
        let bells = self.0.bells();
        for id in vcpus {
            let found = bells.iter().find(|(other, _)| other == id);
            found.ok_or(Error::BAD_ARGUMENT)?.1.ring();
        }
        Ok(())
    }

    fn tsc(&self) -> u64 {
        self.0.tsc()
    }

    fn tsc_hz(&self) -> Option<u64> {
        Some(self.0.host.tsc_hz)
    }
}

/// How others interrupt a vCPU: only while it is inside `run`.
struct Bell {
    member: Arc<Member>,
    state: Mutex<Ring>,
}

#[derive(Default)]
struct Ring {
    inside: bool,
    rung: bool,
}

impl Bell {
    fn new(member: Arc<Member>) -> Self {
        Self {
            member,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        let mut state = self.lock();
        if state.inside {
            state.rung = true;
            self.member.attention.raise(Attention::KICK);
        }
    }

    fn has_rung(&self) -> bool {
        self.lock().rung
    }

    fn enter(&self) {
        *self.lock() = Ring {
            inside: true,
            rung: false,
        };
    }

    fn leave(&self) {
        *self.lock() = Ring::default();
        self.member.attention.clear(Attention::KICK);
    }
}
