//! Arithmetic on one lane or all of them; sums of neighbours, dot products, rounding, approximations.

use hvf_sys::cpu::{Insn, Op};

use super::super::super::core::{Done, Exec};
use super::super::super::float::sse::packed::{self, lane, lanes, with_lane};
use super::super::super::float::sse::{self, F32, F64, Format, RoundControl};
use super::super::super::float::{Env, Flags};
use super::super::Handler;
use super::{binary, operations};

/// Applies a scalar operation to the low lane.
#[inline(always)]
fn low<F: Format>(
    a: u128,
    b: u128,
    env: &Env,
    operation: impl Fn(u64, u64, &Env) -> (u64, Flags),
) -> (u128, Flags) {
    let (bits, flags) = operation(lane::<F>(a, 0), lane::<F>(b, 0), env);
    (with_lane::<F>(a, 0, bits), flags)
}

fn root<F: Format>(_: u64, b: u64, env: &Env) -> (u64, Flags) {
    sse::square_root::<F>(b, env)
}

/// ROUNDSS and its kin as an operation of two lanes.
fn rounded<F: Format>(control: u8) -> impl Fn(u64, u64, &Env) -> (u64, Flags) {
    move |_, b, env| sse::round_to_integral::<F>(b, RoundControl(control), env)
}

operations! {
    u128 => u128, both;
    Addps addps |a, b, _, env| lanes::<F32>(a, b, env, sse::add::<F32>);
    Addpd addpd |a, b, _, env| lanes::<F64>(a, b, env, sse::add::<F64>);
    Addss addss |a, b, _, env| low::<F32>(a, b, env, sse::add::<F32>);
    Addsd addsd |a, b, _, env| low::<F64>(a, b, env, sse::add::<F64>);
    Subps subps |a, b, _, env| lanes::<F32>(a, b, env, sse::subtract::<F32>);
    Subpd subpd |a, b, _, env| lanes::<F64>(a, b, env, sse::subtract::<F64>);
    Subss subss |a, b, _, env| low::<F32>(a, b, env, sse::subtract::<F32>);
    Subsd subsd |a, b, _, env| low::<F64>(a, b, env, sse::subtract::<F64>);
    Mulps mulps |a, b, _, env| lanes::<F32>(a, b, env, sse::multiply::<F32>);
    Mulpd mulpd |a, b, _, env| lanes::<F64>(a, b, env, sse::multiply::<F64>);
    Mulss mulss |a, b, _, env| low::<F32>(a, b, env, sse::multiply::<F32>);
    Mulsd mulsd |a, b, _, env| low::<F64>(a, b, env, sse::multiply::<F64>);
    Divps divps |a, b, _, env| lanes::<F32>(a, b, env, sse::divide::<F32>);
    Divpd divpd |a, b, _, env| lanes::<F64>(a, b, env, sse::divide::<F64>);
    Divss divss |a, b, _, env| low::<F32>(a, b, env, sse::divide::<F32>);
    Divsd divsd |a, b, _, env| low::<F64>(a, b, env, sse::divide::<F64>);
    Minps minps |a, b, _, env| lanes::<F32>(a, b, env, sse::minimum::<F32>);
    Minpd minpd |a, b, _, env| lanes::<F64>(a, b, env, sse::minimum::<F64>);
    Minss minss |a, b, _, env| low::<F32>(a, b, env, sse::minimum::<F32>);
    Minsd minsd |a, b, _, env| low::<F64>(a, b, env, sse::minimum::<F64>);
    Maxps maxps |a, b, _, env| lanes::<F32>(a, b, env, sse::maximum::<F32>);
    Maxpd maxpd |a, b, _, env| lanes::<F64>(a, b, env, sse::maximum::<F64>);
    Maxss maxss |a, b, _, env| low::<F32>(a, b, env, sse::maximum::<F32>);
    Maxsd maxsd |a, b, _, env| low::<F64>(a, b, env, sse::maximum::<F64>);
    Sqrtps sqrtps |a, b, _, env| lanes::<F32>(a, b, env, root::<F32>);
    Sqrtpd sqrtpd |a, b, _, env| lanes::<F64>(a, b, env, root::<F64>);
    Sqrtss sqrtss |a, b, _, env| low::<F32>(a, b, env, root::<F32>);
    Sqrtsd sqrtsd |a, b, _, env| low::<F64>(a, b, env, root::<F64>);
}

operations! {
    u128 => u128, neighbours;
    Haddps haddps |a, b, _, env| packed::horizontal_add::<F32>(a, b, env);
    Haddpd haddpd |a, b, _, env| packed::horizontal_add::<F64>(a, b, env);
    Hsubps hsubps |a, b, _, env| packed::horizontal_subtract::<F32>(a, b, env);
    Hsubpd hsubpd |a, b, _, env| packed::horizontal_subtract::<F64>(a, b, env);
    Addsubps addsubps |a, b, _, env| packed::add_subtract::<F32>(a, b, env);
    Addsubpd addsubpd |a, b, _, env| packed::add_subtract::<F64>(a, b, env);
}

