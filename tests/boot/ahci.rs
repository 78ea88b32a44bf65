//! Disks and CDs at the AHCI controller, as Linux's ahci, libata, sd and sr drive them.

use crate::bytes::{noise, sha256};
use crate::disk::busybox_disk;
use crate::launcher::{Finished, Program};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const MIB: usize = 1 << 20;

fn file(place: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = place.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn run(xlaunch: &Program, arguments: &[&str], script: &str) -> Finished {
    let finished = xlaunch.run(&[arguments, &["--", "sh", "-c", script]].concat());
    assert_eq!(finished.code(), 0, "{finished}");
    finished
}

#[test]
fn disks_are_read_written_trimmed_and_thrown_away() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let place = TempDir::new().unwrap();
    let bytes = noise(6 * MIB, 1);
    let (first, second) = (
        file(&place, "first", &bytes),
        file(&place, "second", &noise(MIB, 2)),
    );
    // Reads by several at once, writes behind the cache, TRIM; at last what the kernel has to say.
    let script = "set -e; cd /sys/block/sda; sha256sum /dev/sda /dev/sdb | cut -d' ' -f1
        cat size queue/rotational queue/physical_block_size queue/write_cache device/queue_depth
        for i in 0 1 2 3; do dd if=/dev/sda bs=64k skip=$((i * 24)) count=24 iflag=direct 2>/dev/null | sha256sum > /tmp/$i & done; wait
        for i in 0 1 2 3; do dd if=/dev/sda bs=64k skip=$((i * 24)) count=24 2>/dev/null | sha256sum | cmp - /tmp/$i; done
        head -c 2000000 /dev/urandom > /tmp/new; dd if=/tmp/new of=/dev/sda bs=1M seek=1 conv=notrunc 2>/dev/null; sync
        echo 3 > /proc/sys/vm/drop_caches
        dd if=/dev/sda bs=1M skip=1 2>/dev/null | head -c 2000000 | cmp - /tmp/new; echo written
        blkdiscard -o 4194304 -l 1048576 /dev/sda; echo 3 > /proc/sys/vm/drop_caches
        dd if=/dev/sda bs=1M skip=4 count=1 2>/dev/null | tr -d '\\0' | wc -c
        dd if=/dev/sda bs=1M skip=5 count=1 2>/dev/null | sha256sum | cut -d' ' -f1
        if dd if=/tmp/new of=/dev/sdb bs=4k count=1 oflag=direct 2>/dev/null; then echo wrong; else echo refused; fi
        grep -c 'PCI-MSI.*ahci' /proc/interrupts
        dmesg | grep -iE 'ata[1-6].*(error|fail|reset|exception|limiting)' | grep -v ata2 || echo quiet";
    let second_ro = format!("{}:ro", second.display());
    let first_path = first.to_str().unwrap();
    let arguments = ["--ahci-disk", first_path, "--ahci-disk", &second_ro];
    let finished = run(&xlaunch, &arguments, script);
    let untouched = file(&place, "untouched", &bytes[5 * MIB..]);
    let expected = format!(
        "{}\n{}\n12288\n0\n4096\nwrite back\n32\nwritten\n0\n{}\nrefused\n1\nquiet\n",
        sha256(&first),
        sha256(&second),
        sha256(&untouched)
    );
    assert_eq!(finished.text(), expected, "{finished}");
    assert!(fs::read(&first).unwrap() == bytes, "the image has changed");
}

#[test]
fn a_kept_disk_has_the_changes_and_a_wire_serves_as_well_as_messages() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let place = TempDir::new().unwrap();
    let mut bytes = noise(2 * MIB, 3);
    let image = file(&place, "image", &bytes);
    let script = "set -e; sha256sum /dev/sda | cut -d' ' -f1
        dd if=/dev/zero of=/dev/sda bs=4k seek=7 count=9 conv=notrunc,fsync 2>/dev/null
        grep ahci /proc/interrupts | grep -c IO-APIC";
    let arguments = [
        "--keep",
        "--append",
        "pci=nomsi",
        "--ahci-disk",
        image.to_str().unwrap(),
    ];
    let before = sha256(&image);
    let finished = run(&xlaunch, &arguments, script);
    assert_eq!(finished.text(), format!("{before}\n1\n"), "{finished}");
    bytes[7 * 4096..16 * 4096].fill(0);
    assert!(fs::read(&image).unwrap() == bytes);
}

