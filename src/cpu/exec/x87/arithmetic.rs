//! Arithmetic on the stack's registers, with memory, and the functions of one or two registers.

use hvf_sys::cpu::{Insn, Op};

use super::super::super::core::{Done, Exec, Trap};
use super::super::super::float::x87::{self, F80, M32, M64, Operand};
use super::super::super::float::{Env, Flags};
use super::super::Handler;
use super::{C1, C1_C2, StackFault};

/// A result and what it raised.
type Answer = (F80, Flags);

/// An operation of two operands.
trait Binary {
    fn apply(a: impl Operand, b: impl Operand, env: &Env) -> Answer;
}

struct Sum;
struct Difference;
struct Product;
struct Quotient;

impl Binary for Sum {
    fn apply(a: impl Operand, b: impl Operand, env: &Env) -> Answer {
        x87::add(a, b, env)
    }
}

impl Binary for Difference {
    fn apply(a: impl Operand, b: impl Operand, env: &Env) -> Answer {
        x87::subtract(a, b, env)
    }
}

impl Binary for Product {
    fn apply(a: impl Operand, b: impl Operand, env: &Env) -> Answer {
        x87::multiply(a, b, env)
    }
}

impl Binary for Quotient {
    fn apply(a: impl Operand, b: impl Operand, env: &Env) -> Answer {
        x87::divide(a, b, env)
    }
}

/// The reversed form: second operand first.
struct Reversed<B>(std::marker::PhantomData<B>);

impl<B: Binary> Binary for Reversed<B> {
    fn apply(a: impl Operand, b: impl Operand, env: &Env) -> Answer {
        B::apply(b, a, env)
    }
}

pub(super) fn select(insn: &Insn) -> Option<Handler> {
    use Op::*;
    Some(match insn.op() {
        Fadd => basic::<Sum>(insn),
        Fsub => basic::<Difference>(insn),
        Fsubr => basic::<Reversed<Difference>>(insn),
        Fmul => basic::<Product>(insn),
        Fdiv => basic::<Quotient>(insn),
        Fdivr => basic::<Reversed<Quotient>>(insn),
        Fiadd => integer::<Sum>(insn),
        Fisub => integer::<Difference>(insn),
        Fisubr => integer::<Reversed<Difference>>(insn),
        Fimul => integer::<Product>(insn),
        Fidiv => integer::<Quotient>(insn),
        Fidivr => integer::<Reversed<Quotient>>(insn),
        Faddp => registers::<Sum, 1>,
        Fsubp => registers::<Difference, 1>,
        Fsubrp => registers::<Reversed<Difference>, 1>,
        Fmulp => registers::<Product, 1>,
        Fdivp => registers::<Quotient, 1>,
        Fdivrp => registers::<Reversed<Quotient>, 1>,
        Fsqrt => |x, i| x.unary(i, C1, x87::square_root),
        Frndint => |x, i| x.unary(i, C1, x87::round_to_integral),
        F2xm1 => |x, i| x.unary(i, C1, x87::exponential),
        Fsin => |x, i| x.unary(i, C1_C2, x87::sine),
        Fcos => |x, i| x.unary(i, C1_C2, x87::cosine),
        Fchs => |x, i| x.unary(i, C1, |a, _| (a.negated(), Flags::empty())),
        Fabs => |x, i| x.unary(i, C1, |a, _| (a.abs(), Flags::empty())),
        Fscale => |x, i| x.with_second(i, C1, x87::scale),
        Fprem => |x, i| x.with_second(i, Flags::CONDITIONS, x87::remainder),
        Fprem1 => |x, i| x.with_second(i, Flags::CONDITIONS, x87::ieee_remainder),
        Fyl2x => |x, i| x.replace_second(i, x87::logarithm),
        Fyl2xp1 => |x, i| x.replace_second(i, x87::logarithm_plus_one),
        Fpatan => |x, i| x.replace_second(i, x87::arctangent),
        Fsincos => |x, i| x.replace_by_two(i, C1_C2, x87::sine_cosine),
        Fptan => |x, i| x.replace_by_two(i, C1_C2, x87::tangent),
        Fxtract => |x, i| x.replace_by_two(i, C1, x87::extract),
        _ => return None,
    })
}

/// FADD and its kin with a float in memory, or between registers.
fn basic<B: Binary>(insn: &Insn) -> Handler {
    match (insn.has_mem(), insn.width()) {
        (false, _) => registers::<B, 0>,
        (true, 4) => |x, i| x.with_memory::<B, _>(i, |x, i| x.load(i).map(M32)),
        (true, _) => |x, i| x.with_memory::<B, _>(i, |x, i| x.load(i).map(M64)),
    }
}

/// FIADD and its kin.
fn integer<B: Binary>(insn: &Insn) -> Handler {
    if insn.width() == 2 {
        |x, i| x.with_memory::<B, _>(i, Exec::load_i16)
    } else {
        |x, i| x.with_memory::<B, _>(i, Exec::load_i32)
    }
}

