//! The table is consistent in itself and with the machine's clocks.

use super::*;

const PLAIN: Live = Live {
    cr4: 0,
    xcr0: 1,
    apic: true,
};

fn table(cpus: u32, id: u32) -> Table {
    let machine = Machine {
        cpus,
        physical_bits: 39,
        crystal_hz: 100_000_000,
        tsc_ratio: (10, 1),
    };
    Table::new(&machine, id)
}

fn ask(cpus: u32, id: u32, leaf: u32, subleaf: u32) -> Answer {
    table(cpus, id).answer(leaf, subleaf, PLAIN)
}

fn text(words: &[u32]) -> String {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    String::from_utf8(bytes)
        .unwrap()
        .trim_end_matches('\0')
        .to_owned()
}

#[test]
fn names_are_read_in_the_order_in_which_linux_reads_them() {
    let vendor = ask(1, 0, 0, 0);
    assert_eq!(text(&[vendor.ebx, vendor.edx, vendor.ecx]), "GenuineIntel");
    let hypervisor = ask(1, 0, 0x4000_0000, 0);
    assert_eq!(
        text(&[hypervisor.ebx, hypervisor.ecx, hypervisor.edx]),
        "KVMKVMKVM"
    );
    let brand: Vec<u32> = (0x8000_0002..=0x8000_0004)
        .map(|leaf| ask(1, 0, leaf, 0))
        .flat_map(|a| [a.eax, a.ebx, a.ecx, a.edx])
        .collect();
    assert_eq!(text(&brand), "xlaunch software CPU @ 1.00GHz");
}

#[test]
fn the_signature_is_family_6_model_36() {
    let eax = ask(1, 0, 1, 0).eax;
    assert_eq!(eax >> 8 & 0xf, 6);
    assert_eq!((eax >> 12 & 0xf0) | (eax >> 4 & 0xf), 0x36);
    assert_eq!(eax >> 20, 0);
}

#[test]
fn the_two_leaves_of_clocks_agree() {
    let ratio = ask(1, 0, 0x15, 0);
    let tsc = u64::from(ratio.ecx) * u64::from(ratio.ebx) / u64::from(ratio.eax);
    assert_eq!((ratio.ecx, tsc), (100_000_000, 1_000_000_000));
    let leaf = ask(1, 0, 0x16, 0);
    assert_eq!((leaf.eax, leaf.ebx, leaf.ecx), (1000, 1000, 100));
    assert_eq!(ask(1, 0, 0x8000_0008, 0).eax, 48 << 8 | 39);
}

#[test]
fn topology_tells_each_cpu_apart_inside_one_package() {
    for cpus in [1, 2, 3, 4, 5, 8, 63, 64] {
        let mut cores = Vec::new();
        for id in 0..cpus {
            let threads = ask(cpus, id, 0xb, 0);
            let package = ask(cpus, id, 0xb, 1);
            assert_eq!((threads.eax, threads.ebx, threads.ecx), (0, 1, 0x100));
            assert_eq!((package.ebx, package.ecx, package.edx), (cpus, 0x201, id));
            assert_eq!(id >> package.eax, 0, "one package");
            cores.push(id);
            let end = ask(cpus, id, 0xb, 2);
            assert_eq!((end.eax, end.ebx, end.ecx, end.edx), (0, 0, 2, id));
            let leaf1 = ask(cpus, id, 1, 0);
            assert_eq!(leaf1.ebx >> 24, id);
            assert_eq!(leaf1.edx & leaf1_edx::HTT != 0, cpus > 1);
        }
        let sharing = (ask(cpus, 0, 4, 3).eax >> 14 & 0xfff) + 1;
        assert_eq!(sharing, cpus.next_power_of_two());
        assert_eq!(cores.len() as u32, cpus);
    }
}

#[test]
fn caches_have_the_size_that_is_told_twice() {
    let size = |a: Answer| {
        let field = |shift: u32, mask: u32| u64::from(a.ebx >> shift & mask) + 1;
        field(22, 0x3ff) * field(12, 0x3ff) * field(0, 0xfff) * (u64::from(a.ecx) + 1)
    };
    let sizes: Vec<u64> = (0..4).map(|level| size(ask(2, 0, 4, level))).collect();
    assert_eq!(sizes, [32 << 10, 32 << 10, 1 << 20, 32 << 20]);
    assert_eq!(ask(2, 0, 4, 4), Answer::default());
    assert_eq!(
        u64::from(ask(2, 0, 0x8000_0006, 0).ecx >> 16) << 10,
        sizes[2]
    );
    assert_eq!(ask(2, 0, 1, 0).ebx >> 8 & 0xff, 64 / 8);
}

#[test]
fn what_changes_while_running_is_shown() {
    let table = table(1, 0);
    let off = Live {
        cr4: 0,
        xcr0: 1,
        apic: false,
    };
    let on = Live {
        cr4: crate::x86::cr4::OSXSAVE | crate::x86::cr4::PKE,
        xcr0: 3,
        apic: true,
    };
    let changed = |leaf| {
        let (a, b) = (table.answer(leaf, 0, off), table.answer(leaf, 0, on));
        [a.eax ^ b.eax, a.ebx ^ b.ebx, a.ecx ^ b.ecx, a.edx ^ b.edx]
    };
    assert_eq!(changed(1), [0, 0, leaf1_ecx::OSXSAVE, leaf1_edx::APIC]);
    for leaf in [0, 2, 4, 6, 7, 0xb, 0xd, 0x8000_0001] {
        assert_eq!(changed(leaf), [0; 4]);
    }
}

#[test]
fn nothing_is_offered_that_needs_what_is_not() {
    let leaf1 = ask(1, 0, 1, 0);
    assert_eq!(
        leaf1.ecx & (leaf1_ecx::AVX | leaf1_ecx::FMA | leaf1_ecx::F16C),
        0
    );
    assert_eq!(
        leaf1.ecx & (leaf1_ecx::AESNI | leaf1_ecx::PCLMULQDQ | leaf1_ecx::MONITOR),
        0
    );
    assert_eq!(leaf1.ecx & leaf1_ecx::VMX, 0);
    let leaf7 = ask(1, 0, 7, 0);
    assert_eq!(
        leaf7.ebx & (leaf7_ebx::AVX2 | leaf7_ebx::BMI1 | leaf7_ebx::BMI2),
        0
    );
    // Only x87 and SSE in XCR0, no compact format, no supervisor state.
    assert_eq!(ask(1, 0, 0xd, 0).eax, 3);
    assert_eq!(ask(1, 0, 0xd, 1), Answer::default());
    assert_eq!(ask(1, 0, 0xd, 2), Answer::default());
    assert_eq!(ask(1, 0, 0xa, 0), Answer::default());
    assert_eq!(ask(1, 0, 0x4000_0001, 0), Answer::default());
}

#[test]
fn leaves_beyond_the_last_show_the_last_basic_one() {
    let last = ask(1, 0, 0x16, 0);
    for leaf in [0x17, 0x1f, 0x2000_0000, 0x8000_0009, 0xc000_0000, u32::MAX] {
        assert_eq!(ask(1, 0, leaf, 0), last);
    }
    assert_eq!(ask(1, 0, 0x4000_0100, 0), Answer::default());
}

#[test]
fn no_question_is_answered_twice() {
    let table = table(64, 63);
    let mut asked: Vec<_> = table
        .entries()
        .iter()
        .map(|e| (e.leaf, e.subleaf))
        .collect();
    let count = asked.len();
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), count);
}
