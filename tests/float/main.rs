//! The reference floating point against the processor's own, bit for bit and flag for flag.
//!
//! Operands are random but biased to where the rules change: special encodings, the ends of the exponent's range,
//! near exponents, significands with long runs, near ties. Every case draws a rounding mode, and precision control
//! or DAZ and FTZ. Exceptions are masked on the SSE side; on the x87 side they are masked or not at random.

#![cfg(target_arch = "x86_64")]

mod operands;
mod sse;
mod transcendental;
mod x87;

use operands::Random;

/// Counts cases and differences of one operation, and prints the first few differences.
struct Tally {
    name: String,
    cases: u32,
    differences: u32,
}

impl Tally {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            cases: 0,
            differences: 0,
        }
    }

    /// Counts a case; `detail` is asked for only if it differs.
    fn expect(&mut self, same: bool, detail: impl FnOnce() -> String) {
        const SHOWN: u32 = 5;
        self.cases += 1;
        if same {
            return;
        }
        self.differences += 1;
        if self.differences <= SHOWN {
            println!("{}: {}", self.name, detail());
        }
    }
}

/// Operations in which processors of other makers differ from Intel's, whose manual we follow: which of several NaNs a dot
/// product gives, partial remainders, and the exceptions of inexact functions.
const INTELS_OWN: [&str; 11] = [
    "Scale", "Prem", "Prem1", "F2xm1", "Yl2x", "Yl2xp1", "Patan", "Ptan", "Sin", "Cos", "SinCos",
];

fn is_intels_own(name: &str) -> bool {
    INTELS_OWN.contains(&name) || name.starts_with("dpp")
}

/// Whether the host's processor is Intel's. A host that does not tell in this way is a Mac, whose x86 processors all are.
fn by_intel() -> bool {
    std::fs::read_to_string("/proc/cpuinfo").map_or(true, |it| it.contains("GenuineIntel"))
}

/// Fails if there is any difference, or fewer cases than `least`.
fn settle(tallies: &[Tally], least: u32) {
    let mut cases = 0;
    let mut bad = Vec::new();
    for tally in tallies {
        cases += tally.cases;
        if tally.differences != 0 && is_intels_own(&tally.name) && !by_intel() {
            println!(
                "skipped: {}: this processor is not Intel's and differs from it ({} of {})",
                tally.name, tally.differences, tally.cases
            );
        } else if tally.differences != 0 {
            bad.push(format!(
                "{} ({} of {})",
                tally.name, tally.differences, tally.cases
            ));
        }
    }
    println!("{cases} cases");
    assert!(bad.is_empty(), "differences in: {}", bad.join(", "));
    assert!(cases >= least, "only {cases} cases");
}
