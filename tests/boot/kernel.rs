//! What the bundled kernel says about the machine that it finds itself on.

use crate::launcher::Program;

/// Levels of the kernel's log, from linux/kern_levels.h: 4 is a warning, less is worse.
const WARNING: u8 = 4;

/// Words of complaint that the kernel prints at milder levels too: about firmware, timers, the TSC and interrupts.
const COMPLAINTS: [&str; 31] = [
    "firmware bug",
    "firmware warn",
    "acpi error",
    "acpi warning",
    "acpi bios",
    "mp-bios bug",
    "unstable",
    "tsc_deadline disabled",
    "tsc: fast tsc calibration failed",
    "unable to calibrate",
    "clocksource watchdog",
    "timekeeping watchdog",
    "skipped",
    "lost",
    "spurious",
    "nobody cared",
    "no irq handler",
    "can't find",
    "cannot",
    "could not",
    "unable",
    "failed",
    "error",
    "invalid",
    "warning",
    "bug:",
    "detected stall",
    "self-detected",
    "lockup",
    "timed out",
    "call trace",
];

/// Harmless lines that contain such words.
const HARMLESS: [&str; 1] = [
    // Nothing is measured where CPUID tells the TSC's frequency; this is what a good machine looks like.
    "Calibrating delay loop (skipped), value calculated using timer frequency",
];

struct Record<'a> {
    level: u8,
    text: &'a str,
}

/// A line of `dmesg -r`: `<facility and level>[time] text`.
fn record(line: &str) -> Record<'_> {
    let (number, text) = line
        .strip_prefix('<')
        .and_then(|rest| rest.split_once('>'))
        .unwrap_or_else(|| panic!("no record of the log: {line}"));
    let number: u32 = number.parse().unwrap();
    Record {
        level: (number & 7) as u8,
        text,
    }
}

fn complains(record: &Record<'_>) -> bool {
    let text = record.text.to_lowercase();
    let harmless = HARMLESS.iter().any(|it| record.text.contains(it));
    record.level <= WARNING || (!harmless && COMPLAINTS.iter().any(|it| text.contains(it)))
}

#[test]
fn the_kernels_log_has_no_warning_and_no_complaint_about_firmware_or_clocks() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let log = xlaunch.shell_output("sleep 2; dmesg -r");
    let records: Vec<Record<'_>> = log.lines().map(record).collect();
    let find = |text: &str| records.iter().any(|record| record.text.contains(text));
    assert!(find("Linux version"), "the log has lost its start:\n{log}");
    let complaints: Vec<&str> = records
        .iter()
        .filter(|record| complains(record))
        .map(|record| record.text)
        .collect();
    assert!(complaints.is_empty(), "{complaints:#?}\nin\n{log}");
}

#[test]
fn complaints_are_told_from_harmless_lines() {
    for bad in [
        "<4>[    0.1] anything at all",
        "<6>[    0.1] [Firmware Bug]: TSC_DEADLINE disabled due to Errata",
        "<5>[    0.1] tsc: Marking TSC unstable due to clocksource watchdog",
        "<6>[    0.1] ACPI Error: No handler",
    ] {
        assert!(complains(&record(bad)), "{bad}");
    }
    for good in [
        "<6>[    0.1] Linux version 6.1",
        "<6>[    0.1] Calibrating delay loop (skipped), value calculated using timer frequency.. 1",
    ] {
        assert!(!complains(&record(good)), "{good}");
    }
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
