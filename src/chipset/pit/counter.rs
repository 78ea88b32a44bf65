//! One counter of the 8254: six modes in closed form.
//!
//! Time is a count of input clocks. Between two events (a load, a terminal count, the end of a strobe) the counting
//! element falls by a fixed step with each clock, so that it is computed and never stepped; whole periods are skipped.

/// Input clocks since the machine's time began.
type Tick = u64;

/// How a counter's bytes are accessed: RW1 and RW0 of the control word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bytes {
    Low,
    High,
    Both,
}

/// M2 to M0 of the control word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Mode 0.
    TerminalCount,
    /// Mode 1.
    OneShot,
    /// Mode 2.
    Rate,
    /// Mode 3.
    Square,
    /// Mode 4.
    SoftwareStrobe,
    /// Mode 5.
    HardwareStrobe,
}

impl Mode {
    /// Modes 2 and 3 have two codes each.
    fn decode(control: u8) -> Self {
        match control >> 1 & 7 {
            0 => Self::TerminalCount,
            1 => Self::OneShot,
            2 | 6 => Self::Rate,
            3 | 7 => Self::Square,
            4 => Self::SoftwareStrobe,
            _ => Self::HardwareStrobe,
        }
    }

    fn is_periodic(self) -> bool {
        matches!(self, Self::Rate | Self::Square)
    }

    /// Whether a low gate holds the counting, rather than only its rising edge counting as a trigger.
    fn is_held_by_gate(self) -> bool {
        !matches!(self, Self::OneShot | Self::HardwareStrobe)
    }
}

/// The part of a control word that a counter keeps and shows in its status: RW, mode and BCD.
const CONTROL: u8 = 0x3f;
const BCD: u8 = 1;
/// Status bits above those.
const STATUS_OUT: u8 = 1 << 7;
const STATUS_NULL: u8 = 1 << 6;
/// Power-on, which the data sheet leaves undefined: both bytes, mode 0, binary.
const POWER_ON: u8 = 0x30;

/// One counter.
#[derive(Clone, Debug)]
pub(super) struct Counter {
    // Wire: survives a reset.
    gate: bool,
    // State.
    control: u8,
    /// The count register: 1 to 65536 (10000 in BCD).
    count: u32,
    /// Whether a whole count has been written since the control word.
    written: bool,
    /// The first of two bytes being written.
    first: Option<u8>,
    /// The counting element's value at `since`, and whether it falls from there on.
    element: u32,
    since: Tick,
    counting: bool,
    /// The count that the running period uses: that of the last load.
    loaded: u32,
    /// The terminal count is still ahead (not in the periodic modes).
    armed: bool,
    load_at: Option<Tick>,
    strobe_end: Option<Tick>,
    null: bool,
    out: bool,
    /// OUT has risen since `take_rise`.
    rose: bool,
    latched_status: Option<u8>,
    latched_count: Option<u16>,
    read_high: bool,
}

impl Counter {
    pub(super) fn new(gate: bool) -> Self {
        Self {
            gate,
            control: POWER_ON,
            count: 0x1_0000,
            written: false,
            first: None,
            element: 0,
            since: 0,
            counting: false,
            loaded: 0x1_0000,
            armed: false,
            load_at: None,
            strobe_end: None,
            null: true,
            out: false,
            rose: false,
            latched_status: None,
            latched_count: None,
            read_high: false,
        }
    }

    pub(super) fn out(&self) -> bool {
        self.out
    }

    pub(super) fn gate(&self) -> bool {
        self.gate
    }

    /// Whether OUT has risen since this was last asked.
    pub(super) fn take_rise(&mut self) -> bool {
        std::mem::take(&mut self.rose)
    }

    /// The control word: stops the counter until a count is written.
    pub(super) fn program(&mut self, now: Tick, control: u8) {
        self.run_to(now);
        let element = self.current(now);
        let (gate, out, rose) = (self.gate, self.out, self.rose);
        *self = Self {
            control: control & CONTROL,
            element,
            since: now,
            out,
            rose,
            ..Self::new(gate)
        };
        self.drive(self.mode() != Mode::TerminalCount);
    }

    /// Writes a byte of the count.
    pub(super) fn write(&mut self, now: Tick, byte: u8) {
        self.run_to(now);
        let word = match (self.bytes(), self.first.take()) {
            (Bytes::Low, _) => u16::from(byte),
            (Bytes::High, _) => u16::from(byte) << 8,
            (Bytes::Both, Some(low)) => u16::from(byte) << 8 | u16::from(low),
            (Bytes::Both, None) => {
                self.first = Some(byte);
                if self.mode() == Mode::TerminalCount {
                    self.hold(now);
                    self.load_at = None;
                    self.drive(false);
                }
                return;
            }
        };
        self.set_count(now, word);
    }

