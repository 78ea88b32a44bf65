//! What a CD drive tells about itself and its disc: the data of packet commands, most significant byte first.

use super::sense::Sense;
use crate::ahci::ata::identify::{FIRMWARE, GENERATIONS, Words, modes, versions};

/// What the drive calls itself: vendor and product.
const VENDOR: &str = "xlaunch";
const PRODUCT: &str = "CD-ROM";

/// A disc with more blocks than a CD of 80 minutes calls itself a DVD.
const CD_BLOCKS: u32 = 80 * 60 * 75;
/// Where a disc's first block is, in frames: 2 seconds.
const PREGAP: u32 = 150;
/// The track number of the lead-out.
const LEAD_OUT: u8 = 0xaa;

/// IDENTIFY PACKET DEVICE data (ACS-3).
pub(super) fn identify(serial: &str, mode: u8) -> [u8; 512] {
    const VALID: u16 = 1 << 14;
    // NOP, DEVICE RESET, PACKET, power management.
    const SUPPORTED: u16 = 1 << 14 | 1 << 9 | 1 << 4 | 1 << 3;
    let mut words = Words::new();
    // A packet device, a CD, removable medium, DRQ within 50 us, packets of 12 bytes.
    words.set(0, 2 << 14 | 5 << 8 | 1 << 7 | 2 << 5);
    words.text(10, 10, serial);
    words.text(23, 4, FIRMWARE);
    words.text(27, 20, "xlaunch CD-ROM");
    // IORDY, LBA, DMA.
    words.set(49, 1 << 11 | 1 << 10 | 1 << 9 | 1 << 8);
    words.set(50, VALID);
    words.set(76, GENERATIONS);
    words.set(77, 3 << 1);
    for at in [82, 85] {
        words.set(at, SUPPORTED);
    }
    for at in [83, 84, 87] {
        words.set(at, VALID);
    }
    modes(&mut words, mode);
    versions(&mut words);
    words.bytes()
}

/// INQUIRY (SPC-4): a removable CD drive.
pub(super) fn inquiry() -> Vec<u8> {
    const SPC_3: u8 = 5;
    let mut data = vec![5, 0x80, SPC_3, 2, 31, 0, 0, 0];
    for (text, len) in [(VENDOR, 8), (PRODUCT, 16), (FIRMWARE, 4)] {
        data.extend(format!("{text:len$}").bytes());
    }
    data
}

/// The vital product data pages (SPC-4): their list, and the serial number.
pub(super) fn vital(page: u8, serial: &str) -> Result<Vec<u8>, Sense> {
    let body = match page {
        0x00 => &[0x00, 0x80][..],
        0x80 => serial.as_bytes(),
        _ => return Err(Sense::INVALID_FIELD),
    };
    Ok([&[5, page, 0, body.len() as u8], body].concat())
}

/// READ CAPACITY (MMC-6): the last block, and a block's bytes.
pub(super) fn capacity(blocks: u32) -> Vec<u8> {
    [(blocks - 1).to_be_bytes(), 2048_u32.to_be_bytes()].concat()
}

/// READ TOC/PMA/ATIP (MMC-6): one data track and the lead-out, or the one session.
pub(super) fn contents(format: u8, first: u8, msf: bool, blocks: u32) -> Result<Vec<u8>, Sense> {
    let track = |number: u8, at: u32| {
        let address = if msf { frames(at) } else { at.to_be_bytes() };
        [&[0, 0x14, number, 0][..], &address].concat()
    };
    let body = match (format, first) {
        (0, 0 | 1) => [track(1, 0), track(LEAD_OUT, blocks)].concat(),
        (0, LEAD_OUT) => track(LEAD_OUT, blocks),
        (1, _) => track(1, 0),
        _ => return Err(Sense::INVALID_FIELD),
    };
    let len = (2 + body.len() as u16).to_be_bytes();
    Ok([&len[..], &[1, 1], &body].concat())
}

/// A block's place in minutes, seconds and frames.
fn frames(block: u32) -> [u8; 4] {
    let frames = block.saturating_add(PREGAP);
    let minutes = (frames / (60 * 75)).min(0xff);
    [
        0,
        minutes as u8,
        (frames / 75 % 60) as u8,
        (frames % 75) as u8,
    ]
}

/// READ DISC INFORMATION (MMC-6): a finished disc of one session with one track.
pub(super) fn disc_information() -> Vec<u8> {
    const COMPLETE: u8 = 3 << 2 | 2;
    let mut data = vec![0; 34];
    data[..7].copy_from_slice(&[0, 32, COMPLETE, 1, 1, 1, 1]);
    data
}

