//! Registers as KVM has them, and as engines exchange them.

use hvf_sys::kvm::{self, Sregs, Table};

use crate::x86::control::{cr0, rflags};
use crate::x86::regs::{Regs, Segment, TableRegister};
use crate::x86::segment;

/// What KVM tells, in our words.
pub(super) fn from_kvm(general: &kvm::Regs, system: &Sregs) -> Regs {
    let kvm::Regs {
        rax,
        rbx,
        rcx,
        rdx,
        rsi,
        rdi,
        rsp,
        rbp,
        r8_15: r,
        rip,
        rflags,
    } = *general;
    let Sregs {
        cs_ds_es_fs_gs_ss: segments,
        tr,
        ldt,
        gdt,
        idt,
        cr0,
        cr2,
        cr3,
        cr4,
        cr8: _,
        efer,
        apic_base: _,
        interrupt_bitmap: _,
    } = *system;
    let [cs, ds, es, fs, gs, ss] = segments.map(from_segment);
    Regs {
        gprs: [
            rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7],
        ],
        rip,
        rflags,
        cs,
        ss,
        ds,
        es,
        fs,
        gs,
        ldtr: from_segment(ldt),
        tr: from_segment(tr),
        gdtr: from_table(gdt),
        idtr: from_table(idt),
        cr0,
        cr2,
        cr3,
        cr4,
        efer,
    }
}

/// Ours in KVM's words; the local APIC's part of `system` stays as it is.
pub(super) fn to_kvm(regs: &Regs, system: &mut Sregs) -> kvm::Regs {
    let g = &regs.gprs;
    let mut cs = to_segment(regs.cs);
    // A code segment of real mode may be of a data type, except for processors that check at every entry.
    if regs.cr0 & cr0::PE == 0 {
        cs.kind |= segment::CODE as u8;
    }
    let rest = [regs.ds, regs.es, regs.fs, regs.gs, regs.ss].map(to_segment);
    let [ds, es, fs, gs, ss] = rest;
    *system = Sregs {
        cs_ds_es_fs_gs_ss: [cs, ds, es, fs, gs, ss],
        tr: to_segment(regs.tr),
        ldt: to_segment(regs.ldtr),
        gdt: to_table(regs.gdtr),
        idt: to_table(regs.idtr),
        cr0: regs.cr0,
        cr2: regs.cr2,
        cr3: regs.cr3,
        cr4: regs.cr4,
        efer: regs.efer,
        interrupt_bitmap: [0; 4],
        ..*system
    };
    kvm::Regs {
        rax: g[0],
        rcx: g[1],
        rdx: g[2],
        rbx: g[3],
        rsp: g[4],
        rbp: g[5],
        rsi: g[6],
        rdi: g[7],
        r8_15: [g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]],
        rip: regs.rip,
        rflags: regs.rflags | rflags::FIXED,
    }
}

fn from_segment(from: kvm::Segment) -> Segment {
    let bit = |set: u8, bit: u16| if set != 0 { bit } else { 0 };
    let rights = u16::from(from.kind) & segment::TYPE
        | bit(from.s, segment::S)
        | u16::from(from.dpl) << segment::DPL_SHIFT & segment::DPL
        | bit(from.present, segment::P)
        | bit(from.avl, segment::AVL)
        | bit(from.l, segment::L)
        | bit(from.db, segment::DB)
        | bit(from.g, segment::G);
    let usable = if from.unusable == 0 {
        rights
    } else {
        rights & !segment::P
    };
    Segment {
        selector: from.selector,
        base: from.base,
        limit: from.limit,
        rights: usable,
    }
}

fn to_segment(from: Segment) -> kvm::Segment {
    let bit = |bit: u16| u8::from(from.rights & bit != 0);
    kvm::Segment {
        base: from.base,
        limit: from.limit,
        selector: from.selector,
        kind: (from.rights & segment::TYPE) as u8,
        present: bit(segment::P),
        dpl: ((from.rights & segment::DPL) >> segment::DPL_SHIFT) as u8,
        db: bit(segment::DB),
        s: bit(segment::S),
        l: bit(segment::L),
        g: bit(segment::G),
        avl: bit(segment::AVL),
        unusable: 1 - bit(segment::P),
        padding: 0,
    }
}

fn from_table(from: Table) -> TableRegister {
    TableRegister {
        base: from.base,
        limit: from.limit,
    }
}

fn to_table(from: TableRegister) -> Table {
    Table {
        base: from.base,
        limit: from.limit,
        padding: [0; 3],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn any_segment()(selector: u16, base: u64, limit: u32, rights: u16) -> Segment {
            Segment { selector, base, limit, rights: rights & segment::RIGHTS }
        }
    }

    proptest! {
        #[test]
        fn registers_come_back_as_they_went(
            gprs: [u64; 16],
            segments in [(); 8].map(|()| any_segment()),
            rest: [u64; 8],
            limits: [u16; 2],
        ) {
            let [cs, ss, ds, es, fs, gs, ldtr, tr] = segments;
            let table = |base, limit| TableRegister { base, limit };
            let regs = Regs {
                gprs, cs, ss, ds, es, fs, gs, ldtr, tr,
                rip: rest[0],
                rflags: rest[1] | rflags::FIXED,
                gdtr: table(rest[2], limits[0]),
                idtr: table(rest[3], limits[1]),
                cr0: rest[4] | cr0::PE,
                cr2: rest[5],
                cr3: rest[6],
                cr4: rest[7],
                efer: rest[0] ^ rest[7],
            };
            let mut system = Sregs { apic_base: 0xfee0_0900, cr8: 5, ..Sregs::default() };
            let general = to_kvm(&regs, &mut system);
            prop_assert_eq!((system.apic_base, system.cr8), (0xfee0_0900, 5));
            prop_assert_eq!(from_kvm(&general, &system), regs);
        }
    }

    #[test]
    fn the_reset_state_has_a_code_segment_to_run() {
        let mut system = Sregs::default();
        let general = to_kvm(&Regs::power_on(0x906ea), &mut system);
        let [cs, ds, ..] = system.cs_ds_es_fs_gs_ss;
        assert_eq!((cs.kind, cs.base, cs.unusable), (11, 0xffff_0000, 0));
        assert_eq!((ds.kind, ds.limit, general.rdx), (3, 0xffff, 0x906ea));
    }
}
