//! Motorola MC146818 real-time clock (data sheet ADI-856) with the PC's 256 bytes of battery-backed RAM and the century
//! byte that ACPI's FADT names.
//!
//! The time comes from the host once, at construction; after that it is the guest's to set, and it runs with the
//! machine's time. Registers hold bytes as a guest wrote them; impossible ones carry over into the next field at
//! the next update. Where several updates or periods pass between two looks, their flags are set once, as they would be
//! on the chip.
//!
//! Not modelled: daylight saving (the DSE bit is kept), the square wave pin (nothing is wired to it), and divider
//! settings for crystals other than 32.768 kHz, with which the clock stands still.

mod calendar;

use std::time::Duration;

use bitflags::bitflags;
use calendar::Date;

use crate::bus::{Access, Device, Line, Nanos};
use crate::layout::{RTC_CENTURY, RTC_HZ};

/// The registers of the first bank, by index ("Address map", figure 3). The rest is RAM.
mod reg {
    pub(super) const SECOND: usize = 0;
    pub(super) const SECOND_ALARM: usize = 1;
    pub(super) const MINUTE: usize = 2;
    pub(super) const MINUTE_ALARM: usize = 3;
    pub(super) const HOUR: usize = 4;
    pub(super) const HOUR_ALARM: usize = 5;
    pub(super) const WEEKDAY: usize = 6;
    pub(super) const DAY: usize = 7;
    pub(super) const MONTH: usize = 8;
    pub(super) const YEAR: usize = 9;
    pub(super) const A: usize = 10;
    pub(super) const B: usize = 11;
    pub(super) const C: usize = 12;
    pub(super) const D: usize = 13;
}

/// Register A, RW but for UIP: divider and rate.
mod a {
    pub(super) const UPDATE_IN_PROGRESS: u8 = 1 << 7;
    pub(super) const DIVIDER: u8 = 7 << 4;
    pub(super) const DIVIDER_32_KHZ: u8 = 2 << 4;
    pub(super) const RATE: u8 = 0x0f;
    pub(super) const POWER_ON: u8 = DIVIDER_32_KHZ | 6;
}

bitflags! {
    /// Register B, RW.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct B: u8 {
        const DAYLIGHT_SAVING = 1 << 0;
        const HOURS_24 = 1 << 1;
        const BINARY = 1 << 2;
        const SQUARE_WAVE = 1 << 3;
        const UPDATE = 1 << 4;
        const ALARM = 1 << 5;
        const PERIODIC = 1 << 6;
        const SET = 1 << 7;
        /// What enables an interrupt; the flags of register C have the same places.
        const INTERRUPTS = 0x70;
        /// What the RESET pin clears.
        const RESET = 0x78;
    }

    /// Register C, RO, cleared by a read.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Flags: u8 {
        const UPDATE = 1 << 4;
        const ALARM = 1 << 5;
        const PERIODIC = 1 << 6;
        const REQUEST = 1 << 7;
    }
}

/// Register D, RO: RAM and time are valid.
const VALID: u8 = 1 << 7;
/// Alarm bytes from here on match everything ("Alarm").
const ANY: u8 = 0xc0;
/// The hour byte's bit for the afternoon in 12-hour mode.
const AFTERNOON: u8 = 1 << 7;
const SECOND_NS: u64 = 1_000_000_000;
/// How long UIP is set before an update shows: 244 us warning and 1984 us for the update itself (table 5).
const UPDATE_NS: u64 = 2_228_000;
/// From the divider's release to the first update ("Divider control").
const RELEASE_NS: u64 = SECOND_NS / 2;
/// Bytes in each of the two banks.
const BANK: usize = 128;

/// The register core. Its time only goes forward.
#[derive(Clone, Debug)]
pub struct Rtc {
    // Battery-backed: survives a reset.
    /// Both banks. The time is in here as the registers show it.
    bytes: [u8; 2 * BANK],
    a: u8,
    b: B,
    now: Nanos,
    /// When the divider started; it counts 32768 Hz from here. `None` while it is held.
    divider: Option<Nanos>,
    /// When the next update shows, if the divider runs.
    update_at: Nanos,
    // State.
    flags: Flags,
}

impl Rtc {
    /// A clock that shows `utc` (since 1970) at machine time zero.
    pub fn new(utc: Duration) -> Self {
        let mut rtc = Self {
            bytes: [0; 2 * BANK],
            a: a::POWER_ON,
            b: B::HOURS_24,
            now: Nanos(0),
            divider: Some(Nanos(0)),
            update_at: Nanos(SECOND_NS - u64::from(utc.subsec_nanos())),
            flags: Flags::empty(),
        };
        let unix = i64::try_from(utc.as_secs()).unwrap_or(0);
        rtc.store(Date::from_unix(unix));
        rtc.bytes[reg::WEEKDAY] = calendar::weekday(unix);
        rtc
    }

