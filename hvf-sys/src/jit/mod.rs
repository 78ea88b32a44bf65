//! The translator's unsafe half: from typed instructions to host code.
//!
//! `encode` writes one instruction as host bytes. It reads typed fields only, never a guest's bytes, so what it writes
//! is exactly what the fields say; that they say nothing that reaches memory outside `State`, `Tlb` and RAM is the duty of
//! whoever makes the instruction and runs the code.

mod encode;

pub use encode::{Encoded, encode, encode_32, is_system};
