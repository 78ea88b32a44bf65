//! The threads of a session. See the module's head for who they are; each ends by itself when its descriptor or
//! channel does, and those that cannot (a blocked read of our input) end with the process.
//!
//! One bounded channel leads to `run`, which never blocks on anything else: what it hands to the writers is bounded by
//! the session's windows.

use super::clock;
use super::folders::Share;
use super::kernel_log::KernelLog;
use super::line::{self, Election, Frames, Line, Unread, keep_console};
use super::session::{Action, Event, MachineEnd, Moments, OWN_INIT_GRACE, STOP_GRACE, Session};
use super::streams::{SharedAllowance, read_input, read_terminal, write_output};
use super::verdict::Verdict;
use guest::protocol::{Frame, Start, Stream, Window};
use hvf_sys::os::signal::{Signal, Signals, is_ignored};
use hvf_sys::tty::{self, RawMode};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Events that may wait. Whoever has one more waits too.
const EVENTS: usize = 64;
/// How long a machine may take to stop at the very end.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// A running machine, as a session sees it.
pub trait Machine: Send + Sync + 'static {
    /// Waits for its end.
    fn wait(&self) -> MachineEnd;
    /// Starts it again after its end, with new lines: those it had are at their ends. An error is a sentence.
    fn restart(&self) -> Result<Lines, String>;
    /// Ends it. `wait` returns soon after.
    fn stop(&self);
}

/// The lines into the machine, from one start of it to its end.
pub struct Lines {
    /// Those by one of which init will greet.
    pub init: Vec<Line>,
    /// What the kernel prints.
    pub console: Box<dyn Read + Send>,
}

/// What leads into the machine.
pub struct Wiring {
    /// Its lines.
    pub lines: Lines,
    /// The machine itself.
    pub machine: Arc<dyn Machine>,
}

/// What to run, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The command.
    pub start: Start,
    /// How long everything may take.
    pub limit: Option<Duration>,
    /// How long the command may take to end after a SIGTERM of ours; `None` for the usual time.
    pub stop_grace: Option<Duration>,
    /// Whether there is no command but the image's own init. The lines are those of `own_init` then.
    pub own_init: bool,
    /// Whether disks keep what the guest writes, so that it must come to write it.
    pub keep: bool,
    /// Which directories of the host the guest has; their words are on the kernel's command line.
    pub shares: Vec<Share>,
    /// Whether to show the kernel's console on standard error.
    pub show_console: bool,
}

fn session(plan: &Plan) -> Session {
    let session = Session::new(plan.start.clone(), plan.limit, Instant::now());
    let usual = if plan.own_init {
        OWN_INIT_GRACE
    } else {
        STOP_GRACE
    };
    let session = session.stopping_within(plan.stop_grace.unwrap_or(usual));
    if plan.keep {
        session.keeping()
    } else {
        session
    }
}

/// The three streams of the run: our own, as a rule.
pub struct Streams {
    /// What the command reads; the terminal, if it has one.
    pub stdin: File,
    /// What it writes.
    pub stdout: File,
    /// Its other output.
    pub stderr: File,
}

impl Streams {
    /// Those that we were started with.
    pub fn inherited() -> io::Result<Self> {
        Ok(Self {
            stdin: File::from(io::stdin().as_fd().try_clone_to_owned()?),
            stdout: File::from(io::stdout().as_fd().try_clone_to_owned()?),
            stderr: File::from(io::stderr().as_fd().try_clone_to_owned()?),
        })
    }
}

/// What there is to say of a session that is over.
#[derive(Debug)]
pub struct Account {
    /// How it ended.
    pub verdict: Verdict,
    /// The last lines that the guest's kernel printed.
    pub kernel_log: Vec<String>,
    /// When what happened.
    pub moments: Moments,
}

impl Account {
    /// That of a session that could not even begin.
    pub fn failed(sentence: String) -> Self {
        Self {
            verdict: Verdict::Failed(sentence),
            kernel_log: Vec::new(),
            moments: Moments::default(),
        }
    }
}

