//! What a VM exit tells (SDM volume 3, 28.2). Where the manual leaves a field undefined, it holds `JUNK`.

use hvf_sys::cpu::Op;

use super::vmcs::Vmcs;
use crate::cpu::intercept::{Cause, ControlAccess, Event, EventKind, Exit, PortAccess, Violation};
use crate::x86::vmx::control::interruptibility;
use crate::x86::vmx::qualification::{cr, dr, ept, io, task_switch};
use crate::x86::vmx::{Field, event, reason};

/// In fields that an exit leaves undefined: nobody may use it.
pub const JUNK: u64 = 0x5a5a_5a5a_5a5a_5a5a;

/// Tells of an exit that has no more to say than its reason and qualification.
pub fn record(vmcs: &mut Vmcs, basic: u32, qualification: u64) {
    vmcs.write(Field::EXIT_REASON, basic.into());
    vmcs.write(Field::EXIT_QUALIFICATION, qualification);
    vmcs.write(Field::EXIT_INTERRUPTION_INFO, 0);
    vmcs.write(Field::IDT_VECTORING_INFO, 0);
    for undefined in [
        Field::EXIT_INTERRUPTION_ERROR,
        Field::IDT_VECTORING_ERROR,
        Field::EXIT_INSTRUCTION_LENGTH,
        Field::EXIT_INSTRUCTION_INFO,
        Field::GUEST_LINEAR_ADDRESS,
        Field::GUEST_PHYSICAL_ADDRESS,
    ] {
        vmcs.write(undefined, JUNK);
    }
}

/// Tells of an intercept. The guest's state has been saved.
pub fn record_intercept(vmcs: &mut Vmcs, exit: &Exit) {
    let (basic, qualification) = told(&exit.cause);
    record(vmcs, basic, qualification);
    if let Some(delivering) = exit.delivering {
        vmcs.write(Field::IDT_VECTORING_INFO, info(&delivering).into());
        if let Some(error) = delivering.error {
            vmcs.write(Field::IDT_VECTORING_ERROR, error.into());
        }
    }
    let is_software = |event: &Event| {
        matches!(
            event.kind,
            EventKind::Software | EventKind::Privileged | EventKind::SoftwareException
        )
    };
    // Only instructions that exit, and events that are instructions, have a length (28.2.5).
    let has_length = match &exit.cause {
        Cause::Exception { event, .. } => is_software(event),
        Cause::Violation(_) | Cause::InterruptWindow | Cause::NmiWindow | Cause::TaskPriority => {
            false
        }
        Cause::TaskSwitch { .. } => exit.len != 0,
        _ => true,
    } || exit.delivering.as_ref().is_some_and(is_software);
    if has_length {
        vmcs.write(Field::EXIT_INSTRUCTION_LENGTH, exit.len.into());
    }
    record_details(vmcs, exit);
    if exit.in_iret && exit.delivering.is_none() {
        unblock_nmis(vmcs, basic);
    }
}

fn record_details(vmcs: &mut Vmcs, exit: &Exit) {
    match exit.cause {
        Cause::Exception { event, .. } => {
            vmcs.write(Field::EXIT_INTERRUPTION_INFO, info(&event).into());
            if let Some(error) = event.error {
                vmcs.write(Field::EXIT_INTERRUPTION_ERROR, error.into());
            }
        }
        Cause::Violation(found) => {
            vmcs.write(Field::GUEST_PHYSICAL_ADDRESS, found.gpa);
            if let Some(linear) = found.linear {
                vmcs.write(Field::GUEST_LINEAR_ADDRESS, linear);
            }
        }
        Cause::Port(PortAccess {
            string: Some(string),
            ..
        }) => {
            vmcs.write(Field::GUEST_LINEAR_ADDRESS, string.linear);
            let size = match string.address_size {
                2 => 0,
                4 => 1,
                _ => 2,
            };
            let told = size << 7 | u64::from(string.segment) << 15;
            vmcs.write(Field::EXIT_INSTRUCTION_INFO, told);
        }
        Cause::Control {
            access: ControlAccess::Lmsw(_, Some(linear)),
            ..
        } => vmcs.write(Field::GUEST_LINEAR_ADDRESS, linear),
        _ => {}
    }
}

