use super::image::BYTES_MAX;
use super::*;
use DiskAccess::{Keep, ReadOnly, ThrowAway};
use hvf_sys::file;
use proptest::prelude::*;
use std::borrow::Borrow;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const RAM: u64 = 0x10_0000;

pub(super) fn ram() -> Arc<Ram> {
    Ram::new(&[(0, RAM)]).unwrap()
}

pub(super) fn image(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

pub(super) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i / 512 + i) as u8 | 1).collect()
}

/// What opening a disk gives that nobody holds any more. A child of another test has our files until it executes its
/// program, and with them their locks.
pub(super) fn once_free(open: impl Fn() -> Result<Disk, OpenError>) -> Result<Disk, OpenError> {
    use named::Defect;
    let start = Instant::now();
    loop {
        let opened = open();
        let held = opened.as_ref().err().is_some_and(|error| {
            matches!(
                error.trouble,
                Trouble::InUse(..) | Trouble::Overlay(_, Defect::InUse(_))
            )
        });
        if !held || start.elapsed() > Duration::from_secs(30) {
            return opened;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn open(path: &Path, access: impl Borrow<DiskAccess>) -> Result<Disk, OpenError> {
    once_free(|| open_now(path, access.borrow()))
}

fn open_now(path: &Path, access: &DiskAccess) -> Result<Disk, OpenError> {
    let (path, access) = (path.to_owned(), access.clone());
    Disk::open_over(&spec::Disk { path, access }, &std::env::temp_dir())
}

pub(super) fn read(disk: &Disk, ram: &Ram, offset: u64, len: u64) -> io::Result<Vec<u8>> {
    ram.fill(0, len, 0xee).unwrap();
    disk.read(offset, ram, &[Piece { gpa: 0, len }])?;
    let mut bytes = vec![0; len as usize];
    ram.read(0, &mut bytes).unwrap();
    Ok(bytes)
}

pub(super) fn write(disk: &Disk, ram: &Ram, offset: u64, bytes: &[u8]) -> io::Result<()> {
    ram.write(0x8_0000, bytes).unwrap();
    let len = bytes.len() as u64;
    disk.write(offset, ram, &[Piece { gpa: 0x8_0000, len }])
}

#[test]
fn writes_are_read_back_and_the_image_stays() {
    let (ram, before) = (ram(), pattern(5 * 4096));
    let file = image(&before);
    let disk = open(file.path(), ThrowAway).unwrap();
    write(&disk, &ram, 512, &[0xaa; 1024]).unwrap();
    write(&disk, &ram, 4096 * 2 - 512, &[0xbb; 1024 + 4096]).unwrap();
    let mut expected = before.clone();
    expected[512..1536].fill(0xaa);
    expected[4096 * 2 - 512..4096 * 3 + 512].fill(0xbb);
    assert_eq!(read(&disk, &ram, 0, 5 * 4096).unwrap(), expected);
    drop(disk);
    assert_eq!(std::fs::read(file.path()).unwrap(), before);
}

#[test]
fn a_last_sector_that_is_not_full_reads_zeros_behind_the_end() {
    let (ram, file) = (ram(), image(&[7; 700]));
    for access in [ThrowAway, ReadOnly] {
        let disk = open(file.path(), access).unwrap();
        assert_eq!(disk.sectors(), 2);
        let bytes = read(&disk, &ram, 0, 1024).unwrap();
        assert_eq!((bytes[699], &bytes[700..]), (7, &[0; 324][..]));
        assert_eq!(read(&disk, &ram, 512, 512).unwrap()[..], bytes[512..]);
    }
    let disk = open(file.path(), ThrowAway).unwrap();
    write(&disk, &ram, 512, &[9; 512]).unwrap();
    assert_eq!(read(&disk, &ram, 0, 1024).unwrap()[511..513], [7, 9]);
}

#[test]
fn nothing_behind_the_end_is_reached() {
    let (ram, file) = (ram(), image(&[7; 1024]));
    let disk = open(file.path(), ThrowAway).unwrap();
    for (offset, len) in [
        (1024, 1),
        (512, 513),
        (u64::MAX, 1),
        (u64::MAX - 1, 2),
        (0, 1025),
    ] {
        let piece = [Piece { gpa: 0, len }];
        assert!(disk.read(offset, &ram, &piece).is_err());
        assert!(disk.write(offset, &ram, &piece).is_err());
        assert!(disk.discard(offset, len).is_err());
        assert!(disk.write_zeroes(offset, len, true).is_err());
    }
    assert!(
        disk.write(
            0,
            &ram,
            &[
                Piece {
                    gpa: 0,
                    len: u64::MAX
                },
                Piece { gpa: 0, len: 1 }
            ]
        )
        .is_err()
    );
    assert!(
        disk.write(0, &ram, &[Piece { gpa: RAM, len: 512 }])
            .is_err()
    );
}

#[test]
fn an_image_that_shrinks_gives_errors() {
    let (ram, file) = (ram(), image(&pattern(64 * 1024)));
    let disk = open(file.path(), ThrowAway).unwrap();
    write(&disk, &ram, 32 * 1024, &[1; 4096]).unwrap();
    file.as_file().set_len(4096).unwrap();
    assert!(read(&disk, &ram, 8192, 512).is_err());
    assert!(
        write(&disk, &ram, 8192, &[1; 512]).is_err(),
        "its block cannot be completed"
    );
    assert_eq!(read(&disk, &ram, 32 * 1024, 4096).unwrap(), [1; 4096]);
    assert!(read(&disk, &ram, 0, 4096).is_ok());
}

#[test]
fn a_read_only_disk_refuses_changes() {
    let (ram, file) = (ram(), image(&[7; 1024]));
    let disk = open(file.path(), ReadOnly).unwrap();
    assert!(disk.read_only());
    assert!(write(&disk, &ram, 0, &[1; 512]).is_err());
    assert!(disk.discard(0, 512).is_err() && disk.write_zeroes(0, 512, true).is_err());
    assert_eq!(read(&disk, &ram, 0, 512).unwrap(), [7; 512]);
}

#[test]
fn what_is_kept_is_in_the_image_and_nothing_else() {
    let (ram, mut expected) = (ram(), pattern(5 * 4096 + 512));
    let file = image(&expected);
    let disk = open(file.path(), Keep).unwrap();
    assert!(!disk.read_only());
    write(&disk, &ram, 512, &[0xaa; 1024]).unwrap();
    write(&disk, &ram, 5 * 4096, &[0xbb; 512]).unwrap();
    assert!(write(&disk, &ram, 5 * 4096, &[0xcc; 1024]).is_err());
    disk.flush().unwrap();
    expected[512..1536].fill(0xaa);
    expected[5 * 4096..].fill(0xbb);
    assert_eq!(std::fs::read(file.path()).unwrap(), expected);
    assert_eq!(read(&disk, &ram, 0, 5 * 4096 + 512).unwrap(), expected);
}

/// Bytes that the image takes of the host's disk.
fn taken(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).unwrap().blocks() * 512
}

#[test]
fn holes_in_a_kept_image_end_where_the_guest_said() {
    const LEN: usize = 512 * 1024;
    let odd = [(512, LEN as u64 - 1024), (4096 + 512, 1024)];
    for (offset, len) in odd {
        for what in ["discard", "unmap", "zero"] {
            let file = image(&pattern(LEN));
            let disk = open(file.path(), Keep).unwrap();
            let full = taken(file.path());
            match what {
                "discard" => disk.discard(offset, len).unwrap(),
                "unmap" => disk.write_zeroes(offset, len, true).unwrap(),
                _ => disk.write_zeroes(offset, len, false).unwrap(),
            }
            disk.flush().unwrap();
            let mut expected = pattern(LEN);
            let range = match what {
                "discard" => offset.next_multiple_of(4096)..(offset + len) / 4096 * 4096,
                _ => offset..offset + len,
            };
            if !range.is_empty() {
                expected[range.start as usize..range.end as usize].fill(0);
            }
            let bytes = std::fs::read(file.path()).unwrap();
            let punched = taken(file.path()) < full / 8;
            assert_eq!(bytes.len(), LEN, "{what}");
            // A file system without holes keeps what was discarded.
            if what != "discard" || punched {
                assert!(bytes == expected, "{what} {offset}+{len}");
            }
            if what == "zero" {
                assert!(!punched, "space that was not to be given back");
            }
        }
    }
    let file = image(&pattern(LEN));
    if file::punch_hole(file.as_file(), 0, 4096).is_ok() {
        let disk = open(file.path(), Keep).unwrap();
        for half in [
            disk.discard(0, 256 << 10),
            disk.write_zeroes(256 << 10, 256 << 10, true),
        ] {
            half.unwrap();
        }
        assert_eq!(taken(file.path()), 0);
    }
}

#[test]
fn an_image_never_grows_not_even_back() {
    let (ram, file) = (ram(), image(&pattern(64 * 1024)));
    let disk = open(file.path(), Keep).unwrap();
    file.as_file().set_len(4096).unwrap();
    assert!(read(&disk, &ram, 8192, 512).is_err());
    assert!(write(&disk, &ram, 8192, &[1; 512]).is_err());
    assert!(write(&disk, &ram, 3584, &[1; 1024]).is_err());
    assert!(disk.write_zeroes(8192, 512, false).is_err());
    assert!(disk.write_zeroes(8192, 512, true).is_err());
    assert!(disk.discard(8192, 4096).is_err());
    assert!(write(&disk, &ram, 3584, &[1; 512]).is_ok());
    assert_eq!(file.as_file().metadata().unwrap().len(), 4096);
}

#[test]
fn one_writes_or_any_number_read() {
    let file = image(&[7; 1024]);
    for (first, second, together) in [
        (ThrowAway, ThrowAway, true),
        (ThrowAway, ReadOnly, true),
        (ThrowAway, Keep, false),
        (ReadOnly, Keep, false),
        (Keep, ThrowAway, false),
        (Keep, ReadOnly, false),
        (Keep, Keep, false),
    ] {
        let held = open(file.path(), &first).unwrap();
        let another = || match together {
            true => open(file.path(), &second),
            false => open_now(file.path(), &second),
        };
        let found = another();
        assert_eq!(found.is_ok(), together, "{first:?} {second:?}");
        // Closing another handle leaves the lock alone.
        drop(File::open(file.path()).unwrap());
        assert_eq!(another().is_ok(), together);
        drop(held);
        if let Err(error) = found {
            let text = error.to_string();
            assert!(text.contains(file.path().to_str().unwrap()), "{text}");
            if cfg!(target_os = "linux") {
                assert!(text.contains("name each image once"), "{text}");
            }
            assert!(open(file.path(), &second).is_ok(), "no longer held");
        }
    }
}

#[test]
fn a_failure_of_the_host_s_is_one_sentence_about_the_file() {
    use io::ErrorKind::{Other, StorageFull, UnexpectedEof};
    let file = image(&[7; 1024]);
    let name = file.path().display().to_string();
    for access in [Keep, ThrowAway] {
        let disk = open(file.path(), &access).unwrap();
        for (kind, expected) in [
            (StorageFull, "no room"),
            (UnexpectedEof, "shorter"),
            (Other, "cannot be used"),
        ] {
            let text = disk.failure(&kind.into());
            assert!(text.contains(expected) && text.contains(&name), "{text}");
            assert_eq!(text.lines().count(), 1);
        }
        let full = disk.failure(&StorageFull.into());
        assert_eq!(full.contains("set TMPDIR"), access == ThrowAway, "{full}");
    }
}

#[test]
fn discarded_space_is_given_back() {
    use std::os::unix::fs::MetadataExt;
    let (ram, file) = (ram(), image(&pattern(512 * 1024)));
    let disk = open(file.path(), ThrowAway).unwrap();
    write(&disk, &ram, 0, &[5; 512 * 1024]).unwrap();
    let used = || match &disk.layer {
        Layer::Overlay(overlay, _) => overlay.medium().metadata().unwrap().blocks(),
        other => panic!("{other:?}"),
    };
    let full = used();
    disk.discard(512, 511 * 1024).unwrap();
    assert!(used() < full / 8, "{} of {full}", used());
    assert_eq!(read(&disk, &ram, 0, 4096).unwrap(), [5; 4096]);
    assert_eq!(read(&disk, &ram, 4096, 4096).unwrap(), [0; 4096]);
}

#[test]
fn what_is_no_image_is_refused_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("empty"), "").unwrap();
    std::fs::write(at("image"), [0; 512]).unwrap();
    let huge = File::create(at("huge")).unwrap();
    let sentence = |path: &Path| open(path, ReadOnly).unwrap_err().to_string();
    let mut cases = vec![
        (at("none"), "there is no such file; check the path"),
        (at(""), "it is a directory; name a raw image file"),
        (at("image/x"), "Not a directory"),
        (
            at("empty"),
            "it is empty; name an image with at least one sector",
        ),
        (
            PathBuf::from("/dev/null"),
            "it is neither a file nor a block device",
        ),
    ];
    if huge.set_len(BYTES_MAX + 1).is_ok() {
        cases.push((at("huge"), "name an image of at most 70368744177664 bytes"));
    }
    if std::process::Command::new("mkfifo")
        .arg(at("fifo"))
        .status()
        .is_ok_and(|s| s.success())
    {
        cases.push((at("fifo"), "it is neither a file nor a block device"));
    }
    let part = image(&[7; 700]);
    let text = open(part.path(), Keep).unwrap_err().to_string();
    assert!(
        text.contains("700 bytes, which is no multiple of 512"),
        "{text}"
    );
    for (path, expected) in cases {
        let text = sentence(&path);
        let start = format!("cannot open disk image '{}': ", path.display());
        assert!(
            text.starts_with(&start) && text.contains(expected),
            "{text}"
        );
        assert_eq!(text.lines().count(), 1);
    }
    let disk = spec::Disk {
        path: at("image"),
        access: ThrowAway,
    };
    let text = Disk::open_over(&disk, &at("nowhere")).unwrap_err();
    let text = text.to_string();
    assert!(text.contains("set TMPDIR to a directory"), "{text}");
}

