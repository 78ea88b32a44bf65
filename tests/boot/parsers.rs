//! Linux's parsers of ACPI and PNP, at their strictest and with debugging on, and the serial port on the PCI bus, which Debian's
//! generic kernel finds by its class: one boot shows both.

use crate::bytes::sha256_of;
use crate::debian::fetched;
use crate::disk::script;
use crate::launcher::{Program, Running};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::ChildStderr;
use std::thread::{self, JoinHandle};
use tempfile::TempDir;

/// Everything that these parts of the kernel can say about what they read.
const DEBUGGING: &str = "acpi=strict pnp.debug=1 log_buf_len=4M dyndbg=\"file drivers/acpi/* +p; file drivers/pnp/* +p\"";

/// How they complain.
const COMPLAINTS: [&str; 15] = [
    "acpi error",
    "acpi warning",
    "acpi exception",
    "acpi bios",
    "bios bug",
    "firmware bug",
    "firmware warn",
    "resource sanity",
    "can't claim",
    "no compatible bridge window",
    "address conflict",
    "could not be reserved",
    "failed to assign",
    "unable to",
    "not reserved",
];

/// Bytes that the test sends: all values, so that none is special.
fn sent() -> Vec<u8> {
    (0..=255).cycle().take(5000).collect()
}

#[test]
fn strict_parsers_do_not_complain_and_the_pci_serial_port_carries_bytes_both_ways() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let Some(kernels) = fetched("kernel", &["amd64"]) else {
        return;
    };
    let place = TempDir::new().unwrap();
    let initrd = place.path().join("initrd");
    let list = kernels[0].join("list");
    script(
        "guest/build-initrd",
        &[initrd.to_str().unwrap(), list.to_str().unwrap()],
    );
    let in_guest = "set -e
        tty=$(dmesg | sed -n 's/.*0000:00:07.0: \\(ttyS[0-9]\\) at I.O 0x.*is a 16550A.*/\\1/p')
        exec 3<>/dev/$tty; stty raw -echo <&3; echo ready >&3
        head -c 5000 <&3 | sha256sum | cut -d' ' -f1
        seq 2000 >&3
        grep $tty /proc/interrupts
        ls -d /sys/bus/acpi/devices/ACPI0007:* | wc -l
        echo log; dmesg -r";
    let mut running = xlaunch.start(&[
        "--kernel",
        kernels[0].join("vmlinuz").to_str().unwrap(),
        "--initrd",
        initrd.to_str().unwrap(),
        "--append",
        DEBUGGING,
        "--timeout=290",
        "--pci-uart",
        "--",
        "sh",
        "-c",
        in_guest,
    ]);
    let (name, rest) = far_end(running.child().stderr.take().unwrap());
    let talker = thread::spawn(move || talk(&name));
    let finished = finish(running, rest);
    let received = talker.join().unwrap();
    assert_eq!(finished.0, 0, "{}", finished.1);

    let said = finished.1;
    let numbers: String = (1..=2000).map(|n| format!("{n}\n")).collect();
    assert!(
        received == format!("ready\n{numbers}"),
        "{received}\n{said}"
    );
    let (head, log) = said.split_once("log\n").unwrap_or_else(|| panic!("{said}"));
    let lines: Vec<&str> = head.lines().collect();
    assert_eq!(lines[0], sha256_of(&sent()), "{said}");
    // CPU 0's count, CPU 1's, how it is wired: by INTA# of slot 7.
    let words: Vec<&str> = lines[1].split_whitespace().collect();
    let count: u32 = words[1..3]
        .iter()
        .map(|it| it.parse::<u32>().unwrap())
        .sum();
    // The driver takes up to 256 bytes at an interrupt, and none without one.
    assert!(
        count >= 5000 / 256,
        "5000 bytes came by interrupts: {}",
        lines[1]
    );
    assert!(lines[1].contains("23-fasteoi"), "{}", lines[1]);
    assert_eq!(lines[2], "2", "a device for each CPU");
    judge(log);
}

fn judge(log: &str) {
    for part in [
        "Linux version",
        "ACPI: Interpreter enabled",
        "pnp: PnP ACPI: found",
    ] {
        assert!(log.contains(part), "{part} in {log}");
    }
    assert!(
        log.lines()
            .any(|line| line.starts_with("<7>") && line.contains("pnp")),
        "debugging is on"
    );
    let complains = |line: &&str| {
        let line = line.to_lowercase();
        COMPLAINTS.iter().any(|word| line.contains(word))
            || line.contains("pnp")
                && ["can't", "conflict", "fail"]
                    .iter()
                    .any(|it| line.contains(it))
    };
    let complaints: Vec<&str> = log.lines().filter(complains).collect();
    assert!(complaints.is_empty(), "{complaints:#?}\nin\n{log}");
}

/// The name of the pseudo-terminal, as the program says it, and a thread that reads what else it says.
fn far_end(stderr: ChildStderr) -> (String, JoinHandle<String>) {
    let mut lines = BufReader::new(stderr);
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    let name = line
        .trim()
        .strip_prefix("xlaunch: the PCI serial port leads to ");
    let name = name.unwrap_or_else(|| panic!("{line}")).to_owned();
    let rest = thread::spawn(move || {
        let mut rest = Vec::new();
        lines.read_to_end(&mut rest).unwrap();
        String::from_utf8_lossy(&rest).into_owned()
    });
    (name, rest)
}

/// Plays the terminal program: gives what the guest sent until its end.
fn talk(name: &str) -> String {
    let mut terminal = File::options().read(true).write(true).open(name).unwrap();
    let mut received = Vec::new();
    let mut byte = [0];
    // The machine's end is an error or the end of the file.
    while !received.ends_with(b"\n2000\n") && matches!(terminal.read(&mut byte), Ok(1)) {
        received.push(byte[0]);
        if received == b"ready\n" {
            terminal.write_all(&sent()).unwrap();
        }
    }
    String::from_utf8_lossy(&received).into_owned()
}

fn finish(running: Running, rest: JoinHandle<String>) -> (i32, String) {
    let finished = running.finish();
    let (code, text) = (finished.code(), finished.text());
    (code, format!("{text}{}", rest.join().unwrap()))
}
