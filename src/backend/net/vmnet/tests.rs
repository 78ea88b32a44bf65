//! The interface on a framework of the test's.

use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;

use hvf_sys::file::Piece;
use hvf_sys::ram::Ram;

use super::*;
use crate::backend::net::Room;

const COUNT: usize = 4;
const BYTES: usize = 300;
const PACKET: usize = 100;
const RAM: u64 = 0x1000;

/// What the system would have, and was given: a list of packets for each call.
#[derive(Default)]
struct Fake {
    waiting: Mutex<VecDeque<Vec<u8>>>,
    written: Mutex<Vec<Vec<Vec<u8>>>>,
    broken: AtomicBool,
}

impl Packets for Arc<Fake> {
    type Error = &'static str;

    fn count_max(&self) -> usize {
        COUNT
    }

    fn bytes_max(&self) -> usize {
        BYTES
    }

    fn packet_max(&self) -> usize {
        PACKET
    }

    fn mtu(&self) -> u16 {
        86
    }

    fn read(&self, buffer: &mut [u8], lens: &mut Vec<usize>) -> Result<(), Self::Error> {
        if self.broken.load(Ordering::Relaxed) {
            return Err("it is broken");
        }
        let mut waiting = lock(&self.waiting);
        lens.clear();
        for room in buffer.chunks_exact_mut(PACKET) {
            let Some(packet) = waiting.pop_front() else {
                break;
            };
            room[..packet.len()].copy_from_slice(&packet);
            lens.push(packet.len());
        }
        Ok(())
    }

    fn write(&self, buffer: &[u8], lens: &[usize]) -> Result<usize, Self::Error> {
        assert!(lens.len() <= COUNT && buffer.len() <= BYTES);
        let mut rest = buffer;
        let mut packets = Vec::new();
        for &len in lens {
            let packet;
            (packet, rest) = rest.split_at(len);
            packets.push(packet.to_vec());
        }
        assert!(rest.is_empty());
        lock(&self.written).push(packets);
        Ok(lens.len())
    }
}

/// A guest with room for so many packets.
struct Guest {
    ram: Arc<Ram>,
    pieces: Vec<Piece>,
    room: usize,
    got: Vec<Vec<u8>>,
}

impl Guest {
    fn new(room: usize) -> Self {
        Self {
            ram: Ram::new(&[(0, RAM)]).unwrap(),
            pieces: Vec::new(),
            room,
            got: Vec::new(),
        }
    }
}

impl Receiver for Guest {
    fn offloads(&self) -> Offloads {
        Offloads::all()
    }

    fn ram(&self) -> &Ram {
        &self.ram
    }

    fn room(&mut self, len: usize) -> Room<'_> {
        if self.room == 0 {
            return Room::Later;
        }
        let len = len as u64;
        self.pieces = vec![Piece { gpa: 0, len }];
        Room::Here {
            ram: &self.ram,
            pieces: &self.pieces,
        }
    }

    fn commit(&mut self, len: usize, _offload: Offload) {
        let mut bytes = vec![0; len];
        self.ram.read(0, &mut bytes).unwrap();
        self.got.push(bytes);
        self.room -= 1;
    }
}

fn packet(len: usize, fill: u8) -> Vec<u8> {
    vec![fill; len]
}

fn interface() -> (Arc<Fake>, Arc<Signal>, Vmnet<Arc<Fake>>) {
    let (fake, signal) = (Arc::new(Fake::default()), Arc::new(Signal::default()));
    let vmnet = Vmnet::new(fake.clone(), signal.clone());
    (fake, signal, vmnet)
}

/// Attaches a device that counts how often it is woken.
fn count_wakes(vmnet: &Vmnet<Arc<Fake>>) -> Arc<AtomicUsize> {
    let wakes = Arc::new(AtomicUsize::new(0));
    let counter = wakes.clone();
    vmnet.attach(Box::new(move || {
        _ = counter.fetch_add(1, Ordering::Relaxed)
    }));
    wakes
}

#[test]
fn packets_come_in_order_whatever_room_there_is() {
    let (fake, _, vmnet) = interface();
    let packets: Vec<_> = (0..8).map(|i| packet(20 + 10 * i, i as u8)).collect();
    lock(&fake.waiting).extend(packets.iter().cloned());
    let mut got = Vec::new();
    for room in [0, 1, 3, 1, 0, 9] {
        let mut guest = Guest::new(room);
        vmnet.receive(&mut guest);
        assert!(guest.got.len() == room || got.len() + guest.got.len() == 8);
        got.extend(guest.got);
    }
    assert_eq!(got, packets);
}

#[test]
fn what_is_no_frame_is_dropped() {
    let (fake, _, vmnet) = interface();
    let runt = packet(HEADER - 1, 1);
    lock(&fake.waiting).extend([runt, packet(0, 2), packet(HEADER, 3)]);
    let mut guest = Guest::new(9);
    vmnet.receive(&mut guest);
    assert_eq!(guest.got, [packet(HEADER, 3)]);
}

