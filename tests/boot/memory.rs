//! Sizes of memory, and what of it the host gives.

use crate::launcher::Program;
use std::fs;
use std::io::{BufRead, BufReader, Write};

const MIB: u64 = 1 << 20;

/// What a machine of this size commits at most before anything runs in it: kernel and initrd, what Linux keeps of each
/// page (64 bytes, and hash tables that grow with memory), and room for ourselves.
fn bound(memory: u64) -> u64 {
    200 * MIB + memory / 4096 * 80
}

#[test]
fn memory_is_what_was_asked_for_and_committed_as_it_is_touched() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    for (size, memory) in [("64M", 64 * MIB), ("8G", 8192 * MIB), ("64G", 65536 * MIB)] {
        let script = "grep -m1 MemTotal /proc/meminfo; read -r _; \
                      n=$(($(sed -n 's/MemFree: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo) / 2)); \
                      [ $n -lt 16384 ] || n=16384; head -c ${n}k /dev/zero > /tmp/touched && sync && echo touched";
        let mut running = xlaunch.start(&["-m", size, "--", "sh", "-c", script]);
        let mut lines = BufReader::new(running.child().stdout.take().unwrap()).lines();
        let mut line = || lines.next().and_then(Result::ok).unwrap_or_default();
        let words = line();
        let total: u64 = words
            .split_whitespace()
            .nth(1)
            .map_or(0, |it| it.parse().unwrap());
        let total = total * 1024;
        // The kernel counts neither itself nor what it keeps of the pages.
        assert!(
            total <= memory && total > memory / 4 * 3 - 24 * MIB,
            "-m {size}: {words}"
        );
        let committed = resident(running.child().id());
        assert!(
            committed < bound(memory),
            "-m {size} commits {} MiB",
            committed / MIB
        );
        writeln!(running.child().stdin.as_ref().unwrap()).unwrap();
        assert_eq!(line(), "touched", "-m {size}");
        let finished = running.finish();
        assert_eq!(finished.code(), 0, "-m {size}: {finished}");
        println!(
            "-m {size}: {} MiB resident of {} MiB at most",
            committed / MIB,
            bound(memory) / MIB
        );
    }
}

/// Bytes of the process that lie in the host's memory.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
