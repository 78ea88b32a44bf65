//! Commands of a disk.

use super::*;

const SECTORS: u64 = 0x1_2000;
const ABRT: u8 = 0x04;
const IDNF: u8 = 0x10;

fn live(sectors: u64) -> Driver {
    Driver::live(vec![disk(sectors, DiskAccess::ThrowAway)])
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |n, &byte| n << 8 | u64::from(byte))
}

fn words(driver: &Driver) -> Vec<u16> {
    let bytes = driver.bytes(BUFFER, 512);
    bytes.chunks(2).map(|pair| number(pair) as u16).collect()
}

fn identify(driver: &mut Driver) -> Vec<u16> {
    driver.ok(0, &Order::new(0xec, 0, 0).with(BUFFER, 512));
    words(driver)
}

fn text(words: &[u16]) -> String {
    let bytes = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    String::from_utf8(bytes).unwrap().trim_end().to_owned()
}

/// The number that a sector in the buffer begins with.
fn sector(driver: &Driver, index: u64) -> u64 {
    number(&driver.bytes(BUFFER + 512 * index, 8))
}

#[test]
fn identify_tells_the_truth() {
    let mut driver = live(SECTORS);
    let id = identify(&mut driver);
    assert_eq!(text(&id[10..20]), "0123");
    assert_eq!(text(&id[27..47]), "xlaunch disk");
    assert_eq!(id[60..62], [0x2000, 1]);
    assert_eq!(id[100..104], [0x2000, 1, 0, 0]);
    assert_eq!((id[75], id[76] & 0x10e, id[77]), (31, 0x10e, 0x46));
    assert_eq!((id[69], id[105], id[169], id[217]), (0x4020, 8, 1, 1));
    assert_eq!((id[106], id[209]), (0x6003, 0x4000));
    assert_eq!((id[59], id[88]), (0, 0x407f));
    let sum = driver
        .bytes(BUFFER, 512)
        .iter()
        .fold(0_u8, |n, b| n.wrapping_add(*b));
    assert_eq!((id[255] as u8, sum), (0xa5, 0));
    // A PIO setup FIS with an interrupt ends it, and no register FIS.
    let fis = driver.received(0, 0x20, 20);
    assert_eq!((fis[0], fis[1], fis[2] & 8, fis[15]), (0x5f, 0x60, 8, 0x50));
    assert_eq!(fis[16..18], [0, 2]);
    assert_eq!(driver.read(0, PIS), PSS);
}

#[test]
fn settings_show_in_identify_and_a_reset_takes_them_back() {
    let mut driver = live(SECTORS);
    let set = |features: u16, count| Order {
        features,
        ..Order::new(0xef, 0, count)
    };
    for order in [
        set(0x82, 0),
        set(0x55, 0),
        set(3, 0x42),
        Order::new(0xc6, 0, 8),
    ] {
        driver.ok(0, &order);
    }
    let id = identify(&mut driver);
    assert_eq!((id[85] & 0x60, id[88], id[59]), (0, 0x047f, 0x108));
    for wrong in [
        set(3, 0x47),
        set(3, 0x13),
        set(0x05, 1),
        Order::new(0xc6, 0, 3),
        Order::new(0xc6, 0, 32),
    ] {
        assert_eq!(driver.fails(0, &wrong), ABRT);
    }
    driver.write(0, CMD, FRE);
    driver.write(0, SCTL, 1);
    driver.write(0, SCTL, 0);
    driver.start(0);
    let id = identify(&mut driver);
    assert_eq!((id[85] & 0x60, id[88], id[59]), (0x60, 0x407f, 0));
}

