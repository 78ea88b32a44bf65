//! The architecture's own words: registers, segments, exceptions, MSR numbers, and CPUID as data. Words only, no
//! behaviour. Source of every number: Intel SDM (edition 081), the volume and section named beside it.

pub mod control;
pub mod cpuid;
pub mod msr;
pub mod regs;
pub mod segment;
pub mod vector;
pub mod vmx;

pub use control::{cr0, cr3, cr4, dr6, dr7, efer, page, pf, rflags, xcr0};
