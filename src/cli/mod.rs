//! The command line: what was typed (`flags`), what it means (`meant`), and doing it.
//!
//! Whatever goes wrong here is one sentence on standard error and exit code 125. Standard output is for what was asked
//! for: help, the version, or the guest's own output.

mod bundle;
mod doctor;
mod flags;
mod json;
mod launch;
mod licenses;
mod meant;
mod record;
mod tables;
mod topology;
mod usage;
mod values;

use crate::machine;
use crate::sandbox::FAILURE;
use flags::Verb;
use flags::parse::{self, Typed};
use flags::table::Run;
use flags::{complete, help, manual};
use meant::Host;
use std::ffi::OsString;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::path::Path;
use usage::Usage;

/// Exit code where nobody reads what was asked for: as if SIGPIPE had ended us.
const NOBODY_READS: u8 = 128 + 13;

/// Does what the arguments (without the program's name) say and gives the exit code.
pub fn main(arguments: Vec<OsString>) -> u8 {
    restore_terminal_on_panic();
    match parse::read(arguments, &variable) {
        Ok(Typed::Help(verb)) => print(&help::page(verb)),
        Ok(Typed::Do(verb, run, command)) => act(verb, &run, command),
        Err(usage) => fail(&usage),
    }
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

fn act(verb: Verb, run: &Run, command: Vec<OsString>) -> u8 {
    match verb {
        Verb::Run => launch(run, command),
        Verb::Completions => completions(run.shell.as_deref().unwrap_or_default()),
        Verb::Man => print(&manual::page()),
        Verb::Doctor => print(&doctor::page()),
        Verb::Licenses => print(&licenses::page(bundle::BUNDLE.as_ref())),
        Verb::Version => print(&version()),
        Verb::Tables => match write_tables(run) {
            Ok(()) => 0,
            Err(sentence) => fail(&sentence),
        },
        Verb::Topology => match show(run) {
            Ok(page) => print(&page),
            Err(sentence) => fail(&sentence),
        },
    }
}

fn launch(run: &Run, command: Vec<OsString>) -> u8 {
    let host = Host {
        bundle: bundle::BUNDLE,
        terminal: launch::terminal(),
        variable: &variable,
        whole_path: &|path| path.canonicalize(),
        file: &|path, most| {
            let mut bytes = Vec::new();
            File::open(path)?.take(most).read_to_end(&mut bytes)?;
            Ok(bytes)
        },
    };
    let begun = meant::meant(run, command, &host)
        .map_err(|usage| usage.to_string())
        .and_then(|meant| record::begin(run).map(|()| meant));
    match begun {
        Ok(meant) => launch::launch(&meant),
        Err(sentence) => fail(&sentence),
    }
}

fn completions(shell: &str) -> u8 {
    match complete::script(shell) {
        Some(script) => print(&script),
        None => fail(&Usage::value(
            "completions",
            shell,
            &complete::SHELLS.join(", "),
        )),
    }
}

fn write_tables(run: &Run) -> Result<(), String> {
    let machine = meant::described(run).map_err(|usage| usage.to_string())?;
    tables::write(Path::new(run.dir.as_deref().unwrap_or_default()), &machine)
}

fn show(run: &Run) -> Result<String, String> {
    let spec = meant::described(run).map_err(|usage| usage.to_string())?;
    let machine = machine::topology(&spec).map_err(|error| error.to_string())?;
    Ok(if run.json {
        format!("{}\n", topology::json(&machine))
    } else {
        topology::draw(&machine)
    })
}

/// Says what went wrong.
fn fail(sentence: &impl Display) -> u8 {
    say(sentence);
    FAILURE
}

/// Says something in our own name. Where nobody can hear it, the exit code must do.
fn say(sentence: &impl Display) {
    let _ = writeln!(io::stderr(), "xlaunch: {sentence}");
}

fn print(text: &str) -> u8 {
    let mut stdout = io::stdout();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => 0,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => NOBODY_READS,
        Err(error) => fail(&format!(
            "cannot write to standard output: {error}; redirect it elsewhere"
        )),
    }
}

/// Our version, then the bundle's record: kernel version, configuration hash, SHA-256 and what else it holds.
fn version() -> String {
    let ours = concat!("xlaunch ", env!("CARGO_PKG_VERSION"), "\n");
    match bundle::BUNDLE {
        Some(bundle) => format!("{ours}{}\n", bundle.record.trim_end()),
        None => format!("{ours}no guest built in; scripts/run builds one\n"),
    }
}

/// A panic is a mistake of ours. It must not leave the person with a raw terminal, nor look like a guest's exit code.
fn restore_terminal_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        hvf_sys::tty::restore();
        say(&format!(
            "internal error, please report it: {}",
            panic.to_string().replace('\n', " ")
        ));
        std::process::exit(i32::from(FAILURE));
    }));
}

/// Whether both our input and our output are a terminal, so that the guest gets one too.
fn on_terminal() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}
