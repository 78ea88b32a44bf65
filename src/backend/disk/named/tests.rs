use super::super::image::Image;
use super::super::medium::Medium;
use super::super::tests::{image, once_free, pattern, ram, read, write};
use super::super::{Disk, OpenError};
use super::format::{PAGE, Page, RUNS};
use super::log::COMMIT_PAGES;
use super::*;
use crate::spec::{self, DiskAccess};
use hvf_sys::file::Piece;
use hvf_sys::ram::Ram;
use proptest::prelude::*;
use std::sync::{Arc, Mutex};
use std::thread;
use tempfile::TempDir;

/// An image and a place for its overlay.
struct Desk {
    dir: TempDir,
    image: tempfile::NamedTempFile,
}

impl Desk {
    fn new(bytes: &[u8]) -> Self {
        Self {
            dir: TempDir::new().unwrap(),
            image: image(bytes),
        }
    }

    fn overlay(&self) -> PathBuf {
        self.dir.path().join("overlay")
    }

    fn open(&self) -> Result<Disk, OpenError> {
        once_free(|| self.open_now())
    }

    fn open_now(&self) -> Result<Disk, OpenError> {
        Disk::open(&spec::Disk {
            path: self.image.path().to_owned(),
            access: DiskAccess::Overlay(self.overlay()),
        })
    }

    fn sentence(&self) -> String {
        let text = self.open().unwrap_err().to_string();
        assert_eq!(text.lines().count(), 1);
        text
    }
}

const LEN: usize = 40 * 4096 + 1024;
/// Where the log of an overlay over `LEN` bytes begins.
const LOG: u64 = DATA + 41 * 4096;

#[test]
fn what_was_flushed_is_there_again_and_the_image_stays() {
    let (ram, bytes) = (ram(), pattern(LEN));
    let desk = Desk::new(&bytes);
    let mut expected = bytes.clone();
    for round in 0..5_u8 {
        let disk = desk.open().unwrap();
        assert_eq!(read(&disk, &ram, 0, LEN as u64).unwrap(), expected);
        let at = usize::from(round) * 20 * 512;
        write(&disk, &ram, at as u64, &[round; 1536]).unwrap();
        expected[at..at + 1536].fill(round);
        disk.write_zeroes(LEN as u64 - 512, 512, true).unwrap();
        expected[LEN - 512..].fill(0);
        disk.flush().unwrap();
        // Not flushed: it is in the file, but no more than that.
        write(&disk, &ram, 39 * 4096, &[0xff; 512]).unwrap();
    }
    assert_eq!(fs::read(desk.image.path()).unwrap(), bytes);
    let moved = desk.dir.path().join("moved");
    fs::rename(desk.image.path(), &moved).unwrap();
    let disk = spec::Disk {
        path: moved.clone(),
        access: DiskAccess::Overlay(desk.overlay()),
    };
    let disk = once_free(|| Disk::open(&disk)).unwrap();
    assert_eq!(read(&disk, &ram, 0, LEN as u64).unwrap(), expected);
    fs::rename(moved, desk.image.path()).unwrap();
}

#[test]
fn an_image_without_a_whole_last_sector_gets_one_in_the_overlay() {
    let (ram, desk) = (ram(), Desk::new(&[7; 4096 + 700]));
    for last in [0, 9] {
        let disk = desk.open().unwrap();
        assert_eq!(disk.sectors(), 10);
        let bytes = read(&disk, &ram, 4096 + 512, 512).unwrap();
        let old = [[7; 188].as_slice(), &[0; 324]].concat();
        assert_eq!(bytes, if last == 0 { old } else { vec![9; 512] });
        write(&disk, &ram, 4096 + 512, &[9; 512]).unwrap();
        disk.flush().unwrap();
    }
    assert_eq!(fs::read(desk.image.path()).unwrap(), [7; 4096 + 700]);
}

