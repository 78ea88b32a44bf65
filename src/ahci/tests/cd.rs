//! Commands of a CD drive.

use super::*;

const BLOCKS: u64 = 300;
const MORE: (u64, u32) = (BUFFER, 0x2_0000);

fn cd(blocks: u64) -> Driver {
    let disc = open(image(blocks * 4).path(), DiskAccess::ReadOnly);
    ready(Drive::Cd(Some(disc), "cd 0".to_owned()))
}

fn empty() -> Driver {
    ready(Drive::Cd(None, "cd 0".to_owned()))
}

/// Takes note of the reset.
fn ready(drive: Drive) -> Driver {
    let mut driver = Driver::live(vec![drive]);
    assert_eq!(sense(&mut driver, &[0]), [6, 0x29, 0]);
    driver
}

fn packet(bytes: &[u8]) -> Order {
    let mut packet = bytes.to_vec();
    packet.resize(16, 0);
    Order {
        packet: Some(packet),
        features: 1,
        lba: 0xffff00,
        regions: vec![MORE],
        ..Order::new(0xa0, 0, 0)
    }
}

/// Runs a command that must go well: the bytes that it gives.
fn run(driver: &mut Driver, bytes: &[u8]) -> Vec<u8> {
    driver.ok(0, &packet(bytes));
    assert_eq!(driver.received(0, 0x40, 13)[12], 3);
    let len = driver.ram.load_u32(Driver::header(0, 0) + 4).unwrap();
    driver.bytes(BUFFER, len as usize)
}

/// Runs a command that must fail: key, code and qualifier.
fn sense(driver: &mut Driver, bytes: &[u8]) -> [u8; 3] {
    let error = driver.fails(0, &packet(bytes));
    let data = run(driver, &[3, 0, 0, 0, 18]);
    assert_eq!((data[0], data[2] << 4), (0x70, error));
    [data[2], data[12], data[13]]
}

#[test]
fn the_drive_is_told_from_a_disk() {
    let mut driver = cd(BLOCKS);
    assert_eq!(driver.read(0, SIG), 0xeb14_0101);
    for code in [0xec, 0x20] {
        assert_eq!(
            driver.fails(0, &Order::new(code, 0, 1).with(BUFFER, 512)),
            4
        );
        let fis = driver.received(0, 0x40, 13);
        assert_eq!((&fis[4..7], fis[12]), (&[1, 0x14, 0xeb][..], 1));
    }
    driver.ok(0, &Order::new(0xa1, 0, 0).with(BUFFER, 512));
    assert_eq!(driver.bytes(BUFFER, 2), [0xc0, 0x85]);
    assert_eq!(&driver.bytes(BUFFER + 54, 14), b"lxuacn hDCR-MO");
    for code in [0x00, 0x25, 0x60, 0xb0, 0xe7] {
        assert_eq!(driver.fails(0, &Order::new(code, 0, 1)), 4);
    }
    let without_packet = Order {
        packet: None,
        ..packet(&[0])
    };
    assert_eq!(driver.fails(0, &without_packet), 4);
    let mode = |features, count| Order {
        features,
        ..Order::new(0xef, 0, count)
    };
    driver.ok(0, &mode(3, 0x44));
    assert_eq!(driver.fails(0, &mode(2, 0)), 4);
}

#[test]
fn it_says_what_it_is() {
    let mut driver = cd(BLOCKS);
    let inquiry = run(&mut driver, &[0x12, 0, 0, 0, 96]);
    assert_eq!(inquiry[..5], [5, 0x80, 5, 2, 31]);
    assert_eq!(&inquiry[8..36], b"xlaunch CD-ROM          1.0 ");
    assert_eq!(run(&mut driver, &[0x12, 0, 0, 0, 5]), inquiry[..5]);
    assert_eq!(
        run(&mut driver, &[0x12, 1, 0, 0, 96]),
        [5, 0, 0, 2, 0, 0x80]
    );
    assert_eq!(run(&mut driver, &[0x12, 1, 0x80, 0, 96])[4..], *b"cd 0");
    assert_eq!(sense(&mut driver, &[0x12, 1, 0x83, 0, 96]), [5, 0x24, 0]);
    let page = run(&mut driver, &[0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 128]);
    assert_eq!(
        (page[..2].to_vec(), page[8..10].to_vec(), page.len()),
        (vec![0, 28], vec![0x2a, 20], 30)
    );
    let both = run(&mut driver, &[0x5a, 0, 0x3f, 0, 0, 0, 0, 0, 128]);
    assert_eq!((both.len(), both[8], both[20]), (42, 1, 0x2a));
    assert_eq!(
        sense(&mut driver, &[0x5a, 0, 0xea, 0, 0, 0, 0, 0, 128]),
        [5, 0x39, 0]
    );
    assert_eq!(
        sense(&mut driver, &[0x5a, 0, 0x1a, 0, 0, 0, 0, 0, 128]),
        [5, 0x24, 0]
    );
    assert_eq!(
        run(&mut driver, &[0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8]).len(),
        8
    );
    for unknown in [0x2a, 0x55, 0xbe, 0xff] {
        assert_eq!(sense(&mut driver, &[unknown]), [5, 0x20, 0]);
    }
}

