//! Intel 8254 programmable interval timer (order 231164-005) with the NMI status and control port of a PC/AT (port 0x61),
//! which gates counter 2 and shows its output.
//!
//! All six modes, binary and BCD, counter latch and read-back. The input clock's ticks are computed exactly from the
//! machine's time. A count of one in modes 2 and 3, which the data sheet forbids, leaves OUT high. Where time is
//! late by more than a period, the missed rises of counter 0 become one, and a fall may show late on the wire, so that
//! an edge is never lost to an interrupt controller that wants its request held.
//!
//! Not modelled: the speaker's sound, and the parity and channel-check NMIs, which this machine cannot have. Counter 1
//! refreshes nothing; the refresh bit of port 0x61 toggles as if it ran at its usual 18 clocks.

mod counter;
#[cfg(test)]
mod model;

use counter::Counter;

use crate::bus::{Access, Device, Line, Nanos};
use crate::layout::PIT_HZ;

/// The control word register, WO (231164-005, "Control Word Format").
mod control {
    /// SC1 and SC0: which counter.
    pub(super) fn counter(word: u8) -> usize {
        usize::from(word >> 6)
    }
    /// SC1:0 of the read-back command.
    pub(super) const READ_BACK: usize = 3;
    /// RW1:0; zero is the counter latch command.
    pub(super) const BYTES: u8 = 3 << 4;
    /// Read-back: a zero latches the count.
    pub(super) const NO_COUNT: u8 = 1 << 5;
    /// Read-back: a zero latches the status.
    pub(super) const NO_STATUS: u8 = 1 << 4;
    /// Read-back: a one selects this counter.
    pub(super) fn selects(word: u8, counter: usize) -> bool {
        word >> (counter + 1) & 1 != 0
    }
}

/// Port 0x61, "NMI Status and Control" (Intel 82371AB, 4.2.6.1).
mod nmi {
    /// RW: gate of counter 2.
    pub(super) const GATE: u8 = 1 << 0;
    /// RW: speaker, and the enables (active low) of the two NMIs.
    pub(super) const KEPT: u8 = 0x0e;
    /// RO: toggles with each refresh cycle.
    pub(super) const REFRESH: u8 = 1 << 4;
    /// RO: output of counter 2.
    pub(super) const OUT: u8 = 1 << 5;
    /// Clocks between two refresh cycles: 15.1 us.
    pub(super) const REFRESH_CLOCKS: u64 = 18;
}

/// What a read of the write-only control word register gives.
const UNDRIVEN: u8 = 0xff;

/// The register core. Its time only goes forward.
#[derive(Clone, Debug)]
pub struct Pit {
    tick: u64,
    counters: [Counter; 3],
    nmi_kept: u8,
}

impl Pit {
    /// The chip after power-on: nothing counts.
    pub fn new() -> Self {
        Self {
            tick: 0,
            counters: [true, true, false].map(Counter::new),
            nmi_kept: 0,
        }
    }

    /// Reads port 0x40 + `offset`.
    pub fn read(&mut self, now: Nanos, offset: u8) -> u8 {
        let tick = self.tick(now);
        match self.counters.get_mut(usize::from(offset)) {
            Some(counter) => counter.read(tick),
            None => UNDRIVEN,
        }
    }

    /// Writes port 0x40 + `offset`.
    pub fn write(&mut self, now: Nanos, offset: u8, value: u8) {
        let tick = self.tick(now);
        match self.counters.get_mut(usize::from(offset)) {
            Some(counter) => counter.write(tick, value),
            None => self.control(tick, value),
        }
    }

    /// Reads port 0x61.
    pub fn read_nmi(&mut self, now: Nanos) -> u8 {
        let tick = self.tick(now);
        let counter = &mut self.counters[2];
        counter.run_to(tick);
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        bit(counter.gate(), nmi::GATE)
            | self.nmi_kept
            | bit(tick / nmi::REFRESH_CLOCKS & 1 != 0, nmi::REFRESH)
            | bit(counter.out(), nmi::OUT)
    }

    /// Writes port 0x61.
    pub fn write_nmi(&mut self, now: Nanos, value: u8) {
        let tick = self.tick(now);
        self.counters[2].set_gate(tick, value & nmi::GATE != 0);
        self.nmi_kept = value & nmi::KEPT;
    }

    /// Counter 0's output, and whether it has risen since this was last asked.
    pub fn out0(&mut self, now: Nanos) -> (bool, bool) {
        let tick = self.tick(now);
        let counter = &mut self.counters[0];
        counter.run_to(tick);
        (counter.out(), counter.take_rise())
    }

    /// When counter 0's output may rise next.
    pub fn deadline(&self) -> Option<Nanos> {
        let tick = self.counters[0].next_rise()?;
        Some(Nanos::at_tick(tick, PIT_HZ))
    }

    /// Power-on reset. The clock goes on.
    pub fn reset(&mut self) {
        let Self {
            tick,
            counters: _,
            nmi_kept: _,
        } = *self;
        *self = Self {
            tick,
            ..Self::new()
        };
    }

    fn control(&mut self, tick: u64, word: u8) {
        let selected = control::counter(word);
        if selected == control::READ_BACK {
            return self.read_back(tick, word);
        }
        let counter = &mut self.counters[selected];
        if word & control::BYTES == 0 {
            counter.latch_count(tick);
        } else {
            counter.program(tick, word);
        }
    }

    fn read_back(&mut self, tick: u64, word: u8) {
        for (i, counter) in self.counters.iter_mut().enumerate() {
            if control::selects(word, i) {
                if word & control::NO_COUNT == 0 {
                    counter.latch_count(tick);
                }
                if word & control::NO_STATUS == 0 {
                    counter.latch_status(tick);
                }
            }
        }
    }

    fn tick(&mut self, now: Nanos) -> u64 {
        self.tick = self.tick.max(now.ticks(PIT_HZ));
        self.tick
    }
}

impl Default for Pit {
    fn default() -> Self {
        Self::new()
    }
}

/// The chip on the bus: region `PitPort::COUNTERS` is ports 0x40 to 0x43, region `PitPort::NMI` is port 0x61.
pub struct PitPort {
    line: Line,
    pit: Pit,
}

impl PitPort {
    /// Counters and control word.
    pub const COUNTERS: u8 = 0;
    /// NMI status and control.
    pub const NMI: u8 = 1;

    /// A timer whose counter 0 drives `line`.
    pub fn new(line: Line) -> Self {
        let pit = Pit::new();
        Self { line, pit }
    }

    fn sync(&mut self, now: Nanos) {
        let (out, rose) = self.pit.out0(now);
        if rose {
            self.line.set(false);
        }
        self.line.set(out || rose);
    }
}

impl Device for PitPort {
    fn read(&mut self, access: Access) -> u64 {
        let value = match access.region {
            Self::COUNTERS => self.pit.read(access.now, access.offset as u8),
            _ => self.pit.read_nmi(access.now),
        };
        self.sync(access.now);
        value.into()
    }

    fn write(&mut self, access: Access, value: u64) {
        match access.region {
            Self::COUNTERS => self.pit.write(access.now, access.offset as u8, value as u8),
            _ => self.pit.write_nmi(access.now, value as u8),
        }
        self.sync(access.now);
    }

    fn deadline(&self) -> Option<Nanos> {
        self.pit.deadline()
    }

    fn advance(&mut self, now: Nanos) {
        self.sync(now);
    }

    fn reset(&mut self) {
        self.pit.reset();
        self.line.set(false);
    }
}

#[cfg(test)]
mod tests;