/// The first operand becomes what comes of both.
fn registers<B: Binary, const POPS: u8>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.begin_x87()?;
    let (a, b) = (insn.a().number(), insn.b().number());
    if x.is_empty(a) || x.is_empty(b) {
        return x.underflow(insn, a, POPS, C1);
    }
    let env = x.x87_env();
    let (value, flags) = B::apply(x.st(a), x.st(b), &env);
    x.finish(insn, a, POPS, value, flags, C1);
    Ok(())
}

impl Exec<'_> {
    pub(super) fn load_i16(&mut self, insn: &Insn) -> Result<F80, Trap> {
        let n: u16 = self.load(insn)?;
        Ok(x87::from_integer(i64::from(n as i16)))
    }

    pub(super) fn load_i32(&mut self, insn: &Insn) -> Result<F80, Trap> {
        let n: u32 = self.load(insn)?;
        Ok(x87::from_integer(i64::from(n as i32)))
    }

    #[inline(always)]
    fn with_memory<B: Binary, M: Operand>(
        &mut self,
        insn: &Insn,
        load: impl FnOnce(&mut Self, &Insn) -> Result<M, Trap>,
    ) -> Done {
        self.begin_x87()?;
        let b = load(self, insn)?;
        if self.is_empty(0) {
            return self.underflow(insn, 0, 0, C1);
        }
        let env = self.x87_env();
        let (value, flags) = B::apply(self.st(0), b, &env);
        self.finish(insn, 0, 0, value, flags, C1);
        Ok(())
    }

    /// Writes ST(`to`) and pops, unless an exception forbids it.
    #[inline(always)]
    fn finish(
        &mut self,
        insn: &Insn,
        to: usize,
        pops: u8,
        value: F80,
        flags: Flags,
        defined: Flags,
    ) {
        if self.x87_env().commits(flags) {
            self.set_st(to, value);
            self.pop_times(pops);
        }
        self.settle(insn, flags, defined);
    }

    /// ST(0) becomes a function of itself.
    fn unary(
        &mut self,
        insn: &Insn,
        defined: Flags,
        operation: impl FnOnce(F80, &Env) -> Answer,
    ) -> Done {
        self.begin_x87()?;
        if self.is_empty(0) {
            return self.underflow(insn, 0, 0, defined & C1_C2);
        }
        let env = self.x87_env();
        let (value, flags) = operation(self.st(0), &env);
        self.finish(insn, 0, 0, value, flags, defined);
        Ok(())
    }

    /// ST(0) becomes a function of itself and ST(1).
    fn with_second(
        &mut self,
        insn: &Insn,
        defined: Flags,
        operation: impl FnOnce(F80, F80, &Env) -> Answer,
    ) -> Done {
        self.begin_x87()?;
        if self.is_empty(0) || self.is_empty(1) {
            return self.underflow(insn, 0, 0, defined & C1_C2);
        }
        let env = self.x87_env();
        let (value, flags) = operation(self.st(0), self.st(1), &env);
        // FPREM's quotient is told only where there is a remainder.
        let special = value.sign_exponent & 0x7fff == 0x7fff;
        let defined = if special || !env.commits(flags) {
            defined & C1_C2
        } else {
            defined
        };
        self.finish(insn, 0, 0, value, flags, defined);
        Ok(())
    }

    /// ST(1) becomes a function of both, and ST(0) is popped.
    fn replace_second(
        &mut self,
        insn: &Insn,
        operation: impl FnOnce(F80, F80, &Env) -> Answer,
    ) -> Done {
        self.begin_x87()?;
        if self.is_empty(0) || self.is_empty(1) {
            return self.underflow(insn, 1, 1, C1);
        }
        let env = self.x87_env();
        let (value, flags) = operation(self.st(0), self.st(1), &env);
        self.finish(insn, 1, 1, value, flags, C1);
        Ok(())
    }

    /// ST(0) becomes the first of two results, and the second is pushed.
    fn replace_by_two(
        &mut self,
        insn: &Insn,
        defined: Flags,
        operation: impl FnOnce(F80, &Env) -> ((F80, F80), Flags),
    ) -> Done {
        self.begin_x87()?;
        let fault = if self.is_empty(0) {
            Some(StackFault::Underflow)
        } else if !self.is_empty(7) {
            Some(StackFault::Overflow)
        } else {
            None
        };
        if let Some(fault) = fault {
            if self.stack_fault(insn, fault, defined) {
                self.set_two(F80::DEFAULT_NAN, F80::DEFAULT_NAN);
            }
            return Ok(());
        }
        let env = self.x87_env();
        let ((first, second), flags) = operation(self.st(0), &env);
        if env.commits(flags) && !(flags & defined).contains(Flags::C2) {
            self.set_two(first, second);
        }
        self.settle(insn, flags, defined);
        Ok(())
    }

    fn set_two(&mut self, first: F80, second: F80) {
        self.set_st(0, first);
        self.rotate(7);
        self.set_st(0, second);
    }
}
