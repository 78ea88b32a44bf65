//! A scripted vCPU: drives the run loop, and the machine around it, without any hypervisor.
//!
//! It executes a list of steps instead of instructions, and keeps the rules that every engine keeps: a kick is
//! never lost, an injected vector is taken at the next run, an NMI blocks further ones until IRET.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::{Exit, Kicker, Reset, Vcpu};
use crate::bus::Nanos;
use crate::cpu::io::Io;
use crate::x86::regs::Regs;

type Act = Box<dyn FnMut(&mut dyn Io)>;
type Handler = Box<dyn FnMut(u8, &mut dyn Io)>;

/// One step of a script.
pub(crate) enum Step {
    /// Does something to the machine, as an instruction would.
    Do(Act),
    /// Leaves with this exit, like an engine whose device accesses are exits.
    Leave(Exit),
    /// Enables interrupts.
    Sti,
    /// Disables interrupts.
    Cli,
    /// Returns from an interrupt or NMI handler.
    Iret,
    /// HLT.
    Halt,
    /// Spins until interrupted, unless that has happened since the last spin.
    Spin,
    /// Goes back to the first step.
    Again,
}

/// What happened to the vCPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Interrupt(u8),
    Nmi,
    Read(u64),
    Msr(Option<u64>),
    Started(u8),
    Reset(Reset),
    Window(bool),
}

/// What has happened so far, as other threads see it.
#[derive(Clone, Default)]
pub(crate) struct Log {
    events: Arc<(Mutex<Vec<Event>>, Condvar)>,
}

impl Log {
    fn push(&self, event: Event) {
        self.events.0.lock().unwrap().push(event);
        self.events.1.notify_all();
    }

    /// All events.
    pub(crate) fn all(&self) -> Vec<Event> {
        self.events.0.lock().unwrap().clone()
    }

    /// Waits until `event` has happened `count` times. False where ten seconds are not enough.
    pub(crate) fn wait(&self, event: &Event, count: usize) -> bool {
        let events = self.events.0.lock().unwrap();
        let is_missing =
            |events: &mut Vec<Event>| events.iter().filter(|&e| e == event).count() < count;
        let limit = Duration::from_secs(10);
        !self
            .events
            .1
            .wait_timeout_while(events, limit, is_missing)
            .unwrap()
            .1
            .timed_out()
    }
}

/// The scripted vCPU. What an interrupt handler does is `handler`; interrupts are disabled meanwhile.
pub(crate) struct Fake {
    steps: Vec<Step>,
    next: usize,
    handler: Handler,
    log: Log,
    kicks: Arc<Attention>,
    is_enabled: bool,
    injected: VecDeque<u8>,
    nmi: bool,
    nmi_blocked: bool,
    was_interrupted: bool,
    window: bool,
    regs: Regs,
}

impl Fake {
    /// A vCPU with this script, whose interrupt handler ends interrupts at the xAPIC.
    pub(crate) fn new(steps: Vec<Step>) -> Self {
        Self {
            steps,
            next: 0,
            handler: Box::new(|_, io| io.mmio_write(0xfee0_00b0, crate::bus::Width::Dword, 0)),
            log: Log::default(),
            kicks: Arc::default(),
            is_enabled: false,
            injected: VecDeque::new(),
            nmi: false,
            nmi_blocked: false,
            was_interrupted: false,
            window: false,
            regs: Regs::power_on(0),
        }
    }

    /// Replaces the interrupt handler.
    pub(crate) fn with_handler(mut self, handler: impl FnMut(u8, &mut dyn Io) + 'static) -> Self {
        self.handler = Box::new(handler);
        self
    }

    /// What happens to it.
    pub(crate) fn log(&self) -> Log {
        self.log.clone()
    }

    /// Takes what is injected.
    fn take_interrupts(&mut self, io: &mut dyn Io) {
        if self.nmi && !self.nmi_blocked {
            (self.nmi, self.nmi_blocked) = (false, true);
            self.log.push(Event::Nmi);
            self.was_interrupted = true;
        }
        while let Some(vector) = self.injected.pop_front() {
            (self.handler)(vector, io);
            self.log.push(Event::Interrupt(vector));
            self.was_interrupted = true;
        }
    }
}

impl Vcpu for Fake {
    fn run(&mut self, io: &mut dyn Io, until: Option<Nanos>) -> Exit {
        loop {
            self.take_interrupts(io);
            if self.kicks.take() {
                return Exit::Kicked;
            }
            if until.is_some_and(|at| at <= io.now()) {
                return Exit::Deadline;
            }
            if self.window && self.can_inject() {
                return Exit::WindowOpen;
            }
            let Some(step) = self.steps.get_mut(self.next) else {
                return Exit::Fault {
                    detail: "the script is over".into(),
                };
            };
            self.next += 1;
            match step {
                Step::Do(act) => act(io),
                Step::Leave(exit) => return exit.clone(),
                Step::Sti => self.is_enabled = true,
                Step::Cli => self.is_enabled = false,
                Step::Iret => self.nmi_blocked = false,
                Step::Halt => return Exit::Halt,
                Step::Spin if self.was_interrupted => self.was_interrupted = false,
                Step::Spin => {
                    self.next -= 1;
                    self.kicks.wait(until.map(|at| at - io.now()));
                }
                Step::Again => self.next = 0,
            }
        }
    }

    fn complete_read(&mut self, value: u64) {
        self.log.push(Event::Read(value));
    }

    fn complete_msr(&mut self, value: Option<u64>) {
        self.log.push(Event::Msr(value));
    }

    fn can_inject(&self) -> bool {
        self.is_enabled && self.injected.is_empty()
    }

    fn inject(&mut self, vector: u8) {
        assert!(self.can_inject(), "injected {vector:#x} while closed");
        self.injected.push_back(vector);
    }

    fn inject_nmi(&mut self) {
        self.nmi = true;
    }

    fn request_window(&mut self, wanted: bool) {
        self.window = wanted;
        self.log.push(Event::Window(wanted));
    }

    fn reset(&mut self, kind: Reset) {
        (self.next, self.is_enabled) = (0, false);
        (self.nmi, self.nmi_blocked) = (false, false);
        self.injected.clear();
        self.log.push(Event::Reset(kind));
    }

    fn start_ap(&mut self, page: u8) {
        self.regs.start_at(page);
        self.log.push(Event::Started(page));
    }

    fn regs(&mut self) -> Regs {
        self.regs.clone()
    }

    fn set_regs(&mut self, regs: &Regs) {
        self.regs = regs.clone();
    }

    fn set_mtrr(&mut self, _msr: u32, _value: u64) {}

    fn retired(&self) -> Option<u64> {
        None
    }

    fn kicker(&self) -> Arc<dyn Kicker> {
        self.kicks.clone()
    }
}

/// Kicks that were not yet taken.
#[derive(Default)]
struct Attention {
    wanted: Mutex<bool>,
    wake: Condvar,
}

impl Attention {
    fn take(&self) -> bool {
        std::mem::take(&mut *self.wanted.lock().unwrap())
    }

    fn wait(&self, ns: Option<u64>) {
        let timeout = Duration::from_nanos(ns.unwrap_or(u64::MAX));
        let wanted = self.wanted.lock().unwrap();
        drop(
            self.wake
                .wait_timeout_while(wanted, timeout, |wanted| !*wanted)
                .unwrap(),
        );
    }
}

impl Kicker for Attention {
    fn kick(&self) {
        *self.wanted.lock().unwrap() = true;
        self.wake.notify_all();
    }
}
