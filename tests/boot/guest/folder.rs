//! Runs in the guest, from the shared folder that it is told the path of, and does there what programs do.
//!
//! Compiled by the test for a static program. It prints a line for each thing that is as it should be, and panics otherwise.
//! Where it takes turns with the host, each waits for a file that the other makes.
#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

fn main() {
    let share = PathBuf::from(std::env::args_os().nth(1).expect("the folder's path"));
    let place = share.join("work");
    fs::create_dir(&place).unwrap();
    contents(&place);
    names(&place);
    gone(&place);
    many(&place);
    owners(&place);
    fs::remove_dir_all(&place).unwrap();
    println!("removed");
    changes(&share);
    locks(&share);
}

fn both_ways(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path).unwrap()
}

/// Pieces of every size come back, across pages and messages.
fn contents(place: &Path) {
    let mut file = both_ways(&place.join("contents"));
    let byte = |at: usize| (at * 31 % 251) as u8;
    let whole: Vec<u8> = (0..700_000).map(byte).collect();
    let mut at = 0;
    for size in [1, 4095, 4097, 65_536, 131_071, 131_073, 250_000] {
        file.write_all_at(&whole[at..at + size], at as u64).unwrap();
        at += size;
    }
    file.set_len(at as u64 + 10).unwrap();
    file.sync_all().unwrap();
    let mut read = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut read).unwrap();
    assert_eq!(read[..at], whole[..at]);
    assert_eq!(read[at..], [0; 10]);
    let mut log = OpenOptions::new().append(true).open(place.join("contents")).unwrap();
    log.write_all(b"end").unwrap();
    log.write_all(b"!").unwrap();
    assert!(fs::read(place.join("contents")).unwrap().ends_with(b"\0end!"));
    println!("contents");
}

fn names(place: &Path) {
    fs::write(place.join("a"), "a").unwrap();
    fs::write(place.join("b"), "b").unwrap();
    fs::rename(place.join("a"), place.join("b")).unwrap();
    assert_eq!(fs::read_to_string(place.join("b")).unwrap(), "a");
    fs::hard_link(place.join("b"), place.join("c")).unwrap();
    assert_eq!(fs::metadata(place.join("c")).unwrap().nlink(), 2);
    symlink("b", place.join("link")).unwrap();
    symlink("/proc/version", place.join("ours")).unwrap();
    assert_eq!(fs::read_to_string(place.join("link")).unwrap(), "a");
    // A link leads to what the guest has there.
    assert!(fs::read_to_string(place.join("ours")).unwrap().contains("xlaunch"));
    fs::create_dir_all(place.join("d/e/f")).unwrap();
    fs::rename(place.join("d"), place.join("g")).unwrap();
    fs::write(place.join("g/e/f/x"), "x").unwrap();
    let error = fs::remove_dir(place.join("g/e")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DirectoryNotEmpty);
    let long = "n".repeat(255);
    fs::write(place.join(&long), long.as_bytes()).unwrap();
    println!("names");
}

/// An open file is there after it was removed or replaced.
fn gone(place: &Path) {
    let path = place.join("gone");
    let mut file = both_ways(&path);
    fs::remove_file(&path).unwrap();
    file.write_all(b"still here").unwrap();
    file.seek(SeekFrom::Start(6)).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "here");
    assert_eq!(file.metadata().unwrap().len(), 10);
    assert!(!path.exists());
    println!("gone");
}

fn many(place: &Path) {
    let dir = place.join("many");
    fs::create_dir(&dir).unwrap();
    for i in 0..500 {
        File::create(dir.join(format!("an-entry-with-some-name-{i}"))).unwrap();
    }
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 500);
    println!("many");
}

fn owners(place: &Path) {
    let path = place.join("owned");
    fs::write(&path, "").unwrap();
    std::os::unix::fs::chown(&path, Some(1000), Some(100)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let it = fs::metadata(&path).unwrap();
    assert_eq!((it.uid(), it.gid(), it.mode()), (1000, 100, 0o100_640));
    assert_eq!(fs::metadata(place).unwrap().uid(), 0);
    println!("owners");
}

fn wait_for(path: &Path) {
    while !path.exists() {
        sleep(Duration::from_millis(10));
    }
}

/// What the host changes is seen, in what was read before too.
fn changes(share: &Path) {
    let file = share.join("changing");
    assert_eq!(fs::read_to_string(&file).unwrap(), "before");
    fs::write(share.join("have-read"), "").unwrap();
    wait_for(&share.join("has-changed"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "and afterwards");
    println!("changes");
}

fn locks(share: &Path) {
    let file = both_ways(&share.join("lock"));
    file.lock().unwrap();
    fs::write(share.join("guest-has-locked"), "").unwrap();
    wait_for(&share.join("host-was-refused"));
    file.unlock().unwrap();
    fs::write(share.join("guest-has-freed"), "").unwrap();
    wait_for(&share.join("host-has-locked"));
    assert!(matches!(file.try_lock(), Err(TryLockError::WouldBlock)));
    fs::write(share.join("guest-was-refused"), "").unwrap();
    // Until the host frees it.
    file.lock().unwrap();
    println!("locks");
}
