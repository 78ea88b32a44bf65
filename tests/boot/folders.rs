//! Directories of the host in the guest: what programs do there, what the host sees of it, and what neither may.

use crate::disk::script;
use crate::launcher::{Program, compile_for_guest};
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::thread::{self, sleep};
use std::time::Duration;
use tempfile::TempDir;

/// The program for the guest; see its head.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/boot/guest/folder.rs");

fn share(host: &Path, rest: &str) -> String {
    format!("{}{rest}", host.to_str().unwrap())
}

/// Waits for what the guest makes, as long as the guest is there.
fn wait_for(path: &Path, gone: impl Fn() -> bool) {
    while !path.exists() && !gone() {
        sleep(Duration::from_millis(10));
    }
}

/// The host's half of what tests/boot/guest/folder.rs does in turns.
fn take_turns(share: &Path, gone: impl Fn() -> bool) {
    let it = |name: &str| share.join(name);
    wait_for(&it("have-read"), &gone);
    fs::write(it("changing"), "and afterwards").unwrap();
    fs::write(it("has-changed"), "").unwrap();
    wait_for(&it("guest-has-locked"), &gone);
    let lock = File::options().read(true).write(true).open(it("lock"));
    let Ok(lock) = lock else { return };
    let refused = lock.try_lock().is_err();
    fs::write(it("host-was-refused"), "").unwrap();
    wait_for(&it("guest-has-freed"), &gone);
    lock.lock().unwrap();
    fs::write(it("host-has-locked"), "").unwrap();
    wait_for(&it("guest-was-refused"), &gone);
    assert!(refused, "the guest's lock kept the host out");
    lock.unlock().unwrap();
}

#[test]
fn programs_work_in_a_folder_and_the_host_sees_it() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let place = TempDir::new().unwrap();
    let path = place.path();
    compile_for_guest(FOLDER, &path.join("program"));
    fs::write(path.join("changing"), "before").unwrap();
    let running = xlaunch.start(&[
        "-v",
        &share(path, ":/share"),
        "--",
        "/share/program",
        "/share",
    ]);
    let ended = std::sync::atomic::AtomicBool::new(false);
    let finished = thread::scope(|scope| {
        scope.spawn(|| take_turns(path, || ended.load(std::sync::atomic::Ordering::Relaxed)));
        let finished = running.finish();
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
        finished
    });
    assert_eq!(finished.code(), 0, "{finished}");
    let expected = "contents\nnames\ngone\nmany\nowners\nremoved\nchanges\nlocks\n";
    assert_eq!(finished.text(), expected, "{finished}");
    assert!(!path.join("work").exists());
}

#[test]
fn folders_are_where_they_should_be_and_as_they_may() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let place = TempDir::new().unwrap();
    let it = |name: &str| place.path().join(name);
    for dir in ["open", "closed", "a place", "outside"] {
        fs::create_dir(it(dir)).unwrap();
    }
    fs::write(it("closed/file"), "text\n").unwrap();
    fs::write(it("outside/secret"), "secret\n").unwrap();
    symlink(it("outside"), it("open/way-out")).unwrap();
    symlink("../outside/secret", it("open/secret")).unwrap();
    let script =
        "umask 022; cd /work/open || exit; echo made > made; mkdir -m 700 dir; id -u > dir/who
        chmod 4755 made; echo inside > /work/open/within/here; ls -l made | cut -c1-10
        cat /work/closed/file; touch /work/closed/file 2>&1 | sed 's/.*: //'; ls /work/closed
        mount -o remount,rw /work/closed; echo x 2>/dev/null > /work/closed/file || echo refused
        cat secret way-out/secret 2>/dev/null || echo nothing; ls /work/open/..
        awk '$3 == \"9p\" { print $2, substr($4, 1, 2) }' /proc/mounts";
    let finished = xlaunch.run(&[
        "-v",
        &share(&it("a place"), ":/work/open/within"),
        "--share",
        &share(&it("open"), ":/work/open"),
        "-v",
        &share(&it("closed"), ":/work/closed:ro"),
        "--",
        "sh",
        "-c",
        script,
    ]);
    let expected = "-rwxr-xr-x\ntext\nRead-only file system\nfile\nrefused\nnothing\nclosed\nopen\n\
                    /work/open rw\n/work/closed r";
    assert!(finished.text().starts_with(expected), "{finished}");
    assert!(
        finished.text().contains("/work/open/within rw"),
        "{finished}"
    );
    assert_eq!(fs::read_to_string(it("open/made")).unwrap(), "made\n");
    assert_eq!(fs::read_to_string(it("a place/here")).unwrap(), "inside\n");
    assert_eq!(fs::read_to_string(it("open/dir/who")).unwrap(), "0\n");
    let mode = |name: &str| fs::metadata(it(name)).unwrap().permissions().mode();
    assert_eq!(
        (mode("open/made"), mode("open/dir")),
        (0o100_755, 0o040_700)
    );
    let ours = fs::metadata(place.path()).unwrap();
    let theirs = fs::metadata(it("open/made")).unwrap();
    assert_eq!((ours.uid(), ours.gid()), (theirs.uid(), theirs.gid()));
    assert_eq!(fs::read_to_string(it("closed/file")).unwrap(), "text\n");
}

