//! Loads, stores, exchanges, conditional moves and constants.

use hvf_sys::cpu::{Insn, Op};
use hvf_sys::ram::PAGE;

use super::super::super::core::{Done, Exec, Trap};
use super::super::super::float::x87::{self, Constant, F80};
use super::super::super::float::{Env, Flags};
use super::super::Handler;
use super::{C1, StackFault};

pub(super) fn select(insn: &Insn) -> Option<Handler> {
    use Op::*;
    let (memory, width) = (insn.has_mem(), insn.width());
    Some(match insn.op() {
        Fld if !memory => load_register,
        Fld if width == 4 => |x, i| x.load_float(i, |x, i| x.load(i).map(x87::from_f32)),
        Fld if width == 8 => |x, i| x.load_float(i, |x, i| x.load(i).map(x87::from_f64)),
        Fld => |x, i| x.load_exact(i, |x, i| x.load_ten(i).map(F80::from_bytes)),
        Fbld => |x, i| x.load_exact(i, |x, i| x.load_ten(i).map(x87::from_bcd)),
        Fild if width == 2 => |x, i| x.load_exact(i, Exec::load_i16),
        Fild if width == 4 => |x, i| x.load_exact(i, Exec::load_i32),
        Fild => |x, i| x.load_exact(i, Exec::load_i64),
        Fst if !memory => store_register::<0>,
        Fstp if !memory => store_register::<1>,
        Fst if width == 4 => store::<Single, 0>,
        Fst => store::<Double, 0>,
        Fstp if width == 4 => store::<Single, 1>,
        Fstp if width == 8 => store::<Double, 1>,
        Fstp => store::<Extended, 1>,
        Fbstp => store::<Decimal, 1>,
        Fist if width == 2 => store::<Rounded16, 0>,
        Fist => store::<Rounded32, 0>,
        Fistp if width == 2 => store::<Rounded16, 1>,
        Fistp if width == 4 => store::<Rounded32, 1>,
        Fistp => store::<Rounded64, 1>,
        Fisttp if width == 2 => store::<Truncated16, 1>,
        Fisttp if width == 4 => store::<Truncated32, 1>,
        Fisttp => store::<Truncated64, 1>,
        Fxch => exchange,
        Fcmov => conditional,
        Fld1 => |x, i| x.load_constant(i, Constant::One),
        Fldl2t => |x, i| x.load_constant(i, Constant::Log2Of10),
        Fldl2e => |x, i| x.load_constant(i, Constant::Log2OfE),
        Fldpi => |x, i| x.load_constant(i, Constant::Pi),
        Fldlg2 => |x, i| x.load_constant(i, Constant::Log10Of2),
        Fldln2 => |x, i| x.load_constant(i, Constant::LnOf2),
        Fldz => |x, i| x.load_constant(i, Constant::Zero),
        _ => return None,
    })
}

impl Exec<'_> {
    fn load_i64(&mut self, insn: &Insn) -> Result<F80, Trap> {
        let n: u64 = self.load(insn)?;
        Ok(x87::from_integer(n as i64))
    }

    /// The ten bytes of a memory operand.
    fn load_ten(&mut self, insn: &Insn) -> Result<[u8; 10], Trap> {
        let la = self.linear(insn, 10, false)?;
        let mut bytes = [0; 10];
        self.load_area(la, insn.segment(), &mut bytes)?;
        Ok(bytes)
    }

    #[inline(always)]
    fn load_float(
        &mut self,
        insn: &Insn,
        load: impl FnOnce(&mut Self, &Insn) -> Result<(F80, Flags), Trap>,
    ) -> Done {
        self.begin_x87()?;
        let (value, flags) = load(self, insn)?;
        let goes_through = self.x87_env().loads(flags);
        self.push_st(insn, value, flags, goes_through)
    }

    #[inline(always)]
    fn load_exact(
        &mut self,
        insn: &Insn,
        load: impl FnOnce(&mut Self, &Insn) -> Result<F80, Trap>,
    ) -> Done {
        self.begin_x87()?;
        let value = load(self, insn)?;
        self.push_st(insn, value, Flags::empty(), true)
    }

    fn load_constant(&mut self, insn: &Insn, constant: Constant) -> Done {
        self.begin_x87()?;
        let value = constant.load(&self.x87_env());
        self.push_st(insn, value, Flags::empty(), true)
    }
}

fn load_register(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.begin_x87()?;
    let n = insn.a().number();
    if !x.is_empty(n) {
        let value = x.st(n);
        return x.push_st(insn, value, Flags::empty(), true);
    }
    if x.stack_fault(insn, StackFault::Underflow, C1) {
        x.rotate(7);
        x.set_st(0, F80::DEFAULT_NAN);
    }
    Ok(())
}

fn store_register<const POPS: u8>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.begin_x87()?;
    let n = insn.a().number();
    if x.is_empty(0) {
        return x.underflow(insn, n, POPS, C1);
    }
    let value = x.st(0);
    x.set_st(n, value);
    x.pop_times(POPS);
    x.settle(insn, Flags::empty(), C1);
    Ok(())
}