#[test]
fn what_is_thrown_away_lies_where_it_was_asked_for_or_where_there_is_a_place() {
    let dir = tempfile::tempdir().unwrap();
    let there = dir.path().to_str().unwrap();
    let asked = || Some(PathBuf::from("/asked"));
    assert_eq!(place(asked(), &[there]), Path::new("/asked"));
    assert_eq!(place(None, &["/no/such", there, "/"]), dir.path());
    assert_eq!(place(None, &["/no/such", "/none"]), Path::new("/no/such"));
}

/// A block device that the host has mounted: it can be read, and is refused for writing. Nothing is written to it.
#[test]
#[cfg(target_os = "linux")]
fn a_block_device_is_an_image_and_the_host_s_own_is_not_written() {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut sources = mounts.lines().filter_map(|line| line.split(' ').next());
    let readable = |path: &&str| {
        let name = path.strip_prefix("/dev/");
        name.is_some_and(|name| !name.contains('/')) && File::open(path).is_ok()
    };
    let Some(path) = sources.find(readable) else {
        println!("skipped: no mounted block device that this user may read");
        return;
    };
    let name = path.strip_prefix("/dev/").unwrap();
    let size = std::fs::read_to_string(format!("/sys/class/block/{name}/size"));
    let Ok(sectors) = size.unwrap_or_default().trim().parse::<u64>() else {
        println!("skipped: {path} is not listed with its size");
        return;
    };
    let (ram, path) = (ram(), Path::new(path));
    let disk = open(path, ThrowAway).unwrap();
    assert_eq!(disk.sectors(), sectors);
    let last = (sectors - 1) * SECTOR;
    assert_eq!(
        read(&disk, &ram, last, SECTOR).unwrap().len(),
        SECTOR as usize
    );
    write(&disk, &ram, last, &[0x5a; 512]).unwrap();
    assert_eq!(read(&disk, &ram, last, SECTOR).unwrap(), [0x5a; 512]);
    drop(disk);
    let disk = open(path, ReadOnly).unwrap();
    assert!(write(&disk, &ram, last, &[0x5a; 512]).is_err());
    drop(disk);
    let text = open(path, Keep).unwrap_err().to_string();
    let refused = ["the host uses this device", "make it writable"];
    assert!(refused.iter().any(|it| text.contains(it)), "{text}");
}

