//! Split virtqueues (2.7): the available ring, from which requests are taken, and the used ring, to which they return.
//!
//! The two sides have a lock each, so that workers take and return requests at the same time. An index that claims
//! more requests than the ring holds, or a descriptor that makes no sense, breaks the queue for good.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hvf_sys::ram::{OutsideRam, Ram};

use super::chain::{Chain, DESCRIPTOR};

/// Where a ring is and which form it has: what a driver has settled before the queue is enabled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) size: u16,
    pub(super) descriptors: u64,
    pub(super) available: u64,
    pub(super) used: u64,
    pub(super) indirect: bool,
    pub(super) event_index: bool,
}

/// What is wrong with a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    BadSize(u16),
    Misaligned,
    RingOutsideRam,
    TableOutsideRam,
    TooManyAvailable(u16),
    BadIndex(u16),
    Endless,
    BadIndirect,
    TooLong,
    Order,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadSize(size) => write!(f, "a ring of {size} entries"),
            Self::Misaligned => write!(f, "a misaligned ring"),
            Self::RingOutsideRam => write!(f, "a ring outside RAM"),
            Self::TableOutsideRam => write!(f, "a descriptor outside RAM"),
            Self::TooManyAvailable(n) => write!(f, "{n} requests available, more than fit"),
            Self::BadIndex(index) => write!(f, "descriptor {index}, which does not exist"),
            Self::Endless => write!(f, "a chain longer than the queue"),
            Self::BadIndirect => write!(f, "an indirect descriptor that must not be there"),
            Self::TooLong => write!(f, "a chain of 4 GiB or more"),
            Self::Order => write!(f, "a readable buffer behind a writable one"),
        }
    }
}

impl From<OutsideRam> for Broken {
    fn from(_: OutsideRam) -> Self {
        Self::RingOutsideRam
    }
}

/// `flags` of the available ring: the driver wants no interrupts.
const NO_INTERRUPT: u16 = 1;
/// `flags` of the used ring: the device wants no notifications.
const NO_NOTIFY: u16 = 1;

impl Layout {
    /// Checks size, alignment (2.7, table) and that all of it is RAM.
    pub(super) fn check(&self, ram: &Ram) -> Result<(), Broken> {
        if !self.size.is_power_of_two() || self.size > super::QUEUE_SIZE {
            return Err(Broken::BadSize(self.size));
        }
        let aligned = self.descriptors.is_multiple_of(16)
            && self.available.is_multiple_of(2)
            && self.used.is_multiple_of(4);
        if !aligned {
            return Err(Broken::Misaligned);
        }
        let size = u64::from(self.size);
        let there = ram.contains(self.descriptors, DESCRIPTOR * size)
            && ram.contains(self.available, 6 + 2 * size)
            && ram.contains(self.used, 6 + 8 * size);
        if there {
            Ok(())
        } else {
            Err(Broken::RingOutsideRam)
        }
    }

    fn available_index(&self) -> u64 {
        self.available + 2
    }

    fn available_entry(&self, position: u16) -> u64 {
        self.available + 4 + 2 * u64::from(position % self.size)
    }

    /// The used position at which the driver wants an interrupt; behind the available ring.
    fn used_event(&self) -> u64 {
        self.available + 4 + 2 * u64::from(self.size)
    }

    fn used_index(&self) -> u64 {
        self.used + 2
    }

    fn used_entry(&self, position: u16) -> u64 {
        self.used + 4 + 8 * u64::from(position % self.size)
    }

    /// The available position at which the device wants a notification; behind the used ring.
    fn available_event(&self) -> u64 {
        self.used + 4 + 8 * u64::from(self.size)
    }
}

/// A request taken from the available ring.
#[derive(Debug)]
pub struct Request {
    /// Its buffers.
    pub chain: Chain,
    /// Its first descriptor, by which the driver knows it.
    head: u16,
    /// Whether others were waiting behind it.
    pub(super) more: bool,
}

