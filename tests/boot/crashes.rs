//! Machines that are killed while they write: what was synced is there afterwards, and nothing lies about.

use crate::disk::{busybox_disk, said, state};
use crate::launcher::{Program, Running};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Writes numbered records, each synced before it is reported on standard output.
const RECORDS: &str = "n=0; while :; do n=$((n+1)); echo record $n > /root/r$n && sync /root/r$n /root && echo $n; done";

/// Runs that writer with `how` before the image until it has reported some records and `more` has passed; then kills it as hard
/// as can be. Gives the last record reported.
fn killed_writer(xlaunch: &Program, how: &[&str], image: &str, tmp: &Path, more: Duration) -> u32 {
    let mut command = xlaunch.command(&[how, &[image, "--", "sh", "-c", RECORDS]].concat());
    command.env("TMPDIR", tmp);
    let mut running = writer(&mut command);
    let mut lines = reported(&mut running);
    let Some(first) = lines.next() else {
        panic!("{}", running.finish());
    };
    std::thread::sleep(more);
    running.child().kill().unwrap();
    // What it had reported before it died is still in the pipe.
    lines.last().unwrap_or(first)
}

fn writer(command: &mut Command) -> Running {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Running::spawn(command, Duration::from_secs(300))
}

/// The numbers that a writer reports. The last may be cut off, and is a smaller one then.
fn reported(running: &mut Running) -> impl Iterator<Item = u32> + use<> {
    let stdout = running.child().stdout.take().unwrap();
    let lines = BufReader::new(stdout).lines();
    lines.map(|line| line.unwrap().parse().unwrap())
}

/// Another moment for each round: spread over about half a second, the same in each run of the tests.
fn moment(round: u64) -> Duration {
    Duration::from_millis(round.wrapping_mul(0x9e37_79b9) % 541)
}

/// Kills writers with `--keep` and looks at what is left each time.
fn kill_writers(rounds: u64) {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let (place, tmp) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let pristine = busybox_disk(&place);
    let image = place.path().join("image");
    let name = image.to_str().unwrap();
    for round in 0..rounds {
        fs::copy(&pristine, &image).unwrap();
        let last = killed_writer(&xlaunch, &["--keep"], name, tmp.path(), moment(round));
        let check = Command::new("/usr/sbin/e2fsck")
            .args(["-p", name])
            .output()
            .unwrap();
        assert!(
            matches!(check.status.code(), Some(0 | 1)),
            "round {round}: {check:?}"
        );
        let check = Command::new("/usr/sbin/e2fsck")
            .args(["-fn", name])
            .output()
            .unwrap();
        assert_eq!(check.status.code(), Some(0), "round {round}: {check:?}");
        let dumped = place.path().join("dumped");
        fs::create_dir(&dumped).unwrap();
        let rdump = format!("rdump /root {}", dumped.to_str().unwrap());
        said("/usr/sbin/debugfs", &["-R", &rdump, name]);
        for record in 1..=last {
            let path = dumped.join(format!("root/r{record}"));
            let text = fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(
                text,
                format!("record {record}\n"),
                "round {round}, of {last}"
            );
        }
        fs::remove_dir_all(&dumped).unwrap();
        assert_eq!(
            fs::read_dir(tmp.path()).unwrap().count(),
            0,
            "round {round}"
        );
    }
}

#[test]
fn no_synced_record_is_lost_when_a_machine_is_killed() {
    kill_writers(3);
}

#[test]
fn long_no_synced_record_is_lost_in_200_kills() {
    if Program::find_for_long().is_some() {
        kill_writers(200);
    }
}

/// The same over a named overlay, which every round goes on with; and the image itself stays as it is.
fn kill_overlay_writers(rounds: u64) {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let (place, tmp) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let image = busybox_disk(&place);
    let before = state(&image);
    let overlay = place.path().join("overlay");
    let (name, overlay) = (image.to_str().unwrap(), overlay.to_str().unwrap());
    for round in 0..rounds {
        let how = ["--overlay", overlay];
        let last = killed_writer(&xlaunch, &how, name, tmp.path(), moment(round));
        let script = format!(
            "for n in $(seq {last}); do test \"$(cat /root/r$n)\" = \"record $n\" || echo lost $n; done
             rm /root/r*; sync; dmesg | grep -i 'ext4.*error'; echo checked"
        );
        let finished = xlaunch.run(&["--overlay", overlay, name, "--", "sh", "-c", &script]);
        assert_eq!(
            finished.text(),
            "checked\n",
            "round {round} of {last}: {finished}"
        );
        assert_eq!(
            fs::read_dir(tmp.path()).unwrap().count(),
            0,
            "round {round}"
        );
    }
    assert!(before == state(&image), "the image has changed");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2);
}

#[test]
fn an_overlay_keeps_every_synced_record_through_kills() {
    kill_overlay_writers(2);
}

#[test]
fn long_an_overlay_keeps_every_synced_record_through_ten_kills() {
    if Program::find_for_long().is_some() {
        kill_overlay_writers(10);
    }
}

/// The files without a name in a directory that a process holds.
fn nameless(process: u32, dir: &Path) -> Vec<PathBuf> {
    let held = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let held = held.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    let here =
        |path: &PathBuf| path.starts_with(dir) && path.to_string_lossy().ends_with("(deleted)");
    held.filter(here).collect()
}

#[test]
fn throwaway_changes_are_gone_when_a_machine_is_killed() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let (place, tmp) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let image = busybox_disk(&place);
    let before = state(&image);
    let mut command = xlaunch.command(&[image.to_str().unwrap(), "--", "sh", "-c", RECORDS]);
    command.env("TMPDIR", tmp.path());
    let mut running = writer(&mut command);
    reported(&mut running).next().unwrap();
    let process = running.child().id();
    assert_eq!(
        nameless(process, tmp.path()).len(),
        1,
        "they lie where they should"
    );
    assert_eq!(
        fs::read_dir(tmp.path()).unwrap().count(),
        0,
        "without a name"
    );
    running.child().kill().unwrap();
    running.child().wait().unwrap();
    assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 0);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    assert!(before == state(&image), "the image has changed");
}