#[test]
fn a_disc_is_told_and_read() {
    let mut driver = cd(BLOCKS);
    assert_eq!(run(&mut driver, &[0]), []);
    assert_eq!(run(&mut driver, &[0x25]), [0, 0, 1, 43, 0, 0, 8, 0]);
    let toc = [
        0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xaa, 0, 0, 0, 1, 44,
    ];
    assert_eq!(run(&mut driver, &[0x43, 0, 0, 0, 0, 0, 0, 0, 100]), toc);
    // 300 frames behind the gap of 150: six seconds.
    let lead_out = [0, 10, 1, 1, 0, 0x14, 0xaa, 0, 0, 0, 6, 0];
    assert_eq!(
        run(&mut driver, &[0x43, 2, 0, 0, 0, 0, 0xaa, 0, 100]),
        lead_out
    );
    let session = [0, 10, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0];
    assert_eq!(run(&mut driver, &[0x43, 0, 1, 0, 0, 0, 0, 0, 12]), session);
    assert_eq!(
        run(&mut driver, &[0x43, 0, 0, 0, 0, 0, 0, 0, 12, 0x40]),
        session
    );
    assert_eq!(run(&mut driver, &[0x43, 0, 0, 0, 0, 0, 0, 0, 4]), toc[..4]);
    assert_eq!(
        sense(&mut driver, &[0x43, 0, 2, 0, 0, 0, 0, 0, 12]),
        [5, 0x24, 0]
    );
    assert_eq!(
        run(&mut driver, &[0x51, 0, 0, 0, 0, 0, 0, 0, 34])[..4],
        [0, 32, 14, 1]
    );
    for read in [
        &[0x28, 0, 0, 0, 1, 0, 0, 0, 3][..],
        &[0xa8, 0, 0, 0, 1, 0, 0, 0, 0, 3],
    ] {
        let data = run(&mut driver, read);
        assert_eq!((data.len(), &data[..3]), (3 * 2048, &[0, 4, 0][..]));
        assert_eq!(data[2 * 2048 + 1536..][..2], [0x0b, 4]);
    }
    assert_eq!(run(&mut driver, &[0x28, 0, 0, 0, 1, 43, 0, 0, 0]), []);
    assert_eq!(run(&mut driver, &[0x2b, 0, 0, 0, 1, 43]), []);
    for beyond in [
        &[0x28, 0, 0, 0, 1, 43, 0, 0, 2][..],
        &[0x28, 0, 0, 0, 1, 44, 0, 0, 0],
        &[0xa8, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x2b, 0, 0, 0, 1, 44],
    ] {
        assert_eq!(sense(&mut driver, beyond), [5, 0x21, 0]);
    }
}

#[test]
fn data_may_also_go_by_pio_in_blocks_as_large_as_allowed() {
    let mut driver = cd(BLOCKS);
    let pio = |limit: u64| Order {
        features: 0,
        lba: limit << 8,
        ..packet(&[0x28, 0, 0, 0, 0, 9, 0, 0, 2])
    };
    driver.write(0, PIS, u32::MAX);
    driver.ok(0, &pio(0x5ff));
    assert_eq!(driver.bytes(BUFFER + 2048, 1), [40]);
    assert_eq!(driver.read(0, PIS), DHRS | PSS);
    // 4096 bytes in blocks of 1534: the last has 1028.
    let setup = driver.received(0, 0x20, 20);
    assert_eq!(
        (setup[0], setup[1], setup[12], setup[15]),
        (0x5f, 0x60, 2, 0xd0)
    );
    assert_eq!((&setup[5..7], &setup[16..18]), (&[4, 4][..], &[4, 4][..]));
    assert_eq!(driver.fails(0, &pio(0)), 4);
    // Without data only the packet itself goes by PIO.
    driver.ok(0, &packet(&[0]));
    let setup = driver.received(0, 0x20, 20);
    assert_eq!((setup[1], setup[12], setup[16]), (0, 1, 12));
}

#[test]
fn an_empty_drive_has_no_medium() {
    let mut driver = empty();
    for packet in [
        &[0][..],
        &[0x25],
        &[0x28, 0, 0, 0, 0, 0, 0, 0, 1],
        &[0x43],
        &[0x51],
        &[0x2b],
    ] {
        assert_eq!(sense(&mut driver, packet), [2, 0x3a, 1]);
    }
    assert_eq!(
        run(&mut driver, &[0x46, 0, 0, 0, 0, 0, 0, 0, 8])[6..],
        [0, 0]
    );
    let event = run(&mut driver, &[0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8]);
    assert_eq!(event, [0, 6, 4, 0x10, 0, 0, 0, 0]);
}

