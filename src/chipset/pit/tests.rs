//! The chip through its ports: access modes, latches, read-back, BCD, port 0x61, and the wire.

use std::sync::Arc;
use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::bus::{LineSink, Width};

/// The first time at which the input clock has made `tick` ticks.
fn at(tick: u64) -> Nanos {
    Nanos::at_tick(tick, PIT_HZ)
}

/// A chip whose counter `n` has been programmed at tick 0.
fn programmed(n: u8, control: u8, bytes: &[u8]) -> Pit {
    let mut pit = Pit::new();
    pit.write(at(0), 3, n << 6 | control);
    for &byte in bytes {
        pit.write(at(0), n, byte);
    }
    pit
}

fn word(pit: &mut Pit, tick: u64, n: u8) -> u16 {
    u16::from(pit.read(at(tick), n)) | u16::from(pit.read(at(tick), n)) << 8
}

fn status(pit: &mut Pit, tick: u64, n: u8) -> u8 {
    pit.write(at(tick), 3, 0xe0 | 2 << n);
    pit.read(at(tick), n)
}

#[test]
fn a_count_is_loaded_with_the_next_clock() {
    let mut pit = programmed(0, 0x30, &[4, 0]);
    assert_eq!(status(&mut pit, 0, 0), 0x70, "OUT low, null count");
    assert_eq!(status(&mut pit, 1, 0), 0x30);
    assert_eq!(word(&mut pit, 1, 0), 4);
    assert_eq!(word(&mut pit, 4, 0), 1);
    assert_eq!(status(&mut pit, 4, 0), 0x30);
    assert_eq!(status(&mut pit, 5, 0), 0xb0, "N + 1 clocks after the write");
    assert_eq!(word(&mut pit, 6, 0), 0xffff, "and on it counts");
}

#[test]
fn zero_is_the_largest_count() {
    let mut pit = programmed(0, 0x30, &[0, 0]);
    assert_eq!(word(&mut pit, 1, 0), 0);
    assert_eq!(word(&mut pit, 2, 0), 0xffff);
    assert_eq!(status(&mut pit, 65_536, 0), 0x30);
    assert_eq!(status(&mut pit, 65_537, 0), 0xb0);
    let mut bcd = programmed(0, 0x31, &[0, 0]);
    assert_eq!(word(&mut bcd, 2, 0), 0x9999);
    assert_eq!(status(&mut bcd, 10_000, 0), 0x31);
    assert_eq!(status(&mut bcd, 10_001, 0), 0xb1);
}

#[test]
fn single_bytes_leave_the_other_zero() {
    let mut low = programmed(0, 0x14, &[0x34]);
    assert_eq!(low.read(at(1), 0), 0x34);
    assert_eq!(low.read(at(2), 0), 0x33);
    let mut high = programmed(0, 0x24, &[0x12]);
    assert_eq!(high.read(at(1), 0), 0x12);
    assert_eq!(high.read(at(2), 0), 0x11, "0x1200 - 1");
}

#[test]
fn bcd_counts_in_decimal() {
    let mut pit = programmed(0, 0x35, &[0x00, 0x10]);
    assert_eq!(word(&mut pit, 1, 0), 0x1000);
    assert_eq!(word(&mut pit, 2, 0), 0x0999);
    assert_eq!(word(&mut pit, 1_001, 0), 0x1000);
}

#[test]
fn a_latched_count_stays_until_read() {
    let mut pit = programmed(0, 0x34, &[100, 0]);
    pit.write(at(11), 3, 0x00);
    pit.write(at(21), 3, 0x00);
    assert_eq!(word(&mut pit, 31, 0), 90);
    assert_eq!(word(&mut pit, 31, 0), 70);
    pit.write(at(41), 3, 0x00);
    pit.write(at(41), 3, 0x30);
    pit.write(at(41), 0, 5);
    pit.write(at(41), 0, 0);
    assert_eq!(word(&mut pit, 42, 0), 5, "programming drops the latch");
}

#[test]
fn read_back_latches_status_before_count_of_several_counters() {
    let mut pit = programmed(0, 0x34, &[100, 0]);
    pit.write(at(0), 3, 0xb6);
    pit.write(at(0), 2, 50);
    pit.write(at(0), 2, 0);
    pit.write(at(11), 3, 0xca);
    assert_eq!(pit.read(at(50), 0), 0xb4);
    assert_eq!(word(&mut pit, 50, 0), 90);
    assert_eq!(pit.read(at(50), 2), 0xb6, "mode 3 as written");
    assert_eq!(pit.read(at(50), 3), 0xff);
}

#[test]
fn a_two_byte_write_to_mode_0_stops_at_its_first_byte() {
    let mut pit = programmed(0, 0x30, &[10, 0]);
    pit.write(at(4), 0, 20);
    assert_eq!(word(&mut pit, 100, 0), 7);
    pit.write(at(100), 0, 0);
    assert_eq!(word(&mut pit, 101, 0), 20);
}

