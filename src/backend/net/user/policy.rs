//! Where a guest may go: one table of what is refused, and what the network's own addresses lead to.
//!
//! The guest is a stranger on this host. It reaches what any other machine on the host's networks reaches, which includes
//! the host's own addresses there: whoever listens at those listens to others. It does not reach what the host keeps to
//! itself: its loopback, in every form in which an address can hide another, its links' own addresses, and the services
//! with which a cloud tells a machine its secrets. `--allow-host` opens one door: the gateway is the host's loopback.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use guest::lan;

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// To the gateway itself, and no further.
    Gateway,
    /// To the name server.
    Dns,
    /// To this address of the host's world.
    Outside(IpAddr),
    /// Nowhere: the address is refused, or nobody has it.
    Nowhere,
}

/// What else is refused or allowed.
#[derive(Clone, Debug, Default)]
pub(super) struct Policy {
    /// The gateway leads to the host's loopback.
    pub(super) allow_host: bool,
    /// IPv6 leads anywhere.
    pub(super) has_v6: bool,
    /// What the host's loopback interfaces answer for, whatever it is: addresses, and how many of their bits count.
    pub(super) loopback: Vec<(IpAddr, u8)>,
}

impl Policy {
    /// Where packets to `address` go.
    pub(super) fn goal(&self, address: IpAddr) -> Goal {
        match address {
            IpAddr::V4(lan::GATEWAY) if self.allow_host => {
                Goal::Outside(Ipv4Addr::LOCALHOST.into())
            }
            IpAddr::V6(lan::v6::GATEWAY) if self.allow_host => {
                Goal::Outside(Ipv6Addr::LOCALHOST.into())
            }
            IpAddr::V4(lan::GATEWAY) | IpAddr::V6(lan::v6::GATEWAY | lan::v6::ROUTER) => {
                Goal::Gateway
            }
            IpAddr::V4(lan::DNS) | IpAddr::V6(lan::v6::DNS) => Goal::Dns,
            _ if is_on_link(address) || is_refused(address) => Goal::Nowhere,
            _ if self.is_loopback(address) => Goal::Nowhere,
            IpAddr::V6(_) if !self.has_v6 => Goal::Nowhere,
            _ => Goal::Outside(address),
        }
    }

    fn is_loopback(&self, address: IpAddr) -> bool {
        let within = |&(first, bits): &(IpAddr, u8)| match (address, first) {
            (IpAddr::V4(it), IpAddr::V4(first)) => within4(it, first, bits),
            (IpAddr::V6(it), IpAddr::V6(first)) => within6(it, first, bits),
            _ => false,
        };
        let hidden = match address {
            IpAddr::V6(it) => hidden4(it),
            IpAddr::V4(_) => None,
        };
        self.loopback.iter().any(within) || hidden.is_some_and(|it| self.is_loopback(it.into()))
    }
}

/// Whether a guest may send from this address.
pub(super) fn is_guest(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(lan::GATEWAY | lan::DNS | lan::NETWORK | lan::BROADCAST) => false,
        IpAddr::V6(lan::v6::GATEWAY | lan::v6::ROUTER | lan::v6::DNS | lan::v6::NETWORK) => false,
        IpAddr::V6(it) if it.segments()[..4] == [0xfe80, 0, 0, 0] => true,
        _ => is_on_link(address),
    }
}

/// As whom the guest sees somebody outside: by the address that its answers reach, which the gateway lends to those
/// whose own it cannot reach.
pub(super) fn seen_as(peer: SocketAddr) -> IpAddr {
    let hidden = match peer.ip() {
        IpAddr::V4(it) => is_on_link(it.into()) || is_refused(it.into()),
        // Published ports lead to the guest's IPv4 address.
        IpAddr::V6(_) => true,
    };
    if hidden {
        lan::GATEWAY.into()
    } else {
        peer.ip()
    }
}

fn is_on_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(it) => within4(it, lan::NETWORK, lan::PREFIX),
        IpAddr::V6(it) => within6(it, lan::v6::NETWORK, lan::v6::PREFIX),
    }
}

