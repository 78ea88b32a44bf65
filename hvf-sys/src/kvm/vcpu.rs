//! One vCPU of KVM.

use std::io;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::ptr;
use std::sync::Arc;

use super::abi::{
    self, CPUID_MAX, CpuidEntry, CpuidList, DebugRegs, FailEntryExit, Fpu, InternalErrorExit,
    IoExit, ListHead, MSRS_MAX, MmioExit, MsrEntry, MsrExit, MsrList, Regs, Sregs, Translation,
    VcpuEvents, Xcr, Xcrs, Xsave, reason,
};
use super::page::{Kick, RunPage};
use super::{Vm, request, request_with};
use crate::kick::Thread;

/// Values after power-on (SDM volume 3, table 10-1).
const FCW_RESET: u16 = 0x0040;
const MXCSR_RESET: u32 = 0x1f80;
const DR6_RESET: u64 = 0xffff_0ff0;
const DR7_RESET: u64 = 0x400;

/// Why the guest stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The guest reads a port, `count` times: `set_port_data` for each, then `run`.
    PortIn {
        /// The port.
        port: u16,
        /// Bytes: 1, 2 or 4.
        size: u8,
        /// How often.
        count: u32,
    },
    /// The guest writes a port, `count` times: `port_data` has each value.
    PortOut {
        /// The port.
        port: u16,
        /// Bytes: 1, 2 or 4.
        size: u8,
        /// How often.
        count: u32,
    },
    /// The guest reads memory that is in no slot: `set_memory_data`, then `run`.
    MemoryRead {
        /// The guest physical address.
        gpa: u64,
        /// Bytes: 1 to 8.
        len: u8,
    },
    /// The guest writes memory that is in no slot.
    MemoryWrite {
        /// The guest physical address.
        gpa: u64,
        /// Bytes: 1 to 8.
        len: u8,
        /// What it writes.
        data: [u8; 8],
    },
    /// The guest reads an MSR: `complete_msr`, then `run`.
    MsrRead {
        /// Its number.
        msr: u32,
    },
    /// The guest writes an MSR: `complete_msr`, then `run`.
    MsrWrite {
        /// Its number.
        msr: u32,
        /// What it writes.
        value: u64,
    },
    /// HLT.
    Halt,
    /// An interrupt window was asked for and is open.
    WindowOpen,
    /// The guest has lowered CR8.
    TprLowered,
    /// A triple fault.
    Shutdown,
    /// A kick, or a signal of another's.
    Interrupted,
    /// The processor refused to enter the guest.
    EntryFailed {
        /// Its reason.
        reason: u64,
    },
    /// KVM cannot go on.
    InternalError {
        /// KVM's number for it: 1 is an instruction that it cannot emulate.
        suberror: u32,
        /// The bytes at the instruction pointer, where KVM tells them.
        instruction: Vec<u8>,
    },
    /// Something else, by KVM's number.
    Other(u32),
}

/// A vCPU. It stays on its thread.
pub struct Vcpu {
    fd: OwnedFd,
    page: Arc<RunPage>,
    /// Its memory, which the kernel has the addresses of.
    vm: Arc<Vm>,
    thread: Thread,
    /// The port access that is not yet complete.
    ports: IoExit,
    /// KVM's own calls belong to one thread, and `page` says why.
    not_send: PhantomData<*const ()>,
}

macro_rules! field {
    ($vcpu:expr, $($field:tt)+) => {
        // SAFETY: a field of the live mapping, which the kernel leaves alone outside of `run`.
        unsafe { ptr::read_volatile(&raw const (*$vcpu.page.run()).$($field)+) }
    };
}

macro_rules! set_field {
    ($vcpu:expr, $field:ident, $value:expr) => {
        // SAFETY: as for reading.
        unsafe { ptr::write_volatile(&raw mut (*$vcpu.page.run()).$field, $value) }
    };
}

impl Vcpu {
    pub(super) fn new(fd: OwnedFd, vm: Arc<Vm>, run_len: usize) -> io::Result<Self> {
        Ok(Self {
            page: RunPage::map(&fd, run_len)?,
            fd,
            vm,
            thread: Thread::current()?,
            ports: IoExit {
                direction: 0,
                size: 0,
                port: 0,
                count: 0,
                data_offset: 0,
            },
            not_send: PhantomData,
        })
    }

    /// The machine that it belongs to.
    pub fn vm(&self) -> &Arc<Vm> {
        &self.vm
    }

    /// What stops it from other threads.
    pub fn kick(&self) -> Kick {
        Kick(self.page.clone())
    }

