//! The instruction table: what bytes mean, as data (SDM volume 2, appendix A, and each instruction's own page).
//!
//! One row is one encoding of one operation: where its opcode lies, under which prefixes and ModRM bytes it is meant, how
//! wide it is and which operands it has. The decoder reads the table forwards, the translator's encoder backwards, and the
//! tests walk it. Rows of one opcode are tried in their order, the first that fits is it; where none fits the bytes are
//! #UD. Not in the table: VEX and EVEX, AES, PCLMULQDQ, SHA, 3DNow!, SSE4a, VMX, SVM, SMX, BMI (so F3 0F BC is BSF and
//! F3 0F BD is BSR, as on every processor without it), MPX, CET, XSAVEC and XSAVES: CPUID offers none of them.

mod one_byte;
mod row;
mod sse;
mod three_byte;
mod two_byte;
mod x87;

use crate::cpu::Op;

pub use row::{Aux, Form, Map, Row, Width, allow, flag};

const LISTS: [&[Row]; 6] = [
    one_byte::ROWS,
    x87::ROWS,
    two_byte::ROWS,
    sse::ROWS,
    three_byte::ROWS_38,
    three_byte::ROWS_3A,
];

const COUNT: usize = {
    let mut count = 0;
    let mut list = 0;
    while list < LISTS.len() {
        count += LISTS[list].len();
        list += 1;
    }
    count
};

/// All rows.
pub static ROWS: [Row; COUNT] = ALL;

const ALL: [Row; COUNT] = {
    let mut rows = [LISTS[0][0]; COUNT];
    let (mut list, mut next) = (0, 0);
    while list < LISTS.len() {
        let mut row = 0;
        while row < LISTS[list].len() {
            rows[next] = LISTS[list][row];
            next += 1;
            row += 1;
        }
        list += 1;
    }
    rows
};

/// Where one opcode's rows stand in `ORDER`.
#[derive(Clone, Copy)]
struct Slot {
    first: u16,
    count: u16,
    modrm: bool,
}

const OPCODES: usize = 4 * 256;

/// How many (opcode, row) pairs there are: rows count once for each opcode that they span.
const PAIRS: usize = {
    let mut pairs = 0;
    let mut row = 0;
    while row < COUNT {
        pairs += ALL[row].span as usize;
        row += 1;
    }
    pairs
};

static SLOTS: [Slot; OPCODES] = INDEX.0;
static ORDER: [u16; PAIRS] = INDEX.1;

/// Sorts the rows by opcode, keeping their order within each: a counting sort.
const INDEX: ([Slot; OPCODES], [u16; PAIRS]) = {
    let empty = Slot {
        first: 0,
        count: 0,
        modrm: false,
    };
    let mut slots = [empty; OPCODES];
    let mut row = 0;
    while row < COUNT {
        let mut n = 0;
        while n < ALL[row].span as usize {
            let slot = &mut slots[ALL[row].first_slot() + n];
            slot.count += 1;
            slot.modrm |= ALL[row].has_modrm();
            n += 1;
        }
        row += 1;
    }
    let (mut next, mut first) = (0, 0);
    while next < OPCODES {
        slots[next].first = first;
        first += slots[next].count;
        slots[next].count = 0;
        next += 1;
    }
    let mut order = [0; PAIRS];
    row = 0;
    while row < COUNT {
        let mut n = 0;
        while n < ALL[row].span as usize {
            let slot = &mut slots[ALL[row].first_slot() + n];
            order[(slot.first + slot.count) as usize] = row as u16;
            slot.count += 1;
            n += 1;
        }
        row += 1;
    }
    (slots, order)
};

/// The rows of one opcode, in the order in which they are tried, as numbers into `ROWS`.
#[inline]
pub fn rows_of(map: Map, opcode: u8) -> &'static [u16] {
    let slot = &SLOTS[map as usize * 256 + opcode as usize];
    ORDER
        .get(slot.first as usize..(slot.first + slot.count) as usize)
        .unwrap_or(&[])
}

/// Whether a ModRM byte follows the opcode.
#[inline]
pub fn has_modrm(map: Map, opcode: u8) -> bool {
    SLOTS[map as usize * 256 + opcode as usize].modrm
}

const OPS: usize = Op::ALL.len();

/// The rows in the order of their operations, and where each operation's begin.
const BY_OP: ([u16; OPS + 1], [u16; COUNT]) = {
    let mut first = [0; OPS + 1];
    let mut row = 0;
    while row < COUNT {
        first[ALL[row].op as usize + 1] += 1;
        row += 1;
    }
    let mut op = 0;
    while op < OPS {
        first[op + 1] += first[op];
        op += 1;
    }
    let mut next = first;
    let mut order = [0; COUNT];
    row = 0;
    while row < COUNT {
        let place = &mut next[ALL[row].op as usize];
        order[*place as usize] = row as u16;
        *place += 1;
        row += 1;
    }
    (first, order)
};

static OP_FIRST: [u16; OPS + 1] = BY_OP.0;
static OP_ORDER: [u16; COUNT] = BY_OP.1;

/// The rows of one operation.
pub fn rows_of_op(op: Op) -> impl Iterator<Item = &'static Row> {
    let (first, end) = (OP_FIRST[op as usize], OP_FIRST[op as usize + 1]);
    OP_ORDER
        .get(first as usize..end as usize)
        .unwrap_or(&[])
        .iter()
        .filter_map(|number| ROWS.get(*number as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_under_each_of_its_opcodes() {
        for (number, row) in ROWS.iter().enumerate() {
            for opcode in row.opcode..=row.opcode + (row.span - 1) {
                assert!(
                    rows_of(row.map, opcode).contains(&(number as u16)),
                    "{row:?}"
                );
                assert_eq!(
                    rows_of(row.map, opcode)
                        .iter()
                        .any(|n| ROWS[usize::from(*n)].has_modrm()),
                    has_modrm(row.map, opcode),
                );
            }
        }
    }

    #[test]
    fn opcodes_either_always_have_a_modrm_byte_or_never() {
        for row in &ROWS {
            assert_eq!(row.has_modrm(), has_modrm(row.map, row.opcode), "{row:?}");
        }
    }

    #[test]
    fn every_operation_has_a_row() {
        for op in Op::ALL {
            assert_eq!(rows_of_op(*op).count() == 0, *op == Op::Ud, "{op:?}");
            assert!(rows_of_op(*op).all(|row| row.op == *op));
        }
        assert_eq!(
            Op::ALL
                .iter()
                .map(|op| rows_of_op(*op).count())
                .sum::<usize>(),
            COUNT
        );
    }
}
