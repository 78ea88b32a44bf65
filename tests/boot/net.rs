//! The network interfaces, by Linux's own driver and without our init, which would hide the link.

use guest::archive::{Archive, Member};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xlaunch::backend::console::serial_line;
use xlaunch::backend::net::{Network, Null};
use xlaunch::machine::{Cables, Outcome, build};
use xlaunch::spec::{CpuCount, Engine, Image, MachineSpec, MemorySize, Net};

/// Everything that the device offers (virtio 1.2, 5.1.3 and 6): a driver of today wants it all.
const FEATURES: [u32; 19] = [
    0, 1, 2, 3, 5, 7, 8, 9, 11, 12, 13, 15, 16, 17, 18, 23, 28, 29, 32,
];

/// Sees both interfaces, brings them up, sends on the link, and does so again after the driver has let go of it.
const SCRIPT: &str = "cd /sys/class/net; echo begin
    for it in eth0 eth1; do echo $it $(cat $it/address $it/mtu $it/device/features); done
    for it in eth0 eth1; do basename $(readlink -f $it/device/..); done
    send() {
        ip link set eth1 up; ip addr add 10.9.0.1/24 dev eth1; before=$(cat eth1/statistics/tx_packets)
        ping -c 1 -W 1 10.9.0.2 >/dev/null; test $(cat eth1/statistics/tx_packets) -gt $before && echo sent
    }
    ip link set eth0 up; send
    echo carrier $(cat eth0/carrier eth1/carrier) $(cat eth0/statistics/tx_packets)
    driver=/sys/bus/virtio/drivers/virtio_net; link=$(basename $(readlink -f eth1/device))
    grep $link /proc/interrupts | sed 's/^ *[0-9]*: *[0-9 ]*//'
    for round in 1 2; do
        echo $link > $driver/unbind; test -e eth1 || echo gone
        echo $link > $driver/bind; send
    done
    dmesg | grep -iE 'virtio|eth[01]|irq' | grep -iE 'error|fail|warn|nobody|invalid' || echo clean; echo end";

fn features() -> String {
    let bit = |bit| if FEATURES.contains(&bit) { '1' } else { '0' };
    (0..64).map(bit).collect()
}

/// Runs the script, and gives the lines that tell of interrupts; nothing where there is no guest.
fn both_interfaces_work(append: &str) -> Vec<String> {
    let Some(text) = run(SCRIPT, append, Net::Nothing, Arc::new(Null::Silent)) else {
        return Vec::new();
    };
    let said = text
        .split_once("begin\n")
        .and_then(|(_, it)| it.split_once("end\n"));
    let (text, _) = said.expect(&text);
    let lines: Vec<&str> = text.lines().collect();
    let words = |line: usize| {
        lines
            .get(line)
            .map_or(Vec::new(), |it| it.split(' ').collect())
    };
    let (net, link) = (words(0), words(1));
    assert_eq!((net.len(), link.len()), (4, 4), "{text}");
    assert_eq!(link, ["eth1", "02:78:6c:69:6e:6b", "1500", &features()]);
    assert_eq!([net[0], net[2], net[3]], ["eth0", "1500", &features()]);
    // A random address, of one station and of nobody's making.
    let first = u8::from_str_radix(&net[1][..2], 16).unwrap();
    assert_eq!(first & 3, 2, "{}", net[1]);
    assert_ne!(net[1], link[1]);
    assert_eq!(
        lines[2..6],
        ["0000:00:03.0", "0000:00:06.0", "sent", "carrier 0 1 0"],
        "{text}"
    );
    let end = lines.len() - 5;
    assert_eq!(
        lines[end..],
        ["gone", "sent", "gone", "sent", "clean"],
        "{text}"
    );
    lines[6..end].iter().map(|&line| line.to_owned()).collect()
}

#[test]
fn both_interfaces_come_up_and_come_back() {
    let interrupts = both_interfaces_work("");
    if interrupts.is_empty() {
        return;
    }
    for vector in ["config", "input.0", "output.0"] {
        let found = |line: &&String| line.contains("MSI") && line.ends_with(vector);
        assert_eq!(interrupts.iter().filter(found).count(), 1, "{interrupts:?}");
    }
}

