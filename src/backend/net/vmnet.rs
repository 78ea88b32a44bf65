//! `--net vmnet`: an interface of macOS's own in shared mode, behind the host's address, where the system gives addresses by DHCP.
//!
//! The system calls when there are packets; the device is woken then, once, and takes them all, many a call. What it has no
//! room for is kept, and nothing more is read: a guest that takes none costs nothing. What a guest sends is gathered, so
//! that it can be written many packets a call too.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::{Frame, HEADER, Network, Offload, Offloads, Receiver, Wake};

#[cfg(all(target_os = "macos", feature = "vmnet"))]
mod system;
#[cfg(all(target_os = "macos", feature = "vmnet"))]
pub use system::{VmnetError, open};

/// What packets are read from and written to. No call waits.
pub trait Packets: Send + Sync {
    /// Why it could not be done.
    type Error: fmt::Display;

    /// The most packets that are written with one call.
    fn count_max(&self) -> usize;

    /// The most bytes that are read or written with one call.
    fn bytes_max(&self) -> usize;

    /// The most bytes of a packet, no more than `bytes_max`.
    fn packet_max(&self) -> usize;

    /// The most bytes behind an Ethernet header.
    fn mtu(&self) -> u16;

    /// Reads what is there, each packet to the next `packet_max` bytes of the buffer, and their lengths.
    fn read(&self, buffer: &mut [u8], lens: &mut Vec<usize>) -> Result<(), Self::Error>;

    /// Writes the packets of these lengths that lie one behind the other. Says how many were taken.
    fn write(&self, buffer: &[u8], lens: &[usize]) -> Result<usize, Self::Error>;
}

/// The interface.
pub struct Vmnet<P> {
    packets: P,
    signal: Arc<Signal>,
    incoming: Mutex<Incoming>,
    outgoing: Mutex<Outgoing>,
}

/// How the device learns of packets.
#[derive(Default)]
pub struct Signal {
    wake: OnceLock<Wake>,
    /// The device has been woken, and has not begun to take packets since.
    announced: AtomicBool,
}

impl Signal {
    /// There are packets. Whoever calls this holds no lock.
    pub fn arrived(&self) {
        if !self.announced.swap(true, Ordering::SeqCst) {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }
}

/// The packets that were read last.
struct Incoming {
    buffer: Vec<u8>,
    lens: Vec<usize>,
    /// How many of them the guest has had.
    taken: usize,
    /// Reading has failed, and that was said.
    failed: bool,
}

impl Incoming {
    /// Where the next packet is, unless the guest has had all.
    fn next(&self, packet_max: usize) -> Option<Range<usize>> {
        let len = *self.lens.get(self.taken)?;
        let start = self.taken * packet_max;
        Some(start..start + len)
    }

    /// Reads the next packets. False where there are none.
    fn fetch(&mut self, packets: &impl Packets) -> bool {
        self.taken = 0;
        if let Err(error) = packets.read(&mut self.buffer, &mut self.lens) {
            self.lens.clear();
            if !self.failed {
                log::warn!("the network receives no packets: {error}");
            }
            self.failed = true;
            return false;
        }
        self.failed = false;
        !self.lens.is_empty()
    }
}

/// The packets that are to be written next.
#[derive(Default)]
struct Outgoing {
    buffer: Vec<u8>,
    lens: Vec<usize>,
}

impl Outgoing {
    fn write(&mut self, packets: &impl Packets) {
        if !self.lens.is_empty() {
            // What the system has no buffers for is lost as on every Ethernet.
            let _ = packets.write(&self.buffer, &self.lens);
        }
        self.buffer.clear();
        self.lens.clear();
    }
}

impl<P: Packets> Vmnet<P> {
    /// An interface whose device is woken by `signal`.
    pub fn new(packets: P, signal: Arc<Signal>) -> Self {
        let incoming = Incoming {
            buffer: vec![0; packets.bytes_max()],
            lens: Vec::new(),
            taken: 0,
            failed: false,
        };
        Self {
            packets,
            signal,
            incoming: Mutex::new(incoming),
            outgoing: Mutex::default(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<P: Packets> Network for Vmnet<P> {
    fn offloads(&self) -> Offloads {
        Offloads::empty()
    }

    fn mtu(&self) -> u16 {
        self.packets.mtu()
    }

    fn attach(&self, wake: Wake) {
        // An interface has one guest. What has come before is told of now.
        if self.signal.wake.set(wake).is_ok() && self.signal.announced.load(Ordering::SeqCst) {
            self.signal.wake();
        }
    }

    fn send(&self, frames: &[Frame<'_>]) {
        let mut outgoing = lock(&self.outgoing);
        for frame in frames {
            let len = frame.len();
            if len > self.packets.packet_max() {
                continue;
            }
            let full = outgoing.lens.len() >= self.packets.count_max();
            if full || outgoing.buffer.len() + len > self.packets.bytes_max() {
                outgoing.write(&self.packets);
            }
            let start = outgoing.buffer.len();
            match frame.copy_to(&mut outgoing.buffer) {
                Ok(()) => outgoing.lens.push(len),
                Err(_outside) => outgoing.buffer.truncate(start),
            }
        }
        outgoing.write(&self.packets);
    }

    fn receive(&self, receiver: &mut dyn Receiver) {
        let max = self.packets.packet_max();
        let mut incoming = lock(&self.incoming);
        loop {
            while let Some(at) = incoming.next(max) {
                let frame = incoming.buffer.get(at).filter(|it| it.len() >= HEADER);
                if let Some(frame) = frame
                    && !receiver.deliver(Offload::default(), frame)
                {
                    return;
                }
                incoming.taken += 1;
            }
            // What comes from now on wakes again, even where the next call reads it already.
            self.signal.announced.store(false, Ordering::SeqCst);
            if !incoming.fetch(&self.packets) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