    /// Reads a latched status, a latched count or the counting element, byte by byte.
    pub(super) fn read(&mut self, now: Tick) -> u8 {
        self.run_to(now);
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let word = self.latched_count.unwrap_or_else(|| self.word(now));
        let high = match self.bytes() {
            Bytes::Low => false,
            Bytes::High => true,
            Bytes::Both => {
                self.read_high = !self.read_high;
                !self.read_high
            }
        };
        if !self.read_high {
            self.latched_count = None;
        }
        (if high { word >> 8 } else { word }) as u8
    }

    /// Latches the count, unless an earlier latch has not been read yet.
    pub(super) fn latch_count(&mut self, now: Tick) {
        self.run_to(now);
        if self.latched_count.is_none() {
            self.latched_count = Some(self.word(now));
        }
    }

    /// Latches the status, unless an earlier latch has not been read yet.
    pub(super) fn latch_status(&mut self, now: Tick) {
        self.run_to(now);
        if self.latched_status.is_none() {
            let out = if self.out { STATUS_OUT } else { 0 };
            let null = if self.null { STATUS_NULL } else { 0 };
            self.latched_status = Some(out | null | self.control);
        }
    }

    /// The gate input is now at `level`.
    pub(super) fn set_gate(&mut self, now: Tick, level: bool) {
        self.run_to(now);
        if level == self.gate {
            return;
        }
        self.gate = level;
        let mode = self.mode();
        if level {
            match mode {
                Mode::TerminalCount | Mode::SoftwareStrobe => self.resume(now),
                _ if self.written => self.load_at = Some(now.saturating_add(1)),
                _ => {}
            }
        } else if mode.is_held_by_gate() {
            self.hold(now);
            if mode.is_periodic() {
                self.drive(true);
            }
        }
    }

    /// Lets everything happen that is due by `now`.
    pub(super) fn run_to(&mut self, now: Tick) {
        loop {
            self.skip_periods(now);
            match self.next_event() {
                Some(at) if at <= now => self.happen(at),
                _ => return,
            }
        }
    }

    /// When OUT may rise next: not later than it does.
    pub(super) fn next_rise(&self) -> Option<Tick> {
        let running = self.load_at.is_none() && self.counting;
        match self.mode() {
            Mode::Rate if running && self.loaded > 1 => {
                Some(self.since.saturating_add(self.element.into()))
            }
            _ => self.next_event(),
        }
    }

    fn mode(&self) -> Mode {
        Mode::decode(self.control)
    }

    fn bytes(&self) -> Bytes {
        match self.control >> 4 & 3 {
            1 => Bytes::Low,
            2 => Bytes::High,
            _ => Bytes::Both,
        }
    }

    /// How many values the counting element has.
    fn modulus(&self) -> u32 {
        if self.control & BCD == 0 {
            0x1_0000
        } else {
            10_000
        }
    }

    fn set_count(&mut self, now: Tick, word: u16) {
        let fresh = !self.written;
        self.count = match self.decode(word) {
            0 => self.modulus(),
            count => count,
        };
        self.written = true;
        self.null = true;
        let load_at = Some(now.saturating_add(1));
        match self.mode() {
            Mode::TerminalCount => {
                self.drive(false);
                self.load_at = load_at;
            }
            Mode::SoftwareStrobe => self.load_at = load_at,
            // A running period ends first; only the first count starts one. A count of one does not run.
            Mode::Rate | Mode::Square if fresh || self.loaded <= 1 => self.load_at = load_at,
            _ => {}
        }
    }

    fn next_event(&self) -> Option<Tick> {
        [self.load_at, self.strobe_end, self.terminal()]
            .into_iter()
            .flatten()
            .min()
    }

    /// When the running count reaches its next turning point.
    fn terminal(&self) -> Option<Tick> {
        let after = match self.mode() {
            _ if !self.counting => return None,
            Mode::Rate | Mode::Square if self.loaded <= 1 => return None,
            Mode::Rate if self.out => self.element.saturating_sub(1),
            Mode::Rate => self.element,
            Mode::Square if self.out => self.loaded.div_ceil(2),
            Mode::Square => self.loaded / 2,
            _ if self.armed => self.element,
            _ => return None,
        };
        Some(self.since.saturating_add(after.into()))
    }

