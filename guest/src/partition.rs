//! What a disk's partition table says its partitions are for.
//!
//! The kernel has read the table and numbered the partitions; here only the purposes are looked up, by where a partition
//! starts, so that no numbering is done twice. GPT: UEFI Specification 2.10, chapter 5, with the types of the Discoverable
//! Partitions Specification (UAPI.2). MBR: the classic table of four with its chain of extended boot records.
//!
//! The table is a stranger's: every length is bounded, and what does not add up is as if it were not there.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The unit of the kernel's sector numbers and of both tables on this machine's disks.
const SECTOR: u64 = 512;
/// Bytes of the GPT's entries that are read: four times what every known tool makes.
const ENTRIES_MAX: u64 = 4 * 128 * 128;
/// Logical partitions that are looked for; the kernel stops no later.
const LOGICAL_MAX: usize = 256;

/// What a partition is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The root of an x86-64 system.
    Root,
    /// A Linux file system, or nothing is said.
    Unsaid,
    /// What no root is on.
    Other(&'static str),
}

/// What a table says of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its first sector.
    pub(crate) start: u64,
    pub(crate) purpose: Purpose,
    /// Whether it is to be mounted read-only.
    pub(crate) read_only: bool,
}

/// The types of GPT partitions, as they are written.
const TYPES: [(&str, Purpose); 24] = [
    ("4f68bce3-e8cd-4db1-96e7-fbcaf984b709", Purpose::Root),
    ("0fc63daf-8483-4772-8e79-3d69d8477de4", Purpose::Unsaid),
    (
        "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
        Purpose::Other("an EFI system partition"),
    ),
    (
        "bc13c2ff-59e6-4262-a352-b275fd6f7172",
        Purpose::Other("an extended boot loader partition"),
    ),
    (
        "21686148-6449-6e6f-744e-656564454649",
        Purpose::Other("a BIOS boot partition"),
    ),
    (
        "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f",
        Purpose::Other("swap space"),
    ),
    (
        "e6d6d379-f507-44c2-a23c-238f2a3df928",
        Purpose::Other("an LVM2 volume"),
    ),
    (
        "a19d880f-05fc-4d3b-a006-743f0f84911e",
        Purpose::Other("part of a RAID"),
    ),
    (
        "ca7d7ccb-63ed-4c53-861c-1742536059cc",
        Purpose::Other("encrypted with LUKS"),
    ),
    (
        "44479540-f297-41b2-9af7-d131d5f0458a",
        Purpose::Other("the root of a 32-bit x86 system"),
    ),
    (
        "b921b045-1df0-41c3-af44-4c6f280d3fae",
        Purpose::Other("the root of an AArch64 system"),
    ),
    (
        "69dad710-2ce4-4e3c-b16c-21a1d49abed3",
        Purpose::Other("the root of a 32-bit Arm system"),
    ),
    (
        "72ec70a6-cf74-40e6-bd49-4bda08e8f224",
        Purpose::Other("the root of a RISC-V system"),
    ),
    (
        "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5",
        Purpose::Other("verity data of a root"),
    ),
    (
        "8484680c-9521-48c6-9c11-b0720656f69e",
        Purpose::Other("a /usr partition"),
    ),
    (
        "933ac7e1-2eb4-4f13-b844-0e14e2aef915",
        Purpose::Other("a /home partition"),
    ),
    (
        "3b8f8425-20e0-4f3b-907f-1a25a76f98e8",
        Purpose::Other("a /srv partition"),
    ),
    (
        "4d21b016-b534-45c2-a9fb-5c16e091fd2d",
        Purpose::Other("a /var partition"),
    ),
    (
        "7ec6f557-3bc5-4aca-b293-16ef5df639d1",
        Purpose::Other("a /var/tmp partition"),
    ),
    (
        "e3c9e316-0b5c-4db8-817d-f92df00215ae",
        Purpose::Other("reserved by Windows"),
    ),
    (
        "de94bba4-06d1-4d40-a16a-bfd50179d6ac",
        Purpose::Other("a Windows recovery partition"),
    ),
    (
        "7c3457ef-0000-11aa-aa11-00306543ecac",
        Purpose::Other("an APFS container"),
    ),
    (
        "48465300-0000-11aa-aa11-00306543ecac",
        Purpose::Other("an HFS+ file system"),
    ),
    (
        "6a898cc3-1dd2-11b2-99a6-080020736631",
        Purpose::Other("a ZFS pool"),
    ),
];

/// The types of MBR partitions that no root is on.
const MBR_TYPES: [(u8, &str); 7] = [
    (0x82, "swap space"),
    (0x8e, "an LVM2 volume"),
    (0xe8, "encrypted with LUKS"),
    (0xef, "an EFI system partition"),
    (0xfd, "part of a RAID"),
    (0xaf, "an HFS+ file system"),
    (0x27, "a Windows recovery partition"),
];

