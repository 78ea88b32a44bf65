//! The link against a guest that is made of our own TCP and frames written by hand.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::sync::mpsc::{Receiver as Woken, channel};
use std::time::Duration;

use guest::link::{GUEST, LAUNCHER, LAUNCHER_MAC, MAC};
use hvf_sys::file::Piece;
use hvf_sys::ram::Ram;
use proptest::prelude::*;

use super::*;
use crate::backend::net::tcp::{self, Config, Connection, Flags, Ports, Segment, Seq};
use crate::backend::net::wire::plain_sum;
use crate::backend::net::{Checksum, Offload, Room};

const RAM: u64 = 0x10_0000;
/// Where a guest's frames lie that it sends, and that it receives.
const OUT: u64 = 0x1_0000;
const IN: Piece = Piece {
    gpa: 0x8_0000,
    len: 0x4_0000,
};

/// The guest's interface.
struct Inbox {
    ram: Arc<Ram>,
    does: Offloads,
    /// The longest frame, and how many more frames there is room for.
    most: usize,
    room: usize,
    pieces: Vec<Piece>,
    frames: VecDeque<(Offload, Vec<u8>)>,
}

impl Receiver for Inbox {
    fn offloads(&self) -> Offloads {
        self.does
    }

    fn ram(&self) -> &Ram {
        &self.ram
    }

    fn room(&mut self, len: usize) -> Room<'_> {
        if len > self.most {
            return Room::Never;
        }
        if self.room == 0 {
            return Room::Later;
        }
        // In pieces, one of them empty.
        let first = Piece {
            len: len as u64 / 3,
            ..IN
        };
        let empty = Piece { gpa: 0, len: 0 };
        let second = Piece {
            gpa: IN.gpa + IN.len / 2,
            len: len as u64 - first.len,
        };
        self.pieces = vec![first, empty, second];
        Room::Here {
            ram: &self.ram,
            pieces: &self.pieces,
        }
    }

    fn commit(&mut self, len: usize, offload: Offload) {
        assert!(self.does.contains(offload.needs()));
        let frame = Frame {
            offload,
            head: &[],
            body: &self.pieces,
            ram: &self.ram,
        };
        let mut bytes = Vec::new();
        frame.copy_to(&mut bytes).unwrap();
        bytes.truncate(len);
        self.room -= 1;
        self.frames.push_back((offload, bytes));
    }
}

/// A guest with connections of its own, one to each port.
struct Guest {
    link: Arc<LinkNet>,
    inbox: Inbox,
    woken: Woken<()>,
    tcp: Vec<(Ports, Connection)>,
    /// Frames that are no segments of a connection's.
    others: Vec<Vec<u8>>,
    mss: u16,
    config: Config,
}

impl Guest {
    fn new() -> Self {
        let (sender, woken) = channel();
        let link = Arc::new(LinkNet::new().unwrap());
        link.attach(Box::new(move || _ = sender.send(())));
        let mss = MTU - 40;
        Self {
            link,
            inbox: Inbox {
                ram: Ram::new(&[(0, RAM)]).unwrap(),
                does: Offloads::all(),
                most: usize::MAX,
                room: usize::MAX,
                pieces: Vec::new(),
                frames: VecDeque::new(),
            },
            woken,
            tcp: Vec::new(),
            others: Vec::new(),
            mss,
            config: Config::new(mss),
        }
    }

    fn connect(&mut self, source: u16, destination: u16) -> usize {
        let ports = Ports {
            source,
            destination,
        };
        let tcp = Connection::connect(self.config, Seq(77));
        self.tcp.push((ports, tcp));
        self.tcp.len() - 1
    }

    /// Lets `user` use the guest's connections until it is content.
    fn run(&mut self, mut user: impl FnMut(&mut Vec<(Ports, Connection)>) -> bool) {
        loop {
            let content = user(&mut self.tcp);
            self.transmit();
            self.link.clone().receive(&mut self.inbox);
            if content {
                return;
            }
            if self.take() == 0 {
                // What is late is late soon enough.
                let _ = self.woken.recv_timeout(Duration::from_millis(5));
            }
        }
    }

    /// Sends what the connections have.
    fn transmit(&mut self) {
        let now = Instant::now();
        for index in 0..self.tcp.len() {
            while let Some(outgoing) = self.tcp[index].1.next(now, self.mss.into()) {
                let (ports, tcp) = &mut self.tcp[index];
                let data = tcp.data(&outgoing).concat();
                tcp.sent(now, &outgoing);
                let frame = tcp_frame(*ports, &outgoing.segment, &data);
                self.send(&frame);
            }
        }
    }