#[test]
fn a_foreign_image_is_named_with_what_makes_a_raw_one_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let qcow2 = b"QFI\xfb\0\0\0\x03".as_slice();
    let gzip = b"\x1f\x8b\x08\0".as_slice();
    let kernel = b"\x7fELF".as_slice();
    for (name, bytes, what, remedy) in [
        (
            "a.qcow2",
            qcow2,
            "a qcow2 image",
            "qemu-img convert -f qcow2 -O raw '{}/a.qcow2' '{}/a.img'",
        ),
        ("b.img", qcow2, "a qcow2 image", "'{}/b.img' '{}/b.img.raw'"),
        (
            "c-1.2.img.gz",
            gzip,
            "compressed with gzip",
            "gzip -dc '{}/c-1.2.img.gz' > '{}/c-1.2.img'",
        ),
        ("d-1.2.gz", gzip, "compressed with gzip", "> '{}/d-1.2.img'"),
        (
            "it's",
            gzip,
            "compressed with gzip",
            "gzip -dc '{}/it'\\''s' > '{}/it'\\''s.img'",
        ),
        ("vmlinux", kernel, "an ELF program", "--kernel '{}/vmlinux'"),
    ] {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let root = spec::Disk {
            path: path.clone(),
            access: ThrowAway,
        };
        // What is packed is a disk like any other, as long as it is not the root.
        let refused = match open(&path, ThrowAway) {
            Err(error) => error,
            Ok(_) => Disk::check_root(&root).unwrap_err(),
        };
        assert_eq!(open(&path, ReadOnly).is_ok(), bytes != qcow2);
        let text = refused.to_string();
        let remedy = remedy.replace("{}", dir.path().to_str().unwrap());
        let start = format!("cannot open disk image '{}': it is {what}", path.display());
        assert!(text.starts_with(&start) && text.contains(&remedy), "{text}");
        assert_eq!(text.lines().count(), 1);
    }
    let file = image(&[7; 1024]);
    let root = |path: &Path| {
        Disk::check_root(&spec::Disk {
            path: path.to_owned(),
            access: Keep,
        })
    };
    assert!(root(file.path()).is_ok());
    let text = root(&dir.path().join("none")).unwrap_err().to_string();
    assert!(text.contains("there is no such file"), "{text}");
}

