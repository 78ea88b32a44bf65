//! The program at a terminal, as a person uses it.

use crate::launcher::{Program, Running};
use hvf_sys::os::process;
use hvf_sys::os::pty::Pty;
use hvf_sys::tty::{self, Size};
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const SIZE: Size = Size {
    rows: 37,
    columns: 101,
};
const PATIENCE: Duration = Duration::from_secs(300);

/// A person at a terminal with the program in it.
struct Person {
    running: Running,
    keyboard: File,
    pty: Pty,
    screen: Arc<Screen>,
    modes: String,
}

#[derive(Default)]
struct Screen {
    text: Mutex<String>,
    changed: Condvar,
}

impl Person {
    fn at(xlaunch: &Program, arguments: &[&str]) -> Self {
        let pty = Pty::open(SIZE).unwrap();
        let modes = modes(&pty);
        let mut command = xlaunch.command(arguments);
        let side = || Stdio::from(pty.program.try_clone().unwrap());
        command.stdin(side()).stdout(side()).stderr(side());
        command.env("TERM", "vt100");
        process::lead_session(&mut command, true);
        let running = Running::spawn(&mut command, PATIENCE);
        let screen = Arc::<Screen>::default();
        let watched = screen.clone();
        let mut output = pty.terminal.try_clone().unwrap();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..count]);
                watched.text.lock().unwrap().push_str(&text);
                watched.changed.notify_all();
            }
        });
        Self {
            running,
            keyboard: pty.terminal.try_clone().unwrap(),
            pty,
            screen,
            modes,
        }
    }

    fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the screen has shown this.
    fn sees(&mut self, expected: &str) {
        let until = Instant::now() + PATIENCE;
        let mut text = self.screen.text.lock().unwrap();
        while !text.contains(expected) {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {expected:?} in {text:?}");
            text = self.screen.changed.wait_timeout(text, left).unwrap().0;
        }
    }

    fn is_raw(&self) -> bool {
        modes(&self.pty) != self.modes
    }

    /// Waits for the end: the code, with the terminal as it was before.
    fn leaves(mut self) -> i32 {
        let status = self.running.wait();
        let text = self.screen.text.lock().unwrap().clone();
        let status = status.unwrap_or_else(|| panic!("it did not end in time: {text}"));
        assert_eq!(
            modes(&self.pty),
            self.modes,
            "the terminal was not restored"
        );
        status.code().unwrap_or_else(|| panic!("{status}: {text}"))
    }
}

/// All that stty knows of the terminal.
fn modes(pty: &Pty) -> String {
    let terminal = Stdio::from(pty.program.try_clone().unwrap());
    let output = Command::new("stty").arg("-g").stdin(terminal).output();
    let output = output.unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_shell_at_a_terminal_is_raw_outside_and_has_our_size_and_type() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let mut person = Person::at(&xlaunch, &[]);
    person.sees("# ");
    assert!(person.is_raw());
    // The answers differ from what is typed, for the guest's terminal echoes that.
    person.types("echo size $(stty size) type $TERM\r");
    person.sees("size 37 101 type vt100");

    tty::set_size(
        &person.pty.terminal,
        Size {
            rows: 50,
            columns: 132,
        },
    )
    .unwrap();
    person.types("until stty size | grep '50 132'; do sleep 0.1; done; echo re'sized'\r");
    person.sees("resized");

    // Ctrl-C is the guest's: it ends what runs there, and nothing here.
    // Said by the very process that is to be interrupted: a shell that is about to start one may swallow the signal.
    person.types("sh -c 'echo wait\"ing\"; exec sleep 1000'\r");
    person.sees("waiting");
    person.types("\x03");
    person.types("echo status $?\r");
    person.sees("status 130");

    person.types("exit 7\r");
    assert_eq!(person.leaves(), 7);
}

#[test]
fn ctrl_bracket_three_times_leaves_the_sandbox_and_restores_the_terminal() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let mut person = Person::at(&xlaunch, &["--", "sh", "-c", "echo rea'dy'; sleep 1000"]);
    person.sees("ready");
    assert!(person.is_raw());
    person.types("\x1d\x1d");
    thread::sleep(Duration::from_millis(1500));
    // The two were too long ago to count.
    person.types("\x1d");
    thread::sleep(Duration::from_millis(1500));
    assert!(person.is_raw());
    person.types("\x1d\x1d\x1d");
    person.sees("left the sandbox");
    assert_eq!(person.leaves(), 130);
}

#[test]
fn a_terminal_is_restored_when_we_are_told_to_end() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let mut person = Person::at(&xlaunch, &["--", "sh", "-c", "echo rea'dy'; sleep 1000"]);
    person.sees("ready");
    assert!(person.is_raw());
    person.running.signal("TERM");
    assert_eq!(person.leaves(), 128 + 15);
}
