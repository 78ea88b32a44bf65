//! The block device.

use std::io::Write;

use super::super::Blk;
use super::*;
use crate::backend::disk::Disk;
use crate::spec::{self, DiskAccess};

const SECTORS: u64 = 256;
const MQ: u64 = 1 << 12;
const DISCARD: u64 = 1 << 13;
const WRITE_ZEROES: u64 = 1 << 14;
const ALL: u64 = feature::INDIRECT_DESC | feature::EVENT_IDX | MQ | DISCARD | WRITE_ZEROES;

const HEADER: u64 = BUFFERS;
const STATUS_BYTE: u64 = BUFFERS + 0x100;
const DATA: u64 = BUFFERS + 0x1_0000;

pub(super) fn image() -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for sector in 0..SECTORS {
        file.write_all(&[sector as u8; 512]).unwrap();
    }
    file
}

pub(super) fn model(access: DiskAccess, queues: u16) -> Arc<Blk> {
    let image = image();
    let path = image.path().to_owned();
    let disk = Disk::open(&spec::Disk { path, access }).unwrap();
    Arc::new(Blk::new(disk, "xlaunch-root", queues))
}

fn live() -> Driver {
    Driver::live(model(DiskAccess::ThrowAway, 2), 2, ALL, 16)
}

impl Driver {
    fn header(&self, kind: u32, sector: u64) {
        self.ram.store_u32(HEADER, kind).unwrap();
        self.ram.store_u64(HEADER + 8, sector).unwrap();
        self.ram.store_u8(STATUS_BYTE, 0xee).unwrap();
    }

    /// A request with header and status around `data`; gives status and used length.
    fn request(&mut self, kind: u32, sector: u64, data: &[Buffer]) -> (u8, u32) {
        self.header(kind, sector);
        let mut buffers = vec![(HEADER, 16, false)];
        buffers.extend(data);
        buffers.push((STATUS_BYTE, 1, true));
        self.submit(0, &buffers, None);
        let len = self.wait(0).1;
        (self.ram.load_u8(STATUS_BYTE).unwrap(), len)
    }

    fn segments(&self, segments: &[(u64, u32, u32)]) -> [Buffer; 1] {
        for (i, &(sector, count, flags)) in segments.iter().enumerate() {
            let at = DATA + 16 * i as u64;
            self.ram.store_u64(at, sector).unwrap();
            self.ram.store_u32(at + 8, count).unwrap();
            self.ram.store_u32(at + 12, flags).unwrap();
        }
        [(DATA, 16 * segments.len() as u32, false)]
    }

    fn byte(&self, at: u64) -> u8 {
        self.ram.load_u8(at).unwrap()
    }
}

#[test]
fn the_configuration_tells_the_disk() {
    let mut driver = live();
    assert_eq!(driver.cfg(0x2000, Width::Qword), SECTORS);
    assert_eq!(driver.cfg(0x2000 + 12, Width::Dword), 254);
    assert_eq!(driver.cfg(0x2000 + 20, Width::Dword), 512);
    assert_eq!(driver.cfg(0x2000 + 34, Width::Word), 2);
    assert_eq!(driver.cfg(0x2000 + 60, Width::Dword), 0xffff_ffff);
    assert_eq!(driver.device.config_read(0, Width::Dword), 0x1042_1af4);
}

#[test]
fn sectors_are_written_and_read_back() {
    let mut driver = live();
    assert_eq!(driver.request(0, 7, &[(DATA, 1024, true)]), (0, 1025));
    assert_eq!((driver.byte(DATA + 511), driver.byte(DATA + 512)), (7, 8));
    driver.ram.fill(DATA, 512, 0xaa).unwrap();
    assert_eq!(
        driver.request(1, 8, &[(DATA, 100, false), (DATA + 100, 412, false)]),
        (0, 1)
    );
    let split = [
        (DATA + 0x1000, 700, true),
        (DATA + 0x3000, 324, true),
        (DATA, 0, true),
    ];
    assert_eq!(driver.request(0, 7, &split), (0, 1025));
    assert_eq!(
        (driver.byte(DATA + 0x1000), driver.byte(DATA + 0x1200)),
        (7, 0xaa)
    );
    assert_eq!(driver.byte(DATA + 0x3000 + 323), 0xaa);
    assert_eq!(driver.request(4, 0, &[]), (0, 1));
}

