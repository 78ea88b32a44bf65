//! The data sheet's features one by one, then anything a guest can do.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::*;
use crate::bus::{LineSink, Nanos, Width};

const DATA: u8 = 0;
const IER: u8 = 1;
const IIR: u8 = 2;
const FCR: u8 = 2;
const LCR: u8 = 3;
const MCR: u8 = 4;
const LSR: u8 = 5;
const MSR: u8 = 6;
const SCR: u8 = 7;

/// A UART that listens: DTR, RTS, OUT2.
fn listening(fcr: u8, ier: u8) -> Uart {
    let mut uart = Uart::new();
    uart.write(MCR, 0x0b);
    uart.write(FCR, fcr);
    uart.write(IER, ier);
    uart
}

fn push(uart: &mut Uart, bytes: &[u8]) -> usize {
    bytes.iter().take_while(|&&b| uart.push_input(b)).count()
}

#[test]
fn reset_values_are_those_of_table_iii() {
    let mut uart = Uart::new();
    let values = [IER, IIR, LCR, MCR, LSR].map(|reg| uart.read(reg));
    assert_eq!(values, [0, 1, 0, 0, 0x60]);
    assert_eq!(uart.read(MSR) & 0x0f, 0);
    assert!(!uart.irq());
}

#[test]
fn dlab_banks_the_divisor() {
    let mut uart = Uart::new();
    uart.write(LCR, 0x83);
    uart.write(0, 0x34);
    uart.write(1, 0x12);
    assert_eq!((uart.read(0), uart.read(1)), (0x34, 0x12));
    uart.write(LCR, 0x03);
    assert_eq!((uart.read(1), uart.output()), (0, None));
    uart.write(SCR, 0xa5);
    assert_eq!(uart.read(SCR), 0xa5);
}

#[test]
fn unwritable_bits_stay_zero() {
    let mut uart = Uart::new();
    uart.write(IER, 0xff);
    uart.write(MCR, 0xff);
    assert_eq!((uart.read(IER), uart.read(MCR)), (0x0f, 0x1f));
}

#[test]
fn without_fifos_one_character_is_received_and_interrupts() {
    let mut uart = listening(0, 1);
    assert_eq!(push(&mut uart, b"ab"), 1);
    assert!(uart.irq());
    assert_eq!((uart.read(IIR), uart.read(LSR)), (0x04, 0x61));
    assert_eq!(uart.read(DATA), b'a');
    assert!(!uart.irq());
    assert_eq!((uart.read(IIR), uart.read(LSR)), (0x01, 0x60));
}

#[test]
fn the_trigger_level_divides_data_from_time_out() {
    for (bits, level) in [(0x00, 1), (0x40, 4), (0x80, 8), (0xc0, 14)] {
        let mut uart = listening(bits | 1, 1);
        for n in 1..=FIFO_DEPTH {
            assert!(uart.push_input(n as u8));
            let cause = if n >= level { 0xc4 } else { 0xcc };
            assert_eq!((uart.read(IIR), uart.irq()), (cause, true));
        }
        assert!(!uart.push_input(0));
        assert_eq!(uart.read(LSR) & 2, 0, "the host cannot overrun");
    }
}

#[test]
fn nothing_is_received_before_rts() {
    let mut uart = Uart::new();
    uart.write(FCR, 1);
    assert_eq!(push(&mut uart, b"typed early"), 0);
    uart.write(MCR, 0x02);
    assert_eq!(push(&mut uart, b"typed early"), 11);
}

#[test]
fn an_empty_transmitter_interrupts_once() {
    let mut uart = listening(1, 2);
    assert_eq!((uart.irq(), uart.read(IIR)), (true, 0xc2));
    assert_eq!((uart.irq(), uart.read(IIR)), (false, 0xc1));
    uart.write(DATA, b'x');
    assert_eq!((uart.irq(), uart.read(LSR)), (false, 0x00));
    assert_eq!(uart.take_output(), Some(b'x'));
    assert_eq!((uart.irq(), uart.read(LSR)), (true, 0x60));
    uart.write(DATA, b'y');
    assert!(!uart.irq(), "a write answers it too");
    uart.take_output();
    uart.write(IER, 0);
    uart.read(IIR);
    uart.write(IER, 2);
    assert!(uart.irq(), "enabling raises it again");
}

#[test]
fn a_full_transmitter_loses_what_comes_after() {
    let mut uart = listening(1, 0);
    for byte in 0..20 {
        uart.write(DATA, byte);
    }
    let sent: Vec<u8> = std::iter::from_fn(|| uart.take_output()).collect();
    assert_eq!(sent, (0..16).collect::<Vec<u8>>());
}

