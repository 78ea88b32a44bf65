//! What launcher and init have agreed on about the private link: addresses, ports, and the kernel's command line.
//!
//! The link is an Ethernet of two: init, which takes the interface with the address `MAC` into a network namespace of
//! its own, and the launcher. Init always connects; the launcher always listens. Neither asks for addresses, so the
//! link is up as soon as the kernel has found the interface. The addresses are link-local (RFC 3927), which
//! no image routes anywhere.

use std::net::Ipv4Addr;

/// The hardware address of the guest's interface, by which init knows it.
pub const MAC: [u8; 6] = *b"\x02xlink";
/// The hardware address of the launcher.
pub const LAUNCHER_MAC: [u8; 6] = *b"\x02xlhst";
/// The launcher's address.
pub const LAUNCHER: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The guest's address.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 2);
/// How many leading bits the two addresses share.
pub const PREFIX: u8 = 30;

/// The TCP ports that the launcher listens at.
pub mod port {
    /// The session (`protocol`).
    pub const SESSION: u16 = 1;
    /// The first shared folder; each has a port of its own, one after the other.
    pub const FOLDERS: u16 = 2;
}

/// The most folders that are shared with one guest.
pub const FOLDERS_MAX: usize = 64;
