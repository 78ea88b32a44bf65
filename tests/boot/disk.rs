//! Disk images: their file system is the root, and they change only where that is asked for.

use crate::bytes::{noise, sha256};
use crate::launcher::Program;
use crate::partitions;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
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

/// An image with busybox on it.
pub fn busybox_disk(place: &TempDir) -> PathBuf {
    let image = place.path().join("busybox.img");
    script("scripts/make-disk", &["busybox", image.to_str().unwrap()]);
    image
}

/// What must not change: the bytes, and when they were last written.
pub fn state(image: &Path) -> (Vec<u8>, std::time::SystemTime) {
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
fn without_a_command_the_shell_that_the_image_gives_the_user_logs_in() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let place = TempDir::new().unwrap();
    let image = busybox_disk(&place);
    let image = image.to_str().unwrap();
    let passwd = "printf '%s\\n' 'root:x:0:0::/root:/bin/ash' 'me:x:1:1::/:/sbin/nologin' 'you:x:2:2::/:/bin/none' > /etc/passwd";
    let finished = xlaunch.run(&["--keep", image, "--", "sh", "-c", passwd]);
    assert_eq!(finished.code(), 0, "{finished}");
    for (user, expected) in [
        ("0", "-ash /bin/ash root\n"),
        ("me", "-sh /bin/sh me\n"),
        ("you", "-sh /bin/sh you\n"),
    ] {
        let running = xlaunch.start(&["-u", user, image]);
        let finished = running.finish_with(b"echo $0 $SHELL $USER\n".to_vec());
        assert_eq!(finished.text(), expected, "{finished}");
    }
    let finished = xlaunch
        .start(&[image])
        .finish_with(b"echo $0 $SHELL\n".to_vec());
    assert_eq!(finished.text(), "-ash /bin/ash\n", "{finished}");
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

const MIB: usize = 1 << 20;

/// An image of noise.
fn image_of_noise(place: &TempDir, name: &str, len: usize) -> (String, Vec<u8>) {
    let bytes = noise(len, len as u64);
    let path = place.path().join(name);
    fs::write(&path, &bytes).unwrap();
    (path.to_str().unwrap().to_owned(), bytes)
}

/// What a program of the host says, which may end as it likes.
pub fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
    out + &err
}

#[test]
fn a_read_only_disk_reads_the_same_in_the_guest_and_cannot_be_written() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let place = TempDir::new().unwrap();
    let (raw, bytes) = image_of_noise(&place, "raw", 16 * MIB);
    let (scratch, scratched) = image_of_noise(&place, "scratch", MIB);
    let system = busybox_disk(&place);
    let before = state(&system);
    let script = "sha256sum /dev/vda | cut -d' ' -f1
        blockdev --getro /dev/vda; blockdev --getro /dev/vdc
        dd if=/dev/zero of=/dev/vda count=1 conv=fsync 2>/dev/null || echo unwritable
        mkdir /tmp/m && mount -t ext4 -o rw /dev/vdb /tmp/m 2>/dev/null
        touch /tmp/m/x 2>/dev/null || echo refused
        grep ' /tmp/m ' /proc/mounts | cut -d' ' -f4 | cut -d, -f1
        blkdiscard /dev/vdc && dd if=/dev/zero of=/dev/vdc bs=64k count=2 conv=fsync 2>/dev/null
        echo 3 > /proc/sys/vm/drop_caches; head -c 131072 /dev/vdc | tr -d '\\0' | wc -c
        ls /sys/block/vda/mq | wc -l";
    let system_ro = format!("{}:ro", system.to_str().unwrap());
    let raw_ro = format!("{raw}:ro");
    let disks = ["--disk", &raw_ro, "--disk", &system_ro, "--disk", &scratch];
    let finished = xlaunch.run(&[&disks[..], &["-c", "2", "--", "sh", "-c", script]].concat());
    let expected = format!(
        "{}\n1\n0\nunwritable\nrefused\nro\n0\n2\n",
        sha256(raw.as_ref())
    );
    assert_eq!(finished.text(), expected, "{finished}");
    assert!(before == state(&system) && bytes == fs::read(&raw).unwrap());
    assert!(scratched == fs::read(&scratch).unwrap());
}

