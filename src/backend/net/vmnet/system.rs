//! The interface as macOS has it.

use std::fmt;
use std::sync::Arc;

use hvf_sys::os::vmnet::{
    BYTES_MAX, Error, Interface, PACKETS_MAX, VMNET_BUFFER_EXHAUSTED, VMNET_MEM_FAILURE,
    VMNET_SHARING_SERVICE_BUSY,
};

use super::{Packets, Signal, Vmnet};
use crate::backend::net::{Mac, Network};

/// Why there is no such interface.
#[derive(Debug)]
pub struct VmnetError(Error);

impl fmt::Display for VmnetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot plug the guest into vmnet: {}; ", self.0)?;
        f.write_str(match self.0.status() {
            Some(VMNET_SHARING_SERVICE_BUSY) => {
                "turn off Internet Sharing in the system's settings, or use --net user"
            }
            Some(VMNET_MEM_FAILURE | VMNET_BUFFER_EXHAUSTED) => {
                "end other virtual machines, or use --net user"
            }
            _ => {
                "run xlaunch as root (sudo) or signed with the entitlement com.apple.vm.networking, or use --net user"
            }
        })
    }
}

impl std::error::Error for VmnetError {}

/// Starts an interface in shared mode, and says which address the guest's interface must have.
pub fn open() -> Result<(Arc<dyn Network>, Mac), VmnetError> {
    let signal = Arc::new(Signal::default());
    let arrived = signal.clone();
    let interface = Interface::start(Box::new(move || arrived.arrived())).map_err(VmnetError)?;
    let mac = interface.mac();
    Ok((Arc::new(Vmnet::new(interface, signal)), mac))
}

impl Packets for Interface {
    type Error = Error;

    fn count_max(&self) -> usize {
        PACKETS_MAX
    }

    fn bytes_max(&self) -> usize {
        BYTES_MAX
    }

    fn packet_max(&self) -> usize {
        self.packet_max()
    }

    fn mtu(&self) -> u16 {
        self.mtu()
    }

    fn read(&self, buffer: &mut [u8], lens: &mut Vec<usize>) -> Result<(), Error> {
        self.read(buffer, lens)
    }

    fn write(&self, buffer: &[u8], lens: &[usize]) -> Result<usize, Error> {
        self.write(buffer, lens)
    }
}