    fn happen(&mut self, at: Tick) {
        if self.load_at == Some(at) {
            self.load(at);
        } else if self.strobe_end == Some(at) {
            self.strobe_end = None;
            self.drive(true);
        } else {
            self.turn(at);
        }
    }

    /// The count register goes to the counting element.
    fn load(&mut self, at: Tick) {
        self.load_at = None;
        let mode = self.mode();
        self.reload(at);
        self.counting = self.gate || !mode.is_held_by_gate();
        self.armed = !mode.is_periodic();
        match mode {
            Mode::OneShot => self.drive(false),
            Mode::TerminalCount => {}
            Mode::Rate | Mode::Square => self.drive(true),
            Mode::SoftwareStrobe | Mode::HardwareStrobe => {}
        }
    }

    fn reload(&mut self, at: Tick) {
        self.null = false;
        self.loaded = self.count;
        // The square wave counts by two from an even number.
        self.element = match self.mode() {
            Mode::Square => self.count & !1,
            _ => self.count,
        };
        self.since = at;
    }

    /// The counting element reaches its turning point.
    fn turn(&mut self, at: Tick) {
        match self.mode() {
            Mode::TerminalCount | Mode::OneShot => {
                self.armed = false;
                self.drive(true);
            }
            Mode::Rate if self.out => self.drive(false),
            Mode::Rate => {
                self.reload(at);
                self.drive(true);
            }
            Mode::Square => {
                self.reload(at);
                self.drive(!self.out || self.loaded <= 1);
            }
            Mode::SoftwareStrobe | Mode::HardwareStrobe => {
                self.armed = false;
                self.drive(false);
                self.strobe_end = Some(at.saturating_add(1));
            }
        }
    }

    /// Jumps over whole periods in which nothing changes.
    fn skip_periods(&mut self, now: Tick) {
        let steady = self.mode().is_periodic()
            && self.counting
            && self.out
            && self.load_at.is_none()
            && self.loaded == self.count
            && self.loaded > 1;
        // After a gate or a control word the running element may lie anywhere; a fresh period starts at the count.
        if !steady || self.element != self.loaded & !u32::from(self.mode() == Mode::Square) {
            return;
        }
        let periods = now.saturating_sub(self.since) / u64::from(self.loaded);
        if periods > 0 {
            self.since += periods * u64::from(self.loaded);
            self.null = false;
            self.rose = true;
        }
    }

    /// Stops the counting element where it is.
    fn hold(&mut self, now: Tick) {
        self.element = self.current(now);
        self.since = now;
        self.counting = false;
    }

    /// Goes on from where `hold` stopped it.
    fn resume(&mut self, now: Tick) {
        if self.written && self.first.is_none() {
            self.since = now;
            self.counting = true;
        }
    }

    /// The counting element at `now`, where a full modulus is not yet zero.
    fn current(&self, now: Tick) -> u32 {
        if !self.counting {
            return self.element;
        }
        let passed = now.saturating_sub(self.since);
        let modulus = self.modulus();
        match self.mode() {
            Mode::Rate | Mode::Square if self.loaded <= 1 => self.element,
            Mode::Rate => self.element.saturating_sub(clamped(passed)),
            Mode::Square => self
                .element
                .saturating_sub(clamped(passed.saturating_mul(2))),
            _ if self.armed => self.element.saturating_sub(clamped(passed)),
            _ => {
                let passed = (passed % u64::from(modulus)) as u32;
                (self.element % modulus + modulus - passed) % modulus
            }
        }
    }

    /// The counting element as the guest reads it.
    fn word(&self, now: Tick) -> u16 {
        let value = self.current(now) % self.modulus();
        if self.control & BCD == 0 {
            return value as u16;
        }
        let digit = |power: u32| (value / power % 10) as u16;
        digit(1000) << 12 | digit(100) << 8 | digit(10) << 4 | digit(1)
    }

    /// A count as the guest writes it. Digits above nine count for what they are.
    fn decode(&self, word: u16) -> u32 {
        if self.control & BCD == 0 {
            return word.into();
        }
        let digit = |shift: u16| u32::from(word >> shift & 0xf);
        digit(12) * 1000 + digit(8) * 100 + digit(4) * 10 + digit(0)
    }

    fn drive(&mut self, level: bool) {
        self.rose |= level && !self.out;
        self.out = level;
    }
}

fn clamped(ticks: u64) -> u32 {
    ticks.min(u32::MAX.into()) as u32
}
