//! Waiting for descriptors.
//!
//! Invariant: a `Polled` borrows its descriptor, so the descriptor stays open for as long as the set exists, and
//! it has the layout of `pollfd`, so a slice of it is what poll(2) takes.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

/// A descriptor, what is waited for, and what came.
#[repr(transparent)]
#[derive(Debug)]
pub struct Polled<'fd> {
    entry: libc::pollfd,
    lifetime: PhantomData<BorrowedFd<'fd>>,
}

impl<'fd> Polled<'fd> {
    /// Waits until `fd` can be read or written, as asked. With neither, it still reports a hang-up.
    pub fn new(fd: &'fd impl AsFd, read: bool, write: bool) -> Self {
        let mut events = 0;
        if read {
            events |= libc::POLLIN;
        }
        if write {
            events |= libc::POLLOUT;
        }
        Self {
            entry: libc::pollfd {
                fd: fd.as_fd().as_raw_fd(),
                events,
                revents: 0,
            },
            lifetime: PhantomData,
        }
    }

    /// Whether a read gives something: bytes, the end or an error.
    pub fn readable(&self) -> bool {
        self.entry.revents & (libc::POLLIN | libc::POLLHUP | libc::POLLERR) != 0
    }

    /// Whether a write does something: takes bytes or gives an error.
    pub fn writable(&self) -> bool {
        self.entry.revents & (libc::POLLOUT | libc::POLLHUP | libc::POLLERR) != 0
    }

    /// Whether the other end is gone, so that writes fail.
    pub fn broken(&self) -> bool {
        self.entry.revents & (libc::POLLHUP | libc::POLLERR) != 0
    }
}

/// Waits until one of `set` is ready or the time is over. A signal that arrives ends the wait too.
pub fn poll(set: &mut [Polled<'_>], timeout: Option<Duration>) -> io::Result<()> {
    // Rounded up, so that a wait is never shorter than asked and never spins.
    let millis = |timeout: Duration| timeout.as_nanos().div_ceil(1_000_000);
    let timeout = timeout.map_or(-1, |timeout| {
        i32::try_from(millis(timeout)).unwrap_or(i32::MAX)
    });
    // SAFETY: `Polled` is a transparent `pollfd`, the slice is exclusively borrowed, and its length is given.
    let result = unsafe {
        libc::poll(
            set.as_mut_ptr().cast::<libc::pollfd>(),
            set.len() as libc::nfds_t,
            timeout,
        )
    };
    match super::check(result) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            set.iter_mut().for_each(|polled| polled.entry.revents = 0);
            Ok(())
        }
        other => other.map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn tells_who_is_ready() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut set = [
            Polled::new(&reader, true, false),
            Polled::new(&writer, false, true),
        ];
        poll(&mut set, None).unwrap();
        assert!(!set[0].readable() && set[1].writable());
        writer.write_all(b"x").unwrap();
        let mut set = [Polled::new(&reader, true, false)];
        poll(&mut set, None).unwrap();
        assert!(set[0].readable());
    }

    #[test]
    fn a_time_out_leaves_nothing_ready() {
        let (reader, _writer) = io::pipe().unwrap();
        let mut set = [Polled::new(&reader, true, false)];
        poll(&mut set, Some(Duration::from_micros(1))).unwrap();
        assert!(!set[0].readable());
    }

    #[test]
    fn a_closed_reader_breaks_the_writer() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut set = [Polled::new(&writer, false, false)];
        poll(&mut set, None).unwrap();
        assert!(set[0].broken());
    }
}
