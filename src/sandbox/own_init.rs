//! A guest that runs an init of its own, as a session.
//!
//! Such a guest speaks no protocol: what it has to say it says on its console, and there it reads what a person types.
//! So the guest's half of the session is here. Its command is the whole system: the console is the command's output, the
//! keyboard its input, and its end the machine's. Back-pressure is the same as ever: the console is read while there
//! is credit, and the guest sees a busy port.
//!
//! A request to end is the machine's power button, and an interrupt is typed.
//!
//! The kernel's console is the same line. What is read there is passed on to whoever watches for the kernel's end, who
//! must read it.

use super::drive::Lines;
use super::line::Line;
use guest::protocol::{DATA_MAX, Decoder, Frame, GREETING, Stream, VERSION, WINDOW};
use std::io::{self, Read, Write, pipe};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

/// What presses the machine's power button.
pub type PowerButton = Box<dyn Fn() + Send>;

/// The signal that asks a session to end.
const SIGTERM: u8 = 15;
/// The signal of an interrupt, and what a terminal has for it: Ctrl-C.
const SIGINT: u8 = 2;
const END_OF_TEXT: u8 = 3;

/// The lines of a session with a guest whose console and keyboard these are. Its threads end with the console. Errors
/// are the system's, where it has no more descriptors or threads.
pub fn own_init(
    console: Box<dyn Read + Send>,
    keyboard: Box<dyn Write + Send>,
    button: PowerButton,
) -> io::Result<Lines> {
    let (from_guest, frames) = pipe()?;
    let (orders, to_guest) = pipe()?;
    let (watched, watch) = pipe()?;
    let credit = Arc::new(Credit::default());
    let frames = Arc::new(Mutex::new(Some(Box::new(frames) as Box<dyn Write + Send>)));

    let (typed, keys) = channel();
    let half = Half { frames, credit };
    let (shows, types) = (half.clone(), half.clone());
    spawn("own-console", move || {
        show(console, Box::new(watch), &shows)
    })?;
    spawn("own-keyboard", move || type_in(keyboard, &keys, &types))?;
    spawn("own-orders", move || {
        obey(Box::new(orders), &typed, &button, &half);
    })?;
    let line = Line {
        from_guest: Box::new(from_guest),
        to_guest: Box::new(to_guest),
    };
    Ok(Lines {
        init: vec![line],
        console: Box::new(watched),
    })
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let builder = thread::Builder::new().name(name.to_owned());
    builder.spawn(body).map(drop)
}

/// What the threads of the guest's half share.
#[derive(Clone)]
struct Half {
    /// Where frames go to the launcher's half, until the console has ended.
    frames: Arc<Mutex<Option<Box<dyn Write + Send>>>>,
    credit: Arc<Credit>,
}

impl Half {
    /// Sends bytes; false where nobody is there to take them.
    fn send(&self, bytes: &[u8]) -> bool {
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = frames.as_mut().map(|frames| frames.write_all(bytes));
        matches!(sent, Some(Ok(())))
    }

    fn send_frame(&self, frame: &Frame) -> bool {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.send(&bytes)
    }

    fn close(&self) {
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        *frames = None;
    }
}

/// How many bytes of output may be under way.
struct Credit {
    left: Mutex<u32>,
    changed: Condvar,
}

impl Default for Credit {
    fn default() -> Self {
        Self {
            left: Mutex::new(WINDOW),
            changed: Condvar::new(),
        }
    }
}

impl Credit {
    fn grant(&self, bytes: u32) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        *left = left.saturating_add(bytes);
        self.changed.notify_one();
    }

    /// Waits until there is some and takes up to `wanted` of it.
    fn take(&self, wanted: u32) -> u32 {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_while(left, |left| *left == 0);
        let mut left = waited.unwrap_or_else(PoisonError::into_inner);
        let taken = wanted.min(*left);
        *left -= taken;
        taken
    }
}

/// Greets, then sends what comes from the console, to its end.
fn show(mut console: Box<dyn Read + Send>, mut watch: Box<dyn Write + Send>, half: &Half) {
    let mut greeting = GREETING.to_vec();
    Frame::Hello(VERSION).encode(&mut greeting);
    half.send(&greeting);
    let mut buffer = [0; DATA_MAX];
    loop {
        let count = match console.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result.unwrap_or(0),
        };
        if count == 0 {
            break;
        }
        // Whoever does not watch misses it; the output goes on.
        let _ = watch.write_all(&buffer[..count]);
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            let allowed = half.credit.take(rest.len() as u32);
            let (now, later) = rest.split_at(allowed as usize);
            half.send_frame(&Frame::Data(Stream::Stdout, now.to_vec()));
            rest = later;
        }
    }
    // The machine's end says the rest.
    half.close();
}

/// What is to be typed.
enum Keys {
    /// Of our input: there is credit for it once it is typed.
    Input(Vec<u8>),
    Interrupt,
}

/// Types what comes. A guest that reads nothing makes this thread wait, and no other: the window bounds what comes meanwhile.
fn type_in(mut keyboard: Box<dyn Write + Send>, keys: &Receiver<Keys>, half: &Half) {
    for keys in keys {
        let (bytes, credit) = match keys {
            Keys::Input(bytes) => (bytes, true),
            Keys::Interrupt => (vec![END_OF_TEXT], false),
        };
        let typed = keyboard.write_all(&bytes).and_then(|()| keyboard.flush());
        // A keyboard that is gone is the machine's end.
        if typed.is_err() {
            return;
        }
        if credit {
            half.send_frame(&Frame::Credit(Stream::Stdin, bytes.len() as u32));
        }
    }
}