#[test]
fn two_writers_of_one_new_block_keep_each_other_s_part() {
    use std::sync::atomic::{AtomicU64, Ordering};
    const BLOCKS: u64 = 2048;
    let file = image(&pattern(4096 * BLOCKS as usize));
    let disk = open(file.path(), ThrowAway).unwrap();
    let ram = ram();
    // Both come to each block together; then one falls behind by a little more every time.
    let arrived = AtomicU64::new(0);
    thread::scope(|scope| {
        for half in 0..2 {
            let (disk, ram, arrived) = (&disk, &ram, &arrived);
            scope.spawn(move || {
                let (gpa, len) = (half * 4096, 2048);
                ram.fill(gpa, len, 0xa0 + half as u8).unwrap();
                for block in 0..BLOCKS {
                    arrived.fetch_add(1, Ordering::SeqCst);
                    while arrived.load(Ordering::SeqCst) < 2 * (block + 1) {
                        thread::yield_now();
                    }
                    (0..half * (block % 128) * 8).for_each(|_| std::hint::spin_loop());
                    disk.write(block * 4096 + half * 2048, ram, &[Piece { gpa, len }])
                        .unwrap();
                }
            });
        }
    });
    for block in 0..BLOCKS {
        let bytes = read(&disk, &ram, block * 4096, 4096).unwrap();
        assert_eq!(
            (bytes[0], bytes[2047], bytes[2048], bytes[4095]),
            (0xa0, 0xa0, 0xa1, 0xa1),
            "block {block}"
        );
    }
}

