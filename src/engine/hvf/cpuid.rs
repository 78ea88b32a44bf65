//! CPUID of a vCPU of VMX: what `x86::cpuid` lets through of the host's, without what this engine does not switch with
//! the guest. Where guests run on another processor than the host's (the model), it is the software CPU's.
//!
//! Left out: protection keys, and speculation control with IA32_ARCH_CAPABILITIES, which the framework switches only on
//! some versions of macOS. A guest then believes that the microcode is old, and does what it can without.

use super::vmx::Vmx;
use crate::x86::cpuid::feature::{
    extended1_edx, leaf1_ecx, leaf1_edx, leaf7_ebx, leaf7_ecx, leaf7_edx,
};
use crate::x86::cpuid::{Answer, Entry, Live, Machine, Table};
use crate::x86::vmx::control::secondary;
use crate::x86::{cr4, xcr0};

/// What needs MSRs that are not the guest's.
const SPECULATION: u32 = leaf7_edx::SPEC_CTRL
    | leaf7_edx::STIBP
    | leaf7_edx::L1D_FLUSH
    | leaf7_edx::ARCH_CAPABILITIES
    | leaf7_edx::SSBD;
/// States that go together, and need AVX.
const AVX512: u64 = xcr0::OPMASK | xcr0::ZMM_HI256 | xcr0::HI16_ZMM;
/// Leaves without subleaves, as far as they are asked for.
const PLAIN: [u32; 12] = [
    0,
    1,
    2,
    0x8000_0000,
    0x8000_0001,
    0x8000_0002,
    0x8000_0003,
    0x8000_0004,
    0x8000_0005,
    0x8000_0006,
    0x8000_0007,
    0x8000_0008,
];

/// The table of a vCPU with these secondary controls.
pub(super) fn table(vmx: &dyn Vmx, machine: &Machine, apic_id: u8, controls: u32) -> Table {
    if vmx.cpuid(0, 0).is_none() {
        return Table::new(machine, apic_id.into());
    }
    let ask = |leaf, subleaf| vmx.cpuid(leaf, subleaf).unwrap_or_default();
    Table::hosted(&host(ask, controls), machine, apic_id.into())
}

/// Whether XCR0 may have this value (SDM volume 1, 13.3).
pub(super) fn offers_xcr0(table: &Table, value: u64) -> bool {
    let live = Live {
        cr4: 0,
        xcr0: xcr0::X87,
        apic: true,
    };
    let Answer { eax, edx, .. } = table.answer(0xd, 0, live);
    let offered = u64::from(edx) << 32 | u64::from(eax);
    let wide = value & AVX512;
    value & !offered == 0
        && value & xcr0::X87 != 0
        && (value & xcr0::AVX == 0 || value & xcr0::SSE != 0)
        && (wide == 0 || wide == AVX512 && value & xcr0::AVX != 0)
}

/// The bits of CR4 that may be set: those of features that are shown, and those that need none (SDM volume 3, 2.5).
pub(super) fn offered_cr4(table: &Table) -> u64 {
    let live = Live {
        cr4: 0,
        xcr0: xcr0::X87,
        apic: true,
    };
    let (one, seven) = (table.answer(1, 0, live), table.answer(7, 0, live));
    let features = [
        (one.ecx & leaf1_ecx::PCID, cr4::PCIDE),
        (one.ecx & leaf1_ecx::XSAVE, cr4::OSXSAVE),
        (one.edx & leaf1_edx::VME, cr4::VME | cr4::PVI),
        (one.edx & leaf1_edx::PGE, cr4::PGE),
        (seven.ebx & leaf7_ebx::FSGSBASE, cr4::FSGSBASE),
        (seven.ebx & leaf7_ebx::SMEP, cr4::SMEP),
        (seven.ebx & leaf7_ebx::SMAP, cr4::SMAP),
        (seven.ecx & leaf7_ecx::UMIP, cr4::UMIP),
    ];
    let always = cr4::TSD
        | cr4::DE
        | cr4::PSE
        | cr4::PAE
        | cr4::MCE
        | cr4::PCE
        | cr4::OSFXSR
        | cr4::OSXMMEXCPT;
    let shown = features.iter().filter(|(feature, _)| *feature != 0);
    shown.fold(always, |bits, (_, more)| bits | more)
}

