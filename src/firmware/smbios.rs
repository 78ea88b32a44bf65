//! SMBIOS (DMTF DSP0134, version 3.0): who made the machine, its identity, CPUs and memory. The 64-bit entry point
//! only, which every system since 2015 finds.

use crate::layout::{self, Span};
use crate::memory::Piece;
use crate::x86::cpuid;

/// What the structures say of the machine beyond the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// How many CPUs.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// The machine's identity.
    pub uuid: [u8; 16],
}

/// The entry point and, behind it, the structures.
pub fn tables(machine: &Machine) -> Piece {
    let at = layout::SMBIOS.start;
    let structures = structures(machine);
    let mut bytes = entry_point(at + ENTRY_ROOM, structures.len() as u32);
    bytes.resize(ENTRY_ROOM as usize, 0);
    bytes.extend(structures);
    Piece { at, bytes }
}

/// What `dmidecode --from-dump` reads: the tables as they are, but with the structures where they stand in the file.
pub fn dump(piece: &Piece) -> Vec<u8> {
    let mut bytes = piece.bytes.clone();
    let structures = entry_point(ENTRY_ROOM, bytes.len() as u32 - ENTRY_ROOM as u32);
    bytes[..structures.len()].copy_from_slice(&structures);
    bytes
}

/// What the entry point takes, with what fills it up.
const ENTRY_ROOM: u64 = 0x20;
const MAJOR: u8 = 3;
const MINOR: u8 = 0;
const MAKER: &str = "xlaunch";

/// 5.2.2.
fn entry_point(structures: u64, len: u32) -> Vec<u8> {
    const LENGTH: u8 = 24;
    const CHECKSUM: usize = 5;
    let (document_revision, entry_revision, reserved) = (0, 1, 0);
    let mut bytes = [
        &b"_SM3_"[..],
        &[
            0,
            LENGTH,
            MAJOR,
            MINOR,
            document_revision,
            entry_revision,
            reserved,
        ],
        &len.to_le_bytes(),
        &structures.to_le_bytes(),
    ]
    .concat();
    bytes[CHECKSUM] = bytes.iter().fold(0_u8, |sum, &byte| sum.wrapping_sub(byte));
    bytes
}

/// Handles, by which structures refer to each other.
mod handle {
    pub(super) const BIOS: u16 = 0;
    pub(super) const SYSTEM: u16 = 1;
    pub(super) const CHASSIS: u16 = 3;
    pub(super) const PROCESSOR: u16 = 4;
    pub(super) const MEMORY_ARRAY: u16 = 0x10;
    pub(super) const MEMORY_MODULE: u16 = 0x11;
    pub(super) const MAPPED_LOW: u16 = 0x13;
    pub(super) const BOOT: u16 = 0x20;
    pub(super) const END: u16 = 0x7f;
    /// There is none.
    pub(super) const NONE: u16 = 0xffff;
    /// Errors are not told.
    pub(super) const NO_ERRORS: u16 = 0xfffe;
}

fn structures(machine: &Machine) -> Vec<u8> {
    let mut all = vec![
        bios(),
        system(machine.uuid),
        chassis(),
        processor(machine.cpus),
    ];
    all.push(memory_array(machine.memory));
    all.push(memory_module(machine.memory));
    let ranges = [
        layout::low_ram(machine.memory),
        layout::high_ram(machine.memory),
    ];
    let ranges = ranges.into_iter().filter(|span| !span.is_empty());
    all.extend(
        (handle::MAPPED_LOW..)
            .zip(ranges)
            .map(|(handle, span)| mapped(handle, span)),
    );
    all.push(
        Structure::new(32, handle::BOOT)
            .bytes(&[0; 6])
            .byte(0)
            .finish(),
    );
    all.push(Structure::new(127, handle::END).finish());
    all.concat()
}

/// 7.1.
fn bios() -> Vec<u8> {
    const CHARACTERISTICS_NOT_SUPPORTED: u64 = 1 << 3;
    const ACPI: u8 = 1 << 0;
    const VIRTUAL_MACHINE: u8 = 1 << 4;
    let segment = 0xf000;
    Structure::new(0, handle::BIOS)
        .text(MAKER)
        .text(env!("CARGO_PKG_VERSION"))
        .word(segment)
        .text("11/01/2026")
        .byte(0) // 64 KiB
        .qword(CHARACTERISTICS_NOT_SUPPORTED)
        .bytes(&[ACPI, VIRTUAL_MACHINE])
        .bytes(&[0xff; 4]) // no release numbers
        .finish()
}

