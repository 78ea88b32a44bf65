//! Several CPUs that work on the same memory at the same time.

use crate::launcher::{Program, compile_for_guest};
use tempfile::TempDir;

/// A program for the guest that contends for locks; see its head.
const CONTEND: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/boot/guest/contend.rs");

#[test]
fn all_cpus_are_listed_and_run() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    for cpus in ["1", "2", "4"] {
        let script = "grep -c ^processor /proc/cpuinfo; cat /sys/devices/system/cpu/online; \
                      for cpu in $(seq 0 $(($(nproc) - 1))); do taskset $((1 << cpu)) cut -d' ' -f39 /proc/self/stat; done";
        let finished = xlaunch.run(&["-c", cpus, "--", "sh", "-c", script]);
        let last = cpus.parse::<u32>().unwrap() - 1;
        let online = if last == 0 {
            "0".to_owned()
        } else {
            format!("0-{last}")
        };
        // Where each program ran that was bound to one CPU.
        let ran: String = (0..=last).map(|cpu| format!("{cpu}\n")).collect();
        assert_eq!(
            finished.text(),
            format!("{cpus}\n{online}\n{ran}"),
            "{finished}"
        );
    }
}

/// Two processes add to a number in a file; the lock is a directory that only one of them can make.
#[test]
fn two_processes_share_a_lock() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let script = "cd /tmp; echo 0 > count
        add() {
            for round in $(seq 60); do
                until mkdir lock 2>/dev/null; do :; done
                read -r count < count; echo $((count + 1)) > count
                rmdir lock
            done
        }
        add & add & wait; cat count";
    assert_eq!(xlaunch.shell_output(script), "120\n");
}

/// Threads on two CPUs contend for every kind of lock there is: LOCK prefixes, compare-and-exchange, futexes, and the order of
/// plain stores and loads.
#[test]
fn locks_atomics_and_futexes_hold_between_two_cpus() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let place = TempDir::new().unwrap();
    let program = place.path().join("contend");
    compile_for_guest(CONTEND, &program);

    let script = "cat > /tmp/contend && chmod 755 /tmp/contend && exec /tmp/contend";
    let running = xlaunch.start(&["--", "sh", "-c", script]);
    let finished = running.finish_with(std::fs::read(&program).unwrap());
    assert_eq!(finished.code(), 0, "{finished}");
    let said = finished.text();
    for line in ["add: ok", "mutex: ok", "spin: ok", "turns: ok", "order: ok"] {
        assert!(said.contains(line), "no {line:?}: {finished}");
    }
    // Without both CPUs at work nothing was contended for.
    assert!(said.contains("ran on CPUs 0 1"), "{finished}");
}
