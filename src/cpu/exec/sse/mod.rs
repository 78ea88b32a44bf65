//! SSE floating point: the operations that obey MXCSR and raise its exceptions (SDM volume 1, chapter 11).
//!
//! Each operation has a reference in `cpu::float`. On an x86-64 host most have two more forms: the host's own instruction
//! under MXCSR as the host has it, which is what nearly every guest runs with too, and the same under other controls.
//! They give the same bits and flags, and serve only while every exception is masked.

mod arithmetic;
mod compare;
mod convert;

use hvf_sys::cpu::Insn;

use super::super::core::{Done, Exec, Trap};
use super::super::float::{Env, Flags};
use super::Handler;
use crate::x86::control::cr4;
use crate::x86::vector;

/// MXCSR's exception flags.
const FLAGS: u32 = 0x3f;
/// How far left of the flags their masks stand.
const MASKS_SHIFT: u32 = 7;
/// MXCSR's masks.
#[cfg(target_arch = "x86_64")]
const MASKS: u32 = FLAGS << MASKS_SHIFT;

/// An operation under MXCSR: `a` is the destination's old value, `b` the source.
trait Operation {
    /// An XMM register, or a general one.
    type Source: Copy;
    /// An XMM register, a general one, or arithmetic flags.
    type Result;

    /// The reference.
    fn soft(a: u128, b: Self::Source, immediate: u8, env: &Env) -> (Self::Result, Flags);

    /// The host's instruction under the host's MXCSR, with this thread's sticky flags.
    #[cfg(target_arch = "x86_64")]
    fn direct(a: u128, b: Self::Source, immediate: u8) -> Option<(Self::Result, u32)>;

    /// The host's instruction under `mxcsr`, with the flags that it raised.
    #[cfg(target_arch = "x86_64")]
    fn host(a: u128, b: Self::Source, immediate: u8, mxcsr: u32) -> Option<(Self::Result, u32)>;
}

/// The call of a host's instruction, by its kind.
#[cfg(target_arch = "x86_64")]
macro_rules! direct_form {
    (both $host:ident $a:ident $b:ident $immediate:ident) => {{
        let _ = $immediate;
        Some(hvf_sys::hostfp::direct::$host($a, $b))
    }};
    (source $host:ident $a:ident $b:ident $immediate:ident) => {{
        let _ = ($a, $immediate);
        Some(hvf_sys::hostfp::direct::$host($b))
    }};
    (predicate $host:ident $a:ident $b:ident $immediate:ident) => {
        Some(hvf_sys::hostfp::direct::$host($a, $b, $immediate))
    };
    (rounding $host:ident $a:ident $b:ident $immediate:ident) => {
        hvf_sys::hostfp::Sse41::detect()
            .map(|proof| hvf_sys::hostfp::direct::$host(proof, $a, $b, $immediate))
    };
    ($kind:ident $host:ident $a:ident $b:ident $immediate:ident) => {{
        let _ = ($a, $b, $immediate);
        None
    }};
}
#[cfg(target_arch = "x86_64")]
use direct_form;

/// The same under an MXCSR of the caller's.
#[cfg(target_arch = "x86_64")]
macro_rules! host_form {
    (both $host:ident $a:ident $b:ident $immediate:ident $mxcsr:ident) => {{
        let _ = $immediate;
        Some(hvf_sys::hostfp::$host($a, $b, $mxcsr))
    }};
    (source $host:ident $a:ident $b:ident $immediate:ident $mxcsr:ident) => {{
        let _ = ($a, $immediate);
        Some(hvf_sys::hostfp::$host($b, $mxcsr))
    }};
    (predicate $host:ident $a:ident $b:ident $immediate:ident $mxcsr:ident) => {
        Some(hvf_sys::hostfp::$host($a, $b, $immediate, $mxcsr))
    };
    (rounding $host:ident $a:ident $b:ident $immediate:ident $mxcsr:ident) => {
        hvf_sys::hostfp::Sse41::detect().map(|proof| proof.$host($a, $b, $immediate, $mxcsr))
    };
    (neighbours $host:ident $a:ident $b:ident $immediate:ident $mxcsr:ident) => {{
        let _ = $immediate;
        hvf_sys::hostfp::Sse41::detect().map(|proof| proof.$host($a, $b, $mxcsr))
    }};
    (none $host:ident $a:ident $b:ident $immediate:ident $mxcsr:ident) => {{
        let _ = ($a, $b, $immediate, $mxcsr);
        None
    }};
}
#[cfg(target_arch = "x86_64")]
use host_form;

