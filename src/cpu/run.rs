//! The software CPU as an engine sees it, and its loop.
//!
//! At each block edge the loop polls the attention word, then finds the next block and runs it. What needs a look after
//! every instruction (single-step, breakpoints, the shadow of STI) goes through `step` instead.

use std::sync::Arc;

use hvf_sys::cpu::{Attention, Insn, Op, State, Tlb};
use hvf_sys::ram::Ram;

use super::block::{Block, Cache};
use super::core::{CodeSize, Core, Done, Exec, Fault, Leave, Trap};
use super::fetch::FetchCache;
use super::flags::Flags;
use super::io::Io;
use super::rendezvous::{Group, Member};
use crate::bus::Nanos;
use crate::x86::control::rflags;
use crate::x86::cpuid::Table;

/// Blocks between two looks at the clock: a few hundred microseconds.
const BLOCKS_PER_LOOK: u32 = 1 << 10;

/// Why `Cpu::run` returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// HLT was executed.
    Halt,
    /// Somebody raised `Attention::KICK`.
    Kicked,
    /// The given time has come.
    Deadline,
    /// A window was wanted, and the vCPU can be interrupted.
    WindowOpen,
    /// The processor shut down.
    TripleFault,
    /// The guest is left in VMX non-root operation, for the reason in `NonRoot::exit`.
    Intercepted,
}

/// One vCPU.
pub struct Cpu {
    /// Always there, except while `run` has it.
    pub(super) core: Option<Core>,
    cache: Cache,
    pub(super) member: Arc<Member>,
}

impl Cpu {
    /// A vCPU of `group` over `ram`, in the state after power-on. `cpuid` is what it answers.
    pub fn new(ram: Arc<Ram>, group: &Arc<Group>, cpuid: Arc<Table>) -> Self {
        let member = group.join();
        let core = Core {
            state: State::default(),
            flags: Flags::default(),
            tlb: Tlb::new(ram),
            fetch: FetchCache::default(),
            fault: Fault::default(),
            leave: Leave::default(),
            cpl: 0,
            code_size: CodeSize::Bits16,
            space: hvf_sys::cpu::Space::Supervisor,
            shadow: false,
            stack_shadow: false,
            nmi_blocked: false,
            slow: false,
            window: false,
            injected: None,
            nmi_pending: false,
            hits: 0,
            written_code: false,
            code_pages_seen: 0,
            retired: 0,
            member: member.clone(),
            cpuid,
            non_root: None,
        };
        let mut cpu = Self {
            core: Some(core),
            cache: Cache::default(),
            member,
        };
        cpu.core_mut().reset(false);
        cpu
    }

    /// The vCPU's state between runs.
    ///
    /// # Panics
    /// Where a run panicked before.
    pub fn core(&self) -> &Core {
        self.core
            .as_ref()
            .expect("a vCPU that panicked is not used again")
    }

    /// The same, to change. After a change of what the mode depends on, call `Core::update_mode`.
    ///
    /// # Panics
    /// Where a run panicked before.
    pub fn core_mut(&mut self) -> &mut Core {
        self.core
            .as_mut()
            .expect("a vCPU that panicked is not used again")
    }

    /// The vCPU's place in its group: other threads raise its attention word.
    pub fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// Executes the guest until there is a reason to stop: soon after `until` at the latest.
    pub fn run(&mut self, io: &mut dyn Io, until: Option<Nanos>) -> Stop {
        let Some(mut core) = self.core.take() else {
            return Stop::TripleFault;
        };
        self.member.enter(&mut core);
        let mut exec = Exec { core, io };
        let stop = exec.run(&mut self.cache, until);
        let mut core = exec.core;
        core.state.rflags = core.rflags();
        self.member.leave();
        self.core = Some(core);
        stop
    }
}

impl Core {
    /// Whether a maskable interrupt would be taken now.
    pub fn interruptible(&self) -> bool {
        self.state.rflags & rflags::IF != 0 && !self.shadow
    }
}

