//! dmidecode reads the SMBIOS structures without a complaint, and what they say is the machine (D17).

use std::process::Command;

use crate::machines::{find, specs, tables};
use xlaunch::firmware::smbios;
use xlaunch::layout;
use xlaunch::spec::{MIB, MachineSpec};

/// Words of complaint, from what dmidecode can say.
const COMPLAINTS: [&str; 8] = [
    "<BAD INDEX>",
    "<OUT OF SPEC>",
    "Wrong",
    "Invalid",
    "TRUNCATED",
    "truncated",
    "Table is unreachable",
    "Not Settable",
];

fn decode(spec: &MachineSpec) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("SMBIOS.dat");
    let all = tables(spec);
    std::fs::write(&file, smbios::dump(find(&all, "_SM3_"))).unwrap();
    let mut command = Command::new("dmidecode");
    let Ok(output) = command.arg("--from-dump").arg(&file).output() else {
        println!("skipped: there is no dmidecode; scripts/setup --tests installs it");
        return None;
    };
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&both).into_owned();
    assert!(output.status.success(), "{said}");
    Some(said)
}

/// A size as dmidecode writes it: in the largest unit that is in it, or in the next if there is something of that too.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "kB", "MB", "GB", "TB"];
    let part = |unit: usize| bytes >> (10 * unit) & 0x3ff;
    let largest = (1..UNITS.len()).rev().find(|&unit| part(unit) > 0);
    let largest = largest.unwrap_or(0);
    match largest.checked_sub(1).filter(|&unit| part(unit) > 0) {
        Some(next) => format!("{} {}", part(largest) << 10 | part(next), UNITS[next]),
        None => format!("{} {}", part(largest), UNITS[largest]),
    }
}

#[test]
fn dmidecode_reads_every_machine_without_complaint() {
    for spec in specs() {
        let Some(said) = decode(&spec) else { return };
        for complaint in COMPLAINTS {
            assert!(!said.contains(complaint), "{complaint} in {said}");
        }
        let (cpus, memory) = (spec.cpus.count(), spec.memory.bytes());
        let mut parts = vec![
            "SMBIOS 3.0.0 present".to_owned(),
            format!("Core Count: {cpus}\n"),
            format!("Core Enabled: {cpus}\n"),
            format!("Thread Count: {cpus}\n"),
            // A module has whole MiB where it is not small, the array has all bytes.
            format!("Size: {}\n", size(memory / MIB * MIB)),
            format!("Maximum Capacity: {}", size(memory)),
            "End Of Table".to_owned(),
        ];
        for ram in [layout::low_ram(memory), layout::high_ram(memory)] {
            if !ram.is_empty() {
                parts.push(format!("Starting Address: {:#013X}", ram.start).replace("0X", "0x"));
                parts.push(format!("Ending Address: {:#013X}", ram.end - 1).replace("0X", "0x"));
            }
        }
        for part in parts {
            assert!(said.contains(&part), "{part} in {said}");
        }
    }
}

/// D17: xhyve's UUID was twice as long as its field and overwrote what stands behind it.
#[test]
fn the_uuid_is_one_and_leaves_its_neighbours_alone() {
    let spec = &specs()[1];
    let Some(said) = decode(spec) else { return };
    let line = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("UUID: "));
    let groups: Vec<&str> = line.unwrap().split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    assert_eq!(lengths, [8, 4, 4, 4, 12], "{said}");
    assert!(
        groups[2].starts_with('4') && "89ab".contains(&groups[3][..1]),
        "{said}"
    );
    for part in [
        "Wake-up Type: Power Switch",
        "Family: Virtual Machine",
        "Manufacturer: xlaunch",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert_ne!(decode(spec).unwrap(), said, "every machine is another");
}
