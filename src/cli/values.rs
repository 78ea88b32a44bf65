//! The values of flags: from text to what they mean, with errors that name both.

use super::usage::Usage;
use crate::sandbox::folders::Share;
use crate::spec::{
    CPUS_MAX, CpuCount, Disk, DiskAccess, Engine, GIB, KIB, MEMORY_MAX, MEMORY_MIN, MIB,
    MemorySize, Net, Protocol, Publish, UserNet,
};
use guest::link::Folder;
use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

const PAGE: u64 = 4 * KIB;

/// `--memory`: a number with K, M or G; a `b` or `iB` after that is tolerated, as other tools write it.
pub(super) fn memory(text: &str) -> Result<MemorySize, Usage> {
    let wrong = || {
        Usage::value(
            "--memory",
            text,
            "a size from 1M to 256G such as 512M or 2G",
        )
    };
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => KIB,
        "m" | "mb" | "mib" => MIB,
        "g" | "gb" | "gib" => GIB,
        _ => return Err(wrong()),
    };
    let number: u64 = unsigned(digits).ok_or_else(wrong)?;
    let bytes = number.checked_mul(unit).ok_or_else(wrong)?;
    if !(MEMORY_MIN..=MEMORY_MAX).contains(&bytes) {
        return Err(wrong());
    }
    MemorySize::new(bytes.next_multiple_of(PAGE)).ok_or_else(wrong)
}

/// `--cpus`.
pub(super) fn cpus(text: &str) -> Result<CpuCount, Usage> {
    let count = unsigned(text).and_then(|count| u8::try_from(count).ok());
    count
        .and_then(CpuCount::new)
        .ok_or_else(|| Usage::value("--cpus", text, &format!("a number from 1 to {CPUS_MAX}")))
}

/// `--engine`.
pub(super) fn engine(text: &str) -> Result<Engine, Usage> {
    match text {
        "auto" => Ok(Engine::Auto),
        "hvf" => Ok(Engine::Hvf),
        "kvm" => Ok(Engine::Kvm),
        "soft" => Ok(Engine::Soft),
        #[cfg(feature = "hvf-model")]
        "hvf-model" => Ok(Engine::HvfModel(crate::spec::ModelHost::CoffeeLake)),
        #[cfg(feature = "hvf-model")]
        "hvf-model-2013" => Ok(Engine::HvfModel(crate::spec::ModelHost::Haswell)),
        _ => Err(Usage::value("--engine", text, "auto, hvf, kvm or soft")),
    }
}

/// `FILE`, `FILE:ro` or `FILE:rw`: a disk, read-only with `:ro`, otherwise with `access`. What ends in neither is a
/// name as it is; a name that ends so itself is written with `:rw` behind it.
pub(super) fn disk(flag: &str, text: &str, access: DiskAccess) -> Result<Disk, Usage> {
    let (path, access) = match (text.strip_suffix(":ro"), text.strip_suffix(":rw")) {
        (Some(path), _) => (path, DiskAccess::ReadOnly),
        (None, Some(path)) => (path, access),
        (None, None) => (text, access),
    };
    if path.is_empty() {
        return Err(Usage::value(
            flag,
            text,
            "the name of a raw image, with :ro behind it for a read-only disk",
        ));
    }
    Ok(Disk {
        path: path.into(),
        access,
    })
}

/// `FILE`, the image of a disc in a CD drive, or `none` for a drive without one.
pub(super) fn disc(flag: &str, text: &str) -> Result<Option<PathBuf>, Usage> {
    match text {
        "none" => Ok(None),
        "" => Err(Usage::value(
            flag,
            text,
            "the name of a disc's image, or none for an empty drive",
        )),
        path => Ok(Some(path.into())),
    }
}