/// 7.2. The first three groups of the UUID are little-endian.
fn system(mut uuid: [u8; 16]) -> Vec<u8> {
    const POWER_SWITCH: u8 = 6;
    uuid[0..4].reverse();
    uuid[4..6].reverse();
    uuid[6..8].reverse();
    Structure::new(1, handle::SYSTEM)
        .text(MAKER)
        .text("xlaunch PC")
        .text(env!("CARGO_PKG_VERSION"))
        .byte(0) // serial number
        .bytes(&uuid)
        .byte(POWER_SWITCH)
        .byte(0) // stock keeping unit
        .text("Virtual Machine")
        .finish()
}

/// 7.4.
fn chassis() -> Vec<u8> {
    const OTHER: u8 = 1;
    const SAFE: u8 = 3;
    const NO_SECURITY: u8 = 3;
    Structure::new(3, handle::CHASSIS)
        .text(MAKER)
        .byte(OTHER)
        .bytes(&[0; 3]) // version, serial number, asset tag
        .bytes(&[SAFE, SAFE, SAFE, NO_SECURITY])
        .dword(0)
        .bytes(&[0; 4]) // height, power cords, contained elements
        .byte(0)
        .finish()
}

/// 7.5. One package with a core for each CPU, as CPUID says.
fn processor(cpus: u32) -> Vec<u8> {
    const CENTRAL: u8 = 3;
    const ATOM: u8 = 0x2b;
    const POPULATED_ENABLED: u8 = 0x41;
    const OTHER: u8 = 1;
    const IS_64_BIT: u16 = 1 << 2;
    const IS_MULTI_CORE: u16 = 1 << 3;
    let characteristics = IS_64_BIT | if cpus > 1 { IS_MULTI_CORE } else { 0 };
    let megahertz = (layout::TSC_HZ / 1_000_000) as u16;
    let clock = (layout::CRYSTAL_HZ / 1_000_000) as u16;
    let cores = cpus.min(255) as u8;
    Structure::new(4, handle::PROCESSOR)
        .text("CPU 0")
        .byte(CENTRAL)
        .byte(ATOM)
        .text(MAKER)
        .dword(cpuid::SIGNATURE)
        .dword(cpuid::LEAF1_EDX)
        .text("xlaunch software CPU")
        .byte(0) // voltage
        .word(clock)
        .word(megahertz)
        .word(megahertz)
        .byte(POPULATED_ENABLED)
        .byte(OTHER)
        .word(handle::NONE)
        .word(handle::NONE)
        .word(handle::NONE)
        .bytes(&[0; 3]) // serial number, asset tag, part number
        .bytes(&[cores; 3])
        .word(characteristics)
        .word(ATOM.into())
        .word(cpus as u16)
        .word(cpus as u16)
        .word(cpus as u16)
        .finish()
}

/// 7.17.
fn memory_array(memory: u64) -> Vec<u8> {
    const SYSTEM_BOARD: u8 = 3;
    const SYSTEM_MEMORY: u8 = 3;
    const NO_CORRECTION: u8 = 3;
    /// The capacity is in the last field, in bytes.
    const EXTENDED: u32 = 0x8000_0000;
    Structure::new(16, handle::MEMORY_ARRAY)
        .bytes(&[SYSTEM_BOARD, SYSTEM_MEMORY, NO_CORRECTION])
        .dword(EXTENDED)
        .word(handle::NO_ERRORS)
        .word(1)
        .qword(memory)
        .finish()
}

/// 7.18.
fn memory_module(memory: u64) -> Vec<u8> {
    const DIMM: u8 = 9;
    const RAM: u8 = 7;
    const OTHER_DETAIL: u16 = 1 << 1;
    let (size, extended) = module_size(memory);
    Structure::new(17, handle::MEMORY_MODULE)
        .word(handle::MEMORY_ARRAY)
        .word(handle::NO_ERRORS)
        .word(64)
        .word(64)
        .word(size)
        .byte(DIMM)
        .byte(0) // not one of a set
        .text("DIMM 0")
        .byte(0) // bank
        .byte(RAM)
        .word(OTHER_DETAIL)
        .word(0) // speed
        .text(MAKER)
        .bytes(&[0; 3]) // serial number, asset tag, part number
        .byte(0) // rank
        .dword(extended)
        .word(0) // configured speed
        .bytes(&[0; 6]) // voltages
        .finish()
}

