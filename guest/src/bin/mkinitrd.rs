//! `mkinitrd OUTPUT LIST...`: writes the initrd that the lists describe.
//!
//! The output appears whole or not at all, and an output that already holds the same bytes is left alone, so that
//! nothing which depends on it is built again.
#![forbid(unsafe_code)]

use guest::archive::Archive;
use guest::list;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.split_first() {
        Some((output, lists)) if !lists.is_empty() => build(Path::new(output), lists),
        _ => Err("usage: mkinitrd OUTPUT LIST...".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("mkinitrd: {why}");
            ExitCode::FAILURE
        }
    }
}

fn build(output: &Path, lists: &[String]) -> Result<(), String> {
    let mut archive = Archive::new();
    for path in lists {
        let text =
            fs::read_to_string(path).map_err(|e| format!("cannot read the list {path}: {e}"))?;
        list::read(&text, &mut archive).map_err(|e| format!("{path}, {e}"))?;
    }
    let mut bytes = Vec::new();
    archive
        .write(&mut bytes)
        .map_err(|e| format!("cannot make the archive: {e}"))?;
    replace(output, &bytes)
        .map_err(|e| format!("cannot write the archive {}: {e}", output.display()))
}

/// Makes `output` hold `bytes` in one step.
fn replace(output: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if fs::read(output).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let mut part = output.as_os_str().to_owned();
    part.push(format!(".part{}", std::process::id()));
    let done = fs::write(&part, bytes).and_then(|()| fs::rename(&part, output));
    if done.is_err() {
        // The first error is the one to tell; what is left of the part is worth nothing.
        let _ = fs::remove_file(&part);
    }
    done
}