#[test]
fn any_layout_of_a_request_will_do() {
    let mut driver = live();
    driver.header(0, 3);
    let shared = [
        (HEADER, 1, false),
        (HEADER + 1, 14, false),
        (HEADER + 15, 1, false),
        (DATA, 513, true),
    ];
    driver.submit(0, &shared, Some(0x8000));
    assert_eq!(driver.wait(0).1, 513);
    assert_eq!((driver.byte(DATA + 511), driver.byte(DATA + 512)), (3, 0));
    driver.header(1, 4);
    driver.ram.write(HEADER + 16, &[0xcc; 512]).unwrap();
    driver.submit(0, &[(HEADER, 528, false), (DATA, 1, true)], Some(0x8000));
    driver.wait(0);
    assert_eq!(driver.byte(DATA), 0);
    assert_eq!(driver.request(0, 4, &[(DATA, 512, true)]), (0, 513));
    assert_eq!(driver.byte(DATA), 0xcc);
}

#[test]
fn nothing_outside_the_disk_or_the_memory_is_touched() {
    let mut driver = live();
    // A failed read has written nothing from the start on, a failed write the status alone.
    for kind in [0, 1] {
        let data = |gpa, len| [(gpa, len, kind == 0)];
        for (sector, buffer) in [
            (SECTORS, data(DATA, 512)),
            (SECTORS - 1, data(DATA, 1024)),
            (u64::MAX, data(DATA, 512)),
            (u64::MAX / 512, data(DATA, 512)),
            (u64::MAX / 512 + 1, data(DATA, 512)),
            (0, data(DATA, 511)),
            (0, data(RAM - 256, 512)),
            (0, data(0xfee0_0000, 512)),
            (0, data(u64::MAX - 511, 512)),
            (0, data(DATA, 512 << 20)),
        ] {
            assert_eq!(
                driver.request(kind, sector, &buffer),
                (1, u32::from(kind == 1)),
                "{kind} {sector:#x} {buffer:x?}"
            );
        }
    }
    assert!(!driver.status().contains(Status::NEEDS_RESET));
    assert_eq!(driver.request(0, SECTORS - 1, &[(DATA, 512, true)]).0, 0);
}

#[test]
fn a_buffer_of_the_wrong_direction_is_an_error() {
    let mut driver = live();
    driver.ram.fill(DATA, 512, 0xee).unwrap();
    assert_eq!(driver.request(0, 7, &[(DATA, 512, false)]), (1, 1));
    assert_eq!(driver.request(1, 7, &[(DATA, 512, true)]), (1, 0));
    assert_eq!(driver.byte(DATA), 0xee);
    assert_eq!(driver.request(0, 7, &[(DATA, 512, true)]), (0, 513));
    assert_eq!(driver.byte(DATA), 7);
}

/// Both copies write to the same place, and each returns once.
#[test]
fn one_head_offered_twice_is_two_requests() {
    let mut driver = live();
    driver.header(0, 9);
    driver.describe(0, 0, (HEADER, 16), NEXT, 1);
    driver.describe(0, 1, (DATA, 512), WRITE | NEXT, 2);
    driver.describe(0, 2, (STATUS_BYTE, 1), WRITE, 0);
    for _ in 0..8 {
        driver.offer(0, 0);
    }
    driver.notify(0);
    for _ in 0..8 {
        assert_eq!(driver.wait(0), (0, 513));
    }
    assert_eq!(driver.used(0), None);
    assert_eq!((driver.byte(STATUS_BYTE), driver.byte(DATA)), (0, 9));
}

