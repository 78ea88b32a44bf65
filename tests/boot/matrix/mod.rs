//! The matrix: kernels and their options, each reaching userspace with working interrupts, disk and clock.

mod cpus;
mod foreign;
mod kexec;
mod report;
mod rtc;

use crate::disk::busybox_disk;
use crate::dmesg::complaints;
use crate::launcher::Program;
use report::{Pace, Report, on_root_disk};
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// What the bundled kernel is told, and how that shows.
struct Row<'a> {
    /// `--append`.
    append: &'a str,
    /// `--memory`, and what of it the kernel may call its own, in KiB.
    memory: (&'a str, std::ops::Range<u64>),
    /// `--cpus`, and which are online.
    cpus: (&'a str, &'a str),
    /// The clock source.
    source: &'a str,
    /// What CPU 0 takes its timer events from.
    event: &'a str,
    /// What these come by, in /proc/interrupts.
    timer: &'a [&'a str],
    /// The chip that the disk interrupts through, in /proc/interrupts.
    disk: &'a str,
    pace: Pace,
    /// What the kernel may complain of, each for a reason.
    allowed: &'a [&'a str],
}

/// What a host that is busy with other things makes a kernel say: a CPU of the guest stood still for a moment.
const BUSY_HOST: [&str; 3] = [
    "CE: hpet increased min_delta_ns",
    "hrtimer: interrupt took",
    // Measured against ten milliseconds of the 8254, by 32-bit kernels only.
    "PM-Timer running at invalid rate",
];

impl Default for Row<'_> {
    fn default() -> Self {
        Self {
            append: "",
            memory: ("1G", 950_000..1_048_576),
            cpus: ("2", "0-1"),
            source: "tsc",
            event: "lapic-deadline",
            timer: &["Local timer interrupts"],
            disk: "PCI-MSI",
            pace: Pace::Kept,
            allowed: &[],
        }
    }
}

impl Row<'_> {
    /// Boots the bundled kernel from a disk and compares what the guest finds with the row.
    fn check(&self) -> Option<Report> {
        Program::find().map(|xlaunch| self.check_with(&xlaunch))
    }

    fn check_with(&self, xlaunch: &Program) -> Report {
        let place = TempDir::new().unwrap();
        let image = busybox_disk(&place);
        let (script, image) = (on_root_disk(), image.to_str().unwrap());
        let machine = ["-m", self.memory.0, "-c", self.cpus.0];
        let append = ["--append", self.append, image];
        let command = ["--", "sh", "-c", &script];
        let start = unix_time();
        let finished = xlaunch.run(&[&machine[..], &append, &command].concat());
        let run = (start, unix_time());
        assert_eq!(finished.code(), 0, "{finished}");
        self.compare(Report::read(&finished.text()), "/", run)
    }

    /// Compares a report of a guest that has the disk at `mount`.
    fn compare(&self, report: Report, mount: &str, run: (f64, f64)) -> Report {
        let [source, event] = report.words("clocks");
        assert_eq!((source, event), (self.source, self.event));
        assert_eq!(report.words("cpus"), [self.cpus.1]);
        let [memory] = report.words("memory").map(str::parse::<u64>);
        let memory = memory.unwrap();
        assert!(self.memory.1.contains(&memory), "{memory} KiB");
        report.check_time(self.pace, run);
        let ticks = report.came("before", "after", self.timer);
        assert!(ticks >= 2, "{ticks} timer interrupts in a second");
        report.check_disk(mount, self.disk);
        let allowed = [&BUSY_HOST, self.allowed].concat();
        let log = report.log();
        let complaints = complaints(&log, &allowed);
        assert!(complaints.is_empty(), "{complaints:#?}\nin\n{log}");
        report
    }
}

fn unix_time() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_secs_f64()
}

#[test]
fn the_kernel_finds_everything_by_itself() {
    Row::default().check();
}

/// The MP table stands in for the MADT, and PCI is probed.
#[test]
fn without_acpi() {
    Row {
        append: "acpi=off",
        ..Row::default()
    }
    .check();
}

