//! Linux's TAP interfaces (Documentation/networking/tuntap.rst): Ethernet frames that the kernel exchanges with a process.
//!
//! Every frame has a `virtio_net_hdr` before it, which says what is left to be done with it.
//!
//! Invariants: the kernel is only ever given host addresses of ranges that `Ram` has confirmed, while the `Ram` is
//! borrowed, and slices that are borrowed; no reference into guest memory is made.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::{check, make_nonblocking};
use crate::file::Piece;
use crate::ram::Ram;

/// <linux/if_tun.h>, which has the same numbers on every machine that this program runs on.
mod tun {
    pub(super) const SET_IFF: libc::c_ulong = 0x4004_54ca;
    pub(super) const SET_OFFLOAD: libc::c_ulong = 0x4004_54d0;
    pub(super) const SET_HEADER: libc::c_ulong = 0x4004_54d8;
    pub(super) const SET_LITTLE_ENDIAN: libc::c_ulong = 0x4004_54dc;
    pub(super) const TAP: libc::c_short = 0x0002;
    pub(super) const NO_PI: libc::c_short = 0x1000;
    pub(super) const HEADER: libc::c_short = 0x4000;
    pub(super) const F_CSUM: libc::c_ulong = 1;
    pub(super) const F_TSO4: libc::c_ulong = 2;
    pub(super) const F_TSO6: libc::c_ulong = 4;
    pub(super) const F_TSO_ECN: libc::c_ulong = 8;
}

/// Bytes of the header before every frame, all its fields little-endian.
pub const HEADER: usize = 10;
/// The longest name of an interface.
pub const NAME_MAX: usize = libc::IFNAMSIZ - 1;
/// The most pieces of a frame that are sent without a copy.
const PIECES_MAX: usize = 64;

/// An interface that this process has the other end of.
#[derive(Debug)]
pub struct Tap {
    file: File,
    name: String,
}

impl Tap {
    /// Opens the interface, or makes it where this process may. Its reads and writes never wait. The kernel leaves
    /// checksums and the segmentation of TCP to us, as far as it has them itself.
    pub fn open(name: &str) -> io::Result<Self> {
        let mut flagged = request(name)?;
        let file = File::options()
            .read(true)
            .write(true)
            .open("/dev/net/tun")?;
        make_nonblocking(&file)?;
        flagged.ifr_ifru.ifru_flags = tun::TAP | tun::NO_PI | tun::HEADER;
        let fd = file.as_raw_fd();
        // SAFETY: the request reads and writes one `ifreq`.
        check(unsafe { libc::ioctl(fd, tun::SET_IFF as _, &raw mut flagged) })?;
        for (request, value) in [
            (tun::SET_HEADER, HEADER as libc::c_int),
            (tun::SET_LITTLE_ENDIAN, 1),
        ] {
            // SAFETY: the request reads one integer.
            check(unsafe { libc::ioctl(fd, request as _, &raw const value) })?;
        }
        let all = tun::F_CSUM | tun::F_TSO4 | tun::F_TSO6 | tun::F_TSO_ECN;
        // SAFETY: the request takes an integer.
        check(unsafe { libc::ioctl(fd, tun::SET_OFFLOAD as _, all) })?;
        let name = name.into();
        Ok(Self { file, name })
    }

    /// The most bytes behind an Ethernet header that the interface has.
    pub fn mtu(&self) -> io::Result<u32> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        let mut request = request(&self.name)?;
        // SAFETY: the request reads and writes one `ifreq`.
        check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU as _, &raw mut request) })?;
        // SAFETY: the call has succeeded, and so has written this field, which is an integer.
        let mtu = unsafe { request.ifr_ifru.ifru_mtu };
        u32::try_from(mtu).map_err(|_| io::ErrorKind::InvalidData.into())
    }

    /// Reads a header and a frame, as much of it as fits; says how many bytes.
    pub fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(into)
    }

    /// Writes a header and a frame that begins with `head`, and goes on in guest memory.
    pub fn write(
        &self,
        header: &[u8; HEADER],
        head: &[u8],
        ram: &Ram,
        body: &[Piece],
    ) -> io::Result<()> {
        let mut rest = Vec::new();
        let mut vectors = vec![vector(header), vector(head)];
        if body.len() <= PIECES_MAX {
            for &Piece { gpa, len } in body {
                let outside = || io::Error::from(io::ErrorKind::InvalidInput);
                let host = ram.host(gpa, len).ok_or_else(outside)?;
                vectors.push(libc::iovec {
                    iov_base: host.cast(),
                    iov_len: len as usize,
                });
            }
        } else {
            copy(ram, body, &mut rest)?;
            vectors.push(vector(&rest));
        }
        let (fd, count) = (self.file.as_raw_fd(), vectors.len() as libc::c_int);
        // SAFETY: the vectors are borrowed slices, or ranges of RAM, which stays mapped while it is borrowed; the
        // kernel only reads them.
        let written = unsafe { libc::writev(fd, vectors.as_ptr(), count) };
        if written < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn vector(bytes: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}

fn copy(ram: &Ram, pieces: &[Piece], to: &mut Vec<u8>) -> io::Result<()> {
    for &Piece { gpa, len } in pieces {
        let start = to.len();
        to.resize(start + len as usize, 0);
        let outside = |_| io::Error::from(io::ErrorKind::InvalidInput);
        ram.read(gpa, &mut to[start..]).map_err(outside)?;
    }
    Ok(())
}

/// A request about the interface.
fn request(name: &str) -> io::Result<libc::ifreq> {
    // An empty name, and one with a per cent sign, would have the kernel choose one.
    let valid = (1..=NAME_MAX).contains(&name.len()) && !name.contains(['%', '/']);
    let name = CString::new(name).ok().filter(|_| valid);
    let name = name.ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: all its fields are integers, addresses of integers, or a pointer that may be null.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_bytes()) {
        *to = *from as libc::c_char;
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_none_are_refused() {
        for name in ["", "tap%d", "a/b", "a\0b", "sixteen-letters-"] {
            let error = Tap::open(name).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name:?}");
        }
        assert!(request("fifteen-letters").is_ok());
    }
}
