//! Disk images: their file system is the root, and they never change.

use crate::launcher::Program;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Runs a script of the project, which must succeed.
pub fn script(name: &str, arguments: &[&str]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let output = Command::new(path).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {said}");
}

fn busybox_disk(place: &TempDir) -> PathBuf {
    let image = place.path().join("busybox.img");
    script("scripts/make-disk", &["busybox", image.to_str().unwrap()]);
    image
}

/// What must not change: the bytes, and when they were last written.
fn state(image: &Path) -> (Vec<u8>, std::time::SystemTime) {
    let modified = fs::metadata(image).unwrap().modified().unwrap();
    (fs::read(image).unwrap(), modified)
}

#[test]
fn an_ext4_image_is_the_root_is_written_and_stays_as_it_was() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let place = TempDir::new().unwrap();
    let image = busybox_disk(&place);
    let before = state(&image);
    // Written, pushed out of memory, and read again through the disk.
    let script = "set -e; grep ' / ' /proc/mounts | tail -n 1 | cut -d' ' -f1,3; ls -d /lost+found
        head -c 8000000 /dev/urandom > /var/log/noise; sum=$(sha256sum < /var/log/noise)
        sync; echo 3 > /proc/sys/vm/drop_caches
        test \"$sum\" = \"$(sha256sum < /var/log/noise)\"; echo same
        rm -r /etc; sync; dmesg | grep -i 'ext4.*error' || echo clean";
    let arguments = [image.to_str().unwrap(), "--", "sh", "-c", script];
    let finished = xlaunch.run(&arguments);
    assert_eq!(finished.code(), 0, "{finished}");
    let expected = "/dev/vda ext4\n/lost+found\nsame\nclean\n";
    assert_eq!(finished.text(), expected, "{finished}");
    assert!(before == state(&image), "the image has changed");

    // What the first run removed is there again, and nothing lies beside the image.
    let arguments = [
        image.to_str().unwrap(),
        "--",
        "ls",
        "/etc/passwd",
        "/var/log",
    ];
    let finished = xlaunch.run(&arguments);
    assert_eq!(finished.text(), "/etc/passwd\n\n/var/log:\n", "{finished}");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
}

#[test]
fn an_image_that_nobody_may_write_serves_as_well() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let place = TempDir::new().unwrap();
    let image = busybox_disk(&place);
    let mut permissions = fs::metadata(&image).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&image, permissions).unwrap();
    let script = "echo written > /root/file && cat /root/file";
    let finished = xlaunch.run(&[image.to_str().unwrap(), "--", "sh", "-c", script]);
    assert_eq!(finished.text(), "written\n", "{finished}");
}

#[test]
fn an_image_without_a_root_is_125_and_says_why() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let place = TempDir::new().unwrap();
    let image = place.path().join("zeros.img");
    fs::File::create(&image).unwrap().set_len(1 << 20).unwrap();
    let finished = xlaunch.run(&[image.to_str().unwrap(), "--", "true"]);
    assert_eq!(finished.code(), 125, "{finished}");
    let complaint = finished.complaint();
    assert!(complaint.contains("no file system"), "{complaint}");
}
