//! What a well-behaved client does.

use super::super::wire::{kind, valid};
use super::client::{Set, fields, text};
use super::{Client, OPEN, ROOT};
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

const WRITE: u32 = 1;
const READ_WRITE: u32 = 2;
const CREATE: u32 = 0o100;
const EXCLUSIVE: u32 = 0o200;
const TRUNCATE: u32 = 0o1000;
const APPEND: u32 = 0o2000;

const EPERM: u32 = 1;
const ENOENT: u32 = 2;
const EBADF: u32 = 9;
const EEXIST: u32 = 17;
const EISDIR: u32 = 21;
const EINVAL: u32 = 22;
const EROFS: u32 = 30;
const ENOTEMPTY: u32 = 39;
const ENODATA: u32 = 61;
const EOPNOTSUPP: u32 = 95;

#[test]
fn a_file_is_made_written_and_read() {
    let mut client = Client::new();
    client
        .create("", "new", CREATE | EXCLUSIVE | READ_WRITE, 0o666)
        .unwrap();
    assert_eq!(client.write(OPEN, 3, b"text"), Ok(4));
    assert_eq!(client.read(OPEN, 0, 100), Ok(b"\0\0\0text".to_vec()));
    assert_eq!(client.read(OPEN, 5, 1), Ok(b"x".to_vec()));
    assert_eq!(client.read(OPEN, 7, 100), Ok(Vec::new()));
    assert_eq!(client.read(OPEN, u64::MAX, 100), Err(EINVAL));
    assert_eq!(text(&client.path("new")), "\0\0\0text");
    let mode = client.path("new").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o666, "whatever our own mask is");
    for data_only in [0, 1] {
        client
            .call(kind::FSYNC, &fields().u32(OPEN).u32(data_only))
            .unwrap();
    }
    client.clunk(OPEN).unwrap();
    assert_eq!(client.clunk(OPEN), Err(EBADF));
    assert_eq!(
        client.create("", "new", CREATE | EXCLUSIVE | WRITE, 0o600),
        Err(EEXIST)
    );
    client
        .create("", "new", CREATE | TRUNCATE | WRITE, 0o600)
        .unwrap();
    assert_eq!(client.attributes(OPEN).unwrap().size, 0);
    assert_eq!(client.read(OPEN, 0, 1), Err(EBADF), "open for writing only");
    assert!(client.end().is_ok());
}

#[test]
fn a_write_lands_where_it_says_also_in_a_file_that_is_appended_to() {
    let mut client = Client::new();
    std::fs::write(client.path("log"), "0123456789").unwrap();
    client.open_path("log", READ_WRITE | APPEND).unwrap();
    assert_eq!(client.write(OPEN, 2, b"ab"), Ok(2));
    assert_eq!(text(&client.path("log")), "01ab456789");
}

#[test]
fn large_transfers_are_cut_to_what_a_message_holds() {
    let mut client = Client::new();
    std::fs::write(client.path("big"), vec![7; 2 << 20]).unwrap();
    client.open_path("big", 0).unwrap();
    for count in [512 << 10, 1 << 30, u32::MAX] {
        let read = client.read(OPEN, 0, count).unwrap();
        assert_eq!(read.len(), (512 << 10) - 11);
    }
}

#[test]
fn entries_are_made_renamed_linked_and_removed() {
    let mut client = Client::new();
    client.mkdir("", "a").unwrap();
    client.mkdir("a", "b").unwrap();
    assert_eq!(client.mkdir("a", "b"), Err(EEXIST));
    client.create("a", "file", CREATE | WRITE, 0o644).unwrap();
    client.write(OPEN, 0, b"one").unwrap();
    client.clunk(OPEN).unwrap();
    client.link("a/file", "a/b", "second").unwrap();
    assert_eq!(client.attributes_of("a/file").unwrap().nlink, 2);
    assert_eq!(client.link("a/b", "", "b"), Err(EPERM), "a directory");
    client.symlink("a", "link", "b/../../x").unwrap();
    assert_eq!(client.readlink("a/link"), Ok(b"b/../../x".to_vec()));
    assert_eq!(client.readlink("a/file"), Err(EINVAL));
    assert_eq!(client.list("a").unwrap(), ["b", "file", "link"]);
    client.rename(("a", "file"), ("", "moved")).unwrap();
    client.rename(("", "moved"), ("a/b", "second")).unwrap();
    // Two names of one file: renaming one to the other does nothing (rename(2)).
    assert_eq!(client.list("").unwrap(), ["a", "moved"]);
    client.rename(("a", "b"), ("", "c")).unwrap();
    assert_eq!(client.list("c").unwrap(), ["second"]);
    assert_eq!(client.unlink("", "c", 0x200), Err(ENOTEMPTY));
    assert_eq!(client.unlink("", "c", 0), Err(EISDIR));
    client.unlink("c", "second", 0).unwrap();
    client.unlink("", "c", 0x200).unwrap();
    assert_eq!(client.unlink("", "c", 0x200), Err(ENOENT));
    assert_eq!(client.list("").unwrap(), ["a", "moved"]);
}

