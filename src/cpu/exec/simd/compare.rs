//! Packed comparisons, tests, and masks of sign bits.

use hvf_sys::cpu::{Insn, Op};

use super::super::super::core::{Done, Exec};
use super::super::Handler;
use super::{bytes, dwords, packed, qwords, words};
use crate::x86::control::rflags::{ARITHMETIC, CF, ZF};

pub(super) fn select(insn: &Insn) -> Option<Handler> {
    macro_rules! packed_ops {
        ($($op:ident)*) => {
            match insn.op() {
                $(Op::$op => return Some(super::handler::<$op>(insn)),)*
                _ => {}
            }
        };
    }
    packed_ops! { Pcmpeqb Pcmpeqw Pcmpeqd Pcmpeqq Pcmpgtb Pcmpgtw Pcmpgtd Pcmpgtq }
    Some(match insn.op() {
        Op::Ptest => ptest,
        Op::Pmovmskb => |x, insn| signs(x, insn, 8),
        Op::Movmskps => |x, insn| signs(x, insn, 32),
        Op::Movmskpd => |x, insn| signs(x, insn, 64),
        _ => return None,
    })
}

packed! {
    Pcmpeqb |a, b, _| bytes(a, b, |a, b| if a == b { u8::MAX } else { 0 });
    Pcmpeqw |a, b, _| words(a, b, |a, b| if a == b { u16::MAX } else { 0 });
    Pcmpeqd |a, b, _| dwords(a, b, |a, b| if a == b { u32::MAX } else { 0 });
    Pcmpeqq |a, b, _| qwords(a, b, |a, b| if a == b { u64::MAX } else { 0 });
    Pcmpgtb |a, b, _| bytes(a, b, |a, b| if a as i8 > b as i8 { u8::MAX } else { 0 });
    Pcmpgtw |a, b, _| words(a, b, |a, b| if a as i16 > b as i16 { u16::MAX } else { 0 });
    Pcmpgtd |a, b, _| dwords(a, b, |a, b| if a as i32 > b as i32 { u32::MAX } else { 0 });
    Pcmpgtq |a, b, _| qwords(a, b, |a, b| if a as i64 > b as i64 { u64::MAX } else { 0 });
}

fn ptest(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.check_sse()?;
    let b = x.xmm_source(insn)?;
    let a = x.xmm(insn.a().low_bits());
    let bits = if a & b == 0 { ZF } else { 0 } | if !a & b == 0 { CF } else { 0 };
    x.flags.assign(ARITHMETIC, bits);
    Ok(())
}

/// Gathers the sign bits of elements of `size` bits into a general register.
fn signs(x: &mut Exec<'_>, insn: &Insn, size: u32) -> Done {
    let (value, bits) = if insn.b().is_xmm() {
        x.check_sse()?;
        (x.xmm(insn.b().low_bits()), 128)
    } else {
        x.begin_mmx()?;
        x.commit_mmx();
        (u128::from(x.mm(insn.b().number())), 64)
    };
    let mask = (0..bits / size).fold(0u32, |mask, n| {
        mask | ((value >> (n * size + size - 1)) as u32 & 1) << n
    });
    x.set_gpr(insn.a().low_bits(), mask);
    Ok(())
}
