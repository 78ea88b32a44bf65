//! Moves between SSE, MMX and general registers and memory.

use hvf_sys::cpu::{Insn, Op, Operand, State};

use super::super::super::core::{Done, Exec};
use super::super::Handler;
use super::{from_dwords, from_qwords, to_dwords};

const LOW: u128 = u64::MAX as u128;

pub(super) fn select(insn: &Insn) -> Option<Handler> {
    let store = insn.a().is_mem();
    Some(match insn.op() {
        Op::Movdqa | Op::Movaps | Op::Movapd if store => |x, i| x.store_whole(i, true),
        Op::Movdqa | Op::Movaps | Op::Movapd => |x, i| x.move_whole(i, true),
        Op::Movntdq | Op::Movntps | Op::Movntpd => |x, i| x.store_whole(i, true),
        Op::Movdqu | Op::Movups | Op::Movupd if store => |x, i| x.store_whole(i, false),
        Op::Movdqu | Op::Movups | Op::Movupd | Op::Lddqu => |x, i| x.move_whole(i, false),
        Op::Movntdqa => |x, i| x.move_whole(i, true),
        Op::Movss => scalar::<32>,
        Op::Movsd => scalar::<64>,
        Op::Movlps | Op::Movlpd => low_half,
        Op::Movhps | Op::Movhpd => high_half,
        Op::Movhlps | Op::Movlhps | Op::Movsldup | Op::Movshdup => rearrange,
        Op::Movddup => movddup,
        Op::Movd => movd,
        Op::Movq => movq,
        Op::Movntq => movq,
        Op::Movq2dq | Op::Movdq2q => between_files,
        Op::Maskmovq | Op::Maskmovdqu => masked_store,
        Op::Pextrb | Op::Pextrw | Op::Pextrd | Op::Pextrq | Op::Extractps => extract,
        Op::Pinsrb | Op::Pinsrw | Op::Pinsrd | Op::Pinsrq => insert,
        Op::Insertps => insertps,
        _ => return None,
    })
}

impl Exec<'_> {
    fn move_whole(&mut self, insn: &Insn, aligned: bool) -> Done {
        self.check_sse()?;
        let value = match (insn.b().is_mem(), aligned) {
            (false, _) => self.xmm(insn.b().low_bits()),
            (true, true) => self.load_aligned(insn)?,
            (true, false) => self.load(insn)?,
        };
        self.set_xmm(insn.a().low_bits(), value);
        Ok(())
    }

    fn store_whole(&mut self, insn: &Insn, aligned: bool) -> Done {
        self.check_sse()?;
        let value = self.xmm(insn.b().low_bits());
        if aligned {
            self.store_aligned(insn, value)
        } else {
            self.store(insn, value)
        }
    }
}

/// MOVSS and MOVSD: a load clears the rest of the register, a move between registers keeps it.
fn scalar<const BITS: u32>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.check_sse()?;
    let mask = u128::MAX >> (128 - BITS);
    if insn.a().is_mem() {
        let value = x.xmm(insn.b().low_bits());
        return if BITS == 32 {
            x.store(insn, value as u32)
        } else {
            x.store(insn, value as u64)
        };
    }
    let n = insn.a().low_bits();
    let value = if !insn.b().is_mem() {
        x.xmm(n) & !mask | x.xmm(insn.b().low_bits()) & mask
    } else if BITS == 32 {
        u128::from(x.load::<u32>(insn)?)
    } else {
        u128::from(x.load::<u64>(insn)?)
    };
    x.set_xmm(n, value);
    Ok(())
}

fn low_half(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.check_sse()?;
    if insn.a().is_mem() {
        let value = x.xmm(insn.b().low_bits()) as u64;
        return x.store(insn, value);
    }
    let value: u64 = x.load(insn)?;
    let n = insn.a().low_bits();
    let merged = x.xmm(n) & !LOW | u128::from(value);
    x.set_xmm(n, merged);
    Ok(())
}

