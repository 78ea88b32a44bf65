//! Where on the root disk the root is.
//!
//! First what the Discoverable Partitions Specification (UAPI.2) calls the root of an x86-64 system. Otherwise what looks
//! like one from inside: of several file systems the one with the most of what a Linux system has, mounted read-only
//! to see. A lone file system beside nothing but boot partitions and swap needs no look. The whole disk counts where no
//! partition does, since a disk that was partitioned later may still carry an old file system's number.

use crate::filesystem::{self, foreign_on, of_device};
use crate::partition::{self, Entry, Purpose};
use hvf_sys::os::boot::{MountKind, mount, unmount};
use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};

/// Where file systems are mounted to be looked at.
const PROBE: &str = "/probe";
/// What a Linux system has. A /boot has none of it, a /usr has the programs alone.
const SIGNS: [&str; 5] = ["etc/os-release", "etc/passwd", "bin/sh", "sbin/init", "usr"];

/// The root that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) device: PathBuf,
    pub(crate) fstype: &'static str,
    /// Whether its partition is marked as one that is not to be written.
    pub(crate) read_only: bool,
}

/// The kernel's view: where it lists block devices, and where they are.
struct Place<'a> {
    sys: &'a Path,
    dev: &'a Path,
}

/// What is on a partition or on the whole disk.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    FileSystem(&'static str),
    /// Something with a name, where no root can be.
    Foreign(&'static str),
    Unknown,
}

#[derive(Clone, Debug)]
struct Part {
    number: u32,
    device: PathBuf,
    purpose: Purpose,
    read_only: bool,
    content: Content,
}

/// Finds the root on a disk such as /dev/vda.
pub(crate) fn find(disk: &Path) -> Result<Root, String> {
    let place = Place {
        sys: Path::new("/sys/block"),
        dev: Path::new("/dev"),
    };
    find_in(&place, disk, &|part| {
        let Content::FileSystem(fstype) = part.content else {
            return Ok(0);
        };
        signs_on(&part.device, fstype)
    })
}

fn find_in(
    place: &Place<'_>,
    disk: &Path,
    look: &dyn Fn(&Part) -> io::Result<usize>,
) -> Result<Root, String> {
    let unreadable = |error| format!("cannot read {disk:?}: {error}");
    let whole = content(disk).map_err(unreadable)?;
    let parts = parts(place, disk).map_err(unreadable)?;
    match (choose(&parts, look), &whole) {
        (Some(part), _) => Ok(part),
        (None, Content::FileSystem(fstype)) if is_bare(&parts, fstype) => Ok(Root {
            device: disk.to_owned(),
            fstype,
            read_only: false,
        }),
        _ => Err(nothing(disk, &whole, &parts, look)),
    }
}

/// Whether the whole disk is a file system: its partitions are nothing, or a hybrid disc's view of it.
fn is_bare(parts: &[Part], fstype: &str) -> bool {
    fstype == "iso9660" || parts.iter().all(|part| part.content == Content::Unknown)
}

fn choose(parts: &[Part], look: &dyn Fn(&Part) -> io::Result<usize>) -> Option<Root> {
    let named = parts.iter().find(|part| part.purpose == Purpose::Root);
    if let Some(root) = named.and_then(Part::root) {
        return Some(root);
    }
    let candidates = || parts.iter().filter(|part| part.is_candidate());
    let alone = candidates().count() == 1 && !parts.iter().any(Part::may_hide_a_root);
    if alone {
        return candidates().next().and_then(Part::root);
    }
    let mut best: Option<(usize, &Part)> = None;
    for part in candidates() {
        let signs = look(part).unwrap_or(0);
        if signs > best.map_or(0, |(most, _)| most) {
            best = Some((signs, part));
        }
    }
    best.and_then(|(_, part)| part.root())
}

impl Part {
    fn root(&self) -> Option<Root> {
        let Content::FileSystem(fstype) = self.content else {
            return None;
        };
        Some(Root {
            device: self.device.clone(),
            fstype,
            read_only: self.read_only,
        })
    }

    fn is_candidate(&self) -> bool {
        let other = matches!(self.purpose, Purpose::Other(_));
        !other && matches!(self.content, Content::FileSystem(_))
    }

    /// Whether the system may be in there, so that a file system beside it is perhaps only its /boot.
    fn may_hide_a_root(&self) -> bool {
        const HARMLESS: [&str; 2] = ["swap space", "a FAT file system"];
        matches!(self.content, Content::Foreign(name) if !HARMLESS.contains(&name))
    }

