//! What the command line means: a machine, and what to run in it.
//!
//! Total: whatever cannot work is refused here. Nothing is opened and nothing of the host is asked except through
//! `Host`, so every rule is a line in a test.

use super::bundle::Bundle;
use super::flags::parse::stood_for;
use super::flags::table::Run;
use super::usage::Usage;
use super::values;
use crate::sandbox::Plan;
use crate::sandbox::folders::Share;
use crate::spec::{
    CpuCount, DRIVES_MAX, Disk, DiskAccess, Drive, Engine, Image, MachineSpec, MemorySize, Module,
    Net, UserNet,
};
use guest::lan;
use guest::link::FOLDERS_MAX;
use guest::protocol::{PAYLOAD_MAX, Start, Window};
use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The kernel's console is COM1. A panic resets at once: its line is how its death is known, and nobody wants to wait.
const CMDLINE: &str = "console=ttyS0 panic=-1";
/// Only what went wrong is printed, because each byte costs an exit; with `--verbose` it is worth it.
const QUIET: &str = "quiet";
/// Makes init take the first disk as the root.
const ROOT_DISK: &str = "xlaunch.root=/dev/vda";
/// Makes init give way to the image's own.
const OWN_INIT: &str = "xlaunch.init";
/// The size of a terminal that does not know its own.
const USUAL_WINDOW: Window = Window {
    rows: 24,
    columns: 80,
};

/// What the host has to say about a run.
pub(super) struct Host<'a> {
    /// The guest built into the program.
    pub(super) bundle: Option<Bundle>,
    /// Our terminal's size, if both our input and our output are one.
    pub(super) terminal: Option<Window>,
    /// Our environment.
    pub(super) variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// What stands in a file, but not more than this many bytes of it.
    pub(super) file: &'a dyn Fn(&str, u64) -> io::Result<Vec<u8>>,
    /// The path from the root of a directory, without links and dots.
    pub(super) whole_path: &'a dyn Fn(&Path) -> io::Result<PathBuf>,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meant {
    /// The machine.
    pub(super) machine: MachineSpec,
    /// The session in it.
    pub(super) plan: Plan,
    /// Where its result goes.
    pub(super) result: Option<String>,
    /// Where the drawing of it goes.
    pub(super) timeline: Option<String>,
}

impl Meant {
    /// The disk that init makes the root.
    pub(super) fn root(&self) -> Option<&Disk> {
        let mut words = self.machine.cmdline.split_ascii_whitespace();
        let asked = words.any(|word| word == ROOT_DISK);
        self.machine.disks.first().filter(|_| asked)
    }
}

/// Says what was meant.
pub(super) fn meant(run: &Run, command: Vec<OsString>, host: &Host<'_>) -> Result<Meant, Usage> {
    let meant = understand(run, command, host);
    meant.map_err(|usage| usage.blaming(|flag| stood_for(run, flag)))
}

fn understand(run: &Run, command: Vec<OsString>, host: &Host<'_>) -> Result<Meant, Usage> {
    let text = |text: &Option<String>| text.clone();
    let net = net(run)?;
    let shares = shares(run, host)?;
    let machine = MachineSpec {
        memory: or_default(text(&run.memory), values::memory, MemorySize::default())?,
        cpus: or_default(text(&run.cpus), values::cpus, CpuCount::default())?,
        engine: or_default(text(&run.engine), values::engine, Engine::Auto)?,
        kernel: image("kernel", &run.kernel, host.bundle.map(|it| it.kernel))?,
        initrd: Some(image(
            "initrd",
            &run.initrd,
            host.bundle.map(|it| it.initrd),
        )?),
        modules: modules(run)?,
        cmdline: cmdline(run, &net, &shares)?,
        disks: disks(run)?,
        drives: drives(run)?,
        net,
        pci_uart: run.pci_uart,
    };
    check_keep(run, &machine)?;
    check_init(run, &command)?;
    let limit = run.timeout.as_deref().map(values::timeout).transpose()?;
    let plan = Plan {
        start: start(run, command, host)?,
        limit,
        stop_grace: run
            .stop_timeout
            .as_deref()
            .map(values::stop_timeout)
            .transpose()?,
        keep: run.keep || run.overlay.is_some(),
        own_init: run.init,
        shares,
        show_console: run.verbose,
    };
    Ok(Meant {
        machine,
        plan,
        result: output("--json", &run.result)?,
        timeline: output("--timeline", &run.timeline)?,
    })
}

