//! The thread that waits for the network's sockets.

use std::io::{PipeReader, Read};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hvf_sys::os::poll::{Polled, poll};

use super::Shared;
use super::watch::{Token, Watch};

/// How long is waited where the host cannot wait.
const PAUSE: Duration = Duration::from_millis(20);

/// Waits for sockets and deadlines, and does what is to be done then, until it is stopped.
pub(super) fn serve(shared: &Shared, bell: &PipeReader) {
    while let Some((watches, deadline)) = begin(shared) {
        let ready = wait(&watches, deadline, bell);
        // What is no longer there is closed, if only we have kept it open.
        drop(watches);
        shared.inside().waits = false;
        for (token, readable, writable) in ready {
            // Others have their turn in between.
            shared.with(|stack| stack.ready(token, readable, writable, Instant::now()));
        }
    }
}

/// What is to be waited for now. None at the end.
fn begin(shared: &Shared) -> Option<(Vec<Watch>, Option<Instant>)> {
    if shared.stop.load(Ordering::SeqCst) {
        return None;
    }
    let mut inside = shared.inside();
    inside.stack.watch(Instant::now());
    inside.stack.watches.take_changed();
    inside.waits = true;
    let waited = inside.stack.watches.take();
    // What was late may be news to the guest.
    shared.leave(inside);
    Some(waited)
}

type Ready = Vec<(Token, bool, bool)>;

/// Waits. Says which sockets can be read or written.
fn wait(watches: &[Watch], deadline: Option<Instant>, bell: &PipeReader) -> Ready {
    let mut set = Vec::with_capacity(1 + watches.len());
    set.push(Polled::new(bell, true, false));
    let polled = |it: &Watch| (it.read, it.write);
    for watch in watches {
        let (read, write) = polled(watch);
        set.push(Polled::new(&watch.socket, read, write));
    }
    let timeout = deadline.map(|it| it.saturating_duration_since(Instant::now()));
    if let Err(error) = poll(&mut set, timeout) {
        log::warn!("the network's thread cannot wait: {error}");
        std::thread::sleep(PAUSE);
        return Vec::new();
    }
    if set[0].readable() {
        // However often it has rung.
        let _ = (&*bell).read(&mut [0; 64]);
    }
    let came = watches.iter().zip(&set[1..]);
    came.map(|(watch, polled)| {
        let readable = polled.readable() && (watch.read || polled.broken());
        let writable = polled.writable() && (watch.write || polled.broken());
        (watch.token, readable, writable)
    })
    .filter(|(_, readable, writable)| *readable || *writable)
    .collect()
}
