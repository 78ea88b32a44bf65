//! Why a machine cannot be built: the sentences, with the names of what was meant.

use std::fmt;
use std::io;

use crate::backend::disk::OpenError;
use crate::backend::net::user as net;
use crate::boot::error::Error as BootError;
use crate::bus::map::Overlap;
use crate::engine::Refusal;
use crate::pci::NoRoom;

/// Why a machine cannot be built.
#[derive(Debug)]
pub enum BuildError {
    /// The host has no room for the guest's memory.
    Memory {
        /// How much was asked for.
        bytes: u64,
        /// What the host said.
        source: io::Error,
    },
    /// Kernel, initrd or command line.
    Boot(BootError),
    /// A disk image.
    Disk(OpenError),
    /// The network.
    Net(net::OpenError),
    /// A TAP interface: the sentence.
    Tap(String),
    /// vmnet: the sentence.
    Vmnet(String),
    /// More disks than slots.
    TooManyDisks(usize),
    /// More drives than ports.
    TooManyDrives(usize),
    /// The BARs do not fit.
    Pci(NoRoom),
    /// Two devices claim one address.
    Map(Overlap),
    /// A thread cannot be started.
    Thread(io::Error),
    /// The host gives no random numbers.
    Random(io::Error),
    /// The engine does not serve.
    Engine(Refusal),
    /// Firmware's tables do not fit below the end of RAM.
    Firmware(u64),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory { bytes, source } => write!(
                f,
                "cannot reserve {} MiB for the guest's memory: {source}; ask for less with --memory",
                bytes >> 20
            ),
            Self::Boot(error) => error.fmt(f),
            Self::Disk(error) => error.fmt(f),
            Self::Net(error) => error.fmt(f),
            Self::Tap(sentence) | Self::Vmnet(sentence) => f.write_str(sentence),
            Self::TooManyDisks(count) => write!(
                f,
                "cannot attach {count} disks: the machine has room for {}; name fewer",
                super::build::DISKS
            ),
            Self::TooManyDrives(count) => write!(
                f,
                "cannot attach {count} drives: the AHCI controller has {} ports; name fewer",
                crate::ahci::PORTS
            ),
            Self::Pci(error) => error.fmt(f),
            Self::Map(error) => error.fmt(f),
            Self::Thread(error) => write!(
                f,
                "cannot start a thread for the machine: {error}; raise the limit on threads or ask for fewer --cpus"
            ),
            Self::Random(error) => write!(
                f,
                "cannot read random numbers for the guest: {error}; make the host's random number generator available"
            ),
            Self::Engine(refusal) => refusal.fmt(f),
            Self::Firmware(at) => write!(
                f,
                "cannot write the firmware's tables at {at:#x}, which is a mistake in xlaunch"
            ),
        }
    }
}

impl std::error::Error for BuildError {}

impl From<BootError> for BuildError {
    fn from(error: BootError) -> Self {
        Self::Boot(error)
    }
}

impl From<OpenError> for BuildError {
    fn from(error: OpenError) -> Self {
        Self::Disk(error)
    }
}

impl From<net::OpenError> for BuildError {
    fn from(error: net::OpenError) -> Self {
        Self::Net(error)
    }
}

impl From<NoRoom> for BuildError {
    fn from(error: NoRoom) -> Self {
        Self::Pci(error)
    }
}

impl From<Refusal> for BuildError {
    fn from(refusal: Refusal) -> Self {
        Self::Engine(refusal)
    }
}

impl From<Overlap> for BuildError {
    fn from(error: Overlap) -> Self {
        Self::Map(error)
    }
}