/// Space that the guest gives back, of a file system and of a bare disk, is the host's again.
#[test]
fn what_is_trimmed_on_a_kept_disk_becomes_a_hole_of_its_image() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let place = TempDir::new().unwrap();
    let system = busybox_disk(&place);
    let mut bytes = noise(8 * MIB, 4);
    let raw = file(&place, "raw", &bytes);
    let images = [&system, &raw];
    let taken = || images.map(|image| fs::metadata(image).unwrap().blocks() * 512);
    let before = taken();
    let script = "set -e; mkdir /tmp/m; mount -t ext4 /dev/sda /tmp/m
        head -c 20000000 /dev/zero | tr '\\0' x > /tmp/m/large; sync; rm /tmp/m/large; sync
        fstrim /tmp/m; umount /tmp/m
        blkdiscard -o 1048576 -l 4194304 /dev/sdb";
    let [system, raw] = images.map(|image| image.to_str().unwrap());
    let arguments = ["--keep", "--ahci-disk", system, "--ahci-disk", raw];
    run(&xlaunch, &arguments, script);
    bytes[MIB..5 * MIB].fill(0);
    assert!(fs::read(raw).unwrap() == bytes);
    let after = taken();
    // 20 MB were written and given back.
    assert!(
        after[0] < before[0] + 8 * MIB as u64,
        "{before:?} {after:?}"
    );
    assert!(
        after[1] <= before[1] - 4 * MIB as u64,
        "{before:?} {after:?}"
    );
}

/// Makes an ISO image of a directory; none, after having said why, where no program for that is installed.
fn iso(from: &Path, to: &Path) -> Option<()> {
    for program in ["genisoimage", "xorrisofs"] {
        let made = Command::new(program)
            .args(["-quiet", "-R", "-o"])
            .args([to, from])
            .output();
        if let Ok(output) = made {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{program}: {said}");
            return Some(());
        }
    }
    println!("skipped: there is no genisoimage and no xorrisofs; install genisoimage");
    None
}

#[test]
fn a_cd_has_the_files_of_its_image_and_an_empty_drive_has_none() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let place = TempDir::new().unwrap();
    let files = place.path().join("files");
    fs::create_dir_all(files.join("deep/er")).unwrap();
    let sizes = [
        ("empty", 0),
        ("a", 4),
        ("deep/b", 2048),
        ("deep/er/c", MIB + 4),
    ];
    let mut sums = String::new();
    for (seed, (name, size)) in sizes.into_iter().enumerate() {
        let path = files.join(name);
        fs::write(&path, noise(size, seed as u64)).unwrap();
        sums += &format!("{}  ./{name}\n", sha256(&path));
    }
    let image = place.path().join("cd.iso");
    if iso(&files, &image).is_none() {
        return;
    }
    let script = "set -e; mount -t iso9660 -o ro /dev/sr0 /mnt; cd /mnt
        for file in empty a deep/b deep/er/c; do sha256sum ./$file; done; cd /; umount /mnt
        sha256sum /dev/sr0 | cut -d' ' -f1; cat /sys/block/sr0/size /sys/block/sr0/removable
        cat /dev/sr1 2>&1 || true
        dmesg | grep -iE 'ata[1-6].*(error|fail|exception|limiting)' || echo quiet";
    let path = image.to_str().unwrap();
    let finished = run(&xlaunch, &["--cdrom", path, "--cdrom", "none"], script);
    let sectors = fs::metadata(&image).unwrap().len() / 512;
    let expected = format!(
        "{sums}{}\n{sectors}\n1\ncat: can't open '/dev/sr1': No medium found\nquiet\n",
        sha256(&image)
    );
    assert_eq!(finished.text(), expected, "{finished}");
}
