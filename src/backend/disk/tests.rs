use super::*;
use proptest::prelude::*;
use std::io::Write;
use std::sync::Arc;

const RAM: u64 = 0x10_0000;

fn ram() -> Arc<Ram> {
    Ram::new(&[(0, RAM)]).unwrap()
}

fn image(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i / 512 + i) as u8 | 1).collect()
}

fn throw_away() -> Writes {
    Writes::ThrowAway(std::env::temp_dir())
}

fn read(disk: &Disk, ram: &Ram, offset: u64, len: u64) -> io::Result<Vec<u8>> {
    ram.fill(0, len, 0xee).unwrap();
    disk.read(offset, ram, &[Piece { gpa: 0, len }])?;
    let mut bytes = vec![0; len as usize];
    ram.read(0, &mut bytes).unwrap();
    Ok(bytes)
}

fn write(disk: &Disk, ram: &Ram, offset: u64, bytes: &[u8]) -> io::Result<()> {
    ram.write(0x8_0000, bytes).unwrap();
    let len = bytes.len() as u64;
    disk.write(offset, ram, &[Piece { gpa: 0x8_0000, len }])
}

#[test]
fn writes_are_read_back_and_the_image_stays() {
    let (ram, before) = (ram(), pattern(5 * 4096));
    let file = image(&before);
    let disk = Disk::open(file.path(), &throw_away()).unwrap();
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
    for writes in [throw_away(), Writes::Refuse] {
        let disk = Disk::open(file.path(), &writes).unwrap();
        assert_eq!(disk.sectors(), 2);
        let bytes = read(&disk, &ram, 0, 1024).unwrap();
        assert_eq!((bytes[699], &bytes[700..]), (7, &[0; 324][..]));
        assert_eq!(read(&disk, &ram, 512, 512).unwrap()[..], bytes[512..]);
    }
    let disk = Disk::open(file.path(), &throw_away()).unwrap();
    write(&disk, &ram, 512, &[9; 512]).unwrap();
    assert_eq!(read(&disk, &ram, 0, 1024).unwrap()[511..513], [7, 9]);
}

#[test]
fn nothing_behind_the_end_is_reached() {
    let (ram, file) = (ram(), image(&[7; 1024]));
    let disk = Disk::open(file.path(), &throw_away()).unwrap();
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
        assert!(disk.write_zeroes(offset, len).is_err());
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
    let disk = Disk::open(file.path(), &throw_away()).unwrap();
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
    let disk = Disk::open(file.path(), &Writes::Refuse).unwrap();
    assert!(disk.read_only());
    assert!(write(&disk, &ram, 0, &[1; 512]).is_err());
    assert!(disk.discard(0, 512).is_err() && disk.write_zeroes(0, 512).is_err());
    assert_eq!(read(&disk, &ram, 0, 512).unwrap(), [7; 512]);
}

#[test]
fn discarded_space_is_given_back() {
    use std::os::unix::fs::MetadataExt;
    let (ram, file) = (ram(), image(&pattern(512 * 1024)));
    let disk = Disk::open(file.path(), &throw_away()).unwrap();
    write(&disk, &ram, 0, &[5; 512 * 1024]).unwrap();
    let used = || {
        disk.overlay
            .as_ref()
            .unwrap()
            .file()
            .metadata()
            .unwrap()
            .blocks()
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
    let sentence = |path: &Path, writes: &Writes| Disk::open(path, writes).unwrap_err().to_string();
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
    for (path, expected) in cases {
        let text = sentence(&path, &Writes::Refuse);
        let start = format!("cannot open disk image '{}': ", path.display());
        assert!(
            text.starts_with(&start) && text.contains(expected),
            "{text}"
        );
        assert_eq!(text.lines().count(), 1);
    }
    let text = sentence(&at("image"), &Writes::ThrowAway(at("nowhere")));
    assert!(text.contains("set TMPDIR to a directory"), "{text}");
}

#[test]
fn two_writers_of_one_new_block_keep_each_other_s_part() {
    use std::sync::atomic::{AtomicU64, Ordering};
    const BLOCKS: u64 = 2048;
    let file = image(&pattern(4096 * BLOCKS as usize));
    let disk = Disk::open(file.path(), &throw_away()).unwrap();
    let ram = ram();
    // Both come to each block together; then one falls behind by a little more every time.
    let arrived = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for half in 0..2 {
            let (disk, ram, arrived) = (&disk, &ram, &arrived);
            scope.spawn(move || {
                let (gpa, len) = (half * 4096, 2048);
                ram.fill(gpa, len, 0xa0 + half as u8).unwrap();
                for block in 0..BLOCKS {
                    arrived.fetch_add(1, Ordering::SeqCst);
                    while arrived.load(Ordering::SeqCst) < 2 * (block + 1) {
                        std::thread::yield_now();
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
    fn a_disk_is_an_array_of_bytes(steps in steps()) {
        const SECTORS: u64 = 43;
        let bytes = pattern(SECTORS as usize * 512 - 100);
        let file = image(&bytes);
        let disk = Disk::open(file.path(), &throw_away()).unwrap();
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
                    disk.write_zeroes(offset, len)
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
        prop_assert_eq!(read(&disk, &ram, 0, SECTORS * 512).unwrap(), model);
        prop_assert_eq!(std::fs::read(file.path()).unwrap(), bytes);
    }
}
