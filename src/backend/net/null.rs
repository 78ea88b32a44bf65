//! No network: what is sent is gone, and nothing ever comes.

use super::{Frame, Network, Offloads, Receiver, Wake};

/// A network that is not there.
#[derive(Clone, Copy, Debug)]
pub enum Null {
    /// No cable: an operating system sees at once that there is nothing to wait for.
    Unplugged,
    /// A cable, and nobody at its other end.
    Silent,
}

impl Network for Null {
    /// All: it does nothing with any frame.
    fn offloads(&self) -> Offloads {
        Offloads::all()
    }

    fn carrier(&self) -> bool {
        matches!(self, Self::Silent)
    }

    fn attach(&self, _wake: Wake) {}

    fn send(&self, _frames: &[Frame<'_>]) {}

    fn receive(&self, _receiver: &mut dyn Receiver) {}
}
