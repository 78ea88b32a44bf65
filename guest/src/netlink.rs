//! Interfaces, addresses and routes, by requests to the kernel: rtnetlink(7).
//!
//! A request is a header, a body of fixed form and attributes; the kernel answers each with one message that holds an
//! error number, zero for success (RFC 3549, 2.3.2). All calls work on the calling thread's network namespace.

use hvf_sys::os::network::route_socket;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

/// An interface's number.
pub type Index = u32;

// Message types.
const ERROR: u16 = 2;
const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;

// Flags of a request.
const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const REPLACE: u16 = 0x100;
const CREATE: u16 = 0x400;

/// The flag of an interface that is on.
const UP: u32 = 1;
/// An address that nobody else can have: IPv6 need not look for a second.
const NO_DUPLICATE: u8 = 2;

// Attributes, each of its own message.
const LINK_NAMESPACE: u16 = 28;
const ADDRESS: u16 = 1;
const ADDRESS_LOCAL: u16 = 2;
const ROUTE_GATEWAY: u16 = 5;
const ROUTE_INTERFACE: u16 = 4;

const FAMILY_V4: u8 = 2;
const FAMILY_V6: u8 = 10;
/// Bytes of a message's header.
const HEADER: usize = 16;

/// Switches an interface on.
pub fn switch_on(interface: Index) -> io::Result<()> {
    request(NEW_LINK, 0, &link(interface, UP, UP), &[])
}

/// Moves an interface to another network namespace. It loses its addresses and is off there.
pub fn move_to(interface: Index, namespace: impl AsFd) -> io::Result<()> {
    let namespace = namespace.as_fd().as_raw_fd().to_ne_bytes();
    let body = link(interface, 0, 0);
    request(NEW_LINK, 0, &body, &[(LINK_NAMESPACE, &namespace)])
}

/// Gives an interface an address in a network whose addresses share their first `prefix` bits.
pub fn add_address(interface: Index, address: IpAddr, prefix: u8) -> io::Result<()> {
    let mut body = vec![family(address), prefix, NO_DUPLICATE, 0];
    body.extend(interface.to_ne_bytes());
    let bytes = bytes(address);
    let attributes = [(ADDRESS_LOCAL, &bytes[..]), (ADDRESS, &bytes)];
    request(NEW_ADDRESS, CREATE | REPLACE, &body, &attributes)
}

/// Sends everything that no other route leads anywhere to `gateway`, behind an interface that is on.
pub fn add_default_route(interface: Index, gateway: IpAddr) -> io::Result<()> {
    // The main table, set by somebody at start, everywhere, to one host; rtnetlink(7), rtmsg.
    let mut body = vec![family(gateway), 0, 0, 0, 254, 3, 0, 1];
    body.extend(0_u32.to_ne_bytes());
    let (gateway, interface) = (bytes(gateway), interface.to_ne_bytes());
    let attributes = [(ROUTE_GATEWAY, &gateway[..]), (ROUTE_INTERFACE, &interface)];
    request(NEW_ROUTE, CREATE | REPLACE, &body, &attributes)
}

/// The body of a message about an interface: which, and which of its flags become what.
fn link(interface: Index, flags: u32, change: u32) -> Vec<u8> {
    let words = [0, interface, flags, change];
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => FAMILY_V4,
        IpAddr::V6(_) => FAMILY_V6,
    }
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn request(kind: u16, flags: u16, body: &[u8], attributes: &[(u16, &[u8])]) -> io::Result<()> {
    let mut socket = route_socket()?;
    let message = message(kind, REQUEST | ACKNOWLEDGE | flags, body, attributes);
    socket.write_all(&message)?;
    answer(&mut socket)
}

fn message(kind: u16, flags: u16, body: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut message = vec![0; HEADER];
    message.extend(body);
    for (kind, value) in attributes {
        let length = (4 + value.len()) as u16;
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(*value);
        message.resize(message.len().next_multiple_of(4), 0);
    }
    let length = message.len() as u32;
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message[4..6].copy_from_slice(&kind.to_ne_bytes());
    message[6..8].copy_from_slice(&flags.to_ne_bytes());
    message
}

fn answer(socket: &mut File) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let count = socket.read(&mut buffer)?;
    let word = |at: usize| {
        let bytes = buffer[..count].get(at..at + 4)?;
        Some(i32::from_ne_bytes(bytes.try_into().ok()?))
    };
    let kind = word(4).map(|word| word as u16);
    match (kind, word(HEADER)) {
        (Some(ERROR), Some(0)) => Ok(()),
        (Some(ERROR), Some(error)) => Err(io::Error::from_raw_os_error(-error)),
        _ => Err(io::Error::other(
            "the kernel's answer is not an acknowledgement",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hvf_sys::os::network::Namespace;
    use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};

    const LOOPBACK: Index = 1;

    /// Runs `body` in a network namespace of its own, where that can be made.
    fn alone(body: impl FnOnce() + Send + 'static) {
        let ran = std::thread::spawn(|| Namespace::enter_new().map(|_| body()));
        match ran.join().unwrap() {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                println!("skipped: network namespaces need a privilege that this user lacks");
            }
            other => other.unwrap(),
        }
    }

    /// Which of our addresses speaks with another one.
    fn address_towards(other: IpAddr) -> io::Result<IpAddr> {
        let any = match other {
            IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((other, 9))?;
        Ok(socket.local_addr()?.ip())
    }

    #[test]
    fn an_attribute_is_padded_to_four_bytes() {
        let message = message(NEW_LINK, REQUEST, &[1, 2, 3, 4], &[(7, &[5]), (8, &[6; 4])]);
        let length = u32::from_ne_bytes(message[..4].try_into().unwrap());
        assert_eq!(length as usize, message.len());
        assert_eq!(message.len(), HEADER + 4 + 8 + 8);
        assert_eq!(message[HEADER + 8..HEADER + 12], [5, 0, 0, 0]);
    }

    #[test]
    fn an_interface_comes_up_with_its_addresses() {
        alone(|| {
            let four = IpAddr::from(Ipv4Addr::new(10, 9, 8, 7));
            let six = IpAddr::from(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7));
            assert!(address_towards(four).is_err());
            switch_on(LOOPBACK).unwrap();
            add_address(LOOPBACK, four, 24).unwrap();
            assert_eq!(address_towards(four).unwrap(), four);
            if let Err(error) = add_address(LOOPBACK, six, 64) {
                println!("skipped: this kernel has no IPv6 ({error})");
                return;
            }
            assert_eq!(address_towards(six).unwrap(), six);
        });
    }

    #[test]
    fn the_default_route_leads_to_the_gateway() {
        alone(|| {
            let outside = (Ipv4Addr::new(192, 0, 2, 1), 9);
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            assert!(socket.connect(outside).is_err());
            switch_on(LOOPBACK).unwrap();
            add_address(LOOPBACK, Ipv4Addr::new(10, 9, 8, 7).into(), 24).unwrap();
            add_default_route(LOOPBACK, Ipv4Addr::new(10, 9, 8, 1).into()).unwrap();
            socket.connect(outside).unwrap();
        });
    }

    #[test]
    fn the_kernel_says_why_it_cannot() {
        let none = Index::MAX >> 1;
        let error = switch_on(none).unwrap_err();
        assert!(error.raw_os_error().is_some(), "{error}");
    }
}
