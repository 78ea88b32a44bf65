//! ACPICA itself, the interpreter that Linux has, loads the tables and evaluates what a system would: what comes out is what
//! the layout says. Each run has a new namespace and a PIRQ router whose registers all read `ROUTED`.

use std::collections::BTreeMap;
use std::process::Command;

use crate::machines::{find, number, spec, specs, tables};
use xlaunch::layout::{self, PIRQ_IRQ_POSSIBLE, Span, slot};
use xlaunch::machine::{isa_interrupts, topology};
use xlaunch::spec::{GIB, MachineSpec};

/// What region fields read before anything is written.
const ROUTED: u8 = 0x0b;

/// What an object evaluates to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Integer(u64),
    Text(String),
    Buffer(Vec<u8>),
    Package(Vec<Value>),
    Reference(String),
}

/// Runs the debugger's commands and gives what it says; nothing, and why, without the program.
fn run(spec: &MachineSpec, commands: &[&str]) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let all = tables(spec);
    let names = ["DSDT", "FACP", "APIC", "HPET", "MCFG"];
    for name in names {
        std::fs::write(dir.path().join(name), &find(&all, name).bytes).unwrap();
    }
    let mut command = Command::new("acpiexec");
    command.current_dir(dir.path());
    command.args([
        "-fv",
        &format!("{ROUTED:#x}"),
        "-b",
        &(commands.join(";") + ";quit"),
    ]);
    let Ok(output) = command.args(names).output() else {
        println!("skipped: there is no acpiexec; scripts/setup --tests installs it");
        return None;
    };
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&both).into_owned();
    assert!(output.status.success(), "{said}");
    complain(&said);
    Some(said)
}

/// ACPICA's words for what it does not like, but for two things of the debugger's own: its tests of general purpose
/// events and of PM2, which it runs though there are none, and the integers that it gives methods for whatever they want.
fn complain(said: &str) {
    let own = |line: &&str| {
        let guessed = "type mismatch - Found [Integer], ACPI requires [Buffer]";
        line.starts_with("Unexpected AE_") || line.contains(guessed)
    };
    for line in said.lines().filter(|line| !own(line)) {
        let words = [
            "Error",
            "Warning",
            "Exception",
            "failed",
            "Could not",
            "AE_AML",
            "BIOS",
        ];
        let bad = words.iter().any(|word| line.contains(word));
        assert!(!bad, "{line}\nin\n{said}");
    }
}

/// All evaluations that the output tells of, by path, the last of each.
fn evaluations(said: &str) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    let lines: Vec<&str> = said.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let Some(rest) = line.strip_prefix("Evaluation of ") else {
            continue;
        };
        let Some((path, _)) = rest.split_once(" returned object") else {
            continue;
        };
        let mut rest = lines[at + 1..].iter().copied().peekable();
        found.insert(
            path.replace("_.", ".").replace("\\_SB_.", "\\_SB."),
            value(&mut rest),
        );
    }
    found
}

/// Reads a value as the debugger writes it: a kind in brackets, then its contents, elements of packages indented.
fn value<'a>(lines: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>) -> Value {
    let line = lines.next().unwrap().trim();
    let (kind, rest) = line.split_once("] ").unwrap_or((line, ""));
    match kind {
        "[Integer" => {
            Value::Integer(u64::from_str_radix(rest.trim_start_matches("= "), 16).unwrap())
        }
        "[String" => Value::Text(rest.split('"').nth(1).unwrap().to_owned()),
        "[Package" => {
            let count = rest.split_whitespace().nth(1).unwrap().parse().unwrap();
            Value::Package((0..count).map(|_| value(lines)).collect())
        }
        "[Buffer" => {
            // Length 0E =     0000: 86 09 …  // …
            let (length, first) = rest.split_once('=').unwrap();
            let length =
                usize::from_str_radix(length.trim_start_matches("Length ").trim(), 16).unwrap();
            let mut bytes = hex(first);
            while bytes.len() < length {
                bytes.extend(hex(lines.next().unwrap()));
            }
            Value::Buffer(bytes)
        }
        _ => Value::Reference(line.to_owned()),
    }
}

/// The bytes of a line of a dump: `0010: 47 01  // G.`
fn hex(line: &str) -> Vec<u8> {
    let Some((_, bytes)) = line.split_once(": ") else {
        return Vec::new();
    };
    let bytes = bytes.split("//").next().unwrap_or_default();
    bytes
        .split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

/// A resource descriptor (ACPI 6.5, 6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resource {
    Ports(Span),
    Memory(Span),
    /// A bit for each interrupt.
    Interrupts(u16),
    /// Type (0 memory, 1 ports, 2 buses) and range of what a bridge passes on.
    Window(u8, Span),
}

