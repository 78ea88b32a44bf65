//! Intercept points: where a guest is left in VMX non-root operation (SDM volume 3, 26.1 and 28.2).
//!
//! A core that has a `NonRoot` stops before an intercepted instruction has had any effect: `Cpu::run` returns
//! `Stop::Intercepted`, and `NonRoot::exit` says why, in the processor's terms; what a VMCS then holds is the caller's
//! business. A core without one, which is every vCPU of the software engine, pays one test in instructions that are rare.
//!
//! Which faults come before an intercept is what SDM volume 3, 26.1.1 says: #UD, faults of the privilege level and of
//! the TSS's port bitmap, and faults of fetching an operand that decides about the intercept.
//! Not modelled: bitmaps of ports (all are intercepted, or none), the monitor trap flag, PAUSE loops, and intercepts
//! of accesses to descriptor table registers.

use std::collections::BTreeSet;
use std::sync::Arc;

use bitflags::bitflags;
use hvf_sys::cpu::{Insn, Op};

use super::core::{Core, Done, Exec, Fault, Leave, Trap};
use super::interrupt::Source;
use super::mmu::Want;
use super::run::Stop;
use crate::bus::Width;
use crate::x86::control::{cr0, cr4};
use crate::x86::{msr, vector};

bitflags! {
    /// Instructions that leave the guest, each by an execution control of its own (SDM volume 3, 25.6.2).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Intercepts: u32 {
        /// HLT.
        const HLT = 1 << 0;
        /// INVLPG, and INVPCID with it.
        const INVLPG = 1 << 1;
        /// MWAIT.
        const MWAIT = 1 << 2;
        /// RDPMC.
        const RDPMC = 1 << 3;
        /// RDTSC and RDTSCP.
        const RDTSC = 1 << 4;
        /// MOV to CR3.
        const CR3_LOAD = 1 << 5;
        /// MOV from CR3.
        const CR3_STORE = 1 << 6;
        /// MOV to CR8.
        const CR8_LOAD = 1 << 7;
        /// MOV from CR8.
        const CR8_STORE = 1 << 8;
        /// MOV to and from debug registers.
        const MOV_DR = 1 << 9;
        /// IN, OUT, INS and OUTS.
        const IO = 1 << 10;
        /// MONITOR.
        const MONITOR = 1 << 11;
        /// PAUSE.
        const PAUSE = 1 << 12;
        /// WBINVD.
        const WBINVD = 1 << 13;
        /// Those that every guest leaves by: CPUID, INVD, XSETBV, VMCALL.
        const ALWAYS = 1 << 14;
        /// RDTSCP and RDPID are undefined.
        const NO_RDTSCP = 1 << 15;
        /// INVPCID is undefined.
        const NO_INVPCID = 1 << 16;
    }
}

bitflags! {
    /// What a guest may do with guest-physical memory.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Rights: u8 {
        /// Load.
        const READ = 1 << 0;
        /// Store.
        const WRITE = 1 << 1;
        /// Fetch instructions.
        const EXECUTE = 1 << 2;
    }
}

/// The second stage of translation: what is allowed at guest-physical addresses.
pub trait SecondStage: Send + Sync {
    /// The rights at an address: none where nothing is mapped. Answers may be kept until the TLB is flushed.
    fn rights(&self, gpa: u64) -> Rights;
}

/// Bits of a control register that the host owns, and what the guest reads in their place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Owned {
    /// The guest/host mask.
    pub mask: u64,
    /// The read shadow.
    pub shadow: u64,
}

impl Owned {
    /// What the guest reads.
    pub fn seen(self, real: u64) -> u64 {
        real & !self.mask | self.shadow & self.mask
    }

    /// Whether a guest that writes `value` wants other bits of the host than it sees.
    pub fn is_changed(self, value: u64) -> bool {
        (value ^ self.shadow) & self.mask != 0
    }

    /// What the register becomes when the guest writes `value` and that is not intercepted.
    pub fn written(self, real: u64, value: u64) -> u64 {
        value & !self.mask | real & self.mask
    }
}

