//! The far end of a serial line, as a serial port sees it.

/// The host's end of a serial line. Both calls come with the port's slot taken, so neither may block: whoever
/// implements this keeps bounded buffers on both sides. After new input or new room for output it has the port
/// look again (`SerialPort::service`).
pub trait SerialEnd: Send {
    /// Takes one byte that the guest sent. Refuses it (false) where there is no room at the moment; the port keeps
    /// it then, and the guest sees a transmitter that is not empty.
    fn put(&mut self, byte: u8) -> bool;

    /// The next byte for the guest, if there is one.
    fn take(&mut self) -> Option<u8>;
}
