//! What is plugged in, read from the functions' own configuration spaces as a guest would read it.

use super::root::Root;
use super::{BarKind, Function, Window, capability, reg};
use crate::bus::Width;

/// A function on bus 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The device number; the function's is 0.
    pub device: u8,
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub id: u16,
    /// Class, subclass and programming interface.
    pub class: u32,
    /// The BARs that decode something.
    pub bars: Vec<Decoded>,
    /// 0 where the function has no INTx#, 1 for INTA# to 4 for INTD#.
    pub pin: u8,
    /// How many vectors MSI has; 0 without MSI.
    pub msi: u16,
    /// How many vectors MSI-X has; 0 without MSI-X.
    pub msix: u16,
}

/// A BAR and what it decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Which BAR, 0 to 5.
    pub index: u8,
    /// Ports, memory below 4 GiB or memory anywhere.
    pub kind: BarKind,
    /// Where it is now.
    pub window: Window,
}

impl Root {
    /// All functions, by device number.
    pub fn survey(&self) -> Vec<Installed> {
        let devices = (0..32).filter_map(|device| Some((device, self.function(device)?)));
        devices
            .map(|(device, function)| installed(device, &mut *function.lock()))
            .collect()
    }
}

fn installed(device: u8, function: &mut dyn Function) -> Installed {
    let mut word = |offset| function.config_read(offset, Width::Word) as u16;
    let (vendor, id) = (word(reg::VENDOR), word(reg::DEVICE));
    let pin = (word(reg::INTERRUPT_LINE) >> 8) as u8;
    let class = function.config_read(reg::REVISION, Width::Dword) >> 8;
    Installed {
        device,
        vendor,
        id,
        class,
        bars: decoded(function),
        pin,
        msi: control(function, capability::MSI).map_or(0, |control| 1 << (control >> 1 & 7)),
        msix: control(function, capability::MSIX).map_or(0, |control| (control & 0x7ff) + 1),
    }
}

fn decoded(function: &mut dyn Function) -> Vec<Decoded> {
    let endpoint = function.endpoint();
    let windows = endpoint.decoding().windows;
    let bars = endpoint.bars().iter().zip(windows).zip(0..);
    bars.filter_map(|((bar, window), index)| {
        Some(Decoded {
            index,
            kind: (*bar)?.kind,
            window: window?,
        })
    })
    .collect()
}

/// The control word of a capability. The list has at most as many entries as there is room for.
fn control(function: &mut dyn Function, id: u8) -> Option<u16> {
    const ENTRIES_MAX: usize = 48;
    let mut at = function.config_read(reg::CAPABILITIES, Width::Byte) as u8;
    for _ in 0..ENTRIES_MAX {
        if at == 0 {
            return None;
        }
        let header = function.config_read(at, Width::Dword);
        if header as u8 == id {
            return Some((header >> 16) as u16);
        }
        at = (header >> 8) as u8;
    }
    None
}
