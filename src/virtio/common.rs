//! The common configuration structure (4.1.4.3): features, status and queues.
//!
//! Features are settled when FEATURES_OK is accepted, a queue when it is enabled, all of them with DRIVER_OK; later
//! writes are ignored. Status bits are only ever added, up to a reset. Fields may be read with any width, but written
//! only with their own (64-bit ones by halves too), as 4.1.3.1 asks of drivers.

use std::sync::Arc;

use hvf_sys::ram::Ram;

use super::ring::{Broken, Layout};
use super::signal::{NO_VECTOR, Signal};
use super::{QUEUE_SIZE, Status, feature};
use crate::bus::Width;

/// Bytes of the structure.
pub(super) const LEN: u64 = 60;

/// Offsets in the structure.
mod field {
    pub(super) const DEVICE_FEATURE_SELECT: u64 = 0;
    pub(super) const DEVICE_FEATURE: u64 = 4;
    pub(super) const DRIVER_FEATURE_SELECT: u64 = 8;
    pub(super) const DRIVER_FEATURE: u64 = 12;
    pub(super) const CONFIG_VECTOR: u64 = 16;
    pub(super) const QUEUES: u64 = 18;
    pub(super) const STATUS: u64 = 20;
    pub(super) const GENERATION: u64 = 21;
    pub(super) const QUEUE_SELECT: u64 = 22;
    pub(super) const QUEUE_SIZE: u64 = 24;
    pub(super) const QUEUE_VECTOR: u64 = 26;
    pub(super) const QUEUE_ENABLE: u64 = 28;
    pub(super) const QUEUE_NOTIFY_OFF: u64 = 30;
    pub(super) const QUEUE_DESC: u64 = 32;
    pub(super) const QUEUE_DRIVER: u64 = 40;
    pub(super) const QUEUE_DEVICE: u64 = 48;
    /// Behind the addresses: `queue_notify_data` and `queue_reset`, for features that are not offered.
    pub(super) const END: u64 = 56;
}

/// What a write has asked of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing.
    None,
    /// Reset it.
    Reset,
    /// It goes live.
    Go,
}

/// One queue as the driver describes it.
#[derive(Clone, Copy)]
struct QueueRegisters {
    size: u16,
    enabled: bool,
    descriptors: u64,
    available: u64,
    used: u64,
}

impl QueueRegisters {
    const RESET: Self = Self {
        size: QUEUE_SIZE,
        enabled: false,
        descriptors: 0,
        available: 0,
        used: 0,
    };
}

/// The registers.
pub(super) struct Common {
    // Configuration.
    offered: u64,
    // Wires.
    ram: Arc<Ram>,
    signal: Arc<Signal>,
    // State.
    device_feature_select: u32,
    driver_feature_select: u32,
    driver_features: u64,
    status: Status,
    queue_select: u16,
    queues: Vec<QueueRegisters>,
}

impl Common {
    pub(super) fn new(offered: u64, queues: u16, ram: Arc<Ram>, signal: Arc<Signal>) -> Self {
        Self {
            offered,
            ram,
            signal,
            device_feature_select: 0,
            driver_feature_select: 0,
            driver_features: 0,
            status: Status::empty(),
            queue_select: 0,
            queues: vec![QueueRegisters::RESET; usize::from(queues)],
        }
    }

    /// The features that both sides agreed on.
    pub(super) fn features(&self) -> u64 {
        self.driver_features
    }

    /// The queues that are enabled.
    pub(super) fn layouts(&self) -> Vec<Option<Layout>> {
        let layout = |queue: &QueueRegisters| queue.enabled.then(|| self.layout(queue));
        self.queues.iter().map(layout).collect()
    }

