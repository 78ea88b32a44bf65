//! Why a machine cannot be started with the kernel, initrd and command line that it was given. Each is one sentence:
//! operation, object, value, what to do.

use std::fmt;
use std::io;

use crate::layout::Span;

/// A boot image or command line that cannot be used.
#[derive(Debug)]
pub struct Error {
    /// What cannot be used, as the user knows it: "kernel /boot/vmlinuz".
    pub object: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong.
#[derive(Debug)]
pub enum Problem {
    /// The file cannot be found out about, opened or read.
    Unreadable(io::Error),
    /// Nothing has this name.
    Missing,
    /// A directory.
    Directory,
    /// A FIFO, socket or device.
    NotAFile,
    /// No bytes.
    Empty,
    /// More bytes than the machine has memory.
    LargerThanMemory {
        /// The image's size.
        bytes: u64,
        /// The machine's memory.
        memory: u64,
    },
    /// Text where a kernel should be.
    Text,
    /// A format that is known but not booted; its name.
    Foreign(&'static str),
    /// Not a kernel in any known format.
    NotAKernel,
    /// The image ends before the byte that its header promises.
    Truncated {
        /// How many bytes there are.
        have: u64,
        /// How many there should be.
        need: u64,
    },
    /// A boot protocol older than 2.10: major and minor number.
    OldProtocol(u8, u8),
    /// A zImage, which wants to lie below 1 MiB.
    LoadedLow,
    /// A header field with an impossible value; its name.
    Field(&'static str, u64),
    /// A multiboot header with demands that cannot be met.
    Demands(u32),
    /// The kernel wants to lie where the launcher keeps what it tells it.
    LoadsTooLow {
        /// Where it wants to lie.
        at: u64,
        /// The lowest address it can have.
        least: u64,
    },
    /// A part of the kernel wants to lie where the machine has no memory for it.
    NotMemory(Span),
    /// The kernel needs memory up to `end`, and there is less.
    NeedsMemory {
        /// The first address behind the kernel while it starts.
        end: u64,
        /// The end of the machine's RAM below 4 GiB.
        memory: u64,
    },
    /// No room for the initrd between the kernel and `limit`.
    NoRoom {
        /// The initrd's size.
        bytes: u64,
        /// The largest free range.
        free: u64,
    },
    /// The command line is longer than the kernel takes.
    LongCommandLine {
        /// How long it is.
        bytes: u64,
        /// How long it may be.
        limit: u64,
    },
    /// The command line holds a zero byte.
    ZeroByte,
    /// A module for a kernel that is not a multiboot one.
    NoModules,
    /// What the kernel is told about its modules is longer than its place.
    LongInformation {
        /// How long it is.
        bytes: u64,
        /// How long it may be.
        limit: u64,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let object = &self.object;
        match &self.problem {
            Problem::Unreadable(_) => write!(f, "cannot read {object}"),
            Problem::Missing => write!(f, "cannot read {object}: there is no such file"),
            Problem::Directory => write!(
                f,
                "cannot read {object}: it is a directory; name a file in it"
            ),
            Problem::NotAFile => write!(
                f,
                "cannot read {object}: it is a FIFO, socket or device; name a regular file"
            ),
            Problem::Empty => write!(f, "cannot use {object}: the file is empty"),
            Problem::LargerThanMemory { bytes, memory } => write!(
                f,
                "cannot load {object}: its {bytes} bytes are more than the machine's {memory} bytes of memory; \
                 give more with --memory"
            ),
            Problem::Text => write!(
                f,
                "cannot boot {object}: it is a text file; give a bzImage such as /boot/vmlinuz"
            ),
            Problem::Foreign(format) => write!(
                f,
                "cannot boot {object}: it is {format}; give an x86 bzImage such as /boot/vmlinuz"
            ),
            Problem::NotAKernel => write!(
                f,
                "cannot boot {object}: it is not a kernel; give a bzImage such as /boot/vmlinuz"
            ),
            Problem::Truncated { have, need } => write!(
                f,
                "cannot boot {object}: it is truncated: {have} bytes, but its header promises {need}; copy it again"
            ),
            Problem::OldProtocol(major, minor) => write!(
                f,
                "cannot boot {object}: it speaks boot protocol {major}.{minor:02}; Linux 2.6.31 and later speak \
                 the 2.10 that is needed"
            ),
            Problem::LoadedLow => write!(
                f,
                "cannot boot {object}: it is a zImage, which loads below 1 MiB; build a bzImage"
            ),
            Problem::Field(name, value) => write!(
                f,
                "cannot boot {object}: its header's {name} is {value:#x}, which is impossible; the file is damaged"
            ),
            Problem::Demands(flags) => write!(
                f,
                "cannot boot {object}: its multiboot header demands {flags:#x}, and only page alignment (0x1) and \
                 memory information (0x2) can be given; build it without the others"
            ),
            Problem::LoadsTooLow { at, least } => write!(
                f,
                "cannot load {object}: it wants to lie at {at:#x}, where the launcher keeps what it tells the \
                 kernel; link it to {least:#x} or above"
            ),
            Problem::NotMemory(span) => write!(
                f,
                "cannot load {object}: it wants to lie at {:#x} to {:#x}, where the machine has no free memory; \
                 link it to 0x100000",
                span.start, span.end
            ),
            Problem::NeedsMemory { end, memory } => write!(
                f,
                "cannot load {object}: it needs memory up to {end:#x}, and the machine's ends at {memory:#x}; \
                 give more with --memory"
            ),
            Problem::NoRoom { bytes, free } => write!(
                f,
                "cannot load {object}: its {bytes} bytes do not fit into the {free} bytes beside the kernel; \
                 give more with --memory"
            ),
            Problem::LongCommandLine { bytes, limit } => write!(
                f,
                "cannot pass {object}: it has {bytes} bytes and the kernel takes {limit}; shorten --append"
            ),
            Problem::ZeroByte => write!(f, "cannot pass {object}: it holds a zero byte; remove it"),
            Problem::NoModules => write!(
                f,
                "cannot pass {object}: only a multiboot kernel takes modules; leave --module out"
            ),
            Problem::LongInformation { bytes, limit } => write!(
                f,
                "cannot pass {object}: telling the kernel of them takes {bytes} bytes and there are {limit}; \
                 pass fewer, or shorter texts"
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            Problem::Unreadable(error) => Some(error),
            _ => None,
        }
    }
}

impl Problem {
    /// This problem, of this object.
    pub fn of(self, object: &str) -> Error {
        Error {
            object: object.to_owned(),
            problem: self,
        }
    }
}
