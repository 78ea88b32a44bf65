//! Clients that no kernel would be.

use super::super::Server;
use super::super::wire::{self, Reply, kind};
use super::client::{Fields, fields, message};
use super::{Client, OPEN, ROOT};
use proptest::collection::vec;
use proptest::prelude::*;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

const EBADF: u32 = 9;
const EINVAL: u32 = 22;
const EPROTO: u32 = 71;
const EOPNOTSUPP: u32 = 95;

/// A writer that keeps nothing but the most bytes that came in one call.
#[derive(Clone, Default)]
struct Longest(Arc<Mutex<usize>>);

impl Write for Longest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut longest = self.0.lock().unwrap();
        *longest = bytes.len().max(*longest);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Serves a small folder to these bytes.
fn serve(bytes: &[u8]) -> (io::Result<()>, usize) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a"), "text").unwrap();
    std::fs::create_dir(dir.path().join("b")).unwrap();
    let writer = Longest::default();
    let server = Server::new(dir.path(), false).unwrap();
    let served = server.serve(bytes, writer.clone());
    let longest = *writer.0.lock().unwrap();
    (served, longest)
}

fn greeting() -> Vec<u8> {
    let version = fields().u32(8192).text("9P2000.L");
    let attach = fields().u32(ROOT).u32(u32::MAX).text("").text("").u32(0);
    let mut bytes = message(kind::VERSION, 0xffff, &version);
    bytes.extend(message(kind::ATTACH, 1, &attach));
    bytes
}

#[test]
fn what_is_no_message_ends_the_connection() {
    for bytes in [
        &[0, 0, 0, 0][..],
        &[6, 0, 0, 0, 100, 0],
        &[0xff, 0xff, 0xff, 0xff, 100, 0, 0],
        &[1, 0, 8, 0, 100, 0, 0],
    ] {
        let error = serve(bytes).0.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{bytes:?}");
    }
    for cut in [1, 3, 4, 7, 12] {
        let error = serve(&greeting()[..cut]).0.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{cut}");
    }
    assert!(serve(&[]).0.is_ok());
    // The agreed length holds from then on.
    let mut long = greeting();
    long.extend(message(kind::CLUNK, 2, &Fields(vec![0; 9000])));
    assert_eq!(
        serve(&long).0.unwrap_err().kind(),
        io::ErrorKind::InvalidData
    );
}

#[test]
fn a_message_that_is_not_exact_is_refused() {
    let mut client = Client::new();
    for (kind, body) in [
        (kind::CLUNK, fields()),
        (kind::CLUNK, fields().u32(ROOT).u8(0)),
        (kind::WALK, fields().u32(ROOT).u32(9).u16(17)),
        (kind::WALK, fields().u32(ROOT).u32(9).u16(1)),
        (kind::WALK, fields().u32(ROOT).u32(9).u16(1).u16(0xffff)),
        (kind::WRITE, fields().u32(ROOT).u64(0).u32(u32::MAX)),
    ] {
        assert_eq!(client.call(kind, &body), Err(EINVAL), "{kind} {body:?}");
    }
    for unknown in [0, 1, 7, 9, 99, 101, 112, 255] {
        let tag = client.send(unknown, &fields());
        let (answered, kind, mut error) = client.receive().unwrap();
        assert_eq!((answered, kind, error.u32()), (tag, 7, EOPNOTSUPP));
    }
}

#[test]
fn nothing_is_done_before_the_version() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("inside")).unwrap();
    let mut client = Client::silent(dir, false);
    let attach = fields().u32(ROOT).u32(u32::MAX).text("").text("").u32(0);
    assert_eq!(client.call(kind::ATTACH, &attach), Err(EPROTO));
    let short = fields().u32(100).text("9P2000.L");
    assert_eq!(client.call(kind::VERSION, &short), Err(EINVAL));
    let other = fields().u32(8192).text("9P2000.u");
    let mut answer = client.call(kind::VERSION, &other).unwrap();
    assert_eq!((answer.u32(), answer.text()), (8192, b"unknown".to_vec()));
}

#[test]
fn a_new_version_forgets_everything() {
    let mut client = Client::new();
    assert!(client.attributes(ROOT).is_ok());
    let body = fields().u32(8192).text("9P2000.L");
    client.call(kind::VERSION, &body).unwrap();
    assert_eq!(client.attributes(ROOT), Err(EBADF));
}

