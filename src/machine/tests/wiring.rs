//! Interrupts arrive where ACPI's routing tables and the MP table say, through the I/O APIC and through the 8259 pair.

use super::bench::Bench;
use super::*;
use crate::bus::Width;
use crate::chipset::hub::Wire;
use crate::firmware::mp;
use crate::layout::{self, slot};

/// What a routing table's entry names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// A global system interrupt.
    Gsi(u64),
    /// An interrupt link device, by its letter.
    Link(u8),
}

/// Reads AML as an operating system does (ACPI 6.5, 20.2).
struct Aml<'a>(&'a [u8]);

impl Aml<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap();
        self.0 = rest;
        *first
    }

    fn bytes(&mut self, count: usize) -> u64 {
        (0..count).fold(0, |sum, i| sum | u64::from(self.byte()) << (8 * i))
    }

    /// A package's head: how many elements it has.
    fn package(&mut self) -> u8 {
        assert_eq!(self.byte(), 0x12);
        let further = self.byte() >> 6;
        self.bytes(further.into());
        self.byte()
    }

    fn integer(&mut self) -> u64 {
        match self.byte() {
            small @ (0 | 1) => small.into(),
            0x0a => self.bytes(1),
            0x0b => self.bytes(2),
            0x0c => self.bytes(4),
            other => panic!("no integer: {other:#x}"),
        }
    }

    /// The third and fourth element of a routing entry.
    fn source(&mut self) -> Source {
        if let Some(rest) = self.0.strip_prefix(b"LNK") {
            self.0 = rest;
            let link = self.byte();
            assert_eq!(self.integer(), 0);
            return Source::Link(link);
        }
        assert_eq!(self.integer(), 0);
        Source::Gsi(self.integer())
    }
}

/// Slot, pin and source of each entry of the table called `name`.
fn routes(name: &[u8; 4]) -> Vec<(u8, u8, Source)> {
    let tables = acpi::tables(&acpi::Machine {
        cpus: 1,
        hpet: true,
    });
    let dsdt = tables.iter().find(|piece| piece.bytes.starts_with(b"DSDT"));
    let bytes = &dsdt.unwrap().bytes;
    let at = bytes
        .windows(5)
        .position(|five| five[0] == 8 && five[1..] == *name);
    let mut aml = Aml(&bytes[at.unwrap() + 5..]);
    let entry = |aml: &mut Aml| {
        assert_eq!(aml.package(), 4);
        let address = aml.integer();
        assert_eq!(address & 0xffff, 0xffff, "all functions");
        ((address >> 16) as u8, aml.integer() as u8, aml.source())
    };
    (0..aml.package()).map(|_| entry(&mut aml)).collect()
}

/// The slots of a whole machine that have an interrupt.
fn slots() -> Vec<u8> {
    let disks = slot::DISKS..slot::DISKS + slot::DISKS_MAX;
    let single = [
        slot::ROOT_DISK,
        slot::NET,
        slot::RND,
        slot::AHCI,
        slot::LINK,
        slot::PCI_UART,
    ];
    single.into_iter().chain(disks).collect()
}

#[test]
fn interrupts_arrive_at_the_pins_that_the_tables_name() {
    let routes = routes(b"PRTA");
    assert_eq!(
        routes.len(),
        slot::WITH_INTX.len() * 4,
        "every slot and pin"
    );
    let mp = mp::table(1).bytes;
    let mut bench = Bench::new(1);
    for slot in slots() {
        for pin in 0..4 {
            let route = routes
                .iter()
                .find(|route| (route.0, route.1) == (slot, pin));
            let Some(&(.., Source::Gsi(gsi))) = route else {
                panic!("{route:?}");
            };
            let entry = [3, 0, 0xf, 0, 0, slot << 2 | pin, 0, gsi as u8];
            assert!(mp.windows(8).any(|eight| eight == entry), "{entry:?}");
            // Functions here have INTA# only.
            if pin == 0 {
                let line = bench.board.hub.line(Wire::of_slot(slot));
                let vector = 0x40 + slot;
                bench.entry(gsi, 0x8000 | u64::from(vector));
                assert_eq!(bench.interrupt(0), None);
                line.set(true);
                assert_eq!(bench.interrupt(0), Some(vector), "slot {slot}");
                line.set(false);
                bench.store(0, 0xfee0_00b0, Width::Dword, 0);
            }
        }
    }
}

#[test]
fn interrupts_arrive_at_the_8259_inputs_that_the_links_name() {
    let routes = routes(b"PRTP");
    let bench = Bench::new(1);
    for (command, base, cascade) in [(0x20, 0x30, 4), (0xa0, 0x38, 2)] {
        bench.bytes(&[(command, 0x11)]);
        bench.bytes(&[base, cascade, 1, 0].map(|word| (command + 1, word)));
    }
    let [low, high] = layout::PIRQ_IRQ_POSSIBLE.to_le_bytes();
    bench.bytes(&[(0x4d0, low), (0x4d1, high)]);
    for slot in slots() {
        let route = routes.iter().find(|route| (route.0, route.1) == (slot, 0));
        let Some(&(.., Source::Link(link))) = route else {
            panic!("{route:?}");
        };
        // The routing registers: A to D from 0x60, E to H from 0x68.
        let wire = link - b'A';
        let register = if wire < 4 { 0x60 } else { 0x68 };
        let irq = bench.config(slot::LPC, register) >> (8 * (wire & 3)) & 0xff;
        let line = bench.board.hub.line(Wire::of_slot(slot));
        assert_eq!(bench.board.hub.acknowledge(), None);
        line.set(true);
        assert_eq!(
            bench.board.hub.acknowledge(),
            Some(0x30 + irq as u8),
            "slot {slot}"
        );
        line.set(false);
        bench.bytes(&[(0xa0, 0x20), (0x20, 0x20)]);
    }
}
