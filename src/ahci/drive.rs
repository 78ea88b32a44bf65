//! What can be attached to a port.

use std::sync::Arc;

use super::ata::Ata;
use super::cd::Cd;
use super::unit::Unit;
use crate::backend::disk::Disk;

/// A drive.
pub enum Drive {
    /// A disk, with its serial number (20 bytes of it).
    Disk(Disk, String),
    /// A CD drive, with its disc, if there is one in it, and its serial number.
    Cd(Option<Disk>, String),
}

impl Drive {
    pub(super) fn into_unit(self) -> Arc<dyn Unit> {
        match self {
            Self::Disk(disk, serial) => Arc::new(Ata::new(disk, &serial)),
            Self::Cd(disc, serial) => Arc::new(Cd::new(disc, &serial)),
        }
    }
}
