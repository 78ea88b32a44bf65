//! Sockets where the standard library would wait or knows no such kind, and what the host says about its addresses.
//!
//! Invariants: the kernel is given only live locals with their sizes, and lists that it has made are read while they
//! live and freed once.

use super::{check, make_nonblocking};
use std::ffi::CString;
use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Begins a connection: it stands, or has failed, when the stream can be written to, and `take_error` tells which.
/// Neither this nor anything else on the stream waits.
pub fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let family = match to {
        SocketAddr::V4(_) => libc::AF_INET,
        SocketAddr::V6(_) => libc::AF_INET6,
    };
    let socket = open(family, libc::SOCK_STREAM, 0)?;
    let (address, len) = sockaddr(to);
    // SAFETY: `address` is a live local that is as large as any socket address, of which `len` bytes are filled.
    let result = unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), len) };
    match check(result) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket.into()),
    }
}

/// A socket that sends and receives ICMP echo messages from their type on, in datagrams: the one kind of ICMP that
/// needs no privilege where the host allows it (Linux: the groups in `net.ipv4.ping_group_range`; macOS: everybody).
/// Linux puts a number of its own where a request has its identifier. macOS gives replies with their IPv4 header.
pub fn echo(to: IpAddr) -> io::Result<UdpSocket> {
    let (family, protocol) = match to {
        IpAddr::V4(_) => (libc::AF_INET, libc::IPPROTO_ICMP),
        IpAddr::V6(_) => (libc::AF_INET6, libc::IPPROTO_ICMPV6),
    };
    let socket = UdpSocket::from(open(family, libc::SOCK_DGRAM, protocol)?);
    socket.connect((to, 0))?;
    Ok(socket)
}

/// Makes the stream's other end see a reset, not an orderly end, when it is closed.
pub fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // SAFETY: `linger` is a live local of the size that is given.
    check(unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// What the host's loopback interfaces answer for: addresses, each with how many of its leading bits count. Linux takes all of
/// the network of an IPv4 address there for its own (ip-route(8), "local").
pub fn loopback_networks() -> io::Result<Vec<(IpAddr, u8)>> {
    let mut list = std::ptr::null_mut();
    // SAFETY: `list` is a live local.
    check(unsafe { libc::getifaddrs(&mut list) })?;
    let mut found = Vec::new();
    let mut next = list;
    // SAFETY: the list's entries live until it is freed below; its end is a null pointer.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ifa_next;
        if entry.ifa_flags & libc::IFF_LOOPBACK as libc::c_uint == 0 || entry.ifa_addr.is_null() {
            continue;
        }
        // SAFETY: an address that is not null is one of the family that it names.
        let address = unsafe { ip_of(entry.ifa_addr) };
        let mask = if entry.ifa_netmask.is_null() {
            None
        } else {
            // SAFETY: as above.
            unsafe { ip_of(entry.ifa_netmask) }
        };
        found.extend(address.map(|address| (address, counting_bits(address, mask))));
    }
    // SAFETY: the list came from getifaddrs, and nothing borrows it any more.
    unsafe { libc::freeifaddrs(list) };
    Ok(found)
}

fn counting_bits(address: IpAddr, mask: Option<IpAddr>) -> u8 {
    match (address, mask) {
        (IpAddr::V4(_), Some(IpAddr::V4(mask))) if cfg!(target_os = "linux") => {
            u32::from(mask).leading_ones() as u8
        }
        (IpAddr::V4(_), _) => 32,
        (IpAddr::V6(_), _) => 128,
    }
}

/// The number of the interface with this name, as addresses that are only good on one link carry it.
pub fn interface_index(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: `name` is a live string that ends with a zero byte.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

/// Lets this process have as many open files as it may.
pub fn raise_open_files() -> io::Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a live local.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    // macOS says "infinity" and takes no more than this.
    const MOST: libc::rlim_t = 10_240;
    let wanted = limit.rlim_max.min(MOST);
    if limit.rlim_cur >= wanted {
        return Ok(());
    }
    limit.rlim_cur = wanted;
    // SAFETY: as above.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })?;
    Ok(())
}

/// A socket that never waits and that no child inherits.
fn open(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    #[cfg(target_os = "linux")]
    let kind = kind | libc::SOCK_CLOEXEC;
    // SAFETY: socket takes three integers.
    let raw = check(unsafe { libc::socket(family, kind, protocol) })?;
    // SAFETY: the descriptor is new, and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    #[cfg(not(target_os = "linux"))]
    // SAFETY: F_SETFD takes an integer.
    check(unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })?;
    #[cfg(target_vendor = "apple")]
    no_signal(&socket)?;
    make_nonblocking(socket.as_fd())?;
    Ok(socket)
}