/// `--share`: `HOST[:GUEST][:ro]`. Without a GUEST the guest has the directory where the host has it, for which
/// `whole_path` is asked where that is not clear. A HOST with a colon in its name needs a GUEST.
pub(super) fn share(
    text: &str,
    whole_path: impl Fn(&Path) -> io::Result<PathBuf>,
) -> Result<Share, Usage> {
    let wrong = || {
        Usage::value(
            "--share",
            text,
            "HOST, HOST:ro, HOST:GUEST or HOST:GUEST:ro, where HOST is a directory and GUEST its path in the guest from the root, such as .:/src",
        )
    };
    let (places, read_only) = match (text.strip_suffix(":ro"), text.strip_suffix(":rw")) {
        (Some(places), _) => (places, true),
        (None, Some(places)) => (places, false),
        (None, None) => (text, false),
    };
    let (host, guest) = match places.rsplit_once(':') {
        Some((host, guest)) => (Path::new(host), PathBuf::from(guest)),
        None if is_clear(Path::new(places)) => (Path::new(places), PathBuf::from(places)),
        None if places.is_empty() => return Err(wrong()),
        None => {
            let host = Path::new(places);
            let whole = whole_path(host).map_err(|error| {
                Usage::new(format!(
                    "cannot share {host:?}: {error}; name a directory that is there"
                ))
            })?;
            (host, whole)
        }
    };
    let is_root = guest.components().count() < 2;
    if host.as_os_str().is_empty() || !is_clear(&guest) || is_root {
        return Err(wrong());
    }
    Ok(Share {
        host: host.to_owned(),
        folder: Folder {
            path: guest,
            read_only,
        },
    })
}

/// Whether it is a path from the root without a way back.
fn is_clear(path: &Path) -> bool {
    path.is_absolute() && !path.components().any(|it| it == Component::ParentDir)
}

/// `--timeout`: some time.
pub(super) fn timeout(text: &str) -> Result<Duration, Usage> {
    time("--timeout", text, 1)
}

/// `--stop-timeout`: some time, or none at all.
pub(super) fn stop_timeout(text: &str) -> Result<Duration, Usage> {
    time("--stop-timeout", text, 0)
}

/// Whole seconds, or with s, m or h; at least so many of them.
fn time(flag: &str, text: &str, least: u64) -> Result<Duration, Usage> {
    let wrong = || {
        Usage::value(
            flag,
            text,
            "seconds, or a number with s, m or h such as 90s or 5m",
        )
    };
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        _ => return Err(wrong()),
    };
    let number = unsigned(digits).filter(|number| *number >= least);
    let seconds = number.and_then(|number| number.checked_mul(unit));
    seconds.map(Duration::from_secs).ok_or_else(wrong)
}

/// `--env`: `NAME=value`, or `NAME` for the value that it has here. A name that has none here is left out.
pub(super) fn variable(
    text: &str,
    ours: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<Vec<u8>>, Usage> {
    let name = text.split('=').next().unwrap_or_default();
    if name.is_empty() {
        return Err(Usage::value(
            "--env",
            text,
            "NAME=value, or NAME to pass our own",
        ));
    }
    if name.len() < text.len() {
        return Ok(Some(text.as_bytes().to_vec()));
    }
    Ok(ours(name).map(|value| [name.as_bytes(), b"=", &value.into_vec()].concat()))
}

/// The lines of an `--env-file`, each as for `--env`. Empty lines do not count, nor those with # in front; a mark of
/// the encoding in front and the carriage returns of other systems are left out.
pub(super) fn variables(
    path: &str,
    bytes: &[u8],
    ours: impl Fn(&str) -> Option<OsString>,
) -> Result<Vec<Vec<u8>>, Usage> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()]
            .split(|&byte| byte == b'\n')
            .count();
        Usage::new(format!(
            "--env-file {path:?} is not UTF-8 in line {line}; write it in UTF-8"
        ))
    })?;
    let text = text.trim_start_matches('\u{feff}');
    let mut all = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        if name.is_empty() || name.contains(char::is_whitespace) || line.contains('\0') {
            return Err(Usage::new(format!(
                "--env-file {path:?} has '{}' in line {}, which is no variable; write NAME=value, or NAME to pass our own",
                line.escape_debug(),
                n + 1
            )));
        }
        all.extend(variable(line, &ours)?);
    }
    Ok(all)
}

