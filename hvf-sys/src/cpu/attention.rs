//! The word that a running vCPU polls at block edges.

use super::{AtomicU32, Ordering};

/// Reasons to leave the guest's code at the next block edge, set by any thread, cleared by the vCPU that they are for.
#[derive(Debug, Default)]
pub struct Attention(AtomicU32);

impl Attention {
    /// Somebody wants the vCPU's thread: return from `run`.
    pub const KICK: u32 = 1 << 0;
    /// Another vCPU asks for a rendezvous (dropping write entries, or standing still for a locked operation).
    pub const RENDEZVOUS: u32 = 1 << 1;
    /// The vCPU itself wants to look at something that changes rarely: an interrupt window, single-step.
    pub const LOCAL: u32 = 1 << 2;

    /// Sets reasons. What was written before is seen by the vCPU when it sees the reason.
    pub fn raise(&self, reasons: u32) {
        self.0.fetch_or(reasons, Ordering::SeqCst);
    }

    /// Clears reasons, before the vCPU looks at what they stand for.
    pub fn clear(&self, reasons: u32) {
        self.0.fetch_and(!reasons, Ordering::SeqCst);
    }

    /// The reasons that are set. Zero is the fast path of every block edge.
    #[inline(always)]
    pub fn pending(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }
}
