//! The frozen map of the machine: which device answers which port and which physical address.
//!
//! Built once and never changed, so that finding a device takes no lock; only the bases of movable regions (PCI
//! BARs) are atomic cells. The map normalises what a guest does: an access that a region does not accept as it is
//! gets split into naturally aligned pieces of the greatest accepted width, lowest address first, as an ISA bridge
//! does. A read narrower than anything accepted is widened and the asked bytes are cut out; such a write is merged
//! with what a read gives where the region says so (`Widths::MERGE`) and is dropped otherwise, as on hardware that
//! decodes only whole registers.
//!
//! What nobody claims reads as ones and swallows writes; it is counted, and logged once an address.
//!
//! Lock rank: takes one slot for each piece of an access, never two at once.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bitflags::bitflags;

use super::{Access, Device, Nanos, Slot, Width};

bitflags! {
    /// Which accesses a region takes as they come. All must be naturally aligned to the region's start.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Widths: u8 {
        /// Accesses of 8 bits.
        const BYTE = 1;
        /// Accesses of 16 bits.
        const WORD = 2;
        /// Accesses of 32 bits.
        const DWORD = 4;
        /// Accesses of 64 bits.
        const QWORD = 8;
        /// A write narrower than any accepted width is merged with what a read gives.
        const MERGE = 16;
        /// Other accesses than the accepted ones are not for this region: they go to what lies beneath it.
        const EXACT = 32;
        /// 8, 16 and 32 bits.
        const TO_DWORD = 7;
        /// 8, 16, 32 and 64 bits.
        const ALL = 15;
    }
}

impl Widths {
    const fn accepts(self, width: Width) -> bool {
        self.bits() & width as u8 != 0
    }
}

/// The two address spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Space {
    /// I/O ports.
    Port,
    /// Physical memory outside RAM.
    Memory,
}

/// Something on the bus that needs no slot of its own, since it only passes accesses on (PCI configuration). It may
/// take one slot, and must have given it back when it returns.
pub trait Direct: Send + Sync {
    /// Reads a register. Bits above the access's width are ignored.
    fn read(&self, access: Access) -> u64;
    /// Writes a register. Bits of `value` above the access's width are zero.
    fn write(&self, access: Access, value: u64);
}

/// Where a movable region lies at the moment, if anywhere: one atomic word, so that address and enable bit change
/// together.
#[derive(Debug)]
pub struct Placement {
    base: AtomicU64,
}

/// The base of a region that is not mapped: no region fits there.
const UNMAPPED: u64 = u64::MAX;

impl Placement {
    fn new() -> Self {
        Self {
            base: AtomicU64::new(UNMAPPED),
        }
    }

    /// Maps the region at `base`, or nowhere.
    pub fn put(&self, base: Option<u64>) {
        self.base.store(base.unwrap_or(UNMAPPED), Ordering::Release);
    }

    /// Where the region is mapped.
    pub fn base(&self) -> Option<u64> {
        match self.base.load(Ordering::Acquire) {
            UNMAPPED => None,
            base => Some(base),
        }
    }
}

/// Two claims of one address: the machine is wired wrongly.
#[derive(Debug, PartialEq, Eq)]
pub struct Overlap {
    space: Space,
    first: Range<u64>,
    second: Range<u64>,
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot build the machine: two devices claim {:?} ranges {:#x?} and {:#x?}, which is a mistake in xlaunch",
            self.space, self.first, self.second
        )
    }
}

impl std::error::Error for Overlap {}

/// Collects claims for a `Map`.
#[derive(Default)]
pub struct Builder {
    ports: Table,
    memory: Table,
}

impl Builder {
    /// No claims yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives `range` to the device in `slot`, which knows it as its region number `region`.
    pub fn claim(
        &mut self,
        space: Space,
        range: Range<u64>,
        region: u8,
        widths: Widths,
        slot: Arc<Slot<dyn Device>>,
    ) {
        self.table(space)
            .fix(range, region, widths, Target::Slot(slot));
    }

