//! The ways into the guest, each with its threads.
//!
//! Init may greet on any of several lines: it takes the fastest that its kernel knows, and the launcher cannot know that
//! beforehand. So all are listened to. The first to greet is the session's (`Election`) until the machine ends; the
//! others are dropped when they greet later or end.

use super::kernel_log::{KernelLog, panic_reason};
use super::session::Event;
use guest::protocol::{Decoder, Frame, GreetingFinder};
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// A way into the guest.
pub struct Line {
    /// What init sends. May wait for init to come.
    pub from_guest: Box<dyn Read + Send>,
    /// What init receives. Written only after init has sent something.
    pub to_guest: Box<dyn Write + Send>,
}

/// Which of several lines is the session's.
pub(super) struct Election {
    state: Mutex<State>,
}

struct State {
    /// Lines that may still greet.
    candidates: usize,
    /// The frames for the line that is elected, until it is.
    frames: Option<Queue>,
}

/// So many frames that are no data may wait for init. It needs a handful: a guest that has used up its window says no more
/// before it has read what it is granted.
const WAITING_MAX: usize = 4096;

/// Where frames for init go in. Data wait as their window allows; the others are counted, since a guest that reads none but
/// sends on would have us grant without end.
pub(super) struct Frames {
    sender: Sender<Frame>,
    waiting: Arc<AtomicUsize>,
}

/// Where they come out.
struct Queue {
    frames: Receiver<Frame>,
    waiting: Arc<AtomicUsize>,
}

/// Init has left too many frames unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unread;

impl Frames {
    fn new() -> (Self, Queue) {
        let (sender, frames) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let queue = Queue {
            frames,
            waiting: waiting.clone(),
        };
        (Self { sender, waiting }, queue)
    }

    /// Those that lead nowhere.
    pub(super) fn nowhere() -> Self {
        Self::new().0
    }

    /// Sends a frame. Where nobody is to get it any more it is dropped.
    pub(super) fn send(&self, frame: Frame) -> Result<(), Unread> {
        let counted = usize::from(is_counted(&frame));
        if self.waiting.fetch_add(counted, Ordering::Relaxed) + counted > WAITING_MAX {
            self.waiting.fetch_sub(counted, Ordering::Relaxed);
            return Err(Unread);
        }
        if self.sender.send(frame).is_err() {
            self.waiting.fetch_sub(counted, Ordering::Relaxed);
        }
        Ok(())
    }
}

fn is_counted(frame: &Frame) -> bool {
    !matches!(frame, Frame::Data(..))
}

impl Election {
    /// One among so many `candidates`, and where the frames for the elected go in.
    pub(super) fn new(candidates: usize) -> (Self, Frames) {
        let (frames, queue) = Frames::new();
        let state = Mutex::new(State {
            candidates,
            frames: Some(queue),
        });
        (Self { state }, frames)
    }

    /// A line has greeted: it gets the frames if it is the first.
    fn elect(&self) -> Option<Queue> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.frames.take()
    }

    /// A line ended without a greeting: whether no line can greet any more, and none has.
    fn was_last(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.candidates = state.candidates.saturating_sub(1);
        state.candidates == 0 && state.frames.is_some()
    }
}

/// Stands for election, and where elected reads the line to its end. Writes it with a thread of its own.
pub(super) fn serve(line: Line, election: &Election, events: &SyncSender<Event>) {
    let mut from_guest = Greeted::new(line.from_guest);
    let Some(early) = from_guest.wait() else {
        if election.was_last() {
            let _ = events.send(Event::LinkEnded);
        }
        return;
    };
    let Some(queue) = election.elect() else {
        return;
    };
    let writer = thread::Builder::new().name("link-out".to_owned());
    // Without the thread the line is as good as ended, and the guest is told when its own end closes.
    let written = writer.spawn(move || encode(line.to_guest, &queue));
    let end = match written {
        Ok(_) => decode(from_guest.rest(), early, events),
        Err(error) => Event::LinkBroken(format!("no thread to answer it ({error})")),
    };
    let _ = events.send(end);
}

/// A line that is read up to its greeting.
struct Greeted {
    link: Box<dyn Read + Send>,
    finder: GreetingFinder,
}

impl Greeted {
    fn new(link: Box<dyn Read + Send>) -> Self {
        let finder = GreetingFinder::default();
        Self { link, finder }
    }

    /// Waits for the greeting and gives what came behind it, or `None` where the line ends without one.
    fn wait(&mut self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 4096];
        loop {
            let count = read(&mut self.link, &mut buffer);
            if count == 0 {
                return None;
            }
            if let Some(rest) = self.finder.feed(&buffer[..count]) {
                return Some(rest.to_vec());
            }
        }
    }

    fn rest(self) -> Box<dyn Read + Send> {
        self.link
    }
}

/// Reads frames, the first of them from `early`, and gives the event that the end of the line is.
fn decode(mut link: Box<dyn Read + Send>, early: Vec<u8>, events: &SyncSender<Event>) -> Event {
    let mut decoder = Decoder::default();
    decoder.push(&early);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => {
                    // Nobody hears events any more: the end of this line neither.
                    if events.send(Event::Frame(frame)).is_err() {
                        return Event::LinkEnded;
                    }
                }
                Ok(None) => break,
                Err(malformed) => return Event::LinkBroken(malformed.to_string()),
            }
        }
        let count = read(&mut link, &mut buffer);
        if count == 0 {
            return Event::LinkEnded;
        }
        decoder.push(&buffer[..count]);
    }
}

