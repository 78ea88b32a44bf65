//! String instructions, IN and OUT.
//!
//! A repeated instruction commits iteration by iteration, and gives way after `BATCH` of them so that interrupts come
//! through: it is then entered again with what is left in the counter.

use hvf_sys::cpu::{Insn, Op, State};
use hvf_sys::ram::PAGE;

use super::super::core::{Done, Exec, Trap};
use super::super::int::Int;
use super::super::intercept::{Cause, Intercepts, PortAccess};
use super::{Handler, by_width};
use crate::bus::Width;
use crate::x86::control::rflags;
use crate::x86::segment::system::{TSS32, TSS32_BUSY};

const BATCH: u64 = 1 << 12;
const RSI: usize = 6;
const RDI: usize = 7;

pub(super) fn select(insn: &Insn) -> Handler {
    match insn.op() {
        Op::Movs => by_width!(insn, movs),
        Op::Stos => by_width!(insn, stos),
        Op::Lods => by_width!(insn, lods),
        Op::Cmps => by_width!(insn, cmps),
        Op::Scas => by_width!(insn, scas),
        Op::Ins => by_width!(insn, ins),
        Op::Outs => by_width!(insn, outs),
        Op::In => by_width!(insn, port_in),
        _ => by_width!(insn, port_out),
    }
}

impl Exec<'_> {
    fn address_mask(insn: &Insn) -> u64 {
        u64::MAX >> (64 - 8 * u32::from(insn.address_size()))
    }

    fn pointer(&self, insn: &Insn, register: usize) -> u64 {
        self.state.gpr[register & 15] & Self::address_mask(insn)
    }

    /// Moves a pointer on by `bytes`, in the direction of DF.
    fn advance(&mut self, insn: &Insn, register: usize, bytes: u64) {
        let bytes = if self.backwards() {
            bytes.wrapping_neg()
        } else {
            bytes
        };
        let value = self.state.gpr[register & 15].wrapping_add(bytes);
        match insn.address_size() {
            2 => self.set_gpr(register, value as u16),
            4 => self.set_gpr(register, value as u32),
            _ => self.set_gpr(register, value),
        }
    }

    fn backwards(&self) -> bool {
        self.state.rflags & rflags::DF != 0
    }

    /// The linear address of an element at RSI (in the source segment) or RDI (always in ES).
    fn element(
        &mut self,
        insn: &Insn,
        register: usize,
        len: u64,
        write: bool,
    ) -> Result<u64, Trap> {
        let segment = if register == RSI {
            insn.segment()
        } else {
            State::ES
        };
        self.linear_in(segment, self.pointer(insn, register), len, write)
    }
}

/// Runs `iteration` once, or as often as the counter says. It gives how many elements it did, at least one and at most
/// as many as it was told, and whether to go on.
fn repeat(
    x: &mut Exec<'_>,
    insn: &Insn,
    mut iteration: impl FnMut(&mut Exec<'_>, u64) -> Result<(u64, bool), Trap>,
) -> Done {
    if !insn.rep() && !insn.repne() {
        return iteration(x, 1).map(|_| ());
    }
    let mut left = x.state.gpr[1] & Exec::address_mask(insn);
    // A single step and a breakpoint trap after each iteration.
    let mut budget = if x.slow { 1 } else { BATCH };
    // After a fault between two comparisons the flags are those from before the first (SDM, REP).
    let flags = x.flags;
    while left > 0 {
        if budget == 0 {
            return Err(Trap::Again);
        }
        let (done, more) = match iteration(x, left.min(budget)) {
            Ok(progress) => progress,
            Err(trap) => {
                x.flags = flags;
                return Err(trap);
            }
        };
        left -= done;
        budget -= done.min(budget);
        x.set_counter(insn, left);
        if !more {
            break;
        }
        // A store may have gone over this very instruction.
        if x.written_code && left > 0 {
            return Err(Trap::Again);
        }
    }
    Ok(())
}

fn movs<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    repeat(x, insn, |x, most| {
        if let Some(done) = move_run::<W>(x, insn, most) {
            return Ok((done, true));
        }
        let from = x.element(insn, RSI, W::BYTES, false)?;
        let value: W = x.load_at(from, insn.segment())?;
        let to = x.element(insn, RDI, W::BYTES, true)?;
        x.store_at(to, State::ES, value)?;
        x.advance(insn, RSI, W::BYTES);
        x.advance(insn, RDI, W::BYTES);
        Ok((1, true))
    })
}

