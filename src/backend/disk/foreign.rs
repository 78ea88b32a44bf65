//! Files that are no raw image, told by their first or last bytes, each with what makes a raw image of it.
//!
//! This is a courtesy and reads nothing but magic numbers: no byte of a foreign format is ever interpreted, and what carries a
//! partition table or a Linux file system is raw, whatever else it carries. Images of other virtual machines are refused
//! as any disk; archives and compressed files only as the root, since a guest may well want to unpack one from a
//! disk.
//!
//! Sources: QEMU's docs/interop (qcow2, qed, parallels), VMware's Virtual Disk Format 5.0, Microsoft's [MS-VHDX] 2.2
//! and Virtual Hard Disk Image Format Specification, RFC 1952 (gzip), RFC 8878 (zstd), the .xz File Format 1.1,
//! POSIX.1-2017 pax (ustar), APPNOTE.TXT (zip), Linux's x86 boot protocol.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes from the start that are looked at: with them, all magics but those at the end are seen.
const HEAD: usize = 0x440;
/// Bytes from the end that are looked at.
const TAIL: u64 = 512;

/// A kind of file that is no raw image.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// What it is, with its article.
    pub(super) name: &'static str,
    at: At,
    magic: &'static [u8],
    pub(super) remedy: Remedy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Start(usize),
    /// In the last sector.
    End,
}

/// What makes a raw image of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// `qemu-img`, which knows it by this name.
    Convert(&'static str),
    /// A program that prints the unpacked file.
    Unpack(&'static str),
    /// A Mac's `hdiutil`.
    Hdiutil,
    /// A file system made of its files.
    MakeFileSystem,
    /// It has a flag of its own.
    Kernel,
}

use At::{End, Start};
use Remedy::{Convert, Hdiutil, Kernel, MakeFileSystem, Unpack};

const fn kind(name: &'static str, at: At, magic: &'static [u8], remedy: Remedy) -> Kind {
    Kind {
        name,
        at,
        magic,
        remedy,
    }
}

/// Images of other virtual machines.
static IMAGES: [Kind; 14] = [
    kind(
        "a qcow image",
        Start(0),
        b"QFI\xfb\0\0\0\x01",
        Convert("qcow"),
    ),
    kind("a qcow2 image", Start(0), b"QFI\xfb", Convert("qcow2")),
    kind("a QED image", Start(0), b"QED\0", Convert("qed")),
    kind("a VMDK image", Start(0), b"KDMV", Convert("vmdk")),
    kind("a VMDK image", Start(0), b"COWD", Convert("vmdk")),
    kind(
        "the description of a VMDK image",
        Start(0),
        b"# Disk DescriptorFile",
        Convert("vmdk"),
    ),
    kind(
        "a VDI image",
        Start(0x40),
        b"\x7f\x10\xda\xbe",
        Convert("vdi"),
    ),
    kind("a VHDX image", Start(0), b"vhdxfile", Convert("vhdx")),
    kind("a VHD image", Start(0), b"conectix", Convert("vpc")),
    kind("a VHD image", End, b"conectix", Convert("vpc")),
    kind(
        "a Parallels image",
        Start(0),
        b"WithoutFreeSpace",
        Convert("parallels"),
    ),
    kind(
        "a Parallels image",
        Start(0),
        b"WithouFreSpacExt",
        Convert("parallels"),
    ),
    kind("a macOS disk image (dmg)", End, b"koly", Convert("dmg")),
    kind("a macOS sparse image", Start(0), b"sprs", Hdiutil),
];

/// What holds files or an image in a packed form, and programs.
static PACKED: [Kind; 16] = [
    kind(
        "compressed with gzip",
        Start(0),
        b"\x1f\x8b\x08",
        Unpack("gzip -dc"),
    ),
    kind(
        "compressed with xz",
        Start(0),
        b"\xfd7zXZ\0",
        Unpack("xz -dc"),
    ),
    kind(
        "compressed with zstd",
        Start(0),
        b"\x28\xb5\x2f\xfd",
        Unpack("zstd -dc"),
    ),
    kind(
        "compressed with bzip2",
        Start(0),
        b"BZh",
        Unpack("bzip2 -dc"),
    ),
    kind(
        "compressed with lz4",
        Start(0),
        b"\x04\x22\x4d\x18",
        Unpack("lz4 -dc"),
    ),
    kind(
        "compressed with lzip",
        Start(0),
        b"LZIP",
        Unpack("lzip -dc"),
    ),
    kind("a zip archive", Start(0), b"PK\x03\x04", Unpack("unzip -p")),
    kind(
        "a 7z archive",
        Start(0),
        b"7z\xbc\xaf\x27\x1c",
        Unpack("7z x -so"),
    ),
    kind("a tar archive", Start(257), b"ustar", MakeFileSystem),
    kind("a cpio archive", Start(0), b"070701", MakeFileSystem),
    kind("a cpio archive", Start(0), b"070702", MakeFileSystem),
    kind(
        "a Debian package or ar archive",
        Start(0),
        b"!<arch>\n",
        MakeFileSystem,
    ),
    kind(
        "an RPM package",
        Start(0),
        b"\xed\xab\xee\xdb",
        MakeFileSystem,
    ),
    kind(
        "a Windows image (wim)",
        Start(0),
        b"MSWIM\0\0\0",
        MakeFileSystem,
    ),
    kind("a Linux kernel", Start(0x202), b"HdrS", Kernel),
    kind("an ELF program or kernel", Start(0), b"\x7fELF", Kernel),
];

/// A tar archive that `docker save` or an OCI tool has made.
static CONTAINER: Kind = kind(
    "a container image (a tar archive of layers)",
    Start(257),
    b"ustar",
    MakeFileSystem,
);

/// The first bytes of the files by which an archive of a container image is known (OCI Image Layout 1.1; `docker save`).
const CONTAINER_FILES: [&[u8]; 4] = [b"oci-layout", b"blobs/", b"manifest.json", b"index.json"];

/// The kind of another virtual machine's image, where the file is one.
pub(super) fn image(file: &File, bytes: u64) -> io::Result<Option<&'static Kind>> {
    let probe = Probe::new(file, bytes)?;
    Ok(probe.find(&IMAGES))
}

