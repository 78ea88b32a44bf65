//! Packed integer arithmetic and logic.

use hvf_sys::cpu::{Insn, Op};

use super::super::Handler;
use super::{
    bytes, dwords, from_dwords, from_qwords, from_words, packed, qwords, to_dwords, to_words, words,
};

pub(super) fn select(insn: &Insn) -> Option<Handler> {
    macro_rules! table {
        ($($op:ident)*) => {
            match insn.op() {
                $(Op::$op => super::handler::<$op>(insn),)*
                Op::Andps | Op::Andpd => super::handler::<Pand>(insn),
                Op::Andnps | Op::Andnpd => super::handler::<Pandn>(insn),
                Op::Orps | Op::Orpd => super::handler::<Por>(insn),
                Op::Xorps | Op::Xorpd => super::handler::<Pxor>(insn),
                _ => return None,
            }
        };
    }
    Some(table! {
        Paddb Paddw Paddd Paddq Paddsb Paddsw Paddusb Paddusw
        Psubb Psubw Psubd Psubq Psubsb Psubsw Psubusb Psubusw
        Pmullw Pmulhw Pmulhuw Pmuludq Pmuldq Pmulld Pmaddwd Pmaddubsw Pmulhrsw
        Pand Pandn Por Pxor Pavgb Pavgw Pminub Pminsw Pmaxub Pmaxsw Psadbw
        Pminsb Pminsd Pminuw Pminud Pmaxsb Pmaxsd Pmaxuw Pmaxud Phminposuw
        Phaddw Phaddd Phaddsw Phsubw Phsubd Phsubsw Psignb Psignw Psignd Pabsb Pabsw Pabsd
    })
}

