//! The fixed PC: every address, port, pin, slot and clock of the machine, in one place.
//!
//! The bus, the e820 map, MADT, DSDT, MP table and the PCI windows all read this table, so that they cannot
//! disagree; order, alignment and overlap are proved when the program is compiled. Sizes are in the comments.
//! Ranges are half open. Nothing here depends on a particular guest or host, except that all of it lies below
//! 2^39: the narrowest physical address space that the launcher promises to a guest.

use std::ops::Range;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A range of physical addresses or ports: `start` belongs to it, `end` does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first address.
    pub start: u64,
    /// The first address behind it.
    pub end: u64,
}

impl Span {
    /// The range of `len` bytes from `start`.
    pub const fn new(start: u64, len: u64) -> Self {
        let end = start + len;
        Self { start, end }
    }

    /// How many bytes.
    pub const fn len(self) -> u64 {
        self.end - self.start
    }

    /// Whether there is no byte in it.
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The same as a `Range`, for the bus.
    pub const fn range(self) -> Range<u64> {
        self.start..self.end
    }

    /// Whether `address` lies inside.
    pub const fn contains(self, address: u64) -> bool {
        self.start <= address && address < self.end
    }
}

// ---- Physical memory ------------------------------------------------------------------------------------------

/// How many bits of physical address the guest has: 512 GiB.
pub const PHYSICAL_BITS: u32 = 39;

/// RAM below the PCI hole: at most 3 GiB.
pub const LOW_RAM: Span = Span::new(0, 3 * GIB);
/// Windows for 32-bit BARs: 512 MiB, from the end of low RAM to the ECAM.
pub const PCI_MMIO32: Span = Span::new(0xc000_0000, 512 * MIB);
/// PCI Express configuration space: 256 buses x 32 devices x 8 functions x 4 KiB = 256 MiB.
pub const ECAM: Span = Span::new(0xe000_0000, 256 * MIB);
/// I/O APIC registers: index, data and EOI in one page.
pub const IOAPIC: Span = Span::new(0xfec0_0000, 4 * KIB);
/// HPET registers: 1 KiB.
pub const HPET: Span = Span::new(0xfed0_0000, KIB);
/// The local APICs' page at reset (each CPU may move its own), and the target of MSI writes: 1 MiB.
pub const LAPIC: Span = Span::new(0xfee0_0000, 4 * KIB);
/// Where message-signalled interrupts are written to (SDM vol. 3, 11.11.1): bits 31:20 are 0xfee.
pub const MSI: Span = Span::new(0xfee0_0000, MIB);
/// Addresses that KVM wants for itself on older processors: a page table of real mode, and a task state segment of
/// three pages: 16 KiB. No table names them, as nothing else is there.
pub const KVM_PAGES: Span = Span::new(0xfeff_c000, 16 * KIB);
/// RAM from 4 GiB on: 444 GiB at most, up to the window of 64-bit BARs.
pub const HIGH_RAM: Span = Span::new(4 * GIB, 444 * GIB);
/// Windows for 64-bit BARs: the last 64 GiB of the physical address space. Nothing that a guest must have to boot
/// belongs here: the oldest Macs' processors have 36 address bits.
pub const PCI_MMIO64: Span = Span::new(448 * GIB, 64 * GIB);

/// The most RAM that a machine can have: 3 + 444 = 447 GiB.
pub const RAM_MAX: u64 = LOW_RAM.len() + HIGH_RAM.len();

/// The part of `bytes` of RAM that lies below the PCI hole.
pub const fn low_ram(bytes: u64) -> Span {
    let low = if bytes < LOW_RAM.len() {
        bytes
    } else {
        LOW_RAM.len()
    };
    Span::new(LOW_RAM.start, low)
}

/// The part of `bytes` of RAM that lies above 4 GiB; empty where all of it fits below the hole.
pub const fn high_ram(bytes: u64) -> Span {
    let rest = bytes - low_ram(bytes).len();
    let high = if rest < HIGH_RAM.len() {
        rest
    } else {
        HIGH_RAM.len()
    };
    Span::new(HIGH_RAM.start, high)
}