#[test]
fn every_read_command_reads() {
    let mut driver = live(SECTORS);
    driver.ok(0, &Order::new(0xc6, 0, 4));
    for code in [0x20, 0x24, 0xc8, 0x25, 0xc4, 0x29] {
        driver.ram.fill(BUFFER, 0x1000, 0xff).unwrap();
        driver.ok(0, &Order::new(code, 40, 6).with(BUFFER, 6 * 512));
        assert_eq!(
            (sector(&driver, 0), sector(&driver, 5)),
            (40, 45),
            "{code:#x}"
        );
        assert_eq!(driver.ram.load_u32(Driver::header(0, 0) + 4), Ok(6 * 512));
        assert_eq!(driver.bytes(BUFFER + 6 * 512, 1), [0xff]);
    }
    // The last block of a PIO transfer: here two of six sectors, four being a block.
    assert_eq!(driver.received(0, 0x20, 20)[16..18], [0, 4]);
    // DMA ends with a register FIS.
    driver.write(0, PIS, u32::MAX);
    driver.ok(0, &Order::new(0x25, 1, 1).with(BUFFER, 512));
    assert_eq!(driver.read(0, PIS), DHRS);
    assert_eq!(driver.received(0, 0x40, 3), [0x34, 0x40, 0x50]);
}

#[test]
fn addresses_have_28_or_48_bits_and_a_count_of_zero_is_the_most() {
    let mut driver = live(SECTORS);
    let high = Order {
        device: 0x40,
        ..Order::new(0xc8, 0x1_1000, 0)
    };
    driver.ok(0, &high.clone().with(BUFFER, 256 * 512));
    assert_eq!(sector(&driver, 255), 0x1_10ff);
    // Bits 24 to 27 stand in the device register.
    let beyond = Order {
        device: 0x41,
        ..high
    };
    assert_eq!(driver.fails(0, &beyond.with(BUFFER, 512)), IDNF);
    let regions: Vec<_> = (0..16).map(|_| (BUFFER, 0x20_0000)).collect();
    let all = Order {
        regions,
        ..Order::new(0x25, 1, 0)
    };
    driver.ok(0, &all);
    assert_eq!(
        driver.ram.load_u32(Driver::header(0, 0) + 4),
        Ok(0x200_0000)
    );
    let behind = |code, lba| Order::new(code, lba, 1).with(BUFFER, 512);
    for lba in [SECTORS, u64::MAX >> 16] {
        for code in [0x25, 0x35, 0x24, 0x42] {
            assert_eq!(driver.fails(0, &behind(code, lba)), IDNF);
        }
    }
    driver.ok(0, &behind(0x42, SECTORS - 1));
    let chs = Order {
        device: 0,
        ..behind(0x25, 0)
    };
    assert_eq!(driver.fails(0, &chs), ABRT);
}

#[test]
fn every_write_command_writes() {
    let mut driver = live(SECTORS);
    driver.ok(0, &Order::new(0xc6, 0, 2));
    for (i, code) in [0x30, 0x34, 0xca, 0x35, 0x3d, 0xc5, 0x39, 0xce]
        .into_iter()
        .enumerate()
    {
        driver.ram.fill(BUFFER, 1536, code).unwrap();
        driver.write(0, PIS, u32::MAX);
        driver.ok(0, &Order::new(code, 100 * i as u64, 3).with(BUFFER, 1536));
        assert_eq!(driver.read(0, PIS) & DHRS, DHRS);
        driver.ok(0, &Order::new(0x25, 100 * i as u64, 4).with(BUFFER, 2048));
        assert_eq!(driver.bytes(BUFFER, 1536), [code; 1536]);
        assert_eq!(sector(&driver, 3), 100 * i as u64 + 3);
    }
}

#[test]
fn multiple_needs_a_setting() {
    let mut driver = live(64);
    for code in [0xc4, 0x29, 0xc5, 0x39] {
        assert_eq!(
            driver.fails(0, &Order::new(code, 0, 1).with(BUFFER, 512)),
            ABRT
        );
    }
}

#[test]
fn what_is_unknown_aborts() {
    let mut driver = live(64);
    for code in [0x00, 0x01, 0x08, 0x63, 0xa0, 0xa1, 0xf5, 0xf9, 0xff] {
        assert_eq!(driver.fails(0, &Order::new(code, 0, 1)), ABRT, "{code:#x}");
    }
    let fis = driver.received(0, 0x40, 4);
    assert_eq!(fis, [0x34, 0x40, 0x51, ABRT]);
}

