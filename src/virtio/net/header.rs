//! The header before every frame, `virtio_net_hdr` (5.1.6), in the form of version 1: `num_buffers` is always there.

pub(super) use crate::backend::net::vnet::TCP_MAX;
use crate::backend::net::{Malformed, Offload, vnet};

/// Bytes of the header.
pub(super) const LEN: usize = vnet::LEN + 2;

/// What a driver's header leaves to be done.
pub(super) fn read(raw: &[u8; LEN]) -> Result<Offload, Malformed> {
    let mut common = [0; vnet::LEN];
    common.copy_from_slice(&raw[..vnet::LEN]);
    vnet::read(&common)
}

/// The header of a frame of `len` bytes that lies in so many buffers of the driver's.
pub(super) fn write(offload: Offload, len: usize, buffers: u16) -> [u8; LEN] {
    let mut raw = [0; LEN];
    raw[..vnet::LEN].copy_from_slice(&vnet::write(offload, len));
    raw[vnet::LEN..].copy_from_slice(&buffers.to_le_bytes());
    raw
}
