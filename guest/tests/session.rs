//! Both halves of a session against each other, without a machine: the launcher's, as `xlaunch run` uses it, and init's
//! agent as a program, with real processes behind it. Only the link is a socket pair instead of COM2.

#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

use guest::protocol::{Start, WINDOW, Window};
use hvf_sys::os::pty::Pty;
use hvf_sys::tty;
use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use xlaunch::sandbox::{Line, Lines, Machine, MachineEnd, Plan, Streams, Verdict, Wiring, run};

/// Plays the machine: it is on while the agent runs, and pulling its plug breaks the link.
struct Agent {
    child: Mutex<Child>,
    link: UnixStream,
}

impl Machine for Agent {
    fn wait(&self) -> MachineEnd {
        self.child.lock().unwrap().wait().unwrap();
        MachineEnd::PoweredOff
    }

    fn restart(&self) -> Result<Lines, String> {
        Err("an agent that powers off is not started again".to_owned())
    }

    fn stop(&self) {
        let _ = self.link.shutdown(Shutdown::Both);
    }
}

fn boot() -> Wiring {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_init"))
        .arg("--agent")
        .stdin(OwnedFd::from(theirs))
        .spawn()
        .unwrap();
    Wiring {
        lines: Lines {
            init: vec![Line {
                from_guest: Box::new(ours.try_clone().unwrap()),
                to_guest: Box::new(ours.try_clone().unwrap()),
            }],
            console: Box::new(io::empty()),
        },
        machine: Arc::new(Agent {
            child: Mutex::new(child),
            link: ours,
        }),
    }
}

fn plan(argv: &[&str]) -> Plan {
    Plan {
        start: Start {
            argv: argv.iter().map(|it| it.as_bytes().to_vec()).collect(),
            ..Start::default()
        },
        stop_grace: None,
        keep: false,
        own_init: false,
        limit: Some(Duration::from_secs(60)),
        shares: Vec::new(),
        show_console: false,
    }
}

fn shell(script: &str) -> Plan {
    plan(&["sh", "-c", script])
}

fn file(fd: impl Into<OwnedFd>) -> File {
    File::from(fd.into())
}

fn collect(mut reader: PipeReader) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// Runs a plan with `input` and gives its verdict and both outputs.
fn play(plan: &Plan, input: Vec<u8>) -> (Verdict, Vec<u8>, Vec<u8>) {
    let (stdin, mut feed) = io::pipe().unwrap();
    let (out, stdout) = io::pipe().unwrap();
    let (err, stderr) = io::pipe().unwrap();
    let feeder = thread::spawn(move || {
        // A command that does not read breaks the pipe.
        let _ = feed.write_all(&input);
    });
    let (out, err) = (collect(out), collect(err));
    let streams = Streams {
        stdin: file(stdin),
        stdout: file(stdout),
        stderr: file(stderr),
    };
    let verdict = run(plan, boot(), streams).verdict;
    let outputs = (out.join().unwrap(), err.join().unwrap());
    drop(feeder);
    (verdict, outputs.0, outputs.1)
}

#[test]
fn streams_stay_apart_and_the_code_comes_through() {
    let plan = shell("echo out; echo err >&2; exit 42");
    let expected = (Verdict::Exited(42), b"out\n".to_vec(), b"err\n".to_vec());
    assert_eq!(play(&plan, Vec::new()), expected);
}