/// The 8259 pair interrupts the first CPU by LINT0; the others keep their local APICs.
#[test]
fn without_the_ioapic() {
    let report = Row {
        append: "noapic",
        allowed: &[
            SETTING_ELCR,
            "Not enabling interrupt remapping due to skipped IO-APIC setup",
        ],
        ..Row::default()
    }
    .check();
    if let Some(report) = report {
        assert!(report.came("before", "after", &["XT-PIC", "ttyS1"]) > 0);
    }
}

/// Without a local APIC there is neither a second CPU, for want of a way to start it, nor an MSI.
#[test]
fn without_the_local_apic() {
    Row {
        append: "nolapic",
        cpus: ("2", "0"),
        event: "hpet",
        timer: &["XT-PIC", "timer"],
        disk: "XT-PIC",
        allowed: &[
            SETTING_ELCR,
            // The kernel warns of itself: its drivers ask for the MSIs that it has just given up.
            "drivers/pci/msi/msi.h",
        ],
        ..Row::default()
    }
    .check();
}

/// Linux tells that it corrects the ELCR: it begins with the SCI alone, and adds each PCI interrupt as it routes it.
const SETTING_ELCR: &str = "ACPI: setting ELCR to 0200 (from 0ea0)";

/// The oldest machine there is: no ACPI, no I/O APIC, no MSI. The disk's interrupt is a wire to the 8259 pair, where
/// firmware has routed it.
#[test]
fn with_nothing_but_the_8259_pair() {
    Row {
        append: "acpi=off noapic nolapic pci=nomsi",
        cpus: ("2", "0"),
        event: "pit",
        timer: &["XT-PIC", "timer"],
        disk: "XT-PIC",
        ..Row::default()
    }
    .check();
}

#[test]
fn with_the_local_apics_in_memory() {
    let report = Row {
        append: "nox2apic",
        ..Row::default()
    }
    .check();
    if let Some(report) = report {
        assert!(!report.log().contains("x2apic enabled"));
    }
}

#[test]
fn without_message_signalled_interrupts() {
    Row {
        append: "pci=nomsi",
        disk: "IO-APIC",
        ..Row::default()
    }
    .check();
}

/// PCI's windows are guessed from what e820 leaves over.
#[test]
fn without_the_bridges_resources() {
    Row {
        append: "pci=nocrs",
        ..Row::default()
    }
    .check();
}

#[test]
fn time_by_the_hpet() {
    Row {
        append: "clocksource=hpet",
        source: "hpet",
        ..Row::default()
    }
    .check();
}

#[test]
fn time_by_the_acpi_timer() {
    Row {
        append: "clocksource=acpi_pm",
        source: "acpi_pm",
        ..Row::default()
    }
    .check();
}

#[test]
fn time_by_counted_ticks() {
    Row {
        append: "clocksource=jiffies nohz=off highres=off",
        source: "jiffies",
        pace: Pace::Ticks,
        ..Row::default()
    }
    .check();
}

#[test]
fn with_the_local_apics_timer_counting_down() {
    Row {
        append: "lapic=notscdeadline",
        event: "lapic",
        ..Row::default()
    }
    .check();
}

#[test]
fn without_the_hpet() {
    let report = Row {
        append: "hpet=disable",
        ..Row::default()
    }
    .check();
    if let Some(report) = report {
        assert!(!report.log().contains("hpet0: at MMIO"));
    }
}

#[test]
fn in_64_mib() {
    Row {
        memory: ("64M", 24_000..65_536),
        ..Row::default()
    }
    .check();
}

/// Most of it lies above 4 GiB.
#[test]
fn in_8_gib() {
    Row {
        memory: ("8G", 7_900_000..8_388_608),
        ..Row::default()
    }
    .check();
}

#[test]
fn on_one_cpu() {
    Row {
        cpus: ("1", "0"),
        ..Row::default()
    }
    .check();
}

#[test]
fn on_four_cpus() {
    Row {
        cpus: ("4", "0-3"),
        ..Row::default()
    }
    .check();
}

#[test]
fn on_sixteen_cpus() {
    Row {
        cpus: ("16", "0-15"),
        ..Row::default()
    }
    .check();
}

#[test]
fn long_on_sixty_four_cpus() {
    if let Some(xlaunch) = Program::find_for_long() {
        let row = Row {
            cpus: ("64", "0-63"),
            ..Row::default()
        };
        row.check_with(&xlaunch);
    }
}
