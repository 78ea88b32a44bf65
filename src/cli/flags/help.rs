//! `--help`, from the table.

use super::table::{EXIT_CODES, VERBS};
use super::{Flag, Section, Verb, VerbRow};
use std::fmt::Write;

/// Lines are at most this long, in characters.
const WIDTH: usize = 100;

/// The help of one verb, or of the whole.
pub(in crate::cli) fn page(verb: Option<Verb>) -> String {
    match verb {
        Some(verb) => of(verb.row()),
        None => whole(),
    }
}

fn whole() -> String {
    let mut page = "Usage: xlaunch VERB ...\n\n\
         Boot Linux in a throwaway sandbox: one command, a machine of its own, gone afterwards.\n\n"
        .to_owned();
    let rows: Vec<_> = VERBS
        .iter()
        .map(|row| (row.name.to_owned(), row.summary.to_owned()))
        .collect();
    columns(&mut page, &rows);
    examples(&mut page, VERBS.iter().flat_map(|row| row.examples.first()));
    page + "\nxlaunch VERB --help says more.\n"
}

/// How a verb is called: the line behind "Usage:".
pub(in crate::cli) fn synopsis(row: &VerbRow) -> String {
    let mut line = format!("xlaunch {}", row.name);
    if row.verb.flags().next().is_some() {
        line += " [FLAGS]";
    }
    if let Some(operand) = &row.operand {
        let metavar = operand.metavar;
        _ = match operand.required {
            true => write!(line, " {metavar}"),
            false => write!(line, " [{metavar}]"),
        };
    }
    if row.takes_command {
        line += " [-- COMMAND...]";
    }
    line
}

fn of(row: &VerbRow) -> String {
    let mut page = format!("Usage: {}\n\n{}\n", synopsis(row), row.summary);
    if let Some(operand) = &row.operand {
        page += "\n";
        columns(
            &mut page,
            &[(operand.metavar.to_owned(), operand.help.to_owned())],
        );
    }
    for section in Section::ALL {
        let flags = row.verb.flags().filter(|flag| flag.section == section);
        let rows: Vec<_> = flags.map(|flag| (written(flag), explained(flag))).collect();
        if !rows.is_empty() {
            _ = writeln!(page, "\n{}:", section.title());
            columns(&mut page, &rows);
        }
    }
    examples(&mut page, row.examples.iter());
    if !row.notes.is_empty() {
        page += "\n";
    }
    for note in row.notes {
        wrapped(&mut page, note, 0);
    }
    if row.takes_command {
        page += "\nExit codes:\n";
        let rows = EXIT_CODES.iter();
        let rows: Vec<_> = rows
            .map(|(code, meaning)| ((*code).to_owned(), (*meaning).to_owned()))
            .collect();
        columns(&mut page, &rows);
    }
    page
}

/// `-m, --memory SIZE`.
pub(in crate::cli) fn written(flag: &Flag) -> String {
    let letter = match flag.letter {
        Some(letter) => format!("-{letter}, "),
        None => "    ".to_owned(),
    };
    let metavar = flag.place.metavar().map(|metavar| format!(" {metavar}"));
    format!("{letter}--{}{}", flag.name, metavar.unwrap_or_default())
}

/// What a flag does, and what else is to be known of it.
pub(in crate::cli) fn explained(flag: &Flag) -> String {
    let repeats = match flag.place {
        super::Place::Many(..) => "; may be repeated",
        _ => "",
    };
    let variable = flag.variable.map(|name| format!(" [{name}]"));
    format!("{}{repeats}{}", flag.help, variable.unwrap_or_default())
}

fn examples<'a>(page: &mut String, all: impl Iterator<Item = &'a (&'a str, &'a str)>) {
    let mut all = all.peekable();
    if all.peek().is_none() {
        return;
    }
    *page += "\nExamples:\n";
    for (line, what) in all {
        _ = writeln!(page, "  {line}\n      {what}");
    }
}

/// Two columns: names, and what they are. A name that is too long has a line of its own.
fn columns(page: &mut String, rows: &[(String, String)]) {
    const LEFT: usize = 26;
    for (name, text) in rows {
        let name = format!("  {name}");
        if name.chars().count() + 2 > LEFT {
            _ = write!(page, "{name}\n{:LEFT$}", "");
        } else {
            _ = write!(page, "{name:LEFT$}");
        }
        wrapped(page, text, LEFT);
    }
}

/// Writes `text` in lines that begin in column `indent`, where we are already.
fn wrapped(page: &mut String, text: &str, indent: usize) {
    let mut column = indent;
    for (n, word) in text.split(' ').enumerate() {
        let length = word.chars().count();
        if n > 0 && column + 1 + length > WIDTH {
            _ = write!(page, "\n{:indent$}", "");
            column = indent;
        } else if n > 0 {
            page.push(' ');
            column += 1;
        }
        page.push_str(word);
        column += length;
    }
    page.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_has_every_verb_and_every_flag() {
        let page = page(None);
        for row in VERBS {
            assert!(page.contains(&format!("  {} ", row.name)), "{page}");
            let help = of(row);
            assert!(help.starts_with(&format!("Usage: xlaunch {}", row.name)));
            for flag in row.verb.flags() {
                assert!(help.contains(&format!("--{}", flag.name)), "{help}");
                let variable = flag.variable.is_none_or(|it| help.contains(it));
                assert!(variable, "{help}");
            }
        }
    }

    #[test]
    fn runs_help_has_examples_and_exit_codes() {
        let help = page(Some(Verb::Run));
        assert!(
            help.contains("xlaunch run [FLAGS] [DISK.IMG] [-- COMMAND...]\n"),
            "{help}"
        );
        assert!(
            help.contains("  -m, --memory SIZE       memory, such as"),
            "{help}"
        );
        assert!(help.contains("\nExamples:\n"), "{help}");
        for (code, _) in EXIT_CODES {
            assert!(help.contains(&format!("\n  {code} ")), "{code}: {help}");
        }
    }

    #[test]
    fn lines_are_short() {
        let verbs = VERBS.iter().map(|row| Some(row.verb));
        for verb in verbs.chain([None]) {
            for line in page(verb).lines() {
                let length = line.chars().count();
                assert!(length <= WIDTH + 10, "{length}: {line}");
                assert_eq!(line, line.trim_end());
            }
        }
    }

    #[test]
    fn long_texts_are_wrapped_between_words() {
        let mut page = String::new();
        let word = "x".repeat(50);
        columns(
            &mut page,
            &[("name".to_owned(), format!("a {word} {word}"))],
        );
        let expected = format!("{:26}a {word}\n{:26}{word}\n", "  name", "");
        assert_eq!(page, expected);
    }
}
