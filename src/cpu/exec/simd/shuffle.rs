//! Packing, unpacking, shuffling, blending, and widening.

use hvf_sys::cpu::{Insn, Op};
use hvf_sys::ram::Word;

use super::super::super::core::{Done, Exec};
use super::super::Handler;
use super::{
    PackedImmediate, from_dwords, from_qwords, from_words, packed, packed_immediate, to_dwords,
    to_words,
};

pub(super) fn select(insn: &Insn) -> Option<Handler> {
    macro_rules! packed_ops {
        ($($op:ident)*) => {
            match insn.op() {
                $(Op::$op => return Some(super::handler::<$op>(insn)),)*
                _ => {}
            }
        };
    }
    packed_ops! {
        Punpcklbw Punpcklwd Punpckldq Punpcklqdq Punpckhbw Punpckhwd Punpckhdq Punpckhqdq
        Packsswb Packssdw Packuswb Packusdw Pshufb Unpcklps Unpckhps Unpcklpd Unpckhpd
    }
    Some(match insn.op() {
        Op::Pshufd => packed_immediate::<Pshufd>(insn),
        Op::Pshufw | Op::Pshuflw => packed_immediate::<Pshuflw>(insn),
        Op::Pshufhw => packed_immediate::<Pshufhw>(insn),
        Op::Palignr => packed_immediate::<Palignr>(insn),
        Op::Shufps => packed_immediate::<Shufps>(insn),
        Op::Shufpd => packed_immediate::<Shufpd>(insn),
        Op::Pblendw => packed_immediate::<Pblendw>(insn),
        Op::Blendps => packed_immediate::<Blendps>(insn),
        Op::Blendpd => packed_immediate::<Blendpd>(insn),
        Op::Mpsadbw => packed_immediate::<Mpsadbw>(insn),
        Op::Pblendvb => |x, insn| blend_by_sign(x, insn, 8),
        Op::Blendvps => |x, insn| blend_by_sign(x, insn, 32),
        Op::Blendvpd => |x, insn| blend_by_sign(x, insn, 64),
        Op::Pmovsxbw | Op::Pmovzxbw => widen::<u64, 8, 16>,
        Op::Pmovsxbd | Op::Pmovzxbd => widen::<u32, 8, 32>,
        Op::Pmovsxbq | Op::Pmovzxbq => widen::<u16, 8, 64>,
        Op::Pmovsxwd | Op::Pmovzxwd => widen::<u64, 16, 32>,
        Op::Pmovsxwq | Op::Pmovzxwq => widen::<u32, 16, 64>,
        Op::Pmovsxdq | Op::Pmovzxdq => widen::<u64, 32, 64>,
        _ => return None,
    })
}

packed! {
    Punpcklbw |a, b, _| interleave(a, b, 8);
    Punpcklwd |a, b, _| interleave(a, b, 16);
    Punpckldq |a, b, _| interleave(a, b, 32);
    Punpcklqdq |a, b, _| interleave(a, b, 64);
    Punpckhbw |a, b, bits| interleave(a >> (bits / 2), b >> (bits / 2), 8);
    Punpckhwd |a, b, bits| interleave(a >> (bits / 2), b >> (bits / 2), 16);
    Punpckhdq |a, b, bits| interleave(a >> (bits / 2), b >> (bits / 2), 32);
    Punpckhqdq |a, b, bits| interleave(a >> (bits / 2), b >> (bits / 2), 64);
    Unpcklps |a, b, _| interleave(a, b, 32);
    Unpckhps |a, b, _| interleave(a >> 64, b >> 64, 32);
    Unpcklpd |a, b, _| interleave(a, b, 64);
    Unpckhpd |a, b, _| interleave(a >> 64, b >> 64, 64);
    Packsswb |a, b, bits| pack_words(a, b, bits, |w| w.clamp(-128, 127) as u8);
    Packuswb |a, b, bits| pack_words(a, b, bits, |w| w.clamp(0, 255) as u8);
    Packssdw |a, b, bits| pack_dwords(a, b, bits, |d| d.clamp(-0x8000, 0x7fff) as u16);
    Packusdw |a, b, bits| pack_dwords(a, b, bits, |d| d.clamp(0, 0xffff) as u16);
    Pshufb |a, b, bits| {
        let (from, mask) = (a.to_le_bytes(), bits as usize / 8 - 1);
        u128::from_le_bytes(b.to_le_bytes().map(|n| if n & 0x80 != 0 { 0 } else { from[usize::from(n) & mask & 15] }))
    };
}

/// Elements of `size` bits of the low halves in turn, the first operand's first.
#[inline(always)]
fn interleave(a: u128, b: u128, size: u32) -> u128 {
    let mask = u128::MAX >> (128 - size);
    let mut result = 0;
    for n in (0..64 / size).rev() {
        let pair = a >> (n * size) & mask | (b >> (n * size) & mask) << size;
        result = if size == 64 {
            pair
        } else {
            result << (2 * size) | pair
        };
    }
    result
}

