//! Terminals: raw mode that is always undone, and sizes.
//!
//! Invariant: what a terminal was like before is kept in one place for the whole process, so that a normal return, a
//! panic hook and a signal's handler thread can all put it back, in any order and more than once.

use crate::os::check;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters a line.
    pub columns: u16,
}

struct Saved {
    terminal: OwnedFd,
    modes: libc::termios,
}

static SAVED: Mutex<Option<Saved>> = Mutex::new(None);

/// Raw mode of a terminal, until it is dropped.
#[derive(Debug)]
pub struct RawMode(());

impl RawMode {
    /// Passes every byte through and leaves Ctrl-C and the like to whoever reads. One at a time in a process.
    pub fn enter(terminal: impl AsFd) -> io::Result<Self> {
        let terminal = terminal.as_fd().try_clone_to_owned()?;
        let mut saved = SAVED.lock().unwrap_or_else(PoisonError::into_inner);
        if saved.is_some() {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let modes = modes(terminal.as_fd())?;
        set_modes(terminal.as_fd(), &raw(modes))?;
        *saved = Some(Saved { terminal, modes });
        Ok(Self(()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts back the terminal that is in raw mode, if one is. For a panic hook: it waits for nobody.
pub fn restore() {
    let saved = match SAVED.try_lock() {
        Ok(mut saved) => saved.take(),
        Err(std::sync::TryLockError::Poisoned(saved)) => saved.into_inner().take(),
        Err(std::sync::TryLockError::WouldBlock) => None,
    };
    if let Some(saved) = saved {
        // A terminal that is gone cannot be put back and needs not be.
        let _ = set_modes(saved.terminal.as_fd(), &saved.modes);
    }
}

/// Makes this terminal raw for good: for a serial line that carries frames.
pub fn make_raw(terminal: impl AsFd) -> io::Result<()> {
    let terminal = terminal.as_fd();
    let mut raw = raw(modes(terminal)?);
    raw.c_cflag |= libc::CLOCAL | libc::CREAD;
    set_speed(&mut raw)?;
    set_modes(terminal, &raw)?;
    // SAFETY: takes an open descriptor and an integer.
    check(unsafe { libc::tcflush(terminal.as_raw_fd(), libc::TCIFLUSH) })?;
    Ok(())
}

/// Sets 115200 baud. In the control flags themselves, since the libc crate binds the C function to a symbol version, and
/// the statically linked init and its static libc have none.
#[cfg(target_os = "linux")]
fn set_speed(modes: &mut libc::termios) -> io::Result<()> {
    modes.c_cflag = modes.c_cflag & !libc::CBAUD | libc::B115200;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn set_speed(modes: &mut libc::termios) -> io::Result<()> {
    // SAFETY: `modes` is an initialised termios; the speed is one of the constants.
    check(unsafe { libc::cfsetspeed(modes, libc::B115200) }).map(drop)
}

/// The terminal's size.
pub fn size(terminal: impl AsFd) -> io::Result<Size> {
    let mut window = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let fd = terminal.as_fd().as_raw_fd();
    // SAFETY: TIOCGWINSZ fills the winsize that it is given.
    check(unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &mut window) })?;
    Ok(Size {
        rows: window.ws_row,
        columns: window.ws_col,
    })
}

/// Gives the terminal a size; its foreground programs get SIGWINCH.
pub fn set_size(terminal: impl AsFd, size: Size) -> io::Result<()> {
    let window = libc::winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let fd = terminal.as_fd().as_raw_fd();
    // SAFETY: TIOCSWINSZ reads the winsize that it is given.
    check(unsafe { libc::ioctl(fd, libc::TIOCSWINSZ, &window) })?;
    Ok(())
}

fn modes(terminal: BorrowedFd<'_>) -> io::Result<libc::termios> {
    // SAFETY: an all-zero termios is a valid value of integers.
    let mut modes: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: fills the termios that it is given.
    check(unsafe { libc::tcgetattr(terminal.as_raw_fd(), &mut modes) })?;
    Ok(modes)
}

fn set_modes(terminal: BorrowedFd<'_>, modes: &libc::termios) -> io::Result<()> {
    loop {
        // SAFETY: reads the termios that it is given.
        let result = check(unsafe { libc::tcsetattr(terminal.as_raw_fd(), libc::TCSANOW, modes) });
        match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map(|_| ()),
        }
    }
}

fn raw(mut modes: libc::termios) -> libc::termios {
    // SAFETY: changes the initialised termios that it is given.
    unsafe { libc::cfmakeraw(&mut modes) };
    modes.c_cc[libc::VMIN] = 1;
    modes.c_cc[libc::VTIME] = 0;
    modes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::pty::Pty;

    const SIZE: Size = Size {
        rows: 24,
        columns: 80,
    };

    fn is_raw(terminal: &impl AsFd) -> bool {
        modes(terminal.as_fd()).unwrap().c_lflag & libc::ICANON == 0
    }

    #[test]
    fn raw_mode_is_undone_by_its_end_and_by_the_hook() {
        let pty = Pty::open(SIZE).unwrap();
        let raw = RawMode::enter(&pty.program).unwrap();
        assert!(is_raw(&pty.program));
        assert!(RawMode::enter(&pty.program).is_err());
        drop(raw);
        assert!(!is_raw(&pty.program));

        let raw = RawMode::enter(&pty.program).unwrap();
        restore();
        assert!(!is_raw(&pty.program));
        drop(raw);
        assert!(!is_raw(&pty.program));
    }

    #[test]
    fn sizes_are_read_and_set() {
        let pty = Pty::open(SIZE).unwrap();
        let other = Size {
            rows: 50,
            columns: 132,
        };
        set_size(&pty.terminal, other).unwrap();
        assert_eq!(size(&pty.program).unwrap(), other);
        let (reader, _writer) = io::pipe().unwrap();
        assert!(size(&reader).is_err());
    }

    #[test]
    fn a_framed_line_is_raw() {
        let pty = Pty::open(SIZE).unwrap();
        make_raw(&pty.program).unwrap();
        assert!(is_raw(&pty.program));
    }
}
