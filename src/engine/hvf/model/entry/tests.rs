//! The entry checks against a table of rules that was written apart from them: one field of a right VMCS is changed, and
//! both must say the same.

use proptest::prelude::*;

use super::super::valid::{MODES, Mode, fields};
use super::*;

type Fields = Vec<(Field, u64)>;

fn vmcs(fields: &Fields) -> Vmcs {
    let mut vmcs = Vmcs::default();
    for &(field, value) in fields {
        vmcs.write(field, value);
    }
    vmcs
}

fn enters(vmcs: &Vmcs) -> Result<(), &'static str> {
    check_controls(vmcs, &Host::HASWELL, 0).map_err(|it| it.what)?;
    check_guest(vmcs).map_err(|it| it.what)
}

#[test]
fn what_is_right_enters() {
    for mode in MODES {
        let right = vmcs(&fields(mode, &Host::HASWELL));
        assert_eq!(enters(&right), Ok(()), "{mode:?}");
    }
}

/// The lowest 48 bits, signed.
fn is_canonical(address: u64) -> bool {
    matches!(address >> 47, 0 | 0x1_ffff)
}

/// Whether the VMCS of a mode enters with one field set to a value. `None` where the table does not know the field.
/// The table is the manual's text for these five guests, so it says things such as "a type of 3, 7 or 11".
fn allowed(mode: Mode, field: Field, value: u64) -> Option<bool> {
    let long = mode == Mode::Long;
    Some(match field {
        Field::GUEST_CR0 => {
            let has = |bit: u32| value >> bit & 1 == 1;
            let protected_as_before = match mode {
                // Code segments of these modes have types that are right in both.
                Mode::Vm86 => has(0),
                Mode::Long => has(0) && has(31),
                _ => true,
            };
            // EFER.LME is clear where LMA is, and PDPTEs that are not present are right.
            has(5) && value >> 32 == 0 && (!has(31) || has(0)) && protected_as_before
        }
        Field::GUEST_CR3 => value < 1 << 39,
        Field::GUEST_CR4 => {
            let has = |bit: u32| value >> bit & 1 == 1;
            let known = 0x0037_2fff_u64;
            value & !known == 0 && has(13) && (!long || has(5)) && (long || !has(17))
        }
        Field::GUEST_EFER => {
            let known = value & !0xd01 == 0;
            let lma = value >> 10 & 1 == 1;
            let lme = value >> 8 & 1 == 1;
            let paging = matches!(mode, Mode::Pae | Mode::Long);
            known && lma == long && (!paging || lma == lme)
        }
        Field::GUEST_PAT => (0..8).all(|n| {
            let kind = value >> (8 * n) & 0xff;
            kind < 2 || (4..8).contains(&kind)
        }),
        Field::GUEST_DR7 => value < 1 << 32,
        Field::GUEST_DEBUGCTL => value < 4,
        Field::GUEST_RFLAGS => {
            let reserved = 1 << 3 | 1 << 5 | 1 << 15;
            let vm = value >> 17 & 1 == 1;
            let mode_fits = match mode {
                Mode::Vm86 => None,
                Mode::Real | Mode::Long => Some(!vm),
                // The segments are not those of virtual-8086 mode.
                Mode::Protected | Mode::Pae => Some(!vm),
            };
            let mode_fits = match mode_fits {
                Some(fits) => fits,
                // Out of virtual-8086 mode, SS has DPL 3 and CS type 3 with DPL 3: wrong.
                None => vm,
            };
            value >> 22 == 0 && value & reserved == 0 && value & 2 != 0 && mode_fits
        }
        Field::GUEST_RIP if long => is_canonical(value),
        Field::GUEST_RIP => value < 1 << 32,
        Field::GUEST_GDTR_BASE
        | Field::GUEST_IDTR_BASE
        | Field::GUEST_SYSENTER_ESP
        | Field::GUEST_SYSENTER_EIP => is_canonical(value),
        Field::GUEST_FS_BASE | Field::GUEST_GS_BASE if mode != Mode::Vm86 => is_canonical(value),
        Field::GUEST_TR_BASE | Field::GUEST_LDTR_BASE => is_canonical(value),
        Field::GUEST_CS_BASE
        | Field::GUEST_SS_BASE
        | Field::GUEST_DS_BASE
        | Field::GUEST_ES_BASE
            if mode != Mode::Vm86 =>
        {
            value < 1 << 32
        }
        Field::GUEST_DS_BASE | Field::GUEST_FS_BASE if mode == Mode::Vm86 => value == 0,
        Field::GUEST_GDTR_LIMIT | Field::GUEST_IDTR_LIMIT => value < 1 << 16,
        Field::GUEST_DS_LIMIT | Field::GUEST_CS_LIMIT => match mode {
            Mode::Vm86 => value == 0xffff,
            // G is clear.
            Mode::Real => value < 1 << 20,
            // G is set.
            _ => value & 0xfff == 0xfff,
        },
        Field::GUEST_TR_LIMIT => value < 1 << 20,
        Field::GUEST_TR_SELECTOR | Field::GUEST_LDTR_SELECTOR => value & 4 == 0,
        Field::GUEST_CS_ACCESS_RIGHTS => match mode {
            Mode::Vm86 => value == 0xf3,
            _ => {
                let kind = value & 0xf;
                let dpl = value >> 5 & 3;
                let size = value >> 13 & 3;
                // The limit of real mode has G clear and would do with it set if it were larger.
                let granularity = value >> 15 & 1;
                let expected = if mode == Mode::Real { 0 } else { 1 };
                matches!(kind, 3 | 9 | 11 | 13 | 15)
                    && value >> 16 == 0
                    && value >> 8 & 0xf == 0
                    && value >> 4 & 1 == 1
                    && value >> 7 & 1 == 1
                    && dpl == 0
                    && (!long || size != 3)
                    && (granularity == expected || mode == Mode::Real)
            }
        },
        Field::GUEST_DS_ACCESS_RIGHTS if mode != Mode::Vm86 => {
            let unusable = value >> 16 & 1 == 1;
            let readable = !matches!(value & 0xf, 9 | 13);
            let granularity = mode == Mode::Real || value >> 15 & 1 == 1;
            unusable
                || value >> 17 == 0
                    && value >> 8 & 0xf == 0
                    && value >> 4 & 1 == 1
                    && value >> 7 & 1 == 1
                    && value & 1 == 1
                    && readable
                    && granularity
        }
        Field::GUEST_TR_ACCESS_RIGHTS => {
            let kind = value & 0xf;
            // G does not matter to a limit of 0xffff: it ends in 0xfff.
            (kind == 11 || kind == 3 && !long)
                && value >> 16 == 0
                && value >> 8 & 0xf == 0
                && value >> 4 & 1 == 0
                && value >> 7 & 1 == 1
        }
        Field::GUEST_LDTR_ACCESS_RIGHTS => {
            value >> 16 & 1 == 1
                || value & 0x9f == 0x82 && value >> 17 == 0 && value >> 8 & 0xf == 0
        }
        Field::GUEST_ACTIVITY => match mode {
            // SS.DPL is 3.
            Mode::Vm86 => matches!(value, 0 | 2 | 3),
            _ => value < 4,
        },
        // RFLAGS.IF is clear, so STI cannot block; MOV SS may, and NMIs may be blocked.
        Field::GUEST_INTERRUPTIBILITY => value & !0xa == 0,
        Field::GUEST_PENDING_DEBUG => value & !0x500f == 0,
        Field::VMCS_LINK_POINTER => value == u64::MAX,
        Field::GUEST_PDPTE0 => {
            mode != Mode::Pae || value & 1 == 0 || value & (!0 << 39 | 0x1e6) == 0
        }
        Field::ENTRY_INTERRUPTION_INFO => event_allowed(mode, value),
        Field::CR3_TARGET_COUNT => value == 0,
        // External interrupts, NMIs and the bits that are always one; only virtual NMIs are free.
        Field::PIN_BASED_CONTROLS => value & !0x20 == 0x1f,
        _ => return None,
    })
}

