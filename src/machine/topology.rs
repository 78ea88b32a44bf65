//! The machine as data, for people and programs to look at: what the built board answers and what is plugged into it, with
//! the layout's names for it.

use super::build::{self, Cables, Media};
use super::{BuildError, board::Board};
use crate::bus::map::Space;
use crate::layout::{self, Span, irq, port, slot};
use crate::memory;
use crate::pci::Installed;
use crate::spec::MachineSpec;

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// How many CPUs; the APIC id of each is its index.
    pub cpus: u8,
    /// Bytes of memory.
    pub memory: u64,
    /// What firmware tells of memory.
    pub map: Vec<memory::Range>,
    /// Physical addresses at which chips answer, in ascending order.
    pub registers: Vec<Region>,
    /// Ports at which chips answer, in ascending order.
    pub ports: Vec<Region>,
    /// PCI functions by device number.
    pub functions: Vec<Function>,
}

/// Fixed addresses that something answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// The addresses.
    pub span: Span,
    /// What answers.
    pub name: &'static str,
}

/// A PCI function and where its wire leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// What it is here for.
    pub name: &'static str,
    /// What it says of itself.
    pub installed: Installed,
    /// Its interrupt wire, if it has one.
    pub wire: Option<Wire>,
}

/// A PCI interrupt wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// The pin: 0 for INTA# to 3 for INTD#.
    pub pin: u8,
    /// The PIRQ wire that it leads to.
    pub pirq: usize,
    /// The I/O APIC's pin behind that.
    pub gsi: u32,
    /// The input of the 8259 pair that firmware routes that wire to.
    pub irq: u8,
}

impl Wire {
    /// The wire of a slot's pin (0 is INTA#).
    pub fn of(slot: u8, pin: u8) -> Self {
        let pirq = layout::intx_pirq(slot, pin);
        Self {
            pin,
            pirq,
            gsi: layout::intx_gsi(slot, pin),
            irq: layout::PIRQ_IRQ[pirq],
        }
    }
}

/// An ISA interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa {
    /// Its number at the 8259 pair.
    pub irq: u8,
    /// The I/O APIC's pin.
    pub gsi: u32,
    /// What interrupts there.
    pub name: &'static str,
}

/// The ISA interrupts that something on the board drives.
pub fn isa_interrupts() -> [Isa; 5] {
    [
        (irq::PIT, "timer"),
        (irq::COM2, "COM2"),
        (irq::COM1, "COM1"),
        (irq::RTC, "RTC"),
        (irq::SCI, "ACPI"),
    ]
    .map(|(irq, name)| Isa {
        irq,
        gsi: layout::isa_gsi(irq),
        name,
    })
}

/// A clock of the machine and its frequency in hertz.
pub const CLOCKS: [(&str, u64); 7] = [
    ("TSC", layout::TSC_HZ),
    ("local APIC timers", layout::LAPIC_TIMER_HZ),
    ("HPET", layout::HPET_HZ),
    ("ACPI PM timer", layout::PM_TIMER_HZ),
    ("8254", layout::PIT_HZ),
    ("RTC", layout::RTC_HZ),
    ("serial ports", layout::UART_HZ),
];

/// Builds the machine that `spec` says, looks at it, and puts it away. Its kernel is never read.
pub fn topology(spec: &MachineSpec) -> Result<Topology, BuildError> {
    let media = Media::open(spec)?;
    let ram = build::memory(spec.memory)?;
    let board = build::board(spec, Cables::unplugged(), media, &ram)?;
    Ok(Topology {
        cpus: spec.cpus.count(),
        memory: spec.memory.bytes(),
        map: memory::map(spec.memory.bytes()),
        registers: regions(&board, Space::Memory, layout::memory_name),
        ports: regions(&board, Space::Port, port::name),
        functions: board.root.survey().into_iter().map(function).collect(),
    })
}

fn regions(
    board: &Board,
    space: Space,
    name: impl Fn(Span) -> Option<&'static str>,
) -> Vec<Region> {
    let named = |range: std::ops::Range<u64>| {
        let span = Span::new(range.start, range.end - range.start);
        let name = name(span).unwrap_or(UNNAMED);
        Region { span, name }
    };
    board.map.fixed(space).into_iter().map(named).collect()
}

/// What stands for a name that the layout lacks, which a test does not let happen.
const UNNAMED: &str = "unnamed";

fn function(installed: Installed) -> Function {
    let pin = installed.pin.checked_sub(1);
    Function {
        name: slot::name(installed.device).unwrap_or(UNNAMED),
        wire: pin.map(|pin| Wire::of(installed.device, pin)),
        installed,
    }
}
