//! An ATA disk (ACS-3, T13/2161-D, whose commands are cited by name): LBA48, NCQ with 32 tags, TRIM, FUA, a
//! write cache, logs. It calls itself an SSD with 512-byte sectors, eight of them in a block.
//!
//! A trimmed range reads as zeros from then on, since trimming is writing zeros without taking up space. With the
//! write cache off, every write is flushed.
//!
//! Not modelled: CHS addresses, security, host protected area (READ NATIVE MAX answers, SET MAX does not), advanced
//! power management, standby timers, streaming, microcode, SMART but for its status. All of them abort.

mod code;
pub(super) mod identify;
mod log_pages;
mod settings;

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hvf_sys::file::{Piece, total};

use super::command::{Data, HostBus};
use super::fis::{Command, Pio, Registers};
use super::regs::status;
use super::unit::{Reply, Unit};
use crate::backend::disk::{Disk, SECTOR};
pub(super) use code::error;
use code::{DEVICE_FUA, DEVICE_LBA, Operation, Power, Protocol, Reach};
pub(super) use settings::Settings;

/// A disk.
pub(super) struct Ata {
    // Configuration.
    serial: String,
    // Wires.
    disk: Disk,
    // State.
    settings: Mutex<Settings>,
    queue_error: Mutex<Option<QueueError>>,
}

/// What log page 10h tells: the first error among queued commands. It stops the disk until it has been read.
#[derive(Clone, Debug)]
struct QueueError {
    /// The tag; none where the command was not queued.
    tag: Option<u8>,
    registers: Registers,
}

/// Why a command fails.
enum Failure {
    /// The device reports an error.
    Error(u8),
    /// The HBA cannot reach the guest's memory.
    HostBus,
}

impl From<HostBus> for Failure {
    fn from(_: HostBus) -> Self {
        Self::HostBus
    }
}

const ABORTED: Failure = Failure::Error(error::ABRT);

/// A range of the disk in bytes.
struct Range {
    offset: u64,
    len: u64,
}

impl Ata {
    /// A disk with this serial number.
    pub(super) fn new(disk: Disk, serial: &str) -> Self {
        Self {
            serial: serial.to_owned(),
            disk,
            settings: Mutex::default(),
            queue_error: Mutex::default(),
        }
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue_error(&self) -> MutexGuard<'_, Option<QueueError>> {
        let error = self.queue_error.lock();
        error.unwrap_or_else(PoisonError::into_inner)
    }

    fn execute(&self, command: &Command, data: &mut Data<'_>) -> Result<Reply, Failure> {
        let operation = Operation::decode(command.code).ok_or(ABORTED)?;
        self.check_state(operation, command)?;
        match operation {
            Operation::Read(reach, protocol) => self.read(command, reach, protocol, data),
            Operation::Write(reach, protocol, durable) => {
                self.write(command, reach, protocol, durable, data)
            }
            Operation::Verify(reach) => self.verify(command, reach),
            Operation::SendQueued => self.send_queued(command, data),
            Operation::DataSetManagement => {
                self.trim(command, command.count, command.features, data)
            }
            Operation::ReadNativeMax(reach) => Ok(self.native_max(command, reach)),
            Operation::ReadLog(protocol) => self.read_log(command, protocol, data),
            Operation::Flush => self.flush(command),
            Operation::Diagnose => Ok(Reply::new(self.signature())),
            Operation::Smart => self.smart(command),
            Operation::SetMultiple => self.done(command, self.settings().set_multiple(command)),
            Operation::SetFeatures => self.done(command, self.settings().set_feature(command)),
            Operation::Identify => self.identify(command, data),
            Operation::Power(mode) => {
                self.settings().power = mode;
                self.done(command, Some(()))
            }
            Operation::CheckPower => Ok(self.check_power(command)),
        }
    }

    /// After an error among queued commands only its log is served (Serial ATA 3.1, NCQ error recovery); asleep, nothing is.
    fn check_state(&self, operation: Operation, command: &Command) -> Result<(), Failure> {
        let asleep = self.settings().power == Power::Sleep;
        let reads_log = matches!(operation, Operation::ReadLog(_))
            && command.lba as u8 == log_pages::QUEUE_ERROR;
        if asleep || (!reads_log && self.queue_error().is_some()) {
            return Err(ABORTED);
        }
        Ok(())
    }

    fn done(&self, command: &Command, done: Option<()>) -> Result<Reply, Failure> {
        done.ok_or(ABORTED)?;
        Ok(Reply::new(Registers::of(command)))
    }

    // ---- Data -------------------------------------------------------------------------------------------------

    fn read(
        &self,
        command: &Command,
        reach: Reach,
        protocol: Protocol,
        data: &mut Data<'_>,
    ) -> Result<Reply, Failure> {
        let range = self.range(command, reach, protocol)?;
        let block = self.block(protocol)?;
        let pieces = data.take(range.len)?;
        host(self.disk.read(range.offset, data.ram(), &pieces))?;
        Ok(moved(command, true, protocol, range.len, block))
    }

