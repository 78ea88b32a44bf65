//! Debian 12 itself: its own kernels, unmodified, and its own userland.

use crate::disk::script;
use crate::launcher::{Finished, Program};
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The code by which a script says that what it should fetch cannot be had.
const UNREACHABLE: i32 = 77;

/// What scripts/debian fetches and keeps, a directory for each name; nothing, and why, where it cannot be had.
pub fn fetched(what: &str, names: &[&str]) -> Option<Vec<PathBuf>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/debian");
    let output = Command::new(path).arg(what).args(names).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(UNREACHABLE) {
        println!("skipped: {}", said.lines().last().unwrap_or_default());
        return None;
    }
    assert!(output.status.success(), "{said}");
    let listed = String::from_utf8(output.stdout).unwrap();
    Some(listed.lines().map(PathBuf::from).collect())
}

/// Boots one of these kernels, with its modules, from a disk on virtio-blk.
fn boot(xlaunch: &Program, kernel: &Path) -> Finished {
    let place = TempDir::new().unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let initrd = text(&place.path().join("initrd"));
    let image = text(&place.path().join("disk.img"));
    script(
        "guest/build-initrd",
        &[&initrd, &text(&kernel.join("list"))],
    );
    script("scripts/make-disk", &["busybox", &image]);
    let before = fs::read(&image).unwrap();
    let script = "set -e; uname -v; grep -c ^processor /proc/cpuinfo
        grep ' / ' /proc/mounts | tail -n 1 | cut -d' ' -f1,3
        echo written > /root/file; sync; echo 3 > /proc/sys/vm/drop_caches; cat /root/file";
    let kernel = text(&kernel.join("vmlinuz"));
    let arguments = ["--kernel", &kernel, "--initrd", &initrd, &image];
    let finished = xlaunch.run(&[&arguments[..], &["--", "sh", "-c", script]].concat());
    assert!(before == fs::read(&image).unwrap(), "the image has changed");
    finished
}

fn reaches_userspace(flavour: &str) {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let Some(kernels) = fetched("kernel", &[flavour]) else {
        return;
    };
    let finished = boot(&xlaunch, &kernels[0]);
    assert_eq!(finished.code(), 0, "{finished}");
    let said = finished.text();
    let (version, rest) = said.split_once('\n').unwrap();
    assert!(version.contains("Debian"), "{finished}");
    assert_eq!(rest, "2\n/dev/vda ext4\nwritten\n", "{finished}");
}

#[test]
fn debians_cloud_kernel_boots_to_userspace_from_its_own_modules() {
    reaches_userspace("cloud-amd64");
}

#[test]
fn debians_generic_kernel_boots_to_userspace_from_its_own_modules() {
    reaches_userspace("amd64");
}

/// Debian's userland needs more of a CPU than busybox does: dynamic linking, glibc's SSE, Perl, dpkg's databases.
#[test]
fn long_debians_userland_runs_from_an_image() {
    let Some(xlaunch) = Program::find_for_long() else {
        return;
    };
    let Some(image) = debian_disk() else { return };
    let image = image.to_str().unwrap();
    let finished = xlaunch.run(&[image, "--", "apt-get", "--version"]);
    assert_eq!(finished.code(), 0, "{finished}");
    assert!(finished.text().starts_with("apt 2.6."), "{finished}");

    let script = "set -e; . /etc/os-release; echo $VERSION_CODENAME
        dpkg --verify bash coreutils perl-base && echo verified
        perl -e 'printf \"%.3f\\n\", atan2(1, 1) * 4'
        adduser --quiet --disabled-password --gecos '' guest && su guest -c 'id -un'";
    let finished = xlaunch.run(&[image, "--", "sh", "-c", script]);
    assert_eq!(finished.code(), 0, "{finished}");
    assert_eq!(finished.text(), "bookworm\nverified\n3.142\nguest\n");
}

/// What people install to build their programs with.
#[test]
fn long_debians_compilers_work_in_an_image() {
    let Some(xlaunch) = Program::find_for_long() else {
        return;
    };
    let Some(image) = debian_disk() else { return };
    let image = image.to_str().unwrap();
    let count = "import math, sys; print(sys.version_info[:2], math.factorial(30))";
    let finished = xlaunch.run(&[image, "--", "python3", "-c", count]);
    assert_eq!(finished.code(), 0, "{finished}");
    let expected = "(3, 11) 265252859812191058636308480000000\n";
    assert_eq!(finished.text(), expected, "{finished}");

    let script = r#"set -e; mkdir /tmp/project; cd /tmp/project
        for n in 1 2 3 4; do echo "int part$n(void) { return $n; }" > part$n.c; done
        printf '#include <stdio.h>\nint part1(void), part2(void), part3(void), part4(void);\nint main(void) { return !printf("%%d\\n", part1() + part2() + part3() + part4()); }\n' > sum.c
        printf 'sum: sum.o part1.o part2.o part3.o part4.o\n\tgcc -o $@ $^\n' > Makefile
        make -s -j2; ./sum"#;
    let finished = xlaunch.run(&["-m", "2G", image, "--", "sh", "-c", script]);
    assert_eq!(finished.code(), 0, "{finished}");
    assert_eq!(finished.text(), "10\n", "{finished}");
}

