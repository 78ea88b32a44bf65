//! A device's place in the machine: its lock, and the deadline that it publishes.
//!
//! Whoever takes the lock (the map, PCI configuration, the host side of a device) gives it back through the same
//! guard, so that a deadline can never be forgotten.
//!
//! Lock rank: slots come first, then the chipset hub. Nothing ever holds two slots.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::timers::idle_cell;
use super::{Device, Timers};

/// A device behind its lock. `Arc<Slot<T>>` coerces to `Arc<Slot<dyn Device>>`.
pub struct Slot<T: ?Sized> {
    timers: Arc<Timers>,
    cell: Arc<AtomicU64>,
    device: Mutex<T>,
}

impl<T: Device + 'static> Slot<T> {
    /// Puts `device` in a slot whose deadlines go to `timers`.
    pub fn new(device: T, timers: &Arc<Timers>) -> Arc<Self> {
        let slot = Arc::new(Self {
            timers: timers.clone(),
            cell: idle_cell(),
            device: Mutex::new(device),
        });
        let weak = Arc::downgrade(&slot);
        timers.register(slot.cell.clone(), weak);
        drop(slot.lock());
        slot
    }
}

impl<T: Device + ?Sized> Slot<T> {
    /// Takes the device. Its deadline is published when the guard goes.
    pub fn lock(&self) -> SlotGuard<'_, T> {
        SlotGuard {
            slot: self,
            device: self.device.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }
}

/// A device while its slot is taken.
pub struct SlotGuard<'a, T: Device + ?Sized> {
    slot: &'a Slot<T>,
    device: MutexGuard<'a, T>,
}

impl<T: Device + ?Sized> Deref for SlotGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.device
    }
}

impl<T: Device + ?Sized> DerefMut for SlotGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.device
    }
}

impl<T: Device + ?Sized> Drop for SlotGuard<'_, T> {
    fn drop(&mut self) {
        // Still under the lock, so that the last deadline published is that of the last state.
        self.slot
            .timers
            .publish(&self.slot.cell, self.device.deadline());
    }
}
