//! The software x86-64 CPU.

pub mod decode;
pub mod float;
pub mod io;