#[test]
fn it_takes_no_more_than_what_was_changed_and_gives_back_what_was_discarded() {
    use std::os::unix::fs::MetadataExt;
    const LARGE: u64 = 64 << 20;
    let desk = Desk::new(&[]);
    desk.image.as_file().set_len(LARGE).unwrap();
    let (ram, disk) = (ram(), desk.open().unwrap());
    let taken = || fs::metadata(desk.overlay()).unwrap().blocks() * 512;
    write(&disk, &ram, LARGE - (256 << 10), &[5; 256 << 10]).unwrap();
    disk.flush().unwrap();
    let full = taken();
    assert!(full < 512 << 10, "{full}");
    disk.discard(LARGE - (256 << 10), 256 << 10).unwrap();
    disk.flush().unwrap();
    assert!(taken() < full - (192 << 10), "{} of {full}", taken());
}

#[test]
fn one_uses_it_at_a_time_and_the_image_is_shared() {
    let desk = Desk::new(&pattern(LEN));
    let held = desk.open().unwrap();
    let text = desk.open_now().unwrap_err().to_string();
    if cfg!(target_os = "linux") {
        assert!(text.contains("name each file once"), "{text}");
    }
    let other = Desk {
        dir: TempDir::new().unwrap(),
        image: image(&[]),
    };
    let beside = |access| {
        Disk::open(&spec::Disk {
            path: desk.image.path().to_owned(),
            access,
        })
    };
    assert!(beside(DiskAccess::Overlay(other.overlay())).is_ok());
    assert!(beside(DiskAccess::Keep).is_err());
    drop(held);
    assert!(desk.open().is_ok());
    // The image itself is no place for changes to it.
    let text = beside(DiskAccess::Overlay(desk.image.path().to_owned()));
    assert!(text.is_err());
    assert_eq!(fs::read(desk.image.path()).unwrap(), pattern(LEN));
}

#[test]
fn what_is_no_overlay_of_this_image_is_refused_with_a_sentence() {
    let desk = Desk::new(&pattern(LEN));
    let overlay = desk.overlay();
    for (content, expected) in [
        (&b"some text"[..], "it is no overlay that xlaunch has made"),
        (&[0; HEADER + 1], "it is no overlay that xlaunch has made"),
        (
            b"xlaunch overlay\n\x02\0\0\0",
            "it has version 2 of the format",
        ),
        (b"xlaunch overlay\n\x01\0\0\0", "its header is damaged"),
    ] {
        fs::write(&overlay, content).unwrap();
        let text = desk.sentence();
        let start = format!("cannot open overlay '{}': ", overlay.display());
        assert!(
            text.starts_with(&start) && text.contains(expected),
            "{text}"
        );
        assert_eq!(fs::read(&overlay).unwrap(), content, "left alone");
    }
    fs::remove_file(&overlay).unwrap();
    fs::create_dir(&overlay).unwrap();
    assert!(desk.sentence().contains("name a file"));
    fs::remove_dir(&overlay).unwrap();
    for empty in [&[][..], &[0; 100], &[0; HEADER]] {
        fs::write(&overlay, empty).unwrap();
        desk.open().unwrap();
    }

    let file = File::options().write(true).open(&overlay).unwrap();
    file.set_len(LOG - 1).unwrap();
    assert!(desk.sentence().contains("in the midst of its data"));
    file.set_len(HEADER as u64).unwrap();
    desk.open().unwrap();

    let name = desk.image.path().display().to_string();
    let time = desk.image.as_file().metadata().unwrap().modified().unwrap();
    let later = time + std::time::Duration::from_secs(1);
    desk.image.as_file().set_modified(later).unwrap();
    let text = desk.sentence();
    assert!(
        text.contains(&name) && text.contains("written at another time"),
        "{text}"
    );
    desk.image.as_file().set_len(LEN as u64 + 512).unwrap();
    let text = desk.sentence();
    assert!(
        text.contains(&name) && text.contains("has another size"),
        "{text}"
    );
}

#[test]
fn an_overlay_that_cannot_begin_leaves_nothing() {
    let desk = Desk::new(&pattern(LEN));
    let disk = spec::Disk {
        path: desk.image.path().to_owned(),
        access: DiskAccess::Overlay(desk.dir.path().join("no/such/place")),
    };
    let text = Disk::open(&disk).unwrap_err().to_string();
    assert!(text.contains("name a file that can be made"), "{text}");
    assert_eq!(fs::read_dir(desk.dir.path()).unwrap().count(), 0);
}