fn resources(value: &Value) -> Vec<Resource> {
    let Value::Buffer(bytes) = value else {
        panic!("no resources: {value:?}");
    };
    let mut rest = &bytes[..];
    let mut found = Vec::new();
    loop {
        // Small descriptors have their length in the tag, large ones behind it (6.4.2, 6.4.3).
        let head = if rest[0] & 0x80 == 0 { 1 } else { 3 };
        let length = if head == 1 {
            usize::from(rest[0] & 7)
        } else {
            number(&rest[1..3]) as usize
        };
        let (all, tail) = rest.split_at(head + length);
        let window = |size: usize| {
            let field = |n: usize| number(&all[6 + n * size..6 + (n + 1) * size]);
            assert_eq!(
                field(2) + 1 - field(1),
                field(4),
                "length is maximum - minimum + 1"
            );
            assert_eq!(
                (field(0), field(3)),
                (0, 0),
                "no granularity, no translation"
            );
            Resource::Window(all[3], Span::new(field(1), field(4)))
        };
        found.push(match all[0] {
            0x79 => return found,
            0x47 => {
                assert_eq!(all[2..4], all[4..6], "fixed");
                Resource::Ports(Span::new(number(&all[2..4]), all[7].into()))
            }
            0x22 | 0x23 => Resource::Interrupts(number(&all[1..3]) as u16),
            0x86 => Resource::Memory(Span::new(number(&all[4..8]), number(&all[8..12]))),
            0x88 => window(2),
            0x87 => window(4),
            0x8a => window(8),
            other => panic!("descriptor {other:#x}"),
        });
        rest = tail;
    }
}

/// The rows of a routing table: slot, pin, and what stands behind them.
fn rows(said: &str) -> Vec<(u8, u8, Value, u64)> {
    let found = evaluations(said);
    let Some(Value::Package(rows)) = found.get("\\_SB.PCI0._PRT") else {
        panic!("no _PRT in {said}");
    };
    let row = |row: &Value| {
        let Value::Package(fields) = row else {
            panic!("{row:?}")
        };
        let [
            Value::Integer(address),
            Value::Integer(pin),
            source,
            Value::Integer(index),
        ] = &fields[..]
        else {
            panic!("{fields:?}");
        };
        assert_eq!(address & 0xffff, 0xffff, "all functions");
        ((address >> 16) as u8, *pin as u8, source.clone(), *index)
    };
    rows.iter().map(row).collect()
}

fn pins() -> impl Iterator<Item = (u8, u8)> {
    slot::WITH_INTX.flat_map(|slot| (0..4).map(move |pin| (slot, pin)))
}

#[test]
fn the_routing_table_for_io_apics_names_the_pins_of_the_layout() {
    for spec in specs() {
        let Some(said) = run(&spec, &["evaluate \\_PIC 1", "evaluate \\_SB.PCI0._PRT"]) else {
            return;
        };
        let wired = pins().map(|(slot, pin)| {
            let gsi = layout::intx_gsi(slot, pin);
            (slot, pin, Value::Integer(0), gsi.into())
        });
        assert_eq!(rows(&said), wired.collect::<Vec<_>>());
    }
}

#[test]
fn the_routing_table_for_the_8259_pair_names_the_links_of_the_layout() {
    let spec = spec(2, GIB, 1, true);
    for mode in ["evaluate \\_PIC 0", "evaluate \\_SB"] {
        // The mode that a system is in that has not called _PIC.
        let commands: &[&str] = match mode {
            "evaluate \\_SB" => &["evaluate \\_SB.PCI0._PRT"],
            mode => &[mode, "evaluate \\_SB.PCI0._PRT"],
        };
        let Some(said) = run(&spec, commands) else {
            return;
        };
        let rows = rows(&said);
        assert_eq!(rows.len(), pins().count());
        for ((slot, pin), (told_slot, told_pin, source, index)) in pins().zip(rows) {
            assert_eq!((slot, pin, 0), (told_slot, told_pin, index));
            let link = format!("LNK{}", letter(layout::intx_pirq(slot, pin)));
            assert!(
                matches!(&source, Value::Reference(text) if text.contains(&link)),
                "{link}: {source:?}"
            );
        }
    }
}

fn letter(pirq: usize) -> char {
    char::from(b'A' + pirq as u8)
}

#[test]
fn links_tell_and_take_what_their_register_holds() {
    let each = |pirq: usize| {
        let link = format!("\\_SB.PCI0.LNK{}", letter(pirq));
        let routed = 1_u16 << 7;
        let set = format!(
            "evaluate {link}._SRS (23 {:02x} {:02x} 18 79 00)",
            routed as u8,
            routed >> 8
        );
        let before = ["_PRS", "_CRS", "_STA"].map(|name| format!("evaluate {link}.{name}"));
        let after = ["_CRS", "_DIS", "_STA"].map(|name| format!("evaluate {link}.{name}"));
        let told = |commands: &[String]| {
            let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
            run(&spec(1, GIB, 0, false), &commands).map(|said| evaluations(&said))
        };
        let first = told(&before)?;
        let at =
            |found: &BTreeMap<String, Value>, name: &str| found[&format!("{link}.{name}")].clone();
        assert_eq!(
            resources(&at(&first, "_PRS")),
            [Resource::Interrupts(PIRQ_IRQ_POSSIBLE)]
        );
        assert_eq!(
            resources(&at(&first, "_CRS")),
            [Resource::Interrupts(1 << ROUTED)]
        );
        assert_eq!(at(&first, "_STA"), Value::Integer(0xb));
        let second = told(&[&[set][..], &after].concat())?;
        assert_eq!(
            resources(&at(&second, "_CRS")),
            [Resource::Interrupts(routed)]
        );
        assert_eq!(
            at(&second, "_STA"),
            Value::Integer(9),
            "present, but disabled"
        );
        Some(())
    };
    // One run that skips is enough to say so.
    for pirq in 0..layout::PIRQS {
        if each(pirq).is_none() {
            return;
        }
    }
}

