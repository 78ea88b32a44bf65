//! The launcher's end of the private link (`guest::link`): a station that listens at TCP ports, and whose connections are
//! pairs of byte pipes for the launcher's threads.
//!
//! The device's threads bring the guest's frames and take ours; both happen under one lock that is never held while
//! anybody waits. The launcher's threads wait for bytes or room on a condition of their connection's own. One more thread waits
//! for what is late, which on such a link is nothing but acknowledgments.
//!
//! A link lives as long as its machine, and works in rounds. When the machine has come to rest, the launcher hangs up
//! (`LinkNet::hang_up`): what was received is still read to its end, and nothing else happens any more. When the machine
//! starts again, it picks up, and listens anew.
//!
//! Whatever the guest does, memory is bounded: so many connections, each with buffers of so many bytes; so many that
//! nobody has accepted; so many answers. What is more is dropped, as if it had been lost on the way.

mod frames;
mod peers;
mod streams;

pub use streams::{LinkReader, LinkWriter, Listener};

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Instant;

use super::{Frame, Network, Offloads, Receiver, Wake};
use peers::Peers;

/// The most bytes of a packet: as many as Ethernet drivers allow.
const MTU: u16 = 65_520;

/// The link.
pub struct LinkNet(Arc<Link>);

/// What its owner, its readers, writers and listeners share.
struct Link {
    peers: Mutex<Peers>,
    wake: OnceLock<Wake>,
    /// A connection has come, or none will.
    arrived: Condvar,
    /// What is late has become so earlier than the thread knows.
    sooner: Condvar,
}

impl LinkNet {
    /// A link on which nobody listens yet. It fails where there can be no more threads.
    pub fn new() -> io::Result<Self> {
        let link = Arc::new(Link {
            peers: Mutex::new(Peers::new()),
            wake: OnceLock::new(),
            arrived: Condvar::new(),
            sooner: Condvar::new(),
        });
        let timers = link.clone();
        thread::Builder::new()
            .name("link-timers".into())
            .spawn(move || timers.keep_time())?;
        Ok(Self(link))
    }

    /// Listens at a port until the round ends or the listener is dropped. A listener that is there already has no more
    /// connections.
    pub fn listen(&self, port: u16) -> Listener {
        let mut peers = self.0.peers();
        peers.listen(port);
        let round = peers.round();
        drop(peers);
        self.0.arrived.notify_all();
        Listener::new(self.0.clone(), port, round)
    }

    /// Ends the round: readers get what was received and then the end, writers fail, and listeners have no more
    /// connections.
    pub fn hang_up(&self) {
        self.0.peers().hang_up();
        self.0.arrived.notify_all();
    }

    /// Begins another round, with no listeners.
    pub fn pick_up(&self) {
        self.0.peers().pick_up();
        self.0.arrived.notify_all();
    }
}

impl Drop for LinkNet {
    fn drop(&mut self) {
        self.0.peers().end();
        self.0.arrived.notify_all();
        self.0.sooner.notify_all();
    }
}

impl Link {
    fn peers(&self) -> MutexGuard<'_, Peers> {
        // Nothing panics with the lock held; if it did, a connection might be stuck, and no worse.
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the lock back, and tells whoever has to know what has changed.
    fn tell(&self, mut peers: MutexGuard<'_, Peers>) {
        let news = peers.take_news();
        drop(peers);
        news.changed.iter().for_each(|it| it.notify_all());
        if news.arrived {
            self.arrived.notify_all();
        }
        if news.sooner {
            self.sooner.notify_one();
        }
        if news.frames
            && let Some(wake) = self.wake.get()
        {
            wake();
        }
    }

    /// The life of the thread that waits for what is late.
    fn keep_time(&self) {
        let mut peers = self.peers();
        while !peers.has_ended() {
            let now = Instant::now();
            peers.tick(now);
            if peers.has_news() {
                self.tell(peers);
                peers = self.peers();
                continue;
            }
            peers = match peers.set_alarm() {
                None => {
                    let woken = self.sooner.wait(peers);
                    woken.unwrap_or_else(PoisonError::into_inner)
                }
                Some(at) => {
                    let time = at.saturating_duration_since(now);
                    let woken = self.sooner.wait_timeout(peers, time);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

impl Network for LinkNet {
    fn offloads(&self) -> Offloads {
        Offloads::all()
    }

    fn mtu(&self) -> u16 {
        MTU
    }

    fn attach(&self, wake: Wake) {
        // A link has one interface.
        let _ = self.0.wake.set(wake);
    }

    fn send(&self, frames: &[Frame<'_>]) {
        let now = Instant::now();
        let mut peers = self.0.peers();
        frames.iter().for_each(|frame| peers.frame(now, frame));
        self.0.tell(peers);
    }

    fn receive(&self, receiver: &mut dyn Receiver) {
        let mut peers = self.0.peers();
        peers.receive(Instant::now(), receiver);
        self.0.tell(peers);
    }
}

#[cfg(test)]
mod tests;
