//! Network namespaces and the kernel's routing socket, which only a Linux init needs.
//!
//! A namespace belongs to the thread that entered it: sockets that the thread makes are in it for good, and threads
//! and processes that it starts are in it too (network_namespaces(7), setns(2)).

use super::check;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A network namespace. It lasts as long as this does, or somebody is in it, or a socket of it is open.
#[derive(Debug)]
pub struct Namespace(File);

impl Namespace {
    /// That of the calling thread. Needs /proc.
    pub fn current() -> io::Result<Self> {
        File::open("/proc/thread-self/ns/net").map(Self)
    }

    /// Puts the calling thread into a new one, with nothing in it but a loopback interface. The privilege to administer
    /// the system is needed.
    pub fn enter_new() -> io::Result<Self> {
        // SAFETY: takes an integer; only the calling thread's namespace changes.
        check(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
        Self::current()
    }

    /// Puts the calling thread into this one.
    pub fn enter(&self) -> io::Result<()> {
        // SAFETY: the descriptor is open as long as `self`; only the calling thread's namespace changes.
        check(unsafe { libc::setns(self.0.as_raw_fd(), libc::CLONE_NEWNET) }).map(|_| ())
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A routing socket (rtnetlink(7)) of the calling thread's namespace. A read gives one answer.
pub fn route_socket() -> io::Result<File> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: takes integers.
    let fd = check(unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) })?;
    // SAFETY: the descriptor is new, so that nobody else owns it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn identity(namespace: &Namespace) -> u64 {
        namespace.0.metadata().unwrap().ino()
    }

    /// In a thread of its own: what it enters is gone with it.
    #[test]
    fn a_thread_goes_and_comes_back() {
        let went = std::thread::spawn(|| {
            let home = Namespace::current()?;
            let new = Namespace::enter_new()?;
            assert_ne!(identity(&home), identity(&new));
            home.enter()?;
            assert_eq!(identity(&Namespace::current()?), identity(&home));
            io::Result::Ok(())
        });
        match went.join().unwrap() {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                println!("skipped: network namespaces need a privilege that this user lacks");
            }
            other => other.unwrap(),
        }
    }

    #[test]
    fn the_routing_socket_is_there_for_everybody() {
        route_socket().unwrap();
    }
}
