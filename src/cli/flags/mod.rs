//! The one table of commands and flags, and what is made from it: parsing (`parse`), help
//! (`help`), the shells' completions (`complete`) and the manual (`manual`).
//!
//! A flag is a row of `table::FLAGS`, a field of `Run` (beside the table) and a use in `meant`. Everything else that
//! knows flags walks the rows.

pub(super) mod complete;
pub(super) mod help;
pub(super) mod manual;
pub(super) mod parse;
pub(super) mod table;

use table::Run;

/// What xlaunch can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Completions,
    Doctor,
    Licenses,
    Man,
    Run,
    Tables,
    Topology,
    Version,
}

/// A verb's row.
#[derive(Debug)]
pub(super) struct VerbRow {
    pub(super) verb: Verb,
    /// The word that is typed.
    pub(super) name: &'static str,
    /// What it does: one sentence.
    pub(super) summary: &'static str,
    /// What it takes that is no flag.
    pub(super) operand: Option<Operand>,
    /// Whether a command may stand behind `--`.
    pub(super) takes_command: bool,
    /// Lines as they would be typed, each with what it does.
    pub(super) examples: &'static [(&'static str, &'static str)],
    /// What else there is to know: sentences.
    pub(super) notes: &'static [&'static str],
}

/// A word that is no flag.
#[derive(Debug)]
pub(super) struct Operand {
    /// What it is called in the help.
    pub(super) metavar: &'static str,
    pub(super) required: bool,
    pub(super) help: &'static str,
    pub(super) completion: Completion,
    pub(super) place: fn(&mut Run) -> &mut Option<String>,
}

/// A flag's row.
#[derive(Debug)]
pub(super) struct Flag {
    /// Without its dashes.
    pub(super) name: &'static str,
    pub(super) letter: Option<char>,
    /// What is done with it when it is typed.
    pub(super) place: Place,
    /// One line, without a capital and a full stop.
    pub(super) help: &'static str,
    pub(super) section: Section,
    /// Typed as it would be, for the manual; a row without one is clear without one.
    pub(super) example: Option<&'static str>,
    /// The variable of the environment that stands for the flag where it is not typed.
    pub(super) variable: Option<&'static str>,
    pub(super) completion: Completion,
    /// The verbs that take it.
    pub(super) verbs: &'static [Verb],
}

/// Where a flag's value goes. It says, too, whether there is one, what the help calls it, and whether it repeats.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// Taken without a value, and as a habit only: it says what is so anyway.
    Habit,
    /// No value.
    Switch(fn(&mut Run) -> &mut bool),
    /// A value, once.
    One(&'static str, fn(&mut Run) -> &mut Option<String>),
    /// A value, as often as it is wanted.
    Many(&'static str, fn(&mut Run) -> &mut Vec<String>),
}

impl Place {
    /// What the help calls the value, where there is one.
    pub(super) fn metavar(&self) -> Option<&'static str> {
        match self {
            Self::Habit | Self::Switch(_) => None,
            Self::One(metavar, _) | Self::Many(metavar, _) => Some(metavar),
        }
    }
}

/// What a shell can offer for a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Completion {
    /// Nothing: only the person knows.
    Nothing,
    File,
    Directory,
    /// One of these words.
    Words(&'static [&'static str]),
    /// The name of a variable of the environment.
    Variable,
}

/// The headings of the help, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Machine,
    Disks,
    Network,
    Command,
    Kernel,
    Output,
}

impl Section {
    /// All of them, in the help's order.
    pub(super) const ALL: [Self; 6] = [
        Self::Machine,
        Self::Disks,
        Self::Network,
        Self::Command,
        Self::Kernel,
        Self::Output,
    ];

    /// Its heading.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Machine => "Machine",
            Self::Disks => "Disks and folders",
            Self::Network => "Network",
            Self::Command => "Command",
            Self::Kernel => "Kernel",
            Self::Output => "Output",
        }
    }
}

impl Verb {
    /// Its row.
    pub(super) fn row(self) -> &'static VerbRow {
        let found = table::VERBS.iter().find(|row| row.verb == self);
        found.expect("every verb has a row, as a test demands")
    }

    /// The flags that it takes, in the table's order.
    pub(super) fn flags(self) -> impl Iterator<Item = &'static Flag> {
        let takes = move |flag: &&Flag| flag.verbs.contains(&self);
        table::FLAGS.iter().filter(takes)
    }
}

