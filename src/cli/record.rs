//! What xlaunch does, for who wants to know: `--verbose` on standard error, `--log` in a file.

use super::typed::Run;
use simplelog::{CombinedLogger, Config, LevelFilter, SharedLogger, WriteLogger};
use std::fs::File;
use std::io;

/// Begins to record as the flags say. Without either flag nothing is recorded.
pub(super) fn begin(run: &Run) -> Result<(), String> {
    let mut loggers: Vec<Box<dyn SharedLogger>> = Vec::new();
    if run.verbose {
        let stderr = io::stderr();
        loggers.push(WriteLogger::new(
            LevelFilter::Info,
            Config::default(),
            stderr,
        ));
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
    if loggers.is_empty() {
        return Ok(());
    }
    CombinedLogger::init(loggers).map_err(|error| format!("cannot begin the log: {error}"))
}
