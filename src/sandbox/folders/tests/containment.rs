//! Nothing outside the folder is reached, whatever its content is and however it changes.

use super::super::wire::{kind, valid};
use super::client::{Set, fields, text};
use super::{Client, OPEN, ROOT};
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const ENOTDIR: u32 = 20;
const EINVAL: u32 = 22;
const ELOOP: u32 = 40;

#[test]
fn dots_lead_nowhere_above() {
    let mut client = Client::new();
    client.mkdir("", "dir").unwrap();
    let root = client.attributes_of("").unwrap().qid_path;
    for path in [
        "..",
        "../..",
        "dir/..",
        "dir/../..",
        "dir/../../..",
        ".",
        "./.",
    ] {
        let there = client.attributes_of(path).unwrap();
        assert_eq!(there.qid_path, root, "{path}");
    }
    assert_eq!(client.walk(ROOT, 9, &["..", "outside"]), Ok(1));
    assert_eq!(client.walk(ROOT, 9, &["..", "..", "etc"]), Ok(2));
    client.open_path("", 0).unwrap();
    let body = fields().u32(OPEN).u64(0).u32(8192);
    let mut answer = client.call(kind::READDIR, &body).unwrap();
    answer.u32();
    while !answer.0.is_empty() {
        answer.take(5);
        let path = answer.u64();
        answer.take(9);
        if answer.text() == b".." {
            assert_eq!(path, root, "not even its number is told");
        }
    }
}

#[test]
fn names_that_are_paths_are_refused() {
    let mut client = Client::new();
    let long = "n".repeat(256);
    for (name, error) in [
        ("/", EINVAL),
        ("../outside", EINVAL),
        ("/etc", EINVAL),
        ("a/b", EINVAL),
        ("a\0b", EINVAL),
        ("", EINVAL),
        (&long, 36),
    ] {
        assert_eq!(client.walk(ROOT, 9, &[name]), Err(error), "{name:?}");
    }
    for name in ["..", ".", "", "../outside/new", "/tmp/new", "a\0"] {
        assert_eq!(
            client.create("", name, 0o101, 0o600),
            Err(EINVAL),
            "{name:?}"
        );
        assert_eq!(client.mkdir("", name), Err(EINVAL), "{name:?}");
        assert_eq!(client.symlink("", name, "x"), Err(EINVAL));
        assert_eq!(client.unlink("", name, 0), Err(EINVAL));
        assert_eq!(client.rename(("", "x"), ("", name)), Err(EINVAL));
        assert_eq!(client.rename(("", name), ("", "x")), Err(EINVAL));
    }
    assert_eq!(client.list("").unwrap(), [] as [&str; 0]);
}

#[test]
fn links_are_never_followed() {
    let mut client = Client::new();
    let outside = client.outside();
    symlink(&outside, client.path("absolute")).unwrap();
    symlink("../outside", client.path("relative")).unwrap();
    symlink("loop", client.path("loop")).unwrap();
    symlink(outside.join("secret"), client.path("file")).unwrap();
    symlink(outside.join("new"), client.path("dangling")).unwrap();
    for link in ["absolute", "relative", "loop", "file", "dangling"] {
        assert_eq!(client.walk(ROOT, 9, &[link, "secret"]), Ok(1), "{link}");
        client.find(link, 9).unwrap();
        assert_eq!(client.walk(9, 10, &["secret"]), Err(ENOTDIR));
        assert_eq!(client.walk(9, 10, &[".."]), Err(ENOTDIR));
        for flags in [0, 1, 2, 0o1001] {
            assert_eq!(client.open(9, flags), Err(ELOOP), "{link}");
        }
        assert!(client.create("", link, 0o101, 0o600).is_err());
        assert!(client.create(link, "new", 0o101, 0o600).is_err());
        assert!(client.mkdir(link, "new").is_err());
        assert!(client.unlink(link, "secret", 0).is_err());
        assert!(client.rename((link, "secret"), ("", "mine")).is_err());
        let set = Set {
            mode: 0o777,
            size: 1,
            ..Set::default()
        };
        assert!(client.set(9, valid::MODE, set).is_err());
        assert!(client.set(9, valid::SIZE, set).is_err());
        client.clunk(9).unwrap();
    }
    // A second name for the link is one for the link.
    client.link("file", "", "again").unwrap();
    assert!(client.path("again").is_symlink());
    assert_eq!(text(&outside.join("secret")), "secret");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn links_of_the_kernels_own_are_never_followed() {
    let dir = tempfile::tempdir().unwrap();
    let Ok(()) = symlink("/proc/self", dir.path().join("inside")) else {
        return;
    };
    if !cfg!(target_os = "linux") {
        println!("skipped: only Linux has such links");
        return;
    }
    let mut client = Client::with(dir, true);
    for link in ["root", "cwd", "exe", "fd/0", "ns/mnt"] {
        if client.find(link, 9).is_err() {
            continue;
        }
        assert_eq!(client.open(9, 0), Err(ELOOP), "{link}");
        assert_eq!(client.walk(9, 10, &["etc"]), Err(ENOTDIR), "{link}");
        client.clunk(9).unwrap();
    }
    assert_eq!(client.walk(ROOT, 9, &["root", "etc"]), Ok(1));
}

#[test]
fn a_directory_that_becomes_a_link_leads_nowhere() {
    let client = Client::new();
    let (dir, link) = (client.path("swapped"), client.path("link"));
    let aside = client.path("aside");
    let outside = client.outside();
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("secret"), "public").unwrap();
    symlink(&outside, &link).unwrap();
    let stop = AtomicBool::new(false);
    let mut client = client;
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                std::fs::rename(&dir, &aside).unwrap();
                std::fs::rename(&link, &dir).unwrap();
                std::fs::rename(&dir, &link).unwrap();
                std::fs::rename(&aside, &dir).unwrap();
            }
        });
        let mut reads = 0;
        for _ in 0..3000 {
            let _ = client.mkdir("swapped", "made");
            let _ = client.unlink("swapped", "made", 0x200);
            if client.open_path("swapped/secret", 0).is_ok() {
                assert_eq!(client.read(OPEN, 0, 9), Ok(b"public".to_vec()));
                client.clunk(OPEN).unwrap();
                reads += 1;
            }
            if client.create("swapped", "new", 0o102, 0o600).is_ok() {
                client.clunk(OPEN).unwrap();
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(reads > 0, "it was there at times");
    });
    let names = std::fs::read_dir(&outside).unwrap();
    let names: Vec<_> = names.map(|it| it.unwrap().file_name()).collect();
    assert_eq!(names, ["secret"]);
}
