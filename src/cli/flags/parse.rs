//! The command line as it was typed.
//!
//! What other tools take is taken: `--flag value`, `--flag=value`, `-f value`, `-fvalue`, `-f=value`, and letters
//! without values in one word, as in `-it`. Everything behind `--` is the guest's command, untouched and of any bytes. A
//! flag that is not typed may stand in the environment.

use super::super::usage::Usage;
use super::table::{Run, VERBS};
use super::{Flag, Place, Verb, VerbRow, verb};
use std::collections::VecDeque;
use std::ffi::OsString;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is only ever one")]
pub(in crate::cli) enum Typed {
    /// To do this, with the command behind `--`.
    Do(Verb, Run, Vec<OsString>),
    /// The help of a verb, or of the whole.
    Help(Option<Verb>),
}

/// The environment.
pub(in crate::cli) type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Reads the arguments, without the program's name.
pub(in crate::cli) fn read(
    arguments: Vec<OsString>,
    environment: Environment<'_>,
) -> Result<Typed, Usage> {
    let mut ours = arguments;
    let command = match ours.iter().position(|argument| argument == "--") {
        Some(at) => {
            let command = ours.split_off(at + 1);
            ours.pop();
            Some(command)
        }
        None => None,
    };
    let mut words = ours
        .into_iter()
        .map(text)
        .collect::<Result<VecDeque<_>, _>>()?;
    let row = match words.pop_front().as_deref() {
        None => return Err(no_verb("there is nothing to do")),
        Some("-h" | "--help" | "help") => return help(words.pop_front()),
        Some("-V" | "--version") => Verb::Version.row(),
        Some(word) => verb(word).ok_or_else(|| unknown_verb(word))?,
    };
    let mut reader = Reader {
        row,
        words,
        run: Run::default(),
        typed: Vec::new(),
    };
    if reader.read()? {
        return Ok(Typed::Help(Some(row.verb)));
    }
    let (command, run) = (meet(row, command)?, reader.finish(environment)?);
    Ok(Typed::Do(row.verb, run, command))
}

fn text(argument: OsString) -> Result<String, Usage> {
    argument.into_string().map_err(|argument| {
        Usage::new(format!(
            "the argument {argument:?} is not UTF-8; only the command behind -- may be anything"
        ))
    })
}

fn help(word: Option<String>) -> Result<Typed, Usage> {
    match word.as_deref() {
        None => Ok(Typed::Help(None)),
        Some(word) => match verb(word) {
            Some(row) => Ok(Typed::Help(Some(row.verb))),
            None => Err(unknown_verb(word)),
        },
    }
}

fn no_verb(what: &str) -> Usage {
    let names: Vec<&str> = VERBS.iter().map(|row| row.name).collect();
    Usage::new(format!(
        "{what}; give one of {}, or see xlaunch --help",
        names.join(", ")
    ))
}

fn unknown_verb(word: &str) -> Usage {
    let names = VERBS.iter().map(|row| row.name);
    match nearest(word, names) {
        Some(name) => Usage::new(format!(
            "xlaunch cannot {word:?}; did you mean xlaunch {name}?"
        )),
        None => no_verb(&format!("xlaunch cannot {word:?}")),
    }
}

/// The command of a verb that takes one.
fn meet(row: &VerbRow, command: Option<Vec<OsString>>) -> Result<Vec<OsString>, Usage> {
    match command {
        Some(_) if !row.takes_command => Err(Usage::new(
            "only run takes a command; leave out -- and what is behind it",
        )),
        Some(command) if command.is_empty() => Err(Usage::new(
            "there is no command behind --; add one, or leave -- out for a shell",
        )),
        command => Ok(command.unwrap_or_default()),
    }
}

/// The words of one verb on their way into a `Run`.
struct Reader {
    row: &'static VerbRow,
    words: VecDeque<String>,
    run: Run,
    /// The flags that came, by name.
    typed: Vec<&'static str>,
}