/// What kind of event is delivered: the interruption types of SDM volume 3, table 25-17.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EventKind {
    /// From the interrupt controller.
    External = 0,
    /// Non-maskable interrupt.
    Nmi = 2,
    /// An exception that the processor found.
    Hardware = 3,
    /// INT n.
    Software = 4,
    /// INT1.
    Privileged = 5,
    /// INT3 and INTO.
    SoftwareException = 6,
}

/// An event on its way through the IDT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The vector.
    pub vector: u8,
    /// What it is.
    pub kind: EventKind,
    /// The error code, where it has one.
    pub error: Option<u32>,
    /// How long the instruction is that made it: of the last three kinds only.
    pub len: u8,
}

/// How an instruction touches a control register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlAccess {
    /// MOV to it, from a general register.
    Write(u8),
    /// MOV from it, to a general register.
    Read(u8),
    /// CLTS.
    Clts,
    /// LMSW with this operand; from memory at a linear address, or from a register.
    Lmsw(u16, Option<u64>),
}

/// A port access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortAccess {
    /// The port.
    pub port: u16,
    /// Its width.
    pub width: Width,
    /// IN or INS.
    pub is_in: bool,
    /// The instruction names the port.
    pub is_immediate: bool,
    /// INS and OUTS.
    pub string: Option<PortString>,
}

/// The memory side of INS and OUTS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortString {
    /// With a REP prefix.
    pub rep: bool,
    /// The linear address of the next element.
    pub linear: u64,
    /// The segment that it lies in.
    pub segment: u8,
    /// 2, 4 or 8 bytes.
    pub address_size: u8,
}

/// An access that the second stage does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The guest-physical address.
    pub gpa: u64,
    /// What was wanted.
    pub wanted: Rights,
    /// What is allowed there.
    pub allowed: Rights,
    /// The linear address that is being translated. None where page directory pointers are loaded.
    pub linear: Option<u64>,
    /// It is an entry of a paging structure that is accessed, not what the linear address stands for.
    pub in_walk: bool,
}

/// Why the guest is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// An exception. `detail` is as in `Fault`.
    Exception {
        /// The event as it would be delivered.
        event: Event,
        /// The linear address of a page fault; the bits of DR6 of a debug exception.
        detail: u64,
    },
    /// The guest can be interrupted, and that was asked for.
    InterruptWindow,
    /// The guest can take an NMI, and that was asked for.
    NmiWindow,
    /// A switch to the task with this TSS selector.
    TaskSwitch {
        /// The selector.
        selector: u16,
        /// 0 CALL, 1 IRET, 2 JMP, 3 a task gate in the IDT (SDM volume 3, table 28-2).
        source: u8,
    },
    /// An instruction that needs no more to be said about it.
    Instruction(Op),
    /// INVLPG of a linear address.
    Invlpg(u64),
    /// A control register.
    Control {
        /// 0, 3, 4 or 8.
        number: u8,
        /// How.
        access: ControlAccess,
    },
    /// A debug register.
    Debug {
        /// 0 to 7.
        number: u8,
        /// MOV from it.
        is_read: bool,
        /// The general register.
        gpr: u8,
    },
    /// A port.
    Port(PortAccess),
    /// RDMSR.
    ReadMsr,
    /// WRMSR.
    WriteMsr,
    /// Second stage.
    Violation(Violation),
    /// MOV to CR8 has made the shadowed task priority less than its threshold. The instruction is done.
    TaskPriority,
}

/// Why and where the guest was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Why.
    pub cause: Cause,
    /// How long the instruction is that did it; zero where none did.
    pub len: u8,
    /// The event that was being delivered.
    pub delivering: Option<Event>,
    /// It was IRET that did not come to its end.
    pub in_iret: bool,
}

/// The task priority that CR8 reads and writes instead of the interrupt controller's.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaskPriority {
    /// CR8.
    pub cr8: u8,
    /// Below it the guest is left.
    pub threshold: u8,
}

