//! The machine's threads: one for each vCPU, and one for the deadlines of devices.
//!
//! A round goes from power-on to the end that the last vCPU to leave its run loop reports. All vCPUs have reset
//! before the first of them runs, so that no message finds a LAPIC of the round before. Between rounds the vCPUs'
//! threads wait; a restart resets the board, loads memory anew and begins the next round.
//!
//! Lock rank: the mutex in here is taken with nothing held, and nothing but atomics is touched under it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use super::BuildError;
use super::birth::Birth;
use super::board::Board;
use super::load::Program;
use crate::chipset::power::Power;
use crate::engine::Engine;
use crate::engine::run::{Ended, Processor};
use crate::firmware::mtrr;
use crate::spec::Publish;
use crate::x86::regs::Regs;

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest powered it off.
    PoweredOff,
    /// The guest reset it. It can be restarted.
    Reset,
    /// A CPU shut down, as described here.
    TripleFault(String),
    /// The host cannot go on, as the sentence says.
    HostFailure(String),
    /// Somebody called `stop`.
    Stopped,
}

/// A machine that was started.
pub struct Machine {
    shared: Arc<Shared>,
    program: Program,
    threads: Vec<JoinHandle<()>>,
    birth: Birth,
}

struct Shared {
    board: Board,
    state: Mutex<State>,
    changed: Condvar,
    /// When the boot processor entered its loop for the first time.
    first: OnceLock<Instant>,
}

struct State {
    /// How many rounds have begun.
    round: u64,
    /// What the boot processor starts with.
    regs: Regs,
    /// vCPUs that have not reset yet in this round.
    resetting: usize,
    /// vCPUs that have not left the run loop yet in this round.
    running: usize,
    /// Why, if not because of the power switch.
    reason: Option<Outcome>,
    outcome: Option<Outcome>,
    retired: Vec<u64>,
    ending: bool,
}

impl Machine {
    /// Starts the threads and the first round. Memory is loaded already.
    pub(super) fn start(
        board: Board,
        engine: Arc<dyn Engine>,
        program: Program,
        regs: Regs,
        mut birth: Birth,
    ) -> Result<Self, BuildError> {
        let cpus = board.boxes.len();
        let mut machine = Self {
            shared: Arc::new(Shared {
                board,
                state: Mutex::new(State {
                    round: 1,
                    regs,
                    resetting: cpus,
                    running: cpus,
                    reason: None,
                    outcome: None,
                    retired: vec![0; cpus],
                    ending: false,
                }),
                changed: Condvar::new(),
                first: OnceLock::new(),
            }),
            program,
            threads: Vec::with_capacity(cpus + 1),
            birth: birth.clone(),
        };
        for index in 0..cpus as u8 {
            let engine = engine.clone();
            machine.spawn(format!("cpu {index}"), move |shared| {
                shared.run_cpu(index, &*engine);
            })?;
        }
        machine.spawn("timers".to_owned(), |shared| {
            let board = &shared.board;
            while board.timers.sleep(|| board.clock.now()) {
                board.timers.advance_due(board.clock.now());
            }
        })?;
        birth.done("starts the threads");
        machine.birth = birth;
        Ok(machine)
    }

    /// How it came to be.
    pub fn birth(&self) -> &Birth {
        &self.birth
    }

    /// When the guest's first instruction was executed, or was about to be.
    pub fn first_instruction(&self) -> Option<Instant> {
        self.shared.first.get().copied()
    }

    /// Waits until the machine has ended, and tells how.
    pub fn wait(&self) -> Outcome {
        let mut state = self.shared.lock();
        loop {
            match &state.outcome {
                Some(outcome) => return outcome.clone(),
                None => state = self.shared.wait(state),
            }
        }
    }

    /// Ends it.
    pub fn stop(&self) {
        self.shared.lock().reason.get_or_insert(Outcome::Stopped);
        self.shared.board.brake.pull();
    }

    /// Presses the power button: the guest's ACPI hears of it, and where no ACPI listens the machine powers off.
    pub fn press_power_button(&self) {
        self.shared.board.pm.lock().press_power_button();
    }

    /// Begins the next round of a machine that has ended, as after power-on.
    pub fn restart(&self) -> Result<(), BuildError> {
        let shared = &self.shared;
        self.wait();
        shared.board.reset();
        let regs = self.program.load()?;
        let mut state = shared.lock();
        let cpus = state.retired.len();
        state.regs = regs;
        (state.resetting, state.running) = (cpus, cpus);
        (state.reason, state.outcome) = (None, None);
        state.round += 1;
        shared.changed.notify_all();
        Ok(())
    }