    /// Sends a frame that lies in memory but for a part of it, in pieces.
    fn send(&self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(74));
        let mut body = Vec::new();
        let mut gpa = OUT;
        for part in rest.chunks(40_000) {
            self.inbox.ram.write(gpa, part).unwrap();
            let len = part.len() as u64;
            body.extend([Piece { gpa, len }, Piece { gpa: 0, len: 0 }]);
            gpa += len + 1;
        }
        self.link.send(&[Frame {
            offload: Offload::default(),
            head,
            body: &body,
            ram: &self.inbox.ram,
        }]);
    }

    /// Takes what has been received; says how many frames.
    fn take(&mut self) -> usize {
        let count = self.inbox.frames.len();
        for (offload, frame) in std::mem::take(&mut self.inbox.frames) {
            self.arrive(offload, frame);
        }
        count
    }

    fn arrive(&mut self, offload: Offload, frame: Vec<u8>) {
        assert!(frame.starts_with(&MAC) && frame[6..12] == LAUNCHER_MAC);
        if frame[12..14] != [8, 0] || frame[23] != 6 {
            return self.others.push(frame);
        }
        assert_eq!(plain_sum(&frame[14..34]), 0xffff);
        assert_eq!(be16(&frame, 16), frame.len() - 14);
        assert_eq!(frame[26..34], [LAUNCHER.octets(), GUEST.octets()].concat());
        let pseudo = [
            &frame[26..34],
            &[0, 6],
            &(frame.len() as u16 - 34).to_be_bytes(),
        ]
        .concat();
        match offload.checksum {
            Checksum::Partial { start, offset } => {
                assert_eq!((start, offset), (34, 16));
                assert_eq!(be16(&frame, 50), usize::from(plain_sum(&pseudo)));
            }
            _ => assert_eq!(plain_sum(&[&pseudo, &frame[34..]].concat()), 0xffff),
        }
        let (ports, segment, behind) = Segment::read(&frame[34..]).unwrap();
        let data = &frame[34 + behind..];
        if let Some(segments) = offload.segments {
            assert!(data.len() > segments.size.into() && segments.size <= self.mss);
        } else {
            assert!(data.len() <= self.mss.into());
        }
        let ours = |(it, _): &&mut (Ports, Connection)| *it == ports.reversed();
        match self.tcp.iter_mut().find(ours) {
            Some((_, tcp)) => tcp.segment(Instant::now(), &segment, &data),
            None => self.others.push(frame),
        }
    }

    fn burden(&self) -> (usize, usize) {
        self.link.0.peers().burden()
    }
}

fn be16(bytes: &[u8], at: usize) -> usize {
    usize::from(bytes[at]) << 8 | usize::from(bytes[at + 1])
}

/// A frame to the launcher. Nobody looks at its checksums.
fn ip_frame(protocol: u8, data: &[u8]) -> Vec<u8> {
    let mut frame = [&LAUNCHER_MAC[..], &MAC, &[8, 0, 0x45, 0]].concat();
    frame.extend((20 + data.len() as u16).to_be_bytes());
    frame.extend([0, 1, 0x40, 0, 64, protocol, 0, 0]);
    frame.extend([GUEST.octets(), LAUNCHER.octets()].concat());
    frame.extend(data);
    frame
}

fn tcp_frame(ports: Ports, segment: &Segment, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    segment.write(ports, &mut bytes);
    bytes.extend(data);
    ip_frame(6, &bytes)
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + (i >> 9)) as u8).collect()
}

/// A service that sends back what it gets, a connection at a time.
fn echo(listener: Listener) -> thread::JoinHandle<usize> {
    thread::spawn(move || {
        let mut count = 0;
        while let Some((mut reader, mut writer)) = listener.accept() {
            count += 1;
            let mut buffer = vec![0; 100_000];
            while let Ok(len @ 1..) = reader.read(&mut buffer) {
                if writer.write_all(&buffer[..len]).is_err() {
                    break;
                }
            }
        }
        count
    })
}

/// Sends `data` through the echo on one connection, and checks what comes back.
fn through_the_echo(guest: &mut Guest, source: u16, data: &[u8]) {
    let index = guest.connect(source, 7);
    let (mut written, mut back) = (0, Vec::new());
    guest.run(|tcp| {
        let tcp = &mut tcp[index].1;
        written += tcp.write(&data[written..]);
        if written == data.len() {
            tcp.close();
        }
        let old = back.len();
        back.resize(old + tcp.readable_len(), 0);
        tcp.read(&mut back[old..]);
        tcp.is_read_out()
    });
    assert!(back == data, "{} of {} bytes", back.len(), data.len());
    // The last acknowledgment.
    guest.run(|_| true);
    guest.tcp.remove(index);
}

