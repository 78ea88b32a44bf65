//! Comparisons that answer with a mask, and those that answer in RFLAGS.

use hvf_sys::cpu::{Insn, Op};

use super::super::super::core::{Done, Exec};
use super::super::super::flags;
use super::super::super::float::sse::packed::{lane, lanes, with_lane};
use super::super::super::float::sse::{self, F32, F64, Format, Predicate};
use super::super::super::float::{Env, Flags, Relation};
use super::super::Handler;
use super::{Operation, binary, operations};

/// CMPPS and its kin as an operation of two lanes.
fn compared<F: Format>(immediate: u8) -> impl Fn(u64, u64, &Env) -> (u64, Flags) {
    move |a, b, env| sse::compare::<F>(a, b, Predicate::from_bits(immediate), env)
}

fn low<F: Format>(a: u128, b: u128, immediate: u8, env: &Env) -> (u128, Flags) {
    let (bits, flags) = compared::<F>(immediate)(lane::<F>(a, 0), lane::<F>(b, 0), env);
    (with_lane::<F>(a, 0, bits), flags)
}

operations! {
    u128 => u128, predicate;
    Cmpps cmpps |a, b, immediate, env| lanes::<F32>(a, b, env, compared::<F32>(immediate));
    Cmppd cmppd |a, b, immediate, env| lanes::<F64>(a, b, env, compared::<F64>(immediate));
    Cmpss cmpss |a, b, immediate, env| low::<F32>(a, b, immediate, env);
    Cmpsd cmpsd |a, b, immediate, env| low::<F64>(a, b, immediate, env);
}

fn in_flags((relation, flags): (Relation, Flags)) -> (u64, Flags) {
    (relation.rflags(), flags)
}

operations! {
    u128 => u64, both;
    Comiss comiss |a, b, _, env|
        in_flags(sse::compare_signaling::<F32>(lane::<F32>(a, 0), lane::<F32>(b, 0), env));
    Comisd comisd |a, b, _, env|
        in_flags(sse::compare_signaling::<F64>(lane::<F64>(a, 0), lane::<F64>(b, 0), env));
    Ucomiss ucomiss |a, b, _, env|
        in_flags(sse::compare_quiet::<F32>(lane::<F32>(a, 0), lane::<F32>(b, 0), env));
    Ucomisd ucomisd |a, b, _, env|
        in_flags(sse::compare_quiet::<F64>(lane::<F64>(a, 0), lane::<F64>(b, 0), env));
}

pub(super) fn select(insn: &Insn) -> Option<Handler> {
    Some(match insn.op() {
        Op::Cmpps => binary::<Cmpps, 16>,
        Op::Cmppd => binary::<Cmppd, 16>,
        Op::Cmpss => binary::<Cmpss, 4>,
        Op::CmpsdXmm => binary::<Cmpsd, 8>,
        Op::Comiss => relate::<Comiss, 4>,
        Op::Comisd => relate::<Comisd, 8>,
        Op::Ucomiss => relate::<Ucomiss, 4>,
        Op::Ucomisd => relate::<Ucomisd, 8>,
        _ => return None,
    })
}

/// ZF, PF and CF say how the operands relate; the other three are cleared (SDM volume 2, COMISD).
fn relate<O: Operation<Source = u128, Result = u64>, const BYTES: u8>(
    x: &mut Exec<'_>,
    insn: &Insn,
) -> Done {
    x.check_sse()?;
    let b = x.floating_source::<BYTES>(insn)?;
    let bits = x.compute::<O>(x.xmm(insn.a().low_bits()), b, 0)?;
    x.flags = flags::Flags::from_bits(bits);
    Ok(())
}
