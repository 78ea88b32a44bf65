//! Locks that the host's programs see, and those that wait for them.

use super::super::wire::kind;
use super::client::{Answered, Fields, fields};
use super::{Client, OPEN, ROOT};
use hvf_sys::folder::{Lock, LockKind, set_lock};
use std::fs::File;

const READ: u8 = 0;
const WRITE: u8 = 1;
const FREE: u8 = 2;
const WAIT: u32 = 1;

const GRANTED: u8 = 0;
const BLOCKED: u8 = 1;

/// A request for a lock by one of the guest's processes.
fn request(fid: u32, kind: u8, flags: u32, (start, length): (u64, u64), process: u32) -> Fields {
    let it = fields().u32(fid).u8(kind).u32(flags).u64(start);
    it.u64(length).u32(process).text("guest")
}

fn lock(client: &mut Client, fid: u32, kind: u8, range: (u64, u64), process: u32) -> u8 {
    let body = request(fid, kind, 0, range, process);
    client.call(kind::LOCK, &body).unwrap().u8()
}

fn status(answer: Answered) -> Result<u8, u32> {
    answer.map(|mut it| it.u8())
}

/// A folder with a file that is open as `OPEN`, and as somebody of the host has it.
fn scene() -> (Client, File) {
    let mut client = Client::new();
    let path = client.path("file");
    std::fs::write(&path, "0123456789").unwrap();
    client.open_path("file", 2).unwrap();
    let host = File::options().read(true).write(true).open(path);
    (client, host.unwrap())
}

/// Whether the host could lock a range for writing: it does, and frees it.
fn free_on_host(host: &File, start: u64, len: u64) -> bool {
    let lock = |kind| Lock { kind, start, len };
    let free = set_lock(host, lock(LockKind::Write)).unwrap();
    assert!(set_lock(host, lock(LockKind::Free)).unwrap());
    free
}

#[test]
fn the_host_sees_what_the_guest_locks() {
    let (mut client, host) = scene();
    assert_eq!(lock(&mut client, OPEN, WRITE, (10, 10), 1), GRANTED);
    assert!(free_on_host(&host, 0, 10) && free_on_host(&host, 20, 0));
    assert!(!free_on_host(&host, 10, 1) && !free_on_host(&host, 19, 1));
    assert_eq!(lock(&mut client, OPEN, FREE, (12, 4), 1), GRANTED);
    assert!(free_on_host(&host, 12, 4));
    assert!(!free_on_host(&host, 11, 1) && !free_on_host(&host, 16, 1));
    client.clunk(OPEN).unwrap();
    assert!(free_on_host(&host, 0, 0));
}

#[test]
fn what_two_hold_is_free_when_both_have_freed_it() {
    let (mut client, host) = scene();
    assert_eq!(lock(&mut client, OPEN, READ, (0, 10), 1), GRANTED);
    assert_eq!(lock(&mut client, OPEN, READ, (5, 10), 2), GRANTED);
    assert_eq!(lock(&mut client, OPEN, FREE, (0, 0), 1), GRANTED);
    assert!(free_on_host(&host, 0, 5));
    assert!(!free_on_host(&host, 5, 1) && !free_on_host(&host, 14, 1));
    // The order of two requests of different processes is not that in which they were decided.
    assert_eq!(lock(&mut client, OPEN, WRITE, (0, 0), 3), GRANTED);
    assert_eq!(lock(&mut client, OPEN, FREE, (0, 0), 2), GRANTED);
    assert!(!free_on_host(&host, 7, 1));
    assert_eq!(lock(&mut client, OPEN, FREE, (0, 0), 3), GRANTED);
    assert!(free_on_host(&host, 0, 0));
}

#[test]
fn a_lock_goes_with_the_fid_that_it_came_by() {
    let (mut client, host) = scene();
    client.walk(ROOT, 9, &["file"]).unwrap();
    client.open(9, 2).unwrap();
    assert_eq!(lock(&mut client, 9, WRITE, (0, 2), 1), GRANTED);
    assert_eq!(lock(&mut client, OPEN, WRITE, (4, 2), 1), GRANTED);
    client.clunk(9).unwrap();
    assert!(free_on_host(&host, 0, 2) && !free_on_host(&host, 4, 2));
    client.end().unwrap();
    assert!(free_on_host(&host, 0, 0));
}

#[test]
fn what_is_locked_whole_is_locked_in_both_ways() {
    if !cfg!(target_os = "linux") {
        println!("skipped: on this host they are one");
        return;
    }
    let (mut client, host) = scene();
    assert_eq!(lock(&mut client, OPEN, READ, (0, 0), 1), GRANTED);
    assert!(host.try_lock().is_err());
    host.try_lock_shared().unwrap();
    assert_eq!(lock(&mut client, OPEN, WRITE, (0, 0), 1), BLOCKED);
    assert!(!free_on_host(&host, 0, 0), "still locked for reading");
    host.unlock().unwrap();
    assert_eq!(lock(&mut client, OPEN, WRITE, (0, 0), 1), GRANTED);
    assert!(host.try_lock_shared().is_err());
    assert_eq!(lock(&mut client, OPEN, FREE, (0, 0), 1), GRANTED);
    host.try_lock().unwrap();
}

