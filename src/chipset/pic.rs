//! Two Intel 8259A ("8259A Programmable Interrupt Controller", order 231468-003) in cascade, with the edge/level control
//! registers of a PC chipset (Intel 82371AB, 4.2.2) in place of ICW1's LTIM bit.
//!
//! Plain state machines: the hub sets the inputs, looks at `int`, and calls `acknowledge` when a processor takes the
//! interrupt. Nothing here calls anybody.
//!
//! Not modelled: the CALL instruction of the MCS-80 mode (a processor of this machine always gets the vector that
//! the 8086 mode would give) and the buffered mode's pins. Until ICW1 to ICW4 have been written after power-on, no
//! interrupt is asked for; the data sheet leaves that state undefined.
//!
//! Lock rank: lives in the hub.

/// A register of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PicPort {
    /// A0 = 0 of the first or second chip: ICW1, OCW2, OCW3; IRR and ISR.
    Command(Chip),
    /// A0 = 1: ICW2 to ICW4, OCW1; IMR.
    Data(Chip),
    /// Edge/level control.
    Elcr(Chip),
}

/// One of the two chips.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chip {
    /// The first, whose INT leads to the processors.
    Master,
    /// The second, whose INT leads to the first's input 2.
    Slave,
}

/// The region numbers under which the pair's ports are claimed.
impl PicPort {
    /// Ports 0x20 and 0x21.
    pub const MASTER: u8 = 0;
    /// Ports 0xa0 and 0xa1.
    pub const SLAVE: u8 = 1;
    /// Ports 0x4d0 and 0x4d1.
    pub const ELCR: u8 = 2;

    /// The register at an offset of a region.
    pub fn decode(region: u8, offset: u64) -> Option<Self> {
        match (region, offset) {
            (Self::MASTER, 0) => Some(Self::Command(Chip::Master)),
            (Self::MASTER, 1) => Some(Self::Data(Chip::Master)),
            (Self::SLAVE, 0) => Some(Self::Command(Chip::Slave)),
            (Self::SLAVE, 1) => Some(Self::Data(Chip::Slave)),
            (Self::ELCR, 0) => Some(Self::Elcr(Chip::Master)),
            (Self::ELCR, 1) => Some(Self::Elcr(Chip::Slave)),
            _ => None,
        }
    }
}

/// The first chip's input that the second drives.
const CASCADE: u8 = 2;
/// Level-trigger bits that can be set: not the timer, the keyboard and the cascade.
const MASTER_ELCR_WRITABLE: u8 = 0xf8;
/// Not the RTC and the coprocessor.
const SLAVE_ELCR_WRITABLE: u8 = 0xde;
/// What a processor reads where no chip answers its acknowledgement.
const FLOATING: u8 = 0xff;

/// The pair: 16 inputs, one output.
#[derive(Clone, Debug, Default)]
pub struct Pic {
    master: I8259,
    slave: I8259,
}

impl Pic {
    /// The pair after power-on.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a register. Reading after a poll command acknowledges.
    pub fn read(&mut self, port: PicPort) -> u8 {
        let value = match port {
            PicPort::Command(chip) => self.chip(chip).read_command(),
            PicPort::Data(chip) => self.chip(chip).read_data(),
            PicPort::Elcr(chip) => self.chip(chip).level_mode,
        };
        self.cascade();
        value
    }

    /// Writes a register.
    pub fn write(&mut self, port: PicPort, value: u8) {
        match port {
            PicPort::Command(chip) => self.chip(chip).write_command(value),
            PicPort::Data(chip) => self.chip(chip).write_data(value),
            PicPort::Elcr(Chip::Master) => self.master.set_mode(value & MASTER_ELCR_WRITABLE),
            PicPort::Elcr(Chip::Slave) => self.slave.set_mode(value & SLAVE_ELCR_WRITABLE),
        }
        self.cascade();
    }

