//! Folders of the host that the guest sees: a server of 9P2000.L, the dialect that Linux's own 9p file system speaks.
//!
//! The guest's kernel is the client, and whoever rules it says what it wants: no message may reach a file outside the folder,
//! change one in a folder that is shared for reading only, hold much of our memory, or stop us. `wire` takes messages apart,
//! `server` reads them and answers several at a time, `session` is what each of them does, `tree` is what they do it to.
//!
//! What the guest sees: the user who started us is the guest's root, and their group its root group. Another owner that the guest
//! gives a file is kept in the attribute `user.xlaunch.owner` (`UID:GID`), where the file can have one, and the host's
//! own owner stays. Set-user-id bits reach no file of the host. Devices cannot be made, and nothing but regular
//! files and directories is ever opened: FIFOs and sockets are names that the guest's kernel gives a meaning to.
//!
//! Locks keep out the host's programs. Among the guest's own programs the guest's kernel decides before it asks us.

mod attributes;
mod entries;
mod errno;
mod fids;
mod files;
mod locks;
mod server;
mod session;
mod share;
#[cfg(test)]
mod tests;
mod tree;
mod values;
mod wire;

pub use server::Server;
pub use share::{Share, open};
