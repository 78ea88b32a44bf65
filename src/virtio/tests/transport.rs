//! The registers and the life of a device, with the entropy device behind them.

use super::super::Rnd;
use super::*;

fn driver() -> Driver {
    Driver::new(Arc::new(Rnd::default()), 1)
}

fn live(features: u64, size: u16) -> Driver {
    Driver::live(Arc::new(Rnd::default()), 1, features, size)
}

#[test]
fn the_function_is_a_modern_virtio_device() {
    let mut driver = driver();
    assert_eq!(driver.device.config_read(0, Width::Dword), 0x1044_1af4);
    assert_eq!(driver.device.config_read(8, Width::Byte), 1);
    for (kind, offset, len) in [(1, 0, 60), (2, 0x3000, 4), (3, 0x1000, 1)] {
        let at = driver.capability(9, Some(kind));
        let mut read = |field| driver.device.config_read(at + field, Width::Dword);
        assert_eq!(
            (read(4), read(8), read(12)),
            (0, offset, len),
            "type {kind}"
        );
    }
    let notify = driver.capability(9, Some(2));
    assert_eq!(driver.device.config_read(notify + 2, Width::Byte), 20);
    assert_eq!(driver.device.config_read(notify + 16, Width::Dword), 4);
}

#[test]
fn features_are_offered_and_refused() {
    let mut driver = driver();
    driver.set(0, Width::Dword, 1);
    assert_eq!(driver.cfg(4, Width::Dword), 1);
    driver.set(0, Width::Dword, 2);
    assert_eq!(driver.cfg(4, Width::Dword), 0);
    for refused in [0, feature::EVENT_IDX, feature::VERSION_1 | 1, u64::MAX] {
        driver.negotiate(refused);
        assert!(
            !driver.status().contains(Status::FEATURES_OK),
            "{refused:#x}"
        );
        driver.set_status(Status::DRIVER_OK);
        assert!(!driver.status().contains(Status::DRIVER_OK));
        driver.reset();
        assert_eq!(driver.status(), Status::empty());
    }
    driver.set(8, Width::Dword, 2);
    driver.set(12, Width::Dword, 1);
    driver.negotiate(feature::VERSION_1);
    assert!(driver.status().contains(Status::FEATURES_OK));
    driver.set(12, Width::Dword, 0);
    assert_eq!(driver.cfg(12, Width::Dword), 1, "settled");
}

#[test]
fn queues_are_settled_when_enabled() {
    let mut driver = live(0, 64);
    driver.set(QUEUE_SELECT, Width::Word, 0);
    for (offset, width, value) in [
        (QUEUE_SIZE, Width::Word, 128),
        (QUEUE_DESC, Width::Qword, 0x8000),
        (QUEUE_DRIVER, Width::Dword, 0x8000),
        (QUEUE_DEVICE + 4, Width::Dword, 1),
        (QUEUE_ENABLE, Width::Word, 0),
    ] {
        let before = driver.cfg(offset, width);
        driver.set(offset, width, value);
        assert_eq!(driver.cfg(offset, width), before, "{offset}");
    }
    driver.set(QUEUE_SELECT, Width::Word, 1);
    assert_eq!(driver.cfg(QUEUE_SIZE, Width::Word), 0, "no such queue");
    driver.set(QUEUE_ENABLE, Width::Word, 1);
    driver.set(26, Width::Word, 0);
    assert_eq!(driver.cfg(QUEUE_ENABLE, Width::Word), 0);
    assert!(!driver.status().contains(Status::NEEDS_RESET));
}

#[test]
fn rings_that_make_no_sense_are_not_enabled() {
    let good = [
        (QUEUE_SIZE, 8),
        (QUEUE_DESC, 0),
        (QUEUE_DRIVER, 0x1000),
        (QUEUE_DEVICE, 0x2000),
    ];
    let bad = [
        (QUEUE_SIZE, 0),
        (QUEUE_SIZE, 3),
        (QUEUE_SIZE, 512),
        (QUEUE_SIZE, 0xffff),
        (QUEUE_DESC, 8),
        (QUEUE_DRIVER, 1),
        (QUEUE_DEVICE, 2),
        (QUEUE_DESC, RAM - 16),
        (QUEUE_DRIVER, RAM - 20),
        (QUEUE_DEVICE, RAM - 68),
        (QUEUE_DESC, 0xe000_0000),
        (QUEUE_DESC, u64::MAX - 15),
        (QUEUE_DEVICE, u64::MAX - 3),
    ];
    let mut driver = driver();
    for case in bad {
        driver.negotiate(feature::VERSION_1);
        for (offset, value) in good.into_iter().chain([case]) {
            let width = if offset == QUEUE_SIZE {
                Width::Word
            } else {
                Width::Qword
            };
            driver.set(offset, width, value);
        }
        driver.set(QUEUE_ENABLE, Width::Word, 1);
        assert_eq!(driver.cfg(QUEUE_ENABLE, Width::Word), 0, "{case:x?}");
        assert!(driver.status().contains(Status::NEEDS_RESET), "{case:x?}");
        driver.reset();
    }
}