fn pack_words(a: u128, b: u128, bits: u32, f: impl Fn(i16) -> u8) -> u128 {
    let half = |value: u128| {
        to_words(value)
            .into_iter()
            .take(bits as usize / 16)
            .rev()
            .fold(0u128, |sum, w| sum << 8 | u128::from(f(w as i16)))
    };
    half(a) | half(b) << (bits / 2)
}

fn pack_dwords(a: u128, b: u128, bits: u32, f: impl Fn(i32) -> u16) -> u128 {
    let half = |value: u128| {
        to_dwords(value)
            .into_iter()
            .take(bits as usize / 32)
            .rev()
            .fold(0u128, |sum, d| sum << 16 | u128::from(f(d as i32)))
    };
    half(a) | half(b) << (bits / 2)
}

macro_rules! immediate {
    ($($name:ident |$a:ident, $b:ident, $imm:ident, $bits:pat_param| $body:expr;)*) => {
        $(
            struct $name;
            impl PackedImmediate for $name {
                #[inline(always)]
                fn apply($a: u128, $b: u128, $imm: u8, $bits: u32) -> u128 {
                    $body
                }
            }
        )*
    };
}

immediate! {
    Pshufd |_a, b, imm, _| {
        let from = to_dwords(b);
        from_dwords(std::array::from_fn(|n| from[usize::from(imm >> (2 * n) & 3)]))
    };
    Pshuflw |_a, b, imm, _| {
        let from = to_words(b);
        from_words(std::array::from_fn(|n| if n < 4 { from[usize::from(imm >> (2 * n) & 3)] } else { from[n] }))
    };
    Pshufhw |_a, b, imm, _| {
        let from = to_words(b);
        from_words(std::array::from_fn(|n| if n < 4 { from[n] } else { from[4 + usize::from(imm >> (2 * (n - 4)) & 3)] }))
    };
    Palignr |a, b, imm, bits| {
        let count = u32::from(imm) * 8;
        let above = if count < bits && count > 0 { a << (bits - count) } else { 0 };
        match count {
            _ if count < bits => b >> count | above,
            _ if count < 2 * bits => a >> (count - bits),
            _ => 0,
        }
    };
    Shufps |a, b, imm, _| {
        let (a, b) = (to_dwords(a), to_dwords(b));
        let from = |n: usize| usize::from(imm >> (2 * n) & 3);
        from_dwords([a[from(0)], a[from(1)], b[from(2)], b[from(3)]])
    };
    Shufpd |a, b, imm, _| {
        let half = |value: u128, high: u8| if high & 1 != 0 { (value >> 64) as u64 } else { value as u64 };
        from_qwords(half(a, imm), half(b, imm >> 1))
    };
    Pblendw |a, b, imm, _| blend(a, b, 16, |n| imm >> n & 1 != 0);
    Blendps |a, b, imm, _| blend(a, b, 32, |n| imm >> n & 1 != 0);
    Blendpd |a, b, imm, _| blend(a, b, 64, |n| imm >> n & 1 != 0);
    Mpsadbw |a, b, imm, _| {
        let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
        let (first, block) = (usize::from(imm >> 2 & 1) * 4, usize::from(imm & 3) * 4);
        from_words(std::array::from_fn(|n| (0..4).map(|k| u16::from(a[first + n + k].abs_diff(b[block + k]))).sum()))
    };
}

/// Elements of `size` bits of `b` where `choose` says so, of `a` elsewhere.
#[inline(always)]
fn blend(a: u128, b: u128, size: u32, choose: impl Fn(u32) -> bool) -> u128 {
    let element = u128::MAX >> (128 - size);
    let mask = (0..128 / size)
        .filter(|&n| choose(n))
        .fold(0, |mask, n| mask | element << (n * size));
    a & !mask | b & mask
}

/// Blends by the sign bits of the elements of XMM0.
fn blend_by_sign(x: &mut Exec<'_>, insn: &Insn, size: u32) -> Done {
    x.check_sse()?;
    let b = x.xmm_source(insn)?;
    let (n, signs) = (insn.a().low_bits(), x.xmm(0));
    let result = blend(x.xmm(n), b, size, |n| {
        signs >> (n * size + size - 1) & 1 != 0
    });
    x.set_xmm(n, result);
    Ok(())
}

/// PMOVSX and PMOVZX: the low elements of `FROM` bits, extended to `TO` bits. The memory operand has no more bytes than count.
fn widen<W: Word, const FROM: u32, const TO: u32>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.check_sse()?;
    let source = x.xmm_part::<W>(insn)?.to_u128();
    let signed = insn.op() < Op::Pmovzxbw;
    let mut result = 0;
    for n in 0..128 / TO {
        let element = (source >> (n * FROM)) as u64 & (u64::MAX >> (64 - FROM));
        let unused = 64 - FROM;
        let extended = if signed {
            ((element << unused) as i64 >> unused) as u64
        } else {
            element
        };
        result |= u128::from(extended & (u64::MAX >> (64 - TO))) << (n * TO);
    }
    x.set_xmm(insn.a().low_bits(), result);
    Ok(())
}
