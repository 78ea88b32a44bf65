//! What a driver can set: SET FEATURES and SET MULTIPLE MODE (ACS-3), power.

use super::code::Power;
use crate::ahci::fis::Command;

/// The settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ahci) struct Settings {
    pub(super) write_cache: bool,
    pub(super) look_ahead: bool,
    pub(super) smart: bool,
    /// Sectors in a block of READ and WRITE MULTIPLE; 0 where these are not allowed.
    pub(super) multiple: u8,
    /// The transfer mode, as SET FEATURES encodes it. It has no effect: Serial ATA has one speed.
    pub(in crate::ahci) mode: u8,
    pub(super) power: Power,
    /// Whether a software reset leaves all this alone.
    keep: bool,
}

/// The most sectors in a block of READ and WRITE MULTIPLE.
pub(super) const MULTIPLE_MAX: u8 = 16;

/// Ultra DMA mode 6.
const ULTRA_DMA_6: u8 = 0x46;

impl Default for Settings {
    fn default() -> Self {
        Self {
            write_cache: true,
            look_ahead: true,
            smart: true,
            multiple: 0,
            mode: ULTRA_DMA_6,
            power: Power::Active,
            keep: false,
        }
    }
}

impl Settings {
    /// SET FEATURES; none where there is no such feature.
    pub(in crate::ahci) fn set_feature(&mut self, command: &Command) -> Option<()> {
        match command.features as u8 {
            0x02 => self.write_cache = true,
            0x82 => self.write_cache = false,
            0x55 => self.look_ahead = false,
            0xaa => self.look_ahead = true,
            0x03 => self.mode = known_mode(command.count as u8)?,
            0x66 => self.keep = true,
            0xcc => self.keep = false,
            _ => return None,
        }
        Some(())
    }

    /// SET MULTIPLE MODE: a power of two of sectors, or zero.
    pub(super) fn set_multiple(&mut self, command: &Command) -> Option<()> {
        let sectors = command.count as u8;
        if sectors > MULTIPLE_MAX || sectors != 0 && !sectors.is_power_of_two() {
            return None;
        }
        self.multiple = sectors;
        Some(())
    }

    /// A reset, by the link or by software, which may leave settings alone (SET FEATURES, 66h).
    pub(super) fn reset(&mut self, by_link: bool) {
        let kept = *self;
        *self = Self::default();
        if kept.keep && !by_link {
            *self = Self {
                power: Power::Active,
                ..kept
            };
        }
    }
}

/// A transfer mode that the disk has: PIO 0 to 4, multiword DMA 0 to 2, Ultra DMA 0 to 6.
fn known_mode(mode: u8) -> Option<u8> {
    let known = matches!(mode, 0x00 | 0x01 | 0x08..=0x0c | 0x20..=0x22 | 0x40..=ULTRA_DMA_6);
    known.then_some(mode)
}
