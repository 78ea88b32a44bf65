//! VMCSs that are right, for tests to run and to make wrong: in real mode, virtual-8086 mode, protected mode and
//! 64-bit mode.

use super::host::Host;
use crate::x86::control::{cr0, cr4, efer, rflags};
use crate::x86::vmx::Field;
use crate::x86::vmx::control::{entry, exit, pin, primary, secondary};

/// A mode of the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Real mode.
    Real,
    /// Virtual-8086 mode.
    Vm86,
    /// 32-bit protected mode without paging.
    Protected,
    /// 32-bit protected mode with PAE paging.
    Pae,
    /// 64-bit mode.
    Long,
}

/// All of them.
pub const MODES: [Mode; 5] = [
    Mode::Real,
    Mode::Vm86,
    Mode::Protected,
    Mode::Pae,
    Mode::Long,
];

/// Where the guest's code, page tables and stack are.
pub const CODE: u64 = 0x1000;
pub const TABLES: u64 = 0x8000;
pub const STACK: u64 = 0x7000;

/// The fields of a guest about to execute at `CODE`.
pub fn fields(mode: Mode, host: &Host) -> Vec<(Field, u64)> {
    let mut all = controls(mode, host);
    all.extend(registers(mode));
    for n in 0..8 {
        let (selector, base, limit, rights) = segment(mode, n);
        all.push((Field::guest_selector(n), selector));
        all.push((Field::guest_base(n), base));
        all.push((Field::guest_limit(n), limit));
        all.push((Field::guest_access_rights(n), rights));
    }
    all
}

fn controls(mode: Mode, host: &Host) -> Vec<(Field, u64)> {
    let ia32e = if mode == Mode::Long {
        entry::IA32E_GUEST
    } else {
        0
    };
    let words = [
        (
            Field::PIN_BASED_CONTROLS,
            host.pin,
            pin::EXTERNAL_INTERRUPT | pin::NMI | pin::VIRTUAL_NMI,
        ),
        (
            Field::PRIMARY_CONTROLS,
            host.primary,
            primary::HLT
                | primary::UNCONDITIONAL_IO
                | primary::CR8_LOAD
                | primary::CR8_STORE
                | primary::TSC_OFFSETTING
                | primary::MONITOR
                | primary::MWAIT,
        ),
        (
            Field::SECONDARY_CONTROLS,
            host.secondary,
            secondary::EPT | secondary::UNRESTRICTED_GUEST | secondary::VPID | secondary::RDTSCP,
        ),
        (
            Field::ENTRY_CONTROLS,
            host.entry,
            entry::LOAD_EFER | entry::LOAD_DEBUG | entry::LOAD_PAT | ia32e,
        ),
        (
            Field::EXIT_CONTROLS,
            host.exit,
            exit::SAVE_EFER | exit::SAVE_DEBUG | exit::SAVE_PAT,
        ),
    ];
    words
        .into_iter()
        .map(|(field, word, asked)| (field, u64::from(word.fresh() | asked)))
        .collect()
}

fn registers(mode: Mode) -> Vec<(Field, u64)> {
    let protected = if mode == Mode::Real { 0 } else { cr0::PE };
    let paging = match mode {
        Mode::Pae | Mode::Long => cr0::PG,
        _ => 0,
    };
    let long = if mode == Mode::Long {
        efer::LME | efer::LMA
    } else {
        0
    };
    let flags = if mode == Mode::Vm86 {
        rflags::VM | rflags::IOPL
    } else {
        0
    };
    vec![
        (Field::GUEST_CR0, protected | paging | cr0::NE | cr0::ET),
        (Field::GUEST_CR3, TABLES),
        (Field::GUEST_CR4, cr4::VMXE | cr4::PAE),
        (Field::CR4_MASK, cr4::VMXE),
        (Field::GUEST_EFER, long),
        (Field::GUEST_PAT, 0x0007_0406_0007_0406),
        (Field::GUEST_DR7, 0x400),
        (Field::GUEST_RFLAGS, rflags::FIXED | flags),
        (Field::GUEST_RIP, if mode == Mode::Vm86 { 0 } else { CODE }),
        (Field::GUEST_RSP, STACK),
        (Field::GUEST_GDTR_LIMIT, 0xffff),
        (Field::GUEST_IDTR_LIMIT, 0xffff),
        (Field::VMCS_LINK_POINTER, u64::MAX),
    ]
}

/// Selector, base, limit and rights.
fn segment(mode: Mode, n: usize) -> (u64, u64, u64, u64) {
    match (mode, n) {
        (_, 6) => (0, 0, 0xffff, 0x82),
        (_, 7) => (0x18, 0, 0xffff, 0x8b),
        (Mode::Vm86, 1) => (CODE >> 4, CODE, 0xffff, 0xf3),
        (Mode::Vm86, _) => (0, 0, 0xffff, 0xf3),
        (Mode::Real, 1) => (0, 0, 0xffff, 0x9b),
        (Mode::Real, _) => (0, 0, 0xffff, 0x93),
        (Mode::Long, 1) => (8, 0, 0xffff_ffff, 0xa09b),
        (_, 1) => (8, 0, 0xffff_ffff, 0xc09b),
        _ => (0x10, 0, 0xffff_ffff, 0xc093),
    }
}
