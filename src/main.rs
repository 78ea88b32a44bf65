//! The `xlaunch` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(xlaunch::cli::main(std::env::args_os().skip(1).collect()))
}
