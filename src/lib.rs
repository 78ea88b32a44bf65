//! xlaunch: boots Linux in a throwaway sandbox on a complete, fixed PC.
#![forbid(unsafe_code)]

pub mod ahci;
pub mod backend;
pub mod boot;
pub mod bus;
pub mod chipset;
pub mod cli;
pub mod cpu;
pub mod engine;
pub mod firmware;
pub mod layout;
pub mod machine;
pub mod memory;
pub mod pci;
pub mod sandbox;
pub mod spec;
pub mod virtio;
pub mod x86;
