//! What section 4.1 of virtio 1.2 demands of a device whose driver does not keep to the beaten track.

use super::super::Rnd;
use super::*;

const CONFIG_VECTOR: u64 = 16;
const QUEUE_VECTOR: u64 = 26;
const NO_VECTOR: u64 = 0xffff;
const NOTIFY: u64 = 0x3000;
const ISR: u64 = 0x1000;

fn driver() -> Driver {
    Driver::new(Arc::new(Rnd::default()), 1)
}

fn live(features: u64) -> Driver {
    Driver::live(Arc::new(Rnd::default()), 1, features, 8)
}

/// A request of one byte returns.
fn serves(driver: &mut Driver) {
    driver.submit(0, &[(BUFFERS, 1, true)], None);
    assert_eq!(driver.wait(0).1, 1);
}

/// 4.1.5.1.2: a vector that the device cannot give reads back as none. There is one for the queue and one for the
/// configuration.
#[test]
fn a_vector_that_does_not_exist_is_none() {
    let mut driver = driver();
    for register in [CONFIG_VECTOR, QUEUE_VECTOR] {
        assert_eq!(driver.cfg(register, Width::Word), NO_VECTOR, "at first");
        for (vector, seen) in [
            (0, 0),
            (1, 1),
            (2, NO_VECTOR),
            (1, 1),
            (NO_VECTOR, NO_VECTOR),
        ] {
            driver.set(register, Width::Word, vector);
            assert_eq!(driver.cfg(register, Width::Word), seen, "{register}");
        }
    }
    driver.set(QUEUE_SELECT, Width::Word, 1);
    driver.set(QUEUE_VECTOR, Width::Word, 0);
    assert_eq!(driver.cfg(QUEUE_VECTOR, Width::Word), NO_VECTOR);
}

/// A queue without a vector returns its requests in silence.
#[test]
fn without_a_vector_there_is_no_message() {
    let mut driver = live(0);
    driver.set(QUEUE_VECTOR, Width::Word, NO_VECTOR);
    serves(&mut driver);
    driver.reset();
    assert!(driver.messages().is_empty());
}

#[test]
fn notifications_that_mean_nothing_do_nothing() {
    let mut driver = driver();
    for at in [NOTIFY, NOTIFY + 4, NOTIFY + 0xffc] {
        driver.set(at, Width::Word, 0);
    }
    driver.negotiate(feature::VERSION_1);
    driver.notify(0);
    driver.set_status(Status::DRIVER_OK);
    // Live, and its queue not enabled.
    driver.notify(0);
    driver.reset();
    driver.bring_up(1, 0, 8);
    for (at, width, value) in [
        (NOTIFY + 4, Width::Word, 1),
        (NOTIFY + 0xffc, Width::Dword, u64::MAX),
        (NOTIFY + 0xff8, Width::Qword, u64::MAX),
        (NOTIFY + 256, Width::Byte, 0),
    ] {
        driver.set(at, width, value);
    }
    assert_eq!(driver.cfg(NOTIFY, Width::Dword), 0);
    assert!(!driver.status().contains(Status::NEEDS_RESET));
    serves(&mut driver);
}

/// 4.1.3.1: a driver writes each field with its own width. With another it changes nothing.
#[test]
fn fields_are_written_with_their_own_width() {
    let mut driver = driver();
    driver.negotiate(feature::VERSION_1);
    for (offset, width) in [
        (STATUS, Width::Word),
        (STATUS, Width::Dword),
        (QUEUE_SELECT, Width::Byte),
        (QUEUE_SIZE, Width::Byte),
        (QUEUE_SIZE, Width::Dword),
        (QUEUE_DESC, Width::Word),
        (QUEUE_DESC + 1, Width::Byte),
        (12, Width::Byte),
        (0, Width::Word),
    ] {
        let before = driver.cfg(offset, Width::Dword);
        driver.set(offset, width, 0x55);
        assert_eq!(
            driver.cfg(offset, Width::Dword),
            before,
            "{offset} {width:?}"
        );
    }
    driver.set(QUEUE_DESC, Width::Qword, 0x1_2345_6789_abc0);
    assert_eq!(driver.cfg(QUEUE_DESC + 4, Width::Dword), 0x1_2345);
    driver.set(QUEUE_DESC + 4, Width::Dword, 7);
    assert_eq!(driver.cfg(QUEUE_DESC, Width::Qword), 0x7_6789_abc0);
}

