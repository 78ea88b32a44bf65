//! The bridge to the ISA devices, 0:1f.0, with the routing registers of the eight PIRQ wires: PIRQRC[A:D] at 0x60 as
//! in Intel's 82371AB (PIIX4, datasheet 290562, 4.1.10), whose id it has, and four more at 0x68 as in the ICH family.
//!
//! A register says which input of the 8259 pair its wire drives, for guests that use no I/O APIC. The decode ranges
//! behind the bridge are fixed, so that nothing else can be programmed. Bits 6:4 read zero.

use std::sync::Arc;

use super::{Decoding, Endpoint, Function, Header, MsiSink};
use crate::bus::{Access, Device, Line, Width};
use crate::layout::{PIRQ_IRQ, PIRQ_IRQ_POSSIBLE, PIRQS};

/// The input of the 8259 pair that each PIRQ wire drives: the chipset hub.
pub trait PirqSink: Send + Sync {
    /// The wire now drives `irq`, or nothing.
    fn route(&self, pirq: usize, irq: Option<u8>);
}

const HEADER: Header = Header {
    vendor: 0x8086,
    device: 0x7110,
    class: 0x06_0100,
    revision: 0x02,
    subsystem_vendor: 0x1af4,
    subsystem: 0x1100,
    interrupt_pin: 0,
    interrupt_line: 0,
};

/// Where the registers of wires A to D and E to H start.
const PIRQ_LOW: u8 = 0x60;
const PIRQ_HIGH: u8 = 0x68;
/// The wire drives nothing.
const DISABLED: u8 = 0x80;
/// Bits that a guest can change.
const GUEST_WRITABLE: u8 = DISABLED | ROUTE;
/// The input that the wire drives.
const ROUTE: u8 = 0x0f;

/// The bridge.
pub struct LpcBridge {
    // Wires.
    sink: Arc<dyn PirqSink>,
    // State.
    endpoint: Endpoint,
}

impl LpcBridge {
    /// A bridge with the wires routed as `layout` has them.
    pub fn new(sink: Arc<dyn PirqSink>, msi: Arc<dyn MsiSink>) -> Self {
        let mut endpoint = Endpoint::new(&HEADER, Line::loose(), msi);
        for (pirq, irq) in PIRQ_IRQ.into_iter().enumerate() {
            endpoint.declare(register(pirq), &[irq], &[GUEST_WRITABLE]);
        }
        let mut bridge = Self { sink, endpoint };
        bridge.sync();
        bridge
    }

    /// Routes every wire as its register says. An input that a wire cannot drive is none.
    fn sync(&mut self) {
        for pirq in 0..PIRQS {
            let raw = self.endpoint.config_read(register(pirq), Width::Byte) as u8;
            let irq = raw & ROUTE;
            let driven = raw & DISABLED == 0 && PIRQ_IRQ_POSSIBLE >> irq & 1 != 0;
            self.sink.route(pirq, driven.then_some(irq));
        }
    }
}

/// The routing register of a wire.
fn register(pirq: usize) -> u8 {
    let pirq = pirq as u8;
    if pirq < 4 {
        PIRQ_LOW + pirq
    } else {
        PIRQ_HIGH + (pirq - 4)
    }
}

impl Device for LpcBridge {
    fn read(&mut self, access: Access) -> u64 {
        access.width.ones()
    }

    fn write(&mut self, _access: Access, _value: u64) {}

    fn reset(&mut self) {
        self.endpoint.reset();
        self.sync();
    }
}

impl Function for LpcBridge {
    fn endpoint(&mut self) -> &mut Endpoint {
        &mut self.endpoint
    }

    fn config_write(&mut self, offset: u8, width: Width, value: u32) -> Option<Decoding> {
        let moved = self.endpoint.config_write(offset, width, value);
        self.sync();
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::super::endpoint::tests::Sent;
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Routes(Mutex<[Option<u8>; PIRQS]>);

    impl PirqSink for Routes {
        fn route(&self, pirq: usize, irq: Option<u8>) {
            self.0.lock().unwrap()[pirq] = irq;
        }
    }

    #[test]
    fn wires_go_where_the_registers_say() {
        let routes = Arc::new(Routes::default());
        let mut bridge = LpcBridge::new(routes.clone(), Arc::new(Sent::default()));
        let at = |pirq: usize| routes.0.lock().unwrap()[pirq];
        assert_eq!((0..PIRQS).map(at).collect::<Vec<_>>(), PIRQ_IRQ.map(Some));
        bridge.config_write(0x60, Width::Dword, 0x800b_027f);
        assert_eq!(
            [at(0), at(1), at(2), at(3)],
            [Some(15), None, Some(11), None]
        );
        assert_eq!(bridge.config_read(0x60, Width::Dword), 0x800b_020f);
        bridge.config_write(0x6b, Width::Byte, 0x80);
        assert_eq!(at(7), None);
        bridge.reset();
        assert_eq!((0..PIRQS).map(at).collect::<Vec<_>>(), PIRQ_IRQ.map(Some));
    }
}