/// GET CONFIGURATION (MMC-6): a header, then the features from `first` on that are asked for.
pub(super) fn configuration(request: u8, first: u16, disc: Option<u32>) -> Result<Vec<u8>, Sense> {
    const CURRENT: u8 = 1;
    let wanted = |(code, descriptor): &&(u16, Vec<u8>)| match request {
        0 => *code >= first,
        1 => *code >= first && descriptor[0] & CURRENT != 0,
        _ => *code == first,
    };
    if request == 3 {
        return Err(Sense::INVALID_FIELD);
    }
    let mut body = vec![0, 0];
    body.extend(profile(disc).to_be_bytes());
    for (code, descriptor) in features(disc).iter().filter(wanted) {
        body.extend(code.to_be_bytes());
        body.extend(descriptor);
    }
    Ok([&(body.len() as u32).to_be_bytes()[..], &body].concat())
}

const CD_ROM: u16 = 0x0008;
const DVD_ROM: u16 = 0x0010;

/// What kind of disc of so many blocks is in the drive.
fn profile(disc: Option<u32>) -> u16 {
    match disc {
        None => 0,
        Some(blocks) if blocks > CD_BLOCKS => DVD_ROM,
        Some(_) => CD_ROM,
    }
}

/// Features (MMC-6, chapter 5): code; then version, persistence and currency, length, and data.
fn features(disc: Option<u32>) -> [(u16, Vec<u8>); 6] {
    const PERSISTENT: u8 = 3;
    const SERIAL_ATAPI: u8 = 7;
    // Tray, eject and lock.
    const MECHANISM: u8 = 1 << 5 | 1 << 3 | 1;
    let is = |wanted| u8::from(profile(disc) == wanted);
    let any = u8::from(disc.is_some());
    let profiles = [0, 0x10, is(DVD_ROM), 0, 0, 0x08, is(CD_ROM), 0];
    let core = [0, 0, 0, SERIAL_ATAPI, 0, 0, 0, 0];
    [
        (0x0000, [&[PERSISTENT, 8][..], &profiles].concat()),
        (0x0001, [&[2 << 2 | PERSISTENT, 8][..], &core].concat()),
        (0x0003, vec![PERSISTENT, 4, MECHANISM, 0, 0, 0]),
        (0x0010, vec![any, 8, 0, 0, 8, 0, 0, 1, 0, 0]),
        (0x001e, vec![2 << 2 | is(CD_ROM), 4, 0, 0, 0, 0]),
        (0x001f, vec![is(DVD_ROM), 0]),
    ]
}

/// GET EVENT STATUS NOTIFICATION (MMC-6): of all classes there is only the medium's.
pub(super) fn event(classes: u8, code: u8, open: bool, disc: bool) -> Vec<u8> {
    const MEDIA: u8 = 1 << 4;
    const NO_EVENT: u8 = 0x80;
    if classes & MEDIA == 0 {
        return vec![0, 2, NO_EVENT, MEDIA];
    }
    let state = u8::from(disc) << 1 | u8::from(open);
    vec![0, 6, 4, MEDIA, code, state, 0, 0]
}

/// MODE SENSE(10) (SPC-4): a header without block descriptors, then the pages that are asked for.
pub(super) fn mode(control: u8, page: u8, locked: bool) -> Result<Vec<u8>, Sense> {
    const CHANGEABLE: u8 = 1;
    const SAVED: u8 = 3;
    const ALL: u8 = 0x3f;
    if control == SAVED {
        return Err(Sense::NOTHING_SAVED);
    }
    let mut body = Vec::new();
    for mut data in [recovery(), capabilities(locked)] {
        if page == ALL || page == data[0] {
            if control == CHANGEABLE {
                data[2..].fill(0);
            }
            body.extend(data);
        }
    }
    if body.is_empty() {
        return Err(Sense::INVALID_FIELD);
    }
    let len = (6 + body.len() as u16).to_be_bytes();
    Ok([&len[..], &[0; 6], &body].concat())
}

/// Read error recovery (MMC-6): the drive's own way.
fn recovery() -> Vec<u8> {
    let mut data = vec![0; 12];
    (data[0], data[1]) = (0x01, 0x0a);
    data
}

/// CD capabilities and mechanical status (MMC-3): reads CD-R, CD-RW and DVD, multisession, tray with lock.
fn capabilities(locked: bool) -> Vec<u8> {
    const LEN: u8 = 20;
    // 40 times 176.4 kB/s.
    const SPEED: [u8; 2] = 7056_u16.to_be_bytes();
    const BUFFER_KIB: [u8; 2] = 128_u16.to_be_bytes();
    let mechanism = 0x29 | u8::from(locked) << 1;
    let mut data = vec![0x2a, LEN, 0x0b, 0, 0x70, 0, mechanism, 0];
    data.extend([SPEED, [0; 2], BUFFER_KIB, SPEED].concat());
    data.resize(2 + usize::from(LEN), 0);
    data
}

/// MECHANISM STATUS (MMC-6): whether the door is open. There is no changer.
pub(super) fn mechanism(open: bool) -> Vec<u8> {
    vec![0, u8::from(open) << 4, 0, 0, 0, 0, 0, 0]
}
