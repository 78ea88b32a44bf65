//! Small bare-metal guests, one topic each, on every engine there is: each prints what it checked, and the harness
//! demands exactly the checks that its source names, all passed.
//!
//! The guests are assembly for GNU as, preprocessed, assembled and linked by the machine's gcc and ld each time
//! (`prelude.S` says how to write one); where these make no x86 code, the tests are skipped. They boot through the
//! library as multiboot kernels, with COM1 captured.

mod clock;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, mpsc};
use std::thread;
use std::time::Duration;
use std::{env, fs, io::Read};

use hvf_sys::ram::Ram;
use xlaunch::backend::console::{Output, serial_line};
use xlaunch::engine::choose::{self, Standing, survey};
use xlaunch::machine::{Cables, Machine, Outcome, build};
use xlaunch::spec::{CpuCount, Engine, Image, MachineSpec, MemorySize, ModelHost, Module, Net};

/// Engines that are there on every host.
const EVERYWHERE: [Engine; 3] = [
    Engine::Soft,
    Engine::HvfModel(ModelHost::CoffeeLake),
    Engine::HvfModel(ModelHost::Haswell),
];
/// Guests that run even on a KVM that is not a processor's own virtualization, where the others are skipped.
const ON_ANY_KVM: [&str; 12] = [
    "clock", "hpet", "ioapic", "lapic", "pci", "pic", "pit", "pm", "smp", "storm", "tiny", "uart",
];
/// How long a guest may take; it waits ten seconds at most for what should come at once.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often a guest may reset its machine.
const RESETS: usize = 16;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

#[test]
fn smp() {
    Guest::new("smp").cpus(4).passes();
}

#[test]
fn storm() {
    Guest::new("storm").cpus(4).passes();
}

#[test]
fn lapic() {
    Guest::new("lapic").cpus(4).passes();
}

#[test]
fn pit() {
    Guest::new("pit").passes();
}

#[test]
fn pic() {
    Guest::new("pic").passes();
}

#[test]
fn ioapic() {
    Guest::new("ioapic").cpus(4).passes();
}

#[test]
fn hpet() {
    Guest::new("hpet").passes();
}

#[test]
fn rtc() {
    Guest::new("rtc").passes();
}

#[test]
fn pm() {
    Guest::new("pm").passes();
}

#[test]
fn uart() {
    Guest::new("uart").passes();
}

#[test]
fn pci() {
    Guest::new("pci").passes();
}

#[test]
fn modes() {
    Guest::new("modes").passes();
}

/// The least memory that a machine can have, and all that multiboot tells.
#[test]
fn tiny() {
    let module = Module {
        image: Image::Bundled(b"mode"),
        cmdline: "ext".to_owned(),
    };
    Guest::new("tiny").module(module).passes();
}

/// Memory above 4 GiB; the host has to give only what is touched.
#[test]
fn memory() {
    const TOUCHED: u64 = 1 << 30;
    Guest::new("memory").memory(5 * GIB).passes();
    // The most that this process has ever held, all tests together: "VmHWM:   123456 kB".
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let held = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let Some(held) = held else {
        return println!("skipped: this system does not tell how much memory a process has held");
    };
    let kibibytes: u64 = held.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kibibytes << 10 < TOUCHED, "{kibibytes} KiB were committed");
}

/// Every engine that can run this guest here; why the others cannot, is printed.
fn engines(guest: &str) -> Vec<Engine> {
    static SURVEY: LazyLock<[Standing; 3]> = LazyLock::new(survey);
    let mut engines = EVERYWHERE.to_vec();
    for Standing {
        engine,
        name,
        verdict,
    } in &*SURVEY
    {
        match verdict {
            Ok(_) if engines.contains(engine) => {}
            Ok(_) => engines.push(*engine),
            Err(_) if ON_ANY_KVM.contains(&guest) && is_there(*engine) => engines.push(*engine),
            Err(why) => println!("skipped: {guest} on {name}: {why}"),
        }
    }
    engines
}

/// Whether a machine can be made of it at all.
fn is_there(engine: Engine) -> bool {
    let ram = Ram::new(&[(0, MIB)]).unwrap();
    choose::engine(engine, &ram, 1).is_ok()
}

/// A guest, and the machine that it runs on.
struct Guest {
    name: &'static str,
    cpus: u8,
    memory: u64,
    modules: Vec<Module>,
}

impl Guest {
    /// The guest with this source, on one CPU and 1 MiB.
    fn new(name: &'static str) -> Self {
        Self {
            name,
            cpus: 1,
            memory: MIB,
            modules: Vec::new(),
        }
    }

    fn cpus(self, cpus: u8) -> Self {
        Self { cpus, ..self }
    }

    fn memory(self, memory: u64) -> Self {
        Self { memory, ..self }
    }

    fn module(self, module: Module) -> Self {
        let modules = vec![module];
        Self { modules, ..self }
    }

