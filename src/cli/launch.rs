//! Does what is meant: the machine on one side, our streams and terminal on the other, a session between them.

use super::meant::Meant;
use super::{on_terminal, say};
use crate::backend::console::serial_line;
use crate::machine::{self, Cables, Machine, Outcome};
use crate::sandbox::{self, MachineEnd, Streams, Verdict, Wiring};
use guest::protocol::Window;
use hvf_sys::tty;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Our terminal's size, if the guest is to have a terminal.
pub(super) fn terminal() -> Option<Window> {
    if !on_terminal() {
        return None;
    }
    // A terminal that does not tell its size is one all the same.
    let size = tty::size(io::stdout()).unwrap_or(tty::Size {
        rows: 0,
        columns: 0,
    });
    Some(Window {
        rows: size.rows,
        columns: size.columns,
    })
}

/// Runs the machine and the session in it, and gives the exit code.
pub(super) fn launch(meant: &Meant) -> u8 {
    match start(meant) {
        Ok((wiring, streams)) => {
            let (verdict, kernel_log) = sandbox::run(&meant.plan, wiring, streams);
            tell(meant, &verdict, &kernel_log)
        }
        Err(sentence) => tell(meant, &Verdict::Failed(sentence), &[]),
    }
}

/// Builds the machine with a session's cables, and starts it.
fn start(meant: &Meant) -> Result<(Wiring, Streams), String> {
    let streams = Streams::inherited().map_err(|error| {
        format!("cannot use our standard streams: {error}; start xlaunch with all three open")
    })?;
    let (com1, console, _) = serial_line();
    let (com2, from_guest, to_guest) = serial_line();
    let cables = Cables { com1, com2 };
    let machine = machine::build(&meant.machine, cables).map_err(|error| error.to_string())?;
    let wiring = Wiring {
        from_guest: Box::new(from_guest),
        to_guest: Box::new(to_guest),
        console: Box::new(console),
        machine: Arc::new(Running(Mutex::new(Some(Arc::new(machine))))),
    };
    Ok((wiring, streams))
}

/// The machine as a session sees it: one round and no more, since a sandbox that resets has come to its end. It
/// goes when it has ended, so that whoever reads its serial lines sees their ends too.
struct Running(Mutex<Option<Arc<Machine>>>);

impl Running {
    fn machine(&self) -> MutexGuard<'_, Option<Arc<Machine>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl sandbox::Machine for Running {
    fn wait(&self) -> MachineEnd {
        let machine = self.machine().clone();
        let outcome = machine.map_or(Outcome::Stopped, |machine| machine.wait());
        drop(self.machine().take());
        match outcome {
            Outcome::PoweredOff | Outcome::Stopped => MachineEnd::PoweredOff,
            Outcome::Reset => MachineEnd::Reset,
            Outcome::TripleFault(detail) => MachineEnd::TripleFault(detail),
            Outcome::HostFailure(sentence) => MachineEnd::Failed(sentence),
        }
    }

    fn stop(&self) {
        if let Some(machine) = &*self.machine() {
            machine.stop();
        }
    }
}

/// Tells how it ended, if that needs words.
fn tell(meant: &Meant, verdict: &Verdict, kernel_log: &[String]) -> u8 {
    if verdict.wants_kernel_log() && !meant.plan.show_console && !kernel_log.is_empty() {
        say(&"the guest's kernel said last:");
        for line in kernel_log {
            eprintln!("    {line}");
        }
    }
    let sentence = verdict.to_string();
    if !sentence.is_empty() {
        say(&sentence);
    }
    verdict.code()
}
