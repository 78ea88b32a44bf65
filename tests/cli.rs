//! The program from outside, wherever it needs no guest: what is printed, to which stream, and the exit code.

#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A directory to run in. Whatever a failed run leaves behind would be found here.
struct Place {
    dir: TempDir,
    files: usize,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, files: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        File::create(&path).unwrap().write_all(bytes).unwrap();
        self.files += 1;
        path
    }

    fn sparse(&mut self, name: &str, length: u64) -> PathBuf {
        let path = self.file(name, &[]);
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(length).unwrap();
        path
    }

    fn fifo(&mut self, name: &str) -> PathBuf {
        let path = self.path(name);
        assert!(
            Command::new("mkfifo")
                .arg(&path)
                .status()
                .unwrap()
                .success()
        );
        self.files += 1;
        path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xlaunch"));
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .env("TMPDIR", self.dir.path())
            .env_remove("XLAUNCH_ENGINE")
            .stdin(Stdio::null());
        command
    }

    /// Runs what must fail in our own name and gives the sentence.
    fn failure(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert_eq!(output.stdout, b"", "{arguments:?}");
        let sentence = sentence(&output);
        let left = fs::read_dir(self.dir.path()).unwrap().count();
        assert_eq!(left, self.files, "{arguments:?} left something behind");
        sentence
    }

    /// Boots `kernel`, which must fail, with an initrd that is not to blame.
    fn boot_failure(&mut self, kernel: &Path, more: &[&str]) -> String {
        let initrd = self.file("initrd", b"070701");
        let mut arguments = vec!["run", "--kernel", text(kernel), "--initrd", text(&initrd)];
        arguments.extend(more);
        self.failure(&arguments)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The one sentence on standard error of a run that failed with 125.
fn sentence(output: &Output) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    let line = stderr.strip_suffix('\n').expect("a whole line");
    assert!(!line.contains('\n'), "one sentence: {stderr}");
    let sentence = line.strip_prefix("xlaunch: ").expect("our name first");
    sentence.to_owned()
}

/// The header of a bzImage by Linux's boot protocol 2.15, with 4 setup sectors and 1 MiB of code promised.
fn bzimage_header() -> Vec<u8> {
    let mut image = vec![0; 1024];
    image[0x1f1] = 4;
    image[0x1f4..0x1f8].copy_from_slice(&(1_u32 << 16).to_le_bytes());
    image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    image[0x200..0x202].copy_from_slice(&[0xeb, 0x6a]);
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x020f_u16.to_le_bytes());
    image[0x211] = 1;
    image
}

/// A multiboot kernel by its header's addresses, which also has these flags: it sends the first two bytes of its
/// second module and a newline to COM1, and powers the machine off.
fn multiboot(flags: u32) -> Vec<u8> {
    const MAGIC: u32 = 0x1bad_b002;
    let flags = flags | 1 << 16;
    let checksum = 0_u32.wrapping_sub(MAGIC).wrapping_sub(flags);
    let (at, entry) = (0x2_0000, 0x2_0020);
    let header = [MAGIC, flags, checksum, at, at, 0, 0, entry];
    let code: [&[u8]; 6] = [
        b"\x8b\x73\x18\x8b\x76\x10", // mov esi, [ebx + mods_addr]; mov esi, [esi + 16]
        b"\x66\xba\xf8\x03",         // mov dx, 0x3f8
        b"\xac\xee\xac\xee",         // lodsb; out dx, al; lodsb; out dx, al
        b"\xb0\x0a\xee",             // mov al, 10; out dx, al
        b"\x66\xb8\x00\x34\x66\xba\x04\x04\x66\xef", // mov ax, 0x3400; mov dx, 0x404; out dx, ax
        b"\xf4\xeb\xfd",             // hlt; jmp back
    ];
    [header.map(u32::to_le_bytes).as_flattened(), &code.concat()].concat()
}

