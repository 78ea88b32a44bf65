//! The command line as it was typed.
//!
//! argh does the parsing. Around it, because people type what other tools take: `--flag=value` and `-mSIZE` are taken
//! apart, `-h` is help, and everything behind `--` is the guest's command, untouched and of any bytes. argh's own
//! exits are caught, so that a usage error is one sentence and exit code 125.

use super::usage::Usage;
use argh::FromArgs;
use std::ffi::OsString;

const PROGRAM: &str = "xlaunch";
/// The flags that take a value: long name and letter.
const VALUED: &[(&str, Option<char>)] = &[
    ("--memory", Some('m')),
    ("--cpus", Some('c')),
    ("--engine", None),
    ("--disk", None),
    ("--ahci-disk", None),
    ("--cdrom", None),
    ("--kernel", None),
    ("--initrd", None),
    ("--module", None),
    ("--append", None),
    ("--timeout", None),
    ("--env", Some('e')),
    ("--workdir", Some('w')),
    ("--log", None),
];

/// Boot Linux in a throwaway sandbox: one command, a machine of its own, gone afterwards.
#[derive(FromArgs, Debug, PartialEq, Eq)]
struct Words {
    #[argh(subcommand)]
    verb: Verb,
}

#[derive(FromArgs, Debug, PartialEq, Eq)]
#[argh(subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is only ever one")]
enum Verb {
    Doctor(Doctor),
    Licenses(Licenses),
    Run(Run),
    Tables(Tables),
    Topology(Topology),
    Version(Version),
}

/// Run a command, or a shell, in a new Linux machine.
#[derive(FromArgs, Clone, Debug, Default, PartialEq, Eq)]
#[argh(
    subcommand,
    name = "run",
    example = "{command_name}\n{command_name} -- uname -a\n{command_name} -m 2G -c 4 disk.img -- make test",
    note = "The command and its arguments stand behind --. Without one, a login shell starts.",
    note = "In a terminal, Ctrl-] three times within a second leaves the sandbox.",
    error_code(123, "The guest died: a kernel panic or a triple fault."),
    error_code(124, "The time given by --timeout is over."),
    error_code(125, "xlaunch itself failed, or was called wrongly."),
    error_code(126, "The command is there but cannot be executed."),
    error_code(127, "The command is not there."),
    error_code(128, "And above: 128+n, the command or xlaunch was ended by signal n.")
)]
pub(super) struct Run {
    /// a raw disk image whose Linux file system becomes the root; without --keep it is never changed
    #[argh(positional)]
    pub(super) disk: Option<String>,

    /// memory, such as 512M or 2G; committed as it is touched (default 1G)
    #[argh(option, short = 'm', arg_name = "size")]
    pub(super) memory: Option<String>,

    /// number of CPUs, 1 to 64 (default 2)
    #[argh(option, short = 'c', arg_name = "n")]
    pub(super) cpus: Option<String>,

    /// what executes the guest: auto, hvf, kvm or soft (default auto)
    #[argh(option, arg_name = "name")]
    pub(super) engine: Option<String>,

    /// a further raw disk image, with :ro for a read-only disk: /dev/vdb and so on
    #[argh(option, long = "disk", arg_name = "file[:ro]")]
    pub(super) disks: Vec<String>,

    /// a raw disk image at the AHCI controller, with :ro for a read-only disk: /dev/sda and so on
    #[argh(option, long = "ahci-disk", arg_name = "file[:ro]")]
    pub(super) ahci_disks: Vec<String>,

    /// a CD drive with this ISO image in it, or none: /dev/sr0 and so on
    #[argh(option, long = "cdrom", arg_name = "file")]
    pub(super) cdroms: Vec<String>,

    /// write the guest's changes to the images themselves, but for those with :ro
    #[argh(switch)]
    pub(super) keep: bool,

    /// add a serial port on the PCI bus; its other end is a pseudo-terminal, whose name is said on standard error
    #[argh(switch)]
    pub(super) pci_uart: bool,

    /// boot this bzImage, vmlinux or multiboot kernel instead of the built-in kernel
    #[argh(option, arg_name = "file")]
    pub(super) kernel: Option<String>,

