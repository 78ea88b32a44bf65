//! TCP: connections of the guest's to the outside, and of the outside's to the guest.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use super::*;
use crate::backend::net::tcp::{Ending, Flags, Segment, Seq};

/// A server of the loopback's that does something with each connection, in a thread for each.
fn server(each: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let each = Arc::new(each);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let each = each.clone();
            thread::spawn(move || each(stream.unwrap()));
        }
    });
    at
}

/// Gives back everything, and ends when the other side does.
fn echo(mut stream: TcpStream) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(len) => {
                if stream.write_all(&buffer[..len]).is_err() {
                    return;
                }
            }
        }
    }
}

/// A server for one connection, and what its end says.
fn once<T: Send + 'static>(
    each: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    (
        at,
        thread::spawn(move || each(listener.accept().unwrap().0)),
    )
}

#[test]
fn bytes_go_both_ways_and_both_ends_end() {
    for does in [Offloads::all(), Offloads::CHECKSUM, Offloads::empty()] {
        let server = at_gateway(server(echo));
        let mut guest = Peer::new(open(), &UserNet::default(), does);
        let key = guest.connect(server);
        let data = pattern(3_000_000);
        guest.write(&key, &data, true);
        assert!(guest.read_to_end(&key) == data);
        guest.until(|it| it.tcp[&key].connection.is_finished().then_some(()));
        assert_eq!(guest.tcp[&key].connection.ending(), Some(Ending::Finished));
        guest.until(|it| (it.net.shared.inside().stack.connections().0 == 0).then_some(()));
    }
}

#[test]
fn streams_go_over_ipv6() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        println!("skipped: this host has no IPv6");
        return;
    };
    let to = at_gateway(listener.local_addr().unwrap());
    thread::spawn(move || echo(listener.accept().unwrap().0));
    let mut guest = guest(open());
    let key = guest.connect(to);
    let data = pattern(500_000);
    guest.write(&key, &data, true);
    assert!(guest.read_to_end(&key) == data);
}

#[test]
fn the_guest_may_end_before_the_outside() {
    let (at, outside) = once(|mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(&all).unwrap();
    });
    let mut guest = guest(open());
    let key = guest.connect(at_gateway(at));
    let data = pattern(200_000);
    guest.write(&key, &data, true);
    assert!(guest.read_to_end(&key) == data);
    outside.join().unwrap();
}

#[test]
fn the_outside_may_end_before_the_guest() {
    let data = pattern(200_000);
    let sent = data.clone();
    let (at, outside) = once(move |mut stream| {
        stream.write_all(&sent).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all
    });
    let mut guest = guest(open());
    let key = guest.connect(at_gateway(at));
    assert!(guest.read_to_end(&key) == data);
    guest.write(&key, &data[..100_000], false);
    guest.write(&key, &data[100_000..], true);
    guest.until(|_| outside.is_finished().then_some(()));
    assert!(outside.join().unwrap() == data);
}

#[test]
fn a_refusal_is_a_reset() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = at_gateway(unused.local_addr().unwrap());
    drop(unused);
    let mut guests = [guest(open()), guest(closed())];
    for (which, to) in [
        (0, nobody),
        (1, nobody),
        (1, "127.0.0.1:22".parse().unwrap()),
        (1, "169.254.169.254:80".parse().unwrap()),
        (1, "10.0.2.3:80".parse().unwrap()),
        (1, "10.0.2.99:80".parse().unwrap()),
        (1, "[::ffff:127.0.0.1]:80".parse().unwrap()),
        (1, "[2001:db8::1]:80".parse().unwrap()),
    ] {
        let guest = &mut guests[which];
        let key = guest.connect(to);
        guest.until(|it| it.tcp[&key].connection.is_finished().then_some(()));
        assert_eq!(
            guest.tcp[&key].connection.ending(),
            Some(Ending::Refused),
            "{to}"
        );
    }
}

#[test]
fn a_reset_of_the_outside_reaches_the_guest_behind_what_came_before() {
    let data = pattern(50_000);
    let sent = data.clone();
    let (at, outside) = once(move |mut stream| {
        stream.write_all(&sent).unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        socket::reset_on_close(&stream).unwrap();
    });
    let mut guest = guest(open());
    let key = guest.connect(at_gateway(at));
    guest.until(|it| (it.tcp[&key].received.len() == data.len()).then_some(()));
    guest.write(&key, b"x", false);
    guest.until(|it| it.tcp[&key].connection.is_finished().then_some(()));
    assert_eq!(guest.tcp[&key].connection.ending(), Some(Ending::Reset));
    assert!(guest.tcp[&key].received == data);
    outside.join().unwrap();
}

