//! The network device, on a cable that brings every frame back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use proptest::prelude::*;

use super::super::Net;
use super::super::net::feature as net;
use super::*;
use crate::backend::net::wire::Sample;
use crate::backend::net::{FRAME_MAX, Ip, Loop, MTU, Null, Offload, Offloads};

const RX: u16 = 0;
const TX: u16 = 1;
const CTRL: u16 = 2;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// Where frames that are sent lie, where those that are received go, and commands.
const OUT: u64 = BUFFERS;
const IN: u64 = BUFFERS + 0x4_0000;
const COMMAND: u64 = BUFFERS + 0x8_0000;

const GUEST: u64 = net::GUEST_CSUM | net::GUEST_TSO4 | net::GUEST_TSO6 | net::GUEST_ECN;
const HOST: u64 = net::CSUM | net::HOST_TSO4 | net::HOST_TSO6 | net::HOST_ECN;
const ALL: u64 = GUEST
    | HOST
    | net::MRG_RXBUF
    | net::CTRL_VQ
    | net::CTRL_RX
    | net::CTRL_MAC_ADDR
    | net::CTRL_GUEST_OFFLOADS;

/// A driver with its device and what that is plugged into.
struct Station {
    driver: Driver,
    cable: Arc<Loop>,
    device: Arc<Net>,
}

impl Station {
    fn new(features: u64) -> Self {
        Self::on(Loop::new(Offloads::all(), MTU), features)
    }

    fn on(cable: Loop, features: u64) -> Self {
        let cable = Arc::new(cable);
        let device = Arc::new(Net::new(cable.clone(), MAC));
        Self {
            driver: Driver::live(device.clone(), 2, features, 64),
            cable,
            device,
        }
    }

    /// Sends a header and a frame from one buffer, and waits until they have been taken.
    fn send(&mut self, header: [u8; 12], frame: &[u8]) {
        let bytes = [&header[..], frame].concat();
        self.driver.ram.write(OUT, &bytes).unwrap();
        self.send_from(&[(OUT, bytes.len() as u32, false)]);
    }

    fn send_from(&mut self, buffers: &[Buffer]) {
        self.driver.submit(TX, buffers, None);
        assert_eq!(self.driver.wait(TX).1, 0, "nothing is written");
    }

    /// Leaves `count` buffers of `len` bytes, one behind the other.
    fn leave(&mut self, count: u64, len: u64) {
        for index in 0..count {
            let buffer = (IN + index * len, len as u32, true);
            self.driver.submit(RX, &[buffer], None);
        }
    }

    /// Waits for a frame in buffers that were left one behind the other from `at` on: its header and the frame.
    fn received(&mut self, at: u64, len: u64) -> ([u8; 12], Vec<u8>) {
        let mut total = u64::from(self.driver.wait(RX).1);
        let mut header = [0; 12];
        self.driver.ram.read(at, &mut header).unwrap();
        let buffers = u16::from_le_bytes([header[10], header[11]]);
        for index in 1..buffers {
            assert_eq!(total, u64::from(index) * len, "full but for the last");
            // All of them are there at once.
            total += u64::from(self.driver.used(RX).unwrap().1);
        }
        let mut bytes = vec![0; total as usize];
        self.driver.ram.read(at, &mut bytes).unwrap();
        (header, bytes[12..].to_vec())
    }

    fn command(&mut self, class: u8, command: u8, data: &[u8]) -> u8 {
        let bytes = [&[class, command], data, &[0xff]].concat();
        self.driver.ram.write(COMMAND, &bytes).unwrap();
        let len = bytes.len() as u32 - 1;
        let ack = COMMAND + u64::from(len);
        let buffers = [
            (COMMAND, 2, false),
            (COMMAND + 2, len - 2, false),
            (ack, 1, true),
        ];
        self.driver.submit(CTRL, &buffers, None);
        assert_eq!(self.driver.wait(CTRL).1, 1);
        self.driver.ram.load_u8(ack).unwrap()
    }

    fn malformed(&self) -> u64 {
        count(&self.device.counters().malformed)
    }

