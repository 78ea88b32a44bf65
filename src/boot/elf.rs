//! Reading an ELF kernel: an uncompressed Linux (`vmlinux`), or any kernel with a PVH entry.
//!
//! Segments go to their physical addresses. Where a Xen note names a 32-bit entry (PVH, "x86/HVM direct boot ABI"),
//! the kernel is entered there; otherwise it is taken for a Linux and entered in 64-bit mode at the file's entry.
//! 32-bit files without that note are not understood. Every number is checked before it is used.

use std::borrow::Cow;

use super::error::Problem;
use super::kernel::{Entry, Kernel, Segment, bytes_at};
use crate::layout::{self, Span};

/// What every ELF file begins with.
pub(super) const MAGIC: &[u8] = b"\x7fELF";

/// `EI_CLASS` and `EI_DATA`: 64 bits, little-endian.
const CLASS_64_LITTLE: [u8; 2] = [2, 1];
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_NOTE: u32 = 4;
/// XEN_ELFNOTE_PHYS32_ENTRY.
const NOTE_PVH_ENTRY: u32 = 18;
const PROGRAM_HEADER: usize = 56;
/// More than any linker makes, and few enough to compare each with each.
const SEGMENTS_MAX: u16 = 128;

/// What Linux on x86-64 takes where no header says it (COMMAND_LINE_SIZE, and `initrd_addr_max` of every bzImage).
const CMDLINE_MAX: u64 = 2047;
const INITRD_END: u64 = 0x8000_0000;

/// A program header (`Elf64_Phdr`).
#[derive(Clone, Copy)]
struct Program {
    kind: u32,
    offset: u64,
    virtual_address: u64,
    physical_address: u64,
    file_size: u64,
    memory_size: u64,
}

/// Checks an ELF kernel.
pub(super) fn parse(file: &[u8]) -> Result<Kernel<'_>, Problem> {
    let programs = programs(file)?;
    if programs.iter().any(|program| program.kind == PT_INTERP) {
        return Err(Problem::Foreign("a program"));
    }
    let mut segments = Vec::new();
    for program in programs.iter().filter(|program| program.kind == PT_LOAD) {
        if program.memory_size > 0 {
            segments.push(segment(file, program)?);
        }
    }
    segments.sort_by_key(|segment| segment.at);
    let overlap = segments.windows(2).find(|two| end(&two[0]) > two[1].at);
    if let Some(two) = overlap {
        return Err(Problem::Field("p_paddr", two[1].at));
    }
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
        return Err(Problem::NotAKernel);
    };
    let span = Span {
        start: first.at,
        end: end(last),
    };
    Ok(Kernel {
        header: Cow::Owned(linux_header()),
        entry: entry(file, &programs, span)?,
        span,
        segments,
        cmdline_max: CMDLINE_MAX,
        initrd_end: INITRD_END,
        initrd_high: false,
    })
}

/// The header of a bzImage that such a kernel would have had, as far as Linux looks at it: the magic numbers, from
/// `boot_flag` (0x1fe) to "HdrS" (0x202).
fn linux_header() -> Vec<u8> {
    let mut header = vec![0; 0x206 - super::bzimage::HEADER];
    header[0x1fe - 0x1f1..].copy_from_slice(&[0x55, 0xaa, 0, 0, b'H', b'd', b'r', b'S']);
    header
}

fn programs(file: &[u8]) -> Result<Vec<Program>, Problem> {
    if file.get(4..6) != Some(&CLASS_64_LITTLE) {
        return Err(Problem::Foreign("an ELF file that is not 64-bit"));
    }
    let machine = bytes_at(file, 18).map(u16::from_le_bytes);
    if machine.is_some_and(|machine| machine != EM_X86_64) {
        return Err(Problem::Foreign("an ELF file for another processor"));
    }
    let start = u64::from_le_bytes(bytes_at(file, 32).ok_or(truncated(file, 64))?);
    let size = u16::from_le_bytes(bytes_at(file, 54).ok_or(truncated(file, 64))?);
    let count = u16::from_le_bytes(bytes_at(file, 56).ok_or(truncated(file, 64))?);
    if usize::from(size) != PROGRAM_HEADER {
        return Err(Problem::Field("e_phentsize", size.into()));
    }
    if count > SEGMENTS_MAX {
        return Err(Problem::Field("e_phnum", count.into()));
    }
    let len = u64::from(count) * PROGRAM_HEADER as u64;
    let table = slice(file, start, len)?;
    Ok(table
        .as_chunks::<PROGRAM_HEADER>()
        .0
        .iter()
        .map(program)
        .collect())
}

