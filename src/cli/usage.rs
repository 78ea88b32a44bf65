//! What is wrong with a command line.

use std::fmt;

/// One sentence, without the program's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Usage {
    /// It says all itself.
    Sentence(String),
    /// A flag has a value that it cannot have.
    Value {
        /// The flag, or the variable of the environment that stood for it.
        culprit: String,
        value: String,
        /// What would have been possible.
        wanted: String,
    },
}

impl Usage {
    /// A sentence.
    pub(super) fn new(sentence: impl Into<String>) -> Self {
        Self::Sentence(sentence.into())
    }

    /// A flag, written as it is typed, has a value that it cannot have.
    pub(super) fn value(flag: &str, value: &str, wanted: &str) -> Self {
        Self::Value {
            culprit: flag.to_owned(),
            value: value.to_owned(),
            wanted: wanted.to_owned(),
        }
    }

    /// The same, said of what stood for the flag: `culprits` gives it for a flag's name.
    pub(super) fn blaming(self, culprits: impl Fn(&str) -> Option<&'static str>) -> Self {
        match self {
            Self::Value {
                culprit,
                value,
                wanted,
            } => {
                let stood = culprit.strip_prefix("--").and_then(culprits);
                Self::Value {
                    culprit: stood.map_or(culprit, str::to_owned),
                    value,
                    wanted,
                }
            }
            sentence => sentence,
        }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sentence(sentence) => f.write_str(sentence),
            Self::Value {
                culprit,
                value,
                wanted,
            } => write!(
                f,
                "{culprit} '{}' is not possible; give {wanted}",
                value.escape_debug()
            ),
        }
    }
}