    fn config(&mut self, at: u64, width: Width) -> u64 {
        self.driver.cfg(0x2000 + at, width)
    }
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// A frame to `to`, told from others by its last bytes.
fn frame(to: [u8; 6], len: usize) -> Vec<u8> {
    let mut frame = to.to_vec();
    frame.extend((6..len).map(|i| (i * 31 + len) as u8));
    frame
}

/// The header that a driver puts before a frame.
fn header(sample: &Sample, size: Option<u16>) -> [u8; 12] {
    let mut raw = [0; 12];
    let ip = if sample.ip == Ip::V4 { 1 } else { 4 };
    let ecn = sample.flags & 0x80;
    raw[0] = 1;
    raw[1] = size.map_or(0, |_| ip | ecn);
    raw[2..4].copy_from_slice(&(sample.data_start() as u16).to_le_bytes());
    raw[4..6].copy_from_slice(&size.unwrap_or(0).to_le_bytes());
    raw[6..8].copy_from_slice(&(sample.start() as u16).to_le_bytes());
    raw[8] = if sample.udp { 6 } else { 16 };
    raw
}

#[test]
fn it_says_what_it_is() {
    let mut station = Station::new(ALL);
    let id = station.driver.device.config_read(0, Width::Dword);
    assert_eq!(id, 0x1041_1af4);
    let class = station.driver.device.config_read(8, Width::Dword) >> 8;
    assert_eq!(class, 0x02_0000);
    let mac = (0..6).map(|at| station.config(at, Width::Byte) as u8);
    assert_eq!(mac.collect::<Vec<_>>(), MAC);
    let rest = [6, 8, 10].map(|at| station.config(at, Width::Word));
    assert_eq!(rest, [1, 1, 1500], "link up, pairs, MTU");
    let unplugged = Arc::new(Net::new(Arc::new(Null::Unplugged), MAC));
    let mut driver = Driver::new(unplugged, 1);
    assert_eq!(driver.cfg(0x2006, Width::Word), 0, "link down");
    assert_eq!(driver.cfg(4, Width::Dword), ALL | 0x3001_0028);
}

#[test]
fn frames_come_back_whole_and_in_order() {
    for (features, len) in [
        (0, 1530),
        (net::MRG_RXBUF, 1526),
        (net::MRG_RXBUF, 64),
        (net::MRG_RXBUF, 7),
    ] {
        let mut station = Station::new(features);
        let lens = if len == 7 {
            vec![14, 60, 100]
        } else {
            vec![14, 60, 1514, 15, 1518]
        };
        for &size in &lens {
            station.send([0; 12], &frame(MAC, size));
        }
        let mut at = IN;
        for &size in &lens {
            let buffers = (12 + size as u64).div_ceil(len);
            for index in 0..buffers {
                let buffer = (at + index * len, len as u32, true);
                station.driver.submit(RX, &[buffer], None);
            }
            let (header, bytes) = station.received(at, len);
            assert_eq!(bytes, frame(MAC, size), "{size} in {len}");
            assert_eq!(header[..10], [0; 10]);
            assert_eq!(u64::from(header[10]), buffers);
            at += buffers * len;
        }
        assert_eq!(
            count(&station.device.counters().received),
            lens.len() as u64
        );
    }
}

#[test]
fn buffers_that_wait_are_filled_when_a_frame_comes() {
    for features in [net::MRG_RXBUF, net::MRG_RXBUF | feature::EVENT_IDX] {
        let mut station = Station::new(features);
        station.leave(8, 1600);
        for index in 0..8 {
            let sent = frame(MAC, 60 + index as usize);
            station.send([0; 12], &sent);
            assert_eq!(station.received(IN + index * 1600, 1600).1, sent);
        }
    }
}

#[test]
fn header_and_frame_lie_in_any_descriptors() {
    let mut station = Station::new(0);
    let sent = frame(MAC, 300);
    let bytes = [&[0; 12][..], &sent].concat();
    station.driver.ram.write(OUT, &bytes).unwrap();
    let buffers = [
        (OUT, 5, false),
        (OUT + 5, 0, false),
        (OUT + 5, 8, false),
        (OUT + 13, 299, false),
    ];
    station.send_from(&buffers);
    let buffers = [
        (IN, 1, true),
        (IN + 1, 10, true),
        (IN + 11, 0, true),
        (IN + 11, 2, true),
        (IN + 13, 1600, true),
    ];
    station.driver.submit(RX, &buffers, None);
    assert_eq!(station.received(IN, 0).1, sent);
}

#[test]
fn a_buffer_that_is_too_small_stays_for_a_frame_that_fits() {
    let mut station = Station::new(0);
    station.leave(1, 100);
    station.send([0; 12], &frame(MAC, 200));
    let too_long = station.device.clone();
    wait_for(|| (count(&too_long.counters().too_long) == 1).then_some(()));
    station.send([0; 12], &frame(MAC, 88));
    assert_eq!(station.received(IN, 100).1, frame(MAC, 88));
    // All buffers of a queue together are too small, or outside RAM.
    let mut station = Station::new(net::MRG_RXBUF);
    for _ in 0..64 {
        station.driver.submit(RX, &[(IN, 1, true)], None);
    }
    station.send([0; 12], &frame(MAC, 60));
    let device = station.device.clone();
    wait_for(|| (count(&device.counters().too_long) == 1).then_some(()));
    let mut station = Station::new(net::MRG_RXBUF);
    station.driver.submit(RX, &[(RAM - 20, 1600, true)], None);
    station.send([0; 12], &frame(MAC, 60));
    let device = station.device.clone();
    wait_for(|| (count(&device.counters().too_long) == 1).then_some(()));
    assert_eq!(station.driver.used(RX), None);
}

#[test]
fn a_guest_that_takes_nothing_costs_a_bounded_amount() {
    let mut station = Station::new(0);
    for _ in 0..4000 {
        station.send([0; 12], &frame(MAC, 1514));
    }
    let kept = 4000 - station.cable.dropped();
    assert!((2000..3000).contains(&kept), "{kept} frames are kept");
    assert_eq!(station.driver.used(RX), None);
}

#[test]
fn unfinished_frames_pass_where_both_sides_can_do_with_them() {
    let mut station = Station::new(ALL);
    station.leave(64, 2048);
    for ip in [Ip::V4, Ip::V6] {
        let sample = Sample {
            flags: 0x98,
            ..Sample::tcp(ip, vec![5; 40_000])
        };
        let sent = header(&sample, Some(1400));
        station.send(sent, &sample.bytes());
        let at = if ip == Ip::V4 { IN } else { IN + 20 * 2048 };
        let (got, bytes) = station.received(at, 2048);
        assert_eq!(bytes, sample.bytes());
        assert_eq!((&got[..2], &got[4..10]), (&sent[..2], &sent[4..10]));
        let headers = usize::from(u16::from_le_bytes([got[2], got[3]]));
        assert!(headers >= sample.data_start());
    }
}

#[test]
fn what_one_side_does_not_finish_is_finished() {
    let checksum = net::CSUM | net::GUEST_CSUM;
    for (cable, features, size) in [
        (Offloads::empty(), ALL, Some(1000)),
        (Offloads::CHECKSUM | Offloads::TCP6, ALL, Some(1000)),
        (Offloads::all(), ALL - GUEST, Some(1000)),
        (Offloads::all(), ALL - net::GUEST_CSUM, Some(1000)),
        (Offloads::all(), ALL - net::GUEST_TSO4, Some(1000)),
        (Offloads::empty(), checksum, None),
        (Offloads::all(), net::CSUM, None),
    ] {
        let features = features | net::MRG_RXBUF;
        let mut station = Station::on(Loop::new(cable, MTU), features);
        let sample = Sample::tcp(Ip::V4, frame(MAC, if size.is_some() { 5500 } else { 1000 }));
        station.leave(10, 1600);
        station.send(header(&sample, size), &sample.bytes());
        let mut data = Vec::new();
        for at in 0.. {
            let (header, bytes) = station.received(IN + at * 1600, 1600);
            assert_eq!(header[..10], [0; 10]);
            let (sequence, .., part) = sample.judge(&bytes);
            assert_eq!(sequence as usize, data.len());
            data.extend(part);
            if data.len() == sample.data.len() {
                break;
            }
        }
        assert_eq!(data, sample.data, "{cable:?} {features:#x}");
    }
}

#[test]
fn frames_that_break_a_rule_are_dropped_and_counted() {
    let mut station = Station::new(ALL - net::HOST_TSO6);
    let sample = Sample::tcp(Ip::V4, vec![1; 1000]);
    let good = header(&sample, Some(500));
    let with = |at: usize, value: u8| {
        let mut header = good;
        header[at] = value;
        header
    };
    let bytes = sample.bytes();
    let tcp6 = Sample::tcp(Ip::V6, vec![1; 1000]);
    let most = frame(MAC, FRAME_MAX + 1);
    let wrong: &[([u8; 12], &[u8])] = &[
        ([0; 12], &bytes[..0]),
        ([0; 12], &bytes[..1]),
        ([0; 12], &bytes[..13]),
        // Longer than the network takes, or than any frame.
        ([0; 12], &most[..1519]),
        ([0; 12], &most),
        (good, &most),
        // Types: UDP segments, unknown, not agreed on, for another protocol.
        (with(1, 3), &bytes),
        (with(1, 5), &bytes),
        (with(1, 0x7f), &bytes),
        (with(1, 4), &bytes),
        (header(&tcp6, Some(500)), &tcp6.bytes()),
        // No checksum, none there, or elsewhere; size 0; a frame without its headers.
        (with(0, 0), &bytes),
        (with(6, 200), &bytes),
        (with(7, 0xff), &bytes),
        (with(8, 6), &bytes),
        (with(9, 0xff), &bytes),
        ([good[0], 1, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0], &bytes),
        (good, &bytes[..40]),
        (good, &bytes[..14]),
    ];
    for (index, (header, bytes)) in wrong.iter().enumerate() {
        station.send(*header, bytes);
        assert_eq!(station.malformed(), index as u64 + 1, "{index}");
    }
    let before = station.malformed();
    for buffers in [
        vec![(OUT, 11, false)],
        vec![(OUT, 100, true)],
        vec![(OUT, 12, false), (RAM - 8, 64, false)],
        vec![(OUT, 300, false), (u64::MAX - 8, 64, false)],
    ] {
        station.send_from(&buffers);
    }
    assert_eq!(station.malformed(), before + 4);
    assert_eq!(count(&station.device.counters().sent), 0);
    // `hdr_len` and `num_buffers` of a frame that is sent are nobody's business, and the shortest frame has no data.
    station.send(
        [0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
        &bytes[..14],
    );
    station.send(with(2, 0xff), &bytes);
    assert_eq!(
        (station.malformed(), count(&station.device.counters().sent)),
        (before + 4, 2)
    );
}

#[test]
fn the_guest_gets_the_frames_it_asks_for() {
    let mut station = Station::new(ALL);
    let (other, group) = ([2, 9, 9, 9, 9, 9], [0x33, 0x33, 0, 0, 0, 1]);
    let all = [MAC, other, group, [0xff; 6]];
    let passes = |station: &mut Station| {
        let mut passed = Vec::new();
        for to in all {
            let before = count(&station.device.counters().filtered);
            station.leave(1, 100);
            station.send([0; 12], &frame(to, 60));
            let device = station.device.clone();
            let came = wait_for(|| {
                let filtered = count(&device.counters().filtered) > before;
                station
                    .driver
                    .used(RX)
                    .map(|_| true)
                    .or(filtered.then_some(false))
            });
            passed.push(came);
        }
        passed
    };
    let (yes, no) = (true, false);
    assert_eq!(passes(&mut station), [yes, yes, yes, yes], "at first");
    assert_eq!(station.command(0, 0, &[0]), 0);
    assert_eq!(passes(&mut station), [yes, no, no, yes]);
    assert_eq!(station.command(0, 1, &[1]), 0);
    assert_eq!(passes(&mut station), [yes, no, yes, yes], "all multicast");
    assert_eq!(station.command(0, 1, &[0]), 0);
    let tables = [
        &1_u32.to_le_bytes()[..],
        &other,
        &1_u32.to_le_bytes(),
        &group,
    ]
    .concat();
    assert_eq!(station.command(1, 0, &tables), 0);
    assert_eq!(passes(&mut station), [yes; 4], "listed");
    assert_eq!(station.command(1, 0, &[0; 8]), 0);
    assert_eq!(passes(&mut station), [yes, no, no, yes]);
    let many = [&65_u32.to_le_bytes()[..], &[2; 65 * 6], &[0; 4]].concat();
    assert_eq!(station.command(1, 0, &many), 0);
    assert_eq!(
        passes(&mut station),
        [yes, yes, no, yes],
        "more than are kept"
    );
    assert_eq!(station.command(1, 0, &[0; 8]), 0);
    let generation = station.driver.cfg(21, Width::Byte);
    assert_eq!(station.command(1, 1, &other), 0);
    assert_eq!(passes(&mut station), [no, yes, no, yes], "another address");
    assert_ne!(station.driver.cfg(21, Width::Byte), generation);
    assert_eq!(station.config(2, Width::Dword), 0x0909_0909);
    wait_for(|| station.driver.messages().contains(&3).then_some(()));
    // A reset brings back what there was.
    station.driver.reset();
    assert_eq!(station.config(0, Width::Dword), 2);
    station.driver.ram.fill(0, 0x1_0000, 0).unwrap();
    station.driver.bring_up(3, ALL, 64);
    assert_eq!(passes(&mut station), [yes; 4], "at first");
}

#[test]
fn the_guest_says_how_unfinished_frames_may_be() {
    let mut station = Station::new(ALL);
    assert_eq!(station.command(5, 0, &0_u64.to_le_bytes()), 0);
    station.leave(8, 1600);
    let sample = Sample::tcp(Ip::V4, vec![3; 1500]);
    station.send(header(&sample, Some(1000)), &sample.bytes());
    for index in 0..2 {
        let (header, bytes) = station.received(IN + 1600 * index, 1600);
        assert_eq!(header[..10], [0; 10]);
        sample.judge(&bytes);
    }
    assert_eq!(station.command(5, 0, &GUEST.to_le_bytes()), 0);
    station.send(header(&sample, Some(1000)), &sample.bytes());
    assert_eq!(station.received(IN + 3200, 1600).1, sample.bytes());
}

#[test]
fn commands_that_make_no_sense_are_refused() {
    let mut station = Station::new(ALL);
    for (class, command, data) in [
        (0, 0, &[][..]),
        (0, 0, &[2]),
        (0, 2, &[1]),
        (1, 0, &[0; 7]),
        (1, 0, &[1, 0, 0, 0, 0, 0, 0, 0]),
        (1, 0, &[0xff; 64]),
        (1, 1, &[2; 5]),
        (1, 2, &[0; 8]),
        (2, 0, &[0; 2]),
        (4, 0, &[1, 0]),
        (5, 0, &[0; 7]),
        (5, 0, &[0xff; 8]),
        (5, 1, &[0; 8]),
        (0xff, 0xff, &[0; 8]),
    ] {
        assert_eq!(
            station.command(class, command, data),
            1,
            "{class} {command} {data:?}"
        );
    }
    for (lacking, class, command) in [
        (net::CTRL_VQ, 0, 0),
        (net::CTRL_RX, 0, 0),
        (net::CTRL_RX, 1, 0),
        (net::CTRL_MAC_ADDR, 1, 1),
        (net::CTRL_GUEST_OFFLOADS, 5, 0),
    ] {
        let mut station = Station::new(ALL - lacking);
        assert_eq!(station.command(class, command, &[0; 8]), 1, "{lacking:#x}");
    }
    // Nothing to read, and nowhere to write.
    station.driver.submit(CTRL, &[(COMMAND, 1, true)], None);
    assert_eq!(station.driver.wait(CTRL).1, 1);
    station.driver.submit(CTRL, &[(COMMAND, 3, false)], None);
    assert_eq!(station.driver.wait(CTRL).1, 0);
}

#[test]
fn after_a_reset_nothing_is_written_and_what_waits_comes_later() {
    let mut station = Station::new(ALL);
    station.leave(4, 1600);
    station.driver.reset();
    let (ram, cable) = (station.driver.ram.clone(), station.cable.clone());
    ram.fill(0, 0x1_0000, 0).unwrap();
    let sent = frame(MAC, 60);
    let one = crate::backend::net::Frame {
        offload: Offload::default(),
        head: &sent,
        body: &[],
        ram: &ram,
    };
    crate::backend::net::Network::send(&*cable, &[one]);
    std::thread::sleep(Duration::from_millis(20));
    let mut bytes = [1; 1600];
    ram.read(IN, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 1600]);
    station.driver.bring_up(3, ALL, 64);
    station.leave(1, 1600);
    assert_eq!(station.received(IN, 1600).1, sent);
}

#[test]
fn interrupts_come_when_the_driver_wants_them() {
    let mut station = Station::new(net::MRG_RXBUF | feature::EVENT_IDX);
    // The receive queue's event: after the third.
    let event = station.driver.ring(RX) + 0x1000 + 4 + 2 * 64;
    station.driver.ram.store_u16(event, 2).unwrap();
    let event = station.driver.ring(TX) + 0x1000 + 4 + 2 * 64;
    station.driver.ram.store_u16(event, 0xffff).unwrap();
    station.leave(8, 100);
    for index in 0..8 {
        station.send([0; 12], &frame(MAC, 60));
        station.received(IN + 100 * index, 100);
    }
    station.driver.reset();
    assert_eq!(station.driver.messages(), [u32::from(RX)]);
}

#[test]
fn a_guest_that_changes_its_descriptors_and_frames_meanwhile() {
    let mut station = Station::new(ALL);
    let (stop, ram) = (AtomicBool::new(false), station.driver.ram.clone());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut value = 1_u64;
            while !stop.load(Ordering::Relaxed) {
                value = value
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let area = (value >> 20) % 3 * 0x4000;
                let place = [
                    area + (value >> 33) % 128 / 4 * 4,
                    OUT + (value >> 33) % 80 / 4 * 4,
                ];
                let harm = [0, 1, u32::MAX, 0x0001_0101, OUT as u32, 0x3000, 0x0010_0022];
                ram.store_u32(
                    place[(value >> 50) as usize % 2],
                    harm[(value >> 40) as usize % 7],
                )
                .unwrap();
            }
        });
        let sample = Sample::tcp(Ip::V4, vec![1; 3000]);
        let bytes = [&header(&sample, Some(1000))[..], &sample.bytes()].concat();
        let until = Instant::now() + Duration::from_millis(400);
        while Instant::now() < until {
            ram.write(OUT, &bytes).unwrap();
            for head in 0..8 {
                let (write, at) = if head % 2 == 0 { (0, OUT) } else { (WRITE, IN) };
                for queue in [RX, TX, CTRL] {
                    let write = if queue == RX { WRITE } else { write };
                    station
                        .driver
                        .describe(queue, head, (at, bytes.len() as u32), write, 0);
                    station.driver.offer(queue, head);
                    station.driver.notify(queue);
                }
            }
            std::thread::yield_now();
            station.driver.reset();
            ram.fill(0, 0xc000, 0).unwrap();
            station.driver.bring_up(3, ALL, 64);
        }
        stop.store(true, Ordering::Relaxed);
    });
    // It lives.
    station.driver.reset();
    station.cable.clear();
    ram.fill(0, 0xc000, 0).unwrap();
    station.driver.bring_up(3, ALL, 64);
    station.leave(1, 1600);
    station.send([0; 12], &frame(MAC, 60));
    assert_eq!(station.received(IN, 1600).1, frame(MAC, 60));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Whatever is sent, it comes back as something or is counted, and the device goes on.
    #[test]
    fn any_header_and_any_frame(
        header: [u8; 12], small in 0_u8..4, ip in prop_oneof![Just(Ip::V4), Just(Ip::V6)],
        data in 0_usize..4000, change in prop::collection::vec((0_usize..100, any::<u8>()), 0..3),
        cut in prop::option::of(0_usize..200), cable in 0_u8..16, features in any::<u64>(),
        buffer in 1_u64..1700, sane: bool,
    ) {
        let features = features & ALL & !(net::CTRL_VQ - 1) | features & (GUEST | HOST | net::MRG_RXBUF);
        let cable = Loop::new(Offloads::from_bits_truncate(cable), 9000);
        let mut station = Station::on(cable, features);
        let sample = Sample::tcp(ip, vec![9; data]);
        let mut bytes = sample.bytes();
        for (at, value) in change {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(cut.unwrap_or(usize::MAX));
        let mut header = header;
        if sane {
            header = self::header(&sample, Some(500));
        }
        header[0] &= small;
        station.leave(60, buffer);
        station.send(header, &bytes);
        let device = station.device.clone();
        let sum = || {
            let c = device.counters();
            count(&c.malformed) + count(&c.received) + count(&c.filtered) + count(&c.too_long)
        };
        if count(&device.counters().sent) > 0 && features & net::MRG_RXBUF != 0 {
            let sent = &station.cable;
            wait_for(|| (sum() > 0 || sent.waiting() > 0).then_some(()));
        }
        prop_assert!(!station.driver.status().contains(Status::NEEDS_RESET));
    }
}
