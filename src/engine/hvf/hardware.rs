//! A vCPU of VMX whose failures say what was asked: VMREAD, VMWRITE and the calls around them.

use std::fmt;
use std::time::Duration;

use super::vmx::{Error, FP_BYTES, Register, VmxVcpu};
use crate::x86::vmx::Field;

/// A call that failed: which, and Apple's code. For the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure(pub String);

/// What a call gives.
pub(super) type Result<T> = std::result::Result<T, Failure>;

/// General registers in the order of the instruction encoding. RSP is a field of the VMCS too.
pub(super) const GENERAL: [Register; 16] = [
    Register::Rax,
    Register::Rcx,
    Register::Rdx,
    Register::Rbx,
    Register::Rsp,
    Register::Rbp,
    Register::Rsi,
    Register::Rdi,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
];

/// A vCPU.
pub(super) struct Hardware(Box<dyn VmxVcpu>);

impl Hardware {
    pub(super) fn new(vcpu: Box<dyn VmxVcpu>) -> Self {
        Self(vcpu)
    }

    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(super) fn read(&self, field: Field) -> Result<u64> {
        let value = self.0.vmcs(field);
        value.map_err(|e| failure("VMREAD of", field_name(field), e))
    }

    pub(super) fn read32(&self, field: Field) -> Result<u32> {
        Ok(self.read(field)? as u32)
    }

    pub(super) fn write(&mut self, field: Field, value: u64) -> Result<()> {
        let done = self.0.set_vmcs(field, value);
        done.map_err(|e| {
            let what = format!("{} = {value:#x}", field_name(field));
            failure("VMWRITE of", what, e)
        })
    }

    pub(super) fn register(&self, register: Register) -> Result<u64> {
        let value = self.0.register(register);
        value.map_err(|e| failure("reading register", format!("{register:?}"), e))
    }

    pub(super) fn set_register(&mut self, register: Register, value: u64) -> Result<()> {
        let done = self.0.set_register(register, value);
        done.map_err(|e| failure("setting register", format!("{register:?} = {value:#x}"), e))
    }

    pub(super) fn enable_native_msr(&mut self, msr: u32) -> Result<()> {
        let done = self.0.enable_native_msr(msr, true);
        done.map_err(|e| failure("giving the guest MSR", format!("{msr:#x}"), e))
    }

    pub(super) fn msr(&self, msr: u32) -> Result<u64> {
        let value = self.0.msr(msr);
        value.map_err(|e| failure("reading MSR", format!("{msr:#x}"), e))
    }

    pub(super) fn set_msr(&mut self, msr: u32, value: u64) -> Result<()> {
        let done = self.0.set_msr(msr, value);
        done.map_err(|e| failure("setting MSR", format!("{msr:#x} = {value:#x}"), e))
    }

    pub(super) fn read_fp(&self, area: &mut [u8; FP_BYTES]) -> Result<()> {
        let done = self.0.read_fp(area);
        done.map_err(|e| failure("reading", "x87 and SSE state".to_owned(), e))
    }

    pub(super) fn write_fp(&mut self, area: &[u8; FP_BYTES]) -> Result<()> {
        let done = self.0.write_fp(area);
        done.map_err(|e| failure("setting", "x87 and SSE state".to_owned(), e))
    }

    pub(super) fn invalidate_tlb(&mut self) -> Result<()> {
        let done = self.0.invalidate_tlb();
        done.map_err(|e| failure("invalidating", "the TLB".to_owned(), e))
    }

    /// Runs it. False where a finite deadline is refused: it has not run then.
    pub(super) fn run(&mut self, within: Option<Duration>) -> Result<bool> {
        match self.0.run(within) {
            Ok(()) => Ok(true),
            Err(Error::UNSUPPORTED) if within.is_some() => Ok(false),
            Err(error) => Err(failure("running", "the vCPU".to_owned(), error)),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn failure(what: &str, object: String, error: Error) -> Failure {
    Failure(format!("{what} {object} failed with {error}"))
}

fn field_name(field: Field) -> String {
    match field.name() {
        Some(name) => name.to_owned(),
        None => format!("{:#x}", field.0),
    }
}