fn high_half(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.check_sse()?;
    if insn.a().is_mem() {
        let value = (x.xmm(insn.b().low_bits()) >> 64) as u64;
        return x.store(insn, value);
    }
    let value: u64 = x.load(insn)?;
    let n = insn.a().low_bits();
    let merged = x.xmm(n) & LOW | u128::from(value) << 64;
    x.set_xmm(n, merged);
    Ok(())
}

fn rearrange(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.check_sse()?;
    let n = insn.a().low_bits();
    let b = x.xmm_source(insn)?;
    let (a, d) = (x.xmm(n), to_dwords(b));
    let result = match insn.op() {
        Op::Movhlps => a & !LOW | b >> 64,
        Op::Movlhps => a & LOW | b << 64,
        Op::Movsldup => from_dwords([d[0], d[0], d[2], d[2]]),
        _ => from_dwords([d[1], d[1], d[3], d[3]]),
    };
    x.set_xmm(n, result);
    Ok(())
}

fn movddup(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.check_sse()?;
    let low: u64 = x.xmm_part(insn)?;
    x.set_xmm(insn.a().low_bits(), from_qwords(low, low));
    Ok(())
}

/// Whether an operand is an MMX register.
fn is_mm(operand: Operand) -> bool {
    matches!(operand.as_reg(), Some(hvf_sys::cpu::Reg::Mm(_)))
}

impl Exec<'_> {
    /// Checks and prepares the register file that a move uses.
    fn begin_move(&mut self, mmx: bool) -> Done {
        if mmx {
            self.begin_mmx()
        } else {
            self.check_sse()
        }
    }
}

/// MOVD and MOVQ between a vector register and a general one or memory.
fn movd(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let (a, b) = (insn.a(), insn.b());
    let mmx = is_mm(a) || is_mm(b);
    x.begin_move(mmx)?;
    if is_mm(a) || a.is_xmm() {
        let value = if insn.width() == 8 {
            x.read::<u64>(insn, b)?
        } else {
            u64::from(x.read::<u32>(insn, b)?)
        };
        if mmx {
            x.commit_mmx();
            x.set_mm(a.number(), value);
        } else {
            x.set_xmm(a.low_bits(), u128::from(value));
        }
        return Ok(());
    }
    let value = if mmx {
        x.mm(b.number())
    } else {
        x.xmm(b.low_bits()) as u64
    };
    if insn.width() == 8 {
        x.write(insn, a, value)?;
    } else {
        x.write(insn, a, value as u32)?;
    }
    if mmx {
        x.commit_mmx();
    }
    Ok(())
}

/// MOVQ between vector registers, or with memory; also MOVNTQ.
fn movq(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let (a, b) = (insn.a(), insn.b());
    let mmx = is_mm(a) || is_mm(b);
    x.begin_move(mmx)?;
    let value: u64 = if b.is_mem() {
        x.load(insn)?
    } else if mmx {
        x.mm(b.number())
    } else {
        x.xmm(b.low_bits()) as u64
    };
    if a.is_mem() {
        x.store(insn, value)?;
    } else if !mmx {
        x.set_xmm(a.low_bits(), u128::from(value));
    }
    if mmx {
        x.commit_mmx();
        if !a.is_mem() {
            x.set_mm(a.number(), value);
        }
    }
    Ok(())
}

fn between_files(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.check_sse()?;
    x.begin_mmx()?;
    x.commit_mmx();
    if insn.op() == Op::Movq2dq {
        let value = u128::from(x.mm(insn.b().number()));
        x.set_xmm(insn.a().low_bits(), value);
    } else {
        let value = x.xmm(insn.b().low_bits()) as u64;
        x.set_mm(insn.a().number(), value);
    }
    Ok(())
}

