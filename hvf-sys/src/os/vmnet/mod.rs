//! Apple's vmnet.framework: Ethernet frames that macOS exchanges with a process, in shared mode, where the system gives addresses
//! by DHCP and translates them. Only root, and who is signed with the restricted entitlement com.apple.vm.networking, may have it.
//!
//! Names, types and numbers are those of vmnet.h, xpc.h and dispatch.h. What was refused keeps its status.

mod block;
#[cfg(target_os = "macos")]
mod ffi;
#[cfg(target_os = "macos")]
mod interface;

#[cfg(target_os = "macos")]
pub use interface::Interface;

use std::fmt;

/// The most packets that one call takes or gives (Apple's documentation of the framework).
pub const PACKETS_MAX: usize = 200;
/// The most bytes of them.
pub const BYTES_MAX: usize = 256 << 10;

/// What every function returns: `vmnet_return_t`.
pub type Status = u32;

/// It was done, or will be.
pub const VMNET_SUCCESS: Status = 1000;
/// It failed for a reason without a name.
pub const VMNET_FAILURE: Status = 1001;
/// There is no memory.
pub const VMNET_MEM_FAILURE: Status = 1002;
/// An argument is wrong.
pub const VMNET_INVALID_ARGUMENT: Status = 1003;
/// The interface is not set up.
pub const VMNET_SETUP_INCOMPLETE: Status = 1004;
/// It is not allowed.
pub const VMNET_INVALID_ACCESS: Status = 1005;
/// A packet is larger than the interface's largest.
pub const VMNET_PACKET_TOO_BIG: Status = 1006;
/// The kernel has no buffers now.
pub const VMNET_BUFFER_EXHAUSTED: Status = 1007;
/// There are more packets than a call takes.
pub const VMNET_TOO_MANY_PACKETS: Status = 1008;
/// Internet Sharing, or the like, has the network.
pub const VMNET_SHARING_SERVICE_BUSY: Status = 1009;
/// The process lacks the privilege.
pub const VMNET_NOT_AUTHORIZED: Status = 1010;

/// A use of the framework that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A function returned, or told its handler, that it failed.
    Refused {
        /// The function, as in Apple's header.
        call: &'static str,
        /// What it said.
        status: Status,
    },
    /// The system could not make a thing: the function gave NULL and said nothing.
    Null(&'static str),
    /// The function's handler was not called in time.
    Silent(&'static str),
    /// A parameter of the interface is missing or makes no sense: its key.
    Parameter(&'static str),
}

impl Error {
    /// The status, where there is one.
    pub fn status(&self) -> Option<Status> {
        match *self {
            Self::Refused { status, .. } => Some(status),
            _ => None,
        }
    }
}

/// The status's name in vmnet.h.
fn name(status: Status) -> &'static str {
    match status {
        VMNET_SUCCESS => "VMNET_SUCCESS",
        VMNET_FAILURE => "VMNET_FAILURE",
        VMNET_MEM_FAILURE => "VMNET_MEM_FAILURE",
        VMNET_INVALID_ARGUMENT => "VMNET_INVALID_ARGUMENT",
        VMNET_SETUP_INCOMPLETE => "VMNET_SETUP_INCOMPLETE",
        VMNET_INVALID_ACCESS => "VMNET_INVALID_ACCESS",
        VMNET_PACKET_TOO_BIG => "VMNET_PACKET_TOO_BIG",
        VMNET_BUFFER_EXHAUSTED => "VMNET_BUFFER_EXHAUSTED",
        VMNET_TOO_MANY_PACKETS => "VMNET_TOO_MANY_PACKETS",
        VMNET_SHARING_SERVICE_BUSY => "VMNET_SHARING_SERVICE_BUSY",
        VMNET_NOT_AUTHORIZED => "VMNET_NOT_AUTHORIZED",
        _ => "a status without a name",
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Refused { call, status } => write!(f, "{call}: {} ({status})", name(status)),
            Self::Null(call) => write!(f, "{call} gives nothing"),
            Self::Silent(call) => write!(f, "{call} does not come to an end"),
            Self::Parameter(key) => write!(f, "vmnet_start_interface gives no usable {key}"),
        }
    }
}

impl std::error::Error for Error {}

/// Turns what a call returned into an error that names it.
#[cfg_attr(not(target_os = "macos"), allow(dead_code))]
fn check(call: &'static str, status: Status) -> Result<(), Error> {
    match status {
        VMNET_SUCCESS => Ok(()),
        status => Err(Error::Refused { call, status }),
    }
}

/// Reads an address as ether_ntoa(3) writes it: six bytes in hexadecimal digits, one or two each.
#[cfg_attr(not(target_os = "macos"), allow(dead_code))]
fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let digits = parts
            .next()
            .filter(|it| it.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_which_call_and_which_status() {
        assert_eq!(check("vmnet_read", VMNET_SUCCESS), Ok(()));
        let cases = [
            (1001, "vmnet_read: VMNET_FAILURE (1001)"),
            (1010, "vmnet_read: VMNET_NOT_AUTHORIZED (1010)"),
            (7, "vmnet_read: a status without a name (7)"),
        ];
        for (status, sentence) in cases {
            let error = check("vmnet_read", status).unwrap_err();
            assert_eq!(error.to_string(), sentence);
            assert_eq!(error.status(), Some(status));
        }
        let silent = Error::Silent("vmnet_stop_interface");
        assert_eq!(silent.status(), None);
        assert_eq!(
            silent.to_string(),
            "vmnet_stop_interface does not come to an end"
        );
    }

    #[test]
    fn addresses_are_read_as_the_system_writes_them() {
        assert_eq!(
            parse_mac("ca:fe:0:1:2:a0"),
            Some([0xca, 0xfe, 0, 1, 2, 0xa0])
        );
        for wrong in [
            "",
            "1:2:3:4:5",
            "1:2:3:4:5:6:7",
            "1:2:3:4:5:100",
            "1:2:3:4:5:+6",
            "1:2::4:5:6",
        ] {
            assert_eq!(parse_mac(wrong), None, "{wrong:?}");
        }
    }
}
