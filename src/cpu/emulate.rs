//! One instruction, or the delivery of one event, for a vCPU that hardware runs: what an engine does where the processor
//! has left the guest for something that is to be done in software.
//!
//! The caller sets the whole state that the instruction may look at, and takes back what it has become. Between two such
//! instructions hardware has run, and may have changed anything: translations are forgotten first, and code is decoded
//! anew each time, so that nobody has to watch the page it stands in. Faults go through the guest's own IDT.
//!
//! Instruction breakpoints are not looked at: the processor has done that before it left the guest. An instruction in
//! a device's memory has no bytes that could be fetched; it is #GP, as on the software CPU.

use hvf_sys::cpu::{Insn, Op};
use hvf_sys::ram::PAGE;

use super::core::{Core, Done, Exec, Fault, Trap};
use super::decode::decode;
use super::exec;
use super::flags::Flags;
pub use super::interrupt::Source;
use super::io::Io;
use super::run::{Cpu, Stop};
use crate::x86::control::{cr0, dr6, rflags};
use crate::x86::{segment, vector};

const LONGEST: usize = 15;

/// What stands at RIP: an instruction, or the fault that fetching it raises.
pub struct Fetched(Result<Insn, Trap>);

impl Fetched {
    /// The operation, where there is an instruction.
    pub fn op(&self) -> Option<Op> {
        self.0.as_ref().ok().map(Insn::op)
    }
}

/// An event whose delivery hardware had begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The vector.
    pub vector: u8,
    /// Where it comes from.
    pub source: Source,
    /// The error code, where the vector has one.
    pub error: Option<u32>,
    /// How many bytes RIP is moved on before it is pushed: the length of INT n and its kin.
    pub len: u64,
}

impl Core {
    /// Derives what depends on the state, after all of `state` was set. Translations are forgotten where they are used.
    pub fn adopt_state(&mut self) {
        let bits = self.state.rflags;
        self.flags = Flags::from_bits(bits);
        self.state.rflags |= rflags::FIXED;
        let dpl = self.segment(hvf_sys::cpu::State::SS).rights & segment::DPL;
        self.cpl = match (self.cr0(cr0::PE), self.vm86()) {
            (false, _) => 0,
            (true, true) => 3,
            (true, false) => (dpl >> segment::DPL_SHIFT) as u8,
        };
        self.update_mode();
    }
}

impl Cpu {
    /// Fetches the instruction at RIP.
    pub fn fetch_one(&mut self, io: &mut dyn Io) -> Fetched {
        let fetched = self.alone(io, |x| Fetched(x.fetch_fresh()));
        fetched.unwrap_or(Fetched(Err(Trap::Leave)))
    }

    /// Executes it: to its end, to the end of some iterations of a repeated one, or to its fault's handler. `None` where
    /// the guest goes on.
    pub fn execute_one(&mut self, io: &mut dyn Io, fetched: Fetched) -> Option<Stop> {
        let stop = self.alone(io, |x| match x.execute_fetched(fetched.0) {
            Ok(()) => None,
            Err(trap) => x.handle(trap).err(),
        });
        stop.unwrap_or(Some(Stop::TripleFault))
    }

    /// Delivers an event.
    pub fn deliver_one(&mut self, io: &mut dyn Io, event: Event) -> Option<Stop> {
        let stop = self.alone(io, |x| x.deliver_begun(event).err());
        stop.unwrap_or(Some(Stop::TripleFault))
    }

    /// `None` where an earlier call panicked.
    fn alone<T>(&mut self, io: &mut dyn Io, act: impl FnOnce(&mut Exec<'_>) -> T) -> Option<T> {
        let mut core = self.core.take()?;
        self.member.enter(&mut core);
        let mut exec = Exec { core, io };
        let result = act(&mut exec);
        let mut core = exec.core;
        core.state.rflags = core.rflags();
        self.member.leave();
        self.core = Some(core);
        Some(result)
    }
}

impl Exec<'_> {
    fn fetch_fresh(&mut self) -> Result<Insn, Trap> {
        self.flush_all();
        if !self.code64() {
            self.state.rip &= 0xffff_ffff;
        }
        let room = if self.code64() {
            u64::MAX
        } else {
            let limit = u64::from(self.segment(hvf_sys::cpu::State::CS).limit);
            (limit + 1).saturating_sub(self.state.rip)
        };
        let la = self.fetch_address();
        let head = (PAGE - la % PAGE).min(LONGEST as u64) as usize;
        let mut bytes = [0; LONGEST];
        if room == 0 {
            return Err(self.general_protection(0));
        }
        let (page, _) = self.fetch_page(la)?;
        self.read_code(page | la % PAGE, &mut bytes[..head])?;
        let mut found = decode(&bytes[..head], self.code_size);
        if found.is_err() && head < LONGEST {
            // The limit of the code segment comes before the next page's fault.
            if room <= head as u64 {
                return Err(self.general_protection(0));
            }
            let (next, _) = self.fetch_page(self.next_page(la))?;
            self.read_code(next, &mut bytes[head..])?;
            found = decode(&bytes, self.code_size);
        }
        match found {
            Ok(insn) if insn.len() <= room => Ok(insn),
            _ => Err(self.general_protection(0)),
        }
    }

    fn execute_fetched(&mut self, fetched: Result<Insn, Trap>) -> Done {
        let after_stack_load = std::mem::take(&mut self.stack_shadow);
        self.shadow = false;
        self.state.rflags &= !rflags::RF;
        self.update_mode();
        // What a load of SS hit is told after the next instruction (SDM volume 3, 6.8.3).
        if !after_stack_load {
            self.hits = 0;
        }
        let insn = fetched?;
        let (at, before) = (self.state.rip, self.state.rflags);
        self.state.rip = at.wrapping_add(insn.len());
        let done = exec::select(&insn)(self, &insn);
        self.written_code = false;
        match self.end_early(insn.len(), done) {
            Err(Trap::Leave) if before & rflags::TF != 0 && insn.op() == Op::Hlt => {}
            done => done?,
        }
        self.end_step(before, at, Some(insn))
    }

    fn deliver_begun(&mut self, event: Event) -> Result<(), Stop> {
        self.flush_all();
        self.shadow = false;
        self.stack_shadow = false;
        if event.source == Source::Exception {
            // CR2 and DR6 were set when it was raised.
            let detail = match event.vector {
                vector::PF => self.state.cr2,
                vector::DB => self.state.dr6 & dr6::BREAKPOINTS,
                _ => 0,
            };
            self.fault = Fault {
                vector: event.vector,
                error: event.error,
                detail,
            };
            return self.deliver_fault();
        }
        let return_to = self.state.rip.wrapping_add(event.len);
        match self.deliver(event.vector, event.source, event.error, return_to) {
            Ok(()) => Ok(()),
            Err(_) => self.deliver_fault(),
        }
    }
}