/// Reads something; an error is the end, since the machine's own end tells why.
fn read(link: &mut dyn Read, buffer: &mut [u8]) -> usize {
    loop {
        match link.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result.unwrap_or(0),
        }
    }
}

fn encode(mut link: Box<dyn Write + Send>, queue: &Queue) {
    let mut bytes = Vec::new();
    for frame in &queue.frames {
        bytes.clear();
        frame.encode(&mut bytes);
        if link.write_all(&bytes).and_then(|()| link.flush()).is_err() {
            return;
        }
        if is_counted(&frame) {
            queue.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Keeps what the kernel prints in `log`, and shows it on our standard error where `echo` says what a line ends with.
pub(super) fn keep_console(
    mut console: Box<dyn Read + Send>,
    log: &Mutex<KernelLog>,
    echo: Option<&'static str>,
    events: &SyncSender<Event>,
) {
    let mut buffer = [0; 4096];
    loop {
        let count = read(&mut console, &mut buffer);
        if count == 0 {
            let _ = events.send(Event::ConsoleEnded);
            return;
        }
        let mut panic = None;
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push(&buffer[..count], |line| {
            if let Some(end) = echo {
                // Who cannot be shown the console still gets the command's output.
                let _ = write!(io::stderr(), "{line}{end}");
            }
            panic = panic.take().or(panic_reason(line).map(str::to_owned));
        });
        drop(log);
        if let Some(reason) = panic {
            let _ = events.send(Event::Panicked(reason));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest::protocol::{GREETING, Stream, VERSION};
    use std::io::{PipeReader, PipeWriter, pipe};
    use std::sync::mpsc::sync_channel;

    /// The guest's end of a line.
    struct Guest {
        reads: PipeReader,
        writes: PipeWriter,
    }

    fn line() -> (Line, Guest) {
        let (from_guest, writes) = pipe().unwrap();
        let (reads, to_guest) = pipe().unwrap();
        let line = Line {
            from_guest: Box::new(from_guest),
            to_guest: Box::new(to_guest),
        };
        (line, Guest { reads, writes })
    }

    struct Elected {
        guests: Vec<Guest>,
        events: Receiver<Event>,
        frames: Frames,
        threads: Vec<thread::JoinHandle<()>>,
    }

    fn start(lines: usize) -> Elected {
        let (election, frames) = Election::new(lines);
        let election = Arc::new(election);
        let (sender, events) = sync_channel(16);
        let (mut guests, mut threads) = (Vec::new(), Vec::new());
        for _ in 0..lines {
            let (line, guest) = line();
            guests.push(guest);
            let (election, sender) = (election.clone(), sender.clone());
            threads.push(thread::spawn(move || serve(line, &election, &sender)));
        }
        Elected {
            guests,
            events,
            frames,
            threads,
        }
    }

    fn greet(guest: &mut Guest) {
        let mut bytes = b"noise of a probe".to_vec();
        bytes.extend(GREETING);
        Frame::Hello(VERSION).encode(&mut bytes);
        guest.writes.write_all(&bytes).unwrap();
    }

    #[test]
    fn the_line_that_greets_is_the_sessions() {
        let mut it = start(2);
        greet(&mut it.guests[1]);
        assert_eq!(it.events.recv(), Ok(Event::Frame(Frame::Hello(VERSION))));
        it.frames.send(Frame::PowerOff).unwrap();
        let mut expected = Vec::new();
        Frame::PowerOff.encode(&mut expected);
        let mut bytes = vec![0; expected.len()];
        it.guests[1].reads.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, expected);
        // The other one's greeting is too late, and so is its end.
        greet(&mut it.guests[0]);
        it.threads.remove(0).join().unwrap();
        it.guests.truncate(1);
        drop(it.guests);
        assert_eq!(it.events.recv(), Ok(Event::LinkEnded));
        assert!(it.events.recv().is_err());
    }

    #[test]
    fn a_line_that_ends_leaves_it_to_the_others() {
        let mut it = start(3);
        it.guests.remove(0);
        it.threads.remove(0).join().unwrap();
        greet(&mut it.guests[0]);
        assert_eq!(it.events.recv(), Ok(Event::Frame(Frame::Hello(VERSION))));
    }

    #[test]
    fn when_all_end_without_a_greeting_the_link_has_ended() {
        let it = start(2);
        drop(it.guests);
        assert_eq!(it.events.recv(), Ok(Event::LinkEnded));
        assert!(it.events.recv().is_err());
    }

    #[test]
    fn a_guest_that_reads_nothing_makes_nothing_grow() {
        let mut it = start(1);
        greet(&mut it.guests[0]);
        assert_eq!(it.events.recv(), Ok(Event::Frame(Frame::Hello(VERSION))));
        let credit = || it.frames.send(Frame::Credit(Stream::Stdout, 1));
        assert!((0..100_000).any(|_| credit().is_err()));
        // Once it has read what waited there is room again.
        let mut bytes = vec![0; 64 * 1024];
        while it.frames.send(Frame::PowerOff).is_err() {
            assert_ne!(it.guests[0].reads.read(&mut bytes).unwrap(), 0);
        }
    }

    #[test]
    fn what_is_no_frame_breaks_the_link() {
        let mut it = start(1);
        it.guests[0].writes.write_all(GREETING).unwrap();
        it.guests[0].writes.write_all(&[0xff; 5]).unwrap();
        assert!(matches!(it.events.recv(), Ok(Event::LinkBroken(_))));
    }
}
