//! Resource descriptors (ACPI 6.5, 6.4): what `_CRS` and `_PRS` return.

use super::{Value, buffer};
use crate::layout::Span;

/// One descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource(Vec<u8>);

/// `ResourceTemplate () { … }`: the descriptors and the end tag, whose checksum of zero means "not computed".
pub fn template(resources: &[Resource]) -> Value {
    let mut bytes: Vec<u8> = resources
        .iter()
        .flat_map(|resource| resource.0.iter().copied())
        .collect();
    bytes.extend([0x79, 0]);
    buffer(&bytes)
}

/// `IO (Decode16, …)`: ports that the device answers. At most 255 of them.
pub fn io(ports: Span) -> Resource {
    const DECODE16: u8 = 1;
    let [low, high] = (ports.start as u16).to_le_bytes();
    let alignment = 1;
    Resource(vec![
        0x47,
        DECODE16,
        low,
        high,
        low,
        high,
        alignment,
        ports.len() as u8,
    ])
}

/// `IRQNoFlags () { irq }`: edge-triggered, not shared.
pub fn irq(irq: u8) -> Resource {
    let [low, high] = (1_u16 << (irq & 15)).to_le_bytes();
    Resource(vec![0x22, low, high])
}

/// `IRQ (Level, ActiveLow, Shared) { … }`, a bit for each possible interrupt; none for "not set".
pub fn irq_level_shared(mask: u16) -> Resource {
    const LEVEL_LOW_SHARED: u8 = 1 << 3 | 1 << 4;
    let [low, high] = mask.to_le_bytes();
    Resource(vec![0x23, low, high, LEVEL_LOW_SHARED])
}

/// `Memory32Fixed (ReadWrite, …)`: memory that the device answers. Below 4 GiB.
pub fn memory32_fixed(memory: Span) -> Resource {
    const READ_WRITE: u8 = 1;
    let mut bytes = vec![0x86, 9, 0, READ_WRITE];
    bytes.extend((memory.start as u32).to_le_bytes());
    bytes.extend((memory.len() as u32).to_le_bytes());
    Resource(bytes)
}

/// `WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, …)`: buses behind a bridge.
pub fn word_bus(buses: Span) -> Resource {
    window::<2>(0x88, Kind::Bus, buses)
}

/// `WordIO (ResourceProducer, …, EntireRange)`: ports behind a bridge.
pub fn word_io(ports: Span) -> Resource {
    window::<2>(0x88, Kind::Io, ports)
}

/// `DWordMemory (ResourceProducer, …, NonCacheable, ReadWrite)`: memory behind a bridge, below 4 GiB.
pub fn dword_memory(memory: Span) -> Resource {
    window::<4>(0x87, Kind::Memory, memory)
}

/// `QWordMemory (ResourceProducer, …, NonCacheable, ReadWrite)`: memory behind a bridge. Not called prefetchable,
/// because Linux would then refuse BARs that are not.
pub fn qword_memory(memory: Span) -> Resource {
    window::<8>(0x8a, Kind::Memory, memory)
}

/// Resource types of an address space descriptor.
#[derive(Clone, Copy)]
enum Kind {
    Memory = 0,
    Io = 1,
    Bus = 2,
}

/// An address space descriptor with fields of `SIZE` bytes (ACPI 6.5, 6.4.3.5).
fn window<const SIZE: usize>(tag: u8, kind: Kind, span: Span) -> Resource {
    const PRODUCER_FIXED: u8 = 1 << 2 | 1 << 3;
    let specific = match kind {
        Kind::Memory => 1, // read and write, not cacheable
        Kind::Io => 3,     // the entire range
        Kind::Bus => 0,
    };
    let length = (3 + 5 * SIZE) as u16;
    let [low, high] = length.to_le_bytes();
    let mut bytes = vec![tag, low, high, kind as u8, PRODUCER_FIXED, specific];
    let (granularity, translation) = (0, 0);
    for field in [
        granularity,
        span.start,
        span.end - 1,
        translation,
        span.len(),
    ] {
        bytes.extend(&field.to_le_bytes()[..SIZE]);
    }
    Resource(bytes)
}
