//! The data sheet's features one by one, with time going forward and backward, then anything a guest can do.

use proptest::prelude::*;

use super::*;
use crate::bus::Width;

/// 2024-02-28 23:59:57 UTC, a Wednesday.
const UTC: u64 = 1_709_164_797;

fn clock() -> Rtc {
    Rtc::new(Duration::from_secs(UTC))
}

fn at(ms: u64) -> Nanos {
    Nanos(ms * 1_000_000)
}

/// Second, minute, hour, weekday, day, month, year, century.
fn shown(rtc: &mut Rtc, ms: u64) -> [u8; 8] {
    [0, 2, 4, 6, 7, 8, 9, 0x32].map(|index| rtc.read(at(ms), index))
}

#[test]
fn it_shows_the_hosts_time_in_bcd_and_24_hours() {
    let mut rtc = clock();
    assert_eq!(rtc.read(at(0), 0x0b), 0x02);
    assert_eq!(rtc.read(at(0), 0x0d), 0x80);
    assert_eq!(
        shown(&mut rtc, 0),
        [0x57, 0x59, 0x23, 4, 0x28, 0x02, 0x24, 0x20]
    );
    assert_eq!(
        shown(&mut rtc, 3_000),
        [0x00, 0x00, 0x00, 5, 0x29, 0x02, 0x24, 0x20]
    );
}

#[test]
fn the_hosts_fraction_of_a_second_counts() {
    let mut rtc = Rtc::new(Duration::from_millis(UTC * 1000 + 900));
    assert_eq!(rtc.read(at(99), 0), 0x57);
    assert_eq!(rtc.read(at(100), 0), 0x58);
}

#[test]
fn a_century_passes() {
    let mut rtc = Rtc::new(Duration::from_secs(4_102_444_799));
    assert_eq!(
        shown(&mut rtc, 0),
        [0x59, 0x59, 0x23, 5, 0x31, 0x12, 0x99, 0x20]
    );
    assert_eq!(
        shown(&mut rtc, 1_000),
        [0x00, 0x00, 0x00, 6, 0x01, 0x01, 0x00, 0x21]
    );
}

#[test]
fn a_set_time_stays_set_and_runs() {
    let mut rtc = clock();
    rtc.write(at(200), 0x0b, 0x82);
    // The day comes before its month, so that the date is impossible for a while.
    for (index, value) in [
        (0, 0x10),
        (2, 0x20),
        (4, 0x05),
        (6, 0x01),
        (7, 0x31),
        (8, 0x12),
    ] {
        rtc.write(at(300), index, value);
    }
    rtc.write(at(300), 9, 0x99);
    rtc.write(at(300), 0x32, 0x19);
    assert_eq!(rtc.read(at(5_300), 0), 0x10, "SET holds the time");
    rtc.write(at(5_300), 0x0b, 0x02);
    assert_eq!(
        shown(&mut rtc, 5_999),
        [0x10, 0x20, 0x05, 1, 0x31, 0x12, 0x99, 0x19]
    );
    assert_eq!(rtc.read(at(6_000), 0), 0x11, "the divider kept its phase");
    let day = 86_400_000;
    assert_eq!(
        shown(&mut rtc, 6_000 + day),
        [0x11, 0x20, 0x05, 2, 0x01, 0x01, 0x00, 0x20]
    );
    rtc.reset();
    assert_eq!(rtc.read(at(6_000 + day), 9), 0x00);
}

#[test]
fn twelve_hours_and_binary() {
    for (b, midnight, one, noon, eleven_pm) in [
        (0x00, 0x12, 0x01, 0x92, 0x91),
        (0x04, 12, 1, 0x8c, 0x8b),
        (0x06, 0, 1, 12, 23),
    ] {
        let mut rtc = clock();
        rtc.write(at(0), 0x0b, b);
        for (hour, byte) in [(0, midnight), (1, one), (12, noon), (23, eleven_pm)] {
            assert_eq!(rtc.encode_hour(hour), byte);
            assert_eq!(rtc.decode_hour(byte), hour as i64);
        }
    }
    let mut rtc = clock();
    rtc.write(at(0), 0x0b, 0x80);
    for (index, value) in [(0, 0x59), (2, 0x59), (4, 0x91)] {
        rtc.write(at(0), index, value);
    }
    rtc.write(at(0), 0x0b, 0x00);
    assert_eq!(rtc.read(at(1_000), 4), 0x12, "11 p.m. turns to midnight");
    assert_eq!(rtc.read(at(1_000), 7), 0x29);
}

