//! The guest's time-stamp counter is the host's plus an offset, and machine time is what devices count: the exchange
//! between the two.

use crate::bus::{Nanos, Width};
use crate::cpu::io::Io;
use crate::x86::msr;

/// The machine, with the host's time-stamp counter as its clock. So the software CPU computes with ticks wherever it
/// computes with the TSC, and deadlines become machine time on their way to the LAPIC.
pub(super) struct Ticking<'a> {
    pub io: &'a mut dyn Io,
    /// The host's counter now.
    pub tsc: u64,
    /// How fast it counts.
    pub hz: u64,
}

impl Ticking<'_> {
    /// The machine time at which the host's counter stands at `tick`.
    fn machine_time(&mut self, tick: u64) -> u64 {
        let now = self.io.now();
        match tick.checked_sub(self.tsc) {
            Some(ahead) => (now + Nanos::at_tick(ahead, self.hz).0).0,
            None => now.0 - Nanos::at_tick(self.tsc - tick, self.hz).0.min(now.0),
        }
    }

    /// The other way round.
    fn tick(&mut self, time: u64) -> u64 {
        let now = self.io.now().0;
        match time.checked_sub(now) {
            Some(ahead) => self.tsc.saturating_add(Nanos(ahead).ticks(self.hz)),
            None => self.tsc.saturating_sub(Nanos(now - time).ticks(self.hz)),
        }
    }
}

impl Io for Ticking<'_> {
    fn port_read(&mut self, port: u16, width: Width) -> u32 {
        self.io.port_read(port, width)
    }

    fn port_write(&mut self, port: u16, width: Width, value: u32) {
        self.io.port_write(port, width, value);
    }

    fn mmio_read(&mut self, gpa: u64, width: Width) -> u64 {
        self.io.mmio_read(gpa, width)
    }

    fn mmio_write(&mut self, gpa: u64, width: Width, value: u64) {
        self.io.mmio_write(gpa, width, value);
    }

    fn msr_read(&mut self, number: u32) -> Option<u64> {
        let value = self.io.msr_read(number)?;
        Some(match number {
            msr::TSC_DEADLINE if value != 0 => self.tick(value).max(1),
            _ => value,
        })
    }

    fn msr_write(&mut self, number: u32, value: u64) -> Option<()> {
        let value = match number {
            msr::TSC_DEADLINE if value != 0 => self.machine_time(value).max(1),
            _ => value,
        };
        self.io.msr_write(number, value)
    }

    fn cr8(&mut self) -> u64 {
        self.io.cr8()
    }

    fn set_cr8(&mut self, tpr: u64) {
        self.io.set_cr8(tpr);
    }

    fn now(&mut self) -> Nanos {
        Nanos(self.tsc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine that keeps the deadline, at a time of its own.
    #[derive(Default)]
    struct Timer {
        now: u64,
        deadline: u64,
    }

    impl Io for Timer {
        fn port_read(&mut self, _: u16, _: Width) -> u32 {
            0
        }
        fn port_write(&mut self, _: u16, _: Width, _: u32) {}
        fn mmio_read(&mut self, _: u64, _: Width) -> u64 {
            0
        }
        fn mmio_write(&mut self, _: u64, _: Width, _: u64) {}
        fn msr_read(&mut self, _: u32) -> Option<u64> {
            Some(self.deadline)
        }
        fn msr_write(&mut self, _: u32, value: u64) -> Option<()> {
            self.deadline = value;
            Some(())
        }
        fn cr8(&mut self) -> u64 {
            0
        }
        fn set_cr8(&mut self, _: u64) {}
        fn now(&mut self) -> Nanos {
            Nanos(self.now)
        }
    }

    #[test]
    fn deadlines_are_ticks_for_the_guest_and_nanoseconds_for_the_timer() {
        let mut timer = Timer {
            now: 5_000,
            deadline: 0,
        };
        let mut io = Ticking {
            io: &mut timer,
            tsc: 1_000_000,
            hz: 2_500_000_000,
        };
        assert_eq!(io.msr_read(msr::TSC_DEADLINE), Some(0), "none");
        for (tick, ns) in [(1_002_500, 6_000), (1_000_000, 5_000), (997_500, 4_000)] {
            io.msr_write(msr::TSC_DEADLINE, tick);
            assert_eq!(io.io.msr_read(0), Some(ns));
            assert_eq!(io.msr_read(msr::TSC_DEADLINE), Some(tick));
        }
        io.msr_write(msr::TSC_DEADLINE, 1);
        assert_eq!(io.io.msr_read(0), Some(1), "before the machine was");
        io.msr_write(msr::TSC_DEADLINE, u64::MAX);
        assert!(io.io.msr_read(0) > Some(1 << 60), "never");
        io.msr_write(msr::TSC_DEADLINE, 0);
        assert_eq!(io.io.msr_read(0), Some(0), "off");
        assert_eq!(io.now(), Nanos(1_000_000));
    }
}