fn program(header: &[u8; PROGRAM_HEADER]) -> Program {
    let qword = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| header[at + i]));
    Program {
        kind: qword(0) as u32,
        offset: qword(8),
        virtual_address: qword(16),
        physical_address: qword(24),
        file_size: qword(32),
        memory_size: qword(40),
    }
}

fn segment<'a>(file: &'a [u8], program: &Program) -> Result<Segment<'a>, Problem> {
    let at = program.physical_address;
    if at < layout::KERNEL_MIN || at.checked_add(program.memory_size).is_none() {
        return Err(Problem::Field("p_paddr", at));
    }
    let zeros = program.memory_size.checked_sub(program.file_size);
    Ok(Segment {
        at,
        bytes: slice(file, program.offset, program.file_size)?,
        zeros: zeros.ok_or(Problem::Field("p_memsz", program.memory_size))?,
    })
}

/// The first address behind a segment; that there is one has been checked.
fn end(segment: &Segment<'_>) -> u64 {
    segment
        .at
        .saturating_add(segment.bytes.len() as u64)
        .saturating_add(segment.zeros)
}

fn entry(file: &[u8], programs: &[Program], span: Span) -> Result<Entry, Problem> {
    for program in programs.iter().filter(|program| program.kind == PT_NOTE) {
        let notes = slice(file, program.offset, program.file_size)?;
        if let Some(address) = pvh_entry(notes) {
            return if span.contains(address) {
                Ok(Entry::Pvh(address))
            } else {
                Err(Problem::Field("PVH entry", address))
            };
        }
    }
    let address = u64::from_le_bytes(bytes_at(file, 24).ok_or(truncated(file, 64))?);
    match physical(programs, span, address) {
        Some(physical) => Ok(Entry::Long(physical)),
        None => Err(Problem::Field("e_entry", address)),
    }
}

/// Linux's entry is a physical address; other linkers write a virtual one.
fn physical(programs: &[Program], span: Span, entry: u64) -> Option<u64> {
    if span.contains(entry) {
        return Some(entry);
    }
    let loads = programs.iter().filter(|program| program.kind == PT_LOAD);
    let mut offsets = loads.filter_map(|program| {
        let offset = entry.checked_sub(program.virtual_address)?;
        (offset < program.memory_size).then(|| program.physical_address.checked_add(offset))?
    });
    offsets.next()
}

/// Looks for the Xen note with the 32-bit entry. A note is its name's and its description's length, its type, and
/// both texts, each filled up to four bytes.
fn pvh_entry(mut notes: &[u8]) -> Option<u64> {
    loop {
        let dword = |at: usize| bytes_at(notes, at).map(u32::from_le_bytes);
        let (name_len, len, kind) = (dword(0)? as usize, dword(4)? as usize, dword(8)?);
        let name = notes.get(12..)?.get(..name_len)?;
        let description = 12 + name_len.next_multiple_of(4);
        let value = notes.get(description..)?.get(..len)?;
        if kind == NOTE_PVH_ENTRY && name == b"Xen\0" {
            // Four bytes, or eight in files that say all addresses in that size.
            return Some(u32::from_le_bytes(bytes_at(value, 0)?).into());
        }
        notes = notes.get(description + len.next_multiple_of(4)..)?;
    }
}

fn slice(file: &[u8], start: u64, len: u64) -> Result<&[u8], Problem> {
    let end = start
        .checked_add(len)
        .ok_or(Problem::Field("offset", start))?;
    let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
    range
        .and_then(|(start, end)| file.get(start..end))
        .ok_or(truncated(file, end))
}

fn truncated(file: &[u8], need: u64) -> Problem {
    Problem::Truncated {
        have: file.len() as u64,
        need,
    }
}

#[cfg(test)]
pub(super) mod tests;
