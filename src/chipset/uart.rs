//! National Semiconductor PC16550D UART ("Universal Asynchronous Receiver/Transmitter with FIFOs", June 1995; section
//! numbers below are its own), wired as a PC's COM port: OUT2 gates the interrupt.
//!
//! Characters take no time: what is sent arrives at once, and a character that lies in the receive FIFO below the
//! trigger level has already waited its four character times. Divisor, word length, parity and stop bits are kept,
//! but the host's end understands any of them. Nothing is lost: what the host's end does not take yet stays in the
//! transmit FIFO, and input stays with the host's end while the receive FIFO is full. Only loopback can overrun.
//! The host's end also honours RTS: a driver that clears the FIFOs while it starts has not raised RTS yet, so that
//! what was typed before is not lost to it, and one that uses hardware flow control is never overrun.
//!
//! DMA mode is kept nowhere: the RXRDY and TXRDY pins lead nowhere in a PC.

use std::collections::VecDeque;

use bitflags::bitflags;

use crate::bus::{Access, Device, Line, SerialEnd};

/// The registers, by offset, direction and DLAB (8.1, table II).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reg {
    /// Receiver buffer on a read, transmitter holding on a write.
    Data,
    DivisorLow,
    InterruptEnable,
    DivisorHigh,
    /// Interrupt identification on a read, FIFO control on a write.
    IdentityOrFifo,
    LineControl,
    ModemControl,
    LineStatus,
    ModemStatus,
    Scratch,
}

impl Reg {
    fn decode(offset: u8, dlab: bool) -> Self {
        match (offset & 7, dlab) {
            (0, false) => Self::Data,
            (0, true) => Self::DivisorLow,
            (1, false) => Self::InterruptEnable,
            (1, true) => Self::DivisorHigh,
            (2, _) => Self::IdentityOrFifo,
            (3, _) => Self::LineControl,
            (4, _) => Self::ModemControl,
            (5, _) => Self::LineStatus,
            (6, _) => Self::ModemStatus,
            (_, _) => Self::Scratch,
        }
    }
}

bitflags! {
    /// IER, RW (8.6). The upper four bits are always zero.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Ier: u8 {
        const RECEIVED = 1 << 0;
        const EMPTY = 1 << 1;
        const LINE_STATUS = 1 << 2;
        const MODEM_STATUS = 1 << 3;
    }

    /// FCR, WO (8.4).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Fcr: u8 {
        const ENABLE = 1 << 0;
        const CLEAR_RECEIVER = 1 << 1;
        const CLEAR_TRANSMITTER = 1 << 2;
        const DMA = 1 << 3;
        const TRIGGER = 3 << 6;
    }

    /// LCR, RW (8.1). Word length, stop bits and parity are kept without effect.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Lcr: u8 {
        const FORMAT = 0x3f;
        const BREAK = 1 << 6;
        const DLAB = 1 << 7;
    }

    /// MCR, RW (8.7). The upper three bits are always zero.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Mcr: u8 {
        const DTR = 1 << 0;
        const RTS = 1 << 1;
        const OUT1 = 1 << 2;
        const OUT2 = 1 << 3;
        const LOOP = 1 << 4;
    }

    /// LSR, RO (8.3); writing it is for the factory.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Lsr: u8 {
        const DATA_READY = 1 << 0;
        const OVERRUN = 1 << 1;
        const PARITY = 1 << 2;
        const FRAMING = 1 << 3;
        const BREAK = 1 << 4;
        const HOLDING_EMPTY = 1 << 5;
        const EMPTY = 1 << 6;
        const FIFO_ERROR = 1 << 7;
        /// What raises the line status interrupt and is cleared by a read.
        const ERRORS = 0x1e;
    }

    /// MSR, RO (8.8); the lower half is cleared by a read.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Msr: u8 {
        const CTS_CHANGED = 1 << 0;
        const DSR_CHANGED = 1 << 1;
        const RI_ENDED = 1 << 2;
        const DCD_CHANGED = 1 << 3;
        const CTS = 1 << 4;
        const DSR = 1 << 5;
        const RI = 1 << 6;
        const DCD = 1 << 7;
        const CHANGES = 0x0f;
        /// What the host's end drives: a modem that is there and always ready.
        const CONNECTED = 0xb0;
    }
}

/// IIR, RO (8.5, table IV), in falling priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Cause {
    LineStatus = 0x06,
    Received = 0x04,
    Timeout = 0x0c,
    Empty = 0x02,
    ModemStatus = 0x00,
}