    /// Reads a byte: 0 to 127 are the first bank, 128 to 255 the second.
    pub fn read(&mut self, now: Nanos, index: u8) -> u8 {
        self.advance(now);
        match usize::from(index) {
            reg::A => self.a | self.update_in_progress(),
            reg::B => self.b.bits(),
            reg::C => {
                let request = if self.irq() {
                    Flags::REQUEST
                } else {
                    Flags::empty()
                };
                let flags = self.flags | request;
                self.flags = Flags::empty();
                flags.bits()
            }
            reg::D => VALID,
            index => self.bytes[index],
        }
    }

    /// Writes a byte.
    pub fn write(&mut self, now: Nanos, index: u8, value: u8) {
        self.advance(now);
        match usize::from(index) {
            reg::A => self.write_a(value & (a::DIVIDER | a::RATE)),
            reg::B => self.write_b(B::from_bits_retain(value)),
            reg::C | reg::D => {}
            index => self.bytes[index] = value,
        }
    }

    /// The interrupt request: a level, until register C is read.
    pub fn irq(&self) -> bool {
        self.flags.bits() & (self.b & B::INTERRUPTS).bits() != 0
    }

    /// When the request may rise next.
    pub fn deadline(&self) -> Option<Nanos> {
        if self.irq() {
            return None;
        }
        let periodic = (self.b.contains(B::PERIODIC)).then(|| self.next_period());
        let update = (self.b.contains(B::UPDATE)).then(|| self.next_update());
        let alarm = (self.b.contains(B::ALARM)).then(|| self.next_alarm());
        [periodic, update, alarm]
            .into_iter()
            .flatten()
            .flatten()
            .min()
    }

    /// Lets updates, alarms and periods happen that are due by `now`.
    pub fn advance(&mut self, now: Nanos) {
        let (before, now) = (self.now, self.now.max(now));
        self.now = now;
        let Some(divider) = self.divider else {
            return;
        };
        let periods = |at: Nanos| Some(Nanos(at - divider).ticks(RTC_HZ) >> self.rate()?);
        if periods(before) != periods(now) {
            self.flags |= Flags::PERIODIC;
        }
        if self.update_at <= now {
            let updates = (now - self.update_at) / SECOND_NS + 1;
            self.update_at = self.update_at + updates.saturating_mul(SECOND_NS);
            if !self.b.contains(B::SET) {
                self.update(updates);
            }
        }
    }

    /// The RESET pin: interrupts off. Time, divider and RAM live on the battery.
    pub fn reset(&mut self) {
        let Self {
            bytes: _,
            a: _,
            b,
            now: _,
            divider: _,
            update_at: _,
            flags,
        } = self;
        b.remove(B::RESET);
        *flags = Flags::empty();
    }

    fn write_a(&mut self, value: u8) {
        let runs = |a: u8| a & a::DIVIDER == a::DIVIDER_32_KHZ;
        match (runs(self.a), runs(value)) {
            (false, true) => {
                self.divider = Some(self.now);
                self.update_at = self.now + RELEASE_NS;
            }
            (true, false) => self.divider = None,
            _ => {}
        }
        self.a = value;
    }

    fn write_b(&mut self, mut b: B) {
        if b.contains(B::SET) && !self.b.contains(B::SET) {
            b.remove(B::UPDATE);
        }
        self.b = b;
    }

    /// Set while the registers are about to change.
    fn update_in_progress(&self) -> u8 {
        let soon = self.update_at - self.now <= UPDATE_NS;
        if self.divider.is_some() && !self.b.contains(B::SET) && soon {
            a::UPDATE_IN_PROGRESS
        } else {
            0
        }
    }

    /// `count` update cycles: seconds pass, and the alarm is compared with each.
    fn update(&mut self, count: u64) {
        self.flags |= Flags::UPDATE;
        if self.seconds_to_alarm().is_some_and(|wait| wait <= count) {
            self.flags |= Flags::ALARM;
        }
        let before = self.date().to_unix();
        let after = before.saturating_add_unsigned(count);
        self.store(Date::from_unix(after));
        let days = after.div_euclid(86_400) - before.div_euclid(86_400);
        let weekday = i64::from(self.bytes[reg::WEEKDAY]) - 1 + days;
        self.bytes[reg::WEEKDAY] = weekday.rem_euclid(7) as u8 + 1;
    }

    /// Seconds until the alarm next matches, at least one. `None` where it never does.
    fn seconds_to_alarm(&self) -> Option<u64> {
        let now = self.date().to_unix().rem_euclid(86_400) as u64;
        let matches = |alarm: usize, shown: u8| {
            let alarm = self.bytes[alarm];
            alarm >= ANY || alarm == shown
        };
        let first = now + 1;
        // Minute by minute through the day; within a minute the seconds that are left of it.
        for minute in first / 60..=first / 60 + 1440 {
            if !matches(reg::HOUR_ALARM, self.encode_hour(minute / 60 % 24))
                || !matches(reg::MINUTE_ALARM, self.encode(minute % 60))
            {
                continue;
            }
            let from = first.saturating_sub(minute * 60);
            let second = (from..60).find(|&s| matches(reg::SECOND_ALARM, self.encode(s)));
            if let Some(second) = second {
                return Some(minute * 60 + second - now);
            }
        }
        None
    }