#[test]
fn a_reset_reaches_a_guest_that_never_reads() {
    let (at, outside) = once(|mut stream| {
        stream.write_all(&pattern(100_000)).unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        socket::reset_on_close(&stream).unwrap();
    });
    let mut guest = guest(open());
    let key = guest.connect(at_gateway(at));
    guest.tcp.get_mut(&key).unwrap().reads = false;
    guest.stands(&key);
    guest.write(&key, b"x", false);
    guest.until(|_| outside.is_finished().then_some(()));
    guest.until(|it| it.tcp[&key].connection.is_finished().then_some(()));
    assert_eq!(guest.tcp[&key].connection.ending(), Some(Ending::Reset));
}

#[test]
fn a_reset_of_the_guest_reaches_the_outside() {
    let (at, outside) = once(|mut stream| stream.read(&mut [0]).map_err(|it| it.kind()));
    let mut guest = guest(open());
    let key = guest.connect(at_gateway(at));
    guest.stands(&key);
    guest.tcp.get_mut(&key).unwrap().connection.abort();
    guest.until(|_| outside.is_finished().then_some(()));
    assert_eq!(outside.join().unwrap(), Err(io::ErrorKind::ConnectionReset));
}

#[test]
fn a_guest_that_never_reads_holds_the_outside_back() {
    let (at, outside) = once(|mut stream| {
        stream.set_nonblocking(true).unwrap();
        let (mut total, data, mut idle) = (0_usize, pattern(1 << 16), 0);
        // Until it has not gone on for a good while.
        while idle < 100 {
            match stream.write(&data) {
                Ok(len) => (total, idle) = (total + len, 0),
                Err(_) => {
                    idle += 1;
                    thread::sleep(std::time::Duration::from_millis(5));
                }
            }
        }
        (total, stream)
    });
    let mut guest = guest(open());
    let key = guest.connect(at_gateway(at));
    guest.tcp.get_mut(&key).unwrap().reads = false;
    guest.until(|_| outside.is_finished().then_some(()));
    let (total, stream) = outside.join().unwrap();
    let (connections, memory) = guest.net.shared.inside().stack.connections();
    assert_eq!(connections, 1);
    assert!(memory <= 1 << 20, "{memory} bytes of buffers");
    drop(stream);
    // A window that was shut for long opens again, and nothing is lost.
    guest.tcp.get_mut(&key).unwrap().reads = true;
    assert_eq!(guest.read_to_end(&key).len(), total);
}

#[test]
fn an_outside_that_never_reads_holds_the_guest_back() {
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let (at, outside) = once(move |mut stream| {
        stopped.recv().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all
    });
    let mut guest = guest(open());
    let key = guest.connect(at_gateway(at));
    let data = pattern(20_000_000);
    guest.write(&key, &data, true);
    let mut last = (usize::MAX, 0);
    guest.until(|it| {
        let left = it.tcp[&key].pending.len();
        last = if left == last.0 {
            (left, last.1 + 1)
        } else {
            (left, 0)
        };
        (last.1 > 200).then_some(())
    });
    assert!(last.0 > 0, "everything went somewhere");
    assert!(guest.net.shared.inside().stack.connections().1 <= 1 << 20);
    stop.send(()).unwrap();
    guest.until(|_| outside.is_finished().then_some(()));
    assert!(outside.join().unwrap() == data);
}

#[test]
fn a_thousand_short_connections_one_after_the_other() {
    let server = at_gateway(server(|mut stream| {
        let mut word = [0; 4];
        stream.read_exact(&mut word).unwrap();
        stream.write_all(&word).unwrap();
    }));
    let mut guest = guest(open());
    for round in 0_u32..1000 {
        let key = guest.connect(server);
        guest.write(&key, &round.to_be_bytes(), true);
        assert_eq!(guest.read_to_end(&key), round.to_be_bytes());
        guest.tcp.remove(&key);
    }
    guest.until(|it| (it.net.shared.inside().stack.connections().0 == 0).then_some(()));
}

#[test]
fn sixty_four_connections_at_once() {
    let server = at_gateway(server(echo));
    let mut guest = guest(open());
    let keys: Vec<_> = (0..64).map(|_| guest.connect(server)).collect();
    let data = pattern(300_000);
    for (index, key) in keys.iter().enumerate() {
        guest.write(key, &data[index..], true);
    }
    for (index, key) in keys.iter().enumerate() {
        assert!(guest.read_to_end(key) == data[index..], "{index}");
    }
}

