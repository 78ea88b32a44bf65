//! Does what is meant: the machine on one side, our streams and terminal on the other, a session between them.

use super::meant::Meant;
use super::{on_terminal, say};
use crate::backend::disk::{Disk, Writes};
use crate::boot::image::{Image, Role};
use crate::sandbox::Verdict;
use guest::protocol::Window;
use hvf_sys::tty;
use std::io;

/// Our terminal's size, if the guest is to have a terminal.
pub(super) fn terminal() -> Option<Window> {
    if !on_terminal() {
        return None;
    }
    // A terminal that does not tell its size is one all the same.
    let size = tty::size(io::stdout()).unwrap_or(tty::Size {
        rows: 0,
        columns: 0,
    });
    Some(Window {
        rows: size.rows,
        columns: size.columns,
    })
}

/// Runs the machine and the session in it, and gives the exit code.
pub(super) fn launch(meant: &Meant) -> u8 {
    let sentence = match open(meant) {
        Ok(()) => {
            "cannot start the machine: this xlaunch was built before its machine; build a newer one"
                .to_owned()
        }
        Err(sentence) => sentence,
    };
    tell(meant, &Verdict::Failed(sentence), &[])
}

fn open(meant: &Meant) -> Result<(), String> {
    let machine = &meant.machine;
    let memory = machine.memory.bytes();
    let kernel = Image::read(Role::Kernel, &machine.kernel, memory).map_err(|e| e.to_string())?;
    crate::boot::kernel::Kernel::parse(kernel.bytes())
        .map_err(|problem| problem.of(kernel.name()).to_string())?;
    if let Some(initrd) = &machine.initrd {
        Image::read(Role::Initrd, initrd, memory).map_err(|e| e.to_string())?;
    }
    for disk in &machine.disks {
        Disk::open(&disk.path, &Writes::throw_away()).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Tells how it ended, if that needs words.
fn tell(meant: &Meant, verdict: &Verdict, kernel_log: &[String]) -> u8 {
    if verdict.wants_kernel_log() && !meant.plan.show_console && !kernel_log.is_empty() {
        say(&"the guest's kernel said last:");
        for line in kernel_log {
            eprintln!("    {line}");
        }
    }
    let sentence = verdict.to_string();
    if !sentence.is_empty() {
        say(&sentence);
    }
    verdict.code()
}