#[test]
fn uip_warns_before_the_registers_change() {
    let mut rtc = clock();
    let us = |us: u64| Nanos(us * 1_000);
    assert_eq!(rtc.read(us(997_700), 0x0a), 0x26);
    assert_eq!(rtc.read(us(997_772), 0x0a), 0xa6);
    assert_eq!(rtc.read(us(999_999), 0), 0x57);
    assert_eq!(rtc.read(us(999_999), 0x0a), 0xa6);
    assert_eq!(rtc.read(us(1_000_000), 0x0a), 0x26);
    rtc.write(us(1_000_000), 0x0b, 0x82);
    assert_eq!(rtc.read(us(1_999_999), 0x0a), 0x26, "not with SET");
}

#[test]
fn the_update_interrupt_comes_each_second_until_c_is_read() {
    let mut rtc = clock();
    rtc.write(at(0), 0x0b, 0x12);
    assert_eq!(rtc.deadline(), Some(at(1_000)));
    rtc.advance(at(1_000));
    assert_eq!((rtc.irq(), rtc.deadline()), (true, None));
    assert_eq!(
        rtc.read(at(1_100), 0x0c),
        0xd0,
        "and a periodic flag besides"
    );
    assert_eq!((rtc.irq(), rtc.deadline()), (false, Some(at(2_000))));
    assert_eq!(rtc.read(at(1_100), 0x0c), 0x00);
    rtc.write(at(1_100), 0x0b, 0x92);
    assert_eq!(rtc.read(at(1_100), 0x0b), 0x82, "SET clears UIE");
    assert_eq!(rtc.deadline(), None);
}

#[test]
fn flags_come_without_being_enabled() {
    let mut rtc = clock();
    rtc.write(at(0), 0x0a, 0x20);
    for alarm in [1, 3, 5] {
        rtc.write(at(0), alarm, 0xff);
    }
    assert_eq!(rtc.read(at(999), 0x0c), 0x00);
    assert_eq!(rtc.read(at(1_000), 0x0c), 0x30);
    assert!(!rtc.irq());
}

#[test]
fn the_alarm_matches_time_and_dont_care_bytes() {
    for (second, minute, hour, wait_s) in [
        (0x00, 0x00, 0x00, 3),
        (0x57, 0x59, 0x23, 86_400),
        (0x05, 0xff, 0xff, 8),
        (0x59, 0x59, 0xc0, 2),
        (0xff, 0x01, 0x00, 63),
        (0xff, 0xff, 0xff, 1),
        (0x30, 0x15, 0x12, 43_200 + 15 * 60 + 33),
    ] {
        let mut rtc = clock();
        for (index, value) in [(1, second), (3, minute), (5, hour), (0x0b, 0x22)] {
            rtc.write(at(0), index, value);
        }
        let due = at(wait_s * 1_000);
        assert_eq!(rtc.deadline(), Some(due), "{second:x} {minute:x} {hour:x}");
        rtc.advance(Nanos(due.0 - 1));
        assert!(!rtc.irq());
        rtc.advance(due);
        assert!(rtc.irq());
        let mut late = clock();
        for (index, value) in [(1, second), (3, minute), (5, hour), (0x0b, 0x22)] {
            late.write(at(0), index, value);
        }
        late.advance(due + 90_000 * SECOND_NS);
        assert!(late.irq(), "a late look finds it too");
    }
}

#[test]
fn an_impossible_alarm_never_comes() {
    let mut rtc = clock();
    for (index, value) in [(1, 0x75), (3, 0xff), (5, 0xff), (0x0b, 0x22)] {
        rtc.write(at(0), index, value);
    }
    assert_eq!(rtc.deadline(), None);
    rtc.advance(at(1_000_000_000));
    assert!(!rtc.irq());
}

#[test]
fn periodic_rates_are_those_of_the_table() {
    for (select, hz) in [
        (1, 256),
        (2, 128),
        (3, 8192),
        (6, 1024),
        (8, 256),
        (9, 128),
        (15, 2),
    ] {
        let mut rtc = clock();
        rtc.write(at(0), 0x0a, 0x20 | select);
        rtc.write(at(0), 0x0b, 0x42);
        let mut count = 0;
        while let Some(due) = rtc.deadline().filter(|&due| due <= at(1_000)) {
            rtc.advance(Nanos(due.0 - 1));
            assert!(!rtc.irq());
            assert_eq!(rtc.read(due, 0x0c) & 0xc0, 0xc0);
            count += 1;
        }
        assert_eq!(count, hz);
    }
    let mut rtc = clock();
    rtc.write(at(0), 0x0a, 0x20);
    rtc.write(at(0), 0x0b, 0x42);
    assert_eq!(rtc.deadline(), None, "rate 0 is off");
}