    fn next_update(&self) -> Option<Nanos> {
        (self.divider.is_some() && !self.b.contains(B::SET)).then_some(self.update_at)
    }

    fn next_alarm(&self) -> Option<Nanos> {
        let update = self.next_update()?;
        let wait = self.seconds_to_alarm()?;
        Some(update + (wait - 1).saturating_mul(SECOND_NS))
    }

    fn next_period(&self) -> Option<Nanos> {
        let (divider, rate) = (self.divider?, self.rate()?);
        let period = (Nanos(self.now - divider).ticks(RTC_HZ) >> rate) + 1;
        Some(Nanos::at_tick(period << rate, RTC_HZ) + divider.0)
    }

    /// The periodic rate as a power of two of crystal ticks (table 3).
    fn rate(&self) -> Option<u32> {
        match self.a & a::RATE {
            0 => None,
            select @ (1 | 2) => Some(u32::from(select) + 6),
            select => Some(u32::from(select) - 1),
        }
    }

    /// The date that the registers show.
    fn date(&self) -> Date {
        let field = |index: usize| self.decode(self.bytes[index]);
        Date {
            year: field(usize::from(RTC_CENTURY)) * 100 + field(reg::YEAR),
            month: field(reg::MONTH),
            day: field(reg::DAY),
            hour: self.decode_hour(self.bytes[reg::HOUR]),
            minute: field(reg::MINUTE),
            second: field(reg::SECOND),
        }
    }

    fn store(&mut self, date: Date) {
        let two_digits = |value: i64| value.rem_euclid(100) as u64;
        self.bytes[reg::SECOND] = self.encode(two_digits(date.second));
        self.bytes[reg::MINUTE] = self.encode(two_digits(date.minute));
        self.bytes[reg::HOUR] = self.encode_hour(two_digits(date.hour));
        self.bytes[reg::DAY] = self.encode(two_digits(date.day));
        self.bytes[reg::MONTH] = self.encode(two_digits(date.month));
        self.bytes[reg::YEAR] = self.encode(two_digits(date.year));
        let century = two_digits(date.year.div_euclid(100));
        self.bytes[usize::from(RTC_CENTURY)] = self.encode(century);
    }

    fn decode(&self, byte: u8) -> i64 {
        if self.b.contains(B::BINARY) {
            byte.into()
        } else {
            i64::from(byte >> 4) * 10 + i64::from(byte & 0xf)
        }
    }

    fn encode(&self, value: u64) -> u8 {
        let value = value as u8 % 100;
        if self.b.contains(B::BINARY) {
            value
        } else {
            value / 10 << 4 | value % 10
        }
    }

    fn decode_hour(&self, byte: u8) -> i64 {
        if self.b.contains(B::HOURS_24) {
            return self.decode(byte);
        }
        let afternoon = if byte & AFTERNOON != 0 { 12 } else { 0 };
        self.decode(byte & !AFTERNOON).rem_euclid(12) + afternoon
    }

    fn encode_hour(&self, hour: u64) -> u8 {
        if self.b.contains(B::HOURS_24) {
            return self.encode(hour);
        }
        let afternoon = if hour >= 12 { AFTERNOON } else { 0 };
        self.encode((hour + 11) % 12 + 1) | afternoon
    }
}

/// The clock on the bus: index and data ports of the first bank, then of the second.
pub struct RtcPort {
    line: Line,
    rtc: Rtc,
    index: [u8; 2],
}

/// Bit 7 of the first index port masks the NMI, which this machine never raises.
const INDEX: u8 = 0x7f;
/// What a read of a write-only index port gives.
const UNDRIVEN: u64 = 0xff;

impl RtcPort {
    /// A clock that drives `line` and shows `utc` (since 1970) at machine time zero.
    pub fn new(line: Line, utc: Duration) -> Self {
        Self {
            line,
            rtc: Rtc::new(utc),
            index: [0; 2],
        }
    }

    /// The byte that an access of a data port is for.
    fn selected(&self, access: Access) -> u8 {
        let bank = usize::from(access.offset >= 2);
        self.index[bank] | (bank * BANK) as u8
    }
}

impl Device for RtcPort {
    fn read(&mut self, access: Access) -> u64 {
        if access.offset & 1 == 0 {
            return UNDRIVEN;
        }
        let value = self.rtc.read(access.now, self.selected(access));
        self.line.set(self.rtc.irq());
        value.into()
    }

    fn write(&mut self, access: Access, value: u64) {
        if access.offset & 1 == 0 {
            let bank = usize::from(access.offset >= 2);
            self.index[bank] = value as u8 & INDEX;
            return;
        }
        let index = self.selected(access);
        self.rtc.write(access.now, index, value as u8);
        self.line.set(self.rtc.irq());
    }

    fn deadline(&self) -> Option<Nanos> {
        self.rtc.deadline()
    }

    fn advance(&mut self, now: Nanos) {
        self.rtc.advance(now);
        self.line.set(self.rtc.irq());
    }

    fn reset(&mut self) {
        self.rtc.reset();
        self.index = [0; 2];
        self.line.set(false);
    }
}

#[cfg(test)]
mod tests;