operations! {
    u128 => u128, rounding;
    Roundps roundps |a, b, control, env| lanes::<F32>(a, b, env, rounded::<F32>(control));
    Roundpd roundpd |a, b, control, env| lanes::<F64>(a, b, env, rounded::<F64>(control));
    Roundss roundss |a, b, control, env| low::<F32>(a, b, env, rounded::<F32>(control));
    Roundsd roundsd |a, b, control, env| low::<F64>(a, b, env, rounded::<F64>(control));
}

// The host's have their immediate in the code: there is no calling them with the guest's.
operations! {
    u128 => u128, none;
    Dpps dpps |a, b, control, env| packed::dot_product_f32(a, b, control, env);
    Dppd dppd |a, b, control, env| packed::dot_product_f64(a, b, control, env);
}

pub(super) fn select(insn: &Insn) -> Option<Handler> {
    Some(match insn.op() {
        Op::Addps => binary::<Addps, 16>,
        Op::Addpd => binary::<Addpd, 16>,
        Op::Addss => binary::<Addss, 4>,
        Op::Addsd => binary::<Addsd, 8>,
        Op::Subps => binary::<Subps, 16>,
        Op::Subpd => binary::<Subpd, 16>,
        Op::Subss => binary::<Subss, 4>,
        Op::Subsd => binary::<Subsd, 8>,
        Op::Mulps => binary::<Mulps, 16>,
        Op::Mulpd => binary::<Mulpd, 16>,
        Op::Mulss => binary::<Mulss, 4>,
        Op::Mulsd => binary::<Mulsd, 8>,
        Op::Divps => binary::<Divps, 16>,
        Op::Divpd => binary::<Divpd, 16>,
        Op::Divss => binary::<Divss, 4>,
        Op::Divsd => binary::<Divsd, 8>,
        Op::Minps => binary::<Minps, 16>,
        Op::Minpd => binary::<Minpd, 16>,
        Op::Minss => binary::<Minss, 4>,
        Op::Minsd => binary::<Minsd, 8>,
        Op::Maxps => binary::<Maxps, 16>,
        Op::Maxpd => binary::<Maxpd, 16>,
        Op::Maxss => binary::<Maxss, 4>,
        Op::Maxsd => binary::<Maxsd, 8>,
        Op::Sqrtps => binary::<Sqrtps, 16>,
        Op::Sqrtpd => binary::<Sqrtpd, 16>,
        Op::Sqrtss => binary::<Sqrtss, 4>,
        Op::Sqrtsd => binary::<Sqrtsd, 8>,
        Op::Haddps => binary::<Haddps, 16>,
        Op::Haddpd => binary::<Haddpd, 16>,
        Op::Hsubps => binary::<Hsubps, 16>,
        Op::Hsubpd => binary::<Hsubpd, 16>,
        Op::Addsubps => binary::<Addsubps, 16>,
        Op::Addsubpd => binary::<Addsubpd, 16>,
        Op::Roundps => binary::<Roundps, 16>,
        Op::Roundpd => binary::<Roundpd, 16>,
        Op::Roundss => binary::<Roundss, 4>,
        Op::Roundsd => binary::<Roundsd, 8>,
        Op::Dpps => binary::<Dpps, 16>,
        Op::Dppd => binary::<Dppd, 16>,
        Op::Rcpps => |x, i| x.approximate(i, sse::reciprocal),
        Op::Rsqrtps => |x, i| x.approximate(i, sse::reciprocal_root),
        Op::Rcpss => |x, i| x.approximate_low(i, sse::reciprocal),
        Op::Rsqrtss => |x, i| x.approximate_low(i, sse::reciprocal_root),
        _ => return None,
    })
}

impl Exec<'_> {
    /// RCPPS and RSQRTPS look at no control and raise nothing.
    fn approximate(&mut self, insn: &Insn, operation: fn(u32) -> u32) -> Done {
        self.check_sse()?;
        let b = self.floating_source::<16>(insn)?;
        let result = (0..4).fold(0, |sum, n| {
            let bits = operation(lane::<F32>(b, n) as u32);
            with_lane::<F32>(sum, n, u64::from(bits))
        });
        self.set_xmm(insn.a().low_bits(), result);
        Ok(())
    }

    fn approximate_low(&mut self, insn: &Insn, operation: fn(u32) -> u32) -> Done {
        self.check_sse()?;
        let b = self.floating_source::<4>(insn)?;
        let n = insn.a().low_bits();
        let result = with_lane::<F32>(self.xmm(n), 0, u64::from(operation(b as u32)));
        self.set_xmm(n, result);
        Ok(())
    }
}
