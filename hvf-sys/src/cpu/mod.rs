//! The boundary of the software CPU: what emitted code touches.
//!
//! `State` is integers only, every bit pattern valid. `Insn` has private fields and checked constructors. `Tlb`
//! holds host addresses that only a page issued by `Ram` can put there. So no `Insn`, however wrong, reaches memory
//! outside `State`, `Tlb` and RAM: the interpreter goes through safe methods, and the translator re-encodes typed
//! fields, never guest bytes.

use std::sync::atomic::{AtomicU32, Ordering};

mod attention;
mod insn;
mod op;
mod state;
pub mod table;
mod tlb;

pub use attention::Attention;
pub use insn::{Insn, InsnBuilder, Mem, Operand, Prefix, Reg};
pub use op::Op;
pub use state::{Descriptors, Fpu, Msrs, Segment, State};
pub use tlb::{Grant, Space, Tlb};
