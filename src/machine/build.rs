//! The one narrative from a `MachineSpec` to a running machine, top to bottom: memory, what goes into it, interrupt
//! wires, chips, PCI, threads.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use hvf_sys::ram::Ram;
use hvf_sys::random;

use super::BuildError;
use super::birth::Birth;
use super::board::{Board, Brake, Clock, Fabric};
use super::load::Program;
use super::pci_uart::PciUart;
use super::threads::Machine;
use crate::ahci;
use crate::backend::console::{PortEnd, serial_line};
use crate::backend::disk::Disk;
use crate::backend::net::user::User;
use crate::backend::net::{self, Loop, Mac, Network, Null, Offloads};
use crate::bus::map::{Builder as MapBuilder, Space, Widths};
use crate::bus::{Device, Line, Slot, Timers};
use crate::chipset::hpet::{Gate, Hpet, HpetWires};
use crate::chipset::hub::{self, Hub, Wire};
use crate::chipset::mailbox::Mailbox;
use crate::chipset::pit::PitPort;
use crate::chipset::pm::PmPort;
use crate::chipset::ports::Ports;
use crate::chipset::power::PowerSwitch;
use crate::chipset::rtc::RtcPort;
use crate::chipset::uart::SerialPort;
use crate::engine::{Engine, Refusal, choose};
use crate::layout::{self, Span, irq, port, slot};
use crate::pci::{self, Function, HostBridge, LpcBridge, Plug};
use crate::spec::{self, DiskAccess, MachineSpec, MemorySize, Publish};
use crate::virtio::{Blk, Model, Net, Rnd, VirtioPci};

/// What leads out of the machine.
pub struct Cables {
    /// The kernel's console.
    pub com1: PortEnd,
    /// The line to the guest's init.
    pub com2: PortEnd,
    /// The UART on the PCI bus, where the machine has one.
    pub pci_uart: PortEnd,
    /// The private link between launcher and init.
    pub link: Arc<dyn Network>,
}

impl Cables {
    /// Cables with nothing at the other end: what the guest sends is lost, and nothing comes.
    pub fn unplugged() -> Self {
        let loose = || serial_line().0;
        Self {
            com1: loose(),
            com2: loose(),
            pci_uart: loose(),
            link: Arc::new(Null::Unplugged),
        }
    }
}

/// How many disks a machine has room for.
pub(super) const DISKS: usize = 1 + slot::DISKS_MAX as usize;

/// Builds the machine that `spec` says, and starts it.
pub fn build(spec: &MachineSpec, cables: Cables) -> Result<Machine, BuildError> {
    build_on(spec, cables, |ram| {
        choose::engine(spec.engine, ram, spec.cpus.count())
    })
}

/// The same on the engine that `engine` makes over the machine's RAM.
pub(super) fn build_on(
    spec: &MachineSpec,
    cables: Cables,
    engine: impl FnOnce(&Arc<Ram>) -> Result<Arc<dyn Engine>, Refusal>,
) -> Result<Machine, BuildError> {
    let mut birth = Birth::begin();
    let media = Media::open(spec)?;
    birth.done("opens the disks");
    let ram = memory(spec.memory)?;
    birth.done("maps the guest's memory");
    let program = Program::new(spec, ram.clone())?;
    // Bad images are told before anything is started.
    let regs = program.load()?;
    birth.done("loads the kernel and writes the firmware's tables");

    let engine = engine(&ram)?;
    birth.engine = engine.name();
    birth.done("chooses an engine");
    let board = board(spec, cables, media, &ram)?;
    birth.done("wires the board");
    Machine::start(board, engine, program, regs, birth)
}

/// What the machine's disks and drives stand on, opened.
pub(super) struct Media {
    disks: Vec<Disk>,
    drives: Vec<ahci::Drive>,
}

impl Media {
    /// Opens everything that `spec` names.
    pub(super) fn open(spec: &MachineSpec) -> Result<Self, BuildError> {
        Ok(Self {
            disks: open_disks(spec)?,
            drives: open_drives(spec)?,
        })
    }
}

