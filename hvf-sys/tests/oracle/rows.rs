//! Every row of the instruction table, many times, on both.

use crate::child::Oracle;
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

/// Whether the host's user mode can execute the row.
fn runs_on_the_host(row: &Row) -> bool {
    row.allow & allow::LONG != 0
        && row.flags & flag::MODRM == 0
        && !jit::is_system(row.op)
        && host_has(row.op)
}

/// Operations of the x87 unit.
fn is_x87(op: Op) -> bool {
    (Op::Fadd..=Op::Fwait).contains(&op)
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

/// Runs `each` cases of every row from `seed`, on a child and an interpreter of its own.
pub(crate) fn compare_all(seed: u64, each: usize, x87: bool) -> Tally {
    let mut random = Random::new(seed);
    let (mut oracle, mut software) = (Oracle::start(), Software::new());
    let mut tally = Tally::default();
    for row in ROWS.iter().filter(|row| runs_on_the_host(row)) {
        if is_x87(row.op) && !x87 {
            continue;
        }
        let before = tally.cases;
        let mut left = each;
        while left > 0 {
            let size = left.min(BATCH);
            left -= size;
            let (cases, targets) = batch(row, &mut random, size);
            run(&cases, &targets, &mut oracle, &mut software, &mut tally);
        }
        tally.rows += usize::from(tally.cases > before);
        if tally.cases == before && !undefined::is_skipped(row.op) {
            let told = (0, "no case of it has an encoding".into());
            tally.differences.insert(format!("{row:?}"), told);
        }
    }
    tally
}

/// Runs `count` sequences of instructions of all rows that fit.
pub(crate) fn compare_sequences(seed: u64, count: usize, x87: bool) -> Tally {
    let mut random = Random::new(!seed);
    let (mut oracle, mut software) = (Oracle::start(), Software::new());
    let mut tally = Tally::default();
    let rows: Vec<&Row> = ROWS
        .iter()
        .filter(|row| runs_on_the_host(row) && generate::fits_sequences(row))
        .filter(|row| x87 || !is_x87(row.op))
        .collect();
    tally.rows = rows.len();
    let mut left = count;
    while left > 0 {
        let size = left.min(BATCH);
        left -= size;
        let cases: Vec<Case> = (0..size)
            .map(|n| generate::sequence(&rows, &mut random, n))
            .collect();
        run(
            &cases,
            &vec![0; size],
            &mut oracle,
            &mut software,
            &mut tally,
        );
    }
    tally
}

fn batch(row: &Row, random: &mut Random, size: usize) -> (Vec<Case>, Vec<u64>) {
    let (mut cases, mut targets) = (vec![], vec![]);
    for _ in 0..size {
        if let Some((case, target)) = generate::case(row, random, cases.len()) {
            cases.push(case);
            targets.push(target);
        }
    }
    (cases, targets)
}

fn run(
    cases: &[Case],
    targets: &[u64],
    oracle: &mut Oracle,
    software: &mut Software,
    tally: &mut Tally,
) {
    let (theirs, ours) = (oracle.run(cases), software.run(cases));
    for (n, case) in cases.iter().enumerate() {
        tally.cases += 1;
        let Some(difference) = compare::difference(case, targets[n], &theirs[n], &ours[n]) else {
            continue;
        };
        let kind = match case.insns.as_slice() {
            [insn] => format!("{:?}", insn.op()),
            _ => "a sequence".into(),
        };
        let entry = tally.differences.entry(kind);
        let told = || {
            (
                0,
                format!("{:?}: {difference}\n    {}", case.insns, start(case)),
            )
        };
        let (count, _) = entry.or_insert_with(told);
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
