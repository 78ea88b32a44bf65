//! What the thread that waits for sockets waits for.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

#[cfg(target_os = "macos")]
use hvf_sys::os::names::Lookup;

use super::FlowKey;
use super::icmp::EchoKey;

/// Whose socket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A connection's outside.
    Tcp(FlowKey),
    /// A flow of datagrams.
    Udp(FlowKey),
    /// A published port of datagrams, by its place.
    UdpPort(usize),
    /// A published port of connections, by its place.
    Listener(usize),
    /// A question to a name server: which, and to which of them.
    Dns(u64, usize),
    /// Echoes.
    Echo(EchoKey),
}

/// A socket that stays open for as long as somebody waits for it.
#[derive(Clone)]
pub(super) enum Socket {
    Udp(Arc<UdpSocket>),
    Stream(Arc<TcpStream>),
    Listener(Arc<TcpListener>),
    #[cfg(target_os = "macos")]
    Names(Arc<Lookup>),
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Udp(it) => it.as_fd(),
            Self::Stream(it) => it.as_fd(),
            Self::Listener(it) => it.as_fd(),
            #[cfg(target_os = "macos")]
            Self::Names(it) => it.as_fd(),
        }
    }
}

impl From<&Arc<UdpSocket>> for Socket {
    fn from(socket: &Arc<UdpSocket>) -> Self {
        Self::Udp(socket.clone())
    }
}

impl From<&Arc<TcpStream>> for Socket {
    fn from(stream: &Arc<TcpStream>) -> Self {
        Self::Stream(stream.clone())
    }
}

impl From<&Arc<TcpListener>> for Socket {
    fn from(listener: &Arc<TcpListener>) -> Self {
        Self::Listener(listener.clone())
    }
}

#[cfg(target_os = "macos")]
impl From<&Arc<Lookup>> for Socket {
    fn from(lookup: &Arc<Lookup>) -> Self {
        Self::Names(lookup.clone())
    }
}

/// A socket, and what of it is waited for.
pub(super) struct Watch {
    pub(super) token: Token,
    pub(super) socket: Socket,
    pub(super) read: bool,
    pub(super) write: bool,
}

/// All of them, until when at most, and whether that is still so.
#[derive(Default)]
pub(super) struct Watches {
    list: Vec<Watch>,
    deadline: Option<Instant>,
    /// The deadline of the wait that is going on.
    waits_until: Option<Instant>,
    changed: bool,
}

impl Watches {
    /// Something is to be waited for, or to be let go of, that was not so when the wait began.
    pub(super) fn changed(&mut self) {
        self.changed = true;
    }

    /// Whether that was said since the last time this was asked.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// A socket.
    pub(super) fn socket<'a, T>(&mut self, token: Token, socket: &'a T, read: bool, write: bool)
    where
        Socket: From<&'a T>,
    {
        if read || write {
            self.errors(token, socket, read, write);
        }
    }

    /// A socket whose errors are waited for in any case.
    pub(super) fn errors<'a, T>(&mut self, token: Token, socket: &'a T, read: bool, write: bool)
    where
        Socket: From<&'a T>,
    {
        self.list.push(Watch {
            token,
            socket: socket.into(),
            read,
            write,
        });
    }

    /// Something is to be done then, which whoever waits may not know.
    pub(super) fn sooner(&mut self, deadline: Instant) {
        if self.waits_until.is_none_or(|until| deadline < until) {
            self.waits_until = Some(deadline);
            self.changed = true;
        }
    }

    /// Until then at most.
    pub(super) fn until(&mut self, deadline: Instant) {
        self.deadline = Some(self.deadline.map_or(deadline, |it| it.min(deadline)));
    }

    /// Takes sockets and deadline.
    pub(super) fn take(&mut self) -> (Vec<Watch>, Option<Instant>) {
        self.waits_until = self.deadline.take();
        (std::mem::take(&mut self.list), self.waits_until)
    }
}

/// The address to bind to in order to send to `to`.
pub(super) fn any_for(to: SocketAddr) -> SocketAddr {
    match to {
        SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}
