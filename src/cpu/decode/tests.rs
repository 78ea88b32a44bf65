//! The decoder by hand: the conventions that everybody relies on.

use super::{DecodeError, Mode, decode};
use hvf_sys::cpu::{Insn, Op, Operand, Reg};
use proptest::prelude::*;

const RAX: Operand = Operand::reg(Reg::Gpr(0));
const RCX: Operand = Operand::reg(Reg::Gpr(1));
const RDX: Operand = Operand::reg(Reg::Gpr(2));
const NONE: Operand = Operand::NONE;
const MEM: Operand = Operand::MEM;
const IMM: Operand = Operand::IMM;

fn in_mode(bytes: &[u8], mode: Mode) -> Insn {
    let insn = decode(bytes, mode).expect("an instruction");
    assert_eq!(insn.len(), bytes.len() as u64, "{insn:?}");
    insn
}

fn long(bytes: &[u8]) -> Insn {
    in_mode(bytes, Mode::Bits64)
}

/// (bytes, operation, width, operands, immediate, aux) in 64-bit mode.
type Case = (&'static [u8], Op, u8, [Operand; 3], i64, u8);

#[rustfmt::skip]
const CASES: &[Case] = &[
    // Immediates are sign-extended; lane selectors, counts, ports and vectors are not.
    (&[0x83, 0xc0, 0xff], Op::Add, 4, [RAX, IMM, NONE], -1, 0),
    (&[0x48, 0x05, 0, 0, 0, 0x80], Op::Add, 8, [RAX, IMM, NONE], -0x8000_0000, 0),
    (&[0x04, 0x80], Op::Add, 1, [RAX, IMM, NONE], -128, 0),
    (&[0xb9, 0xff, 0xff, 0xff, 0xff], Op::Mov, 4, [RCX, IMM, NONE], -1, 0),
    (&[0x6a, 0xfe], Op::Push, 8, [IMM, NONE, NONE], -2, 0),
    (&[0x66, 0x68, 0xfe, 0xff], Op::Push, 2, [IMM, NONE, NONE], -2, 0),
    (&[0xc1, 0xe0, 0x9f], Op::Shl, 4, [RAX, IMM, NONE], 0x9f, 0),
    (&[0xd1, 0xf8], Op::Sar, 4, [RAX, IMM, NONE], 1, 0),
    (&[0xd3, 0xf8], Op::Sar, 4, [RAX, RCX, NONE], 0, 0),
    (&[0x0f, 0xa5, 0xd0], Op::Shld, 4, [RAX, RDX, RCX], 0, 0),
    (&[0xcd, 0x80], Op::Int, 4, [IMM, NONE, NONE], 0x80, 0),
    (&[0xe5, 0xf0], Op::In, 4, [RAX, IMM, NONE], 0xf0, 0),
    (&[0xee], Op::Out, 1, [RDX, RAX, NONE], 0, 0),
    (&[0xc2, 0xf0, 0xff], Op::Ret, 8, [IMM, NONE, NONE], 0xfff0, 0),
    (&[0xc8, 0x10, 0x80, 0x21], Op::Enter, 8, [IMM, NONE, NONE], 0x8010, 1),
    // Branches
    (&[0x75, 0xfe], Op::Jcc, 8, [IMM, NONE, NONE], -2, 5),
    (&[0x66, 0x0f, 0x8f, 0, 0, 0, 0x80], Op::Jcc, 8, [IMM, NONE, NONE], -0x8000_0000, 15),
    (&[0xff, 0xd0], Op::Call, 8, [RAX, NONE, NONE], 0, 0),
    (&[0x48, 0xff, 0x28], Op::JmpFar, 8, [MEM, NONE, NONE], 0, 0),
    (&[0xe3, 0x10], Op::Jcxz, 8, [IMM, NONE, NONE], 16, 0),
    // Two widths
    (&[0x0f, 0xb6, 0xc1], Op::Movzx, 4, [RAX, RCX, NONE], 0, 1),
    (&[0x48, 0x63, 0xc1], Op::Movsx, 8, [RAX, RCX, NONE], 0, 4),
    (&[0x66, 0xf2, 0x0f, 0x38, 0xf1, 0xc1], Op::Crc32, 4, [RAX, RCX, NONE], 0, 2),
    (&[0xf2, 0x48, 0x0f, 0x38, 0xf1, 0xc1], Op::Crc32, 8, [RAX, RCX, NONE], 0, 8),
    (&[0x48, 0x98], Op::Cbw, 8, [NONE; 3], 0, 0),
    (&[0x66, 0x99], Op::Cwd, 2, [NONE; 3], 0, 0),
    (&[0x48, 0x6b, 0xc1, 0xf0], Op::ImulThree, 8, [RAX, RCX, IMM], -16, 0),
    (&[0x8c, 0x08], Op::MovFromSeg, 2, [MEM, Operand::reg(Reg::Seg(1)), NONE], 0, 0),
    (&[0x48, 0x8c, 0xc8], Op::MovFromSeg, 8, [RAX, Operand::reg(Reg::Seg(1)), NONE], 0, 0),
    (&[0x66, 0x0f, 0x6e, 0xc1], Op::Movd, 4, [Operand::reg(Reg::Xmm(0)), RCX, NONE], 0, 0),
    (&[0xf2, 0x48, 0x0f, 0x2c, 0xc1], Op::Cvttsd2si, 8, [RAX, Operand::reg(Reg::Xmm(1)), NONE], 0, 0),
    (&[0x0f, 0x60, 0x00], Op::Punpcklbw, 4, [Operand::reg(Reg::Mm(0)), MEM, NONE], 0, 0),
    (&[0x66, 0x0f, 0x3a, 0x14, 0xc1, 0x85], Op::Pextrb, 1, [RCX, Operand::reg(Reg::Xmm(0)), IMM], 0x85, 0),
    // High bytes, and their REX counterparts
    (&[0x88, 0xe0], Op::Mov, 1, [RAX, Operand::reg(Reg::High(0)), NONE], 0, 0),
    (&[0x40, 0x88, 0xe0], Op::Mov, 1, [RAX, Operand::reg(Reg::Gpr(4)), NONE], 0, 0),
    // x87
    (&[0xd8, 0xc1], Op::Fadd, 10, [Operand::reg(Reg::St(0)), Operand::reg(Reg::St(1)), NONE], 0, 0),
    (&[0xde, 0xe1], Op::Fsubrp, 10, [Operand::reg(Reg::St(1)), Operand::reg(Reg::St(0)), NONE], 0, 0),
    (&[0xdc, 0x08], Op::Fmul, 8, [MEM, NONE, NONE], 0, 0),
    (&[0xdb, 0x28], Op::Fld, 10, [MEM, NONE, NONE], 0, 0),
    (&[0xdf, 0xe0], Op::Fnstsw, 2, [RAX, NONE, NONE], 0, 0),
    (&[0xdb, 0xd9], Op::Fcmov, 10, [Operand::reg(Reg::St(0)), Operand::reg(Reg::St(1)), NONE], 0, 11),
    // Hints
    (&[0x90], Op::Nop, 4, [NONE; 3], 0, 0),
    (&[0xf3, 0x90], Op::Pause, 4, [NONE; 3], 0, 0),
    (&[0xf3, 0x41, 0x90], Op::Pause, 4, [NONE; 3], 0, 0),
    (&[0x41, 0x90], Op::Xchg, 4, [Operand::reg(Reg::Gpr(8)), RAX, NONE], 0, 0),
    (&[0xf3, 0x0f, 0x1e, 0xfa], Op::Nop, 4, [NONE; 3], 0, 0),
    (&[0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0], Op::Nop, 2, [NONE; 3], 0, 0),
];

#[test]
#[rustfmt::skip]
fn the_fields_of_an_instruction_are_as_agreed() {
    for (bytes, op, width, operands, immediate, aux) in CASES {
        let insn = long(bytes);
        let found = (insn.op(), insn.width(), [insn.a(), insn.b(), insn.c()]);
        assert_eq!(found, (*op, *width, *operands), "{bytes:02x?}");
        assert_eq!((insn.immediate() as i64, insn.aux()), (*immediate, *aux), "{bytes:02x?}");
    }
}

#[test]
fn far_pointers_and_absolute_addresses() {
    let far = in_mode(&[0xea, 0x78, 0x56, 0x34, 0x92, 0x08, 0x80], Mode::Bits32);
    assert_eq!(
        (far.op(), far.width(), far.immediate()),
        (Op::JmpFar, 4, 0x8008_9234_5678)
    );
    let far = in_mode(&[0x9a, 0xf0, 0xff, 0x00, 0xf0], Mode::Bits16);
    assert_eq!(
        (far.op(), far.width(), far.immediate()),
        (Op::CallFar, 2, 0xf000_0000_fff0)
    );
    let mov = long(&[0x48, 0xa1, 1, 2, 3, 4, 5, 6, 7, 0xff]);
    assert_eq!(
        (mov.a(), mov.b(), mov.displacement()),
        (RAX, MEM, 0xff07_0605_0403_0201)
    );
}

#[test]
fn strings_have_an_address_size_a_segment_and_only_repetitions_that_count() {
    let movs = long(&[0xf2, 0x65, 0x67, 0x48, 0xa5]);
    assert_eq!(
        (movs.op(), movs.width(), movs.segment(), movs.address_size()),
        (Op::Movs, 8, 5, 4)
    );
    assert!(movs.rep() && !movs.repne() && !movs.has_mem());
    let scas = in_mode(&[0xf2, 0xae], Mode::Bits16);
    assert!(scas.repne() && !scas.rep());
    assert_eq!(scas.address_size(), 2);
    assert!(!long(&[0xf3, 0x01, 0xc0]).rep());
}

#[test]
fn segments_follow_the_base_and_the_override() {
    let segment = |bytes, mode| in_mode(bytes, mode).segment();
    assert_eq!(segment(&[0x8b, 0x45, 0x00], Mode::Bits64), 2);
    assert_eq!(segment(&[0x41, 0x8b, 0x45, 0x00], Mode::Bits64), 3);
    assert_eq!(segment(&[0x8b, 0x42, 0x00], Mode::Bits16), 2);
    assert_eq!(segment(&[0x2e, 0x8b, 0x42, 0x00], Mode::Bits16), 1);
    assert_eq!(segment(&[0x2e, 0x8b, 0x45, 0x00], Mode::Bits64), 2);
    assert_eq!(segment(&[0x64, 0x2e, 0x8b, 0x45, 0x00], Mode::Bits64), 4);
}

#[test]
fn lock_needs_a_lockable_instruction_with_a_memory_destination() {
    assert!(long(&[0xf0, 0x01, 0x00]).lock());
    for bytes in [
        &[0xf0, 0x01, 0xc0][..],
        &[0xf0, 0x03, 0x00],
        &[0xf0, 0x39, 0x00],
        &[0xf0, 0x90],
        &[0xf0, 0x0f, 0xa3, 0x00],
    ] {
        assert_eq!(long(bytes).op(), Op::Ud, "{bytes:02x?}");
    }
}

#[test]
fn what_does_not_exist_is_undefined() {
    let op = |bytes, mode| decode(bytes, mode).map(|insn| insn.op());
    for bytes in [
        &[0x06, 0][..],
        &[0xc5, 0xf8, 0x77],
        &[0x62, 0xf1, 0x7c, 0x48],
        &[0x0f, 0x0b],
        &[0x0f, 0x20, 0xc8],
        &[0x44, 0x0f, 0x23, 0xc0],
        &[0x8e, 0xc8],
        &[0x8c, 0xf0],
        &[0xc6, 0xf8, 0],
        &[0xf3, 0x0f, 0x28, 0xc0],
    ] {
        assert_eq!(op(bytes, Mode::Bits64), Ok(Op::Ud), "{bytes:02x?}");
    }
    assert_eq!(op(&[0xc5, 0xf8], Mode::Bits32), Ok(Op::Ud));
    assert_eq!(op(&[0xc5, 0x08], Mode::Bits32), Ok(Op::Lds));
    assert_eq!(op(&[0x62, 0x08], Mode::Bits16), Ok(Op::Bound));
    assert_eq!(op(&[0x0f, 0x05], Mode::Bits32), Ok(Op::Ud));
}

#[test]
fn fifteen_bytes_are_the_longest() {
    let mut bytes = [0x66; 15];
    assert_eq!(decode(&bytes, Mode::Bits64), Err(DecodeError::TooLong));
    assert_eq!(
        decode(&bytes[..14], Mode::Bits64),
        Err(DecodeError::Truncated)
    );
    assert_eq!(decode(&[], Mode::Bits64), Err(DecodeError::Truncated));
    bytes[14] = 0x90;
    assert_eq!(in_mode(&bytes, Mode::Bits64).op(), Op::Nop);
    bytes[13..].copy_from_slice(&[0x01, 0x80]);
    assert_eq!(decode(&bytes, Mode::Bits32), Err(DecodeError::TooLong));
}

proptest! {
    #[test]
    fn no_bytes_are_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
        for mode in [Mode::Bits16, Mode::Bits32, Mode::Bits64] {
            if let Ok(insn) = decode(&bytes, mode) {
                prop_assert!(insn.len() as usize <= bytes.len());
            }
        }
    }
}
