//! What a device holds, told by its magic number: a file system that a Linux root can be on, or something else, which
//! is worth its name in a message.
//!
//! Sources: Linux documentation filesystems/ext4/super.rst (0xEF53 at 0x438), filesystems/squashfs.rst ("hsqs" at 0),
//! filesystems/erofs.rst (0xE0F5E1E2 at 1024), filesystems/f2fs.rst (0xF2F52010 at 1024), the XFS Algorithms and Data
//! Structures book ("XFSB" at 0), the Btrfs on-disk format ("_BHRfS_M" at 0x10040), ECMA-119 ("CD001" at 0x8001), swapon(8)
//! ("SWAPSPACE2" at the end of the first page), the LUKS1 and LUKS2 on-disk format specifications, lvm2's label header
//! ("LABELONE" in one of the first four sectors), md(4), the ZFS On-Disk Specification (uberblocks from 128 KiB on), Microsoft's
//! exFAT and FAT specifications, Apple's TN1150 (HFS+) and Apple File System Reference (NXSB at 32).

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The file systems that are known, for a message.
pub(crate) const NAMES: &str = "ext2, ext3, ext4, xfs, btrfs, squashfs, erofs or iso9660";

struct Magic {
    fstype: &'static str,
    offset: u64,
    bytes: &'static [u8],
    read_only: bool,
}

const fn magic(fstype: &'static str, offset: u64, bytes: &'static [u8], read_only: bool) -> Magic {
    Magic {
        fstype,
        offset,
        bytes,
        read_only,
    }
}

/// The ext4 driver mounts ext2 and ext3 too. ISO 9660 comes last: hybrid images carry it beside another.
const MAGICS: [Magic; 6] = [
    magic("ext4", 0x438, &[0x53, 0xef], false),
    magic("xfs", 0, b"XFSB", false),
    magic("btrfs", 0x1_0040, b"_BHRfS_M", false),
    magic("squashfs", 0, b"hsqs", true),
    magic("erofs", 1024, &[0xe2, 0xe1, 0xf5, 0xe0], true),
    magic("iso9660", 0x8001, b"CD001", true),
];

struct Foreign {
    name: &'static str,
    offset: u64,
    bytes: &'static [u8],
}

const fn foreign(name: &'static str, offset: u64, bytes: &'static [u8]) -> Foreign {
    Foreign {
        name,
        offset,
        bytes,
    }
}

/// What no root can be on here. BitLocker stands before NTFS and exFAT, which have the same place for their name.
const FOREIGN: [Foreign; 34] = [
    foreign("encrypted with LUKS", 0, b"LUKS\xba\xbe"),
    foreign("an LVM2 volume", 0x200, b"LABELONE"),
    foreign("an LVM2 volume", 0, b"LABELONE"),
    foreign("an LVM2 volume", 0x400, b"LABELONE"),
    foreign("an LVM2 volume", 0x600, b"LABELONE"),
    foreign("part of a RAID", 0x1000, b"\xfc\x4e\x2b\xa9"),
    foreign("part of a RAID", 0, b"\xfc\x4e\x2b\xa9"),
    foreign("swap space", 0xff6, b"SWAPSPACE2"),
    foreign("swap space", 0xff6, b"SWAP-SPACE"),
    foreign("an F2FS file system", 0x400, b"\x10\x20\xf5\xf2"),
    foreign(
        "a bcachefs file system",
        0x1018,
        b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81",
    ),
    foreign("a ReiserFS file system", 0x1_0034, b"ReIsEr"),
    foreign("a JFS file system", 0x8000, b"JFS1"),
    foreign("a NILFS2 file system", 0x406, b"\x34\x34"),
    foreign("a UFS file system", 0x1_055c, b"\x19\x01\x54\x19"),
    foreign("a UFS file system", 0x255c, b"\x54\x19\x01\x00"),
    foreign("encrypted with BitLocker", 3, b"-FVE-FS-"),
    foreign("an NTFS file system", 3, b"NTFS    "),
    foreign("an exFAT file system", 3, b"EXFAT   "),
    foreign("a FAT file system", 0x52, b"FAT32   "),
    foreign("a FAT file system", 0x36, b"FAT16   "),
    foreign("a FAT file system", 0x36, b"FAT12   "),
    foreign("an APFS container", 0x20, b"NXSB"),
    foreign("an HFS+ file system", 0x400, b"H+\0\x04"),
    foreign("an HFS+ file system", 0x400, b"HX\0\x05"),
    foreign("an HFS file system", 0x400, b"BD"),
    foreign("a qcow2 image", 0, b"QFI\xfb"),
    foreign("a VMDK image", 0, b"KDMV"),
    foreign("a VHDX image", 0, b"vhdxfile"),
    foreign("compressed with gzip", 0, b"\x1f\x8b\x08"),
    foreign("compressed with xz", 0, b"\xfd7zXZ\0"),
    foreign("compressed with zstd", 0, b"\x28\xb5\x2f\xfd"),
    foreign("a tar archive", 0x101, b"ustar"),
    foreign("a cpio archive", 0, b"070701"),
];

