//! Instructions that KVM gives up on, done by the software CPU.
//!
//! KVM emulates where its processor cannot run a guest's code itself: old ones in real mode and on the way out of it, and
//! hosts whose /dev/kvm is not a processor's at all. Its emulator lacks a few instructions, of which those are done
//! here that need no more than the registers that engines exchange: no MSR, no x87 or SSE, no interrupt shadow.

use std::sync::Arc;

use hvf_sys::cpu::Op;
use hvf_sys::ram::Ram;

use crate::cpu::io::Io;
use crate::cpu::{Cpu, Stop};
use crate::x86::cpuid::Table;
use crate::x86::regs::Regs;

/// What comes of an instruction.
pub(super) enum Done {
    /// The guest goes on with these registers. True where it was an IRET, which ends the blocking of NMIs.
    GoesOn(Box<Regs>, bool),
    /// A fault in the delivery of a double fault.
    TripleFault,
    /// Not one of those.
    NotOurs,
}

/// The software CPU of one vCPU, which no guest runs on.
pub(super) struct Software(Cpu);

impl Software {
    /// Over `ram`. CPUID is not among what it does.
    pub(super) fn new(ram: &Arc<Ram>, cpuid: &Arc<Table>) -> Self {
        Self(Cpu::new(ram.clone(), &Arc::default(), cpuid.clone()))
    }

    /// Does the instruction at RIP, where it is one of those.
    pub(super) fn step(&mut self, regs: &Regs, io: &mut dyn Io) -> Done {
        self.0.core_mut().set_regs(regs);
        let fetched = self.0.fetch_one(io);
        let Some(op) = fetched.op().filter(|&op| is_ours(op)) else {
            return Done::NotOurs;
        };
        match self.0.execute_one(io, fetched) {
            None => Done::GoesOn(Box::new(self.0.core().regs()), op == Op::Iret),
            Some(Stop::TripleFault) => Done::TripleFault,
            Some(_) => Done::NotOurs,
        }
    }
}

fn is_ours(op: Op) -> bool {
    matches!(
        op,
        Op::Cmpxchg8b
            | Op::Cmpxchg16b
            | Op::JmpFar
            | Op::CallFar
            | Op::RetFar
            | Op::Iret
            | Op::Int
            | Op::Int3
            | Op::Into
            | Op::Bound
            | Op::Enter
    )
}
