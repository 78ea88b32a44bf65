//! Wake-ups under load: IPIs between CPUs, storms of timers, interrupts of a device, all at once on four CPUs.
//!
//! A wake-up that is lost shows as a group that stalls, so no time is asserted; the latest ones are printed.

use crate::disk::script;
use crate::launcher::{Program, compile_for_guest};
use tempfile::TempDir;

/// The program for the guest; see its head.
const STORM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/boot/guest/storm.rs");

/// Puts the counts of /proc/interrupts for one kind of interrupt in a sum.
const SUMS: &str = r#"sums() { awk '{ n = 0; for (i = 2; i <= 5; i++) n += $i; sub(":", "", $1); print what, $1, n }
    /virtio/ { print what, "disk", n }' what=$1 /proc/interrupts; }"#;

fn storm(xlaunch: &Program, seconds: u32) {
    let place = TempDir::new().unwrap();
    let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let (program, image) = (path("storm"), path("disk.img"));
    compile_for_guest(STORM, program.as_ref());
    script("scripts/make-disk", &["busybox", &image]);

    let script = format!(
        "{SUMS}; cat > /tmp/storm && chmod 755 /tmp/storm && sums before
        /tmp/storm {seconds} || exit
        sums after; cat /sys/devices/system/cpu/online
        dmesg | grep -E 'lockup|detected stall|self-detected|blocked for|[Ll]ost|purious|WARNING:|BUG:' || echo quiet"
    );
    let running = xlaunch.start(&["-c", "4", &image, "--", "sh", "-c", &script]);
    let finished = running.finish_with(std::fs::read(&program).unwrap());
    assert_eq!(finished.code(), 0, "{finished}");
    let said = finished.text();
    let sum = |when: &str, what: &str| -> u64 {
        let start = format!("{when} {what} ");
        let lines = said.lines().filter_map(|line| line.strip_prefix(&start));
        lines.map(|it| it.parse::<u64>().unwrap()).sum()
    };
    // Each of them did happen, or nothing was stressed: IPIs that wake a CPU or have it flush, timers, the disk.
    for what in ["CAL", "LOC", "disk"] {
        let more = sum("after", what) - sum("before", what);
        println!("{what}: {more} interrupts");
        assert!(more >= u64::from(seconds), "{what}: {more}: {finished}");
    }
    for line in said.lines().filter(|line| line.contains(" late")) {
        println!("{line}");
    }
    assert_eq!(
        said.lines().filter(|line| line.contains(" late")).count(),
        4
    );
    assert!(said.ends_with("0-3\nquiet\n"), "{finished}");
}

#[test]
fn no_wake_up_is_lost_in_a_storm() {
    if let Some(xlaunch) = Program::find() {
        storm(&xlaunch, 8);
    }
}

#[test]
fn long_no_wake_up_is_lost_in_a_minute_of_storm() {
    if let Some(xlaunch) = Program::find_for_long() {
        storm(&xlaunch, 60);
    }
}
