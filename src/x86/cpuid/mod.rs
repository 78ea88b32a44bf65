//! CPUID as data: what one vCPU answers, of the software CPU here, of one that the host's processor executes in
//! `hosted`.
//!
//! The software CPU's table tells exactly what is implemented (SDM vol. 2A, "CPUID"; the feature sets below are the contract that
//! `cpu` keeps). Family and model are those of an in-order Atom ("Cedarview"), which is the truth about a processor
//! that never speculates: Linux then has no mitigation to pay for, in any version. Each bit of
//! IA32_ARCH_CAPABILITIES says the same to systems that ask there. Leaves 0x15 and 0x16 are the machine's clocks,
//! so that nothing is calibrated. The hypervisor leaf is KVM's, with no paravirtual feature: it makes Linux use
//! x2APIC without interrupt remapping.
//!
//! Not offered: AVX, BMI, AES, MONITOR, performance counters, speculation control.

pub mod feature;
mod hosted;

use feature::{
    extended1_ecx, extended1_edx, extended7_edx, leaf1_ecx, leaf1_edx, leaf6_eax, leaf7_ebx,
    leaf7_ecx, leaf7_edx, leafd_1_eax,
};

/// Leaf 1, EAX: family 6, model 0x36, stepping 9; EDX at reset too.
pub const SIGNATURE: u32 = 0x0003_0669;

/// How many bits of a linear address there are.
pub const LINEAR_BITS: u32 = 48;

/// Leaf 1, ECX. OSXSAVE comes from CR4.
pub const LEAF1_ECX: u32 = leaf1_ecx::SSE3
    | leaf1_ecx::SSSE3
    | leaf1_ecx::CMPXCHG16B
    | leaf1_ecx::PCID
    | leaf1_ecx::SSE4_1
    | leaf1_ecx::SSE4_2
    | leaf1_ecx::X2APIC
    | leaf1_ecx::MOVBE
    | leaf1_ecx::POPCNT
    | leaf1_ecx::TSC_DEADLINE
    | leaf1_ecx::XSAVE
    | leaf1_ecx::RDRAND
    | leaf1_ecx::HYPERVISOR;

/// Leaf 1, EDX. HTT is added where there is more than one CPU, APIC comes from IA32_APIC_BASE.
pub const LEAF1_EDX: u32 = leaf1_edx::FPU
    | leaf1_edx::VME
    | leaf1_edx::DE
    | leaf1_edx::PSE
    | leaf1_edx::TSC
    | leaf1_edx::MSR
    | leaf1_edx::PAE
    | leaf1_edx::MCE
    | leaf1_edx::CX8
    | leaf1_edx::SEP
    | leaf1_edx::MTRR
    | leaf1_edx::PGE
    | leaf1_edx::MCA
    | leaf1_edx::CMOV
    | leaf1_edx::PAT
    | leaf1_edx::PSE36
    | leaf1_edx::CLFSH
    | leaf1_edx::MMX
    | leaf1_edx::FXSR
    | leaf1_edx::SSE
    | leaf1_edx::SSE2
    | leaf1_edx::SS;

/// Leaf 7, EBX. TSC_ADJUST lets Linux trust the TSC without a watchdog clock beside it.
pub const LEAF7_EBX: u32 = leaf7_ebx::FSGSBASE
    | leaf7_ebx::TSC_ADJUST
    | leaf7_ebx::FDP_EXCPTN_ONLY
    | leaf7_ebx::SMEP
    | leaf7_ebx::ERMS
    | leaf7_ebx::INVPCID
    | leaf7_ebx::FPU_CS_DS_DEPRECATED
    | leaf7_ebx::RDSEED
    | leaf7_ebx::SMAP
    | leaf7_ebx::CLFLUSHOPT;

/// Leaf 7, ECX.
pub const LEAF7_ECX: u32 = leaf7_ecx::UMIP;

/// Leaf 7, EDX. A string instruction is one dispatch, however short: FSRM.
pub const LEAF7_EDX: u32 = leaf7_edx::FSRM | leaf7_edx::ARCH_CAPABILITIES;