    /// use this initrd instead of the built-in one
    #[argh(option, arg_name = "file")]
    pub(super) initrd: Option<String>,

    /// a module for a multiboot kernel, with the text that goes with it
    #[argh(option, long = "module", arg_name = "file[=text]")]
    pub(super) modules: Vec<String>,

    /// add this to the kernel's command line
    #[argh(option, arg_name = "text")]
    pub(super) append: Vec<String>,

    /// end everything after this time, such as 90s or 5m
    #[argh(option, arg_name = "time")]
    pub(super) timeout: Option<String>,

    /// set a variable for the command, NAME=value, or NAME to pass our own
    #[argh(option, short = 'e', arg_name = "variable")]
    pub(super) env: Vec<String>,

    /// start the command in this directory of the guest
    #[argh(option, short = 'w', arg_name = "directory")]
    pub(super) workdir: Option<String>,

    /// show the kernel's console and what xlaunch does, on standard error
    #[argh(switch)]
    pub(super) verbose: bool,

    /// write what xlaunch does to this file
    #[argh(option, arg_name = "file")]
    pub(super) log: Option<String>,
}

/// Write the firmware's tables of a machine to files: ACPI, MP and SMBIOS.
#[derive(FromArgs, Clone, Debug, Default, PartialEq, Eq)]
#[argh(
    subcommand,
    name = "tables",
    example = "{command_name} -c 4 out && iasl -d out/DSDT.aml",
    note = "Nothing is overwritten: the directory must be new or empty.",
    note = "SMBIOS.dat is a dump for dmidecode --from-dump; the other files are what a guest finds in memory."
)]
pub(super) struct Tables {
    /// the directory to write to; it is made where there is none
    #[argh(positional)]
    pub(super) dir: String,

    /// memory, as for run
    #[argh(option, short = 'm', arg_name = "size")]
    pub(super) memory: Option<String>,

    /// number of CPUs, as for run
    #[argh(option, short = 'c', arg_name = "n")]
    pub(super) cpus: Option<String>,

    /// a raw disk image, as for run
    #[argh(option, long = "disk", arg_name = "file[:ro]")]
    pub(super) disks: Vec<String>,

    /// add a serial port on the PCI bus
    #[argh(switch)]
    pub(super) pci_uart: bool,
}

/// Print a machine: CPUs, clocks, memory, interrupts, PCI functions and ports.
#[derive(FromArgs, Clone, Debug, Default, PartialEq, Eq)]
#[argh(subcommand, name = "topology")]
pub(super) struct Topology {
    /// for programs, as JSON
    #[argh(switch)]
    pub(super) json: bool,

    /// memory, as for run
    #[argh(option, short = 'm', arg_name = "size")]
    pub(super) memory: Option<String>,

    /// number of CPUs, as for run
    #[argh(option, short = 'c', arg_name = "n")]
    pub(super) cpus: Option<String>,

    /// a raw disk image, as for run
    #[argh(option, long = "disk", arg_name = "file[:ro]")]
    pub(super) disks: Vec<String>,

    /// add a serial port on the PCI bus
    #[argh(switch)]
    pub(super) pci_uart: bool,
}

/// Print what this host gives us: engines, with the reason for or against each, and the terminal.
#[derive(FromArgs, Clone, Debug, PartialEq, Eq)]
#[argh(subcommand, name = "doctor")]
struct Doctor {}

/// Print what the program is made of, under which licences, and where the source is.
#[derive(FromArgs, Clone, Debug, PartialEq, Eq)]
#[argh(subcommand, name = "licenses")]
struct Licenses {}

/// Print the version, and what guest is built in.
#[derive(FromArgs, Clone, Debug, PartialEq, Eq)]
#[argh(subcommand, name = "version")]
struct Version {}

impl Tables {
    /// The run of such a machine.
    pub(super) fn as_run(&self) -> Run {
        Run {
            memory: self.memory.clone(),
            cpus: self.cpus.clone(),
            disks: self.disks.clone(),
            pci_uart: self.pci_uart,
            ..Run::default()
        }
    }
}

