//! The command: how it is started, and the pumps between its descriptors and the link.
//!
//! Every descriptor here is our own end of a fresh pipe or pseudo-terminal, so making it non-blocking disturbs nobody.

use crate::protocol::{DATA_MAX, Frame, Refusal, Start, Stream, WINDOW};
use crate::user::User;
use hvf_sys::os::pty::Pty;
use hvf_sys::os::signal::Signal;
use hvf_sys::os::{make_nonblocking, process};
use hvf_sys::tty;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const DEFAULT_HOME: &str = "/root";
/// Whose shell a guest's root has, whatever its name is.
const ROOT: &str = "0";
const ANY_SHELL: &str = "/bin/sh";
/// What a terminal reads as the end of its input: Ctrl-D.
const END_OF_TRANSMISSION: u8 = 4;

/// A started command.
#[derive(Debug)]
pub(crate) struct Job {
    /// The command's process, which leads its session and group.
    pub(crate) leader: u32,
    /// What feeds the command.
    pub(crate) input: Sink,
    /// What the command writes: one source for a terminal, two otherwise.
    pub(crate) outputs: Vec<Source>,
    /// The terminal, for its size.
    terminal: Option<File>,
}

/// Why a command did not start.
pub(crate) type Refused = (Refusal, String);

impl Job {
    /// Starts the command.
    pub(crate) fn start(start: &Start) -> Result<Self, Refused> {
        let user = user(start)?;
        let (command, name) = command(start, user.as_ref())?;
        let job = match start.terminal {
            Some(window) => {
                let (rows, columns) = (window.rows, window.columns);
                on_terminal(command, tty::Size { rows, columns }, user)
            }
            None => on_pipes(command, user),
        };
        job.map_err(|error| refused(&name, &error))
    }

    /// Gives the command's terminal, if it has one, a new size.
    pub(crate) fn resize(&self, size: tty::Size) {
        if let Some(terminal) = &self.terminal {
            // The size of a terminal that is gone matters to nobody.
            let _ = tty::set_size(terminal, size);
        }
    }

    /// Sends a signal to the command's process group.
    pub(crate) fn signal(&self, signal: Signal) {
        // A group that is gone has its ending on the way already.
        let _ = process::signal_group(self.leader, signal);
    }

    /// The launcher no longer reads this stream. A terminal hangs up, a pipe breaks.
    pub(crate) fn close_output(&mut self, stream: Stream) {
        if self.terminal.is_some() {
            self.terminal = None;
            self.input.file = None;
        }
        self.outputs.retain(|source| source.stream != stream);
    }
}

/// Whom to become, where that is not root.
fn user(start: &Start) -> Result<Option<User>, Refused> {
    if start.user.is_empty() {
        return Ok(None);
    }
    let user = User::find(&String::from_utf8_lossy(&start.user));
    user.map(Some).map_err(|text| (Refusal::Unprepared, text))
}

fn command(start: &Start, user: Option<&User>) -> Result<(Command, String), Refused> {
    let (mut command, name) = program(start, user);
    command
        .env_clear()
        .env("PATH", DEFAULT_PATH)
        .env("HOME", home(user));
    let name_of_user = user.map_or(Some("root"), |user| user.name.as_deref());
    if let Some(name) = name_of_user {
        command.env("USER", name).env("LOGNAME", name);
    }
    if start.argv.is_empty() {
        command.env("SHELL", &name);
    }
    for entry in &start.env {
        let mut halves = entry.splitn(2, |&byte| byte == b'=').map(OsStr::from_bytes);
        let name = halves.next().unwrap_or_default();
        command.env(name, halves.next().unwrap_or_default());
    }
    command.current_dir(directory(&start.cwd, home(user))?);
    Ok((command, name))
}

/// The command that is asked for and its name: without one, a login shell.
fn program(start: &Start, user: Option<&User>) -> (Command, String) {
    if let [name, arguments @ ..] = &start.argv[..] {
        let mut command = Command::new(OsStr::from_bytes(name));
        command.args(arguments.iter().map(|it| OsStr::from_bytes(it)));
        return (command, String::from_utf8_lossy(name).into_owned());
    }
    let shell = login_shell(user);
    let mut command = Command::new(&shell);
    // What makes a shell one for logging in (login(1)).
    command.arg0(format!("-{}", shell.rsplit('/').next().unwrap_or("sh")));
    (command, shell)
}

