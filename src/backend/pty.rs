//! A serial line's far end as a pseudo-terminal, for any terminal program of the host.
//!
//! Both sides stay open for as long as this program lives, so that such programs may come and go: what the guest sends
//! meanwhile waits for the next one, and when the pseudo-terminal and the line are full, the guest waits as well. With the
//! program the pseudo-terminal is gone, and its name with it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::thread;

use hvf_sys::os::pty::Pty;
use hvf_sys::tty::{self, Size};

use super::console::{Input, Output};

/// Bytes that are passed on at once.
const CHUNK: usize = 4096;

/// Leads a line to a new pseudo-terminal, which passes every byte as it is. Gives the name for terminal programs.
pub fn attach(mut output: Output, mut input: Input) -> io::Result<PathBuf> {
    let pty = Pty::open(Size {
        rows: 0,
        columns: 0,
    })?;
    tty::make_raw(&pty.program)?;
    let name = pty.name()?;
    let Pty { terminal, program } = pty;
    let mut to_program = terminal.try_clone()?;
    spawn("pty output", move || pass(&mut output, &mut to_program))?;
    spawn("pty input", move || {
        let mut from_program: File = terminal;
        pass(&mut from_program, &mut input);
        // Without a program on the other side a read would fail rather than wait.
        drop(program);
    })?;
    Ok(name)
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(body)?;
    Ok(())
}

/// Copies until one of them is gone. Nobody is there to be told of an error: a cable has been pulled out.
fn pass(from: &mut impl Read, to: &mut impl Write) {
    let mut chunk = [0; CHUNK];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return,
            Ok(count) if to.write_all(&chunk[..count]).is_err() => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::console::serial_line;
    use crate::bus::SerialEnd;
    use std::time::{Duration, Instant};

    #[test]
    fn every_byte_passes_both_ways_unchanged() {
        let (mut port, output, input) = serial_line();
        let name = attach(output, input).unwrap();
        let all: Vec<u8> = (0..=255).collect();
        // A terminal program that goes, and another that comes.
        for _ in 0..2 {
            let options = File::options().read(true).write(true).to_owned();
            let mut program = options.open(&name).unwrap();
            program.write_all(&all).unwrap();
            let mut received = Vec::new();
            let until = Instant::now() + Duration::from_secs(60);
            while received.len() < all.len() && Instant::now() < until {
                match port.take() {
                    Some(byte) => received.push(byte),
                    None => thread::yield_now(),
                }
            }
            assert_eq!(received, all);
            assert!(all.iter().all(|&byte| port.put(byte)));
            let mut sent = vec![0; all.len()];
            program.read_exact(&mut sent).unwrap();
            assert_eq!(sent, all);
        }
    }
}
