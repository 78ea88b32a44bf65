//! Takes the guest into the program: writes `bundle.rs` for `src/cli/bundle.rs` to include.
//!
//! `guest/build` leaves a kernel, an initrd and a record of what they are in target/guest (or `XLAUNCH_GUEST_DIR` says
//! where). Without them the program is built all the same, and says itself that it has no guest: a build must not
//! depend on minutes of another build that tests do not need.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=src/build.rs");
    println!("cargo::rerun-if-env-changed=XLAUNCH_GUEST_DIR");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let code = match guest_dir() {
        Some(dir) => bundle(&dir),
        None => "pub(super) const BUNDLE: Option<Bundle> = None;\n".to_owned(),
    };
    fs::write(out.join("bundle.rs"), code).expect("OUT_DIR can be written");
}

/// Where the guest lies, if it is built. Its record has the hashes of the rest, so only the record is watched.
fn guest_dir() -> Option<PathBuf> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let given = env::var_os("XLAUNCH_GUEST_DIR").filter(|dir| !dir.is_empty());
    // A relative path is relative to the project, wherever cargo was started.
    let dir = root.join(given.as_deref().unwrap_or("target/guest".as_ref()));
    let record = dir.join("record");
    if given.is_none() && !record.exists() {
        // A watched file that is missing would mean a new build every time; an empty record says "not built".
        let made = fs::create_dir_all(&dir).and_then(|()| fs::write(&record, ""));
        made.unwrap_or_else(|error| panic!("cannot write {}: {error}", record.display()));
    }
    println!("cargo::rerun-if-changed={}", record.display());
    let text = fs::read_to_string(&record);
    let text = text.unwrap_or_else(|error| panic!("cannot read {}: {error}", record.display()));
    (!text.is_empty()).then_some(dir)
}

fn bundle(dir: &Path) -> String {
    let [kernel, initrd, record] = ["bzImage", "initrd.cpio", "record"].map(|file| dir.join(file));
    format!(
        "pub(super) const BUNDLE: Option<Bundle> = Some(Bundle {{\n    \
         kernel: include_bytes!({kernel:?}),\n    \
         initrd: include_bytes!({initrd:?}),\n    \
         record: include_str!({record:?}),\n}});\n"
    )
}
