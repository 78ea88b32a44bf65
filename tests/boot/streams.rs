//! The command's streams, where they are not a terminal.

use crate::bytes::noise;
use crate::launcher::Program;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;
use std::thread;
use std::time::Instant;

#[test]
fn input_goes_through_the_guest_unchanged_and_its_end_arrives() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let sent = noise(1 << 20, 0);
    let finished = xlaunch.start(&["--", "cat"]).finish_with(sent.clone());
    assert_eq!(finished.code(), 0, "{}", finished.complaint());
    assert_eq!(finished.stdout.len(), sent.len());
    assert!(finished.stdout == sent, "the bytes came back changed");
    assert_eq!(finished.stderr, b"");
}

#[test]
fn no_input_is_an_end_of_input() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let mut command = xlaunch.command(&["--", "wc", "-c"]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "0");
}

/// As in `xlaunch run -- yes | head -1`: who stops reading is not waited for, and `yes` dies of the broken pipe.
#[test]
fn an_output_that_is_closed_ends_the_command() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let mut running = xlaunch.start(&["--", "yes"]);
    let stdout = running.child().stdout.take().unwrap();
    let mut reader = BufReader::new(stdout);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "y\n");
    drop(reader);
    let finished = running.finish();
    assert_eq!(finished.code(), 128 + 13, "{finished}");
}

/// An input that stays open, as that of a service manager does, holds nothing up.
#[test]
fn a_command_that_reads_nothing_ends_while_its_input_is_open() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let mut running = xlaunch.start(&["--", "echo", "done"]);
    let mut input = running.child().stdin.take().unwrap();
    let finished = running.finish();
    assert_eq!(finished.code(), 0, "{finished}");
    assert_eq!(finished.stdout, b"done\n");
    // It is gone, so nobody reads any more.
    assert!(input.write_all(&[0; 1 << 20]).is_err());
}

/// Answers come while questions are still being asked: nothing waits for a full buffer or the end of input.
#[test]
fn input_and_output_alternate() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let script = "while read -r n; do echo $((n * n)); done";
    let mut running = xlaunch.start(&["--", "sh", "-c", script]);
    let mut input = running.child().stdin.take().unwrap();
    let mut output = BufReader::new(running.child().stdout.take().unwrap());
    for n in [3, 12, 1000] {
        writeln!(input, "{n}").unwrap();
        let mut answer = String::new();
        output.read_line(&mut answer).unwrap();
        assert_eq!(answer, format!("{}\n", n * n));
    }
    drop(input);
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
    assert_eq!(running.finish().code(), 0);
}

#[test]
fn variables_and_the_directory_reach_the_command() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let script = "pwd; echo \"$COLOUR\"; id -u; test -z \"$CARGO_MANIFEST_DIR\"";
    let finished = xlaunch.run(&[
        "-w/tmp",
        "--env=COLOUR=blue green",
        "--",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(finished.code(), 0, "{finished}");
    assert_eq!(finished.text(), "/tmp\nblue green\n0\n");
}

/// Both streams at once, each whole and in order: `head` reads one to its end before the other has a reader.
#[test]
fn both_outputs_under_load_stay_apart() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let script = "(seq 1 40000 >&2) & seq 100001 140000; wait";
    let finished = xlaunch.shell(script);
    assert_eq!(finished.code(), 0, "{}", finished.complaint());
    let counted = |from: u32| {
        (from..from + 40_000)
            .map(|n| format!("{n}\n"))
            .collect::<String>()
    };
    assert!(
        finished.text() == counted(100_001),
        "standard output is not whole"
    );
    assert!(
        finished.complaint() == counted(1),
        "standard error is not whole"
    );
}

/// As in `xlaunch run -- cat <&-`.
#[test]
fn an_input_that_is_closed_is_an_end_of_input() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let command = xlaunch.command(&["--", "wc", "-c"]);
    let line = "exec \"$@\" <&-";
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", line, "sh"]).arg(command.get_program());
    let output = shell.args(command.get_args()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "0");
}

/// As in `yes | head -c 1G | xlaunch run -- cat | sha256sum`: never more than a window is under way, and nothing is lost.
#[test]
fn long_a_gibibyte_goes_through_unchanged() {
    const PARTS: u64 = 1024;
    let Some(xlaunch) = Program::find_for_long() else {
        return;
    };
    let mut running = xlaunch.start(&["--", "cat"]);
    let mut input = running.child().stdin.take().unwrap();
    let mut output = running.child().stdout.take().unwrap();
    let started = Instant::now();
    let feeder = thread::spawn(move || {
        for part in 0..PARTS {
            input.write_all(&noise(1 << 20, part)).unwrap();
        }
    });
    let mut part = vec![0; 1 << 20];
    for n in 0..PARTS {
        output.read_exact(&mut part).unwrap();
        assert!(part == noise(1 << 20, n), "MiB {n} came back changed");
    }
    assert_eq!(output.read(&mut part).unwrap(), 0);
    feeder.join().unwrap();
    let rate = PARTS as f64 / started.elapsed().as_secs_f64();
    println!("1 GiB in and out: {rate:.1} MiB/s, the test's own work included");
    let finished = running.finish();
    assert_eq!(finished.code(), 0, "{finished}");
}
