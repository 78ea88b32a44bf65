//! Stops a thread that is inside a system call: a signal that does nothing but end the call.
//!
//! Invariants: the handler is empty, so it may run anywhere; it is installed once and stays. A signal may come too
//! late, when its thread is elsewhere or gone: other calls are restarted (SA_RESTART), and a number that has passed
//! on to another thread of this process only has that one run the empty handler. Whoever must not lose a kick keeps
//! a flag beside it, which the call looks at (`kvm` has one in the page that it shares with the kernel).

use std::io;
use std::sync::OnceLock;

use crate::os::check;

/// A thread of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thread(i32);

impl Thread {
    /// The calling thread, which from now on can be interrupted.
    pub fn current() -> io::Result<Self> {
        static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
        let installed =
            INSTALLED.get_or_init(|| install().map_err(|e| e.raw_os_error().unwrap_or(0)));
        installed.map_err(io::Error::from_raw_os_error)?;
        unblock()?;
        // SAFETY: gettid takes nothing and cannot fail.
        Ok(Self(unsafe { libc::gettid() }))
    }

    /// Its number; never zero.
    pub fn number(self) -> i32 {
        self.0
    }
}

/// Ends the system call in which the thread of this number is, where there is still such a thread in this process.
pub fn interrupt(number: i32) {
    // SAFETY: the call takes numbers only. It signals nobody outside this process.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), number, signal()) };
}

/// The first signal that the C library leaves to programs: nobody else of ours uses real-time signals.
fn signal() -> i32 {
    libc::SIGRTMIN()
}

extern "C" fn nothing(_: libc::c_int) {}

fn install() -> io::Result<()> {
    let handler: extern "C" fn(libc::c_int) = nothing;
    // SAFETY: an all-zero sigaction is valid (no flags, empty mask, default action).
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: `action` is initialised and outlives the call; the handler does nothing.
    check(unsafe { libc::sigaction(signal(), &action, std::ptr::null_mut()) })?;
    Ok(())
}

/// Whoever started us may have blocked the signal.
fn unblock() -> io::Result<()> {
    // SAFETY: an all-zero set is valid memory for sigemptyset to fill; both outlive the calls.
    let failed = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal());
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut())
    };
    match failed {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn a_call_ends_and_a_restarted_one_does_not() {
        let (mut reader, mut writer) = io::pipe().unwrap();
        let (tell, told) = mpsc::channel();
        let sleeper = thread::spawn(move || {
            tell.send(Thread::current().unwrap()).unwrap();
            let long = libc::timespec {
                tv_sec: 1000,
                tv_nsec: 0,
            };
            // SAFETY: a valid time and no place for the rest. nanosleep is never restarted.
            let slept = unsafe { libc::nanosleep(&long, std::ptr::null_mut()) };
            let error = io::Error::last_os_error().kind();
            tell.send(Thread::current().unwrap()).unwrap();
            let mut byte = [0];
            // read(2) is: the byte arrives all the same.
            reader.read_exact(&mut byte).unwrap();
            (slept, error, byte)
        });
        let thread = told.recv().unwrap();
        while told.try_recv().is_err() {
            interrupt(thread.number());
            thread::sleep(Duration::from_millis(1));
        }
        for _ in 0..20 {
            interrupt(thread.number());
            thread::sleep(Duration::from_millis(1));
        }
        writer.write_all(b"x").unwrap();
        let (slept, error, byte) = sleeper.join().unwrap();
        assert_eq!(
            (slept, error, byte),
            (-1, io::ErrorKind::Interrupted, *b"x")
        );
    }
}
