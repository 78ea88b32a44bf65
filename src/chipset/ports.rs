//! The small ports of a PC's chipset that are too small for a chip of their own: reset control (0xcf9), system control
//! port A (0x92), the keyboard controller's reset command (0x64), power-on self-test codes (0x80) and the delay port
//! (0xed).
//!
//! There is no keyboard controller: its ports read as ones, which drivers take for "absent", but the command that
//! pulses the processor's reset pin works, since kernels use it to restart. Address line 20 is never masked.

use std::sync::Arc;

use super::power::{Power, PowerSwitch};
use crate::bus::{Access, Device};

/// Reset control register, RW (Intel 82371AB, 4.2.7).
mod reset_control {
    /// Hard rather than soft reset: the same here.
    pub(super) const SYSTEM: u8 = 1 << 1;
    /// A change from 0 to 1 resets.
    pub(super) const CPU: u8 = 1 << 2;
    /// With a power cycle: the same here.
    pub(super) const FULL: u8 = 1 << 3;
    pub(super) const WRITABLE: u8 = SYSTEM | CPU | FULL;
}

/// System control port A, RW (Intel 82371AB, 4.2.6.2).
mod control_a {
    /// A change from 0 to 1 resets the processors.
    pub(super) const FAST_RESET: u8 = 1 << 0;
    /// Address line 20 is on: always.
    pub(super) const A20: u8 = 1 << 1;
}

/// What nobody drives.
const UNDRIVEN: u64 = 0xff;

/// The ports on the bus, one region each.
pub struct Ports {
    // Wire.
    switch: Arc<PowerSwitch>,
    // State.
    reset_control: u8,
    control_a: u8,
    post: u8,
}

impl Ports {
    /// Reset control: port 0xcf9.
    pub const RESET_CONTROL: u8 = 0;
    /// System control port A: port 0x92.
    pub const SYSTEM_CONTROL_A: u8 = 1;
    /// Keyboard controller's status and command: port 0x64.
    pub const I8042_COMMAND: u8 = 2;
    /// Keyboard controller's data: port 0x60.
    pub const I8042_DATA: u8 = 3;
    /// Self-test codes: port 0x80.
    pub const POST: u8 = 4;
    /// Delay: port 0xed.
    pub const DELAY: u8 = 5;

    /// Ports that ask `switch` for resets.
    pub fn new(switch: Arc<PowerSwitch>) -> Self {
        Self {
            switch,
            reset_control: 0,
            control_a: 0,
            post: 0,
        }
    }

    /// Stores `value` in `register` and resets if `bit` has risen.
    fn rising(switch: &PowerSwitch, register: &mut u8, value: u8, bit: u8) {
        let rises = value & !*register & bit != 0;
        *register = value;
        if rises {
            switch.request(Power::Reset);
        }
    }
}

/// Keyboard controller commands 0xf0 to 0xff pulse the output pins whose bits are zero; pin 0 is the reset.
fn pulses_reset(command: u8) -> bool {
    command & 0xf1 == 0xf0
}

impl Device for Ports {
    fn read(&mut self, access: Access) -> u64 {
        match access.region {
            Self::RESET_CONTROL => self.reset_control.into(),
            Self::SYSTEM_CONTROL_A => u64::from(self.control_a | control_a::A20),
            Self::POST => self.post.into(),
            _ => UNDRIVEN,
        }
    }

    fn write(&mut self, access: Access, value: u64) {
        let value = value as u8;
        match access.region {
            Self::RESET_CONTROL => Self::rising(
                &self.switch,
                &mut self.reset_control,
                value & reset_control::WRITABLE,
                reset_control::CPU,
            ),
            Self::SYSTEM_CONTROL_A => Self::rising(
                &self.switch,
                &mut self.control_a,
                value,
                control_a::FAST_RESET,
            ),
            Self::I8042_COMMAND if pulses_reset(value) => self.switch.request(Power::Reset),
            Self::POST => self.post = value,
            _ => {}
        }
    }

    fn reset(&mut self) {
        let Self {
            switch: _,
            reset_control,
            control_a,
            post,
        } = self;
        (*reset_control, *control_a, *post) = (0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::{Nanos, Width};
    use proptest::prelude::*;

    fn ports() -> (Ports, Arc<PowerSwitch>) {
        let switch = Arc::new(PowerSwitch::new(|| {}));
        (Ports::new(switch.clone()), switch)
    }

    fn port(region: u8) -> Access {
        Access {
            region,
            offset: 0,
            width: Width::Byte,
            now: Nanos(0),
        }
    }

    #[test]
    fn reset_control_resets_when_its_cpu_bit_rises() {
        let (mut ports, switch) = ports();
        ports.write(port(Ports::RESET_CONTROL), 0xf2);
        assert_eq!(
            (ports.read(port(Ports::RESET_CONTROL)), switch.take()),
            (2, None)
        );
        ports.write(port(Ports::RESET_CONTROL), 0x06);
        assert_eq!(switch.take(), Some(Power::Reset));
        ports.write(port(Ports::RESET_CONTROL), 0x0e);
        assert_eq!(switch.take(), None, "it was up already");
        ports.reset();
        ports.write(port(Ports::RESET_CONTROL), 0x0e);
        assert_eq!(switch.take(), Some(Power::Reset));
    }

    #[test]
    fn port_92_resets_and_keeps_a20_on() {
        let (mut ports, switch) = ports();
        ports.write(port(Ports::SYSTEM_CONTROL_A), 0x00);
        assert_eq!(ports.read(port(Ports::SYSTEM_CONTROL_A)), 0x02);
        assert_eq!(switch.take(), None);
        ports.write(port(Ports::SYSTEM_CONTROL_A), 0x01);
        assert_eq!(switch.take(), Some(Power::Reset));
    }

    #[test]
    fn the_keyboard_controller_is_absent_but_resets() {
        let (mut ports, switch) = ports();
        assert_eq!(ports.read(port(Ports::I8042_COMMAND)), 0xff);
        assert_eq!(ports.read(port(Ports::I8042_DATA)), 0xff);
        for command in [0xaa, 0xd1, 0xff, 0xf1] {
            ports.write(port(Ports::I8042_COMMAND), command);
            assert_eq!(switch.take(), None);
        }
        for command in [0xfe, 0xf0] {
            ports.write(port(Ports::I8042_COMMAND), command);
            assert_eq!(switch.take(), Some(Power::Reset));
        }
    }

    #[test]
    fn self_test_codes_are_kept_and_delays_are_nothing() {
        let (mut ports, switch) = ports();
        ports.write(port(Ports::POST), 0x42);
        ports.write(port(Ports::DELAY), 0x42);
        assert_eq!(ports.read(port(Ports::POST)), 0x42);
        assert_eq!(
            (ports.read(port(Ports::DELAY)), switch.take()),
            (0xff, None)
        );
    }

    proptest! {
        #[test]
        fn any_sequence_is_harmless(ops in prop::collection::vec((any::<bool>(), any::<u8>(), any::<u8>()), 0..100)) {
            let (mut ports, switch) = ports();
            for (write, region, value) in ops {
                if write {
                    ports.write(port(region), value.into());
                } else {
                    prop_assert!(ports.read(port(region)) <= 0xff);
                }
                prop_assert_ne!(switch.take(), Some(Power::Off));
            }
        }
    }
}
