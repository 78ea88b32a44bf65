//! Multiboot 1 (Multiboot Specification 0.6.96): the header in the kernel's file, and what the kernel is told.
//!
//! The kernel is an ELF file of either class, or any file whose header says where it goes (flag 16); the latter counts
//! where both are there. Modules begin on page boundaries always. The kernel is told of memory, command line, modules,
//! memory map and loader; not of a boot device, symbols, drives, a configuration table, APM or a screen, and a kernel
//! whose header demands a video mode is refused.

use std::borrow::Cow;

use super::elf::Loadable;
use super::error::Problem;
use super::kernel::{Entry, Kernel, Segment, bytes_at};
use super::place::Placed;
use crate::layout::{self, Span};
use crate::memory::{Kind, Piece, Range};

/// What EAX holds at the entry (3.2).
pub const BOOTED: u64 = 0x2bad_b002;
/// Where the information lies, whose address EBX holds.
pub const AT: u64 = layout::MULTIBOOT_INFO.start;

const MAGIC: u32 = 0x1bad_b002;
/// The header lies in the file's first bytes, on a boundary of four (3.1).
const SEARCHED: usize = 8192;
/// Magic, flags and checksum.
const HEADER: usize = 12;
/// Flags 0 to 15 are demands; of them: modules on page boundaries, and memory told.
const DEMANDS: u32 = 0xffff;
const UNDERSTOOD: u32 = 0b11;
/// The header has address fields.
const ADDRESSES: u32 = 1 << 16;
/// The lowest address for a kernel: what lies below is written by the launcher.
const LEAST: u64 = layout::COMMAND_LINE.end;

/// A multiboot header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Where it lies in the file.
    at: usize,
    flags: u32,
}

impl Header {
    /// Looks for the header of `file`.
    pub(super) fn find(file: &[u8]) -> Option<Self> {
        let head = &file[..file.len().min(SEARCHED)];
        let last = head.len().checked_sub(HEADER)?;
        (0..=last).step_by(4).find_map(|at| {
            let dword = |i: usize| bytes_at(head, at + 4 * i).map(u32::from_le_bytes);
            let (magic, flags, checksum) = (dword(0)?, dword(1)?, dword(2)?);
            let sum = magic.wrapping_add(flags).wrapping_add(checksum);
            (magic == MAGIC && sum == 0).then_some(Self { at, flags })
        })
    }
}

/// Checks a kernel with this header.
pub(super) fn parse<'a>(file: &'a [u8], header: &Header) -> Result<Kernel<'a>, Problem> {
    let unknown = header.flags & DEMANDS & !UNDERSTOOD;
    if unknown != 0 {
        return Err(Problem::Demands(unknown));
    }
    let (segments, entry) = if header.flags & ADDRESSES != 0 {
        let (segment, entry) = addressed(file, header)?;
        (vec![segment], entry)
    } else {
        let loadable = Loadable::parse(file, LEAST)?;
        let entry = loadable.entry()?;
        (loadable.segments, entry)
    };
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
        return Err(Problem::NotAKernel);
    };
    Ok(Kernel {
        header: Cow::Borrowed(&[]),
        span: Span {
            start: first.at,
            end: last.end(),
        },
        segments,
        entry: Entry::Multiboot(entry),
        cmdline_max: u64::MAX,
        initrd_end: 0,
        initrd_high: false,
    })
}

/// The kernel as the header's address fields have it (3.1.3), and its entry.
fn addressed<'a>(file: &'a [u8], header: &Header) -> Result<(Segment<'a>, u64), Problem> {
    let field = |i: usize| {
        let at = header.at + HEADER + 4 * i;
        let value = bytes_at(file, at).map(u32::from_le_bytes);
        value.map(u64::from).ok_or_else(|| truncated(file, at + 4))
    };
    let (header_addr, load, load_end) = (field(0)?, field(1)?, field(2)?);
    let (bss_end, entry) = (field(3)?, field(4)?);
    if load < LEAST {
        return Err(Problem::LoadsTooLow {
            at: load,
            least: LEAST,
        });
    }
    // As far in front of the header as in memory.
    let start = header_addr
        .checked_sub(load)
        .and_then(|before| header.at.checked_sub(before as usize))
        .ok_or(Problem::Field("load_addr", load))?;
    let end = match load_end {
        0 => file.len(),
        _ => {
            let len = load_end.checked_sub(load);
            start + len.ok_or(Problem::Field("load_end_addr", load_end))? as usize
        }
    };
    let bytes = file.get(start..end).ok_or_else(|| truncated(file, end))?;
    let behind = load + bytes.len() as u64;
    let zeros = match bss_end {
        0 => 0,
        _ => bss_end
            .checked_sub(behind)
            .ok_or(Problem::Field("bss_end_addr", bss_end))?,
    };
    if !(load..behind).contains(&entry) {
        return Err(Problem::Field("entry_addr", entry));
    }
    let segment = Segment {
        at: load,
        bytes,
        zeros,
    };
    Ok((segment, entry))
}