/// Moves as many elements as lie inside one page on either side, where the TLB knows both.
fn move_run<W: Int>(x: &mut Exec<'_>, insn: &Insn, most: u64) -> Option<u64> {
    if most < 4 || x.backwards() || !x.code64() {
        return None;
    }
    let (from, to) = (
        x.element(insn, RSI, 1, false).ok()?,
        x.element(insn, RDI, 1, true).ok()?,
    );
    let room = PAGE - (from % PAGE).max(to % PAGE);
    let done = most.min(room / W::BYTES);
    let copied = done > 0 && x.tlb.copy((x.space, to), (x.space, from), done * W::BYTES);
    if !copied {
        return None;
    }
    x.advance(insn, RSI, done * W::BYTES);
    x.advance(insn, RDI, done * W::BYTES);
    Some(done)
}

fn stos<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let value: W = x.gpr(0);
    repeat(x, insn, |x, most| {
        if let Some(done) = store_run(x, insn, value, most) {
            return Ok((done, true));
        }
        let to = x.element(insn, RDI, W::BYTES, true)?;
        x.store_at(to, State::ES, value)?;
        x.advance(insn, RDI, W::BYTES);
        Ok((1, true))
    })
}

fn store_run<W: Int>(x: &mut Exec<'_>, insn: &Insn, value: W, most: u64) -> Option<u64> {
    if most < 16 || x.backwards() || !x.code64() {
        return None;
    }
    let to = x.element(insn, RDI, 1, true).ok()?;
    let words = (most * W::BYTES).min(PAGE - to % PAGE) / 8;
    let pattern = value
        .zero_extend()
        .wrapping_mul(u64::MAX / (u64::MAX >> (64 - W::BITS)));
    let stored = words > 0 && x.tlb.store_repeated(x.space, to, pattern, words);
    if !stored {
        return None;
    }
    x.advance(insn, RDI, 8 * words);
    Some(8 * words / W::BYTES)
}

fn lods<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    repeat(x, insn, |x, _| {
        let from = x.element(insn, RSI, W::BYTES, false)?;
        let value: W = x.load_at(from, insn.segment())?;
        x.set_gpr(0, value);
        x.advance(insn, RSI, W::BYTES);
        Ok((1, true))
    })
}

/// Whether REPE or REPNE goes on after a comparison.
fn goes_on(x: &Exec<'_>, insn: &Insn) -> bool {
    x.flags.zero() != insn.repne()
}

fn cmps<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    repeat(x, insn, |x, _| {
        let first = x.element(insn, RSI, W::BYTES, false)?;
        let a: W = x.load_at(first, insn.segment())?;
        let second = x.element(insn, RDI, W::BYTES, false)?;
        let b: W = x.load_at(second, State::ES)?;
        x.flags.sub(a, b, false);
        x.advance(insn, RSI, W::BYTES);
        x.advance(insn, RDI, W::BYTES);
        Ok((1, goes_on(x, insn)))
    })
}

fn scas<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    repeat(x, insn, |x, _| {
        let at = x.element(insn, RDI, W::BYTES, false)?;
        let b: W = x.load_at(at, State::ES)?;
        let a = x.gpr(0);
        x.flags.sub(a, b, false);
        x.advance(insn, RDI, W::BYTES);
        Ok((1, goes_on(x, insn)))
    })
}

/// Leaves the guest for a port access, where ports are intercepted. A repeated one that has nothing left to do is none.
#[inline(always)]
fn intercept_port<W: Int>(x: &mut Exec<'_>, insn: &Insn, port: u16) -> Done {
    if x.intercepts().contains(Intercepts::IO) {
        return intercept_port_slow::<W>(x, insn, port);
    }
    Ok(())
}

