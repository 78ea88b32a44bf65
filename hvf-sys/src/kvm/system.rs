//! /dev/kvm itself.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::Arc;

use super::abi::{self, CPUID_MAX, Capability, CpuidEntry, CpuidList, ListHead};
use super::{Vm, request, request_with};
use crate::ram::Ram;

/// The host's KVM.
#[derive(Debug)]
pub struct System(OwnedFd);

impl System {
    /// Opens /dev/kvm. `Unsupported` where it speaks another version of its interface.
    pub fn open() -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open("/dev/kvm")?;
        let system = Self(file.into());
        // SAFETY: a request without an argument.
        match unsafe { request(&system.0, abi::GET_API_VERSION, 0) }? {
            abi::API_VERSION => Ok(system),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Whether it can do that: zero is no, more is yes or how many.
    pub fn extension(&self, capability: Capability) -> u32 {
        // SAFETY: the argument is a number.
        let answer = unsafe { request(&self.0, abi::CHECK_EXTENSION, capability as u64) };
        answer.map_or(0, |answer| answer as u32)
    }

    /// What CPUID may answer in a guest at most.
    pub fn supported_cpuid(&self) -> io::Result<Vec<CpuidEntry>> {
        let mut list = Box::new(CpuidList {
            head: ListHead {
                count: CPUID_MAX as u32,
                pad: 0,
            },
            entries: [CpuidEntry::default(); CPUID_MAX],
        });
        // SAFETY: the head says how many entries there is room for.
        unsafe { request_with(&self.0, abi::GET_SUPPORTED_CPUID, &mut *list) }?;
        let count = (list.head.count as usize).min(CPUID_MAX);
        Ok(list.entries[..count].to_vec())
    }

    /// Makes a machine whose memory is `ram`, to be mapped yet.
    pub fn create_vm(&self, ram: Arc<Ram>) -> io::Result<Vm> {
        // SAFETY: the arguments are numbers; zero is the ordinary kind of machine.
        let page = unsafe { request(&self.0, abi::GET_VCPU_MMAP_SIZE, 0) }?;
        // SAFETY: as above.
        let fd = unsafe { request(&self.0, abi::CREATE_VM, 0) }?;
        // SAFETY: the kernel has just made this descriptor for us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Vm::new(fd, ram, page as usize))
    }
}
