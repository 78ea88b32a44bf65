//! An ATAPI CD drive (ACS-3, packet feature set; MMC-6): a tray with a disc in it or none. A disc is an image of
//! 2048-byte blocks; what follows the last whole block is left out. A disc of more than 80 minutes is a DVD.
//!
//! Ejecting opens the tray, and closing it brings the same disc back. A reset leaves the tray where it is and
//! unlocks it.
//!
//! Not modelled: writing, audio, raw sectors and subchannels (illegal requests), changers, asynchronous notification.

mod packet;
mod pages;
mod sense;

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::ata::{Settings, error};
use super::command::{Data, HostBus};
use super::fis::{Command, Pio, Registers};
use super::regs::status;
use super::unit::{Reply, Unit};
use crate::backend::disk::{Disk, SECTOR};
use packet::Answer;
use sense::Sense;

/// Bytes of a block.
const BLOCK: u64 = 2048;
/// Bytes of a packet command.
const PACKET: u16 = 12;

/// The count register of packet commands, called interrupt reason: what the data at hand is, and which way it goes.
mod reason {
    pub(super) const COMMAND: u8 = 1;
    pub(super) const TO_HOST: u8 = 2;
}

/// A drive.
pub(super) struct Cd {
    // Configuration.
    serial: String,
    blocks: u32,
    // Wires.
    disc: Option<Disk>,
    // State.
    state: Mutex<State>,
}

struct State {
    settings: Settings,
    /// Why the last command failed.
    sense: Sense,
    /// What the next command is told first.
    attention: Option<Sense>,
    /// What has happened to the medium.
    event: u8,
    open: bool,
    locked: bool,
}

impl State {
    fn new() -> Self {
        Self {
            settings: Settings::default(),
            sense: Sense::default(),
            attention: Some(Sense::RESET),
            event: 0,
            open: false,
            locked: false,
        }
    }
}

