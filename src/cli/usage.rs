//! What is wrong with a command line.

use std::fmt;

/// One sentence, without the program's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Usage(pub(super) String);

impl Usage {
    /// A flag has a value that it cannot have.
    pub(super) fn value(flag: &str, value: &str, wanted: &str) -> Self {
        Self(format!("{flag} '{value}' is not possible; give {wanted}"))
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