#[test]
fn what_is_renamed_is_known_by_its_new_name() {
    let mut client = Client::new();
    std::fs::write(client.path("old"), "1").unwrap();
    std::fs::create_dir(client.path("dir")).unwrap();
    client.find("old", OPEN).unwrap();
    client.rename(("", "old"), ("dir", "new")).unwrap();
    // By fid, as old clients rename and remove.
    let again = fields().u32(OPEN).u32(ROOT).text("third");
    client.call(kind::RENAME, &again).unwrap();
    assert_eq!(client.list("").unwrap(), ["dir", "third"]);
    client.open(OPEN, 0).unwrap();
    assert_eq!(client.read(OPEN, 0, 9), Ok(b"1".to_vec()));
    client.call(kind::REMOVE, &fields().u32(OPEN)).unwrap();
    assert_eq!(client.list("").unwrap(), ["dir"]);
    assert_eq!(
        client.clunk(OPEN),
        Err(EBADF),
        "removing gives the fid back"
    );
}

#[test]
fn what_took_a_removed_name_is_not_removed() {
    let mut client = Client::new();
    std::fs::write(client.path("file"), "1").unwrap();
    client.find("file", OPEN).unwrap();
    std::fs::rename(client.path("file"), client.path("other")).unwrap();
    std::fs::write(client.path("file"), "2").unwrap();
    assert_eq!(client.call(kind::REMOVE, &fields().u32(OPEN)), Err(116));
    assert_eq!(client.list("").unwrap(), ["file", "other"]);
}

#[test]
fn open_files_outlive_their_names() {
    let mut client = Client::new();
    client
        .create("", "gone", CREATE | READ_WRITE, 0o600)
        .unwrap();
    client.unlink("", "gone", 0).unwrap();
    assert_eq!(client.write(OPEN, 0, b"still"), Ok(5));
    assert_eq!(client.read(OPEN, 0, 9), Ok(b"still".to_vec()));
    let set = Set {
        size: 2,
        ..Set::default()
    };
    client.set(OPEN, valid::SIZE, set).unwrap();
    let attributes = client.attributes(OPEN).unwrap();
    assert_eq!((attributes.nlink, attributes.size), (0, 2));
    assert_eq!(client.find("gone", 9), Err(ENOENT));
}

#[test]
fn attributes_are_told_and_set() {
    let mut client = Client::new();
    std::fs::write(client.path("file"), "12345").unwrap();
    let host = client.path("file").metadata().unwrap();
    let seen = client.attributes_of("file").unwrap();
    assert_eq!((seen.mode, seen.size, seen.nlink), (host.mode(), 5, 1));
    assert_eq!((seen.uid, seen.gid), (0, 0), "ours are the guest's root's");
    assert_eq!(seen.mtime, (host.mtime() as u64, host.mtime_nsec() as u64));
    let which = valid::MODE | valid::SIZE | valid::MTIME | valid::MTIME_SET;
    let set = Set {
        mode: 0o6751,
        size: 2,
        mtime: (1_000_000_000, 5),
        ..Set::default()
    };
    client
        .on("file", |client, fid| client.set(fid, which, set))
        .unwrap();
    let host = client.path("file").metadata().unwrap();
    assert_eq!(host.mode(), 0o100_751, "no set-user-id on the host");
    assert_eq!(
        (host.len(), host.mtime(), host.mtime_nsec()),
        (2, 1_000_000_000, 5)
    );
    client
        .on("file", |client, fid| client.set(fid, valid::MTIME, set))
        .unwrap();
    assert!(
        client.path("file").metadata().unwrap().mtime() > 1_000_000_000,
        "now"
    );
    symlink("nowhere", client.path("link")).unwrap();
    let refused = client.on("link", |client, fid| client.set(fid, valid::MODE, set));
    assert_eq!(refused, Err(EOPNOTSUPP));
    let times = valid::MTIME | valid::MTIME_SET;
    client
        .on("link", |client, fid| client.set(fid, times, set))
        .unwrap();
    let link = client.path("link").symlink_metadata().unwrap();
    assert_eq!(link.mtime(), 1_000_000_000);
}

