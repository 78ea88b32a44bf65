//! One vCPU of KVM behind the engines' trait.
//!
//! Accesses of devices are made from within `run`. Whoever wants the vCPU's attention meanwhile has kicked it: the next
//! entry then completes the access and comes straight back, so that nothing is ever half done when `run` returns.
//!
//! What a request to KVM answers where nothing can be returned is kept, and ends the next run.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hvf_sys::kvm::{Exit as KvmExit, Kick, Vcpu as Sys};

use super::super::alarm::Bell;
use super::super::{Exit, Kicker, Reset, Vcpu};
use super::msrs::{self, Owner};
use super::software::{Done, Software};
use super::tsc::Rate;
use super::{convert, fault};
use crate::bus::{Nanos, Width};
use crate::cpu::io::Io;
use crate::layout;
use crate::x86::control::{cr0, rflags};
use crate::x86::cpuid::Table;
use crate::x86::msr;
use crate::x86::regs::Regs;

pub(super) struct KvmVcpu {
    // Configuration.
    sys: Sys,
    bell: Bell,
    rate: Rate,
    index: u8,
    cpuid: Arc<Table>,
    // State.
    /// What the bell is set to.
    armed: Option<Nanos>,
    /// An interrupt was queued since the last run.
    injected: bool,
    /// Runs end as soon as it can be interrupted.
    window: bool,
    /// It can be, since an instruction that KVM does not know of.
    opened: bool,
    /// KVM's own values after power-on may have changed.
    has_run: bool,
    /// The TSC is to be set to machine time.
    sets_tsc: bool,
    /// The deadline that the guest wrote, in machine time and as it wrote it.
    deadline: (u64, u64),
    /// Made when KVM first gives up on an instruction.
    software: Option<Box<Software>>,
    /// What ends the next run.
    failure: Option<String>,
}

impl KvmVcpu {
    pub(super) fn new(sys: Sys, bell: Bell, rate: Rate, index: u8, cpuid: Arc<Table>) -> Self {
        Self {
            sys,
            bell,
            rate,
            index,
            cpuid,
            armed: None,
            injected: false,
            window: false,
            opened: false,
            has_run: false,
            sets_tsc: true,
            deadline: (0, 0),
            software: None,
            failure: None,
        }
    }

    /// Keeps what went wrong.
    fn keep<T>(&mut self, request: &str, result: io::Result<T>) -> Option<T> {
        result
            .map_err(|error| {
                let sentence = format!("{request} failed: {error}; --engine soft runs this guest");
                self.failure.get_or_insert(sentence);
            })
            .ok()
    }

    /// Has the bell kick at `until`, unless that is past.
    fn arm(&mut self, until: Option<Nanos>, io: &mut dyn Io) -> bool {
        let now = match until {
            Some(at) => {
                let now = io.now();
                if at <= now {
                    return false;
                }
                now
            }
            None => Nanos(0),
        };
        if until != self.armed {
            self.armed = until;
            let time = |at: Nanos| Instant::now().checked_add(Duration::from_nanos(at.0 - now.0));
            self.bell.set(until.and_then(time));
        }
        true
    }

    /// Enters the guest once, with the task priority that the local APIC has.
    fn enter(&mut self, io: &mut dyn Io) -> io::Result<KvmExit> {
        let tpr = io.cr8();
        self.sys.set_cr8(tpr);
        (self.injected, self.opened) = (false, false);
        let exit = self.sys.run();
        let new = self.sys.cr8();
        if new != tpr {
            io.set_cr8(new);
        }
        exit
    }

    /// Ends the run at its next entry, which completes the access, where the window that was asked for is open. A
    /// KVM that emulates the guest may find it open at an access alone, and that seldom.
    fn note_window(&self) {
        if self.window && self.sys.is_ready_for_interrupt() {
            self.sys.kick().kick();
        }
    }

