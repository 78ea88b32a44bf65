//! `xlaunch tables`: the firmware's tables of a machine as files, for the tools that read such files.
//!
//! Nothing is ever overwritten: the directory must be new or empty. ACPI's tables and the MP table are byte for byte what a
//! guest finds in memory; the SMBIOS file is a dump as dmidecode takes it.

use crate::firmware::smbios;
use crate::layout;
use crate::machine;
use crate::memory::Piece;
use crate::spec::MachineSpec;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Writes all tables of the machine that `spec` says to files in `dir`.
pub(super) fn write(dir: &Path, spec: &MachineSpec) -> Result<(), String> {
    let tables = machine::tables(spec).map_err(|error| error.to_string())?;
    prepare(dir)?;
    for piece in &tables {
        let name = file_name(piece);
        create(&dir.join(name), &contents(piece)).map_err(|error| {
            format!(
                "cannot write the table {name} to '{}': {error}; name a directory that can be written",
                dir.display()
            )
        })?;
    }
    Ok(())
}

/// Makes the directory, or sees that it is empty.
fn prepare(dir: &Path) -> Result<(), String> {
    let shown = dir.display();
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => {
            return Err(format!(
                "cannot make the directory '{shown}' for the tables: {error}; name one that can be made"
            ));
        }
        Ok(()) => return Ok(()),
    }
    let empty = fs::read_dir(dir).map(|mut entries| entries.next().is_none());
    match empty {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!(
            "cannot write the tables to '{shown}': there is something in it, which would be overwritten or mixed up; name a new or an empty directory"
        )),
        Err(error) => Err(format!(
            "cannot write the tables to '{shown}': {error}; name a new or an empty directory"
        )),
    }
}

fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    File::create_new(path)?.write_all(bytes)
}

/// The file of a table: the name that the specification calls it by, and `.aml` where it is byte code.
fn file_name(piece: &Piece) -> &'static str {
    const NAMES: [(&[u8], &str); 10] = [
        (b"RSD PTR ", "RSDP.dat"),
        (b"XSDT", "XSDT.dat"),
        (b"FACP", "FADT.dat"),
        (b"APIC", "MADT.dat"),
        (b"HPET", "HPET.dat"),
        (b"MCFG", "MCFG.dat"),
        (b"FACS", "FACS.dat"),
        (b"DSDT", "DSDT.aml"),
        (b"_MP_", "MP.dat"),
        (b"_SM3_", "SMBIOS.dat"),
    ];
    let found = NAMES
        .iter()
        .find(|(signature, _)| piece.bytes.starts_with(signature));
    found.map_or("UNKNOWN.dat", |(_, name)| name)
}

fn contents(piece: &Piece) -> Vec<u8> {
    if piece.at == layout::SMBIOS.start {
        smbios::dump(piece)
    } else {
        piece.bytes.clone()
    }
}