/// The board with everything on it, before anything runs.
pub(super) fn board(
    spec: &MachineSpec,
    cables: Cables,
    media: Media,
    ram: &Arc<Ram>,
) -> Result<Board, BuildError> {
    let boxes: Vec<Arc<Mailbox>> = (0..spec.cpus.count()).map(|_| Arc::default()).collect();
    let brake = Brake::new(boxes.clone());
    let mut wiring = Wiring::new(Hub::new(boxes.clone()), &brake);
    wiring.controllers();
    let pm = wiring.power();
    wiring.timers(&pm);
    wiring.serial(irq::COM1, port::COM1, cables.com1);
    wiring.serial(irq::COM2, port::COM2, cables.com2);
    wiring.bridges()?;
    let queues = QUEUES_MAX.min(spec.cpus.count().into());
    for (disk, slot) in media.disks.into_iter().zip(disk_slots(spec.disks.len())?) {
        let name = format!("xlaunch-{slot}");
        wiring.virtio(slot, Arc::new(Blk::new(disk, &name, queues)), ram)?;
    }
    let plugged = network(&spec.net)?;
    wiring.published = plugged.published;
    let net = Net::new(plugged.network, plugged.mac);
    wiring.virtio(slot::NET, Arc::new(net), ram)?;
    wiring.virtio(slot::RND, Arc::new(Rnd::default()), ram)?;
    wiring.ahci(media.drives, ram)?;
    let link = Net::new(cables.link, layout::LINK_MAC);
    wiring.virtio(slot::LINK, Arc::new(link), ram)?;
    if spec.pci_uart {
        wiring.pci_uart(cables.pci_uart)?;
    }
    wiring.finish(boxes, brake, pm)
}

/// The most queues that a disk has; otherwise each CPU has its own.
const QUEUES_MAX: u16 = 4;
/// The least threads that serve a device; otherwise each queue has its own.
const THREADS_MIN: usize = 2;

fn open_disks(spec: &MachineSpec) -> Result<Vec<Disk>, BuildError> {
    Ok(spec
        .disks
        .iter()
        .map(Disk::open)
        .collect::<Result<_, _>>()?)
}

fn open_drives(spec: &MachineSpec) -> Result<Vec<ahci::Drive>, BuildError> {
    if spec.drives.len() > ahci::PORTS {
        return Err(BuildError::TooManyDrives(spec.drives.len()));
    }
    let open = |(port, drive): (usize, &spec::Drive)| {
        let serial = format!("xlaunch-ahci-{port}");
        Ok(match drive {
            spec::Drive::Disk(disk) => ahci::Drive::Disk(Disk::open(disk)?, serial),
            spec::Drive::Cd(None) => ahci::Drive::Cd(None, serial),
            spec::Drive::Cd(Some(path)) => ahci::Drive::Cd(Some(open_disc(path)?), serial),
        })
    };
    spec.drives.iter().enumerate().map(open).collect()
}

fn open_disc(path: &Path) -> Result<Disk, BuildError> {
    let disc = spec::Disk {
        path: path.to_owned(),
        access: DiskAccess::ReadOnly,
    };
    Ok(Disk::open(&disc)?)
}

/// The slots of so many disks: the first has its own.
fn disk_slots(count: usize) -> Result<Vec<u8>, BuildError> {
    if count > DISKS {
        return Err(BuildError::TooManyDisks(count));
    }
    let further = slot::DISKS..slot::DISKS + slot::DISKS_MAX;
    Ok(std::iter::once(slot::ROOT_DISK)
        .chain(further)
        .take(count)
        .collect())
}

/// What the interface is plugged into.
struct Plugged {
    network: Arc<dyn Network>,
    /// The ports that are published on it.
    published: Vec<Publish>,
    /// The interface's address.
    mac: Mac,
}