#[test]
fn fids_are_for_one_thing_at_a_time() {
    let mut client = Client::new();
    std::fs::write(client.path("file"), "text").unwrap();
    client.open_path("file", 2).unwrap();
    assert_eq!(client.open(OPEN, 0), Err(EBADF));
    assert_eq!(client.walk(ROOT, OPEN, &[]), Err(EBADF), "in use");
    assert_eq!(client.entries(OPEN, 0, 100), Err(EBADF));
    let body = fields().u32(OPEN).text("user.a").u64(1).u32(0);
    assert_eq!(client.call(kind::XATTRCREATE, &body), Err(EBADF));
    client.walk(ROOT, 9, &[]).unwrap();
    assert_eq!(client.read(9, 0, 1), Err(EBADF));
    assert_eq!(client.write(9, 0, b"x"), Err(EBADF));
    assert_eq!(
        client.call(kind::FSYNC, &fields().u32(9).u32(0)).map(drop),
        Ok(()),
        "a directory"
    );
    client.open(9, 0).unwrap();
    assert_eq!(client.read(9, 0, 1), Err(21));
    let nowhere = client.entries(9, u64::MAX, 100);
    assert!(nowhere.is_err() || nowhere == Ok(Vec::new()), "{nowhere:?}");
    assert!(
        client
            .call(kind::AUTH, &fields().u32(3).text("").text("").u32(0))
            .is_err()
    );
}

#[test]
fn a_tag_that_is_in_use_ends_the_connection() {
    let mut client = Client::new();
    std::fs::write(client.path("lock"), "").unwrap();
    let holder = std::fs::File::open(client.path("lock")).unwrap();
    holder.lock().unwrap();
    client.open_path("lock", 2).unwrap();
    // The first waits for the host's lock.
    let lock = fields()
        .u32(OPEN)
        .u8(1)
        .u32(1)
        .u64(0)
        .u64(0)
        .u32(1)
        .text("");
    for _ in 0..2 {
        client.send_raw(&message(kind::LOCK, 3, &lock));
    }
    let error = client.ended().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
}

#[test]
fn values_that_are_held_are_bounded() {
    let mut client = Client::new();
    let walk = |client: &mut Client, new| {
        let body = fields().u32(ROOT).u32(new).text("");
        client.call(kind::XATTRWALK, &body).map(drop)
    };
    for new in 100..228 {
        walk(&mut client, new).unwrap();
    }
    assert_eq!(walk(&mut client, 300), Err(12));
    client.clunk(100).unwrap();
    walk(&mut client, 300).unwrap();
    let long = fields().u32(ROOT).text("user.a").u64(1 << 40).u32(0);
    assert_eq!(client.call(kind::XATTRCREATE, &long), Err(7));
}

#[test]
fn deep_trees_are_given_back() {
    let mut client = Client::new();
    let mut deepest = ROOT;
    let mut fid = 100;
    for _ in 0..3000 {
        let body = fields().u32(deepest).text("d").u32(0o700).u32(0);
        client.call(kind::MKDIR, &body).unwrap();
        if client.walk(deepest, fid, &["d"]).is_err() {
            println!("skipped: fewer than 3000 descriptors here");
            break;
        }
        if deepest != ROOT {
            client.clunk(deepest).unwrap();
        }
        (deepest, fid) = (fid, fid + 1);
    }
    client.end().unwrap();
    // The standard library goes too deep for some stacks.
    let removed = std::process::Command::new("rm")
        .arg("-r")
        .arg(client.path("d"))
        .status();
    assert!(removed.unwrap().success());
}

/// A request of any kind, mostly well-formed, on the few fids and names that there are.
fn request() -> impl Strategy<Value = (u8, Fields)> {
    let fid = prop_oneof![Just(ROOT), 1..6_u32, any::<u32>()];
    let name = prop_oneof![
        Just("a".to_owned()),
        Just("b".to_owned()),
        Just("c".to_owned()),
        Just("..".to_owned()),
        Just("/".to_owned()),
        Just("user.x".to_owned()),
        ".{0,40}",
    ];
    let number = prop_oneof![
        0..3_u64,
        Just(0o102),
        Just(0o101_002),
        Just(0x1ff),
        any::<u64>()
    ];
    let kinds = prop_oneof![
        Just(kind::WALK),
        Just(kind::LOPEN),
        Just(kind::LCREATE),
        (0..64_u8).prop_map(|it| it * 2)
    ];
    (kinds, vec(fid, 2), vec(name, 2), vec(number, 5))
        .prop_map(|(kind, fids, names, numbers)| (kind, body(kind, &fids, &names, &numbers)))
}

