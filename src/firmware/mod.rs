//! What a PC's firmware leaves behind for an operating system: tables in memory and memory types in the CPUs, as
//! pure functions from the layout and a few facts to bytes. Nothing here touches guest memory.

pub mod acpi;
pub mod aml;
pub mod mp;
pub mod mtrr;
pub mod smbios;
