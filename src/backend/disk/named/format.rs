//! The bytes of a named overlay: its header and the pages of its log. All numbers are little-endian.
//!
//! ```text
//! header, 4096 bytes at 0                     page of the log, 512 bytes
//!  0  16  "xlaunch overlay\n"                  0   4  "XLOG"
//! 16   4  version, 1                           4   4  CRC-32C of the page, this field zero
//! 20   4  CRC-32C of the header,               8   8  the overlay's id
//!         this field zero                     16   8  the page's number in the log, from 0
//! 24   4  block size, 4096                    24   8  the commit that it belongs to, from 1
//! 28   4  length of the path                  32   2  number of runs, 1 to 29
//! 32   8  id, random                          34   2  1 in the last page of a commit, else 0
//! 40   8  bytes of the base                   36   4  0
//! 48   8  its modification: seconds           40      runs: first block (8), number of blocks (8)
//! 56   4  and nanoseconds
//! 60   4  0
//! 64      path of the base, for messages
//! ```
//!
//! CRC-32C is that of RFC 3720, appendix B.4: its sum of "123456789" is 0xE3069283.

/// Bytes of the header.
pub(super) const HEADER: usize = 4096;
/// Bytes of a page.
pub(super) const PAGE: usize = 512;
/// The most runs in a page.
pub(super) const RUNS: usize = (PAGE - 40) / 16;
/// The version of the format, which changes with it.
pub(super) const VERSION: u32 = 1;

const MAGIC: &[u8; 16] = b"xlaunch overlay\n";
const PAGE_MAGIC: &[u8; 4] = b"XLOG";
/// What the header has room for; a longer path is cut off.
const PATH_MAX: usize = HEADER - 64;
const BLOCK: u32 = super::BLOCK as u32;

/// A run of blocks: the first, and the one behind the last.
pub(super) type Run = (u64, u64);

/// Which base an overlay belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::backend::disk) struct Base {
    /// Its path, for messages.
    pub(in crate::backend::disk) path: Vec<u8>,
    /// Its size.
    pub(in crate::backend::disk) bytes: u64,
    /// When it was last written: seconds since 1970 and nanoseconds. Zeros for a device, which does not tell.
    pub(in crate::backend::disk) modified: (i64, u32),
}

/// A header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: u64,
    pub(super) base: Base,
}

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderDefect {
    /// It is the header of something else.
    Foreign,
    Version(u32),
    Damaged,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        let path = &self.base.path[..self.base.path.len().min(PATH_MAX)];
        put(0, MAGIC);
        put(16, &VERSION.to_le_bytes());
        put(24, &BLOCK.to_le_bytes());
        put(28, &(path.len() as u32).to_le_bytes());
        put(32, &self.id.to_le_bytes());
        put(40, &self.base.bytes.to_le_bytes());
        put(48, &self.base.modified.0.to_le_bytes());
        put(56, &self.base.modified.1.to_le_bytes());
        put(64, path);
        seal(&mut bytes, 20);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, HeaderDefect> {
        if !bytes.starts_with(MAGIC) {
            return Err(HeaderDefect::Foreign);
        }
        match u32_at(bytes, 16) {
            VERSION => {}
            other => return Err(HeaderDefect::Version(other)),
        }
        let path = 64..64 + u32_at(bytes, 28).min(PATH_MAX as u32 + 1) as usize;
        let path = bytes.get(path).filter(|_| is_sealed(bytes, 20));
        let path = path.filter(|_| bytes.len() == HEADER && u32_at(bytes, 24) == BLOCK);
        Ok(Self {
            id: u64_at(bytes, 32),
            base: Base {
                path: path.ok_or(HeaderDefect::Damaged)?.to_vec(),
                bytes: u64_at(bytes, 40),
                modified: (u64_at(bytes, 48).cast_signed(), u32_at(bytes, 56)),
            },
        })
    }
}

/// A page of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) id: u64,
    pub(super) number: u64,
    pub(super) commit: u64,
    /// Whether the commit ends with it.
    pub(super) last: bool,
    /// At most `RUNS`.
    pub(super) runs: Vec<Run>,
}

impl Page {
    pub(super) fn encode(&self) -> [u8; PAGE] {
        let mut bytes = [0; PAGE];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, PAGE_MAGIC);
        put(8, &self.id.to_le_bytes());
        put(16, &self.number.to_le_bytes());
        put(24, &self.commit.to_le_bytes());
        put(32, &(self.runs.len() as u16).to_le_bytes());
        put(34, &u16::from(self.last).to_le_bytes());
        for (index, (first, end)) in self.runs.iter().enumerate() {
            put(40 + index * 16, &first.to_le_bytes());
            put(48 + index * 16, &(end - first).to_le_bytes());
        }
        seal(&mut bytes, 4);
        bytes
    }

    /// The page, where the bytes are a whole one.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let count = u32_at(bytes, 32) as usize & 0xffff;
        let whole = bytes.len() == PAGE && bytes.starts_with(PAGE_MAGIC) && is_sealed(bytes, 4);
        if !whole || !(1..=RUNS).contains(&count) {
            return None;
        }
        let run = |index: usize| {
            let first = u64_at(bytes, 40 + index * 16);
            let len = u64_at(bytes, 48 + index * 16);
            Some((first, first.checked_add(len)?))
        };
        Some(Self {
            id: u64_at(bytes, 8),
            number: u64_at(bytes, 16),
            commit: u64_at(bytes, 24),
            last: u32_at(bytes, 32) >> 16 == 1,
            runs: (0..count).map(run).collect::<Option<_>>()?,
        })
    }
}

