//! The launcher's ends of a link's connections.

use std::io::{self, Read, Write};
use std::sync::{Arc, MutexGuard, PoisonError};

use super::Link;
use super::peers::{Id, Outcome, Peers};

/// A port that is listened at for a round.
pub struct Listener {
    link: Arc<Link>,
    port: u16,
    round: u64,
}

impl Listener {
    pub(super) fn new(link: Arc<Link>, port: u16, round: u64) -> Self {
        Self { link, port, round }
    }

    /// Waits until the guest has connected. None once the round is over.
    pub fn accept(&self) -> Option<(LinkReader, LinkWriter)> {
        let mut peers = self.link.peers();
        let accepted = loop {
            match peers.accept(self.port, self.round) {
                Some(accepted) => break accepted,
                None => {
                    let woken = self.link.arrived.wait(peers);
                    peers = woken.unwrap_or_else(PoisonError::into_inner);
                }
            }
        };
        let end = |id| End {
            link: self.link.clone(),
            id,
        };
        accepted.map(|id| (LinkReader(end(id)), LinkWriter(end(id))))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut peers = self.link.peers();
        peers.ignore(self.port, self.round);
        self.link.tell(peers);
    }
}

/// One side's hold on a connection.
struct End {
    link: Arc<Link>,
    id: Id,
}

impl End {
    /// Tries until it is over.
    fn until_done<T>(&self, mut attempt: impl FnMut(&mut Peers) -> Outcome<T>) -> T {
        let mut peers = self.link.peers();
        loop {
            match attempt(&mut peers) {
                Outcome::Done(value) => {
                    self.link.tell(peers);
                    return value;
                }
                Outcome::Wait(changed) => {
                    let woken = changed.wait(peers);
                    peers = woken.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut MutexGuard<'_, Peers>)) {
        let mut peers = self.link.peers();
        change(&mut peers);
        self.link.tell(peers);
    }
}

/// What the guest sends. A read waits for bytes; it gives none when the guest has closed or the round is over, after
/// everything that was received, and fails when the guest has reset the connection. When it is dropped, what comes is
/// thrown away, and resets the connection if its writer is gone as well.
pub struct LinkReader(End);

impl Read for LinkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.until_done(|peers| peers.read(self.0.id, buffer))
    }
}

impl Drop for LinkReader {
    fn drop(&mut self) {
        self.0.change(|peers| peers.drop_reader(self.0.id));
    }
}

/// What the guest receives. A write waits for room, and fails when the connection or the round is over. When it is
/// dropped, the guest reads the end behind everything that was written.
pub struct LinkWriter(End);

impl Write for LinkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.until_done(|peers| peers.write(self.0.id, bytes))
    }

    /// Nothing to do: what is written is sent as soon as there is room.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LinkWriter {
    fn drop(&mut self) {
        self.0.change(|peers| peers.drop_writer(self.0.id));
    }
}
