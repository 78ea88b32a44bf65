//! MUL, IMUL, DIV, IDIV.

use hvf_sys::cpu::{Insn, Op};

use super::super::core::{Done, Exec};
use super::super::int::Int;
use super::{Handler, by_width, by_word};
use crate::x86::vector;

pub(super) fn select(insn: &Insn) -> Handler {
    match insn.op() {
        Op::Mul => by_width!(insn, mul),
        Op::Imul => by_width!(insn, imul),
        Op::ImulTwo => by_word!(insn, imul_two),
        Op::ImulThree => by_word!(insn, imul_three),
        Op::Div => by_width!(insn, div),
        _ => by_width!(insn, idiv),
    }
}

/// AX of byte operations, DX:AX, EDX:EAX or RDX:RAX of the others: the double-width accumulator.
fn accumulator<W: Int>(x: &Exec<'_>) -> u128 {
    if W::BITS == 8 {
        return u128::from(x.state.gpr[0] & 0xffff);
    }
    let (low, high): (W, W) = (x.gpr(0), x.gpr(2));
    u128::from(high.zero_extend()) << W::BITS | u128::from(low.zero_extend())
}

fn set_accumulator<W: Int>(x: &mut Exec<'_>, low: W, high: W) {
    if W::BITS == 8 {
        x.set_gpr(0, (low.zero_extend() | high.zero_extend() << 8) as u16);
    } else {
        x.set_gpr(0, low);
        x.set_gpr(2, high);
    }
}

/// CF and OF tell whether the upper half is significant. The other flags are undefined; SF, ZF and PF follow the lower half.
fn mul<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let b: W = x.read(insn, insn.a())?;
    let product = u128::from(x.gpr::<W>(0).zero_extend()) * u128::from(b.zero_extend());
    let (low, high) = (
        W::truncate(product as u64),
        W::truncate((product >> W::BITS) as u64),
    );
    let significant = high != W::default();
    x.flags.set_result(low, significant, significant);
    set_accumulator(x, low, high);
    Ok(())
}

fn signed_product<W: Int>(a: W, b: W) -> (W, W, bool) {
    let product = i128::from(a.sign_extend() as i64) * i128::from(b.sign_extend() as i64);
    let low = W::truncate(product as u64);
    let significant = product != i128::from(low.sign_extend() as i64);
    (low, W::truncate((product >> W::BITS) as u64), significant)
}

fn imul<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let b: W = x.read(insn, insn.a())?;
    let (low, high, significant) = signed_product(x.gpr(0), b);
    x.flags.set_result(low, significant, significant);
    set_accumulator(x, low, high);
    Ok(())
}

fn imul_two<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let b: W = x.read(insn, insn.b())?;
    let (low, _, significant) = signed_product(x.gpr(insn.a().low_bits()), b);
    x.flags.set_result(low, significant, significant);
    x.set_gpr(insn.a().low_bits(), low);
    Ok(())
}

fn imul_three<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let b: W = x.read(insn, insn.b())?;
    let (low, _, significant) = signed_product(b, W::truncate(insn.immediate()));
    x.flags.set_result(low, significant, significant);
    x.set_gpr(insn.a().low_bits(), low);
    Ok(())
}

fn div<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let divisor: W = x.read(insn, insn.a())?;
    let dividend = accumulator::<W>(x);
    let divisor = divisor.zero_extend();
    if divisor == 0 || dividend >> W::BITS >= u128::from(divisor) {
        return Err(x.raise(vector::DE));
    }
    let (quotient, remainder) = match u64::try_from(dividend) {
        Ok(small) => (small / divisor, small % divisor),
        Err(_) => (
            (dividend / u128::from(divisor)) as u64,
            (dividend % u128::from(divisor)) as u64,
        ),
    };
    set_accumulator(x, W::truncate(quotient), W::truncate(remainder));
    Ok(())
}

fn idiv<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let divisor: W = x.read(insn, insn.a())?;
    let shift = 128 - 2 * W::BITS;
    let dividend = (accumulator::<W>(x) << shift) as i128 >> shift;
    let divisor = i128::from(divisor.sign_extend() as i64);
    let divided = dividend
        .checked_div(divisor)
        .filter(|q| *q == i128::from(W::truncate(*q as u64).sign_extend() as i64));
    let Some(quotient) = divided else {
        return Err(x.raise(vector::DE));
    };
    let remainder = dividend - quotient * divisor;
    set_accumulator(
        x,
        W::truncate(quotient as u64),
        W::truncate(remainder as u64),
    );
    Ok(())
}
