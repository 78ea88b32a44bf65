//! What machine is meant: the command line after all its questions have been answered.
//!
//! A `MachineSpec` is total. Nothing in it "must be set by then", and every combination that cannot work was refused
//! before it was made. It names files but opens none: that is the machine builder's step, so that a spec can be made,
//! compared and printed in a test without touching the host.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// One kibibyte.
pub const KIB: u64 = 1 << 10;
/// One mebibyte.
pub const MIB: u64 = 1 << 20;
/// One gibibyte.
pub const GIB: u64 = 1 << 30;

/// The least memory a machine can have: the first mebibyte with firmware's tables, which is enough for a small
/// multiboot kernel. A Linux kernel that does not fit is refused when it is loaded.
pub const MEMORY_MIN: u64 = MIB;
/// The most memory a machine can have.
pub const MEMORY_MAX: u64 = 256 * GIB;
/// The memory that a machine has when nothing is said.
pub const MEMORY_DEFAULT: u64 = GIB;
/// The most CPUs a machine can have.
pub const CPUS_MAX: u8 = 64;
/// The CPUs that a machine has when nothing is said.
pub const CPUS_DEFAULT: u8 = 2;

/// The most drives that the AHCI controller can have.
pub const DRIVES_MAX: usize = 6;

/// The size of a guest page; memory is a whole number of them.
const PAGE: u64 = 4 * KIB;

/// A machine to build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineSpec {
    /// Memory, committed by the host only as the guest touches it.
    pub memory: MemorySize,
    /// The number of CPUs.
    pub cpus: CpuCount,
    /// What executes them.
    pub engine: Engine,
    /// The kernel: a bzImage, an ELF file, or a multiboot kernel.
    pub kernel: Image,
    /// The initial RAM disk. `None` boots a kernel that needs none.
    pub initrd: Option<Image>,
    /// The modules of a multiboot kernel, behind the initrd.
    pub modules: Vec<Module>,
    /// The kernel's whole command line.
    pub cmdline: String,
    /// The virtio-blk disks, in order: the first is /dev/vda.
    pub disks: Vec<Disk>,
    /// The drives of the AHCI controller, one a port.
    pub drives: Vec<Drive>,
    /// Whether there is a UART on the PCI bus.
    pub pci_uart: bool,
    /// What its network interface is plugged into.
    pub net: Net,
}

/// What a network interface is plugged into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Net {
    /// Nothing: the guest sees no carrier.
    #[default]
    Nothing,
    /// A network in user space, from which the outside is reached.
    User(UserNet),
    /// A TAP interface of the host's with this name, which only Linux has.
    Tap(String),
    /// An interface of vmnet in shared mode, which only macOS has.
    Vmnet,
    /// A cable that brings every frame back, which only tests want.
    Loop,
}

/// A network in user space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserNet {
    /// The guest's gateway is the host's loopback.
    pub allow_host: bool,
    /// The guest's ports that can be reached from the host.
    pub publish: Vec<Publish>,
}

/// A port of the guest's that is reached at a port of the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Where on the host. Port 0: any that is free.
    pub host: SocketAddr,
    /// The guest's port.
    pub guest: u16,
    /// Of which protocol.
    pub protocol: Protocol,
}

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Publish {
    /// As it is typed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}{}", self.host, self.guest, self.protocol)
    }
}

impl fmt::Display for Protocol {
    /// As it is typed behind a port.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "",
            Self::Udp => "/udp",
        })
    }
}

/// A file for a multiboot kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// The file.
    pub image: Image,
    /// The text that goes with it.
    pub cmdline: String,
}

/// What executes the guest's CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The best that this host runs.
    Auto,
    /// Hypervisor.framework of an Intel Mac.
    Hvf,
    /// KVM of an x86-64 Linux.
    Kvm,
    /// Our own CPU in software.
    Soft,
    /// `Hvf` over a model of the framework, on any host.
    #[cfg(feature = "hvf-model")]
    HvfModel(ModelHost),
}

/// Which Mac is modelled.
#[cfg(feature = "hvf-model")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelHost {
    /// One of 2013, whose framework does no more than it must.
    Haswell,
    /// One of 2019, whose framework is as inconvenient as it may be.
    CoffeeLake,
}

/// Where a boot image's bytes come from.
#[derive(Clone, PartialEq, Eq)]
pub enum Image {
    /// Built into this program.
    Bundled(&'static [u8]),
    /// A file of the host.
    File(PathBuf),
}

impl fmt::Debug for Image {
    /// Without the megabytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bundled(bytes) => write!(f, "Bundled({} bytes)", bytes.len()),
            Self::File(path) => write!(f, "File({path:?})"),
        }
    }
}

/// One disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The raw image: a file or a block device.
    pub path: PathBuf,
    /// What becomes of what the guest writes.
    pub access: DiskAccess,
}

/// A drive at a port of the AHCI controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drive {
    /// A disk.
    Disk(Disk),
    /// A CD drive, with the image of the disc in it, if there is one.
    Cd(Option<PathBuf>),
}

/// What becomes of what a guest writes to a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DiskAccess {
    /// It is gone when the machine ends; the image never changes.
    #[default]
    ThrowAway,
    /// It goes to the image.
    Keep,
    /// It goes to an overlay that has this name, and the image never changes.
    Overlay(PathBuf),
    /// There is nothing: the guest sees a disk that it cannot write to.
    ReadOnly,
}

/// A number of bytes of memory that a machine can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemorySize(u64);

impl MemorySize {
    /// The size, where it is a whole number of pages from `MEMORY_MIN` to `MEMORY_MAX`.
    pub const fn new(bytes: u64) -> Option<Self> {
        if bytes >= MEMORY_MIN && bytes <= MEMORY_MAX && bytes.is_multiple_of(PAGE) {
            Some(Self(bytes))
        } else {
            None
        }
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl Default for MemorySize {
    fn default() -> Self {
        Self(MEMORY_DEFAULT)
    }
}

/// A number of CPUs that a machine can have: 1 to `CPUS_MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CpuCount(u8);

impl CpuCount {
    /// The count, where it is within bounds.
    pub const fn new(count: u8) -> Option<Self> {
        if count >= 1 && count <= CPUS_MAX {
            Some(Self(count))
        } else {
            None
        }
    }

    /// The count.
    pub const fn count(self) -> u8 {
        self.0
    }
}

impl Default for CpuCount {
    fn default() -> Self {
        Self(CPUS_DEFAULT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_whole_pages() {
        assert_eq!(
            MemorySize::new(MEMORY_MIN).map(MemorySize::bytes),
            Some(1 << 20)
        );
        assert_eq!(
            MemorySize::new(MEMORY_MAX).map(MemorySize::bytes),
            Some(256 << 30)
        );
        assert_eq!(MemorySize::new(MEMORY_MIN - PAGE), None);
        assert_eq!(MemorySize::new(MEMORY_MAX + PAGE), None);
        assert_eq!(MemorySize::new(GIB + 1), None);
    }

    #[test]
    fn cpus_are_one_to_sixty_four() {
        assert_eq!(CpuCount::new(0), None);
        assert_eq!(CpuCount::new(1).map(CpuCount::count), Some(1));
        assert_eq!(CpuCount::new(64).map(CpuCount::count), Some(64));
        assert_eq!(CpuCount::new(65), None);
    }

    #[test]
    fn a_bundled_image_prints_its_length_only() {
        assert_eq!(
            format!("{:?}", Image::Bundled(&[1, 2, 3])),
            "Bundled(3 bytes)"
        );
    }
}
