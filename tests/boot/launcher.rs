//! Starts the program, feeds it, collects what it writes, and never leaves it running.

use std::env;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Far more than any run here takes on an idle machine; the machines that run tests are not idle.
const PATIENCE: Duration = Duration::from_secs(300);
/// The same for what takes minutes anyway.
const LONG_PATIENCE: Duration = Duration::from_secs(30 * 60);
const PAUSE: Duration = Duration::from_millis(20);

/// The program.
#[derive(Clone)]
pub struct Program {
    path: PathBuf,
    patience: Duration,
}

impl Program {
    /// The program with a guest in it, or nothing after having said why.
    pub fn find() -> Option<Self> {
        let path = env::var_os("XLAUNCH_BIN").map_or_else(built, PathBuf::from);
        if !path.is_file() {
            println!(
                "skipped: {} is not built; scripts/test builds it",
                path.display()
            );
            return None;
        }
        let version = Command::new(&path).arg("version").output().unwrap();
        if !String::from_utf8_lossy(&version.stdout).contains("kernel_sha256") {
            println!(
                "skipped: no guest is built into {}; scripts/test builds one",
                path.display()
            );
            return None;
        }
        Some(Self {
            path,
            patience: PATIENCE,
        })
    }

    /// The program for a test that takes minutes, where those are wanted.
    pub fn find_for_long() -> Option<Self> {
        if env::var_os("XLAUNCH_LONG").is_none_or(|it| it != "1") {
            println!("skipped: takes minutes; scripts/test --long runs it");
            return None;
        }
        Self::find().map(|program| Self {
            patience: LONG_PATIENCE,
            ..program
        })
    }

    /// `xlaunch run` with these arguments, not yet started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.arg("run").args(engine()).args(arguments);
        command
    }

    /// Starts `xlaunch run` with pipes for all streams.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Running::spawn(&mut command, self.patience)
    }

    /// The same with all signals as usual: whoever runs the tests may have some ignored, as `nohup` does.
    pub fn start_with_usual_signals(&self, arguments: &[&str]) -> Running {
        let usual = self.command(arguments);
        let mut command = Command::new("env");
        command.arg("--default-signal").arg(usual.get_program());
        command
            .args(usual.get_args())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Running::spawn(&mut command, self.patience)
    }

    /// `xlaunch run` to its end, with nothing to read.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        self.start(arguments).finish()
    }

    /// A shell script in the guest to its end.
    pub fn shell(&self, script: &str) -> Finished {
        self.run(&["--", "sh", "-c", script])
    }

    /// A shell script in the guest that must succeed: what it printed.
    pub fn shell_output(&self, script: &str) -> String {
        let finished = self.shell(script);
        assert_eq!(finished.code(), 0, "{finished}");
        finished.text()
    }
}

/// Compiles a program of one source file for the guest, without shared libraries.
pub fn compile_for_guest(source: &str, program: &Path) {
    let compiled = Command::new(env::var_os("RUSTC").unwrap_or("rustc".into()))
        .args(["--edition=2024", "-O", "-Cstrip=symbols"])
        .args(["-Ctarget-feature=+crt-static", "-Cpanic=abort", "-o"])
        .arg(program)
        .arg(source)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&compiled.stderr).into_owned();
    assert!(compiled.status.success(), "{said}");
}

/// `XLAUNCH_ENGINE` sends every run to an engine.
fn engine() -> Option<String> {
    let name = env::var("XLAUNCH_ENGINE").ok()?;
    Some(format!("--engine={name}"))
}

fn built() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release/xlaunch")
}

/// A started program. Dropping it ends it.
pub struct Running {
    child: Child,
    until: Instant,
}

/// A run that is over.
pub struct Finished {
    status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: Vec<u8>,
}

impl Running {
    /// Starts a command, which gets `patience` to end.
    pub fn spawn(command: &mut Command, patience: Duration) -> Self {
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self {
            child,
            until: Instant::now() + patience,
        }
    }

    /// The streams, for a test that plays with them itself.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends a signal, by its name, to the program alone.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for its end; no more input comes.
    pub fn finish(self) -> Finished {
        self.finish_with(Vec::new())
    }

    /// Feeds it and waits for its end.
    pub fn finish_with(mut self, input: Vec<u8>) -> Finished {
        let stdin = self.child.stdin.take();
        let feeder = thread::spawn(move || {
            // A command need not read all, or anything.
            if let Some(mut stdin) = stdin {
                let _ = stdin.write_all(&input);
            }
        });
        let stdout = collect(self.child.stdout.take());
        let stderr = collect(self.child.stderr.take());
        let status = self.wait();
        let finished = Finished {
            status: status.unwrap_or_default(),
            stdout: stdout.join().unwrap(),
            stderr: stderr.join().unwrap(),
        };
        feeder.join().unwrap();
        assert!(status.is_some(), "it did not end in time: {finished}");
        finished
    }

    /// Waits for its end and gives its status; `None` where it had to be killed.
    pub fn wait(&mut self) -> Option<ExitStatus> {
        while Instant::now() < self.until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            thread::sleep(PAUSE);
        }
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        None
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Errors mean that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(stream: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            stream.read_to_end(&mut bytes).unwrap();
        }
        bytes
    })
}

impl Finished {
    /// The exit code. The program itself never dies of a signal.
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| panic!("it died of signal {:?}: {self}", self.status.signal()))
    }

    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).unwrap()
    }

    /// Standard error as text.
    pub fn complaint(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

/// Everything that explains a failed test.
impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stdout = String::from_utf8_lossy(&self.stdout);
        let end = stdout.chars().rev().take(4000).collect::<Vec<_>>();
        let stdout: String = end.into_iter().rev().collect();
        let complaint = self.complaint();
        write!(
            f,
            "{}\nstdout:\n{stdout}\nstderr:\n{complaint}",
            self.status
        )
    }
}
