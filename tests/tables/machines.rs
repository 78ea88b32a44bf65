//! Machines to look at, their tables, and how to read those.

use std::path::PathBuf;

use xlaunch::machine;
use xlaunch::memory::Piece;
use xlaunch::spec::{
    CpuCount, Disk, DiskAccess, Engine, GIB, Image, MEMORY_MAX, MIB, MachineSpec, MemorySize, Net,
};

/// A machine with so much of everything. It has no kernel: nobody runs it.
pub fn spec(cpus: u8, memory: u64, disks: usize, pci_uart: bool) -> MachineSpec {
    // What can be read anywhere: this program.
    let path = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
    let access = DiskAccess::ReadOnly;
    MachineSpec {
        memory: MemorySize::new(memory).unwrap(),
        cpus: CpuCount::new(cpus).unwrap(),
        engine: Engine::Soft,
        kernel: Image::Bundled(&[]),
        initrd: None,
        modules: Vec::new(),
        cmdline: String::new(),
        disks: vec![Disk { path, access }; disks],
        drives: Vec::new(),
        net: Net::default(),
        pci_uart,
    }
}

/// One of each kind that can make a difference, the least and the largest among them.
pub fn specs() -> Vec<MachineSpec> {
    vec![
        spec(1, 64 * MIB, 0, false),
        spec(2, GIB, 1, true),
        spec(16, 3 * GIB + 4096, 0, true),
        spec(64, MEMORY_MAX, 17, true),
    ]
}

/// All tables of a machine.
pub fn tables(spec: &MachineSpec) -> Vec<Piece> {
    machine::tables(spec).unwrap()
}

/// The table that begins with these letters.
pub fn find<'a>(tables: &'a [Piece], signature: &str) -> &'a Piece {
    let begins = |piece: &&Piece| piece.bytes.starts_with(signature.as_bytes());
    let found = tables.iter().find(begins);
    found.unwrap_or_else(|| panic!("there is no {signature}"))
}

/// A little-endian number.
pub fn number(bytes: &[u8]) -> u64 {
    let bytes = bytes.iter().rev();
    bytes.fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// The sum that a checksum makes zero.
pub fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, &byte| sum.wrapping_add(byte))
}