/// Also that a guest which is done has left its file system clean, and that space it gives back is the host's again.
#[test]
fn with_keep_the_images_have_what_the_guest_wrote_and_no_more() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let place = TempDir::new().unwrap();
    let image = busybox_disk(&place);
    let (raw, mut bytes) = image_of_noise(&place, "raw", 8 * MIB);
    let taken = |path: &str| fs::metadata(path).unwrap().blocks() * 512;
    let image = image.to_str().unwrap();
    let before = [image, &raw].map(taken);
    // The last file is not synced: that is what powering off is for.
    let script = "set -e; echo kept > /root/kept
        head -c 20000000 /dev/zero | tr '\\0' x > /root/large; sync; rm /root/large; sync; fstrim /
        blkdiscard -o 1048576 -l 4194304 /dev/vdb
        echo 3 > /proc/sys/vm/drop_caches
        dd if=/dev/vdb bs=1M skip=1 count=4 2>/dev/null | tr -d '\\0' | wc -c
        echo mark | dd of=/dev/vdb bs=512 seek=1 conv=notrunc 2>/dev/null
        head -c 1000000 /dev/urandom > /root/noise; sha256sum /root/noise | cut -d' ' -f1";
    let arguments = ["--keep", "--disk", &raw, image, "--", "sh", "-c", script];
    let finished = xlaunch.run(&arguments);
    assert_eq!(finished.code(), 0, "{finished}");
    let text = finished.text();
    let [zeros, sum] = text.lines().collect::<Vec<_>>()[..] else {
        panic!("{finished}");
    };
    assert_eq!(zeros, "0");

    let check = said("/usr/sbin/e2fsck", &["-fn", image]);
    let clean = !check.contains("Fix?") && !check.contains("journal recovery");
    assert!(clean && check.contains("Pass 5"), "{check}");
    let show = |name: &str| said("/usr/sbin/debugfs", &["-R", &format!("cat {name}"), image]);
    assert!(show("/root/kept").starts_with("kept\n"));
    let copy = place.path().join("copy");
    let copy = copy.to_str().unwrap();
    said(
        "/usr/sbin/debugfs",
        &["-R", &format!("dump /root/noise {copy}"), image],
    );
    assert_eq!(sha256(copy.as_ref()), sum);

    bytes[MIB..5 * MIB].fill(0);
    bytes[512..517].copy_from_slice(b"mark\n");
    assert!(bytes == fs::read(&raw).unwrap());
    let after = [image, &raw].map(taken);
    // 20 MB were written and given back; the file of noise is 1 MB.
    assert!(
        after[0] < before[0] + 8 * MIB as u64,
        "{before:?} {after:?}"
    );
    assert!(
        after[1] <= before[1] - 4 * MIB as u64,
        "{before:?} {after:?}"
    );
}

/// What a full disk is to a file, `ulimit -f` is to a process: no block behind the limit can be written.
#[test]
fn a_host_without_room_is_an_i_o_error_in_the_guest_and_told_once() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let place = TempDir::new().unwrap();
    let (raw, _) = image_of_noise(&place, "raw", 4 * MIB);
    let script = "for at in 3 2 0; do
            dd if=/dev/zero of=/dev/vda bs=1M seek=$at count=1 conv=fsync 2>/dev/null; echo $at $?
        done";
    let limited = "ulimit -f 4096; exec \"$@\"";
    let program = xlaunch.command(&[]);
    let mut command = Command::new("sh");
    command
        .args(["-c", limited, "sh"])
        .arg(program.get_program());
    command.args(["run", "--keep", "--disk", &raw, "--", "sh", "-c", script]);
    let output = command.output().unwrap();
    let [out, complaint] = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
    assert_eq!(out, "3 1\n2 1\n0 0\n", "{complaint}");
    let name = format!("no room for disk image '{raw}'");
    assert!(complaint.contains(&name), "{complaint}");
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
}

