//! Takes the guest into the program: writes `bundle.rs` for `src/cli/bundle.rs` to include.
//!
//! `guest/build` leaves a kernel, an initrd and a record of what they are in target/guest (or `XLAUNCH_GUEST_DIR` says
//! where). Without them the program is built all the same, and says itself that it has no guest: a build must not
//! depend on minutes of another build that tests do not need.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// The bundle's files and the names of the constants that hold them.
const FILES: [&str; 3] = ["bzImage", "initrd.cpio", "record"];

fn main() {
    let dir = guest_dir();
    println!("cargo::rerun-if-changed=src/build.rs");
    println!("cargo::rerun-if-env-changed=XLAUNCH_GUEST_DIR");
    // The directory is watched, and made for that: a watched path that is missing would mean a new build every time.
    let made = fs::create_dir_all(&dir);
    made.unwrap_or_else(|error| panic!("cannot make {}: {error}", dir.display()));
    println!("cargo::rerun-if-changed={}", dir.display());
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let code = if FILES.iter().all(|file| dir.join(file).is_file()) {
        bundle(&dir)
    } else {
        "pub(super) const BUNDLE: Option<Bundle> = None;\n".to_owned()
    };
    fs::write(out.join("bundle.rs"), code).expect("OUT_DIR can be written");
}

fn guest_dir() -> PathBuf {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    match env::var_os("XLAUNCH_GUEST_DIR") {
        // A relative path is relative to the project, wherever cargo was started.
        Some(dir) if !dir.is_empty() => root.join(dir),
        _ => root.join("target/guest"),
    }
}

fn bundle(dir: &Path) -> String {
    let [kernel, initrd, record] = FILES.map(|file| dir.join(file));
    format!(
        "pub(super) const BUNDLE: Option<Bundle> = Some(Bundle {{\n    \
         kernel: include_bytes!({kernel:?}),\n    \
         initrd: include_bytes!({initrd:?}),\n    \
         record: include_str!({record:?}),\n}});\n"
    )
}