/// IIR where no interrupt is pending.
const NO_CAUSE: u8 = 0x01;
/// IIR bits that tell that the FIFOs are on.
const FIFOS_ON: u8 = 0xc0;
/// Characters in each FIFO.
const FIFO_DEPTH: usize = 16;
/// Divisor at power-on, where the data sheet leaves it undefined: 115200 baud.
const DIVISOR: u16 = 1;

/// The register core.
pub struct Uart {
    ier: Ier,
    fcr: Fcr,
    lcr: Lcr,
    mcr: Mcr,
    /// Only the error bits; the rest follows from the FIFOs.
    errors: Lsr,
    msr: Msr,
    scratch: u8,
    divisor: u16,
    received: VecDeque<Char>,
    to_send: VecDeque<u8>,
    /// The transmitter became empty, and nobody has been told yet.
    empty_pending: bool,
}

/// A received character with its own errors, which show when it reaches the top of the FIFO.
struct Char {
    byte: u8,
    errors: Lsr,
}

impl Uart {
    /// A UART after master reset (table III).
    pub fn new() -> Self {
        Self {
            ier: Ier::empty(),
            fcr: Fcr::empty(),
            lcr: Lcr::empty(),
            mcr: Mcr::empty(),
            errors: Lsr::empty(),
            msr: Msr::CONNECTED,
            scratch: 0,
            divisor: DIVISOR,
            received: VecDeque::with_capacity(FIFO_DEPTH),
            to_send: VecDeque::with_capacity(FIFO_DEPTH),
            empty_pending: false,
        }
    }

    /// Reads the register at `offset` (0 to 7).
    pub fn read(&mut self, offset: u8) -> u8 {
        match Reg::decode(offset, self.lcr.contains(Lcr::DLAB)) {
            Reg::Data => self.pop(),
            Reg::DivisorLow => self.divisor as u8,
            Reg::InterruptEnable => self.ier.bits(),
            Reg::DivisorHigh => (self.divisor >> 8) as u8,
            Reg::IdentityOrFifo => self.identify(),
            Reg::LineControl => self.lcr.bits(),
            Reg::ModemControl => self.mcr.bits(),
            Reg::LineStatus => {
                let lsr = self.line_status();
                self.errors = Lsr::empty();
                lsr.bits()
            }
            Reg::ModemStatus => {
                let msr = self.msr;
                self.msr.remove(Msr::CHANGES);
                msr.bits()
            }
            Reg::Scratch => self.scratch,
        }
    }

    /// Writes the register at `offset` (0 to 7).
    pub fn write(&mut self, offset: u8, value: u8) {
        match Reg::decode(offset, self.lcr.contains(Lcr::DLAB)) {
            Reg::Data => self.send(value),
            Reg::DivisorLow => self.divisor = self.divisor & 0xff00 | u16::from(value),
            Reg::InterruptEnable => self.enable(Ier::from_bits_truncate(value)),
            Reg::DivisorHigh => self.divisor = self.divisor & 0x00ff | u16::from(value) << 8,
            Reg::IdentityOrFifo => self.control_fifos(Fcr::from_bits_truncate(value)),
            Reg::LineControl => self.control_line(Lcr::from_bits_truncate(value)),
            Reg::ModemControl => self.control_modem(Mcr::from_bits_truncate(value)),
            Reg::LineStatus | Reg::ModemStatus => {}
            Reg::Scratch => self.scratch = value,
        }
    }

    /// The interrupt request as it leaves the card: OUT2 gates it, and loopback switches OUT2 off.
    pub fn irq(&self) -> bool {
        self.mcr & (Mcr::OUT2 | Mcr::LOOP) == Mcr::OUT2 && self.cause().is_some()
    }

    /// How many characters the host may push now. None while RTS is off, be it by loopback.
    pub fn room(&self) -> usize {
        if self.mcr & (Mcr::RTS | Mcr::LOOP) == Mcr::RTS {
            self.depth().saturating_sub(self.received.len())
        } else {
            0
        }
    }

    /// Takes a character from the host. Returns whether there was room for it.
    pub fn push_input(&mut self, byte: u8) -> bool {
        let room = self.room() > 0;
        if room {
            self.receive(byte, Lsr::empty());
        }
        room
    }

    /// The next character that the host has to take.
    pub fn output(&self) -> Option<u8> {
        self.to_send.front().copied()
    }

    /// Removes the character that `output` shows.
    pub fn take_output(&mut self) -> Option<u8> {
        let byte = self.to_send.pop_front()?;
        self.empty_pending |= self.to_send.is_empty();
        Some(byte)
    }

