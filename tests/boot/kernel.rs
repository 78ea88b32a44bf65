//! What the bundled kernel says about the machine that it finds itself on.

use crate::dmesg::complaints;
use crate::launcher::Program;

#[test]
fn the_kernels_log_has_no_warning_and_no_complaint_about_firmware_or_clocks() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let log = xlaunch.shell_output("sleep 2; dmesg -r");
    assert!(
        log.contains("Linux version"),
        "the log has lost its start:\n{log}"
    );
    let complaints = complaints(&log, &[]);
    assert!(complaints.is_empty(), "{complaints:#?}\nin\n{log}");
}

#[test]
fn the_guests_clocks_run_at_the_hosts_pace() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let script = "cat /sys/devices/system/clocksource/clocksource0/current_clocksource; \
                  cut -d' ' -f1 /proc/uptime; date +%s; sleep 5; cut -d' ' -f1 /proc/uptime; date +%s";
    let before = unix_time();
    let output = xlaunch.shell_output(script);
    let after = unix_time();
    let words: Vec<&str> = output.split_whitespace().collect();
    let [source, up, date, later, later_date] = words[..] else {
        panic!("{output}");
    };
    assert_eq!(source, "tsc");
    let slept = number(later) - number(up);
    // The shell and a busy host take their part; a clock that is wrong is wrong by more.
    assert!((5.0..8.0).contains(&slept), "5 s took {slept} s");
    // The RTC has whole seconds, and the kernel reads it once.
    let (date, later_date) = (number(date), number(later_date));
    assert!(
        before - 2.0 <= date && later_date <= after + 2.0,
        "{output}"
    );
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or_else(|_| panic!("{text}"))
}

fn unix_time() -> f64 {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
}
