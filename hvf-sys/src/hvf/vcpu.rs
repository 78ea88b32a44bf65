//! One vCPU, on the thread that made it.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;

use super::Deadline;
use super::error::{Error, call};
use super::ffi::*;
use super::vm::Vm;

/// The x87, SSE and AVX state of a vCPU: an XSAVE area in the standard format (SDM volume 1, section 13.4).
#[repr(C, align(64))]
#[derive(Clone)]
pub struct FpState(pub [u8; Self::LEN]);

impl FpState {
    /// Room for everything up to AVX-512 (2696 bytes).
    const LEN: usize = 4096;
}

impl Default for FpState {
    fn default() -> Self {
        Self([0; Self::LEN])
    }
}

/// A vCPU. It stays on its thread, and is destroyed there.
pub struct Vcpu {
    id: hv_vcpuid_t,
    _vm: Arc<Vm>,
    /// Neither `Send` nor `Sync`.
    _thread: PhantomData<Cell<*const ()>>,
}

impl Vcpu {
    /// Makes a vCPU that belongs to this thread, which can have one.
    pub fn create(vm: Arc<Vm>) -> Result<Self, Error> {
        let mut id = 0;
        // SAFETY: it writes the id that it is given.
        unsafe { call!(hv_vcpu_create(&raw mut id, HV_VCPU_DEFAULT))? };
        Ok(Self {
            id,
            _vm: vm,
            _thread: PhantomData,
        })
    }

    /// Its number, for `Vm::interrupt`.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// A register, `ffi::HV_X86_*`.
    pub fn register(&self, reg: hv_x86_reg_t) -> Result<u64, Error> {
        let mut value = 0;
        // SAFETY: this is the owning thread, as in all of `Vcpu`; it writes the number that it is given.
        unsafe { call!(hv_vcpu_read_register(self.id, reg, &raw mut value))? };
        Ok(value)
    }

    /// Sets a register.
    pub fn set_register(&mut self, reg: hv_x86_reg_t, value: u64) -> Result<(), Error> {
        // SAFETY: it takes no pointer.
        unsafe { call!(hv_vcpu_write_register(self.id, reg, value)) }
    }

    /// A field of the VMCS, by its encoding (SDM volume 3, appendix B).
    pub fn vmcs(&self, field: u32) -> Result<u64, Error> {
        let mut value = 0;
        // SAFETY: it writes the number that it is given.
        unsafe { call!(hv_vmx_vcpu_read_vmcs(self.id, field, &raw mut value))? };
        Ok(value)
    }

    /// Sets a field of the VMCS.
    pub fn set_vmcs(&mut self, field: u32, value: u64) -> Result<(), Error> {
        // SAFETY: it takes no pointer; fields that reach beyond the guest are the kernel's (see the module's head).
        unsafe { call!(hv_vmx_vcpu_write_vmcs(self.id, field, value)) }
    }

    /// An MSR that the framework keeps for the guest.
    pub fn msr(&self, msr: u32) -> Result<u64, Error> {
        let mut value = 0;
        // SAFETY: it writes the number that it is given.
        unsafe { call!(hv_vcpu_read_msr(self.id, msr, &raw mut value))? };
        Ok(value)
    }

    /// Sets such an MSR.
    pub fn set_msr(&mut self, msr: u32, value: u64) -> Result<(), Error> {
        // SAFETY: it takes no pointer; the framework knows a fixed set of MSRs, all of them switched with the guest.
        unsafe { call!(hv_vcpu_write_msr(self.id, msr, value)) }
    }

    /// Lets the guest use an MSR without an exit, or no longer.
    pub fn enable_native_msr(&mut self, msr: u32, enable: bool) -> Result<(), Error> {
        // SAFETY: as `set_msr`.
        unsafe { call!(hv_vcpu_enable_native_msr(self.id, msr, enable)) }
    }

    /// The floating-point and SIMD state.
    pub fn fp_state(&self) -> Result<Box<FpState>, Error> {
        let mut state = Box::<FpState>::default();
        let room = state.0.as_mut_ptr().cast();
        // SAFETY: it writes at most as many bytes as it is told there are.
        unsafe { call!(hv_vcpu_read_fpstate(self.id, room, FpState::LEN))? };
        Ok(state)
    }

    /// Sets the floating-point and SIMD state.
    pub fn set_fp_state(&mut self, state: &FpState) -> Result<(), Error> {
        let bytes = state.0.as_ptr().cast_mut().cast();
        // SAFETY: it reads at most as many bytes as it is told there are, whatever the missing `const` in its type says.
        unsafe { call!(hv_vcpu_write_fpstate(self.id, bytes, FpState::LEN)) }
    }

    /// Drops what the vCPU has cached of the guest's page tables.
    pub fn invalidate_tlb(&mut self) -> Result<(), Error> {
        // SAFETY: it takes no pointer.
        unsafe { call!(hv_vcpu_invalidate_tlb(self.id)) }
    }

    /// Writes what the framework still holds of the vCPU's state to where the processor finds it.
    pub fn flush(&mut self) -> Result<(), Error> {
        // SAFETY: it takes no pointer.
        unsafe { call!(hv_vcpu_flush(self.id)) }
    }

    /// Runs the guest until an exit that the framework does not handle itself, or until the deadline.
    ///
    /// # Errors
    /// `HV_UNSUPPORTED` for a deadline on a processor without a preemption timer.
    pub fn run_until(&mut self, deadline: Deadline) -> Result<(), Error> {
        // SAFETY: it takes no pointer; the guest reaches only what `Vm` has mapped.
        unsafe { call!(hv_vcpu_run_until(self.id, deadline.0)) }
    }
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        // SAFETY: this is the owning thread, and nobody uses the vCPU after this.
        let destroyed = unsafe { call!(hv_vcpu_destroy(self.id)) };
        debug_assert_eq!(destroyed, Ok(()));
    }
}