#[test]
fn port_61_gates_counter_2_and_shows_its_output() {
    let mut pit = programmed(2, 0x30, &[10, 0]);
    assert_eq!(pit.read_nmi(at(20)) & 0x2f, 0x00, "gate low: not counting");
    pit.write_nmi(at(20), 0x03);
    assert_eq!(pit.read_nmi(at(29)) & 0x2f, 0x03);
    assert_eq!(pit.read_nmi(at(30)) & 0x2f, 0x23);
    pit.write_nmi(at(30), 0xfe);
    assert_eq!(pit.read_nmi(at(30)) & 0xef, 0x2e, "only four bits are kept");
}

#[test]
fn the_refresh_bit_toggles() {
    let mut pit = Pit::new();
    let bits: Vec<u8> = (0..4).map(|i| pit.read_nmi(at(i * 18)) & 0x10).collect();
    assert_eq!(bits, [0, 0x10, 0, 0x10]);
}

#[test]
fn a_second_has_1193182_clocks_exactly() {
    let mut pit = programmed(0, 0x34, &[0, 0]);
    let hour = 3_600 * PIT_HZ;
    let left = 65_536 - (hour - 1) % 65_536;
    assert_eq!(
        u64::from(word(&mut pit, hour, 0)),
        left % 65_536,
        "no drift within an hour"
    );
    assert_eq!(at(hour), Nanos(3_600_000_000_000));
}

#[test]
fn time_that_goes_back_stands_still() {
    let mut pit = programmed(0, 0x34, &[100, 0]);
    assert_eq!(word(&mut pit, 31, 0), 70);
    assert_eq!(word(&mut pit, 5, 0), 70);
    assert_eq!(word(&mut pit, 32, 0), 69);
}

#[test]
fn a_count_of_one_is_harmless_and_not_for_ever() {
    for mode in [0x34, 0x36] {
        let mut pit = programmed(0, mode, &[1, 0]);
        assert_eq!(pit.out0(at(1_000_000)), (true, true));
        assert_eq!((pit.deadline(), pit.out0(at(2_000_000)).1), (None, false));
        pit.write(at(2_000_000), 0, 10);
        pit.write(at(2_000_000), 0, 0);
        assert!(pit.deadline().is_some());
    }
}

/// Counts rising edges.
#[derive(Default)]
struct Edges(Mutex<(bool, u32)>);

impl LineSink for Edges {
    fn drive(&self, _: u32, level: bool) {
        let mut state = self.0.lock().unwrap();
        state.1 += u32::from(level && !state.0);
        state.0 = level;
    }
}

fn access(region: u8, offset: u64, now: Nanos) -> Access {
    Access {
        region,
        offset,
        width: Width::Byte,
        now,
    }
}

fn wired() -> (PitPort, Arc<Edges>) {
    let edges = Arc::new(Edges::default());
    (PitPort::new(Line::new(edges.clone(), 0)), edges)
}

#[test]
fn deadlines_lead_from_edge_to_edge() {
    let (mut port, edges) = wired();
    assert_eq!(port.deadline(), None);
    for (offset, value) in [(3, 0x34), (0, 0xa9), (0, 0x04)] {
        port.write(access(PitPort::COUNTERS, offset, Nanos(0)), value);
    }
    let programmed = edges.0.lock().unwrap().1;
    assert_eq!(programmed, 1, "OUT goes high with the control word");
    port.advance(port.deadline().unwrap());
    let mut now = Nanos(0);
    for _ in 0..1000 {
        now = port.deadline().unwrap();
        port.advance(now);
    }
    assert_eq!(now, at(1 + 1000 * 0x4a9));
    assert_eq!(edges.0.lock().unwrap().1, programmed + 1000);
}

#[test]
fn a_late_look_gives_one_edge_for_all() {
    for control in [0x34, 0x36] {
        let (mut port, edges) = wired();
        for (offset, value) in [(3, control), (0, 100), (0, 0)] {
            port.write(access(PitPort::COUNTERS, offset, Nanos(0)), value);
        }
        let before = edges.0.lock().unwrap().1;
        port.advance(at(1 + 100 * 50 + 70));
        assert_eq!(*edges.0.lock().unwrap(), (true, before + 1));
    }
}

#[test]
fn reset_lowers_the_wire_and_stops() {
    let (mut port, _) = wired();
    port.write(access(PitPort::COUNTERS, 3, at(5)), 0x34);
    assert!(port.line.level());
    port.reset();
    assert!(!port.line.level());
    assert_eq!(port.deadline(), None);
}

proptest! {
    /// Nothing panics, whatever is written and however time jumps; deadlines lie ahead, so that nobody spins.
    #[test]
    fn any_sequence_is_harmless(
        ops in prop::collection::vec((any::<bool>(), 0u64..5, any::<u8>(), 0u64..=u64::MAX), 0..100),
        far in any::<bool>(),
    ) {
        let (mut port, _) = wired();
        for (write, offset, value, time) in ops {
            let now = Nanos(if far { time } else { time % 100_000_000 });
            let region = if offset == 4 { PitPort::NMI } else { PitPort::COUNTERS };
            let access = access(region, offset % 4, now);
            if write {
                port.write(access, value.into());
            } else {
                port.read(access);
            }
            port.advance(now);
            if let Some(deadline) = port.deadline() {
                prop_assert!(deadline > now || deadline.0 == u64::MAX || now.0 == u64::MAX);
            }
        }
    }
}