/// Runs a session to its end.
pub fn run(plan: &Plan, wiring: Wiring, streams: Streams) -> Account {
    match Drive::launch(plan, wiring, streams) {
        Ok(drive) => drive.run(),
        Err(error) => Account::failed(format!(
            "cannot prepare the session: {error}; close some files or programs"
        )),
    }
}

struct Drive {
    session: Session,
    events: Receiver<Event>,
    /// For the threads of the next start.
    sender: SyncSender<Event>,
    frames: Frames,
    stdout: Sender<Vec<u8>>,
    stderr: Sender<Vec<u8>>,
    allowance: SharedAllowance,
    terminal: File,
    raw: Option<RawMode>,
    machine: Arc<dyn Machine>,
    /// The machine has ended and not started again.
    at_rest: bool,
    log: Arc<Mutex<KernelLog>>,
    /// What the kernel's lines end with on our standard error, where they are shown.
    echo: Option<&'static str>,
}

impl Drive {
    fn launch(plan: &Plan, wiring: Wiring, streams: Streams) -> io::Result<Self> {
        let (sender, events) = sync_channel(EVENTS);
        let (stdout, stdout_queue) = channel();
        let (stderr, stderr_queue) = channel();
        let allowance = SharedAllowance::default();
        let has_terminal = plan.start.terminal.is_some();
        let terminal = streams.stdin.try_clone()?;

        let mut signals = catch_signals()?;
        let window = streams.stdin.try_clone()?;
        spawn("signals", &sender, move |events| {
            forward_signals(&mut signals, &window, &events);
        })?;
        spawn("stdin", &sender, {
            let allowance = allowance.clone();
            move |events| {
                let read = if has_terminal {
                    read_terminal
                } else {
                    read_input
                };
                read(streams.stdin, &allowance, &events);
            }
        })?;
        spawn("stdout", &sender, move |events| {
            write_output(streams.stdout, Stream::Stdout, &stdout_queue, &events);
        })?;
        spawn("stderr", &sender, move |events| {
            write_output(streams.stderr, Stream::Stderr, &stderr_queue, &events);
        })?;
        spawn("clock", &sender, |events| clock::watch(&events))?;
        let mut drive = Self {
            session: session(plan),
            events,
            sender,
            // Leads nowhere before the lines are connected.
            frames: Frames::nowhere(),
            stdout,
            stderr,
            allowance,
            terminal,
            raw: None,
            machine: wiring.machine,
            at_rest: false,
            log: Arc::default(),
            echo: plan.show_console.then_some(line_end(has_terminal)),
        };
        drive.connect(wiring.lines)?;
        Ok(drive)
    }

    /// Starts the threads that last from one start of the machine to its end.
    fn connect(&mut self, lines: Lines) -> io::Result<()> {
        let (election, frames) = Election::new(lines.init.len());
        self.frames = frames;
        let election = Arc::new(election);
        for line in lines.init {
            let election = election.clone();
            spawn("link-in", &self.sender, move |events| {
                line::serve(line, &election, &events);
            })?;
        }
        spawn("console", &self.sender, {
            let (log, echo) = (self.log.clone(), self.echo);
            move |events| keep_console(lines.console, &log, echo, &events)
        })?;
        spawn("machine", &self.sender, {
            let machine = self.machine.clone();
            move |events| {
                let _ = events.send(Event::Machine(machine.wait()));
            }
        })
    }

    /// Starts the machine again; gives a sentence where that fails.
    fn restart(&mut self) -> Result<(), String> {
        let lines = self.machine.restart()?;
        self.at_rest = false;
        self.connect(lines)
            .map_err(|error| format!("cannot start the guest again after its reset: {error}; close some files or programs"))
    }

    fn run(mut self) -> Account {
        let verdict = loop {
            let event = self.next_event();
            self.at_rest |= matches!(event, Event::Machine(_));
            if let Some(verdict) = self.handle(event) {
                break verdict;
            }
        };
        drop(self.raw.take());
        self.machine.stop();
        if !self.at_rest {
            self.await_machine();
        }
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        Account {
            verdict,
            kernel_log: log.last_lines(),
            moments: self.session.moments().clone(),
        }
    }