/// The shell that the user has in the guest, or the one that every guest has.
fn login_shell(user: Option<&User>) -> String {
    let root = || User::find(ROOT).ok();
    let shell = match user {
        Some(user) => user.shell.clone(),
        None => root().and_then(|user| user.shell),
    };
    let there = shell.filter(|path| Path::new(path).is_file());
    there.unwrap_or_else(|| ANY_SHELL.to_owned())
}

fn home(user: Option<&User>) -> &str {
    user.map_or(DEFAULT_HOME, |user| &user.home)
}

/// The directory to start in. It is checked here because a failure at the start looks like a missing command.
fn directory<'a>(wanted: &'a [u8], home: &'a str) -> Result<&'a Path, Refused> {
    let home = Path::new(home);
    if wanted.is_empty() {
        return Ok(if home.is_dir() { home } else { Path::new("/") });
    }
    let path = Path::new(OsStr::from_bytes(wanted));
    if path.is_dir() {
        Ok(path)
    } else {
        Err((
            Refusal::Unprepared,
            format!("cannot start in {path:?}: it is not a directory of the guest"),
        ))
    }
}

fn refused(name: &str, error: &io::Error) -> Refused {
    // ENOEXEC has no ErrorKind.
    const NOT_A_PROGRAM: i32 = 8;
    let not_a_program = error.raw_os_error() == Some(NOT_A_PROGRAM);
    match error.kind() {
        ErrorKind::NotFound => (
            Refusal::NotFound,
            format!("cannot run {name:?}: there is no such command in the guest; check its name"),
        ),
        ErrorKind::PermissionDenied | ErrorKind::IsADirectory => (
            Refusal::NotExecutable,
            format!("cannot run {name:?}: it is no executable file of the guest; check its mode"),
        ),
        _ if not_a_program => (
            Refusal::NotExecutable,
            format!(
                "cannot run {name:?}: it is no program for the guest; a script needs a #! line"
            ),
        ),
        _ => (Refusal::Unprepared, format!("cannot run {name:?}: {error}")),
    }
}

/// Sets the command up to lead its session as `user`.
fn lead(command: &mut Command, terminal: bool, user: Option<User>) {
    process::lead_session(command, terminal);
    if let Some(User {
        uid, gid, groups, ..
    }) = user
    {
        process::become_user(command, uid, gid, groups);
    }
}

fn on_pipes(mut command: Command, user: Option<User>) -> io::Result<Job> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    lead(&mut command, false, user);
    let mut child = command.spawn()?;
    let input = child.stdin.take().map(OwnedFd::from);
    let stdout = child.stdout.take().map(OwnedFd::from);
    let stderr = child.stderr.take().map(OwnedFd::from);
    let mut outputs = Vec::new();
    for (stream, fd) in [(Stream::Stdout, stdout), (Stream::Stderr, stderr)] {
        if let Some(fd) = fd {
            outputs.push(Source::new(stream, fd.into())?);
        }
    }
    Ok(Job {
        leader: child.id(),
        input: Sink::new(input.map(File::from), false)?,
        outputs,
        terminal: None,
    })
}

fn on_terminal(mut command: Command, size: tty::Size, user: Option<User>) -> io::Result<Job> {
    let Pty { terminal, program } = Pty::open(size)?;
    if let Some(user) = &user {
        // As login does, so that the user can open it again by its name.
        std::os::unix::fs::fchown(&program, Some(user.uid), None)?;
    }
    command
        .stdin(program.try_clone()?)
        .stdout(program.try_clone()?)
        .stderr(program);
    lead(&mut command, true, user);
    let child = command.spawn()?;
    Ok(Job {
        leader: child.id(),
        input: Sink::new(Some(terminal.try_clone()?), true)?,
        outputs: vec![Source::new(Stream::Stdout, terminal.try_clone()?)?],
        terminal: Some(terminal),
    })
}

