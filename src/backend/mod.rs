//! What devices stand on: the host's side of disks, networks and consoles, without any device's protocol.

#[cfg(test)]
pub(crate) mod again;
pub mod console;
pub mod disk;
pub mod net;
pub mod pty;