#[test]
fn a_request_returns_with_a_message() {
    for features in [0, feature::EVENT_IDX] {
        let mut driver = live(features, 4);
        for _ in 0..9 {
            let head = driver.submit(0, &[(BUFFERS, 32, true)], None);
            assert_eq!(driver.wait(0), (head.into(), 32));
            let event = driver.ring(0) + 0x1000 + 4 + 2 * 4;
            let used = driver.ram.load_u16(driver.ring(0) + 0x2002).unwrap();
            driver.ram.store_u16(event, used).unwrap();
        }
        wait_for(|| (driver.messages() == vec![0; 9]).then_some(()));
    }
}

#[test]
fn a_driver_that_wants_no_interrupts_gets_none() {
    let mut driver = live(0, 8);
    driver.ram.store_u16(driver.ring(0) + 0x1000, 1).unwrap();
    driver.submit(0, &[(BUFFERS, 1, true)], None);
    driver.wait(0);
    driver.reset();
    assert!(driver.messages().is_empty());
    let mut driver = live(feature::EVENT_IDX, 8);
    driver
        .ram
        .store_u16(driver.ring(0) + 0x1000 + 20, 2)
        .unwrap();
    for _ in 0..4 {
        driver.submit(0, &[(BUFFERS, 1, true)], None);
        driver.wait(0);
    }
    driver.reset();
    assert_eq!(driver.messages(), [0], "after the third");
}

#[test]
fn without_msix_the_wire_and_the_status_register_serve() {
    let mut driver = live(0, 8);
    let msix = driver.capability(0x11, None);
    driver.device.config_write(msix + 2, Width::Word, 0);
    driver.submit(0, &[(BUFFERS, 1, true)], None);
    driver.wait(0);
    let asked = |d: &mut Driver| d.device.config_read(reg::STATUS, Width::Byte) & 8 != 0;
    wait_for(|| asked(&mut driver).then_some(()));
    assert_eq!(driver.cfg(0x1000, Width::Byte), 1);
    assert!(!asked(&mut driver));
    assert_eq!(driver.cfg(0x1000, Width::Byte), 0);
    assert!(driver.messages().is_empty());
}

#[test]
fn nothing_is_read_before_the_function_may_access_memory() {
    let mut driver = live(0, 8);
    driver.device.config_write(reg::COMMAND, Width::Word, 2);
    driver.submit(0, &[(BUFFERS, 1, true)], None);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(driver.used(0), None);
    driver.device.config_write(reg::COMMAND, Width::Word, 6);
    driver.wait(0);
}

#[test]
fn the_window_in_configuration_space_leads_to_the_registers() {
    let mut driver = driver();
    let at = driver.capability(9, Some(5));
    let aim = |driver: &mut Driver, bar: u32, offset: u32, len: u32| {
        driver.device.config_write(at + 4, Width::Byte, bar);
        driver.device.config_write(at + 8, Width::Dword, offset);
        driver.device.config_write(at + 12, Width::Dword, len);
    };
    aim(&mut driver, 0, STATUS as u32, 1);
    driver.device.config_write(at + 16, Width::Byte, 3);
    assert_eq!(driver.status(), Status::ACKNOWLEDGE | Status::DRIVER);
    assert_eq!(driver.device.config_read(at + 16, Width::Dword), 3);
    aim(&mut driver, 0, 18, 2);
    assert_eq!(
        driver.device.config_read(at + 16, Width::Word),
        1,
        "one queue"
    );
    for (bar, offset, len) in [
        (1, 0, 4),
        (0, 0x4000, 4),
        (0, 2, 4),
        (0, 0, 3),
        (0, 0, 8),
        (0, u32::MAX, 1),
    ] {
        aim(&mut driver, bar, offset, len);
        driver
            .device
            .config_write(at + 16, Width::Dword, 0x1234_5678);
        assert_eq!(
            driver.device.config_read(at + 16, Width::Dword),
            0x1234_5678
        );
    }
    assert_eq!(driver.status(), Status::ACKNOWLEDGE | Status::DRIVER);
}

#[test]
fn a_machine_reset_forgets_everything() {
    let mut driver = live(0, 8);
    driver.device.reset();
    assert_eq!(driver.status(), Status::empty());
    assert_eq!(driver.cfg(QUEUE_ENABLE, Width::Word), 0);
    assert_eq!(driver.device.config_read(reg::COMMAND, Width::Word), 3);
    let msix = driver.capability(0x11, None);
    assert_eq!(driver.device.config_read(msix + 2, Width::Word), 1);
}
