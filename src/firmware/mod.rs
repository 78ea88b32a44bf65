//! What a PC's firmware leaves behind for an operating system: tables in memory and memory types in the CPUs, as
//! pure functions from the layout and a few facts to bytes. Nothing here touches guest memory.

pub mod acpi;
pub mod aml;
pub mod mp;
pub mod mtrr;
pub mod smbios;

use crate::memory::Piece;

/// What the tables say of the machine beyond the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// How many CPUs; the APIC id of each is its index.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// Whether there is an HPET.
    pub hpet: bool,
    /// The machine's identity.
    pub uuid: [u8; 16],
}

/// Everything that firmware puts into memory: ACPI, MP table, SMBIOS.
pub fn tables(machine: &Machine) -> Vec<Piece> {
    let &Machine {
        cpus,
        memory,
        hpet,
        uuid,
    } = machine;
    let mut pieces = acpi::tables(&acpi::Machine { cpus, hpet });
    pieces.push(mp::table(cpus));
    pieces.push(smbios::tables(&smbios::Machine { cpus, memory, uuid }));
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::KERNEL_MIN;
    use crate::memory::{self, Kind};

    #[test]
    fn all_tables_lie_apart_in_memory_that_no_system_uses() {
        for cpus in [1, 64] {
            let mut pieces = tables(&Machine {
                cpus,
                memory: 1 << 30,
                hpet: true,
                uuid: [0; 16],
            });
            pieces.sort_by_key(|piece| piece.at);
            let end = |piece: &Piece| piece.at + piece.bytes.len() as u64;
            assert!(pieces.windows(2).all(|two| end(&two[0]) <= two[1].at));
            let map = memory::map(1 << 30);
            for piece in &pieces {
                assert!(end(piece) <= KERNEL_MIN);
                let inside = |range: &memory::Range| {
                    range.kind == Kind::Reserved
                        && range.span.contains(piece.at)
                        && end(piece) <= range.span.end
                };
                assert!(map.iter().any(inside), "{:#x}", piece.at);
            }
        }
    }
}