    fn write(
        &self,
        command: &Command,
        reach: Reach,
        protocol: Protocol,
        durable: bool,
        data: &mut Data<'_>,
    ) -> Result<Reply, Failure> {
        let range = self.range(command, reach, protocol)?;
        let block = self.block(protocol)?;
        let pieces = self.take_all(range.len, data)?;
        host(self.disk.write(range.offset, data.ram(), &pieces))?;
        let queued_durable = protocol == Protocol::Queued && command.device & DEVICE_FUA != 0;
        if durable || queued_durable || !self.settings().write_cache {
            host(self.disk.flush())?;
        }
        Ok(moved(command, false, protocol, range.len, block))
    }

    /// All the data of a write. A disk that may not be written to, or gets too little, aborts.
    fn take_all(&self, len: u64, data: &mut Data<'_>) -> Result<Vec<Piece>, Failure> {
        if self.disk.read_only() {
            return Err(ABORTED);
        }
        let pieces = data.take(len)?;
        if total(&pieces) < len {
            return Err(ABORTED);
        }
        Ok(pieces)
    }

    fn verify(&self, command: &Command, reach: Reach) -> Result<Reply, Failure> {
        self.range(command, reach, Protocol::Dma)?;
        self.done(command, Some(()))
    }

    fn flush(&self, command: &Command) -> Result<Reply, Failure> {
        host(self.disk.flush())?;
        self.done(command, Some(()))
    }

    /// SEND FPDMA QUEUED: of its subcommands only DATA SET MANAGEMENT, with its features in AUXILIARY.
    fn send_queued(&self, command: &Command, data: &mut Data<'_>) -> Result<Reply, Failure> {
        const DATA_SET_MANAGEMENT: u16 = 0;
        if command.count >> 8 & 0x1f != DATA_SET_MANAGEMENT {
            return Err(ABORTED);
        }
        let features = command.auxiliary as u16;
        let reply = self.trim(command, command.features, features, data)?;
        Ok(Reply {
            set_up: Some(false),
            ..reply
        })
    }

    /// DATA SET MANAGEMENT: ranges of 48 bits of address and 16 of length, in `blocks` blocks of 512 bytes. All
    /// are checked before the first is touched.
    fn trim(
        &self,
        command: &Command,
        blocks: u16,
        features: u16,
        data: &mut Data<'_>,
    ) -> Result<Reply, Failure> {
        const TRIM: u16 = 1;
        let known = features & 0xff == TRIM;
        let some = (1..=identify::TRIM_BLOCKS).contains(&blocks);
        if !known || !some || self.disk.read_only() {
            return Err(ABORTED);
        }
        let list = data.receive(usize::from(blocks) * SECTOR as usize)?;
        let list = list.ok_or(ABORTED)?;
        let ranges: Vec<Range> = list
            .chunks_exact(8)
            .map(|raw| {
                raw.iter()
                    .rev()
                    .fold(0, |n, &byte| n << 8 | u64::from(byte))
            })
            .filter(|raw| raw >> 48 != 0)
            .map(|raw| self.on_disk(raw & 0xffff_ffff_ffff, raw >> 48))
            .collect::<Result<_, _>>()?;
        self.touch();
        for range in ranges {
            host(self.disk.write_zeroes(range.offset, range.len, true))?;
        }
        self.done(command, Some(()))
    }

    /// The range that a command names. A count of zero means all that its field can count, and one more.
    fn range(&self, command: &Command, reach: Reach, protocol: Protocol) -> Result<Range, Failure> {
        let count = match protocol {
            // The count register has the tag.
            Protocol::Queued => command.features,
            _ => command.count,
        };
        let (lba, count) = match reach {
            Reach::Lba28 => (lba28(command), u64::from(count as u8)),
            Reach::Lba48 => (command.lba, u64::from(count)),
        };
        let most = if reach == Reach::Lba28 {
            0x100
        } else {
            0x1_0000
        };
        if command.device & DEVICE_LBA == 0 {
            return Err(ABORTED);
        }
        self.touch();
        self.on_disk(lba, if count == 0 { most } else { count })
    }

    /// Sectors as a range of bytes; both numbers have 48 bits at most.
    fn on_disk(&self, lba: u64, count: u64) -> Result<Range, Failure> {
        if lba + count > self.disk.sectors() {
            return Err(Failure::Error(error::IDNF));
        }
        Ok(Range {
            offset: lba * SECTOR,
            len: count * SECTOR,
        })
    }

    /// An access to the medium wakes the disk up.
    fn touch(&self) {
        self.settings().power = Power::Active;
    }

    /// The bytes of a DRQ block.
    fn block(&self, protocol: Protocol) -> Result<u64, Failure> {
        match (protocol, self.settings().multiple) {
            (Protocol::Multiple, 0) => Err(ABORTED),
            (Protocol::Multiple, sectors) => Ok(u64::from(sectors) * SECTOR),
            _ => Ok(SECTOR),
        }
    }

    // ---- Everything else --------------------------------------------------------------------------------------

    fn identify(&self, command: &Command, data: &mut Data<'_>) -> Result<Reply, Failure> {
        data.send(&self.identity())?;
        Ok(moved(command, true, Protocol::Pio, SECTOR, SECTOR))
    }

