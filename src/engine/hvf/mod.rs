//! The engine `hvf`: Hypervisor.framework of Intel Macs, which gives VMX nearly raw.
//!
//! All of it is written against the trait in `vmx`, which the framework implements on a Mac.

pub mod vmx;