#[test]
fn features_tell_the_kind_of_disc() {
    let mut driver = cd(BLOCKS);
    let all = run(&mut driver, &[0x46, 0, 0, 0, 0, 0, 0, 2, 0]);
    let len = u32::from_be_bytes(all[..4].try_into().unwrap());
    assert_eq!((len as usize + 4, &all[6..8]), (all.len(), &[0, 8][..]));
    let mut at = 8;
    let mut codes = Vec::new();
    while at < all.len() {
        codes.push(all[at + 1]);
        at += 4 + usize::from(all[at + 3]);
    }
    assert_eq!((at, codes), (all.len(), vec![0, 1, 3, 0x10, 0x1e, 0x1f]));
    let one = run(&mut driver, &[0x46, 2, 0, 0x1f, 0, 0, 0, 2, 0]);
    assert_eq!(one[8..], [0, 0x1f, 0, 0]);
    let current = run(&mut driver, &[0x46, 1, 0, 0x1e, 0, 0, 0, 2, 0]);
    assert_eq!(current[8..12], [0, 0x1e, 9, 4]);
    assert_eq!(
        sense(&mut driver, &[0x46, 3, 0, 0, 0, 0, 0, 2, 0]),
        [5, 0x24, 0]
    );
}

#[test]
fn the_tray_opens_closes_and_is_locked() {
    let mut driver = cd(BLOCKS);
    let event =
        |driver: &mut Driver| run(driver, &[0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8])[4..6].to_vec();
    assert_eq!(event(&mut driver), [0, 2]);
    run(&mut driver, &[0x1e, 0, 0, 0, 1]);
    assert_eq!(sense(&mut driver, &[0x1b, 0, 0, 0, 2]), [5, 0x53, 2]);
    run(&mut driver, &[0x1e, 0, 0, 0, 0]);
    run(&mut driver, &[0x1b, 0, 0, 0, 2]);
    assert_eq!(sense(&mut driver, &[0]), [2, 0x3a, 2]);
    assert_eq!(event(&mut driver), [3, 1]);
    assert_eq!(event(&mut driver), [0, 1]);
    assert_eq!(
        run(&mut driver, &[0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8])[1],
        0x10
    );
    run(&mut driver, &[0x1b, 0, 0, 0, 3]);
    assert_eq!(event(&mut driver), [2, 2]);
    assert_eq!(sense(&mut driver, &[0]), [6, 0x28, 0]);
    assert_eq!(run(&mut driver, &[0]), []);
    assert_eq!(
        sense(&mut driver, &[0x4a, 0, 0, 0, 0x10, 0, 0, 0, 8]),
        [5, 0x24, 0]
    );
    assert_eq!(
        run(&mut driver, &[0x4a, 1, 0, 0, 2, 0, 0, 0, 8]),
        [0, 2, 0x80, 0x10]
    );
}

#[test]
fn sense_is_told_once_and_a_reset_is_told_to_whoever_comes_first() {
    let mut driver = cd(BLOCKS);
    assert_eq!(run(&mut driver, &[3, 0, 0, 0, 18])[2], 0);
    driver.fails(0, &packet(&[0xff]));
    assert_eq!(run(&mut driver, &[3, 0, 0, 0, 18])[12], 0x20);
    assert_eq!(run(&mut driver, &[3, 0, 0, 0, 18])[12], 0);
    driver.fails(0, &packet(&[0xff]));
    run(&mut driver, &[0]);
    assert_eq!(
        run(&mut driver, &[3, 0, 0, 0, 18])[12],
        0,
        "of the last command"
    );
    driver.ok(0, &Order::new(0x08, 0, 0));
    assert_eq!(run(&mut driver, &[0x12, 0, 0, 0, 36]).len(), 36);
    assert_eq!(run(&mut driver, &[3, 0, 0, 0, 18])[12], 0x29);
    assert_eq!(run(&mut driver, &[0]), []);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(16))]
    /// Whatever packets come, each ends, and the drive answers afterwards.
    #[test]
    fn arbitrary_packets_end(
        packets in proptest::collection::vec(proptest::prelude::any::<([u8; 12], u16, bool)>(), 1..100)
    ) {
        let mut driver = cd(20);
        for (bytes, limit, by_dma) in packets {
            let order = Order {
                features: by_dma.into(),
                lba: u64::from(limit) << 8,
                ..packet(&bytes)
            };
            if driver.run(0, &order) & 1 != 0 {
                driver.restart(0);
            }
        }
        driver.ok(0, &packet(&[3, 0, 0, 0, 18]));
    }
}
