//! The words of VMX (SDM volume 3, chapters 24 to 29 and appendices A to C): fields of the VMCS, controls, exit
//! reasons, exit qualifications and events. Words only: what they do is the processor's.

pub mod control;
pub mod event;
mod field;
pub mod qualification;
pub mod reason;

pub use field::Field;
