//! The guest's first process.
#![forbid(unsafe_code)]

fn main() {}
