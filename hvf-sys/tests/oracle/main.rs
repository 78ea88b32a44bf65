//! The host's own processor as an oracle for the interpreter: typed instructions, random operands and states, the same
//! registers, flags, memory and faults demanded of both.
//!
//! The program runs itself as a child (`host`) that executes the instructions, so that no case can harm the test. It needs
//! an x86-64 Linux host; elsewhere it says so and passes. `--seed N` and `--cases N` repeat or lengthen a run.

#![cfg_attr(not(all(target_os = "linux", target_arch = "x86_64")), allow(unused))]

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod child;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod host;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod place;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod sanity;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod wire;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() {
    if std::env::args().any(|argument| argument == child::ARGUMENT) {
        return host::serve();
    }
    sanity::the_oracle_executes_and_reports();
    println!("oracle: it executes and reports");
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn main() {
    println!("oracle: skipped, the host is not x86-64 Linux");
}
