//! A kernel that starts the next one by itself: the machine is not reset in between.

use super::foreign::{initrd, survey_list, told_on_console};
use super::{Row, unix_time};
use crate::debian::fetched;
use crate::disk::busybox_disk;
use crate::launcher::Program;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Debian's kexec, and the libraries that a guest has not.
const PACKAGES: [&str; 9] = [
    "kexec-tools",
    "libxenmisc4.17",
    "libxencall1",
    "libxendevicemodel1",
    "libxenevtchn1",
    "libxenforeignmemory1",
    "libxengnttab1",
    "libxentoolcore1",
    "libxentoollog1",
];
/// The bundled kernel as guest/build leaves it.
const KERNEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/guest/bzImage");

/// The first kernel's first process. The clock is set a day on, which the next kernel must find in the chip.
const FIRST: &str = "#!/bin/sh
    set -e
    mount -t proc proc /proc
    mount -t sysfs sysfs /sys
    mount -t devtmpfs dev /dev
    exec </dev/null >/dev/console 2>&1
    date -s @$(($(date +%s) + 86400)) >/dev/null
    hwclock -w -u
    kexec -c --no-checks -l /boot/bzImage --initrd=/boot/initrd --append='console=ttyS0 panic=-1 quiet rdinit=/survey'
    kexec -e";
const DAY: f64 = 86_400.0;

/// A list of what the first kernel's initrd holds for the next: where it is here, and where in the guest.
fn kexec_list(place: &TempDir, packages: &[PathBuf], second: &Path) -> PathBuf {
    let program = packages[0].join("sbin/kexec");
    let libraries = packages.iter().map(|package| {
        package
            .join("usr/lib/x86_64-linux-gnu")
            .display()
            .to_string()
    });
    let ldd = Command::new("ldd")
        .arg(&program)
        .env("LD_LIBRARY_PATH", libraries.collect::<Vec<_>>().join(":"))
        .output()
        .unwrap();
    let needed = String::from_utf8(ldd.stdout).unwrap();
    assert!(!needed.contains("not found"), "{needed}");
    let first = place.path().join("first.sh");
    fs::write(&first, FIRST).unwrap();
    let mut list = format!(
        "file /first 755 {}\nfile /sbin/kexec 755 {}\nfile /boot/bzImage 644 {KERNEL}\nfile /boot/initrd 644 {}\n",
        first.display(),
        program.display(),
        second.display()
    );
    let paths = needed
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    for path in paths {
        let name = path.rsplit('/').next().unwrap();
        let directory = if path.starts_with("/lib64/") {
            "/lib64"
        } else {
            "/lib/x86_64-linux-gnu"
        };
        list += &format!("file {directory}/{name} 755 {path}\n");
    }
    let file = place.path().join("kexec.list");
    fs::write(&file, list).unwrap();
    file
}

#[test]
fn a_kernel_starts_the_next() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let Some(packages) = fetched("files", &PACKAGES) else {
        return;
    };
    let place = TempDir::new().unwrap();
    let second = initrd(&place, "second", None, &[&survey_list(&place)]);
    let list = kexec_list(&place, &packages, &second);
    let first = initrd(&place, "first", None, &[&list]);
    let image = busybox_disk(&place);
    let start = unix_time();
    let (first, image) = (first.to_str().unwrap(), image.to_str().unwrap());
    let append = "quiet rdinit=/first";
    let finished = xlaunch.run(&["--verbose", "--initrd", first, "--append", append, image]);
    let report = told_on_console(&finished);
    let row = Row {
        // The old kernel's timer interrupted while interrupts were off: SDM volume 3, 11.4.7.2 keeps it for the new one.
        allowed: &["Spurious LAPIC timer interrupt on cpu 0"],
        ..Row::default()
    };
    row.compare(report, "/mnt", (start + DAY, unix_time() + DAY));
}