#[test]
fn a_multiboot_kernel_gets_its_modules_and_a_mebibyte() {
    let mut place = Place::new();
    let kernel = place.file("kernel", &multiboot(0));
    let (initrd, module) = (place.file("i", b"initrd"), place.file("m", b"hi"));
    let module = format!("--module={}=text", text(&module));
    let arguments = ["run", "--kernel", text(&kernel), "--initrd", text(&initrd)];
    let mut command = place.command(&arguments);
    let command = command.args([&module, "-m1M", "-c1", "--verbose"]);
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.lines().any(|line| line == "hi"), "{stderr}");
    assert!(stderr.contains("powered off before its init"), "{stderr}");
    assert_eq!(output.status.code(), Some(123), "{stderr}");
}

#[test]
fn usage_errors_are_one_sentence_and_125() {
    let place = Place::new();
    let cases = [
        (&[][..], "run"),
        (&["walk"], "walk"),
        (&["run", "--frobnicate"], "--frobnicate"),
        (&["run", "--memory"], "--memory"),
        (&["run", "--memory=lots"], "--memory 'lots'"),
        (&["run", "-m", "1K"], "--memory '1K'"),
        (&["run", "-c0"], "--cpus '0'"),
        (&["run", "--cpus=65"], "--cpus '65'"),
        (&["run", "--engine", "warp"], "--engine 'warp'"),
        (&["run", "--timeout", "soon"], "--timeout 'soon'"),
        (&["run", "-e", "=x"], "--env '=x'"),
        (&["run", "-w", "here"], "--workdir 'here'"),
        (&["run", "a.img", "b.img"], "b.img"),
        (&["run", "--"], "--"),
        (&["run", "--memroy=1G"], "did you mean --memory?"),
        (&["run", "a.img", "ls"], "a command stands behind --"),
        (&["run", "-itm", "1K"], "--memory '1K'"),
    ];
    for (arguments, culprit) in cases {
        let images = ["--kernel", "k", "--initrd", "i"];
        let with_images: Vec<&str> = match arguments.split_first() {
            Some((&"run", rest)) => ["run"].iter().chain(&images).chain(rest).copied().collect(),
            _ => arguments.to_vec(),
        };
        let sentence = place.failure(&with_images);
        assert!(sentence.contains(culprit), "{sentence}");
    }
}

#[test]
fn a_wrong_value_in_the_environment_is_blamed_on_its_variable() {
    let place = Place::new();
    let run = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        command.env("XLAUNCH_MEMORY", "lots").output().unwrap()
    };
    let images = ["run", "--kernel", "k", "--initrd", "i"];
    assert!(sentence(&run(&images)).starts_with("XLAUNCH_MEMORY 'lots'"));
    let typed = [&images[..], &["-m1G"]].concat();
    assert!(sentence(&run(&typed)).contains("kernel k"));
}

#[test]
fn engines_that_are_not_there_say_what_to_use() {
    let place = Place::new();
    if !printed(&place, &["version"]).contains("kernel_sha256") {
        println!("skipped: no guest is built in, and without one no engine is asked for");
        return;
    }
    let here = [
        (
            "kvm",
            fs::OpenOptions::new().write(true).open("/dev/kvm").is_ok(),
        ),
        (
            "hvf",
            cfg!(all(target_os = "macos", target_arch = "x86_64")),
        ),
    ];
    for (engine, may_be_there) in here {
        if may_be_there {
            println!("skipped: {engine} may be there");
            continue;
        }
        let sentence = place.failure(&["run", "--engine", engine, "--", "true"]);
        assert!(sentence.contains("--engine soft"), "{sentence}");
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    let place = Place::new();
    for (argument, expected) in [
        ("--help", "Usage: xlaunch"),
        ("-h", "Usage: xlaunch"),
        ("version", concat!("xlaunch ", env!("CARGO_PKG_VERSION"))),
        ("--version", concat!("xlaunch ", env!("CARGO_PKG_VERSION"))),
    ] {
        let output = place.command(&[argument]).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(output.stderr, b"");
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert!(stdout.starts_with(expected), "{stdout}");
    }
}

/// The standard output of what must succeed in silence.
fn printed(place: &Place, arguments: &[&str]) -> String {
    let output = place.command(arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*stderr), (Some(0), ""));
    String::from_utf8(output.stdout).unwrap()
}

