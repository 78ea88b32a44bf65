//! `xlaunch completions`: what shells need to complete our lines, from the table.
//!
//! Bash: any from 3.2 on, which Macs have. Zsh: its `_arguments`. Fish: from 3.0 on.

use super::table::VERBS;
use super::{Completion, Flag, Place, VerbRow};
use std::fmt::Write;

/// The shells that we write for.
pub(in crate::cli) const SHELLS: &[&str] = &["bash", "zsh", "fish"];

/// The script for this shell; `None` where we know none.
pub(in crate::cli) fn script(shell: &str) -> Option<String> {
    match shell {
        "bash" => Some(bash()),
        "zsh" => Some(zsh()),
        "fish" => Some(fish()),
        _ => None,
    }
}

/// Words as a shell takes them literally.
fn single_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// What comes first on the line: all verbs, and what asks for help.
fn first_words() -> Vec<&'static str> {
    let more = ["help", "--help", "--version"];
    VERBS.iter().map(|row| row.name).chain(more).collect()
}

/// Every way to write the flag's name.
fn spellings(flag: &Flag) -> Vec<String> {
    let letter = flag.letter.map(|letter| format!("-{letter}"));
    letter
        .into_iter()
        .chain([format!("--{}", flag.name)])
        .collect()
}

fn bash() -> String {
    let mut text = format!(
        "# Completions of xlaunch for bash, written by `xlaunch completions bash`.\n\
         _xlaunch() {{\n    \
         local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} verb=${{COMP_WORDS[1]}} word words\n    \
         COMPREPLY=()\n    \
         # What is behind -- is the guest's, where only the guest knows the names.\n    \
         for word in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do\n        \
         [ \"$word\" = -- ] && return\n    \
         done\n    \
         if [ \"$COMP_CWORD\" -eq 1 ]; then\n        \
         COMPREPLY=($(compgen -W '{}' -- \"$cur\"))\n        \
         return\n    \
         fi\n    \
         # Bash makes three words of --flag=value.\n    \
         if [ \"$cur\" = = ]; then\n        \
         cur=\n    \
         elif [ \"$prev\" = = ]; then\n        \
         prev=${{COMP_WORDS[COMP_CWORD-2]}}\n    \
         fi\n    \
         case $verb:$prev in\n",
        first_words().join(" ")
    );
    for row in VERBS {
        for flag in row.verb.flags().filter(|it| it.place.metavar().is_some()) {
            let patterns = spellings(flag).into_iter();
            let patterns: Vec<_> = patterns.map(|it| format!("{}:{it}", row.name)).collect();
            let action = bash_action(flag.completion);
            _ = writeln!(text, "    {}) {action}; return ;;", patterns.join(" | "));
        }
    }
    text += "    esac\n    case $verb in\n";
    for row in VERBS {
        let flags = row.verb.flags().flat_map(spellings);
        let flags: Vec<_> = flags.chain(["--help".to_owned()]).collect();
        _ = writeln!(text, "    {}) words='{}' ;;", row.name, flags.join(" "));
    }
    _ = writeln!(text, "    help) words='{}' ;;", first_words().join(" "));
    text += "    esac\n    \
             case $cur in\n    \
             -*)\n        \
             COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n        \
             return ;;\n    \
             esac\n    \
             case $verb in\n";
    for row in VERBS {
        let action = row.operand.as_ref().map_or_else(
            || bash_action(Completion::Nothing),
            |it| bash_action(it.completion),
        );
        _ = writeln!(text, "    {}) {action} ;;", row.name);
    }
    text += "    help) COMPREPLY=($(compgen -W \"$words\" -- \"$cur\")) ;;\n    esac\n}\n\
             complete -o default -F _xlaunch xlaunch\n";
    text
}

fn bash_action(completion: Completion) -> String {
    match completion {
        // Where nothing is said, bash would offer files.
        Completion::Nothing => "compopt +o default 2>/dev/null".to_owned(),
        Completion::File => ":".to_owned(),
        Completion::Directory => {
            "compopt -o filenames 2>/dev/null; local IFS=$'\\n'; COMPREPLY=($(compgen -d -- \"$cur\"))".to_owned()
        }
        Completion::Words(words) => {
            format!("COMPREPLY=($(compgen -W '{}' -- \"$cur\"))", words.join(" "))
        }
        Completion::Variable => "COMPREPLY=($(compgen -A export -- \"$cur\"))".to_owned(),
    }
}

fn zsh() -> String {
    let mut text = "#compdef xlaunch\n\
         # Completions of xlaunch for zsh, written by `xlaunch completions zsh`.\n\
         _xlaunch() {\n    \
         local -a verbs=(\n"
        .to_owned();
    for row in VERBS {
        let entry = format!("{}:{}", row.name, row.summary.trim_end_matches('.'));
        _ = writeln!(text, "        {}", single_quoted(&entry));
    }
    text += "    )\n    \
             if (( CURRENT == 2 )); then\n        \
             _describe verb verbs\n        \
             return\n    \
             fi\n    \
             local verb=$words[2]\n    \
             shift words\n    \
             (( CURRENT-- ))\n    \
             case $verb in\n";
    for row in VERBS {
        _ = write!(text, "    {})\n        _arguments -s -S", row.name);
        for flag in row.verb.flags() {
            _ = write!(text, " \\\n            {}", zsh_flag(flag));
        }
        _ = write!(text, " \\\n            '(- *)'{{-h,--help}}'[print help]'");
        for operand in zsh_operands(row) {
            _ = write!(text, " \\\n            {}", single_quoted(&operand));
        }
        text += "\n        ;;\n";
    }
    text += "    help) _describe verb verbs ;;\n    \
             esac\n\
             }\n\
             if [ \"$funcstack[1]\" = _xlaunch ]; then\n    \
             _xlaunch \"$@\"\n\
             else\n    \
             compdef _xlaunch xlaunch\n\
             fi\n";
    text
}