#[test]
fn soft_off_is_the_only_sleep() {
    let Some(said) = run(
        &spec(1, GIB, 0, false),
        &["evaluate \\_S5", "find _S?_", "find _S??"],
    ) else {
        return;
    };
    let type_a = Value::Integer(layout::SLP_TYP_S5.into());
    let zero = Value::Integer(0);
    assert_eq!(
        evaluations(&said)["\\_S5"],
        Value::Package(vec![type_a, zero.clone(), zero.clone(), zero])
    );
    for state in ["_S1_", "_S2_", "_S3_", "_S4_"] {
        assert!(!said.contains(state), "{said}");
    }
}

/// Every predefined name of every device, and the resources among them against the machine.
#[test]
fn what_devices_claim_is_what_the_machine_has() {
    for spec in specs() {
        // The debugger shows the contents of buffers only once something has been evaluated by name.
        let Some(said) = run(&spec, &["evaluate \\_PIC 1", "execute predefined"]) else {
            return;
        };
        let found = evaluations(&said);
        let of = |suffix: &str| -> BTreeMap<&str, &Value> {
            let named = found.iter().filter(|(path, _)| path.ends_with(suffix));
            named
                .map(|(path, value)| (path.trim_end_matches(suffix), value))
                .collect()
        };
        let machine = topology(&spec).unwrap();
        let claims = of("._CRS");
        let all: Vec<Resource> = claims.values().flat_map(|value| resources(value)).collect();
        let count = |wanted: Span, io: bool| {
            let holds = |it: &&Resource| match **it {
                Resource::Ports(span) if io => span.start <= wanted.start && wanted.end <= span.end,
                Resource::Memory(span) if !io => span == wanted,
                _ => false,
            };
            all.iter().filter(holds).count()
        };
        for region in &machine.ports {
            assert_eq!(count(region.span, true), 1, "{}", region.name);
        }
        for region in &machine.registers {
            // The interrupt controllers are the MADT's to tell.
            let claims = usize::from(![layout::IOAPIC, layout::LAPIC].contains(&region.span));
            assert_eq!(count(region.span, false), claims, "{}", region.name);
        }
        interrupts(&claims);
        windows(&resources(claims["\\_SB.PCI0"]));
        processors(&of("._HID"), &of("._UID"), spec.cpus.count());
    }
}

fn interrupts(claims: &BTreeMap<&str, &Value>) {
    let of = |device: &str| resources(claims[format!("\\_SB.PCI0.LPC.{device}").as_str()]);
    for isa in isa_interrupts() {
        let device = match isa.name {
            "timer" => "TIMR",
            // The SCI is the FADT's to tell.
            "ACPI" => continue,
            name => name,
        };
        assert!(
            of(device).contains(&Resource::Interrupts(1 << isa.irq)),
            "{device}"
        );
    }
}

/// D9: xhyve's 64-bit window began at 0.
fn windows(bridge: &[Resource]) {
    const MEMORY: u8 = 0;
    let passed: Vec<_> = bridge
        .iter()
        .filter_map(|it| match it {
            Resource::Window(MEMORY, span) => Some(*span),
            _ => None,
        })
        .collect();
    assert_eq!(passed, [layout::PCI_MMIO32, layout::PCI_MMIO64]);
    let buses = Resource::Window(2, Span::new(0, layout::ECAM.len() >> 20));
    assert!(
        bridge.contains(&buses),
        "as many buses as the ECAM has room for"
    );
    let window = layout::port::PCI_IO;
    let holds = |it: &&Resource| matches!(it, Resource::Window(1, span) if span.start <= window.start && window.end <= span.end);
    assert_eq!(bridge.iter().filter(holds).count(), 1);
}

/// D25: without these, some systems see one CPU.
fn processors(ids: &BTreeMap<&str, &Value>, uids: &BTreeMap<&str, &Value>, cpus: u8) {
    let processor = Value::Text("ACPI0007".to_owned());
    let devices = ids.iter().filter(|(_, id)| ***id == processor);
    let uids: Vec<_> = devices.map(|(device, _)| uids[device].clone()).collect();
    assert_eq!(
        uids,
        (0..cpus)
            .map(|id| Value::Integer(id.into()))
            .collect::<Vec<_>>()
    );
}