fn network(net: &spec::Net) -> Result<Plugged, BuildError> {
    let (mut mac, mut published) = (random_mac()?, Vec::new());
    let network: Arc<dyn Network> = match net {
        spec::Net::Nothing => Arc::new(Null::Unplugged),
        spec::Net::Loop => Arc::new(Loop::new(Offloads::all(), net::MTU)),
        spec::Net::Tap(name) => tap(name)?,
        spec::Net::Vmnet => {
            let network;
            // The system says which address the interface must have.
            (network, mac) = vmnet()?;
            network
        }
        spec::Net::User(user) => {
            let user = User::open(user, mac)?;
            published = user.published().to_vec();
            Arc::new(user)
        }
    };
    Ok(Plugged {
        network,
        published,
        mac,
    })
}

#[cfg(target_os = "linux")]
fn tap(name: &str) -> Result<Arc<dyn Network>, BuildError> {
    match net::tap::Tap::open(name) {
        Ok(tap) => Ok(Arc::new(tap)),
        Err(error) => Err(BuildError::Tap(error.to_string())),
    }
}

#[cfg(not(target_os = "linux"))]
fn tap(name: &str) -> Result<Arc<dyn Network>, BuildError> {
    Err(BuildError::Tap(format!(
        "cannot open the TAP interface {name}: only Linux has such interfaces; use --net user"
    )))
}

#[cfg(all(target_os = "macos", feature = "vmnet"))]
fn vmnet() -> Result<(Arc<dyn Network>, Mac), BuildError> {
    net::vmnet::open().map_err(|error| BuildError::Vmnet(error.to_string()))
}

#[cfg(not(all(target_os = "macos", feature = "vmnet")))]
fn vmnet() -> Result<(Arc<dyn Network>, Mac), BuildError> {
    let why = if cfg!(target_os = "macos") {
        "this xlaunch was built without it (cargo build --features vmnet)"
    } else {
        "only macOS has it"
    };
    Err(BuildError::Vmnet(format!(
        "cannot plug the guest into vmnet: {why}; use --net user"
    )))
}

/// A locally administered address of one station (IEEE 802, 8.4), so that two sandboxes can share a network.
fn random_mac() -> Result<Mac, BuildError> {
    let mut mac = [0; 6];
    random::fill(&mut mac).map_err(BuildError::Random)?;
    mac[0] = mac[0] & !1 | 2;
    Ok(mac)
}

pub(super) fn memory(size: MemorySize) -> Result<Arc<Ram>, BuildError> {
    let bytes = size.bytes();
    let regions: Vec<_> = [layout::low_ram(bytes), layout::high_ram(bytes)]
        .into_iter()
        .filter(|span| !span.is_empty())
        .map(|span| (span.start, span.len()))
        .collect();
    Ram::new(&regions).map_err(|source| BuildError::Memory { bytes, source })
}

/// The board while it is being wired.
struct Wiring {
    clock: Clock,
    hub: Arc<Hub>,
    fabric: Arc<Fabric>,
    switch: Arc<PowerSwitch>,
    timers: Arc<Timers>,
    map: MapBuilder,
    pci: pci::Builder,
    devices: Vec<Arc<Slot<dyn Device>>>,
    published: Vec<Publish>,
}

impl Wiring {
    fn new(hub: Arc<Hub>, brake: &Arc<Brake>) -> Self {
        let brake = brake.clone();
        Self {
            clock: Clock::start(),
            fabric: Arc::new(Fabric(hub.clone())),
            hub,
            switch: Arc::new(PowerSwitch::new(move || brake.pull())),
            timers: Timers::new(),
            map: MapBuilder::new(),
            pci: pci::Builder::new(),
            devices: Vec::new(),
            published: Vec::new(),
        }
    }