#[test]
fn bytes_go_there_and_back_whatever_the_guest_can_do() {
    let all = Offloads::all();
    for (does, mss, most) in [
        (all, MTU - 40, usize::MAX),
        (all, 1460, usize::MAX),
        (Offloads::CHECKSUM, 1460, 1514),
        (Offloads::empty(), 1000, usize::MAX),
        // No buffers for what it says that it takes.
        (all, 9000, 5000),
    ] {
        let mut guest = Guest::new();
        (guest.inbox.does, guest.inbox.most) = (does, most);
        (guest.mss, guest.config.mss) = (mss, mss);
        let service = echo(guest.link.listen(7));
        for (source, len) in [(1000, 2_000_000), (1001, 0), (1000, 1)] {
            through_the_echo(&mut guest, source, &bytes(len));
        }
        guest.link.hang_up();
        assert_eq!(service.join().unwrap(), 3, "{does:?} {mss}");
        assert_eq!(guest.burden(), (0, 0));
    }
}

#[test]
fn a_guest_with_little_room_gets_everything() {
    let mut guest = Guest::new();
    let _service = echo(guest.link.listen(7));
    let index = guest.connect(1, 7);
    let data = bytes(3_000_000);
    let (mut written, mut back) = (0, Vec::new());
    guest.inbox.room = 2;
    while back.len() < data.len() {
        let mut turns = 3;
        guest.run(|tcp| {
            let tcp = &mut tcp[index].1;
            written += tcp.write(&data[written..]);
            let mut some = vec![0; tcp.readable_len()];
            tcp.read(&mut some);
            back.extend(some);
            turns -= 1;
            turns == 0
        });
        guest.inbox.room = 2;
    }
    assert!(back == data);
}

#[test]
fn what_nobody_listens_at_is_refused() {
    let mut guest = Guest::new();
    let listener = guest.link.listen(7);
    let refused = guest.connect(1, 8);
    let held = guest.connect(2, 7);
    guest.run(|tcp| tcp[refused].1.ending().is_some() && tcp[held].1.is_established());
    assert_eq!(guest.tcp[refused].1.ending(), Some(tcp::Ending::Refused));
    // Nobody has accepted it, and nobody will.
    drop(listener);
    guest.run(|tcp| tcp[held].1.ending().is_some());
    assert_eq!(guest.tcp[held].1.ending(), Some(tcp::Ending::Reset));
    assert_eq!(guest.burden(), (0, 0));
}

#[test]
fn each_direction_ends_by_itself() {
    let mut guest = Guest::new();
    let listener = guest.link.listen(7);
    let index = guest.connect(1, 7);
    guest.run(|tcp| tcp[index].1.is_established());
    let (mut reader, writer) = listener.accept().unwrap();
    drop(writer);
    guest.run(|tcp| tcp[index].1.is_read_out());
    guest.tcp[index].1.write(b"still");
    guest.run(|_| true);
    let mut five = [0; 5];
    reader.read_exact(&mut five).unwrap();
    assert_eq!(&five, b"still");
    guest.tcp[index].1.close();
    guest.run(|tcp| tcp[index].1.is_finished());
    assert_eq!(guest.tcp[index].1.ending(), Some(tcp::Ending::Finished));
    assert_eq!(reader.read(&mut five).unwrap(), 0);
}

#[test]
fn what_nobody_reads_is_thrown_away_until_nobody_writes_either() {
    let mut guest = Guest::new();
    let listener = guest.link.listen(7);
    let index = guest.connect(1, 7);
    guest.run(|tcp| tcp[index].1.is_established());
    let (reader, mut writer) = listener.accept().unwrap();
    drop(reader);
    let data = bytes(2_000_000);
    let mut written = 0;
    guest.run(|tcp| {
        written += tcp[index].1.write(&data[written..]);
        written == data.len() && tcp[index].1.unacknowledged() == 0
    });
    writer.write_all(b"heard").unwrap();
    drop(writer);
    guest.run(|tcp| tcp[index].1.peer_closed());
    assert_eq!(guest.tcp[index].1.readable().concat(), b"heard");
    guest.run(|tcp| {
        tcp[index].1.write(b"more");
        tcp[index].1.ending().is_some()
    });
    assert_eq!(guest.tcp[index].1.ending(), Some(tcp::Ending::Reset));
    assert_eq!(guest.burden(), (0, 0));
}

