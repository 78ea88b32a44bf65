//! Access rights of segments, in the form in which a VMCS holds them (SDM vol. 3, table 25-2), and descriptors.

/// The type field.
pub const TYPE: u16 = 0xf;
/// Data, code: has been loaded.
pub const ACCESSED: u16 = 1 << 0;
/// Data: may be written.
pub const WRITABLE: u16 = 1 << 1;
/// Code: may be read.
pub const READABLE: u16 = 1 << 1;
/// Data: the limit is a lower one.
pub const EXPAND_DOWN: u16 = 1 << 2;
/// Code: may be entered from less privileged code.
pub const CONFORMING: u16 = 1 << 2;
/// Code, not data.
pub const CODE: u16 = 1 << 3;
/// Code or data, not a system segment.
pub const S: u16 = 1 << 4;
/// Descriptor privilege level.
pub const DPL: u16 = 3 << 5;
/// How far left `DPL` stands.
pub const DPL_SHIFT: u32 = 5;
/// Present.
pub const P: u16 = 1 << 7;
/// Free for the operating system.
pub const AVL: u16 = 1 << 12;
/// 64-bit code.
pub const L: u16 = 1 << 13;
/// Default operation size 32 bits.
pub const DB: u16 = 1 << 14;
/// The limit counts pages.
pub const G: u16 = 1 << 15;
/// Every bit that a descriptor holds.
pub const RIGHTS: u16 = 0xf0ff;

/// Types of system segments and gates (SDM vol. 3, table 3-2). Those marked 32 are 64-bit ones in long mode.
pub mod system {
    /// 16-bit TSS, available.
    pub const TSS16: u16 = 1;
    /// Local descriptor table.
    pub const LDT: u16 = 2;
    /// 16-bit TSS, busy.
    pub const TSS16_BUSY: u16 = 3;
    /// 16-bit call gate.
    pub const CALL_GATE16: u16 = 4;
    /// Task gate.
    pub const TASK_GATE: u16 = 5;
    /// 16-bit interrupt gate.
    pub const INTERRUPT_GATE16: u16 = 6;
    /// 16-bit trap gate.
    pub const TRAP_GATE16: u16 = 7;
    /// 32-bit TSS, available.
    pub const TSS32: u16 = 9;
    /// 32-bit TSS, busy.
    pub const TSS32_BUSY: u16 = 11;
    /// 32-bit call gate.
    pub const CALL_GATE32: u16 = 12;
    /// 32-bit interrupt gate.
    pub const INTERRUPT_GATE32: u16 = 14;
    /// 32-bit trap gate.
    pub const TRAP_GATE32: u16 = 15;
}

/// The descriptor of a flat segment (base 0, limit 4 GiB) with these access rights, as a table holds it.
/// SDM vol. 3, figure 3-8.
pub const fn flat_descriptor(rights: u16) -> u64 {
    (rights as u64 & RIGHTS as u64) << 40 | 0xf << 48 | 0xffff
}

/// The access rights in a descriptor.
pub const fn rights(descriptor: u64) -> u16 {
    (descriptor >> 40) as u16 & RIGHTS
}

/// The base address in a descriptor of eight bytes.
pub const fn base(descriptor: u64) -> u32 {
    (descriptor >> 16 & 0xff_ffff) as u32 | (descriptor >> 32 & 0xff00_0000) as u32
}

/// The limit in a descriptor, in bytes: granularity is applied.
pub const fn limit(descriptor: u64) -> u32 {
    let raw = (descriptor & 0xffff) as u32 | (descriptor >> 32 & 0xf_0000) as u32;
    if rights(descriptor) & G == 0 {
        raw
    } else {
        raw << 12 | 0xfff
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_descriptor_comes_apart_into_what_it_was_made_of() {
        // The values that every textbook has for 64-bit code and 32-bit data.
        let code = S | CODE | READABLE | ACCESSED | P | L | G;
        assert_eq!(flat_descriptor(code), 0x00af_9b00_0000_ffff);
        let data = S | WRITABLE | ACCESSED | P | DB | G;
        assert_eq!(flat_descriptor(data), 0x00cf_9300_0000_ffff);
        for rights_in in [code, data] {
            let descriptor = flat_descriptor(rights_in);
            assert_eq!(rights(descriptor), rights_in);
            assert_eq!((base(descriptor), limit(descriptor)), (0, u32::MAX));
        }
    }

    #[test]
    fn base_and_limit_are_collected_from_their_pieces() {
        let descriptor = 0x1205_9334_5678_9abc_u64;
        assert_eq!(base(descriptor), 0x1234_5678);
        assert_eq!(limit(descriptor), 0x5_9abc);
    }
}
