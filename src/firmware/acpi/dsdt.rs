//! DSDT: the devices that cannot be found by looking (ACPI 6.5, chapters 5 and 6).
//!
//! Everything comes from the layout: the windows of the host bridge, the routing of INTx, the ports of the chips.
//! The ECAM is claimed by a PNP0C02 outside the host bridge, since it is not memory that the bridge passes on. Every port
//! is claimed once, in the list of one device; the local APICs' page and the I/O APIC's are the MADT's to tell.
//! There is no GPE, no embedded controller and no sleeping state but soft-off; the power button is fixed hardware.

use super::{HEADER, Machine, table};
use crate::firmware::aml::resource::{self, Resource, template};
use crate::firmware::aml::{
    Concurrency, Term, Value, and, arg, block, byte_fields, create_dword_field, create_word_field,
    device, eisa_id, equal, find_set_right_bit, if_else, if_then, int, method, name, not, or,
    package, path, pci_config_region, ret, scope, shift_left, store, string, subtract, uuid,
};
use crate::layout::{self, Span, irq, port, slot};

/// The DSDT of a machine.
pub(super) fn dsdt(machine: &Machine) -> Vec<u8> {
    let mut system_bus = processors(machine.cpus);
    system_bus.push(memory_resources());
    if machine.hpet {
        system_bus.push(hpet());
    }
    system_bus.push(host_bridge());
    let sleep = [layout::SLP_TYP_S5, 0, 0, 0].map(|value| int(value.into()));
    let body = block(&[
        // What the operating system says it uses: 0 for the 8259 pair, 1 for I/O APICs.
        name("PICM", &int(0)),
        method(
            "_PIC",
            1,
            Concurrency::NotSerialized,
            &[store(&arg(0), &path("PICM"))],
        ),
        name("_S5", &package(&sleep)),
        scope("\\_SB", &system_bus),
    ]);
    debug_assert!(HEADER + body.len() < layout::ACPI_TABLES.len() as usize);
    // Revision 2: integers have 64 bits.
    table(b"DSDT", 2, &body)
}

/// One device a CPU, with the UID that the MADT gives it.
fn processors(cpus: u32) -> Vec<Term> {
    let one = |id: u32| {
        let body = [
            name("_HID", &string("ACPI0007")),
            name("_UID", &int(id.into())),
        ];
        device(&format!("C{id:03X}"), &body)
    };
    (0..cpus.min(layout::CPUS_MAX as u32)).map(one).collect()
}

/// Memory that is no RAM and belongs to no device: the ECAM.
fn memory_resources() -> Term {
    let resources = [resource::memory32_fixed(layout::ECAM)];
    device("MRES", &pnp(b"PNP0C02", 0, &resources))
}

fn hpet() -> Term {
    device(
        "HPET",
        &pnp(b"PNP0103", 0, &[resource::memory32_fixed(layout::HPET)]),
    )
}

/// A device that is what its id and its resources say.
fn pnp(id: &[u8; 7], uid: u64, resources: &[Resource]) -> [Term; 3] {
    [
        name("_HID", &eisa_id(id)),
        name("_UID", &int(uid)),
        name("_CRS", &template(resources)),
    ]
}

// ---- The PCI host bridge --------------------------------------------------------------------------------------

fn host_bridge() -> Term {
    let mut body = vec![
        name("_HID", &eisa_id(b"PNP0A08")),
        name("_CID", &eisa_id(b"PNP0A03")),
        name("_UID", &int(0)),
        name("_SEG", &int(0)),
        name("_BBN", &int(0)),
        name("_CRS", &template(&windows())),
        operating_system_capabilities(),
        name(
            "PRTP",
            &routing(|slot, pin| (path(&link_name(layout::intx_pirq(slot, pin))), int(0))),
        ),
        name(
            "PRTA",
            &routing(|slot, pin| (int(0), int(layout::intx_gsi(slot, pin).into()))),
        ),
    ];
    let route = if_else(&path("PICM"), &[ret(&path("PRTA"))], &[ret(&path("PRTP"))]);
    body.push(method("_PRT", 0, Concurrency::NotSerialized, &[route]));
    body.push(lpc_bridge());
    body.extend((0..layout::PIRQS).map(link));
    device("PCI0", &body)
}

/// What the bridge passes on: every bus, all ports but its own, and the windows for BARs.
fn windows() -> Vec<Resource> {
    let configuration = Span {
        start: port::PCI_ADDRESS.start,
        end: port::PCI_DATA.end,
    };
    let below = Span {
        start: 0,
        end: configuration.start,
    };
    let above = Span {
        start: configuration.end,
        end: port::END,
    };
    vec![
        resource::word_bus(Span::new(0, layout::ECAM.len() >> 20)),
        resource::io(configuration),
        resource::word_io(below),
        resource::word_io(above),
        resource::dword_memory(layout::PCI_MMIO32),
        resource::qword_memory(layout::PCI_MMIO64),
    ]
}

/// `_OSC` (PCI Firmware 3.3, 4.5.1): the operating system may have all that it asks for; firmware drives nothing.
fn operating_system_capabilities() -> Term {
    const HOST_BRIDGE: u128 = 0x33db_4d5b_1ff7_401c_9657_7441_c03d_d766;
    const UNKNOWN_UUID: u64 = 1 << 2;
    const UNKNOWN_REVISION: u64 = 1 << 3;
    let status = path("CDW1");
    let add = |bit: u64| store(&or(&status, &int(bit)), &status);
    let revision_is_known = equal(&arg(1), &int(1));
    let ours = [if_then(&not(&revision_is_known), &[add(UNKNOWN_REVISION)])];
    let body = [
        create_dword_field(&arg(3), 0, "CDW1"),
        if_else(
            &equal(&arg(0), &uuid(HOST_BRIDGE)),
            &ours,
            &[add(UNKNOWN_UUID)],
        ),
        ret(&arg(3)),
    ];
    method("_OSC", 4, Concurrency::Serialized, &body)
}

