//! UDP, DNS and echoes to the outside.

use std::net::UdpSocket;
use std::sync::Arc;
use std::thread;

use guest::lan;

use super::super::udp;
use super::*;
use crate::backend::net::ip::{Header, Packet, protocol};

/// A server that gives back what it gets, to whoever sent it.
fn echoing(address: &str) -> SocketAddr {
    let socket = UdpSocket::bind(address).unwrap();
    let at = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            if socket.send_to(&buffer[..len], from).is_err() {
                return;
            }
        }
    });
    at
}

#[test]
fn datagrams_of_every_length_come_back() {
    let server = at_gateway(echoing("127.0.0.1:0"));
    for does in [Offloads::all(), Offloads::empty()] {
        let mut guest = Peer::new(open(), &UserNet::default(), does);
        for len in [0, 1, 1471, 1472, 1473, 9000, 30_001, udp::DATA_MAX] {
            let data = pattern(len);
            guest.datagram(5000, server, &data);
            let (from, port, answer) = guest.until(|it| it.datagrams.pop_front());
            assert_eq!((from, port), (server, 5000));
            assert!(answer == data, "{len} bytes");
        }
    }
}

#[test]
fn datagrams_go_over_ipv6() {
    let Ok(probe) = UdpSocket::bind("[::1]:0") else {
        println!("skipped: this host has no IPv6");
        return;
    };
    drop(probe);
    let server = at_gateway(echoing("[::1]:0"));
    let mut guest = guest(open());
    for len in [1, 1452, 1453, 20_000] {
        let data = pattern(len);
        guest.datagram(5000, server, &data);
        let (from, port, answer) = guest.until(|it| it.datagrams.pop_front());
        assert_eq!((from, port), (server, 5000));
        assert!(answer == data, "{len} bytes");
    }
}

/// The guest's next error: its type and code, and the destination in what it quotes.
fn trouble(guest: &mut Peer) -> ([u8; 2], SocketAddr) {
    let (from, message) = guest.until(|it| it.messages.pop_front());
    assert_eq!(from, IpAddr::from(lan::GATEWAY));
    let quote = &message[8..];
    assert_eq!(quote[..1], [0x45]);
    assert_eq!(quote[9], protocol::UDP);
    let address: [u8; 4] = quote[16..20].try_into().unwrap();
    let port = u16::from_be_bytes([quote[22], quote[23]]);
    ([message[0], message[1]], (address, port).into())
}

#[test]
fn what_is_refused_is_told() {
    let mut guest = guest(closed());
    for refused in [
        "10.0.2.2:7",
        "127.0.0.1:7",
        "169.254.169.254:80",
        "0.0.0.0:1",
        "10.0.2.77:7",
        "10.0.2.3:54",
    ] {
        let to: SocketAddr = refused.parse().unwrap();
        guest.datagram(5000, to, b"x");
        assert_eq!(trouble(&mut guest), ([3, 3], to));
    }
    // What goes to everybody is nobody's fault.
    for silent in ["10.0.2.255:7", "255.255.255.255:7", "224.0.0.251:5353"] {
        guest.datagram(5000, silent.parse().unwrap(), b"x");
    }
    let last = (lan::GATEWAY, 9).into();
    guest.datagram(5000, last, b"x");
    assert_eq!(trouble(&mut guest), ([3, 3], last));
}

#[test]
fn a_port_where_nobody_listens_is_told() {
    let unused = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = at_gateway(unused.local_addr().unwrap());
    drop(unused);
    let mut guest = guest(open());
    guest.datagram(5000, to, b"x");
    assert_eq!(trouble(&mut guest), ([3, 3], to));
}

#[test]
fn what_has_been_under_way_for_too_long_is_told() {
    let mut guest = guest(open());
    let to: SocketAddr = "192.0.2.1:33434".parse().unwrap();
    let from = SocketAddr::from((lan::GUEST, 5000));
    let packet = Packet {
        hops: 1,
        ..Packet::new(from.ip(), to.ip(), protocol::UDP)
    };
    guest.packet(&packet, &[0x13, 0x88, 0x82, 0x9a, 0, 9, 0, 0, b'x']);
    assert_eq!(trouble(&mut guest), ([11, 0], to));
}

#[test]
fn strangers_cannot_answer() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = at_gateway(socket.local_addr().unwrap());
    let mut guest = guest(open());
    guest.datagram(5000, to, b"question");
    let mut buffer = [0; 16];
    let (_, from) = socket.recv_from(&mut buffer).unwrap();
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(b"wrong", from).unwrap();
    socket.send_to(b"answer", from).unwrap();
    let answer = guest.until(|it| it.datagrams.pop_front());
    assert_eq!(answer, (to, 5000, b"answer".to_vec()));
}

