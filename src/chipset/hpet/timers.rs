//! The HPET's register core: main counter, three comparators, configuration and status.
//!
//! Ticks are those of the machine's time. A comparator's next match is kept as such a tick, so that it stays right
//! however the guest sets the main counter.

use bitflags::bitflags;

use crate::bus::Nanos;
use crate::layout::{HPET_HZ, HPET_PERIOD_FS};

/// How many comparators there are.
pub(super) const TIMERS: usize = 3;
/// The I/O APIC pins that comparators can be routed to: 20 to 23.
pub(super) const PINS: std::ops::Range<u8> = 20..24;

/// A register: 64 bits at an offset (2.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reg {
    Capabilities,
    Configuration,
    Status,
    Counter,
    Timer(usize),
    Comparator(usize),
    Message(usize),
}

impl Reg {
    fn decode(offset: u64) -> Option<Self> {
        let timer = offset.checked_sub(0x100).map(|o| (o / 0x20) as usize);
        match (offset & !7, timer) {
            (0x00, _) => Some(Self::Capabilities),
            (0x10, _) => Some(Self::Configuration),
            (0x20, _) => Some(Self::Status),
            (0xf0, _) => Some(Self::Counter),
            (at, Some(timer)) if timer < TIMERS => match at & 0x1f {
                0x00 => Some(Self::Timer(timer)),
                0x08 => Some(Self::Comparator(timer)),
                0x10 => Some(Self::Message(timer)),
                _ => None,
            },
            _ => None,
        }
    }
}

/// General capabilities and ID, RO (2.3.4): revision 1, 64-bit counter, legacy replacement, vendor 8086.
const CAPABILITIES: u64 =
    HPET_PERIOD_FS << 32 | 0x8086 << 16 | 1 << 15 | 1 << 13 | (TIMERS as u64 - 1) << 8 | 1;

bitflags! {
    /// General configuration, RW (2.3.5).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Config: u64 {
        const ENABLE = 1 << 0;
        const LEGACY = 1 << 1;
    }

    /// Timer n configuration and capabilities (2.3.8).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct TimerConfig: u64 {
        /// RW: level rather than edge triggered.
        const LEVEL = 1 << 1;
        /// RW.
        const INTERRUPT = 1 << 2;
        /// RW.
        const PERIODIC = 1 << 3;
        /// RO.
        const CAN_BE_PERIODIC = 1 << 4;
        /// RO.
        const IS_64_BITS = 1 << 5;
        /// WO: the next write of the comparator sets its value, not only its period.
        const SET_VALUE = 1 << 6;
        /// RW.
        const FORCE_32_BITS = 1 << 8;
        /// RW.
        const ROUTE = 0x1f << 9;
        /// RW: interrupt by message.
        const MESSAGE = 1 << 14;
        /// RO.
        const CAN_SEND_MESSAGES = 1 << 15;
        /// RO: the pins in `PINS`.
        const ROUTES = 0x00f0_0000 << 32;
        const GUEST_WRITABLE = 0x7f4e;
        const FIXED = Self::CAN_BE_PERIODIC.bits()
            | Self::IS_64_BITS.bits()
            | Self::CAN_SEND_MESSAGES.bits()
            | Self::ROUTES.bits();
    }
}

const ROUTE_SHIFT: u32 = 9;

impl TimerConfig {
    /// The I/O APIC pin of the route.
    fn pin(self) -> u8 {
        ((self & Self::ROUTE).bits() >> ROUTE_SHIFT) as u8
    }
}

/// The comparator's value at reset (2.3.9).
const COMPARATOR_RESET: u64 = u64::MAX;

/// One comparator.
#[derive(Clone, Copy, Debug)]
struct Timer {
    config: TimerConfig,
    comparator: u64,
    period: u64,
    /// Address in the upper, value in the lower half (2.3.10).
    message: u64,
    /// The tick of the next match, while the counter runs.
    due: Option<u64>,
}

impl Timer {
    const RESET: Self = Self {
        config: TimerConfig::FIXED,
        comparator: COMPARATOR_RESET,
        period: 0,
        message: 0,
        due: None,
    };

    /// The bits of counter and comparator that are compared.
    fn mask(&self) -> u64 {
        if self.config.contains(TimerConfig::FORCE_32_BITS) {
            u32::MAX.into()
        } else {
            u64::MAX
        }
    }