    /// Gives `range` to `target`, which knows it as its region number `region`.
    pub fn claim_direct(
        &mut self,
        space: Space,
        range: Range<u64>,
        region: u8,
        widths: Widths,
        target: Arc<dyn Direct>,
    ) {
        self.table(space)
            .fix(range, region, widths, Target::Direct(target));
    }

    /// Gives `len` bytes to the device in `slot`, at first nowhere. Fixed ranges win over movable ones.
    pub fn claim_movable(
        &mut self,
        space: Space,
        len: u64,
        region: u8,
        widths: Widths,
        slot: Arc<Slot<dyn Device>>,
    ) -> Arc<Placement> {
        let placement = Arc::new(Placement::new());
        self.table(space).movable.push(Movable {
            placement: placement.clone(),
            claim: Claim {
                len,
                region,
                widths,
                target: Target::Slot(slot),
            },
        });
        placement
    }

    /// Freezes the map.
    pub fn build(mut self) -> Result<Map, Overlap> {
        self.ports.freeze(Space::Port)?;
        self.memory.freeze(Space::Memory)?;
        Ok(Map {
            ports: self.ports,
            memory: self.memory,
            strays: Strays::default(),
        })
    }

    fn table(&mut self, space: Space) -> &mut Table {
        match space {
            Space::Port => &mut self.ports,
            Space::Memory => &mut self.memory,
        }
    }
}

/// The machine's ports and memory-mapped registers.
pub struct Map {
    ports: Table,
    memory: Table,
    strays: Strays,
}

impl Map {
    /// Reads from a port or an address. Bits above `width` are zero.
    pub fn read(&self, space: Space, address: u64, width: Width, now: Nanos) -> u64 {
        let place = Place::find(self.table(space), address, width);
        if let Some((claim, offset)) = place.whole(width) {
            return claim.read(offset, width, now);
        }
        let mut value = 0;
        let mut done = 0;
        while done < width.bytes() {
            let left = width.bytes() - done;
            let piece = match place.piece(done, left) {
                Some(piece) => piece,
                None => {
                    self.strays.read(space, address);
                    value |= 0xff << (8 * done);
                    done += 1;
                    continue;
                }
            };
            let bits = piece.claim.read(piece.offset, piece.width, now);
            value |= (bits >> (8 * piece.skip)) << (8 * done);
            done += piece.len(left);
        }
        value & width.ones()
    }

    /// Writes to a port or an address. Bits of `value` above `width` are ignored.
    pub fn write(&self, space: Space, address: u64, width: Width, value: u64, now: Nanos) {
        let place = Place::find(self.table(space), address, width);
        let value = value & width.ones();
        if let Some((claim, offset)) = place.whole(width) {
            return claim.write(offset, width, value, now);
        }
        let mut done = 0;
        while done < width.bytes() {
            let left = width.bytes() - done;
            match place.piece(done, left) {
                Some(piece) => {
                    piece.write(value >> (8 * done), left, now);
                    done += piece.len(left);
                }
                None => {
                    self.strays.write(space, address);
                    done += 1;
                }
            }
        }
    }

    /// How many bytes of reads and of writes so far nobody claimed.
    pub fn strays(&self) -> (u64, u64) {
        let Strays { reads, writes, .. } = &self.strays;
        (
            reads.load(Ordering::Relaxed),
            writes.load(Ordering::Relaxed),
        )
    }

    /// The fixed ranges of a space in ascending order, those for exact accesses among them: what firmware tables must
    /// agree with.
    pub fn fixed(&self, space: Space) -> Vec<Range<u64>> {
        let table = self.table(space);
        let all = table.fixed.iter().chain(&table.exact);
        let mut ranges: Vec<_> = all
            .map(|fixed| fixed.start..fixed.start + fixed.claim.len)
            .collect();
        ranges.sort_by_key(|range| range.start);
        ranges
    }

    fn table(&self, space: Space) -> &Table {
        match space {
            Space::Port => &self.ports,
            Space::Memory => &self.memory,
        }
    }
}

/// Who answers for a region.
enum Target {
    Slot(Arc<Slot<dyn Device>>),
    Direct(Arc<dyn Direct>),
}

struct Claim {
    len: u64,
    region: u8,
    widths: Widths,
    target: Target,
}

