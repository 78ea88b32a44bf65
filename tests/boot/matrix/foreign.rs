//! Guests that no session speaks to: they look around, tell the console, and power off. Debian's 32-bit kernels, which
//! cannot run our init, and its real-time kernel with them.

use super::report::{Report, SURVEY};
use super::{Row, unix_time};
use crate::debian::fetched;
use crate::disk::busybox_disk;
use crate::launcher::{Finished, Program};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The exit code of a guest that ends before its command does.
const DIED: i32 = 123;
/// The first process of such a guest.
const INIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/boot/guest/init.sh");

/// Puts the survey and the process that runs it into a list for guest/build-initrd.
pub fn survey_list(place: &TempDir) -> PathBuf {
    let survey = place.path().join("survey.sh");
    fs::write(&survey, SURVEY).unwrap();
    let list = place.path().join("survey.list");
    let text = format!(
        "file /survey.sh 644 {}\nfile /survey 755 {INIT}\n",
        survey.display()
    );
    fs::write(&list, text).unwrap();
    list
}

/// Builds an initrd from these lists, with another busybox where one is given; the first process is then the survey.
pub fn initrd(place: &TempDir, name: &str, busybox: Option<&Path>, lists: &[&Path]) -> PathBuf {
    let output = place.path().join(name);
    let builder = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest/build-initrd");
    let mut command = Command::new(builder);
    command.arg(&output).args(lists);
    if let Some(busybox) = busybox {
        command.env("BUSYBOX", busybox).env("INIT", INIT);
    }
    let built = command.output().unwrap();
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{said}");
    output
}

/// The report that a guest gave on its console.
pub fn told_on_console(finished: &Finished) -> Report {
    assert_eq!(finished.code(), DIED, "{finished}");
    let said = finished.complaint();
    assert!(said.contains("the guest powered off before"), "{finished}");
    let start = said.find("== clocks");
    let start = start.unwrap_or_else(|| panic!("no report: {finished}"));
    Report::read(&said[start..])
}

/// Boots one of Debian's kernels with its modules.
fn boot(row: &Row<'_>, flavour: &str, busybox: Option<&str>) {
    let Some(xlaunch) = Program::find_for_long() else {
        return;
    };
    let Some(kernels) = fetched("kernel", &[flavour]) else {
        return;
    };
    let busybox = match busybox.map(|package| fetched("files", &[package])) {
        Some(None) => return,
        Some(Some(directories)) => directories[0].join("bin/busybox"),
        None => PathBuf::from("/bin/busybox"),
    };
    let place = TempDir::new().unwrap();
    let lists = [survey_list(&place), kernels[0].join("list")];
    let initrd = initrd(
        &place,
        "initrd",
        Some(&busybox),
        &lists.each_ref().map(PathBuf::as_path),
    );
    let image = busybox_disk(&place);
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let [kernel, initrd, image] = [
        text(&kernels[0].join("vmlinuz")),
        text(&initrd),
        text(&image),
    ];
    let start = unix_time();
    let finished = xlaunch.run(&[
        "--kernel",
        &kernel,
        "--initrd",
        &initrd,
        "--append",
        "quiet",
        "--verbose",
        &image,
    ]);
    let report = told_on_console(&finished);
    row.compare(report, "/mnt", (start, unix_time()));
}

/// Two levels of page tables, 32-bit physical addresses, no NX.
#[test]
fn long_debians_32_bit_kernel_without_pae() {
    let row = Row {
        // The window for 64-bit BARs lies where such a kernel has no addresses.
        allowed: &[
            "ignored, not CPU addressable",
            // Its page tables have no place for the bit.
            "NX (Execute Disable) protection cannot be enabled: non-PAE kernel",
        ],
        ..Row::default()
    };
    boot(&row, "686", Some("busybox-static:i386"));
}

/// Three levels of page tables.
#[test]
fn long_debians_32_bit_kernel_with_pae() {
    boot(&Row::default(), "686-pae", Some("busybox-static:i386"));
}

/// Interrupts are threads, spin locks sleep.
#[test]
fn long_debians_real_time_kernel() {
    boot(&Row::default(), "rt-amd64", None);
}