    /// Runs it on every engine and demands what its source promises.
    fn passes(&self) {
        let kernel = match assemble(self.name) {
            Ok(kernel) => kernel,
            Err(why) => return println!("skipped: {why}"),
        };
        let expected = promised(&source(self.name));
        for engine in engines(self.name) {
            let (outcome, text) = run(&self.spec(&kernel, engine));
            let name = self.name;
            let ended = outcome == Outcome::PoweredOff;
            assert!(
                ended && text == expected,
                "{name} on {engine:?}, {outcome:?}, instead of what its source promises:\n{}",
                differences(&text, &expected)
            );
        }
    }

    fn spec(&self, kernel: &Path, engine: Engine) -> MachineSpec {
        MachineSpec {
            memory: MemorySize::new(self.memory).unwrap(),
            cpus: CpuCount::new(self.cpus).unwrap(),
            engine,
            kernel: Image::File(kernel.to_owned()),
            initrd: None,
            modules: self.modules.clone(),
            cmdline: "one two".to_owned(),
            disks: Vec::new(),
            drives: Vec::new(),
            net: Net::default(),
            pci_uart: false,
        }
    }
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests")
}

fn source(name: &str) -> String {
    fs::read_to_string(directory().join(name).with_extension("S")).unwrap()
}

/// What a guest prints if all checks of its source pass.
fn promised(source: &str) -> String {
    let checks = source.lines().filter_map(|line| {
        let (_, arguments) = line.trim_start().strip_prefix("expect")?.split_once(' ')?;
        arguments.trim_start().strip_prefix('"')?.split('"').next()
    });
    let lines: Vec<String> = checks.map(|name| format!("ok {name}\n")).collect();
    assert!(!lines.is_empty(), "a guest without checks");
    format!("{}done {}\n", lines.concat(), lines.len())
}

/// The lines that are not as expected, the first few.
fn differences(text: &str, expected: &str) -> String {
    let (mut lines, mut expected) = (text.lines(), expected.lines());
    let pairs = std::iter::from_fn(|| match (lines.next(), expected.next()) {
        (None, None) => None,
        (line, wanted) => Some((line.unwrap_or("the end"), wanted.unwrap_or("the end"))),
    });
    let different = pairs.filter(|(line, wanted)| line != wanted).take(20);
    different
        .map(|(line, wanted)| format!("  {line}, instead of {wanted:?}\n"))
        .collect()
}

/// Makes the guest's kernel, or says why that cannot be done here.
fn assemble(name: &str) -> Result<PathBuf, String> {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
    fs::create_dir_all(&out).unwrap();
    let tool = |command: &mut Command| {
        let output = command.output().map_err(|error| error.to_string())?;
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.success().then_some(()).ok_or(complaint)
    };
    let gcc = |source: &Path, object: &Path| {
        let mut command = Command::new("gcc");
        command.args(["-m32", "-c", "-Wa,--fatal-warnings", "-x"]);
        command.arg("assembler-with-cpp").arg(source);
        tool(command.arg("-o").arg(object))
    };
    let ld = |more: &[&OsStr], object: &Path, linked: &Path| {
        let mut command = Command::new("ld");
        command.args(["-m", "elf_i386"]).args(more).arg(object);
        tool(command.arg("-o").arg(linked))
    };
    let (object, kernel) = (out.join(format!("{name}.o")), out.join(name));
    // The prelude alone is right: if it cannot be made, nothing can.
    let probe = gcc(&directory().join("prelude.S"), &object);
    let probe = probe.and_then(|()| ld(&["-r".as_ref()], &object, &kernel));
    probe.map_err(|error| format!("no gcc and ld here that make x86 code: {error}"))?;
    let script = directory().join("guest.ld");
    let options = [
        "--no-warn-rwx-segments".as_ref(),
        "-T".as_ref(),
        script.as_os_str(),
    ];
    let made = gcc(&directory().join(name).with_extension("S"), &object);
    made.and_then(|()| ld(&options, &object, &kernel))
        .unwrap_or_else(|complaint| panic!("cannot assemble {name}:\n{complaint}"));
    Ok(kernel)
}

/// Runs a machine to its end, through its resets; how it ended, and what it said on COM1.
fn run(spec: &MachineSpec) -> (Outcome, String) {
    let (com1, output, _) = serial_line();
    let cables = Cables {
        com1,
        ..Cables::unplugged()
    };
    let machine = build(spec, cables).unwrap_or_else(|error| panic!("{error}"));
    let reader = thread::spawn(move || read(output));
    let outcome = thread::scope(|scope| {
        let (ended, end) = mpsc::channel::<()>();
        let machine = &machine;
        scope.spawn(move || {
            if end.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                machine.stop();
            }
        });
        let outcome = last_outcome(machine);
        drop(ended);
        outcome
    });
    drop(machine);
    (outcome, reader.join().unwrap())
}

fn last_outcome(machine: &Machine) -> Outcome {
    for _ in 0..RESETS {
        match machine.wait() {
            Outcome::Reset => machine.restart().unwrap_or_else(|error| panic!("{error}")),
            outcome => return outcome,
        }
    }
    machine.wait()
}

fn read(mut output: Output) -> String {
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn checks_are_found_in_the_source() {
    let source =
        "  expect \"a b\", $1\n\texpect_range \"c\", $1, $2\n .macro expect name\nexpect_x\n";
    assert_eq!(promised(source), "ok a b\nok c\ndone 2\n");
}