/// `--user`: `USER` or `USER:GROUP`. Who that is only the guest knows.
pub(super) fn user(text: &str) -> Result<Vec<u8>, Usage> {
    let mut halves = text.split(':');
    let fine = |half: &str| !half.is_empty() && !half.contains(char::is_control);
    if halves.clone().count() > 2 || !halves.all(fine) {
        return Err(Usage::value(
            "--user",
            text,
            "USER or USER:GROUP, by names or numbers of the guest",
        ));
    }
    Ok(text.as_bytes().to_vec())
}

/// `--net`.
pub(super) fn net(text: &str) -> Result<Net, Usage> {
    match text {
        "user" => Ok(Net::User(UserNet::default())),
        "none" => Ok(Net::Nothing),
        "vmnet" => Ok(Net::Vmnet),
        _ => match text.strip_prefix("tap:") {
            Some(name) if !name.is_empty() => Ok(Net::Tap(name.to_owned())),
            _ => Err(Usage::value("--net", text, "user, none, tap:NAME or vmnet")),
        },
    }
}

/// `--publish`: `[IP:]HOST:GUEST[/udp]`, an IPv6 address in brackets, ports by their numbers.
pub(super) fn publish(text: &str) -> Result<Publish, Usage> {
    let read = || {
        let (ports, protocol) = match text.rsplit_once('/') {
            Some((ports, "tcp")) => (ports, Protocol::Tcp),
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some(_) => return None,
            None => (text, Protocol::Tcp),
        };
        let (host, guest) = ports.rsplit_once(':')?;
        let guest = port(guest).filter(|guest| *guest > 0)?;
        let (ip, host) = match host.rsplit_once(':') {
            Some((ip, host)) => (address(ip)?, host),
            None => (Ipv4Addr::LOCALHOST.into(), host),
        };
        let host = SocketAddr::new(ip, port(host)?);
        Some(Publish {
            host,
            guest,
            protocol,
        })
    };
    let wanted = "[IP:]HOST:GUEST[/udp], such as 8080:80, 0.0.0.0:2222:22 or 5353:53/udp";
    read().ok_or_else(|| Usage::value("--publish", text, wanted))
}

fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    match bare {
        Some(bare) => bare.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        None => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
    }
}

fn port(text: &str) -> Option<u16> {
    unsigned(text).and_then(|number| u16::try_from(number).ok())
}

