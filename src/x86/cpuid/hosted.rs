//! CPUID of a vCPU that the host's processor executes: what the host offers and the policy below lets through.
//!
//! Vendor, signature and brand are the host's, since its errata, its mitigations and the C library's choices go with
//! them. Topology, clocks and the hypervisor leaf are the machine's, as on the software CPU. A feature is offered where
//! the host offers it and its bit is among those allowed here: what the future brings, and what would need more than
//! the engines do (VMX and SVM, performance counters, MPX, AMX, SGX, processor trace, transactions, MONITOR), is not.
//! x2APIC, the TSC deadline and IA32_TSC_ADJUST's kin that the launcher does itself are offered in any case.
//!
//! Documents: SDM vol. 2A, "CPUID"; AMD64 Architecture Programmer's Manual vol. 3, appendix E.

use super::feature::{
    extended1_ecx, extended1_edx, extended7_edx, extended8_ebx, extended21_eax, leaf1_ecx,
    leaf1_edx, leaf6_eax, leaf7_1_eax, leaf7_2_edx, leaf7_ebx, leaf7_ecx, leaf7_edx, leafd_1_eax,
};
use super::{
    Answer, EXTENDED_BASE, Entry, LEAF1_EDX, LINEAR_BITS, MAX_BASIC, Machine, Table, VENDOR,
    id_space, words,
};
use crate::x86::xcr0;

const ALLOWED1_ECX: u32 = leaf1_ecx::SSE3
    | leaf1_ecx::PCLMULQDQ
    | leaf1_ecx::SSSE3
    | leaf1_ecx::FMA
    | leaf1_ecx::CMPXCHG16B
    | leaf1_ecx::PCID
    | leaf1_ecx::SSE4_1
    | leaf1_ecx::SSE4_2
    | leaf1_ecx::MOVBE
    | leaf1_ecx::POPCNT
    | leaf1_ecx::AESNI
    | leaf1_ecx::XSAVE
    | leaf1_ecx::AVX
    | leaf1_ecx::F16C
    | leaf1_ecx::RDRAND;

/// What the launcher does itself.
const OURS1_ECX: u32 = leaf1_ecx::X2APIC | leaf1_ecx::TSC_DEADLINE | leaf1_ecx::HYPERVISOR;

const ALLOWED7_EBX: u32 = leaf7_ebx::FSGSBASE
    | leaf7_ebx::TSC_ADJUST
    | leaf7_ebx::BMI1
    | leaf7_ebx::AVX2
    | leaf7_ebx::FDP_EXCPTN_ONLY
    | leaf7_ebx::SMEP
    | leaf7_ebx::BMI2
    | leaf7_ebx::ERMS
    | leaf7_ebx::INVPCID
    | leaf7_ebx::FPU_CS_DS_DEPRECATED
    | leaf7_ebx::AVX512F
    | leaf7_ebx::AVX512DQ
    | leaf7_ebx::RDSEED
    | leaf7_ebx::ADX
    | leaf7_ebx::SMAP
    | leaf7_ebx::AVX512_IFMA
    | leaf7_ebx::CLFLUSHOPT
    | leaf7_ebx::CLWB
    | leaf7_ebx::AVX512CD
    | leaf7_ebx::SHA
    | leaf7_ebx::AVX512BW
    | leaf7_ebx::AVX512VL;

const ALLOWED7_ECX: u32 = leaf7_ecx::AVX512_VBMI
    | leaf7_ecx::UMIP
    | leaf7_ecx::PKU
    | leaf7_ecx::AVX512_VBMI2
    | leaf7_ecx::GFNI
    | leaf7_ecx::VAES
    | leaf7_ecx::VPCLMULQDQ
    | leaf7_ecx::AVX512_VNNI
    | leaf7_ecx::AVX512_BITALG
    | leaf7_ecx::AVX512_VPOPCNTDQ
    | leaf7_ecx::RDPID;

