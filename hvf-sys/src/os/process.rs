//! Children: sessions, groups, signals and the dead.
//!
//! Invariant: what runs between fork and exec is async-signal-safe (signal, setsid, one ioctl on descriptor 0, and the
//! calls that set users and groups, which the standard library makes there too).

use super::check;
use super::signal::Signal;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It exited with this code.
    Exited(u8),
    /// This signal ended it.
    Killed(Signal),
}

/// How long ago the system started this process, as exactly as it says. On Linux that is hundredths of a second.
#[cfg(target_os = "linux")]
pub fn age() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // proc(5): the second field is a name in parentheses, in which anything may stand; starttime is the twenty-second.
    let (_, rest) = stat.rsplit_once(')')?;
    let ticks: u64 = rest.split_ascii_whitespace().nth(19)?.parse().ok()?;
    // SAFETY: takes an integer.
    let hertz = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).ok()?;
    let started = Duration::from_micros(ticks.checked_mul(1_000_000)?.checked_div(hertz)?);
    super::boot::uptime().checked_sub(started)
}

/// How long ago the system started this process, as exactly as it says. On macOS that is microseconds.
#[cfg(target_os = "macos")]
pub fn age() -> Option<Duration> {
    // SAFETY: an all-zero proc_bsdinfo is a valid value of integers.
    let mut info: libc::proc_bsdinfo = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::proc_bsdinfo>() as libc::c_int;
    let pid = std::process::id() as libc::c_int;
    let into = (&raw mut info).cast();
    // SAFETY: fills at most the bytes of the structure that it is given.
    let filled = unsafe { libc::proc_pidinfo(pid, libc::PROC_PIDTBSDINFO, 0, into, size) };
    if filled != size {
        return None;
    }
    let micros = u32::try_from(info.pbi_start_tvusec).ok()?;
    let started = Duration::new(info.pbi_start_tvsec, micros.checked_mul(1000)?);
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).ok()?;
    now.checked_sub(started)
}

/// What a terminal sends. A shell that starts something in the background without job control has it ignore the first
/// two for good, and nohup the third: that was about the old session.
const TERMINAL_SIGNALS: [libc::c_int; 6] = [
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGHUP,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// Makes the command the leader of a new session and process group, with a terminal's signals doing what they usually do.
/// With `terminal`, its standard input becomes the session's controlling terminal.
pub fn lead_session(command: &mut Command, terminal: bool) {
    let prepare = move || {
        for signal in TERMINAL_SIGNALS {
            // SAFETY: installs no handler of ours.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        // SAFETY: setsid takes nothing and touches no memory.
        check(unsafe { libc::setsid() })?;
        if terminal {
            // SAFETY: TIOCSCTTY takes an integer; descriptor 0 is whatever the command was given.
            check(unsafe { libc::ioctl(0, libc::TIOCSCTTY as _, 0) })?;
        }
        Ok(())
    };
    // SAFETY: the closure allocates nothing, takes no lock and calls only async-signal-safe functions.
    unsafe { command.pre_exec(prepare) };
}

/// Makes the command run as this user and group, and in these further groups and no others. What was asked of the command
/// before is still done as who we are.
pub fn become_user(command: &mut Command, uid: u32, gid: u32, groups: Vec<u32>) {
    let groups: Vec<libc::gid_t> = groups;
    let prepare = move || {
        // SAFETY: reads as many numbers as there are in the list, which the closure owns.
        check(unsafe { libc::setgroups(groups.len() as _, groups.as_ptr()) })?;
        // SAFETY: takes a number. The group first: afterwards we may not.
        check(unsafe { libc::setgid(gid) })?;
        // SAFETY: takes a number.
        check(unsafe { libc::setuid(uid) })?;
        Ok(())
    };
    // SAFETY: the closure allocates nothing, takes no lock and makes only system calls that are safe there.
    unsafe { command.pre_exec(prepare) };
}

/// Collects one dead child, if there is one now. `Ok(None)`: children live, but none has died.
/// `ErrorKind` of the error is what ECHILD maps to when there are no children at all.
pub fn reap() -> io::Result<Option<(u32, Ending)>> {
    let mut status = 0;
    // SAFETY: `status` is a live local.
    let pid = check(unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) })?;
    if pid == 0 {
        return Ok(None);
    }
    let ending = if libc::WIFSIGNALED(status) {
        Ending::Killed(Signal::from_number(libc::WTERMSIG(status) as u8).unwrap_or(Signal::KILL))
    } else {
        Ending::Exited(libc::WEXITSTATUS(status) as u8)
    };
    Ok(Some((pid as u32, ending)))
}

/// Sends a signal to the process group that `leader` leads.
pub fn signal_group(leader: u32, signal: Signal) -> io::Result<()> {
    let leader = i32::try_from(leader).map_err(|_| io::ErrorKind::InvalidInput)?;
    if leader <= 1 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: kill takes two integers; the group number is above 1, so it is neither ours nor everybody.
    check(unsafe { libc::kill(-leader, signal.raw()) })?;
    Ok(())
}

/// Sends a signal to every other process. Only an init does that, so it is refused to everybody else.
pub fn signal_everybody(signal: Signal) -> io::Result<()> {
    if std::process::id() != 1 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    // SAFETY: kill takes two integers; as process 1, -1 means everybody but ourselves.
    check(unsafe { libc::kill(-1, signal.raw()) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    #[test]
    fn this_process_is_not_a_day_old() {
        let age = age().expect("the system tells");
        assert!(age < Duration::from_secs(24 * 3600), "{age:?}");
    }

    #[test]
    fn a_session_leader_leads_its_group() {
        let mut command = Command::new("sh");
        command
            .args(["-c", "sleep 100 & wait"])
            .stdin(Stdio::null());
        lead_session(&mut command, false);
        let mut child = command.spawn().unwrap();
        signal_group(child.id(), Signal::TERMINATE).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(libc::SIGTERM)
        );
    }

    #[test]
    fn a_session_does_not_inherit_that_signals_are_ignored() {
        let mut command = Command::new("sh");
        command.args(["-c", "kill -INT $$"]);
        let ignore = || {
            // SAFETY: installs no handler.
            unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
            Ok(())
        };
        // SAFETY: the closure makes one async-signal-safe call.
        unsafe { command.pre_exec(ignore) };
        lead_session(&mut command, false);
        let status = command.spawn().unwrap().wait().unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(libc::SIGINT)
        );
    }

    #[test]
    fn a_command_runs_as_who_it_is_told() {
        let mut command = Command::new("sh");
        command.args(["-c", "id -u; id -g; id -G"]);
        become_user(&mut command, 12, 34, vec![56, 78]);
        match command.output() {
            Ok(output) => assert_eq!(output.stdout, b"12\n34\n34 56 78\n"),
            Err(error) => {
                // Only root may become somebody else.
                assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
                println!("skipped: not root");
            }
        }
    }

    #[test]
    fn everybody_and_our_own_group_are_out_of_reach() {
        for leader in [0, 1, u32::MAX] {
            assert!(signal_group(leader, Signal::TERMINATE).is_err());
        }
        assert!(signal_everybody(Signal::TERMINATE).is_err());
    }
}