    /// What it is, in words.
    fn described(&self, look: &dyn Fn(&Part) -> io::Result<usize>) -> String {
        match (self.purpose, &self.content) {
            (Purpose::Other(name), _) => format!("is {name}"),
            (_, Content::Foreign(name)) => format!("is {name}"),
            (_, Content::FileSystem(fstype)) => match look(self) {
                Ok(_) => format!("is {fstype} without a Linux system on it"),
                Err(error) if is_unknown(&error) => {
                    format!("is {fstype}, for which this kernel has no driver")
                }
                Err(error) => format!("is {fstype} that cannot be mounted ({error})"),
            },
            (_, Content::Unknown) => "is nothing known".to_owned(),
        }
    }
}

/// Why no root was found.
fn nothing(
    disk: &Path,
    whole: &Content,
    parts: &[Part],
    look: &dyn Fn(&Part) -> io::Result<usize>,
) -> String {
    let names = filesystem::NAMES;
    let what = match whole {
        Content::Foreign(name) if parts.is_empty() => format!("it is {name}"),
        _ if parts.is_empty() => "bare or in a partition".to_owned(),
        _ => {
            let one = |part: &Part| format!("partition {} {}", part.number, part.described(look));
            // A disk can have more than anybody wants to read.
            let said: Vec<String> = parts.iter().take(8).map(one).collect();
            said.join(", ")
        }
    };
    format!(
        "{disk:?} holds no file system that a root can be on ({names}): {what}; name an image of a Linux system"
    )
}

/// Whether the kernel has no such file system: ENODEV.
pub(crate) fn is_unknown(error: &io::Error) -> bool {
    error.raw_os_error() == Some(19)
}

fn content(device: &Path) -> io::Result<Content> {
    if let Some(fstype) = of_device(device)? {
        return Ok(Content::FileSystem(fstype));
    }
    Ok(foreign_on(device)?.map_or(Content::Unknown, Content::Foreign))
}

/// The disk's partitions in the order of their numbers, which are the kernel's.
fn parts(place: &Place<'_>, disk: &Path) -> io::Result<Vec<Part>> {
    let sys = place.sys.join(disk.file_name().unwrap_or_default());
    let listed = fs::read_dir(&sys).into_iter().flatten().flatten();
    let mut found: Vec<(u64, u64, PathBuf)> = listed
        .filter_map(|entry| {
            let number = number_in(&entry.path().join("partition"))?;
            let start = number_in(&entry.path().join("start"))?;
            Some((number, start, place.dev.join(entry.file_name())))
        })
        .collect();
    if found.is_empty() {
        return Ok(Vec::new());
    }
    found.sort();
    let sectors = number_in(&sys.join("size")).unwrap_or(0);
    let entries = partition::entries(&File::open(disk)?, sectors)?;
    let part = |(number, start, device): (u64, u64, PathBuf)| {
        let entry = entries.iter().find(|entry| entry.start == start);
        let unsaid = Entry {
            start,
            purpose: Purpose::Unsaid,
            read_only: false,
        };
        let entry = entry.unwrap_or(&unsaid);
        Ok(Part {
            number: number as u32,
            // The box of an extended partition is as small as two sectors: what cannot be read is nothing.
            content: content(&device).unwrap_or(Content::Unknown),
            device,
            purpose: entry.purpose,
            read_only: entry.read_only,
        })
    };
    found.into_iter().map(part).collect()
}

