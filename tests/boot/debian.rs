//! Debian 12 itself: its own kernels, unmodified, and its own userland.

use crate::disk::script;
use crate::launcher::{Finished, Program};
use std::fs;
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

/// The image, made once and kept: making it takes minutes and the network.
fn debian_disk() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let image = root.join("target/test-disks/debian.img");
    if image.is_file() {
        return Some(image);
    }
    fs::create_dir_all(image.parent().unwrap()).unwrap();
    let output = Command::new(root.join("scripts/make-disk"))
        .arg("debian")
        .arg(&image)
        .output()
        .unwrap();
    if output.status.success() {
        return Some(image);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    println!("skipped: {}", said.lines().last().unwrap_or_default());
    None
}
