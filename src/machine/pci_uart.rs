//! A 16550 as a PCI function: class 07.00.02, "16550-compatible serial controller" (PCI Code and ID Assignment 1.11, 1.8), the
//! eight registers in one I/O BAR, and INTA#.
//!
//! Vendor, device and interface are those of the "PCI serial port" that QEMU specifies (docs/specs/pci-serial), so that
//! systems with a list of ids know it; Linux takes any function of this class with one I/O BAR. No messages, no second port.
//!
//! Lock order: this slot, then the function's `Interrupt`, then the hub.

use std::sync::Arc;

use crate::bus::map::Widths;
use crate::bus::{Access, Device, Line, LineSink, SerialEnd};
use crate::chipset::uart::SerialPort;
use crate::layout::{self, slot};
use crate::pci::{Bar, BarKind, Endpoint, Function, Header, Interrupt, MsiSink};

const HEADER: Header = Header {
    vendor: 0x1b36,
    device: 0x0002,
    class: 0x07_0002,
    revision: 0x01,
    subsystem_vendor: 0x1af4,
    subsystem: 0x1100,
    interrupt_pin: 1,
    interrupt_line: layout::PIRQ_IRQ[layout::intx_pirq(slot::PCI_UART, 0)],
};

/// The BAR with the registers, which is also the device's region.
const REGISTERS: u8 = 0;

/// The function.
pub(super) struct PciUart {
    endpoint: Endpoint,
    port: SerialPort,
}

impl PciUart {
    /// A UART whose INTA# is `line` and whose cable leads to `end`. It never sends anything to `sink`.
    pub(super) fn new(line: Line, sink: Arc<dyn MsiSink>, end: Box<dyn SerialEnd>) -> Self {
        let mut endpoint = Endpoint::new(&HEADER, line, sink);
        let registers = Bar::new(BarKind::Io, 8, Widths::BYTE);
        endpoint.declare_bar(REGISTERS.into(), registers);
        let request = Line::new(Arc::new(Request(endpoint.interrupt().clone())), 0);
        let port = SerialPort::new(request, end);
        Self { endpoint, port }
    }

    /// Looks at the cable again.
    pub(super) fn service(&mut self) {
        self.port.service();
    }
}

impl Device for PciUart {
    fn read(&mut self, access: Access) -> u64 {
        self.port.read(access)
    }

    fn write(&mut self, access: Access, value: u64) {
        self.port.write(access, value);
    }

    fn reset(&mut self) {
        let Self { endpoint, port } = self;
        // The port lets go of the wire before the function forgets that it asked for it.
        port.reset();
        endpoint.reset();
    }
}

impl Function for PciUart {
    fn endpoint(&mut self) -> &mut Endpoint {
        &mut self.endpoint
    }
}

/// The UART's interrupt output, which asks for the function's wire.
struct Request(Arc<Interrupt>);

impl LineSink for Request {
    fn drive(&self, _driver: u32, level: bool) {
        self.0.request(level);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::console::serial_line;
    use crate::bus::{Nanos, Width};
    use crate::pci::{Command, reg};
    use std::io::Write;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[derive(Default)]
    struct Wire(AtomicBool);

    impl LineSink for Wire {
        fn drive(&self, _driver: u32, level: bool) {
            self.0.store(level, Ordering::SeqCst);
        }
    }

    struct NoMessages;

    impl MsiSink for NoMessages {
        fn msi(&self, _address: u64, _data: u32) {
            panic!("a UART without MSI");
        }
    }

    fn access(offset: u64) -> Access {
        Access {
            region: REGISTERS,
            offset,
            width: Width::Byte,
            now: Nanos(0),
        }
    }

    #[test]
    fn its_interrupt_is_the_functions_wire() {
        let (end, _output, mut input) = serial_line();
        let wire = Arc::new(Wire::default());
        let line = Line::new(wire.clone(), 0);
        let mut uart = PciUart::new(line, Arc::new(NoMessages), Box::new(end));
        let is_up = || wire.0.load(Ordering::SeqCst);
        // IER: received data; MCR: RTS, and OUT2, which lets the interrupt through.
        uart.write(access(1), 1);
        uart.write(access(4), 0x0a);
        input.write_all(b"ab").unwrap();
        assert!(!is_up());
        uart.service();
        assert!(is_up());
        // INTx# can be disabled, and is no longer asked for once all is read.
        let command = |bits: Command| u32::from(bits.bits());
        uart.config_write(reg::COMMAND, Width::Word, command(Command::INTX_DISABLE));
        assert!(!is_up());
        uart.config_write(reg::COMMAND, Width::Word, command(Command::IO));
        assert!(is_up());
        assert_eq!((uart.read(access(0)), is_up()), (b'a'.into(), true));
        uart.reset();
        assert!(!is_up(), "a reset lets go of the wire");
        input.write_all(b"c").unwrap();
        uart.write(access(1), 1);
        uart.write(access(4), 0x0a);
        assert!(is_up());
    }

    /// Linux's 8250_pci takes what is of this class and has exactly one I/O BAR, of eight ports a UART.
    #[test]
    fn it_is_what_drivers_know_without_its_id() {
        let (end, ..) = serial_line();
        let mut uart = PciUart::new(Line::loose(), Arc::new(NoMessages), Box::new(end));
        let class = uart.config_read(reg::REVISION, Width::Dword) >> 8;
        assert_eq!(class, 0x07_0002);
        let bars = uart.endpoint().bars();
        let sizes = bars.map(|bar| bar.map(|bar| (bar.kind, bar.size)));
        assert_eq!(sizes[0], Some((BarKind::Io, 8)));
        assert_eq!(sizes[1..], [None; 5]);
    }
}