#[test]
fn megabytes_come_back_byte_for_byte() {
    let bytes: Vec<u8> = (0..3_000_000_u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let (verdict, out, err) = play(&shell("tee /dev/stderr"), bytes.clone());
    assert_eq!(verdict, Verdict::Exited(0));
    assert!(out == bytes && err == bytes);
}

#[test]
fn a_command_that_ends_without_reading_is_not_held_by_its_input() {
    let (verdict, ..) = play(&plan(&["true"]), vec![0; 10 * WINDOW as usize]);
    assert_eq!(verdict, Verdict::Exited(0));
}

#[test]
fn an_input_that_never_ends_does_not_hold_the_run() {
    let (stdin, _feed) = io::pipe().unwrap();
    let (_out, stdout) = io::pipe().unwrap();
    let (_err, stderr) = io::pipe().unwrap();
    let streams = Streams {
        stdin: file(stdin),
        stdout: file(stdout),
        stderr: file(stderr),
    };
    assert_eq!(
        run(&plan(&["true"]), boot(), streams).verdict,
        Verdict::Exited(0)
    );
}

#[test]
fn a_reader_that_leaves_early_ends_the_writer() {
    let (stdin, feed) = io::pipe().unwrap();
    let (mut out, stdout) = io::pipe().unwrap();
    let (_err, stderr) = io::pipe().unwrap();
    drop(feed);
    let reader = thread::spawn(move || {
        let mut line = [0; 2];
        out.read_exact(&mut line).unwrap();
        line
    });
    let streams = Streams {
        stdin: file(stdin),
        stdout: file(stdout),
        stderr: file(stderr),
    };
    assert_eq!(
        run(&plan(&["yes"]), boot(), streams).verdict,
        Verdict::Killed(13)
    );
    assert_eq!(&reader.join().unwrap(), b"y\n");
}

#[test]
fn an_output_that_cannot_be_written_is_our_failure() {
    let (stdin, feed) = io::pipe().unwrap();
    let (_err, stderr) = io::pipe().unwrap();
    drop(feed);
    let streams = Streams {
        stdin: file(stdin),
        stdout: File::options().write(true).open("/dev/full").unwrap(),
        stderr: file(stderr),
    };
    let verdict = run(&plan(&["echo", "x"]), boot(), streams).verdict;
    assert_eq!(verdict.code(), 125);
    let sentence = verdict.to_string();
    assert!(
        sentence.starts_with("cannot write to standard output: "),
        "{sentence}"
    );
}

#[test]
fn a_slow_reader_stalls_its_stream_and_not_the_other() {
    let (stdin, feed) = io::pipe().unwrap();
    let (mut out, stdout) = io::pipe().unwrap();
    let (mut err, stderr) = io::pipe().unwrap();
    drop(feed);
    let streams = Streams {
        stdin: file(stdin),
        stdout: file(stdout),
        stderr: file(stderr),
    };
    let script = "head -c 2000000 /dev/zero & echo alive >&2; wait";
    let runner = thread::spawn(move || run(&shell(script), boot(), streams).verdict);
    let mut line = [0; 6];
    err.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"alive\n");
    assert!(!runner.is_finished());
    let mut bytes = Vec::new();
    out.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len(), 2_000_000);
    assert_eq!(runner.join().unwrap(), Verdict::Exited(0));
}

#[test]
fn what_takes_too_long_is_ended() {
    let plan = Plan {
        limit: Some(Duration::from_secs(1)),
        ..plan(&["sleep", "100"])
    };
    let start = Instant::now();
    let (verdict, ..) = play(&plan, Vec::new());
    assert_eq!(verdict.code(), 124);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_missing_command_says_so() {
    let (verdict, ..) = play(&plan(&["no-such-command"]), Vec::new());
    assert_eq!(verdict.code(), 127);
    assert!(verdict.to_string().contains("no-such-command"));
}

#[test]
fn a_terminal_is_raw_during_the_run_and_restored_after_it() {
    let size = tty::Size {
        rows: 40,
        columns: 120,
    };
    let mut pty = Pty::open(size).unwrap();
    let (_err, stderr) = io::pipe().unwrap();
    let mut plan = shell("stty size; read line; echo got $line; kill -INT $$");
    plan.start.terminal = Some(Window {
        rows: 40,
        columns: 120,
    });
    let streams = Streams {
        stdin: file(pty.program.try_clone().unwrap()),
        stdout: file(pty.program.try_clone().unwrap()),
        stderr: file(stderr),
    };
    let runner = thread::spawn(move || run(&plan, boot(), streams).verdict);
    let mut shown = Vec::new();
    let mut read_until = |pty: &mut Pty, end: &[u8]| {
        while !shown.ends_with(end) {
            let mut bytes = [0; 100];
            let count = pty.terminal.read(&mut bytes).unwrap();
            shown.extend_from_slice(&bytes[..count]);
        }
        shown.clone()
    };
    read_until(&mut pty, b"40 120\r\n");
    // The guest's terminal echoes, ours does not: each character comes back once.
    pty.terminal.write_all(b"word\r").unwrap();
    let shown = read_until(&mut pty, b"got word\r\n");
    assert_eq!(shown, b"40 120\r\nword\r\ngot word\r\n");
    assert_eq!(runner.join().unwrap(), Verdict::Killed(2));

    // Ours echoes again, and turns a line feed into two characters.
    pty.terminal.write_all(b"x").unwrap();
    let mut echo = [0];
    pty.terminal.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"x");
}
