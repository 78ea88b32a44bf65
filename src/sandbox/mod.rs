//! What makes the machine a sandbox: one command, its streams and its exit code.
//!
//! `session` is the launcher's half of a session as a plain state machine: events in, actions out, time as an argument. `drive`
//! gives it threads: one that decodes the link, one that writes it, one for each of our streams, one for signals, one
//! that keeps the kernel's console, one that waits for the machine. They meet in one channel, and only `drive` decides.
//!
//! Everything that we say goes to standard error; standard output belongs to the guest.

mod drive;
mod escape;
pub mod folders;
mod kernel_log;
mod session;
mod streams;
mod verdict;

pub use drive::{Lines, Machine, Plan, Streams, Wiring, run};
pub use session::MachineEnd;
pub use verdict::{FAILURE, Verdict};