    /// Reads up to eight bytes; all ones behind the end.
    pub(super) fn read(&self, offset: u64, width: Width) -> u64 {
        let mut bytes = [0xff; 8];
        let image = self.image();
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(image.len());
        let there = &image[start..image.len().min(start + width as usize)];
        bytes[..there.len()].copy_from_slice(there);
        u64::from_le_bytes(bytes) & width.ones()
    }

    /// Writes a register.
    pub(super) fn write(&mut self, offset: u64, width: Width, value: u64) -> Effect {
        match (offset, width) {
            (field::DEVICE_FEATURE_SELECT, Width::Dword) => {
                self.device_feature_select = value as u32;
            }
            (field::DRIVER_FEATURE_SELECT, Width::Dword) => {
                self.driver_feature_select = value as u32;
            }
            (field::DRIVER_FEATURE, Width::Dword) => self.set_driver_feature(value),
            (field::CONFIG_VECTOR, Width::Word) => self.signal.set_config_vector(value as u16),
            (field::STATUS, Width::Byte) => return self.set_status(value as u8),
            (field::QUEUE_SELECT, Width::Word) => self.queue_select = value as u16,
            (field::QUEUE_VECTOR, Width::Word) => {
                self.signal
                    .set_queue_vector(self.queue_select, value as u16);
            }
            (field::QUEUE_SIZE, Width::Word) => self.set_queue(|queue| queue.size = value as u16),
            (field::QUEUE_ENABLE, Width::Word) if value == 1 => self.enable_queue(),
            (field::QUEUE_DESC..field::END, Width::Dword | Width::Qword) => {
                self.set_address(offset, width, value);
            }
            _ => {}
        }
        Effect::None
    }

    /// Back to power-on.
    pub(super) fn reset(&mut self) {
        let Self {
            offered: _,
            ram: _,
            signal: _,
            device_feature_select,
            driver_feature_select,
            driver_features,
            status,
            queue_select,
            queues,
        } = self;
        *device_feature_select = 0;
        *driver_feature_select = 0;
        *driver_features = 0;
        *status = Status::empty();
        *queue_select = 0;
        queues.fill(QueueRegisters::RESET);
    }