#[test]
fn they_do_without_messages() {
    let interrupts = both_interfaces_work("pci=nomsi");
    assert!(interrupts.len() <= 1, "{interrupts:?}");
    assert!(
        interrupts.iter().all(|line| line.contains("IO-APIC")),
        "{interrupts:?}"
    );
}

/// Linux's own driver receives what it has sent, short and long, on a cable that brings it back.
#[test]
fn what_a_guest_sends_on_a_looped_cable_comes_back() {
    // Promiscuous, since what goes to others comes back too.
    let script = "cd /sys/class/net/eth0;
        ip link set eth0 promisc on; ip link set eth0 up; ip addr add 10.9.0.1/24 dev eth0;
        arp -s 10.9.0.2 02:00:00:00:00:02; ping -c 3 -W 1 -s 30000 10.9.0.2 >/dev/null; cd statistics;
        echo $(cat tx_packets tx_bytes rx_packets rx_bytes rx_errors rx_dropped tx_errors)";
    let Some(text) = run(script, "", Net::Loop, Arc::new(Null::Unplugged)) else {
        return;
    };
    let counts: Vec<u64> = text
        .lines()
        .find_map(|line| line.split_whitespace().map(|n| n.parse().ok()).collect())
        .unwrap_or_else(|| panic!("no counts: {text}"));
    let [sent, sent_bytes, received, received_bytes, trouble @ ..] = &counts[..] else {
        panic!("no counts: {text}");
    };
    assert!(*sent >= 3 * 21 && *sent_bytes > 90_000, "{text}");
    assert_eq!((sent, sent_bytes), (received, received_bytes), "{text}");
    assert_eq!(trouble, [0, 0, 0], "{text}");
}

/// Runs a script in place of init, and gives what it says on the console, without carriage returns.
fn run(script: &str, append: &str, net: Net, link: Arc<dyn Network>) -> Option<String> {
    let (kernel, initrd) = guest()?;
    let place = tempfile::TempDir::new().unwrap();
    let with_script = place.path().join("initrd");
    let mut bytes = std::fs::read(initrd).unwrap();
    let mut added = Archive::new();
    let file = Member::File {
        mode: 0o755,
        data: format!(
            "#!/bin/sh\nmount -t sysfs s /sys; mount -t proc p /proc\n{script}\npoweroff -f\n"
        )
        .into_bytes(),
    };
    added.add("/script", file).unwrap();
    added.write(&mut bytes).unwrap();
    std::fs::write(&with_script, bytes).unwrap();
    let spec = MachineSpec {
        memory: MemorySize::default(),
        cpus: CpuCount::default(),
        engine: Engine::Soft,
        kernel: Image::File(kernel),
        initrd: Some(Image::File(with_script)),
        modules: Vec::new(),
        cmdline: format!("console=ttyS0 panic=-1 quiet {append} rdinit=/script"),
        disks: Vec::new(),
        drives: Vec::new(),
        net,
        pci_uart: false,
    };
    let (com1, mut console, _) = serial_line();
    let cables = Cables {
        com1,
        link,
        ..Cables::unplugged()
    };
    let machine = build(&spec, cables).unwrap();
    let outcome = machine.wait();
    drop(machine);
    let mut text = String::new();
    console.read_to_string(&mut text).unwrap();
    assert_eq!(outcome, Outcome::PoweredOff, "{text}");
    Some(text.replace('\r', ""))
}

/// The kernel and the initrd, or nothing after having said why.
fn guest() -> Option<(PathBuf, PathBuf)> {
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/guest");
    let files = ["bzImage", "initrd.cpio"].map(|name| place.join(name));
    if !files.iter().all(|file| file.is_file()) {
        println!(
            "skipped: {} has no guest; guest/build makes one",
            place.display()
        );
        return None;
    }
    let [kernel, initrd] = files;
    Some((kernel, initrd))
}