impl Request {
    /// What returns it, with so many bytes written to the start of its writable buffers.
    pub fn used(&self, written: u32) -> Used {
        Used {
            head: self.head,
            written,
        }
    }
}

/// A request that has been served, as the used ring has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    head: u16,
    written: u32,
}

/// A queue at work.
pub(super) struct Queue {
    // Configuration.
    layout: Layout,
    ram: Arc<Ram>,
    // State.
    available: Mutex<Available>,
    used: Mutex<u16>,
}

struct Available {
    next: u16,
    /// Whether the driver has been told to notify. Only a hint to save writes: it may notify at any time.
    asking: bool,
}

impl Queue {
    /// A queue whose layout has been checked.
    pub(super) fn new(layout: Layout, ram: Arc<Ram>) -> Self {
        Self {
            layout,
            ram,
            available: Mutex::new(Available {
                next: 0,
                asking: true,
            }),
            used: Mutex::new(0),
        }
    }

    /// How many requests may wait in it.
    pub(super) fn size(&self) -> u16 {
        self.layout.size
    }

    /// Takes the next request. Where there is none, the driver notifies when there is one.
    pub(super) fn take(&self) -> Result<Option<Request>, Broken> {
        let (head, more) = {
            let mut available = locked(&self.available);
            let mut waiting = self.waiting(&available)?;
            if waiting == 0 {
                self.ask(&mut available)?;
                // A request that came before the driver could see this comes without a notification.
                self.ram.fence();
                waiting = self.waiting(&available)?;
                if waiting == 0 {
                    return Ok(None);
                }
            }
            self.decline(&mut available)?;
            let entry = self.layout.available_entry(available.next);
            let head = self.ram.load_u16(entry)?;
            available.next = available.next.wrapping_add(1);
            (head, waiting > 1)
        };
        let chain = Chain::collect(&self.ram, &self.layout, head)?;
        Ok(Some(Request { head, chain, more }))
    }

    /// The last `count` requests that were taken, and not returned, wait again. Nobody else may be taking requests
    /// meanwhile.
    pub(super) fn put_back(&self, count: u16) {
        let mut available = locked(&self.available);
        available.next = available.next.wrapping_sub(count);
    }

    /// Returns requests: the driver sees all of them or none. True where it wants an interrupt for them.
    pub(super) fn give(&self, requests: &[Used]) -> Result<bool, Broken> {
        let mut used = locked(&self.used);
        let before = *used;
        for request in requests {
            let entry = self.layout.used_entry(*used);
            self.ram.store_u32(entry, u32::from(request.head))?;
            self.ram.store_u32(entry + 4, request.written)?;
            *used = used.wrapping_add(1);
        }
        self.ram.store_u16(self.layout.used_index(), *used)?;
        self.ram.fence();
        if self.layout.event_index {
            // Whether the index has stepped over the position (2.7.7.2).
            let event = self.ram.load_u16(self.layout.used_event())?;
            return Ok(event.wrapping_sub(before) < used.wrapping_sub(before));
        }
        Ok(self.ram.load_u16(self.layout.available)? & NO_INTERRUPT == 0)
    }

    fn waiting(&self, available: &Available) -> Result<u16, Broken> {
        let index = self.ram.load_u16(self.layout.available_index())?;
        let waiting = index.wrapping_sub(available.next);
        if waiting > self.layout.size {
            return Err(Broken::TooManyAvailable(waiting));
        }
        Ok(waiting)
    }

    fn ask(&self, available: &mut Available) -> Result<(), Broken> {
        if self.layout.event_index {
            let event = self.layout.available_event();
            self.ram.store_u16(event, available.next)?;
        } else if !available.asking {
            self.ram.store_u16(self.layout.used, 0)?;
        }
        available.asking = true;
        Ok(())
    }

    /// With the event index nothing needs to be done: the position asked for has passed.
    fn decline(&self, available: &mut Available) -> Result<(), Broken> {
        if available.asking && !self.layout.event_index {
            self.ram.store_u16(self.layout.used, NO_NOTIFY)?;
        }
        available.asking = false;
        Ok(())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