impl Topology {
    /// The run of such a machine.
    pub(super) fn as_run(&self) -> Run {
        Run {
            memory: self.memory.clone(),
            cpus: self.cpus.clone(),
            disks: self.disks.clone(),
            pci_uart: self.pci_uart,
            ..Run::default()
        }
    }
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is only ever one")]
pub(super) enum Typed {
    /// Run a machine, with this command behind `--`.
    Run(Run, Vec<OsString>),
    /// Say what the program is made of.
    Licenses,
    /// Write a machine's tables.
    Tables(Tables),
    /// Print a machine.
    Topology(Topology),
    /// Print what the host gives us.
    Doctor,
    /// Print the version.
    Version,
    /// Print this help.
    Help(String),
}

/// Reads the arguments, without the program's name.
pub(super) fn read(arguments: Vec<OsString>) -> Result<Typed, Usage> {
    let mut ours = arguments;
    let command = match ours.iter().position(|argument| argument == "--") {
        Some(at) => {
            let command = ours.split_off(at + 1);
            ours.pop();
            Some(command)
        }
        None => None,
    };
    let words = expand(ours)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match Words::from_args(&[PROGRAM], &words) {
        Ok(words) => meet(words.verb, command),
        Err(exit) if exit.status.is_ok() => Ok(Typed::Help(with_command(&exit.output))),
        Err(exit) => Err(sentence(&exit.output)),
    }
}

fn meet(verb: Verb, command: Option<Vec<OsString>>) -> Result<Typed, Usage> {
    match (verb, command) {
        (Verb::Run(_), Some(command)) if command.is_empty() => Err(Usage(
            "there is no command behind --; add one, or leave -- out for a shell".to_owned(),
        )),
        (Verb::Run(run), command) => Ok(Typed::Run(run, command.unwrap_or_default())),
        (Verb::Doctor(_), None) => Ok(Typed::Doctor),
        (Verb::Licenses(_), None) => Ok(Typed::Licenses),
        (Verb::Tables(tables), None) => Ok(Typed::Tables(tables)),
        (Verb::Topology(topology), None) => Ok(Typed::Topology(topology)),
        (Verb::Version(_), None) => Ok(Typed::Version),
        (_, Some(_)) => Err(Usage(
            "only run takes a command; leave out -- and what is behind it".to_owned(),
        )),
    }
}

/// Writes the arguments as argh wants them.
fn expand(arguments: Vec<OsString>) -> Result<Vec<String>, Usage> {
    let mut words = Vec::new();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let word = text(argument)?;
        match word.as_str() {
            "-h" => words.push("--help".to_owned()),
            "-V" | "--version" if words.is_empty() => words.push("version".to_owned()),
            _ => split(&word, &mut words),
        }
        // A flag's value is taken as it is, even if it looks like a flag itself.
        if is_valued(words.last())
            && words.last() == Some(&word)
            && let Some(value) = arguments.next()
        {
            words.push(text(value)?);
        }
    }
    Ok(words)
}

fn text(argument: OsString) -> Result<String, Usage> {
    argument.into_string().map_err(|argument| {
        Usage(format!(
            "the argument {argument:?} is not UTF-8; only the command behind -- may be anything"
        ))
    })
}

fn is_valued(word: Option<&String>) -> bool {
    let matches = |(long, short): &(&str, Option<char>), word: &String| {
        word == long || short.is_some_and(|short| *word == format!("-{short}"))
    };
    word.is_some_and(|word| VALUED.iter().any(|flag| matches(flag, word)))
}

/// `--flag=value` becomes two words, and so do `-mVALUE` and `-m=VALUE`.
fn split(word: &str, words: &mut Vec<String>) {
    let halves = if word.starts_with("--") {
        word.split_once('=')
    } else {
        let letters = VALUED.iter().filter_map(|(_, short)| *short);
        letters
            .filter(|letter| word.len() > 2 && word[1..].starts_with(*letter))
            .map(|_| word.split_at(2))
            .next()
            .filter(|_| word.starts_with('-'))
            .map(|(flag, value)| (flag, value.strip_prefix('=').unwrap_or(value)))
    };
    match halves {
        Some((flag, value)) => words.extend([flag.to_owned(), value.to_owned()]),
        None => words.push(word.to_owned()),
    }
}

