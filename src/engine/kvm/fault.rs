//! What is told when KVM cannot go on: what it could not do, where, and with which registers.

use std::fmt::Write;

use hvf_sys::kvm::Vcpu;

use super::convert;
use crate::x86::regs::Regs;

/// How long an instruction is at most.
const INSTRUCTION_MAX: usize = 15;

/// KVM's numbers for internal errors.
pub(super) const EMULATION: u32 = 1;

/// The processor did not enter the guest.
pub(super) fn entry_failed(vcpu: &Vcpu, reason: u64) -> String {
    let what = format!("the processor refuses to enter the guest for reason {reason:#x}");
    describe(vcpu, &what, &[])
}

/// KVM gave up. `instruction` is the instruction's bytes, where it told them.
pub(super) fn internal_error(vcpu: &Vcpu, suberror: u32, instruction: &[u8]) -> String {
    let what = match suberror {
        EMULATION => "KVM cannot execute an instruction".to_owned(),
        number => format!("KVM has internal error {number}"),
    };
    describe(vcpu, &what, instruction)
}

/// The same in short: for a guest of our own, whose registers say nothing.
pub(super) fn short(vcpu: &Vcpu, suberror: u32, instruction: &[u8]) -> String {
    let regs = vcpu.regs().and_then(|general| Ok((general, vcpu.sregs()?)));
    let fetched = regs.map(|(general, system)| fetch(vcpu, &convert::from_kvm(&general, &system)));
    let fetched = fetched.unwrap_or_default();
    let bytes = if instruction.is_empty() {
        &fetched
    } else {
        instruction
    };
    let decoded = hex(bytes);
    match suberror {
        EMULATION => format!("KVM cannot execute an instruction that begins with {decoded}"),
        number => format!("KVM has internal error {number} at {decoded}"),
    }
}

/// KVM left the guest for something that nobody asked for.
pub(super) fn unknown_exit(vcpu: &Vcpu, reason: u32) -> String {
    describe(
        vcpu,
        &format!("KVM left the guest for reason {reason}"),
        &[],
    )
}

fn describe(vcpu: &Vcpu, what: &str, instruction: &[u8]) -> String {
    let (Ok(general), Ok(system)) = (vcpu.regs(), vcpu.sregs()) else {
        return format!("{what}, and tells no registers; --engine soft runs this guest");
    };
    let regs = convert::from_kvm(&general, &system);
    let mut text = what.to_owned();
    let fetched = fetch(vcpu, &regs);
    let bytes = if instruction.is_empty() {
        &fetched
    } else {
        instruction
    };
    if !bytes.is_empty() {
        _ = write!(text, " that begins with {}", hex(bytes));
    }
    _ = write!(
        text,
        " at {:#x}:{:#x} (CR0 {:#x}, CR3 {:#x}, CR4 {:#x}, EFER {:#x}, RFLAGS {:#x}",
        regs.cs.selector, regs.rip, regs.cr0, regs.cr3, regs.cr4, regs.efer, regs.rflags
    );
    const NAMES: [&str; 16] = [
        "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "R8", "R9", "R10", "R11", "R12",
        "R13", "R14", "R15",
    ];
    for (name, value) in NAMES.iter().zip(regs.gprs) {
        _ = write!(text, ", {name} {value:#x}");
    }
    text + "); --engine soft runs this guest"
}

fn hex(bytes: &[u8]) -> String {
    let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(" ")
}

/// The bytes at the instruction pointer, as far as they lie in one page of RAM.
fn fetch(vcpu: &Vcpu, regs: &Regs) -> Vec<u8> {
    let linear = regs.cs.base.wrapping_add(regs.rip);
    let Ok(Some(gpa)) = vcpu.translate(linear) else {
        return Vec::new();
    };
    let in_page = 0x1000 - (gpa & 0xfff) as usize;
    let mut bytes = vec![0; in_page.min(INSTRUCTION_MAX)];
    match vcpu.vm().ram().read(gpa, &mut bytes) {
        Ok(()) => bytes,
        Err(_) => Vec::new(),
    }
}