#[test]
fn one_that_was_removed_before_it_was_locked_is_not_used() {
    let desk = Desk::new(&pattern(LEN));
    drop(desk.open().unwrap());
    let path = desk.overlay();
    let file = open_image(&path, true).unwrap();
    let base = read_header(&file).unwrap().unwrap().base;
    // Another test's child may have the one that was closed for a moment more.
    while matches!(open_locked(&file, &path, &base), Err(Defect::InUse(_))) {
        thread::yield_now();
    }
    fs::remove_file(&path).unwrap();
    let removed = open_locked(&file, &path, &base);
    assert!(matches!(removed, Err(Defect::Replaced)));
    drop(desk.open().unwrap());
    let replaced = open_locked(&file, &path, &base);
    assert!(matches!(replaced, Err(Defect::Replaced)));
}

/// An overlay with three commits of one block each, as bytes.
fn three_commits(desk: &Desk) -> Vec<u8> {
    let (ram, disk) = (ram(), desk.open().unwrap());
    for block in [3, 9, 30] {
        write(&disk, &ram, block * 4096, &[block as u8; 4096]).unwrap();
        disk.flush().unwrap();
    }
    drop(disk);
    fs::read(desk.overlay()).unwrap()
}

#[test]
fn a_torn_end_is_dropped_and_a_damaged_middle_refused() {
    let (ram, desk) = (ram(), Desk::new(&pattern(LEN)));
    let whole = three_commits(&desk);
    assert_eq!(whole.len() as u64, LOG + 3 * PAGE as u64);
    let page = |number: usize| LOG as usize + number * PAGE;
    // Which of the three commits are seen.
    let seen = |bytes: &[u8]| {
        fs::write(desk.overlay(), bytes).unwrap();
        let disk = desk.open()?;
        let block = |block: u64| read(&disk, &ram, block * 4096, 4096).unwrap()[0];
        Ok([3, 9, 30].map(|n| block(n) == n as u8 && pattern(LEN)[n as usize * 4096] != n as u8))
    };
    let seen = |bytes: &[u8]| seen(bytes).map_err(|e: OpenError| e.to_string());
    assert_eq!(seen(&whole), Ok([true; 3]));
    for cut in [1, 100, PAGE - 1, PAGE] {
        let bytes = &whole[..whole.len() - cut];
        assert_eq!(seen(bytes), Ok([true, true, false]));
        // The remains are gone.
        let len = fs::metadata(desk.overlay()).unwrap().len();
        assert_eq!(len as usize, page(2));
    }
    for number in 0..3 {
        let mut wrong = whole.clone();
        wrong[page(number) + 45] ^= 1;
        match number {
            2 => assert_eq!(seen(&wrong), Ok([true, true, false])),
            _ => {
                let text = seen(&wrong).unwrap_err();
                assert!(
                    text.contains(&format!("damaged from page {number} on")),
                    "{text}"
                );
            }
        }
    }
    // More behind the end than one commit can leave.
    let mut long = whole.clone();
    long.resize(page(3 + COMMIT_PAGES as usize), 0);
    assert_eq!(seen(&long), Ok([true; 3]));
    long.resize(page(4 + COMMIT_PAGES as usize), 0);
    assert!(seen(&long).unwrap_err().contains("damaged from page 3 on"));
    // Pages of another overlay, and of another place.
    let mut other = whole.clone();
    other.extend_from_slice(&whole[page(2)..]);
    assert_eq!(seen(&other), Ok([true; 3]));
}

#[test]
fn blocks_that_cannot_be_are_refused() {
    let desk = Desk::new(&pattern(LEN));
    let whole = three_commits(&desk);
    let id = u64::from_le_bytes(whole[32..40].try_into().unwrap());
    for runs in [
        vec![(41, 42)],
        vec![(0, u64::MAX)],
        vec![(5, 5)],
        vec![(u64::MAX - 1, u64::MAX)],
        vec![(0, 41); RUNS],
    ] {
        let page = Page {
            id,
            number: 3,
            commit: 4,
            last: true,
            runs,
        };
        let bytes = [&whole[..], &page.encode()].concat();
        fs::write(desk.overlay(), bytes).unwrap();
        assert!(
            desk.sentence().contains("damaged from page 3 on"),
            "{page:?}"
        );
    }
}

