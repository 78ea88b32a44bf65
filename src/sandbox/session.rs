//! The launcher's half of a session: what happens, and what follows from it.
//!
//! A plain state machine. It owns no thread, stream or clock, so a test is a line of events and the actions expected.
//!
//! Order of an ordinary run: the guest greets (`Booting` ends), the command runs, its end arrives behind all its
//! output, the output is passed on (`Flushing`), the guest is ordered off (`PoweringOff`), the verdict is given.
//! A machine that ends early is judged only when the link and the console have been read to their ends, because
//! the reason may still lie in them. A reset that was no death starts it again: the guest greets anew and the command
//! runs from its beginning, with what is left of the input.
//!
//! Signals that we get are the command's where it has no terminal of its own and is there to get them, and otherwise end
//! the session. SIGTERM is the power button: the command gets it, and if that does not end everything in time, the guest is
//! ordered off. A second one pulls the plug. Signals have Linux's numbers here, whatever the host's are.

use super::verdict::Verdict;
use guest::protocol::{DATA_MAX, Frame, Start, Stream, VERSION, WINDOW, Window};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a guest may take to power off once it is ordered to. Nothing is lost by ending it where its disks are
/// throwaway.
const GRACE: Duration = Duration::from_secs(2);
/// The same where disks keep what it writes: it has to write it first. Whoever does not want to wait sends a signal.
const KEEPING_GRACE: Duration = Duration::from_secs(10 * 60);
/// How long what a dead machine left in its lines may take to be read, and a panicked kernel to reset.
const SETTLE: Duration = Duration::from_secs(2);
/// How long a command may take to end after a SIGTERM of ours, where nothing else is said.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(10);
/// The same for a whole system, which gives each of its services time to end.
pub(super) const OWN_INIT_GRACE: Duration = Duration::from_secs(90);
/// So many SIGINTs within `IMPATIENCE` end the session, though the command may ignore them.
const INTERRUPTS: usize = 3;
const IMPATIENCE: Duration = Duration::from_secs(1);

const SIGINT: u8 = 2;
const SIGTERM: u8 = 15;
/// The signals that mean nothing to anybody but the command: SIGUSR1 and SIGUSR2.
const FOR_THE_COMMAND_ALONE: [u8; 2] = [10, 12];

/// How the machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachineEnd {
    /// The guest powered it off.
    PoweredOff,
    /// The guest reset it.
    Reset,
    /// A CPU met a triple fault, described here.
    TripleFault(String),
    /// We cannot go on, as the sentence says.
    Failed(String),
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The guest sent this.
    Frame(Frame),
    /// The guest broke the protocol in this way.
    LinkBroken(String),
    /// Nothing more comes from the guest.
    LinkEnded,
    /// Our standard input had this.
    Input(Vec<u8>),
    /// Our standard input ended.
    InputEnded,
    /// This much of a stream went out.
    Passed(Stream, u32),
    /// Nobody reads this stream of ours any more.
    ReaderGone(Stream),
    /// This stream of ours cannot be written, as the sentence says.
    OutputFailed(String),
    /// Our terminal has a new size.
    Resized(Window),
    /// The person typed the way out.
    Escaped,
    /// We got this signal, by Linux's number.
    Signalled(u8),
    /// The guest's kernel printed its last line, with this reason.
    Panicked(String),
    /// Nothing more comes from the guest's console.
    ConsoleEnded,
    /// The machine ended.
    Machine(MachineEnd),
    /// Our clock was set, or we slept.
    ClockMoved,
    /// The time that `deadline` told has come.
    Deadline,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Send this to the guest.
    Send(Frame),
    /// Tell the guest what time it is.
    TellTime,
    /// Write this to our stream, and tell with `Passed`.
    Write(Stream, Vec<u8>),
    /// Make our terminal raw, where it is not yet.
    TakeTerminal,
    /// Start the machine again.
    Restart,
    /// Read so many more bytes of our standard input.
    AllowInput(u32),
    /// Read no more of it.
    StopInput,
    /// The end.
    Finish(Verdict),
}

/// When what happened, each for the first time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moments {
    /// Init greeted us.
    pub greeted: Option<Instant>,
    /// How long the guest's kernel said it had run when init began, and at the greeting.
    pub guest_clock: Option<(Duration, Duration)>,
    /// The command was started.
    pub started: Option<Instant>,
    /// The command ended, or could not be started.
    pub ended: Option<Instant>,
    /// The machine ended.
    pub machine_ended: Option<Instant>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Booting,
    Running,
    Flushing(Verdict),
    PoweringOff(Verdict),
    Over,
}

