//! The host's name servers: what resolv.conf(5) names, read afresh for each question, since laptops move and VPNs
//! come and go.

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;

use hvf_sys::os::socket;

/// How many name servers resolvers ask at most.
const SERVERS_MAX: usize = 3;
/// The most bytes of the file that are read.
const FILE_MAX: u64 = 64 << 10;

/// Where the host's name servers are found.
#[derive(Clone, Debug)]
pub(super) struct Resolvers {
    /// The file that names them.
    pub(super) file: PathBuf,
    /// The port that they listen at.
    pub(super) port: u16,
}

impl Resolvers {
    /// The name servers that the file names at this moment, in order. Without a file, or without names in it, it is the
    /// host itself, as resolv.conf(5) says.
    pub(super) fn read(&self) -> Vec<SocketAddr> {
        let text = self.contents().unwrap_or_else(|error| {
            let file = self.file.display();
            log::debug!("cannot read the name servers from {file}: {error}");
            String::new()
        });
        let servers = text.lines().filter_map(|line| server(line, self.port));
        let mut servers: Vec<_> = servers.take(SERVERS_MAX).collect();
        if servers.is_empty() {
            servers.push((Ipv4Addr::LOCALHOST, self.port).into());
        }
        servers
    }

    fn contents(&self) -> io::Result<String> {
        let mut bytes = Vec::new();
        let file = File::open(&self.file)?;
        file.take(FILE_MAX).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The address in a line, which may tell its interface behind a percent sign. A port behind a colon or in brackets,
/// as some programs write it, is not of that file's language.
fn server(line: &str, port: u16) -> Option<SocketAddr> {
    let mut words = line.split_ascii_whitespace();
    if words.next() != Some("nameserver") {
        return None;
    }
    let word = words.next()?;
    if let Ok(address) = word.parse::<IpAddr>() {
        return Some((address, port).into());
    }
    let (address, scope) = word.split_once('%')?;
    let address: Ipv6Addr = address.parse().ok()?;
    let scope = scope
        .parse()
        .ok()
        .or_else(|| socket::interface_index(scope))?;
    Some(SocketAddrV6::new(address, port, 0, scope).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn resolvers(file: &Path) -> Vec<SocketAddr> {
        let resolvers = Resolvers {
            file: file.to_owned(),
            port: 53,
        };
        resolvers.read()
    }

    fn servers(text: &str) -> Vec<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        resolvers(file.path())
            .iter()
            .map(SocketAddr::to_string)
            .collect()
    }

    #[test]
    fn files_are_read_as_the_manual_says() {
        for (text, expected) in [
            ("", &["127.0.0.1:53"][..]),
            (
                "search a.example\n# nameserver 1.1.1.1\n;nameserver 2.2.2.2\n",
                &["127.0.0.1:53"],
            ),
            (
                "nameserver 127.0.0.53\noptions edns0 trust-ad\n",
                &["127.0.0.53:53"],
            ),
            (
                "  nameserver\t10.1.1.1  # ours\nnameserver fd00::1\n",
                &["10.1.1.1:53", "[fd00::1]:53"],
            ),
            ("nameserver fe80::1%7\n", &["[fe80::1%7]:53"]),
            (
                "nameserver fe80::1%nosuchlink\nnameserver\nnameserver x\nnameserver 1.1.1.1",
                &["1.1.1.1:53"],
            ),
            (
                "nameserver 1.1.1.1\nnameserver 1.1.1.2\nnameserver 1.1.1.3\nnameserver 1.1.1.4\n",
                &["1.1.1.1:53", "1.1.1.2:53", "1.1.1.3:53"],
            ),
        ] {
            assert_eq!(servers(text), expected, "{text:?}");
        }
    }

    #[test]
    fn without_a_file_it_is_the_host_itself() {
        let nowhere = Path::new("/nonexistent/resolv.conf");
        assert_eq!(resolvers(nowhere), ["127.0.0.1:53".parse().unwrap()]);
    }
}
