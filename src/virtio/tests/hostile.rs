//! Drivers that mean harm: whatever a ring says, the device neither panics nor hangs nor touches anything else, and a
//! reset brings it back.

use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::super::Rnd;
use super::blk::model;
use super::*;
use crate::spec::DiskAccess;

const FEATURES: u64 = feature::INDIRECT_DESC;

fn rnd(features: u64) -> Driver {
    Driver::live(Arc::new(Rnd::default()), 1, features, 4)
}

/// The device asks for a reset, says so, does nothing more, and lives again after one.
fn breaks(mut driver: Driver) {
    driver.notify(0);
    driver.wait_broken();
    wait_for(|| driver.messages().contains(&1).then_some(()));
    driver.submit(0, &[(BUFFERS, 8, true)], None);
    driver.reset();
    assert_eq!(driver.used(0), None);
    driver.ram.fill(0, 0x1_0000, 0).unwrap();
    let features = driver.features;
    driver.bring_up(1, features, 4);
    driver.submit(0, &[(BUFFERS, 8, true)], None);
    assert_eq!(driver.wait(0).1, 8);
}

#[test]
fn an_index_too_far_ahead() {
    for index in [5, 0x8000, 0xffff] {
        let driver = rnd(FEATURES);
        driver
            .ram
            .store_u16(driver.ring(0) + 0x1002, index)
            .unwrap();
        breaks(driver);
    }
}

#[test]
fn descriptors_that_do_not_exist() {
    for head in [4, 0xffff] {
        let mut driver = rnd(FEATURES);
        driver.offer(0, head);
        breaks(driver);
    }
    let mut driver = rnd(FEATURES);
    driver.describe(0, 0, (BUFFERS, 8), WRITE | NEXT, 4);
    driver.offer(0, 0);
    breaks(driver);
}

#[test]
fn chains_without_an_end() {
    let mut driver = rnd(FEATURES);
    driver.describe(0, 0, (BUFFERS, 8), WRITE | NEXT, 1);
    driver.describe(0, 1, (BUFFERS, 8), WRITE | NEXT, 0);
    driver.offer(0, 0);
    breaks(driver);
    let mut driver = rnd(FEATURES);
    driver.describe_at(0x8000, (BUFFERS, 8), WRITE | NEXT, 0);
    driver.describe(0, 0, (0x8000, 16), INDIRECT, 0);
    driver.offer(0, 0);
    breaks(driver);
}

#[test]
fn indirect_descriptors_that_must_not_be_there() {
    for (features, table, flags, inner) in [
        (0, (0x8000, 16), INDIRECT, WRITE),
        (FEATURES, (0x8000, 16), INDIRECT | NEXT, WRITE),
        (FEATURES, (0x8000, 0), INDIRECT, WRITE),
        (FEATURES, (0x8000, 17), INDIRECT, WRITE),
        (FEATURES, (0x8000, 16), INDIRECT, INDIRECT),
        (FEATURES, (RAM - 8, 16), INDIRECT, WRITE),
        (FEATURES, (u64::MAX - 7, 0xffff_fff0), INDIRECT, WRITE),
        (FEATURES, (0x8000, 16), INDIRECT, WRITE | NEXT),
    ] {
        let mut driver = rnd(features);
        driver.describe_at(0x8000, (BUFFERS, 16), inner, 1);
        driver.describe(0, 0, table, flags, 1);
        driver.describe(0, 1, (BUFFERS, 8), WRITE, 0);
        driver.offer(0, 0);
        breaks(driver);
    }
}

#[test]
fn sums_and_orders_that_are_wrong() {
    let mut driver = rnd(FEATURES);
    driver.describe(0, 0, (0, u32::MAX), WRITE | NEXT, 1);
    driver.describe(0, 1, (0, 1), WRITE, 0);
    driver.offer(0, 0);
    breaks(driver);
    let mut driver = rnd(FEATURES);
    driver.describe(0, 0, (BUFFERS, 8), WRITE | NEXT, 1);
    driver.describe(0, 1, (BUFFERS, 8), 0, 0);
    driver.offer(0, 0);
    breaks(driver);
}

#[test]
fn a_table_behind_ordinary_descriptors_is_followed() {
    let mut driver = rnd(FEATURES);
    driver.describe_at(0x8010, (BUFFERS, 8), WRITE, 0);
    driver.describe_at(0x8000, (BUFFERS, 8), WRITE | NEXT, 1);
    driver.describe(0, 0, (BUFFERS, 8), WRITE | NEXT, 3);
    driver.describe(0, 3, (0x8000, 32), INDIRECT | WRITE, 0);
    driver.offer(0, 0);
    driver.notify(0);
    assert_eq!(driver.wait(0), (0, 24));
}

