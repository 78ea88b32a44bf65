//! The agent as an ordinary program: real processes, real pipes and terminals, over a socket pair.

#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

use guest::protocol::{
    DATA_MAX, Decoder, Frame, GreetingFinder, Refusal, Start, Stream, VERSION, WINDOW, Window,
};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};
use std::time::Duration;

struct Guest {
    link: UnixStream,
    decoder: Decoder,
    agent: Child,
    /// It said that the command was started.
    started: bool,
}

impl Guest {
    fn boot() -> Self {
        let (link, theirs) = UnixStream::pair().unwrap();
        link.set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let agent = Command::new(env!("CARGO_BIN_EXE_init"))
            .arg("--agent")
            .stdin(OwnedFd::from(theirs))
            .spawn()
            .unwrap();
        let mut guest = Self {
            link,
            decoder: Decoder::default(),
            agent,
            started: false,
        };
        guest.greet();
        assert_eq!(guest.receive(), Frame::Hello(VERSION));
        match guest.receive() {
            Frame::Booted(init, ready) => assert!(init <= ready),
            other => panic!("{other:?}"),
        }
        guest
    }

    fn start(argv: &[&str]) -> Self {
        let mut guest = Self::boot();
        guest.send(&Frame::Start(command(argv)));
        guest
    }

    fn greet(&mut self) {
        let mut finder = GreetingFinder::default();
        let mut bytes = [0; 64];
        loop {
            let count = self.link.read(&mut bytes).unwrap();
            assert_ne!(count, 0);
            if let Some(rest) = finder.feed(&bytes[..count]) {
                return self.decoder.push(rest);
            }
        }
    }