#[test]
fn a_read_only_disk_refuses_writes_and_trims() {
    let mut driver = Driver::live(vec![disk(64, DiskAccess::ReadOnly)]);
    for code in [0x30, 0x34, 0xca, 0x35, 0x3d] {
        assert_eq!(
            driver.fails(0, &Order::new(code, 0, 1).with(BUFFER, 512)),
            ABRT
        );
    }
    driver.ram.store_u64(BUFFER, 1 << 48).unwrap();
    let trim = Order {
        features: 1,
        ..Order::new(6, 0, 1)
    };
    assert_eq!(driver.fails(0, &trim.with(BUFFER, 512)), ABRT);
    driver.ok(0, &Order::new(0x25, 9, 1).with(BUFFER, 512));
    assert_eq!(sector(&driver, 0), 9);
}

#[test]
fn thirty_two_queued_commands_are_under_way_at_once() {
    let mut driver = live(SECTORS);
    for tag in 0..32_u8 {
        let at = BUFFER + 512 * u64::from(tag);
        let order = Order::queued(0x60, tag, 1000 + u64::from(tag), 1);
        driver.put(0, tag.into(), &order.with(at, 512));
    }
    driver.write(0, SACT, u32::MAX);
    driver.write(0, PIS, u32::MAX);
    driver.issue(0, u32::MAX);
    driver.wait(|driver| driver.read(0, SACT) == 0);
    for tag in 0..32 {
        assert_eq!(sector(&driver, tag), 1000 + tag);
    }
    assert_eq!((driver.read(0, CI), driver.read(0, TFD)), (0, 0x50));
    assert_eq!(driver.read(0, PIS) & (SDBS | TFES), SDBS);
    assert_eq!(driver.received(0, 0x58, 4), [0xa1, 0x40, 0x50, 0]);
    let setup = driver.received(0, 0, 28);
    assert_eq!(
        (setup[0], setup[1], number(&setup[20..24])),
        (0x41, 0x20, 512)
    );
}

#[test]
fn queued_writes_are_read_back() {
    let mut driver = live(SECTORS);
    driver.ram.fill(BUFFER, 0x2000, 0xab).unwrap();
    for (tag, device) in [(3, 0x40), (9, 0xc0)] {
        let order = Order {
            device,
            ..Order::queued(0x61, tag, 50 * u64::from(tag), 4)
        };
        driver.put(0, tag.into(), &order.with(BUFFER, 2048));
    }
    driver.write(0, SACT, 1 << 3 | 1 << 9);
    driver.issue(0, 1 << 3 | 1 << 9);
    driver.wait(|driver| driver.read(0, SACT) == 0);
    for lba in [150, 450] {
        driver.ok(0, &Order::new(0x25, lba, 5).with(BUFFER + 0x1_0000, 2560));
        assert_eq!(driver.bytes(BUFFER + 0x1_0000, 2048), [0xab; 2048]);
        assert_eq!(number(&driver.bytes(BUFFER + 0x1_0800, 8)), lba + 4);
    }
}

#[test]
fn an_error_among_queued_commands_stops_all_until_its_log_is_read() {
    let mut driver = live(64);
    let order = Order::queued(0x60, 7, 64, 1);
    driver.put(0, 7, &order.with(BUFFER, 512));
    driver.write(0, SACT, 1 << 7);
    driver.issue(0, 1 << 7);
    driver.wait(|driver| driver.stopped(0));
    assert_eq!(
        (driver.read(0, TFD), driver.read(0, SACT)),
        (0x1051, 1 << 7)
    );
    assert_eq!(
        driver.received(0, 0x58, 8),
        [0xa1, 0x40, 0x51, IDNF, 0, 0, 0, 0]
    );
    driver.restart(0);
    assert_eq!(driver.read(0, SACT), 0);
    assert_eq!(
        driver.fails(0, &Order::new(0xec, 0, 0).with(BUFFER, 512)),
        ABRT
    );
    for code in [0x2f, 0x47] {
        driver.ok(0, &Order::new(code, 0x10, 1).with(BUFFER, 512));
        let page = driver.bytes(BUFFER, 512);
        if code == 0x2f {
            assert_eq!(page[..6], [7, 0, 0x51, IDNF, 64, 0]);
        }
        assert_eq!(page.iter().fold(0_u8, |n, b| n.wrapping_add(*b)), 0);
    }
    identify(&mut driver);
}