#[test]
fn flows_are_bounded() {
    let server = at_gateway(echoing("127.0.0.1:0"));
    let mut guest = guest(open());
    for port in 1000..2500 {
        guest.datagram(port, server, b"x");
        let flows = guest.net.shared.inside().stack.datagrams().0;
        assert!(flows <= 1024, "{flows}");
    }
    // The last one has its answer all the same, if it asks until the host has room for so many datagrams.
    guest.until(|it| {
        it.datagram(2499, server, b"x");
        let answers = &mut it.datagrams.iter();
        answers.any(|(_, port, _)| *port == 2499).then_some(())
    });
}

#[test]
fn a_published_port_leads_in_and_answers_out() {
    let mut guest = Peer::new(closed(), &publishing(53, Protocol::Udp), Offloads::all());
    let host = guest.net.published()[0].host;
    let outside = UdpSocket::bind("127.0.0.1:0").unwrap();
    outside.send_to(b"hello", host).unwrap();
    let (from, port, data) = guest.until(|it| it.datagrams.pop_front());
    assert_eq!(
        (from.ip(), port, &data[..]),
        (lan::GATEWAY.into(), 53, &b"hello"[..])
    );
    assert_eq!(from.port(), outside.local_addr().unwrap().port());
    guest.datagram(53, from, b"welcome");
    let mut buffer = [0; 16];
    let (len, answerer) = outside.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..len], answerer), (&b"welcome"[..], host));
}

#[test]
fn callers_are_told_apart() {
    let spec = UserNet {
        allow_host: false,
        publish: [
            publishing(53, Protocol::Udp).publish,
            publishing(53, Protocol::Udp).publish,
        ]
        .concat(),
    };
    let mut guest = Peer::new(closed(), &spec, Offloads::all());
    let hosts: Vec<SocketAddr> = guest.net.published().iter().map(|it| it.host).collect();
    // The same caller at two ports that lead to one.
    let outside = UdpSocket::bind("127.0.0.1:0").unwrap();
    for host in &hosts {
        outside.send_to(host.to_string().as_bytes(), host).unwrap();
    }
    let mut seen = Vec::new();
    for _ in &hosts {
        let (from, _, data) = guest.until(|it| it.datagrams.pop_front());
        assert!(!seen.contains(&from));
        seen.push(from);
        guest.datagram(53, from, &data);
    }
    for _ in &hosts {
        let mut buffer = [0; 64];
        let (len, from) = outside.recv_from(&mut buffer).unwrap();
        assert_eq!(from.to_string().as_bytes(), &buffer[..len]);
    }
}

/// A name server that answers as `answer` says: `None` is silence.
fn name_server(
    address: &str,
    answer: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static,
) -> SocketAddr {
    let socket = UdpSocket::bind(address).unwrap();
    let at = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = vec![0; 4096];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            if let Some(answer) = answer(&buffer[..len]) {
                socket.send_to(&answer, from).unwrap();
            }
        }
    });
    at
}

/// A question for the address of a name of one label.
fn question(id: u16, name: &str) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0, name.len() as u8]);
    message.extend(name.as_bytes());
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// An answer with this response code, and something that tells who gave it.
fn answering(code: u8, who: u8) -> impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static {
    move |question| {
        let mut answer = question.to_vec();
        answer[2] |= 0x80;
        answer[3] = 0x80 | code;
        answer.push(who);
        Some(answer)
    }
}

/// A guest whose host has these name servers at one port.
fn asking(servers: &[&str], port: u16) -> (Peer, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let lines: String = servers
        .iter()
        .map(|it| format!("nameserver {it}\n"))
        .collect();
    std::fs::write(file.path(), lines).unwrap();
    let resolvers = Resolvers {
        file: file.path().to_owned(),
        port,
    };
    let guest = guest(Config {
        resolvers,
        ..closed()
    });
    (guest, file)
}

/// The guest's answer: the response code, and who gave it.
fn ask(guest: &mut Peer, id: u16, name: &str) -> (u8, Option<u8>) {
    let asked = (lan::DNS, 53).into();
    let question = question(id, name);
    guest.datagram(5353, asked, &question);
    let (from, port, answer) = guest.until(|it| it.datagrams.pop_front());
    assert_eq!((from, port), (asked, 5353));
    assert_eq!(answer[..2], id.to_be_bytes());
    assert_eq!(answer[2] & 0x80, 0x80, "a response");
    assert_eq!(answer[12..question.len()], question[12..]);
    (answer[3] & 0xf, answer.get(question.len()).copied())
}

#[test]
fn names_are_asked_of_the_host_s_servers() {
    let server = name_server("127.0.0.1:0", answering(0, 1));
    let (mut guest, _file) = asking(&["127.0.0.1"], server.port());
    for id in [0, 7, 0xffff] {
        assert_eq!(ask(&mut guest, id, "example"), (0, Some(1)));
    }
    assert_eq!(guest.net.shared.inside().stack.datagrams().1, 0);
}