/// Size and extended size of a module (7.18.4 and 7.18.5): in KiB where only they are exact, else in whole MiB.
fn module_size(memory: u64) -> (u16, u32) {
    const IN_KIB: u16 = 1 << 15;
    const EXTENDED: u16 = 0x7fff;
    let below = |size: u64| u16::try_from(size).ok().filter(|&size| size < EXTENDED);
    let mib = memory >> 20;
    match (below(memory >> 10), below(mib)) {
        (Some(kib), _) if !memory.is_multiple_of(1 << 20) => (IN_KIB | kib, 0),
        (_, Some(mib)) => (mib, 0),
        (_, None) => (EXTENDED, mib.min(0x7fff_ffff) as u32),
    }
}

/// 7.20. In KiB, or in bytes where 32 bits of KiB do not suffice, which is above 4 TiB and never here.
fn mapped(handle: u16, span: Span) -> Vec<u8> {
    Structure::new(19, handle)
        .dword((span.start >> 10) as u32)
        .dword(((span.end - 1) >> 10) as u32)
        .word(handle::MEMORY_ARRAY)
        .byte(1)
        .qword(0)
        .qword(0)
        .finish()
}

/// A structure as it is written: the formatted part, then its strings (6.1).
struct Structure {
    formatted: Vec<u8>,
    strings: Vec<u8>,
    count: u8,
}

impl Structure {
    fn new(kind: u8, handle: u16) -> Self {
        let [low, high] = handle.to_le_bytes();
        Self {
            formatted: vec![kind, 0, low, high],
            strings: Vec::new(),
            count: 0,
        }
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.formatted.extend(bytes);
        self
    }

    fn byte(self, value: u8) -> Self {
        self.bytes(&[value])
    }

