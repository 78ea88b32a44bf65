//! Partition tables for disks that tests make: sectors of 512 bytes, and no more fields than a kernel reads.

/// The types of GPT partitions, as their bytes are on the disk.
pub const LINUX: [u8; 16] = [
    0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4,
];
/// The root of an x86-64 system: 4f68bce3-e8cd-4db1-96e7-fbcaf984b709.
pub const ROOT: [u8; 16] = [
    0xe3, 0xbc, 0x68, 0x4f, 0xcd, 0xe8, 0xb1, 0x4d, 0x96, 0xe7, 0xfb, 0xca, 0xf9, 0x84, 0xb7, 0x09,
];

/// A partition: its first sector and how many it has.
pub type Extent = (u32, u32);

/// Puts record `index` into the boot record in sector `place`.
pub fn record(disk: &mut [u8], place: u32, index: usize, kind: u8, (start, len): Extent) {
    let sector = &mut disk[place as usize * 512..][..512];
    let record = &mut sector[446 + index * 16..][..16];
    record[4] = kind;
    record[8..12].copy_from_slice(&start.to_le_bytes());
    record[12..].copy_from_slice(&len.to_le_bytes());
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
}

/// Puts a GPT at both ends of a disk, whose last 33 sectors are free (UEFI Specification 2.10, 5.3).
pub fn gpt(disk: &mut [u8], partitions: &[([u8; 16], Extent)]) {
    let last = (disk.len() / 512) as u64 - 1;
    record(disk, 0, 0, 0xee, (1, last as u32));
    let mut entries = vec![0; 128 * 128];
    for (index, (kind, (start, len))) in partitions.iter().enumerate() {
        let entry = &mut entries[index * 128..][..128];
        let (start, len) = (u64::from(*start), u64::from(*len));
        entry[..16].copy_from_slice(kind);
        entry[16..32].fill(index as u8 + 1);
        entry[32..40].copy_from_slice(&start.to_le_bytes());
        entry[40..48].copy_from_slice(&(start + len - 1).to_le_bytes());
    }
    for (here, other, table) in [(1, last, 2), (last, 1, last - 32)] {
        let numbers = [here, other, 34, last - 33];
        let mut header = b"EFI PART\0\0\x01\0\x5c\0\0\0\0\0\0\0\0\0\0\0".to_vec();
        header.extend(numbers.iter().flat_map(|it| it.to_le_bytes()));
        header.extend([0x77; 16]);
        header.extend(table.to_le_bytes());
        header.extend(
            [128_u32, 128, crc(&entries)]
                .iter()
                .flat_map(|it| it.to_le_bytes()),
        );
        let sum = crc(&header);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        disk[here as usize * 512..][..header.len()].copy_from_slice(&header);
        disk[table as usize * 512..][..entries.len()].copy_from_slice(&entries);
    }
}

/// CRC-32 as UEFI has it.
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            crc >> 1 ^ 0xedb8_8320 & (crc & 1).wrapping_neg()
        })
    };
    !bytes.iter().fold(!0, step)
}