/// The kind of a file that no root can be on, where it is one.
pub(super) fn packed(file: &File, bytes: u64) -> io::Result<Option<&'static Kind>> {
    let probe = Probe::new(file, bytes)?;
    let found = probe.find(&PACKED);
    if found.is_some_and(|kind| kind.at == CONTAINER.at) && is_container(file, &probe.head)? {
        return Ok(Some(&CONTAINER));
    }
    Ok(found)
}

/// Both ends of a file.
struct Probe {
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Probe {
    fn new(file: &File, bytes: u64) -> io::Result<Self> {
        Ok(Self {
            head: read(file, 0, bytes.min(HEAD as u64))?,
            tail: read(file, bytes.saturating_sub(TAIL), bytes.min(TAIL))?,
        })
    }

    fn find(&self, kinds: &'static [Kind]) -> Option<&'static Kind> {
        let kind = kinds.iter().find(|kind| self.is(kind))?;
        // A kernel can carry the mark of a boot sector, and often does.
        (kind.remedy == Kernel || !self.is_raw()).then_some(kind)
    }

    fn is(&self, kind: &Kind) -> bool {
        match kind.at {
            Start(at) => has(&self.head, at, kind.magic),
            End => has(&self.tail, 0, kind.magic),
        }
    }

    /// Whether there is the end of a boot sector, which MBR and GPT disks have, or an ext file system.
    fn is_raw(&self) -> bool {
        has(&self.head, 510, &[0x55, 0xaa]) || has(&self.head, 0x438, &[0x53, 0xef])
    }
}

/// Whether one of the first members of a tar archive is what a container image has.
fn is_container(file: &File, head: &[u8]) -> io::Result<bool> {
    const MEMBERS: usize = 64;
    let mut header = head.to_vec();
    let mut at = 0_u64;
    for _ in 0..MEMBERS {
        if CONTAINER_FILES.iter().any(|name| has(&header, 0, name)) {
            return Ok(true);
        }
        // Size in octal digits, content in blocks of 512.
        let digits = header.get(124..135).unwrap_or_default();
        let Some(size) = std::str::from_utf8(digits)
            .ok()
            .and_then(|it| u64::from_str_radix(it.trim_matches([' ', '\0']), 8).ok())
        else {
            break;
        };
        at += 512 + size.next_multiple_of(512);
        header = read_up_to(file, at, 512)?;
        if !has(&header, 257, b"ustar") {
            break;
        }
    }
    Ok(false)
}

fn has(bytes: &[u8], at: usize, magic: &[u8]) -> bool {
    bytes.get(at..).is_some_and(|it| it.starts_with(magic))
}

fn read(file: &File, at: u64, len: u64) -> io::Result<Vec<u8>> {
    let bytes = read_up_to(file, at, len)?;
    if (bytes.len() as u64) < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

/// At most `len` bytes, fewer where the file ends.
fn read_up_to(file: &File, at: u64, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len as usize];
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], at + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A file of `len` bytes of ones with `parts` in it.
    fn file(len: usize, parts: &[(usize, &[u8])]) -> File {
        let mut bytes = vec![1; len];
        for (at, part) in parts {
            bytes[*at..at + part.len()].copy_from_slice(part);
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        file
    }

    fn place(kind: &Kind, len: usize) -> usize {
        match kind.at {
            Start(at) => at,
            End => len - 512,
        }
    }

    type Find = fn(&File, u64) -> io::Result<Option<&'static Kind>>;
    const LEN: usize = 8192;

    #[test]
    fn each_is_known_by_its_magic_and_only_by_it() {
        for (kinds, find) in [(&IMAGES[..], image as Find), (&PACKED[..], packed as Find)] {
            for kind in kinds {
                let at = place(kind, LEN);
                let found = find(&file(LEN, &[(at, kind.magic)]), LEN as u64).unwrap();
                assert_eq!(found, Some(kind));
                let found = find(&file(LEN, &[(at + 1, kind.magic)]), LEN as u64).unwrap();
                assert_eq!(found, None, "{kind:?}");
                // Too short for it.
                let short = place(kind, LEN) + kind.magic.len() - 1;
                if matches!(kind.at, Start(_)) {
                    let cut = &kind.magic[..kind.magic.len() - 1];
                    let found = find(&file(short, &[(at, cut)]), short as u64).unwrap();
                    assert_ne!(found, Some(kind));
                }
            }
        }
    }

    #[test]
    fn what_has_partitions_or_a_file_system_is_raw_whatever_it_says() {
        for (at, mark) in [(510, &[0x55, 0xaa]), (0x438, &[0x53, 0xef])] {
            for kind in IMAGES.iter().chain(&PACKED) {
                let file = file(LEN, &[(place(kind, LEN), kind.magic), (at, mark)]);
                let find = |find: Find| find(&file, LEN as u64).unwrap();
                let found = find(image).or(find(packed));
                let expected = (kind.remedy == Kernel).then_some(kind);
                assert_eq!(found, expected, "{kind:?}");
            }
        }
    }

    #[test]
    fn container_images_are_told_from_other_archives() {
        let member = |name: &str, size: &str| {
            let mut header = vec![0; 512];
            header[..name.len()].copy_from_slice(name.as_bytes());
            header[124..124 + size.len()].copy_from_slice(size.as_bytes());
            header[257..262].copy_from_slice(b"ustar");
            header
        };
        let found = |members: &[(&str, &str, usize)]| {
            let mut bytes = Vec::new();
            for (name, size, blocks) in members {
                bytes.extend(member(name, size));
                bytes.resize(bytes.len() + blocks * 512, 0);
            }
            bytes.resize(bytes.len() + 1024, 0);
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            packed(&file, bytes.len() as u64).unwrap().unwrap().name
        };
        let (tar, container) = ("a tar archive", CONTAINER.name);
        let layer = ("0123/layer.tar", "00000001001", 2);
        assert_eq!(found(&[layer, ("manifest.json", "0", 0)]), container);
        assert_eq!(found(&[("oci-layout", "00000000036", 1)]), container);
        assert_eq!(found(&[layer, ("etc/passwd", "0", 0)]), tar);
        // Sizes that lead nowhere.
        for size in ["99999999999", "77777777777", "-1", "", "\u{80}"] {
            assert_eq!(
                found(&[("a", size, 0), ("manifest.json", "0", 0)]),
                tar,
                "{size}"
            );
        }
    }

    #[test]
    fn nothing_at_all_is_no_kind() {
        for len in [0, 1, 511, 513, LEN] {
            let file = file(len, &[]);
            assert_eq!(image(&file, len as u64).unwrap(), None);
            assert_eq!(packed(&file, len as u64).unwrap(), None);
        }
        assert!(image(&file(10, &[]), 600).is_err(), "it has become shorter");
    }
}
