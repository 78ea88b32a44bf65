//! Conversions between floats, and to and from integers in XMM, general and MMX registers.

use hvf_sys::cpu::{Insn, Op};

use super::super::super::core::{Done, Exec};
use super::super::super::float::sse::packed::{self, lane, with_lane};
use super::super::super::float::sse::{self, F32, F64};
use super::super::super::float::{Env, Flags};
use super::super::super::int::Int;
use super::super::Handler;
use super::{Operation, binary, operations};

const LOW: u128 = u64::MAX as u128;

operations! {
    u128 => u128, both;
    Cvtps2pd cvtps2pd |_, b, _, env| packed::widen(b, env);
    Cvtpd2ps cvtpd2ps |_, b, _, env| packed::narrow(b, env);
    Cvtss2sd cvtss2sd |a, b, _, env| {
        let (bits, flags) = sse::widen(lane::<F32>(b, 0), env);
        (with_lane::<F64>(a, 0, bits), flags)
    };
    Cvtsd2ss cvtsd2ss |a, b, _, env| {
        let (bits, flags) = sse::narrow(lane::<F64>(b, 0), env);
        (with_lane::<F32>(a, 0, bits), flags)
    };
    Cvtdq2ps cvtdq2ps |_, b, _, env| packed::from_i32_f32(b, env);
    Cvtdq2pd cvtdq2pd |_, b, _, env| packed::from_i32_f64(b, env);
    Cvtps2dq cvtps2dq |_, b, _, env| packed::to_i32_f32(b, env);
    Cvttps2dq cvttps2dq |_, b, _, env| packed::truncate_to_i32_f32(b, env);
    Cvtpd2dq cvtpd2dq |_, b, _, env| packed::to_i32_f64(b, env);
    Cvttpd2dq cvttpd2dq |_, b, _, env| packed::truncate_to_i32_f64(b, env);
}

fn single(a: u128, n: i64, env: &Env) -> (u128, Flags) {
    let (bits, flags) = sse::from_integer::<F32>(n, env);
    (with_lane::<F32>(a, 0, bits), flags)
}

fn double(a: u128, n: i64, env: &Env) -> (u128, Flags) {
    let (bits, flags) = sse::from_integer::<F64>(n, env);
    (with_lane::<F64>(a, 0, bits), flags)
}

operations! {
    i32 => u128, both;
    SingleFrom32 cvtsi2ss_32 |a, n, _, env| single(a, n.into(), env);
    DoubleFrom32 cvtsi2sd_32 |a, n, _, env| double(a, n.into(), env);
}

operations! {
    i64 => u128, both;
    SingleFrom64 cvtsi2ss_64 |a, n, _, env| single(a, n, env);
    DoubleFrom64 cvtsi2sd_64 |a, n, _, env| double(a, n, env);
}

operations! {
    u128 => i32, source;
    SingleTo32 cvtss2si_32 |_, b, _, env| sse::to_i32::<F32>(lane::<F32>(b, 0), env);
    DoubleTo32 cvtsd2si_32 |_, b, _, env| sse::to_i32::<F64>(lane::<F64>(b, 0), env);
    TruncateSingleTo32 cvttss2si_32 |_, b, _, env| sse::truncate_to_i32::<F32>(lane::<F32>(b, 0), env);
    TruncateDoubleTo32 cvttsd2si_32 |_, b, _, env| sse::truncate_to_i32::<F64>(lane::<F64>(b, 0), env);
}

operations! {
    u128 => i64, source;
    SingleTo64 cvtss2si_64 |_, b, _, env| sse::to_i64::<F32>(lane::<F32>(b, 0), env);
    DoubleTo64 cvtsd2si_64 |_, b, _, env| sse::to_i64::<F64>(lane::<F64>(b, 0), env);
    TruncateSingleTo64 cvttss2si_64 |_, b, _, env| sse::truncate_to_i64::<F32>(lane::<F32>(b, 0), env);
    TruncateDoubleTo64 cvttsd2si_64 |_, b, _, env| sse::truncate_to_i64::<F64>(lane::<F64>(b, 0), env);
}