/// Physical memory in ascending order, with what is there.
const PHYSICAL_MAP: [(Span, &str); 9] = [
    (LOW_RAM, "RAM"),
    (PCI_MMIO32, "PCI window, 32-bit"),
    (ECAM, "PCI configuration space (ECAM)"),
    (IOAPIC, "I/O APIC"),
    (HPET, "HPET"),
    (MSI, "local APICs and messages"),
    (KVM_PAGES, "KVM's own"),
    (HIGH_RAM, "RAM"),
    (PCI_MMIO64, "PCI window, 64-bit"),
];

/// What is at exactly these physical addresses.
pub fn memory_name(span: Span) -> Option<&'static str> {
    named(&PHYSICAL_MAP, span)
}

fn named(map: &[(Span, &'static str)], span: Span) -> Option<&'static str> {
    let found = map.iter().find(|(known, _)| *known == span);
    found.map(|(_, name)| *name)
}

const _: () = assert!(ascending(&spans(&PHYSICAL_MAP)));
const _: () = assert!(LOW_RAM.end == PCI_MMIO32.start && PCI_MMIO32.end == ECAM.start);
const _: () = assert!(HIGH_RAM.end == PCI_MMIO64.start && PCI_MMIO64.end == 1 << PHYSICAL_BITS);
const _: () = assert!(ECAM.start.is_multiple_of(ECAM.len()));
const _: () = assert!(LAPIC.start == MSI.start && LAPIC.end <= MSI.end);

// ---- The first mebibyte ---------------------------------------------------------------------------------------

/// Interrupt vectors of real mode and the BIOS data area: 1 KiB + 256 bytes. All zero, but left alone.
pub const BIOS_DATA: Span = Span::new(0, 0x500);
/// The GDT that the first CPU starts with: one page.
pub const BOOT_GDT: Span = Span::new(0x1000, 4 * KIB);
/// Linux's `struct boot_params`: one page.
pub const ZERO_PAGE: Span = Span::new(0x2000, 4 * KIB);
/// Linux's chain of `setup_data` (the seed of its random numbers): one page.
pub const SETUP_DATA: Span = Span::new(0x3000, 4 * KIB);
/// Multiboot information, with its memory map and module list: 16 KiB.
pub const MULTIBOOT_INFO: Span = Span::new(0x4000, 16 * KIB);
/// The first CPU's stack, which grows down from the end: one page.
pub const BOOT_STACK: Span = Span::new(0x8000, 4 * KIB);
/// Page tables that map the first 4 GiB one to one: PML4 + PDPT + 4 page directories = 6 pages = 24 KiB.
pub const BOOT_PAGE_TABLES: Span = Span::new(0x9000, 24 * KIB);
/// The kernel's command line with its final zero byte: 64 KiB.
pub const COMMAND_LINE: Span = Span::new(0x1_0000, 64 * KIB);
/// Conventional memory that e820 calls usable: up to 639 KiB, where a PC has its extended BIOS data area.
pub const CONVENTIONAL: Span = Span::new(0, 639 * KIB);
/// The extended BIOS data area: 1 KiB, reserved and zero.
pub const EBDA: Span = Span::new(0x9_fc00, KIB);
/// Where a VGA adapter's memory would be: 128 KiB. The machine has none, there is RAM that e820 does not name.
pub const VGA_HOLE: Span = Span::new(0xa_0000, 128 * KIB);
/// Where the ACPI tables go, all but the root pointer: 64 KiB.
pub const ACPI_TABLES: Span = Span::new(0xe_0000, 64 * KIB);
/// The area that operating systems search for tables: 64 KiB, divided as follows.
pub const FIRMWARE: Span = Span::new(0xf_0000, 64 * KIB);
/// MP floating pointer and MP table: 8 KiB (64 CPUs x 20 + 144 interrupts x 8 + some = 2.5 KiB).
pub const MP_TABLE: Span = Span::new(0xf_0000, 8 * KIB);
/// SMBIOS entry point and structures: 24 KiB (64 CPUs x 128 + some = 9 KiB).
pub const SMBIOS: Span = Span::new(0xf_2000, 24 * KIB);
/// ACPI root system description pointer: 36 bytes, on a boundary of 16.
pub const RSDP: Span = Span::new(0xf_8000, 36);
/// Where a kernel may be loaded at the earliest: 1 MiB.
pub const KERNEL_MIN: u64 = MIB;

const LOW_MAP: [Span; 14] = [
    BIOS_DATA,
    BOOT_GDT,
    ZERO_PAGE,
    SETUP_DATA,
    MULTIBOOT_INFO,
    BOOT_STACK,
    BOOT_PAGE_TABLES,
    COMMAND_LINE,
    EBDA,
    VGA_HOLE,
    ACPI_TABLES,
    MP_TABLE,
    SMBIOS,
    RSDP,
];
const _: () = assert!(ascending(&LOW_MAP));
const _: () = assert!(COMMAND_LINE.end <= CONVENTIONAL.end && CONVENTIONAL.end == EBDA.start);
const _: () = assert!(EBDA.end == VGA_HOLE.start && ACPI_TABLES.end == FIRMWARE.start);
const _: () = assert!(MP_TABLE.start == FIRMWARE.start && RSDP.end <= FIRMWARE.end);
const _: () = assert!(FIRMWARE.end == KERNEL_MIN && RSDP.start.is_multiple_of(16));
const _: () = assert!(BOOT_PAGE_TABLES.start.is_multiple_of(4 * KIB));

// ---- Ports ----------------------------------------------------------------------------------------------------

/// Ports of the machine: every range that a chip answers.
pub mod port {
    use super::Span;

    /// First 8259: command and data.
    pub const PIC_MASTER: Span = Span::new(0x20, 2);
    /// 8254: three counters and the control word.
    pub const PIT: Span = Span::new(0x40, 4);
    /// Keyboard controller's data port: no keyboard, all ones.
    pub const I8042_DATA: Span = Span::new(0x60, 1);
    /// NMI status and control: counter 2's gate and output, refresh toggle, speaker.
    pub const NMI_STATUS: Span = Span::new(0x61, 1);
    /// Keyboard controller's command and status port: takes the reset command, nothing else.
    pub const I8042_COMMAND: Span = Span::new(0x64, 1);
    /// RTC and NVRAM: index and data, and the same pair again for the upper bank.
    pub const RTC: Span = Span::new(0x70, 4);
    /// Power-on self-test codes; Linux also writes here to wait a microsecond.
    pub const POST: Span = Span::new(0x80, 1);
    /// System control port A: A20 gate and fast reset.
    pub const SYSTEM_CONTROL_A: Span = Span::new(0x92, 1);
    /// Second 8259: command and data.
    pub const PIC_SLAVE: Span = Span::new(0xa0, 2);
    /// SMI command port: ACPI on and off. The byte after it is a scratch register.
    pub const SMI_COMMAND: Span = Span::new(0xb2, 2);
    /// The other port that kernels write to in order to wait.
    pub const DELAY: Span = Span::new(0xed, 1);
    /// Second serial port.
    pub const COM2: Span = Span::new(0x2f8, 8);
    /// First serial port.
    pub const COM1: Span = Span::new(0x3f8, 8);
    /// PM1a event block: status word, enable word.
    pub const PM1A_EVENT: Span = Span::new(0x400, 4);
    /// PM1a control word.
    pub const PM1A_CONTROL: Span = Span::new(0x404, 2);
    /// ACPI PM timer: one dword.
    pub const PM_TIMER: Span = Span::new(0x408, 4);
    /// Edge/level control registers of both 8259.
    pub const ELCR: Span = Span::new(0x4d0, 2);
    /// PCI configuration address: one dword (its second byte as a byte port is `RESET_CONTROL`).
    pub const PCI_ADDRESS: Span = Span::new(0xcf8, 4);
    /// Reset control register, inside the dword of `PCI_ADDRESS`, reached by byte accesses only.
    pub const RESET_CONTROL: Span = Span::new(0xcf9, 1);
    /// PCI configuration data.
    pub const PCI_DATA: Span = Span::new(0xcfc, 4);
    /// The window for I/O BARs: 56 KiB.
    pub const PCI_IO: Span = Span::new(0x2000, 0xe000);
    /// The end of the port space.
    pub const END: u64 = 0x1_0000;

    const MAP: [(Span, &str); 20] = [
        (PIC_MASTER, "8259, first"),
        (PIT, "8254"),
        (I8042_DATA, "keyboard controller, data"),
        (NMI_STATUS, "NMI status, speaker"),
        (I8042_COMMAND, "keyboard controller, reset"),
        (RTC, "RTC and NVRAM"),
        (POST, "self-test codes, delay"),
        (SYSTEM_CONTROL_A, "A20 gate, fast reset"),
        (PIC_SLAVE, "8259, second"),
        (SMI_COMMAND, "ACPI on and off"),
        (DELAY, "delay"),
        (COM2, "COM2"),
        (COM1, "COM1"),
        (PM1A_EVENT, "ACPI events"),
        (PM1A_CONTROL, "ACPI control"),
        (PM_TIMER, "ACPI PM timer"),
        (ELCR, "8259, edge or level"),
        (PCI_ADDRESS, "PCI configuration, address"),
        (PCI_DATA, "PCI configuration, data"),
        (PCI_IO, "PCI window, ports"),
    ];

    /// What is at exactly these ports.
    pub fn name(span: Span) -> Option<&'static str> {
        if span == RESET_CONTROL {
            return Some("reset control");
        }
        super::named(&MAP, span)
    }

    const _: () = assert!(super::ascending(&super::spans(&MAP)));
    const _: () = assert!(PCI_IO.end == END);
    const _: () = assert!(PCI_ADDRESS.contains(RESET_CONTROL.start));
}

/// Written to `port::SMI_COMMAND`: the operating system takes over (FADT.ACPI_ENABLE).
pub const ACPI_ENABLE: u8 = 0xa0;
/// Written to `port::SMI_COMMAND`: the operating system gives ACPI back (FADT.ACPI_DISABLE).
pub const ACPI_DISABLE: u8 = 0xa1;
/// Written to `port::RESET_CONTROL`: a hard reset (FADT.RESET_VALUE).
pub const RESET_VALUE: u8 = 0x06;
/// SLP_TYP of the soft-off state, as `\_S5` tells it.
pub const SLP_TYP_S5: u8 = 5;
/// Where the RTC keeps the century (FADT.CENTURY).
pub const RTC_CENTURY: u8 = 0x32;

// ---- Interrupt pins -------------------------------------------------------------------------------------------

/// The most CPUs a machine can have. A CPU's APIC id is its index.
pub const CPUS_MAX: usize = 64;
/// How many pins the I/O APIC has. Its first pin is global system interrupt 0.
pub const IOAPIC_PINS: u32 = 24;
/// The I/O APIC's id. It shares the number with the first CPU's local APIC, which nothing since the APIC bus minds.
pub const IOAPIC_ID: u8 = 0;
/// The I/O APIC's version: 0x20 has an EOI register.
pub const IOAPIC_VERSION: u8 = 0x20;
/// The local APICs' version: 0x14 and 0x15 are integrated ones.
pub const LAPIC_VERSION: u8 = 0x15;

/// ISA interrupts, as the 8259 pair counts them.
pub mod irq {
    /// 8254, counter 0.
    pub const PIT: u8 = 0;
    /// The second 8259's input at the first.
    pub const CASCADE: u8 = 2;
    /// Second serial port.
    pub const COM2: u8 = 3;
    /// First serial port.
    pub const COM1: u8 = 4;
    /// RTC.
    pub const RTC: u8 = 8;
    /// ACPI's system control interrupt: level triggered.
    pub const SCI: u8 = 9;
}

/// The I/O APIC's pin for an ISA interrupt: the same number, but for the timer, which a PC wires to pin 2.
pub const fn isa_gsi(irq: u8) -> u32 {
    if irq == irq::PIT { 2 } else { irq as u32 }
}

/// MPS INTI flags of the timer's override: high, edge (ACPI 6.5, table 5.26).
pub const PIT_INTI: u16 = 0x5;
/// MPS INTI flags of the SCI's override: low, level. A `Line` carries assertion, not voltage, so that polarity
/// only has to be the same in every table.
pub const SCI_INTI: u16 = 0xf;
/// MPS INTI flags of a PCI interrupt: low, level.
pub const PCI_INTI: u16 = 0xf;

/// How many PIRQ wires the LPC bridge has.
pub const PIRQS: usize = 8;
/// The global system interrupt of the first PIRQ wire: pins 16 to 23.
pub const PIRQ_GSI: u32 = 16;
/// What the firmware writes to the LPC bridge's routing registers: the ISA interrupt of each PIRQ wire, for an
/// operating system that uses the 8259 pair.
pub const PIRQ_IRQ: [u8; PIRQS] = [10, 11, 5, 7, 10, 11, 5, 7];
/// ISA interrupts that a PIRQ wire may be routed to, a bit each: 5, 7, 10, 11, 12, 14 and 15.
pub const PIRQ_IRQ_POSSIBLE: u16 = 0xdca0;

/// ISA interrupts that the firmware makes level triggered, a bit each: the SCI, and those that PIRQ wires are routed to.
pub const LEVEL_IRQS: u16 = {
    let mut irqs = 1 << irq::SCI;
    let mut wire = 0;
    while wire < PIRQS {
        irqs |= 1 << PIRQ_IRQ[wire];
        wire += 1;
    }
    irqs
};

/// The PIRQ wire of a slot's pin (0 is INTA#): neighbours get different ones.
pub const fn intx_pirq(slot: u8, pin: u8) -> usize {
    (slot as usize + (pin as usize & 3)) % PIRQS
}

/// The global system interrupt of a slot's pin (0 is INTA#).
pub const fn intx_gsi(slot: u8, pin: u8) -> u32 {
    PIRQ_GSI + intx_pirq(slot, pin) as u32
}

const _: () = assert!(PIRQ_GSI + PIRQS as u32 == IOAPIC_PINS);
const _: () = {
    let mut wire = 0;
    while wire < PIRQS {
        assert!(PIRQ_IRQ_POSSIBLE & 1 << PIRQ_IRQ[wire] != 0);
        wire += 1;
    }
};

// ---- PCI slots, all on bus 0 ----------------------------------------------------------------------------------

/// Device numbers on bus 0. `net` comes before `link`, so that a guest calls it its first Ethernet interface.
pub mod slot {
    /// Host bridge, 0:0.0.
    pub const HOST_BRIDGE: u8 = 0;
    /// virtio-blk: the root disk.
    pub const ROOT_DISK: u8 = 2;
    /// virtio-net: what `--net` says.
    pub const NET: u8 = 3;
    /// virtio-rnd.
    pub const RND: u8 = 4;
    /// AHCI: disks and CDs.
    pub const AHCI: u8 = 5;
    /// virtio-net: the launcher's private link to the guest's init.
    pub const LINK: u8 = 6;
    /// PCI UART, only where it is asked for.
    pub const PCI_UART: u8 = 7;
    /// The first of the further virtio-blk disks.
    pub const DISKS: u8 = 8;
    /// How many further virtio-blk disks there may be: slots 8 to 23.
    pub const DISKS_MAX: u8 = 16;
    /// LPC bridge, 0:1f.0.
    pub const LPC: u8 = 31;

    /// The slots whose interrupt pins are wired, whatever is plugged in: all that devices can be in.
    pub const WITH_INTX: std::ops::Range<u8> = ROOT_DISK..DISKS + DISKS_MAX;

    /// What is in a slot, where anything can be.
    pub fn name(slot: u8) -> Option<&'static str> {
        Some(match slot {
            HOST_BRIDGE => "host bridge",
            ROOT_DISK => "virtio-blk, the root disk",
            NET => "virtio-net",
            RND => "virtio-rnd",
            AHCI => "AHCI",
            LINK => "virtio-net, the link to the launcher",
            PCI_UART => "serial port",
            LPC => "LPC bridge",
            _ if (DISKS..DISKS + DISKS_MAX).contains(&slot) => "virtio-blk, a further disk",
            _ => return None,
        })
    }

    const _: () = assert!(ROOT_DISK < DISKS && DISKS + DISKS_MAX <= LPC);
    const _: () = assert!(NET < LINK && LINK < PCI_UART && PCI_UART < DISKS);
}

/// The hardware address of `slot::LINK`: the same in every machine, since no other network is behind it.
pub const LINK_MAC: [u8; 6] = *b"\x02xlink";

// ---- Clocks ---------------------------------------------------------------------------------------------------

/// 8254 input clock: a third of the colour-burst crystal's 3.579545 MHz, to the nearest hertz.
pub const PIT_HZ: u64 = 1_193_182;
/// ACPI PM timer (ACPI 6.5, 4.8.3.3).
pub const PM_TIMER_HZ: u64 = 3_579_545;
/// How many bits the PM timer has: 32, so that FADT sets TMR_VAL_EXT.
pub const PM_TIMER_BITS: u32 = 32;
/// RTC crystal.
pub const RTC_HZ: u64 = 32_768;
/// The processor's crystal, CPUID.15H:ECX.
pub const CRYSTAL_HZ: u64 = 100_000_000;
/// TSC ticks for each tick of the crystal, CPUID.15H:EBX/EAX.
pub const TSC_RATIO: u64 = 10;
/// Time-stamp counter: one tick a nanosecond.
pub const TSC_HZ: u64 = CRYSTAL_HZ * TSC_RATIO;
/// Local APIC timer, before its divider.
pub const LAPIC_TIMER_HZ: u64 = CRYSTAL_HZ;
/// HPET main counter.
pub const HPET_HZ: u64 = CRYSTAL_HZ;
/// HPET period in femtoseconds, as its capability register has it: 10^15 / 10^8 = 10^7.
pub const HPET_PERIOD_FS: u64 = 1_000_000_000_000_000 / HPET_HZ;
/// Input clock of the serial ports: 115200 baud x 16.
pub const UART_HZ: u64 = 1_843_200;

const _: () = assert!(HPET_PERIOD_FS * HPET_HZ == 1_000_000_000_000_000);
const _: () = assert!(
    HPET_PERIOD_FS <= 100_000_000,
    "HPET 1.0a, 2.3.4: at most 100 ns"
);

/// Whether the ranges stand in ascending order, none empty and none overlapping the next.
const fn ascending(spans: &[Span]) -> bool {
    let mut end = 0;
    let mut i = 0;
    while i < spans.len() {
        if spans[i].start < end || spans[i].end <= spans[i].start {
            return false;
        }
        end = spans[i].end;
        i += 1;
    }
    true
}

/// The ranges of a map without their names.
const fn spans<const N: usize>(map: &[(Span, &str); N]) -> [Span; N] {
    let mut spans = [Span::new(0, 0); N];
    let mut i = 0;
    while i < N {
        spans[i] = map[i].0;
        i += 1;
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_splits_at_the_pci_hole() {
        assert_eq!(low_ram(GIB), Span::new(0, GIB));
        assert!(high_ram(GIB).is_empty());
        assert!(high_ram(3 * GIB).is_empty());
        assert_eq!(low_ram(4 * GIB), Span::new(0, 3 * GIB));
        assert_eq!(high_ram(4 * GIB), Span::new(4 * GIB, GIB));
        assert_eq!(high_ram(u64::MAX), HIGH_RAM);
    }

    #[test]
    fn every_slot_and_pin_has_a_pirq_pin_of_the_ioapic() {
        for slot in 0..32 {
            for pin in 0..4 {
                let gsi = intx_gsi(slot, pin);
                assert!((PIRQ_GSI..IOAPIC_PINS).contains(&gsi));
                assert_ne!(gsi, intx_gsi(slot, (pin + 1) % 4));
            }
        }
    }

    #[test]
    fn no_pirq_wire_can_share_the_interrupt_of_an_isa_device() {
        let devices = [
            irq::PIT,
            irq::CASCADE,
            irq::COM2,
            irq::COM1,
            irq::RTC,
            irq::SCI,
        ];
        for device in devices {
            assert_eq!(PIRQ_IRQ_POSSIBLE >> device & 1, 0, "IRQ {device}");
            assert!(!PIRQ_IRQ.contains(&device), "IRQ {device}");
        }
    }

    #[test]
    fn overlaps_and_disorder_are_found() {
        let (a, b) = (Span::new(0, 8), Span::new(8, 8));
        assert!(ascending(&[a, b]));
        assert!(!ascending(&[b, a]));
        assert!(!ascending(&[a, Span::new(7, 8)]));
        assert!(!ascending(&[a, Span::new(8, 0)]));
    }
}
