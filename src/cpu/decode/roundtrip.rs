//! The decoder against the translator's encoder: what is decoded, encoded and decoded again is the same instruction.

use super::{Mode, decode};
use hvf_sys::cpu::table::{ROWS, Row, allow, flag};
use hvf_sys::cpu::{Insn, InsnBuilder};
use hvf_sys::jit::{encode, encode_32, is_system};
use proptest::prelude::*;

/// The instruction as if its encoding had one byte.
fn without_length(insn: &Insn) -> Insn {
    let mut builder = InsnBuilder::new(insn.op(), insn.width(), insn.long())
        .operand(0, insn.a())
        .operand(1, insn.b())
        .operand(2, insn.c())
        .immediate(insn.immediate())
        .aux(insn.aux())
        .prefix(insn.prefix());
    builder = match insn.mem() {
        Some(mem) => builder.mem(mem),
        None => builder.implied_address(insn.segment() as u8, insn.address_size()),
    };
    builder.build(1)
}

/// Whether `bytes` are an instruction that was encoded and came back the same; an instruction of the system must not be encoded.
fn comes_back(bytes: &[u8], mode: Mode) -> bool {
    let Ok(insn) = decode(bytes, mode) else {
        return false;
    };
    let encode = if mode == Mode::Bits64 {
        encode
    } else {
        encode_32
    };
    let Some(encoded) = encode(&insn) else {
        return false;
    };
    assert!(!is_system(insn.op()));
    let again = decode(encoded.as_bytes(), mode).expect("what was encoded decodes");
    assert_eq!(again.len() as usize, encoded.as_bytes().len(), "{insn:?}");
    assert_eq!(
        without_length(&again),
        without_length(&insn),
        "{:02x?} from {bytes:02x?}",
        encoded.as_bytes()
    );
    true
}

/// Bytes that the row stands for, one of `n` ways.
fn sample(row: &Row, n: u8) -> Vec<u8> {
    let mut bytes = vec![];
    let mandatory = [
        (allow::NP, None),
        (allow::P66, Some(0x66)),
        (allow::PF3, Some(0xf3)),
        (allow::PF2, Some(0xf2)),
    ];
    bytes.extend(
        mandatory
            .iter()
            .find(|(bit, _)| row.allow & bit != 0)
            .and_then(|(_, prefix)| *prefix),
    );
    if row.allow & allow::W0 == 0 {
        bytes.push(0x48);
    }
    bytes.extend_from_slice(match row.map {
        hvf_sys::cpu::table::Map::One => &[],
        hvf_sys::cpu::table::Map::Two => &[0x0f],
        hvf_sys::cpu::table::Map::Three38 => &[0x0f, 0x38],
        hvf_sys::cpu::table::Map::Three3A => &[0x0f, 0x3a],
    });
    bytes.push(row.opcode);
    if row.has_modrm() {
        let register = row.allow & allow::MEM == 0 || row.value >= 0xc0;
        let free = (n.wrapping_mul(0x29) & !0xc0) | if register { 0xc0 } else { 0 };
        bytes.push(free & !row.mask | row.value);
    }
    bytes.resize(15, n);
    bytes
}

#[test]
fn every_row_that_the_user_may_execute_is_encoded() {
    for (mode, bit) in [(Mode::Bits64, allow::LONG), (Mode::Bits32, allow::LEGACY)] {
        let rows = ROWS.iter().filter(|row| row.allow & bit != 0);
        for row in rows.filter(|row| row.flags & flag::MODRM == 0 && !is_system(row.op)) {
            if mode == Mode::Bits32 && row.allow & allow::W0 == 0 {
                continue;
            }
            let count = (0..64)
                .filter(|n| comes_back(&sample(row, *n), mode))
                .count();
            assert!(count == 64, "{count} of 64 in {mode:?}: {row:?}");
        }
    }
}

const PREFIXES: &[&[u8]] = &[&[], &[0x66], &[0xf3], &[0xf2], &[0xf0], &[0x65, 0x67]];
const MAPS: &[&[u8]] = &[&[], &[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn any_instruction_comes_back_from_the_encoder(
        prefix in prop::sample::select(PREFIXES),
        rex in prop::option::of(0x40..0x50u8),
        map in prop::sample::select(MAPS),
        rest in any::<[u8; 11]>(),
    ) {
        let bytes: Vec<u8> = prefix.iter().copied().chain(rex).chain(map.iter().copied()).chain(rest).take(15).collect();
        for mode in [Mode::Bits64, Mode::Bits32] {
            let insn = decode(&bytes, mode);
            let encodable = insn.as_ref().is_ok_and(|insn| {
                !is_system(insn.op()) && insn.op() != hvf_sys::cpu::Op::Ud
            });
            prop_assert_eq!(comes_back(&bytes, mode), encodable, "{:?}", insn);
        }
    }
}