/// What the host answers, less what is left out.
fn host(ask: impl Fn(u32, u32) -> Answer, controls: u32) -> Vec<Entry> {
    let mut entries = Vec::with_capacity(96);
    let mut put = |leaf, subleaf, answer| {
        entries.push(Entry {
            leaf,
            subleaf,
            answer,
        });
    };
    for leaf in PLAIN {
        let mut answer = ask(leaf, 0);
        if leaf == 0x8000_0001 && controls & secondary::RDTSCP == 0 {
            answer.edx &= !extended1_edx::RDTSCP;
        }
        put(leaf, None, answer);
    }
    for subleaf in 0..8 {
        put(4, Some(subleaf), ask(4, subleaf));
    }
    let features = features(ask(7, 0), controls);
    put(7, Some(0), features);
    put(7, Some(1), ask(7, 1));
    let mut states = ask(0xd, 0);
    states.eax &= !(xcr0::PKRU as u32);
    put(0xd, Some(0), states);
    for component in 1..63 {
        put(0xd, Some(component), ask(0xd, component));
    }
    entries
}

fn features(mut answer: Answer, controls: u32) -> Answer {
    // Subleaf 2 has nothing but more of speculation control.
    answer.eax = answer.eax.min(1);
    if controls & secondary::INVPCID == 0 {
        answer.ebx &= !leaf7_ebx::INVPCID;
    }
    answer.ecx &= !leaf7_ecx::PKU;
    if controls & secondary::RDTSCP == 0 {
        answer.ecx &= !leaf7_ecx::RDPID;
    }
    answer.edx &= !SPECULATION;
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVE: Live = Live {
        cr4: 0,
        xcr0: xcr0::X87,
        apic: true,
    };

    /// The guest's table on a host that has everything.
    fn guest(controls: u32) -> Table {
        let everything = |leaf, _| {
            let mut all = Answer {
                eax: u32::MAX,
                ebx: u32::MAX,
                ecx: u32::MAX,
                edx: u32::MAX,
            };
            if leaf == 0 {
                // "GenuineIntel".
                (all.ebx, all.edx, all.ecx) = (0x756e_6547, 0x4965_6e69, 0x6c65_746e);
            }
            all
        };
        let machine = Machine {
            cpus: 2,
            physical_bits: 39,
            crystal_hz: 100_000_000,
            tsc_ratio: (24, 1),
        };
        Table::hosted(&host(everything, controls), &machine, 1)
    }

    #[test]
    fn what_is_not_switched_with_the_guest_is_not_shown() {
        let all = secondary::RDTSCP | secondary::INVPCID;
        let seven = guest(all).answer(7, 0, LIVE);
        assert_eq!(seven.eax, 1);
        assert_eq!(seven.ecx & leaf7_ecx::PKU, 0);
        assert_eq!(seven.edx & SPECULATION, 0);
        assert_ne!(seven.edx & leaf7_edx::MD_CLEAR, 0, "VERW needs no MSR");
        assert_eq!(guest(all).answer(0xd, 0, LIVE).eax, 0xe7);
        assert_ne!(guest(all).answer(1, 0, LIVE).ecx & 1 << 28, 0, "AVX");
    }

    #[test]
    fn instructions_that_a_control_takes_away_are_not_shown() {
        let shown = |controls| {
            let table = guest(controls);
            let (seven, one) = (table.answer(7, 0, LIVE), table.answer(0x8000_0001, 0, LIVE));
            [
                seven.ebx & leaf7_ebx::INVPCID,
                seven.ecx & leaf7_ecx::RDPID,
                one.edx & extended1_edx::RDTSCP,
            ]
            .map(|bit| bit != 0)
        };
        assert_eq!(shown(0), [false; 3]);
        assert_eq!(shown(secondary::RDTSCP), [false, true, true]);
        assert_eq!(shown(secondary::INVPCID), [true, false, false]);
    }

    #[test]
    fn control_bits_go_with_what_is_shown() {
        let machine = Machine {
            cpus: 1,
            physical_bits: 39,
            crystal_hz: 100_000_000,
            tsc_ratio: (10, 1),
        };
        let none = offered_cr4(&Table::hosted(&[], &machine, 0));
        let optional = cr4::UMIP | cr4::SMEP | cr4::SMAP | cr4::PCIDE | cr4::FSGSBASE;
        assert_eq!(none & (optional | cr4::VMXE | cr4::PKE), 0);
        assert_ne!(none & cr4::PAE, 0);
        let soft = offered_cr4(&Table::new(&machine, 0));
        assert_eq!(soft & optional, optional);
        assert_eq!(soft & (cr4::VMXE | cr4::PKE | cr4::LA57), 0);
    }

    #[test]
    fn states_are_enabled_as_they_build_on_each_other() {
        let table = guest(0);
        let right = [1, 3, 7, 0xe7];
        let wrong = [0, 2, 5, 0x27, 0xe3, 0x207, 0xe6, 1 << 63 | 1];
        assert!(right.into_iter().all(|value| offers_xcr0(&table, value)));
        assert!(!wrong.into_iter().any(|value| offers_xcr0(&table, value)));
    }
}
