//! Memory types as firmware leaves them, the same on every CPU: write-back, but for devices (SDM vol. 3, 12.11).
//! Without them Linux would say that the MTRRs are off, and switch the page attribute table off as well.

use crate::layout::{self, Span};
use crate::x86::msr::{self, mtrr};

/// The MSRs to set on each CPU before it starts, with their values.
pub fn settings() -> Vec<(u32, u64)> {
    let mut settings = Vec::new();
    let below_4g = Span {
        start: layout::LOW_RAM.end,
        end: layout::HIGH_RAM.start,
    };
    for (i, span) in (0..).zip([below_4g, layout::PCI_MMIO64]) {
        settings.push((msr::MTRR_PHYSBASE0 + 2 * i, span.start | mtrr::UNCACHED));
        settings.push((msr::MTRR_PHYSMASK0 + 2 * i, mask(span) | mtrr::MASK_VALID));
    }
    let write_back = u64::from_ne_bytes([mtrr::WRITE_BACK as u8; 8]);
    let fixed = [msr::MTRR_FIX64K_00000, msr::MTRR_FIX16K_80000]
        .into_iter()
        .chain(msr::MTRR_FIX4K_C0000..=msr::MTRR_FIX4K_F8000);
    settings.extend(fixed.map(|register| (register, write_back)));
    // The hole where a VGA adapter would be.
    settings.push((msr::MTRR_FIX16K_A0000, mtrr::UNCACHED));
    let default = mtrr::WRITE_BACK | mtrr::FIXED_ENABLE | mtrr::ENABLE;
    settings.push((msr::MTRR_DEF_TYPE, default));
    settings
}

/// The address bits that are equal in all of a span whose size is a power of two.
const fn mask(span: Span) -> u64 {
    let address = (1 << layout::PHYSICAL_BITS) - 1;
    address & !(span.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(register: u32) -> u64 {
        let settings = settings();
        settings.iter().find(|(msr, _)| *msr == register).unwrap().1
    }

    /// The memory type of an address above 1 MiB, as SDM vol. 3, 12.11.4 finds it.
    fn memory_type(address: u64) -> u64 {
        let matches = |i: u32| {
            let (base, mask) = (value(0x200 + 2 * i), value(0x201 + 2 * i));
            mask & 0x800 != 0 && address & mask & !0xfff == base & mask & !0xfff
        };
        match (0..2).find(|&i| matches(i)) {
            Some(i) => value(0x200 + 2 * i) & 0xff,
            None => value(0x2ff) & 0xff,
        }
    }

    #[test]
    fn ram_is_write_back_and_devices_are_uncached() {
        for ram in [layout::LOW_RAM, layout::HIGH_RAM] {
            for address in [ram.start.max(1 << 20), ram.end - 1] {
                assert_eq!(memory_type(address), 6, "{address:#x}");
            }
        }
        let devices = [
            layout::PCI_MMIO32,
            layout::ECAM,
            layout::IOAPIC,
            layout::MSI,
            layout::PCI_MMIO64,
        ];
        for device in devices {
            for address in [device.start, device.end - 1] {
                assert_eq!(memory_type(address), 0, "{address:#x}");
            }
        }
        assert_eq!(
            (value(0x250), value(0x26f)),
            (0x0606_0606_0606_0606, 0x0606_0606_0606_0606)
        );
        assert_eq!((value(0x259), value(0x2ff)), (0, 0xc06));
    }

    #[test]
    fn each_register_is_set_once() {
        let mut registers: Vec<u32> = settings().iter().map(|(register, _)| *register).collect();
        let count = registers.len();
        registers.sort();
        registers.dedup();
        assert_eq!((registers.len(), count), (16, 16));
    }
}
