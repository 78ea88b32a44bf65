//! The guest that is built into the program, if one was there when it was built (see `src/build.rs`).

/// A kernel and its initrd.
#[derive(Clone, Copy)]
pub(super) struct Bundle {
    /// A bzImage.
    pub(super) kernel: &'static [u8],
    /// A cpio archive with busybox and our init.
    pub(super) initrd: &'static [u8],
    /// What they are and how they were made: lines of `key=value`.
    pub(super) record: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/bundle.rs"));
