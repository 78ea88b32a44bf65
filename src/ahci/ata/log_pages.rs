//! General purpose logs (ACS-3, annex A): the directory, the queued error log, what SEND FPDMA QUEUED can do, and
//! IDENTIFY DEVICE data.

use super::{Ata, QueueError};

/// Log addresses.
const DIRECTORY: u8 = 0x00;
/// NCQ command error.
pub(super) const QUEUE_ERROR: u8 = 0x10;
/// NCQ send and receive.
const SEND_RECEIVE: u8 = 0x13;
/// IDENTIFY DEVICE data.
const IDENTIFY: u8 = 0x30;

/// The logs besides the directory, and how many pages each has.
const LOGS: [(u8, u16); 3] = [(QUEUE_ERROR, 1), (SEND_RECEIVE, 1), (IDENTIFY, 3)];

type Page = [u8; 512];

impl Ata {
    /// `count` pages of a log, the first being `page`; none where it has not so many.
    pub(super) fn log(&self, log: u8, page: u16, count: u16) -> Option<Vec<u8>> {
        let has = LOGS.iter().find(|(address, _)| *address == log);
        let has = has.map_or(u16::from(log == DIRECTORY), |(_, pages)| *pages);
        let end = page.checked_add(count).filter(|end| *end <= has)?;
        let pages = (page..end).map(|page| self.page(log, page));
        (count > 0).then(|| pages.flatten().collect())
    }

    fn page(&self, log: u8, page: u16) -> Page {
        match (log, page) {
            (DIRECTORY, _) => directory(),
            (QUEUE_ERROR, _) => queue_error(self.queue_error().as_ref()),
            (SEND_RECEIVE, _) => send_receive(),
            (_, 1) => self.identity(),
            (_, 2) => capacity(self.disk.sectors()),
            _ => identify_pages(),
        }
    }
}

/// The directory: version 1, then a word a log.
fn directory() -> Page {
    let mut page = [0; 512];
    page[0] = 1;
    for (log, pages) in LOGS {
        let at = 2 * usize::from(log);
        page[at..at + 2].copy_from_slice(&pages.to_le_bytes());
    }
    page
}

/// The registers of the command that failed, with its tag, and a checksum.
fn queue_error(error: Option<&QueueError>) -> Page {
    const NOT_QUEUED: u8 = 1 << 7;
    let mut page = [0; 512];
    if let Some(QueueError { tag, registers }) = error {
        page[0] = tag.unwrap_or(NOT_QUEUED);
        let fis = registers.fis(false);
        // From the status on, the page has the registers where the FIS has them.
        page[2..14].copy_from_slice(&fis[2..14]);
    }
    page[511] = page.iter().fold(0, |sum: u8, byte| sum.wrapping_sub(*byte));
    page
}

/// Subcommand DATA SET MANAGEMENT, and of that TRIM.
fn send_receive() -> Page {
    let mut page = [0; 512];
    page[0] = 1;
    page[4] = 1;
    page
}

/// The list of pages: how many, then their numbers.
fn identify_pages() -> Page {
    let mut page = header(0);
    page[8..12].copy_from_slice(&[3, 0, 1, 2]);
    page
}

/// Capacity, each quadword with bit 63 for its validity: sectors, then sector sizes.
fn capacity(sectors: u64) -> Page {
    const VALID: u64 = 1 << 63;
    const PHYSICAL: u64 = 1 << 62;
    const LOGICAL: u64 = 1 << 61;
    let mut page = header(2);
    page[8..16].copy_from_slice(&(VALID | sectors).to_le_bytes());
    let shape = VALID | PHYSICAL | LOGICAL | 3 << 16;
    page[16..24].copy_from_slice(&shape.to_le_bytes());
    // In words.
    page[24..32].copy_from_slice(&(VALID | 256).to_le_bytes());
    page
}

/// A page's number and revision 1, with bit 63 for their validity.
fn header(number: u64) -> Page {
    let mut page = [0; 512];
    page[..8].copy_from_slice(&(1 << 63 | number << 16 | 1).to_le_bytes());
    page
}