/// A file that remembers what was done to it, so that a crash at any point can be had afterwards.
struct Recorded {
    file: File,
    done: Mutex<Vec<Done>>,
    /// So many writes still succeed; then the host has no room.
    room: Mutex<usize>,
}

#[derive(Clone, Debug)]
enum Done {
    Write(u64, Vec<u8>),
    Flush,
    /// The guest's own flush has returned.
    Promised,
}

impl Recorded {
    fn note(&self, done: Done) {
        self.done.lock().unwrap().push(done);
    }

    fn take_room(&self) -> io::Result<()> {
        let mut room = self.room.lock().unwrap();
        *room = room.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
        Ok(())
    }
}

impl Medium for Arc<Recorded> {
    fn read_to_ram(&self, offset: u64, ram: &Ram, pieces: &[Piece]) -> io::Result<u64> {
        self.file.read_to_ram(offset, ram, pieces)
    }

    fn write_from_ram(&self, offset: u64, ram: &Ram, pieces: &[Piece]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for piece in pieces {
            let mut part = vec![0; piece.len as usize];
            ram.read(piece.gpa, &mut part).unwrap();
            bytes.extend(part);
        }
        self.write_bytes(offset, &bytes)
    }

    fn write_bytes(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.take_room() {
            // As a full disk does it: some whole sectors are written.
            let part = bytes.len() / 2 / 512 * 512;
            self.note(Done::Write(offset, bytes[..part].to_vec()));
            self.file.write_all_at(&bytes[..part], offset)?;
            return Err(error);
        }
        self.note(Done::Write(offset, bytes.to_vec()));
        self.file.write_all_at(bytes, offset)
    }

    fn punch_hole(&self, offset: u64, len: u64) -> io::Result<()> {
        self.note(Done::Write(offset, vec![0; len as usize]));
        self.file.write_all_at(&vec![0; len as usize], offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.note(Done::Flush);
        Ok(())
    }
}

/// What the guest does: sectors of a disk of `SECTORS`.
#[derive(Clone, Debug)]
enum Step {
    Write(u64, u64, u8),
    Zeroes(u64, u64),
    Discard(u64, u64),
    Flush,
    /// So many writes succeed from here on.
    Room(usize),
    RoomAgain,
}

const SECTORS: u64 = 43 * 8 - 3;

fn steps(full: bool) -> impl Strategy<Value = Vec<Step>> {
    let range = || (0..SECTORS, 1_u64..20);
    let step = prop_oneof![
        5 => (range(), 1_u8..255).prop_map(|((at, len), byte)| Step::Write(at, len, byte)),
        1 => range().prop_map(|(at, len)| Step::Zeroes(at, len)),
        1 => range().prop_map(|(at, len)| Step::Discard(at, len)),
        2 => Just(Step::Flush),
        u32::from(full) => (0_usize..3).prop_map(Step::Room),
        u32::from(full) => Just(Step::RoomAgain),
    ];
    prop::collection::vec(step, 1..40)
}

/// Small numbers that look random, always the same.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % sides
    }
}

/// What every sector may hold after a crash: the values since the last promise.
type Allowed = Vec<Vec<u8>>;

