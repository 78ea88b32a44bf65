//! The host's end of a serial line as a pair of byte pipes.
//!
//! A port has one side (`PortEnd`), which never blocks; threads of the launcher have the other two (`Output`, what the
//! guest sends; `Input`, what it receives), which do. Both directions are bounded. When the launcher does not take
//! output, `PortEnd` refuses bytes and the guest sees a busy transmitter: it waits, and memory does not grow.
//!
//! After new input, or new room where a byte was refused, the port must look again: `on_change` says how it is told.
//! The call comes from the launcher's threads with no lock held, so it may take the port's slot.
//!
//! A line carries one call at a time. When its machine has come to rest, the launcher hangs up (`Hook`): what was sent
//! is still read to its end. When the machine starts again, it picks up: a new call, in which nothing of the last is left.
//!
//! Lock order: the queues' lock is taken last and no call is made while it is held.

use crate::bus::SerialEnd;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// Bytes that lie in each direction at most.
const CAPACITY: usize = 64 * 1024;
/// How long a reader that was woken lets bytes gather, so that a guest that sends byte by byte does not wake a thread
/// for each.
const GATHER: Duration = Duration::from_micros(200);

/// A new serial line: the port's end and the launcher's two.
pub fn serial_line() -> (PortEnd, Output, Input) {
    let line = Arc::new(Line::default());
    let (output, input) = line.ends(0);
    (PortEnd(line), output, input)
}

/// What tells a port that it should look at its line again.
type Wake = Box<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Line {
    queues: Mutex<Queues>,
    output_came: Condvar,
    input_left: Condvar,
    wake: OnceLock<Wake>,
}

#[derive(Default)]
struct Queues {
    /// Counts the calls, so that the ends of one that is over do not meddle with the next.
    call: u64,
    output: VecDeque<u8>,
    input: VecDeque<u8>,
    /// A byte was refused, so the port waits for room.
    refused: bool,
    /// The port has seen the end of the input, so it waits for more.
    drained: bool,
    /// The call is over.
    hung_up: bool,
    reader_gone: bool,
    reader_waits: bool,
    writer_waits: bool,
}

impl Queues {
    /// Whether `call` is over.
    fn is_over(&self, call: u64) -> bool {
        self.hung_up || self.call != call
    }
}

impl Line {
    /// The launcher's two ends of `call`.
    fn ends(self: &Arc<Self>, call: u64) -> (Output, Input) {
        let line = self.clone();
        let output = Output { line, call };
        let line = self.clone();
        (output, Input { line, call })
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        // Nothing panics with the lock held; if it did, the queues would still be queues of bytes.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hang_up(&self) {
        self.queues().hung_up = true;
        // An end of a call that is over may wait besides the one of this call.
        self.output_came.notify_all();
        self.input_left.notify_all();
    }

    fn tell_port(&self) {
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }
}

/// The port's end.
pub struct PortEnd(Arc<Line>);

impl PortEnd {
    /// Says how the port is told to look again. Only the first call counts: a line has one port.
    pub fn on_change(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.0.wake.set(Box::new(wake));
    }
}

impl SerialEnd for PortEnd {
    fn put(&mut self, byte: u8) -> bool {
        let mut queues = self.0.queues();
        if queues.reader_gone {
            return true;
        }
        if queues.output.len() >= CAPACITY {
            queues.refused = true;
            return false;
        }
        queues.output.push_back(byte);
        if std::mem::take(&mut queues.reader_waits) {
            drop(queues);
            self.0.output_came.notify_one();
        }
        true
    }

    fn take(&mut self) -> Option<u8> {
        let mut queues = self.0.queues();
        let byte = queues.input.pop_front();
        queues.drained = byte.is_none();
        if queues.input.len() <= CAPACITY / 2 && std::mem::take(&mut queues.writer_waits) {
            drop(queues);
            self.0.input_left.notify_one();
        }
        byte
    }
}

impl Drop for PortEnd {
    fn drop(&mut self) {
        self.0.hang_up();
    }
}

/// Ends and begins a line's calls from the launcher's side: a port may outlive the machine's rest by far.
pub struct Hook(Arc<Line>);

impl Hook {
    /// No more comes from the port, and nothing goes to it. What it has sent can still be read.
    pub fn hang_up(&self) {
        self.0.hang_up();
    }

    /// Begins a new call: nothing of the last one is left, and its ends are dead.
    pub fn pick_up(&self) -> (Output, Input) {
        let mut queues = self.0.queues();
        let call = queues.call + 1;
        *queues = Queues {
            call,
            // The port learns of this call's input as of the first one's.
            ..Queues::default()
        };
        drop(queues);
        self.0.output_came.notify_all();
        self.0.input_left.notify_all();
        self.0.ends(call)
    }
}

/// What the guest sends. A read waits for bytes; the end comes when the call is over and everything has been read.
pub struct Output {
    line: Arc<Line>,
    call: u64,
}

impl Output {
    /// What hangs this line up.
    pub fn hook(&self) -> Hook {
        Hook(self.line.clone())
    }
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut queues = self.line.queues();
        if queues.output.is_empty() {
            while queues.output.is_empty() && !queues.is_over(self.call) {
                queues.reader_waits = true;
                let woken = self.line.output_came.wait(queues);
                queues = woken.unwrap_or_else(PoisonError::into_inner);
            }
            if !queues.is_over(self.call) {
                drop(queues);
                std::thread::sleep(GATHER);
                queues = self.line.queues();
            }
        }
        if queues.call != self.call {
            return Ok(0);
        }
        let count = queues.output.read(buffer)?;
        if std::mem::take(&mut queues.refused) {
            drop(queues);
            self.line.tell_port();
        }
        Ok(count)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let mut queues = self.line.queues();
        if queues.call != self.call {
            return;
        }
        queues.reader_gone = true;
        queues.output.clear();
        let refused = std::mem::take(&mut queues.refused);
        drop(queues);
        if refused {
            self.line.tell_port();
        }
    }
}

