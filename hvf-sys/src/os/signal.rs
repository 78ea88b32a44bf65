//! Signals as bytes in a pipe.
//!
//! Invariants: the handler only writes one byte to a pipe that is never closed once made, which is all that an
//! asynchronous signal handler may safely do here, and it keeps errno. The pipe's write end never blocks: a full pipe
//! already holds more signals than anybody needs.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::AsRawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

/// A signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(i32);

impl Signal {
    /// The terminal hung up.
    pub const HANGUP: Self = Self(libc::SIGHUP);
    /// Ctrl-C.
    pub const INTERRUPT: Self = Self(libc::SIGINT);
    /// Ctrl-\.
    pub const QUIT: Self = Self(libc::SIGQUIT);
    /// A request to end.
    pub const TERMINATE: Self = Self(libc::SIGTERM);
    /// The terminal changed its size.
    pub const WINDOW: Self = Self(libc::SIGWINCH);
    /// The first signal without a meaning of its own.
    pub const USER_1: Self = Self(libc::SIGUSR1);
    /// The second one.
    pub const USER_2: Self = Self(libc::SIGUSR2);
    /// A file would become larger than the system lets this process make one.
    pub const FILE_SIZE: Self = Self(libc::SIGXFSZ);
    /// A child changed its state.
    pub const CHILD: Self = Self(libc::SIGCHLD);
    /// The end, without appeal.
    pub const KILL: Self = Self(libc::SIGKILL);

    /// The signal of this number, where the system has one.
    pub fn from_number(number: u8) -> Option<Self> {
        (1..=64)
            .contains(&number)
            .then_some(Self(i32::from(number)))
    }

    /// The system's number.
    pub fn number(self) -> u8 {
        self.0 as u8
    }

    /// Linux's number, which is another one on some systems for some signals.
    pub fn linux_number(self) -> u8 {
        match self {
            Self::USER_1 => 10,
            Self::USER_2 => 12,
            Self::CHILD => 17,
            other => other.number(),
        }
    }

    pub(crate) fn raw(self) -> libc::c_int {
        self.0
    }
}

/// From now on the process does not notice this signal; what caused it gives an error instead.
pub fn ignore(signal: Signal) -> io::Result<()> {
    act(signal.0, libc::SIG_IGN)
}

/// Whether the process was started not to notice this signal, as nohup starts one, or has been told so since.
pub fn is_ignored(signal: Signal) -> io::Result<bool> {
    // SAFETY: an all-zero sigaction is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: without a new action this only fills the live local.
    super::check(unsafe { libc::sigaction(signal.0, std::ptr::null(), &mut action) })?;
    Ok(action.sa_sigaction == libc::SIG_IGN)
}

/// The pipe's write end for the handler; -1 before there is one.
static HANDLER_PIPE: AtomicI32 = AtomicI32::new(-1);
/// Keeps both ends open until the process ends.
static PIPE: OnceLock<(PipeReader, PipeWriter)> = OnceLock::new();

/// The receiving end of the process's signals.
#[derive(Debug)]
pub struct Signals(PipeReader);

impl Signals {
    /// Catches these signals from now on. A process has one such pipe: whoever reads first gets the signal.
    pub fn catch(signals: &[Signal]) -> io::Result<Self> {
        if PIPE.get().is_none() {
            let (reader, writer) = io::pipe()?;
            super::make_nonblocking(&writer)?;
            // Another thread may have been faster; then these two ends are closed again.
            let _ = PIPE.set((reader, writer));
        }
        let (reader, writer) = PIPE.get().expect("the pipe was just made");
        HANDLER_PIPE.store(writer.as_raw_fd(), Ordering::Release);
        for signal in signals {
            install(signal.raw())?;
        }
        Ok(Self(reader.try_clone()?))
    }

    /// Waits for the next signal.
    pub fn wait(&mut self) -> io::Result<Signal> {
        let mut byte = [0];
        self.0.read_exact(&mut byte)?;
        Ok(Signal(i32::from(byte[0])))
    }

    /// The next signal, if one has come. Only for a pipe that was made non-blocking.
    pub fn try_wait(&mut self) -> io::Result<Option<Signal>> {
        match self.wait() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            other => other.map(Some),
        }
    }
}

impl std::os::fd::AsFd for Signals {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn install(signal: libc::c_int) -> io::Result<()> {
    let handler: extern "C" fn(libc::c_int) = forward;
    act(signal, handler as libc::sighandler_t)
}

/// Sets what a signal does: `handler` is `forward`, or one of the system's constants.
fn act(signal: libc::c_int, handler: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: an all-zero sigaction is valid (no flags, empty mask, default action).
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: `action` is initialised and outlives the call; the handler is async-signal-safe (see the module's head).
    super::check(unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) })?;
    Ok(())
}

extern "C" fn forward(signal: libc::c_int) {
    let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0);
    let byte = signal as u8;
    let fd = HANDLER_PIPE.load(Ordering::Acquire);
    // SAFETY: write(2) is async-signal-safe, reads one byte of a live local, and the descriptor is never closed.
    unsafe { libc::write(fd, (&raw const byte).cast(), 1) };
    set_errno(errno);
}

fn set_errno(value: libc::c_int) {
    #[cfg(target_os = "linux")]
    // SAFETY: the location is this thread's own and always valid.
    unsafe {
        *libc::__errno_location() = value;
    }
    #[cfg(target_os = "macos")]
    // SAFETY: the location is this thread's own and always valid.
    unsafe {
        *libc::__error() = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_becomes_a_message() {
        let mut signals = Signals::catch(&[Signal::WINDOW]).unwrap();
        // SAFETY: raising a signal that is caught.
        assert_eq!(unsafe { libc::raise(libc::SIGWINCH) }, 0);
        assert_eq!(signals.wait().unwrap(), Signal::WINDOW);
    }

    #[test]
    fn what_is_ignored_is_told() {
        assert!(!is_ignored(Signal::FILE_SIZE).unwrap());
        ignore(Signal::FILE_SIZE).unwrap();
        assert!(is_ignored(Signal::FILE_SIZE).unwrap());
    }

    #[test]
    fn numbers_are_bounded() {
        let linux = [Signal::USER_1, Signal::USER_2, Signal::QUIT].map(Signal::linux_number);
        assert_eq!(linux, [10, 12, 3]);
        assert_eq!(Signal::from_number(0), None);
        assert_eq!(Signal::from_number(15), Some(Signal::TERMINATE));
        assert_eq!(Signal::from_number(65), None);
    }
}
