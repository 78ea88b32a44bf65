//! From a kernel, an initrd and a command line to bytes in guest memory and the first registers.
//!
//! Linux's boot protocol (boot.rst), by the 64-bit entry where the kernel has one, otherwise by the 32-bit one; and
//! ELF files, by their PVH entry or as a Linux.
//! What the machine is (memory map, ACPI tables) comes from the caller. Nothing is written before everything was
//! checked, and guest memory outside the pieces written is left as it is.

mod bzimage;
mod elf;
mod entry;
pub mod error;
pub mod image;
pub mod kernel;
mod place;
mod pvh;
mod zero_page;

use hvf_sys::ram::{OutsideRam, Ram};

use crate::layout;
use crate::memory::{Piece, Range};
use crate::x86::regs::Regs;
use error::{Error, Problem};
use image::Image;
use kernel::{Entry, Kernel};
use zero_page::Contents;

/// What to boot.
#[derive(Clone, Copy, Debug)]
pub struct Boot<'a> {
    /// A bzImage, or an ELF kernel.
    pub kernel: &'a Image,
    /// The initial RAM disk.
    pub initrd: Option<&'a Image>,
    /// The whole command line.
    pub cmdline: &'a str,
    /// The machine's memory map.
    pub map: &'a [Range],
    /// Where the ACPI root pointer lies.
    pub rsdp: u64,
    /// Seed of the kernel's random numbers: it then has good ones from the start. May be empty.
    pub seed: &'a [u8],
}

/// `struct setup_data`: the next one's address, type, length.
const SETUP_DATA_HEADER: usize = 16;
/// SETUP_RNG_SEED (Linux's uapi/asm/bootparam.h).
const SETUP_RNG_SEED: u32 = 9;

/// Writes everything into `ram` and gives the first CPU's registers.
pub fn load(ram: &Ram, boot: &Boot<'_>) -> Result<Regs, Error> {
    let name = boot.kernel.name();
    let kernel = Kernel::parse(boot.kernel.bytes()).map_err(|problem| problem.of(name))?;
    place::kernel(&kernel, boot.map).map_err(|problem| problem.of(name))?;
    let cmdline = cmdline(boot.cmdline, &kernel)?;
    let initrd = match boot.initrd {
        Some(image) if !image.bytes().is_empty() => place_initrd(image, &kernel, boot.map)?,
        _ => (0, &[][..]),
    };
    let write = |at, bytes: &[u8]| ram.write(at, bytes).map_err(|range| outside(name, range));
    for segment in &kernel.segments {
        write(segment.at, segment.bytes)?;
        let end = segment.at + segment.bytes.len() as u64;
        let cleared = ram.fill(end, segment.zeros, 0);
        cleared.map_err(|range| outside(name, range))?;
    }
    write(initrd.0, initrd.1)?;
    write(layout::COMMAND_LINE.start, &cmdline)?;
    let place = (initrd.0, initrd.1.len() as u64);
    for piece in information(&kernel, boot, place)
        .iter()
        .chain(&entry::tables(kernel.entry))
    {
        write(piece.at, &piece.bytes)?;
    }
    Ok(entry::registers(kernel.entry))
}

/// What the kernel is told, in the form of its boot protocol.
fn information(kernel: &Kernel<'_>, boot: &Boot<'_>, initrd: (u64, u64)) -> Vec<Piece> {
    if let Entry::Pvh(_) = kernel.entry {
        return vec![pvh::start_info(boot.map, initrd, boot.rsdp)];
    }
    let seed = setup_data(boot.seed);
    let page = zero_page::zero_page(&Contents {
        header: &kernel.header,
        map: boot.map,
        initrd,
        rsdp: boot.rsdp,
        setup_data: seed.as_ref().map_or(0, |piece| piece.at),
    });
    let page = Piece {
        at: layout::ZERO_PAGE.start,
        bytes: page,
    };
    seed.into_iter().chain([page]).collect()
}

/// The command line with its final zero byte.
fn cmdline(text: &str, kernel: &Kernel<'_>) -> Result<Vec<u8>, Error> {
    const OBJECT: &str = "the kernel command line";
    let limit = kernel.cmdline_max.min(layout::COMMAND_LINE.len() - 1);
    let bytes = text.len() as u64;
    if bytes > limit {
        return Err(Problem::LongCommandLine { bytes, limit }.of(OBJECT));
    }
    if text.contains('\0') {
        return Err(Problem::ZeroByte.of(OBJECT));
    }
    Ok([text.as_bytes(), &[0]].concat())
}

fn place_initrd<'a>(
    image: &'a Image,
    kernel: &Kernel<'_>,
    map: &[Range],
) -> Result<(u64, &'a [u8]), Error> {
    let bytes = image.bytes();
    match place::initrd(bytes.len() as u64, kernel, map) {
        Ok(start) => Ok((start, bytes)),
        Err(problem) => Err(problem.of(image.name())),
    }
}

/// The seed as the only element of the chain of setup data; as much of it as its page holds.
fn setup_data(seed: &[u8]) -> Option<Piece> {
    if seed.is_empty() {
        return None;
    }
    let room = layout::SETUP_DATA.len() as usize - SETUP_DATA_HEADER;
    let seed = &seed[..seed.len().min(room)];
    let mut bytes = vec![0; 8];
    bytes.extend(SETUP_RNG_SEED.to_le_bytes());
    bytes.extend((seed.len() as u32).to_le_bytes());
    bytes.extend(seed);
    Some(Piece {
        at: layout::SETUP_DATA.start,
        bytes,
    })
}

/// The map names memory that the machine lacks: it has less than the pieces of the first mebibyte need.
fn outside(name: &str, range: OutsideRam) -> Error {
    let end = range.gpa.saturating_add(range.len);
    Problem::NeedsMemory {
        end,
        memory: range.gpa,
    }
    .of(name)
}

#[cfg(test)]
mod tests;
