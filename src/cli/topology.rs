//! `xlaunch topology`: the machine as a person would draw it, or as JSON.

use super::json::{Json, list, number, text};
use crate::layout::{self, port};
use crate::machine::{CLOCKS, Function, Isa, Region, Topology, Wire, isa_interrupts};
use crate::memory::{self, Kind};
use crate::pci::{BarKind, Decoded};
use std::fmt::Write;

/// The drawing.
pub(super) fn draw(machine: &Topology) -> String {
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = sheet(&mut page, machine);
    page
}

fn sheet(page: &mut String, machine: &Topology) -> std::fmt::Result {
    writeln!(page, "CPUs")?;
    let (count, lapic) = (machine.cpus, layout::LAPIC.start);
    writeln!(page, "  {count}, each with its index as APIC id")?;
    writeln!(page, "  local APIC of each at {lapic:#x}, or x2APIC")?;
    writeln!(page, "\nClocks")?;
    for (name, hertz) in CLOCKS {
        writeln!(page, "  {name:18} {hertz:>10} Hz")?;
    }
    writeln!(page, "\nPhysical memory")?;
    for (span, what) in memory_lines(machine) {
        let (last, size) = (span.end - 1, size(span.len()));
        writeln!(
            page,
            "  {:#012x} - {last:#012x}  {size:>8}  {what}",
            span.start
        )?;
    }
    writeln!(page, "\nInterrupts")?;
    writeln!(page, "  ISA to the 8259 pair and the I/O APIC:")?;
    for Isa { irq, gsi, name } in isa_interrupts() {
        writeln!(page, "    IRQ {irq:<2} = GSI {gsi:<2}  {name}")?;
    }
    writeln!(
        page,
        "  PCI to the I/O APIC, and by the LPC bridge to the 8259 pair:"
    )?;
    for pirq in 0..layout::PIRQS {
        let (gsi, irq) = (layout::PIRQ_GSI as usize + pirq, layout::PIRQ_IRQ[pirq]);
        writeln!(
            page,
            "    PIRQ {} = GSI {gsi} or IRQ {irq}",
            pirq_letter(pirq)
        )?;
    }
    writeln!(page, "\nPCI bus 0")?;
    for function in &machine.functions {
        draw_function(page, function)?;
    }
    writeln!(page, "\nPorts")?;
    let fixed = machine.ports.iter().map(|it| (it.span, it.name));
    for (span, name) in fixed.chain(windows().into_iter().skip(2)) {
        writeln!(
            page,
            "  {:#06x} - {:#06x}  {name}",
            span.start,
            span.end - 1
        )?;
    }
    Ok(())
}

fn draw_function(page: &mut String, function: &Function) -> std::fmt::Result {
    let it = &function.installed;
    let ids = format!("{:04x}:{:04x}", it.vendor, it.id);
    writeln!(
        page,
        "  {}  {ids}  class {:06x}  {}",
        address(function),
        it.class,
        function.name
    )?;
    if let Some(Wire {
        pin,
        pirq,
        gsi,
        irq,
    }) = function.wire
    {
        let (pin, pirq) = (pin_letter(pin), pirq_letter(pirq));
        writeln!(
            page,
            "      INT{pin}# = PIRQ {pirq} = GSI {gsi} or IRQ {irq}{}",
            messages(function)
        )?;
    }
    for Decoded {
        index,
        kind,
        window,
    } in &it.bars
    {
        let (kind, size) = (kind_name(*kind), size(window.size));
        writeln!(
            page,
            "      BAR {index}: {size} of {kind} at {:#x}",
            window.base
        )?;
    }
    Ok(())
}

fn messages(function: &Function) -> String {
    let told = |name: &str, vectors: u16| match vectors {
        0 => String::new(),
        vectors => format!(", {name} with {vectors}"),
    };
    told("MSI", function.installed.msi) + &told("MSI-X", function.installed.msix)
}

/// RAM, registers and PCI windows in one list by address.
fn memory_lines(machine: &Topology) -> Vec<(layout::Span, &str)> {
    let told = machine.map.iter().map(|range| (range.span, kind(range)));
    let registers = machine.registers.iter().map(|it| (it.span, it.name));
    let windows = windows().into_iter().take(2);
    let ecam = |span: &layout::Span| *span == layout::ECAM;
    let mut lines: Vec<_> = told
        .filter(|(span, _)| !ecam(span))
        .chain(registers)
        .chain(windows)
        .collect();
    lines.sort_by_key(|(span, _)| span.start);
    lines
}

