//! A counter of the 8254 as the data sheet tells it, clock by clock: the oracle for the closed form.

use proptest::prelude::*;

use super::counter::Counter;

/// Binary, both bytes. Counts in modes 2 and 3 are at least two.
struct Model {
    mode: u8,
    gate: bool,
    out: bool,
    count: u32,
    written: bool,
    ce: u32,
    odd: bool,
    running: bool,
    armed: bool,
    load: bool,
    strobing: bool,
}

impl Model {
    fn new(gate: bool) -> Self {
        Self {
            mode: 0,
            gate,
            out: false,
            count: 0,
            written: false,
            ce: 0,
            odd: false,
            running: false,
            armed: false,
            load: false,
            strobing: false,
        }
    }

    fn program(&mut self, mode: u8) {
        *self = Self {
            mode,
            out: mode != 0,
            ce: self.ce,
            ..Self::new(self.gate)
        };
    }

    fn write(&mut self, count: u32) {
        let fresh = !self.written;
        self.count = count;
        self.written = true;
        match self.mode {
            0 => {
                // The first of the two bytes stops the counting.
                self.out = false;
                self.running = false;
                self.load = true;
            }
            4 => self.load = true,
            2 | 3 => self.load |= fresh,
            _ => {}
        }
    }

    fn set_gate(&mut self, gate: bool) {
        let rising = gate && !self.gate;
        self.gate = gate;
        if rising && self.mode != 0 && self.mode != 4 && self.written {
            self.load = true;
        }
        if !gate && (self.mode == 2 || self.mode == 3) {
            self.out = true;
            self.running = false;
        }
    }

    fn clock(&mut self) {
        if self.strobing {
            self.strobing = false;
            self.out = true;
        }
        if self.load {
            self.load = false;
            self.running = true;
            self.armed = true;
            self.reload();
            if self.mode == 1 {
                self.out = false;
            }
            return;
        }
        let held = !self.gate && matches!(self.mode, 0 | 2 | 3 | 4);
        if !self.running || held {
            return;
        }
        match self.mode {
            2 => self.clock_rate(),
            3 => self.clock_square(),
            _ => self.clock_once(),
        }
    }

    fn reload(&mut self) {
        self.odd = self.mode == 3 && self.count & 1 != 0;
        self.ce = if self.odd { self.count - 1 } else { self.count };
    }

    fn clock_once(&mut self) {
        self.ce = if self.ce == 0 { 0xffff } else { self.ce - 1 };
        if self.ce == 0 && self.armed {
            self.armed = false;
            self.out = self.mode < 4;
            self.strobing = self.mode >= 4;
        }
    }

    fn clock_rate(&mut self) {
        self.ce -= 1;
        if self.ce == 0 {
            self.reload();
            self.out = true;
        } else if self.ce == 1 {
            self.out = false;
        }
    }

    fn clock_square(&mut self) {
        let last_of_odd = self.odd && self.out;
        if self.ce == 0 || self.ce == 2 && !last_of_odd {
            self.reload();
            self.out = !self.out;
        } else {
            self.ce -= 2;
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Program(u8),
    Count(u16),
    Gate(bool),
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => (0u8..8).prop_map(Op::Program),
        2 => prop_oneof![2u16..12, Just(0), Just(0xffff)].prop_map(Op::Count),
        2 => any::<bool>().prop_map(Op::Gate),
        4 => prop_oneof![0u64..8, 0u64..40, Just(0x1_0001), 0u64..200_000].prop_map(Op::Wait),
    ]
}

fn run(ops: Vec<Op>, stride: u64) -> Result<(), TestCaseError> {
    let (mut counter, mut model) = (Counter::new(true), Model::new(true));
    let mut now = 0;
    for op in ops {
        match op {
            Op::Program(mode) => {
                counter.program(now, 0x30 | mode << 1);
                model.program(if mode > 5 { mode - 4 } else { mode });
            }
            Op::Count(count) => {
                counter.write(now, count as u8);
                counter.write(now, (count >> 8) as u8);
                model.write(if count == 0 { 0x1_0000 } else { count.into() });
            }
            Op::Gate(gate) => {
                counter.set_gate(now, gate);
                model.set_gate(gate);
            }
            Op::Wait(ticks) => {
                for i in 1..=ticks {
                    now += 1;
                    model.clock();
                    if i % stride == 0 || i == ticks {
                        counter.run_to(now);
                        prop_assert_eq!(counter.out(), model.out, "OUT at {}", now);
                    }
                }
            }
        }
        if model.written {
            let value = u32::from(counter.read(now)) | u32::from(counter.read(now)) << 8;
            prop_assert_eq!(value, model.ce & 0xffff, "count at {} {}", now, model.mode);
        }
    }
    Ok(())
}

proptest! {
    /// Looked at after every clock, the closed form equals the data sheet.
    #[test]
    fn every_clock_equals_the_model(ops in prop::collection::vec(op(), 1..30)) {
        run(ops, 1)?;
    }

    /// Looked at rarely, it arrives at the same place.
    #[test]
    fn late_looks_equal_the_model(ops in prop::collection::vec(op(), 1..30)) {
        run(ops, 997)?;
    }

    /// The rise of OUT is never before the time announced for it.
    #[test]
    fn no_rise_comes_unannounced(ops in prop::collection::vec(op(), 1..30)) {
        let mut counter = Counter::new(true);
        let mut now = 0;
        for op in ops {
            match op {
                Op::Program(mode) => counter.program(now, 0x30 | mode << 1),
                Op::Count(count) => {
                    counter.write(now, count as u8);
                    counter.write(now, (count >> 8) as u8);
                }
                Op::Gate(gate) => counter.set_gate(now, gate),
                Op::Wait(ticks) => {
                    counter.take_rise();
                    let announced = counter.next_rise();
                    now += ticks;
                    counter.run_to(now);
                    if counter.take_rise() {
                        prop_assert!(announced.is_some_and(|at| at <= now));
                    }
                }
            }
        }
    }
}
