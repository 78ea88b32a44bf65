//! What a PC's firmware leaves in memory for an operating system: tables, as pure functions from the layout and a
//! few facts to bytes. Nothing here touches guest memory.

pub mod acpi;
pub mod aml;
