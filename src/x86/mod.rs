//! The architecture's own words: registers, segments, MSR numbers. Words only, no behaviour.
//! Source of every number: Intel SDM, the volume and section named beside it.

pub mod msr;
pub mod regs;
