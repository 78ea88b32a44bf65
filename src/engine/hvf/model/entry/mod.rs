//! The checks of a VM entry (SDM volume 3, 27.2 and 27.3).
//!
//! What fails on the controls fails the VMLAUNCH itself; what fails on the guest's state is an exit with bit 31 of the
//! reason set. The host's state is the framework's, and not checked.

mod controls;
mod registers;
mod segments;
mod state;
#[cfg(test)]
mod tests;

use super::host::Host;
use super::vmcs::Vmcs;
use crate::x86::control::{cr0, cr4, rflags};
use crate::x86::vmx::control::{entry, secondary};
use crate::x86::vmx::{Field, event};

/// Why an entry is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The section of SDM volume 3 that says so.
    pub section: &'static str,
    /// What is wrong.
    pub what: &'static str,
    /// The exit qualification, where it is the guest's state (28.7).
    pub qualification: u64,
}

/// What a check gives.
pub type Check = Result<(), Refusal>;

/// Requires that something holds.
fn require(holds: bool, section: &'static str, what: &'static str) -> Check {
    require_or(holds, section, what, 0)
}

fn require_or(holds: bool, section: &'static str, what: &'static str, qualification: u64) -> Check {
    let refusal = Refusal {
        section,
        what,
        qualification,
    };
    if holds { Ok(()) } else { Err(refusal) }
}

/// Checks the controls.
pub fn check_controls(vmcs: &Vmcs, host: &Host, tpr: u8) -> Check {
    controls::check(vmcs, host, tpr)
}

/// Checks the guest's state.
pub fn check_guest(vmcs: &Vmcs) -> Check {
    let guest = Guest::new(vmcs);
    registers::check(&guest)?;
    segments::check(&guest)?;
    state::check(&guest)
}

/// A VMCS with what most checks depend on.
struct Guest<'a> {
    vmcs: &'a Vmcs,
    unrestricted: bool,
    /// The entry control "IA-32e mode guest".
    ia32e: bool,
    protected: bool,
    vm86: bool,
    /// The event that is injected, where one is.
    event: Option<u32>,
}

impl<'a> Guest<'a> {
    fn new(vmcs: &'a Vmcs) -> Self {
        let info = vmcs.read_u32(Field::ENTRY_INTERRUPTION_INFO);
        Self {
            vmcs,
            unrestricted: vmcs.read_u32(Field::SECONDARY_CONTROLS) & secondary::UNRESTRICTED_GUEST
                != 0,
            ia32e: vmcs.read_u32(Field::ENTRY_CONTROLS) & entry::IA32E_GUEST != 0,
            protected: vmcs.read(Field::GUEST_CR0) & cr0::PE != 0,
            vm86: vmcs.read(Field::GUEST_RFLAGS) & rflags::VM != 0,
            event: (info & event::VALID != 0).then_some(info),
        }
    }

    fn read(&self, field: Field) -> u64 {
        self.vmcs.read(field)
    }

    fn controls(&self, field: Field, bits: u32) -> bool {
        self.vmcs.read_u32(field) & bits == bits
    }

    fn cr0(&self, bit: u64) -> bool {
        self.read(Field::GUEST_CR0) & bit != 0
    }

    fn pae_paging(&self) -> bool {
        self.cr0(cr0::PG) && self.read(Field::GUEST_CR4) & cr4::PAE != 0 && !self.ia32e
    }

    fn injects(&self, kind: u32) -> bool {
        self.event.is_some_and(|info| info & event::KIND == kind)
    }
}

/// Whether an address is canonical, with the bits that the software CPU has.
fn canonical(address: u64) -> bool {
    crate::cpu::canonical(address)
}
