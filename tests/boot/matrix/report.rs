//! What a guest found when it looked around (tests/boot/guest/survey.sh), and what any machine must show.

use std::collections::BTreeMap;

/// Runs in the guest, with a directory on the disk as its argument.
pub const SURVEY: &str = include_str!("../guest/survey.sh");

/// The script as a command of a session whose root is the disk.
pub fn on_root_disk() -> String {
    format!("set /root\n{SURVEY}")
}

/// A guest's report.
pub struct Report {
    sections: BTreeMap<String, Vec<String>>,
}

/// How a guest's clock may stand to ours.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// It shows what ours shows.
    Kept,
    /// Ticks that a busy host delays are lost, so that it may be slow; never fast.
    Ticks,
}

impl Report {
    /// Takes a report apart. What stands in front of it is no part of it.
    pub fn read(text: &str) -> Self {
        let mut sections: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut current = None;
        for line in text.lines().map(|line| line.trim_end_matches('\r')) {
            if let Some(name) = line.strip_prefix("== ") {
                current = Some(sections.entry(name.to_owned()).or_default());
            } else if let Some(section) = &mut current {
                section.push(line.to_owned());
            }
        }
        assert!(
            sections.contains_key("end"),
            "the report has no end:\n{text}"
        );
        Self { sections }
    }

    /// The lines of a section.
    pub fn lines(&self, section: &str) -> &[String] {
        let lines = self.sections.get(section);
        lines.unwrap_or_else(|| panic!("no section {section} in the report"))
    }

    /// The lines of a section that are one word each.
    pub fn words<const COUNT: usize>(&self, section: &str) -> [&str; COUNT] {
        let words: Vec<&str> = self.lines(section).iter().map(String::as_str).collect();
        let found = format!("{section}: {words:?}");
        words.try_into().unwrap_or_else(|_| panic!("{found}"))
    }

    /// How often the interrupts whose line in a section contains all `words` have come, on all CPUs together. `None`
    /// where there is no such line.
    fn interrupts(&self, section: &str, words: &[&str]) -> Option<u64> {
        let lines = self.lines(section).iter();
        let counts = lines
            .filter(|line| words.iter().all(|word| line.contains(word)))
            .map(|line| {
                let columns = line.split_whitespace().skip(1);
                columns.map_while(|it| it.parse::<u64>().ok()).sum()
            });
        let counts: Vec<u64> = counts.collect();
        (!counts.is_empty()).then(|| counts.iter().sum())
    }

    /// How often they came from one section to another.
    pub fn came(&self, from: &str, to: &str, words: &[&str]) -> u64 {
        let count = |section| {
            self.interrupts(section, words)
                .unwrap_or_else(|| panic!("no {words:?} in {:#?}", self.lines(section)))
        };
        count(to) - count(from)
    }

    /// The disk was written and read with interrupts that came this way: a name of a chip in /proc/interrupts.
    pub fn check_disk(&self, mount: &str, chip: &str) {
        let lines = self.lines("disk");
        assert_eq!(
            lines.first().map(String::as_str),
            Some("same"),
            "{lines:#?}"
        );
        assert!(lines.contains(&format!("{mount} ext4")), "{lines:#?}");
        // MSI-X has a line for each vector, INTx one for the function.
        let came = self.came("after", "read", &[chip, "virtio0"]);
        assert!(
            came >= 4,
            "{came} interrupts of the disk: {:#?}",
            self.lines("read")
        );
    }

    /// A second's sleep took a second, by uptime and by date, and the date is ours: between these two times in seconds of
    /// 1970, the start and the end of the run.
    pub fn check_time(&self, pace: Pace, (start, end): (f64, f64)) {
        let times: [f64; 4] = self
            .words("time")
            .map(|it| it.parse().unwrap_or_else(|_| panic!("{it}")));
        let [up, date, later, later_date] = times;
        let (slept, moved) = (later - up, later_date - date);
        // Uptime is told in hundredths. A busy host may add as much as the whole run took.
        let run = end - start;
        assert!((0.98..run).contains(&slept), "a second took {slept} s");
        assert!(
            (moved - slept).abs() <= 1.0,
            "{moved} s by date are {slept} s"
        );
        assert!(later <= run, "up for {later} s in a run of {run} s");
        // The RTC has whole seconds, and the kernel reads it once.
        assert!(later_date <= end + 2.0, "{later_date} is after {end}");
        assert!(
            pace == Pace::Ticks || date >= start - 2.0,
            "{date} is before {start}"
        );
    }

    /// The kernel's log, as `dmesg -r` prints it.
    pub fn log(&self) -> String {
        self.lines("log").join("\n")
    }
}

#[test]
fn a_report_is_taken_apart() {
    let text = "noise\n== before\n  4:  1  2  IO-APIC  4-edge  ttyS0\r\nLOC:  5  6  Local timer interrupts\n\
                == after\n  4:  3  4  IO-APIC  4-edge  ttyS0\nLOC:  7  9  Local timer interrupts\n== end\n";
    let report = Report::read(text);
    assert_eq!(report.came("before", "after", &["IO-APIC", "ttyS0"]), 4);
    assert_eq!(report.came("before", "after", &["LOC:"]), 5);
    assert_eq!(report.interrupts("after", &["XT-PIC"]), None);
}