    /// Input `irq` (0 to 15) is now at `level`. Input 2 is the cascade's own.
    pub fn set_irq(&mut self, irq: u8, level: bool) {
        match irq {
            CASCADE => {}
            0..8 => self.master.set_input(irq, level),
            8..16 => self.slave.set_input(irq - 8, level),
            _ => {}
        }
        self.cascade();
    }

    /// The INT output: a level.
    pub fn int(&self) -> bool {
        self.master.int()
    }

    /// A processor takes the interrupt: what the bus carries as the vector. Where the request has gone in the
    /// meantime, that is the vector of input 7.
    pub fn acknowledge(&mut self) -> u8 {
        let level = self.master.acknowledge();
        if level == Some(CASCADE) && self.master.is_slave_input(CASCADE) {
            let vector = self.slave.vector_of(self.slave.request());
            self.slave.acknowledge();
            // INT falls during the acknowledgement, even if another request raises it at once.
            self.master.set_input(CASCADE, false);
            self.cascade();
            return if self.slave.is_addressed(CASCADE) {
                vector
            } else {
                FLOATING
            };
        }
        self.master.vector_of(level)
    }

    /// Power-on reset. The levels of the inputs belong to those who drive them.
    pub fn reset(&mut self) {
        self.master.reset();
        self.slave.reset();
        self.cascade();
    }

    fn chip(&mut self, chip: Chip) -> &mut I8259 {
        match chip {
            Chip::Master => &mut self.master,
            Chip::Slave => &mut self.slave,
        }
    }

    fn cascade(&mut self) {
        let level = self.slave.int();
        self.master.set_input(CASCADE, level);
    }
}

/// Which initialization word comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// None has been written since power-on.
    #[default]
    Off,
    Icw2,
    Icw3,
    Icw4,
    Ready,
}

/// ICW1, WO, A0 = 0 with D4 = 1.
mod icw1 {
    pub(super) const NEEDS_ICW4: u8 = 1 << 0;
    pub(super) const SINGLE: u8 = 1 << 1;
    pub(super) const SELECT: u8 = 1 << 4;
}

/// ICW2, WO: the upper five bits of the vectors.
mod icw2 {
    pub(super) const BASE: u8 = 0xf8;
}

/// ICW4, WO.
mod icw4 {
    pub(super) const AUTO_EOI: u8 = 1 << 1;
    pub(super) const SPECIAL_FULLY_NESTED: u8 = 1 << 4;
}

/// OCW2, WO, A0 = 0 with D4 = D3 = 0: a command in D7:5, a level in D2:0.
mod ocw2 {
    pub(super) const LEVEL: u8 = 7;
    pub(super) const ROTATE_IN_AUTO_EOI_OFF: u8 = 0b000;
    pub(super) const EOI: u8 = 0b001;
    pub(super) const SPECIFIC_EOI: u8 = 0b011;
    pub(super) const ROTATE_IN_AUTO_EOI_ON: u8 = 0b100;
    pub(super) const ROTATE_ON_EOI: u8 = 0b101;
    pub(super) const SET_PRIORITY: u8 = 0b110;
    pub(super) const ROTATE_ON_SPECIFIC_EOI: u8 = 0b111;
}

/// OCW3, WO, A0 = 0 with D4:3 = 01.
mod ocw3 {
    pub(super) const READ_ISR: u8 = 1 << 0;
    pub(super) const READ_REGISTER: u8 = 1 << 1;
    pub(super) const POLL: u8 = 1 << 2;
    pub(super) const SELECT: u8 = 1 << 3;
    pub(super) const SPECIAL_MASK: u8 = 1 << 5;
    pub(super) const SET_SPECIAL_MASK: u8 = 1 << 6;
}

/// Bit 7 of what a poll reads: there is an interrupt.
const POLL_INTERRUPT: u8 = 1 << 7;