/// The machine of a run, to be looked at only: its kernel is nothing.
pub(super) fn described(run: &Run) -> Result<MachineSpec, Usage> {
    let host = Host {
        bundle: Some(Bundle {
            kernel: &[],
            initrd: &[],
            record: "",
        }),
        terminal: None,
        variable: &|_| None,
        file: &|_, _| Err(io::ErrorKind::NotFound.into()),
        whole_path: &|_| Err(io::ErrorKind::NotFound.into()),
    };
    // Nothing of it is opened.
    let unplugged = |meant: Meant| MachineSpec {
        net: Net::Nothing,
        ..meant.machine
    };
    meant(run, Vec::new(), &host).map(unplugged)
}

fn or_default<T>(
    text: Option<String>,
    read: impl Fn(&str) -> Result<T, Usage>,
    default: T,
) -> Result<T, Usage> {
    text.map_or(Ok(default), |text| read(&text))
}

fn image(
    what: &str,
    path: &Option<String>,
    bundled: Option<&'static [u8]>,
) -> Result<Image, Usage> {
    match (path, bundled) {
        (Some(path), _) => Ok(Image::File(named(&format!("--{what}"), path)?)),
        (None, Some(bytes)) => Ok(Image::Bundled(bytes)),
        (None, None) => Err(Usage::new(format!(
            "no {what} is built into this xlaunch; start it by scripts/run, which builds one, or give --{what} FILE"
        ))),
    }
}

fn output(flag: &str, path: &Option<String>) -> Result<Option<String>, Usage> {
    match path.as_deref() {
        Some(path) => named(flag, path).map(|_| Some(path.to_owned())),
        None => Ok(None),
    }
}

fn named(flag: &str, path: &str) -> Result<PathBuf, Usage> {
    if path.is_empty() {
        return Err(Usage::value(flag, path, "the name of a file"));
    }
    Ok(PathBuf::from(path))
}

/// `--module FILE`, or `FILE=TEXT` with the text that goes with it.
fn modules(run: &Run) -> Result<Vec<Module>, Usage> {
    let module = |typed: &String| {
        let (path, cmdline) = typed.split_once('=').unwrap_or((typed, ""));
        Ok(Module {
            image: Image::File(named("--module", path)?),
            cmdline: cmdline.to_owned(),
        })
    };
    run.modules.iter().map(module).collect()
}

/// The virtio-blk disks: the root, whose name is taken as it is, then the others.
fn disks(run: &Run) -> Result<Vec<Disk>, Usage> {
    let access = access(run);
    let path = run.disk.as_deref().map(|path| named("disk image", path));
    let over = run.overlay.as_deref();
    let over = over.map(|path| named("--overlay", path)).transpose()?;
    check_overlay(run)?;
    let root_access = over.map_or_else(|| access.clone(), DiskAccess::Overlay);
    let root = path.map(|path| {
        path.map(|path| Disk {
            path,
            access: root_access,
        })
    });
    let others = run
        .disks
        .iter()
        .map(|text| values::disk("--disk", text, access.clone()));
    root.into_iter().chain(others).collect()
}

/// The drives of the AHCI controller.
fn drives(run: &Run) -> Result<Vec<Drive>, Usage> {
    let access = access(run);
    let disk = |text: &String| values::disk("--ahci-disk", text, access.clone()).map(Drive::Disk);
    let cd = |text: &String| values::disc("--cdrom", text).map(Drive::Cd);
    let disks = run.ahci_disks.iter().map(disk);
    let drives: Vec<Drive> = disks
        .chain(run.cdroms.iter().map(cd))
        .collect::<Result<_, _>>()?;
    if drives.len() > DRIVES_MAX {
        return Err(Usage::new(format!(
            "{} drives are too many for the AHCI controller; give --ahci-disk and --cdrom at most {DRIVES_MAX} times \
             together",
            drives.len()
        )));
    }
    Ok(drives)
}

