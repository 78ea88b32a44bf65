//! Small guests on the KVM of this host, where there is one: what its part of the work is, ours is done right.

use super::*;

#[test]
fn every_answer_of_the_table_reaches_kvm_and_says_what_it_depends_on() {
    let offered = [
        Entry {
            leaf: 1,
            subleaf: None,
            answer: Answer {
                ecx: u32::MAX,
                edx: u32::MAX,
                ..Answer::default()
            },
        },
        Entry {
            leaf: 7,
            subleaf: Some(0),
            answer: Answer::default(),
        },
    ];
    let machine = Machine {
        cpus: 2,
        physical_bits: 39,
        crystal_hz: 100_000_000,
        tsc_ratio: Rate::new(2_445_424).ratio(),
    };
    let table = Table::hosted(&offered, &machine, 1);
    let answers: Vec<CpuidEntry> = table.entries().iter().map(answer).collect();
    for (answer, told) in answers.iter().zip(table.entries()) {
        assert_eq!((answer.function, answer.eax), (told.leaf, told.answer.eax));
        let depends = answer.flags & CpuidEntry::SIGNIFICANT_INDEX != 0;
        assert_eq!(depends, told.subleaf.is_some());
        let apic = answer.edx & feature::leaf1_edx::APIC != 0;
        assert!(
            answer.function != 1 || apic,
            "KVM clears it where it is off"
        );
        assert_eq!(entry(answer).leaf, told.leaf);
    }
}
