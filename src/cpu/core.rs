//! What a vCPU is while it executes: its state, how faults are raised, and the mode that everything depends on.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use hvf_sys::cpu::{Attention, Segment, Space, State, Tlb};

use super::fetch::FetchCache;
use super::flags::Flags;
use super::int::Int;
use super::intercept::NonRoot;
use super::io::Io;
use super::rendezvous::Member;
use crate::x86::control::{cr0, cr4, dr7, efer, rflags};
use crate::x86::cpuid::Table;
use crate::x86::{segment, vector};

/// Why an instruction did not run to its end, or why its block ends after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// An exception is pending in `Core::fault`; the instruction had no effect.
    Fault,
    /// The same, but the instruction took effect, and RIP is where it belongs: a fault in a task that was switched to.
    Late,
    /// The instruction is done, but what follows must be looked up again.
    Edge,
    /// A string instruction stopped between two iterations: it is entered again.
    Again,
    /// The vCPU leaves its run loop for the reason in `Core::leave`.
    Leave,
    /// The guest is left for the reason in `NonRoot::exit`; the instruction had no effect.
    Intercept,
}

/// What executing an instruction gives.
pub type Done = Result<(), Trap>;

/// An exception on its way to the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// The vector.
    pub vector: u8,
    /// The error code, where the vector has one.
    pub error: Option<u32>,
    /// The linear address of a page fault; the bits of DR6 of a debug exception.
    pub detail: u64,
}

/// Why `run` returns, as the interpreter says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leave {
    /// HLT.
    #[default]
    Halt,
    /// The processor shut down: an exception while delivering a double fault.
    TripleFault,
    /// An intercept that comes after the instruction.
    Intercepted,
}

/// The size of code, as a code segment and EFER.LMA set it.
pub use super::decode::Mode as CodeSize;

/// One vCPU's state, between and during runs.
pub struct Core {
    /// The architectural state. While the vCPU executes, the arithmetic flags are in `flags`.
    pub state: State,
    /// The arithmetic flags.
    pub flags: Flags,
    /// Translations of data accesses.
    pub tlb: Tlb,
    /// Translations of instruction fetches.
    pub fetch: FetchCache,
    /// The exception that `Trap::Fault` speaks of.
    pub fault: Fault,
    /// The reason that `Trap::Leave` speaks of.
    pub leave: Leave,
    /// The current privilege level.
    pub cpl: u8,
    /// The current code size.
    pub code_size: CodeSize,
    /// Whose view of memory explicit data accesses take.
    pub space: Space,
    /// STI or a load of SS has just been executed: no interrupt before the next instruction has been.
    pub shadow: bool,
    /// It was a load of SS: no NMI and no debug exception either.
    pub stack_shadow: bool,
    /// NMIs are blocked until the next IRET.
    pub nmi_blocked: bool,
    /// Something is to be looked at after every instruction: TF, breakpoints, an interrupt window.
    pub slow: bool,
    /// The run loop wants to know when the vCPU can be interrupted.
    pub window: bool,
    /// An interrupt that was injected and is delivered first thing.
    pub injected: Option<u8>,
    /// An NMI that waits.
    pub nmi_pending: bool,
    /// Breakpoints that the current instruction hit, as in DR6.
    pub hits: u64,
    /// Decoded code was written over: the block ends after this instruction.
    pub written_code: bool,
    /// How many pages that became code this vCPU has acknowledged.
    pub code_pages_seen: u64,
    /// How many instructions have been completed.
    pub retired: u64,
    /// The other vCPUs.
    pub member: Arc<Member>,
    /// What CPUID answers.
    pub cpuid: Arc<Table>,
    /// What makes it a guest in VMX non-root operation.
    pub non_root: Option<Box<NonRoot>>,
}

/// A vCPU that is executing: its core, and the machine around it.
pub struct Exec<'io> {
    pub(super) core: Core,
    /// Ports, devices, the interrupt controller, the time.
    pub io: &'io mut dyn Io,
}

impl Deref for Exec<'_> {
    type Target = Core;
    #[inline(always)]
    fn deref(&self) -> &Core {
        &self.core
    }
}

impl DerefMut for Exec<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Core {
        &mut self.core
    }
}

impl Core {
    /// The attention word that others raise.
    pub fn attention(&self) -> &Attention {
        &self.member.attention
    }

    /// Raises an exception without an error code.
    #[cold]
    pub fn raise(&mut self, vector: u8) -> Trap {
        self.fault = Fault {
            vector,
            error: None,
            detail: 0,
        };
        Trap::Fault
    }

    /// Raises an exception with an error code.
    #[cold]
    pub fn raise_with(&mut self, vector: u8, error: u32) -> Trap {
        self.fault = Fault {
            vector,
            error: Some(error),
            detail: 0,
        };
        Trap::Fault
    }

    /// #UD.
    pub fn undefined(&mut self) -> Trap {
        self.raise(vector::UD)
    }

    /// #GP with an error code: a selector, or zero.
    pub fn general_protection(&mut self, error: u32) -> Trap {
        self.raise_with(vector::GP, error)
    }

