//! Entropy device (virtio 1.2, 5.4): fills buffers with the host kernel's random numbers.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};

use hvf_sys::ram::Ram;

use super::{Buffers, Identity, Model, Turn};

/// The most that one request gets. A driver asks again for more; a guest that lists its memory a thousand times
/// over in one request must not keep a thread busy for minutes.
const REQUEST_MAX: usize = 1 << 16;
const CHUNK: usize = 1 << 10;

/// The device.
#[derive(Default)]
pub struct Rnd {
    failed: AtomicBool,
}

impl Rnd {
    /// Fills the first bytes, and says how many.
    fn fill(&self, buffers: &Buffers, ram: &Ram) -> u32 {
        let mut rest = buffers.clone();
        let mut done = 0;
        while done < REQUEST_MAX && !rest.is_empty() {
            let mut bytes = [0; CHUNK];
            if let Err(e) = hvf_sys::random::fill(&mut bytes) {
                if !self.failed.swap(true, Ordering::Relaxed) {
                    log::warn!("virtio-rnd: cannot get random numbers from the host: {e}");
                }
                break;
            }
            let (here, behind) = rest.split(CHUNK as u64);
            match here.write(ram, &bytes) {
                Ok(n) => done += n,
                Err(_) => break,
            }
            rest = behind;
        }
        done as u32
    }
}

impl Model for Rnd {
    fn identity(&self) -> Identity {
        Identity {
            kind: 4,
            class: 0x00_ff00,
            name: "virtio-rnd",
        }
    }

    fn features(&self) -> u64 {
        0
    }

    fn queues(&self) -> u16 {
        1
    }

    fn config(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&[])
    }

    fn serve(&self, turn: &mut Turn<'_>) {
        let ram = turn.ram();
        turn.each(|chain| self.fill(&chain.writable, ram));
    }
}
