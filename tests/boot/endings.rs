//! How runs end: the command's own code, a signal, the guest's death, time, and ourselves.

use crate::disk::script;
use crate::launcher::{Program, Running};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

#[test]
fn the_commands_code_and_its_two_streams_come_out_apart_and_byte_exact() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let finished = xlaunch.shell("echo out; echo err >&2; exit 42");
    assert_eq!(finished.code(), 42, "{finished}");
    assert_eq!(finished.stdout, b"out\n");
    assert_eq!(finished.stderr, b"err\n");
}

/// What /dev/full is to a file, a terminal on a full line is to a terminal: neither takes a byte.
#[test]
fn an_output_that_cannot_be_written_is_125_and_says_so() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = xlaunch.command(&["--", "echo", "x"]);
    let output = command.stdin(Stdio::null()).stdout(full).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    assert!(
        stderr.starts_with("xlaunch: cannot write to standard output: "),
        "{stderr}"
    );
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn a_command_that_is_not_there_is_127_and_one_that_is_no_program_126() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    for (command, code) in [("no-such-command", 127), ("/etc/passwd", 126)] {
        let finished = xlaunch.run(&["--", command]);
        assert_eq!(finished.code(), code, "{finished}");
        assert_eq!(finished.stdout, b"");
        let complaint = finished.complaint();
        assert!(complaint.contains(command), "{complaint}");
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
    }
}

#[test]
fn a_command_that_a_signal_ends_is_128_and_the_signal() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let finished = xlaunch.shell("kill -KILL $$");
    assert_eq!(finished.code(), 128 + 9, "{finished}");
}

#[test]
fn a_command_that_runs_too_long_is_124() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let finished = xlaunch.run(&["--timeout", "3s", "--", "sleep", "1000"]);
    assert_eq!(finished.code(), 124, "{finished}");
    let complaint = finished.complaint();
    assert!(complaint.contains("--timeout 3s"), "{complaint}");
}

#[test]
fn a_kernel_panic_is_123_and_says_why() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let finished = xlaunch.shell("echo c > /proc/sysrq-trigger; sleep 1000");
    assert_eq!(finished.code(), 123, "{finished}");
    let complaint = finished.complaint();
    assert!(complaint.contains("sysrq triggered crash"), "{complaint}");
}

/// `reboot=triple` makes the kernel load an empty IDT and fault.
#[test]
fn a_triple_fault_is_123_and_says_so() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let arguments = ["--append=reboot=triple", "--", "reboot", "-f"];
    let finished = xlaunch.run(&arguments);
    assert_eq!(finished.code(), 123, "{finished}");
    let complaint = finished.complaint();
    assert!(complaint.contains("triple fault"), "{complaint}");
}

/// By the way that a person goes, which asks our init, and by the kernel's own.
#[test]
fn powering_off_ends_with_0() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    for command in ["poweroff", "halt", "poweroff -f"] {
        let finished = xlaunch.shell(&format!("{command}; sleep 1000"));
        assert_eq!(finished.code(), 0, "{command}: {finished}");
        assert_eq!(finished.complaint(), "xlaunch: the guest powered off\n");
    }
}

/// The disk's changes and the rest of the input outlast a reset; the command starts from its beginning.
#[test]
fn a_reboot_comes_back_up_in_the_same_process() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let place = tempfile::TempDir::new().unwrap();
    let image = place.path().join("disk.img");
    let image = image.to_str().unwrap();
    script("scripts/make-disk", &["busybox", image]);
    let command = "n=$(cat /root/count 2>/dev/null || echo 0); echo start $n
        echo $((n + 1)) > /root/count; sync
        case $n in 0) reboot;; 1) reboot -f;; *) exit 7;; esac; sleep 1000";
    let finished = xlaunch.run(&[image, "--", "sh", "-c", command]);
    assert_eq!(finished.code(), 7, "{finished}");
    assert_eq!(finished.text(), "start 0\nstart 1\nstart 2\n");
}

#[test]
fn our_own_signals_end_the_sandbox_with_128_and_the_signal() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    for (name, number) in [("INT", 2), ("TERM", 15), ("HUP", 1)] {
        let command = ["--", "sh", "-c", "echo ready; exec sleep 1000"];
        let mut running = xlaunch.start_with_usual_signals(&command);
        await_line(&mut running, "ready");
        running.signal(name);
        let finished = running.finish();
        assert_eq!(finished.code(), 128 + number, "SIG{name}: {finished}");
    }
}