/// One 8259A.
#[derive(Clone, Debug)]
struct I8259 {
    // Wires: they survive a reset.
    inputs: u8,
    // State.
    /// The chipset's ELCR: inputs that are level triggered.
    level_mode: u8,
    /// Edges seen and not yet acknowledged.
    edges: u8,
    imr: u8,
    isr: u8,
    phase: Phase,
    icw1: u8,
    icw2: u8,
    icw3: u8,
    icw4: u8,
    /// The input of the lowest priority.
    lowest: u8,
    rotate_in_auto_eoi: bool,
    special_mask: bool,
    read_isr: bool,
    poll: bool,
}

impl Default for I8259 {
    fn default() -> Self {
        Self {
            inputs: 0,
            level_mode: 0,
            edges: 0,
            imr: 0,
            isr: 0,
            phase: Phase::Off,
            icw1: 0,
            icw2: 0,
            icw3: 0,
            icw4: 0,
            lowest: 7,
            rotate_in_auto_eoi: false,
            special_mask: false,
            read_isr: false,
            poll: false,
        }
    }
}

impl I8259 {
    fn reset(&mut self) {
        let Self {
            inputs,
            level_mode: _,
            edges: _,
            imr: _,
            isr: _,
            phase: _,
            icw1: _,
            icw2: _,
            icw3: _,
            icw4: _,
            lowest: _,
            rotate_in_auto_eoi: _,
            special_mask: _,
            read_isr: _,
            poll: _,
        } = *self;
        *self = Self {
            inputs,
            ..Self::default()
        };
    }

    fn set_input(&mut self, input: u8, level: bool) {
        let bit = 1 << input;
        if !level {
            // A request must last until it is acknowledged, in both trigger modes.
            self.inputs &= !bit;
            self.edges &= !bit;
        } else if self.inputs & bit == 0 {
            self.inputs |= bit;
            self.edges |= bit;
        }
    }

    fn set_mode(&mut self, level_mode: u8) {
        // An input that becomes edge triggered while it is high has shown no edge.
        self.edges &= !(self.level_mode & !level_mode);
        self.level_mode = level_mode;
    }

    fn irr(&self) -> u8 {
        self.edges & !self.level_mode | self.inputs & self.level_mode
    }

    fn int(&self) -> bool {
        self.phase == Phase::Ready && self.request().is_some()
    }

    /// The input that may interrupt now.
    fn request(&self) -> Option<u8> {
        let asked = self.irr() & !self.imr;
        let input = self.in_order().find(|input| asked & 1 << input != 0)?;
        let served = self
            .in_order()
            .find(|input| self.blocking() & 1 << input != 0);
        match served {
            None => Some(input),
            Some(served) if self.priority(input) < self.priority(served) => Some(input),
            // A slave may interrupt itself: its own priorities decide.
            Some(served) if served == input && self.nests_specially(input) => Some(input),
            Some(_) => None,
        }
    }

    /// Inputs in service that hold back others of their priority and below.
    fn blocking(&self) -> u8 {
        if self.special_mask {
            self.isr & !self.imr
        } else {
            self.isr
        }
    }

    fn nests_specially(&self, input: u8) -> bool {
        self.icw4 & icw4::SPECIAL_FULLY_NESTED != 0 && self.is_slave_input(input)
    }

    /// Puts the request in service. `None` where there is none any more.
    fn acknowledge(&mut self) -> Option<u8> {
        let input = self.request()?;
        self.edges &= !(1 << input);
        if self.icw4 & icw4::AUTO_EOI == 0 {
            self.isr |= 1 << input;
        } else if self.rotate_in_auto_eoi {
            self.lowest = input;
        }
        Some(input)
    }

    /// The vector of an input, or of input 7 where the request has gone.
    fn vector_of(&self, input: Option<u8>) -> u8 {
        self.icw2 & icw2::BASE | input.unwrap_or(7)
    }

    fn is_slave_input(&self, input: u8) -> bool {
        self.icw1 & icw1::SINGLE == 0 && self.icw3 & 1 << input != 0
    }

    /// Whether this chip, as a slave, has the identity `id`.
    fn is_addressed(&self, id: u8) -> bool {
        self.icw1 & icw1::SINGLE == 0 && self.icw3 & 7 == id
    }

