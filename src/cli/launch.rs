//! Does what is meant: the machine on one side, our streams and terminal on the other, a session between them.

use super::meant::Meant;
use super::outcome::{self, Facts, Sink};
use super::timeline::{self, Story};
use super::{fail, on_terminal, say};
use crate::backend::console::{Hook, Input, Output, serial_line};
use crate::backend::disk::Disk;
use crate::backend::pty;
use crate::machine::{self, Cables, Machine, Outcome};
use crate::sandbox::{
    self, Account, Line, Lines, MachineEnd, Moments, Services, Streams, Verdict, Wiring, own_init,
};
use crate::spec::{Net, Publish};
use guest::protocol::Window;
use hvf_sys::os::process;
use hvf_sys::os::signal::{self, Signal};
use hvf_sys::tty;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::{Duration, Instant};

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

/// Runs the machine and the session in it, and gives the exit code. We began at `begun`.
pub(super) fn launch(meant: &Meant, begun: Instant) -> u8 {
    let reports = match Reports::open(meant, begun) {
        Ok(reports) => reports,
        Err(sentence) => return fail(&sentence),
    };
    // A disk that reaches the limit of `ulimit -f` is to give the guest an error, as a full one does. There is no such
    // signal that cannot be ignored.
    let _ = signal::ignore(Signal::FILE_SIZE);
    let (account, machine) = match prepare(meant) {
        Ok((machine, lines, streams)) => {
            if meant.plan.start.terminal.is_some() && io::stderr().is_terminal() {
                say(&"Ctrl-] three times within a second leaves the sandbox");
            }
            let wiring = Wiring {
                lines,
                machine: machine.clone(),
            };
            (sandbox::run(&meant.plan, wiring, streams), Some(machine))
        }
        Err(sentence) => (Account::failed(sentence), None),
    };
    let written = reports.write(&account, machine.as_deref());
    let code = tell(meant, &account.verdict, &account.kernel_log);
    match written {
        Ok(()) => code,
        Err(sentence) => fail(&sentence),
    }
}

/// What is to be written when all is over.
struct Reports {
    result: Option<Sink>,
    timeline: Option<Sink>,
    begun: Instant,
    /// How long the process had existed then.
    age: Option<Duration>,
    understood: Instant,
}

impl Reports {
    /// Opens the files, so that what cannot be written is told before anything is started.
    fn open(meant: &Meant, begun: Instant) -> Result<Self, String> {
        let understood = Instant::now();
        let age = process::age().map(|age| age.saturating_sub(begun.elapsed()));
        let create = |path: &Option<String>| path.as_deref().map(Sink::create).transpose();
        Ok(Self {
            result: create(&meant.result)?,
            timeline: create(&meant.timeline)?,
            begun,
            age,
            understood,
        })
    }

    /// Writes them. A run without a machine has no drawing.
    fn write(self, account: &Account, machine: Option<&Launched>) -> Result<(), String> {
        let over = Instant::now();
        let moments = &account.moments;
        let machine = machine.map(|it| &*it.machine);
        if let Some(sink) = self.result {
            let facts = facts(moments, machine, over - self.begun);
            let result = outcome::result(&account.verdict, &facts);
            sink.write(&format!("{result}\n"))?;
        }
        let (Some(sink), Some(machine)) = (self.timeline, machine) else {
            return Ok(());
        };
        sink.write(&timeline::draw(&Story {
            begun: self.begun,
            age: self.age,
            understood: self.understood,
            birth: machine.birth(),
            first: machine.first_instruction(),
            moments,
            over,
        }))
    }
}

/// What a result says besides the verdict.
fn facts(moments: &Moments, machine: Option<&Machine>, time: Duration) -> Facts {
    let command = moments.ended.zip(moments.started);
    let retired = machine.map(Machine::retired);
    Facts {
        time,
        command: command.map(|(ended, started)| ended.saturating_duration_since(started)),
        engine: machine.map(|machine| machine.birth().engine),
        // Only the software CPU counts.
        instructions: retired.filter(|&count| count > 0),
    }
}

