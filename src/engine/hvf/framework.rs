//! VMX by Hypervisor.framework itself, on an Intel Mac: nothing but the words of `vmx` in those of `hvf_sys::hvf`.

use std::arch::x86_64::{__cpuid_count, CpuidResult};
use std::sync::Arc;
use std::time::Duration;

use hvf_sys::hvf::{self, Deadline, FpState};
use hvf_sys::ram::Ram;

use super::vmx::{Access, Capability, Error, FP_BYTES, Register, Result, Vmx, VmxVcpu};
use crate::x86::cpuid::Answer;
use crate::x86::vmx::Field;

/// The VM of this process.
pub struct Framework(Arc<hvf::Vm>);

impl Framework {
    /// Makes the VM.
    ///
    /// # Errors
    /// `DENIED` where the program is not signed for it, `BUSY` where the process has a VM, `UNSUPPORTED` without VMX.
    pub fn new() -> Result<Self> {
        Ok(Self(hvf::Vm::create().map_err(error)?))
    }
}

impl Vmx for Framework {
    fn capability(&self, which: Capability) -> Result<u64> {
        hvf::capability(which as u32).map_err(error)
    }

    fn map(&self, ram: &Arc<Ram>, gpa: u64, len: u64, access: Access) -> Result<()> {
        self.0.map(ram, gpa, len, access.0).map_err(error)
    }

    fn unmap(&self, gpa: u64, len: u64) -> Result<()> {
        self.0.unmap(gpa, len).map_err(error)
    }

    fn protect(&self, gpa: u64, len: u64, access: Access) -> Result<()> {
        self.0.protect(gpa, len, access.0).map_err(error)
    }

    fn vcpu(&self) -> Result<Box<dyn VmxVcpu>> {
        let vcpu = hvf::Vcpu::create(self.0.clone()).map_err(error)?;
        Ok(Box::new(Vcpu(vcpu)))
    }

    fn interrupt(&self, vcpus: &[u32]) -> Result<()> {
        self.0.interrupt(vcpus).map_err(error)
    }

    fn tsc(&self) -> u64 {
        hvf::tsc()
    }

    fn tsc_hz(&self) -> Option<u64> {
        hvf::tsc_hz()
    }

    fn cpuid(&self, leaf: u32, subleaf: u32) -> Option<Answer> {
        let CpuidResult { eax, ebx, ecx, edx } = __cpuid_count(leaf, subleaf);
        Some(Answer { eax, ebx, ecx, edx })
    }
}

struct Vcpu(hvf::Vcpu);

impl VmxVcpu for Vcpu {
    fn id(&self) -> u32 {
        self.0.id()
    }

    fn vmcs(&self, field: Field) -> Result<u64> {
        self.0.vmcs(field.0).map_err(error)
    }

    fn set_vmcs(&mut self, field: Field, value: u64) -> Result<()> {
        self.0.set_vmcs(field.0, value).map_err(error)
    }

    fn register(&self, register: Register) -> Result<u64> {
        self.0.register(register as u32).map_err(error)
    }

    fn set_register(&mut self, register: Register, value: u64) -> Result<()> {
        self.0.set_register(register as u32, value).map_err(error)
    }

    fn enable_native_msr(&mut self, msr: u32, enable: bool) -> Result<()> {
        self.0.enable_native_msr(msr, enable).map_err(error)
    }

    fn msr(&self, msr: u32) -> Result<u64> {
        self.0.msr(msr).map_err(error)
    }

    fn set_msr(&mut self, msr: u32, value: u64) -> Result<()> {
        self.0.set_msr(msr, value).map_err(error)
    }

    fn read_fp(&self, area: &mut [u8; FP_BYTES]) -> Result<()> {
        *area = self.0.fp_state().map_err(error)?.0;
        Ok(())
    }

    fn write_fp(&mut self, area: &[u8; FP_BYTES]) -> Result<()> {
        self.0.set_fp_state(&FpState(*area)).map_err(error)
    }

    fn invalidate_tlb(&mut self) -> Result<()> {
        self.0.invalidate_tlb().map_err(error)
    }

    fn flush(&mut self) -> Result<()> {
        self.0.flush().map_err(error)
    }

    fn run(&mut self, within: Option<Duration>) -> Result<()> {
        let deadline = within.map_or(Deadline::NEVER, Deadline::after);
        self.0.run_until(deadline).map_err(error)
    }
}

/// The code alone: callers say which call they made.
fn error(error: hvf::Error) -> Error {
    Error(error.code)
}

// Numbers that both sides take from Apple's headers.
const _: () = {
    assert!(
        Register::Gs as u32 == hvf::ffi::HV_X86_GS
            && Register::TssAr as u32 == hvf::ffi::HV_X86_TSS_AR
    );
    assert!(
        Register::Cr4 as u32 == hvf::ffi::HV_X86_CR4
            && Register::Xcr0 as u32 == hvf::ffi::HV_X86_XCR0
    );
    assert!(Capability::Exit as u32 == hvf::ffi::HV_VMX_CAP_EXIT);
    assert!(
        Access::ALL.0
            == (hvf::ffi::HV_MEMORY_READ | hvf::ffi::HV_MEMORY_WRITE | hvf::ffi::HV_MEMORY_EXEC)
    );
};
