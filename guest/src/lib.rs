//! What the launcher and the guest's init share, and the init's own parts.
//!
//! `protocol` is all that the launcher sees. The rest runs inside the guest, and only Linux is ever inside it.
#![forbid(unsafe_code)]

pub mod protocol;