    /// The guest's ports that can be reached from the host, and where.
    pub fn published(&self) -> &[Publish] {
        &self.shared.board.published
    }

    /// How many instructions all CPUs have executed until they last left their loops.
    pub fn retired(&self) -> u64 {
        self.shared.lock().retired.iter().sum()
    }

    fn spawn(
        &mut self,
        name: String,
        body: impl FnOnce(&Shared) + Send + 'static,
    ) -> Result<(), BuildError> {
        let shared = self.shared.clone();
        let thread = Builder::new().name(name).spawn(move || {
            hvf_sys::os::thread::matters();
            body(&shared);
        });
        self.threads.push(thread.map_err(BuildError::Thread)?);
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.shared.lock().ending = true;
        self.shared.changed.notify_all();
        self.shared.board.brake.pull();
        self.shared.board.timers.stop();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of a vCPU's thread. One whose vCPU cannot be made ends each round at once, with the reason.
    fn run_cpu(&self, index: u8, engine: &dyn Engine) {
        let mailbox = self.board.boxes[usize::from(index)].clone();
        let vcpu = engine.vcpu(index);
        let mut processor = vcpu.map(|vcpu| Processor::new(index, vcpu, mailbox));
        let mut round = 0;
        while let Some((next, regs)) = self.next_round(round) {
            round = next;
            if let Ok(processor) = &mut processor {
                processor.reset(&mtrr::settings());
                if index == 0 {
                    processor.boot(&regs);
                }
            }
            let mut report = Report {
                shared: self,
                index: index.into(),
                reason: Some(Outcome::HostFailure(PANICKED.to_owned())),
                retired: 0,
            };
            self.all_have_reset();
            match &mut processor {
                Ok(processor) => {
                    if index == 0 {
                        self.first.get_or_init(Instant::now);
                    }
                    let ended = processor.run(&self.board);
                    report.reason = reason(ended, index, processor);
                    report.retired = processor.retired().unwrap_or(0);
                }
                Err(refusal) => report.reason = Some(Outcome::HostFailure(refusal.to_string())),
            }
        }
    }

    /// Waits for the round after `last`. `None` where the machine is going away.
    fn next_round(&self, last: u64) -> Option<(u64, Regs)> {
        let mut state = self.lock();
        loop {
            if state.ending {
                return None;
            }
            if state.round > last {
                return Some((state.round, state.regs.clone()));
            }
            state = self.wait(state);
        }
    }

    /// Waits until no processor is left that will reset in this round.
    fn all_have_reset(&self) {
        let mut state = self.lock();
        state.resetting -= 1;
        if state.resetting == 0 {
            self.changed.notify_all();
        }
        while state.resetting > 0 && !state.ending {
            state = self.wait(state);
        }
    }
}

/// A vCPU's account of its round, given when it goes: also where the thread panics.
struct Report<'a> {
    shared: &'a Shared,
    index: usize,
    reason: Option<Outcome>,
    retired: u64,
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        let board = &self.shared.board;
        let mut state = self.shared.lock();
        if state.reason.is_none() {
            state.reason = self.reason.take();
        }
        state.retired[self.index] = self.retired;
        state.running = state.running.saturating_sub(1);
        if state.running == 0 {
            let power = board.switch.take().map(|power| match power {
                Power::Off => Outcome::PoweredOff,
                Power::Reset => Outcome::Reset,
            });
            let outcome = state.reason.take().or(power);
            state.outcome = Some(outcome.unwrap_or(Outcome::Stopped));
            self.shared.changed.notify_all();
        } else {
            // The others have nothing to do any more.
            board.brake.pull();
        }
    }
}

fn reason(ended: Ended, index: u8, processor: &mut Processor) -> Option<Outcome> {
    match ended {
        Ended::Stopped => None,
        Ended::TripleFault => {
            let regs = processor.regs();
            Some(Outcome::TripleFault(format!(
                "CPU {index} at {:#x}:{:#x}, CR0 {:#x}, CR3 {:#x}, CR4 {:#x}",
                regs.cs.selector, regs.rip, regs.cr0, regs.cr3, regs.cr4
            )))
        }
        Ended::Fault(detail) => Some(Outcome::HostFailure(format!(
            "CPU {index} cannot go on: {detail}"
        ))),
    }
}

/// What is told where a thread ends without an account.
const PANICKED: &str =
    "a CPU's thread failed, which is a mistake in xlaunch; please report what it said above";