#[test]
fn segments_have_their_own_limits() {
    let mut driver = live();
    assert_eq!(driver.cfg(0x2000 + 36, Width::Dword), 1 << 21);
    assert_eq!(driver.cfg(0x2000 + 48, Width::Dword), 1 << 17);
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(1 << 30).unwrap();
    let path = file.path().to_owned();
    let access = DiskAccess::ThrowAway;
    let disk = Disk::open(&spec::Disk { path, access }).unwrap();
    let mut driver = Driver::live(Arc::new(Blk::new(disk, "", 1)), 1, ALL & !MQ, 16);
    for (kind, count, status) in [
        (11, 1 << 21, 0),
        (13, 1 << 17, 0),
        (13, (1 << 17) + 1, 1),
        (13, 0, 0),
    ] {
        let list = driver.segments(&[(0, count, 0)]);
        assert_eq!(
            driver.request(kind, 0, &list),
            (status, 1),
            "{kind} {count}"
        );
    }
}

#[test]
fn requests_without_header_or_status_return() {
    let mut driver = live();
    driver.header(0, 0);
    for (buffers, used) in [
        (vec![(HEADER, 16, false), (DATA, 512, false)], 0),
        (vec![(HEADER, 15, false), (STATUS_BYTE, 1, true)], 1),
        (vec![(STATUS_BYTE, 1, true)], 1),
        (vec![(RAM - 8, 16, false), (STATUS_BYTE, 1, true)], 1),
        (vec![(HEADER, 16, false), (RAM, 1, true)], 0),
        (vec![(HEADER, 16, false), (DATA, 0, true)], 0),
    ] {
        driver.submit(0, &buffers, None);
        assert_eq!(driver.wait(0).1, used, "{buffers:x?}");
    }
    assert_eq!(driver.byte(STATUS_BYTE), 1);
    assert!(!driver.status().contains(Status::NEEDS_RESET));
}

#[test]
fn unknown_requests_are_unsupported() {
    let mut driver = live();
    for kind in [2, 3, 5, 10, 12, 14, 0x8000_0000, u32::MAX] {
        assert_eq!(driver.request(kind, 0, &[]), (2, 1));
    }
}

#[test]
fn the_id_is_cut_to_the_buffer() {
    let mut driver = live();
    assert_eq!(driver.request(8, 0, &[(DATA, 20, true)]), (0, 21));
    let mut id = [0; 20];
    driver.ram.read(DATA, &mut id).unwrap();
    assert_eq!(&id, b"xlaunch-root\0\0\0\0\0\0\0\0");
    driver.ram.fill(DATA, 64, 0xee).unwrap();
    assert_eq!(driver.request(8, 0, &[(DATA, 4, true)]), (0, 5));
    assert_eq!((driver.byte(DATA + 3), driver.byte(DATA + 4)), (b'u', 0xee));
    assert_eq!(driver.request(8, 0, &[(DATA, 64, true)]), (0, 20));
    assert_eq!(driver.byte(DATA + 20), 0xee);
}

