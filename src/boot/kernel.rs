//! A kernel image as all formats are understood: what goes where, how it is entered, what it asks of the initrd and
//! the command line.

use std::borrow::Cow;

use super::error::Problem;
use super::{bzimage, elf, multiboot};
use crate::layout::Span;

/// How the kernel is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Linux in 64-bit mode at this address, with a zero page.
    Long(u64),
    /// Linux in flat 32-bit mode without paging at this address, with a zero page.
    Protected(u64),
    /// In flat 32-bit mode without paging at this address, with PVH's start info.
    Pvh(u64),
    /// In flat 32-bit mode without paging at this address, with multiboot's information.
    Multiboot(u64),
}

/// A piece of the kernel in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Where it goes.
    pub at: u64,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// How many zeros follow them.
    pub zeros: u64,
}

impl Segment<'_> {
    /// The first address behind it; that there is one was checked when it was made.
    pub fn end(&self) -> u64 {
        self.at
            .saturating_add(self.bytes.len() as u64)
            .saturating_add(self.zeros)
    }
}

/// A kernel image that has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel<'a> {
    /// Linux's setup header as the zero page takes it.
    pub header: Cow<'a, [u8]>,
    /// What is loaded, all of it inside `span`.
    pub segments: Vec<Segment<'a>>,
    /// The memory that the kernel uses before it reads the memory map.
    pub span: Span,
    /// How it is entered.
    pub entry: Entry,
    /// The longest command line it takes, without the final zero byte.
    pub cmdline_max: u64,
    /// The first address behind which no byte of the initrd may lie, where that has to be below 4 GiB.
    pub initrd_end: u64,
    /// Whether the initrd may lie above 4 GiB.
    pub initrd_high: bool,
}

impl<'a> Kernel<'a> {
    /// Finds out what `file` is, and checks it. A multiboot header counts in a file of any format.
    pub fn parse(file: &'a [u8]) -> Result<Self, Problem> {
        if let Some(header) = multiboot::Header::find(file) {
            multiboot::parse(file, &header)
        } else if file.starts_with(elf::MAGIC) {
            elf::parse(file)
        } else {
            bzimage::parse(file)
        }
    }
}

/// The little-endian number of `N` bytes at `at`; `None` where the file ends before it does.
pub(super) fn bytes_at<const N: usize>(file: &[u8], at: usize) -> Option<[u8; N]> {
    file.get(at..)?.first_chunk().copied()
}
