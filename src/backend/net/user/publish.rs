//! Published ports: bound before the machine starts, so that one that is taken is told before anything has happened.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use crate::spec::{Protocol, Publish};

/// A socket that is bound, and the guest's port that it leads to.
pub(super) struct Published<S> {
    pub(super) socket: S,
    pub(super) guest: u16,
}

/// All of them.
pub(super) struct Bound {
    pub(super) tcp: Vec<Published<TcpListener>>,
    pub(super) udp: Vec<Published<UdpSocket>>,
    pub(super) ports: Vec<Publish>,
}

/// A port that cannot be published.
#[derive(Debug)]
pub struct PublishError {
    publish: Publish,
    source: io::Error,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { publish, source } = self;
        let advice = match source.kind() {
            io::ErrorKind::PermissionDenied => "choose a host port above 1023",
            io::ErrorKind::AddrNotAvailable => "choose an address that this host has",
            _ => "choose another host port, or 0 for any",
        };
        write!(f, "cannot publish {publish}: {source}; {advice}")
    }
}

impl std::error::Error for PublishError {}

/// Binds everything that is to be published.
pub(super) fn bind(publish: &[Publish]) -> Result<Bound, PublishError> {
    let mut bound = Bound {
        tcp: Vec::new(),
        udp: Vec::new(),
        ports: Vec::new(),
    };
    for publish in publish {
        let host = bound.add(publish).map_err(|source| PublishError {
            publish: *publish,
            source,
        })?;
        bound.ports.push(Publish { host, ..*publish });
    }
    Ok(bound)
}

impl Bound {
    fn add(&mut self, publish: &Publish) -> io::Result<SocketAddr> {
        let guest = publish.guest;
        match publish.protocol {
            Protocol::Tcp => {
                let socket = TcpListener::bind(publish.host)?;
                socket.set_nonblocking(true)?;
                let host = socket.local_addr();
                self.tcp.push(Published { socket, guest });
                host
            }
            Protocol::Udp => {
                let socket = UdpSocket::bind(publish.host)?;
                socket.set_nonblocking(true)?;
                let host = socket.local_addr();
                self.udp.push(Published { socket, guest });
                host
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(host: SocketAddr, protocol: Protocol) -> Publish {
        Publish {
            host,
            guest: 80,
            protocol,
        }
    }

    #[test]
    fn ports_are_chosen_where_none_is_said() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let wanted = [publish(any, Protocol::Tcp), publish(any, Protocol::Udp)];
        let bound = bind(&wanted).unwrap();
        assert_eq!((bound.tcp.len(), bound.udp.len()), (1, 1));
        let [tcp, udp] = &bound.ports[..] else {
            panic!("two ports")
        };
        assert_eq!(tcp.host, bound.tcp[0].socket.local_addr().unwrap());
        assert_eq!(udp.host, bound.udp[0].socket.local_addr().unwrap());
        assert!(tcp.host.port() != 0 && udp.host.port() != 0);
    }

    #[test]
    fn a_port_that_is_taken_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = taken.local_addr().unwrap();
        let error = bind(&[publish(host, Protocol::Tcp)])
            .map(|_| ())
            .unwrap_err();
        let error = error.to_string();
        assert!(
            error.starts_with(&format!("cannot publish {host}:80: ")),
            "{error}"
        );
        assert!(
            error.ends_with("choose another host port, or 0 for any"),
            "{error}"
        );
    }

    #[test]
    fn an_address_that_the_host_lacks_is_named() {
        let host: SocketAddr = "203.0.113.77:0".parse().unwrap();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let error = bind(&[publish(host, protocol)]).map(|_| ()).unwrap_err();
            let error = error.to_string();
            assert!(
                error.contains("choose an address that this host has"),
                "{error}"
            );
        }
    }
}
