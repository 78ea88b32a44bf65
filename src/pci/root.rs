//! The way to configuration space: mechanism #1 (ports 0xcf8 and 0xcfc; PCI 3.0, 3.2.2.3.2) and the memory-mapped
//! one (ECAM; PCI Express Base 3.0, 7.2.2), both to bus 0.
//!
//! The address latch is an atomic, and an access takes only the addressed function's slot. When a write has moved
//! BARs, the map learns it after the slot is released. Only aligned dwords reach the latch: other accesses to
//! 0xcf8 to 0xcfb are ordinary port accesses (0xcf9 is the reset register).

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{BarKind, Decoding, Function, Window};
use crate::bus::map::{self, Direct, Placement, Space, Widths};
use crate::bus::{Access, Device, Slot, Width};
use crate::layout::{self, Span};

/// Regions of `Root` on the bus.
mod region {
    pub(super) const ADDRESS: u8 = 0;
    pub(super) const DATA: u8 = 1;
    pub(super) const ECAM: u8 = 2;
}

/// The address latch: what of it is kept (bits 30:24 and 1:0 are reserved), and its parts.
mod latch {
    pub(super) const KEPT: u32 = 0x80ff_fffc;
    pub(super) const ENABLE: u32 = 1 << 31;
    pub(super) const REGISTER: u32 = 0xfc;
}

const FUNCTIONS: usize = 256;
const CONFIG_SIZE: u64 = 256;

/// Puts functions on the bus: gives their BARs addresses, as firmware would, and claims what they decode.
pub struct Builder {
    entries: Vec<Option<Entry>>,
    ports: Cursor,
    low: Cursor,
    high: Cursor,
}

/// No room for a BAR: more devices than the machine's windows hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom {
    /// The device number.
    pub device: u8,
    /// How many bytes the BAR has.
    pub size: u64,
}

impl std::fmt::Display for NoRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "cannot build the machine: no room for {:#x} bytes of PCI device {}; use fewer disks",
            self.size, self.device
        )
    }
}

impl std::error::Error for NoRoom {}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// An empty bus.
    pub fn new() -> Self {
        Self {
            entries: (0..FUNCTIONS).map(|_| None).collect(),
            ports: Cursor(layout::port::PCI_IO),
            low: Cursor(layout::PCI_MMIO32),
            high: Cursor(layout::PCI_MMIO64),
        }
    }

    /// Plugs `function` in as function 0 of device number `device`.
    pub fn plug<T: Function + 'static>(
        &mut self,
        device: u8,
        function: Arc<Slot<T>>,
        map: &mut map::Builder,
    ) -> Result<(), NoRoom> {
        let mut placements = [const { None }; 6];
        let bars = *function.lock().endpoint().bars();
        for (index, bar) in bars.into_iter().enumerate() {
            let Some(bar) = bar else { continue };
            let (cursor, space) = match bar.kind {
                BarKind::Io => (&mut self.ports, Space::Port),
                BarKind::Memory32 => (&mut self.low, Space::Memory),
                BarKind::Memory64 => (&mut self.high, Space::Memory),
            };
            let base = cursor.take(bar.size).ok_or(NoRoom {
                device,
                size: bar.size,
            })?;
            function.lock().endpoint().assign(index, base);
            let slot: Arc<Slot<dyn Device>> = function.clone();
            placements[index] =
                Some(map.claim_movable(space, bar.size, index as u8, bar.widths, slot));
        }
        let entry = Entry {
            function,
            placements,
            applied: Mutex::new(None),
        };
        entry.settle();
        self.entries[usize::from(device & 31) << 3] = Some(entry);
        Ok(())
    }

    /// Freezes the bus and claims the way to configuration space.
    pub fn build(self, map: &mut map::Builder) -> Arc<Root> {
        let root = Arc::new(Root {
            address: AtomicU32::new(0),
            entries: self.entries,
        });
        let exact = Widths::DWORD | Widths::EXACT;
        for (space, span, number, widths) in [
            (
                Space::Port,
                layout::port::PCI_ADDRESS,
                region::ADDRESS,
                exact,
            ),
            (
                Space::Port,
                layout::port::PCI_DATA,
                region::DATA,
                Widths::TO_DWORD,
            ),
            (Space::Memory, layout::ECAM, region::ECAM, Widths::TO_DWORD),
        ] {
            map.claim_direct(space, span.start..span.end, number, widths, root.clone());
        }
        root
    }
}