/// Leaf 0x8000_0001, ECX.
pub const EXTENDED1_ECX: u32 = extended1_ecx::LAHF;

/// Leaf 0x8000_0001, EDX.
pub const EXTENDED1_EDX: u32 = extended1_edx::SYSCALL
    | extended1_edx::NX
    | extended1_edx::PAGE1GB
    | extended1_edx::RDTSCP
    | extended1_edx::LM;

/// Leaf 0, EBX, EDX, ECX in this order.
const VENDOR: &[u8; 12] = b"GenuineIntel";
/// Leaf 0x4000_0000, EBX, ECX, EDX.
const HYPERVISOR: &[u8; 12] = b"KVMKVMKVM\0\0\0";
/// Leaves 0x8000_0002 to 4.
const BRAND: &[u8; 48] = b"xlaunch software CPU @ 1.00GHz\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

const MAX_BASIC: u32 = 0x16;
const HYPERVISOR_BASE: u32 = 0x4000_0000;
const MAX_HYPERVISOR: u32 = 0x4000_0001;
const EXTENDED_BASE: u32 = 0x8000_0000;
const MAX_EXTENDED: u32 = 0x8000_0008;

/// XSAVE's area with x87 and SSE only: the legacy region of 512 bytes and the header of 64.
const XSAVE_BYTES: u32 = 576;
/// What XCR0 may hold.
pub const XCR0: u64 = super::xcr0::X87 | super::xcr0::SSE;

/// What CPUID answers in its four registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
}

/// The part of a vCPU's state that CPUID shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    /// CR4, for OSXSAVE and OSPKE.
    pub cr4: u64,
    /// XCR0, for the size of the area that XSAVE writes.
    pub xcr0: u64,
    /// Whether IA32_APIC_BASE has the local APIC on.
    pub apic: bool,
}

/// One answer of the table and what it answers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// EAX on entry.
    pub leaf: u32,
    /// ECX on entry; `None` where it does not matter.
    pub subleaf: Option<u32>,
    /// The answer.
    pub answer: Answer,
}

/// What the table tells of the machine around the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// How many CPUs: cores of one package, one thread each.
    pub cpus: u32,
    /// How many bits a physical address has.
    pub physical_bits: u32,
    /// The crystal, which the local APIC's timer counts.
    pub crystal_hz: u32,
    /// The TSC's rate: so many ticks, in so many of the crystal's.
    pub tsc_ratio: (u32, u32),
}

/// All that one vCPU answers.
#[derive(Clone, Debug)]
pub struct Table {
    entries: Vec<Entry>,
}

impl Table {
    /// The table of the vCPU with this APIC id in `machine`.
    pub fn new(machine: &Machine, apic_id: u32) -> Self {
        let cpus = machine.cpus.max(1);
        let mut table = Self {
            entries: Vec::with_capacity(40),
        };
        table.basic(cpus, apic_id);
        table.caches(cpus);
        table.topology(cpus, apic_id);
        table.states();
        table.clocks(machine);
        table.hypervisor();
        table.extended(machine.physical_bits);
        table
    }

    /// What CPUID answers to EAX = `leaf`, ECX = `subleaf`. Beyond the largest leaf it is the largest basic leaf's
    /// answer, as on every Intel processor; zeros for a leaf or subleaf that is merely not there.
    pub fn answer(&self, leaf: u32, subleaf: u32, live: Live) -> Answer {
        let leaf = match leaf {
            0..=MAX_BASIC | HYPERVISOR_BASE..=0x4fff_ffff => leaf,
            EXTENDED_BASE.. if leaf <= self.max_extended() => leaf,
            _ => MAX_BASIC,
        };
        let mut answer = match self.find(leaf, subleaf) {
            Some(answer) => answer,
            // SDM: of an invalid level, ECX[7:0] and EDX are still told.
            None if leaf == 0xb => Answer {
                ecx: subleaf & 0xff,
                edx: self.apic_id(),
                ..Answer::default()
            },
            None => Answer::default(),
        };
        match (leaf, subleaf) {
            (1, _) => {
                if live.cr4 & super::cr4::OSXSAVE != 0 {
                    answer.ecx |= leaf1_ecx::OSXSAVE;
                }
                if live.apic {
                    answer.edx |= leaf1_edx::APIC;
                }
            }
            (7, 0) if live.cr4 & super::cr4::PKE != 0 => {
                answer.ecx |= leaf7_ecx::OSPKE & answer.ecx << 1;
            }
            (0xd, 0) => answer.ebx = self.save_area(live.xcr0, false),
            (0xd, 1) if answer.eax & leafd_1_eax::XSAVEC != 0 => {
                answer.ebx = self.save_area(live.xcr0, true);
            }
            _ => {}
        }
        answer
    }

