//! `xlaunch doctor`: what this host gives us, as findings for a person or a program: engines with the reason for or against
//! each, KVM's device, the guest that is built in, memory, the network, and the terminal.

use super::bundle::Bundle;
use super::json::{Json, list, number, text};
use crate::engine::choose::{Standing, survey};
use crate::spec::MIB;
use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::net::UdpSocket;

/// The file that names the host's resolvers (resolv.conf(5)).
const RESOLVERS: &str = "/etc/resolv.conf";
/// Addresses that are never given to anybody (RFC 5737, RFC 3849). A route to them is a route to the outside.
const OUTSIDE: [(&str, &str, &str); 2] = [
    ("IPv4", "0.0.0.0:0", "192.0.2.1:9"),
    ("IPv6", "[::]:0", "[2001:db8::1]:9"),
];

/// The page.
pub(super) fn page(bundle: Option<&Bundle>, json: bool) -> String {
    let findings = Findings::gather(bundle);
    if json {
        format!("{}\n", findings.json())
    } else {
        findings.text()
    }
}

/// What there is.
struct Findings {
    engines: Vec<Standing>,
    device: Option<Device>,
    /// The kernel of the guest that is built in.
    guest: Option<&'static str>,
    memory: Memory,
    resolvers: Result<Vec<String>, String>,
    /// Protocols, and whether there is a route to the outside.
    routes: Vec<(&'static str, bool)>,
    /// The standard streams, and whether they are terminals.
    streams: [(&'static str, bool); 3],
}

/// KVM's device file.
struct Device {
    path: &'static str,
    /// Mode, user and group; or why there is none.
    owner: Result<(u32, u32, u32), String>,
    /// Whether this user may open it.
    opens: Result<(), String>,
}

/// The host's memory in bytes, as far as it is told.
struct Memory {
    total: Option<u64>,
    available: Option<u64>,
}

impl Findings {
    fn gather(bundle: Option<&Bundle>) -> Self {
        Self {
            engines: survey().into(),
            device: device(),
            guest: bundle.map(kernel_version),
            memory: memory(),
            resolvers: resolvers(),
            routes: OUTSIDE
                .map(|(name, from, to)| (name, has_route(from, to)))
                .into(),
            streams: [
                ("input", io::stdin().is_terminal()),
                ("output", io::stdout().is_terminal()),
                ("error", io::stderr().is_terminal()),
            ],
        }
    }

    fn text(&self) -> String {
        let mut page = engines(&self.engines);
        if let Some(device) = &self.device {
            page += &device.text();
        }
        _ = match self.guest {
            Some(version) => writeln!(page, "guest: Linux {version} is built in"),
            None => writeln!(
                page,
                "guest: none is built in; scripts/run builds one, or give --kernel and --initrd"
            ),
        };
        page += &self.memory.text();
        page += &self.network();
        page + &terminal(&self.streams)
    }

    fn network(&self) -> String {
        let route = |(name, is): &(&str, bool)| {
            let answer = if *is { "has a" } else { "has no" };
            format!("{name} {answer} route to the outside")
        };
        let routes: Vec<String> = self.routes.iter().map(route).collect();
        let resolvers = match &self.resolvers {
            Ok(names) if names.is_empty() => format!("{RESOLVERS} names no resolver"),
            Ok(names) => format!("names are resolved by {}", names.join(", ")),
            Err(why) => format!("{RESOLVERS} cannot be read: {why}"),
        };
        format!("network: {}; {resolvers}\n", routes.join(", "))
    }

    /// The same for programs.
    fn json(&self) -> Json {
        let taken = taken(&self.engines);
        let engine = |(n, standing): (usize, &Standing)| {
            let (Ok(why) | Err(why)) = &standing.verdict;
            Json::Object(vec![
                ("name", text(standing.name)),
                ("serves", Json::Truth(standing.verdict.is_ok())),
                ("why", text(why)),
                ("auto", Json::Truth(Some(n) == taken)),
            ])
        };
        let size = |bytes: Option<u64>| bytes.map_or(Json::Null, Json::Number);
        let truths = |all: &[(&'static str, bool)]| {
            let members = all.iter().map(|(name, is)| (*name, Json::Truth(*is)));
            Json::Object(members.collect())
        };
        Json::Object(vec![
            ("version", text(env!("CARGO_PKG_VERSION"))),
            ("engines", list(self.engines.iter().enumerate(), engine)),
            (
                "device",
                self.device.as_ref().map_or(Json::Null, Device::json),
            ),
            ("guest_kernel", self.guest.map_or(Json::Null, text)),
            ("memory_bytes", size(self.memory.total)),
            ("memory_available_bytes", size(self.memory.available)),
            (
                "resolvers",
                match &self.resolvers {
                    Ok(names) => list(names, text),
                    Err(_) => Json::Null,
                },
            ),
            ("routes", truths(&self.routes)),
            ("terminals", truths(&self.streams)),
        ])
    }
}

/// Which engine `auto` takes: the first that serves.
fn taken(all: &[Standing]) -> Option<usize> {
    all.iter().position(|standing| standing.verdict.is_ok())
}

fn engines(all: &[Standing]) -> String {
    let mut text = "engines, the best first:\n".to_owned();
    let taken = taken(all);
    for (n, Standing { name, verdict, .. }) in all.iter().enumerate() {
        let (answer, why) = match verdict {
            Ok(why) => ("yes", why),
            Err(why) => ("no", why),
        };
        let auto = match Some(n) == taken {
            true => "; --engine auto takes it",
            false => "",
        };
        _ = writeln!(text, "  {name:<5} {answer}: {why}{auto}");
    }
    text
}

/// Whether this user may use KVM's device.
#[cfg(target_os = "linux")]
fn device() -> Option<Device> {
    use std::fs::{self, File};
    use std::os::unix::fs::MetadataExt;
    let path = "/dev/kvm";
    let owner = fs::metadata(path).map(|it| (it.mode() & 0o7777, it.uid(), it.gid()));
    let opened = File::options().read(true).write(true).open(path);
    Some(Device {
        path,
        owner: owner.map_err(|error| error.to_string()),
        opens: opened.map(drop).map_err(|error| error.to_string()),
    })
}

#[cfg(not(target_os = "linux"))]
fn device() -> Option<Device> {
    None
}

impl Device {
    fn text(&self) -> String {
        let path = self.path;
        let (mode, user, group) = match &self.owner {
            Ok(owner) => owner,
            Err(why) => return format!("{path}: {why}\n"),
        };
        let may = match &self.opens {
            Ok(()) => "may open it".to_owned(),
            Err(why) => format!(
                "may not open it: {why}; become a member of its group, or use --engine soft"
            ),
        };
        format!("{path}: mode {mode:o}, user {user}, group {group}; this user {may}\n")
    }

    fn json(&self) -> Json {
        let (mode, user, group) = match &self.owner {
            Ok((mode, user, group)) => (
                text(format_args!("{mode:04o}")),
                number(*user),
                number(*group),
            ),
            Err(_) => (Json::Null, Json::Null, Json::Null),
        };
        let why = self.owner.as_ref().err().or(self.opens.as_ref().err());
        Json::Object(vec![
            ("path", text(self.path)),
            ("mode", mode),
            ("user", user),
            ("group", group),
            ("opens", Json::Truth(self.opens.is_ok())),
            ("why_not", why.map_or(Json::Null, text)),
        ])
    }
}

fn kernel_version(bundle: &Bundle) -> &'static str {
    let mut lines = bundle.record.lines();
    let version = lines.find_map(|line| line.strip_prefix("kernel_version="));
    version.unwrap_or("of an unknown version")
}

fn memory() -> Memory {
    let available = std::fs::read_to_string("/proc/meminfo").ok();
    Memory {
        total: hvf_sys::os::memory_bytes(),
        available: available.and_then(|text| available_bytes(&text)),
    }
}

/// MemAvailable of /proc/meminfo (proc(5)), which is in KiB.
fn available_bytes(meminfo: &str) -> Option<u64> {
    let mut lines = meminfo.lines();
    let value = lines.find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1024)
}

impl Memory {
    fn text(&self) -> String {
        let mib = |bytes: u64| format!("{} MiB", bytes / MIB);
        match (self.total.map(mib), self.available.map(mib)) {
            (Some(total), Some(free)) => {
                format!("memory: {total}, of which {free} are to be had\n")
            }
            (Some(total), None) => format!("memory: {total}\n"),
            (None, _) => "memory: the system does not tell how much there is\n".to_owned(),
        }
    }
}

fn resolvers() -> Result<Vec<String>, String> {
    let text = std::fs::read_to_string(RESOLVERS).map_err(|error| error.to_string())?;
    Ok(nameservers(&text))
}

/// The addresses in the lines `nameserver ADDRESS`.
fn nameservers(text: &str) -> Vec<String> {
    let address = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let keyword = words.next().filter(|word| *word == "nameserver");
        keyword.and(words.next()).map(str::to_owned)
    };
    text.lines().filter_map(address).collect()
}

/// Whether the system knows a way from `from` to `to`. Connecting a datagram socket sends nothing.
fn has_route(from: &str, to: &str) -> bool {
    UdpSocket::bind(from).is_ok_and(|socket| socket.connect(to).is_ok())
}

/// A command gets a terminal where input and output are one.
fn terminal(streams: &[(&str, bool)]) -> String {
    let (are, are_not): (Vec<_>, Vec<_>) = streams.iter().partition(|(_, is)| *is);
    let names = |streams: Vec<&(&str, bool)>| {
        let names: Vec<&str> = streams.iter().map(|(name, _)| *name).collect();
        names.join(", ")
    };
    match (are.is_empty(), are_not.is_empty()) {
        (_, true) => "terminal: standard input, output and error are one\n".to_owned(),
        (true, _) => "terminal: none of the standard streams is one\n".to_owned(),
        _ => format!(
            "terminal: standard {}; not standard {}\n",
            names(are),
            names(are_not)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Engine;

    fn standing(engine: Engine, name: &'static str, verdict: Result<&str, &str>) -> Standing {
        Standing {
            engine,
            name,
            verdict: verdict.map(str::to_owned).map_err(str::to_owned),
        }
    }

    #[test]
    fn the_first_engine_that_serves_is_taken() {
        let soft = standing(Engine::Soft, "soft", Ok("runs everywhere"));
        let text = engines(&[
            standing(Engine::Hvf, "hvf", Err("is elsewhere")),
            standing(Engine::Kvm, "kvm", Ok("is fast")),
            soft.clone(),
        ]);
        assert_eq!(
            text,
            "engines, the best first:\n  hvf   no: is elsewhere\n  \
             kvm   yes: is fast; --engine auto takes it\n  soft  yes: runs everywhere\n"
        );
        assert!(engines(&[soft]).ends_with("everywhere; --engine auto takes it\n"));
    }

    #[test]
    fn streams_that_are_terminals_are_told() {
        let text = |input, output| terminal(&[("input", input), ("output", output)]);
        assert_eq!(
            text(true, false),
            "terminal: standard input; not standard output\n"
        );
        assert_eq!(
            text(false, false),
            "terminal: none of the standard streams is one\n"
        );
    }

    #[test]
    fn a_device_that_may_not_be_opened_says_what_helps() {
        let device = |opens: Result<(), String>| Device {
            path: "/dev/kvm",
            owner: Ok((0o660, 0, 104)),
            opens,
        };
        let text = device(Err("denied".to_owned())).text();
        assert!(text.contains("mode 660, user 0, group 104"), "{text}");
        assert!(text.contains("denied; become a member"), "{text}");
        assert!(device(Ok(())).text().ends_with("this user may open it\n"));
        let absent = Device {
            owner: Err("no such file".to_owned()),
            ..device(Err("no such file".to_owned()))
        };
        assert_eq!(absent.text(), "/dev/kvm: no such file\n");
        let json = absent.json().to_string();
        assert!(json.contains("\"why_not\": \"no such file\""), "{json}");
    }

    #[test]
    fn files_of_the_host_are_read_as_their_manuals_say() {
        let meminfo = "MemTotal:  100 kB\nMemAvailable:     42 kB\n";
        assert_eq!(available_bytes(meminfo), Some(42 * 1024));
        for wrong in ["", "MemAvailable: x kB\n", "MemAvailable: 1 MB\n"] {
            assert_eq!(available_bytes(wrong), None);
        }
        let resolv = "# a comment\nsearch here\nnameserver 10.0.0.1\n nameserver\t::1 x\nnameserver\nnameservers 1\n";
        assert_eq!(nameservers(resolv), ["10.0.0.1", "::1"]);
    }

    #[test]
    fn this_hosts_page_has_every_part() {
        let bundle = Bundle {
            kernel: b"",
            initrd: b"",
            record: "a=b\nkernel_version=6.1.2-x\n",
        };
        let findings = Findings::gather(Some(&bundle));
        let page = findings.text();
        for part in [
            "engines",
            "hvf",
            "kvm",
            "soft",
            "auto takes",
            "Linux 6.1.2-x is built in",
            "memory: ",
            "network: IPv4 has",
            "terminal",
        ] {
            assert!(page.contains(part), "{part} is missing:\n{page}");
        }
        if cfg!(target_os = "linux") {
            assert!(page.contains("/dev/kvm:"), "{page}");
        }
        let json = findings.json().to_string();
        for part in [
            "\"auto\": true",
            "\"guest_kernel\": \"6.1.2-x\"",
            "\"IPv6\": ",
        ] {
            assert!(json.contains(part), "{part} is missing:\n{json}");
        }
        assert!(super::page(None, false).contains("guest: none is built in"));
    }
}
