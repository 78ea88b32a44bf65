//! Where things lie in the child's address space: the same linear addresses that the interpreter is given, so that
//! addresses and return addresses compare without translation.

/// The context that the trampoline saves and loads: one page.
pub(crate) const CONTEXT: u64 = 0x1000_0000;
/// The code of a batch: one slot a case.
pub(crate) const CODE: u64 = 0x1100_0000;
/// Where 32-bit code finds the way back to 64-bit code: the slot behind the last.
pub(crate) const WAY_BACK: u64 = CODE + BATCH as u64 * SLOT;
/// The arena's length.
pub(crate) const ARENA_LEN: u64 = (BATCH as u64 + 1) * SLOT;
/// Linux's selectors of 64-bit and 32-bit user code, and of user data.
pub(crate) const CODE_64: u16 = 0x33;
/// See `CODE_64`.
pub(crate) const CODE_32: u16 = 0x23;
/// See `CODE_64`.
pub(crate) const DATA: u16 = 0x2b;
/// Bytes of code a case has.
pub(crate) const SLOT: u64 = 256;
/// Cases in a batch at most.
pub(crate) const BATCH: usize = 512;
/// Where a taken branch goes: so many bytes after the end of the case's instructions.
pub(crate) const TAKEN: u64 = 16;
/// The page of memory that instructions may use; nothing is mapped before and after it.
pub(crate) const PAGE: u64 = 0x1200_0000;
/// The part of the page that a case sets and compares: its last bytes, so that what crosses its end faults.
pub(crate) const WINDOW: u64 = PAGE + 0x1000 - WINDOW_LEN as u64;
/// The length of the window.
pub(crate) const WINDOW_LEN: usize = 1024;

/// The address of the code of case `n` of a batch.
pub(crate) fn slot(n: usize) -> u64 {
    CODE + n as u64 * SLOT
}
