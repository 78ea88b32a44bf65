//! The engine `hvf`: Hypervisor.framework of Intel Macs, which gives VMX nearly raw.
//!
//! All of it is written against the trait in `vmx`, which the framework implements on a Mac. The guest's memory is mapped
//! once; its devices are where nothing is mapped. What an exit needs done is done in software: `exits` has the few simple
//! and frequent ones, the software CPU executes the rest, one instruction at a time.
//!
//! Not used: the framework's own APIC, posted interrupts, the TPR shadow (CR8 exits instead), XSAVES, AVX.

mod controls;
mod cpuid;
mod dump;
mod event;
mod exits;
mod fp;
#[cfg(all(target_os = "macos", target_arch = "x86_64"))]
pub mod framework;
mod hardware;
pub mod host;
mod kick;
#[cfg(test)]
mod kick_tests;
#[cfg(feature = "hvf-model")]
pub mod model;
mod state;
mod time;
mod vcpu;
pub mod vmx;

use std::sync::Arc;

use hvf_sys::ram::Ram;

use self::hardware::{Failure, Hardware};
use self::kick::Mark;
use self::vcpu::HvfVcpu;
use self::vmx::{Access, Vmx};
use super::alarm::Alarm;
use super::{Engine, Refusal, Vcpu};
use crate::cpu::{Cpu, Group};
use crate::layout;
use crate::x86::cpuid::{Machine, tsc_ratio};
use crate::x86::vmx::Field;

/// The vCPUs of one machine.
pub struct Hvf {
    vmx: Arc<dyn Vmx>,
    ram: Arc<Ram>,
    cpus: u8,
    tsc_hz: u64,
    tsc_base: u64,
    /// The software CPUs that stand in for the hardware ones.
    group: Arc<Group>,
    alarm: Alarm,
}

impl Hvf {
    /// An engine for a machine with so many CPUs over `ram`, all of which it maps.
    pub fn new(vmx: Arc<dyn Vmx>, ram: Arc<Ram>, cpus: u8) -> Result<Self, Refusal> {
        for (gpa, len) in ram.regions() {
            let mapped = vmx.map(&ram, gpa, len, Access::ALL);
            mapped.map_err(|e| {
                Refusal(format!(
                    "cannot map {len:#x} bytes of the guest's memory at {gpa:#x}: {e}"
                ))
            })?;
        }
        let alarm = Alarm::start();
        Ok(Self {
            alarm: alarm.map_err(|e| Refusal(format!("cannot start the thread for kicks: {e}")))?,
            tsc_hz: vmx.tsc_hz().unwrap_or(layout::TSC_HZ).max(1),
            tsc_base: vmx.tsc(),
            vmx,
            ram,
            cpus,
            group: Arc::default(),
        })
    }

    fn make(&self, index: u8) -> Result<HvfVcpu, Failure> {
        let vcpu = self.vmx.vcpu();
        let vcpu = vcpu.map_err(|e| Failure(format!("making it failed with {e}")))?;
        let mut hardware = Hardware::new(vcpu);
        controls::set_up(&*self.vmx, &mut hardware)?;
        state::set_masks(&mut hardware)?;
        for msr in state::NATIVE_MSRS {
            hardware.enable_native_msr(msr)?;
        }
        let machine = Machine {
            cpus: self.cpus.into(),
            physical_bits: layout::PHYSICAL_BITS,
            crystal_hz: layout::CRYSTAL_HZ as u32,
            tsc_ratio: tsc_ratio(self.tsc_hz / 1000, layout::CRYSTAL_HZ),
        };
        let secondary = hardware.read32(Field::SECONDARY_CONTROLS)?;
        let cpuid = Arc::new(cpuid::table(&*self.vmx, &machine, index, secondary));
        let mut vcpu = HvfVcpu {
            vmx: self.vmx.clone(),
            tsc_hz: self.tsc_hz,
            tsc_base: self.tsc_base,
            mark: Mark::new(hardware.id(), self.vmx.clone(), &self.alarm),
            offered_cr4: cpuid::offered_cr4(&cpuid),
            hardware,
            soft: Cpu::new(self.ram.clone(), &self.group, cpuid),
            shadows: state::Shadows::default(),
            events: event::Events::default(),
            deadlines_refused: false,
            violation: ((0, 0), 0),
            failed: None,
        };
        vcpu.power_on()?;
        Ok(vcpu)
    }
}

impl Engine for Hvf {
    fn name(&self) -> &'static str {
        "hvf"
    }

    fn vcpu(&self, index: u8) -> Result<Box<dyn Vcpu>, Refusal> {
        match self.make(index) {
            Ok(vcpu) => Ok(Box::new(vcpu)),
            Err(failure) => Err(Refusal(format!(
                "Hypervisor.framework cannot run CPU {index}: {failure}"
            ))),
        }
    }
}