/// The overlay with what was done to it, and for each thing done what the guest has a right to afterwards.
fn history(desk: &Desk, steps: &[Step]) -> (Vec<u8>, Vec<Done>, Vec<(usize, Allowed)>) {
    let (path, ram) = (desk.overlay(), ram());
    let base = Image::open(desk.image.path(), &DiskAccess::ReadOnly).unwrap();
    let identity = base.identity(desk.image.path()).unwrap();
    let (file, blocks, log) = open_file(&path, &identity).unwrap();
    let before = fs::read(&path).unwrap();
    let medium = Arc::new(Recorded {
        file,
        done: Mutex::default(),
        room: Mutex::new(usize::MAX),
    });
    let bytes = identity.bytes.next_multiple_of(SECTOR);
    let layer = Overlay::named(Arc::clone(&medium), DATA, bytes, blocks, log);
    // Each sector is of one byte; that of the image is 0xff.
    let mut allowed: Allowed = vec![vec![0xff]; SECTORS as usize];
    let mut rights = vec![(0, allowed.clone())];
    for step in steps {
        match *step {
            Step::Write(at, len, byte) => {
                let len = len.min(SECTORS - at);
                let range = at as usize..(at + len) as usize;
                allowed[range]
                    .iter_mut()
                    .for_each(|sector| sector.push(byte));
                // Also an error may have written some of it.
                rights.push((medium.done.lock().unwrap().len(), allowed.clone()));
                ram.fill(0, len * SECTOR, byte).unwrap();
                let piece = Piece {
                    gpa: 0,
                    len: len * SECTOR,
                };
                let _ = layer.write(&base, at * SECTOR, &ram, &[piece]);
            }
            Step::Zeroes(at, len) | Step::Discard(at, len) => {
                let len = len.min(SECTORS - at);
                let range = at as usize..(at + len) as usize;
                allowed[range].iter_mut().for_each(|sector| sector.push(0));
                rights.push((medium.done.lock().unwrap().len(), allowed.clone()));
                let _ = match step {
                    Step::Discard(..) => layer.discard(at * SECTOR, len * SECTOR),
                    _ => layer.write_zeroes(&base, at * SECTOR, len * SECTOR),
                };
            }
            Step::Flush if layer.flush().is_ok() => {
                medium.note(Done::Promised);
                // What the guest reads now is what it has a right to.
                for (sector, values) in allowed.iter_mut().enumerate() {
                    let piece = Piece {
                        gpa: 0,
                        len: SECTOR,
                    };
                    layer
                        .read(&base, sector as u64 * SECTOR, &ram, &[piece])
                        .unwrap();
                    let mut now = [0; SECTOR as usize];
                    ram.read(0, &mut now).unwrap();
                    assert!(now.iter().all(|byte| *byte == now[0]) && values.contains(&now[0]));
                    *values = vec![now[0]];
                }
                rights.push((medium.done.lock().unwrap().len(), allowed.clone()));
            }
            Step::Flush => {}
            Step::Room(writes) => *medium.room.lock().unwrap() = writes,
            Step::RoomAgain => *medium.room.lock().unwrap() = usize::MAX,
        }
    }
    let done = medium.done.lock().unwrap().clone();
    (before, done, rights)
}

/// The file after a crash: what was done before the last flush is there, of what was done since any parts of 512 bytes,
/// in any order.
fn crashed(before: &[u8], done: &[Done], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = before.to_vec();
    let mut put = |at: u64, part: &[u8]| {
        let end = at as usize + part.len();
        bytes.resize(bytes.len().max(end), 0);
        bytes[at as usize..end].copy_from_slice(part);
    };
    let flushed = done.iter().rposition(|done| matches!(done, Done::Flush));
    let (safe, loose) = done.split_at(flushed.unwrap_or(0));
    for done in safe {
        if let Done::Write(at, part) = done {
            put(*at, part);
        }
    }
    let mut parts: Vec<(u64, &[u8])> = Vec::new();
    for done in loose {
        if let Done::Write(at, part) = done {
            let offsets = (*at..).step_by(512);
            parts.extend(offsets.zip(part.chunks(512)));
        }
    }
    let keep = dice.roll(3);
    // None, all, or about half of them; of two writes to one place the earlier may come last.
    for _ in 0..parts.len() {
        let part = parts.swap_remove(dice.roll(parts.len()));
        if keep == 1 || keep == 2 && dice.roll(2) == 0 {
            put(part.0, part.1);
        }
    }
    bytes
}

