//! What a device embeds to be a PCI function: its configuration space together with its interrupts, kept in step.

use std::sync::Arc;

use super::MsiSink;
use super::bar::{Bar, Window};
use super::config::{ConfigSpace, Header};
use super::interrupt::Interrupt;
use super::msi::Msi;
use super::msix::{Msix, MsixPlace};
use super::regs::{Command, Status, reg};
use crate::bus::{Line, Width};

/// What a function's BARs decode from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoding {
    /// Counts the changes, so that of two that are applied out of order the later one wins.
    pub generation: u64,
    /// What each BAR decodes, if anything.
    pub windows: [Option<Window>; 6],
}

/// Configuration space and interrupts of one function.
pub struct Endpoint {
    // Configuration and state.
    config: ConfigSpace,
    generation: u64,
    // Wires.
    interrupt: Arc<Interrupt>,
}

impl Endpoint {
    /// A function without BARs and capabilities, with its wire and the sink of its messages.
    pub fn new(header: &Header, line: Line, sink: Arc<dyn MsiSink>) -> Self {
        Self {
            config: ConfigSpace::new(header),
            generation: 0,
            interrupt: Arc::new(Interrupt::new(line, sink)),
        }
    }

    /// Declares BAR `index`.
    pub fn declare_bar(&mut self, index: usize, bar: Bar) {
        self.config.declare_bar(index, bar);
    }

    /// The BARs as declared.
    pub fn bars(&self) -> &[Option<Bar>; 6] {
        self.config.bars()
    }

    /// Gives BAR `index` the address that it has from power-on.
    pub fn assign(&mut self, index: usize, base: u64) {
        self.config.assign(index, base);
        self.generation += 1;
    }

    /// Appends a capability (see `ConfigSpace::add_capability`).
    pub fn add_capability(&mut self, id: u8, body: &[u8], writable: &[u8]) -> u8 {
        self.config.add_capability(id, body, writable)
    }

    /// Declares registers of the function's own (see `ConfigSpace::declare`).
    pub fn declare(&mut self, offset: u8, values: &[u8], writable: &[u8]) {
        self.config.declare(offset, values, writable);
    }

    /// Sets registers whose contents the function itself changes.
    pub fn show(&mut self, offset: u8, values: &[u8]) {
        self.config.show(offset, values);
    }

    /// Adds MSI with `2^log` vectors.
    pub fn add_msi(&mut self, log: u16) {
        let msi = Msi::declare(&mut self.config, log);
        self.interrupt.lock().msi = Some(msi);
    }

    /// Adds MSI-X with `vectors` vectors, in a BAR that `msix_read` and `msix_write` then answer.
    pub fn add_msix(&mut self, vectors: u16, place: MsixPlace) {
        let msix = Msix::declare(&mut self.config, vectors, place);
        self.interrupt.lock().msix = Some(msix);
    }

    /// The function's interrupts, for whoever raises them.
    pub fn interrupt(&self) -> &Arc<Interrupt> {
        &self.interrupt
    }

    /// The command register.
    pub fn command(&self) -> Command {
        self.config.command()
    }

    /// Reads configuration space.
    pub fn config_read(&mut self, offset: u8, width: Width) -> u32 {
        let mut status =
            Status::CAPABILITIES.bits() & self.config.read(reg::STATUS, Width::Word) as u16;
        if self.interrupt.requested() {
            status |= Status::INTERRUPT.bits();
        }
        self.config.show(reg::STATUS, &status.to_le_bytes());
        if let Some((at, pending)) = self.interrupt.msi_pending() {
            self.config.show(at, &pending.to_le_bytes());
        }
        self.config.read(offset, width)
    }

    /// Writes configuration space; says so where the BARs now decode something else.
    pub fn config_write(&mut self, offset: u8, width: Width, value: u32) -> Option<Decoding> {
        let before = self.config.windows();
        self.config.write(offset, width, value);
        self.interrupt.latch(&self.config);
        if self.config.windows() == before {
            return None;
        }
        self.generation += 1;
        Some(self.decoding())
    }

    /// What the BARs decode now.
    pub fn decoding(&self) -> Decoding {
        Decoding {
            generation: self.generation,
            windows: self.config.windows(),
        }
    }

    /// Reads the BAR with the MSI-X table.
    pub fn msix_read(&self, offset: u64, width: Width) -> u64 {
        self.interrupt.msix_read(offset, width)
    }

    /// Writes the BAR with the MSI-X table.
    pub fn msix_write(&self, offset: u64, width: Width, value: u64) {
        self.interrupt.msix_write(offset, width, value);
    }