impl Claim {
    /// Whether an access lies inside, is aligned and is of an accepted width.
    fn accepts(&self, offset: u64, width: Width) -> bool {
        self.widths.accepts(width)
            && offset.is_multiple_of(width.bytes())
            && offset < self.len
            && self.len - offset >= width.bytes()
    }

    fn read(&self, offset: u64, width: Width, now: Nanos) -> u64 {
        let access = self.access(offset, width, now);
        let value = match &self.target {
            Target::Slot(slot) => slot.lock().read(access),
            Target::Direct(target) => target.read(access),
        };
        value & width.ones()
    }

    fn write(&self, offset: u64, width: Width, value: u64, now: Nanos) {
        let access = self.access(offset, width, now);
        match &self.target {
            Target::Slot(slot) => slot.lock().write(access, value),
            Target::Direct(target) => target.write(access, value),
        }
    }

    /// Reads a register, replaces the bits of `mask` and writes it back, with nobody in between.
    fn merge(&self, offset: u64, width: Width, value: u64, mask: u64, now: Nanos) {
        let access = self.access(offset, width, now);
        match &self.target {
            Target::Slot(slot) => {
                let mut device = slot.lock();
                let old = device.read(access);
                device.write(access, (old & !mask | value & mask) & width.ones());
            }
            Target::Direct(target) => {
                let old = target.read(access);
                target.write(access, (old & !mask | value & mask) & width.ones());
            }
        }
    }

    fn access(&self, offset: u64, width: Width, now: Nanos) -> Access {
        Access {
            region: self.region,
            offset,
            width,
            now,
        }
    }
}

struct Fixed {
    start: u64,
    claim: Claim,
}

struct Movable {
    placement: Arc<Placement>,
    claim: Claim,
}

/// One address space. `exact` comes before `fixed`, `fixed` before `movable`.
#[derive(Default)]
struct Table {
    exact: Vec<Fixed>,
    fixed: Vec<Fixed>,
    movable: Vec<Movable>,
    /// The movable region that was hit last: a guest that talks to a device goes on doing so.
    hint: AtomicUsize,
}

impl Table {
    fn fix(&mut self, range: Range<u64>, region: u8, widths: Widths, target: Target) {
        let list = if widths.contains(Widths::EXACT) {
            &mut self.exact
        } else {
            &mut self.fixed
        };
        list.push(Fixed {
            start: range.start,
            claim: Claim {
                len: range.end.saturating_sub(range.start),
                region,
                widths,
                target,
            },
        });
    }

    fn freeze(&mut self, space: Space) -> Result<(), Overlap> {
        for list in [&mut self.exact, &mut self.fixed] {
            list.sort_by_key(|fixed| fixed.start);
            for pair in list.windows(2) {
                let [first, second] = [&pair[0], &pair[1]]
                    .map(|fixed| fixed.start..fixed.start.saturating_add(fixed.claim.len));
                if first.end > second.start {
                    return Err(Overlap {
                        space,
                        first,
                        second,
                    });
                }
            }
        }
        Ok(())
    }

    fn moved(&self, address: u64) -> Option<(&Claim, u64)> {
        let hint = self.hint.load(Ordering::Relaxed);
        if let Some(hit) = self.movable.get(hint).and_then(|m| m.at(address)) {
            return Some(hit);
        }
        let (index, hit) = self
            .movable
            .iter()
            .enumerate()
            .find_map(|(index, movable)| Some((index, movable.at(address)?)))?;
        self.hint.store(index, Ordering::Relaxed);
        Some(hit)
    }
}

/// Where the bytes of one access lie. Other CPUs may move BARs while it is under way: an aligned access lies in one BAR
/// or in none, and looks for it once, so that it reaches all of it or nothing.
struct Place<'a> {
    table: &'a Table,
    address: u64,
    is_aligned: bool,
    moved: Option<(&'a Claim, u64)>,
}

impl<'a> Place<'a> {
    fn find(table: &'a Table, address: u64, width: Width) -> Self {
        let is_fixed = within(&table.fixed, address).is_some();
        Self {
            table,
            address,
            is_aligned: address.is_multiple_of(width.bytes()),
            moved: if is_fixed { None } else { table.moved(address) },
        }
    }

