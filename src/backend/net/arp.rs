//! Address resolution for IPv4 over Ethernet (RFC 826): who has an address is asked, and told.

use std::net::Ipv4Addr;

use super::ip::word;
use super::{HEADER, Mac};

/// Bytes of a packet.
pub(super) const LEN: usize = 28;
/// Hardware type 1, the protocol's EtherType, and the lengths of their addresses.
const ETHERNET_IPV4: [u8; 6] = [0, 1, 0x08, 0x00, 6, 4];
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// A station: both of its addresses, as a packet has them.
type Station = [u8; 10];

fn station(mac: Mac, address: Ipv4Addr) -> Station {
    let mut station = [0; 10];
    station[..6].copy_from_slice(&mac);
    station[6..].copy_from_slice(&address.octets());
    station
}

fn packet(operation: u16, sender: Station, target: Station) -> [u8; LEN] {
    let mut packet = [0; LEN];
    packet[..6].copy_from_slice(&ETHERNET_IPV4);
    packet[6..8].copy_from_slice(&operation.to_be_bytes());
    packet[8..18].copy_from_slice(&sender);
    packet[18..].copy_from_slice(&target);
    packet
}

/// The question of the station with the addresses `mac` and `address` for the hardware address of `target`.
pub(super) fn request(mac: Mac, address: Ipv4Addr, target: Ipv4Addr) -> [u8; LEN] {
    packet(REQUEST, station(mac, address), station([0; 6], target))
}

/// The reply to the frame that begins with `head`, if it asks for one of our addresses: that of the station `mac`.
pub(super) fn reply(
    head: &[u8],
    mac: Mac,
    is_ours: impl FnOnce(Ipv4Addr) -> bool,
) -> Option<[u8; LEN]> {
    let asked: &[u8; LEN] = head.get(HEADER..)?.first_chunk()?;
    let target = Ipv4Addr::new(asked[24], asked[25], asked[26], asked[27]);
    if asked[..6] != ETHERNET_IPV4 || word(asked, 6) != REQUEST || !is_ours(target) {
        return None;
    }
    // Sender becomes target.
    let mut sender = [0; 10];
    sender.copy_from_slice(&asked[8..18]);
    Some(packet(REPLY, station(mac, target), sender))
}
