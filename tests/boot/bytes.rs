//! Bytes for tests to send and to store, and the host's word on what they are.

use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// Bytes of every value in no simple order, the same for a seed: what a lost byte or an exchanged block would spoil.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    // xorshift64, which must not start from zero.
    let mut state = 0x2545_f491_4f6c_dd1d_u64 ^ seed;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// What the host's `sha256sum` says about a file.
pub fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    assert!(output.status.success(), "{path:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.split(' ').next().unwrap().to_owned()
}

/// The same about bytes.
pub fn sha256_of(bytes: &[u8]) -> String {
    let place = TempDir::new().unwrap();
    let path = place.path().join("bytes");
    std::fs::write(&path, bytes).unwrap();
    sha256(&path)
}
