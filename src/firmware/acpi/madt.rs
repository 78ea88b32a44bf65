//! MADT: the interrupt controllers (ACPI 6.5, 5.2.12). APIC ids are below 255, so that every CPU has the short
//! entry, which systems understand whether they use the x2APIC or not.

use super::table;
use crate::layout::{self, irq};

/// There is a pair of 8259 as well.
const PCAT_COMPAT: u32 = 1;
/// The processor can be used.
const ENABLED: u32 = 1;
/// All processors, in an NMI entry.
const ALL: u8 = 0xff;
/// The local interrupt pin that an NMI comes in at.
const LINT1: u8 = 1;
/// MPS INTI flags of an NMI: high, edge.
const NMI_INTI: u16 = 0x5;

/// The MADT of a machine with this many CPUs.
pub(super) fn madt(cpus: u32) -> Vec<u8> {
    let mut body = (layout::LAPIC.start as u32).to_le_bytes().to_vec();
    body.extend(PCAT_COMPAT.to_le_bytes());
    for id in 0..cpus.min(layout::CPUS_MAX as u32) {
        body.extend([0, 8, id as u8, id as u8]);
        body.extend(ENABLED.to_le_bytes());
    }
    body.extend([1, 12, layout::IOAPIC_ID, 0]);
    body.extend((layout::IOAPIC.start as u32).to_le_bytes());
    let first_gsi = 0_u32;
    body.extend(first_gsi.to_le_bytes());
    body.extend(source_override(irq::PIT, layout::PIT_INTI));
    body.extend(source_override(irq::SCI, layout::SCI_INTI));
    body.extend([4, 6, ALL]);
    body.extend(NMI_INTI.to_le_bytes());
    body.push(LINT1);
    // Revision 5 is that of ACPI 6.2 to 6.4.
    table(b"APIC", 5, &body)
}

/// An ISA interrupt that is not edge-triggered, high and at the pin of its own number.
fn source_override(irq: u8, inti: u16) -> [u8; 10] {
    const ISA: u8 = 0;
    let gsi = layout::isa_gsi(irq).to_le_bytes();
    let [low, high] = inti.to_le_bytes();
    [2, 10, ISA, irq, gsi[0], gsi[1], gsi[2], gsi[3], low, high]
}
