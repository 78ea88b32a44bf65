//! The release program from outside, with real guests in it: what it promises to whoever types a command.
//!
//! `scripts/test` builds the program and names it in XLAUNCH_BIN. Every run here is a whole boot, so a test asks for all
//! that one boot can show. Tests whose name contains `long` take minutes and run by `scripts/test --long`.

#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod ahci;
mod bytes;
mod cpus;
mod crashes;
mod debian;
mod disk;
mod dmesg;
mod endings;
mod folders;
mod kernel;
mod launcher;
mod link;
mod matrix;
mod memory;
mod model;
mod net;
mod parsers;
mod partitions;
mod streams;
mod stress;
mod terminal;
mod user_net;
mod vmlinux;