impl Reader {
    /// Takes all words; `true` where help is asked for.
    fn read(&mut self) -> Result<bool, Usage> {
        while let Some(word) = self.words.pop_front() {
            if word == "--help" || word == "-h" {
                return Ok(true);
            }
            if let Some(name) = word.strip_prefix("--") {
                self.long(name)?;
            } else if let Some(letters) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) {
                self.letters(letters)?;
            } else {
                self.operand(word)?;
            }
        }
        Ok(false)
    }

    fn long(&mut self, word: &str) -> Result<(), Usage> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word, None),
        };
        let flag = self.row.verb.flags().find(|flag| flag.name == name);
        let flag = flag.ok_or_else(|| self.unknown(&format!("--{name}")))?;
        self.take(flag, &format!("--{name}"), value)
    }

    /// Letters in one word: those without a value, then perhaps one whose value is the rest.
    fn letters(&mut self, letters: &str) -> Result<(), Usage> {
        for (at, letter) in letters.char_indices() {
            let flag = self
                .row
                .verb
                .flags()
                .find(|flag| flag.letter == Some(letter));
            let flag = flag.ok_or_else(|| self.unknown(&format!("-{letter}")))?;
            let rest = &letters[at + letter.len_utf8()..];
            let wrong = rest.starts_with('=');
            if flag.place.metavar().is_some() || wrong {
                let rest = rest
                    .strip_prefix('=')
                    .or(Some(rest).filter(|it| !it.is_empty()));
                return self.take(flag, &format!("-{letter}"), rest.map(str::to_owned));
            }
            self.take(flag, &format!("-{letter}"), None)?;
        }
        Ok(())
    }

    /// A value may be what it likes, even what looks like a flag.
    fn take(
        &mut self,
        flag: &'static Flag,
        said: &str,
        value: Option<String>,
    ) -> Result<(), Usage> {
        let Some(metavar) = flag.place.metavar() else {
            if let Some(value) = value {
                return Err(Usage::new(format!(
                    "{said} takes no value, and not '{}'; leave it out",
                    value.escape_debug()
                )));
            }
            self.typed.push(flag.name);
            store(flag, &mut self.run, String::new());
            return Ok(());
        };
        let again = matches!(flag.place, Place::One(..)) && self.typed.contains(&flag.name);
        if again {
            return Err(Usage::new(format!("{said} is given twice; give it once")));
        }
        let value = value.or_else(|| self.words.pop_front()).ok_or_else(|| {
            Usage::new(format!(
                "{said} has no value; give {said} {metavar}: {}",
                flag.help
            ))
        })?;
        self.typed.push(flag.name);
        store(flag, &mut self.run, value);
        Ok(())
    }

    fn operand(&mut self, word: String) -> Result<(), Usage> {
        let shown = word.escape_debug();
        let Some(operand) = &self.row.operand else {
            return Err(Usage::new(format!(
                "{} takes no '{shown}'; leave it out",
                self.row.name
            )));
        };
        let place = (operand.place)(&mut self.run);
        if let Some(first) = place {
            let hint = if self.row.takes_command {
                "a command stands behind --"
            } else {
                "leave one out"
            };
            return Err(Usage::new(format!(
                "'{shown}' is one too many after '{}': {} takes one {}; {hint}",
                first.escape_debug(),
                self.row.name,
                operand.metavar
            )));
        }
        *place = Some(word);
        Ok(())
    }

    fn unknown(&self, said: &str) -> Usage {
        let verb = self.row.name;
        let names = self.row.verb.flags().map(|flag| flag.name);
        let near = said.strip_prefix("--").and_then(|it| nearest(it, names));
        let hint = match near {
            Some(name) => format!("did you mean --{name}?"),
            None => format!("see xlaunch {verb} --help"),
        };
        Usage::new(format!("{verb} has no flag {said:?}; {hint}"))
    }

    /// Adds what the environment says, and sees that nothing is missing.
    fn finish(mut self, environment: Environment<'_>) -> Result<Run, Usage> {
        for flag in self.row.verb.flags() {
            let Some(variable) = flag.variable else {
                continue;
            };
            if self.typed.contains(&flag.name) {
                continue;
            }
            let value = environment(variable).filter(|value| !value.is_empty());
            if let Some(value) = value {
                inherit(flag, variable, &mut self.run, value)?;
            }
        }
        match &self.row.operand {
            Some(operand) if operand.required && (operand.place)(&mut self.run).is_none() => {
                Err(Usage::new(format!(
                    "{0} needs {1}: {2}; give xlaunch {0} {1}",
                    self.row.name, operand.metavar, operand.help
                )))
            }
            _ => Ok(self.run),
        }
    }
}

fn store(flag: &Flag, run: &mut Run, value: String) {
    match flag.place {
        Place::Habit => {}
        Place::Switch(place) => *place(run) = true,
        Place::One(_, place) => *place(run) = Some(value),
        Place::Many(_, place) => place(run).push(value),
    }
}

/// Takes a flag's value from its variable.
fn inherit(
    flag: &'static Flag,
    variable: &str,
    run: &mut Run,
    value: OsString,
) -> Result<(), Usage> {
    let value = value.into_string().map_err(|value| {
        Usage::value(
            variable,
            &value.to_string_lossy(),
            "what is written in UTF-8",
        )
    })?;
    if let Place::Switch(_) = flag.place {
        match value.as_str() {
            "1" | "yes" | "true" | "on" => {}
            "0" | "no" | "false" | "off" => return Ok(()),
            other => return Err(Usage::value(variable, other, "1 or 0")),
        }
    }
    store(flag, run, value);
    run.inherited.push(flag.name);
    Ok(())
}