#[test]
fn a_reset_is_an_error_behind_what_was_received() {
    let mut guest = Guest::new();
    let listener = guest.link.listen(7);
    let index = guest.connect(1, 7);
    guest.run(|tcp| tcp[index].1.write(b"x") == 1 && tcp[index].1.is_established());
    let (mut reader, mut writer) = listener.accept().unwrap();
    guest.run(|tcp| tcp[index].1.unacknowledged() == 0);
    guest.tcp[index].1.abort();
    guest.run(|_| true);
    let mut all = Vec::new();
    let error = reader.read_to_end(&mut all).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(!all.is_empty() && all.iter().all(|&byte| byte == b'x'));
    let error = writer.write(b"y").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn a_round_ends_for_everybody_and_the_next_begins_empty() {
    let mut guest = Guest::new();
    for round in 0..3_u8 {
        let service = echo(guest.link.listen(9));
        let listener = guest.link.listen(7);
        let index = guest.connect(1, 7);
        guest.run(|tcp| tcp[index].1.is_established());
        guest.tcp[index].1.write(&[round; 10]);
        guest.run(|tcp| tcp[index].1.unacknowledged() == 0);
        let (mut reader, mut writer) = listener.accept().unwrap();
        // A writer that waits for room, and a listener that waits.
        let stuck = thread::spawn(move || {
            loop {
                if let Err(error) = writer.write(&[0; 100_000]) {
                    return error.kind();
                }
            }
        });
        let waiting = thread::spawn(move || listener.accept().is_none());
        guest.link.hang_up();
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert_eq!(all, [round; 10]);
        assert_eq!(stuck.join().unwrap(), io::ErrorKind::BrokenPipe);
        assert!(waiting.join().unwrap());
        assert_eq!(service.join().unwrap(), 0);
        // No answers between rounds.
        guest.inbox.frames.clear();
        guest.tcp.clear();
        guest.connect(1, 7);
        guest.run(|_| true);
        assert!(guest.inbox.frames.is_empty());
        guest.tcp.clear();
        guest.link.pick_up();
        drop(reader);
        assert_eq!(guest.burden(), (0, 0));
    }
}

#[test]
fn a_listener_of_an_old_round_has_nothing() {
    let guest = Guest::new();
    let old = guest.link.listen(7);
    guest.link.pick_up();
    let new = guest.link.listen(7);
    assert!(old.accept().is_none());
    drop(old);
    let mut guest = guest;
    let index = guest.connect(1, 7);
    guest.run(|tcp| tcp[index].1.is_established());
    assert!(new.accept().is_some());
}

#[test]
fn readers_learn_that_the_link_is_gone() {
    let mut guest = Guest::new();
    let listener = guest.link.listen(7);
    let index = guest.connect(1, 7);
    guest.run(|tcp| tcp[index].1.is_established());
    let (mut reader, _writer) = listener.accept().unwrap();
    let reading = thread::spawn(move || reader.read(&mut [0]).unwrap());
    drop(guest);
    assert_eq!(reading.join().unwrap(), 0);
    assert!(listener.accept().is_none());
}

#[test]
fn a_guest_that_never_reads_holds_what_the_buffers_hold() {
    let mut guest = Guest::new();
    guest.config.receive = 4096;
    let listener = guest.link.listen(7);
    let index = guest.connect(1, 7);
    guest.run(|tcp| tcp[index].1.is_established());
    let (_reader, mut writer) = listener.accept().unwrap();
    let data = bytes(5_000_000);
    let stuck = thread::spawn(move || {
        let mut done = 0;
        while let Ok(count @ 1..) = writer.write(&data[done..]) {
            done += count;
        }
        done
    });
    let mut turns = 0;
    guest.run(|tcp| {
        turns += 1;
        turns > 20 && tcp[index].1.readable_len() == 4096
    });
    let (memory, _) = guest.burden();
    guest.link.hang_up();
    let done = stuck.join().unwrap();
    assert!(done <= 4096 + (512 << 10), "{done}");
    assert!(memory <= 512 << 10, "{memory}");
}

#[test]
fn a_flood_of_connections_is_bounded() {
    let guest = Guest::new();
    let _listeners: Vec<_> = (1..60).map(|port| guest.link.listen(port)).collect();
    for turn in 0..20_000_u32 {
        let ports = Ports {
            source: turn as u16,
            destination: (turn % 64) as u16,
        };
        let syn = Segment {
            seq: Seq(turn),
            flags: Flags::SYN,
            window: 1000,
            ..Segment::default()
        };
        guest.send(&tcp_frame(ports, &syn, &[]));
    }
    let (memory, count) = guest.burden();
    assert_eq!((memory, count), (0, 128));
    // A port has no more than its share.
    let guest = Guest::new();
    let _listener = guest.link.listen(1);
    for source in 0..1000 {
        let syn = Segment {
            flags: Flags::SYN,
            ..Segment::default()
        };
        let ports = Ports {
            source,
            destination: 1,
        };
        guest.send(&tcp_frame(ports, &syn, &[]));
    }
    assert_eq!(guest.burden(), (0, 8));
}

#[test]
fn whoever_asks_is_told_the_launchers_address_and_echoed() {
    let mut guest = Guest::new();
    let request = |target: Ipv4Addr| {
        let mut frame = [&[0xff; 6][..], &MAC, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &MAC].concat();
        frame.extend(GUEST.octets());
        frame.extend([0; 6]);
        frame.extend(target.octets());
        frame
    };
    guest.send(&request(GUEST));
    guest.send(&request(LAUNCHER));
    let ping = [&[8, 0, 0xaa, 0xaa, 1, 2, 3, 4][..], &bytes(3000)].concat();
    guest.send(&ip_frame(1, &ping));
    guest.run(|_| true);
    guest.take();
    let [arp, pong] = &guest.others[..] else {
        panic!("{:?}", guest.others)
    };
    let told = [&LAUNCHER_MAC[..], &LAUNCHER.octets(), &MAC, &GUEST.octets()].concat();
    assert_eq!(arp[12..22], [8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    assert_eq!(arp[22..], told);
    assert_eq!((pong[34], &pong[38..]), (0, &ping[4..]));
    assert_eq!(plain_sum(&pong[34..]), 0xffff);
}

proptest! {
    /// No frame does any harm, and what does not say that it is for the launcher has no answer.
    #[test]
    fn any_frame_at_all(
        mut frame in prop::collection::vec(any::<u8>(), 14..120), kind in 0_usize..3, proto in 0_usize..3, ours: bool, fix: bool,
    ) {
        let guest = Guest::new();
        let _listener = guest.link.listen(7);
        if ours {
            frame[..6].copy_from_slice(&LAUNCHER_MAC);
        }
        frame[12..14].copy_from_slice(&[[8, 0], [8, 6], [0x86, 0xdd]][kind]);
        if fix && frame.len() >= 38 {
            frame[14] = 0x45;
            frame[20..22].copy_from_slice(&[0, 0]);
            frame[23] = [1, 6, 17][proto];
            frame[26..30].copy_from_slice(&GUEST.octets());
            frame[30..34].copy_from_slice(&LAUNCHER.octets());
            frame[36..38].copy_from_slice(&[0, 7]);
            frame[16] = 0;
        }
        guest.send(&frame);
        let mut guest = guest;
        guest.link.clone().receive(&mut guest.inbox);
        prop_assert!(ours || guest.inbox.frames.is_empty());
        prop_assert!(guest.burden().1 <= 1);
    }
}

/// How fast bytes go from guest to launcher, and back: `cargo test --release -- --ignored --nocapture as_fast`.
#[test]
#[ignore = "a measurement"]
fn as_fast_as_it_goes() {
    const TOTAL: usize = 4 << 30;
    let mut guest = Guest::new();
    let listener = guest.link.listen(7);
    let index = guest.connect(1, 7);
    guest.run(|tcp| tcp[index].1.is_established());
    let (mut reader, mut writer) = listener.accept().unwrap();
    let source = bytes(1 << 20);
    let started = Instant::now();
    let reading = thread::spawn(move || {
        let mut buffer = vec![0; 256 << 10];
        let mut count = 0;
        while count < TOTAL {
            count += reader.read(&mut buffer).unwrap();
        }
    });
    let mut written = 0;
    guest.run(|tcp| {
        let tcp = &mut tcp[index].1;
        written += tcp.write(&source[..source.len().min(TOTAL - written)]);
        written == TOTAL && tcp.unacknowledged() == 0
    });
    reading.join().unwrap();
    let up = started.elapsed();
    let started = Instant::now();
    let writing = thread::spawn(move || {
        for _ in 0..TOTAL / source.len() {
            writer.write_all(&source).unwrap();
        }
        writer
    });
    let mut count = 0;
    guest.run(|tcp| {
        let tcp = &mut tcp[index].1;
        count += tcp.readable_len();
        tcp.consume(usize::MAX);
        count == TOTAL
    });
    let down = started.elapsed();
    drop(writing.join());
    let rate = |time: Duration| TOTAL as f64 / time.as_secs_f64() / 1e9;
    println!("{:.2} GB/s up, {:.2} GB/s down", rate(up), rate(down));
}
