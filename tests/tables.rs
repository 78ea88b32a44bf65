//! The firmware's tables as somebody else reads them: `iasl` (Debian's acpica-tools) takes each apart and compiles the
//! DSDT again, both without a complaint. Skipped, with a line that says so, where there is no iasl.

use std::path::Path;
use std::process::{Command, Output};

use xlaunch::firmware::acpi::{Machine, tables};
use xlaunch::firmware::smbios;

fn iasl(dir: &Path, args: &[&str]) -> Option<Output> {
    Command::new("iasl")
        .current_dir(dir)
        .args(args)
        .output()
        .ok()
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// Writes the tables of `machine` as files named after their signatures, and gives the names.
fn write_tables(dir: &Path, machine: &Machine) -> Vec<String> {
    let mut names = Vec::new();
    for piece in tables(machine) {
        let name = String::from_utf8_lossy(&piece.bytes[..4]).trim().to_owned();
        if name != "RSD" {
            std::fs::write(dir.join(format!("{name}.dat")), &piece.bytes).unwrap();
            names.push(name);
        }
    }
    names
}

fn check(machine: &Machine) {
    let dir = tempfile::tempdir().unwrap();
    for name in write_tables(dir.path(), machine) {
        let file = format!("{name}.dat");
        let Some(taken_apart) = iasl(dir.path(), &["-d", &file]) else {
            println!("skipped: there is no iasl; install acpica-tools");
            return;
        };
        let said = text(&taken_apart);
        assert!(taken_apart.status.success(), "{name}: {said}");
        for word in ["Error", "Warning", "Invalid", "Incorrect"] {
            assert!(!said.contains(word), "{name}: {said}");
        }
        let source = std::fs::read_to_string(dir.path().join(format!("{name}.dsl"))).unwrap();
        for word in ["Unknown", "**** ", "Invalid", "incorrect"] {
            assert!(!source.contains(word), "{name}: {word} in {source}");
        }
    }
    let again = iasl(dir.path(), &["-we", "-on", "-p", "again", "DSDT.dsl"]).unwrap();
    let said = text(&again);
    assert!(
        said.contains("Compilation successful. 0 Errors, 0 Warnings, 0 Remarks"),
        "{said}"
    );
    let original = std::fs::read(dir.path().join("DSDT.dat")).unwrap();
    let compiled = std::fs::read(dir.path().join("again.aml")).unwrap();
    // Creator id and revision (bytes 28 to 35), and with them the checksum, are the compiler's own.
    assert_eq!(original.len(), compiled.len());
    assert_eq!(original[36..], compiled[36..], "the same byte code");
}

#[test]
fn iasl_takes_every_table_apart_and_compiles_the_dsdt_to_the_same_bytes() {
    for cpus in [1, 2, 64] {
        for hpet in [false, true] {
            check(&Machine { cpus, hpet });
        }
    }
}

/// Writes what `dmidecode --dump-bin` would: the entry point, with the structures' place in the file, and these.
fn write_dump(file: &Path, machine: &smbios::Machine) {
    const PLACE: usize = 0x20;
    let mut bytes = smbios::tables(machine).bytes;
    bytes[16..24].copy_from_slice(&(PLACE as u64).to_le_bytes());
    bytes[5] = 0;
    bytes[5] = bytes[..24]
        .iter()
        .fold(0_u8, |sum, byte| sum.wrapping_sub(*byte));
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn dmidecode_understands_every_structure() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("dump");
    write_dump(
        &file,
        &smbios::Machine {
            cpus: 3,
            memory: 5 << 30,
            uuid: *b"\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef",
        },
    );
    let Ok(output) = Command::new("dmidecode")
        .arg("--from-dump")
        .arg(&file)
        .output()
    else {
        println!("skipped: there is no dmidecode; install it");
        return;
    };
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    for part in [
        "SMBIOS 3.0.0 present",
        "UUID: 01234567-89ab-cdef-0123-456789abcdef",
        "Core Count: 3",
        "Maximum Capacity: 5 GB",
        "Size: 5 GB",
        "Ending Address: 0x0017FFFFFFF",
        "End Of Table",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    for part in [
        "<BAD INDEX>",
        "<OUT OF SPEC>",
        "Wrong",
        "bad",
        "TRUNCATED",
        "truncated",
    ] {
        assert!(!said.contains(part), "{part} in {said}");
    }
}