impl Cd {
    /// A drive with this serial number, and with a disc or without.
    pub(super) fn new(disc: Option<Disk>, serial: &str) -> Self {
        let sectors = disc.as_ref().map_or(0, Disk::sectors);
        let blocks = u32::try_from(sectors * SECTOR / BLOCK);
        Self {
            serial: serial.to_owned(),
            blocks: blocks.unwrap_or(u32::MAX),
            disc,
            state: Mutex::new(State::new()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// PACKET (ACS-3): by DMA or by PIO, as the features say.
    fn run(
        &self,
        command: &Command,
        packet: &[u8; 16],
        data: &mut Data<'_>,
    ) -> Result<Reply, HostBus> {
        const DMA: u16 = 1;
        let limit = (command.lba >> 8) as u16;
        let by_dma = command.features & DMA != 0;
        let answer = self.packet(packet);
        let len = answer.as_ref().map_or(0, Answer::len);
        if len > 0 && !by_dma && limit < 2 {
            return Ok(Reply::error(command, error::ABRT));
        }
        let told = match answer {
            Ok(answer) => self.give(&answer, data)?,
            Err(sense) => Err(sense),
        };
        if packet[0] != packet::REQUEST_SENSE {
            self.state().sense = told.err().unwrap_or_default();
        }
        let block = (told.is_ok() && len > 0 && !by_dma).then(|| last_block(len, limit));
        Ok(ended(command, told, block))
    }

    /// Gives what a command answers to the host.
    fn give(&self, answer: &Answer, data: &mut Data<'_>) -> Result<Result<(), Sense>, HostBus> {
        match (answer, &self.disc) {
            (Answer::Bytes(bytes), _) => data.send(bytes).map(Ok),
            (Answer::Blocks(..), None) => Ok(Err(Sense::NO_MEDIUM)),
            (Answer::Blocks(first, count), Some(disc)) => {
                let pieces = data.take(u64::from(*count) * BLOCK)?;
                let read = disc.read(u64::from(*first) * BLOCK, data.ram(), &pieces);
                Ok(read.map_err(|_| Sense::UNREADABLE))
            }
        }
    }

    fn set_feature(&self, command: &Command) -> Reply {
        const TRANSFER_MODE: u8 = 3;
        let known = command.features as u8 == TRANSFER_MODE;
        if known && self.state().settings.set_feature(command).is_some() {
            return Reply::new(Registers::of(command));
        }
        Reply::error(command, error::ABRT)
    }

    fn identify(&self, command: &Command, data: &mut Data<'_>) -> Result<Reply, HostBus> {
        let mode = self.state().settings.mode;
        data.send(&pages::identify(&self.serial, mode))?;
        Ok(Reply {
            pio: Some(Pio {
                to_host: true,
                interrupt: true,
                count: SECTOR as u16,
                reason: None,
            }),
            ends_with_pio: true,
            ..Reply::new(Registers::of(command))
        })
    }

    /// A command that only disks have; the registers tell what this is instead (ACS-3, IDENTIFY DEVICE).
    fn not_a_disk(&self) -> Reply {
        Reply::new(Registers {
            status: status::IDLE | status::ERR,
            error: error::ABRT,
            ..self.signature()
        })
    }

    /// CHECK POWER MODE: always active.
    fn check_power(command: &Command) -> Reply {
        Reply::new(Registers {
            count: 0xff,
            ..Registers::of(command)
        })
    }
}

impl Answer {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Blocks(_, count) => u64::from(*count) * BLOCK,
        }
    }
}

/// The bytes of the last block of a PIO transfer, of which no block may have more than `limit`.
fn last_block(len: u64, limit: u16) -> u16 {
    let block = u64::from(limit.min(0xfffe) & !1);
    ((len - 1) % block + 1) as u16
}

/// The end of a packet command. Before it comes the last PIO setup: for its data, or for the packet itself.
fn ended(command: &Command, told: Result<(), Sense>, block: Option<u16>) -> Reply {
    let (failed, error) = match told {
        Ok(()) => (0, 0),
        Err(sense) => (status::ERR, sense.key << 4),
    };
    let registers = Registers {
        status: status::IDLE | failed,
        error,
        count: u16::from(reason::COMMAND | reason::TO_HOST),
        ..Registers::of(command)
    };
    Reply {
        pio: Some(Pio {
            to_host: block.is_some(),
            interrupt: block.is_some(),
            count: block.unwrap_or(PACKET),
            reason: Some(block.map_or(reason::COMMAND, |_| reason::TO_HOST)),
        }),
        ..Reply::new(registers)
    }
}

impl Unit for Cd {
    fn signature(&self) -> Registers {
        Registers {
            status: 0,
            error: 1,
            lba: 0xeb_1401,
            device: 0,
            count: 1,
        }
    }

    fn tag(&self, _command: &Command) -> Option<u8> {
        None
    }

    fn perform(
        &self,
        command: &Command,
        packet: Option<&[u8; 16]>,
        data: &mut Data<'_>,
    ) -> Result<Reply, HostBus> {
        Ok(match (command.code, packet) {
            (0x08, _) => {
                self.reset(false);
                Reply::new(self.signature())
            }
            (0x20 | 0xec, _) => self.not_a_disk(),
            (0x90, _) => Reply::new(self.signature()),
            (0xa0, Some(packet)) => self.run(command, packet, data)?,
            (0xa1, _) => self.identify(command, data)?,
            // Idle and standby, which make no difference.
            (0xe0..=0xe3, _) => Reply::new(Registers::of(command)),
            (0xe5, _) => Self::check_power(command),
            (0xef, _) => self.set_feature(command),
            _ => Reply::error(command, error::ABRT),
        })
    }

    fn break_queue(&self, command: &Command) -> Reply {
        Reply::error(command, error::ABRT)
    }

    fn reset(&self, _by_link: bool) {
        let mut state = self.state();
        *state = State {
            open: state.open,
            ..State::new()
        };
    }
}
