//! ACPI fixed hardware (ACPI 6.5, 4.8): PM1a event and control registers, the power management timer and the SMI command
//! port through which an operating system switches ACPI on.
//!
//! The machine sleeps in one way: S5, soft-off. Other sleep types are kept and nothing happens, as no `\_Sx` offers
//! them. There is no system management mode, so that events before ACPI is on interrupt nobody; a press of the power
//! button then means what it means on a PC without an operating system: power off.
//!
//! The RTC's interrupt passes here and is a fixed event as well. Linux 6.1 sets its alarms by that event alone where the
//! HPET has taken the RTC's own interrupt over.
//!
//! Not modelled: wake events, the fixed sleep button (FADT says so with SLP_BUTTON), the global lock's release (GBL_EN is
//! kept, GBL_STS is never set), bus master status.
//!
//! Lock rank: the registers' lock comes after the slots and before the HPET's gates and the hub.

use std::sync::{Arc, Mutex, PoisonError};

use bitflags::bitflags;

use super::power::{Power, PowerSwitch};
use crate::bus::{Access, Device, Line, LineSink, Nanos, Width};
use crate::layout::{ACPI_DISABLE, ACPI_ENABLE, PM_TIMER_BITS, PM_TIMER_HZ, SLP_TYP_S5};

bitflags! {
    /// PM1 status, W1C (4.8.4.1.1), and PM1 enable, RW (4.8.4.1.2): the bits have the same places.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Events: u16 {
        const TIMER = 1 << 0;
        const GLOBAL = 1 << 5;
        const POWER_BUTTON = 1 << 8;
        const RTC = 1 << 10;
    }

    /// PM1 control (4.8.4.2.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Control: u16 {
        /// RO: set and cleared through the SMI command port.
        const SCI_ENABLE = 1 << 0;
        /// RW.
        const BUS_MASTER_RELOAD = 1 << 1;
        /// RW.
        const SLEEP_TYPE = 7 << 10;
        /// WO.
        const SLEEP_ENABLE = 1 << 13;
        const GUEST_WRITABLE = 0x1c02;
    }
}

const SLEEP_TYPE_SHIFT: u32 = 10;

/// The register core. Its time only goes forward.
#[derive(Clone, Debug)]
pub struct Pm {
    // Configuration.
    timer_bits: u32,
    // State.
    /// Ticks of the timer since the machine's time began: survives a reset, as the timer is never stopped.
    tick: u64,
    status: Events,
    enable: Events,
    control: Control,
    smi: [u8; 2],
}

impl Pm {
    /// Fixed hardware whose timer has `timer_bits` bits: 24 or 32.
    pub fn new(timer_bits: u32) -> Self {
        Self {
            timer_bits,
            tick: 0,
            status: Events::empty(),
            enable: Events::empty(),
            control: Control::empty(),
            smi: [0; 2],
        }
    }

    /// PM1 status.
    pub fn status(&self) -> u16 {
        self.status.bits()
    }

    /// Clears the status bits that are ones in `value`.
    pub fn write_status(&mut self, value: u16) {
        self.status &= !Events::from_bits_truncate(value);
    }

    /// PM1 enable.
    pub fn enable(&self) -> u16 {
        self.enable.bits()
    }

    /// Writes PM1 enable.
    pub fn write_enable(&mut self, value: u16) {
        self.enable = Events::from_bits_truncate(value);
    }

    /// PM1 control. SLP_EN always reads as zero.
    pub fn control(&self) -> u16 {
        self.control.bits()
    }

    /// Writes PM1 control. Returns what the machine must do.
    pub fn write_control(&mut self, value: u16) -> Option<Power> {
        let kept = self.control & !Control::GUEST_WRITABLE;
        let value = Control::from_bits_truncate(value);
        self.control = kept | value & Control::GUEST_WRITABLE;
        let sleep_type = (value & Control::SLEEP_TYPE).bits() >> SLEEP_TYPE_SHIFT;
        let off = value.contains(Control::SLEEP_ENABLE) && sleep_type == SLP_TYP_S5.into();
        off.then_some(Power::Off)
    }

    /// The timer's value.
    pub fn timer(&self) -> u32 {
        (self.tick & ((1 << self.timer_bits) - 1)) as u32
    }

    /// The SMI command port (0) and the byte after it (1).
    pub fn smi(&self, offset: usize) -> u8 {
        self.smi[offset & 1]
    }

    /// Writes the SMI command port (0), which switches ACPI, or the byte after it (1).
    pub fn write_smi(&mut self, offset: usize, value: u8) {
        self.smi[offset & 1] = value;
        match (offset, value) {
            (0, ACPI_ENABLE) => self.control |= Control::SCI_ENABLE,
            (0, ACPI_DISABLE) => self.control &= !Control::SCI_ENABLE,
            _ => {}
        }
    }