    /// Master reset. What the guest has sent stays for the host to take.
    pub fn reset(&mut self) {
        let Self {
            ier: _,
            fcr: _,
            lcr: _,
            mcr: _,
            errors: _,
            msr: _,
            scratch: _,
            divisor: _,
            received: _,
            to_send,
            empty_pending: _,
        } = self;
        let to_send = std::mem::take(to_send);
        *self = Self {
            to_send,
            ..Self::new()
        };
    }

    fn depth(&self) -> usize {
        if self.fcr.contains(Fcr::ENABLE) {
            FIFO_DEPTH
        } else {
            1
        }
    }

    /// Characters in the receive FIFO at which the interrupt comes (8.4, bits 6 and 7).
    fn trigger(&self) -> usize {
        if !self.fcr.contains(Fcr::ENABLE) {
            return 1;
        }
        match self.fcr.bits() >> 6 {
            0 => 1,
            1 => 4,
            2 => 8,
            _ => 14,
        }
    }

    /// The pending interrupt of the highest priority (table IV).
    fn cause(&self) -> Option<Cause> {
        let ier = self.ier;
        if ier.contains(Ier::LINE_STATUS) && self.errors.intersects(Lsr::ERRORS) {
            Some(Cause::LineStatus)
        } else if ier.contains(Ier::RECEIVED) && self.received.len() >= self.trigger() {
            Some(Cause::Received)
        } else if ier.contains(Ier::RECEIVED) && !self.received.is_empty() {
            Some(Cause::Timeout)
        } else if ier.contains(Ier::EMPTY) && self.empty_pending {
            Some(Cause::Empty)
        } else if ier.contains(Ier::MODEM_STATUS) && self.msr.intersects(Msr::CHANGES) {
            Some(Cause::ModemStatus)
        } else {
            None
        }
    }

    /// Reads IIR, which answers the transmitter's interrupt where that is the one shown.
    fn identify(&mut self) -> u8 {
        let cause = self.cause();
        if cause == Some(Cause::Empty) {
            self.empty_pending = false;
        }
        let fifos = if self.fcr.contains(Fcr::ENABLE) {
            FIFOS_ON
        } else {
            0
        };
        fifos | cause.map_or(NO_CAUSE, |cause| cause as u8)
    }

    fn line_status(&self) -> Lsr {
        let mut lsr = self.errors;
        lsr.set(Lsr::DATA_READY, !self.received.is_empty());
        lsr.set(Lsr::HOLDING_EMPTY | Lsr::EMPTY, self.to_send.is_empty());
        let wrong = |char: &Char| !char.errors.is_empty();
        let fifos = self.fcr.contains(Fcr::ENABLE);
        lsr.set(Lsr::FIFO_ERROR, fifos && self.received.iter().any(wrong));
        lsr
    }

    fn enable(&mut self, ier: Ier) {
        // Enabling the transmitter's interrupt while it is empty raises it at once: drivers rely on that to start.
        if ier.contains(Ier::EMPTY) && !self.ier.contains(Ier::EMPTY) {
            self.empty_pending |= self.to_send.is_empty();
        }
        self.ier = ier;
    }

    fn control_fifos(&mut self, fcr: Fcr) {
        let toggled = (self.fcr ^ fcr).contains(Fcr::ENABLE);
        if toggled || fcr.contains(Fcr::ENABLE | Fcr::CLEAR_RECEIVER) {
            self.received.clear();
        }
        if toggled || fcr.contains(Fcr::ENABLE | Fcr::CLEAR_TRANSMITTER) {
            self.empty_pending |= !self.to_send.is_empty();
            self.to_send.clear();
        }
        // Without the enable bit the others are not programmed (8.4, bit 0).
        self.fcr = if fcr.contains(Fcr::ENABLE) {
            fcr & (Fcr::ENABLE | Fcr::DMA | Fcr::TRIGGER)
        } else {
            self.fcr & Fcr::TRIGGER
        };
    }

    fn control_line(&mut self, lcr: Lcr) {
        let starts = lcr.contains(Lcr::BREAK) && !self.lcr.contains(Lcr::BREAK);
        self.lcr = lcr;
        if starts && self.mcr.contains(Mcr::LOOP) {
            self.receive(0, Lsr::BREAK);
        }
    }

