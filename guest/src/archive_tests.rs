use super::*;
use std::fs;
use std::process::{Command, Stdio};

fn file(data: &[u8]) -> Member {
    Member::File {
        mode: 0o644,
        data: data.to_vec(),
    }
}

fn link(target: &str) -> Member {
    Member::Link {
        target: target.to_owned(),
    }
}

fn bytes(archive: &Archive) -> Vec<u8> {
    let mut out = Vec::new();
    archive.write(&mut out).unwrap();
    out
}

fn archive_of(members: &[(&str, Member)]) -> Archive {
    let mut archive = Archive::new();
    for (path, member) in members {
        archive.add(path, member.clone()).unwrap();
    }
    archive
}

/// Name, mode, device and data of a member that was read.
type Found = (String, u32, (u32, u32), Vec<u8>);

/// What a reader of the format finds, in order, up to the end marker.
fn read_back(mut bytes: &[u8]) -> Vec<Found> {
    let mut found = Vec::new();
    loop {
        assert_eq!(&bytes[..6], MAGIC);
        let field = |n: usize| {
            let digits = std::str::from_utf8(&bytes[6 + 8 * n..14 + 8 * n]).unwrap();
            u32::from_str_radix(digits, 16).unwrap()
        };
        let (size, name_size) = (field(6) as usize, field(11) as usize);
        let name_end = 110 + name_size;
        assert_eq!(bytes[name_end - 1], 0);
        let name = String::from_utf8(bytes[110..name_end - 1].to_vec()).unwrap();
        if name == END_NAME {
            return found;
        }
        let data = name_end.next_multiple_of(4);
        let entry = bytes[data..data + size].to_vec();
        found.push((name, field(1), (field(9), field(10)), entry));
        bytes = &bytes[(data + size).next_multiple_of(4)..];
    }
}

#[test]
fn a_header_has_its_fields_at_their_places() {
    let node = Member::Node {
        mode: 0o600,
        kind: NodeKind::Character,
        major: 5,
        minor: 1,
    };
    let written = bytes(&archive_of(&[("/c", node)]));
    let expected = concat!(
        "070701", "00000001", "00002180", "00000000", "00000000", "00000001", "00000000",
        "00000000", "00000000", "00000000", "00000005", "00000001", "00000002", "00000000", "c\0"
    );
    assert_eq!(&written[..112], expected.as_bytes());
    let end = concat!(
        "070701",
        "00000000",
        "00000000",
        "00000000",
        "00000000",
        "00000001",
        "00000000",
        "00000000",
        "00000000",
        "00000000",
        "00000000",
        "00000000",
        "0000000b",
        "00000000",
        "TRAILER!!!\0"
    );
    assert_eq!(&written[112..112 + 121], end.as_bytes());
}

#[test]
fn names_and_data_of_every_length_are_padded_to_four() {
    for name_length in 1..=9 {
        for data_length in 0..=9 {
            let name = "n".repeat(name_length);
            let data = vec![0xa5; data_length];
            let archive = archive_of(&[(name.as_str(), file(&data)), ("z", file(b"last"))]);
            let written = bytes(&archive);
            assert_eq!(written.len() % TAIL_ALIGN, 0);
            assert_eq!(
                read_back(&written),
                [
                    (name, 0o100_644, (0, 0), data),
                    ("z".to_owned(), 0o100_644, (0, 0), b"last".to_vec())
                ]
            );
        }
    }
}

#[test]
fn the_order_of_adding_changes_no_byte() {
    let members = [
        ("/bin/busybox", file(&[7; 1000])),
        ("/bin", Member::Directory { mode: 0o755 }),
        ("/bin/sh", link("busybox")),
        ("/bin-old", link("bin")),
        ("/init", file(b"#!/bin/sh\n")),
    ];
    let first = bytes(&archive_of(&members));
    let mut turned = members;
    turned.reverse();
    assert_eq!(bytes(&archive_of(&turned)), first);
    let names: Vec<_> = read_back(&first).into_iter().map(|m| m.0).collect();
    assert_eq!(names, ["bin", "bin-old", "bin/busybox", "bin/sh", "init"]);
}

