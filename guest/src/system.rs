//! What a bare kernel needs before a command feels at home: kernel file systems, modules, the root disk.
//!
//! Two roots are possible. Without a disk the initial RAM disk is the root, with busybox in it. With
//! `xlaunch.root=/dev/vda` on the kernel's command line, that disk (a bare file system, or the partition that `root` finds)
//! becomes the root, and the kernel file systems move into it.

use crate::filesystem;
use crate::root::{self, Root};
use hvf_sys::os::boot::{MountKind, mount, switch_root, sync};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Where the root disk is mounted before it becomes the root.
const NEW_ROOT: &str = "/newroot";
/// The modules to load, one path a line, in order; written by who packs the initial RAM disk.
const MODULE_ORDER: &str = "/lib/modules/order";
/// How long a disk may take to appear.
const DISK_PATIENCE: Duration = Duration::from_secs(10);
/// The name of the guest.
const HOSTNAME: &str = "xlaunch";

/// The kernel's own file systems: type, place, options.
const KERNEL_MOUNTS: [(&str, &str, &str); 8] = [
    ("proc", "/proc", ""),
    ("sysfs", "/sys", ""),
    ("devtmpfs", "/dev", "mode=0755"),
    ("devpts", "/dev/pts", "mode=0620,gid=5,ptmxmode=0666"),
    ("tmpfs", "/dev/shm", "mode=1777"),
    ("tmpfs", "/run", "mode=0755"),
    ("tmpfs", "/tmp", "mode=1777"),
    ("cgroup2", "/sys/fs/cgroup", ""),
];

/// The names that programs know their own descriptors by; devtmpfs has none of them.
const DESCRIPTORS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// Those that a root disk gets; its /tmp is its own.
const MOVED: [&str; 4] = ["/proc", "/sys", "/dev", "/run"];

/// Prepares the guest. An error is what a command should be refused with.
pub fn prepare() -> Result<(), String> {
    mount_kernel_file_systems()?;
    load_modules();
    // A guest without these names, a name of its own or a loopback device still works.
    for (target, name) in DESCRIPTORS {
        let _ = std::os::unix::fs::symlink(target, name);
    }
    let _ = fs::write("/proc/sys/kernel/hostname", HOSTNAME);
    let _ = busybox(&["ip", "link", "set", "lo", "up"]);
    let cmdline = fs::read_to_string("/proc/cmdline");
    let cmdline = cmdline.map_err(|error| format!("cannot read /proc/cmdline: {error}"))?;
    match root_disk(&cmdline) {
        Some(disk) => enter_disk(Path::new(disk)),
        None => Ok(()),
    }
}

/// Leaves the disks as they should be found: everything written out, and their file systems clean, as far as nobody
/// has files open for writing.
pub fn settle() {
    sync();
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    // What was mounted last may lie on what was mounted first.
    for place in on_disks(&mounts).into_iter().rev() {
        // What cannot be made clean has been written out all the same.
        let _ = mount(&place, &place, "", MountKind::RemountReadOnly, "");
    }
}

/// Where file systems of disks are mounted, by the text of /proc/mounts. A place whose name is written there in an
/// escaped form is not among them.
fn on_disks(mounts: &str) -> Vec<PathBuf> {
    let place = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let device = words.next()?;
        let place = words.next().filter(|it| !it.contains('\\'))?;
        device.starts_with("/dev/").then(|| PathBuf::from(place))
    };
    mounts.lines().filter_map(place).collect()
}

fn mount_kernel_file_systems() -> Result<(), String> {
    // EBUSY: the kernel has mounted it already.
    const BUSY: i32 = 16;
    // ENODEV: the kernel has no such file system.
    const UNKNOWN: i32 = 19;
    for (fstype, place, options) in KERNEL_MOUNTS {
        let place = Path::new(place);
        let made = fs::create_dir_all(place);
        let mounted =
            made.and_then(|()| mount(Path::new(fstype), place, fstype, MountKind::New, options));
        match mounted {
            Err(error) if error.raw_os_error() == Some(BUSY) => {}
            Err(error) if error.raw_os_error() == Some(UNKNOWN) && fstype == "cgroup2" => {}
            other => {
                other.map_err(|error| format!("cannot mount {fstype} at {place:?}: {error}"))?
            }
        }
    }
    Ok(())
}