    /// Runs the guest until something is to be done for it. First completes what the last exit was about.
    pub fn run(&mut self) -> io::Result<Exit> {
        self.page.enter(self.thread);
        // SAFETY: a request without an argument. The kernel writes the page and the guest its RAM, nothing else.
        let result = unsafe { request(&self.fd, abi::RUN, 0) };
        self.page.leave();
        match result {
            Ok(_) => Ok(self.exit()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.page.take_kicks();
                Ok(Exit::Interrupted)
            }
            Err(error) => Err(error),
        }
    }

    fn exit(&mut self) -> Exit {
        match field!(self, exit_reason) {
            reason::IO => {
                let io: IoExit = self.info();
                self.ports = io;
                let (port, size, count) = (io.port, io.size, io.count);
                match io.direction {
                    0 => Exit::PortIn { port, size, count },
                    _ => Exit::PortOut { port, size, count },
                }
            }
            reason::MMIO => {
                let MmioExit {
                    phys_addr: gpa,
                    data,
                    len,
                    is_write,
                } = self.info();
                let len = len.min(8) as u8;
                match is_write {
                    0 => Exit::MemoryRead { gpa, len },
                    _ => Exit::MemoryWrite { gpa, len, data },
                }
            }
            reason::RDMSR => {
                let msr = self.info::<MsrExit>().index;
                Exit::MsrRead { msr }
            }
            reason::WRMSR => {
                let MsrExit { index, data, .. } = self.info();
                Exit::MsrWrite {
                    msr: index,
                    value: data,
                }
            }
            reason::HLT => Exit::Halt,
            reason::IRQ_WINDOW_OPEN => Exit::WindowOpen,
            reason::SET_TPR => Exit::TprLowered,
            reason::SHUTDOWN => Exit::Shutdown,
            reason::INTR => Exit::Interrupted,
            reason::FAIL_ENTRY => Exit::EntryFailed {
                reason: self.info::<FailEntryExit>().hardware_entry_failure_reason,
            },
            reason::INTERNAL_ERROR => self.internal_error(),
            other => Exit::Other(other),
        }
    }

    fn internal_error(&self) -> Exit {
        let error: InternalErrorExit = self.info();
        let has_bytes = error.suberror == InternalErrorExit::EMULATION
            && error.ndata >= 3
            && error.flags & InternalErrorExit::HAS_BYTES != 0;
        let len = if has_bytes {
            error.insn_size.min(15)
        } else {
            0
        };
        Exit::InternalError {
            suberror: error.suberror,
            instruction: error.insn_bytes[..len.into()].to_vec(),
        }
    }

    /// What the exit tells, as a structure of integers that fits.
    fn info<T: Copy>(&self) -> T {
        const { assert!(size_of::<T>() <= 256 && align_of::<T>() <= 8) };
        // SAFETY: the exit's part of the live mapping is as long and as aligned; every bit pattern is a value of
        // the structures of integers in `abi`, the only ones that this is called for.
        unsafe { ptr::read_volatile((&raw const (*self.page.run()).exit).cast()) }
    }

    /// Value number `n` of the port access that `run` last returned; zero where there is no such.
    pub fn port_data(&self, n: u32) -> u32 {
        let mut value = [0; 4];
        let size = usize::from(self.ports.size).min(4);
        if let Some(from) = self.port_at(n, size) {
            // SAFETY: `size` bytes of the live mapping, into as many of an array.
            unsafe { ptr::copy_nonoverlapping(from, value.as_mut_ptr(), size) };
        }
        u32::from_le_bytes(value)
    }

    /// Gives that value for a read.
    pub fn set_port_data(&mut self, n: u32, value: u32) {
        let value = value.to_le_bytes();
        let size = usize::from(self.ports.size).min(4);
        if let Some(to) = self.port_at(n, size) {
            // SAFETY: as in `port_data`, the other way round.
            unsafe { ptr::copy_nonoverlapping(value.as_ptr(), to, size) };
        }
    }

    fn port_at(&self, n: u32, size: usize) -> Option<*mut u8> {
        let IoExit {
            count, data_offset, ..
        } = self.ports;
        let offset = u64::from(n) * size as u64;
        (n < count).then(|| self.page.at(data_offset.checked_add(offset)?, size))?
    }

    /// Gives the bytes of the memory that the guest reads.
    pub fn set_memory_data(&mut self, data: [u8; 8]) {
        // SAFETY: the exit's part of the live mapping, which holds such a structure now.
        unsafe {
            let mmio: *mut MmioExit = (&raw mut (*self.page.run()).exit).cast();
            ptr::write_volatile(&raw mut (*mmio).data, data);
        }
    }