#[test]
fn segments_are_cleared_or_refused_as_a_whole() {
    let mut driver = live();
    let zeroed = driver.segments(&[(8, 8, 1), (20, 3, 0)]);
    assert_eq!(driver.request(13, 0, &zeroed), (0, 1));
    driver.request(0, 0, &[(DATA, 24 * 512, true)]);
    let sector = |driver: &Driver, n: u64| driver.byte(DATA + 512 * n);
    assert_eq!(
        [7, 8, 15, 16, 19, 20, 22, 23].map(|n| sector(&driver, n)),
        [7, 0, 0, 16, 19, 0, 0, 23]
    );
    for (kind, list, status) in [
        (11, vec![(0, 8, 0)], 0),
        (11, vec![(0, 8, 1)], 2),
        (13, vec![(0, 8, 2)], 2),
        (13, vec![(0, 1, 0), (SECTORS, 1, 0)], 1),
        (13, vec![(u64::MAX, 1, 0)], 1),
        (11, vec![(1, u32::MAX, 0)], 1),
        (13, vec![], 1),
        (13, vec![(0, 1, 0); 17], 1),
    ] {
        let buffers = driver.segments(&list);
        let expected = (status, 1);
        assert_eq!(
            driver.request(kind, 0, &buffers),
            expected,
            "{kind} {list:?}"
        );
    }
    assert_eq!(driver.request(11, 0, &[(DATA, 24, false)]), (1, 1));
    driver.request(0, 1, &[(DATA, 512, true)]);
    assert_eq!(driver.byte(DATA), 1, "no part of a refused request is done");
}

#[test]
fn features_that_were_not_agreed_on_are_not_served() {
    let mut driver = Driver::live(model(DiskAccess::ThrowAway, 1), 1, 0, 16);
    let list = driver.segments(&[(0, 8, 0)]);
    assert_eq!(driver.request(11, 0, &list), (2, 1));
    assert_eq!(driver.request(13, 0, &list), (2, 1));
}

#[test]
fn a_read_only_disk_says_so() {
    let mut driver = Driver::live(model(DiskAccess::ReadOnly, 1), 1, 1 << 5, 16);
    assert_eq!(driver.request(1, 0, &[(DATA, 512, false)]), (1, 1));
    let list = driver.segments(&[(0, 8, 0)]);
    assert_eq!(driver.request(13, 0, &list).0, 2);
    assert_eq!(driver.request(0, 5, &[(DATA, 512, true)]), (0, 513));
    assert_eq!(driver.byte(DATA), 5);
    assert_eq!(driver.request(4, 0, &[]), (0, 1));
}

#[test]
fn many_requests_on_two_queues_all_return() {
    let mut driver = live();
    let slot = |i: u64| BUFFERS + 0x2_0000 + i * 0x1000;
    for round in 0..40_u64 {
        for queue in 0..2_u16 {
            for i in 0..4_u64 {
                let at = slot(u64::from(queue) * 4 + i);
                let sector = (round + i + 100 * u64::from(queue)) % SECTORS;
                driver.ram.store_u32(at, 0).unwrap();
                driver.ram.store_u64(at + 8, sector).unwrap();
                let buffers = [(at, 16, false), (at + 0x200, 512, true), (at + 16, 1, true)];
                driver.submit(queue, &buffers, None);
            }
        }
        for queue in 0..2_u16 {
            for _ in 0..4 {
                assert_eq!(driver.wait(queue).1, 513);
            }
            for i in 0..4 {
                let at = slot(u64::from(queue) * 4 + i);
                let sector = (round + i + 100 * u64::from(queue)) % SECTORS;
                assert_eq!(
                    (driver.byte(at + 16), driver.byte(at + 0x200)),
                    (0, sector as u8)
                );
            }
        }
    }
}

#[test]
fn a_reset_waits_for_what_is_in_flight() {
    let mut driver = live();
    for round in 0..100 {
        driver.header(0, 0);
        for _ in 0..5 {
            let buffers = [
                (HEADER, 16, false),
                (DATA, 64 * 512, true),
                (STATUS_BYTE, 1, true),
            ];
            driver.submit(0, &buffers, None);
        }
        driver.reset();
        driver.ram.fill(DATA, 64 * 512, 0x5a).unwrap();
        assert_eq!(driver.status(), Status::empty());
        driver.ram.fill(0, 0x8000, 0).unwrap();
        driver.bring_up(2, ALL, 16);
        let mut bytes = vec![0; 64 * 512];
        driver.ram.read(DATA, &mut bytes).unwrap();
        assert!(bytes.iter().all(|&byte| byte == 0x5a), "round {round}");
    }
}