#[test]
fn a_folder_works_in_an_image_too() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let place = TempDir::new().unwrap();
    let image = place.path().join("disk.img");
    script("scripts/make-disk", &["busybox", image.to_str().unwrap()]);
    let shared = place.path().join("shared");
    fs::create_dir(&shared).unwrap();
    // Where the host has it.
    let script = "ls -d /lost+found && echo from inside > \"$0/file\"";
    let arguments = ["-v", shared.to_str().unwrap(), image.to_str().unwrap()];
    let command = ["--", "sh", "-c", script, shared.to_str().unwrap()];
    let finished = xlaunch.run(&[&arguments[..], &command].concat());
    assert_eq!(finished.text(), "/lost+found\n", "{finished}");
    let text = fs::read_to_string(shared.join("file")).unwrap();
    assert_eq!(text, "from inside\n");
}

#[test]
fn a_guest_that_restarts_has_its_folders_again() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let place = TempDir::new().unwrap();
    let script = "cd /s && if [ -e once ]; then echo again >> once; cat once; else echo first > once; reboot; sleep 60; fi";
    let finished = xlaunch.run(&["-v", &share(place.path(), ":/s"), "--", "sh", "-c", script]);
    assert_eq!(finished.text(), "first\nagain\n", "{finished}");
}

#[test]
fn what_cannot_be_shared_is_refused_before_the_boot() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    for (what, says) in [
        ("/no/such/directory".to_owned(), "No such file"),
        (share(file.path(), ":/x"), "Not a directory"),
        ("/tmp:relative".to_owned(), "HOST:GUEST"),
    ] {
        let finished = xlaunch.run(&["--verbose", "-v", &what, "--", "true"]);
        assert_eq!(finished.code(), 125, "{finished}");
        assert!(finished.complaint().contains(says), "{finished}");
        assert!(
            !finished.complaint().contains("Linux version"),
            "{finished}"
        );
    }
}

/// A C program in as many files as make can compile at once.
fn project(place: &Path) {
    fs::create_dir(place).unwrap();
    let mut main = String::from("#include <stdio.h>\n");
    for i in 0..8 {
        let part = format!("int part{i}(int x) {{ return x * {i} + 1; }}\n");
        fs::write(place.join(format!("part{i}.c")), part).unwrap();
        main += &format!("int part{i}(int);\n");
    }
    main += "int main(void) { int x = 1;\n";
    (0..8).for_each(|i| main += &format!("x = part{i}(x);\n"));
    main += "printf(\"%d\\n\", x); return 7; }\n";
    fs::write(place.join("main.c"), main).unwrap();
    let makefile = "program: $(patsubst %.c,%.o,$(wildcard *.c))\n\t$(CC) -o $@ $^\n";
    fs::write(place.join("Makefile"), makefile).unwrap();
}

/// The host's own programs, from a folder that is all of it, work in the guest on a folder that they may change. What
/// they print is what the program prints here that they leave at `made`.
fn build_with_the_hosts_programs(xlaunch: &Program, place: &Path, build: &str, made: &str) {
    // What the guest mounts over: its processes and devices.
    let enter = "mount -o bind /proc /host/proc; mount -o bind /dev /host/dev
        exec chroot /host /bin/sh -c \"$0\"";
    let here = place.to_str().unwrap();
    let build = format!("export PATH=/usr/bin:/bin TMPDIR={here} HOME={here}; cd {here}; {build}");
    let mine = share(place, &format!(":/host{here}"));
    let arguments = ["-m", "2G", "-v", "/:/host:ro", "-v", &mine];
    let command = ["--", "sh", "-c", enter, &build];
    let finished = xlaunch.run(&[&arguments[..], &command].concat());
    let built = std::process::Command::new(place.join(made)).output();
    let built = built.unwrap_or_else(|error| panic!("{error}: {finished}"));
    assert_eq!(finished.text(), String::from_utf8(built.stdout).unwrap());
    assert_eq!(finished.code(), built.status.code().unwrap(), "{finished}");
}

fn has(programs: &[&str]) -> bool {
    let missing = programs
        .iter()
        .find(|it| !Path::new("/usr/bin").join(it).exists());
    if let Some(missing) = missing {
        println!("skipped: this host has no /usr/bin/{missing}");
    }
    missing.is_none()
}

#[test]
fn long_a_project_is_cloned_and_built_in_a_folder() {
    let Some(xlaunch) = Program::find_for_long() else {
        return;
    };
    if !has(&["git", "gcc", "make"]) {
        return;
    }
    let place = TempDir::new().unwrap();
    project(&place.path().join("origin"));
    let build = "set -e; git -C origin init -q; git -C origin add -A
        git -C origin -c user.name=a -c user.email=b commit -qm all; git clone -q origin clone
        git -C clone fsck --full --strict >/dev/null 2>&1; git -C clone gc -q; cd clone
        make -s -j2 CC=gcc; ./program";
    build_with_the_hosts_programs(&xlaunch, place.path(), build, "clone/program");
}

#[test]
fn long_cargo_builds_in_a_folder() {
    let Some(xlaunch) = Program::find_for_long() else {
        return;
    };
    if !has(&["gcc"]) {
        return;
    }
    let place = TempDir::new().unwrap();
    let crates = place.path().join("hello");
    fs::create_dir_all(crates.join("src")).unwrap();
    let manifest = "[package]\nname = \"hello\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
    fs::write(crates.join("Cargo.toml"), manifest).unwrap();
    let main = "fn main() { println!(\"{}\", env!(\"CARGO_PKG_VERSION\")); }\n";
    fs::write(crates.join("src/main.rs"), main).unwrap();
    let programs = Path::new(env!("CARGO")).parent().unwrap();
    let build = format!(
        "set -e; export PATH={}:$PATH; cd hello; cargo build --quiet --offline; target/debug/hello",
        programs.display()
    );
    build_with_the_hosts_programs(&xlaunch, place.path(), &build, "hello/target/debug/hello");
}
