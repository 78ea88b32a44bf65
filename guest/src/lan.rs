//! What launcher and init have agreed on about the user-mode network (`--net user`): the addresses of an Ethernet of
//! three, on which the launcher is both the gateway and the name server.
//!
//! Init configures the guest's interface from here without asking anybody; an image that asks gets the same addresses
//! by DHCP. The IPv4 ones are those that people know from other tools. IPv6 is there only where the host itself reaches
//! the outside with it: then the gateway sends router advertisements, and a kernel that listens to them configures
//! itself, so that init need not know. The prefix is a unique local one (RFC 4193), so that nothing outside is hidden.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The word on the kernel's command line that tells init of this network.
pub const WORD: &str = "xlaunch.net=user";

/// The hardware address of the gateway and name server.
pub const GATEWAY_MAC: [u8; 6] = *b"\x02xlgw0";

/// The network's first address.
pub const NETWORK: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 0);
/// How many leading bits its addresses share.
pub const PREFIX: u8 = 24;
/// The last address, which means everybody.
pub const BROADCAST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 255);
/// The gateway, which with `--allow-host` is also the host's 127.0.0.1.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// The name server.
pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// The guest, to which published ports lead.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

/// The same for IPv6.
pub mod v6 {
    use super::Ipv6Addr;

    /// The network's first address.
    pub const NETWORK: Ipv6Addr = on_link(0);
    /// How many leading bits its addresses share.
    pub const PREFIX: u8 = 64;
    /// The gateway, which with `--allow-host` is also the host's ::1.
    pub const GATEWAY: Ipv6Addr = on_link(2);
    /// The gateway as router advertisements name it: only link-local addresses may (RFC 4861, 4.2).
    pub const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
    /// The name server.
    pub const DNS: Ipv6Addr = on_link(3);
    /// The guest, where it is configured by hand.
    pub const GUEST: Ipv6Addr = on_link(0x15);

    const fn on_link(host: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0x786c, 0, 0, 0, 0, 0, host)
    }
}