fn zsh_flag(flag: &Flag) -> String {
    let (letter, name) = (flag.letter, flag.name);
    let repeats = matches!(flag.place, Place::Many(..));
    let (after_letter, after_name) = match flag.place.metavar() {
        Some(_) => ("+", "="),
        None => ("", ""),
    };
    let value = match flag.place.metavar() {
        Some(metavar) => format!(":{}:{}", zsh_text(metavar), zsh_action(flag.completion)),
        None => String::new(),
    };
    let rest = single_quoted(&format!("[{}]{value}", zsh_text(flag.help)));
    match (letter, repeats) {
        (Some(letter), true) => {
            format!("'*'{{-{letter}{after_letter},--{name}{after_name}}}{rest}")
        }
        (Some(letter), false) => {
            format!("'(-{letter} --{name})'{{-{letter}{after_letter},--{name}{after_name}}}{rest}")
        }
        (None, true) => format!("'*'--{name}{after_name}{rest}"),
        (None, false) => format!("--{name}{after_name}{rest}"),
    }
}

fn zsh_operands(row: &VerbRow) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(operand) = &row.operand {
        let optional = if operand.required { "" } else { ":" };
        let action = zsh_action(operand.completion);
        all.push(format!(
            "1{optional}:{}:{action}",
            zsh_text(operand.metavar)
        ));
    }
    if row.takes_command {
        all.push("*:: :_message command".to_owned());
    }
    all
}

/// A text in the middle of one of `_arguments`'s descriptions.
fn zsh_text(text: &str) -> String {
    let special = |c: char| matches!(c, '\\' | '[' | ']' | ':');
    text.chars()
        .flat_map(|c| special(c).then_some('\\').into_iter().chain([c]))
        .collect()
}

fn zsh_action(completion: Completion) -> String {
    match completion {
        Completion::Nothing => " ".to_owned(),
        Completion::File => "_files".to_owned(),
        Completion::Directory => "_files -/".to_owned(),
        Completion::Words(words) => format!("({})", words.join(" ")),
        Completion::Variable => "_parameters -g *export*".to_owned(),
    }
}

fn fish() -> String {
    let mut text = "# Completions of xlaunch for fish, written by `xlaunch completions fish`.\n\
         complete -c xlaunch -f\n"
        .to_owned();
    for row in VERBS {
        let (name, summary) = (row.name, single_quoted(row.summary.trim_end_matches('.')));
        _ = writeln!(
            text,
            "complete -c xlaunch -n __fish_use_subcommand -a {name} -d {summary}"
        );
    }
    for row in VERBS {
        let verb = format!("-n '__fish_seen_subcommand_from {}'", row.name);
        for flag in row.verb.flags() {
            let letter = flag.letter.map(|letter| format!(" -s {letter}"));
            let value = match flag.place.metavar() {
                Some(_) => format!(" {}", fish_action(flag.completion)),
                None => String::new(),
            };
            _ = writeln!(
                text,
                "complete -c xlaunch {verb}{} -l {}{value} -d {}",
                letter.unwrap_or_default(),
                flag.name,
                single_quoted(flag.help)
            );
        }
        match row.operand.as_ref().map(|operand| operand.completion) {
            Some(Completion::File) => _ = writeln!(text, "complete -c xlaunch {verb} -F"),
            Some(Completion::Nothing) | None => {}
            Some(other) => _ = writeln!(text, "complete -c xlaunch {verb} {}", fish_action(other)),
        }
    }
    text + "complete -c xlaunch -s h -l help -d 'print help'\n"
}

fn fish_action(completion: Completion) -> String {
    match completion {
        Completion::Nothing => "-x".to_owned(),
        Completion::File => "-r -F".to_owned(),
        Completion::Directory => "-x -a '(__fish_complete_directories)'".to_owned(),
        Completion::Words(words) => format!("-x -a '{}'", words.join(" ")),
        Completion::Variable => "-x -a '(set -nx)'".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_is_told_of_every_verb_and_flag() {
        for shell in SHELLS {
            let script = script(shell).unwrap();
            for row in VERBS {
                assert!(script.contains(row.name), "{shell}: {}", row.name);
                for flag in row.verb.flags() {
                    let written = match *shell {
                        "fish" => format!(" -l {} ", flag.name),
                        _ => format!("--{}", flag.name),
                    };
                    assert!(script.contains(&written), "{shell}: {written}");
                }
            }
        }
        assert_eq!(script("tcsh"), None);
    }

    #[test]
    fn texts_cannot_leave_their_quotes() {
        assert_eq!(single_quoted("it's"), r"'it'\''s'");
        assert_eq!(zsh_text(r"a[:b]\"), r"a\[\:b\]\\");
    }
}