/// Interruption information, with an instruction length of zero, RFLAGS.IF clear, and no error code's value.
fn event_allowed(mode: Mode, value: u64) -> bool {
    if value >> 31 & 1 == 0 {
        return true;
    }
    let (kind, vector) = (value >> 8 & 7, value & 0xff);
    let pushes = value >> 11 & 1 == 1;
    let wanted = mode != Mode::Real && matches!(vector, 8 | 10 | 11 | 12 | 13 | 14 | 17);
    let reserved = value >> 12 & 0x7_ffff != 0;
    !reserved
        && match kind {
            2 => vector == 2 && !pushes,
            3 => vector < 32 && pushes == wanted,
            // External interrupts need RFLAGS.IF, software events a length.
            _ => false,
        }
}

/// The fields that the table knows, of a guest that is right.
fn known(mode: Mode) -> Fields {
    let mut all = fields(mode, &Host::HASWELL);
    for zero in [
        Field::GUEST_DEBUGCTL,
        Field::GUEST_GDTR_BASE,
        Field::GUEST_IDTR_BASE,
        Field::GUEST_SYSENTER_ESP,
        Field::GUEST_SYSENTER_EIP,
        Field::GUEST_ACTIVITY,
        Field::GUEST_INTERRUPTIBILITY,
        Field::GUEST_PENDING_DEBUG,
        Field::GUEST_PDPTE0,
        Field::ENTRY_INTERRUPTION_INFO,
        Field::CR3_TARGET_COUNT,
    ] {
        all.push((zero, 0));
    }
    all.retain(|(field, value)| allowed(mode, *field, *value).is_some());
    all
}