/// What is refused of IPv4: first address, leading bits, and what it is (RFC 6890).
const REFUSED4: &[(Ipv4Addr, u8)] = &[
    // This host, on this network (RFC 1122).
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    // Loopback.
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // Link-local (RFC 3927), where most clouds' metadata are.
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    // Metadata of Alibaba's, of Oracle's first, and of Microsoft's cloud.
    (Ipv4Addr::new(100, 100, 100, 200), 32),
    (Ipv4Addr::new(192, 0, 0, 192), 32),
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    // Multicast.
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    // Reserved, and broadcast.
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// The same of IPv6.
const REFUSED6: &[(Ipv6Addr, u8)] = &[
    // Unspecified, loopback, and the IPv4-compatible form (RFC 4291, 2.5.5.1).
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 96),
    // IPv4-mapped, and translated (RFC 4291, 2.5.5.2; RFC 2765).
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
    (Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96),
    // NAT64 with a prefix of the network's own choice (RFC 8215), which hides anything.
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48),
    // Teredo (RFC 4380).
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32),
    // Metadata of Amazon's and Google's cloud.
    (Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), 128),
    (Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), 128),
    // Link-local, and site-local (RFC 3879).
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10),
    // Multicast.
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
];

fn is_refused(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(it) => {
            let listed = |&(first, bits): &(Ipv4Addr, u8)| within4(it, first, bits);
            REFUSED4.iter().any(listed)
        }
        IpAddr::V6(it) => {
            let listed = |&(first, bits): &(Ipv6Addr, u8)| within6(it, first, bits);
            REFUSED6.iter().any(listed) || hidden4(it).is_some_and(|it| is_refused(it.into()))
        }
    }
}

/// The IPv4 address in one that leads to it: of NAT64 (RFC 6052) or 6to4 (RFC 3056).
fn hidden4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let words = address.segments();
    let (high, low) = match words {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => (high, low),
        [0x2002, high, low, ..] => (high, low),
        _ => return None,
    };
    Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
}

fn within4(address: Ipv4Addr, first: Ipv4Addr, bits: u8) -> bool {
    let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
    (u32::from(address) ^ u32::from(first)) & mask == 0
}