fn truncated(file: &[u8], need: usize) -> Problem {
    Problem::Truncated {
        have: file.len() as u64,
        need: need as u64,
    }
}

/// The information's size with all its fields, to the framebuffer's colours (3.3).
const INFORMATION: usize = 120;
/// A module's start, end, text and a zero.
const MODULE: usize = 16;
/// An entry of the memory map: its size without this field, base, length, kind.
const MAP_ENTRY: usize = 24;
const LOADER: &[u8] = b"xlaunch\0";

/// Offsets in the information.
mod at {
    pub(super) const FLAGS: usize = 0;
    pub(super) const MEM_LOWER: usize = 4;
    pub(super) const MEM_UPPER: usize = 8;
    pub(super) const CMDLINE: usize = 16;
    pub(super) const MODS_COUNT: usize = 20;
    pub(super) const MODS_ADDR: usize = 24;
    pub(super) const MMAP_LENGTH: usize = 44;
    pub(super) const MMAP_ADDR: usize = 48;
    pub(super) const BOOT_LOADER_NAME: usize = 64;
}

/// Which fields are there: memory, command line, modules, memory map, loader's name.
const PRESENT: u32 = 1 << 0 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9;

/// The information: its fields, then memory map, modules, and all texts.
pub(super) fn information(map: &[Range], modules: &[Placed<'_>]) -> Result<Piece, Problem> {
    let map_at = INFORMATION;
    let modules_at = map_at + map.len() * MAP_ENTRY;
    let texts_at = modules_at + modules.len() * MODULE;
    let mut texts = LOADER.to_vec();
    let mut bytes = vec![0; INFORMATION];
    let mut put = |at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    let address = |at: usize| (AT + at as u64) as u32;
    put(at::FLAGS, PRESENT);
    put(at::MEM_LOWER, kibibytes(map, 0));
    put(at::MEM_UPPER, kibibytes(map, layout::KERNEL_MIN));
    put(at::CMDLINE, layout::COMMAND_LINE.start as u32);
    put(at::MODS_COUNT, modules.len() as u32);
    put(at::MODS_ADDR, address(modules_at));
    put(at::MMAP_LENGTH, (modules_at - map_at) as u32);
    put(at::MMAP_ADDR, address(map_at));
    put(at::BOOT_LOADER_NAME, address(texts_at));
    for range in map {
        bytes.extend((MAP_ENTRY as u32 - 4).to_le_bytes());
        bytes.extend(range.span.start.to_le_bytes());
        bytes.extend(range.span.len().to_le_bytes());
        bytes.extend((range.kind as u32).to_le_bytes());
    }
    for placed in modules {
        let text = address(texts_at + texts.len());
        texts.extend(placed.module.cmdline.as_bytes());
        texts.push(0);
        for value in [placed.at as u32, placed.end() as u32, text, 0] {
            bytes.extend(value.to_le_bytes());
        }
    }
    bytes.extend(texts);
    let (len, limit) = (bytes.len() as u64, layout::MULTIBOOT_INFO.len());
    if len > limit {
        return Err(Problem::LongInformation { bytes: len, limit });
    }
    Ok(Piece { at: AT, bytes })
}

/// How much usable memory there is from `start` on without a hole.
fn kibibytes(map: &[Range], start: u64) -> u32 {
    let range = map
        .iter()
        .find(|range| range.span.start == start && range.kind == Kind::Usable);
    range.map_or(0, |range| (range.span.len() >> 10) as u32)
}

#[cfg(test)]
pub(super) mod tests;
