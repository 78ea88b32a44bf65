//! The one crate of xlaunch that holds `unsafe` and FFI. Everything it exports is safe to call: each module
//! opens with the invariants that it keeps, and each `unsafe` block says why they hold.

pub mod file;
pub mod folder;
#[cfg(target_arch = "x86_64")]
pub mod hostfp;
#[cfg(all(target_os = "macos", target_arch = "x86_64"))]
pub mod hvf;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod kick;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod kvm;
pub mod ram;
pub mod random;
pub mod record_lock;

pub mod cpu;

pub mod os;
pub mod tty;

#[cfg(target_arch = "x86_64")]
pub mod jit;