/// Stores the bytes of the first operand whose mask byte has its top bit set, at RDI.
fn masked_store(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let mmx = insn.op() == Op::Maskmovq;
    x.begin_move(mmx)?;
    let (data, mask, len) = if mmx {
        (
            u128::from(x.mm(insn.a().number())),
            u128::from(x.mm(insn.b().number())),
            8,
        )
    } else {
        (x.xmm(insn.a().low_bits()), x.xmm(insn.b().low_bits()), 16)
    };
    let rdi = x.state.gpr[7];
    let offset = match insn.address_size() {
        2 => rdi & 0xffff,
        4 => rdi & 0xffff_ffff,
        _ => rdi,
    };
    let segment = if insn.segment() > 5 {
        State::DS
    } else {
        insn.segment()
    };
    let la = x.linear_in(segment, offset, len, true)?;
    let chosen = |n: u64| mask >> (8 * n + 7) & 1 != 0;
    for n in (0..len).filter(|&n| chosen(n)) {
        x.probe_write(la.wrapping_add(n), 1, segment)?;
    }
    for n in (0..len).filter(|&n| chosen(n)) {
        x.store_at(la.wrapping_add(n), segment, (data >> (8 * n)) as u8)?;
    }
    if mmx {
        x.commit_mmx();
    }
    Ok(())
}

/// The size in bits of the element that an instruction extracts or inserts.
fn element(op: Op) -> u32 {
    match op {
        Op::Pextrb | Op::Pinsrb => 8,
        Op::Pextrw | Op::Pinsrw => 16,
        Op::Pextrq | Op::Pinsrq => 64,
        _ => 32,
    }
}

fn extract(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let mmx = is_mm(insn.b());
    x.begin_move(mmx)?;
    let (source, bits) = if mmx {
        (u128::from(x.mm(insn.b().number())), 64)
    } else {
        (x.xmm(insn.b().low_bits()), 128)
    };
    let size = element(insn.op());
    let n = insn.immediate() as u32 % (bits / size);
    let value = (source >> (n * size)) as u64 & (u64::MAX >> (64 - size));
    match (insn.a().is_mem(), size) {
        (true, 8) => x.store(insn, value as u8)?,
        (true, 16) => x.store(insn, value as u16)?,
        (true, 32) => x.store(insn, value as u32)?,
        (true, _) => x.store(insn, value)?,
        (false, _) => x.set_gpr(insn.a().low_bits(), value),
    }
    if mmx {
        x.commit_mmx();
    }
    Ok(())
}

fn insert(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let mmx = is_mm(insn.a());
    x.begin_move(mmx)?;
    let size = element(insn.op());
    let value = match size {
        8 if insn.b().is_mem() => u64::from(x.load::<u8>(insn)?),
        16 if insn.b().is_mem() => u64::from(x.load::<u16>(insn)?),
        32 if insn.b().is_mem() => u64::from(x.load::<u32>(insn)?),
        _ => x.read(insn, insn.b())?,
    };
    let place = |old: u128, bits: u32| {
        let shift = insn.immediate() as u32 % (bits / size) * size;
        let mask = u128::from(u64::MAX >> (64 - size));
        old & !(mask << shift) | (u128::from(value) & mask) << shift
    };
    if mmx {
        x.commit_mmx();
        let n = insn.a().number();
        let merged = place(u128::from(x.mm(n)), 64) as u64;
        x.set_mm(n, merged);
    } else {
        let n = insn.a().low_bits();
        let merged = place(x.xmm(n), 128);
        x.set_xmm(n, merged);
    }
    Ok(())
}

fn insertps(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.check_sse()?;
    let immediate = insn.immediate();
    let value = if insn.b().is_mem() {
        x.load::<u32>(insn)?
    } else {
        to_dwords(x.xmm(insn.b().low_bits()))[immediate as usize >> 6 & 3]
    };
    let n = insn.a().low_bits();
    let mut lanes = to_dwords(x.xmm(n));
    lanes[immediate as usize >> 4 & 3] = value;
    for (lane, dword) in lanes.iter_mut().enumerate() {
        if immediate >> lane & 1 != 0 {
            *dword = 0;
        }
    }
    x.set_xmm(n, from_dwords(lanes));
    Ok(())
}
