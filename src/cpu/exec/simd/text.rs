//! SSE4.2 string comparisons: PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM (SDM volume 2, section 4.1).

use hvf_sys::cpu::{Insn, Op};

use super::super::super::core::{Done, Exec};
use super::super::Handler;
use super::to_words;
use crate::x86::control::rflags::{ARITHMETIC, CF, OF, SF, ZF};

pub(super) fn select(insn: &Insn) -> Option<Handler> {
    matches!(
        insn.op(),
        Op::Pcmpestri | Op::Pcmpestrm | Op::Pcmpistri | Op::Pcmpistrm
    )
    .then_some(compare as Handler)
}

/// A string: its elements, and how many of them are valid.
struct Text {
    elements: [i32; 16],
    len: usize,
}

/// How many elements, by the immediate's bit 0: 16 bytes or 8 words.
fn count(immediate: u8) -> usize {
    if immediate & 1 != 0 { 8 } else { 16 }
}

fn elements(value: u128, immediate: u8) -> [i32; 16] {
    let mut elements = [0; 16];
    match immediate & 3 {
        0 => elements
            .iter_mut()
            .zip(value.to_le_bytes())
            .for_each(|(e, b)| *e = i32::from(b)),
        2 => elements
            .iter_mut()
            .zip(value.to_le_bytes())
            .for_each(|(e, b)| *e = i32::from(b as i8)),
        1 => elements
            .iter_mut()
            .zip(to_words(value))
            .for_each(|(e, w)| *e = i32::from(w)),
        _ => elements
            .iter_mut()
            .zip(to_words(value))
            .for_each(|(e, w)| *e = i32::from(w as i16)),
    }
    elements
}

/// The explicit length in a register: its absolute value, at most all elements. REX.W makes it 64 bits.
fn explicit_length(register: u64, wide: bool, count: usize) -> usize {
    let magnitude = if wide {
        (register as i64).unsigned_abs()
    } else {
        u64::from((register as i32).unsigned_abs())
    };
    magnitude.min(count as u64) as usize
}

fn compare(x: &mut Exec<'_>, insn: &Insn) -> Done {
    x.check_sse()?;
    let b = if insn.b().is_mem() {
        x.load(insn)?
    } else {
        x.xmm(insn.b().low_bits())
    };
    let a = x.xmm(insn.a().low_bits());
    let immediate = insn.immediate() as u8;
    let count = count(immediate);
    let (a, b) = (elements(a, immediate), elements(b, immediate));
    let explicit = matches!(insn.op(), Op::Pcmpestri | Op::Pcmpestrm);
    let implicit = |e: &[i32; 16]| e.iter().take(count).position(|&e| e == 0).unwrap_or(count);
    let (a_len, b_len) = if explicit {
        let wide = insn.aux() == 8;
        (
            explicit_length(x.state.gpr[0], wide, count),
            explicit_length(x.state.gpr[2], wide, count),
        )
    } else {
        (implicit(&a), implicit(&b))
    };
    let (a, b) = (
        Text {
            elements: a,
            len: a_len,
        },
        Text {
            elements: b,
            len: b_len,
        },
    );
    let found = polarity(aggregate(&a, &b, immediate, count), b.len, immediate, count);
    if matches!(insn.op(), Op::Pcmpestri | Op::Pcmpistri) {
        let index = match (found, immediate & 0x40 != 0) {
            (0, _) => count as u32,
            (_, true) => 31 - found.leading_zeros(),
            (_, false) => found.trailing_zeros(),
        };
        x.set_gpr(1, index);
    } else {
        x.set_xmm(0, mask(found, immediate, count));
    }
    let bit = |set: bool, flag: u64| if set { flag } else { 0 };
    let flags = bit(found != 0, CF)
        | bit(b.len < count, ZF)
        | bit(a.len < count, SF)
        | bit(found & 1 != 0, OF);
    x.flags.assign(ARITHMETIC, flags);
    Ok(())
}

/// One bit for each element of the second string. What an invalid element compares as depends on the aggregation
/// (SDM volume 2, table 4-6).
fn aggregate(a: &Text, b: &Text, immediate: u8, count: usize) -> u32 {
    let valid = |j: usize, i: usize| (j < a.len, i < b.len);
    let bit = |i: usize, set: bool| u32::from(set) << i;
    match immediate >> 2 & 3 {
        // Equal any: the element is in the set.
        0 => (0..count).fold(0, |sum, i| {
            sum | bit(
                i,
                i < b.len && a.elements.iter().take(a.len).any(|&e| e == b.elements[i]),
            )
        }),
        // Ranges: the element lies between a pair of bounds.
        1 => (0..count).fold(0, |sum, i| {
            let inside = |pair: usize| {
                let (low, high) = (2 * pair, 2 * pair + 1);
                high < a.len
                    && a.elements[low] <= b.elements[i]
                    && b.elements[i] <= a.elements[high]
            };
            sum | bit(i, i < b.len && (0..count / 2).any(inside))
        }),
        // Equal each: the elements at the same place, or both beyond their ends.
        2 => (0..count).fold(0, |sum, i| {
            let equal = match valid(i, i) {
                (true, true) => a.elements[i] == b.elements[i],
                (false, false) => true,
                _ => false,
            };
            sum | bit(i, equal)
        }),
        // Equal ordered: the first string begins here, as far as the second one is seen.
        _ => (0..count).fold(0, |sum, i| {
            let matches = (0..count - i).all(|j| match valid(j, i + j) {
                (false, _) => true,
                (true, false) => false,
                (true, true) => a.elements[j] == b.elements[i + j],
            });
            sum | bit(i, matches)
        }),
    }
}

/// Negates the bits, all of them or those of valid elements.
fn polarity(found: u32, b_len: usize, immediate: u8, count: usize) -> u32 {
    let all = (1u32 << count) - 1;
    match immediate >> 4 & 3 {
        1 => !found & all,
        3 => found ^ ((1u32 << b_len) - 1),
        _ => found,
    }
}

/// The bits as they are, or each widened to an element.
fn mask(found: u32, immediate: u8, count: usize) -> u128 {
    if immediate & 0x40 == 0 {
        return u128::from(found);
    }
    let size = 128 / count;
    let element = u128::MAX >> (128 - size);
    (0..count)
        .filter(|n| found >> n & 1 != 0)
        .fold(0, |sum, n| sum | element << (n * size))
}