/// One of our two outputs.
#[derive(Debug, Default)]
struct Outlet {
    /// Received and not yet passed on.
    held: u32,
    /// Passed on and not yet granted to the guest again.
    owed: u32,
    /// Of what is to be passed on: from before the last restart, nothing to the guest any more.
    stale: u32,
    reader_gone: bool,
}

impl Outlet {
    /// So many bytes went out: those that count for the guest of now.
    fn passed(&mut self, count: u32) {
        let stale = count.min(self.stale);
        let count = (count - stale).min(self.held);
        self.stale -= stale;
        self.held -= count;
        self.owed += count;
    }

    /// The guest that sent what is held is gone.
    fn restart(&mut self) {
        self.stale = self.stale.saturating_add(self.held);
        (self.held, self.owed) = (0, 0);
    }
}

/// The state of a session.
#[derive(Debug)]
pub(super) struct Session {
    start: Start,
    limit: Option<(Duration, Instant)>,
    phase: Phase,
    /// Input that the guest has not yet passed on to its command.
    input_held: u32,
    /// Input that may still be read.
    input_allowed: u32,
    /// There is no more input.
    input_over: bool,
    /// Input that came while no guest was there to take it: what an earlier one was allowed.
    input_waiting: Vec<u8>,
    stdout: Outlet,
    stderr: Outlet,
    panic: Option<String>,
    machine: Option<MachineEnd>,
    link_ended: bool,
    console_ended: bool,
    /// When patience with a guest that is on its way out ends.
    patience: Option<Instant>,
    /// How much patience it gets to power off.
    grace: Duration,
    /// How much patience the command gets to end after SIGTERM.
    stop_grace: Duration,
    /// We got SIGTERM.
    terminated: bool,
    /// When patience with a command that got it ends.
    stopping: Option<Instant>,
    moments: Moments,
    /// When the last SIGINTs came.
    interrupts: VecDeque<Instant>,
}

type Actions = Vec<Action>;

impl Session {
    /// A session that will run `start`, within `limit` from `now`.
    pub(super) fn new(start: Start, limit: Option<Duration>, now: Instant) -> Self {
        Self {
            start,
            limit: limit.and_then(|limit| Some((limit, now.checked_add(limit)?))),
            phase: Phase::Booting,
            input_held: 0,
            input_allowed: 0,
            input_over: false,
            input_waiting: Vec::new(),
            stdout: Outlet::default(),
            stderr: Outlet::default(),
            panic: None,
            machine: None,
            link_ended: false,
            console_ended: false,
            patience: None,
            grace: GRACE,
            stop_grace: STOP_GRACE,
            terminated: false,
            stopping: None,
            moments: Moments::default(),
            interrupts: VecDeque::new(),
        }
    }

    /// The same with another grace for a command that is to end.
    pub(super) fn stopping_within(mut self, grace: Duration) -> Self {
        self.stop_grace = grace;
        self
    }

    /// The same for a guest whose disks keep what it writes.
    pub(super) fn keeping(mut self) -> Self {
        self.grace = KEEPING_GRACE;
        self
    }

    /// When what happened so far.
    pub(super) fn moments(&self) -> &Moments {
        &self.moments
    }