/// Bytes on their way to the command.
#[derive(Debug)]
pub(crate) struct Sink {
    /// Where they go; `None` once nobody reads them.
    pub(crate) file: Option<File>,
    terminal: bool,
    queue: VecDeque<u8>,
    ended: bool,
    /// Bytes passed on that the launcher has not been told of.
    passed: u32,
}

impl Sink {
    fn new(file: Option<File>, terminal: bool) -> io::Result<Self> {
        if let Some(file) = &file {
            make_nonblocking(file)?;
        }
        Ok(Self {
            file,
            terminal,
            queue: VecDeque::new(),
            ended: false,
            passed: 0,
        })
    }

    /// Takes in bytes. An error if the launcher sends more than its window.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.file.is_some() {
            self.queue.extend(bytes);
        }
        if self.queue.len() + self.passed as usize > WINDOW as usize {
            return Err(io::Error::other("the launcher sent more than its window"));
        }
        Ok(())
    }

    /// No more bytes come.
    pub(crate) fn end(&mut self) {
        self.ended = true;
        if self.terminal && self.file.is_some() {
            self.queue.push_back(END_OF_TRANSMISSION);
        }
    }

    /// Whether the descriptor is worth polling: a pipe always, as its reader may go away.
    pub(crate) fn polls(&self) -> Option<(&File, bool)> {
        let file = self.file.as_ref()?;
        let waiting = !self.queue.is_empty();
        (waiting || !self.terminal).then_some((file, waiting))
    }

    /// Passes on what the command takes now, and appends what the launcher should know.
    pub(crate) fn pump(&mut self, broken: bool, frames: &mut Vec<Frame>) {
        let mut gone = broken && self.queue.is_empty();
        while let (Some(file), false) = (&mut self.file, self.queue.is_empty()) {
            match file.write(self.queue.as_slices().0) {
                Ok(count) => {
                    self.queue.drain(..count);
                    self.passed += count as u32;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    gone = true;
                    break;
                }
            }
        }
        if gone {
            self.file = None;
            self.queue.clear();
            frames.push(Frame::Closed(Stream::Stdin));
        } else if self.ended && self.queue.is_empty() && !self.terminal {
            self.file = None;
        }
        if self.passed > WINDOW / 4 || (self.passed > 0 && self.queue.is_empty()) {
            frames.push(Frame::Credit(Stream::Stdin, self.passed));
            self.passed = 0;
        }
    }
}

/// Bytes on their way from the command.
#[derive(Debug)]
pub(crate) struct Source {
    /// Which stream they are.
    pub(crate) stream: Stream,
    /// Where they come from.
    pub(crate) file: File,
    credit: u32,
}

/// What a source had.
pub(crate) enum Pumped {
    /// Bytes: there may be more.
    Some,
    /// Nothing now.
    Nothing,
    /// Nothing, ever again.
    End,
}

impl Source {
    fn new(stream: Stream, file: File) -> io::Result<Self> {
        make_nonblocking(&file)?;
        Ok(Self {
            stream,
            file,
            credit: WINDOW,
        })
    }

    /// Whether the launcher takes more.
    pub(crate) fn has_credit(&self) -> bool {
        self.credit > 0
    }

    /// The launcher takes this many more.
    pub(crate) fn grant(&mut self, bytes: u32) {
        self.credit = self.credit.saturating_add(bytes).min(WINDOW);
    }

    /// Reads one frame's worth.
    pub(crate) fn pump(&mut self, frames: &mut Vec<Frame>) -> Pumped {
        let mut bytes = vec![0; DATA_MAX.min(self.credit as usize)];
        loop {
            match self.file.read(&mut bytes) {
                Ok(0) => return Pumped::End,
                Ok(count) => {
                    bytes.truncate(count);
                    self.credit -= count as u32;
                    frames.push(Frame::Data(self.stream, bytes));
                    return Pumped::Some;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Pumped::Nothing,
                // A terminal whose programs are all gone gives an error, not an end.
                Err(_) => return Pumped::End,
            }
        }
    }
}
