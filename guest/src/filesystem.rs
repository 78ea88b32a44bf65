//! Which file system a device holds, told by its magic number.
//!
//! Only those that a Linux root can be on. Sources: Linux documentation filesystems/ext4/super.rst (0xEF53 at 0x438),
//! filesystems/squashfs.rst ("hsqs" at 0), filesystems/erofs.rst (0xE0F5E1E2 at 1024), the XFS Algorithms and
//! Data Structures book ("XFSB" at 0), the Btrfs on-disk format ("_BHRfS_M" at 0x10040), ECMA-119 ("CD001" at 0x8001).

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

/// Whether a file system of this type is never written.
pub(crate) fn is_read_only(fstype: &str) -> bool {
    let mut all = MAGICS.iter();
    all.any(|magic| magic.fstype == fstype && magic.read_only)
}

/// The type of the file system on a device or in a file, where it is a known one.
pub(crate) fn of_device(path: &Path) -> io::Result<Option<&'static str>> {
    let device = File::open(path)?;
    for magic in &MAGICS {
        let mut bytes = [0; 8];
        let bytes = &mut bytes[..magic.bytes.len()];
        match device.read_exact_at(bytes, magic.offset) {
            Ok(()) if bytes == magic.bytes => return Ok(Some(magic.fstype)),
            Ok(()) => {}
            // The device ends before: then it is not that one.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn image(name: &str, length: u64, magic: Option<(u64, &[u8])>) -> PathBuf {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let file = File::create(&path).unwrap();
        file.set_len(length).unwrap();
        if let Some((offset, bytes)) = magic {
            file.write_all_at(bytes, offset).unwrap();
        }
        path
    }

    fn type_of(name: &str, length: u64, magic: Option<(u64, &[u8])>) -> Option<&'static str> {
        let path = image(name, length, magic);
        let fstype = of_device(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        fstype
    }

    #[test]
    fn each_is_known_by_its_magic() {
        for magic in &MAGICS {
            let found = type_of(magic.fstype, 1 << 20, Some((magic.offset, magic.bytes)));
            assert_eq!(found, Some(magic.fstype));
        }
    }

    #[test]
    fn zeros_nothing_and_too_little_are_unknown() {
        assert_eq!(type_of("zeros", 1 << 20, None), None);
        assert_eq!(type_of("nothing", 0, None), None);
        assert_eq!(type_of("little", 0x439, Some((0x438, &[0x53]))), None);
        assert!(of_device(Path::new("/no/such/device")).is_err());
    }

    #[test]
    fn images_that_are_never_written_mount_read_only() {
        assert!(is_read_only("squashfs") && is_read_only("iso9660"));
        assert!(!is_read_only("ext4"));
    }
}
