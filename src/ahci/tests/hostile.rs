//! Drivers that do what none should.

use super::*;

const OUTSIDE: u64 = 1 << 40;

fn live() -> Driver {
    Driver::live(vec![disk(0x1000, DiskAccess::ThrowAway)])
}

fn read(lba: u64) -> Order {
    Order::new(0x25, lba, 1).with(BUFFER, 512)
}

/// What is issued stops the port with this event, and a restart mends it.
fn breaks(driver: &mut Driver, event: u32) {
    driver.issue(0, 1);
    driver.wait(|driver| driver.stopped(0));
    assert_eq!(driver.read(0, PIS) & (TFES | HBFS | IFS), event);
    assert_eq!(driver.read(0, CI), 1, "the command stays");
    // Nothing else is looked at until the port has been stopped.
    driver.put(0, 1, &read(1));
    driver.issue(0, 2);
    assert_eq!(driver.read(0, CI), 3);
    driver.restart(0);
    assert_eq!(driver.read(0, CI), 0);
    driver.ok(0, &read(5));
}

#[test]
fn lists_tables_and_places_outside_ram_are_host_bus_errors() {
    let mut driver = live();
    for (register, value) in [
        (CLB, RAM as u32),
        (CLB + 4, 0xffff_ffff),
        (CLB, 0xffff_fc00),
    ] {
        driver.write(0, register, value);
        breaks(&mut driver, HBFS);
        driver.write(0, CLB + 4, 0);
    }
    driver.put(0, 0, &read(1));
    for table in [RAM, RAM - 1, u64::MAX, OUTSIDE] {
        driver
            .ram
            .store_u64(Driver::header(0, 0) + 8, table)
            .unwrap();
        if table == RAM - 1 {
            // The table of 128 bytes is there, its regions are not.
            driver.ram.write(RAM - 128, &read(1).fis()).unwrap();
        }
        breaks(&mut driver, HBFS);
        driver.put(0, 0, &read(1));
    }
    for received in [RAM as u32, 0xffff_ff00] {
        driver.write(0, FB, received);
        driver.put(0, 0, &read(1));
        breaks(&mut driver, HBFS);
    }
}

#[test]
fn data_outside_ram_is_a_host_bus_error() {
    let mut driver = live();
    for code in [0x25, 0x35, 0xec] {
        for at in [RAM, RAM - 510, OUTSIDE, u64::MAX - 1] {
            driver.put(0, 0, &Order::new(code, 1, 1).with(at, 512));
            breaks(&mut driver, HBFS);
        }
    }
}

#[test]
fn regions_that_are_never_reached_do_not_matter() {
    let mut driver = live();
    let order = Order {
        regions: vec![(BUFFER, 512), (OUTSIDE, 512)],
        ..read(3)
    };
    driver.ok(0, &order);
    // One that is reached only in part, where the rest would not be in RAM.
    driver.ok(0, &read(3).with(RAM - 512, 0x40_0000));
}

#[test]
fn too_little_room_is_an_overflow_and_too_little_data_an_abort() {
    let mut driver = live();
    driver.ram.fill(BUFFER, 1024, 0xee).unwrap();
    driver.ok(0, &Order::new(0x25, 4, 2).with(BUFFER, 600));
    assert_ne!(driver.read(0, PIS) & OFS, 0);
    assert_eq!(driver.bytes(BUFFER + 598, 4), [0, 0, 0xee, 0xee]);
    assert_eq!(driver.ram.load_u32(Driver::header(0, 0) + 4), Ok(600));
    for regions in [Vec::new(), vec![(BUFFER, 600)]] {
        let order = Order {
            regions,
            ..Order::new(0x35, 4, 2)
        };
        assert_eq!(driver.fails(0, &order), 4);
    }
    driver.ok(
        0,
        &Order {
            regions: Vec::new(),
            ..read(4)
        },
    );
}

#[test]
fn a_region_that_asks_for_it_is_told() {
    let mut driver = live();
    driver.put(0, 0, &read(1));
    driver.write(0, PIS, u32::MAX);
    driver.issue(0, 1);
    driver.wait(|driver| driver.read(0, CI) == 0);
    assert_eq!(driver.read(0, PIS), DHRS);
    driver
        .ram
        .store_u32(Driver::table(0) + 0x8c, 1 << 31 | 511)
        .unwrap();
    driver.issue(0, 1);
    driver.wait(|driver| driver.read(0, CI) == 0);
    assert_eq!(driver.read(0, PIS), DHRS | DPS);
}

#[test]
fn a_fis_that_is_none_stops_the_port() {
    let mut driver = live();
    for dwords in [0, 1, 4, 17, 31] {
        driver.put(0, 0, &read(1));
        driver
            .ram
            .store_u32(Driver::header(0, 0), 1 << 16 | dwords)
            .unwrap();
        breaks(&mut driver, IFS);
    }
    driver.put(0, 0, &read(1));
    driver.ram.store_u8(Driver::table(0), 0x34).unwrap();
    breaks(&mut driver, IFS);
}

