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
mod outcome;
mod record;
mod tables;
mod timeline;
mod topology;
mod usage;
mod values;

use crate::machine;
use crate::sandbox::FAILURE;
use flags::Verb;
use flags::parse::{self, Typed};
use flags::table::Run;
use flags::{complete, help, manual};
use json::{Json, text};
use meant::Host;
use std::ffi::OsString;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::path::Path;
use std::time::Instant;
use usage::Usage;

/// Exit code where nobody reads what was asked for: as if SIGPIPE had ended us.
const NOBODY_READS: u8 = 128 + 13;

/// Does what the arguments (without the program's name) say and gives the exit code.
pub fn main(arguments: Vec<OsString>) -> u8 {
    let begun = Instant::now();
    restore_terminal_on_panic();
    match parse::read(arguments, &variable) {
        Ok(Typed::Help(verb)) => print(&help::page(verb)),
        Ok(Typed::Do(verb, run, command)) => act(verb, &run, command, begun),
        Err(usage) => fail(&usage),
    }
}

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

fn act(verb: Verb, run: &Run, command: Vec<OsString>, begun: Instant) -> u8 {
    match verb {
        Verb::Run => launch(run, command, begun),
        Verb::Completions => completions(run.shell.as_deref().unwrap_or_default()),
        Verb::Man => print(&manual::page()),
        Verb::Doctor => print(&doctor::page(bundle::BUNDLE.as_ref(), run.json)),
        Verb::Licenses => print(&licenses::page(bundle::BUNDLE.as_ref())),
        Verb::Version => print(&version(run.json)),
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

fn launch(run: &Run, command: Vec<OsString>, begun: Instant) -> u8 {
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
    let meant = meant::meant(run, command, &host)
        .map_err(|usage| usage.to_string())
        .and_then(|meant| record::begin(run).map(|()| meant));
    match meant {
        Ok(meant) => launch::launch(&meant, begun),
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
fn version(json: bool) -> String {
    if json {
        return format!("{}\n", version_json());
    }
    let ours = concat!("xlaunch ", env!("CARGO_PKG_VERSION"), "\n");
    match bundle::BUNDLE {
        Some(bundle) => format!("{ours}{}\n", bundle.record.trim_end()),
        None => format!("{ours}no guest built in; scripts/run builds one\n"),
    }
}

fn version_json() -> Json {
    let guest = bundle::BUNDLE.map_or(Json::Null, |bundle| {
        let lines = bundle.record.lines();
        let members = lines.filter_map(|line| line.split_once('='));
        Json::Object(members.map(|(key, value)| (key, text(value))).collect())
    });
    let version = text(env!("CARGO_PKG_VERSION"));
    Json::Object(vec![("version", version), ("guest", guest)])
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