    fn find(&self, leaf: u32, subleaf: u32) -> Option<Answer> {
        let is_it = |e: &&Entry| e.leaf == leaf && e.subleaf.is_none_or(|s| s == subleaf);
        self.entries.iter().find(is_it).map(|entry| entry.answer)
    }

    /// EAX of leaf 1, which EDX holds after a reset.
    pub fn signature(&self) -> u32 {
        self.find(1, 0).map_or(0, |answer| answer.eax)
    }

    fn max_extended(&self) -> u32 {
        self.find(EXTENDED_BASE, 0).map_or(0, |answer| answer.eax)
    }

    /// How long the area is that XSAVE, or XSAVEC, writes with this XCR0 (SDM vol. 1, 13.4.2 and 13.4.3).
    fn save_area(&self, xcr0: u64, compact: bool) -> u32 {
        let enabled = (2..63).filter(|n| xcr0 >> n & 1 != 0);
        let areas = enabled.filter_map(|n| self.find(0xd, n));
        areas.fold(XSAVE_BYTES, |end, area| match compact {
            // ECX bit 1: it begins at a multiple of 64 bytes.
            true if area.ecx & 2 != 0 => (end.saturating_add(63) & !63).saturating_add(area.eax),
            true => end.saturating_add(area.eax),
            false => end.max(area.eax.saturating_add(area.ebx)),
        })
    }