/// A SYN from a port, without a connection behind it.
fn syn(guest: &Peer, port: u16, to: SocketAddr) {
    let segment = Segment {
        seq: Seq(1),
        flags: Flags::SYN,
        window: 1000,
        ..Segment::default()
    };
    guest.transmit(&(port, to), &segment, [&[], &[]], None);
}

#[test]
fn a_flood_of_syns_is_bounded() {
    let server = at_gateway(server(echo));
    let mut guest = guest(open());
    guest.deaf = true;
    for port in 1000..12_000 {
        syn(&guest, port, server);
    }
    let (connections, memory) = guest.net.shared.inside().stack.connections();
    assert!(connections <= 4096, "{connections}");
    assert_eq!(memory, 0, "nobody has answered");
    // The network lives on: what is served now is not one of those.
    guest.deaf = false;
    guest.turn();
    let key = guest.connect(server);
    guest.write(&key, b"still there", true);
    assert_eq!(guest.read_to_end(&key), b"still there");
}

#[test]
fn a_published_port_leads_to_the_guest() {
    let mut guest = Peer::new(closed(), &publishing(80, Protocol::Tcp), Offloads::all());
    guest.listens.push(80);
    let host = guest.net.published()[0].host;
    let data = pattern(400_000);
    let sent = data.clone();
    let outside = thread::spawn(move || {
        let mut stream = TcpStream::connect(host).unwrap();
        stream.write_all(&sent).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        (stream.local_addr().unwrap(), all)
    });
    let key = guest.until(|it| it.tcp.keys().next().copied());
    assert!(guest.read_to_end(&key) == data);
    guest.write(&key, b"welcome", true);
    guest.until(|_| outside.is_finished().then_some(()));
    let (caller, all) = outside.join().unwrap();
    assert_eq!(all, b"welcome");
    assert_eq!(key, (80, (guest::lan::GATEWAY, caller.port()).into()));
}

#[test]
fn the_guest_may_be_late_for_a_published_port() {
    let mut guest = Peer::new(closed(), &publishing(80, Protocol::Tcp), Offloads::all());
    let host = guest.net.published()[0].host;
    let outside = thread::spawn(move || {
        let mut stream = TcpStream::connect(host).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all
    });
    // Its call waits for the guest's interface.
    guest.deaf = true;
    guest.until(|it| (it.net.shared.inside().stack.connections().0 == 1).then_some(()));
    guest.deaf = false;
    guest.listens.push(80);
    let key = guest.until(|it| it.tcp.keys().next().copied());
    guest.write(&key, b"at last", true);
    guest.until(|_| outside.is_finished().then_some(()));
    assert_eq!(outside.join().unwrap(), b"at last");
}

#[test]
fn a_guest_that_refuses_resets_the_outside() {
    let mut guest = Peer::new(closed(), &publishing(80, Protocol::Tcp), Offloads::all());
    let host = guest.net.published()[0].host;
    let outside = thread::spawn(move || {
        let mut stream = TcpStream::connect(host).unwrap();
        stream.read(&mut [0]).map_err(|it| it.kind())
    });
    guest.until(|_| outside.is_finished().then_some(()));
    assert_eq!(outside.join().unwrap(), Err(io::ErrorKind::ConnectionReset));
    guest.until(|it| (it.net.shared.inside().stack.connections().0 == 0).then_some(()));
}

#[test]
fn names_are_asked_over_tcp_as_well() {
    let at = server(echo);
    let file = tempfile::NamedTempFile::new().unwrap();
    // The first one does not listen.
    std::fs::write(file.path(), "nameserver 127.0.0.77\nnameserver 127.0.0.1\n").unwrap();
    let mut guest = guest(Config {
        resolvers: Resolvers {
            file: file.path().to_owned(),
            port: at.port(),
        },
        ..closed()
    });
    let key = guest.connect((guest::lan::DNS, 53).into());
    guest.write(&key, b"\0\x0cwhat is this", true);
    assert_eq!(guest.read_to_end(&key), b"\0\x0cwhat is this");
}

#[test]
fn a_network_that_goes_away_lets_go_of_everybody() {
    let (at, outside) = once(|mut stream| {
        stream.write_all(b"x").unwrap();
        stream.read(&mut [0]).is_err()
    });
    let mut guest = guest(open());
    let key = guest.connect(at_gateway(at));
    guest.until(|it| (it.tcp[&key].received == b"x").then_some(()));
    drop(guest);
    outside.join().unwrap();
}
