//! How a run ended, as an exit code and at most one sentence.

use guest::protocol::Refusal;
use std::fmt;
use std::time::Duration;

/// The exit code of our own failures, usage errors among them.
pub const FAILURE: u8 = 125;
const TIMED_OUT: u8 = 124;
const DIED: u8 = 123;
const SIGNAL_BASE: u8 = 128;
const SIGINT: u8 = 2;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The command exited with this code.
    Exited(u8),
    /// This signal ended the command.
    Killed(u8),
    /// The command could not be started, for this reason.
    Refused(Refusal, String),
    /// The guest powered its machine off, as it was told from inside.
    PoweredOff,
    /// The guest died, as the sentence says.
    Died(String),
    /// The time given by `--timeout` is over.
    TimedOut(Duration),
    /// We were sent this signal.
    Signalled(u8),
    /// The person typed the way out.
    Left,
    /// We failed, as the sentence says.
    Failed(String),
}

impl Verdict {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Exited(code) => *code,
            Self::Killed(signal) | Self::Signalled(signal) => SIGNAL_BASE.saturating_add(*signal),
            Self::Refused(refusal, _) => *refusal as u8,
            Self::PoweredOff => 0,
            Self::Died(_) => DIED,
            Self::TimedOut(_) => TIMED_OUT,
            Self::Left => SIGNAL_BASE + SIGINT,
            Self::Failed(_) => FAILURE,
        }
    }

    /// Whether the kernel's last words help to understand it.
    pub fn wants_kernel_log(&self) -> bool {
        matches!(self, Self::Died(_))
    }
}

/// The sentence for standard error; empty where the exit code says it all.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(_) | Self::Killed(_) | Self::Signalled(_) => Ok(()),
            Self::PoweredOff => write!(f, "the guest powered off"),
            Self::Refused(_, text) => f.write_str(&printable(text)),
            Self::Died(text) | Self::Failed(text) => f.write_str(text),
            Self::TimedOut(limit) => write!(
                f,
                "the command ran longer than --timeout {}s; give it more time",
                limit.as_secs()
            ),
            Self::Left => write!(f, "left the sandbox; what ran in it is gone"),
        }
    }
}

/// What a guest says, made safe for a terminal and kept on one line.
pub(super) fn printable(text: &str) -> String {
    let safe = |c: char| if c.is_control() && c != '\t' { '?' } else { c };
    text.chars().map(safe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_trade() {
        let refused = |refusal| Verdict::Refused(refusal, String::new()).code();
        assert_eq!(Verdict::Exited(42).code(), 42);
        assert_eq!(Verdict::Killed(9).code(), 137);
        assert_eq!(Verdict::Killed(255).code(), 255);
        assert_eq!(Verdict::Signalled(15).code(), 143);
        assert_eq!(refused(Refusal::NotFound), 127);
        assert_eq!(refused(Refusal::NotExecutable), 126);
        assert_eq!(refused(Refusal::Unprepared), 125);
        assert_eq!(Verdict::TimedOut(Duration::ZERO).code(), 124);
        assert_eq!(Verdict::Died(String::new()).code(), 123);
        assert_eq!(Verdict::Failed(String::new()).code(), 125);
    }

    #[test]
    fn a_guests_words_cannot_drive_our_terminal() {
        let refused = Verdict::Refused(Refusal::NotFound, "no \x1b[2Jsuch\nthing".to_owned());
        assert_eq!(refused.to_string(), "no ?[2Jsuch?thing");
    }
}