/// A routing table: slot and pin to a source and its index (ACPI 6.5, 6.2.13). All wired slots, whatever is in them.
fn routing(source: impl Fn(u8, u8) -> (Value, Value)) -> Value {
    const ALL_FUNCTIONS: u64 = 0xffff;
    let mut entries = Vec::new();
    for slot in slot::WITH_INTX {
        for pin in 0..4_u8 {
            let (device, index) = source(slot, pin);
            let address = int(u64::from(slot) << 16 | ALL_FUNCTIONS);
            entries.push(package(&[address, int(pin.into()), device, index]));
        }
    }
    package(&entries)
}

// ---- Interrupt links ------------------------------------------------------------------------------------------

fn link_name(pirq: usize) -> String {
    format!("LNK{}", letter(pirq))
}

fn letter(pirq: usize) -> char {
    char::from(b'A' + (pirq & 7) as u8)
}

/// A PIRQ wire, which the operating system routes to an ISA interrupt if it uses the 8259 pair.
fn link(pirq: usize) -> Term {
    const DISABLED: u64 = 0x80;
    const ROUTE: u64 = 0x0f;
    let register = path(&format!("^^LPC.PIR{}", letter(pirq)));
    let disabled = and(&register, &int(DISABLED));
    let irq = and(&register, &int(ROUTE));
    let current = [
        // The mask stands behind the descriptor's tag.
        create_word_field(&path("BUF"), 1, "MASK"),
        if_then(
            &not(&disabled),
            &[store(&shift_left(&int(1), &irq), &path("MASK"))],
        ),
        ret(&path("BUF")),
    ];
    let set = [
        create_word_field(&arg(0), 1, "MASK"),
        store(
            &subtract(&find_set_right_bit(&path("MASK")), &int(1)),
            &register,
        ),
    ];
    let present = [if_then(&disabled, &[ret(&int(0x9))]), ret(&int(0xb))];
    let possible = [resource::irq_level_shared(layout::PIRQ_IRQ_POSSIBLE)];
    let body = [
        name("_HID", &eisa_id(b"PNP0C0F")),
        name("_UID", &int(pirq as u64)),
        name("_PRS", &template(&possible)),
        name("BUF", &template(&[resource::irq_level_shared(0)])),
        method("_STA", 0, Concurrency::NotSerialized, &present),
        method(
            "_DIS",
            0,
            Concurrency::NotSerialized,
            &[store(&int(DISABLED), &register)],
        ),
        method("_CRS", 0, Concurrency::Serialized, &current),
        method("_SRS", 1, Concurrency::Serialized, &set),
    ];
    device(&link_name(pirq), &body)
}

// ---- The LPC bridge and what is behind it ---------------------------------------------------------------------

fn lpc_bridge() -> Term {
    let ports = |spans: &[Span]| {
        spans
            .iter()
            .map(|&span| resource::io(span))
            .collect::<Vec<_>>()
    };
    let with_irq = |spans: &[Span], irq| [ports(spans), vec![resource::irq(irq)]].concat();
    let mut body = vec![name("_ADR", &int(u64::from(slot::LPC) << 16))];
    body.extend(routing_registers());
    let devices = [
        ("COM1", b"PNP0501", 1, with_irq(&[port::COM1], irq::COM1)),
        ("COM2", b"PNP0501", 2, with_irq(&[port::COM2], irq::COM2)),
        ("RTC", b"PNP0B00", 0, with_irq(&[port::RTC], irq::RTC)),
        (
            "PIC",
            b"PNP0000",
            0,
            with_irq(&[port::PIC_MASTER, port::PIC_SLAVE], irq::CASCADE),
        ),
        ("TIMR", b"PNP0100", 0, with_irq(&[port::PIT], irq::PIT)),
        ("SYSR", b"PNP0C02", 1, ports(&SYSTEM_PORTS)),
        ("XBUS", b"PNP0A06", 0, ports(&EXTENDED_BUS_PORTS)),
    ];
    for (name, id, uid, resources) in devices {
        body.push(device(name, &pnp(id, uid, &resources)));
    }
    device("LPC", &body)
}

/// Ports that belong to the board.
const SYSTEM_PORTS: [Span; 8] = [
    port::NMI_STATUS,
    port::SYSTEM_CONTROL_A,
    port::SMI_COMMAND,
    port::PM1A_EVENT,
    port::PM1A_CONTROL,
    port::PM_TIMER,
    port::ELCR,
    port::DELAY,
];

/// Ports of an AT's extended bus with nothing but a reset behind them. Linux counts them as its own before it reads any
/// table, and would complain of a PNP0C02 that claims them too.
const EXTENDED_BUS_PORTS: [Span; 3] = [port::I8042_DATA, port::I8042_COMMAND, port::POST];

/// The routing registers of the PIRQ wires: A to D from 0x60, E to H from 0x68.
fn routing_registers() -> [Term; 2] {
    let names = [
        Some("PIRA"),
        Some("PIRB"),
        Some("PIRC"),
        Some("PIRD"),
        None,
        None,
        None,
        None,
    ]
    .into_iter()
    .chain([Some("PIRE"), Some("PIRF"), Some("PIRG"), Some("PIRH")])
    .collect::<Vec<_>>();
    [
        pci_config_region("PIRQ", 0x60, names.len() as u64),
        byte_fields("PIRQ", &names),
    ]
}