    /// Somebody presses the power button. Returns what the machine must do.
    pub fn press_power_button(&mut self) -> Option<Power> {
        self.status |= Events::POWER_BUTTON;
        (!self.control.contains(Control::SCI_ENABLE)).then_some(Power::Off)
    }

    /// The RTC raises its interrupt.
    pub fn rtc_interrupts(&mut self) {
        self.status |= Events::RTC;
    }

    /// The system control interrupt: a level.
    pub fn sci(&self) -> bool {
        self.control.contains(Control::SCI_ENABLE) && self.status.intersects(self.enable)
    }

    /// Lets the timer run up to `now`. A change of its highest bit is an event (4.8.3.3).
    pub fn advance(&mut self, now: Nanos) {
        let before = self.tick;
        self.tick = before.max(now.ticks(PM_TIMER_HZ));
        if self.halves(before) != self.halves(self.tick) {
            self.status |= Events::TIMER;
        }
    }

    /// When the SCI may rise next.
    pub fn deadline(&self) -> Option<Nanos> {
        let waits = self.control.contains(Control::SCI_ENABLE)
            && self.enable.contains(Events::TIMER)
            && !self.status.contains(Events::TIMER);
        let tick = (self.halves(self.tick) + 1) << (self.timer_bits - 1);
        waits.then(|| Nanos::at_tick(tick, PM_TIMER_HZ))
    }

    /// Power-on reset.
    pub fn reset(&mut self) {
        let Self {
            timer_bits,
            tick,
            status: _,
            enable: _,
            control: _,
            smi: _,
        } = *self;
        *self = Self {
            tick,
            ..Self::new(timer_bits)
        };
    }

    /// How often the timer's highest bit has changed.
    fn halves(&self, tick: u64) -> u64 {
        tick >> (self.timer_bits - 1)
    }
}

/// The register core and the wire that it drives. The RTC's wire reaches them without the slot.
struct Fixed {
    line: Line,
    pm: Mutex<Pm>,
}

impl Fixed {
    /// Does something with the registers, and drives the wire as they then say.
    fn with<T>(&self, act: impl FnOnce(&mut Pm) -> T) -> T {
        let mut pm = self.pm.lock().unwrap_or_else(PoisonError::into_inner);
        let result = act(&mut pm);
        self.line.set(pm.sci());
        result
    }
}

/// The RTC's wire where it passes the fixed hardware: its rise is an event (ACPI 6.5, 4.8.4.1.1).
struct RtcTap {
    fixed: Arc<Fixed>,
    onward: Line,
}

impl LineSink for RtcTap {
    fn drive(&self, _driver: u32, level: bool) {
        if level {
            self.fixed.with(Pm::rtc_interrupts);
        }
        self.onward.set(level);
    }
}

/// The fixed hardware on the bus.
pub struct PmPort {
    switch: Arc<PowerSwitch>,
    fixed: Arc<Fixed>,
}

impl PmPort {
    /// PM1a event block: status, enable. Bytes and words.
    pub const EVENT: u8 = 0;
    /// PM1a control. Bytes and words.
    pub const CONTROL: u8 = 1;
    /// Timer. One dword.
    pub const TIMER: u8 = 2;
    /// SMI command and the byte after it. Bytes.
    pub const SMI: u8 = 3;

    /// Fixed hardware that interrupts through `line` and asks `switch` for power.
    pub fn new(line: Line, switch: Arc<PowerSwitch>) -> Self {
        let pm = Mutex::new(Pm::new(PM_TIMER_BITS));
        Self {
            switch,
            fixed: Arc::new(Fixed { line, pm }),
        }
    }

    /// The wire for the RTC to drive, which goes on as `onward`.
    pub fn rtc_wire(&self, onward: Line) -> Line {
        let fixed = self.fixed.clone();
        Line::new(Arc::new(RtcTap { fixed, onward }), 0)
    }

    /// The host presses the power button.
    pub fn press_power_button(&mut self) {
        let power = self.fixed.with(Pm::press_power_button);
        self.ask(power);
    }

    fn ask(&self, power: Option<Power>) {
        if let Some(power) = power {
            self.switch.request(power);
        }
    }
}

impl Pm {
    /// A register as the bus names it.
    fn read_word(&self, region: u8, offset: u64) -> u16 {
        match (region, offset & !1) {
            (PmPort::EVENT, 0) => self.status(),
            (PmPort::EVENT, _) => self.enable(),
            _ => self.control(),
        }
    }