/// The first two are the command's; of SIGTERM it has a second to make its peace.
#[test]
fn signals_reach_the_command_and_sigterm_is_the_power_button() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    for (trap, name, code) in [
        ("trap 'exit 7' USR1", "USR1", 7),
        ("trap 'exit 8' INT", "INT", 8),
        ("trap 'exit 9' TERM", "TERM", 9),
        ("trap '' TERM", "TERM", 128 + 15),
    ] {
        let script = format!("{trap}; echo ready; while :; do sleep 0.1; done");
        let arguments = ["--stop-timeout=1s", "--", "sh", "-c", &script];
        let mut running = xlaunch.start_with_usual_signals(&arguments);
        await_line(&mut running, "ready");
        running.signal(name);
        let finished = running.finish();
        assert_eq!(finished.code(), code, "{trap}: {finished}");
    }
}

#[test]
fn a_run_tells_programs_how_it_ended_and_people_where_the_time_went() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let place = tempfile::TempDir::new().unwrap();
    let (result, drawing) = (place.path().join("r.json"), place.path().join("t.svg"));
    let [json, timeline] = [("json", &result), ("timeline", &drawing)]
        .map(|(flag, path)| format!("--{flag}={}", path.display()));
    let finished = xlaunch.run(&[&json, &timeline, "--", "sh", "-c", "exit 5"]);
    assert_eq!(finished.code(), 5, "{finished}");
    let result = std::fs::read_to_string(result).unwrap();
    for member in [
        "\"verdict\": \"exited\"",
        "\"exit_code\": 5",
        "\"command_seconds\": 0.",
    ] {
        assert!(result.contains(member), "{member}: {result}");
    }
    let drawing = std::fs::read_to_string(drawing).unwrap();
    // Everybody has a bar, in the order of the run.
    let mut rest = &*drawing;
    for bar in [
        "xlaunch reads the command line",
        "xlaunch loads the kernel",
        "first instruction",
        "kernel unpacks itself",
        "kernel boots, up to init",
        "init prepares the guest",
        "init starts the command",
        "the command runs",
        "powers off",
        "xlaunch ends the machine",
    ] {
        let at = rest.find(bar);
        assert!(at.is_some(), "{bar} is not where it should be: {drawing}");
        rest = &rest[at.unwrap_or(0)..];
    }
}

#[test]
fn a_command_runs_as_a_user_of_the_guest() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let script = "echo $(id -u) $(id -g) $HOME $USER $LOGNAME";
    for (user, expected) in [
        ("nobody", "65534 65534 /nonexistent nobody nobody\n"),
        ("7:tty", "7 5 /\n"),
    ] {
        let finished = xlaunch.run(&["-u", user, "--", "sh", "-c", script]);
        assert_eq!(finished.text(), expected, "{finished}");
    }
    let finished = xlaunch.run(&["-u", "mallory", "--", "true"]);
    assert_eq!(finished.code(), 125, "{finished}");
    assert!(finished.complaint().contains("\"mallory\""), "{finished}");
}

#[test]
fn a_signal_while_the_kernel_boots_ends_the_sandbox_too() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let mut running = xlaunch.start(&["--verbose", "--", "true"]);
    let stderr = running.child().stderr.take().unwrap();
    let mut lines = BufReader::new(stderr).lines();
    let seen = lines.any(|line| line.unwrap().contains("Linux version"));
    assert!(seen, "the kernel's console does not show with --verbose");
    running.signal("TERM");
    drop(lines);
    let finished = running.finish();
    assert_eq!(finished.code(), 128 + 15, "{finished}");
}

/// Waits until the command has written this line.
fn await_line(running: &mut Running, expected: &str) {
    let mut stdout = running.child().stdout.take().unwrap();
    let mut line = Vec::new();
    let mut byte = [0];
    while line != expected.as_bytes() {
        assert!(!line.contains(&b'\n'), "it wrote something else first");
        let count = std::io::Read::read(&mut stdout, &mut byte).unwrap();
        assert_eq!(count, 1, "it ended before it wrote {expected:?}");
        line.push(byte[0]);
    }
    running.child().stdout = Some(stdout);
}
