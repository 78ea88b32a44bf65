//! MSRs that KVM leaves to us, and what a reset sets in those that it keeps.

use std::ops::RangeInclusive;

use crate::x86::msr;

/// MSRs that do not reach KVM, beside those of the x2APIC, which it does not have without a local APIC of its own.
/// A deadline would otherwise be dropped in silence, and machine checks would have 32 banks.
pub(super) const OURS: [RangeInclusive<u32>; 3] = [
    msr::APIC_BASE..=msr::APIC_BASE,
    msr::MCG_CAP..=msr::MCG_CTL,
    msr::TSC_DEADLINE..=msr::TSC_DEADLINE,
];

/// Whose an MSR is that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The local APIC's: `Io` has it.
    Lapic,
    /// The local APIC's, in ticks of the TSC.
    Deadline,
    /// Reads as zero, takes zero.
    Zero,
    /// Nobody's: #GP.
    Nobody,
}

impl Owner {
    pub(super) fn of(msr: u32) -> Self {
        match msr {
            msr::APIC_BASE | msr::X2APIC_FIRST..=msr::X2APIC_LAST => Self::Lapic,
            msr::TSC_DEADLINE => Self::Deadline,
            msr::MCG_CAP | msr::MCG_STATUS => Self::Zero,
            _ => Self::Nobody,
        }
    }
}

/// Values after power-on. Those that a host lacks are refused, one by one.
pub(super) const POWER_ON: [(u32, u64); 30] = {
    let mut values = [(0, 0); 30];
    let zero = [
        msr::STAR,
        msr::LSTAR,
        msr::CSTAR,
        msr::FMASK,
        msr::KERNEL_GS_BASE,
        msr::TSC_AUX,
        msr::TSC_ADJUST,
        msr::SYSENTER_CS,
        msr::SYSENTER_ESP,
        msr::SYSENTER_EIP,
        msr::SPEC_CTRL,
        msr::DEBUGCTL,
    ];
    let mut n = 0;
    while n < zero.len() {
        values[n] = (zero[n], 0);
        n += 1;
    }
    let mut register = 0;
    while register < 2 * msr::mtrr::VARIABLE as u32 {
        values[n] = (msr::MTRR_PHYSBASE0 + register, 0);
        register += 1;
        n += 1;
    }
    values[n] = (msr::PAT, msr::PAT_RESET);
    values[n + 1] = (msr::MISC_ENABLE, msr::misc_enable::RESET);
    values
};

/// The one of those in which KVM's own value after power-on is another: it lacks fast strings.
pub(super) const AT_FIRST: [(u32, u64); 1] = [(msr::MISC_ENABLE, msr::misc_enable::RESET)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_filter_brings_has_an_owner() {
        for msr in OURS.into_iter().flatten().filter(|&m| m != msr::MCG_CTL) {
            assert_ne!(Owner::of(msr), Owner::Nobody, "{msr:#x}");
        }
        assert_eq!(Owner::of(0x830), Owner::Lapic);
        assert_eq!(Owner::of(0x900), Owner::Nobody);
        assert_eq!(Owner::of(msr::EFER), Owner::Nobody);
    }

    #[test]
    fn each_register_is_reset_once() {
        let mut numbers = POWER_ON.map(|(number, _)| number).to_vec();
        numbers.sort();
        numbers.dedup();
        assert_eq!(numbers.len(), POWER_ON.len());
        assert!(!numbers.contains(&0));
    }
}