/// Features that are not offered: notification data and per-queue reset.
#[test]
fn registers_of_features_that_are_not_offered_are_zero() {
    let mut driver = live(0);
    driver.set(0, Width::Dword, 1);
    assert_eq!(driver.cfg(4, Width::Dword), 1, "VERSION_1 alone");
    for at in [56, 58] {
        driver.set(at, Width::Word, 1);
        assert_eq!(driver.cfg(at, Width::Word), 0);
    }
    assert_eq!(driver.cfg(QUEUE_ENABLE, Width::Word), 1);
    serves(&mut driver);
}

/// 2.1.1: a driver must not clear bits of the status but by a reset.
#[test]
fn status_bits_stay_until_a_reset() {
    let mut driver = live(0);
    let all = driver.status();
    for less in [1, 3, 0x83] {
        driver.set(STATUS, Width::Byte, less);
        assert!(driver.status().contains(all), "{less:#x}");
    }
    assert!(driver.status().contains(Status::FAILED));
    driver.set(STATUS, Width::Byte, 0x40);
    assert!(
        !driver.status().contains(Status::NEEDS_RESET),
        "the device's"
    );
    driver.reset();
    assert_eq!(driver.status(), Status::empty());
}

/// 4.1.4.5: on the wire the interrupt status tells used buffers from a change of the status.
#[test]
fn the_wire_tells_what_has_happened() {
    let mut driver = live(0);
    let msix = driver.capability(0x11, None);
    driver.device.config_write(msix + 2, Width::Word, 0);
    driver.offer(0, 0xffff);
    driver.notify(0);
    driver.wait_broken();
    let asked = |d: &mut Driver| d.device.config_read(reg::STATUS, Width::Byte) & 8 != 0;
    wait_for(|| asked(&mut driver).then_some(()));
    assert_eq!(driver.cfg(ISR, Width::Byte), 2);
    assert!(!asked(&mut driver));
    // A reset takes back what was asked and not yet seen.
    driver.reset();
    driver.ram.fill(0, 0x4000, 0).unwrap();
    driver.bring_up(1, 0, 8);
    serves(&mut driver);
    wait_for(|| asked(&mut driver).then_some(()));
    driver.reset();
    assert!(!asked(&mut driver));
    assert_eq!(driver.cfg(ISR, Width::Byte), 0);
}

/// 2.7.7.1: a message comes when the used index passes the position that the driver named, and at no other time,
/// wherever the index stands.
#[test]
fn a_message_comes_at_the_position_asked_for() {
    let mut driver = live(feature::EVENT_IDX);
    let event = driver.ring(0) + 0x1000 + 4 + 2 * 8;
    let mut expected = Vec::new();
    for position in 0..6_u16 {
        let wanted = if position % 2 == 0 {
            position
        } else {
            position ^ 0x8000
        };
        driver.ram.store_u16(event, wanted).unwrap();
        serves(&mut driver);
        if wanted == position {
            expected.push(0);
        }
        wait_for(|| (driver.messages().len() >= expected.len()).then_some(()));
        assert_eq!(driver.messages(), expected, "{position}");
    }
}

/// 4.1.3: the configuration of the type is read with any width, and is all ones behind its end.
#[test]
fn the_configuration_is_read_with_every_width() {
    let device = blk::model(crate::spec::DiskAccess::ThrowAway, 2);
    let mut driver = Driver::new(device, 1);
    let whole = driver.cfg(0x2000, Width::Qword);
    assert_eq!(whole, 256);
    for width in [Width::Byte, Width::Word, Width::Dword] {
        let count = 8 / width.bytes();
        let parts = (0..count).map(|i| {
            let at = i * width.bytes();
            driver.cfg(0x2000 + at, width) << (8 * at)
        });
        assert_eq!(parts.sum::<u64>(), whole, "{width:?}");
    }
    assert_eq!(driver.cfg(0x2000 + 56, Width::Qword), 0xffff_ffff_0000_0001);
    driver.set(0x2000, Width::Qword, 1);
    assert_eq!(driver.cfg(0x2000, Width::Qword), whole, "nobody writes it");
}
