//! What is at the end of a port's cable, as the port sees it: a disk or a CD drive.

use super::command::{Data, HostBus};
use super::fis::{Command, Pio, Registers};
use super::regs::status;

/// How a command ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reply {
    /// The device's registers.
    pub(super) registers: Registers,
    /// The last block, where data went by PIO.
    pub(super) pio: Option<Pio>,
    /// Whether that block is the end: after it comes no register FIS, since the setup FIS has told the registers.
    pub(super) ends_with_pio: bool,
    /// Data that was set up by a DMA setup FIS: whether it went to the host.
    pub(super) set_up: Option<bool>,
}

impl Reply {
    /// A command that ends with these registers, its data, if any, having gone by DMA.
    pub(super) fn new(registers: Registers) -> Self {
        Self {
            registers,
            ..Self::default()
        }
    }

    /// An error, with the registers of the command that had it.
    pub(super) fn error(command: &Command, error: u8) -> Self {
        Self::new(Registers {
            status: status::IDLE | status::ERR,
            error,
            ..Registers::of(command)
        })
    }

    /// Whether a register FIS ends it.
    pub(super) fn has_register_fis(&self) -> bool {
        self.registers.failed() || !self.ends_with_pio
    }
}

impl Registers {
    /// A command that went well: its own registers, with nothing left to count.
    pub(super) fn of(command: &Command) -> Self {
        Self {
            status: status::IDLE,
            error: 0,
            lba: command.lba,
            device: command.device,
            count: 0,
        }
    }
}

/// A device. Called by several workers at once for queued commands, by one for others.
pub(super) trait Unit: Send + Sync {
    /// Its registers after a reset.
    fn signature(&self) -> Registers;

    /// The tag of a queued command; none where the command is not queued.
    fn tag(&self, command: &Command) -> Option<u8>;

    /// Does what `command` says. `packet` is the command that PACKET carries.
    fn perform(
        &self,
        command: &Command,
        packet: Option<&[u8; 16]>,
        data: &mut Data<'_>,
    ) -> Result<Reply, HostBus>;

    /// `command` must not come while queued commands are under way, which all end unfinished.
    fn break_queue(&self, command: &Command) -> Reply;

    /// A reset: by the link, which also forgets settings, or by software.
    fn reset(&self, by_link: bool);
}
