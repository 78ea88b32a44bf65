//! What a driver sees of the registers, without commands.

use super::*;
use proptest::prelude::*;

fn empty() -> Driver {
    Driver::new(Vec::new())
}

fn one() -> Driver {
    Driver::new(vec![disk(64, DiskAccess::ThrowAway)])
}

#[test]
fn the_hba_says_what_it_is() {
    let mut driver = one();
    // 1 port, 32 slots, PMD, AHCI only, generation 3, CLO, NCQ, 64 bits.
    assert_eq!(driver.get(0), 0xc134_9f00);
    assert_eq!(driver.get(GHC), 0x8000_0000);
    assert_eq!(driver.get(0x10), 0x0001_0301);
    assert_eq!(driver.get(PI), 1);
    // CCC, EM, CAP2 and BOHC; vendor's registers; and behind the last port.
    for offset in [0x14, 0x18, 0x1c, 0x20, 0x24, 0x28, 0xa0, 0xfc, 0x400, 0xffc] {
        driver.set(offset, u32::MAX);
        assert_eq!(driver.get(offset), 0, "{offset:#x}");
    }
    assert_eq!((empty().get(PI), empty().get(0)), (0, 0xc134_9f00));
    let drives = (0..6).map(|_| disk(8, DiskAccess::ReadOnly)).collect();
    let mut full = Driver::new(drives);
    assert_eq!((full.get(PI), full.get(0)), (0x3f, 0xc134_9f05));
}

#[test]
fn a_driver_recognizes_the_function() {
    let mut driver = one();
    let mut config = |at| driver.device.config_read(at, Width::Dword);
    assert_eq!(config(0), 0x2922_8086);
    assert_eq!(config(8) >> 8, 0x01_0601);
    // Only ABAR, and MSI; ports on and present.
    assert_eq!((config(0x10), config(0x20), config(0x40) & 0xff), (0, 0, 5));
    assert_eq!(config(0x90), 0x013f_0040);
    driver.device.config_write(0x24, Width::Dword, u32::MAX);
    assert_eq!(driver.device.config_read(0x24, Width::Dword), 0xffff_f000);
}

#[test]
fn a_port_shows_its_device_and_an_empty_one_nothing() {
    let mut driver = one();
    let shown = [SSTS, SIG, TFD].map(|register| driver.read(0, register));
    assert_eq!(shown, [0x133, 0x101, 0x150]);
    let shown = [SSTS, SIG, TFD].map(|register| driver.read(1, register));
    assert_eq!(shown, [0, u32::MAX, 0x7f]);
    assert_eq!(driver.read(0, CMD), 6, "spun up and powered");
    assert_eq!(driver.read(1, SERR), 0);
    // Connected, and the link came: PCS and PRCS show it until SERR is cleared.
    assert_eq!(driver.read(0, SERR), 1 << 26 | 1 << 16);
    driver.write(0, PIS, u32::MAX);
    assert_eq!(driver.read(0, PIS), 1 << 6 | 1 << 22);
    driver.write(0, SERR, 1 << 26);
    assert_eq!(driver.read(0, PIS), 1 << 22);
}

#[test]
fn registers_keep_the_bits_that_they_have() {
    let mut driver = one();
    for (register, kept) in [
        (CLB, 0xffff_fc00),
        (4, u32::MAX),
        (FB, 0xffff_ff00),
        (0xc, u32::MAX),
        (PIE, 0x7dc0_007f),
        (TFD, 0x150),
        (SIG, 0x101),
        (SACT, 0),
        (CI, 0),
        (0x1c, 0),
        (0x3c, 0),
        (0x40, 0),
        (0x44, 0),
        (0x70, 0),
    ] {
        driver.write(0, register, u32::MAX);
        assert_eq!(driver.read(0, register), kept, "{register:#x}");
    }
}

#[test]
fn registers_take_accesses_of_every_width() {
    let mut driver = one();
    let at = 0x100;
    driver.access(at, Width::Qword, Some(0x1122_3344_5566_7788));
    assert_eq!(driver.access(at, Width::Qword, None), 0x1122_3344_5566_7400);
    driver.access(at + 5, Width::Byte, Some(0xee));
    driver.access(at + 2, Width::Word, Some(0xaabb));
    assert_eq!(driver.access(at, Width::Qword, None), 0x1122_ee44_aabb_7400);
    assert_eq!(driver.access(at + 6, Width::Word, None), 0x1122);
    assert_eq!(driver.access(at + 3, Width::Byte, None), 0xaa);
    // A narrow write clears no other bits than its own.
    let serr = 0x100 + SERR;
    driver.access(serr + 3, Width::Byte, Some(0xff));
    assert_eq!(driver.access(serr, Width::Dword, None), 1 << 16);
}