/// What makes a core run in VMX non-root operation.
#[derive(Default)]
pub struct NonRoot {
    /// The instructions that leave the guest.
    pub intercepts: Intercepts,
    /// One bit for each exception that does.
    pub exceptions: u32,
    /// Bits of a page fault's error code that are compared with `page_fault_match`: where they differ, bit 14 of
    /// `exceptions` means its opposite (SDM volume 3, 26.2).
    pub page_fault_mask: u32,
    /// See `page_fault_mask`.
    pub page_fault_match: u32,
    /// CR0.
    pub cr0: Owned,
    /// CR4.
    pub cr4: Owned,
    /// MSRs that the guest reads and writes without being left.
    pub native_msrs: BTreeSet<u32>,
    /// Guest-physical memory.
    pub second_stage: Option<Arc<dyn SecondStage>>,
    /// CR8's, where it is shadowed.
    pub task_priority: Option<TaskPriority>,
    /// Leave the guest as soon as it can be interrupted. `Core::window` must be set too.
    pub interrupt_window: bool,
    /// Leave the guest as soon as no NMI is blocked. `Core::window` must be set too.
    pub nmi_window: bool,
    /// What is delivered before the first instruction.
    pub inject: Option<Event>,
    /// Why `Cpu::run` returned `Stop::Intercepted`.
    pub exit: Option<Exit>,
    /// The event that is being delivered; between runs there is none.
    pub delivering: Option<Event>,
}

impl Core {
    /// Leaves the guest before the current instruction has had any effect. `end_early` adds the instruction's length.
    #[cold]
    fn leave_guest(&mut self, cause: Cause) -> Trap {
        if let Some(guest) = &mut self.non_root {
            guest.exit = Some(Exit {
                cause,
                len: 0,
                delivering: guest.delivering.take(),
                in_iret: false,
            });
        }
        Trap::Intercept
    }

    /// The guest's intercepts; none outside non-root operation.
    #[inline(always)]
    pub(super) fn intercepts(&self) -> Intercepts {
        match &self.non_root {
            None => Intercepts::empty(),
            Some(guest) => guest.intercepts,
        }
    }

    /// Leaves the guest where it is asked to be left for this instruction.
    #[inline(always)]
    pub(super) fn intercept(&mut self, which: Intercepts, cause: impl FnOnce() -> Cause) -> Done {
        if self.non_root.is_none() || !self.intercepts().contains(which) {
            return Ok(());
        }
        Err(self.leave_guest(cause()))
    }

    /// The same for an instruction that is told by its name only.
    #[inline(always)]
    pub(super) fn intercept_plain(&mut self, which: Intercepts, op: Op) -> Done {
        self.intercept(which, || Cause::Instruction(op))
    }

    /// #UD where a control has taken an instruction away.
    #[inline(always)]
    pub(super) fn require_enabled(&mut self, taken: Intercepts) -> Done {
        if self.intercepts().contains(taken) {
            Err(self.undefined())
        } else {
            Ok(())
        }
    }

    /// Notes the length of the instruction that is left.
    #[cold]
    pub(super) fn note_length(&mut self, len: u64) {
        if let Some(exit) = self.guest_exit() {
            exit.len = len as u8;
        }
    }

    /// Notes that the instruction that is left is IRET.
    #[cold]
    pub(super) fn note_iret(&mut self) {
        if let Some(exit) = self.guest_exit() {
            exit.in_iret = true;
        }
    }

    fn guest_exit(&mut self) -> Option<&mut Exit> {
        self.non_root.as_mut()?.exit.as_mut()
    }

    /// Notes what is being delivered, so that a second exit can tell.
    pub(super) fn begin_delivery(&mut self, event: Event) {
        if let Some(guest) = &mut self.non_root {
            guest.delivering = Some(event);
        }
    }

    /// Notes that it has been delivered, or has become something else.
    pub(super) fn end_delivery(&mut self) {
        if let Some(guest) = &mut self.non_root {
            guest.delivering = None;
        }
    }

    /// MSRs that are not the guest's own leave it.
    pub(super) fn intercept_msr(&mut self, number: u32, cause: Cause) -> Done {
        match &self.non_root {
            Some(guest) if !guest.native_msrs.contains(&number) => Err(self.leave_guest(cause)),
            // Writing the TSC would be writing the host's.
            Some(_) if number == msr::TSC && cause == Cause::WriteMsr => {
                Err(self.leave_guest(cause))
            }
            _ => Ok(()),
        }
    }

