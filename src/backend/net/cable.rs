//! A cable between two networks, each of which takes the other for its guest. For tests.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use hvf_sys::file::{Piece, split};
use hvf_sys::ram::Ram;

use super::{Frame, Network, Offload, Offloads, Receiver, Room};

/// Bytes of a frame that lie before its body.
const HEAD: u64 = 192;
/// Where frames are while they are on the cable.
const AT: u64 = 0x1000;
const RAM: u64 = 0x2_0000;

/// The cable. It is cut when this is dropped.
pub(crate) struct Cable {
    signal: Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Cable {
    /// Plugs in both ends.
    pub(crate) fn new(left: Arc<dyn Network>, right: Arc<dyn Network>) -> Self {
        let (signal, signals) = channel();
        for end in [&left, &right] {
            let signal = signal.clone();
            end.attach(Box::new(move || _ = signal.send(true)));
        }
        let ram = Ram::new(&[(0, RAM)]).unwrap();
        let thread = thread::spawn(move || {
            // What came before the cable is taken first.
            let mut goes_on = true;
            while goes_on {
                for (from, to) in [(&left, &right), (&right, &left)] {
                    from.receive(&mut End {
                        to: to.as_ref(),
                        ram: &ram,
                        pieces: Vec::new(),
                    });
                }
                goes_on = signals.recv().unwrap_or(false);
                // What was said meanwhile is the same.
                goes_on &= signals.try_iter().all(|it| it);
            }
        });
        Self {
            signal,
            thread: Some(thread),
        }
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        let _ = self.signal.send(false);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An end that sends at once what it receives.
struct End<'a> {
    to: &'a dyn Network,
    ram: &'a Ram,
    pieces: Vec<Piece>,
}

impl Receiver for End<'_> {
    fn offloads(&self) -> Offloads {
        self.to.offloads()
    }

    fn ram(&self) -> &Ram {
        self.ram
    }

    fn room(&mut self, len: usize) -> Room<'_> {
        self.pieces = vec![Piece {
            gpa: AT,
            len: len as u64,
        }];
        Room::Here {
            ram: self.ram,
            pieces: &self.pieces,
        }
    }

    fn commit(&mut self, len: usize, offload: Offload) {
        let mut head = vec![0; len.min(HEAD as usize)];
        self.ram.read(AT, &mut head).unwrap();
        let (whole, _) = split(&self.pieces, len as u64);
        let (_, body) = split(&whole, HEAD);
        self.to.send(&[Frame {
            offload,
            head: &head,
            body: &body,
            ram: self.ram,
        }]);
    }
}