/// Does what the launcher's half says: has it typed, and takes credit.
fn obey(mut orders: Box<dyn Read + Send>, keys: &Sender<Keys>, button: &PowerButton, half: &Half) {
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; DATA_MAX];
    while let Ok(count @ 1..) = orders.read(&mut buffer) {
        decoder.push(&buffer[..count]);
        while let Ok(Some(frame)) = decoder.next_frame() {
            match frame {
                // A keyboard that is gone is the machine's end.
                Frame::Data(Stream::Stdin, bytes) => drop(keys.send(Keys::Input(bytes))),
                Frame::Credit(Stream::Stdout, bytes) => half.credit.grant(bytes),
                // Nobody reads it, so nothing holds it up.
                Frame::Closed(Stream::Stdout) => half.credit.grant(u32::MAX),
                Frame::Signal(SIGTERM) => button(),
                Frame::Signal(SIGINT) => drop(keys.send(Keys::Interrupt)),
                // A console has no size, no end of input, and no other signals.
                _ => {}
            }
        }
    }
    // So that the console is read to its end even if nobody will ever grant more.
    half.credit.grant(u32::MAX);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{PipeReader, PipeWriter};
    use std::time::Duration;

    struct Guest {
        presses: Receiver<()>,
        console: Option<PipeWriter>,
        keyboard: PipeReader,
        lines: Lines,
    }

    fn guest() -> Guest {
        let (console, shows) = pipe().unwrap();
        let (keyboard, types) = pipe().unwrap();
        let (press, presses) = channel();
        let button = Box::new(move || press.send(()).unwrap());
        let lines = own_init(Box::new(console), Box::new(types), button).unwrap();
        Guest {
            presses,
            console: Some(shows),
            keyboard,
            lines,
        }
    }

    impl Guest {
        fn line(&mut self) -> &mut Line {
            &mut self.lines.init[0]
        }

        fn send(&mut self, frame: &Frame) {
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            self.line().to_guest.write_all(&bytes).unwrap();
        }

        fn expect(&mut self, bytes: &[u8]) {
            let mut got = vec![0; bytes.len()];
            self.line().from_guest.read_exact(&mut got).unwrap();
            assert_eq!(got, bytes);
        }

        fn expect_frame(&mut self, frame: &Frame) {
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            self.expect(&bytes);
        }

        fn show(&mut self, bytes: &[u8]) {
            self.console.as_mut().unwrap().write_all(bytes).unwrap();
            let mut watched = vec![0; bytes.len()];
            self.lines.console.read_exact(&mut watched).unwrap();
            assert_eq!(watched, bytes);
        }
    }

    #[test]
    fn the_console_is_the_output_and_the_keyboard_the_input() {
        let mut guest = guest();
        guest.expect(GREETING);
        guest.expect_frame(&Frame::Hello(VERSION));
        guest.show(b"login: ");
        guest.expect_frame(&Frame::Data(Stream::Stdout, b"login: ".to_vec()));
        guest.send(&Frame::Start(guest::protocol::Start::default()));
        guest.send(&Frame::Data(Stream::Stdin, b"root\r".to_vec()));
        let mut typed = [0; 5];
        guest.keyboard.read_exact(&mut typed).unwrap();
        assert_eq!(&typed, b"root\r");
        guest.expect_frame(&Frame::Credit(Stream::Stdin, 5));
    }

    #[test]
    fn a_request_to_end_is_the_power_button_and_an_interrupt_is_typed() {
        let mut guest = guest();
        guest.send(&Frame::Signal(SIGINT));
        let mut typed = [0];
        guest.keyboard.read_exact(&mut typed).unwrap();
        assert_eq!(typed, [END_OF_TEXT]);
        assert!(guest.presses.try_recv().is_err());
        guest.send(&Frame::Signal(SIGTERM));
        guest.presses.recv().unwrap();
    }

    #[test]
    fn a_guest_that_reads_nothing_can_still_be_asked_to_end_and_shows_its_output() {
        let mut guest = guest();
        guest.expect(GREETING);
        guest.expect_frame(&Frame::Hello(VERSION));
        // More than the keyboard's pipe takes.
        for _ in 0..WINDOW as usize / DATA_MAX {
            guest.send(&Frame::Data(Stream::Stdin, vec![b'x'; DATA_MAX]));
        }
        guest.send(&Frame::Signal(SIGTERM));
        let pressed = guest.presses.recv_timeout(Duration::from_secs(60));
        assert_eq!(pressed, Ok(()));
        guest.show(b"login: ");
    }

    #[test]
    fn its_end_is_the_consoles() {
        let mut guest = guest();
        guest.expect(GREETING);
        guest.expect_frame(&Frame::Hello(VERSION));
        guest.console = None;
        let mut rest = Vec::new();
        guest.line().from_guest.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"");
        guest.lines.console.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"");
    }

    #[test]
    fn no_more_is_under_way_than_there_is_credit_for() {
        let mut guest = guest();
        guest.expect(GREETING);
        guest.expect_frame(&Frame::Hello(VERSION));
        let part = vec![7; 1024];
        for _ in 0..WINDOW / 1024 {
            guest.show(&part);
            guest.expect_frame(&Frame::Data(Stream::Stdout, part.clone()));
        }
        guest.show(b"more");
        guest.send(&Frame::Credit(Stream::Stdout, 3));
        guest.expect_frame(&Frame::Data(Stream::Stdout, b"mor".to_vec()));
        guest.send(&Frame::Closed(Stream::Stdout));
        guest.expect_frame(&Frame::Data(Stream::Stdout, b"e".to_vec()));
    }
}