fn within6(address: Ipv6Addr, first: Ipv6Addr, bits: u8) -> bool {
    let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
    (u128::from(address) ^ u128::from(first)) & mask == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goal(policy: &Policy, address: &str) -> Goal {
        policy.goal(address.parse().unwrap())
    }

    fn open() -> Policy {
        Policy {
            has_v6: true,
            loopback: vec![
                ("10.77.0.1".parse().unwrap(), 24),
                ("fd77::1".parse().unwrap(), 128),
            ],
            ..Policy::default()
        }
    }

    /// First and last address of every refused range, and their neighbours that are not.
    const TABLE: &[(&str, bool)] = &[
        ("0.0.0.0", false),
        ("0.255.255.255", false),
        ("1.0.0.0", true),
        ("126.255.255.255", true),
        ("127.0.0.0", false),
        ("127.0.0.1", false),
        ("127.255.255.255", false),
        ("128.0.0.0", true),
        ("169.253.255.255", true),
        ("169.254.0.0", false),
        ("169.254.169.254", false),
        ("169.254.255.255", false),
        ("169.255.0.0", true),
        ("100.100.100.199", true),
        ("100.100.100.200", false),
        ("192.0.0.192", false),
        ("192.0.0.193", true),
        ("168.63.129.16", false),
        ("168.63.129.17", true),
        ("223.255.255.255", true),
        ("224.0.0.0", false),
        ("239.255.255.255", false),
        ("240.0.0.0", false),
        ("255.255.255.255", false),
        // The network itself, but for its two stations.
        ("10.0.1.255", true),
        ("10.0.2.0", false),
        ("10.0.2.1", false),
        ("10.0.2.15", false),
        ("10.0.2.255", false),
        ("10.0.3.0", true),
        // Private networks are the host's neighbours.
        ("10.77.1.2", true),
        ("172.16.0.1", true),
        ("192.168.1.1", true),
        ("100.64.0.1", true),
        // Addresses of the host's loopback interface.
        ("10.77.0.1", false),
        ("10.77.0.2", false),
        ("64:ff9b::a4d:2", false),
        ("fd77::1", false),
        ("fd77::2", true),
        ("::", false),
        ("::1", false),
        ("::7f00:1", false),
        ("::ffff:ffff", false),
        ("::1:0:0", true),
        ("::ffff:0:0", false),
        ("::ffff:127.0.0.1", false),
        ("::ffff:8.8.8.8", false),
        ("::ffff:0:127.0.0.1", false),
        ("64:ff9b::7f00:1", false),
        ("64:ff9b::169.254.169.254", false),
        ("64:ff9b::0.0.0.0", false),
        ("64:ff9b::8.8.8.8", true),
        ("64:ff9b:1::8.8.8.8", false),
        ("2002:7f00:1::", false),
        ("2002:a9fe:a9fe::1", false),
        ("2002:808:808::1", true),
        ("2001::1", false),
        ("2001:0:ffff:ffff::", false),
        ("2001:1::", true),
        ("2001:db8::1", true),
        ("fd00:ec2::254", false),
        ("fd00:ec2::253", true),
        ("fd20:ce::254", false),
        ("fd20:ce::255", true),
        ("fe7f::1", true),
        ("fe80::", false),
        ("fe80::1", false),
        ("febf:ffff::", false),
        ("fec0::1", false),
        ("feff:ffff::", false),
        ("ff00::", false),
        ("ff02::1", false),
        ("ffff::", false),
        ("fd00:786c::15", false),
        ("fd00:786c::", false),
        ("fd00:786c:0:1::", true),
        ("2620:fe::fe", true),
    ];

    #[test]
    fn each_row_of_the_table() {
        for allow_host in [false, true] {
            let policy = Policy {
                allow_host,
                ..open()
            };
            for &(address, allowed) in TABLE {
                let expected = if allowed {
                    Goal::Outside(address.parse().unwrap())
                } else {
                    Goal::Nowhere
                };
                assert_eq!(goal(&policy, address), expected, "{address}");
            }
        }
    }

    #[test]
    fn the_gateway_is_the_host_where_that_is_allowed() {
        let shut = open();
        for address in ["10.0.2.2", "fd00:786c::2", "fe80::2"] {
            assert_eq!(goal(&shut, address), Goal::Gateway);
        }
        for address in ["10.0.2.3", "fd00:786c::3"] {
            assert_eq!(goal(&shut, address), Goal::Dns);
        }
        let allowed = Policy {
            allow_host: true,
            ..open()
        };
        let outside = |address: &str| Goal::Outside(address.parse().unwrap());
        assert_eq!(goal(&allowed, "10.0.2.2"), outside("127.0.0.1"));
        assert_eq!(goal(&allowed, "fd00:786c::2"), outside("::1"));
        assert_eq!(goal(&allowed, "10.0.2.3"), Goal::Dns);
    }

    #[test]
    fn without_ipv6_only_its_stations_are_there() {
        let policy = Policy {
            has_v6: false,
            ..open()
        };
        assert_eq!(goal(&policy, "2620:fe::fe"), Goal::Nowhere);
        assert_eq!(goal(&policy, "fd00:786c::3"), Goal::Dns);
    }

    #[test]
    fn guests_have_the_other_addresses_of_the_network() {
        for (address, is) in [
            ("10.0.2.15", true),
            ("10.0.2.200", true),
            ("10.0.2.2", false),
            ("10.0.2.3", false),
            ("10.0.2.0", false),
            ("10.0.2.255", false),
            ("10.0.3.15", false),
            ("0.0.0.0", false),
            ("127.0.0.1", false),
            ("fd00:786c::15", true),
            ("fd00:786c::2", false),
            ("fe80::5054:ff:fe12:3456", true),
            ("fe80::2", false),
            ("::1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_guest(address.parse().unwrap()), is, "{address}");
        }
    }

    #[test]
    fn strangers_are_seen_as_themselves_where_answers_reach_them() {
        for (peer, seen) in [
            ("127.0.0.1:1", "10.0.2.2"),
            ("192.168.1.7:1", "192.168.1.7"),
            ("10.0.2.15:1", "10.0.2.2"),
            ("169.254.3.4:1", "10.0.2.2"),
            ("[2001:db8::1]:1", "10.0.2.2"),
        ] {
            let peer: SocketAddr = peer.parse().unwrap();
            assert_eq!(seen_as(peer), seen.parse::<IpAddr>().unwrap(), "{peer}");
        }
    }
}