/// The verb of this name.
pub(super) fn verb(name: &str) -> Option<&'static VerbRow> {
    table::VERBS.iter().find(|row| row.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_readme_names_every_variable() {
        let readme = include_str!("../../../README.md");
        for variable in table::FLAGS.iter().filter_map(|flag| flag.variable) {
            assert!(readme.contains(variable), "{variable}");
        }
    }

    #[test]
    fn every_verb_has_one_row() {
        let names: BTreeSet<&str> = table::VERBS.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), table::VERBS.len());
        for row in table::VERBS {
            assert_eq!(row.verb.row().name, row.name);
        }
    }

    #[test]
    fn within_a_verb_names_letters_and_variables_are_unique() {
        for row in table::VERBS {
            let (mut names, mut letters) = (BTreeSet::new(), BTreeSet::new());
            for flag in row.verb.flags() {
                assert!(names.insert(flag.name), "--{} twice", flag.name);
                let letter = flag.letter;
                assert!(letter.is_none_or(|it| letters.insert(it)), "{letter:?}");
            }
            // They are taken before the rows are looked at.
            assert!(!names.contains("help") && !letters.contains(&'h'));
        }
    }

    #[test]
    fn the_rows_are_written_in_one_style() {
        for flag in table::FLAGS {
            let (name, help) = (flag.name, flag.help);
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(name.len() > 1 && name.chars().all(plain), "{name}");
            assert!(flag.letter.is_none_or(|it| it.is_ascii_alphabetic()));
            assert!(!help.ends_with('.') && !help.is_empty(), "{name}: {help}");
            assert!(!help.contains('\n'), "{name}: {help}");
            assert!(!flag.verbs.is_empty(), "{name} is taken by no verb");
            let metavar = flag.place.metavar().unwrap_or("X");
            let word = metavar.split('[').next().unwrap_or_default();
            assert_eq!(word, word.to_uppercase(), "{name}");
            // A variable stands for a flag in the usual writing.
            let written = format!("XLAUNCH_{}", name.to_uppercase().replace('-', "_"));
            assert!(flag.variable.is_none_or(|it| it == written), "{name}");
            let offered = flag.completion != Completion::Nothing;
            assert!(!offered || flag.place.metavar().is_some(), "{name}");
        }
    }

    #[test]
    fn every_flag_has_a_place_of_its_own() {
        for (n, flag) in table::FLAGS.iter().enumerate() {
            let mut run = Run::default();
            match flag.place {
                Place::Habit => continue,
                Place::Switch(place) => *place(&mut run) = true,
                Place::One(_, place) => *place(&mut run) = Some("x".to_owned()),
                Place::Many(_, place) => place(&mut run).push("x".to_owned()),
            }
            assert_ne!(run, Run::default(), "--{} goes nowhere", flag.name);
            for other in &table::FLAGS[..n] {
                let mut theirs = Run::default();
                match other.place {
                    Place::Habit => continue,
                    Place::Switch(place) => *place(&mut theirs) = true,
                    Place::One(_, place) => *place(&mut theirs) = Some("x".to_owned()),
                    Place::Many(_, place) => place(&mut theirs).push("x".to_owned()),
                }
                assert_ne!(run, theirs, "--{} and --{}", flag.name, other.name);
            }
        }
    }

    #[test]
    fn every_example_is_a_line_that_parses() {
        let flags = table::FLAGS.iter().filter_map(|flag| flag.example);
        let verbs = table::VERBS.iter().flat_map(|row| row.examples);
        let readme = include_str!("../../../README.md").lines();
        // Lines that show what can be typed have its brackets.
        let readme = readme.filter_map(|line| line.strip_prefix("    "));
        let readme = readme.filter(|line| line.starts_with("xlaunch ") && !line.contains('['));
        assert!(readme.clone().count() > 4);
        for line in flags.chain(verbs.map(|(line, _)| *line)).chain(readme) {
            // What stands behind a shell's operator is the shell's.
            let ours = line.split(['|', '>', '&']).next().unwrap_or_default();
            let mut words = ours.split_whitespace().map(|word| word.trim_matches('\''));
            assert_eq!(words.next(), Some("xlaunch"), "{line}");
            let typed = parse::read(words.map(Into::into).collect(), &|_| None);
            assert!(typed.is_ok(), "{line}: {typed:?}");
        }
    }
}