#[test]
fn fifo_control_needs_its_enable_bit() {
    let mut uart = listening(0xc1, 1);
    push(&mut uart, b"abc");
    uart.write(FCR, 0x03);
    assert_eq!((uart.read(LSR), uart.read(IIR)), (0x60, 0xc1));
    push(&mut uart, b"abc");
    uart.write(FCR, 0x40);
    assert_eq!(uart.read(IIR), 0x01, "off, and emptied by the change");
    uart.write(FCR, 0x01);
    assert_eq!(push(&mut uart, b"abc"), 3);
    assert_eq!(uart.read(IIR), 0xc4);
}

#[test]
fn loopback_returns_characters_and_modem_lines() {
    let mut uart = listening(0, 1);
    assert_eq!(uart.read(MSR), 0xb0);
    uart.write(MCR, 0x1a);
    assert_eq!(uart.read(MSR) & 0xf0, 0x90);
    uart.write(DATA, b'q');
    assert_eq!((uart.output(), uart.read(IIR)), (None, 0x04));
    assert!(!uart.irq(), "OUT2 is off in loopback");
    uart.write(DATA, b'r');
    assert_eq!(uart.read(LSR), 0x63);
    assert_eq!(uart.read(LSR), 0x61);
    assert_eq!(uart.read(DATA), b'r');
}

#[test]
fn modem_changes_are_sticky_until_read() {
    let mut uart = listening(0, 8);
    uart.write(MCR, 0x10);
    assert_eq!(uart.read(IIR), 0x00);
    assert_eq!(uart.read(MSR), 0x0b, "CTS, DSR and DCD fell");
    assert_eq!((uart.read(MSR), uart.read(IIR)), (0x00, 0x01));
    uart.write(MCR, 0x14);
    assert_eq!(uart.read(MSR), 0x40, "a ring that begins is no event");
    uart.write(MCR, 0x10);
    assert_eq!(uart.read(MSR), 0x04, "one that ends is");
}

#[test]
fn a_break_in_loopback_shows_when_it_reaches_the_top() {
    let mut uart = listening(1, 4);
    uart.write(MCR, 0x10);
    uart.write(DATA, b'a');
    uart.write(LCR, 0x43);
    assert_eq!((uart.read(IIR), uart.read(LSR)), (0xc1, 0xe1));
    assert_eq!(uart.read(DATA), b'a');
    assert_eq!((uart.read(IIR), uart.read(LSR)), (0xc6, 0xf1));
    assert_eq!((uart.read(IIR), uart.read(DATA)), (0xc1, 0));
    assert_eq!(uart.read(LSR), 0x60);
}

#[test]
fn causes_come_in_order_of_priority() {
    let mut uart = listening(1, 0x0f);
    uart.read(IIR);
    uart.write(MCR, 0x1b);
    uart.write(MCR, 0x10);
    for byte in 0..17 {
        uart.write(DATA, byte);
    }
    assert_eq!(uart.read(IIR), 0xc6);
    assert_eq!(uart.read(LSR) & 2, 2, "the seventeenth overran");
    assert_eq!(uart.read(IIR), 0xc4);
    uart.write(FCR, 0x03);
    assert_eq!(uart.read(IIR), 0xc2);
    assert_eq!(uart.read(IIR), 0xc0);
    uart.read(MSR);
    assert_eq!(uart.read(IIR), 0xc1);
}

#[test]
fn out2_gates_the_interrupt() {
    let mut uart = listening(0, 2);
    assert!(uart.irq());
    uart.write(MCR, 0x03);
    assert!(!uart.irq());
}

#[test]
fn reset_keeps_what_was_sent() {
    let mut uart = listening(1, 2);
    uart.write(DATA, b'!');
    uart.reset();
    assert_eq!((uart.read(MCR), uart.take_output()), (0, Some(b'!')));
}

/// A host's end with bounded output, which also notes what it got.
#[derive(Default)]
struct End {
    input: VecDeque<u8>,
    output: Vec<u8>,
    room: usize,
}

struct Shared(Arc<Mutex<End>>);

impl SerialEnd for Shared {
    fn put(&mut self, byte: u8) -> bool {
        let mut end = self.0.lock().unwrap();
        let room = end.output.len() < end.room;
        if room {
            end.output.push(byte);
        }
        room
    }
    fn take(&mut self) -> Option<u8> {
        self.0.lock().unwrap().input.pop_front()
    }
}