/// Digits only: `parse` would take a plus sign.
fn unsigned(digits: &str) -> Option<u64> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_two_places() {
        let whole = |path: &Path| match path.to_str() {
            Some("gone") => Err(io::ErrorKind::NotFound.into()),
            _ => Ok(Path::new("/here").join(path)),
        };
        for (text, host, guest, read_only) in [
            ("/a/b", "/a/b", "/a/b", false),
            ("/a:ro", "/a", "/a", true),
            ("a", "a", "/here/a", false),
            ("a:rw", "a", "/here/a", false),
            (".:/src:ro", ".", "/src", true),
            ("a:b:/c d", "a:b", "/c d", false),
            ("a:ro:/c", "a:ro", "/c", false),
            ("../x:/c", "../x", "/c", false),
        ] {
            let share = share(text, whole).unwrap();
            let found = (share.host.to_str(), share.folder.path.to_str());
            assert_eq!(found, (Some(host), Some(guest)), "{text}");
            assert_eq!(share.folder.read_only, read_only, "{text}");
        }
        for wrong in [
            "",
            ":ro",
            ":/a",
            "a:b",
            "a:",
            "a:/",
            "a://",
            "/",
            "a:/b/../c",
            "a:/b:z",
            "a:/b:ro,z",
        ] {
            let complaint = share(wrong, whole).unwrap_err().to_string();
            assert!(complaint.contains("HOST:GUEST"), "{wrong}: {complaint}");
        }
        let complaint = share("gone", whole).unwrap_err().to_string();
        assert!(complaint.contains("cannot share \"gone\""), "{complaint}");
    }

    #[test]
    fn memory_is_a_size() {
        let bytes = |text| memory(text).map(MemorySize::bytes).ok();
        assert_eq!(bytes("512M"), Some(512 * MIB));
        assert_eq!(bytes("512m"), Some(512 * MIB));
        assert_eq!(bytes("1G"), Some(GIB));
        assert_eq!(bytes("2GiB"), Some(2 * GIB));
        assert_eq!(bytes("65537K"), Some(64 * MIB + PAGE));
        assert_eq!(bytes("1073741824"), Some(GIB));
        for wrong in [
            "",
            "M",
            "512",
            "1020K",
            "257G",
            "1T",
            "-1G",
            "+1G",
            "1.5G",
            "0x10M",
            "1 G",
            "18446744073709551615G",
            "99999999999999999999",
            "1Gé",
        ] {
            let error = memory(wrong).unwrap_err().to_string();
            assert!(error.contains(&format!("--memory '{wrong}'")), "{error}");
        }
    }

    #[test]
    fn cpus_are_a_small_number() {
        assert_eq!(cpus("1").map(CpuCount::count).ok(), Some(1));
        assert_eq!(cpus("64").map(CpuCount::count).ok(), Some(64));
        for wrong in ["0", "65", "257", "-1", "two", "", "1.5"] {
            assert!(
                cpus(wrong)
                    .unwrap_err()
                    .to_string()
                    .contains("from 1 to 64"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn engines_have_names() {
        for (name, meant) in [
            ("auto", Engine::Auto),
            ("hvf", Engine::Hvf),
            ("kvm", Engine::Kvm),
            ("soft", Engine::Soft),
        ] {
            assert_eq!(engine(name).ok(), Some(meant));
        }
        let error = engine("qemu").unwrap_err().to_string();
        assert!(error.contains("auto, hvf, kvm or soft"), "{error}");
    }

    #[test]
    fn disks_are_files_that_may_be_read_only() {
        let keep = DiskAccess::Keep;
        for (text, path, kept) in [
            ("a.img", "a.img", true),
            ("a.img:ro", "a.img", false),
            ("a.img:rw", "a.img", true),
            ("a:ro:rw", "a:ro", true),
            ("a:rw:ro", "a:rw", false),
            ("a:rox", "a:rox", true),
            ("a:RO", "a:RO", true),
        ] {
            let path = path.into();
            let access = if kept {
                keep.clone()
            } else {
                DiskAccess::ReadOnly
            };
            let expected = Disk { path, access };
            assert_eq!(disk("--disk", text, keep.clone()), Ok(expected), "{text}");
        }
        for wrong in ["", ":ro", ":rw"] {
            let error = disk("--disk", wrong, keep.clone()).unwrap_err().to_string();
            assert!(error.contains(&format!("--disk '{wrong}'")), "{error}");
        }
    }

    #[test]
    fn networks_have_names() {
        assert_eq!(net("user"), Ok(Net::User(UserNet::default())));
        assert_eq!(net("none"), Ok(Net::Nothing));
        assert_eq!(net("tap:xl0"), Ok(Net::Tap("xl0".to_owned())));
        assert_eq!(net("vmnet"), Ok(Net::Vmnet));
        for wrong in ["bridge", "tap", "tap:", "vmnet:"] {
            let error = net(wrong).unwrap_err().to_string();
            assert!(error.contains(&format!("--net '{wrong}'")), "{error}");
        }
    }

    #[test]
    fn ports_are_published_at_an_address() {
        let read = |text| publish(text).map(|it| it.to_string());
        for (text, expected) in [
            ("8080:80", "127.0.0.1:8080:80"),
            ("0:80", "127.0.0.1:0:80"),
            ("8080:80/tcp", "127.0.0.1:8080:80"),
            ("5353:53/udp", "127.0.0.1:5353:53/udp"),
            ("0.0.0.0:65535:65535", "0.0.0.0:65535:65535"),
            ("[::1]:1:2/udp", "[::1]:1:2/udp"),
        ] {
            assert_eq!(read(text), Ok(expected.to_owned()), "{text}");
        }
        for wrong in [
            "",
            "80",
            ":",
            "80:",
            ":80",
            "80:0",
            "65536:80",
            "80:65536",
            "+1:80",
            "a:80",
            "80:80/sctp",
            "80:80/",
            "::1:80:80",
            "[127.0.0.1]:80:80",
            "localhost:80:80",
            "1.2.3:80:80",
            "1.2.3.4:5:80:80",
        ] {
            let error = publish(wrong).unwrap_err().to_string();
            assert!(error.contains(&format!("--publish '{wrong}'")), "{error}");
        }
    }

    #[test]
    fn timeouts_have_units() {
        let seconds = |text| timeout(text).map(|it| it.as_secs()).ok();
        assert_eq!(seconds("90"), Some(90));
        assert_eq!(seconds("90s"), Some(90));
        assert_eq!(seconds("5m"), Some(300));
        assert_eq!(seconds("2h"), Some(7200));
        for wrong in ["0", "", "s", "1d", "-5", "1.5m", "9999999999999999999h"] {
            assert!(timeout(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_button_may_have_no_delay() {
        assert_eq!(stop_timeout("0").ok(), Some(Duration::ZERO));
        assert!(
            stop_timeout("x")
                .unwrap_err()
                .to_string()
                .starts_with("--stop-timeout 'x'")
        );
    }

    #[test]
    fn users_may_have_a_group() {
        for fine in ["root", "0", "me:them", "1000:1000"] {
            assert_eq!(user(fine), Ok(fine.as_bytes().to_vec()));
        }
        for wrong in ["", ":", "me:", ":them", "a:b:c", "a\nb"] {
            assert!(user(wrong).unwrap_err().to_string().starts_with("--user"));
        }
    }

    #[test]
    fn a_file_of_variables_has_one_a_line() {
        let ours = |name: &str| (name == "LANG").then(|| OsString::from("C"));
        let text = "\u{feff}# comment\nA=1\r\n\n  B=x=y # no comment\nLANG\nABSENT\nC=\n";
        let found = variables("f", text.as_bytes(), ours).unwrap();
        assert_eq!(
            found,
            [&b"A=1"[..], b"B=x=y # no comment", b"LANG=C", b"C="]
        );
        for (wrong, culprit) in [
            (&b"A=1\n=x"[..], "'=x' in line 2"),
            (b"export A=1", "'export A=1' in line 1"),
            (b"A=\0", "line 1"),
            (b"A=1\nB=\xff", "not UTF-8 in line 2"),
        ] {
            let error = variables("f", wrong, ours).unwrap_err().to_string();
            assert!(error.contains(culprit), "{error}");
        }
    }

    #[test]
    fn variables_are_given_or_inherited() {
        let ours = |name: &str| (name == "LANG").then(|| OsString::from("C"));
        let entry = |text| variable(text, ours).ok();
        assert_eq!(entry("A=b=c"), Some(Some(b"A=b=c".to_vec())));
        assert_eq!(entry("A="), Some(Some(b"A=".to_vec())));
        assert_eq!(entry("LANG"), Some(Some(b"LANG=C".to_vec())));
        assert_eq!(entry("ABSENT"), Some(None));
        assert_eq!(entry("=b"), None);
        assert_eq!(entry(""), None);
    }
}
