//! A file signed by the process that uses it: a record lock of `fcntl`, which tells others its owner.
//!
//! No lock that belongs to an open file (`flock`, OFD) knows a process. This one does, and goes with it. It is no
//! protection: the process drops it as soon as it closes any handle of the file. It lies on one byte where no file has
//! data, so that it is in nobody's way.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// The byte that is locked: far behind the end of every file, and not where others have agreed on meanings.
const BYTE: libc::off_t = (1 << 62) + 0x786c;

/// Signs the file: as one of several who share it, or (where it is open for writing) as the only one.
pub fn sign(file: &File, alone: bool) -> io::Result<()> {
    let mut lock = record(alone);
    call(file, libc::F_SETLK, &mut lock)
}

/// The process, other than this one, whose signature keeps us from signing. `None` also where it is of another
/// container or another machine.
pub fn signer(file: &File, alone: bool) -> Option<u32> {
    let mut lock = record(alone);
    call(file, libc::F_GETLK, &mut lock).ok()?;
    let held = i32::from(lock.l_type) != i32::from(libc::F_UNLCK as libc::c_short);
    let pid = u32::try_from(lock.l_pid).ok().filter(|pid| *pid > 0);
    pid.filter(|_| held)
}

fn record(alone: bool) -> libc::flock {
    let kind = if alone { libc::F_WRLCK } else { libc::F_RDLCK };
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: BYTE,
        l_len: 1,
        l_pid: 0,
    }
}

fn call(file: &File, request: libc::c_int, lock: &mut libc::flock) -> io::Result<()> {
    // SAFETY: both requests take one `flock`, which lives as long as the call, and write no more than that.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), request, std::ptr::from_mut(lock)) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::env;
    use std::io::Read;
    use std::path::Path;
    use std::process::{Child, Command, Stdio};

    /// Where the other process finds the file, and whether it signs alone.
    const FILE: &str = "XLAUNCH_TEST_SIGN";

    fn open(path: &Path) -> File {
        let file = File::options().read(true).write(true).open(path);
        file.unwrap()
    }

    /// The other process: this very test, which signs and waits.
    #[test]
    fn other_process() {
        let Some(order) = env::var_os(FILE) else {
            return;
        };
        let order = order.into_string().unwrap();
        let (alone, path) = order.split_once(' ').unwrap();
        let file = open(Path::new(path));
        sign(&file, alone == "alone").unwrap();
        print!("signed!");
        io::Write::flush(&mut io::stdout()).unwrap();
        io::stdin().read_to_end(&mut Vec::new()).unwrap();
    }

    /// This program once more, by what runs it where the host does not itself (`scripts/cross --run`).
    fn again() -> Command {
        let program = env::current_exe().unwrap();
        match env::var_os("XLAUNCH_TEST_RUNNER") {
            None => Command::new(program),
            Some(runner) => {
                let mut command = Command::new(runner);
                command.arg(program);
                command
            }
        }
    }

    fn start(path: &Path, alone: &str) -> Child {
        let mut child = again()
            .args([
                "--exact",
                "record_lock::tests::other_process",
                "--nocapture",
            ])
            .env(FILE, format!("{alone} {}", path.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = child.stdout.as_mut().unwrap();
        let mut said = Vec::new();
        while !said.ends_with(b"signed!") {
            let mut byte = [0];
            stdout.read_exact(&mut byte).unwrap();
            said.push(byte[0]);
        }
        child
    }

    #[test]
    fn who_has_signed_is_told_until_it_is_gone() {
        let path = env::temp_dir().join(format!("record-lock-{}", std::process::id()));
        std::fs::write(&path, "").unwrap();
        let file = open(&path);
        // Who has signed alone stands in everybody's way, who shares in that of one who wants to be alone.
        for (held, wanted, found) in [
            ("alone", true, true),
            ("alone", false, true),
            ("shared", true, true),
            ("shared", false, false),
        ] {
            let mut child = start(&path, held);
            let signer = signer(&file, wanted);
            assert_eq!(signer, found.then(|| child.id()), "{held} {wanted}");
            assert_eq!(sign(&file, wanted).is_err(), found, "{held} {wanted}");
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!(super::signer(&file, true), None);
        }
        std::fs::remove_file(path).unwrap();
    }
}