/// Whether a file system of this type is never written.
pub(crate) fn is_read_only(fstype: &str) -> bool {
    let mut all = MAGICS.iter();
    all.any(|magic| magic.fstype == fstype && magic.read_only)
}

/// The type of the file system on a device or in a file, where it is one that a root can be on.
pub(crate) fn of_device(path: &Path) -> io::Result<Option<&'static str>> {
    let device = File::open(path)?;
    for magic in &MAGICS {
        if has(&device, magic.offset, magic.bytes)? {
            return Ok(Some(magic.fstype));
        }
    }
    Ok(None)
}

/// What else a device holds, with its article.
pub(crate) fn foreign_on(path: &Path) -> io::Result<Option<&'static str>> {
    let device = File::open(path)?;
    for kind in &FOREIGN {
        if has(&device, kind.offset, kind.bytes)? {
            return Ok(Some(kind.name));
        }
    }
    Ok(is_zfs(&device)?.then_some("a ZFS pool"))
}

/// Whether the array of uberblocks in the first ZFS label has one, in either byte order. They are 1 KiB apart or a
/// larger power of two.
fn is_zfs(device: &File) -> io::Result<bool> {
    const UBERBLOCKS: u64 = 128 << 10;
    for index in 0..128 {
        for magic in [0x00ba_b10c_u64.to_le_bytes(), 0x00ba_b10c_u64.to_be_bytes()] {
            if has(device, UBERBLOCKS + index * 1024, &magic)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn has(device: &File, offset: u64, magic: &[u8]) -> io::Result<bool> {
    let mut bytes = [0; 16];
    let bytes = &mut bytes[..magic.len()];
    match device.read_exact_at(bytes, offset) {
        Ok(()) => Ok(bytes == magic),
        // The device ends before: then it is not that one.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn image(length: u64, magic: Option<(u64, &[u8])>) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(length).unwrap();
        if let Some((offset, bytes)) = magic {
            file.as_file().write_all_at(bytes, offset).unwrap();
        }
        file
    }

    fn type_of(length: u64, magic: Option<(u64, &[u8])>) -> Option<&'static str> {
        of_device(image(length, magic).path()).unwrap()
    }

    #[test]
    fn each_is_known_by_its_magic() {
        for magic in &MAGICS {
            let found = type_of(1 << 20, Some((magic.offset, magic.bytes)));
            assert_eq!(found, Some(magic.fstype));
        }
    }

    #[test]
    fn zeros_nothing_and_too_little_are_unknown() {
        assert_eq!(type_of(1 << 20, None), None);
        assert_eq!(type_of(0, None), None);
        assert_eq!(type_of(0x439, Some((0x438, &[0x53]))), None);
        let none: PathBuf = "/no/such/device".into();
        assert!(of_device(&none).is_err() && foreign_on(&none).is_err());
    }

    #[test]
    fn images_that_are_never_written_mount_read_only() {
        assert!(is_read_only("squashfs") && is_read_only("iso9660"));
        assert!(!is_read_only("ext4"));
    }

    #[test]
    fn what_is_foreign_has_a_name() {
        for kind in &FOREIGN {
            let file = image(1 << 20, Some((kind.offset, kind.bytes)));
            assert_eq!(foreign_on(file.path()).unwrap(), Some(kind.name));
            assert_eq!(of_device(file.path()).unwrap(), None);
        }
        for length in [0, 100, 1 << 20] {
            assert_eq!(foreign_on(image(length, None).path()).unwrap(), None);
        }
        for (at, magic) in [
            (128 << 10, 0x00ba_b10c_u64.to_le_bytes()),
            ((128 << 10) + 4096 * 5, 0x00ba_b10c_u64.to_be_bytes()),
        ] {
            let file = image(1 << 20, Some((at, &magic)));
            assert_eq!(foreign_on(file.path()).unwrap(), Some("a ZFS pool"));
        }
    }
}
