//! `xlaunch man`: the manual's page, from the table, in the macros of man(7).

use super::help::{explained, synopsis};
use super::table::{EXIT_CODES, FLAGS, VERBS};
use super::{Flag, VerbRow};
use std::fmt::Write;

/// The page, for `man -l -` or a file xlaunch.1.
pub(in crate::cli) fn page() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut page = format!(
        ".TH XLAUNCH 1 \"\" \"xlaunch {version}\" \"User Commands\"\n\
         .SH NAME\nxlaunch \\- boot Linux in a throwaway sandbox\n.SH SYNOPSIS\n"
    );
    for (n, row) in VERBS.iter().enumerate() {
        let line = synopsis(row);
        let rest = line.strip_prefix("xlaunch ").unwrap_or(&line);
        if n > 0 {
            page += ".br\n";
        }
        _ = writeln!(page, ".B xlaunch\n{}", text(rest));
    }
    page += ".SH DESCRIPTION\n";
    page += &text(
        "xlaunch boots Linux on a machine of its own, runs one command or a shell in it, and throws the machine away. What \
         runs in it sees nothing of the host but its three streams and what the flags below give it. It needs no privilege \
         and leaves nothing behind.",
    );
    page += "\n";
    for row in VERBS {
        verb(&mut page, row);
    }
    page += ".SH EXIT STATUS\nOf\n.BR \"xlaunch run\" :\n";
    for (code, meaning) in EXIT_CODES {
        _ = writeln!(page, ".TP\n.B {}\n{}", text(code), text(meaning));
    }
    page += ".SH ENVIRONMENT\nWhere a flag is not given, its variable stands for it. An empty one counts as none.\n";
    for flag in FLAGS {
        if let Some(variable) = flag.variable {
            _ = writeln!(
                page,
                ".TP\n.B {}\nfor\n.B {}",
                text(variable),
                text(&format!("--{}", flag.name))
            );
        }
    }
    page += ".SH EXAMPLES\n";
    let verbs = VERBS.iter().flat_map(|row| row.examples.iter());
    let flags = FLAGS.iter().filter_map(|it| Some((it.example?, it.help)));
    for (line, what) in verbs.copied().chain(flags) {
        _ = writeln!(page, ".TP\n.B {}\n{}", text(line), text(what));
    }
    page
}

fn verb(page: &mut String, row: &VerbRow) {
    _ = writeln!(
        page,
        ".SH {}",
        text(&format!("XLAUNCH {}", row.name.to_uppercase()))
    );
    _ = writeln!(page, "{}", text(row.summary));
    for note in row.notes {
        _ = writeln!(page, ".PP\n{}", text(note));
    }
    if let Some(operand) = &row.operand {
        _ = writeln!(
            page,
            ".TP\n.I {}\n{}",
            text(operand.metavar),
            text(operand.help)
        );
    }
    for flag in row.verb.flags() {
        _ = writeln!(page, ".TP\n{}\n{}", names(flag), text(&explained(flag)));
    }
}

/// The flag's names in bold, its value's in italics.
fn names(flag: &Flag) -> String {
    let mut names = format!("\\fB{}\\fR", text(&format!("--{}", flag.name)));
    if let Some(letter) = flag.letter {
        names = format!("\\fB\\-{letter}\\fR, {names}");
    }
    if let Some(metavar) = flag.place.metavar() {
        _ = write!(names, " \\fI{}\\fR", text(metavar));
    }
    names
}

/// A text that means itself: no character of it is a request, an escape or a hyphen to break at.
fn text(plain: &str) -> String {
    let mut text = String::new();
    if plain.starts_with(['.', '\'']) {
        text += "\\&";
    }
    for letter in plain.chars() {
        match letter {
            '\\' => text += "\\e",
            '-' => text += "\\-",
            '"' => text += "\\(dq",
            '\'' => text += "\\(aq",
            '^' => text += "\\(ha",
            '~' => text += "\\(ti",
            '`' => text += "\\(ga",
            plain => text.push(plain),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_verb_flag_and_variable() {
        let page = page();
        for row in VERBS {
            assert!(page.contains(&format!(".SH XLAUNCH {}\n", row.name.to_uppercase())));
        }
        for flag in FLAGS {
            let written = text(&format!("--{}", flag.name));
            assert!(page.contains(&format!("\\fB{written}\\fR")), "{written}");
            let variable = flag.variable.unwrap_or("XLAUNCH_MEMORY");
            assert!(page.contains(&format!(".B {variable}\n")), "{variable}");
        }
    }

    #[test]
    fn no_line_is_a_request_by_accident() {
        assert_eq!(text(".so x"), "\\&.so x");
        assert_eq!(text("a-b \"c\" \\"), "a\\-b \\(dqc\\(dq \\e");
        for line in page().lines().filter(|line| line.starts_with(['.', '\''])) {
            let request = line.split(' ').next();
            let known = [".TH", ".SH", ".TP", ".PP", ".B", ".BR", ".I", ".br"];
            assert!(known.contains(&request.unwrap_or_default()), "{line}");
        }
    }
}
