//! What the program is made of, under which licences, and where the source of what needs one is.

use super::bundle::Bundle;
use std::fmt::Write;

/// A package that is linked into the program, its licence and who holds the copyright.
type Package = (&'static str, &'static str, &'static str);

const PACKAGES: &[Package] = &[
    ("bitflags, log", "MIT", "2014 The Rust Project Developers"),
    ("deranged, powerfmt", "MIT", "2023, 2024 Jacob Pratt et al."),
    ("libc", "MIT", "The Rust Project Developers"),
    ("num-conv, time, time-core", "MIT", "Jacob Pratt et al."),
    ("serde_core", "MIT", "David Tolnay, Erick Tryzelaar"),
    ("simplelog", "MIT", "2015 Victor Brekenfeld"),
    (
        "Rust's standard library",
        "MIT",
        "The Rust Project Contributors",
    ),
];

/// The page that `xlaunch licenses` prints, for a program with this guest built in.
pub(super) fn page(bundle: Option<&Bundle>) -> String {
    let mut page = format!("xlaunch {}\n\n", env!("CARGO_PKG_VERSION"));
    page += include_str!("../../LICENSE");
    page += "\nLinked into it (the texts of these licences stand below):\n\n";
    for (name, license, holder) in PACKAGES {
        let _ = writeln!(page, "  {name:<27} {license:<14} Copyright (c) {holder}");
    }
    if cfg!(all(target_os = "linux", target_env = "gnu")) {
        page += "  the GNU C library           LGPL-2.1+      Copyright (c) Free Software Foundation and others\n";
    }
    page += &match bundle {
        Some(bundle) => guest(bundle.record),
        None => "\nNo guest is built in.\n".to_owned(),
    };
    page += "\n";
    page + include_str!("licenses.txt")
}

/// What is said of the guest that this record describes.
fn guest(record: &str) -> String {
    let value = |key| {
        let mut lines = record.lines().filter_map(|line| line.split_once('='));
        lines.find(|(name, _)| *name == key).map_or("?", |it| it.1)
    };
    format!(
        "\nBuilt into it as data, to run in the machine: programs of their own, which this one only starts.\n\n  \
         Linux {}, from Debian's {}: GPL-2.0\n  \
         BusyBox, Debian's {}, with the GNU C library: GPL-2.0 and LGPL-2.1+\n  \
         the guest's init, xlaunch's own, with the GNU C library: BSD-2-Clause and LGPL-2.1+\n\n\
         Their complete source, and what builds them, comes with each release: xlaunch-{}-guest-source.tar,\n\
         where this program was had. The texts of the GPL and the LGPL lie beside the program there.\n",
        value("kernel_version"),
        value("kernel_source"),
        value("initrd_busybox"),
        env!("CARGO_PKG_VERSION"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// What only compiles the rest, and is in no program.
    const COMPILERS: &[&str] = &["serde_derive", "time-macros"];

    /// The packages that `name` needs, by the lock file; of our own, what their manifests name for the program.
    fn needs(name: &str) -> Vec<String> {
        let manifest = match name {
            "xlaunch" => Some(include_str!("../../Cargo.toml")),
            "hvf-sys" => Some(include_str!("../../hvf-sys/Cargo.toml")),
            "guest" => Some(include_str!("../../guest/Cargo.toml")),
            _ => None,
        };
        if let Some(manifest) = manifest {
            let (_, rest) = manifest.split_once("\n[dependencies]\n").unwrap();
            let lines = rest.lines().take_while(|line| !line.starts_with('['));
            let names =
                lines.filter_map(|line| Some(line.split_once([' ', '.', '='])?.0.to_owned()));
            return names.collect();
        }
        let lock = include_str!("../../Cargo.lock");
        let mut packages = lock
            .split("[[package]]")
            .filter(|it| it.contains(&format!("\nname = \"{name}\"\n")));
        let package = packages
            .next()
            .unwrap_or_else(|| panic!("{name} is not in Cargo.lock"));
        let list = package.split_once("dependencies = [").map_or("", |it| it.1);
        let names = list.split('"').skip(1).step_by(2);
        names
            .map(|it| it.split(' ').next().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn every_package_in_the_program_is_named() {
        let mut all = BTreeSet::new();
        let mut todo = vec!["xlaunch".to_owned()];
        while let Some(name) = todo.pop() {
            if all.insert(name.clone()) && !COMPILERS.contains(&name.as_str()) {
                todo.extend(needs(&name));
            }
        }
        assert!(all.contains("libc") && all.contains("time"), "{all:?}");
        let named: BTreeSet<&str> = PACKAGES.iter().flat_map(|it| it.0.split(", ")).collect();
        for name in &all {
            let ours = ["xlaunch", "hvf-sys", "guest"].contains(&name.as_str());
            let known = ours || COMPILERS.contains(&name.as_str()) || named.contains(name.as_str());
            assert!(
                known,
                "{name} is linked, and `xlaunch licenses` does not say so"
            );
        }
        for name in named
            .iter()
            .filter(|name| **name != "Rust's standard library")
        {
            assert!(all.contains(*name), "{name} is named, and is not linked");
        }
    }

    #[test]
    fn the_guest_is_named_with_its_source() {
        let bundle = Bundle {
            kernel: b"",
            initrd: b"",
            record: "kernel_version=6.1.2-x\nkernel_source=linux-source-6.1 6.1.2-1\ninitrd_busybox=1:1.35\n",
        };
        let page = page(Some(&bundle));
        for part in [
            "Linux 6.1.2-x, from Debian's linux-source-6.1 6.1.2-1: GPL-2.0",
            "Debian's 1:1.35,",
            "guest-source.tar",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert!(super::page(None).contains("No guest is built in."));
    }
}
