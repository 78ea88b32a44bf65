//! `xlaunch doctor`: what this host gives us: engines with the reason for or against each, /dev/kvm, the terminal.

use crate::engine::choose::{Standing, survey};
use std::fmt::Write;
use std::io::{self, IsTerminal};

/// The page.
pub(super) fn page() -> String {
    let mut page = engines(&survey());
    page += &device();
    let streams = [
        ("input", io::stdin().is_terminal()),
        ("output", io::stdout().is_terminal()),
        ("error", io::stderr().is_terminal()),
    ];
    page + &terminal(&streams)
}

/// Every engine; `auto` takes the first that serves.
fn engines(all: &[Standing]) -> String {
    let mut text = "engines, the best first:\n".to_owned();
    let taken = all.iter().position(|standing| standing.verdict.is_ok());
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
fn device() -> String {
    use std::fs::{self, File};
    use std::os::unix::fs::MetadataExt;
    const DEVICE: &str = "/dev/kvm";
    let metadata = match fs::metadata(DEVICE) {
        Ok(metadata) => metadata,
        Err(error) => return format!("{DEVICE}: {error}\n"),
    };
    let opened = File::options().read(true).write(true).open(DEVICE);
    format!(
        "{DEVICE}: mode {:o}, user {}, group {}; this user {}\n",
        metadata.mode() & 0o7777,
        metadata.uid(),
        metadata.gid(),
        opened.map_or_else(
            |error| format!("may not open it: {error}"),
            |_| "may open it".to_owned()
        )
    )
}

#[cfg(not(target_os = "linux"))]
fn device() -> String {
    String::new()
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
    fn this_hosts_page_has_every_part() {
        let page = page();
        for part in ["engines", "hvf", "kvm", "soft", "auto takes", "terminal"] {
            assert!(page.contains(part), "{part} is missing:\n{page}");
        }
        if cfg!(target_os = "linux") {
            assert!(page.contains("/dev/kvm:"), "{page}");
        }
    }
}