    /// Gives the value of the MSR that the guest reads (any for a write). `None` makes it #GP.
    pub fn complete_msr(&mut self, value: Option<u64>) {
        // SAFETY: the exit's part of the live mapping, which holds such a structure now.
        unsafe {
            let msr: *mut MsrExit = (&raw mut (*self.page.run()).exit).cast();
            ptr::write_volatile(&raw mut (*msr).error, value.is_none().into());
            if let Some(value) = value {
                ptr::write_volatile(&raw mut (*msr).data, value);
            }
        }
    }

    /// CR8, after a run.
    pub fn cr8(&self) -> u64 {
        field!(self, cr8)
    }

    /// Sets CR8 for the next run.
    pub fn set_cr8(&mut self, tpr: u64) {
        set_field!(self, cr8, tpr & 0xf);
    }

    /// Whether `interrupt` is allowed, as of the last run.
    pub fn is_ready_for_interrupt(&self) -> bool {
        field!(self, ready_for_interrupt_injection) != 0
    }

    /// Whether runs end when it is.
    pub fn request_window(&mut self, wanted: bool) {
        set_field!(self, request_interrupt_window, wanted.into());
    }

    /// Queues an interrupt.
    pub fn interrupt(&mut self, vector: u8) -> io::Result<()> {
        // SAFETY: the argument is a number in memory.
        unsafe { request_with(&self.fd, abi::INTERRUPT, &mut u32::from(vector)) }?;
        Ok(())
    }

    /// Queues a non-maskable interrupt.
    pub fn nmi(&mut self) -> io::Result<()> {
        // SAFETY: a request without an argument.
        unsafe { request(&self.fd, abi::NMI, 0) }?;
        Ok(())
    }

    /// Drops every queued event, and what blocks them.
    pub fn clear_events(&mut self) -> io::Result<()> {
        let mut events = VcpuEvents::NOTHING;
        // SAFETY: the structure is the request's.
        unsafe { request_with(&self.fd, abi::SET_VCPU_EVENTS, &mut events) }?;
        Ok(())
    }

    /// Ends the blocking of NMIs by an earlier one, as IRET does.
    pub fn unblock_nmi(&mut self) -> io::Result<()> {
        let mut events = VcpuEvents::NOTHING;
        // SAFETY: the structure is the request's.
        unsafe { request_with(&self.fd, abi::GET_VCPU_EVENTS, &mut events) }?;
        if events.nmi[VcpuEvents::NMI_MASKED] != 0 {
            events.nmi[VcpuEvents::NMI_MASKED] = 0;
            // SAFETY: the structure is the request's.
            unsafe { request_with(&self.fd, abi::SET_VCPU_EVENTS, &mut events) }?;
        }
        Ok(())
    }

    /// Sets what CPUID answers: at most `CPUID_MAX` entries.
    pub fn set_cpuid(&mut self, entries: &[CpuidEntry]) -> io::Result<()> {
        let count = entries.len();
        let mut list = Box::new(CpuidList {
            head: ListHead {
                count: count as u32,
                pad: 0,
            },
            entries: [CpuidEntry::default(); CPUID_MAX],
        });
        let room = list.entries.get_mut(..count);
        let room = room.ok_or(io::ErrorKind::InvalidInput)?;
        room.copy_from_slice(entries);
        // SAFETY: the head says how many entries there are.
        unsafe { request_with(&self.fd, abi::SET_CPUID2, &mut *list) }?;
        Ok(())
    }

    /// Sets MSRs in order; how many were set before the first that KVM refuses.
    pub fn set_msrs(&mut self, msrs: &[(u32, u64)]) -> io::Result<usize> {
        let mut list = msr_list(msrs)?;
        // SAFETY: the head says how many entries there are.
        unsafe { request_with(&self.fd, abi::SET_MSRS, &mut list) }.map(|done| done as usize)
    }

    /// Reads an MSR. `None` where KVM has no such.
    pub fn msr(&mut self, index: u32) -> io::Result<Option<u64>> {
        let mut list = msr_list(&[(index, 0)])?;
        // SAFETY: the head says how many entries there are.
        let done = unsafe { request_with(&self.fd, abi::GET_MSRS, &mut list) }?;
        Ok((done == 1).then_some(list.entries[0].value))
    }

