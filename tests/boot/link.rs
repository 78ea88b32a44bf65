//! The private link: the session goes over it, and nobody in the guest sees it.

use crate::launcher::{Finished, Program};
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes that the guest sent by COM2, as its driver counted them.
const SENT_BY_COM2: &str = "sed -n 's/^1:.* tx:\\([0-9]*\\).*/\\1/p' /proc/tty/driver/serial";

fn number(finished: &Finished) -> u64 {
    let text = finished.text();
    text.trim()
        .parse()
        .unwrap_or_else(|_| panic!("no number: {finished}"))
}

#[test]
fn the_session_leaves_the_serial_line_alone() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let finished = xlaunch.shell(&format!("echo words >&2; {SENT_BY_COM2}"));
    assert_eq!(finished.code(), 0, "{finished}");
    assert_eq!(number(&finished), 0, "{finished}");
}

/// `initcall_blacklist` keeps the driver of virtio-net from its work, as a kernel does that has it as a module.
#[test]
fn a_kernel_without_the_driver_uses_the_serial_line() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let blacklist = "initcall_blacklist=virtio_net_driver_init";
    let script = format!("ls /sys/class/net >&2; {SENT_BY_COM2}");
    let finished = xlaunch.run(&[
        "--append",
        blacklist,
        "--net=none",
        "--",
        "sh",
        "-c",
        &script,
    ]);
    assert_eq!(finished.code(), 0, "{finished}");
    assert_eq!(finished.complaint(), "dummy0\nlo\n", "{finished}");
    assert!(number(&finished) > 0, "{finished}");
}

#[test]
fn no_command_sees_it() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let script = "ls /sys/class/net; cat /proc/net/fib_trie /proc/net/tcp; ip addr; ip route";
    let finished = xlaunch.shell(script);
    assert_eq!(finished.code(), 0, "{finished}");
    let text = finished.text();
    assert!(!text.contains("169.254."), "{finished}");
    let interfaces: Vec<&str> = text.lines().take_while(|it| !it.contains(':')).collect();
    let shown = |name: &str| interfaces.contains(&name);
    assert!(shown("lo") && shown("eth0") && !shown("eth1"), "{finished}");
}

/// Whatever the guest does to its network, the session goes on.
#[test]
fn it_outlives_the_guests_network() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let script = "ip link set eth0 down; ip addr flush dev lo; ip link set lo down
        ip route flush table all 2>/dev/null; echo still here";
    let finished = xlaunch.shell(script);
    assert_eq!(finished.code(), 0, "{finished}");
    assert_eq!(finished.text(), "still here\n", "{finished}");
}

/// The RTC knows whole seconds only, so a guest that went by it alone would be late by half a second on average.
#[test]
fn the_guest_is_told_the_time() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let now = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.unwrap().as_micros() as u64
    };
    let before = now();
    // adjtimex of busybox prints the kernel's clock to the microsecond.
    let finished =
        xlaunch.shell("adjtimex | sed -n 's/.*time.tv_sec: *//p; s/.*time.tv_usec: *//p'");
    let after = now();
    assert_eq!(finished.code(), 0, "{finished}");
    let text = finished.text();
    let words: Vec<u64> = text.lines().map(|it| it.trim().parse().unwrap()).collect();
    let [seconds, micros] = words[..] else {
        panic!("{finished}");
    };
    let told = seconds * 1_000_000 + micros;
    // What lies between the host's look at its clock and the guest's is a message on its way.
    let slack = 200_000;
    assert!(
        before - slack <= told && told <= after + slack,
        "{before} {told} {after}"
    );
}
