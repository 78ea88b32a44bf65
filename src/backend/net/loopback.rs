//! A cable whose ends are one: every frame comes back to its sender, in order. For tests.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::{Frame, Network, Offload, Offloads, Receiver, Wake};

/// The most bytes that are on the cable. What is sent meanwhile is dropped.
const CAPACITY: usize = 4 << 20;
/// What a frame counts for besides its bytes.
const FRAME: usize = 64;

/// The cable.
#[derive(Default)]
pub struct Loop {
    offloads: Offloads,
    mtu: u16,
    wake: OnceLock<Wake>,
    cable: Mutex<Cable>,
}

#[derive(Default)]
struct Cable {
    frames: VecDeque<(Offload, Vec<u8>)>,
    bytes: usize,
    dropped: u64,
}

impl Loop {
    /// A cable that carries frames as unfinished as `offloads` says, of up to `mtu` bytes behind their header.
    pub fn new(offloads: Offloads, mtu: u16) -> Self {
        Self {
            offloads,
            mtu,
            ..Self::default()
        }
    }

    /// How many frames were dropped since there was no room.
    pub fn dropped(&self) -> u64 {
        self.cable().dropped
    }

    /// Takes away everything that is on the cable.
    pub fn clear(&self) {
        let mut cable = self.cable();
        (cable.frames, cable.bytes) = (VecDeque::new(), 0);
    }

    /// How many frames are on the cable.
    pub fn waiting(&self) -> usize {
        self.cable().frames.len()
    }

    fn cable(&self) -> MutexGuard<'_, Cable> {
        self.cable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn carry(&self, frame: &Frame<'_>) {
        let cost = frame.len() + FRAME;
        let mut bytes = Vec::with_capacity(frame.len());
        let copied = frame.copy_to(&mut bytes);
        let mut cable = self.cable();
        if copied.is_err() || cable.bytes + cost > CAPACITY {
            cable.dropped += 1;
            return;
        }
        cable.bytes += cost;
        cable.frames.push_back((frame.offload, bytes));
    }
}

impl Network for Loop {
    fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn mtu(&self) -> u16 {
        self.mtu
    }

    fn attach(&self, wake: Wake) {
        // A cable has one interface.
        let _ = self.wake.set(wake);
    }

    fn send(&self, frames: &[Frame<'_>]) {
        frames.iter().for_each(|frame| self.carry(frame));
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }

    fn receive(&self, receiver: &mut dyn Receiver) {
        loop {
            let next = self.cable().frames.pop_front();
            let Some((offload, bytes)) = next else {
                return;
            };
            let delivered = receiver.deliver(offload, &bytes);
            let mut cable = self.cable();
            if !delivered {
                return cable.frames.push_front((offload, bytes));
            }
            cable.bytes -= bytes.len() + FRAME;
        }
    }
}