#[test]
fn the_host_keeps_the_guest_out_and_is_told_of() {
    let (mut client, host) = scene();
    let theirs = Lock {
        kind: LockKind::Write,
        start: 3,
        len: 2,
    };
    assert!(set_lock(&host, theirs).unwrap());
    assert_eq!(lock(&mut client, OPEN, READ, (0, 0), 1), BLOCKED);
    assert_eq!(lock(&mut client, OPEN, WRITE, (5, 0), 1), GRANTED);
    let test = |client: &mut Client, kind, start| {
        let body = fields().u32(OPEN).u8(kind).u64(start).u64(1).u32(7);
        let mut answer = client.call(kind::GETLOCK, &body.text("guest")).unwrap();
        let found = (answer.u8(), answer.u64(), answer.u64(), answer.u32());
        assert_eq!(answer.text(), b"guest");
        found
    };
    assert_eq!(test(&mut client, READ, 4), (WRITE, 3, 2, 0));
    assert_eq!(test(&mut client, READ, 6), (FREE, 6, 1, 7), "our own");
    assert_eq!(test(&mut client, FREE, 4), (FREE, 4, 1, 7));
}

#[test]
fn a_lock_that_waits_holds_up_nothing() {
    let (mut client, host) = scene();
    host.lock().unwrap();
    let mut tags = Vec::new();
    // More than there are threads.
    for process in 0..40 {
        let body = request(OPEN, WRITE, WAIT, (0, 0), process);
        tags.push(client.send(kind::LOCK, &body));
    }
    for _ in 0..100 {
        assert_eq!(client.read(OPEN, 0, 2), Ok(b"01".to_vec()));
        client.write(OPEN, 0, b"01").unwrap();
    }
    host.unlock().unwrap();
    for tag in tags {
        assert_eq!(status(client.answer_to(kind::LOCK, tag)), Ok(GRANTED));
    }
    assert!(host.try_lock().is_err());
}

#[test]
fn a_lock_that_waits_is_called_back() {
    let (mut client, host) = scene();
    host.lock().unwrap();
    let waits = client.send(kind::LOCK, &request(OPEN, WRITE, WAIT, (0, 0), 1));
    let stays = client.send(kind::LOCK, &request(OPEN, READ, WAIT, (0, 5), 2));
    client.call(kind::FLUSH, &fields().u16(waits)).unwrap();
    client.call(kind::FLUSH, &fields().u16(0x7abc)).unwrap();
    host.unlock().unwrap();
    assert_eq!(status(client.answer_to(kind::LOCK, stays)), Ok(GRANTED));
    assert!(free_on_host(&host, 5, 0), "the other one never came");
    client.call(kind::FLUSH, &fields().u16(stays)).unwrap();
}

#[test]
fn a_flush_comes_after_the_answer_that_it_is_about() {
    let (mut client, _host) = scene();
    std::fs::write(client.path("big"), vec![1; 400 << 10]).unwrap();
    client.walk(ROOT, 9, &["big"]).unwrap();
    client.open(9, 0).unwrap();
    for _ in 0..200 {
        let read = client.send(kind::READ, &fields().u32(9).u64(0).u32(400 << 10));
        let flush = client.send(kind::FLUSH, &fields().u16(read));
        let order = [client.receive().unwrap(), client.receive().unwrap()];
        assert_eq!([order[0].0, order[1].0], [read, flush]);
    }
}

#[test]
fn a_connection_with_waiting_locks_ends() {
    let (mut client, host) = scene();
    host.lock().unwrap();
    client.send(kind::LOCK, &request(OPEN, WRITE, WAIT, (0, 0), 1));
    assert!(client.read(OPEN, 0, 1).is_ok());
    client.end().unwrap();
}

#[test]
fn a_lock_of_a_fid_that_was_given_back_is_none() {
    let (mut client, host) = scene();
    host.lock().unwrap();
    let tag = client.send(kind::LOCK, &request(OPEN, WRITE, WAIT, (0, 0), 1));
    client.clunk(OPEN).unwrap();
    assert_eq!(status(client.answer_to(kind::LOCK, tag)), Err(9));
    host.unlock().unwrap();
    host.try_lock().unwrap();
    assert!(free_on_host(&host, 0, 0));
}

#[test]
fn what_was_opened_for_reading_is_locked_too() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("inside")).unwrap();
    std::fs::write(dir.path().join("inside/file"), "").unwrap();
    let mut client = Client::with(dir, true);
    client.open_path("file", 0).unwrap();
    // As flock(1) does with what it locks for itself alone.
    assert_eq!(lock(&mut client, OPEN, WRITE, (0, 0), 1), GRANTED);
    let host = File::options()
        .read(true)
        .write(true)
        .open(client.path("file"))
        .unwrap();
    assert!(!free_on_host(&host, 0, 0));
}

#[test]
fn locks_are_bounded_and_checked() {
    let (mut client, host) = scene();
    for process in 0..512 {
        assert_eq!(
            lock(&mut client, OPEN, READ, (process.into(), 1), process),
            GRANTED
        );
    }
    let many = request(OPEN, READ, 0, (0, 0), 1000);
    assert_eq!(status(client.call(kind::LOCK, &many)), Err(37));
    for wrong in [
        request(OPEN, 3, 0, (0, 0), 1),
        request(OPEN, READ, 0, (1 << 63, 1), 1),
        request(9, READ, 0, (0, 0), 1),
    ] {
        assert!(client.call(kind::LOCK, &wrong).is_err());
    }
    assert_eq!(
        lock(&mut client, OPEN, FREE, (u64::MAX >> 1, u64::MAX), 1),
        GRANTED
    );
    client.clunk(OPEN).unwrap();
    assert!(free_on_host(&host, 0, 0));
}