    /// Writes the bits of `mask`: the others are not on the bus.
    fn write_word(&mut self, region: u8, offset: u64, value: u16, mask: u16) -> Option<Power> {
        match (region, offset & !1) {
            (PmPort::EVENT, 0) => self.write_status(value & mask),
            (PmPort::EVENT, _) => self.write_enable(self.enable() & !mask | value & mask),
            _ => {
                let kept = self.control() & !mask;
                return self.write_control(kept | value & mask);
            }
        }
        None
    }
}

/// How far a byte or word at `offset` lies inside its word, and which bits it has.
fn lanes(access: Access) -> (u32, u16) {
    let shift = 8 * (access.offset & 1) as u32;
    let bits = if access.width == Width::Byte {
        0xff
    } else {
        0xffff
    };
    (shift, bits << shift)
}

impl Device for PmPort {
    fn read(&mut self, access: Access) -> u64 {
        self.fixed.with(|pm| {
            pm.advance(access.now);
            match access.region {
                Self::TIMER => pm.timer().into(),
                Self::SMI => pm.smi(access.offset as usize).into(),
                region => {
                    let (shift, mask) = lanes(access);
                    u64::from((pm.read_word(region, access.offset) & mask) >> shift)
                }
            }
        })
    }

    fn write(&mut self, access: Access, value: u64) {
        let power = self.fixed.with(|pm| {
            pm.advance(access.now);
            match access.region {
                Self::TIMER => None,
                Self::SMI => {
                    pm.write_smi(access.offset as usize, value as u8);
                    None
                }
                region => {
                    let (shift, mask) = lanes(access);
                    pm.write_word(region, access.offset, (value as u16) << shift, mask)
                }
            }
        });
        self.ask(power);
    }

    fn deadline(&self) -> Option<Nanos> {
        self.fixed.with(|pm| pm.deadline())
    }

    fn advance(&mut self, now: Nanos) {
        self.fixed.with(|pm| pm.advance(now));
    }