#[test]
fn another_owner_is_kept_beside_the_file() {
    let mut client = Client::new();
    std::fs::write(client.path("file"), "").unwrap();
    let owner = |uid, gid| Set {
        owner: (uid, gid),
        ..Set::default()
    };
    let both = valid::UID | valid::GID;
    let chown = |client: &mut Client, path: &str, which, set| {
        client.on(path, |client, fid| client.set(fid, which, set))
    };
    chown(&mut client, "file", both, owner(0, 0)).unwrap();
    let before = client.path("file").metadata().unwrap();
    if let Err(error) = chown(&mut client, "file", both, owner(1000, 100)) {
        assert_eq!(error, EPERM);
        println!("skipped: no attributes in the temporary directory");
        return;
    }
    let seen = client.attributes_of("file").unwrap();
    assert_eq!((seen.uid, seen.gid), (1000, 100));
    let after = client.path("file").metadata().unwrap();
    assert_eq!((before.uid(), before.gid()), (after.uid(), after.gid()));
    assert_eq!(
        values(&mut client, "file", ""),
        Ok(Vec::new()),
        "ours alone"
    );
    assert_eq!(
        values(&mut client, "file", "user.xlaunch.owner"),
        Err(EOPNOTSUPP)
    );
    chown(&mut client, "file", valid::GID, owner(7, 0)).unwrap();
    let seen = client.attributes_of("file").unwrap();
    assert_eq!((seen.uid, seen.gid), (1000, 0));
    chown(&mut client, "file", both, owner(0, 0)).unwrap();
    assert_eq!(client.attributes_of("file").unwrap().uid, 0);
    client.symlink("", "link", "file").unwrap();
    assert_eq!(chown(&mut client, "link", both, owner(1, 1)), Err(EPERM));
    chown(&mut client, "link", both, owner(0, 0)).unwrap();
}

#[test]
fn what_a_user_of_the_guest_makes_is_theirs() {
    let mut client = Client::new();
    client.attach(50, 1000);
    let body = fields().u32(50).text("dir").u32(0o700).u32(1001);
    client.call(kind::MKDIR, &body).unwrap();
    let seen = client.attributes_of("dir").unwrap();
    if seen.uid == 0 {
        println!("skipped: no attributes in the temporary directory");
        return;
    }
    assert_eq!((seen.uid, seen.gid, seen.mode), (1000, 1001, 0o040_700));
    // What nobody may write from the start, as git's objects.
    let body = fields().u32(50).text("closed").u32(0o555).u32(1001);
    client.call(kind::MKDIR, &body).unwrap();
    let seen = client.attributes_of("closed").unwrap();
    assert_eq!((seen.uid, seen.gid, seen.mode), (1000, 1001, 0o040_555));
    let body = fields()
        .u32(50)
        .text("object")
        .u32(CREATE | READ_WRITE)
        .u32(0o444);
    client.call(kind::LCREATE, &body.u32(1001)).unwrap();
    let seen = client.attributes_of("object").unwrap();
    assert_eq!((seen.uid, seen.gid, seen.mode), (1000, 1001, 0o100_444));
    assert_eq!(client.write(50, 0, b"once"), Ok(4));
}

#[test]
fn what_is_made_in_a_group_s_directory_is_the_group_s() {
    if !cfg!(target_os = "linux") {
        println!("skipped: on this host every directory is like that");
        return;
    }
    let mut client = Client::new();
    std::fs::create_dir(client.path("group")).unwrap();
    std::fs::set_permissions(client.path("group"), Permissions::from_mode(0o2777)).unwrap();
    client.find("group", OPEN).unwrap();
    for (name, mode) in [("open", 0o777), ("closed", 0o500)] {
        let body = fields().u32(OPEN).text(name).u32(mode).u32(0);
        client.call(kind::MKDIR, &body).unwrap();
        let seen = client.attributes_of(&format!("group/{name}")).unwrap();
        assert_eq!(seen.mode, 0o042_000 | mode, "{name}");
    }
}