/// Binds name servers to one port of several of the loopback's addresses, which Linux has without being told.
#[cfg(target_os = "linux")]
fn servers(answers: [Option<u8>; 3]) -> (Vec<&'static str>, u16) {
    let addresses = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];
    for _ in 0..100 {
        let probe = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = probe.local_addr().unwrap().port();
        let free = |it: &&str| UdpSocket::bind(format!("{it}:{port}")).is_ok();
        if !addresses[1..].iter().all(free) {
            continue;
        }
        drop(probe);
        for (who, (address, code)) in addresses.iter().zip(answers).enumerate() {
            if let Some(code) = code {
                name_server(&format!("{address}:{port}"), answering(code, who as u8));
            }
        }
        return (addresses.to_vec(), port);
    }
    panic!("no port is free at three addresses");
}

#[test]
#[cfg(target_os = "linux")]
fn the_next_server_is_asked_when_one_fails() {
    const SERVFAIL: u8 = 2;
    const REFUSED: u8 = 5;
    for (answers, expected) in [
        // No such name is an answer.
        ([Some(3), Some(0), Some(0)], (3, Some(0))),
        ([Some(SERVFAIL), Some(0), Some(0)], (0, Some(1))),
        ([None, Some(0), Some(0)], (0, Some(1))),
        ([None, Some(REFUSED), Some(3)], (3, Some(2))),
        // What the last of them says who do not know.
        ([Some(SERVFAIL), None, Some(REFUSED)], (REFUSED, Some(2))),
        ([None, None, None], (SERVFAIL, None)),
    ] {
        let (addresses, port) = servers(answers);
        let (mut guest, _file) = asking(&addresses, port);
        assert_eq!(ask(&mut guest, 77, "example"), expected, "{answers:?}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_next_server_is_asked_when_one_is_silent() {
    let (addresses, port) = servers([None, Some(0), None]);
    let _silent = UdpSocket::bind(format!("127.0.0.1:{port}")).unwrap();
    let (mut guest, _file) = asking(&addresses, port);
    assert_eq!(ask(&mut guest, 77, "example"), (0, Some(1)));
}

#[test]
fn the_servers_are_looked_up_for_each_question() {
    let first = name_server("127.0.0.1:0", answering(0, 1));
    let (mut guest, file) = asking(&["127.0.0.9"], first.port());
    assert_ne!(ask(&mut guest, 1, "example"), (0, Some(1)));
    std::fs::write(file.path(), "nameserver 127.0.0.1\n").unwrap();
    assert_eq!(ask(&mut guest, 2, "example"), (0, Some(1)));
}

#[test]
fn answers_to_other_questions_are_not_believed() {
    let wrong = |question: &[u8]| {
        let mut answer = question.to_vec();
        answer[0] ^= 1;
        answer[2] |= 0x80;
        Some(answer)
    };
    let echo = |question: &[u8]| Some(question.to_vec());
    let short = |question: &[u8]| Some(question[..7].to_vec());
    let turn = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let server = name_server("127.0.0.1:0", move |question| {
        match turn.fetch_add(1, Ordering::SeqCst) {
            0 => wrong(question),
            1 => echo(question),
            2 => short(question),
            _ => answering(0, 9)(question),
        }
    });
    let (mut guest, _file) = asking(&["127.0.0.1"], server.port());
    let asked = (lan::DNS, 53).into();
    for id in 0..3 {
        guest.datagram(5353, asked, &question(id, "wrong"));
    }
    assert_eq!(ask(&mut guest, 100, "example"), (0, Some(9)));
    assert!(guest.datagrams.is_empty());
}

#[test]
fn questions_are_bounded_and_nonsense_is_none() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (mut guest, _file) = asking(&["127.0.0.1"], silent.local_addr().unwrap().port());
    let asked = (lan::DNS, 53).into();
    let mut response = question(1, "example");
    response[2] |= 0x80;
    for nonsense in [&response[..], &response[..11], b""] {
        guest.datagram(5353, asked, nonsense);
    }
    guest.turn();
    assert_eq!(guest.net.shared.inside().stack.datagrams().1, 0);
    for id in 0..300 {
        guest.datagram(5353, asked, &question(id, "example"));
        assert!(guest.net.shared.inside().stack.datagrams().1 <= 128);
    }
}

#[test]
fn pings_reach_the_outside_where_the_host_allows() {
    let loopback: IpAddr = Ipv4Addr::LOCALHOST.into();
    if let Err(error) = socket::echo(loopback) {
        println!("skipped: this host lets us send no echoes: {error}");
        return;
    }
    // Nothing outside is ours to ping: the stack is asked below its policy.
    let mut guest = guest(closed());
    let there: IpAddr = "192.0.2.7".parse().unwrap();
    let message = [&[8, 0, 0, 0, 0x12, 0x34, 0, 5][..], &pattern(3000)].concat();
    let header = Header {
        source: lan::GUEST.into(),
        destination: there,
        protocol: protocol::ICMP,
        hops: 64,
        data: 0,
        end: 0,
        fragment: None,
    };
    guest
        .net
        .shared
        .with(|stack| stack.ping(&header, loopback, &message));
    let (from, reply) = guest.until(|it| it.messages.pop_front());
    assert_eq!(from, there);
    assert_eq!(reply[0], 0);
    assert_eq!(reply[4..], message[4..]);
}