/// A write to a stream that is gone is an error and no signal. Elsewhere each write says so itself.
#[cfg(target_vendor = "apple")]
fn no_signal(socket: &OwnedFd) -> io::Result<()> {
    let one: libc::c_int = 1;
    // SAFETY: `one` is a live local of the size that is given.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NOSIGPIPE,
            (&raw const one).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// The address as the kernel wants it, and how many bytes of it count.
fn sockaddr(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all zeros are an address of no family.
    let mut storage: libc::sockaddr_storage = unsafe { zeroed() };
    let len = match address {
        SocketAddr::V4(address) => {
            let place = (&raw mut storage).cast::<libc::sockaddr_in>();
            // SAFETY: as above.
            let mut v4: libc::sockaddr_in = unsafe { zeroed() };
            v4.sin_family = libc::AF_INET as libc::sa_family_t;
            v4.sin_port = address.port().to_be();
            v4.sin_addr.s_addr = u32::from(*address.ip()).to_be();
            // SAFETY: the storage is larger than any address, and aligned for each.
            unsafe { place.write(v4) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(address) => {
            let place = (&raw mut storage).cast::<libc::sockaddr_in6>();
            // SAFETY: as above.
            let mut v6: libc::sockaddr_in6 = unsafe { zeroed() };
            v6.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            v6.sin6_port = address.port().to_be();
            v6.sin6_addr.s6_addr = address.ip().octets();
            v6.sin6_scope_id = address.scope_id();
            // SAFETY: as above.
            unsafe { place.write(v6) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    #[cfg(target_vendor = "apple")]
    {
        storage.ss_len = len as u8;
    }
    (storage, len as libc::socklen_t)
}

/// The IP address in a socket address, if it has one.
///
/// # Safety
/// `address` points to a live address of the family that it names.
unsafe fn ip_of(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: the caller's.
    match i32::from(unsafe { (*address).sa_family }) {
        libc::AF_INET => {
            // SAFETY: the family says that it is one of these; it may be aligned for less.
            let v4 = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::poll::{Polled, poll};
    use std::io::{Read, Write};
    use std::net::TcpListener;

    fn settled(stream: &TcpStream) -> Option<io::Error> {
        poll(&mut [Polled::new(stream, false, true)], None).unwrap();
        stream.take_error().unwrap()
    }

    #[test]
    fn connections_are_begun_and_stand() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                println!("skipped: this host has no {address}");
                continue;
            };
            let mut stream = connect(listener.local_addr().unwrap()).unwrap();
            assert!(settled(&stream).is_none());
            let (mut other, peer) = listener.accept().unwrap();
            assert_eq!(peer, stream.local_addr().unwrap());
            stream.write_all(b"x").unwrap();
            let mut byte = [0];
            other.read_exact(&mut byte).unwrap();
            assert_eq!(&byte, b"x");
            let error = stream.read(&mut byte).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn a_refused_connection_says_so() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = match connect(address) {
            Ok(stream) => settled(&stream).expect("nobody listens"),
            Err(error) => error,
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_stream_can_end_with_a_reset() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = connect(listener.local_addr().unwrap()).unwrap();
        assert!(settled(&stream).is_none());
        let (mut other, _) = listener.accept().unwrap();
        reset_on_close(&stream).unwrap();
        drop(stream);
        let error = other.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn the_loopback_has_its_usual_address() {
        let found = loopback_networks().unwrap();
        if found.is_empty() {
            println!("skipped: this host's loopback interface is not configured");
            return;
        }
        let usual = |(address, bits): &(IpAddr, u8)| {
            *address == Ipv4Addr::LOCALHOST && (8..=32).contains(bits)
        };
        assert!(found.iter().any(usual), "{found:?}");
    }

    #[test]
    fn open_files_are_raised_and_never_lowered() {
        let soft = || {
            let mut limit = libc::rlimit {
                rlim_cur: 0,
                rlim_max: 0,
            };
            // SAFETY: `limit` is a live local.
            let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
            assert_eq!(result, 0);
            limit.rlim_cur
        };
        let before = soft();
        raise_open_files().unwrap();
        assert!(soft() >= before.max(256));
    }
}
