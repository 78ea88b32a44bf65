//! The host's own processor as an oracle for the interpreter: typed instructions, random operands and states, the same
//! registers, flags, memory and faults demanded of both.
//!
//! The program runs itself as a child (`host`) that executes the instructions, so that no case can harm the test. It needs
//! an x86-64 Linux host; elsewhere it says so and passes. `--seed N` and `--each N` repeat or lengthen a run.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod child;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod compare;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod generate;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod host;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod place;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod prepare;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod random;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod rows;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod run;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod sanity;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod software;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod undefined;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod wire;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() -> std::process::ExitCode {
    run::run()
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn main() {
    println!("skipped: the oracle: the host is not x86-64 Linux");
}