    /// Every entry, for an engine that hands the table to its host. Leaf 1 lacks the bits that `Live` decides.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn apic_id(&self) -> u32 {
        let topology = self.entries.iter().find(|entry| entry.leaf == 0xb);
        topology.map_or(0, |entry| entry.answer.edx)
    }

    fn put(&mut self, leaf: u32, subleaf: Option<u32>, [eax, ebx, ecx, edx]: [u32; 4]) {
        let answer = Answer { eax, ebx, ecx, edx };
        self.entries.push(Entry {
            leaf,
            subleaf,
            answer,
        });
    }

    fn basic(&mut self, cpus: u32, apic_id: u32) {
        let [ebx, edx, ecx] = words(VENDOR);
        self.put(0, None, [MAX_BASIC, ebx, ecx, edx]);
        let clflush_qwords = 8;
        let (ids, htt) = match cpus {
            1 => (0, 0),
            _ => (id_space(cpus).min(0xff), leaf1_edx::HTT),
        };
        let ebx = (apic_id & 0xff) << 24 | ids << 16 | clflush_qwords << 8;
        self.put(1, None, [SIGNATURE, ebx, LEAF1_ECX, LEAF1_EDX | htt]);
        // Descriptor 0xff: the caches are in leaf 4.
        self.put(2, None, [0x0000_ff01, 0, 0, 0]);
        self.put(6, None, [leaf6_eax::ARAT, 0, 0, 0]);
        self.put(7, Some(0), [0, LEAF7_EBX, LEAF7_ECX, LEAF7_EDX]);
    }

    /// Leaf 4. What matters to a guest is the size of the last level: from it the C library takes the length from
    /// which on a copy bypasses the caches, which is of no use here.
    fn caches(&mut self, cpus: u32) {
        const DATA: u32 = 1;
        const INSTRUCTION: u32 = 2;
        const UNIFIED: u32 = 3;
        let levels = [
            (DATA, 1, 1, 8, 64),
            (INSTRUCTION, 1, 1, 8, 64),
            (UNIFIED, 2, 1, 16, 1024),
            (UNIFIED, 3, id_space(cpus), 16, 32_768),
        ];
        for (subleaf, (kind, level, sharing, ways, sets)) in (0..).zip(levels) {
            let self_initializing = 1 << 8;
            let cores = (id_space(cpus) - 1).min(0x3f);
            let eax = kind
                | level << 5
                | self_initializing
                | (sharing - 1).min(0xfff) << 14
                | cores << 26;
            let ebx = (64 - 1) | (ways - 1) << 22;
            self.put(4, Some(subleaf), [eax, ebx, sets - 1, 0]);
        }
    }

    fn topology(&mut self, cpus: u32, apic_id: u32) {
        const THREAD: u32 = 1 << 8;
        const CORE: u32 = 2 << 8;
        self.put(0xb, Some(0), [0, 1, THREAD, apic_id]);
        let shift = id_space(cpus).ilog2();
        self.put(0xb, Some(1), [shift, cpus & 0xffff, 1 | CORE, apic_id]);
    }

    fn states(&mut self) {
        let [low, high] = [XCR0 as u32, (XCR0 >> 32) as u32];
        self.put(0xd, Some(0), [low, XSAVE_BYTES, XSAVE_BYTES, high]);
    }

    fn clocks(&mut self, machine: &Machine) {
        let (crystal, (ticks, per)) = (machine.crystal_hz, machine.tsc_ratio);
        self.put(0x15, None, [per, ticks, crystal, 0]);
        let bus = crystal / 1_000_000;
        let core = u64::from(bus) * u64::from(ticks) / u64::from(per.max(1));
        let core = core as u32 & 0xffff;
        self.put(0x16, None, [core, core, bus, 0]);
    }

    fn hypervisor(&mut self) {
        let [ebx, ecx, edx] = words(HYPERVISOR);
        self.put(HYPERVISOR_BASE, None, [MAX_HYPERVISOR, ebx, ecx, edx]);
    }

    fn extended(&mut self, physical_bits: u32) {
        self.put(EXTENDED_BASE, None, [MAX_EXTENDED, 0, 0, 0]);
        self.put(0x8000_0001, None, [0, 0, EXTENDED1_ECX, EXTENDED1_EDX]);
        for (leaf, bytes) in (0x8000_0002..).zip(BRAND.as_chunks().0) {
            self.put(leaf, None, words::<16, 4>(bytes));
        }
        // The second level: 64-byte lines, 16 ways (code 8), 1024 KiB.
        self.put(0x8000_0006, None, [0, 0, 1024 << 16 | 8 << 12 | 64, 0]);
        self.put(0x8000_0007, None, [0, 0, 0, extended7_edx::INVARIANT_TSC]);
        let bits = physical_bits | LINEAR_BITS << 8;
        self.put(0x8000_0008, None, [bits, 0, 0, 0]);
    }
}

/// `Machine::tsc_ratio` of a TSC with this rate, exactly: `crystal_hz` is a multiple of 1000.
pub fn tsc_ratio(khz: u64, crystal_hz: u64) -> (u32, u32) {
    let (hz, divisor) = (khz * 1000, gcd(khz * 1000, crystal_hz));
    // 1000 divides both, so that any 32 bits of kHz fit.
    ((hz / divisor) as u32, (crystal_hz / divisor) as u32)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a.max(1) } else { gcd(b, a % b) }
}

/// How many APIC ids a package of `cpus` takes: a power of two.
fn id_space(cpus: u32) -> u32 {
    cpus.clamp(1, 1 << 16).next_power_of_two()
}

/// Text as the registers hold it.
fn words<const BYTES: usize, const WORDS: usize>(text: &[u8; BYTES]) -> [u32; WORDS] {
    const { assert!(BYTES == 4 * WORDS) };
    std::array::from_fn(|i| {
        u32::from_le_bytes([
            text[4 * i],
            text[4 * i + 1],
            text[4 * i + 2],
            text[4 * i + 3],
        ])
    })
}

#[cfg(test)]
mod tests;
