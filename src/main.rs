//! The `xlaunch` command.
#![forbid(unsafe_code)]

fn main() {}
