//! The guest's half of a session: one command, its streams, its end.
//!
//! One thread, one poll. All that is held is bounded: the stream windows bound what either side has under way, and
//! output is read only while the link takes it.

use crate::clock;
use crate::job::{Job, Pumped, Source};
use crate::protocol::{Decoder, Frame, GREETING, Refusal, Start, VERSION};
use hvf_sys::os::boot;
use hvf_sys::os::poll::{Polled, poll};
use hvf_sys::os::process::{self, Ending};
use hvf_sys::os::signal::{Signal, Signals};
use hvf_sys::{os::make_nonblocking, tty};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

/// While more than this waits for the link, the command's output is left where it is.
const OUTBOX_FULL: usize = 256 * 1024;
/// The most bytes that are taken from the link at once.
const INTAKE: usize = 128 * 1024;

/// What becomes of the system after a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// It is powered off.
    PowerOff,
    /// It starts again.
    Restart,
}

/// The signals by which `halt`, `poweroff` and `reboot` of busybox ask process 1 for them.
const ORDERS: [(Signal, Farewell); 3] = [
    (Signal::USER_1, Farewell::PowerOff),
    (Signal::USER_2, Farewell::PowerOff),
    (Signal::TERMINATE, Farewell::Restart),
];

/// Serves one session over `link` until the launcher orders the power off or hangs up, or somebody here wants it or a
/// restart. `prepared` tells what is wrong with the guest; the command is then refused with it.
pub fn serve(link: File, prepared: Result<(), String>) -> io::Result<Farewell> {
    make_nonblocking(&link)?;
    let orders = ORDERS.map(|(signal, _)| signal);
    let signals = Signals::catch(&[&orders[..], &[Signal::CHILD]].concat())?;
    make_nonblocking(&signals)?;
    let mut outbox = GREETING.to_vec();
    Frame::Hello(VERSION).encode(&mut outbox);
    let (init, ready) = clock::marks();
    Frame::Booted(init, ready).encode(&mut outbox);
    let mut agent = Agent {
        link,
        signals,
        prepared,
        intake: vec![0; INTAKE],
        decoder: Decoder::default(),
        outbox,
        sent: 0,
        job: None,
        ending: None,
        farewell: None,
    };
    let result = loop {
        match (agent.turn(), agent.farewell) {
            (Ok(()), None) => {}
            (Ok(()), Some(farewell)) => break Ok(farewell),
            (Err(error), _) => break Err(error),
        }
    };
    if let Some(job) = &agent.job {
        job.signal(Signal::KILL);
    }
    result
}

struct Agent {
    link: File,
    signals: Signals,
    prepared: Result<(), String>,
    /// Where bytes from the link lie on their way to the decoder.
    intake: Vec<u8>,
    decoder: Decoder,
    outbox: Vec<u8>,
    sent: usize,
    job: Option<Job>,
    /// How the command ended, while its last output is still on the way.
    ending: Option<Ending>,
    farewell: Option<Farewell>,
}

/// What a poll found, by value, so that the pumps can borrow the agent again.
#[derive(Default)]
struct Ready {
    link_in: bool,
    link_out: bool,
    signal: bool,
    input: Option<bool>,
    outputs: Vec<bool>,
}

impl Agent {
    fn turn(&mut self) -> io::Result<()> {
        let ready = self.wait()?;
        if ready.link_out {
            self.flush()?;
        }
        if ready.signal {
            self.heed()?;
        }
        if ready.link_in {
            self.receive()?;
        }
        self.pump(&ready);
        self.finish();
        Ok(())
    }

    fn wait(&self) -> io::Result<Ready> {
        let sending = self.sent < self.outbox.len();
        let mut set = vec![
            Polled::new(&self.link, true, sending),
            Polled::new(&self.signals, true, false),
        ];
        let input = self.job.as_ref().and_then(|job| job.input.polls());
        if let Some((file, waiting)) = input {
            set.push(Polled::new(file, false, waiting));
        }
        let outputs = self.job.as_ref().map_or(&[][..], |job| &job.outputs);
        let wanted: Vec<bool> = outputs.iter().map(|source| self.wants(source)).collect();
        let chosen = outputs.iter().zip(&wanted).filter(|(_, wanted)| **wanted);
        set.extend(chosen.map(|(source, _)| Polled::new(&source.file, true, false)));
        // What the dead have left is there already: nothing to wait for.
        let dead = self.ending.is_some() && outputs.iter().any(Source::has_credit);
        poll(&mut set, dead.then_some(Duration::ZERO))?;

        let mut polled = set.iter();
        let link = polled.next();
        let signal = polled.next().is_some_and(Polled::readable);
        let input = input.and_then(|_| polled.next());
        let input = input.and_then(|input| input.writable().then(|| input.broken()));
        let outputs = wanted
            .iter()
            .map(|wanted| *wanted && polled.next().is_some_and(Polled::readable))
            .collect();
        Ok(Ready {
            link_in: link.is_some_and(Polled::readable),
            link_out: sending && link.is_some_and(Polled::writable),
            signal,
            input,
            outputs,
        })
    }

