//! The host bridge, 0:0.0. It has nothing to program: memory and windows are fixed. Its id is that of Intel's G33 memory
//! controller, behind which operating systems expect an ECAM and for which they have no workarounds.

use std::sync::Arc;

use super::{Endpoint, Function, Header, MsiSink};
use crate::bus::{Access, Device, Line};

const HEADER: Header = Header {
    vendor: 0x8086,
    device: 0x29c0,
    class: 0x06_0000,
    revision: 0x02,
    subsystem_vendor: 0x1af4,
    subsystem: 0x1100,
    interrupt_pin: 0,
    interrupt_line: 0,
};

/// The host bridge.
pub struct HostBridge {
    endpoint: Endpoint,
}

impl HostBridge {
    /// A host bridge. It never sends anything to `sink`.
    pub fn new(sink: Arc<dyn MsiSink>) -> Self {
        Self {
            endpoint: Endpoint::new(&HEADER, Line::loose(), sink),
        }
    }
}

impl Device for HostBridge {
    fn read(&mut self, access: Access) -> u64 {
        access.width.ones()
    }

    fn write(&mut self, _access: Access, _value: u64) {}

    fn reset(&mut self) {
        self.endpoint.reset();
    }
}

impl Function for HostBridge {
    fn endpoint(&mut self) -> &mut Endpoint {
        &mut self.endpoint
    }
}