/// What the guest receives. A write waits for room; it fails once the call is over.
pub struct Input {
    line: Arc<Line>,
    call: u64,
}

impl Write for Input {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut queues = self.line.queues();
        while queues.input.len() >= CAPACITY && !queues.is_over(self.call) {
            queues.writer_waits = true;
            let woken = self.line.input_left.wait(queues);
            queues = woken.unwrap_or_else(PoisonError::into_inner);
        }
        if queues.is_over(self.call) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let count = bytes.len().min(CAPACITY - queues.input.len());
        queues.input.extend(&bytes[..count]);
        // Input that finds the queue empty is news to the port even if it never asked: it may have been held back.
        let news = std::mem::take(&mut queues.drained) || queues.input.len() == count;
        drop(queues);
        if news {
            self.line.tell_port();
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    fn counting(port: &PortEnd) -> Arc<AtomicUsize> {
        let calls = Arc::new(AtomicUsize::new(0));
        let counter = calls.clone();
        port.on_change(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        calls
    }

    #[test]
    fn what_the_guest_sends_is_read_in_order_to_its_end() {
        let (mut port, mut output, _input) = serial_line();
        let reader = thread::spawn(move || {
            let mut bytes = Vec::new();
            output.read_to_end(&mut bytes).unwrap();
            bytes
        });
        let sent: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        for &byte in &sent {
            while !port.put(byte) {
                thread::yield_now();
            }
        }
        drop(port);
        assert_eq!(reader.join().unwrap(), sent);
    }

    #[test]
    fn a_full_line_refuses_and_tells_of_new_room_once() {
        let (mut port, mut output, _input) = serial_line();
        let calls = counting(&port);
        assert!((0..CAPACITY).all(|_| port.put(b'x')));
        assert!(!port.put(b'y'));
        let mut buffer = [0; 100];
        assert_eq!(output.read(&mut buffer).unwrap(), 100);
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        assert_eq!(output.read(&mut buffer).unwrap(), 100);
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        assert!(port.put(b'y'));
    }

    #[test]
    fn output_that_nobody_will_read_is_dropped() {
        let (mut port, output, _input) = serial_line();
        let calls = counting(&port);
        assert!((0..CAPACITY).all(|_| port.put(b'x')) && !port.put(b'y'));
        drop(output);
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        assert!((0..2 * CAPACITY).all(|_| port.put(b'x')));
    }

    #[test]
    fn input_is_told_of_when_the_port_had_none() {
        let (mut port, _output, mut input) = serial_line();
        let calls = counting(&port);
        input.write_all(b"ab").unwrap();
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        input.write_all(b"c").unwrap();
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        let taken: Vec<u8> = std::iter::from_fn(|| port.take()).collect();
        assert_eq!(taken, b"abc");
        input.write_all(b"d").unwrap();
        assert_eq!(calls.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_line_hung_up_is_read_to_its_end() {
        let (mut port, mut output, mut input) = serial_line();
        let sent = vec![b'x'; CAPACITY];
        assert!(sent.iter().all(|&byte| port.put(byte)));
        assert!(!port.put(b'y'));
        output.hook().hang_up();
        assert!(input.write(b"x").is_err());
        // The port, told of the room, brings what was refused.
        let port = Mutex::new(port);
        let late = Arc::new(port);
        late.lock().unwrap().on_change({
            let late = Arc::downgrade(&late);
            move || {
                let late = late.upgrade().expect("the port is there");
                assert!(late.lock().unwrap().put(b'y'));
            }
        });
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), CAPACITY + 1);
        assert_eq!(bytes.last(), Some(&b'y'));
    }

    #[test]
    fn a_new_call_has_nothing_of_the_last() {
        let (mut port, mut output, mut input) = serial_line();
        let hook = output.hook();
        assert!(port.put(b'a'));
        input.write_all(b"old").unwrap();
        hook.hang_up();
        let (mut new_output, mut new_input) = hook.pick_up();
        assert_eq!((port.take(), output.read(&mut [0]).unwrap()), (None, 0));
        assert!(input.write(b"x").is_err());
        // The old ends' going away is nothing to the new call.
        drop((output, input));
        let calls = counting(&port);
        new_input.write_all(b"n").unwrap();
        assert_eq!((port.take(), calls.load(Ordering::SeqCst)), (Some(b'n'), 1));
        assert!(port.put(b'b'));
        let mut byte = [0];
        assert_eq!((new_output.read(&mut byte).unwrap(), byte), (1, *b"b"));
    }

    #[test]
    fn whoever_waits_in_a_call_learns_that_it_is_over() {
        let (_port, mut output, mut input) = serial_line();
        let hook = output.hook();
        let reader = thread::spawn(move || output.read(&mut [0]).unwrap());
        let writer = thread::spawn(move || input.write_all(&[0; 2 * CAPACITY]).is_err());
        thread::sleep(Duration::from_millis(5));
        let _ends = hook.pick_up();
        assert_eq!((reader.join().unwrap(), writer.join().unwrap()), (0, true));
    }

    #[test]
    fn a_writer_waits_for_room_and_fails_without_a_port() {
        let (mut port, _output, mut input) = serial_line();
        let writer = thread::spawn(move || {
            input.write_all(&[b'x'; 3 * CAPACITY]).unwrap();
            input
        });
        let mut taken = 0;
        while taken < 3 * CAPACITY {
            match port.take() {
                Some(_) => taken += 1,
                None => thread::yield_now(),
            }
        }
        let mut input = writer.join().unwrap();
        drop(port);
        let error = input.write(b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
