//! What can be attached to a port.

use std::sync::Arc;

use super::ata::Ata;
use super::unit::Unit;
use crate::backend::disk::Disk;

/// A drive.
pub enum Drive {
    /// A disk, with its serial number (20 bytes of it).
    Disk(Disk, String),
}

impl Drive {
    pub(super) fn into_unit(self) -> Arc<dyn Unit> {
        match self {
            Self::Disk(disk, serial) => Arc::new(Ata::new(disk, &serial)),
        }
    }
}