impl Exec<'_> {
    fn run(&mut self, cache: &mut Cache, until: Option<Nanos>) -> Stop {
        if let Err(stop) = self.begin(cache) {
            return stop;
        }
        let mut budget = BLOCKS_PER_LOOK;
        loop {
            if self.attention().pending() != 0 {
                if self.attention().pending() & Attention::KICK != 0 {
                    self.attention().clear(Attention::KICK);
                    return Stop::Kicked;
                }
                let member = self.member.clone();
                member.stand_still(&mut self.core);
            }
            if self.window
                && let Some(stop) = self.open_window()
            {
                return stop;
            }
            budget -= 1;
            if budget == 0 {
                budget = BLOCKS_PER_LOOK;
                if until.is_some_and(|until| self.io.now() >= until) {
                    return Stop::Deadline;
                }
            }
            if let Err(stop) = self.proceed(cache) {
                return stop;
            }
        }
    }

    /// Executes one block, or one instruction.
    #[inline(always)]
    fn proceed(&mut self, cache: &mut Cache) -> Result<(), Stop> {
        let done = if self.slow {
            self.step(cache)
        } else {
            self.run_block(cache)
        };
        match done {
            Ok(()) => Ok(()),
            Err(trap) => self.handle(trap),
        }
    }

    /// Begins a run with what was injected or waits. An NMI comes after the instruction that follows a load of SS.
    fn begin(&mut self, cache: &mut Cache) -> Result<(), Stop> {
        if self.stack_shadow && self.nmi_pending {
            self.proceed(cache)?;
        }
        self.deliver_waiting()
    }

    #[inline(always)]
    fn run_block(&mut self, cache: &mut Cache) -> Done {
        let (block, most) = self.find(cache)?;
        self.run_slots(cache, &block, most)
    }

    /// The current block, and how many of its instructions may run in one go.
    #[inline(always)]
    fn find(&mut self, cache: &mut Cache) -> Result<(Block, usize), Trap> {
        if self.code64() {
            return Ok((cache.find(self)?, usize::MAX));
        }
        self.state.rip &= 0xffff_ffff;
        if self.state.rip > u64::from(self.segment(State::CS).limit) {
            return Err(self.general_protection(0));
        }
        let block = cache.find(self)?;
        let most = self.most_in_code_segment(&block)?;
        Ok((block, most))
    }

    #[inline(always)]
    fn run_slots(&mut self, cache: &Cache, block: &Block, most: usize) -> Done {
        let slots = cache.slots(block);
        for (n, slot) in slots.iter().take(most).enumerate() {
            self.state.rip = self.state.rip.wrapping_add(slot.insn.len());
            let done = (slot.handler)(self, &slot.insn);
            if done.is_err() || self.written_code {
                self.retired += n as u64;
                self.written_code = false;
                return self.end_early(slot.insn.len(), done);
            }
        }
        self.retired += slots.len().min(most) as u64;
        Ok(())
    }

    /// Puts RIP right after an instruction that was the last of its block before the end.
    #[cold]
    pub(super) fn end_early(&mut self, len: u64, done: Done) -> Done {
        match done {
            Ok(()) | Err(Trap::Edge) => {
                self.retired += 1;
                Ok(())
            }
            Err(Trap::Leave) => {
                self.retired += 1;
                done
            }
            Err(Trap::Again) => {
                self.state.rip = self.state.rip.wrapping_sub(len);
                Ok(())
            }
            Err(Trap::Fault) => {
                self.state.rip = self.state.rip.wrapping_sub(len);
                done
            }
            Err(Trap::Intercept) => {
                self.state.rip = self.state.rip.wrapping_sub(len);
                self.note_length(len);
                done
            }
            Err(Trap::Late) => done,
        }
    }

    /// How many instructions of a block may run in one go outside 64-bit code: one at a time where the block crosses the code
    /// segment's limit. #GP(0) where already the first one does.
    fn most_in_code_segment(&mut self, block: &Block) -> Result<usize, Trap> {
        let limit = u64::from(self.segment(State::CS).limit);
        let last = |bytes: u64| self.state.rip + bytes - 1;
        if last(u64::from(block.bytes)) <= limit {
            Ok(usize::MAX)
        } else if last(block.first_len()) <= limit {
            Ok(1)
        } else {
            Err(self.general_protection(0))
        }
    }

    /// One instruction, with everything that is looked at between two of them.
    #[cold]
    fn step(&mut self, cache: &mut Cache) -> Done {
        let shadows = (self.shadow, self.stack_shadow);
        let after_stack_load = self.stack_shadow;
        self.end_shadow();
        // What a load of SS hit is told after the next instruction (SDM volume 3, 6.8.3).
        if !after_stack_load {
            self.hits = 0;
            if self.state.rflags & rflags::RF == 0 && self.instruction_breakpoint() {
                let fault = self.debug_fault();
                return Err(self.back_into_shadow(shadows, fault));
            }
        }
        let (at, flags) = (self.state.rip, self.state.rflags);
        let (block, _) = match self.find(cache) {
            Ok(found) => found,
            Err(trap) => return Err(self.back_into_shadow(shadows, trap)),
        };
        let insn = cache.slots(&block).first().map(|slot| slot.insn);
        let op = insn.map_or(Op::Ud, |insn| insn.op());
        match self.run_slots(cache, &block, 1) {
            Err(Trap::Leave) if flags & rflags::TF != 0 && op == Op::Hlt => {}
            Err(trap) => return Err(self.back_into_shadow(shadows, trap)),
            Ok(()) => {}
        }
        self.end_step(flags, at, insn)
    }

    /// What follows every single instruction that was executed: `flags` and `at` are RFLAGS and RIP as it began.
    pub(super) fn end_step(&mut self, flags: u64, at: u64, insn: Option<Insn>) -> Done {
        self.after_resumption(flags, at, insn);
        // These clear TF, or load it for the instruction that they themselves are part of.
        let loads_tf = insn.is_some_and(|insn| {
            matches!(
                insn.op(),
                Op::Int | Op::Int1 | Op::Int3 | Op::Into | Op::Syscall | Op::Sysret
            )
        });
        let flags = if loads_tf { self.state.rflags } else { flags };
        self.debug_trap(flags & rflags::TF != 0)?;
        self.update_mode();
        Ok(())
    }

    /// An instruction that was not executed is still the one that a shadow falls on; the exception's delivery ends it.
    fn back_into_shadow(&mut self, shadows: (bool, bool), trap: Trap) -> Trap {
        if matches!(trap, Trap::Fault | Trap::Intercept) {
            (self.shadow, self.stack_shadow) = shadows;
            self.update_mode();
        }
        trap
    }

    /// RF lasts for one instruction, unless that one loaded it (IRET). A string instruction that was left between two
    /// iterations sets it, so that a breakpoint at it does not hit for each (SDM volume 3, 17.3.1.1).
    fn after_resumption(&mut self, before: u64, at: u64, insn: Option<Insn>) {
        let Some(insn) = insn else { return };
        if self.state.rip == at && (insn.rep() || insn.repne()) {
            self.state.rflags |= rflags::RF;
        } else if before & rflags::RF != 0 && insn.op() != Op::Iret {
            self.state.rflags &= !rflags::RF;
        }
    }

    /// What follows an instruction that did not end normally.
    pub(super) fn handle(&mut self, trap: Trap) -> Result<(), Stop> {
        match trap {
            Trap::Fault | Trap::Late => self.deliver_fault(),
            Trap::Leave => Err(match self.leave {
                Leave::Halt => Stop::Halt,
                Leave::TripleFault => Stop::TripleFault,
                Leave::Intercepted => Stop::Intercepted,
            }),
            Trap::Intercept => Err(Stop::Intercepted),
            Trap::Edge | Trap::Again => Ok(()),
        }
    }
}
