//! `--net user`: a network in user space, without any privilege. The launcher itself is the gateway and the name server
//! (`guest::lan`), and speaks with the outside through ordinary sockets on the guest's behalf.
//!
//! Who does what: the device's threads bring the guest's frames, which are dealt with at once, under one lock; sockets
//! never wait, so neither does the lock's owner. One thread of ours waits for the sockets and for what is late. What
//! waits for the guest is taken by the device's threads again, TCP's data from the buffer that it was received into
//! straight to guest memory.
//!
//! All is bounded: connections, flows, questions, fragments and what waits for the guest; the oldest make room for
//! new ones. What an unprivileged process cannot do is not there: TCP and UDP pass, of ICMP only echoes where the host lets
//! us send them, no other protocols; the time to live ends here; IPv4's options and IPv6's extensions are not passed on.

mod dhcp;
mod dns;
mod fragments;
mod icmp;
#[cfg(any(test, target_os = "macos"))]
mod message;
mod outbox;
mod policy;
mod publish;
mod resolvers;
mod stack;
mod stations;
mod streams;
mod thread;
mod udp;
mod watch;

pub use publish::PublishError;

use std::fmt;
use std::io::{self, PipeWriter, Write};
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use hvf_sys::os::{make_nonblocking, socket};

use super::{Frame, MTU, Mac, Network, Offloads, Receiver, Wake};
use crate::spec::{Publish, UserNet};
use publish::Published;
use resolvers::Resolvers;
use stack::Stack;

/// Two ends of a conversation: the guest's, and the other one as the guest names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FlowKey {
    guest: SocketAddr,
    remote: SocketAddr,
}

/// What a network is made with, besides its published ports.
#[derive(Clone, Debug)]
struct Config {
    /// The gateway is the host's loopback.
    allow_host: bool,
    /// The host reaches the outside with IPv6.
    has_v6: bool,
    /// Where the host's name servers are found.
    resolvers: Resolvers,
}

/// Why there is no network.
#[derive(Debug)]
pub enum OpenError {
    /// A port cannot be published.
    Publish(PublishError),
    /// The thread or its bell cannot be made.
    Thread(io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Publish(error) => error.fmt(f),
            Self::Thread(error) => write!(
                f,
                "cannot start the thread of --net user: {error}; raise the limits on threads and open files, or use --net none"
            ),
        }
    }
}

impl std::error::Error for OpenError {}

/// The network.
pub struct User {
    shared: Arc<Shared>,
    ports: Vec<Publish>,
    thread: Option<JoinHandle<()>>,
}

/// What the device's threads and ours share.
struct Shared {
    inside: Mutex<Inside>,
    /// Ends our thread's wait.
    bell: PipeWriter,
    stop: AtomicBool,
    wake: OnceLock<Wake>,
}

struct Inside {
    stack: Stack,
    /// Our thread waits, and has not been told to look again.
    waits: bool,
}

impl User {
    /// A network as `spec` says for an interface with the address `mac`, its ports published from now on.
    pub fn open(spec: &UserNet, mac: Mac) -> Result<Self, OpenError> {
        let config = Config {
            allow_host: spec.allow_host,
            has_v6: has_v6(),
            resolvers: Resolvers {
                file: "/etc/resolv.conf".into(),
                port: dns::PORT,
            },
        };
        Self::with(config, spec, mac)
    }

    fn with(config: Config, spec: &UserNet, mac: Mac) -> Result<Self, OpenError> {
        // With fewer the network serves as well, only less of it at a time.
        let _ = socket::raise_open_files();
        let bound = publish::bind(&spec.publish).map_err(OpenError::Publish)?;
        let stack = Stack::new(&config, MTU, mac, bound.tcp, bound.udp);
        let (reader, bell) = io::pipe().map_err(OpenError::Thread)?;
        make_nonblocking(&reader).map_err(OpenError::Thread)?;
        make_nonblocking(&bell).map_err(OpenError::Thread)?;
        let shared = Arc::new(Shared {
            inside: Mutex::new(Inside {
                stack,
                waits: false,
            }),
            bell,
            stop: AtomicBool::new(false),
            wake: OnceLock::new(),
        });
        let theirs = shared.clone();
        let thread = std::thread::Builder::new()
            .name("net".to_owned())
            .spawn(move || thread::serve(&theirs, &reader))
            .map_err(OpenError::Thread)?;
        Ok(Self {
            shared,
            ports: bound.ports,
            thread: Some(thread),
        })
    }

    /// The published ports, with the host's ports that were chosen.
    pub fn published(&self) -> &[Publish] {
        &self.ports
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.ring();
        if let Some(thread) = self.thread.take() {
            // A thread that has panicked has said so.
            let _ = thread.join();
        }
        let dropped = self.shared.inside().stack.out.dropped();
        if dropped > 0 {
            log::info!("the network dropped {dropped} frames that the guest did not take");
        }
    }
}

impl Shared {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends our thread's wait. A pipe that is full has rung already.
    fn ring(&self) {
        let _ = (&self.bell).write(&[0]);
    }

    /// Does something with the stack, and tells whom it concerns.
    fn with<T>(&self, action: impl FnOnce(&mut Stack) -> T) -> T {
        let mut inside = self.inside();
        let outcome = action(&mut inside.stack);
        self.leave(inside);
        outcome
    }

    /// Gives the lock back, and tells whom it concerns what has happened.
    fn leave(&self, mut inside: MutexGuard<'_, Inside>) {
        let changed = inside.stack.watches.take_changed();
        let rings = changed && std::mem::take(&mut inside.waits);
        let news = inside.stack.out.take_news();
        drop(inside);
        if rings {
            self.ring();
        }
        if news && let Some(wake) = self.wake.get() {
            wake();
        }
    }
}

impl Network for User {
    fn offloads(&self) -> Offloads {
        Offloads::CHECKSUM | Offloads::TCP4 | Offloads::TCP6 | Offloads::ECN
    }

    fn attach(&self, wake: Wake) {
        // A network has one interface.
        let _ = self.shared.wake.set(wake);
    }

    fn send(&self, frames: &[Frame<'_>]) {
        let now = Instant::now();
        self.shared.with(|stack| {
            for frame in frames {
                stack.frame(frame, now);
            }
        });
    }

    fn receive(&self, receiver: &mut dyn Receiver) {
        let now = Instant::now();
        self.shared.with(|stack| {
            stack.receive(receiver, now);
            // It has just been told.
            stack.out.take_news();
        });
    }
}

/// Whether the host has a way to the whole world with IPv6. Nothing is sent.
fn has_v6() -> bool {
    // One of the root name servers: any address of the world's.
    const WORLD: Ipv6Addr = Ipv6Addr::new(0x2001, 0x7fd, 0, 0, 0, 0, 0, 1);
    let way = || {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
        socket.connect((WORLD, 53))?;
        socket.local_addr()
    };
    way().is_ok_and(|from: SocketAddr| !from.ip().is_loopback())
}

#[cfg(test)]
mod tests;