packed! {
    Paddb |a, b, _| bytes(a, b, u8::wrapping_add);
    Paddw |a, b, _| words(a, b, u16::wrapping_add);
    Paddd |a, b, _| dwords(a, b, u32::wrapping_add);
    Paddq |a, b, _| qwords(a, b, u64::wrapping_add);
    Paddsb |a, b, _| bytes(a, b, |a, b| (a as i8).saturating_add(b as i8) as u8);
    Paddsw |a, b, _| words(a, b, |a, b| (a as i16).saturating_add(b as i16) as u16);
    Paddusb |a, b, _| bytes(a, b, u8::saturating_add);
    Paddusw |a, b, _| words(a, b, u16::saturating_add);
    Psubb |a, b, _| bytes(a, b, u8::wrapping_sub);
    Psubw |a, b, _| words(a, b, u16::wrapping_sub);
    Psubd |a, b, _| dwords(a, b, u32::wrapping_sub);
    Psubq |a, b, _| qwords(a, b, u64::wrapping_sub);
    Psubsb |a, b, _| bytes(a, b, |a, b| (a as i8).saturating_sub(b as i8) as u8);
    Psubsw |a, b, _| words(a, b, |a, b| (a as i16).saturating_sub(b as i16) as u16);
    Psubusb |a, b, _| bytes(a, b, u8::saturating_sub);
    Psubusw |a, b, _| words(a, b, u16::saturating_sub);
    Pmullw |a, b, _| words(a, b, u16::wrapping_mul);
    Pmulhw |a, b, _| words(a, b, |a, b| (i32::from(a as i16) * i32::from(b as i16) >> 16) as u16);
    Pmulhuw |a, b, _| words(a, b, |a, b| (u32::from(a) * u32::from(b) >> 16) as u16);
    Pmuludq |a, b, _| qwords(a, b, |a, b| (a & 0xffff_ffff) * (b & 0xffff_ffff));
    Pmuldq |a, b, _| qwords(a, b, |a, b| (i64::from(a as i32) * i64::from(b as i32)) as u64);
    Pmulld |a, b, _| dwords(a, b, u32::wrapping_mul);
    Pmaddwd |a, b, _| dwords(a, b, |a, b| {
        let product = |shift: u32| i32::from((a >> shift) as i16) * i32::from((b >> shift) as i16);
        product(0).wrapping_add(product(16)) as u32
    });
    Pmaddubsw |a, b, _| words(a, b, |a, b| {
        let product = |shift: u32| i32::from((a >> shift) as u8) * i32::from((b >> shift) as i8);
        (product(0) + product(8)).clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as u16
    });
    Pmulhrsw |a, b, _| words(a, b, |a, b| ((i32::from(a as i16) * i32::from(b as i16) >> 14) + 1 >> 1) as u16);
    Pand |a, b, _| a & b;
    Pandn |a, b, _| !a & b;
    Por |a, b, _| a | b;
    Pxor |a, b, _| a ^ b;
    Pavgb |a, b, _| bytes(a, b, |a, b| (u16::from(a) + u16::from(b) + 1 >> 1) as u8);
    Pavgw |a, b, _| words(a, b, |a, b| (u32::from(a) + u32::from(b) + 1 >> 1) as u16);
    Pminub |a, b, _| bytes(a, b, u8::min);
    Pmaxub |a, b, _| bytes(a, b, u8::max);
    Pminsb |a, b, _| bytes(a, b, |a, b| (a as i8).min(b as i8) as u8);
    Pmaxsb |a, b, _| bytes(a, b, |a, b| (a as i8).max(b as i8) as u8);
    Pminsw |a, b, _| words(a, b, |a, b| (a as i16).min(b as i16) as u16);
    Pmaxsw |a, b, _| words(a, b, |a, b| (a as i16).max(b as i16) as u16);
    Pminuw |a, b, _| words(a, b, u16::min);
    Pmaxuw |a, b, _| words(a, b, u16::max);
    Pminsd |a, b, _| dwords(a, b, |a, b| (a as i32).min(b as i32) as u32);
    Pmaxsd |a, b, _| dwords(a, b, |a, b| (a as i32).max(b as i32) as u32);
    Pminud |a, b, _| dwords(a, b, u32::min);
    Pmaxud |a, b, _| dwords(a, b, u32::max);
    Psadbw |a, b, _| qwords(a, b, |a, b| {
        a.to_le_bytes().into_iter().zip(b.to_le_bytes()).map(|(a, b)| u64::from(a.abs_diff(b))).sum()
    });
    Phminposuw |_a, b, _| {
        let (position, least) = (0u128..).zip(to_words(b)).min_by_key(|&(_, word)| word).unwrap_or_default();
        u128::from(least) | position << 16
    };
    Phaddw |a, b, bits| pairs_of_words(a, b, bits, |x, y| x.wrapping_add(y));
    Phaddsw |a, b, bits| pairs_of_words(a, b, bits, |x, y| (x as i16).saturating_add(y as i16) as u16);
    Phsubw |a, b, bits| pairs_of_words(a, b, bits, |x, y| x.wrapping_sub(y));
    Phsubsw |a, b, bits| pairs_of_words(a, b, bits, |x, y| (x as i16).saturating_sub(y as i16) as u16);
    Phaddd |a, b, bits| pairs_of_dwords(a, b, bits, |x, y| x.wrapping_add(y));
    Phsubd |a, b, bits| pairs_of_dwords(a, b, bits, |x, y| x.wrapping_sub(y));
    Psignb |a, b, _| bytes(a, b, |a, b| (a as i8).wrapping_mul((b as i8).signum()) as u8);
    Psignw |a, b, _| words(a, b, |a, b| (a as i16).wrapping_mul((b as i16).signum()) as u16);
    Psignd |a, b, _| dwords(a, b, |a, b| (a as i32).wrapping_mul((b as i32).signum()) as u32);
    Pabsb |_a, b, _| bytes(b, b, |b, _| (b as i8).unsigned_abs());
    Pabsw |_a, b, _| words(b, b, |b, _| (b as i16).unsigned_abs());
    Pabsd |_a, b, _| dwords(b, b, |b, _| (b as i32).unsigned_abs());
}

/// Combines neighbouring words: those of the destination below, those of the source above.
fn pairs_of_words(a: u128, b: u128, bits: u32, f: impl Fn(u16, u16) -> u16) -> u128 {
    let (a, b) = (to_words(a), to_words(b));
    let half = bits as usize / 32;
    from_words(std::array::from_fn(|n| {
        let from = if n < half { &a } else { &b };
        let at = 2 * (n % half);
        f(from[at], from[at + 1])
    }))
}

fn pairs_of_dwords(a: u128, b: u128, bits: u32, f: impl Fn(u32, u32) -> u32) -> u128 {
    let (a, b) = (to_dwords(a), to_dwords(b));
    let half = bits as usize / 64;
    if half == 1 {
        return from_qwords(u64::from(f(a[0], a[1])) | u64::from(f(b[0], b[1])) << 32, 0);
    }
    from_dwords([f(a[0], a[1]), f(a[2], a[3]), f(b[0], b[1]), f(b[2], b[3])])
}