    /// Task switches always leave the guest.
    pub(super) fn intercept_task_switch(&mut self, selector: u16, source: u8) -> Done {
        if self.non_root.is_none() {
            return Ok(());
        }
        Err(self.leave_guest(Cause::TaskSwitch { selector, source }))
    }

    fn leaves_for(&self, fault: &Fault) -> bool {
        let Some(guest) = &self.non_root else {
            return false;
        };
        let bit = guest.exceptions >> (fault.vector & 31) & 1 != 0;
        if fault.vector != vector::PF {
            return bit;
        }
        let error = fault.error.unwrap_or(0);
        (error & guest.page_fault_mask == guest.page_fault_match) == bit
    }

    /// Leaves the guest for an exception that the bitmap names.
    #[inline(always)]
    pub(super) fn intercept_exception(&mut self, kind: EventKind, fault: Fault) -> Done {
        if self.non_root.is_none() || !self.leaves_for(&fault) {
            return Ok(());
        }
        let event = fault.event(kind);
        Err(self.leave_guest(Cause::Exception {
            event,
            detail: fault.detail,
        }))
    }

    /// CR0 as the guest reads it.
    pub(super) fn seen_cr0(&self) -> u64 {
        match &self.non_root {
            None => self.state.cr0,
            Some(guest) => guest.cr0.seen(self.state.cr0),
        }
    }

    /// CR4 as the guest reads it.
    pub(super) fn seen_cr4(&self) -> u64 {
        match &self.non_root {
            None => self.state.cr4,
            Some(guest) => guest.cr4.seen(self.state.cr4),
        }
    }

    /// Bits of CR4 that can be set only in VMX operation, and must be.
    pub(super) fn fixed_cr4(&self) -> u64 {
        match self.non_root {
            None => 0,
            Some(_) => cr4::VMXE,
        }
    }

    /// Bits of CR0 that must be set (SDM volume 3, appendix A.7); PE and PG need not be in an unrestricted guest.
    pub(super) fn fixed_cr0(&self) -> u64 {
        match self.non_root {
            None => 0,
            Some(_) => cr0::NE,
        }
    }

    /// What CR0 or CR4 becomes by MOV, where that does not leave the guest.
    pub(super) fn intercept_control(
        &mut self,
        number: u8,
        value: u64,
        access: ControlAccess,
    ) -> Result<u64, Trap> {
        let Some(guest) = &self.non_root else {
            return Ok(value);
        };
        let (owned, real) = if number == 0 {
            (guest.cr0, self.state.cr0)
        } else {
            (guest.cr4, self.state.cr4)
        };
        if owned.is_changed(value) {
            return Err(self.leave_guest(Cause::Control { number, access }));
        }
        Ok(owned.written(real, value))
    }

    /// CLTS: whether CR0.TS is cleared (SDM volume 3, 26.3).
    pub(super) fn intercept_clts(&mut self) -> Result<bool, Trap> {
        let Some(guest) = &self.non_root else {
            return Ok(true);
        };
        let Owned { mask, shadow } = guest.cr0;
        if mask & shadow & cr0::TS != 0 {
            return Err(self.leave_guest(Cause::Control {
                number: 0,
                access: ControlAccess::Clts,
            }));
        }
        Ok(mask & cr0::TS == 0)
    }

    /// LMSW: the value that CR0 gets of its operand's low four bits. It cannot clear PE, so that cannot leave the guest.
    pub(super) fn intercept_lmsw(&mut self, source: u16, linear: Option<u64>) -> Result<u64, Trap> {
        let low = cr0::MP | cr0::EM | cr0::TS;
        let wanted = u64::from(source);
        let Some(guest) = &self.non_root else {
            return Ok(self.state.cr0 & !low | wanted & (low | cr0::PE));
        };
        let owned = guest.cr0;
        let sets_pe = owned.mask & wanted & !owned.shadow & cr0::PE != 0;
        if sets_pe || (wanted ^ owned.shadow) & owned.mask & low != 0 {
            return Err(self.leave_guest(Cause::Control {
                number: 0,
                access: ControlAccess::Lmsw(source, linear),
            }));
        }
        let mine = !owned.mask;
        Ok(self.state.cr0 & !(low & mine) | wanted & (low | cr0::PE) & mine)
    }

