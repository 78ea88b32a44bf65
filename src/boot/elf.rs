//! Reading an ELF kernel: an uncompressed Linux (`vmlinux`), or any kernel with a PVH entry.
//!
//! Segments go to their physical addresses. Where a Xen note names a 32-bit entry (PVH, "x86/HVM direct boot ABI"),
//! the kernel is entered there; otherwise a 64-bit file is taken for a Linux and entered in 64-bit mode at the file's
//! entry, and a 32-bit file is not understood. Every number is checked before it is used.

use std::borrow::Cow;

use super::error::Problem;
use super::kernel::{Entry, Kernel, Segment, bytes_at};
use crate::layout::{self, Span};

/// What every ELF file begins with.
pub(super) const MAGIC: &[u8] = b"\x7fELF";

/// Where the files of a class keep what is read here.
struct Class {
    /// `EI_CLASS` and `EI_DATA`: the size of addresses, little-endian.
    ident: [u8; 2],
    /// `e_machine`.
    machine: u16,
    /// How many bytes an address or offset has.
    word: usize,
    /// `e_phoff`.
    table: usize,
    /// `e_phentsize`; `e_phnum` follows.
    entry_size: usize,
    /// The size of a program header.
    program: usize,
    /// In a program header: `p_offset`, `p_vaddr`, `p_paddr`, `p_filesz`, `p_memsz`.
    fields: [usize; 5],
}

const ELF32: Class = Class {
    ident: [1, 1],
    machine: 3,
    word: 4,
    table: 28,
    entry_size: 42,
    program: 32,
    fields: [4, 8, 12, 16, 20],
};
const ELF64: Class = Class {
    ident: [2, 1],
    machine: 62,
    word: 8,
    table: 32,
    entry_size: 54,
    program: 56,
    fields: [8, 16, 24, 32, 40],
};

/// `e_entry`, the same place in both classes.
const ENTRY: usize = 24;
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_NOTE: u32 = 4;
/// XEN_ELFNOTE_PHYS32_ENTRY.
const NOTE_PVH_ENTRY: u32 = 18;
/// More than any linker makes, and few enough to compare each with each.
const SEGMENTS_MAX: u16 = 128;

/// What Linux on x86-64 takes where no header says it (COMMAND_LINE_SIZE, and `initrd_addr_max` of every bzImage).
const CMDLINE_MAX: u64 = 2047;
const INITRD_END: u64 = 0x8000_0000;

/// A program header (`Elf32_Phdr`, `Elf64_Phdr`).
#[derive(Clone, Copy)]
struct Program {
    kind: u32,
    offset: u64,
    virtual_address: u64,
    physical_address: u64,
    file_size: u64,
    memory_size: u64,
}

/// What an ELF file says about loading it.
pub(super) struct Loadable<'a> {
    /// What goes to memory, in ascending order; none overlaps the next.
    pub(super) segments: Vec<Segment<'a>>,
    /// All of them.
    pub(super) span: Span,
    programs: Vec<Program>,
    entry: u64,
    is_64_bit: bool,
}

/// Checks an ELF kernel.
pub(super) fn parse(file: &[u8]) -> Result<Kernel<'_>, Problem> {
    let loadable = Loadable::parse(file, layout::KERNEL_MIN)?;
    let entry = match pvh_entry(file, &loadable)? {
        Some(address) => Entry::Pvh(address),
        None if loadable.is_64_bit => Entry::Long(loadable.entry()?),
        None => return Err(Problem::Foreign(ONLY_32_BIT)),
    };
    Ok(Kernel {
        header: Cow::Owned(linux_header()),
        entry,
        span: loadable.span,
        segments: loadable.segments,
        cmdline_max: CMDLINE_MAX,
        initrd_end: INITRD_END,
        initrd_high: false,
    })
}

const ONLY_32_BIT: &str = "a 32-bit ELF file without multiboot header or PVH entry";

impl<'a> Loadable<'a> {
    /// Checks the file, whose segments may not lie below `least`.
    pub(super) fn parse(file: &'a [u8], least: u64) -> Result<Self, Problem> {
        let class = class(file)?;
        let programs = programs(file, class)?;
        if programs.iter().any(|program| program.kind == PT_INTERP) {
            return Err(Problem::Foreign("a program"));
        }
        let loads = programs.iter().filter(|program| program.kind == PT_LOAD);
        let mut segments = loads
            .filter(|program| program.memory_size > 0)
            .map(|program| segment(file, program, least))
            .collect::<Result<Vec<_>, _>>()?;
        segments.sort_by_key(|segment| segment.at);
        let overlap = segments.windows(2).find(|two| two[0].end() > two[1].at);
        if let Some(two) = overlap {
            return Err(Problem::Field("p_paddr", two[1].at));
        }
        let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
            return Err(Problem::NotAKernel);
        };
        Ok(Self {
            span: Span {
                start: first.at,
                end: last.end(),
            },
            segments,
            programs,
            entry: word(file, ENTRY, class).ok_or(truncated(file, 64))?,
            is_64_bit: class.word == 8,
        })
    }

    /// The entry's physical address: Linux and multiboot have just that, other linkers write a virtual one.
    pub(super) fn entry(&self) -> Result<u64, Problem> {
        let entry = self.entry;
        if self.span.contains(entry) {
            return Ok(entry);
        }
        let mut loads = self.programs.iter().filter(|it| it.kind == PT_LOAD);
        let physical = loads.find_map(|program| {
            let offset = entry.checked_sub(program.virtual_address)?;
            (offset < program.memory_size)
                .then(|| program.physical_address.checked_add(offset))
                .flatten()
        });
        physical.ok_or(Problem::Field("e_entry", entry))
    }
}

