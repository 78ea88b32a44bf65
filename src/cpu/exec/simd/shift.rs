//! Packed shifts, by an immediate or by the low 64 bits of the source.

use hvf_sys::cpu::{Insn, Op};

use super::super::super::core::{Done, Exec};
use super::super::Handler;
use super::{dwords, qwords, words};

/// A shift of each element by a count that may be beyond its size.
trait Shift {
    fn apply(a: u128, count: u64) -> u128;
}

macro_rules! shifts {
    ($($name:ident |$a:ident, $count:ident| $body:expr;)*) => {
        $(
            struct $name;
            impl Shift for $name {
                #[inline(always)]
                fn apply($a: u128, $count: u64) -> u128 {
                    $body
                }
            }
        )*
        pub(super) fn select(insn: &Insn) -> Option<Handler> {
            Some(match insn.op() {
                $(Op::$name => if insn.a().is_xmm() { xmm::<$name> } else { mm::<$name> },)*
                _ => return None,
            })
        }
    };
}

shifts! {
    Psllw |a, count| if count > 15 { 0 } else { words(a, 0, |a, _| a << count) };
    Pslld |a, count| if count > 31 { 0 } else { dwords(a, 0, |a, _| a << count) };
    Psllq |a, count| if count > 63 { 0 } else { qwords(a, 0, |a, _| a << count) };
    Psrlw |a, count| if count > 15 { 0 } else { words(a, 0, |a, _| a >> count) };
    Psrld |a, count| if count > 31 { 0 } else { dwords(a, 0, |a, _| a >> count) };
    Psrlq |a, count| if count > 63 { 0 } else { qwords(a, 0, |a, _| a >> count) };
    Psraw |a, count| words(a, 0, |a, _| (a as i16 >> count.min(15)) as u16);
    Psrad |a, count| dwords(a, 0, |a, _| (a as i32 >> count.min(31)) as u32);
    Pslldq |a, count| if count > 15 { 0 } else { a << (8 * count) };
    Psrldq |a, count| if count > 15 { 0 } else { a >> (8 * count) };
}

fn xmm<S: Shift>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.check_sse()?;
    let count = if insn.b().is_imm() {
        insn.immediate() & 0xff
    } else {
        x.xmm_source(insn)? as u64
    };
    let n = insn.a().low_bits();
    let result = S::apply(x.xmm(n), count);
    x.set_xmm(n, result);
    Ok(())
}

fn mm<S: Shift>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.begin_mmx()?;
    let count = if insn.b().is_imm() {
        insn.immediate() & 0xff
    } else {
        x.mm_source(insn)?
    };
    x.commit_mmx();
    let n = insn.a().number();
    let result = S::apply(u128::from(x.mm(n)), count);
    x.set_mm(n, result as u64);
    Ok(())
}
