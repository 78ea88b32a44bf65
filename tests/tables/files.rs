//! `xlaunch tables` and `xlaunch topology` as a person or a program uses them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::machines::{find, spec, tables};
use xlaunch::spec::GIB;

fn xlaunch(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xlaunch"));
    command.current_dir(dir).args(arguments).output().unwrap()
}

/// The one sentence of a failure.
fn sentence(output: &Output) -> String {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(
        (output.status.code(), output.stdout.len()),
        (Some(125), 0),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    said.strip_prefix("xlaunch: ").unwrap().to_owned()
}

fn page(dir: &Path, arguments: &[&str]) -> String {
    let output = xlaunch(dir, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.as_str()), (Some(0), ""));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn tables_are_files_that_say_what_a_guest_would_find() {
    let place = tempfile::tempdir().unwrap();
    assert_eq!(
        page(place.path(), &["tables", "out", "-c4", "--pci-uart"]),
        ""
    );
    let out = place.path().join("out");
    let names: BTreeSet<_> = fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let expected = [
        ("RSD ", "RSDP.dat"),
        ("XSDT", "XSDT.dat"),
        ("FACP", "FADT.dat"),
        ("APIC", "MADT.dat"),
        ("HPET", "HPET.dat"),
        ("MCFG", "MCFG.dat"),
        ("FACS", "FACS.dat"),
        ("DSDT", "DSDT.aml"),
        ("_MP_", "MP.dat"),
        ("_SM3", "SMBIOS.dat"),
    ];
    assert_eq!(
        names,
        expected
            .iter()
            .map(|(_, name)| (*name).to_owned())
            .collect()
    );
    let all = tables(&spec(4, GIB, 0, true));
    for (signature, name) in expected {
        let (written, table) = (
            fs::read(out.join(name)).unwrap(),
            &find(&all, signature).bytes,
        );
        // Every machine has a UUID of its own, and a dump says where things are in it.
        if signature == "_SM3" {
            assert_eq!(written.len(), table.len());
        } else {
            assert_eq!(written, *table, "{name}");
        }
    }
}

#[test]
fn nothing_is_overwritten_and_every_failure_is_a_sentence() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path();
    fs::create_dir(dir.join("full")).unwrap();
    fs::write(dir.join("full/DSDT.aml"), "mine").unwrap();
    let said = sentence(&xlaunch(dir, &["tables", "full"]));
    assert!(
        said.contains("'full'") && said.contains("empty directory"),
        "{said}"
    );
    assert_eq!(fs::read(dir.join("full/DSDT.aml")).unwrap(), b"mine");
    assert_eq!(fs::read_dir(dir.join("full")).unwrap().count(), 1);
    fs::write(dir.join("file"), "").unwrap();
    for name in ["file", "file/below", "no/such/place"] {
        let said = sentence(&xlaunch(dir, &["tables", name]));
        assert!(said.contains(name), "{said}");
    }
    for wrong in [&["tables", "new", "-c0"][..], &["tables", "new", "-m1T"]] {
        assert!(!sentence(&xlaunch(dir, wrong)).is_empty());
    }
    assert!(
        !dir.join("new").exists(),
        "nothing is made for a machine that cannot be"
    );
    let said = sentence(&xlaunch(dir, &["topology", "--disk", "nothing.img"]));
    assert!(said.contains("nothing.img"), "{said}");
    fs::create_dir(dir.join("empty")).unwrap();
    assert_eq!(page(dir, &["tables", "empty"]), "");
}

#[test]
fn a_person_finds_what_is_where() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("disk.img"), vec![0; 1 << 20]).unwrap();
    let said = page(
        place.path(),
        &[
            "topology",
            "-c",
            "4",
            "-m",
            "5G",
            "--disk",
            "disk.img",
            "--pci-uart",
        ],
    );
    for line in [
        "00:00.0  8086:29c0  class 060000  host bridge",
        "00:02.0  1af4:1042  class 010000  virtio-blk, the root disk",
        "00:07.0  1b36:0002  class 070002  serial port",
        "INTA# = PIRQ H = GSI 23 or IRQ 7",
        "BAR 0: 8 B of ports at 0x2000",
        "0x00fec00000 - 0x00fec00fff     4 KiB  I/O APIC",
        "0x0100000000 - 0x017fffffff     2 GiB  RAM",
        "0x03f8 - 0x03ff  COM1",
        "IRQ 0  = GSI 2   timer",
    ] {
        assert!(said.contains(line), "{line} in\n{said}");
    }
    let without = page(place.path(), &["topology"]);
    assert!(
        !without.contains("00:07.0") && !without.contains("00:02.0"),
        "{without}"
    );
}

/// Python reads it where there is one, and finds the same as in the drawing.
#[test]
fn a_program_reads_the_same() {
    let place = tempfile::tempdir().unwrap();
    let said = page(place.path(), &["topology", "--json", "-c3", "--pci-uart"]);
    for part in [
        "\"address\": \"00:07.0\"",
        "\"vendor_id\": 6966",
        "\"kind\": \"ports\"",
        "\"apic_id\": 2",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let check = "import json, sys
m = json.load(sys.stdin)
f = {f['address']: f for f in m['pci']}
assert [c['apic_id'] for c in m['cpus']] == [0, 1, 2]
assert f['00:07.0']['interrupt'] == {'pin': 'A', 'pirq': 'H', 'gsi': 23, 'irq': 7}
assert f['00:1f.0']['interrupt'] is None
assert f['00:04.0']['msix_vectors'] > 0 and f['00:07.0']['msix_vectors'] == 0
assert {r['name'] for r in m['registers']} > {'HPET', 'I/O APIC'}
assert sum(r['end'] - r['start'] for r in m['memory_map'] if r['kind'] == 'RAM') > 1023 << 20";
    let mut python = Command::new("python3");
    python.args(["-c", check]).current_dir(place.path());
    fs::write(place.path().join("page"), &said).unwrap();
    let page = fs::File::open(place.path().join("page")).unwrap();
    match python.stdin(page).output() {
        Ok(output) => {
            let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{complaint}\n{said}");
        }
        Err(_) => println!("skipped: there is no python3 to read JSON; install it"),
    }
}
