//! The parent's end of the pipe.

use crate::place::BATCH;
use crate::wire::{self, Case, Outcome};
use std::io::{BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The argument that makes this program the child.
pub(crate) const ARGUMENT: &str = "--serve-as-the-oracle";

/// A running oracle.
pub(crate) struct Oracle {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Oracle {
    pub(crate) fn start() -> Self {
        let program = std::env::current_exe().expect("the test program's own path");
        let mut child = Command::new(program)
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the oracle starts");
        let output = child.stdout.take().expect("a pipe");
        Self {
            input: child.stdin.take(),
            output: BufReader::with_capacity(1 << 20, output),
            child,
        }
    }

    /// Runs a batch of at most `BATCH` cases.
    pub(crate) fn run(&mut self, cases: &[Case]) -> Vec<Outcome> {
        assert!(cases.len() <= BATCH);
        let mut bytes = (cases.len() as u64).to_le_bytes().to_vec();
        for case in cases {
            wire::write_case(&mut bytes, case).expect("memory takes everything");
        }
        let input = self.input.as_mut().expect("the oracle listens");
        input.write_all(&bytes).expect("the oracle reads");
        let outcomes = cases
            .iter()
            .map(|case| match wire::read_outcome(&mut self.output) {
                Ok(outcome) => outcome,
                Err(error) => panic!("the oracle died ({error}) in the batch of {:?}", case.insns),
            });
        outcomes.collect()
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // End of input ends the child.
        self.input = None;
        let _ = self.child.wait();
    }
}
