//! IDENTIFY DEVICE data (ACS-3): 256 words in which a disk says what it is.

use super::settings::{MULTIPLE_MAX, Settings};

/// The words.
pub(in crate::ahci) struct Words([u16; 256]);

impl Words {
    pub(in crate::ahci) fn new() -> Self {
        Self([0; 256])
    }

    pub(in crate::ahci) fn set(&mut self, word: usize, value: u16) {
        self.0[word] = value;
    }

    /// A number of several words, the lowest first.
    pub(in crate::ahci) fn number(&mut self, word: usize, words: usize, value: u64) {
        for i in 0..words {
            self.0[word + i] = (value >> (16 * i)) as u16;
        }
    }

    /// Text, padded with spaces: of two characters in a word the first stands in the upper byte.
    pub(in crate::ahci) fn text(&mut self, word: usize, words: usize, text: &str) {
        let printable = text.bytes().filter(|byte| (0x20..0x7f).contains(byte));
        let mut bytes = printable.chain(std::iter::repeat(b' '));
        for target in &mut self.0[word..word + words] {
            let pair = [bytes.next(), bytes.next()].map(Option::unwrap_or_default);
            *target = u16::from_be_bytes(pair);
        }
    }

    /// The bytes, with signature and checksum in the last word.
    pub(in crate::ahci) fn bytes(self) -> [u8; 512] {
        const SIGNATURE: u8 = 0xa5;
        let mut bytes = [0; 512];
        for (pair, word) in bytes.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&word.to_le_bytes());
        }
        bytes[510] = SIGNATURE;
        bytes[511] = bytes[..511]
            .iter()
            .fold(0, |sum: u8, byte| sum.wrapping_sub(*byte));
        bytes
    }
}

/// What all drives call themselves.
pub(in crate::ahci) const FIRMWARE: &str = "1.0";
const MODEL: &str = "xlaunch disk";

/// The most blocks of ranges in one TRIM.
pub(super) const TRIM_BLOCKS: u16 = 8;

/// The validity bit of words that have one, and its absence one bit above.
const VALID: u16 = 1 << 14;

/// Words 82 to 84: what is supported. Write cache, look-ahead, power management, SMART, NOP; FLUSH CACHE and its EXT,
/// 48-bit addresses; WRITE DMA FUA EXT, general purpose logging.
const SUPPORTED: [u16; 3] = [
    1 << 14 | 1 << 6 | 1 << 5 | 1 << 3 | 1 << 0,
    VALID | 1 << 13 | 1 << 12 | 1 << 10,
    VALID | 1 << 6 | 1 << 5,
];

/// The data of a disk.
pub(super) fn disk(sectors: u64, serial: &str, settings: &Settings) -> [u8; 512] {
    let mut words = Words::new();
    words.set(0, 1 << 6);
    geometry(&mut words, sectors);
    words.set(2, 0xc837);
    words.text(10, 10, serial);
    words.text(23, 4, FIRMWARE);
    words.text(27, 20, MODEL);
    words.set(47, 0x8000 | u16::from(MULTIPLE_MAX));
    words.set(48, VALID);
    // Standby timer, IORDY, LBA, DMA.
    words.set(49, 1 << 13 | 1 << 11 | 1 << 10 | 1 << 9 | 1 << 8);
    words.set(50, VALID);
    words.set(59, multiple(settings));
    words.number(60, 2, sectors.min(0x0fff_ffff));
    // Reads after TRIM are deterministic, and give zeros.
    words.set(69, 1 << 14 | 1 << 5);
    // 32 tags.
    words.set(75, 31);
    words.set(76, NCQ | GENERATIONS);
    // SEND FPDMA QUEUED; generation 3 now.
    words.set(77, 1 << 6 | 3 << 1);
    feature_sets(&mut words, settings);
    words.number(100, 4, sectors);
    words.set(105, TRIM_BLOCKS);
    // 2^3 logical sectors in a physical one, the first at its start.
    words.set(106, VALID | 1 << 13 | 3);
    words.set(209, VALID);
    words.set(169, 1);
    // A solid state device.
    words.set(217, 1);
    modes(&mut words, settings.mode);
    versions(&mut words);
    words.bytes()
}

/// Word 76: Serial ATA generations 1 to 3, and native command queuing.
pub(in crate::ahci) const GENERATIONS: u16 = 1 << 3 | 1 << 2 | 1 << 1;
const NCQ: u16 = 1 << 8;

/// Words 1, 3, 6 and 54 to 58: cylinders, heads and sectors for those who still ask (ATA/ATAPI-5, 8.12).
fn geometry(words: &mut Words, sectors: u64) {
    const HEADS: u64 = 16;
    const SECTORS: u64 = 63;
    let cylinders = (sectors / (HEADS * SECTORS)).clamp(1, 16383);
    for (at, value) in [(1, cylinders), (3, HEADS), (6, SECTORS)] {
        words.set(at, value as u16);
    }
    for (at, value) in [(54, cylinders), (55, HEADS), (56, SECTORS)] {
        words.set(at, value as u16);
    }
    words.number(57, 2, cylinders * HEADS * SECTORS);
}

/// Word 59: the present setting of SET MULTIPLE MODE.
fn multiple(settings: &Settings) -> u16 {
    match settings.multiple {
        0 => 0,
        sectors => 1 << 8 | u16::from(sectors),
    }
}

/// Words 82 to 87, 119 and 120: what is supported, and what of it is on.
fn feature_sets(words: &mut Words, settings: &Settings) {
    let off = u16::from(!settings.smart)
        | u16::from(!settings.write_cache) << 5
        | u16::from(!settings.look_ahead) << 6;
    for (i, supported) in SUPPORTED.into_iter().enumerate() {
        words.set(82 + i, supported);
    }
    words.set(85, SUPPORTED[0] & !off);
    // Words 119 and 120 are valid.
    words.set(86, SUPPORTED[1] & !VALID | 1 << 15);
    words.set(87, SUPPORTED[2]);
    // READ LOG DMA EXT.
    words.set(119, VALID | 1 << 3);
    words.set(120, VALID | 1 << 3);
}

/// Words 53, 63 to 68 and 88: transfer modes, and which is selected.
pub(in crate::ahci) fn modes(words: &mut Words, selected: u8) {
    const CYCLE: u16 = 120;
    let bit = |first: u8| match selected.checked_sub(first) {
        Some(mode) if mode < 8 => 1_u16 << (8 + mode),
        _ => 0,
    };
    words.set(53, 1 << 2 | 1 << 1 | 1);
    words.set(63, 0x07 | bit(0x20));
    words.set(64, 0x03);
    for at in 65..=68 {
        words.set(at, CYCLE);
    }
    words.set(88, 0x7f | bit(0x40));
}

/// Words 80 and 222: ATA/ATAPI-5 to ACS-3, Serial ATA 3.1.
pub(in crate::ahci) fn versions(words: &mut Words) {
    words.set(80, 0x07e0);
    words.set(222, 0x107f);
}