#[test]
fn an_image_that_one_machine_changes_is_no_other_s() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let place = TempDir::new().unwrap();
    let (raw, _) = image_of_noise(&place, "raw", MIB);
    let script = "echo up; exec sleep 1000";
    let arguments = ["--keep", "--disk", &raw, "--", "sh", "-c", script];
    let mut first = xlaunch.start(&arguments);
    let mut up = String::new();
    let stdout = first.child().stdout.as_mut().unwrap();
    BufReader::new(stdout).read_line(&mut up).unwrap();
    assert_eq!(up, "up\n");
    let pid = first.child().id();
    let read_only = format!("{raw}:ro");
    for second in [
        &["--keep", "--disk", &raw][..],
        &["--disk", &raw],
        &["--disk", &read_only],
    ] {
        let finished = xlaunch.run(&[second, &["--", "true"]].concat());
        assert_eq!(finished.code(), 125, "{second:?}: {finished}");
        let complaint = finished.complaint();
        let (name, holder) = (format!("'{raw}'"), format!("process {pid} "));
        assert!(
            complaint.contains(&name) && complaint.contains(&holder),
            "{complaint}"
        );
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
    }
    first.signal("TERM");
    assert_eq!(first.finish().code(), 128 + 15);
    let twice = ["--keep", "--disk", &raw, "--disk", &raw, "--", "true"];
    let complaint = xlaunch.run(&twice).complaint();
    assert!(complaint.contains("name each image once"), "{complaint}");
}

/// A small file system of memory, in a mount namespace that ends with the command: throwaway changes, then a named overlay.
#[test]
fn a_full_file_system_is_named_and_the_guest_goes_on() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let namespace = ["-U", "-r", "-m"];
    let allowed = Command::new("unshare").args(namespace).arg("true").status();
    if !allowed.is_ok_and(|status| status.success()) {
        println!("skipped: no mount namespace for an unprivileged user here");
        return;
    }
    let place = TempDir::new().unwrap();
    let image = busybox_disk(&place);
    let before = state(&image);
    let small = place.path().join("small");
    fs::create_dir(&small).unwrap();
    let small = small.to_str().unwrap();
    let overlay = format!("{small}/overlay");
    let script = "tr '\\0' x < /dev/zero | dd of=/root/large bs=1M count=24 iflag=fullblock conv=fsync 2>/dev/null \
                  || echo full";
    let thrown = (&[][..], format!("no room in '{small}'"));
    let named = (
        &["--overlay", &overlay][..],
        format!("no room for overlay '{overlay}'"),
    );
    for (how, sentence) in [thrown, named] {
        let arguments = [how, &[image.to_str().unwrap(), "--", "sh", "-c", script]].concat();
        let program = xlaunch.command(&arguments);
        let mount = "mount -t tmpfs -o size=12m small \"$TMPDIR\"; exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(namespace).args(["sh", "-c", mount, "sh"]);
        command.arg(program.get_program()).args(program.get_args());
        let output = command.env("TMPDIR", small).output().unwrap();
        let [out, complaint] =
            [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
        assert!(out.contains("full\n"), "{out} {complaint}");
        assert_eq!(complaint.matches(&sentence).count(), 1, "{complaint}");
        assert!(before == state(&image), "the image has changed");
    }
}

#[test]
fn an_overlay_is_of_its_image_alone_and_keeps_what_was_written() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let place = TempDir::new().unwrap();
    let image = busybox_disk(&place);
    let before = state(&image);
    let overlay = place.path().join("overlay");
    let (name, overlay) = (image.to_str().unwrap(), overlay.to_str().unwrap());
    let run = |script: &str| xlaunch.run(&["--overlay", overlay, name, "--", "sh", "-c", script]);
    // The last is not synced: that is what powering off is for.
    let script =
        "head -c 3000000 /dev/urandom > /root/noise; sha256sum /root/noise; echo end > /root/end";
    let first = run(script);
    assert_eq!(first.code(), 0, "{first}");
    let second = run("sha256sum /root/noise; cat /root/end");
    assert_eq!(second.text(), first.text() + "end\n", "{second}");
    assert!(before == state(&image), "the image has changed");
    let taken = fs::metadata(overlay).unwrap().blocks() * 512;
    assert!(taken < 16 * MIB as u64, "{taken}");

    fs::File::options()
        .append(true)
        .open(&image)
        .unwrap()
        .set_modified(std::time::SystemTime::now())
        .unwrap();
    let other = run("true");
    assert_eq!(other.code(), 125, "{other}");
    let complaint = other.complaint();
    assert!(complaint.contains("written at another time"), "{complaint}");
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
}