    /// The region that takes the whole access as it is.
    fn whole(&self, width: Width) -> Option<(&'a Claim, u64)> {
        within(&self.table.exact, self.address)
            .filter(|(claim, offset)| claim.accepts(*offset, width))
            .or_else(|| self.at(0))
            .filter(|(claim, offset)| claim.accepts(*offset, width))
    }

    /// The piece that begins `done` bytes into the access: at most `left` bytes.
    fn piece(&self, done: u64, left: u64) -> Option<Piece<'a>> {
        let (claim, offset) = self.at(done)?;
        let widths = [Width::Qword, Width::Dword, Width::Word, Width::Byte];
        let fitting = widths
            .into_iter()
            .find(|&width| width.bytes() <= left && claim.accepts(offset, width));
        if let Some(width) = fitting {
            return Some(Piece {
                claim,
                offset,
                width,
                skip: 0,
            });
        }
        widths.into_iter().rev().find_map(|width| {
            let skip = offset % width.bytes();
            let start = offset - skip;
            claim.accepts(start, width).then_some(Piece {
                claim,
                offset: start,
                width,
                skip,
            })
        })
    }

    /// The region that byte `done` of the access lies in, and its offset there.
    fn at(&self, done: u64) -> Option<(&'a Claim, u64)> {
        let address = self.address.wrapping_add(done);
        if let Some(fixed) = within(&self.table.fixed, address) {
            return Some(fixed);
        }
        if done > 0 && !self.is_aligned {
            return self.table.moved(address);
        }
        let (claim, offset) = self.moved?;
        (done < claim.len - offset).then_some((claim, offset + done))
    }
}

impl Movable {
    fn at(&self, address: u64) -> Option<(&Claim, u64)> {
        let offset = address.checked_sub(self.placement.base()?)?;
        (offset < self.claim.len).then_some((&self.claim, offset))
    }
}

/// The entry of a sorted list that an address lies in, and its offset there.
fn within(list: &[Fixed], address: u64) -> Option<(&Claim, u64)> {
    let behind = list.partition_point(|fixed| fixed.start <= address);
    let fixed = &list[behind.checked_sub(1)?];
    let offset = address - fixed.start;
    (offset < fixed.claim.len).then_some((&fixed.claim, offset))
}

/// One access to a device that serves part of a guest's access.
struct Piece<'a> {
    claim: &'a Claim,
    offset: u64,
    width: Width,
    /// How many bytes of the device's access lie before what the guest asked for.
    skip: u64,
}

impl Piece<'_> {
    /// How many of the `left` bytes of the guest's access this serves: at least one.
    fn len(&self, left: u64) -> u64 {
        (self.width.bytes() - self.skip).min(left)
    }

    fn write(&self, value: u64, left: u64, now: Nanos) {
        let len = self.len(left);
        if len == self.width.bytes() {
            let value = value & self.width.ones();
            return self.claim.write(self.offset, self.width, value, now);
        }
        if self.claim.widths.contains(Widths::MERGE) {
            let mask = (u64::MAX >> (64 - 8 * len)) << (8 * self.skip);
            let value = value << (8 * self.skip);
            self.claim.merge(self.offset, self.width, value, mask, now);
        }
    }
}

/// Accesses that nobody claimed.
#[derive(Default)]
struct Strays {
    reads: AtomicU64,
    writes: AtomicU64,
    logged: Mutex<HashSet<(Space, u64)>>,
}

/// How many addresses are logged at most: a guest can invent 2^64 of them.
const LOGGED_MAX: usize = 256;

impl Strays {
    fn read(&self, space: Space, address: u64) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.log("read from", space, address);
    }

    fn write(&self, space: Space, address: u64) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.log("write to", space, address);
    }

    fn log(&self, what: &str, space: Space, address: u64) {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.len() < LOGGED_MAX && logged.insert((space, address)) {
            log::debug!("guest's {what} {space:?} {address:#x}, where no device is");
        }
    }
}

#[cfg(test)]
#[path = "map_tests.rs"]
mod tests;