#[test]
fn starting_and_stopping_shows_in_fr_and_cr() {
    let mut driver = one();
    driver.write(0, FB, RECEIVED as u32);
    driver.write(0, CMD, ST);
    assert_eq!(driver.read(0, CMD) & (ST | FR | CR), ST, "not without FRE");
    driver.write(0, CMD, FRE | ST);
    assert_eq!(
        driver.read(0, CMD) & (FRE | ST | FR | CR),
        FRE | ST | FR | CR
    );
    // The device's first FIS had to wait for its place.
    let fis = driver.received(0, 0x40, 14);
    assert_eq!(fis, [0x34, 0, 0x50, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    driver.write(0, CMD, FRE);
    assert_eq!(driver.read(0, CMD) & (ST | FR | CR), FR);
    driver.write(0, CMD, 0);
    assert_eq!(driver.read(0, CMD), 6);
    // An empty port never runs.
    driver.write(1, CMD, FRE | ST);
    assert_eq!(driver.read(1, CMD) & CR, 0);
    driver.write(1, CMD, CLO);
    assert_eq!((driver.read(1, TFD), driver.read(1, CMD)), (0x77, 6));
}

#[test]
fn a_link_reset_brings_the_device_back_as_slow_as_asked_for() {
    let mut driver = one();
    driver.write(0, FB, RECEIVED as u32);
    driver.write(0, SERR, u32::MAX);
    driver.write(0, CMD, FRE);
    driver.ram.fill(RECEIVED, 0x100, 0).unwrap();
    driver.write(0, SCTL, 0x321);
    assert_eq!((driver.read(0, SSTS), driver.read(0, TFD)), (0, 0x7f));
    driver.write(0, SCTL, 0x320);
    assert_eq!((driver.read(0, SSTS), driver.read(0, TFD)), (0x123, 0x150));
    assert_eq!(driver.read(0, SERR), 1 << 26 | 1 << 16);
    driver.write(0, SCTL, 4);
    assert_eq!(driver.read(0, SSTS), 4);
    driver.write(0, SCTL, 0x300);
    assert_eq!((driver.read(0, SSTS), driver.read(0, SCTL)), (0x133, 0x300));
    // On an empty port nothing comes.
    driver.write(1, SCTL, 1);
    driver.write(1, SCTL, 0);
    assert_eq!((driver.read(1, SSTS), driver.read(1, SERR)), (0, 0));
}

#[test]
fn an_hba_reset_forgets_everything_at_once() {
    let mut driver = Driver::live(vec![disk(64, DiskAccess::ThrowAway)]);
    driver.write(0, SERR, u32::MAX);
    driver.set(GHC, 3);
    assert_eq!(driver.get(GHC), 0x8000_0000);
    for (register, value) in [
        (CLB, 0),
        (FB, 0),
        (CMD, 6),
        (PIE, 0),
        (SSTS, 0x133),
        (TFD, 0x150),
    ] {
        assert_eq!(driver.read(0, register), value, "{register:#x}");
    }
    assert_eq!(driver.read(0, SERR), 1 << 26 | 1 << 16);
    assert_eq!(driver.get(PI), 1);
}

#[test]
fn the_wire_follows_the_latch_and_the_latch_its_ports() {
    let mut driver = one();
    driver.set(GHC, 2);
    assert_eq!((driver.get(IS), driver.wire()), (0, false));
    driver.write(0, PIE, 1 << 6);
    assert_eq!((driver.get(IS), driver.wire()), (1, true));
    driver.set(GHC, 0);
    assert!(!driver.wire());
    driver.set(GHC, 2);
    assert!(driver.wire());
    // As long as the port asks, the latch cannot be cleared.
    driver.set(IS, 1);
    assert_eq!((driver.get(IS), driver.wire()), (1, true));
    driver.write(0, SERR, u32::MAX);
    assert_eq!((driver.get(IS), driver.wire()), (1, true), "it is a latch");
    driver.set(IS, 1);
    assert_eq!((driver.get(IS), driver.wire()), (0, false));
    driver.device.reset();
    assert_eq!((driver.get(GHC), driver.wire()), (0x8000_0000, false));
}

#[test]
fn each_setting_of_the_latch_is_one_message() {
    let mut driver = one();
    driver.device.config_write(0x42, Width::Word, 1);
    driver.write(0, PIE, 1 << 6);
    assert_eq!(driver.messages(), 0, "not while interrupts are off");
    driver.set(GHC, 2);
    assert_eq!((driver.messages(), driver.wire()), (1, false));
    driver.write(0, PIE, 1 << 6 | 1 << 22);
    assert_eq!(driver.messages(), 1, "it is set already");
    driver.set(IS, 1);
    assert_eq!(driver.messages(), 2, "it has been set again");
    driver.write(0, SERR, u32::MAX);
    driver.set(IS, 1);
    assert_eq!((driver.messages(), driver.get(IS)), (2, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever is written anywhere, the controller goes on, and after a reset it is as new.
    #[test]
    fn arbitrary_accesses_do_no_harm(
        accesses in prop::collection::vec((0_u64..0x1000, 0_u32..4, any::<u64>(), any::<bool>()), 1..200),
        memory in any::<[u8; 16]>()
    ) {
        let mut driver = Driver::new(vec![disk(64, DiskAccess::ThrowAway)]);
        for at in (0..RAM).step_by(16) {
            driver.ram.write(at, &memory).unwrap();
        }
        for (offset, width, value, near) in accesses {
            let width = Width::from_bytes(1 << width).unwrap();
            // Mostly the registers of the port that has a drive, and mostly addresses that are in RAM.
            let offset = if near { 0x100 + offset % 0x40 } else { offset };
            let value = if near { value & 0x3f_ffff } else { value };
            let offset = offset / width.bytes() * width.bytes();
            driver.access(offset, width, Some(value));
            driver.access(offset, width, None);
        }
        driver.set(GHC, 1);
        prop_assert_eq!(driver.get(PI), 1);
        prop_assert_eq!(driver.read(0, SSTS), 0x133);
        driver.set(GHC, 2);
        driver.start(0);
        driver.ok(0, &Order::new(0xec, 0, 0).with(BUFFER, 512));
    }
}
