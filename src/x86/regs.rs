//! A vCPU's registers as boot code sets them and engines exchange them: a plain value, no behaviour beyond the
//! two states that the architecture itself defines (SDM volume 3, table 10-1, "power-up, reset or INIT").
//! x87, SSE and the rarer MSRs are not here: an engine resets them itself.

/// Index of RAX in `Regs::gprs`; the numbers are those of the instruction encoding.
pub const RAX: usize = 0;
/// Index of RCX.
pub const RCX: usize = 1;
/// Index of RDX.
pub const RDX: usize = 2;
/// Index of RBX.
pub const RBX: usize = 3;
/// Index of RSP.
pub const RSP: usize = 4;
/// Index of RBP.
pub const RBP: usize = 5;
/// Index of RSI.
pub const RSI: usize = 6;
/// Index of RDI.
pub const RDI: usize = 7;

/// A segment register with its hidden part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The visible selector.
    pub selector: u16,
    /// Linear base address.
    pub base: u64,
    /// Limit in bytes, granularity already applied.
    pub limit: u32,
    /// Access rights as a VMCS holds them: type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15
    /// (SDM volume 3, table 25-2). A segment that may not be used has P clear.
    pub rights: u16,
}

impl Segment {
    /// A data or stack segment as real mode and the reset state have it: 64 KiB, read and write, accessed.
    pub const fn real(selector: u16) -> Self {
        Self {
            selector,
            base: (selector as u64) << 4,
            limit: 0xffff,
            rights: 0x0093,
        }
    }
}

/// GDTR or IDTR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableRegister {
    /// Linear base address.
    pub base: u64,
    /// Offset of the last byte.
    pub limit: u16,
}

/// Everything that boot code sets and that engines tell each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regs {
    /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
    pub gprs: [u64; 16],
    /// Instruction pointer.
    pub rip: u64,
    /// Flags; bit 1 is always set.
    pub rflags: u64,
    /// Code segment.
    pub cs: Segment,
    /// Stack segment.
    pub ss: Segment,
    /// Data segment.
    pub ds: Segment,
    /// Extra segment.
    pub es: Segment,
    /// FS; in long mode its base is IA32_FS_BASE.
    pub fs: Segment,
    /// GS; in long mode its base is IA32_GS_BASE.
    pub gs: Segment,
    /// Local descriptor table.
    pub ldtr: Segment,
    /// Task register.
    pub tr: Segment,
    /// Global descriptor table.
    pub gdtr: TableRegister,
    /// Interrupt descriptor table.
    pub idtr: TableRegister,
    /// Control register 0.
    pub cr0: u64,
    /// Page fault address.
    pub cr2: u64,
    /// Page table base.
    pub cr3: u64,
    /// Control register 4.
    pub cr4: u64,
    /// IA32_EFER.
    pub efer: u64,
}

impl Regs {
    /// The state after power-up or RESET. `signature` is what EDX then holds: CPUID leaf 1's EAX.
    pub const fn power_on(signature: u32) -> Self {
        let mut gprs = [0; 16];
        gprs[RDX] = signature as u64;
        let data = Segment::real(0);
        let table = TableRegister {
            base: 0,
            limit: 0xffff,
        };
        Self {
            gprs,
            rip: 0xfff0,
            rflags: 2,
            cs: Segment {
                base: 0xffff_0000,
                ..Segment::real(0xf000)
            },
            ss: data,
            ds: data,
            es: data,
            fs: data,
            gs: data,
            ldtr: Segment {
                rights: 0x0082,
                ..data
            },
            tr: Segment {
                rights: 0x008b,
                ..data
            },
            gdtr: table,
            idtr: table,
            cr0: 0x6000_0010,
            cr2: 0,
            cr3: 0,
            cr4: 0,
            efer: 0,
        }
    }

    /// Where a start-up IPI with `vector` makes a processor begin (SDM volume 3, 9.4.4): CS:IP = vector00:0000.
    pub const fn start_at(&mut self, vector: u8) {
        self.cs = Segment::real((vector as u16) << 8);
        self.rip = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_fetch_is_sixteen_bytes_below_four_gib() {
        let regs = Regs::power_on(0x906ea);
        assert_eq!(regs.cs.base + regs.rip, 0xffff_fff0);
        assert_eq!(regs.gprs[RDX], 0x906ea);
    }

    #[test]
    fn a_start_up_vector_is_a_page_number() {
        let mut regs = Regs::power_on(0);
        regs.start_at(0x9a);
        assert_eq!(
            (regs.cs.selector, regs.cs.base, regs.rip),
            (0x9a00, 0x9_a000, 0)
        );
    }
}
