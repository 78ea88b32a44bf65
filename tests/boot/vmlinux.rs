//! Uncompressed kernels, as a build leaves them and other launchers want them: ELF files, entered in 64-bit mode or by
//! PVH. They are taken out of the bzImages that are at hand.

use crate::launcher::Program;
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// Unpacks the kernel inside a bzImage (boot.rst: `setup_sects`, `payload_offset`, `payload_length`).
pub fn unpack(bzimage: &Path, vmlinux: &Path) {
    let image = fs::read(bzimage).unwrap();
    let dword = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap()) as usize;
    let start = (usize::from(image[0x1f1]) + 1) * 512 + dword(0x248);
    // The last four bytes are the unpacked size, which no unpacker knows.
    let payload = &image[start..start + dword(0x24c) - 4];
    let unpacker = match payload {
        [0x02, 0x21, 0x4c, 0x18, ..] => "lz4",
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "xz",
        other => panic!("packed by nothing known: {:02x?}", &other[..8]),
    };
    let packed = vmlinux.with_extension("packed");
    fs::write(&packed, payload).unwrap();
    let mut unpack = Command::new(unpacker);
    let output = unpack.arg("-dc").arg(&packed).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{unpacker}: {said}");
    assert!(output.stdout.starts_with(b"\x7fELF"));
    fs::write(vmlinux, output.stdout).unwrap();
}

#[test]
fn the_bundled_kernel_boots_from_its_elf_file() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let bzimage = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/guest/bzImage");
    let place = TempDir::new().unwrap();
    let vmlinux = place.path().join("vmlinux");
    unpack(&bzimage, &vmlinux);
    let kernel = vmlinux.to_str().unwrap();
    let finished = xlaunch.run(&["--kernel", kernel, "--", "sh", "-c", "uname -r; nproc"]);
    assert_eq!(finished.code(), 0, "{finished}");
    let said = finished.text();
    assert!(said.ends_with("-xlaunch\n2\n"), "{finished}");
}
