//! Noise as code, tables and registers, in every mode: nothing panics, hangs, or leaves the guest's memory.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
struct Noise {
    code: Vec<u8>,
    gprs: [u64; 16],
    /// Overwritten words of RAM: tables are at its beginning.
    words: Vec<(u64, u64)>,
    flags: u64,
    cr4: u64,
    dr7: u64,
    level: bool,
}

/// Registers that point somewhere, mostly.
fn register() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..RAM,
        any::<u64>(),
        Just(u64::MAX),
        0x7fff_ffff_f000u64..0x8000_0000_1000,
        0..16u64
    ]
}

/// Descriptors and entries that are nearly right.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (0..RAM).prop_map(|at| at & !0xfff | 7),
        (0..RAM, 0..0xf_ffffu64, any::<u16>())
            .prop_map(|(base, limit, rights)| descriptor(base, limit, rights)),
        (0..16u16, 0..RAM, 0..256u64).prop_map(|(n, at, kind)| gate(8 * n, at, kind, 3)),
    ]
}

fn noise() -> impl Strategy<Value = Noise> {
    let place = prop_oneof![
        GDT..GDT + 0x100,
        IDT..IDT + 0x400,
        TSS..TSS + 0x80,
        TABLES..TABLES + 0x4000
    ];
    (
        prop::collection::vec(any::<u8>(), 1..200),
        prop::array::uniform16(register()),
        prop::collection::vec((place.prop_map(|at| at & !7), word()), 0..12),
        any::<u32>(),
        any::<u32>(),
        prop_oneof![3 => Just(0), 1 => any::<u32>()],
        any::<bool>(),
    )
        .prop_map(|(code, gprs, words, flags, cr4, dr7, level)| Noise {
            code,
            gprs,
            words,
            flags: flags.into(),
            cr4: cr4.into(),
            dr7: dr7.into(),
            level,
        })
}

/// Lets a guest loose, and wakes it a few times.
fn let_loose(mut guest: Guest, noise: &Noise) {
    let at = guest.code_address();
    guest.ram.write(at, &noise.code).unwrap();
    for &(at, word) in &noise.words {
        guest.ram.store_u64(at, word).unwrap();
    }
    let safe = cr4::TSD
        | cr4::DE
        | cr4::PSE
        | cr4::PGE
        | cr4::UMIP
        | cr4::FSGSBASE
        | cr4::SMEP
        | cr4::SMAP
        | cr4::OSFXSR
        | cr4::OSXSAVE
        | cr4::VME;
    let flags = noise.flags & rflags::DEFINED & !(rflags::VM | rflags::VIP);
    let core = guest.cpu.core_mut();
    core.state.gpr = noise.gprs;
    core.state.cr4 |= noise.cr4 & safe;
    core.state.dr7 |= noise.dr7 & 0xffff_23ff;
    core.state.breakpoints.copy_from_slice(&noise.gprs[..4]);
    core.set_rflags(flags | rflags::FIXED);
    for vector in [0x20, 0x80, 0xff] {
        let until = guest.notes.now + 3;
        let stop = guest.cpu.run(&mut guest.notes, Some(Nanos(until)));
        guest.notes.heard.clear();
        if stop == Stop::TripleFault {
            return;
        }
        let core = guest.cpu.core_mut();
        if core.interruptible() {
            core.injected = Some(vector);
        } else {
            core.nmi_pending = true;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn noise_in_real_mode(noise in noise()) {
        let_loose(Guest::real(), &noise);
    }

    #[test]
    fn noise_in_protected_mode(noise in noise()) {
        let_loose(Guest::protected(if noise.level { 3 } else { 0 }), &noise);
    }

    #[test]
    fn noise_in_long_mode(noise in noise()) {
        let_loose(Guest::long(if noise.level { 3 } else { 0 }), &noise);
    }

    #[test]
    fn noise_in_compatibility_mode(noise in noise()) {
        let mut guest = Guest::long(3);
        guest.define(FREE, descriptor(0, 0xf_ffff, CODE_RIGHTS | BIG | LEVEL3));
        let mut regs = guest.cpu.core().regs();
        regs.cs = guest.loaded(FREE | 3);
        guest.cpu.core_mut().set_regs(&regs);
        let_loose(guest, &noise);
    }

    #[test]
    fn noise_in_virtual_8086_mode(noise in noise()) {
        let guest = Guest::protected(0);
        guest.ram.write(DATA, &noise.code).unwrap();
        let code = assemble(32, CODE, |a| {
            for word in [5, 4, 3, 2, (STACK >> 4) as i32, 0x1000] {
                a.push(word).unwrap();
            }
            let kept = noise.flags & (rflags::IOPL | rflags::IF | rflags::TF);
            a.push((rflags::VM | rflags::FIXED | kept) as i32).unwrap();
            a.push((DATA >> 4) as i32).unwrap();
            a.push(0).unwrap();
            a.iretd().unwrap();
        });
        let way_in = Noise { code, gprs: [0, 0, 0, 0, STACK, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], flags: 0, ..noise };
        let_loose(guest, &way_in);
    }
}