    /// Back to power-on; the wire goes low.
    pub fn reset(&mut self) {
        let Self {
            config,
            generation,
            interrupt,
        } = self;
        config.reset();
        *generation += 1;
        interrupt.reset(config);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::config::tests::HEADER;
    use super::super::{BarKind, Signalling};
    use super::*;
    use crate::bus::map::Widths;
    use proptest::prelude::*;
    use std::sync::Mutex;

    #[derive(Default)]
    pub(in crate::pci) struct Sent(pub(in crate::pci) Mutex<Vec<(u64, u32)>>);

    impl MsiSink for Sent {
        fn msi(&self, address: u64, data: u32) {
            self.0.lock().unwrap().push((address, data));
        }
    }

    #[derive(Default)]
    struct Wire(Mutex<bool>);

    impl crate::bus::LineSink for Wire {
        fn drive(&self, _driver: u32, level: bool) {
            *self.0.lock().unwrap() = level;
        }
    }

    fn endpoint() -> (Endpoint, Arc<Sent>, Arc<Wire>) {
        let sent = Arc::new(Sent::default());
        let wire = Arc::new(Wire::default());
        let mut endpoint = Endpoint::new(&HEADER, Line::new(wire.clone(), 0), sent.clone());
        endpoint.declare_bar(0, Bar::new(BarKind::Memory32, 0x1000, Widths::ALL));
        endpoint.declare_bar(1, Bar::new(BarKind::Memory32, 0x1000, Widths::ALL));
        endpoint.add_msix(
            2,
            MsixPlace {
                bar: 1,
                table: 0,
                pending: 0x800,
            },
        );
        endpoint.add_msi(0);
        (endpoint, sent, wire)
    }

    fn command(endpoint: &mut Endpoint, command: Command) -> Option<Decoding> {
        endpoint.config_write(reg::COMMAND, Width::Word, u32::from(command.bits()))
    }

    #[test]
    fn the_wire_obeys_the_disable_bit_and_status_shows_the_request() {
        let (mut endpoint, _, wire) = endpoint();
        let asked = |e: &mut Endpoint| e.config_read(reg::STATUS, Width::Byte) & 8 != 0;
        endpoint.interrupt().request(true);
        assert!(*wire.0.lock().unwrap() && asked(&mut endpoint));
        command(&mut endpoint, Command::INTX_DISABLE);
        assert!(!*wire.0.lock().unwrap() && asked(&mut endpoint));
        command(&mut endpoint, Command::empty());
        assert!(*wire.0.lock().unwrap());
        endpoint.reset();
        assert!(!*wire.0.lock().unwrap() && !asked(&mut endpoint));
    }

    #[test]
    fn messages_replace_the_wire_and_need_a_bus_master() {
        let (mut endpoint, sent, wire) = endpoint();
        endpoint.interrupt().request(true);
        endpoint.config_write(0x43, Width::Byte, 0x80);
        assert_eq!(endpoint.interrupt().signalling(), Signalling::Msix);
        assert!(!*wire.0.lock().unwrap());
        endpoint.msix_write(0, Width::Dword, 0xfee0_0000);
        endpoint.msix_write(12, Width::Dword, 0);
        endpoint.interrupt().raise(0);
        assert!(sent.0.lock().unwrap().is_empty());
        assert_eq!(endpoint.msix_read(0x800, Width::Dword), 1);
        command(&mut endpoint, Command::BUS_MASTER);
        assert_eq!(*sent.0.lock().unwrap(), [(0xfee0_0000, 0)]);
    }

    #[test]
    fn the_guest_sees_what_msi_holds_back() {
        let (mut endpoint, sent, _) = endpoint();
        command(&mut endpoint, Command::BUS_MASTER);
        let at = endpoint.config_read(0x41, Width::Byte) as u8;
        endpoint.config_write(at + 0x10, Width::Dword, 1);
        endpoint.config_write(at + 2, Width::Word, 1);
        endpoint.interrupt().raise(0);
        assert_eq!(endpoint.config_read(at + 0x14, Width::Dword), 1);
        endpoint.config_write(at + 0x10, Width::Dword, 0);
        assert_eq!(endpoint.config_read(at + 0x14, Width::Dword), 0);
        assert_eq!(sent.0.lock().unwrap().len(), 1);
    }

    #[test]
    fn moving_a_bar_is_told_once() {
        let (mut endpoint, ..) = endpoint();
        assert_eq!(endpoint.config_write(0x3c, Width::Byte, 5), None);
        let moved = endpoint
            .config_write(0x10, Width::Dword, 0xc000_0000)
            .unwrap();
        assert_eq!(moved.windows[0].map(|w| w.base), Some(0xc000_0000));
        assert_eq!(endpoint.config_write(0x10, Width::Dword, 0xc000_0000), None);
        let off = command(&mut endpoint, Command::empty()).unwrap();
        assert_eq!(off.windows, [None; 6]);
        assert!(off.generation > moved.generation);
    }

    proptest! {
        #[test]
        fn any_configuration_access_is_harmless(
            accesses in prop::collection::vec((any::<u8>(), 0_u32..3, any::<u32>()), 0..128)
        ) {
            let (mut endpoint, ..) = endpoint();
            for (offset, width, value) in accesses {
                let width = Width::from_bytes(1 << width).unwrap();
                endpoint.config_write(offset, width, value);
                endpoint.config_read(offset, width);
                endpoint.interrupt().raise(value as u16);
                prop_assert_eq!(endpoint.config_read(0, Width::Dword), 0x5678_1234);
            }
            endpoint.reset();
            prop_assert_eq!(endpoint.command(), Command::RESET);
        }
    }
}
