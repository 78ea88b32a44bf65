//! What the launcher and the guest's init share, and the init's own parts.
//!
//! `protocol` is all that the launcher sees. `archive` and `list` make the initrd, on the machine that builds it. The rest
//! runs inside the guest, and only Linux is ever inside it.
#![forbid(unsafe_code)]

#[cfg(target_os = "linux")]
pub mod agent;
pub mod archive;
#[cfg(target_os = "linux")]
pub mod clock;
#[cfg(target_os = "linux")]
mod filesystem;
#[cfg(target_os = "linux")]
mod job;
pub mod lan;
pub mod link;
pub mod list;
#[cfg(target_os = "linux")]
mod netlink;
#[cfg(target_os = "linux")]
pub mod network;
#[cfg(target_os = "linux")]
pub mod own_init;
#[cfg(target_os = "linux")]
mod partition;
pub mod protocol;
#[cfg(target_os = "linux")]
mod resolver;
#[cfg(target_os = "linux")]
mod root;
#[cfg(target_os = "linux")]
pub mod share;
#[cfg(target_os = "linux")]
pub mod system;
#[cfg(target_os = "linux")]
mod user;