fn trim(driver: &mut Driver, ranges: &[(u64, u64)]) -> Order {
    driver.ram.fill(BUFFER, 4096, 0).unwrap();
    for (i, (lba, count)) in ranges.iter().enumerate() {
        let at = BUFFER + 8 * i as u64;
        driver.ram.store_u64(at, count << 48 | lba).unwrap();
    }
    Order {
        features: 1,
        ..Order::new(6, 0, 1)
    }
    .with(BUFFER, 512)
}

#[test]
fn trimmed_sectors_read_as_zeros_by_either_command() {
    let mut driver = live(SECTORS);
    let order = trim(&mut driver, &[(8, 3), (0, 0), (1000, 0xffff)]);
    driver.ok(0, &order);
    let send = Order {
        features: 1,
        count: 5 << 3,
        auxiliary: 1,
        code: 0x64,
        ..trim(&mut driver, &[(20, 1)])
    };
    driver.put(0, 5, &send);
    driver.write(0, SACT, 1 << 5);
    driver.issue(0, 1 << 5);
    driver.wait(|driver| driver.read(0, SACT) == 0);
    for (lba, value) in [
        (7, 7),
        (8, 0),
        (10, 0),
        (11, 11),
        (19, 19),
        (20, 0),
        (21, 21),
        (1000, 0),
        (0x103e6, 0),
        (0x103e7, 0x103e7),
    ] {
        driver.ok(0, &Order::new(0x25, lba, 1).with(BUFFER, 512));
        assert_eq!(sector(&driver, 0), value, "{lba:#x}");
    }
}

#[test]
fn a_wrong_trim_touches_nothing() {
    let mut driver = live(64);
    let order = trim(&mut driver, &[(8, 8), (60, 5)]);
    assert_eq!(driver.fails(0, &order), IDNF);
    let good = trim(&mut driver, &[(8, 8)]);
    let orders = [
        good.clone().with(BUFFER, 256),
        Order {
            regions: Vec::new(),
            ..good.clone()
        },
        Order {
            count: 0,
            ..good.clone()
        },
        Order {
            count: 9,
            ..good.clone().with(BUFFER, 9 * 512)
        },
        Order {
            features: 0,
            ..good.clone()
        },
    ];
    for order in &orders {
        assert_eq!(driver.fails(0, order), ABRT, "{order:x?}");
    }
    driver.ok(0, &Order::new(0x25, 8, 1).with(BUFFER, 512));
    assert_eq!(sector(&driver, 0), 8);
}

#[test]
fn power_modes_are_told_and_sleep_ends_with_a_reset() {
    let mut driver = live(64);
    let mode = |driver: &mut Driver| {
        driver.ok(0, &Order::new(0xe5, 0, 0));
        driver.received(0, 0x40, 13)[12]
    };
    assert_eq!(mode(&mut driver), 0xff);
    driver.ok(0, &Order::new(0xe0, 0, 0));
    assert_eq!(mode(&mut driver), 0);
    driver.ok(0, &Order::new(0x25, 0, 1).with(BUFFER, 512));
    assert_eq!(mode(&mut driver), 0xff);
    driver.ok(0, &Order::new(0xe2, 0, 12));
    driver.ok(0, &Order::new(0xe1, 0, 0));
    assert_eq!(mode(&mut driver), 0xff);
    driver.ok(0, &Order::new(0xe6, 0, 0));
    assert_eq!(
        driver.fails(0, &Order::new(0xec, 0, 0).with(BUFFER, 512)),
        ABRT
    );
    soft_reset(&mut driver);
    identify(&mut driver);
}

