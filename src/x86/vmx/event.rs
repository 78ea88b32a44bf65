//! Events: the format of interruption information (SDM vol. 3, tables 25-17, 25-19 and 25-20), the same for what is
//! injected at an entry, what caused an exit, and what was being delivered when the exit came.

/// Bits 7:0: the vector.
pub const VECTOR: u32 = 0xff;
/// Bits 10:8: the type.
pub const KIND: u32 = 7 << 8;
/// Bit 11: an error code goes with it.
pub const ERROR_CODE: u32 = 1 << 11;
/// Bit 12, of an exit: IRET had ended the blocking of NMIs when its fault came.
pub const NMI_UNBLOCKED: u32 = 1 << 12;
/// Bit 31: there is an event.
pub const VALID: u32 = 1 << 31;

/// The types, in place.
pub mod kind {
    /// A device's interrupt.
    pub const EXTERNAL: u32 = 0 << 8;
    /// A non-maskable interrupt.
    pub const NMI: u32 = 2 << 8;
    /// An exception of the processor's own.
    pub const HARDWARE: u32 = 3 << 8;
    /// INT n.
    pub const SOFTWARE_INTERRUPT: u32 = 4 << 8;
    /// INT1.
    pub const PRIVILEGED_SOFTWARE: u32 = 5 << 8;
    /// INT3 and INTO.
    pub const SOFTWARE_EXCEPTION: u32 = 6 << 8;
    /// The entry delivers no event but an exit of the monitor trap flag.
    pub const OTHER: u32 = 7 << 8;
}