#[test]
fn parents_are_made_and_keep_the_mode_that_they_are_given() {
    let mut archive = archive_of(&[("/a/b/c", file(b""))]);
    archive.add("a", Member::Directory { mode: 0o700 }).unwrap();
    let modes: Vec<_> = read_back(&bytes(&archive))
        .into_iter()
        .map(|(name, mode, ..)| (name, mode))
        .collect();
    let expected = [("a", 0o040_700), ("a/b", 0o040_755), ("a/b/c", 0o100_644)];
    assert_eq!(modes, expected.map(|(name, mode)| (name.to_owned(), mode)));
}

#[test]
fn what_the_kernel_would_drop_or_mistake_is_refused() {
    let mut archive = archive_of(&[("/f", file(b"")), ("/d/x", file(b""))]);
    let long = "n".repeat(PATH_MAX + 1);
    for path in ["", "/", "a//b", "a/./b", "../a", END_NAME, "a\0b", &long] {
        let refused = archive.add(path, file(b"")).unwrap_err();
        assert_eq!(refused, Refused::Path(path.to_owned()));
    }
    let directory = Member::Directory { mode: 0o755 };
    let cases = [
        ("/f", file(b"other"), Refused::Twice("f".to_owned())),
        ("/f", directory, Refused::Twice("f".to_owned())),
        ("/d", file(b""), Refused::Twice("d".to_owned())),
        ("/f/x", file(b""), Refused::NotADirectory("f".to_owned())),
        (
            "/m",
            Member::Directory { mode: 0o10_000 },
            Refused::Mode("m".to_owned()),
        ),
        ("/l", link(""), Refused::Target("l".to_owned())),
        ("/l", link(&long), Refused::Target("l".to_owned())),
    ];
    for (path, member, expected) in cases {
        assert_eq!(archive.add(path, member), Err(expected));
    }
    assert_eq!(read_back(&bytes(&archive)).len(), 3);
}

/// The programs that can read an archive on this machine.
fn readers() -> Vec<(&'static str, &'static [&'static str])> {
    let known: [(&str, &[&str]); 2] = [("cpio", &[]), ("busybox", &["cpio"])];
    let runs = |&(program, first): &(&str, &[&str])| {
        let mut command = Command::new(program);
        command.args(first).arg("--help").stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok()
    };
    known.into_iter().filter(runs).collect()
}

#[test]
fn a_cpio_program_unpacks_what_we_wrote() {
    let archive = archive_of(&[
        ("/bin/tool", file(&[0xc3; 4097])),
        ("/bin/alias", link("tool")),
        ("/etc/empty", file(b"")),
        ("/init", file(b"#!/bin/sh\n")),
    ]);
    let readers = readers();
    if readers.is_empty() {
        println!("skipped: neither cpio nor busybox is installed");
    }
    for (program, first) in readers {
        let here = tempfile::tempdir().unwrap();
        let packed = here.path().join("archive");
        fs::write(&packed, bytes(&archive)).unwrap();
        let root = here.path().join("root");
        fs::create_dir(&root).unwrap();
        let mut command = Command::new(program);
        command.args(first).args(["-i", "-d"]).current_dir(&root);
        command.stdin(fs::File::open(&packed).unwrap());
        assert!(command.status().unwrap().success(), "{program}");
        assert_eq!(fs::read(root.join("bin/tool")).unwrap(), [0xc3; 4097]);
        assert_eq!(fs::read(root.join("etc/empty")).unwrap(), b"");
        assert_eq!(fs::read(root.join("init")).unwrap(), b"#!/bin/sh\n");
        let target = fs::read_link(root.join("bin/alias")).unwrap();
        assert_eq!(target.to_str(), Some("tool"));
    }
}
