//! What in a kernel's log is a complaint.

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
const HARMLESS: [&str; 2] = [
    // It says how, not that something is.
    "TLB invalidation policy",
    // Nothing is measured where CPUID tells the TSC's frequency; this is what a good machine looks like.
    "Calibrating delay loop (skipped), value calculated using timer frequency",
];

/// The lines of `dmesg -r` that complain, but for those that contain something `allowed`, and the traces that do.
pub fn complaints<'a>(log: &'a str, allowed: &[&str]) -> Vec<&'a str> {
    let records: Vec<Record<'_>> = log.lines().map(record).collect();
    without_traces(&records, allowed)
        .into_iter()
        .filter(complains)
        .map(|record| record.text)
        .filter(|text| !allowed.iter().any(|it| text.contains(it)))
        .collect()
}

#[derive(Clone, Copy)]
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

/// The records outside traces; of traces, those in which nothing is allowed.
fn without_traces<'a>(records: &[Record<'a>], allowed: &[&str]) -> Vec<Record<'a>> {
    let mut rest = records;
    let mut kept = Vec::new();
    while let Some(first) = rest.first() {
        let ends = |record: &Record<'_>| record.text.contains("---[ end trace");
        let len = if first.text.contains("[ cut here ]") {
            rest.iter().position(ends).map_or(rest.len(), |at| at + 1)
        } else {
            1
        };
        let (block, after) = rest.split_at(len);
        let harmless = |record: &Record<'_>| allowed.iter().any(|it| record.text.contains(it));
        if len == 1 || !block.iter().any(harmless) {
            kept.extend(block);
        }
        rest = after;
    }
    kept
}

fn complains(record: &Record<'_>) -> bool {
    let text = record.text.to_lowercase();
    let harmless = HARMLESS.iter().any(|it| record.text.contains(it));
    record.level <= WARNING || (!harmless && COMPLAINTS.iter().any(|it| text.contains(it)))
}

#[test]
fn complaints_are_told_from_harmless_lines() {
    let bad = [
        "<4>[    0.1] anything at all",
        "<6>[    0.1] [Firmware Bug]: TSC_DEADLINE disabled due to Errata",
        "<5>[    0.1] tsc: Marking TSC unstable due to clocksource watchdog",
        "<6>[    0.1] ACPI Error: No handler",
    ];
    let good = [
        "<6>[    0.1] Linux version 6.1",
        "<6>[    0.1] Calibrating delay loop (skipped), value calculated using timer frequency.. 1",
    ];
    for line in bad {
        assert_eq!(complaints(line, &[]).len(), 1, "{line}");
        assert!(complaints(line, &["nothing", &line[4..]]).is_empty());
    }
    assert!(complaints(&good.join("\n"), &[]).is_empty());
}

#[test]
fn a_trace_is_allowed_as_a_whole() {
    let log = "<4>[ 1] ------------[ cut here ]------------\n<4>[ 1] WARNING: at msi.h:17 a+0x1\n<4>[ 1] RIP: 0010:a\n\
               <4>[ 1] ---[ end trace 0000000000000000 ]---\n<4>[ 2] after";
    assert_eq!(complaints(log, &["msi.h"]), ["[ 2] after"]);
    assert_eq!(complaints(log, &["other.h"]).len(), 5);
}
