//! The guest's half of shared folders: the kernel's own 9P client, on a connection to the launcher.
//!
//! `cache=mmap` keeps nothing of a file but what a program has mapped, so that what the host changes is seen at the next
//! look, and mapped files (linkers, git and cargo map theirs) work. `access=client` tells the launcher which user asks, and
//! leaves permissions to the guest's kernel (Linux, filesystems/9p.rst).

use crate::link::{Folder, port};
use hvf_sys::os::boot::{MountKind, mount};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// The longest message, in bytes: each one in flight takes as much of the kernel's memory, in one piece.
const MESSAGE: u32 = 128 * 1024;

/// Mounts the folder that is served on this connection. The kernel keeps the connection; the caller may close it.
pub fn mount_share(connection: impl AsFd, at: &Path, read_only: bool) -> io::Result<()> {
    let fd = connection.as_fd().as_raw_fd();
    let options = format!(
        "trans=fd,rfdno={fd},wfdno={fd},version=9p2000.L,msize={MESSAGE},cache=mmap,access=client"
    );
    let kind = if read_only {
        MountKind::NewReadOnly
    } else {
        MountKind::New
    };
    fs::create_dir_all(at)?;
    mount(Path::new("xlaunch"), at, "9p", kind, &options)
}

/// Mounts what the kernel's command line says is shared, each from the connection that `connect` makes to its port. An error
/// is a sentence.
pub fn mount_folders(
    connect: impl Fn(u16) -> io::Result<OwnedFd>,
    cmdline: &str,
) -> Result<(), String> {
    for (folder, port) in Folder::all(cmdline)?.into_iter().zip(port::FOLDERS..) {
        let path = &folder.path;
        let connection = connect(port).map_err(|error| {
            format!("cannot reach the launcher for the shared folder {path:?}: {error}")
        })?;
        mount_share(connection, path, folder.read_only).map_err(|error| why(path, &error))?;
    }
    Ok(())
}

/// What a person can do about a folder that is not mounted.
fn why(path: &Path, error: &io::Error) -> String {
    // ENODEV: the kernel has no such file system.
    const UNKNOWN: i32 = 19;
    let hint = match (error.raw_os_error(), error.kind()) {
        (Some(UNKNOWN), _) => "; the kernel needs the 9p file system with its fd transport",
        (_, io::ErrorKind::ReadOnlyFilesystem) => {
            "; the image is read-only, so share it at a directory that is there"
        }
        (_, io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory) => {
            "; something there is no directory"
        }
        _ => "",
    };
    format!("cannot mount the shared folder at {path:?}: {error}{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::io::ErrorKind;

    #[test]
    fn each_folder_has_a_port_of_its_own() {
        let ports = RefCell::new(Vec::new());
        let dir = tempfile::tempdir().unwrap();
        let path = |name| Folder {
            path: dir.path().join(name),
            read_only: false,
        };
        let refuse = |port| {
            ports.borrow_mut().push(port);
            Err(ErrorKind::ConnectionRefused.into())
        };
        let cmdline = format!("{} {}", path("a").word(), path("b").word());
        let error = mount_folders(refuse, &cmdline).unwrap_err();
        assert!(error.contains("cannot reach the launcher"), "{error}");
        assert_eq!(*ports.borrow(), [port::FOLDERS]);
        assert_eq!(mount_folders(refuse, "quiet"), Ok(()));
        assert!(mount_folders(refuse, "xlaunch.share=a").is_err());
    }

    #[test]
    fn what_stands_in_the_way_is_told() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let connect = |_| fs::File::open("/dev/null").map(OwnedFd::from);
        let folder = Folder {
            path: dir.path().join("file"),
            read_only: true,
        };
        let error = mount_folders(connect, &folder.word()).unwrap_err();
        assert!(error.contains("something there is no directory"), "{error}");
        let unknown = io::Error::from_raw_os_error(19);
        assert!(why(dir.path(), &unknown).contains("9p file system"));
    }
}