    fn control_modem(&mut self, mcr: Mcr) {
        self.mcr = mcr;
        let old = self.msr;
        let new = if mcr.contains(Mcr::LOOP) {
            looped(mcr)
        } else {
            Msr::CONNECTED
        };
        let changed = old ^ new;
        let mut changes = old & Msr::CHANGES;
        changes.set(
            Msr::CTS_CHANGED,
            self.changed(Msr::CTS_CHANGED, changed, Msr::CTS),
        );
        changes.set(
            Msr::DSR_CHANGED,
            self.changed(Msr::DSR_CHANGED, changed, Msr::DSR),
        );
        changes.set(
            Msr::DCD_CHANGED,
            self.changed(Msr::DCD_CHANGED, changed, Msr::DCD),
        );
        let ring_ended = old.contains(Msr::RI) && !new.contains(Msr::RI);
        changes.set(Msr::RI_ENDED, old.contains(Msr::RI_ENDED) || ring_ended);
        self.msr = new | changes;
    }

    fn changed(&self, sticky: Msr, changed: Msr, input: Msr) -> bool {
        self.msr.contains(sticky) || changed.contains(input)
    }

    fn send(&mut self, byte: u8) {
        self.empty_pending = false;
        if self.mcr.contains(Mcr::LOOP) {
            self.receive(byte, Lsr::empty());
            self.empty_pending = self.to_send.is_empty();
        } else if self.to_send.len() < self.depth() {
            self.to_send.push_back(byte);
        }
    }

    fn receive(&mut self, byte: u8, errors: Lsr) {
        if self.received.len() >= self.depth() {
            self.errors |= Lsr::OVERRUN;
            // Without FIFOs the new character takes the old one's place; with them it is lost (8.3, bit 1).
            if self.fcr.contains(Fcr::ENABLE) {
                return;
            }
            self.received.clear();
        }
        if self.received.is_empty() {
            self.errors |= errors;
        }
        self.received.push_back(Char { byte, errors });
    }

    fn pop(&mut self) -> u8 {
        let Some(Char { byte, .. }) = self.received.pop_front() else {
            return 0;
        };
        if let Some(top) = self.received.front() {
            self.errors |= top.errors;
        }
        byte
    }
}

impl Default for Uart {
    fn default() -> Self {
        Self::new()
    }
}

/// The modem inputs in loopback: the outputs, crosswise (8.7, bit 4).
fn looped(mcr: Mcr) -> Msr {
    let mut msr = Msr::empty();
    msr.set(Msr::CTS, mcr.contains(Mcr::RTS));
    msr.set(Msr::DSR, mcr.contains(Mcr::DTR));
    msr.set(Msr::RI, mcr.contains(Mcr::OUT1));
    msr.set(Msr::DCD, mcr.contains(Mcr::OUT2));
    msr
}

/// A COM port: eight byte-wide registers, an interrupt line and the host's end of the cable.
pub struct SerialPort {
    line: Line,
    end: Box<dyn SerialEnd>,
    uart: Uart,
    /// Characters received since the line was last low.
    burst: usize,
}

/// A line with a baud rate leaves the receiver empty now and then, ours need not. Linux's 8250 driver leaves its handler
/// after 512 rounds of at most 256 characters, served or not, and an edge-triggered controller would never
/// interrupt again. So the line falls and rises after so many characters, for the controller to keep the edge.
const BURST_MAX: usize = 2048;

impl SerialPort {
    /// A port whose interrupt is `line` and whose cable leads to `end`.
    pub fn new(line: Line, end: Box<dyn SerialEnd>) -> Self {
        let uart = Uart::new();
        Self {
            line,
            end,
            uart,
            burst: 0,
        }
    }

    /// Moves characters between the FIFOs and the host's end as far as both allow, then drives the line. The host's
    /// end calls this when it has new input or new room.
    pub fn service(&mut self) {
        while let Some(byte) = self.uart.output()
            && self.end.put(byte)
        {
            self.uart.take_output();
        }
        while self.uart.room() > 0
            && let Some(byte) = self.end.take()
        {
            self.uart.push_input(byte);
            self.burst += 1;
        }
        let irq = self.uart.irq();
        if !irq || self.burst > BURST_MAX {
            self.burst = 0;
            self.line.set(false);
        }
        self.line.set(irq);
    }
}

impl Device for SerialPort {
    fn read(&mut self, access: Access) -> u64 {
        let value = self.uart.read(access.offset as u8);
        self.service();
        value.into()
    }

    fn write(&mut self, access: Access, value: u64) {
        self.uart.write(access.offset as u8, value as u8);
        self.service();
    }

    fn reset(&mut self) {
        self.uart.reset();
        self.service();
    }
}

#[cfg(test)]
#[path = "uart_tests.rs"]
mod tests;
