//! What makes the machine a sandbox: one command, its streams and its exit code.
//!
//! `session` is the launcher's half of a session as a plain state machine: events in, actions out, time as an argument. `drive`
//! gives it threads: one for each line into the guest (`line`), one for each of our streams, one for signals, one
//! that keeps the kernel's console, one that waits for the machine. They meet in one channel, and only `drive` decides.
//! A guest that runs an init of its own speaks no protocol: `own_init` speaks it in its place.
//!
//! Everything that we say goes to standard error; standard output belongs to the guest.

mod clock;
mod drive;
mod escape;
pub mod folders;
mod kernel_log;
mod line;
mod own_init;
mod services;
mod session;
mod streams;
mod verdict;

pub use drive::{Account, Lines, Machine, Plan, Streams, Wiring, run};
pub use line::Line;
pub use own_init::{PowerButton, own_init};
pub use services::Services;
pub use session::{MachineEnd, Moments};
pub use verdict::{FAILURE, Verdict};
