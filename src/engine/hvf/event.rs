//! What is delivered to the guest at the next entry, and the windows that are asked for meanwhile.
//!
//! An event whose delivery an exit has interrupted comes first, as the processor tells it (SDM volume 3, 28.2.4); then an
//! NMI, as soon as none is blocked; then the interrupt that the run loop injects, which it does only where that can be taken.

use super::hardware::{Hardware, Result};
use crate::cpu::emulate::{Event, Source};
use crate::x86::vector;
use crate::x86::vmx::Field;
use crate::x86::vmx::control::{interruptibility, primary};
use crate::x86::vmx::event::{ERROR_CODE, KIND, NMI_UNBLOCKED, VALID, VECTOR, kind};

/// An event in the VMCS's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Raw {
    pub info: u32,
    pub error: u32,
    pub len: u32,
}

impl Raw {
    /// A device's interrupt.
    pub(super) fn interrupt(vector: u8) -> Self {
        Self::bare(kind::EXTERNAL, vector)
    }

    fn bare(kind: u32, vector: u8) -> Self {
        Self {
            info: VALID | kind | u32::from(vector),
            error: 0,
            len: 0,
        }
    }

    fn is_nmi(self) -> bool {
        self.info & KIND == kind::NMI
    }

    /// The event as the software CPU delivers it.
    pub(super) fn for_software(self) -> (Event, bool) {
        let source = match self.info & KIND {
            kind::EXTERNAL | kind::NMI => Source::Hardware,
            kind::SOFTWARE_INTERRUPT | kind::SOFTWARE_EXCEPTION => Source::Software,
            _ => Source::Exception,
        };
        let event = Event {
            vector: (self.info & VECTOR) as u8,
            source,
            error: (self.info & ERROR_CODE != 0).then_some(self.error),
            len: self.len.into(),
        };
        (event, self.is_nmi())
    }
}

/// What waits to be delivered.
#[derive(Default)]
pub(super) struct Events {
    /// What the next entry delivers.
    pub next: Option<Raw>,
    /// An NMI that waits behind it or until it is not blocked.
    pub nmi: bool,
    /// The run loop wants to know when the guest can be interrupted.
    pub window: bool,
    /// The primary controls, as they were last written; not known at first.
    controls: Option<u32>,
}

impl Events {
    /// Forgets what waits.
    pub(super) fn reset(&mut self) {
        self.next = None;
        self.nmi = false;
        self.window = false;
    }

    /// Prepares an entry.
    pub(super) fn enter(&mut self, hardware: &mut Hardware) -> Result<()> {
        if self.nmi && self.next.is_none() && can_take_nmi(hardware)? {
            self.nmi = false;
            self.next = Some(Raw::bare(kind::NMI, vector::NMI));
        }
        let old = match self.controls {
            Some(controls) => controls,
            None => hardware.read32(Field::PRIMARY_CONTROLS)?,
        };
        let bit = |on: bool, bit: u32| if on { bit } else { 0 };
        let new = old & !(primary::NMI_WINDOW | primary::INTERRUPT_WINDOW)
            | bit(self.nmi, primary::NMI_WINDOW)
            | bit(self.window, primary::INTERRUPT_WINDOW);
        if new != old {
            hardware.write(Field::PRIMARY_CONTROLS, new.into())?;
        }
        self.controls = Some(new);
        let Some(event) = self.next else {
            return Ok(());
        };
        if event.is_nmi() {
            unblock_nmi(hardware)?;
        }
        hardware.write(Field::ENTRY_EXCEPTION_ERROR, event.error.into())?;
        hardware.write(Field::ENTRY_INSTRUCTION_LENGTH, event.len.into())?;
        hardware.write(Field::ENTRY_INTERRUPTION_INFO, event.info.into())
    }

    /// Takes an exit in: what was to be delivered has been, unless the exit says otherwise. An exit always clears the valid
    /// bit (SDM volume 3, 28.2); where it is still set the guest was not entered.
    pub(super) fn exited(&mut self, hardware: &Hardware) -> Result<()> {
        let Some(entered) = self.next else {
            self.next = interrupted(hardware)?;
            return Ok(());
        };
        if hardware.read32(Field::ENTRY_INTERRUPTION_INFO)? & VALID == 0 {
            self.next = interrupted(hardware)?;
        } else {
            self.next = Some(entered);
        }
        Ok(())
    }
}

/// The event whose delivery the exit has interrupted.
fn interrupted(hardware: &Hardware) -> Result<Option<Raw>> {
    let info = hardware.read32(Field::IDT_VECTORING_INFO)?;
    if info & VALID == 0 {
        return Ok(None);
    }
    let error = match info & ERROR_CODE {
        0 => 0,
        _ => hardware.read32(Field::IDT_VECTORING_ERROR)?,
    };
    let len = match info & KIND {
        kind::SOFTWARE_INTERRUPT | kind::PRIVILEGED_SOFTWARE | kind::SOFTWARE_EXCEPTION => {
            hardware.read32(Field::EXIT_INSTRUCTION_LENGTH)?
        }
        _ => 0,
    };
    Ok(Some(Raw {
        info: info & !NMI_UNBLOCKED,
        error,
        len,
    }))
}

fn can_take_nmi(hardware: &Hardware) -> Result<bool> {
    let blocking = interruptibility::NMI | interruptibility::STI | interruptibility::MOV_SS;
    Ok(hardware.read32(Field::GUEST_INTERRUPTIBILITY)? & blocking == 0)
}

/// The NMI that is delivered blocks further ones by itself; before, nothing may (SDM volume 3, 27.3.1.5).
fn unblock_nmi(hardware: &mut Hardware) -> Result<()> {
    let blocking = hardware.read32(Field::GUEST_INTERRUPTIBILITY)?;
    if blocking & interruptibility::NMI == 0 {
        return Ok(());
    }
    let without = blocking & !interruptibility::NMI;
    hardware.write(Field::GUEST_INTERRUPTIBILITY, without.into())
}

/// Blocks NMIs: the IRET that had unblocked them did not come to its end.
pub(super) fn block_nmi(hardware: &mut Hardware) -> Result<()> {
    let blocking = hardware.read32(Field::GUEST_INTERRUPTIBILITY)?;
    let with = blocking | interruptibility::NMI;
    hardware.write(Field::GUEST_INTERRUPTIBILITY, with.into())
}