/// IRET has unblocked NMIs although it did not come to its end, and the exit says so (28.2.3).
fn unblock_nmis(vmcs: &mut Vmcs, basic: u32) {
    let blocking = vmcs.read(Field::GUEST_INTERRUPTIBILITY);
    let nmi = u64::from(interruptibility::NMI);
    if blocking & nmi == 0 {
        return;
    }
    let (field, bit) = match basic {
        reason::EPT_VIOLATION => (Field::EXIT_QUALIFICATION, ept::NMI_UNBLOCKED),
        reason::EXCEPTION_OR_NMI => (
            Field::EXIT_INTERRUPTION_INFO,
            u64::from(event::NMI_UNBLOCKED),
        ),
        _ => return,
    };
    let told = vmcs.read(field) | bit;
    vmcs.write(field, told);
    vmcs.write(Field::GUEST_INTERRUPTIBILITY, blocking & !nmi);
}

/// An event in the format of interruption information.
fn info(told: &Event) -> u32 {
    let error = if told.error.is_some() {
        event::ERROR_CODE
    } else {
        0
    };
    event::VALID | error | (told.kind as u32) << 8 | u32::from(told.vector)
}

/// The basic exit reason and the qualification.
fn told(cause: &Cause) -> (u32, u64) {
    match *cause {
        Cause::Exception { detail, .. } => (reason::EXCEPTION_OR_NMI, detail),
        Cause::InterruptWindow => (reason::INTERRUPT_WINDOW, 0),
        Cause::NmiWindow => (reason::NMI_WINDOW, 0),
        Cause::TaskSwitch { selector, source } => (
            reason::TASK_SWITCH,
            u64::from(selector) | u64::from(source) << task_switch::SOURCE_SHIFT,
        ),
        Cause::Instruction(op) => (instruction(op), 0),
        Cause::Invlpg(linear) => (reason::INVLPG, linear),
        Cause::Control { number, access } => (reason::CR_ACCESS, control(number, access)),
        Cause::Debug {
            number,
            is_read,
            gpr,
        } => {
            let direction = if is_read { dr::MOV_FROM } else { 0 };
            let told = u64::from(number) | direction | u64::from(gpr) << dr::REGISTER_SHIFT;
            (reason::MOV_DR, told)
        }
        Cause::Port(access) => (reason::IO_INSTRUCTION, port(&access)),
        Cause::ReadMsr => (reason::RDMSR, 0),
        Cause::WriteMsr => (reason::WRMSR, 0),
        Cause::Violation(found) => (reason::EPT_VIOLATION, violation(&found)),
        Cause::TaskPriority => (reason::TPR_BELOW_THRESHOLD, 0),
    }
}

fn instruction(op: Op) -> u32 {
    match op {
        Op::Cpuid => reason::CPUID,
        Op::Hlt => reason::HLT,
        Op::Invd => reason::INVD,
        Op::Rdpmc => reason::RDPMC,
        Op::Rdtsc => reason::RDTSC,
        Op::Rdtscp => reason::RDTSCP,
        Op::Monitor => reason::MONITOR,
        Op::Mwait => reason::MWAIT,
        Op::Pause => reason::PAUSE,
        Op::Invpcid => reason::INVPCID,
        Op::Wbinvd => reason::WBINVD,
        Op::Xsetbv => reason::XSETBV,
        _ => reason::VMCALL,
    }
}

fn control(number: u8, access: ControlAccess) -> u64 {
    let (kind, more) = match access {
        ControlAccess::Write(gpr) => (cr::MOV_TO, u64::from(gpr) << cr::REGISTER_SHIFT),
        ControlAccess::Read(gpr) => (cr::MOV_FROM, u64::from(gpr) << cr::REGISTER_SHIFT),
        ControlAccess::Clts => (cr::CLTS, 0),
        ControlAccess::Lmsw(source, linear) => {
            let memory = if linear.is_some() { cr::LMSW_MEMORY } else { 0 };
            (cr::LMSW, memory | u64::from(source) << cr::LMSW_SHIFT)
        }
    };
    u64::from(number) | kind << cr::KIND_SHIFT | more
}

fn port(access: &PortAccess) -> u64 {
    let flag = |set, bit| if set { bit } else { 0 };
    (access.width.bytes() - 1)
        | flag(access.is_in, io::IN)
        | flag(access.string.is_some(), io::STRING)
        | flag(access.string.is_some_and(|it| it.rep), io::REP)
        | flag(access.is_immediate, io::IMMEDIATE)
        | u64::from(access.port) << io::PORT_SHIFT
}

fn violation(found: &Violation) -> u64 {
    let flag = |set, bit| if set { bit } else { 0 };
    u64::from(found.wanted.bits())
        | u64::from(found.allowed.bits()) << 3
        | flag(found.linear.is_some(), ept::LINEAR_VALID)
        | flag(found.linear.is_some() && !found.in_walk, ept::TRANSLATED)
}