/// A reader of JSON (RFC 8259) that takes exactly one value: what is left of the text, or nothing where it is none.
fn value(text: &str) -> Option<&str> {
    let text = text.trim_start();
    let rest = match text.chars().next()? {
        '{' => members(&text[1..], '}', member)?,
        '[' => members(&text[1..], ']', value)?,
        '"' => string(text)?,
        _ => {
            let plain = |c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c);
            let word = &text[..text.find(plain).unwrap_or(text.len())];
            let known = ["true", "false", "null"].contains(&word) || word.parse::<f64>().is_ok();
            known.then(|| &text[word.len()..])?
        }
    };
    Some(rest)
}

fn members<'a>(text: &'a str, end: char, one: fn(&'a str) -> Option<&'a str>) -> Option<&'a str> {
    if let Some(rest) = text.trim_start().strip_prefix(end) {
        return Some(rest);
    }
    let mut rest = text;
    loop {
        rest = one(rest)?.trim_start();
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return rest.strip_prefix(end),
        }
    }
}

fn member(text: &str) -> Option<&str> {
    value(string(text.trim_start())?.trim_start().strip_prefix(':')?)
}

fn string(text: &str) -> Option<&str> {
    let mut rest = text.strip_prefix('"')?;
    loop {
        match rest.chars().next()? {
            '"' => return Some(&rest[1..]),
            '\\' => rest = rest.get(2..)?,
            other => rest = &rest[other.len_utf8()..],
        }
    }
}

#[test]
fn what_is_for_programs_is_json() {
    for (text, is) in [
        ("{\"a\": [1, {}, \"\\\"\"]}", true),
        ("[1 2]", false),
        ("{\"a\"}", false),
        ("[", false),
    ] {
        assert_eq!(value(text) == Some(""), is, "{text}");
    }
    let place = Place::new();
    for (arguments, member) in [
        (&["doctor", "--json"][..], "\"engines\": ["),
        (&["version", "--json"], "\"version\": \""),
        (&["topology", "--json"], "\"pci\": ["),
    ] {
        let page = printed(&place, arguments);
        assert_eq!(value(&page), Some("\n"), "{page}");
        assert!(page.contains(member), "{page}");
    }
}

/// A machine that ends before its init could greet is a result and a drawing too.
#[test]
fn a_run_leaves_its_result_and_its_timeline_where_it_was_told() {
    let mut place = Place::new();
    let kernel = place.file("kernel", &multiboot(0));
    let (initrd, module) = (place.file("i", b"initrd"), place.file("m", b"hi"));
    let module = format!("--module={}", text(&module));
    let (result, drawing) = (place.path("r.json"), place.path("t.svg"));
    let arguments = [
        "run",
        "--kernel",
        text(&kernel),
        "--initrd",
        text(&initrd),
        &module,
        "-m1M",
        "-c1",
        "--engine=soft",
        "--json",
        text(&result),
        "--timeline",
        text(&drawing),
    ];
    let output = place.command(&arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(123), "{stderr}");
    let result = fs::read_to_string(result).unwrap();
    assert_eq!(value(&result), Some("\n"), "{result}");
    for member in [
        "\"verdict\": \"died\"",
        "\"exit_code\": 123",
        "\"engine\": \"soft\"",
        "\"command_seconds\": null",
    ] {
        assert!(result.contains(member), "{member}: {result}");
    }
    assert!(!result.contains("\"guest_instructions\": null"), "{result}");
    let drawing = fs::read_to_string(drawing).unwrap();
    assert!(drawing.starts_with("<svg ") && drawing.ends_with("</svg>\n"));
    for part in ["loads the kernel", "first instruction", "ends the machine"] {
        assert!(drawing.contains(part), "{part}: {drawing}");
    }
}