/// Hands out naturally aligned parts of a window, from its start.
struct Cursor(Span);

impl Cursor {
    fn take(&mut self, size: u64) -> Option<u64> {
        let base = self.0.start.checked_next_multiple_of(size)?;
        let end = base.checked_add(size)?;
        if end > self.0.end {
            return None;
        }
        self.0.start = end;
        Some(base)
    }
}

/// Bus 0 and the ways to it.
pub struct Root {
    // Configuration.
    entries: Vec<Option<Entry>>,
    // State.
    address: AtomicU32,
}

impl Root {
    /// Returns to power-on, after the functions themselves have been reset.
    pub fn reset(&self) {
        self.address.store(0, Ordering::Relaxed);
        self.entries.iter().flatten().for_each(Entry::settle);
    }

    /// Function 0 of device number `device`.
    pub fn function(&self, device: u8) -> Option<&Arc<Slot<dyn Function>>> {
        let entry = self.entry(u32::from(device) << 3)?;
        Some(&entry.function)
    }

    fn config_read(&self, function: u32, offset: u64, width: Width) -> u64 {
        match self.entry(function) {
            Some(_) if offset >= CONFIG_SIZE => 0,
            Some(entry) => u64::from(entry.function.lock().config_read(offset as u8, width)),
            None => width.ones(),
        }
    }

    fn config_write(&self, function: u32, offset: u64, width: Width, value: u64) {
        let Some(entry) = self.entry(function).filter(|_| offset < CONFIG_SIZE) else {
            return;
        };
        let moved = entry
            .function
            .lock()
            .config_write(offset as u8, width, value as u32);
        if let Some(decoding) = moved {
            entry.apply(&decoding);
        }
    }

    /// The entry of a function, counted as bus, device and function in bits 15:0.
    fn entry(&self, function: u32) -> Option<&Entry> {
        self.entries.get(function as usize)?.as_ref()
    }

    /// The function and register that the latch and an access to the data port mean, while configuration is enabled.
    fn latched(&self, access: Access) -> Option<(u32, u64)> {
        let address = self.address.load(Ordering::Relaxed);
        let register = u64::from(address & latch::REGISTER) + access.offset;
        (address & latch::ENABLE != 0).then_some((address >> 8 & 0xffff, register))
    }
}

/// Where an access to the ECAM goes.
fn mapped(access: Access) -> (u32, u64) {
    ((access.offset >> 12) as u32 & 0xffff, access.offset & 0xfff)
}

impl Direct for Root {
    fn read(&self, access: Access) -> u64 {
        let target = match access.region {
            region::ADDRESS => return u64::from(self.address.load(Ordering::Relaxed)),
            region::DATA => self.latched(access),
            _ => Some(mapped(access)),
        };
        target.map_or(access.width.ones(), |(function, offset)| {
            self.config_read(function, offset, access.width)
        })
    }

    fn write(&self, access: Access, value: u64) {
        let target = match access.region {
            region::ADDRESS => {
                let address = value as u32 & latch::KEPT;
                return self.address.store(address, Ordering::Relaxed);
            }
            region::DATA => self.latched(access),
            _ => Some(mapped(access)),
        };
        if let Some((function, offset)) = target {
            self.config_write(function, offset, access.width, value);
        }
    }
}

/// One function on the bus.
struct Entry {
    function: Arc<Slot<dyn Function>>,
    placements: [Option<Arc<Placement>>; 6],
    /// The generation of the decoding that the map has. Never taken while a slot is held.
    applied: Mutex<Option<u64>>,
}

impl Entry {
    /// Tells the map what the BARs decode now.
    fn settle(&self) {
        let decoding = self.function.lock().endpoint().decoding();
        self.apply(&decoding);
    }

