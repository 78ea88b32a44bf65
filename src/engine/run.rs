//! The one run loop: scan the LAPIC, interrupt, run, handle the exit.
//!
//! A processor's accesses meet its own LAPIC first, the page as well as the MSRs, then the machine. What the LAPIC
//! wants of others goes out at once; what it has for its own CPU is looked at when `Vcpu::run` has returned, so an
//! access that makes an interrupt deliverable, or the timer's deadline earlier, kicks its own vCPU.
//!
//! Not modelled: an INIT of the boot processor resets the machine, since its reset vector is firmware that does
//! just that; an NMI to a processor that waits for its start-up message is lost.

use std::sync::Arc;
use std::time::Duration;

use super::park::Parker;
use super::{Exit, Kicker, Platform, Reset, Vcpu};
use crate::bus::{Nanos, Width};
use crate::chipset::lapic::{Effect, Lapic, Work};
use crate::chipset::mailbox::Mailbox;
use crate::cpu::io::Io;
use crate::x86::regs::Regs;

/// Why a processor left the loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The machine asked for it. `run` may be called again.
    Stopped,
    /// The guest killed its CPU.
    TripleFault,
    /// The engine cannot go on; what happened, for the user.
    Fault(String),
}

/// What a processor does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    Runs,
    Halted,
    WaitsForStartUp,
}

/// A vCPU with its LAPIC: what one thread owns.
pub struct Processor {
    index: usize,
    vcpu: Box<dyn Vcpu>,
    kicker: Arc<dyn Kicker>,
    lapic: Lapic,
    parker: Arc<Parker>,
    activity: Activity,
    window: bool,
}

impl Processor {
    /// Processor number `index`, as after power-on. Its LAPIC takes over `mailbox`, which nobody else may own.
    pub fn new(index: u8, vcpu: Box<dyn Vcpu>, mailbox: Arc<Mailbox>) -> Self {
        let kicker = vcpu.kicker();
        let parker = Arc::new(Parker::default());
        mailbox.on_post({
            let (kicker, parker) = (kicker.clone(), parker.clone());
            move || {
                kicker.kick();
                parker.unpark();
            }
        });
        Self {
            index: index.into(),
            vcpu,
            kicker,
            lapic: Lapic::new(index, mailbox),
            parker,
            activity: first_activity(index.into()),
            window: false,
        }
    }

    /// Returns to the power-on state, with the memory types that firmware sets.
    pub fn reset(&mut self, mtrrs: &[(u32, u64)]) {
        let Self {
            index,
            vcpu,
            kicker: _,
            lapic,
            parker: _,
            activity,
            window,
        } = self;
        vcpu.reset(Reset::PowerOn);
        vcpu.request_window(false);
        for &(msr, value) in mtrrs {
            vcpu.set_mtrr(msr, value);
        }
        lapic.reset();
        *activity = first_activity(*index);
        *window = false;
    }

    /// Prepares the boot processor as firmware hands it over: these registers, and the LAPIC in virtual wire mode.
    pub fn boot(&mut self, regs: &Regs) {
        self.vcpu.set_regs(regs);
        self.lapic.set_virtual_wire();
    }

    /// The registers, while it does not run.
    pub fn regs(&mut self) -> Regs {
        self.vcpu.regs()
    }

    /// How many instructions it has executed, where the engine counts them.
    pub fn retired(&self) -> Option<u64> {
        self.vcpu.retired()
    }

    /// Runs until the machine says stop or the processor cannot go on.
    pub fn run(&mut self, platform: &dyn Platform) -> Ended {
        while !platform.must_stop() {
            let work = self.lapic.scan(platform.now());
            self.attend(work, platform);
            if self.activity == Activity::WaitsForStartUp {
                self.parker.park(None);
                continue;
            }
            self.interrupt(platform);
            if self.activity == Activity::Halted {
                self.sleep(platform);
                continue;
            }
            if let Some(ended) = self.step(platform) {
                return ended;
            }
        }
        Ended::Stopped
    }

    fn attend(&mut self, work: Work, platform: &dyn Platform) {
        if !work.released.is_empty() {
            platform.redirected(&work.released);
        }
        if work.init {
            self.init(platform);
        }
        if let (Some(page), Activity::WaitsForStartUp) = (work.start_up, self.activity) {
            self.vcpu.start_ap(page);
            self.activity = Activity::Runs;
        }
        if work.nmi && self.activity != Activity::WaitsForStartUp {
            self.vcpu.inject_nmi();
            self.activity = Activity::Runs;
        }
    }

    fn init(&mut self, platform: &dyn Platform) {
        if self.index == 0 {
            return platform.reset_machine();
        }
        let unserved = self.lapic.init();
        self.vcpu.reset(Reset::Init);
        self.set_window(false);
        self.activity = Activity::WaitsForStartUp;
        platform.redirected(&unserved);
    }

    /// Interrupts the vCPU if something is pending and it can be, and asks for a window if more is to come.
    fn interrupt(&mut self, platform: &dyn Platform) {
        if self.lapic.wants_interrupt()
            && self.vcpu.can_inject()
            && let Some(vector) = self.next_vector(platform)
        {
            self.vcpu.inject(vector);
            self.activity = Activity::Runs;
        }
        let wanted = self.lapic.wants_interrupt();
        self.set_window(wanted);
    }