    fn send(&mut self, frame: &Frame) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.link.write_all(&bytes).unwrap();
    }

    /// The next frame but for the one that says that the command was started, which is noted.
    fn receive(&mut self) -> Frame {
        loop {
            match self.decoder.next_frame().unwrap() {
                Some(Frame::Started) => {
                    assert!(!self.started, "it was started twice");
                    self.started = true;
                    continue;
                }
                Some(frame) => return frame,
                None => {}
            }
            let mut bytes = [0; 65536];
            let count = self.link.read(&mut bytes).unwrap();
            assert_ne!(count, 0, "the agent hung up");
            self.decoder.push(&bytes[..count]);
        }
    }

    /// Collects everything until the command's end, granting credit for all of it.
    fn finish(&mut self) -> Finished {
        let mut finished = Finished::default();
        loop {
            match self.receive() {
                Frame::Data(stream, bytes) => {
                    self.send(&Frame::Credit(stream, bytes.len() as u32));
                    match stream {
                        Stream::Stdout => finished.stdout.extend(bytes),
                        Stream::Stderr => finished.stderr.extend(bytes),
                        Stream::Stdin => panic!("output on the input"),
                    }
                }
                Frame::Credit(Stream::Stdin, bytes) => finished.consumed += bytes,
                Frame::Closed(Stream::Stdin) => finished.input_closed = true,
                Frame::End(_) => {}
                ending => {
                    finished.ending = Some(ending);
                    return finished;
                }
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.link.shutdown(std::net::Shutdown::Both);
        let _ = self.agent.wait();
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Finished {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    consumed: u32,
    input_closed: bool,
    ending: Option<Frame>,
}

fn command(argv: &[&str]) -> Start {
    Start {
        argv: argv.iter().map(|it| it.as_bytes().to_vec()).collect(),
        ..Start::default()
    }
}

fn shell(script: &str) -> Guest {
    Guest::start(&["sh", "-c", script])
}

#[test]
fn streams_stay_apart_and_the_code_is_the_commands() {
    let mut guest = shell("echo out; echo err >&2; exit 42");
    let finished = guest.finish();
    assert!(guest.started);
    assert_eq!(finished.stdout, b"out\n");
    assert_eq!(finished.stderr, b"err\n");
    assert_eq!(finished.ending, Some(Frame::Exited(42)));
}

#[test]
fn a_signal_is_told_as_a_signal() {
    assert_eq!(
        shell("kill -TERM $$").finish().ending,
        Some(Frame::Killed(15))
    );
    let mut guest = shell("trap 'exit 7' USR1; echo ready; while :; do sleep 0.01; done");
    assert_eq!(
        guest.receive(),
        Frame::Data(Stream::Stdout, b"ready\n".to_vec())
    );
    guest.send(&Frame::Signal(10));
    assert_eq!(guest.finish().ending, Some(Frame::Exited(7)));
}

#[test]
fn input_arrives_byte_exact_and_so_does_its_end() {
    let bytes: Vec<u8> = (0..DATA_MAX).map(|at| (at * 7 % 256) as u8).collect();
    let mut guest = Guest::start(&["cat"]);
    guest.send(&Frame::Data(Stream::Stdin, bytes.clone()));
    guest.send(&Frame::End(Stream::Stdin));
    let finished = guest.finish();
    assert_eq!(finished.stdout, bytes);
    assert_eq!(finished.consumed as usize, bytes.len());
    assert_eq!(finished.ending, Some(Frame::Exited(0)));
}

#[test]
fn output_stops_at_the_window_and_goes_on_with_credit() {
    let mut guest = shell("head -c 1000000 /dev/zero; echo done >&2");
    let mut got = 0;
    while got < WINDOW as usize {
        match guest.receive() {
            Frame::Data(Stream::Stdout, bytes) => got += bytes.len(),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(got, WINDOW as usize);
    guest
        .link
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let error = guest.link.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    guest
        .link
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    guest.send(&Frame::Credit(Stream::Stdout, WINDOW));
    let finished = guest.finish();
    assert_eq!(finished.stdout.len() + got, 1_000_000);
    assert_eq!(finished.stderr, b"done\n");
    assert_eq!(finished.ending, Some(Frame::Exited(0)));
}

#[test]
fn a_command_that_does_not_read_grants_no_credit_and_stalls_nothing_else() {
    let mut guest = shell("sleep 0.2; echo alive");
    for _ in 0..WINDOW as usize / DATA_MAX {
        guest.send(&Frame::Data(Stream::Stdin, vec![b'x'; DATA_MAX]));
    }
    let finished = guest.finish();
    assert_eq!(finished.stdout, b"alive\n");
    assert!(
        finished.consumed < WINDOW,
        "a pipe took {}",
        finished.consumed
    );
}

#[test]
fn a_launcher_beyond_its_window_is_hung_up_on() {
    let mut guest = Guest::start(&["sleep", "100"]);
    let mut bytes = Vec::new();
    for _ in 0..4 * WINDOW as usize / DATA_MAX {
        Frame::Data(Stream::Stdin, vec![0; DATA_MAX]).encode(&mut bytes);
    }
    // The hang-up may come while this is still being written.
    let _ = guest.link.write_all(&bytes);
    assert!(!guest.agent.wait().unwrap().success());
}

#[test]
fn a_closed_reader_breaks_the_commands_pipe() {
    let mut guest = Guest::start(&["yes"]);
    assert!(matches!(guest.receive(), Frame::Data(Stream::Stdout, _)));
    guest.send(&Frame::Closed(Stream::Stdout));
    assert_eq!(guest.finish().ending, Some(Frame::Killed(13)));
}

#[test]
fn a_command_that_closes_its_input_is_told_of() {
    let finished = shell("exec <&-; sleep 0.3").finish();
    assert!(finished.input_closed);
}

#[test]
fn what_the_command_leaves_behind_does_not_hold_the_session() {
    let finished = shell("sleep 100 & echo started").finish();
    assert_eq!(finished.stdout, b"started\n");
    assert_eq!(finished.ending, Some(Frame::Exited(0)));
}

#[test]
fn commands_that_cannot_run_say_why() {
    let refusal = |argv: &[&str]| match Guest::start(argv).finish().ending {
        Some(Frame::Refused(refusal, text)) => {
            assert!(text.contains(argv[0]), "{text}");
            refusal
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(&["no-such-command"]), Refusal::NotFound);
    assert_eq!(refusal(&["/no/such/command"]), Refusal::NotFound);
    assert_eq!(refusal(&["/etc"]), Refusal::NotExecutable);
    assert_eq!(refusal(&["/etc/passwd"]), Refusal::NotExecutable);
}

#[test]
fn a_missing_directory_is_not_a_missing_command() {
    let mut guest = Guest::boot();
    guest.send(&Frame::Start(Start {
        cwd: b"/no/such".to_vec(),
        ..command(&["true"])
    }));
    match guest.receive() {
        Frame::Refused(Refusal::Unprepared, text) => assert!(text.contains("/no/such"), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_environment_and_directory_are_the_launchers_over_defaults() {
    let mut guest = Guest::boot();
    guest.send(&Frame::Start(Start {
        env: vec![b"A=b=c".to_vec(), b"HOME=/x".to_vec()],
        cwd: b"/usr".to_vec(),
        ..command(&["sh", "-c", "echo $A $HOME $USER; pwd"])
    }));
    assert_eq!(guest.finish().stdout, b"b=c /x root\n/usr\n");
}

#[test]
fn a_command_runs_as_the_user_that_was_wanted() {
    if std::fs::metadata("/proc/self").map(|it| it.uid()).ok() != Some(0) {
        println!("skipped: only root may become somebody else");
        return;
    }
    let terminal = Window {
        rows: 24,
        columns: 80,
    };
    let script = "echo $(id -u):$(id -g):$(id -G) $HOME ${USER:-none} ${LOGNAME:-none}; exec 3<>/dev/tty && echo tty";
    for (user, terminal, expected) in [
        ("", None, "0:0:0 /root root root\n"),
        (
            "nobody",
            None,
            "65534:65534:65534 /nonexistent nobody nobody\n",
        ),
        ("1:2", None, "1:2:2 /usr/sbin daemon daemon\n"),
        ("4321", None, "4321:0:0 / none none\n"),
        ("4321:7", Some(terminal), "4321:7:7 / none none\r\ntty\r\n"),
    ] {
        let mut guest = Guest::boot();
        guest.send(&Frame::Start(Start {
            user: user.as_bytes().to_vec(),
            terminal,
            ..command(&["sh", "-c", script])
        }));
        let stdout = guest.finish().stdout;
        let stdout = String::from_utf8_lossy(&stdout);
        assert!(stdout.starts_with(expected), "{user:?}: {stdout}");
    }
}

#[test]
fn a_user_that_the_guest_does_not_know_is_refused() {
    for user in ["no-such-user", "root:no-such-group"] {
        let mut guest = Guest::boot();
        guest.send(&Frame::Start(Start {
            user: user.as_bytes().to_vec(),
            ..command(&["true"])
        }));
        let answer = guest.receive();
        assert!(!guest.started);
        match answer {
            Frame::Refused(Refusal::Unprepared, text) => {
                assert!(text.contains("no-such"), "{text}")
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_terminal_has_its_size_and_follows_it() {
    let mut guest = Guest::boot();
    let window = |rows, columns| Window { rows, columns };
    guest.send(&Frame::Start(Start {
        terminal: Some(window(33, 101)),
        ..command(&[
            "sh",
            "-c",
            "trap 'stty size; exit 3' WINCH; tty; stty size; while :; do sleep 0.01; done",
        ])
    }));
    let mut shown = Vec::new();
    while !shown.ends_with(b"33 101\r\n") {
        match guest.receive() {
            Frame::Data(Stream::Stdout, bytes) => shown.extend(bytes),
            other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&shown)),
        }
    }
    assert!(shown.starts_with(b"/dev/pts/"));
    guest.send(&Frame::Resize(window(50, 132)));
    let finished = guest.finish();
    assert_eq!(finished.stdout, b"50 132\r\n");
    assert_eq!(finished.ending, Some(Frame::Exited(3)));
}

#[test]
fn ctrl_c_on_a_terminal_interrupts_the_command() {
    let mut guest = Guest::boot();
    guest.send(&Frame::Start(Start {
        terminal: Some(Window {
            rows: 24,
            columns: 80,
        }),
        ..command(&["sh", "-c", "echo ready; exec sleep 100"])
    }));
    assert_eq!(
        guest.receive(),
        Frame::Data(Stream::Stdout, b"ready\r\n".to_vec())
    );
    guest.send(&Frame::Data(Stream::Stdin, vec![3]));
    assert_eq!(guest.finish().ending, Some(Frame::Killed(2)));
}

#[test]
fn the_end_of_a_terminals_input_reads_as_one() {
    let mut guest = Guest::boot();
    guest.send(&Frame::Start(Start {
        terminal: Some(Window {
            rows: 24,
            columns: 80,
        }),
        ..command(&["cat"])
    }));
    guest.send(&Frame::Data(Stream::Stdin, b"line\n".to_vec()));
    guest.send(&Frame::End(Stream::Stdin));
    let finished = guest.finish();
    assert_eq!(finished.stdout, b"line\r\nline\r\n");
    assert_eq!(finished.ending, Some(Frame::Exited(0)));
}

#[test]
fn the_launchers_end_is_the_agents() {
    let mut guest = Guest::start(&["sleep", "100"]);
    guest.send(&Frame::PowerOff);
    assert!(guest.agent.wait().unwrap().success());
}

#[test]
fn nonsense_ends_the_session() {
    let mut guest = Guest::boot();
    guest.link.write_all(b"nonsense").unwrap();
    assert!(!guest.agent.wait().unwrap().success());
}