    /// The general registers.
    pub fn regs(&self) -> io::Result<Regs> {
        let mut regs = Regs::default();
        // SAFETY: the structure is the request's.
        unsafe { request_with(&self.fd, abi::GET_REGS, &mut regs) }?;
        Ok(regs)
    }

    /// Sets the general registers.
    pub fn set_regs(&mut self, regs: &Regs) -> io::Result<()> {
        // SAFETY: the structure is the request's.
        unsafe { request_with(&self.fd, abi::SET_REGS, &mut regs.clone()) }?;
        Ok(())
    }

    /// Segments and control registers.
    pub fn sregs(&self) -> io::Result<Sregs> {
        let mut sregs = Sregs::default();
        // SAFETY: the structure is the request's.
        unsafe { request_with(&self.fd, abi::GET_SREGS, &mut sregs) }?;
        Ok(sregs)
    }

    /// Sets segments and control registers.
    pub fn set_sregs(&mut self, sregs: &Sregs) -> io::Result<()> {
        // SAFETY: the structure is the request's.
        unsafe { request_with(&self.fd, abi::SET_SREGS, &mut sregs.clone()) }?;
        Ok(())
    }

    /// Sets x87 and SSE as after power-on, and every further state of XSAVE as XRSTOR initializes it.
    pub fn reset_fpu(&mut self) -> io::Result<()> {
        let mut xsave = Box::new(Xsave([0; 1024]));
        // SAFETY: the structure is the request's. A host without XSAVE, or with more of it, has the rest below only.
        let _ = unsafe { request_with(&self.fd, abi::SET_XSAVE, &mut *xsave) };
        let mut fpu = Fpu {
            fcw: FCW_RESET,
            ftwx: 0xff,
            mxcsr: MXCSR_RESET,
            ..Fpu::default()
        };
        // SAFETY: the structure is the request's.
        unsafe { request_with(&self.fd, abi::SET_FPU, &mut fpu) }?;
        Ok(())
    }

    /// Sets debug registers as after power-on.
    pub fn reset_debug_regs(&mut self) -> io::Result<()> {
        let mut regs = DebugRegs {
            dr6: DR6_RESET,
            dr7: DR7_RESET,
            ..DebugRegs::default()
        };
        // SAFETY: the structure is the request's.
        unsafe { request_with(&self.fd, abi::SET_DEBUGREGS, &mut regs) }?;
        Ok(())
    }

    /// Sets XCR0.
    pub fn set_xcr0(&mut self, value: u64) -> io::Result<()> {
        let mut xcrs = Xcrs {
            count: 1,
            ..Xcrs::default()
        };
        xcrs.xcrs[0] = Xcr {
            value,
            ..Xcr::default()
        };
        // SAFETY: the structure is the request's.
        unsafe { request_with(&self.fd, abi::SET_XCRS, &mut xcrs) }?;
        Ok(())
    }

    /// The guest physical address of a linear one. `None` where nothing is mapped there.
    pub fn translate(&self, linear_address: u64) -> io::Result<Option<u64>> {
        let mut translation = Translation {
            linear_address,
            ..Translation::default()
        };
        // SAFETY: the structure is the request's.
        unsafe { request_with(&self.fd, abi::TRANSLATE, &mut translation) }?;
        let Translation {
            physical_address,
            valid,
            ..
        } = translation;
        Ok((valid != 0).then_some(physical_address))
    }

    /// The rate of its TSC in kHz.
    pub fn tsc_khz(&self) -> io::Result<u32> {
        // SAFETY: a request without an argument.
        Ok(unsafe { request(&self.fd, abi::GET_TSC_KHZ, 0) }? as u32)
    }

    /// Sets the rate of its TSC, before it has run.
    pub fn set_tsc_khz(&mut self, khz: u32) -> io::Result<()> {
        // SAFETY: the argument is a number.
        unsafe { request(&self.fd, abi::SET_TSC_KHZ, khz.into()) }?;
        Ok(())
    }
}

fn msr_list(msrs: &[(u32, u64)]) -> io::Result<MsrList> {
    let mut list = MsrList {
        head: ListHead {
            count: msrs.len() as u32,
            pad: 0,
        },
        entries: [MsrEntry::default(); MSRS_MAX],
    };
    let room = list.entries.get_mut(..msrs.len());
    for (to, &(index, value)) in room
        .ok_or(io::ErrorKind::InvalidInput)?
        .iter_mut()
        .zip(msrs)
    {
        *to = MsrEntry {
            index,
            reserved: 0,
            value,
        };
    }
    Ok(list)
}