/// argh does not know what stands behind `--`.
fn with_command(help: &str) -> String {
    help.replace("[--] [<disk>]", "[<disk>] [-- <command...>]")
}

/// argh's complaint as one sentence.
fn sentence(output: &str) -> Usage {
    let lines = output
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let complaint = lines.collect::<Vec<_>>().join(" ");
    let complaint = complaint.trim_end_matches('.');
    let mut letters = complaint.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    Usage(format!(
        "{}{}; see xlaunch --help or xlaunch run --help",
        first.map(String::from).unwrap_or_default(),
        letters.as_str()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &[&str]) -> Result<Typed, Usage> {
        read(line.iter().map(OsString::from).collect())
    }

    fn run(line: &[&str]) -> (Run, Vec<OsString>) {
        match typed(line) {
            Ok(Typed::Run(run, command)) => (run, command),
            other => panic!("{other:?}"),
        }
    }

    fn complaint(line: &[&str]) -> String {
        typed(line).unwrap_err().to_string()
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
        ];
        for form in forms {
            assert_eq!(run(form).0.memory.as_deref(), Some("2G"), "{form:?}");
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
        let some = |text: &str| Some(text.to_owned());
        let expected = Run {
            disk: some("disk.img"),
            memory: None,
            cpus: some("4"),
            engine: some("soft"),
            disks: vec!["b:ro".to_owned(), "c".to_owned()],
            ahci_disks: vec!["d".to_owned()],
            cdroms: vec!["none".to_owned()],
            keep: true,
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
        for line in [&["-h"][..], &["--help"], &["run", "-h"], &["run", "--help"]] {
            match typed(line) {
                Ok(Typed::Help(text)) => assert!(text.contains("Usage: xlaunch"), "{text}"),
                other => panic!("{other:?}"),
            }
        }
        for line in [&["version"][..], &["--version"], &["-V"]] {
            assert_eq!(typed(line), Ok(Typed::Version));
        }
        assert_eq!(typed(&["licenses"]), Ok(Typed::Licenses));
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
        let some = |text: &str| Some(text.to_owned());
        let disks = vec!["a".to_owned(), "b:ro".to_owned()];
        let expected = Topology {
            json: true,
            memory: some("2G"),
            cpus: some("4"),
            disks: disks.clone(),
            pci_uart: true,
        };
        let line = [&["topology", "--json"][..], &flags].concat();
        assert_eq!(typed(&line), Ok(Typed::Topology(expected)));
        let expected = Tables {
            dir: "out".to_owned(),
            memory: some("2G"),
            cpus: some("4"),
            disks,
            pci_uart: true,
        };
        let line = [&["tables", "out"][..], &flags].concat();
        assert_eq!(typed(&line), Ok(Typed::Tables(expected)));
    }

    #[test]
    fn complaints_are_one_sentence_that_names_the_culprit() {
        let cases = [
            (&["run", "--frobnicate"][..], "--frobnicate"),
            (&["run", "--memory"], "--memory"),
            (&["run", "a.img", "b.img"], "b.img"),
            (&["walk"], "walk"),
            (&["run", "-m", "1G", "-m", "2G"], "duplicate"),
            (&["run", "--"], "behind --"),
            (&["version", "--", "x"], "only run"),
            (&["topology", "--", "x"], "only run"),
            (&["tables"], "dir"),
            (&["tables", "a", "b"], "b"),
            (&["topology", "x"], "x"),
        ];
        for (line, culprit) in cases {
            let complaint = complaint(line);
            assert!(complaint.contains(culprit), "{complaint}");
            assert!(!complaint.contains('\n'), "{complaint}");
        }
        assert!(complaint(&[]).contains("run"));
    }

    #[test]
    fn every_flag_with_a_value_is_known_to_the_splitter() {
        let help = match typed(&["run", "--help"]) {
            Ok(Typed::Help(text)) => text,
            other => panic!("{other:?}"),
        };
        for (long, _) in VALUED {
            assert!(help.contains(long), "{long}");
        }
        assert!(help.contains("[<disk>] [-- <command...>]\n"), "{help}");
    }
}