    /// Does what the guest wants of devices. Anything else ends the run.
    fn serve(&mut self, exit: KvmExit, io: &mut dyn Io) -> Option<Exit> {
        match exit {
            KvmExit::PortIn { port, size, count } => {
                let width = port_width(size);
                for n in 0..count {
                    let value = io.port_read(port, width);
                    self.sys.set_port_data(n, value);
                }
            }
            KvmExit::PortOut { port, size, count } => {
                let width = port_width(size);
                for n in 0..count {
                    io.port_write(port, width, self.sys.port_data(n));
                }
            }
            KvmExit::MemoryRead { gpa, len } => {
                let mut data = [0; 8];
                for (offset, width) in pieces(len) {
                    let value = io.mmio_read(gpa.wrapping_add(offset as u64), width);
                    let bytes = width.bytes() as usize;
                    data[offset..][..bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
                }
                self.sys.set_memory_data(data);
            }
            KvmExit::MemoryWrite { gpa, len, data } => {
                for (offset, width) in pieces(len) {
                    let bytes = width.bytes() as usize;
                    let mut value = [0; 8];
                    value[..bytes].copy_from_slice(&data[offset..][..bytes]);
                    let value = u64::from_le_bytes(value);
                    io.mmio_write(gpa.wrapping_add(offset as u64), width, value);
                }
            }
            KvmExit::MsrRead { msr } => {
                let value = self.read_msr(msr, io);
                self.sys.complete_msr(value);
            }
            KvmExit::MsrWrite { msr, value } => {
                let done = self.write_msr(msr, value, io);
                self.sys.complete_msr(done.map(|()| 0));
            }
            // The new priority has been passed on, which kicks where it matters.
            KvmExit::TprLowered => {}
            KvmExit::Halt => {
                if self.armed.take().is_some() {
                    // The sleep has a deadline of its own.
                    self.bell.set(None);
                }
                return Some(Exit::Halt);
            }
            KvmExit::WindowOpen => return Some(Exit::WindowOpen),
            KvmExit::Interrupted => {
                // It may have been the bell, which rings once.
                self.armed = None;
                return Some(Exit::Kicked);
            }
            KvmExit::Shutdown => return Some(Exit::TripleFault),
            KvmExit::EntryFailed { reason } => {
                return Some(fault(fault::entry_failed(&self.sys, reason)));
            }
            KvmExit::InternalError {
                suberror,
                instruction,
            } => {
                if suberror == fault::EMULATION
                    && let Some(done) = self.step_in_software(io)
                {
                    return done;
                }
                let detail = fault::internal_error(&self.sys, suberror, &instruction);
                return Some(fault(detail));
            }
            KvmExit::Other(reason) => return Some(fault(fault::unknown_exit(&self.sys, reason))),
        }
        None
    }

    /// Does an instruction that KVM has given up on, and tells what ends the run. `None` where that cannot be done.
    fn step_in_software(&mut self, io: &mut dyn Io) -> Option<Option<Exit>> {
        let regs = self.try_regs().ok()?;
        let software = self
            .software
            .get_or_insert_with(|| Box::new(Software::new(self.sys.vm().ram(), &self.cpuid)));
        match software.step(&regs, io) {
            Done::GoesOn(regs, ends_nmi) => {
                self.set_regs(&regs);
                // Before the next instruction, as a window of the processor's own opens.
                self.opened = regs.rflags & rflags::IF != 0;
                if ends_nmi {
                    let done = self.sys.unblock_nmi();
                    self.keep("KVM_SET_VCPU_EVENTS", done);
                }
                Some((self.window && self.opened).then_some(Exit::WindowOpen))
            }
            Done::TripleFault => Some(Some(Exit::TripleFault)),
            Done::NotOurs => None,
        }
    }

    fn read_msr(&mut self, number: u32, io: &mut dyn Io) -> Option<u64> {
        match Owner::of(number) {
            Owner::Lapic => io.msr_read(number),
            Owner::Deadline => {
                let deadline = io.msr_read(number)?;
                let (at, written) = self.deadline;
                Some(if deadline == at { written } else { deadline })
            }
            Owner::Zero => Some(0),
            Owner::Nobody => {
                log::debug!("the guest reads MSR {number:#x}, which is not offered");
                None
            }
        }
    }

    fn write_msr(&mut self, number: u32, value: u64, io: &mut dyn Io) -> Option<()> {
        match Owner::of(number) {
            Owner::Lapic => {
                io.msr_write(number, value)?;
                if number == msr::APIC_BASE {
                    // KVM shows in CPUID whether the local APIC is on. A value that it refuses shows nothing.
                    let _ = self.sys.set_msrs(&[(number, value)]);
                }
                Some(())
            }
            Owner::Deadline => {
                let deadline = self.deadline(value, io);
                self.deadline = (deadline, value);
                io.msr_write(number, deadline)
            }
            Owner::Zero => (value == 0).then_some(()),
            Owner::Nobody => {
                log::debug!("the guest writes MSR {number:#x}, which is not offered");
                None
            }
        }
    }

    /// When the guest's TSC is `ticks`, in machine time; zero, which disarms, stays zero. A TSC that is past it gives
    /// now.
    fn deadline(&mut self, ticks: u64, io: &mut dyn Io) -> u64 {
        if ticks == 0 {
            return 0;
        }
        let tsc = self.sys.msr(msr::TSC);
        let tsc = self.keep("KVM_GET_MSRS", tsc).flatten().unwrap_or(ticks);
        let ahead = ticks.saturating_sub(tsc);
        io.now().0.saturating_add(self.rate.time(ahead)).max(1)
    }

    /// KVM gives all vCPUs the same offset where each is set to about what the others show.
    fn set_tsc(&mut self, now: Nanos) {
        (self.sets_tsc, self.has_run) = (false, true);
        let set = self.sys.set_msrs(&[(msr::TSC, self.rate.ticks(now))]);
        self.keep("KVM_SET_MSRS", set);
    }

    fn power_on(&mut self) -> io::Result<()> {
        self.sys.reset_fpu()?;
        // On a host without XSAVE there is none.
        let _ = self.sys.set_xcr0(1);
        let values = match self.has_run {
            true => &msrs::POWER_ON[..],
            false => &msrs::AT_FIRST[..],
        };
        for &value in values {
            self.sys.set_msrs(&[value])?;
        }
        self.sets_tsc = true;
        self.deadline = (0, 0);
        Ok(())
    }

    fn try_reset(&mut self, kind: Reset) -> io::Result<()> {
        (self.injected, self.opened) = (false, false);
        let mut regs = Regs::power_on(self.cpuid.signature());
        let mut system = self.sys.sregs()?;
        match kind {
            Reset::PowerOn => {
                self.power_on()?;
                let bsp = if self.index == 0 {
                    msr::apic_base::BSP
                } else {
                    0
                };
                system.apic_base = layout::LAPIC.start | msr::apic_base::ENABLE | bsp;
            }
            Reset::Init => {
                let cache = cr0::CD | cr0::NW;
                regs.cr0 = regs.cr0 & !cache | system.cr0 & cache;
            }
        }
        self.sys.clear_events()?;
        self.sys.reset_debug_regs()?;
        let general = convert::to_kvm(&regs, &mut system);
        self.sys.set_sregs(&system)?;
        self.sys.set_regs(&general)
    }

    fn try_regs(&self) -> io::Result<Regs> {
        Ok(convert::from_kvm(&self.sys.regs()?, &self.sys.sregs()?))
    }

    fn try_set_regs(&mut self, regs: &Regs) -> io::Result<()> {
        let mut system = self.sys.sregs()?;
        let general = convert::to_kvm(regs, &mut system);
        self.sys.set_sregs(&system)?;
        self.sys.set_regs(&general)
    }
}

impl Vcpu for KvmVcpu {
    fn run(&mut self, io: &mut dyn Io, until: Option<Nanos>) -> Exit {
        if self.sets_tsc {
            let now = io.now();
            self.set_tsc(now);
        }
        if !self.arm(until, io) {
            return Exit::Deadline;
        }
        loop {
            if let Some(detail) = self.failure.take() {
                return fault(detail);
            }
            match self.enter(io) {
                Ok(exit) => {
                    if let Some(exit) = self.serve(exit, io) {
                        return exit;
                    }
                    self.note_window();
                }
                Err(error) => {
                    return fault(format!(
                        "KVM_RUN failed: {error}; --engine soft runs this guest"
                    ));
                }
            }
        }
    }