#[test]
fn what_cannot_be_written_is_said_before_anything_starts() {
    let mut place = Place::new();
    let kernel = place.file("kernel", &multiboot(0));
    let initrd = place.file("initrd", b"070701");
    for flag in ["--json", "--timeline"] {
        let arguments = [
            "run",
            "--kernel",
            text(&kernel),
            "--initrd",
            text(&initrd),
            flag,
            "/no/such",
        ];
        assert!(place.failure(&arguments).contains("'/no/such'"));
    }
}

/// Runs another program; nothing after having said so where it is not there.
fn other(program: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => Some(output),
        Err(error) => {
            println!("skipped: {program} is not here: {error}");
            None
        }
    }
}

#[test]
fn shells_accept_our_completions() {
    let mut place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&place, &["completions", shell]);
        let script = place.file(shell, script.as_bytes());
        if let Some(output) = other(shell, &["-n", text(&script)]) {
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && stderr.is_empty(), "{stderr}");
        }
    }
    let sentence = place.failure(&["completions", "tcsh"]);
    assert!(sentence.contains("bash, zsh, fish"), "{sentence}");
}

#[test]
fn bash_completes_our_lines() {
    let mut place = Place::new();
    let script = printed(&place, &["completions", "bash"]);
    let script = place.file("script", script.as_bytes());
    // The words of the line as bash takes them apart, and what it is to offer.
    for (words, expected) in [
        (&["xlaunch", "to"][..], "topology\n"),
        (&["xlaunch", "run", "--mem"], "--memory\n"),
        (&["xlaunch", "run", "--engine", "k"], "kvm\n"),
        (&["xlaunch", "run", "--engine", "=", "so"], "soft\n"),
        (&["xlaunch", "topology", "--js"], "--json\n"),
        (&["xlaunch", "topology", "--ke"], ""),
        (&["xlaunch", "completions", "f"], "fish\n"),
        (&["xlaunch", "help", "doc"], "doctor\n"),
        (&["xlaunch", "run", "--", "--mem"], ""),
    ] {
        let line = "source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _xlaunch
            [ ${#COMPREPLY[@]} = 0 ] || printf '%s\\n' \"${COMPREPLY[@]}\"";
        let mut arguments = vec!["-c", line, "bash", text(&script)];
        arguments.extend(words);
        let Some(output) = other("bash", &arguments) else {
            return;
        };
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert_eq!(stdout, expected, "{words:?}");
    }
}

#[test]
fn fish_completes_our_lines() {
    let mut place = Place::new();
    let script = printed(&place, &["completions", "fish"]);
    let script = place.file("script", script.as_bytes());
    for (line, expected) in [
        ("xlaunch topo", "topology"),
        ("xlaunch run --mem", "--memory"),
        ("xlaunch run --engine k", "kvm"),
        ("xlaunch completions z", "zsh"),
    ] {
        let command = format!("source {}; complete -C '{line}'", text(&script));
        let Some(output) = other("fish", &["--no-config", "-c", &command]) else {
            return;
        };
        let stdout = String::from_utf8_lossy(&output.stdout);
        let mut offers = stdout.lines().map(|line| line.split('\t').next());
        assert!(offers.any(|it| it == Some(expected)), "{line}: {stdout}");
    }
}

#[test]
fn the_manual_is_one_that_readers_of_manuals_take() {
    let mut place = Place::new();
    let page = printed(&place, &["man"]);
    let page = place.file("xlaunch.1", page.as_bytes());
    let page = text(&page);
    for (reader, arguments) in [
        ("groff", &["-man", "-Tutf8", "-ww", "-z", page][..]),
        ("mandoc", &["-T", "lint", "-W", "warning", page]),
    ] {
        if let Some(output) = other(reader, arguments) {
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            // A page without a date is as meant: it is of its version.
            let mut said = said.lines().filter(|it| !it.contains("missing date"));
            assert_eq!(said.next(), None, "{reader}");
        }
    }
    if let Some(output) = other("man", &["-P", "cat", "-l", page]) {
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(shown.contains("EXIT STATUS"), "{shown}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_output_that_cannot_be_written_is_said() {
    let place = Place::new();
    for argument in ["version", "--help"] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = place.command(&[argument]).stdout(full).output().unwrap();
        let sentence = sentence(&output);
        assert!(
            sentence.starts_with("cannot write to standard output: "),
            "{sentence}"
        );
    }
}

#[test]
fn a_message_that_nobody_can_hear_is_still_an_exit_code() {
    let place = Place::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = place.command(&["walk"]).stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(125));
}

#[test]
fn an_output_that_nobody_reads_ends_like_a_broken_pipe() {
    let place = Place::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = place.command(&["--help"]).stdout(writer).output().unwrap();
    assert_eq!(output.status.code(), Some(128 + 13));
    assert_eq!(output.stderr, b"");
}

#[test]
fn kernels_that_are_no_kernels_say_what_they_are() {
    let missing = |place: &mut Place| place.path("nothing");
    let directory = |_: &mut Place| PathBuf::from("/usr");
    let fifo = |place: &mut Place| place.fifo("fifo");
    let empty = |place: &mut Place| place.file("empty", b"");
    let words = |place: &mut Place| place.file("words", b"#!/bin/sh\necho not a kernel\n");
    let truncated = |place: &mut Place| place.file("short", &bzimage_header());
    let large = |place: &mut Place| {
        let path = place.sparse("large", 17 << 20);
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&bzimage_header(), 0).unwrap();
        path
    };
    let demanding = |place: &mut Place| place.file("demanding", &multiboot(1 << 2));
    type Make<'a> = &'a dyn Fn(&mut Place) -> PathBuf;
    let cases: [(Make<'_>, &str); 8] = [
        (&demanding, "demands 0x4"),
        (&missing, "no such file"),
        (&directory, "directory"),
        (&fifo, "FIFO"),
        (&empty, "empty"),
        (&words, "text"),
        (&truncated, "truncated"),
        (&large, "memory"),
    ];
    for (make, reason) in cases {
        let mut place = Place::new();
        let kernel = make(&mut place);
        let sentence = place.boot_failure(&kernel, &["-m", "16M"]);
        assert!(sentence.contains(text(&kernel)), "{sentence}");
        assert!(sentence.contains(reason), "wanted '{reason}': {sentence}");
    }
}

#[test]
fn disks_that_are_no_images_say_what_they_are() {
    let missing = |place: &mut Place| place.path("nothing");
    let directory = |_: &mut Place| PathBuf::from("/usr");
    let fifo = |place: &mut Place| place.fifo("fifo");
    let empty = |place: &mut Place| place.file("empty", b"");
    type Make<'a> = &'a dyn Fn(&mut Place) -> PathBuf;
    let cases: [(Make<'_>, &str); 4] = [
        (&missing, "no such file"),
        (&directory, "directory"),
        (&fifo, "neither a file nor a block device"),
        (&empty, "empty"),
    ];
    for (make, reason) in cases {
        let mut place = Place::new();
        let disk = make(&mut place);
        let kernel = place.file("kernel", &bzimage_header());
        let sentence = place.boot_failure(&kernel, &[text(&disk)]);
        assert!(sentence.contains(text(&disk)), "{sentence}");
        assert!(sentence.contains(reason), "wanted '{reason}': {sentence}");
    }
}

#[test]
fn initrds_that_are_no_files_say_so() {
    let mut place = Place::new();
    let kernel = place.file("kernel", &bzimage_header());
    let sentence = place.failure(&["run", "--kernel", text(&kernel), "--initrd", "/nothing"]);
    assert!(sentence.contains("initrd /nothing"), "{sentence}");
}

#[test]
fn a_log_that_cannot_be_written_is_said() {
    let mut place = Place::new();
    let kernel = place.file("kernel", b"x");
    let sentence = place.boot_failure(&kernel, &["--log", "/no/such/log"]);
    assert!(sentence.contains("/no/such/log"), "{sentence}");
}