/// The variable that stood for the flag of this name in `run`, if one did.
pub(in crate::cli) fn stood_for(run: &Run, name: &str) -> Option<&'static str> {
    let inherited = run.inherited.contains(&name);
    let mut flags = super::table::FLAGS.iter();
    let flag = flags.find(|flag| inherited && flag.name == name)?;
    flag.variable
}

/// The name that a person who typed `word` most likely meant: at most a third of its letters are other ones.
fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Longer words are no slips, and comparing takes the product of the lengths.
    if word.len() > 32 {
        return None;
    }
    names
        .map(|name| (distance(word, name), name))
        .filter(|(distance, name)| *distance * 3 <= name.len().max(3))
        .min()
        .map(|(_, name)| name)
}

/// How many letters to insert, remove or replace (Levenshtein's distance), by rows of the usual table.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (n, letter) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = n + 1;
        for (m, other) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[m + 1];
            row[m + 1] = replaced.min(diagonal + 1).min(row[m] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &[&str]) -> Result<Typed, Usage> {
        read(line.iter().map(OsString::from).collect(), &|_| None)
    }

    fn run(line: &[&str]) -> (Run, Vec<OsString>) {
        match typed(line) {
            Ok(Typed::Do(Verb::Run, run, command)) => (run, command),
            other => panic!("{other:?}"),
        }
    }

    fn complaint(line: &[&str]) -> String {
        typed(line).unwrap_err().to_string()
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn a_bare_run_is_a_shell() {
        assert_eq!(run(&["run"]), (Run::default(), Vec::new()));
    }

    #[test]
    fn each_flag_is_taken_apart_from_its_value_in_every_form() {
        let forms = [
            &["run", "--memory", "2G"][..],
            &["run", "--memory=2G"],
            &["run", "-m", "2G"],
            &["run", "-m2G"],
            &["run", "-m=2G"],
            &["run", "-itm2G"],
            &["run", "-it", "-tim=2G", "--rm"],
        ];
        for form in forms {
            assert_eq!(run(form).0.memory, some("2G"), "{form:?}");
        }
    }

    #[test]
    fn all_flags_and_the_disk_find_their_places() {
        let (run, command) = run(&[
            "run",
            "-c4",
            "--engine=soft",
            "--kernel",
            "k",
            "--initrd=i",
            "--module=m=text",
            "--module",
            "n",
            "--append",
            "a=b c",
            "--append=d",
            "--disk=b:ro",
            "--disk",
            "c",
            "--ahci-disk=d",
            "--cdrom",
            "none",
            "--keep",
            "--overlay=o",
            "--pci-uart",
            "--timeout",
            "5m",
            "-e",
            "A=1",
            "--env=B=2",
            "-w",
            "/tmp",
            "--verbose",
            "--log=l",
            "disk.img",
            "--",
            "ls",
            "-m",
            "--memory=x",
        ]);
        let expected = Run {
            disk: some("disk.img"),
            cpus: some("4"),
            engine: some("soft"),
            disks: vec!["b:ro".to_owned(), "c".to_owned()],
            ahci_disks: vec!["d".to_owned()],
            cdroms: vec!["none".to_owned()],
            keep: true,
            overlay: some("o"),
            pci_uart: true,
            kernel: some("k"),
            initrd: some("i"),
            modules: vec!["m=text".to_owned(), "n".to_owned()],
            append: vec!["a=b c".to_owned(), "d".to_owned()],
            timeout: some("5m"),
            env: vec!["A=1".to_owned(), "B=2".to_owned()],
            workdir: some("/tmp"),
            verbose: true,
            log: some("l"),
            ..Run::default()
        };
        assert_eq!(run, expected);
        assert_eq!(command, ["ls", "-m", "--memory=x"]);
    }

    #[test]
    fn a_value_may_look_like_a_flag_and_a_command_like_anything() {
        let (run, command) = run(&["run", "--append", "--x=y", "--", "--", "-h"]);
        assert_eq!(run.append, ["--x=y"]);
        assert_eq!(command, ["--", "-h"]);
    }

    #[test]
    fn help_and_version_are_asked_for_in_the_usual_ways() {
        for line in [&["-h"][..], &["--help"], &["help"]] {
            assert_eq!(typed(line), Ok(Typed::Help(None)));
        }
        for line in [
            &["run", "-h"][..],
            &["run", "--help"],
            &["run", "a.img", "-m2G", "-h"],
            &["help", "run"],
        ] {
            assert_eq!(typed(line), Ok(Typed::Help(Some(Verb::Run))));
        }
        for line in [&["version"][..], &["--version"], &["-V"]] {
            let version = Typed::Do(Verb::Version, Run::default(), Vec::new());
            assert_eq!(typed(line), Ok(version));
        }
    }

    #[test]
    fn a_machine_to_look_at_is_said_like_one_to_run() {
        let flags = [
            "-m2G",
            "--cpus=4",
            "--disk",
            "a",
            "--disk=b:ro",
            "--pci-uart",
        ];
        let expected = Run {
            memory: some("2G"),
            cpus: some("4"),
            disks: vec!["a".to_owned(), "b:ro".to_owned()],
            pci_uart: true,
            ..Run::default()
        };
        let topology = Run {
            json: true,
            ..expected.clone()
        };
        let tables = Run {
            dir: some("out"),
            ..expected
        };
        let line = [&["topology", "--json"][..], &flags].concat();
        assert_eq!(
            typed(&line),
            Ok(Typed::Do(Verb::Topology, topology, Vec::new()))
        );
        let line = [&["tables", "out"][..], &flags].concat();
        assert_eq!(
            typed(&line),
            Ok(Typed::Do(Verb::Tables, tables, Vec::new()))
        );
    }

    #[test]
    fn complaints_are_one_sentence_that_names_the_culprit() {
        let cases = [
            (&["run", "--frobnicate"][..], "--frobnicate"),
            (&["run", "--memroy=1G"], "did you mean --memory?"),
            (&["run", "-x"], "\"-x\""),
            (&["run", "-ix"], "\"-x\""),
            (&["run", "--\n"], "\\n"),
            (&["run", "--memory"], "--memory"),
            (&["run", "-m"], "give -m SIZE: memory"),
            (&["run", "--keep=yes"], "--keep takes no value"),
            (&["run", "-t=yes"], "-t takes no value"),
            (&["run", "a.img", "b.img"], "b.img"),
            (&["run", "a.img", "ls"], "a command stands behind --"),
            (&["walk"], "walk"),
            (&["rum"], "did you mean xlaunch run?"),
            (&["help", "walk"], "walk"),
            (&["run", "-m", "1G", "-m", "2G"], "-m is given twice"),
            (&["run", "-m1G", "--memory=2G"], "--memory is given twice"),
            (&["run", "--"], "behind --"),
            (&["version", "--", "x"], "only run"),
            (&["topology", "--", "x"], "only run"),
            (&["tables"], "DIR"),
            (&["tables", "a", "b"], "'b'"),
            (&["topology", "x"], "'x'"),
            (&["doctor", "--keep"], "--keep"),
            (&[], "run, doctor"),
        ];
        for (line, culprit) in cases {
            let complaint = complaint(line);
            assert!(complaint.contains(culprit), "{culprit}: {complaint}");
            assert!(!complaint.contains('\n'), "{complaint}");
        }
    }

    #[test]
    fn what_is_not_typed_is_taken_from_the_environment() {
        let environment = |name: &str| {
            let value = match name {
                "XLAUNCH_MEMORY" => "3G",
                "XLAUNCH_CPUS" => "",
                "XLAUNCH_VERBOSE" => "yes",
                _ => return None,
            };
            Some(OsString::from(value))
        };
        let run = |line: &[&str]| match read(line.iter().map(Into::into).collect(), &environment) {
            Ok(Typed::Do(_, run, _)) => run,
            other => panic!("{other:?}"),
        };
        let found = run(&["run"]);
        assert_eq!(
            (found.memory.as_deref(), found.cpus.as_deref()),
            (Some("3G"), None)
        );
        assert!(found.verbose);
        assert_eq!(stood_for(&found, "memory"), Some("XLAUNCH_MEMORY"));
        assert_eq!(stood_for(&found, "cpus"), None);
        let typed = run(&["run", "-m1G"]);
        assert_eq!(typed.memory.as_deref(), Some("1G"));
        assert_eq!(stood_for(&typed, "memory"), None);
        assert_eq!(run(&["version"]), Run::default());
    }

    #[test]
    fn a_variable_that_cannot_be_is_named() {
        use std::os::unix::ffi::OsStringExt;
        let wrong = |name: &'static str, value: &[u8]| {
            let value = OsString::from_vec(value.to_vec());
            let environment = |it: &str| (it == name).then(|| value.clone());
            read(vec!["run".into()], &environment).map_err(|usage| usage.to_string())
        };
        for (name, value) in [("XLAUNCH_VERBOSE", &b"much"[..]), ("XLAUNCH_LOG", b"\xff")] {
            let sentence = wrong(name, value).unwrap_err();
            assert!(sentence.starts_with(name), "{sentence}");
        }
        assert!(wrong("XLAUNCH_VERBOSE", b"0").is_ok());
    }

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let near = |word| nearest(word, ["memory", "cpus", "run"].into_iter());
        for (word, meant) in [
            ("memroy", Some("memory")),
            ("cpu", Some("cpus")),
            ("runn", Some("run")),
            ("frobnicate", None),
            ("", None),
            ("ls", None),
        ] {
            assert_eq!(near(word), meant, "{word}");
        }
    }
}