    fn wants(&self, source: &Source) -> bool {
        source.has_credit() && self.outbox.len() - self.sent < OUTBOX_FULL
    }

    fn send(&mut self, frame: &Frame) {
        frame.encode(&mut self.outbox);
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.sent < self.outbox.len() {
            match self.link.write(&self.outbox[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.outbox.drain(..self.sent);
        self.sent = 0;
        Ok(())
    }

    fn receive(&mut self) -> io::Result<()> {
        match self.link.read(&mut self.intake) {
            Ok(0) => self.farewell = Some(Farewell::PowerOff),
            Ok(count) => self.decoder.push(&self.intake[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        while let Some(frame) = self.decoder.next_frame().map_err(io::Error::other)? {
            self.obey(frame)?;
        }
        Ok(())
    }

    fn obey(&mut self, frame: Frame) -> io::Result<()> {
        match (frame, &mut self.job) {
            (Frame::Start(start), None) => self.start(&start),
            // A guest whose clock cannot be set runs on with what its own hardware says.
            (Frame::Clock(nanoseconds), _) => drop(boot::set_clock(nanoseconds)),
            (Frame::PowerOff, _) => self.farewell = Some(Farewell::PowerOff),
            (Frame::Data(_, bytes), Some(job)) => job.input.push(&bytes)?,
            (Frame::End(_), Some(job)) => job.input.end(),
            (Frame::Credit(stream, bytes), Some(job)) => {
                let source = job.outputs.iter_mut().find(|it| it.stream == stream);
                source.into_iter().for_each(|it| it.grant(bytes));
            }
            (Frame::Closed(stream), Some(job)) => job.close_output(stream),
            (Frame::Resize(window), Some(job)) => {
                let (rows, columns) = (window.rows, window.columns);
                job.resize(tty::Size { rows, columns });
            }
            (Frame::Signal(number), Some(job)) if self.ending.is_none() => {
                Signal::from_number(number)
                    .into_iter()
                    .for_each(|it| job.signal(it));
            }
            // Frames that crossed with the command's end, or that only a guest sends.
            _ => {}
        }
        Ok(())
    }

    fn start(&mut self, start: &Start) {
        let prepared = self.prepared.clone();
        let job = prepared
            .map_err(|text| (Refusal::Unprepared, text))
            .and_then(|()| Job::start(start));
        match job {
            Ok(job) => {
                self.job = Some(job);
                self.send(&Frame::Started);
            }
            Err((refusal, text)) => self.send(&Frame::Refused(refusal, text)),
        }
    }

    /// Takes the signals that have come.
    fn heed(&mut self) -> io::Result<()> {
        while let Some(signal) = self.signals.try_wait()? {
            let order = ORDERS.iter().find(|(order, _)| *order == signal);
            self.farewell = order.map(|(_, farewell)| *farewell).or(self.farewell);
        }
        self.bury();
        Ok(())
    }

    /// Collects the dead: the command, and as process 1 everybody's orphans.
    fn bury(&mut self) {
        // An error means that there are no children at all.
        while let Ok(Some((pid, ending))) = process::reap() {
            let Some(job) = self.job.as_ref().filter(|job| job.leader == pid) else {
                continue;
            };
            self.ending = Some(ending);
            // What the command left behind must not hold its streams open.
            if process::signal_everybody(Signal::KILL).is_err() {
                let _ = process::signal_group(job.leader, Signal::KILL);
            }
        }
    }

    fn pump(&mut self, ready: &Ready) {
        let Some(job) = &mut self.job else { return };
        let mut frames = Vec::new();
        job.input.pump(ready.input.unwrap_or(false), &mut frames);
        // Once the command is dead, a source that has nothing now has nothing more.
        let dead = self.ending.is_some();
        let mut ready = ready
            .outputs
            .iter()
            .copied()
            .chain(std::iter::repeat(false));
        job.outputs.retain_mut(|source| {
            let due = ready.next().unwrap_or(false) || (dead && source.has_credit());
            if !due {
                return true;
            }
            let kept = match source.pump(&mut frames) {
                Pumped::Some => true,
                Pumped::Nothing => !dead,
                Pumped::End => false,
            };
            if !kept {
                frames.push(Frame::End(source.stream));
            }
            kept
        });
        frames.iter().for_each(|frame| self.send(frame));
    }

    fn finish(&mut self) {
        let done = self.job.as_ref().is_some_and(|job| job.outputs.is_empty());
        if !done {
            return;
        }
        if let Some(ending) = self.ending.take() {
            self.job = None;
            self.send(&match ending {
                Ending::Exited(code) => Frame::Exited(code),
                Ending::Killed(signal) => Frame::Killed(signal.number()),
            });
        }
    }
}
