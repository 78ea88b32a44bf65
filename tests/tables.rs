//! The firmware's tables as somebody else reads them: `iasl` (Debian's acpica-tools) takes each apart and compiles the
//! DSDT again, both without a complaint. Skipped, with a line that says so, where there is no iasl.

use std::path::Path;
use std::process::{Command, Output};

use xlaunch::firmware::acpi::{Machine, tables};

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