    /// The rights of the second stage at an address: all of them where there is none.
    pub(super) fn stage_rights(&self, gpa: u64) -> Rights {
        match self
            .non_root
            .as_ref()
            .and_then(|guest| guest.second_stage.as_ref())
        {
            None => Rights::all(),
            Some(stage) => stage.rights(gpa),
        }
    }

    /// Leaves the guest for an access that the second stage does not allow.
    #[cold]
    pub(super) fn violate(&mut self, violation: Violation) -> Trap {
        self.leave_guest(Cause::Violation(violation))
    }

    /// The shadowed task priority.
    pub(super) fn shadowed_cr8(&self) -> Option<u8> {
        Some(self.non_root.as_ref()?.task_priority?.cr8)
    }

    /// Sets the shadowed task priority, and leaves the guest after the instruction where it is now below the threshold.
    pub(super) fn set_shadowed_cr8(&mut self, value: u8) -> Done {
        let priority = self
            .non_root
            .as_mut()
            .and_then(|g| g.task_priority.as_mut());
        let Some(priority) = priority else {
            return Ok(());
        };
        priority.cr8 = value;
        if value >= priority.threshold {
            return Ok(());
        }
        // The trap goes another way here: the instruction is done.
        let _ = self.leave_guest(Cause::TaskPriority);
        self.leave = Leave::Intercepted;
        Err(Trap::Leave)
    }

    /// How an open window is told. An NMI's comes first (SDM volume 3, 26.2).
    pub(super) fn open_window(&mut self) -> Option<Stop> {
        let interruptible = self.interruptible();
        let Some(guest) = &self.non_root else {
            return interruptible.then_some(Stop::WindowOpen);
        };
        let cause = if guest.nmi_window && !self.nmi_blocked && !self.shadow {
            Cause::NmiWindow
        } else if guest.interrupt_window && interruptible {
            Cause::InterruptWindow
        } else {
            return None;
        };
        let _ = self.leave_guest(cause);
        Some(Stop::Intercepted)
    }

    /// Takes what is to be delivered before the first instruction.
    pub(super) fn take_injected(&mut self) -> Option<Event> {
        self.non_root.as_mut()?.inject.take()
    }
}

impl Exec<'_> {
    /// Checks a translated address against the second stage, and gives the rights there.
    #[inline(always)]
    pub(super) fn check_stage(&mut self, gpa: u64, va: u64, want: Want) -> Result<Rights, Trap> {
        if self.non_root.is_none() {
            return Ok(Rights::all());
        }
        let allowed = self.stage_rights(gpa);
        let wanted = want.into();
        if allowed.contains(wanted) {
            return Ok(allowed);
        }
        Err(self.violate(Violation {
            gpa,
            wanted,
            allowed,
            linear: Some(va),
            in_walk: false,
        }))
    }

    /// The linear address of the next element of INS or OUTS, with no check of its segment: intercepts come first.
    pub(super) fn port_string(&self, insn: &Insn, segment: usize, pointer: u64) -> PortString {
        let based = !self.code64() || segment == 4 || segment == 5;
        let base = if based { self.segment(segment).base } else { 0 };
        let linear = base.wrapping_add(pointer);
        PortString {
            rep: insn.rep() || insn.repne(),
            linear: if self.code64() {
                linear
            } else {
                linear & 0xffff_ffff
            },
            segment: segment as u8,
            address_size: insn.address_size(),
        }
    }
}

impl Fault {
    /// The fault as an event.
    pub(super) fn event(&self, kind: EventKind) -> Event {
        Event {
            vector: self.vector,
            kind,
            error: self.error,
            len: 0,
        }
    }
}

impl Event {
    /// Where it comes from, as its delivery wants to know.
    pub(super) fn source(&self) -> Source {
        match self.kind {
            EventKind::External | EventKind::Nmi => Source::Hardware,
            EventKind::Hardware | EventKind::Privileged => Source::Exception,
            EventKind::Software | EventKind::SoftwareException => Source::Software,
        }
    }
}

impl From<Want> for Rights {
    fn from(want: Want) -> Self {
        match want {
            Want::Read => Self::READ,
            Want::Write => Self::WRITE,
            Want::Execute => Self::EXECUTE,
        }
    }
}
