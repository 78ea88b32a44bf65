//! The network from a guest's side: frames go in and come out, and real sockets on the loopback are the outside.

mod datagrams;
mod hostile;
mod peer;
mod stations;
mod streams;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::*;
use crate::backend::net::Offload;
use crate::spec::Protocol;
use peer::Peer;

/// The guest's hardware address.
const MAC: Mac = [2, 0, 0, 0, 0, 15];

fn closed() -> Config {
    Config {
        allow_host: false,
        has_v6: false,
        resolvers: Resolvers {
            file: "/nonexistent/resolv.conf".into(),
            port: 9,
        },
    }
}

/// The gateway leads to the host's loopback, where the tests' servers are.
fn open() -> Config {
    Config {
        allow_host: true,
        ..closed()
    }
}

/// A guest on such a network that does everything with unfinished frames.
fn guest(config: Config) -> Peer {
    Peer::new(config, &UserNet::default(), Offloads::all())
}

/// Where the guest finds a server of the host's loopback.
fn at_gateway(server: SocketAddr) -> SocketAddr {
    let gateway: IpAddr = match server {
        SocketAddr::V4(_) => guest::lan::GATEWAY.into(),
        SocketAddr::V6(_) => guest::lan::v6::GATEWAY.into(),
    };
    SocketAddr::new(gateway, server.port())
}

/// One published port, at any of the host's.
fn publishing(guest: u16, protocol: Protocol) -> UserNet {
    UserNet {
        allow_host: false,
        publish: vec![Publish {
            host: (Ipv4Addr::LOCALHOST, 0).into(),
            guest,
            protocol,
        }],
    }
}

/// Bytes that are easily told from others.
fn pattern(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}