/// Defines operations: their source and result, the kind of the host's call; then a name, the host's instruction and the
/// reference of each.
macro_rules! operations {
    (
        $source:ty => $result:ty, $kind:ident;
        $($name:ident $host:ident |$a:pat_param, $b:pat_param, $immediate:pat_param, $env:pat_param| $soft:expr;)*
    ) => {
        $(
            struct $name;
            impl super::Operation for $name {
                type Source = $source;
                type Result = $result;

                #[inline(always)]
                fn soft(
                    $a: u128,
                    $b: $source,
                    $immediate: u8,
                    $env: &super::Env,
                ) -> ($result, super::Flags) {
                    $soft
                }

                #[cfg(target_arch = "x86_64")]
                #[inline(always)]
                fn direct(a: u128, b: $source, immediate: u8) -> Option<($result, u32)> {
                    super::direct_form!($kind $host a b immediate)
                }

                #[cfg(target_arch = "x86_64")]
                #[inline(always)]
                fn host(
                    a: u128,
                    b: $source,
                    immediate: u8,
                    mxcsr: u32,
                ) -> Option<($result, u32)> {
                    super::host_form!($kind $host a b immediate mxcsr)
                }
            }
        )*
    };
}
use operations;

/// The handler of an SSE floating point instruction.
pub(super) fn select(insn: &Insn) -> Option<Handler> {
    arithmetic::select(insn)
        .or_else(|| compare::select(insn))
        .or_else(|| convert::select(insn))
}

/// `op xmm, xmm` where `BYTES` of the source count.
fn binary<O: Operation<Source = u128, Result = u128>, const BYTES: u8>(
    x: &mut Exec<'_>,
    insn: &Insn,
) -> Done {
    x.check_sse()?;
    let b = x.floating_source::<BYTES>(insn)?;
    let n = insn.a().low_bits();
    let result = x.compute::<O>(x.xmm(n), b, insn.immediate() as u8)?;
    x.set_xmm(n, result);
    Ok(())
}

impl Exec<'_> {
    /// The second operand: a whole register, or `BYTES` of memory. Sixteen must be aligned.
    #[inline(always)]
    fn floating_source<const BYTES: u8>(&mut self, insn: &Insn) -> Result<u128, Trap> {
        if !insn.b().is_mem() {
            return Ok(self.xmm(insn.b().low_bits()));
        }
        match BYTES {
            4 => self.load::<u32>(insn).map(u128::from),
            8 => self.load::<u64>(insn).map(u128::from),
            _ => self.load_aligned(insn),
        }
    }

    /// Computes, and lets MXCSR know. An unmasked exception leaves its flag there and nothing else.
    #[inline(always)]
    fn compute<O: Operation>(
        &mut self,
        a: u128,
        b: O::Source,
        immediate: u8,
    ) -> Result<O::Result, Trap> {
        #[cfg(target_arch = "x86_64")]
        if self.state.mxcsr & !FLAGS == MASKS
            && let Some((result, sticky)) = O::direct(a, b, immediate)
            && sticky & !self.state.mxcsr == 0
        {
            // Whatever it raised, the guest has it raised already.
            return Ok(result);
        }
        self.compute_slow::<O>(a, b, immediate)
    }

    #[cold]
    #[inline(never)]
    fn compute_slow<O: Operation>(
        &mut self,
        a: u128,
        b: O::Source,
        immediate: u8,
    ) -> Result<O::Result, Trap> {
        let mxcsr = self.state.mxcsr;
        #[cfg(target_arch = "x86_64")]
        if mxcsr & MASKS == MASKS {
            let done = if mxcsr & !FLAGS == MASKS {
                hvf_sys::hostfp::direct::clear();
                O::direct(a, b, immediate).or_else(|| O::host(a, b, immediate, mxcsr))
            } else {
                O::host(a, b, immediate, mxcsr)
            };
            if let Some((result, raised)) = done {
                self.state.mxcsr |= raised;
                return Ok(result);
            }
        }
        let (result, raised) = O::soft(a, b, immediate, &Env::from_mxcsr(mxcsr));
        let raised = u32::from(raised.bits()) & FLAGS;
        self.state.mxcsr |= raised;
        if raised & !(mxcsr >> MASKS_SHIFT) == 0 {
            Ok(result)
        } else {
            Err(self.simd_exception())
        }
    }

    /// #XM, or #UD where the operating system does not handle it (SDM volume 1, 11.5.1).
    fn simd_exception(&mut self) -> Trap {
        if self.cr4(cr4::OSXMMEXCPT) {
            self.raise(vector::XM)
        } else {
            self.undefined()
        }
    }
}
