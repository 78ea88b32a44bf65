//! The engine `soft`: our own CPU, which makes its device accesses as calls and needs nothing of the host.

use std::sync::Arc;

use hvf_sys::cpu::Attention;
use hvf_sys::ram::Ram;

use super::{Engine, Exit, Kicker, Refusal, Reset, Vcpu};
use crate::bus::Nanos;
use crate::cpu::io::Io;
use crate::cpu::rendezvous::Member;
use crate::cpu::{Cpu, Group, Stop};
use crate::layout;
use crate::x86::cpuid::{Machine, Table};
use crate::x86::regs::Regs;

/// The software CPUs of one machine.
pub struct Soft {
    ram: Arc<Ram>,
    group: Arc<Group>,
    cpus: u8,
}

impl Soft {
    /// An engine for a machine with so many CPUs over `ram`.
    pub fn new(ram: Arc<Ram>, cpus: u8) -> Self {
        Self {
            ram,
            group: Arc::default(),
            cpus,
        }
    }
}

impl Engine for Soft {
    fn name(&self) -> &'static str {
        "soft"
    }

    fn vcpu(&self, index: u8) -> Result<Box<dyn Vcpu>, Refusal> {
        let machine = Machine {
            cpus: self.cpus.into(),
            physical_bits: layout::PHYSICAL_BITS,
            crystal_hz: layout::CRYSTAL_HZ as u32,
            tsc_ratio: (layout::TSC_RATIO as u32, 1),
        };
        let cpuid = Arc::new(Table::new(&machine, index.into()));
        let cpu = Cpu::new(self.ram.clone(), &self.group, cpuid);
        Ok(Box::new(SoftVcpu(cpu)))
    }
}

/// One of them.
struct SoftVcpu(Cpu);

impl Vcpu for SoftVcpu {
    fn run(&mut self, io: &mut dyn Io, until: Option<Nanos>) -> Exit {
        match self.0.run(io, until) {
            Stop::Halt => Exit::Halt,
            Stop::Kicked => Exit::Kicked,
            Stop::Deadline => Exit::Deadline,
            Stop::WindowOpen => Exit::WindowOpen,
            Stop::TripleFault => Exit::TripleFault,
            Stop::Intercepted => Exit::Fault {
                detail: "the software CPU was left as if it ran under a hypervisor".to_owned(),
            },
        }
    }

    // Device accesses are calls: no read ever waits for its value.
    fn complete_read(&mut self, _value: u64) {}

    fn complete_msr(&mut self, _value: Option<u64>) {}

    fn can_inject(&self) -> bool {
        let core = self.0.core();
        core.injected.is_none() && core.interruptible()
    }

    fn inject(&mut self, vector: u8) {
        self.0.core_mut().injected = Some(vector);
    }

    fn inject_nmi(&mut self) {
        self.0.core_mut().nmi_pending = true;
    }

    fn request_window(&mut self, wanted: bool) {
        self.0.core_mut().window = wanted;
    }

    fn reset(&mut self, kind: Reset) {
        self.0.core_mut().reset(kind == Reset::Init);
    }

    fn start_ap(&mut self, page: u8) {
        self.0.core_mut().start_ap(page);
    }

    fn regs(&mut self) -> Regs {
        self.0.core().regs()
    }

    fn set_regs(&mut self, regs: &Regs) {
        self.0.core_mut().set_regs(regs);
    }

    fn set_mtrr(&mut self, msr: u32, value: u64) {
        // A number that is no such register sets nothing.
        let _ = self.0.core_mut().set_mtrr(msr, value);
    }

    fn retired(&self) -> Option<u64> {
        Some(self.0.core().retired)
    }

    fn kicker(&self) -> Arc<dyn Kicker> {
        Arc::new(SoftKicker(self.0.member().clone()))
    }
}

/// Raises the attention word, which stays raised until a run has taken it.
struct SoftKicker(Arc<Member>);

impl Kicker for SoftKicker {
    fn kick(&self) {
        self.0.attention.raise(Attention::KICK);
    }
}
