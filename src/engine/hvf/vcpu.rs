//! A vCPU of VMX as the run loop drives it: what is delivered at an entry, when `run` returns, and the registers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::dump;
use super::event::{Events, Raw};
use super::hardware::{Hardware, Result};
use super::kick::{Mark, MarkKicker};
use super::state::{self, Loaded, Shadows};
use super::vmx::Vmx;
use crate::bus::Nanos;
use crate::cpu::Cpu;
use crate::cpu::io::Io;
use crate::engine::{Exit, Kicker, Reset, Vcpu};
use crate::x86::control::rflags;
use crate::x86::regs::Regs;
use crate::x86::vmx::Field;
use crate::x86::vmx::control::interruptibility;

/// A vCPU.
pub(super) struct HvfVcpu {
    // Configuration.
    pub(super) vmx: Arc<dyn Vmx>,
    pub(super) tsc_hz: u64,
    /// What stands for the guest's TSC of zero.
    pub(super) tsc_base: u64,
    pub(super) mark: Arc<Mark>,
    /// The bits of CR4 that the guest may set.
    pub(super) offered_cr4: u64,
    // State.
    pub(super) hardware: Hardware,
    /// The software CPU that executes what hardware leaves to it, and keeps what hardware has no place for.
    pub(super) soft: Cpu,
    pub(super) shadows: Shadows,
    pub(super) events: Events,
    /// The host refuses finite deadlines.
    pub(super) deadlines_refused: bool,
    /// The last EPT violation in RAM (address, RIP), and how often it has come in a row.
    pub(super) violation: ((u64, u64), u32),
    /// What failed outside `run`: told by the next one.
    pub(super) failed: Option<String>,
}

impl HvfVcpu {
    /// Begins with the state after power-on, all of it written.
    pub(super) fn power_on(&mut self) -> Result<()> {
        reset(&mut self.soft, Reset::PowerOn, self.tsc_base);
        self.store(None)
    }

    /// Reads the state that nearly every instruction may look at into the software CPU.
    pub(super) fn load(&mut self) -> Result<Loaded> {
        state::load(&self.hardware, &self.shadows, self.soft.core_mut())
    }

    /// Reads all of it.
    pub(super) fn load_all(&mut self) -> Result<Loaded> {
        let mut loaded = self.load()?;
        state::load_rest(&self.hardware, &mut loaded, self.soft.core_mut())?;
        Ok(loaded)
    }

    /// Writes back what has changed.
    pub(super) fn store(&mut self, loaded: Option<&Loaded>) -> Result<()> {
        let core = self.soft.core();
        if state::store(&mut self.hardware, &mut self.shadows, loaded, core)? {
            self.hardware.invalidate_tlb()?;
        }
        Ok(())
    }

    fn enter_and_exit(&mut self, io: &mut dyn Io, until: Option<Nanos>) -> Result<Exit> {
        loop {
            if self.mark.take() {
                return Ok(Exit::Kicked);
            }
            if self.events.window && self.interruptible()? {
                return Ok(Exit::WindowOpen);
            }
            let within = match until {
                None => None,
                Some(until) => match until - io.now() {
                    0 => return Ok(Exit::Deadline),
                    left => Some(Duration::from_nanos(left)),
                },
            };
            self.events.enter(&mut self.hardware)?;
            if !self.mark.go_in() {
                continue;
            }
            let ran = self.run_hardware(within);
            self.mark.come_out();
            ran?;
            self.events.exited(&self.hardware)?;
            if let Some(exit) = self.handle(io)? {
                return Ok(exit);
            }
        }
    }

    /// Runs the guest until an exit. Where the host refuses deadlines, a kick stands in for them.
    fn run_hardware(&mut self, within: Option<Duration>) -> Result<()> {
        if !self.deadlines_refused {
            if self.hardware.run(within)? {
                return Ok(());
            }
            self.deadlines_refused = true;
        }
        let at = within.and_then(|within| Instant::now().checked_add(within));
        if at.is_some() {
            self.mark.kick_at(at);
        }
        let ran = self.hardware.run(None);
        if at.is_some() {
            self.mark.kick_at(None);
        }
        ran.map(|_| ())
    }

    fn interruptible(&self) -> Result<bool> {
        let blocking = interruptibility::STI | interruptibility::MOV_SS;
        Ok(self.events.next.is_none()
            && self.hardware.read(Field::GUEST_RFLAGS)? & rflags::IF != 0
            && self.hardware.read32(Field::GUEST_INTERRUPTIBILITY)? & blocking == 0)
    }

    /// Keeps a failure for the next `run`.
    fn keep<T>(&mut self, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(failure) => {
                self.failed.get_or_insert(failure.0);
                None
            }
        }
    }

    /// Changes the state as a whole.
    fn change(&mut self, change: impl FnOnce(&mut Cpu)) {
        let loaded = self.load_all();
        let stored = loaded.and_then(|loaded| {
            change(&mut self.soft);
            self.store(Some(&loaded))
        });
        self.keep(stored);
    }
}

impl Vcpu for HvfVcpu {
    fn run(&mut self, io: &mut dyn Io, until: Option<Nanos>) -> Exit {
        if let Some(detail) = self.failed.take() {
            return Exit::Fault { detail };
        }
        let exit = self.enter_and_exit(io, until);
        exit.unwrap_or_else(|failure| Exit::Fault {
            detail: format!("{failure}; {}", dump::registers(&self.hardware)),
        })
    }

    // Device accesses are calls: no read ever waits for its value.
    fn complete_read(&mut self, _value: u64) {}

    fn complete_msr(&mut self, _value: Option<u64>) {}

    fn can_inject(&self) -> bool {
        // What cannot be read fails in the next run too, and is told there.
        self.interruptible().unwrap_or(false)
    }

    fn inject(&mut self, vector: u8) {
        self.events.next = Some(Raw::interrupt(vector));
    }

    fn inject_nmi(&mut self) {
        self.events.nmi = true;
    }

    fn request_window(&mut self, wanted: bool) {
        self.events.window = wanted;
    }

    fn reset(&mut self, kind: Reset) {
        self.events.reset();
        let base = self.tsc_base;
        self.change(|soft| reset(soft, kind, base));
    }

    fn start_ap(&mut self, page: u8) {
        self.change(|soft| soft.core_mut().start_ap(page));
    }

    fn regs(&mut self) -> Regs {
        let loaded = self.load();
        self.keep(loaded);
        self.soft.core().regs()
    }

    fn set_regs(&mut self, regs: &Regs) {
        self.change(|soft| soft.core_mut().set_regs(regs));
    }

    fn set_mtrr(&mut self, msr: u32, value: u64) {
        // A number that is no such register sets nothing.
        let _ = self.soft.core_mut().set_mtrr(msr, value);
    }

    fn retired(&self) -> Option<u64> {
        None
    }

    fn kicker(&self) -> Arc<dyn Kicker> {
        Arc::new(MarkKicker(self.mark.clone()))
    }
}

fn reset(soft: &mut Cpu, kind: Reset, tsc_base: u64) {
    let core = soft.core_mut();
    core.reset(kind == Reset::Init);
    if kind == Reset::PowerOn {
        core.state.msrs.tsc_offset = tsc_base.wrapping_neg();
    }
}
