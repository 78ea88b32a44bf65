//! The real-time clock's alarm and time, and the source of randomness.

use crate::launcher::Program;

/// The clock is set three days on and read back from the chip seconds later; then an alarm in two seconds.
const SCRIPT: &str = "set -e
    cd /sys/class/rtc/rtc0
    now=$(date +%s)
    date -s @$((now + 259200)) >/dev/null
    hwclock -w -u
    before=$(cat since_epoch)
    sleep 3
    echo set $((before - now)) moved $(($(cat since_epoch) - before))
    hwclock -r -u >/dev/null
    count() { sed -n \"s/^ *[89]: *\\([0-9]*\\) *\\([0-9]*\\) .*$1/\\1 + \\2/p\" /proc/interrupts; }
    rtc=$(($(count rtc0))) sci=$(($(count acpi)))
    echo +2 > wakealarm
    echo armed $(($(cat wakealarm) - $(cat since_epoch)))
    sleep 4
    echo rang $(($(count rtc0) - rtc)) $(($(count acpi) - sci)), armed: $(cat wakealarm)
    cat /sys/class/misc/hw_random/rng_current
    for read in 1 2; do head -c 32 /dev/hwrng | sha256sum; done";

/// With the HPET, which takes the RTC's interrupt over, Linux is told of an alarm by ACPI's fixed event, without it by the
/// interrupt.
#[test]
fn the_clock_stays_set_its_alarm_rings_and_no_two_runs_draw_the_same_numbers() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let mut drawn = Vec::new();
    for (append, rings) in [
        ("hpet=force", "rang 0 1, armed:"),
        ("hpet=disable", "rang 1 0, armed:"),
    ] {
        let finished = xlaunch.run(&["--append", append, "--", "sh", "-c", SCRIPT]);
        assert_eq!(finished.code(), 0, "{finished}");
        let said = finished.text();
        let lines: Vec<&str> = said.lines().collect();
        let [time, armed, rang, source, numbers @ ..] = &lines[..] else {
            panic!("{said}");
        };
        let words: Vec<&str> = time.split(' ').collect();
        let [_, set, _, moved] = words[..] else {
            panic!("{said}");
        };
        let number = |text: &str| text.parse::<i64>().unwrap();
        // A second may pass between two commands, and a busy host makes it several.
        assert!((259_200..259_210).contains(&number(set)), "{said}");
        assert!((3..10).contains(&number(moved)), "{said}");
        assert!(["armed 2", "armed 1"].contains(armed), "{said}");
        assert_eq!(*rang, rings, "{said}");
        assert_eq!(*source, "virtio_rng.0", "{said}");
        drawn.extend(numbers.iter().map(|it| (*it).to_owned()));
    }
    assert_eq!(drawn.len(), 4);
    drawn.sort();
    drawn.dedup();
    assert_eq!(drawn.len(), 4, "two draws are the same");
}