/// Where BARs can go.
fn windows() -> [(layout::Span, &'static str); 3] {
    let memory = |span| (span, layout::memory_name(span).unwrap_or_default());
    let ports = (port::PCI_IO, port::name(port::PCI_IO).unwrap_or_default());
    [
        memory(layout::PCI_MMIO32),
        memory(layout::PCI_MMIO64),
        ports,
    ]
}

/// The machine as data.
pub(super) fn json(machine: &Topology) -> Json {
    Json::Object(vec![
        (
            "cpus",
            list(0..machine.cpus, |id| {
                Json::Object(vec![("index", number(id)), ("apic_id", number(id))])
            }),
        ),
        ("memory", number(machine.memory)),
        (
            "memory_map",
            list(&machine.map, |range| {
                spanned(range.span, "kind", kind(range))
            }),
        ),
        ("registers", list(&machine.registers, region)),
        ("ports", list(&machine.ports, region)),
        (
            "pci_windows",
            list(windows(), |(span, name)| spanned(span, "name", name)),
        ),
        (
            "clocks",
            list(CLOCKS, |(name, hertz)| {
                Json::Object(vec![("name", text(name)), ("hertz", number(hertz))])
            }),
        ),
        (
            "ioapic",
            Json::Object(vec![
                ("id", number(layout::IOAPIC_ID)),
                ("pins", number(layout::IOAPIC_PINS)),
            ]),
        ),
        ("isa_interrupts", list(isa_interrupts(), isa)),
        ("pirqs", list(0..layout::PIRQS, pirq)),
        ("pci", list(&machine.functions, function_data)),
    ])
}

fn function_data(function: &Function) -> Json {
    let it = &function.installed;
    Json::Object(vec![
        ("address", text(address(function))),
        ("device", number(it.device)),
        ("name", text(function.name)),
        ("vendor_id", number(it.vendor)),
        ("device_id", number(it.id)),
        ("class", number(it.class)),
        ("bars", list(&it.bars, bar)),
        ("interrupt", function.wire.map_or(Json::Null, wire)),
        ("msi_vectors", number(it.msi)),
        ("msix_vectors", number(it.msix)),
    ])
}

fn bar(bar: &Decoded) -> Json {
    Json::Object(vec![
        ("index", number(bar.index)),
        ("kind", text(kind_name(bar.kind))),
        ("address", number(bar.window.base)),
        ("size", number(bar.window.size)),
    ])
}

fn wire(wire: Wire) -> Json {
    Json::Object(vec![
        ("pin", text(pin_letter(wire.pin))),
        ("pirq", text(pirq_letter(wire.pirq))),
        ("gsi", number(wire.gsi)),
        ("irq", number(wire.irq)),
    ])
}

fn isa(interrupt: Isa) -> Json {
    Json::Object(vec![
        ("irq", number(interrupt.irq)),
        ("gsi", number(interrupt.gsi)),
        ("name", text(interrupt.name)),
    ])
}

fn pirq(pirq: usize) -> Json {
    Json::Object(vec![
        ("pirq", text(pirq_letter(pirq))),
        ("gsi", number(layout::PIRQ_GSI + pirq as u32)),
        ("irq", number(layout::PIRQ_IRQ[pirq])),
    ])
}

fn region(region: &Region) -> Json {
    spanned(region.span, "name", region.name)
}

fn spanned(span: layout::Span, what: &'static str, name: &str) -> Json {
    Json::Object(vec![
        ("start", number(span.start)),
        ("end", number(span.end)),
        (what, text(name)),
    ])
}

/// Bus, device and function.
fn address(function: &Function) -> String {
    format!("00:{:02x}.0", function.installed.device)
}

fn kind(range: &memory::Range) -> &'static str {
    match range.kind {
        Kind::Usable => "RAM",
        Kind::Reserved => "reserved",
    }
}

fn kind_name(kind: BarKind) -> &'static str {
    match kind {
        BarKind::Io => "ports",
        BarKind::Memory32 => "32-bit memory",
        BarKind::Memory64 => "64-bit memory",
    }
}

fn pin_letter(pin: u8) -> char {
    char::from(b'A' + (pin & 3))
}

fn pirq_letter(pirq: usize) -> char {
    char::from(b'A' + (pirq & 7) as u8)
}

/// A number of bytes in the largest unit that divides it.
fn size(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let whole = units
        .iter()
        .find(|(shift, _)| bytes.is_multiple_of(1 << shift));
    match whole {
        Some((shift, unit)) => format!("{} {unit}", bytes >> shift),
        None => format!("{bytes} B"),
    }
}