/// The bits of a GPT entry's attributes that the Discoverable Partitions Specification gives a meaning.
const READ_ONLY: u64 = 1 << 60;
const NO_AUTO: u64 = 1 << 63;

/// What the disk's table says. Empty where there is none.
pub(crate) fn entries(disk: &File, sectors: u64) -> io::Result<Vec<Entry>> {
    let mbr = sector(disk, 0)?;
    let Some(records) = mbr.as_deref().and_then(records) else {
        return Ok(Vec::new());
    };
    // A protective MBR has one record of type 0xEE, a hybrid one others beside it.
    if records.iter().any(|record| record.kind == 0xee) {
        for place in [1, sectors.saturating_sub(1)] {
            if let Some(entries) = gpt(disk, place)? {
                return Ok(entries);
            }
        }
    }
    mbr_entries(disk, records)
}

/// The table whose header is in sector `place`, if its sums are right.
fn gpt(disk: &File, place: u64) -> io::Result<Option<Vec<Entry>>> {
    let Some(header) = sector(disk, place)? else {
        return Ok(None);
    };
    let Some(layout) = Layout::of(&header) else {
        return Ok(None);
    };
    let mut bytes = vec![0; (layout.size * layout.count) as usize];
    if !read(disk, layout.place.saturating_mul(SECTOR), &mut bytes)? || crc(&bytes) != layout.sum {
        return Ok(None);
    }
    let entries = bytes.chunks_exact(layout.size as usize);
    Ok(Some(entries.filter_map(gpt_entry).collect()))
}

/// Where a GPT's entries are.
struct Layout {
    place: u64,
    count: u64,
    size: u64,
    sum: u32,
}

impl Layout {
    fn of(header: &[u8]) -> Option<Self> {
        let size = u32_at(header, 12) as usize;
        if !header.starts_with(b"EFI PART") || !(92..=SECTOR as usize).contains(&size) {
            return None;
        }
        // The sum is of the header with zeros in the sum's own place.
        let mut summed = header[..size].to_vec();
        summed[16..20].fill(0);
        let layout = Self {
            place: u64_at(header, 72),
            count: u32_at(header, 80).into(),
            size: u32_at(header, 84).into(),
            sum: u32_at(header, 88),
        };
        let sizes = layout.size >= 128 && layout.count > 0;
        let bounded = layout.size.saturating_mul(layout.count) <= ENTRIES_MAX;
        (crc(&summed) == u32_at(header, 16) && sizes && bounded).then_some(layout)
    }
}

fn gpt_entry(bytes: &[u8]) -> Option<Entry> {
    let kind = guid(&bytes[..16]);
    if bytes[..16] == [0; 16] {
        return None;
    }
    let (start, attributes) = (u64_at(bytes, 32), u64_at(bytes, 48));
    let known = TYPES.iter().find(|(text, _)| *text == kind);
    let purpose = match known.map_or(Purpose::Unsaid, |(_, purpose)| *purpose) {
        // It is not to be found by its type.
        Purpose::Root if attributes & NO_AUTO != 0 => Purpose::Unsaid,
        purpose => purpose,
    };
    Some(Entry {
        start,
        purpose,
        read_only: purpose == Purpose::Root && attributes & READ_ONLY != 0,
    })
}

/// A GUID as it is written: the first three fields are little-endian in the table.
fn guid(bytes: &[u8]) -> String {
    const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut text = String::new();
    for (place, index) in ORDER.into_iter().enumerate() {
        if [4, 6, 8, 10].contains(&place) {
            text.push('-');
        }
        text += &format!("{:02x}", bytes[index]);
    }
    text
}

/// A record of an MBR or an extended boot record.
#[derive(Clone, Copy)]
struct MbrRecord {
    kind: u8,
    start: u64,
    sectors: u64,
}

impl MbrRecord {
    fn is_extended(&self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }

    fn entry(&self, start: u64) -> Entry {
        let known = MBR_TYPES.iter().find(|(kind, _)| *kind == self.kind);
        Entry {
            start,
            purpose: known.map_or(Purpose::Unsaid, |(_, name)| Purpose::Other(name)),
            read_only: false,
        }
    }
}

/// The records that are in use, where the sector is a boot record.
fn records(sector: &[u8]) -> Option<Vec<MbrRecord>> {
    if sector.get(510..512)? != [0x55, 0xaa] {
        return None;
    }
    let record = |bytes: &[u8]| MbrRecord {
        kind: bytes[4],
        start: u32_at(bytes, 8).into(),
        sectors: u32_at(bytes, 12).into(),
    };
    let all = sector[446..510].chunks_exact(16).map(record);
    Some(all.filter(|it| it.kind != 0 && it.sectors != 0).collect())
}