    fn reset(&mut self) {
        self.fixed.with(Pm::reset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S5: u16 = (SLP_TYP_S5 as u16) << 10;
    const SLP_EN: u16 = 1 << 13;

    fn port() -> (PmPort, Arc<PowerSwitch>) {
        let switch = Arc::new(PowerSwitch::new(|| {}));
        (PmPort::new(Line::loose(), switch.clone()), switch)
    }

    fn access(region: u8, offset: u64, width: Width, now: u64) -> Access {
        Access {
            region,
            offset,
            width,
            now: Nanos(now),
        }
    }

    fn second(seconds: u64) -> Nanos {
        Nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn acpi_is_switched_through_the_smi_port() {
        let mut pm = Pm::new(32);
        assert_eq!(pm.control(), 0);
        pm.write_smi(0, ACPI_ENABLE);
        assert_eq!((pm.control(), pm.smi(0)), (1, ACPI_ENABLE));
        pm.write_smi(1, ACPI_DISABLE);
        assert_eq!((pm.control(), pm.smi(1)), (1, ACPI_DISABLE));
        pm.write_control(0);
        assert_eq!(pm.control(), 1, "not by the guest directly");
        pm.write_smi(0, ACPI_DISABLE);
        assert_eq!(pm.control(), 0);
    }

    #[test]
    fn only_s5_with_slp_en_powers_off() {
        let mut pm = Pm::new(32);
        assert_eq!(pm.write_control(S5), None);
        assert_eq!(pm.control(), S5);
        assert_eq!(pm.write_control(SLP_EN | 1 << 10), None);
        assert_eq!(pm.write_control(SLP_EN | S5), Some(Power::Off));
        assert_eq!(pm.control(), S5, "SLP_EN is write only");
    }

    #[test]
    fn the_power_button_is_an_event_under_acpi_and_off_without() {
        let mut pm = Pm::new(32);
        assert_eq!(pm.press_power_button(), Some(Power::Off));
        pm.write_status(0xffff);
        pm.write_smi(0, ACPI_ENABLE);
        assert_eq!(pm.press_power_button(), None);
        assert_eq!((pm.status(), pm.sci()), (0x100, false));
        pm.write_enable(0x100);
        assert!(pm.sci());
        pm.write_status(0x001);
        assert!(pm.sci());
        pm.write_status(0x100);
        assert!(!pm.sci());
    }

    #[test]
    fn the_timer_runs_at_its_rate_and_wraps() {
        for (bits, wrap) in [(24, 1 << 24), (32, 1u64 << 32)] {
            let mut pm = Pm::new(bits);
            pm.advance(second(1));
            assert_eq!(pm.timer(), 3_579_545);
            pm.advance(Nanos::at_tick(wrap - 1, PM_TIMER_HZ));
            assert_eq!(u64::from(pm.timer()), wrap - 1);
            pm.advance(Nanos::at_tick(wrap, PM_TIMER_HZ));
            assert_eq!(pm.timer(), 0);
            pm.advance(second(0));
            assert_eq!(pm.timer(), 0, "and never back");
        }
    }

    #[test]
    fn the_timer_tells_when_its_highest_bit_changes() {
        let mut pm = Pm::new(24);
        pm.write_enable(1);
        assert_eq!(pm.deadline(), None);
        pm.write_smi(0, ACPI_ENABLE);
        for half in 1..5 {
            let due = Nanos::at_tick(half << 23, PM_TIMER_HZ);
            assert_eq!(pm.deadline(), Some(due));
            pm.advance(Nanos(due.0 - 1));
            assert!(!pm.sci());
            pm.advance(due);
            assert_eq!((pm.sci(), pm.deadline()), (true, None));
            pm.write_status(1);
            assert!(!pm.sci());
        }
    }

    #[test]
    fn unwritable_enable_bits_stay_zero() {
        let mut pm = Pm::new(32);
        pm.write_enable(0xffff);
        assert_eq!(pm.enable(), 0x0521);
        pm.write_control(0xdfff);
        assert_eq!(pm.control(), 0x1c02);
    }

    #[test]
    fn bytes_reach_their_half_of_a_word_only() {
        let (mut port, switch) = port();
        port.write(access(PmPort::SMI, 0, Width::Byte, 0), ACPI_ENABLE.into());
        port.press_power_button();
        port.write(access(PmPort::EVENT, 3, Width::Byte, 0), 1);
        assert!(port.fixed.line.level());
        port.write(access(PmPort::EVENT, 2, Width::Byte, 0), 0x21);
        assert_eq!(port.read(access(PmPort::EVENT, 2, Width::Word, 0)), 0x121);
        port.write(access(PmPort::EVENT, 0, Width::Byte, 0), 0xff);
        assert_eq!(port.read(access(PmPort::EVENT, 1, Width::Byte, 0)), 1);
        port.write(access(PmPort::EVENT, 1, Width::Byte, 0), 0xff);
        assert!(!port.fixed.line.level());
        let high = (S5 | SLP_EN) >> 8;
        port.write(access(PmPort::CONTROL, 1, Width::Byte, 0), high.into());
        assert_eq!(switch.take(), Some(Power::Off));
    }

    #[test]
    fn the_rtcs_rise_is_an_event_and_goes_on() {
        let (mut port, _) = port();
        let tap = RtcTap {
            fixed: port.fixed.clone(),
            onward: Line::loose(),
        };
        port.write(access(PmPort::SMI, 0, Width::Byte, 0), ACPI_ENABLE.into());
        port.write(access(PmPort::EVENT, 2, Width::Word, 0), 1 << 10);
        tap.drive(0, true);
        assert!(tap.onward.level() && port.fixed.line.level());
        tap.drive(0, false);
        assert!(!tap.onward.level(), "the wire follows");
        assert!(port.fixed.line.level(), "the event stays");
        port.write(access(PmPort::EVENT, 0, Width::Word, 0), 1 << 10);
        assert!(!port.fixed.line.level());
        port.write(access(PmPort::EVENT, 2, Width::Word, 0), 0);
        tap.drive(0, true);
        assert_eq!(port.read(access(PmPort::EVENT, 0, Width::Word, 0)), 1 << 10);
        assert!(!port.fixed.line.level(), "not enabled");
    }

    #[test]
    fn reset_turns_acpi_off_and_keeps_the_timer() {
        let (mut port, _) = port();
        port.write(access(PmPort::SMI, 0, Width::Byte, 1_000_000_000), 0xa0);
        port.reset();
        assert_eq!(port.read(access(PmPort::CONTROL, 0, Width::Word, 0)), 0);
        assert_eq!(
            port.read(access(PmPort::TIMER, 0, Width::Dword, 0)),
            3_579_545
        );
    }

    proptest! {
        /// Nothing panics; the wire is what the core says; deadlines lie ahead.
        #[test]
        fn any_sequence_is_harmless(
            ops in prop::collection::vec((any::<bool>(), 0u8..4, 0u64..4, any::<u16>(), any::<u64>()), 0..100),
        ) {
            let (mut port, _) = port();
            let mut latest = 0;
            for (write, region, offset, value, now) in ops {
                latest = latest.max(now);
                let width = if offset & 1 == 0 { Width::Word } else { Width::Byte };
                let access = access(region, offset, width, now);
                if write {
                    port.write(access, u64::from(value) & width.ones());
                } else {
                    port.read(access);
                }
                prop_assert_eq!(port.fixed.line.level(), port.fixed.with(|pm| pm.sci()));
                prop_assert!(port.deadline().is_none_or(|at| at.0 > latest || at.0 == u64::MAX));
            }
        }
    }
}