fn access(offset: u8) -> Access {
    Access {
        region: 0,
        offset: offset.into(),
        width: Width::Byte,
        now: Nanos(0),
    }
}

#[test]
fn the_port_waits_for_its_host_and_loses_nothing() {
    let end = Arc::new(Mutex::new(End::default()));
    let mut port = SerialPort::new(Line::loose(), Box::new(Shared(end.clone())));
    port.write(access(FCR), 1);
    port.write(access(MCR), 0x0b);
    port.write(access(IER), 3);
    port.read(access(IIR));
    port.write(access(DATA), b'o'.into());
    assert_eq!(port.read(access(LSR)), 0, "the host has no room yet");
    end.lock().unwrap().room = 100;
    end.lock().unwrap().input.extend(0..40);
    port.service();
    assert_eq!(end.lock().unwrap().output, b"o");
    assert!(port.line.level());
    let mut got = Vec::new();
    while port.read(access(LSR)) & 1 != 0 {
        got.push(port.read(access(DATA)) as u8);
    }
    assert_eq!(got, (0..40).collect::<Vec<u8>>());
}

/// Counts how often the line rises.
#[derive(Default)]
struct Edges(AtomicUsize);

impl LineSink for Edges {
    fn drive(&self, _driver: u32, level: bool) {
        self.0.fetch_add(level.into(), Ordering::Relaxed);
    }
}

/// Whoever stops reading after a long burst is interrupted again by an edge that came meanwhile.
#[test]
fn the_line_rises_again_within_a_burst_that_never_pauses() {
    let edges = Arc::<Edges>::default();
    let end = End {
        input: std::iter::repeat_n(b'x', 3 * BURST_MAX).collect(),
        ..End::default()
    };
    let end = Box::new(Shared(Arc::new(Mutex::new(end))));
    let mut port = SerialPort::new(Line::new(edges.clone(), 0), end);
    port.write(access(FCR), 1);
    port.write(access(MCR), 0x0b);
    port.write(access(IER), 1);
    for _ in 0..3 {
        let before = edges.0.load(Ordering::Relaxed);
        for _ in 0..BURST_MAX - 2 * FIFO_DEPTH {
            assert!(port.line.level());
            port.read(access(DATA));
        }
        let rises = edges.0.load(Ordering::Relaxed) - before;
        assert!(rises <= 1, "{rises} interrupts for one burst");
    }
    assert!(edges.0.load(Ordering::Relaxed) >= 3);
}

proptest! {
    /// Whatever a guest does, nothing panics, the FIFOs stay bounded, and the line is what the core says.
    #[test]
    fn any_sequence_of_accesses_is_harmless(
        ops in prop::collection::vec((any::<bool>(), 0u8..8, any::<u8>()), 0..200),
        room in 0usize..64,
    ) {
        let end = Arc::new(Mutex::new(End { input: (0..=255).collect(), room, ..End::default() }));
        let mut port = SerialPort::new(Line::loose(), Box::new(Shared(end.clone())));
        for (write, offset, value) in ops {
            if write {
                port.write(access(offset), value.into());
            } else {
                prop_assert!(port.read(access(offset)) <= 0xff);
            }
            prop_assert!(port.uart.received.len() <= FIFO_DEPTH && port.uart.to_send.len() <= FIFO_DEPTH);
            prop_assert_eq!(port.line.level(), port.uart.irq());
        }
        prop_assert!(end.lock().unwrap().output.len() <= room);
        port.reset();
        prop_assert!(!port.line.level());
    }

    /// A driver that reads what LSR announces gets every byte of the host, in order, whatever else it does between.
    #[test]
    fn a_polling_driver_gets_every_byte(
        ops in prop::collection::vec((prop::sample::select(vec![1u8, 5, 6, 7]), any::<u8>()), 1..100),
        fifos in any::<bool>(),
    ) {
        let end = Arc::new(Mutex::new(End { input: (0..=255).collect(), ..End::default() }));
        let mut port = SerialPort::new(Line::loose(), Box::new(Shared(end)));
        port.write(access(FCR), fifos.into());
        port.write(access(MCR), 0x0b);
        for (expected, (offset, value)) in (0u64..).zip(ops) {
            port.write(access(offset), value.into());
            prop_assert_eq!(port.read(access(LSR)) & 1, 1);
            prop_assert_eq!(port.read(access(DATA)), expected);
        }
    }
}