#[cold]
fn intercept_port_slow<W: Int>(x: &mut Exec<'_>, insn: &Insn, port: u16) -> Done {
    let is_string = matches!(insn.op(), Op::Ins | Op::Outs);
    let is_in = matches!(insn.op(), Op::Ins | Op::In);
    let rep = insn.rep() || insn.repne();
    if is_string && rep && x.state.gpr[1] & Exec::address_mask(insn) == 0 {
        return Ok(());
    }
    let string = is_string.then(|| {
        let (segment, register) = if is_in {
            (State::ES, RDI)
        } else {
            (insn.segment(), RSI)
        };
        x.port_string(insn, segment, x.pointer(insn, register))
    });
    let access = PortAccess {
        port,
        width: port_width::<W>(),
        is_in,
        is_immediate: insn.a().is_imm() || insn.b().is_imm(),
        string,
    };
    x.intercept(Intercepts::IO, || Cause::Port(access))
}

fn port_width<W: Int>() -> Width {
    match W::BYTES {
        1 => Width::Byte,
        2 => Width::Word,
        _ => Width::Dword,
    }
}

/// The memory side is found to be writable before the port is read: a device access happens once.
fn ins<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let port = x.gpr::<u16>(2);
    x.check_port(port, W::BYTES)?;
    intercept_port::<W>(x, insn, port)?;
    repeat(x, insn, |x, _| {
        let to = x.element(insn, RDI, W::BYTES, true)?;
        x.probe_write(to, W::BYTES, State::ES)?;
        let value = W::truncate(u64::from(x.io.port_read(port, port_width::<W>())));
        x.store_at(to, State::ES, value)?;
        x.advance(insn, RDI, W::BYTES);
        Ok((1, true))
    })
}

fn outs<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let port = x.gpr::<u16>(2);
    x.check_port(port, W::BYTES)?;
    intercept_port::<W>(x, insn, port)?;
    repeat(x, insn, |x, _| {
        let from = x.element(insn, RSI, W::BYTES, false)?;
        let value: W = x.load_at(from, insn.segment())?;
        x.io.port_write(port, port_width::<W>(), value.zero_extend() as u32);
        x.advance(insn, RSI, W::BYTES);
        Ok((1, true))
    })
}

fn port_in<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let port = if insn.b().is_imm() {
        insn.immediate() as u16 & 0xff
    } else {
        x.gpr(2)
    };
    x.check_port(port, W::BYTES)?;
    intercept_port::<W>(x, insn, port)?;
    let value = x.io.port_read(port, port_width::<W>());
    x.set_gpr(0, W::truncate(u64::from(value)));
    Ok(())
}

fn port_out<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let port = if insn.a().is_imm() {
        insn.immediate() as u16 & 0xff
    } else {
        x.gpr(2)
    };
    x.check_port(port, W::BYTES)?;
    intercept_port::<W>(x, insn, port)?;
    let value = x.gpr::<W>(0).zero_extend() as u32;
    x.io.port_write(port, port_width::<W>(), value);
    Ok(())
}

impl Exec<'_> {
    /// Whether the guest may touch a port: by IOPL, or by the bitmap in the TSS (SDM volume 1, 18.5.2). #GP(0) where not.
    fn check_port(&mut self, port: u16, bytes: u64) -> Done {
        self.watch_port(port, bytes);
        if self.real_mode() || !self.vm86() && self.cpl <= self.iopl() {
            return Ok(());
        }
        let tss = *self.segment(State::TR);
        let kind = tss.rights & 0xf;
        let limit = u64::from(tss.limit);
        if kind != TSS32 && kind != TSS32_BUSY || limit < 103 {
            return Err(self.general_protection(0));
        }
        let map = u64::from(self.load_system::<u16>(tss.base.wrapping_add(102))?);
        let at = map + u64::from(port / 8);
        if at + 1 > limit {
            return Err(self.general_protection(0));
        }
        let bits = self.load_system::<u16>(tss.base.wrapping_add(at))?;
        let mask = (1 << bytes) - 1;
        if u64::from(bits) >> (port % 8) & mask != 0 {
            Err(self.general_protection(0))
        } else {
            Ok(())
        }
    }
}