    /// How many ticks from `counter` to the next match; zero if that is now.
    fn distance(&self, counter: u64) -> u64 {
        self.comparator.wrapping_sub(counter) & self.mask()
    }

    /// The same after the comparator has been written: a value just passed counts as now, not as a whole round later.
    /// Just is an eighth of a round: 5 seconds in 32 bits.
    fn distance_of_new(&self, counter: u64) -> u64 {
        let ahead = self.distance(counter);
        let is_just_passed = self.mask() - ahead < self.mask() / 8;
        if is_just_passed { 0 } else { ahead }
    }

    /// Ticks from one match to the next, if there is a next within the machine's life.
    fn interval(&self) -> Option<u64> {
        let period = self.period & self.mask();
        if self.config.contains(TimerConfig::PERIODIC) && period > 0 {
            Some(period)
        } else {
            // A comparator of 32 bits matches in each round of the counter.
            self.mask().checked_add(1)
        }
    }

    /// Lets the matches up to `tick` happen. Returns whether there were any.
    fn advance(&mut self, tick: u64) -> bool {
        let Some(due) = self.due.filter(|&due| due <= tick) else {
            return false;
        };
        let next = self.interval().and_then(|interval| {
            let matches = (tick - due) / interval + 1;
            if self.config.contains(TimerConfig::PERIODIC) {
                let value = self.comparator;
                self.comparator = value.wrapping_add(matches.wrapping_mul(interval)) & self.mask();
            }
            due.checked_add(matches.checked_mul(interval)?)
        });
        self.due = next;
        true
    }
}

/// The register core. Its time only goes forward.
#[derive(Clone, Debug)]
pub(super) struct Timers {
    tick: u64,
    config: Config,
    status: u64,
    /// The main counter while it stands, or its value at tick 0 while it runs.
    counter: u64,
    timers: [Timer; TIMERS],
    fired: u8,
}

impl Timers {
    pub(super) fn new() -> Self {
        Self {
            tick: 0,
            config: Config::empty(),
            status: 0,
            counter: 0,
            timers: [Timer::RESET; TIMERS],
            fired: 0,
        }
    }

    pub(super) fn reset(&mut self) {
        let Self {
            tick,
            config: _,
            status: _,
            counter: _,
            timers: _,
            fired: _,
        } = *self;
        *self = Self {
            tick,
            ..Self::new()
        };
    }

    /// Reads the 64-bit register that `offset` lies in.
    pub(super) fn read(&self, offset: u64) -> u64 {
        match Reg::decode(offset) {
            Some(Reg::Capabilities) => CAPABILITIES,
            Some(Reg::Configuration) => self.config.bits(),
            Some(Reg::Status) => self.status,
            Some(Reg::Counter) => self.main_counter(),
            Some(Reg::Timer(n)) => self.timers[n].config.bits(),
            Some(Reg::Comparator(n)) => self.timers[n].comparator & self.timers[n].mask(),
            Some(Reg::Message(n)) => self.timers[n].message,
            None => 0,
        }
    }

    /// Writes the bits of `mask` in the 64-bit register that `offset` lies in.
    pub(super) fn write(&mut self, offset: u64, value: u64, mask: u64) {
        let merged = |old: u64| old & !mask | value & mask;
        match Reg::decode(offset) {
            Some(Reg::Configuration) => self.configure(merged(self.config.bits())),
            Some(Reg::Status) => self.status &= !(value & mask),
            Some(Reg::Counter) => {
                self.set_main_counter(merged(self.main_counter()));
                self.rearm();
            }
            Some(Reg::Timer(n)) => {
                let old = self.timers[n].config;
                self.configure_timer(n, merged(old.bits()));
            }
            Some(Reg::Comparator(n)) => self.compare(n, value, mask),
            Some(Reg::Message(n)) => {
                self.timers[n].message = merged(self.timers[n].message);
            }
            Some(Reg::Capabilities) | None => {}
        }
    }

    /// Lets the counter run up to `now`.
    pub(super) fn advance(&mut self, now: Nanos) {
        self.tick = self.tick.max(now.ticks(HPET_HZ));
        for (n, timer) in self.timers.iter_mut().enumerate() {
            if timer.advance(self.tick) {
                self.fired |= 1 << n;
                if timer.config.contains(TimerConfig::LEVEL) {
                    self.status |= 1 << n;
                }
            }
        }
    }

