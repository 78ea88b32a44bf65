//! The interface, and on it the private link against Linux's own TCP, in a network namespace that the test makes.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::Duration;

use guest::link::{GUEST, LAUNCHER, MAC, PREFIX};

use super::*;
use crate::backend::again;
use crate::backend::net::cable::Cable;
use crate::backend::net::link::LinkNet;

/// What makes the test's other half run where it may configure a network.
const UNSHARE: [&str; 3] = ["--user", "--map-root-user", "--net"];
const INSIDE: &str = "backend::net::tap::tests::inside_the_namespace";
const NAME: &str = "xl0";

#[test]
fn a_name_that_is_none_is_said() {
    let error = Tap::open("a/b").err().unwrap().to_string();
    assert_eq!(
        error,
        "cannot open the TAP interface a/b: invalid input parameter; give a name of 1 to 15 letters"
    );
}

/// The outside half: says why where it cannot be.
#[test]
fn linux_talks_with_the_link_over_a_tap() {
    if let Some(why) = obstacle() {
        return println!("skipped: {why}");
    }
    let output = Command::new("unshare")
        .args(unshare())
        .args(again::words())
        .args([INSIDE, "--exact", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    assert!(said.contains("1 passed"), "{said}{errors}");
    print!("{said}");
}

/// Root needs no namespace of users, which would take /dev/net/tun away where only root has it.
fn unshare() -> &'static [&'static str] {
    let own = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap());
    if own == 0 { &UNSHARE[2..] } else { &UNSHARE }
}

fn obstacle() -> Option<String> {
    let tun = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun");
    if let Err(error) = tun {
        return Some(format!("cannot open /dev/net/tun: {error}"));
    }
    let can = Command::new("unshare")
        .args(unshare())
        .args(["ip", "link", "set", "lo", "up"])
        .output();
    match can {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!(
            "cannot make a network namespace: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => Some(format!("cannot run unshare: {error}")),
    }
}

fn ip(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .status()
        .unwrap();
    assert!(status.success(), "ip {arguments}");
}

fn connect(port: u16) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&(LAUNCHER, port).into(), Duration::from_secs(20))
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 13 + (i >> 10)) as u8).collect()
}

#[test]
#[ignore = "the inside half of linux_talks_with_the_link_over_a_tap"]
fn inside_the_namespace() {
    let made = Tap::open(NAME).unwrap();
    let busy = Tap::open(NAME).err().unwrap().to_string();
    assert!(busy.contains("no other program"), "{busy}");
    drop(made);
    for mtu in [65_520, 1500] {
        let tap = Arc::new(Tap::open(NAME).unwrap());
        let mac = MAC.map(|byte| format!("{byte:02x}")).join(":");
        ip(&format!("link set {NAME} address {mac} mtu {mtu} up"));
        ip(&format!("addr add {GUEST}/{PREFIX} dev {NAME}"));
        let same = Tap::open("xl1").unwrap();
        assert_eq!(same.mtu(), MTU);
        drop(same);
        let link = Arc::new(LinkNet::new().unwrap());
        let cable = Cable::new(tap, link.clone());
        everything(&link);
        drop(cable);
    }
}

/// What Linux and the launcher say to each other.
fn everything(link: &LinkNet) {
    let (echo, source) = (link.listen(7), link.listen(8));
    let echoing = thread::spawn(move || {
        while let Some((mut reader, mut writer)) = echo.accept() {
            thread::spawn(move || io::copy(&mut reader, &mut writer));
        }
    });
    through_the_echo(64 << 20);
    let many: Vec<_> = (0..16)
        .map(|index| thread::spawn(move || through_the_echo(index * 10_000)))
        .collect();
    many.into_iter().for_each(|it| it.join().unwrap());
    (0..100).for_each(|_| through_the_echo(1));
    let refused = connect(9).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    half_closed(&source);
    never_read(&source);
    reset(&source);
    link.hang_up();
    echoing.join().unwrap();
    assert!(source.accept().is_none());
}

fn through_the_echo(len: usize) {
    let stream = connect(7).unwrap();
    let (mut reader, mut writer) = (stream.try_clone().unwrap(), stream);
    let data = bytes(len);
    let sent = data.clone();
    let sending = thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut back = Vec::new();
    reader.read_to_end(&mut back).unwrap();
    sending.join().unwrap();
    assert!(back == data, "{} of {len} bytes", back.len());
}

/// The launcher closes first, and still receives.
fn half_closed(source: &crate::backend::net::link::Listener) {
    let mut stream = connect(8).unwrap();
    let (mut reader, mut writer) = source.accept().unwrap();
    writer.write_all(b"bye").unwrap();
    drop(writer);
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"bye");
    stream.write_all(b"later").unwrap();
    drop(stream);
    let mut all = Vec::new();
    reader.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"later");
}

/// Linux's window shuts, and opens again after a while.
fn never_read(source: &crate::backend::net::link::Listener) {
    let mut stream = connect(8).unwrap();
    let (reader, mut writer) = source.accept().unwrap();
    let writing = thread::spawn(move || writer.write_all(&bytes(32 << 20)));
    thread::sleep(Duration::from_millis(500));
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    writing.join().unwrap().unwrap();
    assert!(all == bytes(32 << 20));
    drop(reader);
}

/// Who closes without reading resets.
fn reset(source: &crate::backend::net::link::Listener) {
    let stream = connect(8).unwrap();
    let (mut reader, mut writer) = source.accept().unwrap();
    writer.write_all(&bytes(1000)).unwrap();
    let mut first = [0];
    (&stream).read_exact(&mut first).unwrap();
    drop(stream);
    let error = reader.read(&mut first).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}