/// How a VMCS with one value changed differs from the table, where it does.
fn difference(mode: Mode, all: &Fields, at: usize, value: u64) -> Option<String> {
    let field = all[at].0;
    let value = value & (u64::MAX >> (64 - field.bits()));
    let mut changed = vmcs(&fields(mode, &Host::HASWELL));
    changed.write(field, value);
    let found = enters(&changed);
    let expected = allowed(mode, field, value)?;
    (found.is_ok() != expected).then(|| {
        let name = field.name().unwrap_or("?");
        format!("{mode:?}: {name} = {value:#x}: {found:?}")
    })
}

#[test]
fn every_bit_of_every_field_is_judged_as_the_table_says() {
    let mut wrong = Vec::new();
    let mut judged = 0;
    for mode in MODES {
        let all = known(mode);
        assert!(all.len() > 30, "{mode:?}");
        for at in 0..all.len() {
            let (field, right) = all[at];
            let flips = (0..field.bits()).map(|bit| right ^ 1 << bit);
            for value in flips
                .chain(0..256)
                .chain([u64::MAX, 0x8000_0302, 0x8000_0b0d])
            {
                judged += 1;
                wrong.extend(difference(mode, &all, at, value));
            }
        }
    }
    assert!(judged > 50_000);
    let shown = wrong.iter().take(40).cloned().collect::<Vec<_>>();
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), shown.join("\n"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn any_value_of_any_field_is_judged_as_the_table_says(
        mode in 0usize..MODES.len(),
        pick in any::<prop::sample::Index>(),
        (any, a, b) in (any::<u64>(), 0u32..64, 0u32..64),
        how in 0..3,
    ) {
        let mode = MODES[mode];
        let all = known(mode);
        let at = pick.index(all.len());
        let (field, right) = all[at];
        let bit = |n: u32| 1 << (n % field.bits());
        let value = match how {
            0 => any,
            1 => right ^ bit(a) ^ bit(b),
            _ => right ^ bit(a) ^ any & 0xff,
        };
        prop_assert_eq!(difference(mode, &all, at, value), None);
    }
}
