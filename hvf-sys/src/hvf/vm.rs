//! The process's virtual machine: which part of guest RAM the guest sees where, and what it may do there.

use std::sync::{Arc, Mutex, PoisonError};

use super::error::{Error, call};
use super::ffi::*;
use crate::ram::{PAGE, Ram};

/// The process's one VM.
#[derive(Default)]
pub struct Vm {
    /// All RAM that was ever shown to the guest.
    shown: Mutex<Vec<Arc<Ram>>>,
}

impl Vm {
    /// Makes the VM. The guest sees no memory yet.
    ///
    /// # Errors
    /// `HV_DENIED` without the entitlement, `HV_BUSY` where the process has a VM, `HV_UNSUPPORTED` on a host
    /// without VMX, such as most virtual machines.
    pub fn create() -> Result<Arc<Self>, Error> {
        // SAFETY: it takes no pointer.
        unsafe { call!(hv_vm_create(HV_VM_DEFAULT))? };
        Ok(Arc::default())
    }

    /// Shows `len` bytes of RAM to the guest at their own address, with `HV_MEMORY_*` of `flags` allowed: whole pages,
    /// inside one region.
    pub fn map(&self, ram: &Arc<Ram>, gpa: u64, len: u64, flags: u64) -> Result<(), Error> {
        let size = pages("hv_vm_map", gpa, len)?;
        let host = ram.host(gpa, len).ok_or(wrong_range("hv_vm_map"))?;
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if !shown.iter().any(|other| Arc::ptr_eq(other, ram)) {
            shown.push(ram.clone());
        }
        // SAFETY: the range is confirmed, and we keep the `Ram` for as long as there is a VM. Nothing holds a reference
        // into it: the guest is one more party that races on it, as `ram` is made for.
        unsafe { call!(hv_vm_map(host.cast(), gpa, size, allowed(flags))) }
    }

    /// Hides a range from the guest: accesses are EPT violations.
    pub fn unmap(&self, gpa: u64, len: u64) -> Result<(), Error> {
        let size = pages("hv_vm_unmap", gpa, len)?;
        // SAFETY: it takes no pointer, and takes access away only.
        unsafe { call!(hv_vm_unmap(gpa, size)) }
    }

    /// Changes what the guest may do with a range that it sees.
    pub fn protect(&self, gpa: u64, len: u64, flags: u64) -> Result<(), Error> {
        let size = pages("hv_vm_protect", gpa, len)?;
        // SAFETY: it takes no pointer; what is mapped is RAM, with which a guest may do anything.
        unsafe { call!(hv_vm_protect(gpa, size, allowed(flags))) }
    }

    /// Makes the `run_until` of these vCPUs return. One that is outside of it never hears of this. From any thread.
    ///
    /// # Errors
    /// When one of the vCPUs is gone; those behind it are not interrupted then.
    pub fn interrupt(&self, vcpus: &[hv_vcpuid_t]) -> Result<(), Error> {
        for &vcpu in vcpus {
            let mut id = vcpu;
            // SAFETY: it reads one id. Whatever vCPU has that number gets an exit more at worst.
            unsafe { call!(hv_vcpu_interrupt(&raw mut id, 1))? };
        }
        Ok(())
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // SAFETY: the VM is ours, and no vCPU of it is left, for each of them keeps the `Vm`.
        if unsafe { call!(hv_vm_destroy()) }.is_err() {
            // Whatever still maps the memory must not see it go.
            std::mem::forget(std::mem::take(&mut self.shown));
        }
    }
}

/// A capability of the host's VMX, `HV_VMX_CAP_*`, as the framework grants it: for controls, the bits that must be 1
/// below and those that may be 1 in the upper half.
pub fn capability(field: hv_vmx_capability_t) -> Result<u64, Error> {
    let mut value = 0;
    // SAFETY: it writes the number that it is given.
    unsafe { call!(hv_vmx_read_capability(field, &raw mut value))? };
    Ok(value)
}

/// The flags that mean something here.
fn allowed(flags: u64) -> hv_memory_flags_t {
    flags & (HV_MEMORY_READ | HV_MEMORY_WRITE | HV_MEMORY_EXEC)
}

/// The error of a range that never reaches the framework.
const fn wrong_range(call: &'static str) -> Error {
    Error {
        call,
        code: HV_BAD_ARGUMENT,
    }
}

/// The size of a range of whole pages.
fn pages(call: &'static str, gpa: u64, len: u64) -> Result<usize, Error> {
    let whole = gpa.is_multiple_of(PAGE) && len.is_multiple_of(PAGE) && len > 0;
    let size = usize::try_from(len).ok().filter(|_| whole);
    size.filter(|_| gpa.checked_add(len).is_some())
        .ok_or(wrong_range(call))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_pages_reach_the_framework() {
        for (gpa, len) in [(1, PAGE), (0, 1), (0, 0), (u64::MAX - PAGE + 1, PAGE)] {
            assert!(pages("hv_vm_map", gpa, len).is_err(), "{gpa:#x}+{len:#x}");
        }
        assert_eq!(pages("hv_vm_map", PAGE, 2 * PAGE), Ok(0x2000));
    }
}