    /// When `Deadline` is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let limit = self.limit.map(|(_, at)| at);
        [limit, self.patience, self.stopping]
            .into_iter()
            .flatten()
            .min()
    }

    /// What follows from `event`.
    pub(super) fn on(&mut self, event: Event, now: Instant) -> Actions {
        if self.phase == Phase::Over {
            return Vec::new();
        }
        match event {
            Event::Frame(frame) => self.frame(frame, now),
            Event::LinkBroken(how) => {
                self.fail(format!("the guest broke the session's protocol with {how}"))
            }
            Event::LinkEnded => {
                self.link_ended = true;
                self.patience.get_or_insert(now + SETTLE);
                self.judge(false)
            }
            Event::Input(bytes) => {
                let count = bytes.len() as u32;
                self.input_held = self.input_held.saturating_add(count);
                self.input_allowed = self.input_allowed.saturating_sub(count);
                self.input(bytes)
            }
            Event::InputEnded => {
                self.input_over = true;
                match self.phase {
                    // It is told with the greeting.
                    Phase::Booting => Vec::new(),
                    _ => vec![Action::Send(Frame::End(Stream::Stdin))],
                }
            }
            Event::Passed(stream, count) => self.passed(stream, count, now),
            Event::ReaderGone(stream) => self.reader_gone(stream, now),
            Event::OutputFailed(sentence) => self.fail(sentence),
            Event::Resized(window) => self.resized(window),
            Event::Escaped => self.finish(Verdict::Left),
            Event::Signalled(SIGTERM) => self.terminated(now),
            Event::Signalled(number) => self.signalled(number, now),
            Event::Panicked(reason) => {
                self.panic.get_or_insert(reason);
                self.patience.get_or_insert(now + SETTLE);
                Vec::new()
            }
            Event::ConsoleEnded => {
                self.console_ended = true;
                self.judge(false)
            }
            Event::Machine(end) => self.machine_ended(end, now),
            Event::ClockMoved => match self.phase {
                Phase::Running => vec![Action::TellTime],
                // It is told with the greeting, or there is nobody to tell any more.
                _ => Vec::new(),
            },
            Event::Deadline => self.due(now),
        }
    }

    fn frame(&mut self, frame: Frame, now: Instant) -> Actions {
        self.note(&frame, now);
        match (&self.phase, frame) {
            (Phase::Booting, Frame::Hello(VERSION)) => self.greeted(),
            (Phase::Booting, Frame::Hello(version)) => self.fail(format!(
                "the initrd's init speaks version {version} of the session's protocol, not {VERSION}; use the initrd that came with this xlaunch"
            )),
            (Phase::Running, Frame::Data(stream @ (Stream::Stdout | Stream::Stderr), bytes)) => {
                self.alive();
                self.output(stream, bytes, now)
            }
            (Phase::Running, Frame::End(_) | Frame::Booted(..) | Frame::Started) => Vec::new(),
            (Phase::Running, Frame::Closed(Stream::Stdin)) => {
                self.input_over = true;
                vec![Action::StopInput]
            }
            (Phase::Running, Frame::Credit(Stream::Stdin, count)) => self.credited(count),
            (Phase::Running, Frame::Exited(code)) => self.ended(Verdict::Exited(code), now),
            (Phase::Running, Frame::Killed(signal)) => self.ended(Verdict::Killed(signal), now),
            (Phase::Running, Frame::Refused(refusal, text)) => {
                self.ended(Verdict::Refused(refusal, text), now)
            }
            (Phase::Booting | Phase::Running, _) => {
                self.fail("the guest broke the session's protocol with a frame out of turn".to_owned())
            }
            // Crossed with the end.
            (Phase::Flushing(_) | Phase::PoweringOff(_) | Phase::Over, _) => Vec::new(),
        }
    }

    /// Keeps when a frame came that is worth remembering.
    fn note(&mut self, frame: &Frame, now: Instant) {
        let moments = &mut self.moments;
        match frame {
            Frame::Hello(_) => _ = moments.greeted.get_or_insert(now),
            Frame::Booted(init, ready) => {
                let times = [*init, *ready].map(Duration::from_micros);
                moments.guest_clock.get_or_insert((times[0], times[1]));
            }
            Frame::Started => _ = moments.started.get_or_insert(now),
            Frame::Exited(_) | Frame::Killed(_) | Frame::Refused(..) => {
                moments.ended.get_or_insert(now);
            }
            _ => {}
        }
    }

    fn greeted(&mut self) -> Actions {
        self.phase = Phase::Running;
        let mut actions = vec![Action::TellTime];
        if self.start.terminal.is_some() {
            actions.push(Action::TakeTerminal);
        }
        actions.push(Action::Send(Frame::Start(self.start.clone())));
        let waiting = std::mem::take(&mut self.input_waiting);
        if !waiting.is_empty() {
            actions.extend(self.input(waiting));
        }
        if self.input_over {
            actions.push(Action::Send(Frame::End(Stream::Stdin)));
        } else {
            let allowed = WINDOW - self.input_held;
            let more = allowed - self.input_allowed.min(allowed);
            actions.push(Action::AllowInput(more));
            self.input_allowed += more;
        }
        for (outlet, stream) in [
            (&self.stdout, Stream::Stdout),
            (&self.stderr, Stream::Stderr),
        ] {
            if outlet.reader_gone {
                actions.push(Action::Send(Frame::Closed(stream)));
            }
        }
        actions
    }

    /// Passes input on, or keeps it until a guest is there.
    fn input(&mut self, bytes: Vec<u8>) -> Actions {
        if self.phase == Phase::Booting {
            self.input_waiting.extend(bytes);
            return Vec::new();
        }
        let frames = bytes.chunks(DATA_MAX);
        frames
            .map(|bytes| Action::Send(Frame::Data(Stream::Stdin, bytes.to_vec())))
            .collect()
    }

    /// A guest that goes on after what looked like its kernel's last line has not died.
    fn alive(&mut self) {
        if self.machine.is_none() && !self.link_ended {
            self.patience = None;
        }
    }

    fn outlet(&mut self, stream: Stream) -> &mut Outlet {
        match stream {
            Stream::Stdout | Stream::Stdin => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    fn output(&mut self, stream: Stream, bytes: Vec<u8>, now: Instant) -> Actions {
        let count = bytes.len() as u32;
        let outlet = self.outlet(stream);
        // What has been passed on but not yet granted again is not the guest's to use.
        let used = outlet.held.saturating_add(outlet.owed);
        if used.saturating_add(count) > WINDOW {
            return self.fail(
                "the guest broke the session's protocol with more output than its window"
                    .to_owned(),
            );
        }
        outlet.held += count;
        if outlet.reader_gone {
            return self.passed(stream, count, now);
        }
        vec![Action::Write(stream, bytes)]
    }

    fn passed(&mut self, stream: Stream, count: u32, now: Instant) -> Actions {
        let outlet = self.outlet(stream);
        outlet.passed(count);
        let mut actions = Vec::new();
        if outlet.owed >= WINDOW / 4 {
            let owed = std::mem::take(&mut outlet.owed);
            actions.push(Action::Send(Frame::Credit(stream, owed)));
        }
        actions.extend(self.flushed(now));
        actions
    }

    fn reader_gone(&mut self, stream: Stream, now: Instant) -> Actions {
        let outlet = self.outlet(stream);
        outlet.reader_gone = true;
        (outlet.held, outlet.stale) = (0, 0);
        let mut actions = vec![Action::Send(Frame::Closed(stream))];
        actions.extend(self.flushed(now));
        actions
    }

    fn credited(&mut self, count: u32) -> Actions {
        let Some(held) = self.input_held.checked_sub(count) else {
            return self.fail(
                "the guest broke the session's protocol with credit for input it never got"
                    .to_owned(),
            );
        };
        self.input_held = held;
        self.input_allowed += count;
        vec![Action::AllowInput(count)]
    }

    fn resized(&mut self, window: Window) -> Actions {
        if self.start.terminal.is_none() {
            return Vec::new();
        }
        self.start.terminal = Some(window);
        match self.phase {
            Phase::Running => vec![Action::Send(Frame::Resize(window))],
            _ => Vec::new(),
        }
    }

    /// The power button.
    fn terminated(&mut self, now: Instant) -> Actions {
        if self.phase == Phase::Booting || self.terminated {
            return self.finish(Verdict::Signalled(SIGTERM));
        }
        self.terminated = true;
        // A grace beyond what can be counted never ends.
        self.stopping = now.checked_add(self.stop_grace);
        match self.phase {
            Phase::Running => vec![Action::Send(Frame::Signal(SIGTERM))],
            _ => Vec::new(),
        }
    }

    /// Any other signal.
    fn signalled(&mut self, number: u8, now: Instant) -> Actions {
        let theirs = FOR_THE_COMMAND_ALONE.contains(&number);
        match self.phase {
            Phase::Flushing(_) | Phase::PoweringOff(_) if theirs => return Vec::new(),
            Phase::Running if self.start.terminal.is_none() || theirs => {}
            _ => return self.finish(Verdict::Signalled(number)),
        }
        if number == SIGINT {
            self.interrupts.push_back(now);
            self.interrupts
                .retain(|&then| now.saturating_duration_since(then) < IMPATIENCE);
            if self.interrupts.len() >= INTERRUPTS {
                return self.finish(Verdict::Signalled(number));
            }
        }
        vec![Action::Send(Frame::Signal(number))]
    }

    fn ended(&mut self, verdict: Verdict, now: Instant) -> Actions {
        self.patience = None;
        self.phase = Phase::Flushing(verdict);
        self.flushed(now)
    }

    /// Goes on from `Flushing` once everything has been passed on.
    fn flushed(&mut self, now: Instant) -> Actions {
        let Phase::Flushing(verdict) = &self.phase else {
            return Vec::new();
        };
        let on_the_way = |outlet: &Outlet| outlet.held > 0 || outlet.stale > 0;
        if on_the_way(&self.stdout) || on_the_way(&self.stderr) {
            return Vec::new();
        }
        let verdict = verdict.clone();
        if self.machine.is_some() {
            return self.finish(verdict);
        }
        self.power_off(verdict, now)
    }

    fn machine_ended(&mut self, end: MachineEnd, now: Instant) -> Actions {
        self.moments.machine_ended.get_or_insert(now);
        match (&self.phase, end) {
            (Phase::PoweringOff(verdict), _) => self.finish(verdict.clone()),
            (Phase::Booting | Phase::Running, MachineEnd::Failed(sentence)) => self.fail(sentence),
            (_, end) => {
                self.machine = Some(end);
                self.patience = Some(now + SETTLE);
                self.judge(false)
            }
        }
    }

    /// Judges a machine that ended before the command did, once all is known or there is no more `patience`.
    fn judge(&mut self, impatient: bool) -> Actions {
        let early = matches!(self.phase, Phase::Booting | Phase::Running);
        let known = self.machine.is_some() && self.link_ended && self.console_ended;
        if !early || !(known || impatient) {
            return Vec::new();
        }
        let reset = self.machine == Some(MachineEnd::Reset) && self.panic.is_none();
        // A guest that resets before it has come up would do so for ever.
        if reset && known && self.phase == Phase::Running {
            if self.terminated {
                return self.finish(Verdict::Signalled(SIGTERM));
            }
            return self.restart();
        }
        let verdict = self.verdict_of_death();
        self.finish(verdict)
    }

    /// The guest wants to start again.
    fn restart(&mut self) -> Actions {
        self.phase = Phase::Booting;
        self.stdout.restart();
        self.stderr.restart();
        // What the guest had of the input is gone with it.
        self.input_held = 0;
        self.machine = None;
        (self.link_ended, self.console_ended) = (false, false);
        self.patience = None;
        vec![Action::Restart]
    }

    fn verdict_of_death(&self) -> Verdict {
        let what = match (&self.machine, &self.panic) {
            (Some(MachineEnd::Failed(sentence)), _) => return Verdict::Failed(sentence.clone()),
            (Some(MachineEnd::TripleFault(detail)), _) => {
                return Verdict::Died(format!("the guest died of a triple fault ({detail})"));
            }
            (_, Some(reason)) => {
                return Verdict::Died(format!("the guest's kernel panicked: {reason}"));
            }
            (None, None) => "closed its link",
            (Some(MachineEnd::PoweredOff), None) => "powered off",
            (Some(MachineEnd::Reset), None) => "reset itself",
        };
        match self.phase {
            Phase::Running if self.machine == Some(MachineEnd::PoweredOff) => Verdict::PoweredOff,
            Phase::Running => Verdict::Died(format!("the guest {what} before the command ended")),
            _ => Verdict::Died(format!(
                "the guest {what} before its init could run the command"
            )),
        }
    }

    fn due(&mut self, now: Instant) -> Actions {
        if let Some((limit, at)) = self.limit
            && now >= at
        {
            return self.finish(Verdict::TimedOut(limit));
        }
        if self.stopping.is_some_and(|at| now >= at) {
            return self.stop(now);
        }
        if self.patience.is_none_or(|at| now < at) {
            return Vec::new();
        }
        self.patience = None;
        match &self.phase {
            Phase::PoweringOff(verdict) => self.finish(verdict.clone()),
            _ => self.judge(true),
        }
    }

    /// The command has had its time after SIGTERM.
    fn stop(&mut self, now: Instant) -> Actions {
        self.stopping = None;
        match &self.phase {
            // It has its own patience, which is longer where it writes disks.
            Phase::PoweringOff(_) => Vec::new(),
            _ if self.machine.is_some() => self.finish(Verdict::Signalled(SIGTERM)),
            _ => self.power_off(Verdict::Signalled(SIGTERM), now),
        }
    }

    fn power_off(&mut self, verdict: Verdict, now: Instant) -> Actions {
        self.phase = Phase::PoweringOff(verdict);
        self.patience = Some(now + self.grace);
        vec![Action::Send(Frame::PowerOff)]
    }

    fn fail(&mut self, sentence: String) -> Actions {
        self.finish(Verdict::Failed(sentence))
    }

    fn finish(&mut self, verdict: Verdict) -> Actions {
        self.phase = Phase::Over;
        (self.patience, self.stopping) = (None, None);
        vec![Action::Finish(verdict)]
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