pub(super) fn select(insn: &Insn) -> Option<Handler> {
    let wide = insn.width() == 8;
    Some(match insn.op() {
        Op::Cvtps2pd => binary::<Cvtps2pd, 8>,
        Op::Cvtpd2ps => binary::<Cvtpd2ps, 16>,
        Op::Cvtss2sd => binary::<Cvtss2sd, 4>,
        Op::Cvtsd2ss => binary::<Cvtsd2ss, 8>,
        Op::Cvtdq2ps => binary::<Cvtdq2ps, 16>,
        Op::Cvtdq2pd => binary::<Cvtdq2pd, 8>,
        Op::Cvtps2dq => binary::<Cvtps2dq, 16>,
        Op::Cvttps2dq => binary::<Cvttps2dq, 16>,
        Op::Cvtpd2dq => binary::<Cvtpd2dq, 16>,
        Op::Cvttpd2dq => binary::<Cvttpd2dq, 16>,
        Op::Cvtsi2ss if wide => from_general::<SingleFrom64>,
        Op::Cvtsi2ss => from_general::<SingleFrom32>,
        Op::Cvtsi2sd if wide => from_general::<DoubleFrom64>,
        Op::Cvtsi2sd => from_general::<DoubleFrom32>,
        Op::Cvtss2si if wide => to_general::<SingleTo64, 4>,
        Op::Cvtss2si => to_general::<SingleTo32, 4>,
        Op::Cvtsd2si if wide => to_general::<DoubleTo64, 8>,
        Op::Cvtsd2si => to_general::<DoubleTo32, 8>,
        Op::Cvttss2si if wide => to_general::<TruncateSingleTo64, 4>,
        Op::Cvttss2si => to_general::<TruncateSingleTo32, 4>,
        Op::Cvttsd2si if wide => to_general::<TruncateDoubleTo64, 8>,
        Op::Cvttsd2si => to_general::<TruncateDoubleTo32, 8>,
        Op::Cvtpi2ps => from_mmx::<Cvtdq2ps>,
        Op::Cvtpi2pd => from_mmx::<Cvtdq2pd>,
        Op::Cvtps2pi => to_mmx::<Cvtps2dq, 8>,
        Op::Cvttps2pi => to_mmx::<Cvttps2dq, 8>,
        Op::Cvtpd2pi => to_mmx::<Cvtpd2dq, 16>,
        Op::Cvttpd2pi => to_mmx::<Cvttpd2dq, 16>,
        _ => return None,
    })
}

/// A signed integer, and the register that it is kept in.
trait Signed: Copy {
    type Register: Int;
    fn from_register(register: Self::Register) -> Self;
    fn to_register(self) -> Self::Register;
}

impl Signed for i32 {
    type Register = u32;
    fn from_register(register: u32) -> Self {
        register as Self
    }
    fn to_register(self) -> u32 {
        self as u32
    }
}

impl Signed for i64 {
    type Register = u64;
    fn from_register(register: u64) -> Self {
        register as Self
    }
    fn to_register(self) -> u64 {
        self as u64
    }
}

fn from_general<O>(x: &mut Exec<'_>, insn: &Insn) -> Done
where
    O: Operation<Result = u128>,
    O::Source: Signed,
{
    x.check_sse()?;
    let b = O::Source::from_register(x.read(insn, insn.b())?);
    let n = insn.a().low_bits();
    let result = x.compute::<O>(x.xmm(n), b, 0)?;
    x.set_xmm(n, result);
    Ok(())
}

fn to_general<O, const BYTES: u8>(x: &mut Exec<'_>, insn: &Insn) -> Done
where
    O: Operation<Source = u128>,
    O::Result: Signed,
{
    x.check_sse()?;
    let b = x.floating_source::<BYTES>(insn)?;
    let result = x.compute::<O>(0, b, 0)?;
    x.set_gpr(insn.a().low_bits(), result.to_register());
    Ok(())
}

/// CVTPI2PS into the low half, CVTPI2PD. Only an MMX source makes them MMX instructions.
fn from_mmx<O: Operation<Source = u128, Result = u128>>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.check_sse()?;
    let mmx = !insn.b().is_mem();
    if mmx {
        x.begin_mmx()?;
    }
    let b = x.mm_source(insn)?;
    let result = x.compute::<O>(0, b.into(), 0)?;
    if mmx {
        x.commit_mmx();
    }
    let n = insn.a().low_bits();
    let merged = if insn.op() == Op::Cvtpi2ps {
        x.xmm(n) & !LOW | result & LOW
    } else {
        result
    };
    x.set_xmm(n, merged);
    Ok(())
}

/// CVTPS2PI and its kin: two integers into an MMX register.
fn to_mmx<O: Operation<Source = u128, Result = u128>, const BYTES: u8>(
    x: &mut Exec<'_>,
    insn: &Insn,
) -> Done {
    x.check_sse()?;
    x.begin_mmx()?;
    let b = x.floating_source::<BYTES>(insn)?;
    // The high half of a register with two singles must not raise anything.
    let b = if BYTES == 8 { b & LOW } else { b };
    let result = x.compute::<O>(0, b, 0)?;
    x.commit_mmx();
    x.set_mm(insn.a().number(), result as u64);
    Ok(())
}