fn check_crashes(steps: &[Step], seed: u64) {
    let base = vec![0xff; (SECTORS * SECTOR) as usize];
    let desk = Desk::new(&base);
    let ram = ram();
    let (before, done, rights) = history(&desk, steps);
    let mut dice = Dice(seed);
    for _ in 0..12 {
        let point = dice.roll(done.len() + 1);
        let bytes = crashed(&before, &done[..point], &mut dice);
        fs::write(desk.overlay(), &bytes).unwrap();
        // The rights at that point, and those of the step that was under way.
        let last = rights.iter().rposition(|(at, _)| *at <= point).unwrap();
        let disk = desk.open().unwrap();
        let content = read(&disk, &ram, 0, SECTORS * SECTOR).unwrap();
        for (index, sector) in content.chunks(SECTOR as usize).enumerate() {
            let fits = |(_, allowed): &(usize, Allowed)| allowed[index].contains(&sector[0]);
            assert!(
                sector.iter().all(|byte| *byte == sector[0]) && fits(&rights[last]),
                "sector {index} has {:#x} after a crash at {point} of {}",
                sector[0],
                done.len()
            );
        }
        // It goes on from there, and what is flushed then is there after the next opening.
        write(&disk, &ram, 512 * 100, &[0x77; 512]).unwrap();
        disk.flush().unwrap();
        drop(disk);
        let disk = desk.open().unwrap();
        assert_eq!(read(&disk, &ram, 512 * 100, 512).unwrap(), [0x77; 512]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_crash_loses_what_was_flushed(steps in steps(false), seed in any::<u64>()) {
        check_crashes(&steps, seed);
    }

    #[test]
    fn a_full_disk_and_a_crash_lose_nothing_either(steps in steps(true), seed in any::<u64>()) {
        check_crashes(&steps, seed);
    }

    /// Damage anywhere: it opens or is refused, and never goes further than that.
    #[test]
    fn damage_is_no_more_than_an_error(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        log in any::<bool>(),
    ) {
        let (ram, desk) = (ram(), Desk::new(&pattern(LEN)));
        let mut bytes = three_commits(&desk);
        let from = if log { LOG as usize } else { 0 };
        for (index, byte) in changes {
            let len = if log { bytes.len() - from } else { HEADER };
            bytes[from + index.index(len)] ^= byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        fs::write(desk.overlay(), &bytes).unwrap();
        if let Ok(disk) = desk.open() {
            let content = read(&disk, &ram, 0, LEN as u64).unwrap();
            // Every block is that of the image or the one that was written.
            for (index, (block, old)) in content.chunks(4096).zip(pattern(LEN).chunks(4096)).enumerate() {
                prop_assert!(block == old || block.iter().all(|byte| usize::from(*byte) == index));
            }
        } else {
            prop_assert_eq!(desk.sentence().lines().count(), 1);
        }
    }
}

/// A commit of more pages than one may have is several, and all is there after them.
#[test]
fn many_blocks_at_once_are_several_commits() {
    let (ram, desk) = (ram(), Desk::new(&[]));
    let blocks = RUNS as u64 * (COMMIT_PAGES + 3);
    desk.image.as_file().set_len(blocks * 2 * 4096).unwrap();
    let disk = desk.open().unwrap();
    for block in 0..blocks {
        write(&disk, &ram, block * 2 * 4096, &[1; 512]).unwrap();
    }
    disk.flush().unwrap();
    drop(disk);
    let disk = desk.open().unwrap();
    for block in 0..blocks {
        let bytes = read(&disk, &ram, block * 2 * 4096, 8192).unwrap();
        assert_eq!((bytes[0], bytes[512], bytes[4096]), (1, 0, 0));
    }
}

/// Threads that write and flush at once; each finds its own again.
#[test]
fn many_write_and_flush_at_once() {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 40;
    let desk = Desk::new(&[]);
    desk.image
        .as_file()
        .set_len(THREADS * ROUNDS * 8192)
        .unwrap();
    let disk = desk.open().unwrap();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let disk = &disk;
            scope.spawn(move || {
                let ram = ram();
                for round in 0..ROUNDS {
                    let at = (round * THREADS + thread) * 6144;
                    write(disk, &ram, at, &[thread as u8 + 1; 6144]).unwrap();
                    if round % 4 == thread {
                        disk.flush().unwrap();
                    }
                }
            });
        }
    });
    disk.flush().unwrap();
    drop(disk);
    let (ram, disk) = (ram(), desk.open().unwrap());
    for part in 0..THREADS * ROUNDS {
        let bytes = read(&disk, &ram, part * 6144, 6144).unwrap();
        assert_eq!(bytes, [(part % THREADS) as u8 + 1; 6144], "part {part}");
    }
}