    /// The inputs from the highest priority to the lowest.
    fn in_order(&self) -> impl Iterator<Item = u8> + use<> {
        let lowest = self.lowest;
        (1..=8).map(move |i| (lowest + i) & 7)
    }

    /// 0 for the highest.
    fn priority(&self, input: u8) -> u8 {
        input.wrapping_sub(self.lowest).wrapping_sub(1) & 7
    }

    fn read_command(&mut self) -> u8 {
        if self.poll {
            self.polled()
        } else if self.read_isr {
            self.isr
        } else {
            self.irr()
        }
    }

    fn read_data(&mut self) -> u8 {
        if self.poll { self.polled() } else { self.imr }
    }

    /// The first read after a poll command is an acknowledgement.
    fn polled(&mut self) -> u8 {
        self.poll = false;
        match self.acknowledge() {
            Some(input) => POLL_INTERRUPT | input,
            None => 0,
        }
    }

    fn write_command(&mut self, value: u8) {
        if value & icw1::SELECT != 0 {
            self.initialize(value);
        } else if value & ocw3::SELECT != 0 {
            self.write_ocw3(value);
        } else {
            self.write_ocw2(value);
        }
    }

    /// ICW1 starts over: edges, mask and special modes are cleared, input 7 becomes the lowest.
    fn initialize(&mut self, icw1: u8) {
        *self = Self {
            inputs: self.inputs,
            level_mode: self.level_mode,
            phase: Phase::Icw2,
            icw1,
            icw3: 7,
            ..Self::default()
        };
    }

    fn write_data(&mut self, value: u8) {
        match self.phase {
            Phase::Off | Phase::Ready => self.imr = value,
            Phase::Icw2 => {
                self.icw2 = value;
                self.phase = if self.icw1 & icw1::SINGLE == 0 {
                    Phase::Icw3
                } else {
                    self.after_icw3()
                };
            }
            Phase::Icw3 => {
                self.icw3 = value;
                self.phase = self.after_icw3();
            }
            Phase::Icw4 => {
                self.icw4 = value;
                self.phase = Phase::Ready;
            }
        }
    }

    fn after_icw3(&self) -> Phase {
        if self.icw1 & icw1::NEEDS_ICW4 == 0 {
            Phase::Ready
        } else {
            Phase::Icw4
        }
    }

    fn write_ocw2(&mut self, value: u8) {
        let level = value & ocw2::LEVEL;
        match value >> 5 {
            ocw2::ROTATE_IN_AUTO_EOI_OFF => self.rotate_in_auto_eoi = false,
            ocw2::ROTATE_IN_AUTO_EOI_ON => self.rotate_in_auto_eoi = true,
            ocw2::EOI => {
                self.end_highest();
            }
            ocw2::ROTATE_ON_EOI => {
                if let Some(input) = self.end_highest() {
                    self.lowest = input;
                }
            }
            ocw2::SPECIFIC_EOI => self.isr &= !(1 << level),
            ocw2::ROTATE_ON_SPECIFIC_EOI => {
                self.isr &= !(1 << level);
                self.lowest = level;
            }
            ocw2::SET_PRIORITY => self.lowest = level,
            _ => {}
        }
    }

    /// Non-specific EOI: the highest in service, without those that the special mask mode hides.
    fn end_highest(&mut self) -> Option<u8> {
        let blocking = self.blocking();
        let input = self.in_order().find(|input| blocking & 1 << input != 0)?;
        self.isr &= !(1 << input);
        Some(input)
    }

    fn write_ocw3(&mut self, value: u8) {
        if value & ocw3::SET_SPECIAL_MASK != 0 {
            self.special_mask = value & ocw3::SPECIAL_MASK != 0;
        }
        if value & ocw3::READ_REGISTER != 0 {
            self.read_isr = value & ocw3::READ_ISR != 0;
        }
        self.poll = value & ocw3::POLL != 0;
    }
}

#[cfg(test)]
#[path = "pic_tests.rs"]
mod tests;