    /// #GP(0), or #SS(0) for the stack segment.
    pub fn segment_fault(&mut self, segment: usize) -> Trap {
        self.raise_with(
            if segment == State::SS {
                vector::SS
            } else {
                vector::GP
            },
            0,
        )
    }

    /// A general register at a width; 8 bits give the low byte.
    #[inline(always)]
    pub fn gpr<W: Int>(&self, number: usize) -> W {
        W::truncate(self.state.gpr[number & 15])
    }

    /// Writes a general register at a width, as the architecture merges it.
    #[inline(always)]
    pub fn set_gpr<W: Int>(&mut self, number: usize, value: W) {
        let old = &mut self.state.gpr[number & 15];
        *old = value.merge(*old);
    }

    /// RFLAGS with the arithmetic flags in place.
    pub fn rflags(&self) -> u64 {
        self.state.rflags & !rflags::ARITHMETIC | self.flags.bits()
    }

    /// Sets all of RFLAGS and what depends on it. Undefined bits are dropped, bit 1 is set.
    pub fn set_rflags(&mut self, value: u64) {
        self.flags = Flags::from_bits(value);
        self.state.rflags = value & rflags::DEFINED & !rflags::ARITHMETIC | rflags::FIXED;
        self.update_mode();
    }

    /// Whether a bit of CR0 is set.
    #[inline(always)]
    pub fn cr0(&self, bit: u64) -> bool {
        self.state.cr0 & bit != 0
    }

    /// Whether a bit of CR4 is set.
    #[inline(always)]
    pub fn cr4(&self, bit: u64) -> bool {
        self.state.cr4 & bit != 0
    }

    /// Whether long mode is active (64-bit or compatibility mode).
    #[inline(always)]
    pub fn long_mode(&self) -> bool {
        self.state.msrs.efer & efer::LMA != 0
    }

    /// Whether 64-bit code is executed.
    #[inline(always)]
    pub fn code64(&self) -> bool {
        self.code_size == CodeSize::Bits64
    }

    /// Whether segments are real-mode ones: real mode proper.
    pub fn real_mode(&self) -> bool {
        !self.cr0(cr0::PE)
    }

    /// Whether virtual-8086 mode is active.
    pub fn vm86(&self) -> bool {
        self.state.rflags & rflags::VM != 0
    }

    /// IOPL, 0 to 3.
    pub fn iopl(&self) -> u8 {
        (self.state.rflags >> rflags::IOPL_SHIFT & 3) as u8
    }

    /// A segment register.
    #[inline(always)]
    pub fn segment(&self, number: usize) -> &Segment {
        &self.state.segments[number & 7]
    }

    /// The size of the stack pointer in bytes: 2, 4 or 8.
    #[inline(always)]
    pub fn stack_size(&self) -> u8 {
        if self.code64() {
            8
        } else if self.segment(State::SS).rights & segment::DB != 0 {
            4
        } else {
            2
        }
    }

    /// Recomputes everything that is derived from the state: to be called after every change of CR0, CR4, EFER, RFLAGS
    /// (VM, TF, RF, AC), DR7, CS or the privilege level.
    pub fn update_mode(&mut self) {
        let cs = *self.segment(State::CS);
        self.code_size = if self.long_mode() && cs.rights & segment::L != 0 {
            CodeSize::Bits64
        } else if cs.rights & segment::DB != 0 && !self.vm86() && self.cr0(cr0::PE) {
            CodeSize::Bits32
        } else {
            CodeSize::Bits16
        };
        let ac = self.state.rflags & rflags::AC != 0;
        self.space = if self.cpl == 3 {
            if ac && self.cr0(cr0::AM) {
                Space::AlignedUser
            } else {
                Space::User
            }
        } else if self.cr4(cr4::SMAP) && !ac {
            Space::Supervisor
        } else {
            Space::SupervisorOnUser
        };
        self.slow = self.shadow
            || self.state.rflags & (rflags::TF | rflags::RF) != 0
            || self.state.dr7 & dr7::ENABLES != 0;
    }

    /// The space of accesses that the processor makes on its own behalf: descriptor tables, TSS, IDT.
    pub fn system_space(&self) -> Space {
        if self.cr4(cr4::SMAP) {
            Space::Supervisor
        } else {
            Space::SupervisorOnUser
        }
    }

    /// Begins the shadow of STI, or of a load of SS.
    pub fn begin_shadow(&mut self, stack: bool) {
        self.shadow = true;
        self.stack_shadow = stack;
        self.slow = true;
    }

    /// Ends the shadow.
    pub fn end_shadow(&mut self) {
        self.shadow = false;
        self.stack_shadow = false;
        self.update_mode();
    }

    /// Forgets all translations, global ones too.
    pub fn flush_all(&mut self) {
        self.tlb.flush();
        self.fetch.flush();
    }

    /// Forgets the translations that are not global, as a write to CR3 does.
    pub fn flush_local(&mut self) {
        self.tlb.flush_local();
        self.fetch.flush_local();
    }

    /// Forgets one page's translation, as INVLPG does.
    pub fn flush_page(&mut self, va: u64) {
        self.tlb.flush_page(va);
        self.fetch.flush_page(va);
    }
}