#[test]
fn a_tag_that_is_under_way_or_a_command_in_between_ends_the_queue() {
    let mut driver = live();
    let gate = Gate::close(&mut driver);
    for second in [Order::queued(0x60, 3, 9, 1), read(9)] {
        // The function may not use memory until both have been issued, so that they meet.
        driver.put(0, 3, &Order::queued(0x60, 3, 8, 1).with(BUFFER, 512));
        driver.put(0, 4, &second.with(BUFFER, 512));
        driver.write(0, SACT, 1 << 3);
        driver.issue(0, 1 << 3 | 1 << 4);
        gate.open(&mut driver);
        driver.wait(|driver| driver.read(0, CI) == 0 || driver.stopped(0));
        // Either they met, or the first was faster.
        if driver.stopped(0) {
            assert_eq!(driver.read(0, TFD), 0x0451);
            assert_eq!(driver.read(0, CI), 1 << 4);
            driver.restart(0);
            driver.ok(0, &Order::new(0x2f, 0x10, 1).with(BUFFER, 512));
            assert_eq!(driver.bytes(BUFFER, 1), [0x80]);
        }
        driver.wait(|driver| driver.read(0, SACT) == 0);
        Gate::close(&mut driver);
    }
}

/// Bus mastering, off while this is closed.
struct Gate;

impl Gate {
    fn close(driver: &mut Driver) -> Self {
        driver.command(Command::MEMORY);
        Self
    }

    fn open(&self, driver: &mut Driver) {
        driver.command(Command::MEMORY | Command::BUS_MASTER);
    }
}

#[test]
fn without_bus_mastering_nothing_is_fetched() {
    let mut driver = live();
    let gate = Gate::close(&mut driver);
    driver.put(0, 0, &read(7));
    driver.issue(0, 1);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(driver.read(0, CI), 1);
    gate.open(&mut driver);
    driver.wait(|driver| driver.read(0, CI) == 0);
    assert_eq!(driver.bytes(BUFFER, 1), [7]);
}

#[test]
fn whatever_stops_the_port_waits_for_what_is_under_way() {
    let mut driver = live();
    for round in 0..60_u32 {
        for tag in 0..32_u8 {
            let order = Order::queued(0x60, tag, u64::from(tag) * 8, 8);
            driver.put(
                0,
                tag.into(),
                &order.with(BUFFER + 0x1000 * u64::from(tag), 4096),
            );
        }
        driver.ram.fill(BUFFER, 32 * 4096, 0x55).unwrap();
        driver.write(0, SACT, u32::MAX);
        driver.issue(0, u32::MAX);
        match round % 4 {
            0 => driver.write(0, CMD, FRE),
            1 => driver.write(0, SCTL, 1),
            2 => driver.set(GHC, 3),
            _ => driver.device.reset(),
        }
        // From here on nothing changes any more.
        let before = driver.bytes(BUFFER, 32 * 4096);
        let fises = driver.received(0, 0, 256);
        std::thread::sleep(Duration::from_millis(1));
        assert!(before == driver.bytes(BUFFER, 32 * 4096));
        assert!(fises == driver.received(0, 0, 256));
        driver.command(Command::MEMORY | Command::BUS_MASTER);
        driver.write(0, SCTL, 0);
        driver.set(GHC, 2);
        driver.restart(0);
        driver.ok(0, &read(2));
    }
}

#[test]
fn a_guest_that_rewrites_its_commands_meanwhile_does_no_harm() {
    let mut driver = live();
    let ram = driver.ram.clone();
    let ending = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut n = 0_u64;
            while !ending.load(std::sync::atomic::Ordering::Relaxed) {
                n = n
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                let at = if n & 1 << 60 == 0 {
                    LIST
                } else {
                    Driver::table(0)
                };
                ram.store_u32(at + (n >> 32 & 0xfc), n as u32).unwrap();
            }
        });
        for _ in 0..400 {
            driver.put(0, 0, &read(1));
            driver.issue(0, 1);
            driver.wait(|driver| driver.read(0, CI) == 0 || driver.stopped(0));
            driver.restart(0);
        }
        ending.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    driver.set(GHC, 1);
    driver.set(GHC, 2);
    driver.start(0);
    driver.ok(0, &read(6));
    assert_eq!(driver.bytes(BUFFER, 1), [6]);
}

#[test]
fn a_controller_that_goes_away_takes_its_threads_along() {
    let mut driver = live();
    driver.put(0, 0, &read(1));
    driver.issue(0, 1);
    let ram = Arc::downgrade(&driver.ram);
    drop(driver);
    assert_eq!(ram.strong_count(), 0);
}