#[test]
fn a_device_is_woken_once_until_it_takes_packets() {
    let (fake, signal, vmnet) = interface();
    signal.arrived();
    let wakes = count_wakes(&vmnet);
    let woken = || wakes.swap(0, Ordering::Relaxed);
    assert_eq!(woken(), 1, "of what came before it was attached");
    lock(&fake.waiting).extend((0..4).map(|i| packet(50, i)));
    signal.arrived();
    signal.arrived();
    assert_eq!(woken(), 0);
    // All that was read at once stays, and nothing more is read.
    vmnet.receive(&mut Guest::new(1));
    assert_eq!(lock(&fake.waiting).len(), 1);
    (0..5).for_each(|_| signal.arrived());
    assert_eq!(woken(), 1);
    vmnet.receive(&mut Guest::new(0));
    (0..5).for_each(|_| signal.arrived());
    assert_eq!(
        woken(),
        0,
        "a guest without room is not asked again and again"
    );
    let mut guest = Guest::new(9);
    vmnet.receive(&mut guest);
    assert_eq!(guest.got.len(), 3);
    signal.arrived();
    assert_eq!(woken(), 1);
}

#[test]
fn reading_goes_on_after_a_failure() {
    let (fake, _, vmnet) = interface();
    lock(&fake.waiting).push_back(packet(60, 7));
    let mut guest = Guest::new(9);
    fake.broken.store(true, Ordering::Relaxed);
    vmnet.receive(&mut guest);
    assert_eq!(guest.got.len(), 0);
    fake.broken.store(false, Ordering::Relaxed);
    vmnet.receive(&mut guest);
    assert_eq!(guest.got, [packet(60, 7)]);
}

/// Frames of these lengths, of which all but the first bytes lie in guest memory, come in these calls.
fn sent(lens: &[usize]) -> Vec<Vec<usize>> {
    let (fake, _, vmnet) = interface();
    let ram = Ram::new(&[(0, RAM)]).unwrap();
    ram.write(0, &packet(RAM as usize, 9)).unwrap();
    let head = packet(HEADER, 5);
    let bodies: Vec<_> = lens
        .iter()
        .map(|len| Piece {
            gpa: 3,
            len: (len - HEADER) as u64,
        })
        .collect();
    let frames: Vec<_> = bodies
        .iter()
        .map(|body| Frame {
            offload: Offload::default(),
            head: &head,
            body: std::slice::from_ref(body),
            ram: &ram,
        })
        .collect();
    vmnet.send(&frames);
    let written = std::mem::take(&mut *lock(&fake.written));
    for packet in written.iter().flatten() {
        let (ours, guests) = packet.split_at(HEADER);
        assert!(ours == head && guests.iter().all(|&byte| byte == 9));
    }
    let lens = |call: &Vec<Vec<u8>>| call.iter().map(Vec::len).collect();
    written.iter().map(lens).collect()
}

#[test]
fn frames_are_written_many_a_call() {
    let cases: &[(&[usize], &[&[usize]])] = &[
        (&[], &[]),
        (&[60], &[&[60]]),
        (&[60, 61, 62, 63], &[&[60, 61, 62, 63]]),
        // No more packets than a call takes.
        (&[14, 15, 16, 17, 18], &[&[14, 15, 16, 17], &[18]]),
        // No more bytes.
        (&[100, 100, 100, 14], &[&[100, 100, 100], &[14]]),
        (&[99, 100, 100, 20], &[&[99, 100, 100], &[20]]),
        // None that is too large, nor one that lies nowhere.
        (&[50, 101, 51], &[&[50, 51]]),
        (&[101], &[]),
    ];
    for (lens, calls) in cases {
        assert_eq!(sent(lens), *calls, "{lens:?}");
    }
}

#[test]
fn a_frame_outside_memory_is_dropped() {
    let (fake, _, vmnet) = interface();
    let ram = Ram::new(&[(0, RAM)]).unwrap();
    let head = packet(HEADER, 5);
    let bodies = [RAM, 0].map(|gpa| [Piece { gpa, len: 10 }]);
    let frames = bodies.each_ref().map(|body| Frame {
        offload: Offload::default(),
        head: &head,
        body,
        ram: &ram,
    });
    vmnet.send(&frames);
    let whole = [head.clone(), packet(10, 0)].concat();
    assert_eq!(*lock(&fake.written), [[whole]]);
}

#[test]
fn the_guest_finishes_its_frames_itself() {
    let (_, _, vmnet) = interface();
    assert_eq!(vmnet.offloads(), Offloads::empty());
    assert_eq!(vmnet.mtu(), 86);
}