    /// Takes the vector to interrupt with. The 8259 pair's comes first, and may have gone away by now.
    fn next_vector(&mut self, platform: &dyn Platform) -> Option<u8> {
        if self.lapic.has_ext_int() {
            self.lapic.ext_int_taken();
            if let Some(vector) = platform.acknowledge() {
                return Some(vector);
            }
        }
        let vector = self.lapic.pending()?;
        self.lapic.accept(vector);
        Some(vector)
    }

    fn set_window(&mut self, wanted: bool) {
        if self.window != wanted {
            self.window = wanted;
            self.vcpu.request_window(wanted);
        }
    }

    fn sleep(&self, platform: &dyn Platform) {
        let until = self.lapic.deadline();
        let timeout = until.map(|at| Duration::from_nanos(at - platform.now()));
        if timeout != Some(Duration::ZERO) {
            self.parker.park(timeout);
        }
    }

    fn step(&mut self, platform: &dyn Platform) -> Option<Ended> {
        let until = self.lapic.deadline();
        let mut reach = Reach {
            index: self.index,
            lapic: &mut self.lapic,
            platform,
            kicker: &*self.kicker,
            until,
            is_expected: self.window,
        };
        let vcpu = &mut *self.vcpu;
        match vcpu.run(&mut reach, until) {
            Exit::PortIn { port, width } => {
                vcpu.complete_read(reach.port_read(port, width).into());
            }
            Exit::PortOut { port, width, value } => reach.port_write(port, width, value),
            Exit::MmioRead { gpa, width } => vcpu.complete_read(reach.mmio_read(gpa, width)),
            Exit::MmioWrite { gpa, width, value } => reach.mmio_write(gpa, width, value),
            Exit::MsrRead { msr } => vcpu.complete_msr(reach.msr_read(msr)),
            Exit::MsrWrite { msr, value } => {
                vcpu.complete_msr(reach.msr_write(msr, value).map(|()| 0));
            }
            Exit::Halt => self.activity = Activity::Halted,
            Exit::WindowOpen | Exit::Kicked | Exit::Deadline => {}
            Exit::TripleFault => return Some(Ended::TripleFault),
            Exit::Fault { detail } => return Some(Ended::Fault(detail)),
        }
        None
    }
}

fn first_activity(index: usize) -> Activity {
    match index {
        0 => Activity::Runs,
        _ => Activity::WaitsForStartUp,
    }
}

/// What a running vCPU reaches: its own LAPIC first, then the machine.
struct Reach<'a> {
    index: usize,
    lapic: &'a mut Lapic,
    platform: &'a dyn Platform,
    kicker: &'a dyn Kicker,
    /// When the vCPU returns in any case.
    until: Option<Nanos>,
    /// Whether the vCPU returns as soon as it can be interrupted.
    is_expected: bool,
}

impl Reach<'_> {
    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::None => {}
            Effect::Send(message) => self.platform.send(self.index, &message),
            Effect::Eoi(vector) => self.platform.end_of_interrupt(vector),
            Effect::Redirected(unserved) => self.platform.redirected(&unserved),
        }
        self.recheck();
    }

    /// Makes the vCPU return where it would otherwise run past an interrupt or a new deadline.
    fn recheck(&self) {
        let is_sooner = match (self.lapic.deadline(), self.until) {
            (Some(new), Some(old)) => new < old,
            (new, _) => new.is_some(),
        };
        if is_sooner || !self.is_expected && self.lapic.wants_interrupt() {
            self.kicker.kick();
        }
    }
}

impl Io for Reach<'_> {
    fn port_read(&mut self, port: u16, width: Width) -> u32 {
        self.platform.port_read(port, width)
    }

    fn port_write(&mut self, port: u16, width: Width, value: u32) {
        self.platform.port_write(port, width, value);
    }

    fn mmio_read(&mut self, gpa: u64, width: Width) -> u64 {
        if !self.lapic.claims(gpa) {
            return self.platform.mmio_read(gpa, width);
        }
        let value = self.lapic.mmio_read(gpa, width, self.platform.now());
        self.recheck();
        value
    }

    fn mmio_write(&mut self, gpa: u64, width: Width, value: u64) {
        if !self.lapic.claims(gpa) {
            return self.platform.mmio_write(gpa, width, value);
        }
        let now = self.platform.now();
        let effect = self.lapic.mmio_write(gpa, width, value, now);
        self.apply(effect);
    }

    fn msr_read(&mut self, msr: u32) -> Option<u64> {
        let value = self.lapic.msr_read(msr, self.platform.now());
        self.recheck();
        value
    }

    fn msr_write(&mut self, msr: u32, value: u64) -> Option<()> {
        let now = self.platform.now();
        let effect = self.lapic.msr_write(msr, value, now)?;
        self.apply(effect);
        Some(())
    }

    fn cr8(&mut self) -> u64 {
        self.lapic.cr8()
    }

    fn set_cr8(&mut self, tpr: u64) {
        self.lapic.set_cr8(tpr);
        self.recheck();
    }

    fn now(&mut self) -> Nanos {
        self.platform.now()
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
