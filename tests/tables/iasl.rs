//! Intel's compiler and disassembler takes every table apart and puts the DSDT together again, without a complaint.

use std::path::Path;
use std::process::{Command, Output};

use crate::machines::{specs, tables};
use xlaunch::firmware::acpi;
use xlaunch::memory::Piece;

fn iasl(dir: &Path, args: &[&str]) -> Option<Output> {
    let mut command = Command::new("iasl");
    command.current_dir(dir).args(args).output().ok()
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// Writes tables as files named after their signatures, and gives the names. The disassembler takes no RSDP from a file
/// that ends with it in this version, MP tables and SMBIOS are not its business.
fn write(dir: &Path, tables: &[Piece]) -> Vec<String> {
    let signatures = tables.iter().map(|piece| (piece, &piece.bytes[..4]));
    let acpi = signatures.filter(|(_, it)| !matches!(*it, b"RSD " | b"_MP_" | b"_SM3"));
    acpi.map(|(piece, signature)| {
        let name = String::from_utf8_lossy(signature).into_owned();
        std::fs::write(dir.join(format!("{name}.dat")), &piece.bytes).unwrap();
        name
    })
    .collect()
}

fn check(tables: &[Piece]) {
    let dir = tempfile::tempdir().unwrap();
    for name in write(dir.path(), tables) {
        let file = format!("{name}.dat");
        let Some(taken_apart) = iasl(dir.path(), &["-d", &file]) else {
            println!("skipped: there is no iasl; scripts/setup --tests installs it");
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
        compile(dir.path(), &name);
    }
}

/// Compiles what was taken apart: byte code to the same bytes, data tables to the same but for what is the compiler's own.
fn compile(dir: &Path, name: &str) {
    let source = format!("{name}.dsl");
    let output = iasl(dir, &["-we", "-on", "-p", "again", &source]).unwrap();
    let said = text(&output);
    assert!(
        said.contains("Compilation successful. 0 Errors, 0 Warnings"),
        "{name}: {said}"
    );
    let original = std::fs::read(dir.join(format!("{name}.dat"))).unwrap();
    let compiled = std::fs::read(dir.join("again.aml")).unwrap();
    // Creator id and revision (bytes 28 to 35), and with them the checksum, are the compiler's.
    assert_eq!(original.len(), compiled.len(), "{name}");
    assert_eq!(original[36..], compiled[36..], "{name}: the same contents");
}

#[test]
fn iasl_takes_every_table_apart_and_compiles_it_to_the_same_contents() {
    for spec in specs() {
        check(&tables(&spec));
    }
}

#[test]
fn iasl_understands_a_machine_without_hpet() {
    check(&acpi::tables(&acpi::Machine {
        cpus: 2,
        hpet: false,
    }));
}
