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
    count() { sed -n 's/^ *8: *\\([0-9]*\\) *\\([0-9]*\\) .*rtc0/\\1 + \\2/p' /proc/interrupts; }
    before=$(($(count)))
    echo +2 > wakealarm
    echo armed $(($(cat wakealarm) - $(cat since_epoch)))
    sleep 4
    echo rang $(($(count) - before)), armed: $(cat wakealarm)
    cat /sys/class/misc/hw_random/rng_current
    for read in 1 2; do head -c 32 /dev/hwrng | sha256sum; done";

#[test]
fn the_clock_stays_set_its_alarm_rings_and_no_two_runs_draw_the_same_numbers() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let mut drawn = Vec::new();
    for _ in 0..2 {
        let said = xlaunch.shell_output(SCRIPT);
        let lines: Vec<&str> = said.lines().collect();
        let [time, armed, rang, source, numbers @ ..] = &lines[..] else {
            panic!("{said}");
        };
        // A second may pass between two commands, and a busy host makes it two.
        let words: Vec<&str> = time.split(' ').collect();
        let [_, set, _, moved] = words[..] else {
            panic!("{said}");
        };
        let number = |text: &str| text.parse::<i64>().unwrap();
        assert!((259_200..259_210).contains(&number(set)), "{said}");
        assert!((3..10).contains(&number(moved)), "{said}");
        assert!(["armed 2", "armed 1"].contains(armed), "{said}");
        assert_eq!(*rang, "rang 1, armed:", "{said}");
        assert_eq!(*source, "virtio_rng.0", "{said}");
        drawn.extend(numbers.iter().map(|it| (*it).to_owned()));
    }
    assert_eq!(drawn.len(), 4);
    drawn.sort();
    drawn.dedup();
    assert_eq!(drawn.len(), 4, "two draws are the same");
}