    fn identity(&self) -> [u8; SECTOR as usize] {
        identify::disk(self.disk.sectors(), &self.serial, &self.settings())
    }

    fn read_log(
        &self,
        command: &Command,
        protocol: Protocol,
        data: &mut Data<'_>,
    ) -> Result<Reply, Failure> {
        let lba = command.lba.to_le_bytes();
        let (log, page) = (lba[0], u16::from_le_bytes([lba[1], lba[4]]));
        let pages = self.log(log, page, command.count).ok_or(ABORTED)?;
        data.send(&pages)?;
        if log == log_pages::QUEUE_ERROR {
            *self.queue_error() = None;
        }
        Ok(moved(command, true, protocol, pages.len() as u64, SECTOR))
    }

    /// READ NATIVE MAX ADDRESS (ATA8-ACS): the last sector, and nothing is hidden behind it.
    fn native_max(&self, command: &Command, reach: Reach) -> Reply {
        let last = self.disk.sectors() - 1;
        let mut registers = Registers::of(command);
        if reach == Reach::Lba48 {
            registers.lba = last;
        } else {
            let last = last.min(0x0fff_ffff);
            registers.lba = last & 0xff_ffff;
            registers.device = command.device & 0xf0 | (last >> 24) as u8;
        }
        Reply::new(registers)
    }

    /// SMART: on, off, and whether the disk is well, which is told by keeping the key in the LBA.
    fn smart(&self, command: &Command) -> Result<Reply, Failure> {
        const KEY: u64 = 0xc2_4f00;
        const ENABLE: u8 = 0xd8;
        const DISABLE: u8 = 0xd9;
        const RETURN_STATUS: u8 = 0xda;
        let mut settings = self.settings();
        match command.features as u8 {
            _ if command.lba & 0xff_ff00 != KEY => return Err(ABORTED),
            ENABLE => settings.smart = true,
            DISABLE if settings.smart => settings.smart = false,
            RETURN_STATUS if settings.smart => {}
            _ => return Err(ABORTED),
        }
        self.done(command, Some(()))
    }

    /// CHECK POWER MODE: the mode in the count.
    fn check_power(&self, command: &Command) -> Reply {
        let mut registers = Registers::of(command);
        registers.count = match self.settings().power {
            Power::Active => 0xff,
            Power::Standby | Power::Sleep => 0,
        };
        Reply::new(registers)
    }
}

/// The outcome of something that the host did. The disk tells its failures to the person.
fn host(result: io::Result<()>) -> Result<(), Failure> {
    result.map_err(|_| Failure::Error(error::UNC))
}

/// The 28 bits of an address.
fn lba28(command: &Command) -> u64 {
    command.lba & 0xff_ffff | u64::from(command.device & 0xf) << 24
}

/// The reply to a command whose `len` bytes have been moved, by PIO in blocks of `block` bytes.
fn moved(command: &Command, to_host: bool, protocol: Protocol, len: u64, block: u64) -> Reply {
    let mut reply = Reply::new(Registers::of(command));
    match protocol {
        Protocol::Dma => {}
        Protocol::Queued => reply.set_up = Some(to_host),
        Protocol::Pio | Protocol::Multiple => {
            reply.ends_with_pio = to_host;
            reply.pio = Some(Pio {
                to_host,
                interrupt: to_host || len > block,
                count: ((len - 1) % block + 1) as u16,
                reason: None,
            });
        }
    }
    reply
}

impl Unit for Ata {
    fn signature(&self) -> Registers {
        // 01h in the error register: all is well (EXECUTE DEVICE DIAGNOSTIC).
        Registers {
            status: status::IDLE,
            error: 1,
            lba: 1,
            device: 0,
            count: 1,
        }
    }

    fn tag(&self, command: &Command) -> Option<u8> {
        let queued = match Operation::decode(command.code)? {
            Operation::Read(_, protocol) | Operation::Write(_, protocol, _) => {
                protocol == Protocol::Queued
            }
            operation => operation == Operation::SendQueued,
        };
        queued.then_some((command.count >> 3 & 0x1f) as u8)
    }

    fn perform(
        &self,
        command: &Command,
        _packet: Option<&[u8; 16]>,
        data: &mut Data<'_>,
    ) -> Result<Reply, HostBus> {
        match self.execute(command, data) {
            Ok(reply) => Ok(reply),
            Err(Failure::HostBus) => Err(HostBus),
            Err(Failure::Error(error)) => {
                let reply = Reply::error(command, error);
                let mut queue_error = self.queue_error();
                if let (Some(tag), None) = (self.tag(command), &*queue_error) {
                    *queue_error = Some(QueueError {
                        tag: Some(tag),
                        registers: reply.registers,
                    });
                }
                Ok(reply)
            }
        }
    }

    fn break_queue(&self, command: &Command) -> Reply {
        let reply = Reply::error(command, error::ABRT);
        *self.queue_error() = Some(QueueError {
            tag: None,
            registers: reply.registers,
        });
        reply
    }

    fn reset(&self, by_link: bool) {
        *self.queue_error() = None;
        self.settings().reset(by_link);
    }
}