#[test]
fn one_head_offered_twice_is_served_twice() {
    let mut driver = rnd(FEATURES);
    driver.describe(0, 2, (BUFFERS, 8), WRITE, 0);
    driver.offer(0, 2);
    driver.offer(0, 2);
    driver.notify(0);
    assert_eq!([driver.wait(0), driver.wait(0)], [(2, 8); 2]);
}

#[test]
fn positions_wrap() {
    for features in [0, feature::EVENT_IDX] {
        let mut driver = rnd(features);
        driver.describe(0, 0, (BUFFERS, 1), WRITE, 0);
        for _ in 0..0x1_0010 / 4 {
            (0..4).for_each(|_| driver.offer(0, 0));
            driver.notify(0);
            (0..4).for_each(|_| assert_eq!(driver.wait(0), (0, 1)));
        }
    }
}

#[test]
fn a_guest_that_changes_its_descriptors_meanwhile() {
    let mut driver = Driver::live(model(DiskAccess::ThrowAway, 1), 2, FEATURES, 4);
    let (stop, ram) = (AtomicBool::new(false), driver.ram.clone());
    let base = driver.ring(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut value = 1_u64;
            while !stop.load(Ordering::Relaxed) {
                value = value
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let field = base + (value >> 33) % 64 / 4 * 4;
                let harm =
                    [0, 1, u32::MAX, 0x1000, BUFFERS as u32, 0x8000][(value >> 40) as usize % 6];
                ram.store_u32(field, harm).unwrap();
            }
        });
        let until = Instant::now() + Duration::from_millis(300);
        while Instant::now() < until {
            for head in 0..4 {
                driver.offer(0, head);
                driver.notify(0);
            }
            std::thread::yield_now();
            driver.reset();
            driver.ram.store_u32(base + 0x1000, 0).unwrap();
            driver.ram.store_u32(base + 0x2000, 0).unwrap();
            driver.bring_up(1, FEATURES, 4);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// Words that are more often harmful than random ones.
fn word() -> impl Strategy<Value = u32> {
    prop_oneof![
        any::<u32>(),
        0_u32..8,
        Just(BUFFERS as u32),
        Just(0x8000),
        Just(u32::MAX),
        Just(16),
        Just(512),
        Just(RAM as u32 - 1),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_ring_at_all(
        ring in prop::collection::vec(word(), 16),
        table in prop::collection::vec(word(), 32),
        heads in prop::collection::vec(0_u16..6, 1..6),
        features in prop::sample::select(vec![0, FEATURES, FEATURES | feature::EVENT_IDX]),
    ) {
        let mut driver = Driver::live(model(DiskAccess::ThrowAway, 1), 1, features, 4);
        for (i, word) in ring.into_iter().enumerate() {
            driver.ram.store_u32(4 * i as u64, word).unwrap();
        }
        for (i, word) in table.into_iter().enumerate() {
            driver.ram.store_u32(0x8000 + 4 * i as u64, word).unwrap();
            driver.ram.store_u32(BUFFERS + 4 * i as u64, word % 16).unwrap();
        }
        for head in heads {
            driver.offer(0, head);
            driver.notify(0);
        }
        driver.reset();
        driver.ram.fill(0, 0x1_0000, 0).unwrap();
        driver.bring_up(1, features, 4);
        prop_assert!(!driver.status().contains(Status::NEEDS_RESET));
    }

    #[test]
    fn any_access_to_the_registers(
        accesses in prop::collection::vec((0_u8..2, 0_u64..0x4000, 0_u32..4, any::<u64>()), 0..64),
        writes in prop::collection::vec((any::<u8>(), 0_u32..3, any::<u32>()), 0..32),
    ) {
        let mut driver = Driver::live(model(DiskAccess::ThrowAway, 2), 1, FEATURES, 4);
        for (region, offset, width, value) in accesses {
            let width = Width::from_bytes(1 << width).unwrap();
            let offset = if region == 1 { offset % 0x2000 } else { offset } & !(width.bytes() - 1);
            let small = if value % 2 == 0 { offset % 64 } else { offset };
            driver.access(region, small & !(width.bytes() - 1), width, Some(value));
            prop_assert!(driver.access(region, offset, width, None) <= width.ones());
        }
        for (offset, width, value) in writes {
            let width = Width::from_bytes(1 << width).unwrap();
            driver.device.config_write(offset, width, value);
            driver.device.config_read(offset, width);
        }
        driver.device.reset();
        prop_assert_eq!(driver.status(), Status::empty());
    }
}