const ALLOWED7_EDX: u32 = leaf7_edx::FSRM
    | leaf7_edx::MD_CLEAR
    | leaf7_edx::SERIALIZE
    | leaf7_edx::SPEC_CTRL
    | leaf7_edx::STIBP
    | leaf7_edx::L1D_FLUSH
    | leaf7_edx::ARCH_CAPABILITIES
    | leaf7_edx::SSBD;

const ALLOWED7_1_EAX: u32 = leaf7_1_eax::AVX_VNNI
    | leaf7_1_eax::AVX512_BF16
    | leaf7_1_eax::FZRM
    | leaf7_1_eax::FSRS
    | leaf7_1_eax::FSRC
    | leaf7_1_eax::AVX_IFMA;

const ALLOWED7_2_EDX: u32 = leaf7_2_edx::PSFD
    | leaf7_2_edx::IPRED_CTRL
    | leaf7_2_edx::RRSBA_CTRL
    | leaf7_2_edx::BHI_CTRL
    | leaf7_2_edx::MCDT_NO;

/// No XSAVES: the guest has no supervisor state to save.
const ALLOWED_D_1_EAX: u32 = leafd_1_eax::XSAVEOPT | leafd_1_eax::XSAVEC | leafd_1_eax::XGETBV_1;

/// States that a guest may enable in XCR0.
const ALLOWED_XCR0: u64 = xcr0::X87
    | xcr0::SSE
    | xcr0::AVX
    | xcr0::OPMASK
    | xcr0::ZMM_HI256
    | xcr0::HI16_ZMM
    | xcr0::PKRU;

const ALLOWED_EXTENDED1_ECX: u32 = extended1_ecx::LAHF
    | extended1_ecx::CR8_LEGACY
    | extended1_ecx::LZCNT
    | extended1_ecx::SSE4A
    | extended1_ecx::MISALIGNSSE
    | extended1_ecx::PREFETCHW
    | extended1_ecx::TOPOEXT;

/// On AMD's processors leaf 1's lower bits are here once more.
const ALLOWED_EXTENDED1_EDX: u32 = LEAF1_EDX & extended1_edx::OF_LEAF1
    | extended1_edx::SYSCALL
    | extended1_edx::NX
    | extended1_edx::MMXEXT
    | extended1_edx::FFXSR
    | extended1_edx::PAGE1GB
    | extended1_edx::RDTSCP
    | extended1_edx::LM;

const ALLOWED_EXTENDED8_EBX: u32 = extended8_ebx::CLZERO
    | extended8_ebx::XSAVEERPTR
    | extended8_ebx::WBNOINVD
    | extended8_ebx::IBPB
    | extended8_ebx::IBRS
    | extended8_ebx::STIBP
    | extended8_ebx::IBRS_ALWAYS_ON
    | extended8_ebx::STIBP_ALWAYS_ON
    | extended8_ebx::IBRS_PREFERRED
    | extended8_ebx::SSBD
    | extended8_ebx::VIRT_SSBD
    | extended8_ebx::SSB_NO
    | extended8_ebx::BTC_NO
    | extended8_ebx::IBPB_RET;

const ALLOWED_EXTENDED21_EAX: u32 = extended21_eax::LFENCE_SERIALIZING
    | extended21_eax::VERW_CLEAR
    | extended21_eax::NULL_SELECT_CLEARS_BASE
    | extended21_eax::AUTOMATIC_IBRS
    | extended21_eax::SBPB
    | extended21_eax::IBPB_BRTYPE
    | extended21_eax::SRSO_NO;

/// The last extended leaf that any host has and a guest may see.
const MAX_EXTENDED: u32 = 0x8000_0021;
/// Subleaf limit of leaves 4 and 0x8000_001D, against a host that never says "no more caches".
const CACHES_MAX: u32 = 8;
/// A package with so many processors cannot be told in the fields that are a byte.
const BYTE: u32 = 0xff;

/// What a host answers.
struct Host<'a>(&'a [Entry]);