    // Device accesses are made within `run`: no read ever waits for its value.
    fn complete_read(&mut self, _value: u64) {}

    fn complete_msr(&mut self, _value: Option<u64>) {}

    fn can_inject(&self) -> bool {
        !self.injected && (self.opened || self.sys.is_ready_for_interrupt())
    }

    fn inject(&mut self, vector: u8) {
        let done = self.sys.interrupt(vector);
        self.keep("KVM_INTERRUPT", done);
        self.injected = true;
    }

    fn inject_nmi(&mut self) {
        let done = self.sys.nmi();
        self.keep("KVM_NMI", done);
    }

    fn request_window(&mut self, wanted: bool) {
        self.window = wanted;
        self.sys.request_window(wanted);
    }

    fn reset(&mut self, kind: Reset) {
        let done = self.try_reset(kind);
        self.keep("the reset of a CPU by KVM", done);
    }

    fn start_ap(&mut self, page: u8) {
        let mut regs = self.regs();
        regs.start_at(page);
        self.set_regs(&regs);
    }

    fn regs(&mut self) -> Regs {
        let regs = self.try_regs();
        let regs = self.keep("KVM_GET_REGS", regs);
        regs.unwrap_or_else(|| Regs::power_on(self.cpuid.signature()))
    }

    fn set_regs(&mut self, regs: &Regs) {
        let done = self.try_set_regs(regs);
        self.keep("KVM_SET_REGS", done);
    }