/// Where a table puts the root.
#[derive(Clone, Copy, Debug)]
enum Table {
    Primary,
    Logical,
    Gpt,
}

/// A disk on which other file systems come before the root's; on the GPT's, that of another system.
fn partitioned(place: &TempDir, table: Table) -> PathBuf {
    let root = fs::read(busybox_disk(place)).unwrap();
    let boot = place.path().join("boot");
    fs::File::create(&boot)
        .unwrap()
        .set_len(4 * MIB as u64)
        .unwrap();
    let arguments = ["-q", "-F", "-t", "ext4", boot.to_str().unwrap()];
    let made = Command::new("/usr/sbin/mke2fs").args(arguments).status();
    assert!(made.unwrap().success());
    let before = match table {
        Table::Gpt => root.clone(),
        Table::Primary | Table::Logical => fs::read(boot).unwrap(),
    };
    let sectors = |bytes: &[u8]| (bytes.len() / 512) as u32;
    // The last mebibyte before the root has the boot record of a logical partition, that behind it the second GPT.
    let (first, root_len) = ((2048, sectors(&before)), sectors(&root));
    let (box_at, root_at) = (2048 + first.1, 4096 + first.1);
    let mut disk = vec![0; root_at as usize * 512];
    disk[2048 * 512..][..before.len()].copy_from_slice(&before);
    disk.extend(root);
    disk.resize(disk.len() + MIB, 0);
    // The old number of a file system that was on the whole disk.
    disk[0x438..0x43a].copy_from_slice(&[0x53, 0xef]);
    match table {
        Table::Primary => {
            partitions::record(&mut disk, 0, 0, 0x83, first);
            partitions::record(&mut disk, 0, 1, 0x83, (root_at, root_len));
        }
        Table::Logical => {
            partitions::record(&mut disk, 0, 0, 0x83, first);
            partitions::record(&mut disk, 0, 1, 0x05, (box_at, 2048 + root_len));
            partitions::record(&mut disk, box_at, 0, 0x83, (2048, root_len));
        }
        Table::Gpt => {
            let second = (root_at, root_len);
            let list = [(partitions::LINUX, first), (partitions::ROOT, second)];
            partitions::gpt(&mut disk, &list);
        }
    }
    let path = place.path().join("partitioned");
    fs::write(&path, disk).unwrap();
    path
}

#[test]
fn the_root_is_found_behind_other_partitions() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    for (table, device) in [
        (Table::Primary, "/dev/vda2"),
        (Table::Logical, "/dev/vda5"),
        (Table::Gpt, "/dev/vda2"),
    ] {
        let place = TempDir::new().unwrap();
        let image = partitioned(&place, table);
        let script = "grep ' / ' /proc/mounts | tail -n 1 | cut -d' ' -f1,3";
        let finished = xlaunch.run(&[image.to_str().unwrap(), "--", "sh", "-c", script]);
        assert_eq!(
            finished.text(),
            format!("{device} ext4\n"),
            "{table:?}: {finished}"
        );
    }
}

#[test]
fn what_is_no_root_is_named_before_the_boot_or_by_the_guest() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let place = TempDir::new().unwrap();
    for (name, at, magic, expected) in [
        (
            "a.qcow2",
            0,
            &b"QFI\xfb\0\0\0\x03"[..],
            "it is a qcow2 image; convert it with qemu-img convert",
        ),
        (
            "a.img.gz",
            0,
            b"\x1f\x8b\x08\0",
            "it is compressed with gzip; unpack it with gzip -dc",
        ),
        (
            "luks.img",
            0,
            b"LUKS\xba\xbe\0\x02",
            "it is encrypted with LUKS",
        ),
        (
            "btrfs.img",
            0x1_0040,
            b"_BHRfS_M",
            "btrfs, for which this kernel has no driver",
        ),
    ] {
        let path = place.path().join(name);
        let mut bytes = vec![0; 2 * MIB];
        bytes[at..at + magic.len()].copy_from_slice(magic);
        fs::write(&path, bytes).unwrap();
        let finished = xlaunch.run(&[path.to_str().unwrap(), "--", "true"]);
        assert_eq!(finished.code(), 125, "{finished}");
        let complaint = finished.complaint();
        assert!(complaint.contains(expected), "{complaint}");
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
    }
}
