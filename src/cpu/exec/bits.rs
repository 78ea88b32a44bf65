//! Bit tests and scans, POPCNT, BSWAP, CRC32, RDRAND and RDSEED.

use hvf_sys::cpu::{Insn, Op};

use super::super::core::{Done, Exec, Trap};
use super::super::int::Int;
use super::{Handler, by_word};
use crate::x86::control::rflags::{ARITHMETIC, CF, ZF};

pub(super) fn select(insn: &Insn) -> Handler {
    match insn.op() {
        Op::Bt => by_word!(insn, bt),
        Op::Bts | Op::Btr | Op::Btc => by_word!(insn, bit_change),
        Op::Bsf => by_word!(insn, bsf),
        Op::Bsr => by_word!(insn, bsr),
        Op::Popcnt => by_word!(insn, popcnt),
        Op::Bswap => bswap,
        Op::Crc32 => crc32,
        _ => by_word!(insn, random),
    }
}

/// Where the tested bit is: in a register, or in the word of memory that a bit string reaches.
enum Place {
    Register,
    Memory(u64),
}

/// The place and the number of the bit. A bit offset in a register reaches any word of memory around the operand,
/// an immediate one only the operand itself (SDM volume 2, BT).
fn place<W: Int>(x: &mut Exec<'_>, insn: &Insn, write: bool) -> Result<(Place, u32), Trap> {
    let by_register = !insn.b().is_imm();
    let offset = if by_register {
        x.read_register::<W>(insn.b()).sign_extend()
    } else {
        insn.immediate()
    };
    let bit = (offset % u64::from(W::BITS)) as u32;
    if !insn.a().is_mem() {
        return Ok((Place::Register, bit));
    }
    let words = if by_register {
        (offset as i64 >> W::BITS.trailing_zeros()) as u64
    } else {
        0
    };
    let offset = x.offset(insn).wrapping_add(words.wrapping_mul(W::BYTES));
    let offset = match insn.address_size() {
        2 => offset & 0xffff,
        4 => offset & 0xffff_ffff,
        _ => offset,
    };
    let la = x.linear_in(insn.segment(), offset, W::BYTES, write)?;
    Ok((Place::Memory(la), bit))
}

fn bt<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let (place, bit) = place::<W>(x, insn, false)?;
    let value: W = match place {
        Place::Register => x.read_register(insn.a()),
        Place::Memory(la) => x.load_at(la, insn.segment())?,
    };
    x.flags.set_carry(value.zero_extend() >> bit & 1 != 0);
    Ok(())
}

fn bit_change<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let (place, bit) = place::<W>(x, insn, true)?;
    let mask = W::from_bool(true) << bit;
    let change = |value: W| match insn.op() {
        Op::Bts => value | mask,
        Op::Btr => value & !mask,
        _ => value ^ mask,
    };
    let old: W = match place {
        Place::Register => {
            let old = x.read_register(insn.a());
            x.write_register(insn.a(), change(old));
            old
        }
        Place::Memory(la) => x.update_at(la, insn.segment(), insn.lock(), change)?,
    };
    x.flags.set_carry(old & mask != W::default());
    Ok(())
}

/// Of a source of zero, ZF is set and the destination stays as it was, as on Intel's processors.
fn bsf<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let source: W = x.read(insn, insn.b())?;
    if source != W::default() {
        x.set_gpr(
            insn.a().low_bits(),
            W::truncate(u64::from(source.zero_extend().trailing_zeros())),
        );
    }
    x.flags
        .assign(ZF, if source == W::default() { ZF } else { 0 });
    Ok(())
}

fn bsr<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let source: W = x.read(insn, insn.b())?;
    if source != W::default() {
        x.set_gpr(
            insn.a().low_bits(),
            W::truncate(u64::from(63 - source.zero_extend().leading_zeros())),
        );
    }
    x.flags
        .assign(ZF, if source == W::default() { ZF } else { 0 });
    Ok(())
}

fn popcnt<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let source: W = x.read(insn, insn.b())?;
    x.set_gpr(
        insn.a().low_bits(),
        W::truncate(u64::from(source.zero_extend().count_ones())),
    );
    x.flags
        .assign(ARITHMETIC, if source == W::default() { ZF } else { 0 });
    Ok(())
}

/// The 16-bit form is undefined; Intel's processors give zero.
fn bswap(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let n = insn.a().low_bits();
    let x = &mut x.core;
    match insn.width() {
        8 => x.set_gpr(n, x.gpr::<u64>(n).swap_bytes()),
        4 => x.set_gpr(n, x.gpr::<u32>(n).swap_bytes()),
        _ => x.set_gpr(n, 0u16),
    }
    Ok(())
}

/// CRC-32C (polynomial 0x1EDC6F41, reflected) of 1, 2, 4 or 8 bytes.
fn crc32(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let (source, bytes) = match insn.aux() {
        1 => (x.read::<u8>(insn, insn.b())?.zero_extend(), 1),
        2 => (x.read::<u16>(insn, insn.b())?.zero_extend(), 2),
        4 => (x.read::<u32>(insn, insn.b())?.zero_extend(), 4),
        _ => (x.read::<u64>(insn, insn.b())?, 8),
    };
    let mut sum = x.gpr::<u32>(insn.a().low_bits());
    for byte in source.to_le_bytes().into_iter().take(bytes) {
        sum = CRC32C[usize::from(sum as u8 ^ byte)] ^ sum >> 8;
    }
    x.set_gpr(insn.a().low_bits(), sum);
    Ok(())
}

const CRC32C: [u32; 256] = {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let mut sum = n as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = sum >> 1 ^ if sum & 1 != 0 { 0x82f6_3b78 } else { 0 };
            bit += 1;
        }
        table[n] = sum;
        n += 1;
    }
    table
};

/// RDRAND and RDSEED: the host's entropy. CF says that there was some.
fn random<W: Int>(x: &mut Exec<'_>, insn: &Insn) -> Done {
    let mut bytes = [0; 8];
    let found = hvf_sys::random::fill(&mut bytes).is_ok();
    x.set_gpr(insn.a().low_bits(), W::truncate(u64::from_le_bytes(bytes)));
    x.flags.assign(ARITHMETIC, if found { CF } else { 0 });
    Ok(())
}