/// An attribute's value, or with no name the list.
fn values(client: &mut Client, path: &str, name: &str) -> Result<Vec<u8>, u32> {
    const VALUE: u32 = 77;
    let walked = client.call_on(path, kind::XATTRWALK, fields().u32(VALUE).text(name));
    let size = walked?.u64();
    let value = client.read(VALUE, 0, 1 << 20);
    client.clunk(VALUE)?;
    assert_eq!(value.as_ref().map(Vec::len), Ok(size as usize));
    value
}

fn set_value(client: &mut Client, name: &str, value: &[u8], flags: u32) -> Result<(), u32> {
    client.find("file", OPEN)?;
    let body = fields()
        .u32(OPEN)
        .text(name)
        .u64(value.len() as u64)
        .u32(flags);
    let created = client.call(kind::XATTRCREATE, &body);
    for (at, part) in value.chunks(1000).enumerate().filter(|_| created.is_ok()) {
        client.write(OPEN, at as u64 * 1000, part)?;
    }
    let set = client.clunk(OPEN);
    created?;
    set
}

#[test]
fn users_attributes_are_read_and_written() {
    let mut client = Client::new();
    std::fs::write(client.path("file"), "").unwrap();
    let long = vec![3; 2500];
    if set_value(&mut client, "user.a", &long, 1) == Err(EOPNOTSUPP) {
        println!("skipped: no attributes in the temporary directory");
        return;
    }
    assert_eq!(values(&mut client, "file", "user.a"), Ok(long));
    assert_eq!(set_value(&mut client, "user.a", b"x", 1), Err(EEXIST));
    assert_eq!(set_value(&mut client, "user.b", b"x", 2), Err(ENODATA));
    set_value(&mut client, "user.b", b"y", 0).unwrap();
    let mut names: Vec<_> = values(&mut client, "file", "").unwrap();
    names.pop();
    let mut names: Vec<_> = names.split(|&it| it == 0).collect();
    names.sort();
    assert_eq!(names, [b"user.a", b"user.b"]);
    set_value(&mut client, "user.a", b"", 2).unwrap();
    assert_eq!(values(&mut client, "file", "user.a"), Err(ENODATA));
    for foreign in [
        "security.capability",
        "system.posix_acl_access",
        "trusted.x",
        "user",
    ] {
        assert_eq!(values(&mut client, "file", foreign), Err(EOPNOTSUPP));
        assert_eq!(set_value(&mut client, foreign, b"x", 0), Err(EOPNOTSUPP));
    }
    assert_eq!(
        set_value(&mut client, "user.xlaunch.owner", b"0:0", 0),
        Err(EOPNOTSUPP)
    );
}

#[test]
fn special_files_are_names_only() {
    let mut client = Client::new();
    let node = |mode: u32, name| fields().text(name).u32(mode).u32(1).u32(3).u32(0);
    for (mode, name) in [
        (0o010_644, "fifo"),
        (0o140_755, "socket"),
        (0o100_600, "regular"),
    ] {
        client.call_on("", kind::MKNOD, node(mode, name)).unwrap();
        assert_eq!(client.attributes_of(name).unwrap().mode, mode);
    }
    for (mode, name) in [(0o020_666, "character"), (0o060_666, "block")] {
        assert_eq!(
            client.call_on("", kind::MKNOD, node(mode, name)),
            Err(EPERM)
        );
    }
    // It would wait for a writer.
    for flags in [0, WRITE, READ_WRITE] {
        assert_eq!(client.open_path("fifo", flags), Err(6));
        assert_eq!(
            client.create("", "fifo", CREATE | flags, 0o600),
            Err(EEXIST)
        );
    }
}