/// The header of a bzImage that such a kernel would have had, as far as Linux looks at it: the magic numbers, from
/// `boot_flag` (0x1fe) to "HdrS" (0x202).
fn linux_header() -> Vec<u8> {
    let mut header = vec![0; 0x206 - super::bzimage::HEADER];
    header[0x1fe - 0x1f1..].copy_from_slice(&[0x55, 0xaa, 0, 0, b'H', b'd', b'r', b'S']);
    header
}

fn class(file: &[u8]) -> Result<&'static Class, Problem> {
    let ident = bytes_at(file, 4);
    let class = [&ELF32, &ELF64]
        .into_iter()
        .find(|class| ident == Some(class.ident))
        .ok_or(Problem::Foreign("an ELF file that is not for a PC"))?;
    let machine = bytes_at(file, 18).map(u16::from_le_bytes);
    if machine.is_some_and(|machine| machine != class.machine) {
        return Err(Problem::Foreign("an ELF file for another processor"));
    }
    Ok(class)
}

fn programs(file: &[u8], class: &Class) -> Result<Vec<Program>, Problem> {
    let half = |at: usize| bytes_at(file, at).map(u16::from_le_bytes);
    let start = word(file, class.table, class).ok_or(truncated(file, 64))?;
    let size = half(class.entry_size).ok_or(truncated(file, 64))?;
    let count = half(class.entry_size + 2).ok_or(truncated(file, 64))?;
    if usize::from(size) != class.program {
        return Err(Problem::Field("e_phentsize", size.into()));
    }
    if count > SEGMENTS_MAX {
        return Err(Problem::Field("e_phnum", count.into()));
    }
    let table = slice(file, start, u64::from(count) * class.program as u64)?;
    let headers = table.chunks_exact(class.program);
    Ok(headers
        .filter_map(|header| program(header, class))
        .collect())
}

/// A whole program header; the slice that it is read from has its length.
fn program(header: &[u8], class: &Class) -> Option<Program> {
    let [
        offset,
        virtual_address,
        physical_address,
        file_size,
        memory_size,
    ] = class.fields;
    let field = |at| word(header, at, class);
    Some(Program {
        kind: bytes_at(header, 0).map(u32::from_le_bytes)?,
        offset: field(offset)?,
        virtual_address: field(virtual_address)?,
        physical_address: field(physical_address)?,
        file_size: field(file_size)?,
        memory_size: field(memory_size)?,
    })
}

/// An address or offset of a file of `class`.
fn word(bytes: &[u8], at: usize, class: &Class) -> Option<u64> {
    match class.word {
        4 => Some(u32::from_le_bytes(bytes_at(bytes, at)?).into()),
        _ => Some(u64::from_le_bytes(bytes_at(bytes, at)?)),
    }
}

fn segment<'a>(file: &'a [u8], program: &Program, least: u64) -> Result<Segment<'a>, Problem> {
    let at = program.physical_address;
    if at < least {
        return Err(Problem::LoadsTooLow { at, least });
    }
    if at.checked_add(program.memory_size).is_none() {
        return Err(Problem::Field("p_paddr", at));
    }
    let zeros = program.memory_size.checked_sub(program.file_size);
    Ok(Segment {
        at,
        bytes: slice(file, program.offset, program.file_size)?,
        zeros: zeros.ok_or(Problem::Field("p_memsz", program.memory_size))?,
    })
}

/// The 32-bit entry that a note names.
fn pvh_entry(file: &[u8], loadable: &Loadable<'_>) -> Result<Option<u64>, Problem> {
    let notes = loadable.programs.iter().filter(|it| it.kind == PT_NOTE);
    for program in notes {
        let notes = slice(file, program.offset, program.file_size)?;
        match find_entry(notes) {
            Some(address) if loadable.span.contains(address) => return Ok(Some(address)),
            Some(address) => return Err(Problem::Field("PVH entry", address)),
            None => {}
        }
    }
    Ok(None)
}

/// Looks for the Xen note with the 32-bit entry. A note is its name's and its description's length, its type, and
/// both texts, each filled up to four bytes.
fn find_entry(mut notes: &[u8]) -> Option<u64> {
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