/// What the network interface is plugged into. What only the user-mode network can do is refused with another.
fn net(run: &Run) -> Result<Net, Usage> {
    let net = or_default(run.net.clone(), values::net, Net::User(UserNet::default()))?;
    let Net::User(_) = net else {
        let only_user = [
            ("--publish", !run.publish.is_empty()),
            ("--allow-host", run.allow_host),
        ];
        return match only_user.into_iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(Usage::new(format!(
                "{flag} needs --net user; leave one of the two out"
            ))),
            None => Ok(net),
        };
    };
    let publish = run.publish.iter().map(|text| values::publish(text));
    Ok(Net::User(UserNet {
        allow_host: run.allow_host,
        publish: publish.collect::<Result<_, _>>()?,
    }))
}

/// Refuses `--keep` where nothing would be kept.
fn check_keep(run: &Run, machine: &MachineSpec) -> Result<(), Usage> {
    let ahci = machine.drives.iter().filter_map(|drive| match drive {
        Drive::Disk(disk) => Some(disk),
        Drive::Cd(_) => None,
    });
    let mut disks = machine.disks.iter().chain(ahci);
    if run.keep && !disks.any(|disk| disk.access == DiskAccess::Keep) {
        return Err(Usage::new(
            "--keep has no disk to keep changes in; name an image without :ro, or leave --keep out"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Refuses `--init` where there is no init, and what only a command could have.
fn check_init(run: &Run, command: &[OsString]) -> Result<(), Usage> {
    if !run.init {
        return Ok(());
    }
    let wrong = if run.disk.is_none() {
        "--init has no image whose init it could boot; name one"
    } else if !command.is_empty() {
        "--init boots the image's init, which knows of no command; leave --init or the command out"
    } else if !run.env.is_empty()
        || !run.env_files.is_empty()
        || run.workdir.is_some()
        || run.user.is_some()
    {
        "--env, --env-file, --workdir and --user are for a command, and --init runs none; leave them or --init out"
    } else {
        return Ok(());
    };
    Err(Usage::new(wrong))
}

/// Refuses `--overlay` where it has nothing to lie over, and with what says otherwise where changes go.
fn check_overlay(run: &Run) -> Result<(), Usage> {
    let wrong = match run.overlay {
        None => return Ok(()),
        Some(_) if run.keep => "--overlay and --keep both say where changes go; give one of them",
        Some(_) if run.disk.is_none() => {
            "--overlay has no image to lie over; name a disk image, or leave --overlay out"
        }
        Some(_) => return Ok(()),
    };
    Err(Usage::new(wrong.to_owned()))
}

/// What becomes of changes to disks for which nothing else is said.
fn access(run: &Run) -> DiskAccess {
    if run.keep {
        DiskAccess::Keep
    } else {
        DiskAccess::ThrowAway
    }
}

/// The shared directories, those that may lie in others behind them.
fn shares(run: &Run, host: &Host<'_>) -> Result<Vec<Share>, Usage> {
    let share = |text: &String| values::share(text, host.whole_path);
    let mut shares: Vec<Share> = run.shares.iter().map(share).collect::<Result<_, _>>()?;
    if shares.len() > FOLDERS_MAX {
        return Err(Usage::new(format!(
            "--share is given {} times; share at most {FOLDERS_MAX} directories, or one that they are all in",
            shares.len()
        )));
    }
    shares.sort_by_key(|share| share.folder.path.components().count());
    let mut taken = HashSet::new();
    match shares.iter().find(|it| !taken.insert(&it.folder.path)) {
        Some(Share { folder, .. }) => Err(Usage::new(format!(
            "--share puts two directories at {:?}; name another place in the guest for one of them",
            folder.path
        ))),
        None => Ok(shares),
    }
}

fn cmdline(run: &Run, net: &Net, shares: &[Share]) -> Result<String, Usage> {
    if let Some(wrong) = run.append.iter().find(|it| it.contains(['\0', '\n'])) {
        return Err(Usage::value("--append", wrong, "words on one line"));
    }
    let folders: Vec<String> = shares.iter().map(|share| share.folder.word()).collect();
    let quiet = (!run.verbose).then_some(QUIET);
    let root = run.disk.as_ref().map(|_| ROOT_DISK);
    let init = run.init.then_some(OWN_INIT);
    let net = matches!(net, Net::User(_)).then_some(lan::WORD);
    let ours = [Some(CMDLINE), quiet, root, init, net]
        .into_iter()
        .flatten();
    let theirs = folders.iter().chain(&run.append).map(String::as_str);
    let words: Vec<&str> = ours.chain(theirs).collect();
    Ok(words.join(" "))
}

fn start(run: &Run, command: Vec<OsString>, host: &Host<'_>) -> Result<Start, Usage> {
    let mut env = Vec::new();
    if host.terminal.is_some() {
        env.extend(values::variable("TERM", host.variable)?);
    }
    for path in &run.env_files {
        env.extend(values::variables(
            path,
            &env_file(path, host)?,
            host.variable,
        )?);
    }
    for variable in &run.env {
        env.extend(values::variable(variable, host.variable)?);
    }
    let start = Start {
        argv: command.into_iter().map(OsString::into_vec).collect(),
        env,
        cwd: directory(run)?,
        user: or_default(run.user.clone(), values::user, Vec::new())?,
        terminal: host.terminal.map(known_size),
    };
    if !start.fits() {
        return Err(Usage::new(format!(
            "the command and its variables take more than {} KiB; pass long texts by standard input",
            PAYLOAD_MAX / 1024
        )));
    }
    if start.argv.first().is_some_and(Vec::is_empty) {
        return Err(Usage::new(
            "the command behind -- is empty; name a program".to_owned(),
        ));
    }
    Ok(start)
}

fn env_file(path: &str, host: &Host<'_>) -> Result<Vec<u8>, Usage> {
    let most = PAYLOAD_MAX as u64;
    let bytes = (host.file)(path, most + 1).map_err(|error| {
        Usage::new(format!(
            "cannot read --env-file {path:?}: {error}; name a file of NAME=value lines"
        ))
    })?;
    if bytes.len() > PAYLOAD_MAX {
        return Err(Usage::new(format!(
            "--env-file {path:?} is longer than {} KiB, which is more than a command can get; pass long texts by standard input",
            PAYLOAD_MAX / 1024
        )));
    }
    Ok(bytes)
}

fn directory(run: &Run) -> Result<Vec<u8>, Usage> {
    match run.workdir.as_deref() {
        None => Ok(Vec::new()),
        Some(path) if path.starts_with('/') => Ok(path.as_bytes().to_vec()),
        Some(path) => Err(Usage::value(
            "--workdir",
            path,
            "a directory of the guest from its root, such as /tmp",
        )),
    }
}

fn known_size(window: Window) -> Window {
    if window.rows == 0 || window.columns == 0 {
        USUAL_WINDOW
    } else {
        window
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{GIB, MIB};
    use std::time::Duration;

    const BUNDLE: Bundle = Bundle {
        kernel: b"kernel",
        initrd: b"initrd",
        record: "",
    };

    fn host() -> Host<'static> {
        Host {
            bundle: Some(BUNDLE),
            terminal: None,
            variable: &|name| (name == "TERM").then(|| OsString::from("vt100")),
            file: &|name, most| match name {
                "env" => Ok(b"A=0\nB=2\n".to_vec()),
                "endless" => Ok(vec![b'#'; most as usize]),
                _ => Err(io::ErrorKind::NotFound.into()),
            },
            whole_path: &|path| match path.to_str() {
                Some("gone") => Err(io::ErrorKind::NotFound.into()),
                _ => Ok(Path::new("/here").join(path)),
            },
        }
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn complaint(run: &Run, host: &Host<'_>) -> String {
        meant(run, Vec::new(), host).unwrap_err().to_string()
    }

    #[test]
    fn a_bare_run_means_the_defaults() {
        let meant = meant(&Run::default(), Vec::new(), &host()).unwrap();
        assert_eq!(meant.machine.memory.bytes(), GIB);
        assert_eq!(meant.machine.cpus.count(), 2);
        assert_eq!(meant.machine.engine, Engine::Auto);
        assert_eq!(meant.machine.kernel, Image::Bundled(b"kernel"));
        assert_eq!(meant.machine.initrd, Some(Image::Bundled(b"initrd")));
        assert_eq!(
            meant.machine.cmdline,
            "console=ttyS0 panic=-1 quiet xlaunch.net=user"
        );
        assert_eq!(meant.machine.disks, []);
        assert!(!meant.machine.pci_uart);
        assert_eq!(meant.machine.net, Net::User(UserNet::default()));
        assert_eq!(meant.plan.start, Start::default());
        assert_eq!((meant.plan.limit, meant.plan.show_console), (None, false));
    }

    #[test]
    fn the_images_init_is_booted_without_a_command() {
        let run = Run {
            disk: some("disk.img"),
            init: true,
            ..Run::default()
        };
        let meant = meant(&run, Vec::new(), &host()).unwrap();
        assert!(meant.plan.own_init);
        assert!(meant.machine.cmdline.contains(" xlaunch.init "));
        let with_command = super::meant(&run, vec!["ls".into()], &host());
        let wrong = [
            with_command.unwrap_err().to_string(),
            complaint(
                &Run {
                    disk: None,
                    ..run.clone()
                },
                &host(),
            ),
            complaint(
                &Run {
                    workdir: some("/"),
                    ..run.clone()
                },
                &host(),
            ),
            complaint(
                &Run {
                    user: some("nobody"),
                    ..run
                },
                &host(),
            ),
        ];
        for sentence in wrong {
            assert!(sentence.contains("--init"), "{sentence}");
        }
    }

    #[test]
    fn what_is_said_replaces_the_defaults() {
        let run = Run {
            disk: some("disk.img"),
            memory: some("512M"),
            cpus: some("4"),
            engine: some("soft"),
            disks: vec!["data:ro".to_owned(), "more.img".to_owned()],
            ahci_disks: vec!["sata".to_owned(), "sata2:ro".to_owned()],
            cdroms: vec!["none".to_owned(), "a.iso".to_owned()],
            keep: false,
            shares: vec!["/a/b".to_owned(), ".:/src:ro".to_owned()],
            pci_uart: true,
            kernel: some("/boot/vmlinuz"),
            initrd: some("initrd.cpio"),
            modules: vec!["m".to_owned(), "n=a=b c".to_owned()],
            append: vec!["debug".to_owned(), "a=b c".to_owned()],
            timeout: some("5m"),
            env: vec!["A=1".to_owned(), "ABSENT".to_owned()],
            env_files: vec!["env".to_owned()],
            user: some("me:them"),
            stop_timeout: some("3s"),
            result: some("r.json"),
            timeline: some("t.svg"),
            workdir: some("/tmp"),
            verbose: true,
            ..Run::default()
        };
        let command = vec!["ls".into(), OsString::from_vec(vec![0xff])];
        let meant = meant(&run, command, &host()).unwrap();
        assert_eq!(meant.machine.memory.bytes(), 512 * MIB);
        assert_eq!(meant.machine.cpus.count(), 4);
        assert_eq!(meant.machine.kernel, Image::File("/boot/vmlinuz".into()));
        assert_eq!(
            meant.machine.initrd,
            Some(Image::File("initrd.cpio".into()))
        );
        let module = |path: &str, cmdline: &str| Module {
            image: Image::File(path.into()),
            cmdline: cmdline.to_owned(),
        };
        let modules = [module("m", ""), module("n", "a=b c")];
        assert_eq!(meant.machine.modules, modules);
        assert_eq!(
            meant.machine.cmdline,
            "console=ttyS0 panic=-1 xlaunch.root=/dev/vda xlaunch.net=user xlaunch.share=/src:ro xlaunch.share=/a/b debug a=b c"
        );
        let disk = |path: &str, access| Disk {
            path: path.into(),
            access,
        };
        let expected = [
            disk("disk.img", DiskAccess::ThrowAway),
            disk("data", DiskAccess::ReadOnly),
            disk("more.img", DiskAccess::ThrowAway),
        ];
        assert_eq!(meant.machine.disks, expected);
        let expected = [
            Drive::Disk(disk("sata", DiskAccess::ThrowAway)),
            Drive::Disk(disk("sata2", DiskAccess::ReadOnly)),
            Drive::Cd(None),
            Drive::Cd(Some("a.iso".into())),
        ];
        assert_eq!(meant.machine.drives, expected);
        assert!(meant.machine.pci_uart);
        assert_eq!(meant.plan.start.argv, [b"ls".to_vec(), vec![0xff]]);
        // The last one of a name counts.
        assert_eq!(meant.plan.start.env, [b"A=0", b"B=2", b"A=1"]);
        assert_eq!(meant.plan.start.user, b"me:them");
        assert_eq!(meant.plan.stop_grace, Some(Duration::from_secs(3)));
        assert_eq!(meant.plan.start.cwd, b"/tmp");
        assert_eq!(meant.plan.limit, Some(Duration::from_secs(300)));
        assert!(meant.plan.show_console);
        let hosts = meant.plan.shares.iter().map(|it| it.host.to_str().unwrap());
        assert_eq!(hosts.collect::<Vec<_>>(), [".", "/a/b"], "as in the line");
        let outputs = (meant.result.as_deref(), meant.timeline.as_deref());
        assert_eq!(outputs, (Some("r.json"), Some("t.svg")));
    }

    #[test]
    fn changes_are_kept_where_that_is_asked_for() {
        let disks = |disk: Option<&str>, disks: &[&str]| {
            let run = Run {
                disk: disk.map(str::to_owned),
                disks: disks.iter().map(|&text| text.to_owned()).collect(),
                keep: true,
                ..Run::default()
            };
            meant(&run, Vec::new(), &host()).map(|it| it.machine.disks)
        };
        let (keep, refuse) = (DiskAccess::Keep, DiskAccess::ReadOnly);
        let found = disks(Some("root:ro"), &["a", "b:ro", "c:ro:rw"]).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|disk| (disk.path.to_str().unwrap(), disk.access.clone()))
            .collect();
        let expected = [
            ("root:ro", keep.clone()),
            ("a", keep.clone()),
            ("b", refuse),
            ("c:ro", keep),
        ];
        assert_eq!(found, expected);
        for nothing in [disks(None, &[]), disks(None, &["a:ro"])] {
            let complaint = nothing.unwrap_err().to_string();
            assert!(complaint.contains("--keep has no disk"), "{complaint}");
        }
    }

    #[test]
    fn networks_have_what_belongs_to_them() {
        let net = |net: Option<&str>, publish: &[&str], allow_host| {
            let run = Run {
                net: net.map(str::to_owned),
                publish: publish.iter().map(|&text| text.to_owned()).collect(),
                allow_host,
                ..Run::default()
            };
            meant(&run, Vec::new(), &host()).map(|it| it.machine.net)
        };
        assert_eq!(net(Some("none"), &[], false), Ok(Net::Nothing));
        let Ok(Net::User(user)) = net(Some("user"), &["8080:80", "0:53/udp"], true) else {
            panic!("a network in user space")
        };
        let typed: Vec<String> = user.publish.iter().map(|it| it.to_string()).collect();
        assert_eq!(typed, ["127.0.0.1:8080:80", "127.0.0.1:0:53/udp"]);
        assert!(user.allow_host);
        assert_eq!(net(Some("vmnet"), &[], false), Ok(Net::Vmnet));
        for (kind, publish, allow_host, flag) in [
            ("none", &["1:1"][..], false, "--publish"),
            ("none", &[], true, "--allow-host"),
            ("vmnet", &["1:1"], false, "--publish"),
        ] {
            let complaint = net(Some(kind), publish, allow_host)
                .unwrap_err()
                .to_string();
            assert!(
                complaint.starts_with(&format!("{flag} needs --net user")),
                "{complaint}"
            );
        }
    }

    #[test]
    fn an_overlay_lies_over_the_root_alone() {
        let run = Run {
            disk: some("root"),
            disks: vec!["a".to_owned()],
            overlay: some("o"),
            ..Run::default()
        };
        let found = meant(&run, Vec::new(), &host()).unwrap();
        let accesses: Vec<_> = found.machine.disks.iter().map(|it| &it.access).collect();
        let over = DiskAccess::Overlay("o".into());
        assert_eq!(accesses, [&over, &DiskAccess::ThrowAway]);
        // The guest is to leave its file system clean.
        assert!(found.plan.keep);
        for (run, expected) in [
            (
                Run {
                    keep: true,
                    ..run.clone()
                },
                "give one of them",
            ),
            (
                Run {
                    disk: None,
                    ..run.clone()
                },
                "no image to lie over",
            ),
            (
                Run {
                    overlay: some(""),
                    ..run
                },
                "--overlay",
            ),
        ] {
            let complaint = complaint(&run, &host());
            assert!(complaint.contains(expected), "{complaint}");
        }
    }

    #[test]
    fn a_machine_to_look_at_needs_no_bundle() {
        let run = Run {
            cpus: some("4"),
            pci_uart: true,
            ..Run::default()
        };
        let machine = described(&run).unwrap();
        assert_eq!((machine.cpus.count(), machine.pci_uart), (4, true));
        let wrong = Run {
            cpus: some("0"),
            ..Run::default()
        };
        assert!(described(&wrong).is_err());
    }

    #[test]
    fn a_terminal_has_a_type_and_a_size() {
        let window = |rows, columns| Window { rows, columns };
        for (ours, theirs) in [
            (window(50, 132), window(50, 132)),
            (window(0, 0), USUAL_WINDOW),
        ] {
            let host = Host {
                terminal: Some(ours),
                ..host()
            };
            let meant = meant(&Run::default(), Vec::new(), &host).unwrap();
            assert_eq!(meant.plan.start.terminal, Some(theirs));
            assert_eq!(meant.plan.start.env, [b"TERM=vt100".to_vec()]);
        }
    }

    #[test]
    fn without_a_bundle_both_images_must_be_given() {
        let host = Host {
            bundle: None,
            ..host()
        };
        let kernel = Run {
            kernel: some("k"),
            ..Run::default()
        };
        assert!(complaint(&Run::default(), &host).contains("scripts/run"));
        assert!(complaint(&kernel, &host).contains("--initrd"));
        let both = Run {
            initrd: some("i"),
            ..kernel
        };
        assert!(meant(&both, Vec::new(), &host).is_ok());
    }

    #[test]
    fn a_wrong_value_is_blamed_on_where_it_stood() {
        let typed = Run {
            memory: some("lots"),
            ..Run::default()
        };
        let inherited = Run {
            inherited: vec!["memory"],
            ..typed.clone()
        };
        assert!(complaint(&typed, &host()).starts_with("--memory 'lots'"));
        assert!(complaint(&inherited, &host()).starts_with("XLAUNCH_MEMORY 'lots'"));
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let empty = some("");
        let wrong = [
            Run {
                kernel: empty.clone(),
                ..Run::default()
            },
            Run {
                timeline: empty.clone(),
                ..Run::default()
            },
            Run {
                disk: empty.clone(),
                ..Run::default()
            },
            Run {
                disks: vec![":ro".to_owned()],
                ..Run::default()
            },
            Run {
                modules: vec!["=text".to_owned()],
                ..Run::default()
            },
            Run {
                cdroms: vec![String::new()],
                ..Run::default()
            },
            Run {
                cdroms: vec!["none".to_owned(); DRIVES_MAX + 1],
                ..Run::default()
            },
            Run {
                shares: vec!["a:/x".to_owned(), "b:/x/".to_owned()],
                ..Run::default()
            },
            Run {
                shares: (0..=FOLDERS_MAX).map(|i| format!("a:/{i}")).collect(),
                ..Run::default()
            },
            Run {
                shares: vec!["gone".to_owned()],
                ..Run::default()
            },
            Run {
                workdir: some("tmp"),
                ..Run::default()
            },
            Run {
                append: vec!["a\nb".to_owned()],
                ..Run::default()
            },
            Run {
                env: vec![format!("A={}", "x".repeat(PAYLOAD_MAX))],
                ..Run::default()
            },
            Run {
                memory: some("lots"),
                ..Run::default()
            },
            Run {
                env_files: vec!["nothing".to_owned()],
                ..Run::default()
            },
            Run {
                env_files: vec!["endless".to_owned()],
                ..Run::default()
            },
            Run {
                user: some("a:b:c"),
                ..Run::default()
            },
        ];
        for run in wrong {
            assert!(!complaint(&run, &host()).is_empty());
        }
        assert!(meant(&Run::default(), vec![OsString::new()], &host()).is_err());
    }
}