fn prepare(meant: &Meant) -> Result<(Arc<Launched>, Lines, Streams), String> {
    let streams = Streams::inherited().map_err(|error| {
        format!("cannot take over the standard streams: {error}; raise the limit on open files")
    })?;
    let (com1, console, keyboard) = serial_line();
    let (com2, from_guest, to_guest) = serial_line();
    let (console_hook, com2_hook) = (console.hook(), from_guest.hook());
    let (pci_uart, sent, received) = serial_line();
    let folders = sandbox::folders::open(&meant.plan.shares)?;
    let services = Services::new(folders).map_err(cannot_connect)?;
    let cables = Cables {
        com1,
        com2,
        pci_uart,
        link: services.network(),
    };
    meant
        .root()
        .map_or(Ok(()), Disk::check_root)
        .map_err(|error| error.to_string())?;
    let machine = machine::build(&meant.machine, cables).map_err(|error| error.to_string())?;
    for published in chosen(&meant.machine.net, machine.published()) {
        say(&format!("the guest's port {published}"));
    }
    if meant.machine.pci_uart {
        let name = pty::attach(sent, received).map_err(|error| {
            format!("cannot open a pseudo-terminal for --pci-uart: {error}; leave --pci-uart out")
        })?;
        say(&format!("the PCI serial port leads to {}", name.display()));
    }
    let launched = Launched {
        machine: Arc::new(machine),
        console: console_hook,
        com2: com2_hook,
        services,
        own_init: meant.plan.own_init,
    };
    let lines = launched.lines((console, keyboard), (from_guest, to_guest))?;
    Ok((Arc::new(launched), lines, streams))
}

/// The published ports whose place on the host was left open, each with where it is.
fn chosen(net: &Net, published: &[Publish]) -> Vec<String> {
    let Net::User(user) = net else {
        return Vec::new();
    };
    let asked = user.publish.iter().zip(published);
    asked
        .filter(|(asked, _)| asked.host.port() == 0)
        .map(|(_, it)| format!("{}{} is at {}", it.guest, it.protocol, it.host))
        .collect()
}

fn cannot_connect(error: io::Error) -> String {
    format!("cannot connect the guest: {error}; close some files or programs")
}

/// The machine as its session sees it: its lines' calls last as long as its rounds.
struct Launched {
    machine: Arc<Machine>,
    console: Hook,
    com2: Hook,
    services: Services,
    own_init: bool,
}

impl Launched {
    /// The lines of one round.
    fn lines(&self, console: (Output, Input), com2: (Output, Input)) -> Result<Lines, String> {
        let (console, keyboard) = console;
        let link = self.services.listen().map_err(cannot_connect)?;
        if self.own_init {
            let machine = self.machine.clone();
            let button = Box::new(move || machine.press_power_button());
            return own_init(Box::new(console), Box::new(keyboard), button).map_err(cannot_connect);
        }
        let (from_guest, to_guest) = com2;
        let com2 = Line {
            from_guest: Box::new(from_guest),
            to_guest: Box::new(to_guest),
        };
        Ok(Lines {
            init: vec![link, com2],
            console: Box::new(console),
        })
    }
}

impl sandbox::Machine for Launched {
    fn wait(&self) -> MachineEnd {
        let started = Instant::now();
        let outcome = self.machine.wait();
        self.console.hang_up();
        self.com2.hang_up();
        self.services.hang_up();
        let (retired, run) = (self.machine.retired(), started.elapsed());
        log::info!("the machine ended: {outcome:?}");
        log::info!("{retired} guest instructions in {:.3} s", run.as_secs_f64());
        match outcome {
            // Only the session stops it, and then it does not ask how it ended.
            Outcome::PoweredOff | Outcome::Stopped => MachineEnd::PoweredOff,
            Outcome::Reset => MachineEnd::Reset,
            Outcome::TripleFault(detail) => MachineEnd::TripleFault(detail),
            Outcome::HostFailure(sentence) => MachineEnd::Failed(sentence),
        }
    }

    fn restart(&self) -> Result<Lines, String> {
        // Before the machine can send anything.
        self.services.pick_up();
        let lines = self.lines(self.console.pick_up(), self.com2.pick_up())?;
        self.machine.restart().map_err(|error| error.to_string())?;
        Ok(lines)
    }

    fn stop(&self) {
        self.machine.stop();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Protocol, UserNet};

    #[test]
    fn only_ports_that_were_chosen_are_said() {
        let publish = |host: &str, protocol| Publish {
            host: host.parse().unwrap(),
            guest: 80,
            protocol,
        };
        let net = Net::User(UserNet {
            allow_host: false,
            publish: vec![
                publish("127.0.0.1:8080", Protocol::Tcp),
                publish("127.0.0.1:0", Protocol::Tcp),
                publish("[::1]:0", Protocol::Udp),
            ],
        });
        let published = [
            publish("127.0.0.1:8080", Protocol::Tcp),
            publish("127.0.0.1:4000", Protocol::Tcp),
            publish("[::1]:5000", Protocol::Udp),
        ];
        let said = chosen(&net, &published);
        assert_eq!(said, ["80 is at 127.0.0.1:4000", "80/udp is at [::1]:5000"]);
        assert!(chosen(&Net::Nothing, &[]).is_empty());
    }
}