    /// The whole structure as the driver reads it.
    fn image(&self) -> [u8; LEN as usize] {
        let mut image = [0; LEN as usize];
        let mut put = |at: u64, bytes: &[u8]| {
            image[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        };
        let device_feature = half(self.offered, self.device_feature_select);
        let driver_feature = half(self.driver_features, self.driver_feature_select);
        put(
            field::DEVICE_FEATURE_SELECT,
            &self.device_feature_select.to_le_bytes(),
        );
        put(field::DEVICE_FEATURE, &device_feature.to_le_bytes());
        put(
            field::DRIVER_FEATURE_SELECT,
            &self.driver_feature_select.to_le_bytes(),
        );
        put(field::DRIVER_FEATURE, &driver_feature.to_le_bytes());
        put(
            field::CONFIG_VECTOR,
            &self.signal.config_vector().to_le_bytes(),
        );
        put(field::QUEUES, &(self.queues.len() as u16).to_le_bytes());
        put(field::STATUS, &[self.status().bits()]);
        put(field::GENERATION, &[self.signal.generation()]);
        put(field::QUEUE_SELECT, &self.queue_select.to_le_bytes());
        if let Some(queue) = self.queues.get(usize::from(self.queue_select)) {
            let vector = self.signal.queue_vector(self.queue_select);
            put(field::QUEUE_SIZE, &queue.size.to_le_bytes());
            put(field::QUEUE_VECTOR, &vector.to_le_bytes());
            put(field::QUEUE_ENABLE, &u16::from(queue.enabled).to_le_bytes());
            put(field::QUEUE_NOTIFY_OFF, &self.queue_select.to_le_bytes());
            put(field::QUEUE_DESC, &queue.descriptors.to_le_bytes());
            put(field::QUEUE_DRIVER, &queue.available.to_le_bytes());
            put(field::QUEUE_DEVICE, &queue.used.to_le_bytes());
        } else {
            put(field::QUEUE_VECTOR, &NO_VECTOR.to_le_bytes());
        }
        image
    }

    fn status(&self) -> Status {
        let mut status = self.status;
        status.set(Status::NEEDS_RESET, self.signal.needs_reset());
        status
    }

    /// Adds status bits. FEATURES_OK stays off where the driver's features are not acceptable, and DRIVER_OK before
    /// it (2.1.1, 3.1.1).
    fn set_status(&mut self, value: u8) -> Effect {
        if value == 0 {
            return Effect::Reset;
        }
        let mut new = Status::from_bits_truncate(value) - Status::NEEDS_RESET - self.status;
        let acceptable = self.driver_features & !self.offered == 0
            && self.driver_features & feature::VERSION_1 != 0;
        if new.contains(Status::FEATURES_OK) && !acceptable {
            new -= Status::FEATURES_OK;
        }
        if new.contains(Status::DRIVER_OK) && !(self.status | new).contains(Status::FEATURES_OK) {
            new -= Status::DRIVER_OK;
        }
        self.status |= new;
        if new.contains(Status::DRIVER_OK) {
            Effect::Go
        } else {
            Effect::None
        }
    }

    fn set_driver_feature(&mut self, value: u64) {
        if self.status.contains(Status::FEATURES_OK) {
            return;
        }
        match self.driver_feature_select {
            0 => self.driver_features = self.driver_features & !0xffff_ffff | value,
            1 => self.driver_features = self.driver_features & 0xffff_ffff | value << 32,
            // Bits from 64 on: not offered, so that wanting one is refused like wanting any other.
            _ if value != 0 => self.driver_features = u64::MAX,
            _ => {}
        }
    }

    /// Changes the selected queue, as long as it may be changed.
    fn set_queue(&mut self, change: impl FnOnce(&mut QueueRegisters)) {
        let settled =
            self.status.contains(Status::FEATURES_OK) && !self.status.contains(Status::DRIVER_OK);
        match self.queues.get_mut(usize::from(self.queue_select)) {
            Some(queue) if settled && !queue.enabled => change(queue),
            _ => {}
        }
    }

    fn set_address(&mut self, offset: u64, width: Width, value: u64) {
        let (start, high) = (offset & !7, offset % 8 == 4);
        let merge = |old: &mut u64| match (width, high) {
            (Width::Qword, false) => *old = value,
            (Width::Dword, false) => *old = *old & !0xffff_ffff | value,
            (Width::Dword, true) => *old = *old & 0xffff_ffff | value << 32,
            _ => {}
        };
        self.set_queue(|queue| match start {
            field::QUEUE_DESC => merge(&mut queue.descriptors),
            field::QUEUE_DRIVER => merge(&mut queue.available),
            _ => merge(&mut queue.used),
        });
    }

    /// Enables the selected queue, unless its ring makes no sense.
    fn enable_queue(&mut self) {
        let mut outcome = Ok(());
        if let Some(&queue) = self.queues.get(usize::from(self.queue_select)) {
            outcome = self.layout(&queue).check(&self.ram);
        }
        match outcome {
            Ok(()) => self.set_queue(|queue| queue.enabled = true),
            Err(what) => self.refuse(what),
        }
    }

    fn refuse(&self, what: Broken) {
        self.signal.broken(what);
    }

    fn layout(&self, queue: &QueueRegisters) -> Layout {
        Layout {
            size: queue.size,
            descriptors: queue.descriptors,
            available: queue.available,
            used: queue.used,
            indirect: self.driver_features & feature::INDIRECT_DESC != 0,
            event_index: self.driver_features & feature::EVENT_IDX != 0,
        }
    }
}

/// The 32 feature bits that a selector means.
fn half(features: u64, select: u32) -> u32 {
    match select {
        0 => features as u32,
        1 => (features >> 32) as u32,
        _ => 0,
    }
}