    fn set_mtrr(&mut self, msr: u32, value: u64) {
        // A host that has none of its own to offer ignores them.
        let done = self.sys.set_msrs(&[(msr, value)]);
        self.keep("KVM_SET_MSRS", done);
    }

    fn retired(&self) -> Option<u64> {
        None
    }

    fn kicker(&self) -> Arc<dyn Kicker> {
        Arc::new(KvmKicker(self.sys.kick()))
    }
}

struct KvmKicker(Kick);

impl Kicker for KvmKicker {
    fn kick(&self) {
        self.0.kick();
    }
}

fn fault(detail: String) -> Exit {
    Exit::Fault { detail }
}

/// Ports are a byte, a word or a dword wide.
fn port_width(size: u8) -> Width {
    match size {
        1 => Width::Byte,
        2 => Width::Word,
        _ => Width::Dword,
    }
}

/// An access of `len` bytes, 8 at most, as accesses of a width each: KVM also tells those that a page's end has cut.
fn pieces(len: u8) -> impl Iterator<Item = (usize, Width)> {
    let mut offset = 0;
    std::iter::from_fn(move || {
        let left = usize::from(len.min(8)) - offset;
        let bytes = (left > 0).then(|| 1 << left.ilog2())?;
        let piece = (offset, Width::from_bytes(bytes)?);
        offset += bytes as usize;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_of_any_length_are_made_of_widths() {
        for len in 0..=9_u8 {
            let mut end = 0;
            for (offset, width) in pieces(len) {
                assert_eq!(offset, end);
                end += width.bytes() as usize;
            }
            assert_eq!(end, usize::from(len.min(8)));
        }
        let seven: Vec<_> = pieces(7).map(|(_, width)| width).collect();
        assert_eq!(seven, [Width::Dword, Width::Word, Width::Byte]);
    }
}