/// Sends the device control register with the reset bit, then without.
fn soft_reset(driver: &mut Driver) {
    for control in [4, 0] {
        driver.put(0, 0, &Order::default());
        let mut fis = [0; 20];
        (fis[0], fis[15]) = (0x27, control);
        driver.ram.write(Driver::table(0), &fis).unwrap();
        driver.issue(0, 1);
        driver.wait(|driver| driver.read(0, CI) == 0);
    }
}

#[test]
fn a_software_reset_gives_the_signature_and_spares_kept_settings() {
    let mut driver = live(64);
    driver.ok(
        0,
        &Order {
            features: 0x66,
            ..Order::new(0xef, 0, 0)
        },
    );
    driver.ok(0, &Order::new(0xc6, 0, 8));
    driver.ok(0, &Order::new(0xf8, 0, 0));
    soft_reset(&mut driver);
    assert_eq!((driver.read(0, TFD), driver.read(0, SIG)), (0x150, 0x101));
    assert_eq!(driver.received(0, 0x40, 5), [0x34, 0, 0x50, 1, 1]);
    assert_eq!(identify(&mut driver)[59], 0x108);
    driver.ok(
        0,
        &Order {
            features: 0xcc,
            ..Order::new(0xef, 0, 0)
        },
    );
    soft_reset(&mut driver);
    assert_eq!(identify(&mut driver)[59], 0);
    driver.ok(0, &Order::new(0x90, 0, 0));
    assert_eq!(driver.read(0, TFD), 0x150);
}

#[test]
fn the_rest_of_the_commands_answer() {
    let mut driver = live(SECTORS);
    for code in [0xe7, 0xea] {
        driver.ok(0, &Order::new(code, 0, 0));
    }
    driver.ok(0, &Order::new(0x27, 0, 0));
    assert_eq!(driver.received(0, 0x40, 11)[4..7], [0xff, 0x1f, 1]);
    driver.ok(0, &Order::new(0xf8, 0, 0));
    assert_eq!(driver.received(0, 0x40, 11)[4..7], [0xff, 0x1f, 1]);
    let smart = |features| Order {
        features,
        ..Order::new(0xb0, 0xc2_4f00, 0)
    };
    driver.ok(0, &smart(0xda));
    assert_eq!(driver.received(0, 0x40, 7)[4..7], [0, 0x4f, 0xc2]);
    driver.ok(0, &smart(0xd9));
    assert_eq!(driver.fails(0, &smart(0xda)), ABRT);
    driver.ok(0, &smart(0xd8));
    assert_eq!(driver.fails(0, &smart(0xd0)), ABRT);
}

#[test]
fn logs_lead_to_each_other() {
    let mut driver = live(SECTORS);
    let log = |address: u64, count| Order::new(0x47, address, count).with(BUFFER, 2048);
    driver.ok(0, &log(0, 1));
    let directory = words(&driver);
    assert_eq!(
        (
            directory[0],
            directory[0x10],
            directory[0x13],
            directory[0x30]
        ),
        (1, 1, 1, 3)
    );
    assert_eq!(directory[0x04], 0);
    driver.ok(0, &log(0x13, 1));
    assert_eq!(words(&driver)[..3], [1, 0, 1]);
    let id = identify(&mut driver);
    driver.ok(0, &log(0x30, 3));
    assert_eq!(driver.bytes(BUFFER + 8, 4), [3, 0, 1, 2]);
    assert_eq!(
        number(&driver.bytes(BUFFER + 1024 + 8, 8)),
        1 << 63 | SECTORS
    );
    driver.ok(0, &log(0x130, 1));
    assert_eq!(words(&driver), id);
    for wrong in [
        log(0x04, 1),
        log(0, 2),
        log(0, 0),
        log(0x230, 2),
        log(0x330, 1),
    ] {
        assert_eq!(driver.fails(0, &wrong), ABRT);
    }
}