/// A module that does not load is said on the console and no more: what it was for will fail by itself.
fn load_modules() {
    let Ok(order) = fs::read_to_string(MODULE_ORDER) else {
        return;
    };
    for module in order.lines().map(str::trim).filter(|it| !it.is_empty()) {
        let path = Path::new("/lib/modules").join(module);
        if let Err(error) = busybox(&["insmod".as_ref(), path.as_os_str()]) {
            eprintln!("init: cannot load {module}: {error}");
        }
    }
}

fn busybox<A: AsRef<std::ffi::OsStr>>(arguments: &[A]) -> io::Result<()> {
    let mut command = Command::new("/bin/busybox");
    command.args(arguments).stdin(Stdio::null());
    let output = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(text.trim().to_owned()))
}

/// The disk that the command line makes the root; the last one said, as the kernel does with its own.
fn root_disk(cmdline: &str) -> Option<&str> {
    let words = cmdline.split_ascii_whitespace();
    words
        .filter_map(|word| word.strip_prefix("xlaunch.root="))
        .next_back()
}

fn enter_disk(disk: &Path) -> Result<(), String> {
    wait_for(disk)?;
    let Root {
        device,
        fstype,
        read_only,
    } = root::find(disk)?;
    let new_root = Path::new(NEW_ROOT);
    let kind = if read_only || filesystem::is_read_only(fstype) {
        MountKind::NewReadOnly
    } else {
        MountKind::New
    };
    fs::create_dir_all(new_root)
        .and_then(|()| mount(&device, new_root, fstype, kind, ""))
        .map_err(|error| cannot_mount(&device, fstype, &error))?;
    for place in MOVED {
        let target = new_root.join(&place[1..]);
        // A read-only image may lack the place; then the mount below says so.
        let _ = fs::create_dir_all(&target);
        mount(Path::new(place), &target, "", MountKind::Move, "").map_err(|error| {
            format!("cannot move {place} into the image on {device:?}: {error}; the image needs that directory")
        })?;
    }
    switch_root(new_root)
        .map_err(|error| format!("cannot make {device:?} the root directory: {error}"))
}

fn cannot_mount(device: &Path, fstype: &str, error: &io::Error) -> String {
    if root::is_unknown(error) {
        return format!(
            "{device:?} holds {fstype}, for which this kernel has no driver; use an image with ext4, squashfs, erofs or \
             iso9660, or boot a kernel that has it with --kernel and --initrd"
        );
    }
    format!("cannot mount {device:?} ({fstype}) as the root: {error}")
}

fn wait_for(disk: &Path) -> Result<(), String> {
    let start = Instant::now();
    while !disk.exists() {
        if start.elapsed() > DISK_PATIENCE {
            return Err(format!(
                "no disk {disk:?} appeared; the kernel needs a virtio-blk driver, built in or in the initrd"
            ));
        }
        sleep(Duration::from_millis(5));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_disk_is_the_last_one_said() {
        assert_eq!(root_disk("quiet console=ttyS0 panic=-1"), None);
        assert_eq!(root_disk("quiet xlaunch.root=/dev/vda\n"), Some("/dev/vda"));
        let twice = "xlaunch.root=/dev/vda root=/dev/sda xlaunch.root=/dev/vdb";
        assert_eq!(root_disk(twice), Some("/dev/vdb"));
    }

    #[test]
    fn disks_are_told_from_what_the_kernel_makes_up() {
        let mounts = "rootfs / rootfs rw 0 0\nproc /proc proc rw 0 0\n/dev/vda / ext4 rw 0 0\n\
                      /dev/vdb /mnt ext4 ro 0 0\n/dev/vdc /a\\040b ext4 rw 0 0\n\n/dev/vdd";
        let expected = ["/", "/mnt"].map(PathBuf::from);
        assert_eq!(on_disks(mounts), expected);
    }
}