/// systemd comes up clean to its login prompt, lets root in, and hears the power button.
#[test]
fn long_debians_own_init_comes_up_without_a_failed_unit() {
    let Some(xlaunch) = Program::find_for_long() else {
        return;
    };
    let Some(image) = debian_disk() else { return };
    let mut running = xlaunch.start(&["--init", image.to_str().unwrap()]);
    let mut keyboard = running.child().stdin.take().unwrap();
    let mut console = running.child().stdout.take().unwrap();
    let mut text = String::new();
    let mut see = |wanted: &str| {
        let mut bytes = [0; 4096];
        while !text.contains(wanted) {
            let count = console.read(&mut bytes).unwrap();
            assert!(count > 0, "it ended without {wanted:?}: {text}");
            text += &String::from_utf8_lossy(&bytes[..count]);
        }
        std::mem::take(&mut text)
    };
    see("login: ");
    keyboard.write_all(b"root\n").unwrap();
    see("# ");
    let questions = "systemctl is-system-running --wait; echo failed=$(systemctl --failed --no-legend | wc -l).\n";
    keyboard.write_all(questions.as_bytes()).unwrap();
    let said = see("failed=0.");
    assert!(said.contains("running"), "{said}");
    running.signal("TERM");
    while console.read(&mut [0; 4096]).unwrap() > 0 {}
    let finished = running.finish();
    assert_eq!(finished.code(), 0, "{finished}");
}

/// A project lies on the host, is built in the image, and what comes out lies on the host.
#[test]
fn long_a_project_in_a_shared_folder_is_built_inside() {
    let Some(xlaunch) = Program::find_for_long() else {
        return;
    };
    let Some(image) = debian_disk() else { return };
    let place = TempDir::new().unwrap();
    let write = |name: &str, text: &str| fs::write(place.path().join(name), text).unwrap();
    write(
        "greet.c",
        "#include <stdio.h>\nint main(void) { puts(\"built inside\"); return 7; }\n",
    );
    write(
        "Makefile",
        "all: greet copy\ngreet: greet.c\n\tgcc -static -O2 -o $@ $<\ncopy:\n\tgit -c safe.directory='*' clone -q . copy\n",
    );
    let folder = format!("{}:/src", place.path().display());
    let commit = "git init -q; git add -A; git -c user.name=A -c user.email=a@b commit -qm first";
    let script = format!("{commit} && make -s -j2 && ./greet");
    let image = image.to_str().unwrap();
    let finished = xlaunch.run(&[
        "-v", &folder, "-w", "/src", image, "--", "sh", "-c", &script,
    ]);
    assert_eq!(finished.code(), 7, "{finished}");
    assert_eq!(finished.text(), "built inside\n", "{finished}");
    let outside = Command::new(place.path().join("greet")).output().unwrap();
    assert_eq!(outside.status.code(), Some(7));
    assert_eq!(outside.stdout, finished.stdout);
    let cloned = fs::read(place.path().join("copy/greet.c")).unwrap();
    assert_eq!(cloned, fs::read(place.path().join("greet.c")).unwrap());
    write("greet.c", "not C at all\n");
    let finished = xlaunch.run(&["-v", &folder, "-w", "/src", image, "--", "make", "-s"]);
    assert_eq!(finished.code(), 2, "{finished}");
    assert!(finished.complaint().contains("greet.c:1"), "{finished}");
}

/// The image, made once and kept: making it takes minutes and the network.
fn debian_disk() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let image = root.join("target/test-disks/debian-build.img");
    if image.is_file() {
        return Some(image);
    }
    fs::create_dir_all(image.parent().unwrap()).unwrap();
    let output = Command::new(root.join("scripts/make-disk"))
        .arg("debian")
        .arg(&image)
        .args(["2G", "python3", "gcc", "libc6-dev", "make", "git"])
        .output()
        .unwrap();
    if output.status.success() {
        return Some(image);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    println!("skipped: {}", said.lines().last().unwrap_or_default());
    None
}