fn mbr_entries(disk: &File, records: Vec<MbrRecord>) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for record in records {
        if record.is_extended() {
            logical(disk, record.start, &mut entries)?;
        } else {
            entries.push(record.entry(record.start));
        }
    }
    Ok(entries)
}

/// The logical partitions in the extended one at `base`: each record's start counts from its own boot record, the next
/// boot record's from the extended partition.
fn logical(disk: &File, base: u64, entries: &mut Vec<Entry>) -> io::Result<()> {
    let mut place = base;
    for _ in 0..LOGICAL_MAX {
        let Some(records) = sector(disk, place)?.as_deref().and_then(records) else {
            break;
        };
        let here = records.iter().filter(|it| !it.is_extended());
        entries.extend(here.map(|it| it.entry(place + it.start)));
        match records.iter().find(|it| it.is_extended()) {
            Some(next) => place = base + next.start,
            None => break,
        }
    }
    Ok(())
}

/// A sector, where the disk has it.
fn sector(disk: &File, place: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; SECTOR as usize];
    let there = read(disk, place.saturating_mul(SECTOR), &mut bytes)?;
    Ok(there.then_some(bytes))
}

/// Whether the disk has all of it.
fn read(disk: &File, offset: u64, bytes: &mut [u8]) -> io::Result<bool> {
    // What no file can have is not there.
    if offset > i64::MAX as u64 - ENTRIES_MAX {
        return Ok(false);
    }
    match disk.read_exact_at(bytes, offset) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let part = bytes.get(at..at + 4).and_then(|it| it.try_into().ok());
    part.map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// CRC-32 as UEFI has it (ISO 3309).
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            crc >> 1 ^ 0xedb8_8320 & (crc & 1).wrapping_neg()
        })
    };
    !bytes.iter().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Purpose::{Other, Root, Unsaid};

    const SECTORS: u64 = 4096;
    const ROOT: &str = TYPES[0].0;
    const LINUX: &str = TYPES[1].0;
    const ESP: &str = TYPES[2].0;

    fn raw_guid(text: &str) -> [u8; 16] {
        let digits: Vec<u8> = text.bytes().filter(|it| *it != b'-').collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        let bytes: Vec<u8> = digits.chunks(2).map(|pair| byte(pair).unwrap()).collect();
        [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15].map(|index| bytes[index])
    }

    fn put(disk: &mut [u8], at: u64, bytes: &[u8]) {
        disk[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    }

    fn mbr_record(disk: &mut [u8], place: u64, index: u64, kind: u8, start: u32, sectors: u32) {
        let at = place * SECTOR + 446 + index * 16;
        put(disk, at + 4, &[kind]);
        put(disk, at + 8, &start.to_le_bytes());
        put(disk, at + 12, &sectors.to_le_bytes());
        put(disk, place * SECTOR + 510, &[0x55, 0xaa]);
    }

    /// A GPT's header in sector `place` and its entries in `table`: type, start, attributes.
    fn gpt_at(disk: &mut [u8], place: u64, table: u64, list: &[(&str, u64, u64)]) {
        let mut entries = vec![0; 128 * 128];
        for (index, (kind, start, attributes)) in list.iter().enumerate() {
            let at = index as u64 * 128;
            put(&mut entries, at, &raw_guid(kind));
            put(&mut entries, at + 16, &[index as u8 + 1; 16]);
            put(&mut entries, at + 32, &start.to_le_bytes());
            put(&mut entries, at + 40, &(start + 99).to_le_bytes());
            put(&mut entries, at + 48, &attributes.to_le_bytes());
        }
        let mut header = vec![0; 92];
        put(&mut header, 0, b"EFI PART\0\0\x01\0\x5c\0\0\0");
        put(&mut header, 72, &table.to_le_bytes());
        put(&mut header, 80, &128_u32.to_le_bytes());
        put(&mut header, 84, &128_u32.to_le_bytes());
        put(&mut header, 88, &crc(&entries).to_le_bytes());
        let sum = crc(&header);
        put(&mut header, 16, &sum.to_le_bytes());
        put(disk, place * SECTOR, &header);
        put(disk, table * SECTOR, &entries);
    }

    fn gpt_disk(list: &[(&str, u64, u64)]) -> Vec<u8> {
        let mut disk = vec![0; (SECTORS * SECTOR) as usize];
        mbr_record(&mut disk, 0, 0, 0xee, 1, u32::MAX);
        gpt_at(&mut disk, 1, 2, list);
        gpt_at(&mut disk, SECTORS - 1, SECTORS - 33, list);
        disk
    }

    fn found(disk: &[u8]) -> Vec<(u64, Purpose)> {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(disk, 0).unwrap();
        let entries = entries(&file, disk.len() as u64 / SECTOR).unwrap();
        entries.iter().map(|it| (it.start, it.purpose)).collect()
    }

    #[test]
    fn sums_are_those_of_the_standard() {
        assert_eq!(crc(b"123456789"), 0xcbf4_3926);
        for (text, _) in TYPES {
            assert_eq!(guid(&raw_guid(text)), text);
        }
    }

    #[test]
    fn gpt_types_say_what_partitions_are_for() {
        for (index, (kind, purpose)) in TYPES.iter().enumerate() {
            let start = 64 + index as u64;
            let disk = gpt_disk(&[(LINUX, 40, 0), (kind, start, 0)]);
            assert_eq!(found(&disk), [(40, Unsaid), (start, *purpose)]);
        }
        let unknown = "01234567-89ab-cdef-0123-456789abcdef";
        assert_eq!(found(&gpt_disk(&[(unknown, 40, 0)])), [(40, Unsaid)]);
    }

    #[test]
    fn attributes_of_a_root_are_heeded() {
        let disk = gpt_disk(&[
            (ROOT, 40, NO_AUTO),
            (ROOT, 50, READ_ONLY),
            (LINUX, 60, READ_ONLY),
        ]);
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&disk, 0).unwrap();
        let entries = entries(&file, SECTORS).unwrap();
        let seen: Vec<_> = entries
            .iter()
            .map(|it| (it.purpose, it.read_only))
            .collect();
        assert_eq!(seen, [(Unsaid, false), (Root, true), (Unsaid, false)]);
    }

    #[test]
    fn a_broken_gpt_is_read_from_its_copy_or_not_at_all() {
        let list = [(ESP, 40, 0), (ROOT, 50, 0)];
        let both = [(40, Other("an EFI system partition")), (50, Root)];
        // In the header, and in the entries.
        for at in [SECTOR + 24, 2 * SECTOR + 8] {
            let mut disk = gpt_disk(&list);
            disk[at as usize] ^= 1;
            assert_eq!(found(&disk), both);
            disk[((SECTORS - 1) * SECTOR) as usize + 24] ^= 1;
            // What remains is the protective record.
            assert_eq!(found(&disk), [(1, Unsaid)]);
        }
    }

    #[test]
    fn hostile_sizes_of_a_gpt_are_refused() {
        for (at, value) in [
            (12, 0_u32),
            (12, 513),
            (12, u32::MAX),
            (80, 0),
            (80, u32::MAX),
            (84, 0),
            (84, 64),
            (84, u32::MAX),
            (76, u32::MAX),
        ] {
            let mut disk = gpt_disk(&[(ROOT, 40, 0)]);
            for place in [1, SECTORS - 1] {
                put(&mut disk, place * SECTOR + at, &value.to_le_bytes());
                put(&mut disk, place * SECTOR + 16, &[0; 4]);
                let start = (place * SECTOR) as usize;
                let len = u32_at(&disk, start + 12).clamp(92, 512) as usize;
                let sum = crc(&disk[start..start + len]);
                put(&mut disk, place * SECTOR + 16, &sum.to_le_bytes());
            }
            assert_eq!(found(&disk), [(1, Unsaid)], "{at} {value}");
        }
    }

    #[test]
    fn mbr_types_and_logical_partitions_are_found() {
        let mut disk = vec![0; (SECTORS * SECTOR) as usize];
        mbr_record(&mut disk, 0, 0, 0xef, 8, 8);
        mbr_record(&mut disk, 0, 1, 0x05, 100, 1000);
        mbr_record(&mut disk, 0, 3, 0x83, 16, 8);
        mbr_record(&mut disk, 100, 0, 0x82, 1, 8);
        mbr_record(&mut disk, 100, 1, 0x05, 50, 100);
        mbr_record(&mut disk, 150, 0, 0x83, 2, 8);
        let esp = Other("an EFI system partition");
        let expected = [
            (8, esp),
            (101, Other("swap space")),
            (152, Unsaid),
            (16, Unsaid),
        ];
        assert_eq!(found(&disk), expected);
        for (kind, name) in MBR_TYPES {
            mbr_record(&mut disk, 150, 0, kind, 2, 8);
            assert_eq!(found(&disk)[2], (152, Other(name)));
        }
        // A chain that leads to itself, and one that leads away.
        mbr_record(&mut disk, 150, 1, 0x05, 0, 100);
        assert!(found(&disk).len() <= 2 * LOGICAL_MAX + 4);
        mbr_record(&mut disk, 150, 1, 0x0f, u32::MAX, 100);
        assert_eq!(found(&disk).len(), 4);
    }

    #[test]
    fn what_has_no_table_has_no_entries() {
        assert_eq!(found(&[]), []);
        assert_eq!(found(&[0; 100]), []);
        assert_eq!(found(&[0; 4096]), []);
        assert_eq!(found(&[0xff; 4096]), []);
    }
}
