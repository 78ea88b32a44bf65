//! `run --json`: how a run ended, for programs.

use super::json::{Json, number, text};
use crate::sandbox::Verdict;
use std::fs::File;
use std::io::Write;
use std::time::Duration;

/// What there is to tell of a run besides its verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// From our start to the end.
    pub(super) time: Duration,
    /// From our start to the end of the command, where one ran, without what came before and after.
    pub(super) command: Option<Duration>,
    /// The engine, where a machine was built.
    pub(super) engine: Option<&'static str>,
    /// How many instructions the guest executed, where the engine counts them.
    pub(super) instructions: Option<u64>,
}

/// Where a result goes.
#[derive(Debug)]
pub(super) struct Sink {
    path: String,
    file: File,
}

impl Sink {
    /// Opens it, before anything is started. An error is a sentence.
    pub(super) fn create(path: &str) -> Result<Self, String> {
        let file = File::create(path).map_err(|error| {
            format!("cannot write the result '{path}': {error}; name a file that can be written")
        })?;
        let path = path.to_owned();
        Ok(Self { path, file })
    }

    /// Writes it. An error is a sentence.
    pub(super) fn write(mut self, content: &str) -> Result<(), String> {
        self.file.write_all(content.as_bytes()).map_err(|error| {
            format!(
                "cannot write '{}': {error}; name a file that can be written",
                self.path
            )
        })
    }
}

/// The result as one object. Its members are what other programs rely on: none is ever renamed.
pub(super) fn result(verdict: &Verdict, facts: &Facts) -> Json {
    let sentence = verdict.to_string();
    let some = |number: Option<u64>| number.map_or(Json::Null, Json::Number);
    Json::Object(vec![
        ("verdict", text(kind(verdict))),
        ("exit_code", number(verdict.code())),
        (
            "signal",
            match verdict {
                Verdict::Killed(signal) | Verdict::Signalled(signal) => number(*signal),
                _ => Json::Null,
            },
        ),
        (
            "message",
            match sentence.is_empty() {
                true => Json::Null,
                false => text(sentence),
            },
        ),
        ("seconds", Json::Seconds(facts.time)),
        (
            "command_seconds",
            facts.command.map_or(Json::Null, Json::Seconds),
        ),
        ("engine", facts.engine.map_or(Json::Null, text)),
        ("guest_instructions", some(facts.instructions)),
    ])
}

fn kind(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Exited(_) => "exited",
        Verdict::Killed(_) => "killed",
        Verdict::Refused(..) => "refused",
        Verdict::PoweredOff => "powered off",
        Verdict::Died(_) => "died",
        Verdict::TimedOut(_) => "timed out",
        Verdict::Signalled(_) => "signalled",
        Verdict::Left => "left",
        Verdict::Failed(_) => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_has_all_its_members_whatever_happened() {
        let facts = Facts {
            time: Duration::from_millis(1500),
            command: Some(Duration::from_micros(20)),
            engine: Some("soft"),
            instructions: Some(7),
        };
        let expected = r#"{
  "verdict": "exited",
  "exit_code": 3,
  "signal": null,
  "message": null,
  "seconds": 1.500000,
  "command_seconds": 0.000020,
  "engine": "soft",
  "guest_instructions": 7
}"#;
        assert_eq!(result(&Verdict::Exited(3), &facts).to_string(), expected);
        let failed = Verdict::Failed("cannot \"x\"".to_owned());
        let expected = r#"{
  "verdict": "failed",
  "exit_code": 125,
  "signal": null,
  "message": "cannot \"x\"",
  "seconds": 0.000000,
  "command_seconds": null,
  "engine": null,
  "guest_instructions": null
}"#;
        assert_eq!(result(&failed, &Facts::default()).to_string(), expected);
        let killed = result(&Verdict::Killed(9), &Facts::default()).to_string();
        assert!(killed.contains("\"signal\": 9"), "{killed}");
    }

    #[test]
    fn a_result_that_cannot_be_written_is_said() {
        let error = Sink::create("/no/such/result").unwrap_err();
        assert!(error.contains("'/no/such/result'"), "{error}");
    }
}
