//! The run: the child's side, or the comparison on as many threads as the host has processors.

use crate::generate::Style;
use crate::rows::{Bench, Tally};
use crate::{child, host, sanity, undefined};
use std::process::ExitCode;

/// 32-bit code gets one of so many cases.
const LEGACY: usize = 3;
/// Sequences for each case of a row.
const SEQUENCES: usize = 100;
/// Cases of each row, where nothing else is said: a million in all.
const EACH: u64 = 1500;

pub(crate) fn run() -> ExitCode {
    if std::env::args().any(|argument| argument == child::ARGUMENT) {
        host::serve();
        return ExitCode::SUCCESS;
    }
    sanity::the_oracle_executes_and_reports();
    let (seed, each) = (number("--seed", 1), number("--each", EACH));
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let start = std::time::Instant::now();
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let share = each.div_ceil(threads) as usize;
        let run = |n| {
            scope.spawn(move || {
                let mut bench = Bench::new(seed.wrapping_mul(1000) + n);
                bench.compare_rows(Style::Long, share);
                bench.compare_rows(Style::Legacy, share / LEGACY);
                bench.compare_sequences(share * SEQUENCES);
                bench.tally
            })
        };
        let running: Vec<_> = (0..threads).map(run).collect();
        running
            .into_iter()
            .map(|thread| thread.join().expect("no thread panics"))
            .collect()
    });
    let cases: u64 = tallies.iter().map(|tally| tally.cases).sum();
    let rows = tallies.iter().map(|tally| tally.rows).max().unwrap_or(0);
    println!(
        "oracle: {cases} cases of {rows} rows in {:?}",
        start.elapsed()
    );
    undefined::print_skipped();
    let differences: Vec<_> = tallies
        .iter()
        .flat_map(|tally| &tally.differences)
        .collect();
    for (op, (count, first)) in &differences {
        println!("{op}: {count} cases differ, first\n  {first}");
    }
    if differences.is_empty() {
        ExitCode::SUCCESS
    } else {
        println!(
            "oracle: {} kinds differ; --seed {seed} repeats it",
            differences.len()
        );
        ExitCode::FAILURE
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    let mut arguments = std::env::args()
        .skip_while(|argument| argument != name)
        .skip(1);
    arguments
        .next()
        .and_then(|value| value.parse().ok())
        .unwrap_or(otherwise)
}
