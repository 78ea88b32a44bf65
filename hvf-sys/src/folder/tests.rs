use super::*;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

/// A directory of a test's own, with `outside` beside the shared `inside`.
struct Scene(PathBuf);

impl Scene {
    fn new(name: &str) -> Self {
        let mut unique = [0; 8];
        crate::random::fill(&mut unique).unwrap();
        let unique = u64::from_ne_bytes(unique);
        let path = std::env::temp_dir().join(format!("xlaunch-folder-{name}-{unique:016x}"));
        std::fs::create_dir_all(path.join("inside/dir")).unwrap();
        std::fs::create_dir(path.join("outside")).unwrap();
        std::fs::write(path.join("outside/secret"), "secret").unwrap();
        std::fs::write(path.join("inside/file"), "text").unwrap();
        Self(path)
    }

    fn root(&self) -> Handle {
        Handle::root(&self.0.join("inside")).unwrap()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

const READ: Access = Access {
    read: true,
    write: false,
    truncate: false,
    sync: false,
};

#[test]
fn a_name_is_one_component() {
    for wrong in ["", ".", "..", "/", "a/b", "a/", "/a", "a\0b"] {
        assert_eq!(Name::new(wrong.as_bytes()), None, "{wrong:?}");
    }
    assert_eq!(Name::new(&[b'a'; NAME_MAX + 1]), None);
    for right in ["...", "a", ".a", " ", "\u{ff}"] {
        assert_eq!(name(right).bytes(), right.as_bytes());
    }
    assert!(Name::new(&[0xff; NAME_MAX]).is_some());
}

#[test]
fn links_are_objects_and_lead_nowhere() {
    let scene = Scene::new("links");
    let inside = scene.0.join("inside");
    for (target, link) in [
        ("../outside", "up"),
        ("/", "absolute"),
        ("loop", "loop"),
        ("dir", "sideways"),
    ] {
        symlink(target, inside.join(link)).unwrap();
        let found = scene.root().child(&name(link)).unwrap();
        assert_eq!(found.stat().unwrap().kind(), Kind::Link);
        assert_eq!(found.read_link().unwrap(), target.as_bytes());
        let below = found.child(&name("secret")).map(drop).unwrap_err();
        assert_eq!(below.raw_os_error(), Some(libc::ENOTDIR), "{link}");
        let made = found.create(&name("new"), READ, 0o644).map(drop);
        assert_eq!(made.unwrap_err().raw_os_error(), Some(libc::ENOTDIR));
    }
}

#[test]
fn a_file_is_made_read_changed_and_removed() {
    let scene = Scene::new("file");
    let root = scene.root();
    let access = Access {
        write: true,
        ..READ
    };
    let (mut file, made) = root.create(&name("new"), access, 0o600).unwrap();
    assert!(root.create(&name("new"), access, 0o600).is_err());
    file.write_all(b"12345").unwrap();
    made.set_len(3).unwrap();
    made.set_mode(0o640).unwrap();
    made.set_times(Time::At(1, 2), Time::At(3, 4)).unwrap();
    let stat = root.child(&name("new")).unwrap().stat().unwrap();
    assert_eq!((stat.size, stat.mode), (3, 0o100_640));
    assert_eq!((stat.atime, stat.mtime), ((1, 2), (3, 4)));
    made.set_times(Time::Keep, Time::Now).unwrap();
    let later = made.stat().unwrap();
    assert_eq!(later.atime, (1, 2));
    assert!(later.mtime.0 > 3);
    assert_eq!(later.id(), Stat::of(&file).unwrap().id());
    made.link(&root.child(&name("dir")).unwrap(), &name("second"))
        .unwrap();
    assert_eq!(made.stat().unwrap().nlink, 2);
    root.rename(
        &name("new"),
        &root.child(&name("dir")).unwrap(),
        &name("second"),
    )
    .unwrap();
    assert!(root.unlink(&name("dir"), false).is_err());
    assert!(root.unlink(&name("file"), true).is_err());
    root.unlink(&name("file"), false).unwrap();
    assert!(root.child(&name("file")).is_err());
    assert!(root.space().unwrap().block > 0);
}

#[test]
fn a_directory_is_read_from_any_entry_on() {
    let scene = Scene::new("listing");
    for i in 0..1000 {
        std::fs::write(scene.0.join(format!("inside/dir/{i:0100}")), "").unwrap();
    }
    let directory = scene.root().child(&name("dir")).unwrap();
    let mut listing = Listing::open(&directory).unwrap();
    let mut all = Vec::new();
    let mut from = 0;
    loop {
        let before = all.len();
        let mut room = 7;
        listing
            .read(from, 4096, |entry| {
                room -= 1;
                if room > 0 {
                    all.push((entry.name.to_vec(), entry.next, entry.kind));
                }
                room > 0
            })
            .unwrap();
        let Some(last) = all.get(before..).and_then(<[_]>::last) else {
            break;
        };
        from = last.1;
    }
    assert_eq!(all.len(), 1002);
    let mut names: Vec<_> = all.iter().map(|it| &it.0).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 1002, "each once");
    let mut again = None;
    let from = all[500].1;
    listing
        .read(from, 4096, |entry| {
            again.get_or_insert(entry.name.to_vec());
            false
        })
        .unwrap();
    assert_eq!(again.as_ref(), Some(&all[501].0));
}

#[test]
fn locks_keep_others_out() {
    let scene = Scene::new("locks");
    let found = scene.root().child(&name("file")).unwrap();
    let open = || {
        let access = Access {
            write: true,
            ..READ
        };
        found.open(access).unwrap()
    };
    let (ours, theirs) = (open(), open());
    let lock = |kind, start, len| Lock { kind, start, len };
    let write = lock(LockKind::Write, 10, 5);
    assert!(set_lock(&ours, write).unwrap());
    assert!(set_lock(&ours, write).unwrap(), "again");
    assert!(!set_lock(&theirs, lock(LockKind::Read, 14, 0)).unwrap());
    assert!(set_lock(&theirs, lock(LockKind::Write, 15, 0)).unwrap());
    assert_eq!(
        test_lock(&theirs, lock(LockKind::Read, 0, 0)).unwrap(),
        Some(write)
    );
    assert_eq!(test_lock(&ours, write).unwrap(), None);
    assert!(set_lock(&ours, lock(LockKind::Free, 0, 0)).unwrap());
    assert!(set_lock(&theirs, lock(LockKind::Read, 14, 0)).unwrap());
    assert!(set_lock(&ours, lock(LockKind::Read, u64::MAX, 0)).is_err());
}

#[test]
fn attributes_are_kept_where_the_file_system_can() {
    let scene = Scene::new("attributes");
    let found = scene.root().child(&name("file")).unwrap();
    let value = vec![7; 2000];
    if let Err(error) = found.set_attribute(c"user.a", &value, true, false) {
        println!("skipped: no attributes in the temporary directory: {error}");
        return;
    }
    assert!(found.set_attribute(c"user.a", b"x", true, false).is_err());
    assert_eq!(found.attribute(c"user.a", 4096).unwrap(), value);
    assert!(found.attribute(c"user.a", 100).is_err());
    let names = found.attributes(4096).unwrap();
    assert!(names.split(|&it| it == 0).any(|it| it == b"user.a"));
    found.remove_attribute(c"user.a").unwrap();
    assert!(found.attribute(c"user.a", 100).is_err());
}

#[test]
fn the_limit_of_descriptors_is_told() {
    let limit = raise_descriptor_limit().unwrap();
    assert_eq!(raise_descriptor_limit().unwrap(), limit);
    assert!(limit >= 64);
}