    /// When an interrupt may come next.
    pub(super) fn deadline(&self) -> Option<Nanos> {
        let timers = self.timers.iter().enumerate();
        timers
            .filter(|(n, _)| self.interrupts(*n) && !self.asserted(*n))
            .filter_map(|(_, timer)| timer.due)
            .min()
            .map(|tick| Nanos::at_tick(tick, HPET_HZ))
    }

    /// Which comparators have matched since this was last asked, a bit each.
    pub(super) fn take_fired(&mut self) -> u8 {
        std::mem::take(&mut self.fired)
    }

    /// Whether comparators 0 and 1 replace the 8254 and the RTC.
    pub(super) fn replaces_legacy(&self) -> bool {
        self.config.contains(Config::LEGACY)
    }

    /// Whether comparator `n` may interrupt.
    pub(super) fn interrupts(&self, n: usize) -> bool {
        self.config.contains(Config::ENABLE)
            && self.timers[n].config.contains(TimerConfig::INTERRUPT)
    }

    /// Whether comparator `n` is level triggered.
    pub(super) fn is_level(&self, n: usize) -> bool {
        self.timers[n].config.contains(TimerConfig::LEVEL)
    }

    /// Whether comparator `n`, level triggered, asks for an interrupt.
    pub(super) fn asserted(&self, n: usize) -> bool {
        self.is_level(n) && self.interrupts(n) && self.status & 1 << n != 0
    }

    /// The message that comparator `n` sends instead of driving a pin: address and value.
    pub(super) fn message(&self, n: usize) -> Option<(u64, u32)> {
        let Timer {
            config, message, ..
        } = self.timers[n];
        config
            .contains(TimerConfig::MESSAGE)
            .then_some((message >> 32, message as u32))
    }

    /// The I/O APIC pin that comparator `n` is routed to.
    pub(super) fn route(&self, n: usize) -> u8 {
        self.timers[n].config.pin()
    }

    fn main_counter(&self) -> u64 {
        if self.config.contains(Config::ENABLE) {
            self.counter.wrapping_add(self.tick)
        } else {
            self.counter
        }
    }

    fn set_main_counter(&mut self, value: u64) {
        self.counter = if self.config.contains(Config::ENABLE) {
            value.wrapping_sub(self.tick)
        } else {
            value
        };
    }

    fn configure(&mut self, value: u64) {
        let counter = self.main_counter();
        self.config = Config::from_bits_truncate(value);
        self.set_main_counter(counter);
        self.rearm();
    }

    fn configure_timer(&mut self, n: usize, value: u64) {
        let timer = &mut self.timers[n];
        let was = timer.mask();
        let writable = TimerConfig::GUEST_WRITABLE;
        let asked = TimerConfig::from_bits_truncate(value) & writable;
        // A pin that it cannot reach does not stick: software writes, and reads what it got.
        let routed = if PINS.contains(&asked.pin()) {
            asked
        } else {
            timer.config
        };
        timer.config =
            TimerConfig::FIXED | asked - TimerConfig::ROUTE | routed & TimerConfig::ROUTE;
        if timer.mask() != was {
            self.rearm();
        }
        if !self.is_level(n) {
            self.status &= !(1 << n);
        }
    }

    /// Writes a comparator. In periodic mode that sets the period, and the value only where it was asked for.
    fn compare(&mut self, n: usize, value: u64, mask: u64) {
        let counter = self.main_counter();
        let timer = &mut self.timers[n];
        let periodic = timer.config.contains(TimerConfig::PERIODIC);
        if periodic {
            timer.period = timer.period & !mask | value & mask;
        }
        if periodic && !timer.config.contains(TimerConfig::SET_VALUE) {
            return;
        }
        timer.config.remove(TimerConfig::SET_VALUE);
        timer.comparator = timer.comparator & !mask | value & mask;
        if self.config.contains(Config::ENABLE) {
            timer.due = self.tick.checked_add(timer.distance_of_new(counter));
        }
    }

    /// Finds each comparator's next match anew, after the counter or a width has changed.
    fn rearm(&mut self) {
        let counter = self.main_counter();
        let runs = self.config.contains(Config::ENABLE);
        for timer in &mut self.timers {
            let distance = timer.distance(counter);
            timer.due = runs.then(|| self.tick.checked_add(distance)).flatten();
        }
    }
}