    /// Puts a device in a slot that is reset with the machine.
    fn place<T: Device + 'static>(&mut self, device: T) -> Arc<Slot<T>> {
        let slot = Slot::new(device, &self.timers);
        self.devices.push(slot.clone());
        slot
    }

    fn ports(
        &mut self,
        span: Span,
        region: u8,
        widths: Widths,
        slot: &Arc<Slot<impl Device + 'static>>,
    ) {
        let range = span.start..span.end;
        self.map
            .claim(Space::Port, range, region, widths, slot.clone());
    }

    /// The 8259 pair and the I/O APIC, which live in the hub.
    fn controllers(&mut self) {
        use hub::region;
        let (port, memory) = (Space::Port, Space::Memory);
        for (space, span, region, widths) in [
            (port, port::PIC_MASTER, region::PIC_MASTER, Widths::BYTE),
            (port, port::PIC_SLAVE, region::PIC_SLAVE, Widths::BYTE),
            (port, port::ELCR, region::ELCR, Widths::BYTE),
            (memory, layout::IOAPIC, region::IOAPIC, Widths::DWORD),
        ] {
            let range = span.start..span.end;
            self.map
                .claim_direct(space, range, region, widths, self.hub.clone());
        }
    }

    /// 8254 and RTC behind the gates of the HPET, and the HPET. The RTC's wire passes ACPI's fixed hardware first.
    fn timers(&mut self, pm: &Slot<PmPort>) {
        let isa = |irq| self.hub.line(Wire::Isa(irq));
        let gates = [irq::PIT, irq::RTC].map(|irq| Gate::new(isa(irq)));
        let [pit_line, rtc_line] = gates.clone().map(|gate| Line::new(gate, 0));
        let rtc_line = pm.lock().rtc_wire(rtc_line);
        let hub = self.hub.clone();
        let wires = HpetWires {
            legacy: [irq::PIT, irq::RTC].map(isa),
            gates,
            pins: [0, 1, 2, 3].map(|n| {
                let pin = usize::from(Hpet::PINS.start) + n;
                self.hub.line(Wire::Pin(pin))
            }),
            message: Box::new(move |address, data| hub.msi(address, data)),
        };

        let pit = self.place(PitPort::new(pit_line));
        self.ports(port::PIT, PitPort::COUNTERS, Widths::BYTE, &pit);
        self.ports(port::NMI_STATUS, PitPort::NMI, Widths::BYTE, &pit);
        let rtc = self.place(RtcPort::new(rtc_line, wall_clock()));
        self.ports(port::RTC, 0, Widths::BYTE, &rtc);
        let hpet = self.place(Hpet::new(wires));
        let range = layout::HPET.start..layout::HPET.end;
        let widths = Widths::DWORD | Widths::QWORD;
        self.map.claim(Space::Memory, range, 0, widths, hpet);
    }

    /// A COM port.
    fn serial(&mut self, irq: u8, span: Span, end: PortEnd) {
        let bell = Bell::of(&end);
        let line = self.hub.line(Wire::Isa(irq));
        let port = self.place(SerialPort::new(line, Box::new(end)));
        self.ports(span, 0, Widths::BYTE, &port);
        bell.wire(&port, SerialPort::service);
    }

    /// ACPI's fixed hardware and the ways to reset.
    fn power(&mut self) -> Arc<Slot<PmPort>> {
        let line = self.hub.line(Wire::Isa(irq::SCI));
        let pm = self.place(PmPort::new(line, self.switch.clone()));
        let narrow = Widths::BYTE | Widths::WORD;
        self.ports(port::PM1A_EVENT, PmPort::EVENT, narrow, &pm);
        self.ports(port::PM1A_CONTROL, PmPort::CONTROL, narrow, &pm);
        self.ports(port::PM_TIMER, PmPort::TIMER, Widths::DWORD, &pm);
        self.ports(port::SMI_COMMAND, PmPort::SMI, Widths::BYTE, &pm);

        let small = self.place(Ports::new(self.switch.clone()));
        let byte = Widths::BYTE;
        for (span, region, widths) in [
            (port::RESET_CONTROL, Ports::RESET_CONTROL, byte),
            (port::SYSTEM_CONTROL_A, Ports::SYSTEM_CONTROL_A, byte),
            (port::I8042_COMMAND, Ports::I8042_COMMAND, byte),
            (port::I8042_DATA, Ports::I8042_DATA, byte),
            (port::POST, Ports::POST, byte),
            (port::DELAY, Ports::DELAY, byte),
        ] {
            self.ports(span, region, widths, &small);
        }
        pm
    }

    fn plug<T: Function + 'static>(
        &mut self,
        slot: u8,
        function: T,
    ) -> Result<Arc<Slot<T>>, BuildError> {
        let function = self.place(function);
        self.pci.plug(slot, function.clone(), &mut self.map)?;
        Ok(function)
    }

    fn bridges(&mut self) -> Result<(), BuildError> {
        self.plug(slot::HOST_BRIDGE, HostBridge::new(self.fabric.clone()))?;
        let lpc = LpcBridge::new(self.fabric.clone(), self.fabric.clone());
        self.plug(slot::LPC, lpc)?;
        Ok(())
    }

    fn virtio(
        &mut self,
        slot: u8,
        model: Arc<dyn Model>,
        ram: &Arc<Ram>,
    ) -> Result<(), BuildError> {
        let plug = self.socket(slot, ram);
        let threads = THREADS_MIN.max(model.queues().into());
        let device = VirtioPci::new(model, threads, plug).map_err(BuildError::Thread)?;
        self.plug(slot, device)?;
        Ok(())
    }

    fn ahci(&mut self, drives: Vec<ahci::Drive>, ram: &Arc<Ram>) -> Result<(), BuildError> {
        let plug = self.socket(slot::AHCI, ram);
        let controller = ahci::Controller::new(drives, plug).map_err(BuildError::Thread)?;
        self.plug(slot::AHCI, controller)?;
        Ok(())
    }

    /// What a function in a slot needs of the machine.
    fn socket(&self, slot: u8, ram: &Arc<Ram>) -> Plug {
        Plug {
            slot,
            line: self.hub.line(Wire::of_slot(slot)),
            sink: self.fabric.clone(),
            ram: ram.clone(),
        }
    }

    fn pci_uart(&mut self, end: PortEnd) -> Result<(), BuildError> {
        let bell = Bell::of(&end);
        let line = self.hub.line(Wire::of_slot(slot::PCI_UART));
        let uart = PciUart::new(line, self.fabric.clone(), Box::new(end));
        let uart = self.plug(slot::PCI_UART, uart)?;
        bell.wire(&uart, PciUart::service);
        Ok(())
    }

    /// Freezes everything.
    fn finish(
        mut self,
        boxes: Vec<Arc<Mailbox>>,
        brake: Arc<Brake>,
        pm: Arc<Slot<PmPort>>,
    ) -> Result<Board, BuildError> {
        let root = self.pci.build(&mut self.map);
        Ok(Board {
            clock: self.clock,
            map: self.map.build()?,
            hub: self.hub,
            boxes,
            brake,
            switch: self.switch,
            timers: self.timers,
            root,
            pm,
            devices: self.devices,
            published: self.published,
        })
    }
}

/// What the far end of a cable rings to have its port look again. The end has it before there is a port.
struct Bell(Arc<OnceLock<Box<dyn Fn() + Send + Sync>>>);

impl Bell {
    fn of(end: &PortEnd) -> Self {
        let bell = Self(Arc::default());
        let ring = bell.0.clone();
        end.on_change(move || {
            if let Some(ring) = ring.get() {
                ring();
            }
        });
        bell
    }

    /// Leads it to a port, which looks at once: something may have come while there was none.
    fn wire<T: Device + 'static>(self, port: &Arc<Slot<T>>, look: fn(&mut T)) {
        let weak = Arc::downgrade(port);
        // Nobody else has the cell.
        let _ = self.0.set(Box::new(move || {
            if let Some(port) = weak.upgrade() {
                look(&mut port.lock());
            }
        }));
        look(&mut port.lock());
    }
}

/// The host's time, in UTC since 1970. A host before that shows 1970.
fn wall_clock() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}
