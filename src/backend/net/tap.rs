//! `--net tap:NAME`: a TAP interface of Linux, which somebody with the privilege to has made and given to the user
//! (`ip tuntap add NAME mode tap user USER`), and who bridges or routes it as they like.
//!
//! A guest's frames are written where they lie. What the kernel sends is read into a buffer of ours, since how long a
//! frame is shows only then, and copied to the guest. Checksums and segmentation are left to whom the frame goes, both ways.
//!
//! One thread waits for the interface to have frames, wakes the device, and waits again only when all have been
//! taken: a guest that takes none costs nothing.

use std::fmt;
use std::io::{self, PipeWriter};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use hvf_sys::os::poll::{Polled, poll};
use hvf_sys::os::tap;

use super::{FRAME_MAX, Frame, HEADER, MTU, Network, Offload, Offloads, Receiver, Wake, vnet};

/// The interface.
pub struct Tap {
    shared: Arc<Shared>,
    mtu: u16,
    /// Closing it ends the thread.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    tap: tap::Tap,
    wake: OnceLock<Wake>,
    incoming: Mutex<Incoming>,
    /// There is no frame left, or nobody will ask.
    changed: Condvar,
}

/// What comes from the kernel.
struct Incoming {
    buffer: Vec<u8>,
    /// How many bytes of the buffer are a frame that the guest has had no room for.
    pending: usize,
    offload: Offload,
    /// The device has been woken and has not taken everything yet.
    announced: bool,
    ended: bool,
}

/// Why an interface cannot be used.
#[derive(Debug)]
pub struct TapError {
    name: String,
    cause: io::Error,
}

impl fmt::Display for TapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, cause } = self;
        write!(f, "cannot open the TAP interface {name}: {cause}; ")?;
        match cause.raw_os_error() {
            None => write!(f, "give a name of 1 to {} letters", tap::NAME_MAX),
            // EBUSY: somebody else has it open.
            Some(16) => f.write_str("choose one that no other program uses"),
            // ENOENT, ENODEV, ENXIO: the kernel has no such device.
            Some(2 | 6 | 19) => f.write_str("load the kernel's module tun (modprobe tun)"),
            Some(22) => f.write_str("the interface must be of mode tap and without multi_queue"),
            _ => write!(
                f,
                "make it once as root: ip tuntap add {name} mode tap user \"$USER\""
            ),
        }
    }
}

impl std::error::Error for TapError {}

impl Tap {
    /// Opens the interface.
    pub fn open(name: &str) -> Result<Self, TapError> {
        Self::try_open(name).map_err(|cause| TapError {
            name: name.escape_debug().to_string(),
            cause,
        })
    }

    fn try_open(name: &str) -> io::Result<Self> {
        let tap = tap::Tap::open(name)?;
        let mtu = tap.mtu().ok().and_then(|mtu| u16::try_from(mtu).ok());
        let shared = Arc::new(Shared {
            tap,
            wake: OnceLock::new(),
            incoming: Mutex::new(Incoming {
                buffer: vec![0; tap::HEADER + FRAME_MAX],
                pending: 0,
                offload: Offload::default(),
                announced: false,
                ended: false,
            }),
            changed: Condvar::new(),
        });
        let (stopped, stop) = io::pipe()?;
        let watching = shared.clone();
        let thread = thread::Builder::new()
            .name(format!("tap-{name}"))
            .spawn(move || watching.watch(&stopped))?;
        Ok(Self {
            shared,
            mtu: mtu.unwrap_or(MTU),
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.shared.incoming().ended = true;
        self.shared.changed.notify_all();
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn incoming(&self) -> MutexGuard<'_, Incoming> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of the thread that waits for frames.
    fn watch(&self, stopped: &io::PipeReader) {
        loop {
            let mut set = [
                Polled::new(&self.tap, true, false),
                Polled::new(stopped, true, false),
            ];
            if let Err(error) = poll(&mut set, None) {
                return log::warn!(
                    "the TAP interface receives no more: cannot wait for it: {error}"
                );
            }
            let mut incoming = self.incoming();
            if incoming.ended || set[1].readable() {
                return;
            }
            if set[0].broken() {
                return log::warn!("the TAP interface receives no more: it is gone");
            }
            if !set[0].readable() {
                continue;
            }
            incoming.announced = true;
            drop(incoming);
            if let Some(wake) = self.wake.get() {
                wake();
            }
            let mut incoming = self.incoming();
            while incoming.announced && !incoming.ended {
                let woken = self.changed.wait(incoming);
                incoming = woken.unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

impl Incoming {
    /// Reads the next frame, unless there is one already. False where there is none.
    fn fetch(&mut self, tap: &tap::Tap) -> bool {
        while self.pending == 0 {
            let count = match tap.read(&mut self.buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // None now, or none ever: an interface that is down gives frames when it is up again.
                Err(_) => return false,
            };
            let Some((header, frame)) = self.buffer[..count].split_first_chunk() else {
                continue;
            };
            // What the kernel sends makes sense, except segments of other kinds than were asked for.
            if let Ok(offload) = vnet::read(header)
                && frame.len() >= HEADER
            {
                (self.pending, self.offload) = (count, offload);
            }
        }
        true
    }
}

impl Network for Tap {
    fn offloads(&self) -> Offloads {
        Offloads::all()
    }

    fn mtu(&self) -> u16 {
        self.mtu
    }

    fn attach(&self, wake: Wake) {
        // An interface has one guest. What has come before is told of now.
        if let Err(_second) = self.shared.wake.set(wake) {
            return;
        }
        if self.shared.incoming().announced
            && let Some(wake) = self.shared.wake.get()
        {
            wake();
        }
    }

    fn send(&self, frames: &[Frame<'_>]) {
        for frame in frames {
            let header = vnet::write(frame.offload, frame.len());
            // What the kernel has no room for, or an interface that is down, is lost as on every Ethernet.
            let _ = self
                .shared
                .tap
                .write(&header, frame.head, frame.ram, frame.body);
        }
    }

    fn receive(&self, receiver: &mut dyn Receiver) {
        let mut incoming = self.shared.incoming();
        while incoming.fetch(&self.shared.tap) {
            let frame = &incoming.buffer[tap::HEADER..incoming.pending];
            if !receiver.deliver(incoming.offload, frame) {
                return;
            }
            incoming.pending = 0;
        }
        incoming.announced = false;
        drop(incoming);
        self.shared.changed.notify_one();
    }
}

#[cfg(test)]
mod tests;