    /// Tells the map what the BARs decode, unless it knows something newer.
    fn apply(&self, decoding: &Decoding) {
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        if applied.is_some_and(|generation| generation > decoding.generation) {
            return;
        }
        *applied = Some(decoding.generation);
        for (placement, window) in self.placements.iter().zip(&decoding.windows) {
            if let Some(placement) = placement {
                placement.put(window.as_ref().map(|window: &Window| window.base));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::tests::HEADER;
    use super::super::endpoint::tests::Sent;
    use super::super::{Bar, Endpoint, reg};
    use super::*;
    use crate::bus::map::Map;
    use crate::bus::{Line, Nanos, Timers};
    use proptest::prelude::*;

    struct Probe(Endpoint);

    impl Device for Probe {
        fn read(&mut self, access: Access) -> u64 {
            u64::from(access.region) << 16 | access.offset
        }
        fn write(&mut self, _access: Access, _value: u64) {}
        fn reset(&mut self) {
            self.0.reset();
        }
    }

    impl Function for Probe {
        fn endpoint(&mut self) -> &mut Endpoint {
            &mut self.0
        }
    }

    fn machine() -> (Map, Arc<Root>, Arc<Slot<Probe>>) {
        let mut map = map::Builder::new();
        let mut builder = Builder::new();
        let mut endpoint = Endpoint::new(&HEADER, Line::loose(), Arc::new(Sent::default()));
        endpoint.declare_bar(0, Bar::new(BarKind::Memory32, 0x1000, Widths::ALL));
        endpoint.declare_bar(1, Bar::new(BarKind::Io, 0x20, Widths::ALL));
        endpoint.declare_bar(2, Bar::new(BarKind::Memory64, 0x4000, Widths::ALL));
        let slot = Slot::new(Probe(endpoint), &Timers::new());
        builder.plug(3, slot.clone(), &mut map).unwrap();
        let root = builder.build(&mut map);
        (map.build().unwrap(), root, slot)
    }

    const NOW: Nanos = Nanos(0);

    fn select(map: &Map, address: u32) {
        map.write(Space::Port, 0xcf8, Width::Dword, u64::from(address), NOW);
    }

    fn data(map: &Map, port: u64, width: Width) -> u64 {
        map.read(Space::Port, port, width, NOW)
    }

    #[test]
    fn both_ways_lead_to_the_same_registers() {
        let (map, ..) = machine();
        let ecam = |address: u64| map.read(Space::Memory, 0xe000_0000 + address, Width::Dword, NOW);
        select(&map, 0x8000_1800);
        assert_eq!(data(&map, 0xcfc, Width::Dword), 0x5678_1234);
        assert_eq!(data(&map, 0xcfe, Width::Word), 0x5678);
        assert_eq!(data(&map, 0xcfd, Width::Byte), 0x12);
        assert_eq!(data(&map, 0xcfd, Width::Word), 0x7812);
        assert_eq!(ecam(0x1_8000), 0x5678_1234);
        assert_eq!(ecam(0x1_8100), 0, "no extended capabilities");
        assert_eq!(ecam(0x1_9000), 0xffff_ffff, "function 1");
        assert_eq!(ecam(0x11_8000), 0xffff_ffff, "bus 1");
    }

    #[test]
    fn only_dwords_reach_the_latch_and_only_its_enable_bit_opens_it() {
        let (map, ..) = machine();
        select(&map, 0xff00_1803);
        assert_eq!(data(&map, 0xcf8, Width::Dword), 0x8000_1800);
        map.write(Space::Port, 0xcf9, Width::Byte, 6, NOW);
        map.write(Space::Port, 0xcf8, Width::Word, 0, NOW);
        assert_eq!(data(&map, 0xcf8, Width::Dword), 0x8000_1800);
        select(&map, 0x0000_1800);
        assert_eq!(data(&map, 0xcfc, Width::Dword), 0xffff_ffff);
        select(&map, 0x8001_1800);
        assert_eq!(data(&map, 0xcfc, Width::Dword), 0xffff_ffff);
    }

    #[test]
    fn bars_are_assigned_before_the_guest_and_moved_by_it() {
        let (map, root, slot) = machine();
        let low = |address: u64| map.read(Space::Memory, address, Width::Dword, NOW);
        assert_eq!(low(0xc000_0ffc), 0xffc);
        assert_eq!(low(layout::PCI_MMIO64.start + 4), 0x2_0004);
        assert_eq!(data(&map, 0x201c, Width::Dword), 0x1_001c);
        select(&map, 0x8000_1810);
        map.write(Space::Port, 0xcfc, Width::Dword, 0xd000_0000, NOW);
        assert_eq!(low(0xd000_0004), 4);
        assert_eq!(low(0xc000_0004), 0xffff_ffff);
        slot.lock().reset();
        root.reset();
        assert_eq!(low(0xc000_0004), 4);
        assert_eq!(low(0xd000_0004), 0xffff_ffff);
    }

    #[test]
    fn an_older_decoding_does_not_overwrite_a_newer_one() {
        let (map, root, slot) = machine();
        let entry = root.entry(3 << 3).unwrap();
        let older = slot.lock().config_write(0x10, Width::Dword, 0xd000_0000);
        let newer = slot.lock().config_write(reg::COMMAND, Width::Word, 0);
        entry.apply(&newer.unwrap());
        entry.apply(&older.unwrap());
        assert_eq!(
            map.read(Space::Memory, 0xd000_0000, Width::Dword, NOW),
            0xffff_ffff
        );
    }

    /// A guest moves a BAR while other CPUs are at the device: they find it or do not, and nobody waits for anybody.
    #[test]
    fn a_bar_may_move_while_it_is_in_use() {
        use std::sync::atomic::AtomicBool;
        const PLACES: [u64; 3] = [0xc000_0000, 0xd000_0000, 0xc000_1000];
        let (map, root, _slot) = machine();
        let done = AtomicBool::new(false);
        let ecam = |register: u64| layout::ECAM.start + 0x1_8000 + register;
        std::thread::scope(|scope| {
            for reader in 0..3_u64 {
                let (map, done) = (&map, &done);
                scope.spawn(move || {
                    let mut offset = 4 * reader;
                    while !done.load(Ordering::Relaxed) {
                        for place in PLACES {
                            let found = map.read(Space::Memory, place + offset, Width::Dword, NOW);
                            assert!(found == offset || found == 0xffff_ffff, "{found:#x}");
                            map.write(Space::Memory, place + offset, Width::Dword, 0, NOW);
                        }
                        offset = (offset + 4) % 0x1000;
                    }
                });
            }
            for round in 0..20_000 {
                let base = PLACES[round % 3];
                map.write(Space::Memory, ecam(0x10), Width::Dword, base, NOW);
                for command in [0, 2] {
                    map.write(Space::Memory, ecam(0x04), Width::Word, command, NOW);
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        root.reset();
        map.write(Space::Memory, ecam(0x04), Width::Word, 2, NOW);
        map.write(Space::Memory, ecam(0x10), Width::Dword, PLACES[1], NOW);
        let found = PLACES.map(|place| map.read(Space::Memory, place, Width::Dword, NOW));
        assert_eq!(found, [0xffff_ffff, 0, 0xffff_ffff]);
    }

    proptest! {
        #[test]
        fn any_configuration_access_is_harmless(
            accesses in prop::collection::vec((any::<u32>(), 0_u64..8, 0_u32..4, any::<u64>()), 0..64)
        ) {
            let (map, ..) = machine();
            for (address, port, width, value) in accesses {
                let width = Width::from_bytes(1 << width).unwrap();
                select(&map, address & 0xff | 0x8000_1800);
                map.write(Space::Port, 0xcf8 + port, width, value, NOW);
                map.read(Space::Port, 0xcf8 + port, width, NOW);
                let ecam = 0xe000_0000 + u64::from(address >> 4);
                map.write(Space::Memory, ecam, width, value, NOW);
                map.read(Space::Memory, ecam, width, NOW);
            }
            select(&map, 0x8000_1800);
            prop_assert_eq!(data(&map, 0xcfc, Width::Dword), 0x5678_1234);
        }
    }
}
