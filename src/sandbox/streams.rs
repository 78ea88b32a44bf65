//! Our three streams, each with a thread of its own, so that one that blocks holds up no other.
//!
//! The open files may be shared with other programs, so their modes are left as they are: a stream that somebody made
//! non-blocking is waited for, not changed.

use super::escape::Escape;
use super::session::Event;
use guest::protocol::{DATA_MAX, Stream};
use hvf_sys::os::poll::{Polled, poll};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

/// How much of the input may be read.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    state: Mutex<Allowed>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, Default)]
struct Allowed {
    bytes: usize,
    stopped: bool,
}

impl Allowance {
    /// Allows so many more bytes.
    pub(super) fn allow(&self, bytes: u32) {
        self.change(|allowed| allowed.bytes += bytes as usize);
    }

    /// Allows nothing any more.
    pub(super) fn stop(&self) {
        self.change(|allowed| allowed.stopped = true);
    }

    fn change(&self, change: impl FnOnce(&mut Allowed)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Waits until bytes are allowed and tells how many; `None` once stopped.
    fn wait(&self) -> Option<usize> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.bytes == 0 && !state.stopped {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        (!state.stopped).then_some(state.bytes)
    }

    /// Takes up to `wanted` bytes of what is allowed now.
    fn take(&self, wanted: usize) -> usize {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = wanted.min(state.bytes);
        state.bytes -= taken;
        taken
    }
}

/// Reads a file or pipe as fast as the guest takes it.
pub(super) fn read_input(mut file: File, allowance: &Allowance, events: &SyncSender<Event>) {
    let mut buffer = [0; DATA_MAX];
    while let Some(allowed) = allowance.wait() {
        let room = allowed.min(DATA_MAX);
        // An input that cannot be read has ended as far as the command is concerned.
        let count = read_some(&mut file, &mut buffer[..room]).unwrap_or(0);
        let event = if count == 0 {
            Event::InputEnded
        } else {
            allowance.take(count);
            Event::Input(buffer[..count].to_vec())
        };
        if events.send(event).is_err() || count == 0 {
            return;
        }
    }
}

/// Reads a terminal that belongs to the guest. It is read even while the guest takes nothing, since the way out must
/// work then too; what the guest has no room for is lost, as on any terminal.
pub(super) fn read_terminal(mut file: File, allowance: &Allowance, events: &SyncSender<Event>) {
    let mut buffer = [0; DATA_MAX];
    let mut escape = Escape::default();
    if allowance.wait().is_none() {
        return;
    }
    loop {
        let count = read_some(&mut file, &mut buffer).unwrap_or(0);
        if count == 0 {
            let _ = events.send(Event::InputEnded);
            return;
        }
        let left = escape.typed(&buffer[..count], Instant::now());
        let taken = allowance.take(count);
        let input = Event::Input(buffer[..taken].to_vec());
        if taken > 0 && events.send(input).is_err() {
            return;
        }
        if left && events.send(Event::Escaped).is_err() {
            return;
        }
    }
}

/// Writes what comes until nobody sends any more.
pub(super) fn write_output(
    mut file: File,
    stream: Stream,
    pieces: &Receiver<Vec<u8>>,
    events: &SyncSender<Event>,
) {
    for piece in pieces {
        let event = match write_piece(&mut file, &piece) {
            Ok(()) => Event::Passed(stream, piece.len() as u32),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Event::ReaderGone(stream),
            Err(error) => Event::OutputFailed(format!(
                "cannot write to {}: {error}; the sandbox was ended",
                name(stream)
            )),
        };
        let more = matches!(event, Event::Passed(..));
        if events.send(event).is_err() || !more {
            return;
        }
    }
}

fn name(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdin => "standard input",
        Stream::Stdout => "standard output",
        Stream::Stderr => "standard error",
    }
}

fn read_some(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                poll(&mut [Polled::new(file, true, false)], None)?;
            }
            other => return other,
        }
    }
}

fn write_piece(file: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                poll(&mut [Polled::new(file, false, true)], None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// An allowance that threads share.
pub(super) type SharedAllowance = Arc<Allowance>;

#[cfg(test)]
#[path = "streams_tests.rs"]
mod tests;