#[rustfmt::skip]
fn body(kind: u8, fids: &[u32], names: &[String], n: &[u64]) -> Fields {
    let [one, two] = [fids[0], fids[1]];
    let [first, second] = [&names[0], &names[1]];
    let small = |at: usize| n[at] as u32;
    let lock = |fields: Fields| fields.u64(n[1]).u64(n[2]).u32(small(3)).text(second);
    let it = fields().u32(one);
    match kind {
        kind::WALK => it.u32(two).u16(2).text(first).text(second),
        kind::LOPEN | kind::FSYNC => it.u32(small(0)),
        kind::LCREATE => it.text(first).u32(small(0)).u32(small(1)).u32(small(2)),
        kind::SYMLINK => it.text(first).text(second).u32(0),
        kind::MKNOD => it.text(first).u32(small(0)).u32(0).u32(0).u32(0),
        kind::RENAME => it.u32(two).text(first),
        kind::GETATTR => it.u64(n[0]),
        kind::SETATTR => it.u32(small(0)).u32(small(1)).u32(small(2)).u32(small(3)).u64(n[4] & 0xff_ffff)
            .u64(n[0]).u64(n[1]).u64(n[2]).u64(n[3]),
        kind::XATTRWALK => it.u32(two).text(first),
        kind::XATTRCREATE => it.text(first).u64(n[0]).u32(small(1)),
        kind::READDIR | kind::READ => it.u64(n[0]).u32(small(1)),
        // Without waiting, since nobody would free it.
        kind::LOCK => lock(it.u8(small(0) as u8).u32(0)),
        kind::GETLOCK => lock(it.u8(small(0) as u8)),
        kind::LINK => it.u32(two).text(first),
        kind::MKDIR => it.text(first).u32(small(0)).u32(0),
        kind::RENAMEAT => it.text(first).u32(two).text(second),
        kind::UNLINKAT => it.text(first).u32(small(0)),
        kind::VERSION => fields().u32(small(0)).text("9P2000.L"),
        kind::ATTACH => it.u32(two).text(first).text(second).u32(small(0)),
        kind::FLUSH => fields().u16(small(0) as u16),
        kind::WRITE => {
            let mut written = it.u64(n[0] & 0xff_ffff).u32(second.len() as u32);
            written.0.extend(second.bytes());
            written
        }
        _ => it,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..200)) {
        let _ = serve(&bytes);
        let mut after = greeting();
        after.extend(&bytes);
        prop_assert!(serve(&after).1 <= 8192);
    }

    #[test]
    fn any_fields_are_taken_apart(kind in any::<u8>(), bytes in vec(any::<u8>(), 0..100)) {
        if let Ok(request) = wire::decode(kind, &bytes) {
            let mut longer = bytes.clone();
            longer.push(0);
            prop_assert!(kind == kind::AUTH || wire::decode(kind, &longer).is_err(), "{request:?}");
        }
    }

    #[test]
    fn any_requests_are_answered(requests in vec(request(), 1..60)) {
        let mut client = Client::new();
        std::fs::write(client.path("a"), "text").unwrap();
        std::fs::create_dir(client.path("b")).unwrap();
        for (kind, body) in requests {
            let tag = client.send(kind, &body);
            let (answered, answer, _) = client.receive().unwrap();
            prop_assert_eq!(answered, tag);
            prop_assert!(answer == kind + 1 || answer == 7);
        }
        prop_assert!(client.end().is_ok());
        let outside = std::fs::read_dir(client.outside()).unwrap().count();
        prop_assert_eq!(outside, 1);
    }
}

#[test]
fn an_answer_is_a_whole_message() {
    let mut reply = Reply::default();
    reply.clear();
    reply.u16(7);
    reply.string(&vec![1; 70_000]);
    let sent = reply.finish(kind::READLINK, 0x102, Ok(())).to_vec();
    assert_eq!(sent.len(), 7 + 2 + 2 + 65_535);
    assert_eq!(sent[..7], [10, 0, 1, 0, 23, 2, 1][..]);
    reply.clear();
    reply.u64(1);
    let sent = reply.finish(kind::READ, 1, Err(super::super::errno::Errno::IO));
    assert_eq!(sent, [11, 0, 0, 0, 7, 1, 0, 5, 0, 0, 0]);
}
