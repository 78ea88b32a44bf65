//! Every row of the instruction table, many times, on both.

use crate::child::Oracle;
use crate::generate::Style;
use crate::place::BATCH;
use crate::random::Random;
use crate::software::Software;
use crate::wire::Case;
use crate::{compare, generate, undefined};
use hvf_sys::cpu::Op;
use hvf_sys::cpu::table::{ROWS, Row, allow, flag};
use hvf_sys::jit;
use std::collections::BTreeMap;

/// How one run went.
#[derive(Default)]
pub(crate) struct Tally {
    /// Cases that were compared.
    pub(crate) cases: u64,
    /// Rows of which at least one case was.
    pub(crate) rows: usize,
    /// How many cases of each operation differed, and the first one in words.
    pub(crate) differences: BTreeMap<String, (u64, String)>,
}

/// Instructions that not every x86-64 host has.
fn host_has(op: Op) -> bool {
    match op {
        Op::Movbe => is_x86_feature_detected!("movbe"),
        Op::Popcnt => is_x86_feature_detected!("popcnt"),
        Op::Crc32 => is_x86_feature_detected!("sse4.2"),
        // Their bits are in leaf 7; where RDSEED is, they are, on Intel's processors since 2017.
        Op::Clwb | Op::Clflushopt => {
            is_x86_feature_detected!("rdseed") && is_x86_feature_detected!("avx512f")
        }
        _ => is_x86_feature_detected!("sse4.2"),
    }
}

/// One run: a child and an interpreter of its own, and what came of it.
pub(crate) struct Bench {
    random: Random,
    oracle: Oracle,
    software: Software,
    pub(crate) tally: Tally,
}

impl Bench {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            oracle: Oracle::start(),
            software: Software::new(),
            tally: Tally::default(),
        }
    }

    /// Compares `each` cases of every row, in the style's mode.
    pub(crate) fn compare_rows(&mut self, style: Style, each: usize) {
        for row in rows(style) {
            let before = self.tally.cases;
            let mut left = each;
            while left > 0 {
                let size = left.min(BATCH);
                left -= size;
                let (cases, targets) = batch(row, style, &mut self.random, size);
                self.run(&cases, &targets);
            }
            self.tally.rows += usize::from(self.tally.cases > before);
            if self.tally.cases == before && !undefined::is_skipped(row.op) {
                let told = (0, "no case of it has an encoding".into());
                self.tally.differences.insert(format!("{row:?}"), told);
            }
        }
    }

    /// Compares `count` sequences of instructions of all rows that fit.
    pub(crate) fn compare_sequences(&mut self, count: usize) {
        let mut rows = rows(Style::Sequence);
        rows.retain(|row| generate::fits_sequences(row));
        let mut left = count;
        while left > 0 {
            let size = left.min(BATCH);
            left -= size;
            let cases = (0..size).map(|n| generate::sequence(&rows, &mut self.random, n));
            let cases: Vec<Case> = cases.collect();
            self.run(&cases, &vec![0; size]);
        }
    }

    fn run(&mut self, cases: &[Case], targets: &[u64]) {
        let (theirs, ours) = (self.oracle.run(cases), self.software.run(cases));
        for (n, case) in cases.iter().enumerate() {
            self.tally.cases += 1;
            if let Some(text) = compare::difference(case, targets[n], &theirs[n], &ours[n]) {
                self.tally.note(case, &text);
            }
        }
    }
}

/// The rows that the host's user mode can execute.
fn rows(style: Style) -> Vec<&'static Row> {
    let mode = if style == Style::Legacy {
        allow::LEGACY | allow::W0
    } else {
        allow::LONG
    };
    let runs = |row: &&Row| {
        row.allow & mode == mode
            && row.flags & flag::MODRM == 0
            && !jit::is_system(row.op)
            && host_has(row.op)
    };
    ROWS.iter().filter(runs).collect()
}

fn batch(row: &Row, style: Style, random: &mut Random, size: usize) -> (Vec<Case>, Vec<u64>) {
    let mut all = vec![];
    for _ in 0..size {
        all.extend(generate::case(row, style, random, all.len()));
    }
    all.into_iter().unzip()
}

impl Tally {
    fn note(&mut self, case: &Case, difference: &str) {
        let mode = if case.long() { "" } else { " in 32-bit code" };
        let kind = match case.insns.as_slice() {
            [insn] => format!("{:?}{mode}", insn.op()),
            _ => "a sequence".into(),
        };
        let told = || {
            (
                0,
                format!("{:?}: {difference}\n    {}", case.insns, start(case)),
            )
        };
        let (count, _) = self.differences.entry(kind).or_insert_with(told);
        *count += 1;
    }
}

/// The state in which a case starts, briefly.
fn start(case: &Case) -> String {
    let state = &case.state;
    let fpu = &state.fpu;
    format!(
        "gpr {:x?} rflags {:x} mxcsr {:x} fcw {:x} fsw {:x} top {} valid {:x}",
        state.gpr, state.rflags, state.mxcsr, fpu.control, fpu.status, fpu.top, fpu.valid
    )
}
