//! The file that tells programs their name server.
//!
//! An image has one of its own, which is not ours to change: it may be kept, or shared with others. So ours lies in memory
//! and is mounted over it. What is a link leads somewhere, usually into /run, where nothing is yet: the file is made
//! there.

use hvf_sys::os::boot::{MountKind, mount};
use std::fs;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};

/// Where the C libraries look (resolv.conf(5)).
const FILE: &str = "/etc/resolv.conf";
/// Where ours lies.
const OURS: &str = "/run/xlaunch/resolv.conf";
/// How many links are followed at most.
const LINKS_MAX: u32 = 8;

/// Makes programs ask `server` for names.
pub(crate) fn use_server(server: IpAddr) -> io::Result<()> {
    let text = format!("nameserver {server}\n");
    put(Path::new(OURS), &text)?;
    let place = end_of_links(Path::new(FILE));
    match fs::metadata(&place) {
        Ok(_) => {}
        // The image lies in memory, or lets itself be written: a file that was not there hides nothing.
        Err(error) if error.kind() == ErrorKind::NotFound => return put(&place, &text),
        Err(error) => return Err(error),
    }
    mount(Path::new(OURS), &place, "", MountKind::Bind, "")
}

fn put(file: &Path, text: &str) -> io::Result<()> {
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(file, text)
}

/// Where a link, or a link that it leads to, finally leads, whether there is something or not.
fn end_of_links(file: &Path) -> PathBuf {
    let mut place = file.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(target) = fs::read_link(&place) else {
            break;
        };
        let directory = place.parent().unwrap_or(Path::new("/"));
        place = plain(&directory.join(target));
    }
    place
}

/// The path without its dots, which may go through directories that are not there.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => drop(plain.pop()),
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_even_to_where_nothing_is() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::create_dir(at("etc")).unwrap();
        symlink("../run/systemd/../resolve/stub.conf", at("etc/a")).unwrap();
        symlink("./a", at("etc/b")).unwrap();
        assert_eq!(end_of_links(&at("etc/b")), at("run/resolve/stub.conf"));
        fs::write(at("etc/file"), "").unwrap();
        assert_eq!(end_of_links(&at("etc/file")), at("etc/file"));
    }

    #[test]
    fn links_in_a_circle_end() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        symlink("b", at("a")).unwrap();
        symlink("a", at("b")).unwrap();
        end_of_links(&at("a"));
    }

    #[test]
    fn a_missing_directory_is_made() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("run/resolve/conf");
        put(&file, "nameserver 192.0.2.1\n").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "nameserver 192.0.2.1\n");
    }
}