#[derive(Clone, Debug)]
enum Step {
    Read,
    Write(u8),
    Zeroes,
    Discard,
}

fn steps() -> impl Strategy<Value = Vec<(Step, u64, u64)>> {
    let step = prop_oneof![
        2 => Just(Step::Read),
        4 => any::<u8>().prop_map(Step::Write),
        2 => Just(Step::Zeroes),
        1 => Just(Step::Discard),
    ];
    prop::collection::vec((step, 0_u64..45, 0_u64..45), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Against an array in memory. A discarded sector may have its old contents or zeros.
    #[test]
    fn a_disk_is_an_array_of_bytes(steps in steps(), kind in 0..3, unmap in any::<bool>()) {
        const SECTORS: u64 = 43;
        let dir = tempfile::tempdir().unwrap();
        let (access, part) = match kind {
            0 => (Keep, 0),
            1 => (ThrowAway, 100),
            _ => (DiskAccess::Overlay(dir.path().join("overlay")), 100),
        };
        let bytes = pattern(SECTORS as usize * 512 - part);
        let file = image(&bytes);
        let disk = open(file.path(), &access).unwrap();
        let ram = ram();
        let mut model = bytes.clone();
        model.resize(SECTORS as usize * 512, 0);
        for (step, sector, count) in steps {
            let (offset, len) = (sector * 512, count * 512);
            let range = offset as usize..(offset + len) as usize;
            let inside = sector + count <= SECTORS;
            let result = match step {
                Step::Read => match read(&disk, &ram, offset, len) {
                    Ok(bytes) => {
                        prop_assert_eq!(&bytes, &model[range]);
                        Ok(())
                    }
                    Err(e) => Err(e),
                },
                Step::Write(byte) => {
                    let result = write(&disk, &ram, offset, &vec![byte; len as usize]);
                    if inside { model[range].fill(byte) }
                    result
                }
                Step::Zeroes => {
                    if inside { model[range].fill(0) }
                    disk.write_zeroes(offset, len, unmap)
                }
                Step::Discard => {
                    let result = disk.discard(offset, len);
                    if inside {
                        let now = read(&disk, &ram, offset, len).unwrap();
                        for (sector, old) in now.chunks(512).zip(model[range.clone()].chunks(512)) {
                            prop_assert!(sector == old || sector == [0; 512]);
                        }
                        model[range].copy_from_slice(&now);
                    }
                    result
                }
            };
            prop_assert_eq!(result.is_ok(), inside);
        }
        prop_assert_eq!(read(&disk, &ram, 0, SECTORS * 512).unwrap(), &model[..]);
        let expected = if access == Keep { &model } else { &bytes };
        prop_assert_eq!(&std::fs::read(file.path()).unwrap(), expected);
        if kind == 2 {
            disk.flush().unwrap();
            drop(disk);
            let disk = open(file.path(), &access).unwrap();
            prop_assert_eq!(read(&disk, &ram, 0, SECTORS * 512).unwrap(), &model[..]);
        }
    }
}
