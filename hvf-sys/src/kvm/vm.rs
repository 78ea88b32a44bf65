//! One machine of KVM.

use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::Arc;

use super::abi::{
    self, Capability, EnableCap, MSR_RANGES_MAX, MemoryRegion, MsrFilter, MsrFilterRange,
};
use super::{Vcpu, request, request_with};
use crate::ram::Ram;

/// A machine, without any vCPU at first.
pub struct Vm {
    fd: OwnedFd,
    /// The kernel has its host addresses.
    ram: Arc<Ram>,
    /// The length of the pages that vCPUs share with the kernel.
    run_len: usize,
}

impl Vm {
    pub(super) fn new(fd: OwnedFd, ram: Arc<Ram>, run_len: usize) -> Self {
        Self { fd, ram, run_len }
    }

    /// Puts the machine's RAM where it belongs, once, each region of it in a slot.
    pub fn map_ram(&self) -> io::Result<()> {
        for (slot, (gpa, len)) in (0..).zip(self.ram.regions()) {
            let host = self.ram.host(gpa, len).ok_or(io::ErrorKind::InvalidInput)?;
            let mut region = MemoryRegion {
                slot,
                flags: 0,
                guest_phys_addr: gpa,
                memory_size: len,
                userspace_addr: host.expose_provenance() as u64,
            };
            // SAFETY: the structure is the request's. The range is a live mapping outside Rust's memory model, which
            // this machine, and with it every vCPU, keeps.
            unsafe { request_with(&self.fd, abi::SET_USER_MEMORY_REGION, &mut region) }?;
        }
        Ok(())
    }

    /// The machine's memory.
    pub fn ram(&self) -> &Arc<Ram> {
        &self.ram
    }

    /// Gives KVM three pages of guest physical addresses from `gpa`, in no slot, for its own use, before there is a vCPU.
    pub fn set_tss_addr(&self, gpa: u32) -> io::Result<()> {
        // SAFETY: the argument is a number.
        unsafe { request(&self.fd, abi::SET_TSS_ADDR, gpa.into()) }?;
        Ok(())
    }

    /// Gives it one more, for the page table of real mode.
    pub fn set_identity_map_addr(&self, gpa: u64) -> io::Result<()> {
        // SAFETY: the argument is a number in memory.
        unsafe { request_with(&self.fd, abi::SET_IDENTITY_MAP_ADDR, &mut gpa.clone()) }?;
        Ok(())
    }

    /// From now on these MSRs, at most 16 ranges of them, and all that KVM does not take arrive as exits.
    ///
    /// # Panics
    /// Where there are more ranges, or one is empty.
    pub fn exit_on_msrs(&self, ranges: &[RangeInclusive<u32>]) -> io::Result<()> {
        let mut cap = EnableCap {
            cap: Capability::UserSpaceMsr as u32,
            flags: 0,
            args: [abi::MSR_EXIT_REASONS, 0, 0, 0],
            pad: [0; 64],
        };
        // SAFETY: the structure is the request's.
        unsafe { request_with(&self.fd, abi::ENABLE_CAP, &mut cap) }?;
        assert!(ranges.len() <= MSR_RANGES_MAX, "a filter has 16 ranges");
        let longest = ranges.iter().map(bytes).max().unwrap_or(0);
        let denied = vec![0; longest];
        let mut filter = MsrFilter {
            flags: 0,
            ranges: [MsrFilterRange::NONE; MSR_RANGES_MAX],
        };
        for (to, range) in filter.ranges.iter_mut().zip(ranges) {
            *to = MsrFilterRange {
                flags: MsrFilterRange::READ | MsrFilterRange::WRITE,
                count: range.end() - range.start() + 1,
                base: *range.start(),
                bitmap: denied.as_ptr(),
            };
        }
        // SAFETY: the structure is the request's; each bitmap that it points to has a bit for each MSR of its range
        // and outlives the call, in which the kernel copies it.
        unsafe { request_with(&self.fd, abi::SET_MSR_FILTER, &mut filter) }?;
        Ok(())
    }

    /// Makes vCPU number `index`, as after power-on, for the calling thread.
    pub fn create_vcpu(self: &Arc<Self>, index: u32) -> io::Result<Vcpu> {
        // SAFETY: the argument is a number.
        let fd = unsafe { request(&self.fd, abi::CREATE_VCPU, index.into()) }?;
        // SAFETY: the kernel has just made this descriptor for us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Vcpu::new(fd, self.clone(), self.run_len)
    }
}

/// How many bytes the bitmap of a range has: the kernel reads whole words.
fn bytes(range: &RangeInclusive<u32>) -> usize {
    assert!(!range.is_empty(), "a range holds an MSR");
    (range.end() - range.start()) as usize / 64 * 8 + 8
}