    fn word(self, value: u16) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    fn dword(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    fn qword(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    /// A string: its number here, itself at the end.
    fn text(mut self, text: &str) -> Self {
        self.count += 1;
        self.strings.extend(text.bytes());
        self.strings.push(0);
        let number = self.count;
        self.byte(number)
    }

    /// The bytes, with the length of the formatted part, and the strings closed by an empty one.
    fn finish(mut self) -> Vec<u8> {
        self.formatted[1] = self.formatted.len() as u8;
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        self.strings.push(0);
        [self.formatted, self.strings].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(memory: u64) -> Machine {
        Machine {
            cpus: 2,
            memory,
            uuid: *b"0123456789abcdef",
        }
    }

    /// The structures as a reader finds them: type, formatted part, strings.
    fn read(piece: &Piece) -> Vec<(u8, Vec<u8>, Vec<String>)> {
        let mut rest = &piece.bytes[0x20..];
        let mut found = Vec::new();
        while !rest.is_empty() {
            let (formatted, tail) = rest.split_at(usize::from(rest[1]));
            let end = tail.windows(2).position(|two| two == [0, 0]).unwrap();
            let strings = tail[..end]
                .split(|&byte| byte == 0)
                .filter(|text| !text.is_empty());
            let strings = strings
                .map(|text| String::from_utf8(text.to_vec()).unwrap())
                .collect();
            found.push((formatted[0], formatted.to_vec(), strings));
            rest = &tail[end + 2..];
        }
        found
    }

    #[test]
    fn the_entry_point_leads_to_all_structures() {
        let piece = tables(&machine(1 << 30));
        assert!(piece.bytes.starts_with(b"_SM3_") && piece.at.is_multiple_of(16));
        assert!(piece.bytes.len() as u64 <= layout::SMBIOS.len());
        let sum = piece.bytes[..24]
            .iter()
            .fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        assert_eq!(sum, 0);
        let len = u32::from_le_bytes(piece.bytes[12..16].try_into().unwrap());
        assert_eq!(len as usize, piece.bytes.len() - 0x20);
        let kinds: Vec<u8> = read(&piece).iter().map(|structure| structure.0).collect();
        assert_eq!(kinds, [0, 1, 3, 4, 16, 17, 19, 32, 127]);
    }

    /// A handle that refers to another structure finds it, and no handle is there twice (D17: one that was off by one).
    #[test]
    fn handles_are_distinct_and_lead_to_the_array() {
        let all = read(&tables(&machine(5 << 30)));
        let word = |bytes: &[u8], at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let mut handles: Vec<u16> = all.iter().map(|(_, bytes, _)| word(bytes, 2)).collect();
        let array = all.iter().find(|(kind, ..)| *kind == 16).unwrap();
        for (kind, bytes, _) in &all {
            match kind {
                17 => assert_eq!(word(bytes, 4), word(&array.1, 2)),
                19 => assert_eq!(word(bytes, 12), word(&array.1, 2)),
                _ => {}
            }
        }
        handles.sort_unstable();
        assert!(handles.windows(2).all(|two| two[0] != two[1]));
    }

    #[test]
    fn every_cpu_is_a_core_of_the_one_package() {
        for cpus in [1, 2, 64] {
            let all = read(&tables(&Machine {
                cpus,
                ..machine(1 << 30)
            }));
            let package = &all.iter().find(|structure| structure.0 == 4).unwrap().1;
            assert_eq!(package[35..38], [cpus as u8; 3]);
            assert_eq!(package[38] & 8 != 0, cpus > 1, "multi-core");
        }
    }

    #[test]
    fn a_dump_leads_to_the_structures_in_it() {
        let piece = tables(&machine(1 << 30));
        let dump = dump(&piece);
        let sum = dump[..24]
            .iter()
            .fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        assert_eq!((sum, &dump[16..24]), (0, &ENTRY_ROOM.to_le_bytes()[..]));
        assert_eq!(dump[0x20..], piece.bytes[0x20..]);
        assert_eq!(dump[8..16], piece.bytes[8..16]);
    }

    #[test]
    fn formatted_parts_have_the_length_of_their_version() {
        // DSP0134 3.0: the lengths of each type's table.
        let lengths = [
            (0, 24),
            (1, 27),
            (3, 22),
            (4, 48),
            (16, 23),
            (17, 40),
            (19, 31),
            (32, 11),
            (127, 4),
        ];
        for (kind, formatted, _) in read(&tables(&machine(1 << 30))) {
            assert!(
                lengths.contains(&(kind, formatted.len())),
                "type {kind}: {}",
                formatted.len()
            );
        }
    }

    #[test]
    fn the_uuid_is_stored_with_its_first_groups_reversed() {
        let all = read(&tables(&machine(1 << 30)));
        assert_eq!(all[1].1[8..24], *b"3210547689abcdef");
    }

    #[test]
    fn memory_is_told_whole_however_large() {
        let sizes = [1 << 20, 3 << 19, 16 << 20, 1 << 30, 3 << 30, 31 << 30];
        for memory in sizes
            .into_iter()
            .chain([32 << 30, 256 << 30, layout::RAM_MAX])
        {
            let all = read(&tables(&machine(memory)));
            let module = &all.iter().find(|structure| structure.0 == 17).unwrap().1;
            let size = u64::from(u16::from_le_bytes([module[12], module[13]]));
            let extended = u64::from(u32::from_le_bytes(module[28..32].try_into().unwrap()));
            let told = match size {
                0x7fff => extended << 20,
                0x8000.. => (size & 0x7fff) << 10,
                mib => mib << 20,
            };
            assert_eq!(told, memory);
            let dword = |bytes: &[u8], at: usize| {
                u64::from(u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()))
            };
            let array = &all.iter().find(|structure| structure.0 == 16).unwrap().1;
            let capacity = u64::from_le_bytes(array[15..23].try_into().unwrap());
            assert_eq!((dword(array, 7), capacity), (0x8000_0000, memory));
            let mapped = all.iter().filter(|structure| structure.0 == 19);
            let spans = mapped.map(|s| dword(&s.1, 4) << 10..(dword(&s.1, 8) + 1) << 10);
            let expected = [layout::low_ram(memory), layout::high_ram(memory)];
            let expected = expected.iter().filter(|span| !span.is_empty());
            assert!(spans.eq(expected.map(|span| span.range())), "{memory:#x}");
        }
    }
}