/// A form in which ST(0) is stored in memory.
trait Stored {
    /// What is stored.
    type Value;
    /// What is stored for an empty register.
    const INDEFINITE: Self::Value;
    fn convert(a: F80, env: &Env) -> (Self::Value, Flags);
    fn write(x: &mut Exec<'_>, insn: &Insn, value: Self::Value) -> Done;
}

/// Forms that are one word of memory.
macro_rules! stored_words {
    ($($name:ident $word:ty, $indefinite:expr, |$a:ident, $env:pat_param| $convert:expr;)*) => {$(
        struct $name;
        impl Stored for $name {
            type Value = $word;
            const INDEFINITE: $word = $indefinite;

            fn convert($a: F80, $env: &Env) -> ($word, Flags) {
                let (value, flags) = $convert;
                (value as $word, flags)
            }

            fn write(x: &mut Exec<'_>, insn: &Insn, value: $word) -> Done {
                x.store(insn, value)
            }
        }
    )*};
}

stored_words! {
    Single u32, 0xffc0_0000, |a, env| x87::to_f32(a, env);
    Double u64, 0xfff8_0000_0000_0000, |a, env| x87::to_f64(a, env);
    Rounded16 u16, 1 << 15, |a, env| x87::to_i16(a, env);
    Rounded32 u32, 1 << 31, |a, env| x87::to_i32(a, env);
    Rounded64 u64, 1 << 63, |a, env| x87::to_i64(a, env);
    Truncated16 u16, 1 << 15, |a, _| x87::truncate_to_i16(a);
    Truncated32 u32, 1 << 31, |a, _| x87::truncate_to_i32(a);
    Truncated64 u64, 1 << 63, |a, _| x87::truncate_to_i64(a);
}

/// Forms of ten bytes.
macro_rules! stored_tens {
    ($($name:ident $indefinite:expr, |$a:ident, $env:pat_param| $convert:expr;)*) => {$(
        struct $name;
        impl Stored for $name {
            type Value = [u8; 10];
            const INDEFINITE: [u8; 10] = $indefinite;

            fn convert($a: F80, $env: &Env) -> ([u8; 10], Flags) {
                $convert
            }

            fn write(x: &mut Exec<'_>, insn: &Insn, value: [u8; 10]) -> Done {
                let la = x.linear(insn, 10, true)?;
                x.store_area(la, insn.segment(), &value)
            }
        }
    )*};
}

stored_tens! {
    Extended [0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff], |a, _| (a.to_bytes(), Flags::empty());
    Decimal [0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff], |a, env| x87::to_bcd(a, env);
}

/// The store comes first: where it faults, nothing has happened.
fn store<S: Stored, const POPS: u8>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.begin_x87()?;
    if x.is_empty(0) {
        if x.invalid_masked() {
            S::write(x, insn, S::INDEFINITE)?;
            x.pop_times(POPS);
        }
        x.stack_fault(insn, StackFault::Underflow, C1);
        return Ok(());
    }
    let env = x.x87_env();
    let (value, flags) = S::convert(x.st(0), &env);
    if env.stores(flags) {
        S::write(x, insn, value)?;
        x.pop_times(POPS);
    }
    x.settle(insn, flags, C1);
    Ok(())
}

/// FXCH. Masked, an empty register counts as the default NaN.
fn exchange(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.begin_x87()?;
    let n = insn.a().number();
    let empty = [x.is_empty(0), x.is_empty(n)];
    let (mut top, mut other) = (x.st(0), x.st(n));
    if empty.contains(&true) {
        if !x.stack_fault(insn, StackFault::Underflow, C1) {
            return Ok(());
        }
        top = if empty[0] { F80::DEFAULT_NAN } else { top };
        other = if empty[1] { F80::DEFAULT_NAN } else { other };
    } else {
        x.settle(insn, Flags::empty(), C1);
    }
    x.set_st(n, top);
    x.set_st(0, other);
    Ok(())
}

/// FCMOVcc. Empty registers matter whether the condition holds or not.
fn conditional(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.begin_x87()?;
    let n = insn.b().number();
    if x.is_empty(0) || x.is_empty(n) {
        return x.underflow(insn, 0, 0, C1);
    }
    if x.flags.condition(insn.aux()) {
        let value = x.st(n);
        x.set_st(0, value);
    }
    x.settle(insn, Flags::empty(), Flags::empty());
    Ok(())
}

impl Exec<'_> {
    /// The linear address `n` bytes on.
    fn further(&self, la: u64, n: usize) -> u64 {
        let la = la.wrapping_add(n as u64);
        if self.code64() { la } else { la & 0xffff_ffff }
    }

    /// Loads an even number of bytes.
    pub(super) fn load_area(&mut self, la: u64, segment: usize, bytes: &mut [u8]) -> Done {
        for (n, piece) in bytes.chunks_mut(8).enumerate() {
            let at = self.further(la, 8 * n);
            match piece.len() {
                8 => piece.copy_from_slice(&self.load_at::<u64>(at, segment)?.to_le_bytes()),
                _ => {
                    for (n, pair) in piece.chunks_exact_mut(2).enumerate() {
                        let at = self.further(at, 2 * n);
                        pair.copy_from_slice(&self.load_at::<u16>(at, segment)?.to_le_bytes());
                    }
                }
            }
        }
        Ok(())
    }

    /// Stores an even number of bytes, less than a page. All faults come before the first of them.
    pub(super) fn store_area(&mut self, la: u64, segment: usize, bytes: &[u8]) -> Done {
        self.probe_write(la, 1, segment)?;
        let last = self.further(la, bytes.len() - 1);
        if la / PAGE != last / PAGE {
            self.probe_write(last & !(PAGE - 1), 1, segment)?;
        }
        for (n, piece) in bytes.chunks(8).enumerate() {
            let at = self.further(la, 8 * n);
            if let Ok(piece) = piece.try_into() {
                self.store_at(at, segment, u64::from_le_bytes(piece))?;
                continue;
            }
            for (n, pair) in piece.chunks_exact(2).enumerate() {
                let at = self.further(at, 2 * n);
                self.store_at(at, segment, u16::from(pair[0]) | u16::from(pair[1]) << 8)?;
            }
        }
        Ok(())
    }
}