    fn next_event(&self) -> Event {
        let received = match self.session.deadline() {
            Some(at) => self
                .events
                .recv_timeout(at.saturating_duration_since(Instant::now())),
            None => self.events.recv().map_err(RecvTimeoutError::from),
        };
        // We hold a sender ourselves, so that only the time can run out.
        received.unwrap_or(Event::Deadline)
    }

    fn handle(&mut self, event: Event) -> Option<Verdict> {
        let mut todo = self.session.on(event, Instant::now());
        while !todo.is_empty() {
            let mut failure = None;
            for action in todo.drain(..) {
                match action {
                    Action::Finish(verdict) => return Some(verdict),
                    other => failure = failure.or(self.act(other)),
                }
            }
            todo = failure.map_or_else(Vec::new, |sentence| {
                self.session
                    .on(Event::OutputFailed(sentence), Instant::now())
            });
        }
        None
    }

    /// Does one thing; gives a sentence where it cannot be done. A thread that is gone has told why itself.
    fn act(&mut self, action: Action) -> Option<String> {
        match action {
            Action::Send(frame) => return self.send(frame),
            Action::TellTime => return self.send(Frame::Clock(clock::now())),
            Action::Write(Stream::Stderr, bytes) => drop(self.stderr.send(bytes)),
            Action::Write(_, bytes) => drop(self.stdout.send(bytes)),
            Action::AllowInput(bytes) => self.allowance.allow(bytes),
            Action::StopInput => self.allowance.stop(),
            Action::Restart => return self.restart().err(),
            // Since an earlier start of the machine.
            Action::TakeTerminal if self.raw.is_some() => {}
            Action::TakeTerminal => match RawMode::enter(&self.terminal) {
                Ok(raw) => self.raw = Some(raw),
                Err(error) => {
                    return Some(format!(
                        "cannot make the terminal raw: {error}; redirect standard input to run without one"
                    ));
                }
            },
            Action::Finish(_) => {}
        }
        None
    }

    fn send(&self, frame: Frame) -> Option<String> {
        let unread =
            |Unread| "the guest broke the session's protocol by reading nothing that it is sent";
        self.frames
            .send(frame)
            .map_err(unread)
            .err()
            .map(str::to_owned)
    }

    /// Lets the machine come to rest, so that its disks are closed in order.
    fn await_machine(&self) {
        let until = Instant::now() + STOP_PATIENCE;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            match self.events.recv_timeout(left) {
                Ok(Event::Machine(_)) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}

fn spawn(
    name: &str,
    events: &SyncSender<Event>,
    body: impl FnOnce(SyncSender<Event>) + Send + 'static,
) -> io::Result<()> {
    let events = events.clone();
    let builder = thread::Builder::new().name(name.to_owned());
    builder.spawn(move || body(events)).map(drop)
}

/// A raw terminal does not return the carriage by itself.
fn line_end(raw_terminal: bool) -> &'static str {
    if raw_terminal { "\r\n" } else { "\n" }
}

/// Catches what the session heeds. Whoever was started by nohup does not want to know that the terminal hangs up.
fn catch_signals() -> io::Result<Signals> {
    let mut signals = vec![
        Signal::INTERRUPT,
        Signal::QUIT,
        Signal::USER_1,
        Signal::USER_2,
        Signal::TERMINATE,
        Signal::WINDOW,
    ];
    if !is_ignored(Signal::HANGUP)? {
        signals.push(Signal::HANGUP);
    }
    Signals::catch(&signals)
}

fn forward_signals(signals: &mut Signals, terminal: &File, events: &SyncSender<Event>) {
    while let Ok(signal) = signals.wait() {
        let event = if signal != Signal::WINDOW {
            Event::Signalled(signal.linux_number())
        } else if let Ok(size) = tty::size(terminal) {
            Event::Resized(Window {
                rows: size.rows,
                columns: size.columns,
            })
        } else {
            continue;
        };
        if events.send(event).is_err() {
            return;
        }
    }
}