#[test]
fn a_held_divider_stops_the_clock_and_releases_after_half_a_second() {
    let mut rtc = clock();
    rtc.write(at(300), 0x0a, 0x76);
    rtc.write(at(300), 0x0b, 0x52);
    rtc.read(at(300), 0x0c);
    assert_eq!((rtc.read(at(9_000), 0), rtc.deadline()), (0x57, None));
    assert!(!rtc.irq());
    rtc.write(at(9_200), 0x0a, 0x20);
    assert_eq!(rtc.deadline(), Some(at(9_700)));
    assert_eq!(rtc.read(at(9_700), 0), 0x58);
    assert_eq!(rtc.read(at(10_699), 0), 0x58);
    assert_eq!(rtc.read(at(10_700), 0), 0x59);
}

#[test]
fn time_that_goes_back_stands_still() {
    let mut rtc = clock();
    assert_eq!(rtc.read(at(2_500), 0), 0x59);
    assert_eq!(rtc.read(at(100), 0), 0x59);
    assert_eq!(rtc.read(at(2_999), 0), 0x59);
    assert_eq!(rtc.read(at(3_000), 0), 0x00);
}

#[test]
fn reset_clears_interrupts_only() {
    let mut rtc = clock();
    rtc.write(at(0), 0x0b, 0x7e);
    rtc.write(at(0), 0x40, 0xaa);
    rtc.advance(at(1_000));
    rtc.reset();
    assert_eq!(rtc.read(at(1_000), 0x0b), 0x06);
    assert_eq!(rtc.read(at(1_000), 0x0c), 0x00);
    assert_eq!(rtc.read(at(1_000), 0x40), 0xaa);
}

fn access(offset: u64, now: Nanos) -> Access {
    Access {
        region: 0,
        offset,
        width: Width::Byte,
        now,
    }
}

#[test]
fn the_two_banks_have_their_own_index() {
    let mut port = RtcPort::new(Line::loose(), Duration::from_secs(UTC));
    for (offset, value) in [(0, 0x80 | 0x50), (1, 1), (2, 0x50), (3, 2), (0, 0x0d)] {
        port.write(access(offset, at(0)), value);
    }
    assert_eq!(port.read(access(1, at(0))), 0x80);
    assert_eq!(port.read(access(3, at(0))), 2);
    assert_eq!(port.read(access(0, at(0))), 0xff);
    port.write(access(0, at(0)), 0x50);
    assert_eq!(port.read(access(1, at(0))), 1);
}

#[test]
fn the_line_follows_the_request() {
    let mut port = RtcPort::new(Line::loose(), Duration::from_secs(UTC));
    port.write(access(0, at(0)), 0x0b);
    port.write(access(1, at(0)), 0x12);
    port.advance(port.deadline().unwrap());
    assert!(port.line.level());
    port.write(access(0, at(1_000)), 0x0c);
    port.read(access(1, at(1_000)));
    assert!(!port.line.level());
}

proptest! {
    /// Nothing panics, whatever is written and however time jumps; deadlines lie ahead, so that nobody spins.
    #[test]
    fn any_sequence_is_harmless(
        ops in prop::collection::vec(
            (any::<bool>(), prop_oneof![0u8..14, any::<u8>()], any::<u8>(), any::<u64>()), 0..100),
        far in any::<bool>(),
    ) {
        let mut rtc = clock();
        let mut latest = 0;
        for (write, index, value, time) in ops {
            let now = if far { time } else { time % 100_000_000_000 };
            latest = latest.max(now);
            if write {
                rtc.write(Nanos(now), index, value);
            } else {
                rtc.read(Nanos(now), index);
            }
            if let Some(deadline) = rtc.deadline() {
                prop_assert!(deadline.0 > latest || latest > u64::MAX - 2 * SECOND_NS);
            }
        }
    }

    /// Many small looks and one late look end at the same time and date.
    #[test]
    fn looking_often_changes_nothing(steps in prop::collection::vec(0u64..40_000_000_000_000, 1..50), b in any::<u8>()) {
        let (mut often, mut once) = (clock(), clock());
        for rtc in [&mut often, &mut once] {
            rtc.write(Nanos(0), 0x0b, b & 0x06);
        }
        let mut now = 0;
        for step in steps {
            now += step;
            often.advance(Nanos(now));
        }
        once.advance(Nanos(now));
        prop_assert_eq!(often.bytes, once.bytes);
    }
}