/// Puts the sum of all other bytes at `at`.
fn seal(bytes: &mut [u8], at: usize) {
    bytes[at..at + 4].fill(0);
    let sum = crc32c(bytes);
    bytes[at..at + 4].copy_from_slice(&sum.to_le_bytes());
}

fn is_sealed(bytes: &[u8], at: usize) -> bool {
    let mut copy = bytes.to_vec();
    let Some(place) = copy.get_mut(at..at + 4) else {
        return false;
    };
    place.fill(0);
    crc32c(&copy) == u32_at(bytes, at)
}

fn crc32c(bytes: &[u8]) -> u32 {
    let step = |sum: u32, byte: &u8| sum >> 8 ^ TABLE[usize::from(sum as u8 ^ byte)];
    !bytes.iter().fold(!0, step)
}

/// The sum of each byte by itself; the polynomial is written with its lowest power first.
static TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = sum >> 1 ^ 0x82f6_3b78 & (sum & 1).wrapping_neg();
            bit += 1;
        }
        table[byte] = sum;
        byte += 1;
    }
    table
};

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let field = bytes.get(at..at + 4).and_then(|it| it.try_into().ok());
    field.map_or(0, u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> Header {
        Header {
            id: 0x0123_4567_89ab_cdef,
            base: Base {
                path: b"/a/b.img".to_vec(),
                bytes: 1 << 40,
                modified: (-5, 999_999_999),
            },
        }
    }

    fn page(runs: usize) -> Page {
        Page {
            id: 7,
            number: 8,
            commit: 9,
            last: runs.is_multiple_of(2),
            runs: (0..runs as u64).map(|i| (i * 10, i * 10 + 1 + i)).collect(),
        }
    }

    #[test]
    fn sums_are_those_of_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn headers_and_pages_come_back_and_no_bit_of_them_may_change() {
        let bytes = header().encode();
        assert_eq!(Header::decode(&bytes), Ok(header()));
        for bit in 0..HEADER * 8 {
            let mut wrong = bytes.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&wrong).is_err(), "bit {bit}");
        }
        for runs in 1..=RUNS {
            assert_eq!(Page::decode(&page(runs).encode()), Some(page(runs)));
        }
        let bytes = page(RUNS).encode();
        for bit in 0..PAGE * 8 {
            let mut wrong = bytes;
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Page::decode(&wrong), None, "bit {bit}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_header_is_told_apart() {
        let bytes = header().encode();
        assert_eq!(Header::decode(b""), Err(HeaderDefect::Foreign));
        assert_eq!(Header::decode(&bytes[..100]), Err(HeaderDefect::Damaged));
        let mut other = bytes.clone();
        other[16] = 2;
        assert_eq!(Header::decode(&other), Err(HeaderDefect::Version(2)));
        // A sum that is right, over fields that are not.
        for (at, field) in [(24, 512_u32), (28, PATH_MAX as u32 + 1), (28, u32::MAX)] {
            let mut wrong = bytes.clone();
            wrong[at..at + 4].copy_from_slice(&field.to_le_bytes());
            seal(&mut wrong, 20);
            assert_eq!(Header::decode(&wrong), Err(HeaderDefect::Damaged));
        }
        let mut long = header();
        long.base.path = vec![b'x'; 2 * HEADER];
        let decoded = Header::decode(&long.encode()).unwrap();
        assert_eq!(decoded.base.path.len(), PATH_MAX);
    }

    #[test]
    fn counts_and_runs_that_cannot_be_are_no_page() {
        for (at, field) in [(32, 0_u16), (32, RUNS as u16 + 1), (32, u16::MAX)] {
            let mut wrong = page(3).encode();
            wrong[at..at + 2].copy_from_slice(&field.to_le_bytes());
            seal(&mut wrong, 4);
            assert_eq!(Page::decode(&wrong), None);
        }
        let mut wrong = page(3).encode();
        wrong[40..56].fill(0xff);
        seal(&mut wrong, 4);
        assert_eq!(Page::decode(&wrong), None, "its end does not fit");
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_much(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(Header::decode(&bytes).is_err());
            prop_assert_eq!(Page::decode(&bytes), None);
        }
    }
}
