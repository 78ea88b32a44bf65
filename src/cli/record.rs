//! What xlaunch does, for who wants to know: `--verbose` on standard error, `--log` in a file. Without either, only what
//! the person must know: errors, a sentence each.

use super::flags::table::Run;
use log::{Log, Metadata, Record};
use simplelog::{CombinedLogger, Config, LevelFilter, SharedLogger, WriteLogger};
use std::fs::File;
use std::io::{self, IsTerminal, Write};

/// Begins to record as the flags say.
pub(super) fn begin(run: &Run) -> Result<(), String> {
    let mut loggers: Vec<Box<dyn SharedLogger>> = Vec::new();
    if run.verbose {
        let stderr = io::stderr();
        loggers.push(WriteLogger::new(
            LevelFilter::Info,
            Config::default(),
            stderr,
        ));
    } else {
        loggers.push(Box::new(Voice));
    }
    if let Some(path) = &run.log {
        let file = File::create(path).map_err(|error| {
            format!("cannot write the log '{path}': {error}; name a file that can be written")
        })?;
        loggers.push(WriteLogger::new(
            LevelFilter::Debug,
            Config::default(),
            file,
        ));
    }
    CombinedLogger::init(loggers).map_err(|error| format!("cannot begin the log: {error}"))
}

/// Says errors in our own name, in the midst of whatever else is on standard error.
struct Voice;

impl Log for Voice {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Error
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            // The terminal may be raw, because the guest has it.
            let mut stderr = io::stderr();
            let end = if stderr.is_terminal() { "\r\n" } else { "\n" };
            // Where nobody can hear it, there is nobody to tell.
            let _ = write!(stderr, "xlaunch: {}{end}", record.args());
        }
    }

    fn flush(&self) {}
}

impl SharedLogger for Voice {
    fn level(&self) -> LevelFilter {
        LevelFilter::Error
    }

    fn config(&self) -> Option<&Config> {
        None
    }

    fn as_log(self: Box<Self>) -> Box<dyn Log> {
        self
    }
}