fn number_in(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// How many of the signs of a Linux system are on a device. Nothing is written to it, not even its journal replayed.
fn signs_on(device: &Path, fstype: &str) -> io::Result<usize> {
    let options = if fstype == "ext4" { "noload" } else { "" };
    let probe = Path::new(PROBE);
    fs::create_dir_all(probe)?;
    mount(device, probe, fstype, MountKind::NewReadOnly, options)?;
    let count = signs(probe);
    unmount(probe)?;
    Ok(count)
}

fn signs(root: &Path) -> usize {
    let there = SIGNS.iter().filter(|sign| is_there(root, Path::new(sign)));
    there.count()
}

/// Whether a path is there. A link on the way counts as what it leads to: it must not be followed, since it is meant to
/// be seen from another root.
fn is_there(root: &Path, path: &Path) -> bool {
    let mut place = root.to_owned();
    for name in path.components() {
        let Component::Normal(name) = name else {
            return false;
        };
        place.push(name);
        match fs::symlink_metadata(&place) {
            Ok(metadata) if metadata.is_symlink() => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use Content::{FileSystem, Foreign, Unknown};
    use Purpose::{Other, Root as Named, Unsaid};
    use std::os::unix::fs::{FileExt, symlink};

    const ESP: Purpose = Other("an EFI system partition");
    const FAT: Content = Foreign("a FAT file system");
    const LUKS: Content = Foreign("encrypted with LUKS");
    const EXT4: Content = FileSystem("ext4");
    const XFS: Content = FileSystem("xfs");

    fn part(number: usize, purpose: Purpose, content: Content) -> Part {
        Part {
            number: number as u32,
            device: format!("{number}").into(),
            purpose,
            read_only: false,
            content,
        }
    }

    /// The chosen partition's number, by what each shows from inside: `None` cannot be mounted.
    fn chosen(list: &[(Purpose, Content, Option<usize>)]) -> Option<usize> {
        let parts: Vec<Part> = list
            .iter()
            .enumerate()
            .map(|(index, (purpose, content, _))| part(index + 1, *purpose, content.clone()))
            .collect();
        let look = |part: &Part| {
            let signs = list[part.number as usize - 1].2;
            signs.ok_or_else(|| io::Error::from_raw_os_error(19))
        };
        let root = choose(&parts, &look)?;
        Some(root.device.to_str().unwrap().parse().unwrap())
    }

    #[test]
    fn the_root_is_chosen() {
        let unlooked = None;
        for (list, expected) in [
            (&[(Unsaid, EXT4, unlooked)][..], Some(1)),
            (&[(ESP, FAT, None), (Unsaid, EXT4, unlooked)], Some(2)),
            // A type says more than looks.
            (&[(Unsaid, EXT4, Some(5)), (Named, EXT4, unlooked)], Some(2)),
            (&[(Named, Unknown, None), (Unsaid, EXT4, Some(5))], Some(2)),
            // /boot before the root, the root before /boot, /usr beside it, two systems.
            (&[(Unsaid, EXT4, Some(0)), (Unsaid, EXT4, Some(5))], Some(2)),
            (&[(Unsaid, EXT4, Some(4)), (Unsaid, EXT4, Some(0))], Some(1)),
            (&[(Unsaid, EXT4, Some(3)), (Unsaid, EXT4, Some(5))], Some(2)),
            (&[(Unsaid, EXT4, Some(5)), (Unsaid, EXT4, Some(5))], Some(1)),
            // /boot alone, with the root where it cannot be had.
            (&[(Unsaid, EXT4, Some(0)), (Unsaid, LUKS, None)], None),
            (&[(Unsaid, EXT4, Some(0)), (Unsaid, XFS, None)], None),
            (&[(Unsaid, EXT4, Some(4)), (Unsaid, LUKS, None)], Some(1)),
            (
                &[
                    (Unsaid, Foreign("swap space"), None),
                    (Unsaid, EXT4, unlooked),
                ],
                Some(2),
            ),
            // What a table calls something else is that.
            (&[(ESP, EXT4, Some(5))], None),
            (
                &[
                    (Other("a /usr partition"), EXT4, Some(3)),
                    (Unsaid, EXT4, unlooked),
                ],
                Some(2),
            ),
            (&[(Unsaid, Unknown, None), (Unsaid, FAT, None)], None),
            (&[], None),
        ] {
            assert_eq!(chosen(list), expected, "{list:?}");
        }
    }

    /// A disk in a directory that looks like the kernel's.
    struct Fake(tempfile::TempDir);

    impl Fake {
        fn new(whole: &[(u64, &[u8])]) -> Self {
            let fake = Self(tempfile::TempDir::new().unwrap());
            let sys = fake.0.path().join("sys/vda");
            fs::create_dir_all(&sys).unwrap();
            fs::create_dir(fake.0.path().join("dev")).unwrap();
            fs::write(sys.join("size"), "2048\n").unwrap();
            fake.device("vda", whole);
            fake
        }

        fn device(&self, name: &str, content: &[(u64, &[u8])]) {
            let file = File::create(self.0.path().join("dev").join(name)).unwrap();
            file.set_len(1 << 20).unwrap();
            for (at, bytes) in content {
                file.write_all_at(bytes, *at).unwrap();
            }
        }

        fn partition(&self, number: u32, start: u64, content: &[(u64, &[u8])]) {
            let name = format!("vda{number}");
            self.device(&name, content);
            let sys = self.0.path().join("sys/vda").join(name);
            fs::create_dir(&sys).unwrap();
            fs::write(sys.join("partition"), format!("{number}\n")).unwrap();
            fs::write(sys.join("start"), format!("{start}\n")).unwrap();
        }

        /// The device and what it holds, with so many signs on every file system.
        fn find(&self, signs: usize) -> Result<(String, &'static str), String> {
            let (sys, dev) = (self.0.path().join("sys"), self.0.path().join("dev"));
            let place = Place {
                sys: &sys,
                dev: &dev,
            };
            let root = find_in(&place, &dev.join("vda"), &|_| Ok(signs))?;
            let name = root
                .device
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            Ok((name, root.fstype))
        }
    }

    const EXT: (u64, &[u8]) = (0x438, &[0x53, 0xef]);
    const ISO: (u64, &[u8]) = (0x8001, b"CD001");
    const CRYPT: (u64, &[u8]) = (0, b"LUKS\xba\xbe");

    #[test]
    fn a_bare_file_system_is_told_from_an_old_one_s_remains() {
        let found = |name: &str, fstype| Ok((name.to_owned(), fstype));
        assert_eq!(Fake::new(&[EXT]).find(0), found("vda", "ext4"));
        // Partitions that are nothing: what a boot loader's bytes look like to the kernel.
        let fake = Fake::new(&[EXT]);
        fake.partition(1, 63, &[]);
        assert_eq!(fake.find(0), found("vda", "ext4"));
        fake.partition(2, 100, &[CRYPT]);
        assert!(
            fake.find(0)
                .unwrap_err()
                .contains("partition 2 is encrypted with LUKS")
        );
        // In the order of their numbers, not of their names.
        let fake = Fake::new(&[EXT]);
        fake.partition(10, 100, &[EXT]);
        fake.partition(9, 500, &[EXT]);
        assert_eq!(fake.find(5), found("vda9", "ext4"));
        let fake = Fake::new(&[ISO]);
        fake.partition(2, 100, &[(0x36, b"FAT12   ")]);
        assert_eq!(fake.find(0), found("vda", "iso9660"));
    }

    #[test]
    fn what_is_there_instead_is_said_in_one_sentence() {
        let sentence = |fake: &Fake| fake.find(0).unwrap_err();
        assert!(sentence(&Fake::new(&[])).contains("no file system that a root can be on"));
        assert!(sentence(&Fake::new(&[CRYPT])).contains("it is encrypted with LUKS"));
        let fake = Fake::new(&[]);
        fake.partition(1, 64, &[EXT]);
        fake.partition(2, 128, &[(0x218, b"LVM2 001"), (0x200, b"LABELONE")]);
        fake.partition(3, 256, &[]);
        let text = sentence(&fake);
        let parts = "partition 1 is ext4 without a Linux system on it, partition 2 is an LVM2 volume, partition 3 is nothing known";
        assert!(text.contains(parts) && text.lines().count() == 1, "{text}");
        // The table's types are found by where partitions start.
        let fake = Fake::new(&[
            (510, &[0x55, 0xaa]),
            (450, &[0xef]),
            (454, &[64]),
            (458, &[9]),
        ]);
        fake.partition(1, 64, &[EXT]);
        let text = sentence(&fake);
        assert!(
            text.contains("partition 1 is an EFI system partition"),
            "{text}"
        );
    }

    #[test]
    fn signs_of_a_system_are_counted_without_following_links() {
        let dir = tempfile::TempDir::new().unwrap();
        let at = |name: &str| dir.path().join(name);
        assert_eq!(signs(dir.path()), 0);
        fs::create_dir(at("grub")).unwrap();
        fs::write(at("vmlinuz"), "").unwrap();
        assert_eq!(signs(dir.path()), 0);
        fs::create_dir_all(at("usr/bin")).unwrap();
        symlink("/no/such/place", at("bin")).unwrap();
        assert_eq!(signs(dir.path()), 2);
        fs::create_dir(at("etc")).unwrap();
        fs::create_dir(at("sbin")).unwrap();
        assert_eq!(signs(dir.path()), 2);
        symlink("../usr/lib/os-release", at("etc/os-release")).unwrap();
        symlink("/lib/systemd/systemd", at("sbin/init")).unwrap();
        assert_eq!(signs(dir.path()), 4);
    }
}