impl Host<'_> {
    /// Zeros where it has no such leaf.
    fn answer(&self, leaf: u32, subleaf: u32) -> Answer {
        let is_it = |e: &&Entry| e.leaf == leaf && e.subleaf.is_none_or(|s| s == subleaf);
        self.0
            .iter()
            .find(is_it)
            .map(|e| e.answer)
            .unwrap_or_default()
    }

    fn is_intel(&self) -> bool {
        let [ebx, edx, ecx] = words(VENDOR);
        let Answer {
            ebx: b,
            ecx: c,
            edx: d,
            ..
        } = self.answer(0, 0);
        (b, c, d) == (ebx, ecx, edx)
    }

    /// The last extended leaf to show.
    fn max_extended(&self) -> u32 {
        let max = self.answer(EXTENDED_BASE, 0).eax;
        max.clamp(0x8000_0008, MAX_EXTENDED)
    }
}

impl Table {
    /// The table of the vCPU with this APIC id in `machine`, on a processor of the host's. `host` is what the host, or
    /// its hypervisor, can offer a guest at most.
    pub fn hosted(host: &[Entry], machine: &Machine, apic_id: u32) -> Self {
        let host = Host(host);
        let cpus = machine.cpus.max(1);
        let mut table = Self {
            entries: Vec::with_capacity(64),
        };
        table.hosted_basic(&host, cpus, apic_id);
        table.hosted_features(&host);
        if host.is_intel() {
            table.hosted_caches(&host, 4, cpus);
        }
        table.topology(cpus, apic_id);
        table.hosted_states(&host);
        table.clocks(machine);
        table.hypervisor();
        table.hosted_extended(&host, machine, apic_id);
        table
    }

    fn hosted_basic(&mut self, host: &Host, cpus: u32, apic_id: u32) {
        let Answer { ebx, ecx, edx, .. } = host.answer(0, 0);
        self.put(0, None, [MAX_BASIC, ebx, ecx, edx]);
        let Answer { eax, ebx, ecx, edx } = host.answer(1, 0);
        let (ids, htt) = match cpus {
            1 => (0, 0),
            _ => (id_space(cpus).min(BYTE), leaf1_edx::HTT),
        };
        let clflush = ebx & 0xff00;
        let ebx = (apic_id & BYTE) << 24 | ids << 16 | clflush;
        let ecx = ecx & ALLOWED1_ECX | OURS1_ECX;
        self.put(1, None, [eax, ebx, ecx, edx & LEAF1_EDX | htt]);
        let Answer { eax, ebx, ecx, edx } = host.answer(2, 0);
        self.put(2, None, [eax, ebx, ecx, edx]);
        self.put(6, None, [leaf6_eax::ARAT, 0, 0, 0]);
    }

    fn hosted_features(&mut self, host: &Host) {
        let Answer { eax, ebx, ecx, edx } = host.answer(7, 0);
        let [ebx, ecx, edx] = [ebx & ALLOWED7_EBX, ecx & ALLOWED7_ECX, edx & ALLOWED7_EDX];
        let last = eax.min(2);
        self.put(7, Some(0), [last, ebx, ecx, edx]);
        if last >= 1 {
            let eax = host.answer(7, 1).eax & ALLOWED7_1_EAX;
            self.put(7, Some(1), [eax, 0, 0, 0]);
        }
        if last >= 2 {
            let edx = host.answer(7, 2).edx & ALLOWED7_2_EDX;
            self.put(7, Some(2), [0, 0, 0, edx]);
        }
    }

    /// Leaf 4 of Intel's, 0x8000_001D of AMD's processors, which have one layout: each level as the host has it, but
    /// shared as in the machine, where each CPU is a core and the third level belongs to all.
    fn hosted_caches(&mut self, host: &Host, leaf: u32, cpus: u32) {
        for subleaf in 0..CACHES_MAX {
            let Answer { eax, ebx, ecx, edx } = host.answer(leaf, subleaf);
            if eax & 0x1f == 0 {
                break;
            }
            let level = eax >> 5 & 7;
            let sharing = if level >= 3 { id_space(cpus) } else { 1 };
            let cores = match leaf {
                4 => (id_space(cpus) - 1).min(0x3f) << 26,
                _ => 0,
            };
            let eax = eax & 0x3fff | (sharing - 1).min(0xfff) << 14 | cores;
            self.put(leaf, Some(subleaf), [eax, ebx, ecx, edx]);
        }
    }

