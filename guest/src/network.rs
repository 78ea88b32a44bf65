//! The guest's two interfaces: the private link to the launcher, and the network that commands use.
//!
//! The link lives in a network namespace of its own, so that no command and no image sees it, and whatever they
//! do to their network leaves it alone.

use crate::lan;
use crate::link::{GUEST, LAUNCHER, MAC, PREFIX};
use crate::netlink::{self, Index};
use crate::resolver;
use hvf_sys::os::network::Namespace;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Where the kernel tells of its interfaces.
const INTERFACES: &str = "/sys/class/net";
/// How long the launcher may take to answer. It needs microseconds; a busy host may keep it from its work.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a driver may take to find its cable.
const CARRIER_PATIENCE: Duration = Duration::from_millis(100);

/// The private link, out of everybody's sight.
#[derive(Debug)]
pub struct Link {
    /// Where commands are.
    home: Namespace,
    /// Where the link is.
    own: Namespace,
}

impl Link {
    /// Takes the interface of the link away from the calling thread's namespace, and brings it up. `None` where the
    /// kernel has no such interface (it lacks the driver, or the machine is another), or nothing is plugged in.
    pub fn take() -> Result<Option<Self>, String> {
        let Some((interface, place)) = with_address(Path::new(INTERFACES), MAC) else {
            return Ok(None);
        };
        let link = Self::take_interface(interface, &place);
        link.map_err(|error| format!("cannot bring up the link: {error}"))
    }

    fn take_interface(interface: Index, place: &Path) -> io::Result<Option<Self>> {
        netlink::switch_on(interface)?;
        if !has_carrier(place) {
            return Ok(None);
        }
        let home = Namespace::current()?;
        let own = Namespace::enter_new()?;
        home.enter()?;
        netlink::move_to(interface, &own)?;
        let link = Self { home, own };
        link.inside(|| {
            netlink::add_address(interface, IpAddr::V4(GUEST), PREFIX)?;
            netlink::switch_on(interface)
        })?;
        Ok(Some(link))
    }

    /// Connects to one of the launcher's ports (`link::port`).
    pub fn connect(&self, port: u16) -> io::Result<TcpStream> {
        let launcher = SocketAddr::from((LAUNCHER, port));
        let stream = self.inside(|| TcpStream::connect_timeout(&launcher, PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Does something with the calling thread in the link's namespace. What it opens there stays there.
    fn inside<T>(&self, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.own.enter()?;
        let done = act();
        self.home.enter()?;
        done
    }
}

/// Configures the network that commands use where the kernel's command line says that it is the launcher's own
/// (`lan::WORD`): nothing is asked and nothing waited for. Any other network is the image's to configure.
pub fn configure(cmdline: &str) -> Result<(), String> {
    if !cmdline
        .split_ascii_whitespace()
        .any(|word| word == lan::WORD)
    {
        return Ok(());
    }
    let interface = first_of_a_device(Path::new(INTERFACES))
        .ok_or("there is no network interface; the kernel needs a virtio-net driver, built in or in the initrd")?;
    let configured = netlink::add_address(interface, lan::GUEST.into(), lan::PREFIX)
        .and_then(|()| netlink::switch_on(interface))
        .and_then(|()| netlink::add_default_route(interface, lan::GATEWAY.into()));
    configured.map_err(|error| format!("cannot configure the network: {error}"))?;
    // A read-only image may have no place for it. Everything but names works.
    if let Err(error) = resolver::use_server(lan::DNS.into()) {
        eprintln!("init: cannot tell programs the name server: {error}");
    }
    Ok(())
}

/// The first interface that is a device's, by the directory that tells of all: others the kernel makes up.
fn first_of_a_device(interfaces: &Path) -> Option<Index> {
    let entries = fs::read_dir(interfaces).ok()?.flatten();
    let of_devices = entries.filter(|entry| entry.path().join("device").exists());
    let index = |place: PathBuf| {
        let text = fs::read_to_string(place.join("ifindex")).ok()?;
        text.trim().parse().ok()
    };
    of_devices.filter_map(|entry| index(entry.path())).min()
}

/// Whether a cable is plugged in, by the directory of an interface that is on.
fn has_carrier(place: &Path) -> bool {
    let start = Instant::now();
    loop {
        let carrier = fs::read_to_string(place.join("carrier"));
        if carrier.is_ok_and(|text| text.trim() == "1") {
            return true;
        }
        // A driver may ask its device a moment after it was found.
        if start.elapsed() > CARRIER_PATIENCE {
            return false;
        }
        sleep(Duration::from_millis(2));
    }
}

/// The interface with a hardware address and its directory, by the directory that tells of all.
fn with_address(interfaces: &Path, mac: [u8; 6]) -> Option<(Index, PathBuf)> {
    let wanted = mac.map(|byte| format!("{byte:02x}")).join(":");
    let mut entries = fs::read_dir(interfaces).ok()?.flatten();
    entries.find_map(|entry| {
        let read = |name| fs::read_to_string(entry.path().join(name)).ok();
        (read("address")?.trim() == wanted).then_some(())?;
        let index = read("ifindex")?.trim().parse().ok()?;
        Some((index, entry.path()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_known_by_its_address() {
        let interfaces = tempfile::tempdir().unwrap();
        let add = |name: &str, address: &str, index: &str| {
            let place = interfaces.path().join(name);
            fs::create_dir(&place).unwrap();
            fs::write(place.join("address"), address).unwrap();
            fs::write(place.join("ifindex"), index).unwrap();
        };
        add("lo", "00:00:00:00:00:00\n", "1\n");
        assert_eq!(with_address(interfaces.path(), MAC), None);
        add("eth1", "02:78:6c:69:6e:6b\n", "7\n");
        add("eth0", "02:00:00:00:00:01\n", "3\n");
        fs::create_dir(interfaces.path().join("bonding_masters")).unwrap();
        assert_eq!(
            with_address(interfaces.path(), MAC),
            Some((7, interfaces.path().join("eth1")))
        );
    }

    #[test]
    fn the_network_is_the_first_device() {
        let interfaces = tempfile::tempdir().unwrap();
        let add = |name: &str, index: &str, device: bool| {
            let place = interfaces.path().join(name);
            fs::create_dir(&place).unwrap();
            fs::write(place.join("ifindex"), index).unwrap();
            if device {
                fs::create_dir(place.join("device")).unwrap();
            }
        };
        add("lo", "1\n", false);
        add("dummy0", "2\n", false);
        assert_eq!(first_of_a_device(interfaces.path()), None);
        add("eth1", "5\n", true);
        add("eth0", "4\n", true);
        assert_eq!(first_of_a_device(interfaces.path()), Some(4));
    }

    #[test]
    fn a_network_that_is_not_ours_is_left_alone() {
        assert_eq!(configure("quiet xlaunch.network=other"), Ok(()));
    }

    #[test]
    fn a_system_without_the_interface_has_no_link() {
        assert!(Link::take().unwrap().is_none());
    }
}