#[test]
fn a_read_only_folder_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("inside/dir")).unwrap();
    std::fs::write(dir.path().join("inside/file"), "text").unwrap();
    let mut client = Client::with(dir, true);
    client.open_path("file", 0).unwrap();
    assert_eq!(client.read(OPEN, 0, 9), Ok(b"text".to_vec()));
    assert_eq!(client.write(OPEN, 0, b"x"), Err(EROFS));
    client.clunk(OPEN).unwrap();
    for flags in [WRITE, READ_WRITE, TRUNCATE, WRITE | TRUNCATE] {
        assert_eq!(client.open_path("file", flags), Err(EROFS), "{flags:#o}");
    }
    assert_eq!(client.create("", "file", CREATE, 0o600), Err(EROFS));
    assert_eq!(client.mkdir("", "new"), Err(EROFS));
    assert_eq!(client.symlink("", "new", "file"), Err(EROFS));
    assert_eq!(client.link("file", "", "new"), Err(EROFS));
    assert_eq!(client.rename(("", "file"), ("", "new")), Err(EROFS));
    assert_eq!(client.unlink("", "file", 0), Err(EROFS));
    assert_eq!(client.unlink("", "dir", 0x200), Err(EROFS));
    let node = fields().text("new").u32(0o010_644).u32(0).u32(0).u32(0);
    assert_eq!(client.call_on("", kind::MKNOD, node), Err(EROFS));
    let set = |client: &mut Client, fid| client.set(fid, valid::MODE, Set::default());
    assert_eq!(client.on("file", set), Err(EROFS));
    assert_eq!(set_value(&mut client, "user.a", b"", 0), Err(EROFS));
    client.find("file", OPEN).unwrap();
    assert_eq!(
        client.call(kind::RENAME, &fields().u32(OPEN).u32(ROOT).text("n")),
        Err(EROFS)
    );
    assert_eq!(client.call(kind::REMOVE, &fields().u32(OPEN)), Err(EROFS));
    assert_eq!(client.list("").unwrap(), ["dir", "file"]);
    assert_eq!(text(&client.path("file")), "text");
}

#[test]
fn a_large_directory_is_read_whole_while_it_shrinks() {
    let mut client = Client::new();
    std::fs::create_dir(client.path("dir")).unwrap();
    let name = |i: usize| format!("a-rather-long-name-of-an-entry-{i:05}");
    for i in 0..10_000 {
        std::fs::write(client.path("dir").join(name(i)), "").unwrap();
    }
    let expected: Vec<_> = (0..10_000).map(name).collect();
    assert_eq!(client.list("dir").unwrap(), expected);
    // As rm -r does: what was read is removed, then it is read on.
    client.find("dir", OPEN).unwrap();
    client.open(OPEN, 0).unwrap();
    let (mut from, mut seen) = (0, 0);
    loop {
        let some = client.entries(OPEN, from, 4096).unwrap();
        let Some((next, _)) = some.last() else { break };
        from = *next;
        for (_, name) in some.iter().filter(|it| !it.1.starts_with(b".")) {
            client
                .unlink("dir", std::str::from_utf8(name).unwrap(), 0)
                .unwrap();
            seen += 1;
        }
    }
    assert_eq!(seen, 10_000);
    client.unlink("", "dir", 0x200).unwrap();
    let nothing = client.entries(OPEN, 0, 100);
    assert!(
        nothing == Ok(Vec::new()) || nothing == Err(ENOENT),
        "{nothing:?}"
    );
}

#[test]
fn an_answer_too_short_for_an_entry_is_no_end() {
    let mut client = Client::new();
    std::fs::write(client.path(&"n".repeat(255)), "").unwrap();
    client.open_path("", 0).unwrap();
    assert_eq!(client.entries(OPEN, 0, 20), Err(EINVAL));
}

#[test]
fn the_file_system_tells_its_size() {
    let mut client = Client::new();
    let mut space = client.call_on("", kind::STATFS, fields()).unwrap();
    assert_eq!(space.0.len(), 60);
    assert_eq!(space.u32(), 0x0102_1997);
    assert!(space.u32() >= 512);
    assert!(space.u64() > 0);
}

#[test]
fn what_cannot_be_shared_is_refused() {
    use super::super::Server;
    let file = tempfile::NamedTempFile::new().unwrap();
    let kind = |path: &Path| Server::new(path, false).unwrap_err().kind();
    assert_eq!(kind(file.path()), std::io::ErrorKind::NotADirectory);
    assert_eq!(kind(Path::new("/no/such")), std::io::ErrorKind::NotFound);
}