    fn hosted_states(&mut self, host: &Host) {
        let main = host.answer(0xd, 0);
        let states = (u64::from(main.edx) << 32 | u64::from(main.eax)) & ALLOWED_XCR0;
        if states == 0 {
            return;
        }
        let components = (2..63).filter(|n| states >> n & 1 != 0);
        let areas: Vec<_> = components.map(|n| (n, host.answer(0xd, n))).collect();
        let ends = areas
            .iter()
            .map(|(_, area)| area.eax.saturating_add(area.ebx));
        let size = ends.fold(super::XSAVE_BYTES, u32::max);
        let [low, high] = [states as u32, (states >> 32) as u32];
        self.put(0xd, Some(0), [low, super::XSAVE_BYTES, size, high]);
        let compact = host.answer(0xd, 1).eax & ALLOWED_D_1_EAX;
        self.put(0xd, Some(1), [compact, 0, 0, 0]);
        for (n, Answer { eax, ebx, ecx, edx }) in areas {
            self.put(0xd, Some(n), [eax, ebx, ecx, edx]);
        }
    }

    fn hosted_extended(&mut self, host: &Host, machine: &Machine, apic_id: u32) {
        let max = host.max_extended();
        let Answer { ebx, ecx, edx, .. } = host.answer(EXTENDED_BASE, 0);
        self.put(EXTENDED_BASE, None, [max, ebx, ecx, edx]);
        let Answer { eax, ebx, ecx, edx } = host.answer(0x8000_0001, 0);
        let [ecx, edx] = [ecx & ALLOWED_EXTENDED1_ECX, edx & ALLOWED_EXTENDED1_EDX];
        self.put(0x8000_0001, None, [eax, ebx, ecx, edx]);
        for leaf in 0x8000_0002..=0x8000_0006 {
            let Answer { eax, ebx, ecx, edx } = host.answer(leaf, 0);
            self.put(leaf, None, [eax, ebx, ecx, edx]);
        }
        let edx = host.answer(0x8000_0007, 0).edx & extended7_edx::INVARIANT_TSC;
        self.put(0x8000_0007, None, [0, 0, 0, edx]);
        let Answer { eax, ebx, .. } = host.answer(0x8000_0008, 0);
        let physical = machine.physical_bits.min(eax & BYTE);
        let cpus = machine.cpus.max(1);
        let cores = match host.is_intel() {
            true => 0,
            false => id_space(cpus).ilog2() << 12 | (cpus - 1).min(BYTE),
        };
        let ebx = ebx & ALLOWED_EXTENDED8_EBX;
        self.put(
            0x8000_0008,
            None,
            [physical | LINEAR_BITS << 8, ebx, cores, 0],
        );
        if max >= 0x8000_001e && ecx & extended1_ecx::TOPOEXT != 0 {
            self.hosted_caches(host, 0x8000_001d, cpus);
            self.put(0x8000_001e, None, [apic_id, apic_id & BYTE, 0, 0]);
        }
        if max >= 0x8000_0021 {
            let eax = host.answer(0x8000_0021, 0).eax & ALLOWED_EXTENDED21_EAX;
            self.put(0x8000_0021, None, [eax, 0, 0, 0]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Live;
    use super::*;
    use crate::x86::cr4;
    use proptest::prelude::*;

    const LIVE: Live = Live {
        cr4: 0,
        xcr0: xcr0::X87,
        apic: true,
    };

    fn machine(cpus: u32) -> Machine {
        Machine {
            cpus,
            physical_bits: 39,
            crystal_hz: 100_000_000,
            tsc_ratio: (10, 1),
        }
    }

    fn entry(leaf: u32, subleaf: Option<u32>, [eax, ebx, ecx, edx]: [u32; 4]) -> Entry {
        let answer = Answer { eax, ebx, ecx, edx };
        Entry {
            leaf,
            subleaf,
            answer,
        }
    }

    /// A host that offers every bit there is, by this vendor.
    fn everything(vendor: &[u8; 12]) -> Vec<Entry> {
        let [ebx, edx, ecx] = words(vendor);
        let all = [u32::MAX; 4];
        let mut host = vec![entry(0, None, [0x20, ebx, ecx, edx])];
        let caches = [0x1c00_4121, 0x01c0_003f, 0x3f, 0];
        let third = [0xfc1f_c163, 0x04c0_003f, 0x7fff, 4];
        for leaf in [4, 0x8000_001d] {
            host.extend([
                entry(leaf, Some(0), caches),
                entry(leaf, Some(1), third),
                entry(leaf, Some(2), [0; 4]),
            ]);
        }
        host.push(entry(0xd, Some(0), all));
        host.push(entry(0xd, Some(1), all));
        host.extend((2..63).map(|n| entry(0xd, Some(n), [64, 512 + 64 * n, 0, 0])));
        host.extend((0..3).map(|n| entry(7, Some(n), all)));
        host.push(entry(EXTENDED_BASE, None, [0x8000_0028, ebx, ecx, edx]));
        host.push(entry(0x8000_0008, None, [0x3030, u32::MAX, u32::MAX, 0]));
        for leaf in [1, 2, 5, 6, 0xa, 0x12, 0x14, 0x15, 0x16] {
            host.push(entry(leaf, None, all));
        }
        let rest = (0x8000_0001..=0x8000_0028).filter(|l| !matches!(l & 0xff, 8 | 0x1d));
        host.extend(rest.map(|leaf| entry(leaf, None, all)));
        host
    }

    fn everywhere() -> [Table; 2] {
        [b"GenuineIntel", b"AuthenticAMD"]
            .map(|vendor| Table::hosted(&everything(vendor), &machine(4), 2))
    }

    #[test]
    fn what_the_engines_do_not_do_is_not_offered_by_any_host() {
        for table in everywhere() {
            let ask = |leaf, subleaf| table.answer(leaf, subleaf, LIVE);
            let one = ask(1, 0);
            assert_eq!(one.ecx & (leaf1_ecx::VMX | leaf1_ecx::MONITOR), 0);
            assert_eq!(one.ecx & leaf1_ecx::OSXSAVE, 0, "CR4 decides");
            // HLE, MPX, RTM, processor trace; AMX.
            let seven = ask(7, 0);
            assert_eq!(seven.ebx & (1 << 4 | 1 << 14 | 1 << 11 | 1 << 25), 0);
            assert_eq!(seven.edx & (1 << 22 | 1 << 24 | 1 << 25), 0);
            // SVM.
            assert_eq!(ask(0x8000_0001, 0).ecx & 1 << 2, 0);
            for leaf in [3, 5, 0xa, 0x12, 0x14, 0x4000_0001, 0x8000_000a] {
                assert_eq!(ask(leaf, 0), Answer::default(), "{leaf:#x}");
            }
            assert_eq!(ask(0xd, 0).eax, 0x2e7);
            // No supervisor state, hence no XSAVES.
            assert_eq!(ask(0xd, 1).eax, 7);
            assert_eq!((ask(0xd, 1).ecx, ask(0xd, 17)), (0, Answer::default()));
        }
    }

    #[test]
    fn the_launchers_own_part_is_offered_on_any_host() {
        let table = Table::hosted(&[], &machine(1), 0);
        let one = table.answer(1, 0, LIVE);
        assert_eq!(one.ecx, OURS1_ECX);
        assert_eq!(table.answer(0x15, 0, LIVE).ebx, 10);
        assert_eq!(table.answer(0x4000_0000, 0, LIVE).eax, 0x4000_0001);
    }

    #[test]
    fn the_topology_is_the_machines_on_both_vendors() {
        let [intel, amd] = everywhere();
        for table in [&intel, &amd] {
            assert_eq!(table.answer(1, 0, LIVE).ebx >> 24, 2);
            assert_eq!(table.answer(0xb, 1, LIVE).ebx, 4);
        }
        let sharing = |answer: Answer| (answer.eax >> 14 & 0xfff) + 1;
        for (table, leaf) in [(&intel, 4), (&amd, 0x8000_001d)] {
            assert_eq!(sharing(table.answer(leaf, 0, LIVE)), 1);
            assert_eq!(sharing(table.answer(leaf, 1, LIVE)), 4);
            assert_eq!(table.answer(leaf, 2, LIVE), Answer::default());
        }
        assert_eq!(intel.answer(4, 0, LIVE).eax >> 26, 3);
        assert_eq!(intel.answer(0x8000_0008, 0, LIVE).ecx, 0);
        assert_eq!(amd.answer(4, 0, LIVE), Answer::default());
        assert_eq!(amd.answer(0x8000_0008, 0, LIVE).ecx, 2 << 12 | 3);
        assert_eq!(amd.answer(0x8000_001e, 0, LIVE).eax, 2);
        assert_eq!(amd.answer(0x8000_0008, 0, LIVE).eax, 48 << 8 | 39);
    }

    #[test]
    fn the_save_area_is_as_large_as_what_is_enabled() {
        let [table, _] = everywhere();
        let size = |xcr0| table.answer(0xd, 0, Live { xcr0, ..LIVE }).ebx;
        assert_eq!(size(xcr0::X87), 576);
        assert_eq!(size(xcr0::X87 | xcr0::SSE), 576);
        assert_eq!(size(7), 512 + 64 * 2 + 64);
        assert_eq!(size(0x2e7), 512 + 64 * 9 + 64);
        assert_eq!(table.answer(0xd, 0, LIVE).ecx, 512 + 64 * 9 + 64);
        let compact = |xcr0| table.answer(0xd, 1, Live { xcr0, ..LIVE }).ebx;
        assert_eq!((compact(3), compact(7)), (576, 640));
        assert_eq!(compact(0x2e7), 576 + 5 * 64);
    }

    #[test]
    fn keys_are_shown_as_on_when_they_are() {
        let [table, _] = everywhere();
        let on = Live {
            cr4: cr4::PKE,
            ..LIVE
        };
        let changed = table.answer(7, 0, on).ecx ^ table.answer(7, 0, LIVE).ecx;
        assert_eq!(changed, leaf7_ecx::OSPKE);
    }

    proptest! {
        /// Nothing is offered that the host does not have, but for what is the machine's own.
        #[test]
        fn the_host_is_the_limit(host in prop::collection::vec(any::<[u32; 4]>(), 8)) {
            let leaves = [(1, 0), (7, 0), (7, 1), (7, 2), (0xd, 1), (0x8000_0001, 0), (0x8000_0007, 0), (0x8000_0021, 0)];
            let entries: Vec<_> = leaves
                .iter()
                .zip(&host)
                .map(|(&(leaf, subleaf), &answer)| entry(leaf, Some(subleaf), answer))
                .collect();
            let table = Table::hosted(&entries, &machine(1), 0);
            let ask = |leaf, subleaf| table.answer(leaf, subleaf, LIVE);
            let ours = OURS1_ECX;
            prop_assert_eq!(ask(1, 0).ecx & !host[0][2] & !ours, 0);
            prop_assert_eq!(ask(1, 0).edx & !host[0][3] & !leaf1_edx::APIC, 0);
            prop_assert_eq!(ask(7, 0).ebx & !host[1][1], 0);
            prop_assert_eq!(ask(7, 0).ecx & !host[1][2], 0);
            prop_assert_eq!(ask(7, 0).edx & !host[1][3], 0);
            prop_assert_eq!(ask(7, 1).eax & !host[2][0], 0);
            prop_assert_eq!(ask(7, 2).edx & !host[3][3], 0);
            prop_assert_eq!(ask(0x8000_0001, 0).ecx & !host[5][2], 0);
            prop_assert_eq!(ask(0x8000_0001, 0).edx & !host[5][3], 0);
        }
    }
}
